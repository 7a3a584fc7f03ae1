//! Amounts with their unit in the type. Arithmetic on money and allotments is checked, never wrapping.
//!
//! Where the unit never changes, the type says it: [`Sats`], [`Msats`]. What may be paid in several units is an
//! [`Amount`], which has no arithmetic: a caller that reckons with one first turns it into one of the others.

use std::fmt;
use std::time::Duration;

/// More satoshis there will never be.
pub const ALL_SATS: u64 = 2_100_000_000_000_000;
pub const ALL_MSATS: u64 = ALL_SATS * 1000;

/// Satoshis (bitcoin / 10^8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sats(pub u64);

/// Millisatoshis: what Lightning reckons in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Msats(pub u64);

/// Kenyan shillings, whole ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kes(pub u64);

/// What money is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    Sat,
    Msat,
    Kes,
}

/// Money in the unit that it was paid in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Amount {
    pub number: u64,
    pub unit: Unit,
}

/// Milliseconds: a duration, or a reading of the monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

/// What was sold or is left, in the unit of its metric: milliseconds or bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Allotment(pub u64);

/// Whole seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(pub u64);

impl Sats {
    pub fn checked_add(self, other: Sats) -> Option<Sats> {
        self.0.checked_add(other.0).map(Sats)
    }

    pub fn checked_mul(self, factor: u64) -> Option<Sats> {
        self.0.checked_mul(factor).map(Sats)
    }

    pub fn to_msats(self) -> Option<Msats> {
        self.0.checked_mul(1000).map(Msats)
    }
}

impl Unit {
    pub const ALL: [Unit; 3] = [Unit::Sat, Unit::Msat, Unit::Kes];

    /// The name that mints and the store have for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Unit::Sat => "sat",
            Unit::Msat => "msat",
            Unit::Kes => "kes",
        }
    }

    pub fn parse(text: &str) -> Option<Unit> {
        Unit::ALL.into_iter().find(|unit| unit.as_str() == text)
    }
}

impl Amount {
    /// `None` where it is too much, or no bitcoin.
    pub fn to_msats(self) -> Option<Msats> {
        match self.unit {
            Unit::Sat => Sats(self.number).to_msats(),
            Unit::Msat => Some(Msats(self.number)),
            Unit::Kes => None,
        }
    }
}

impl From<Sats> for Amount {
    fn from(amount: Sats) -> Amount {
        Amount { number: amount.0, unit: Unit::Sat }
    }
}

impl From<Msats> for Amount {
    fn from(amount: Msats) -> Amount {
        Amount { number: amount.0, unit: Unit::Msat }
    }
}

impl From<Kes> for Amount {
    fn from(amount: Kes) -> Amount {
        Amount { number: amount.0, unit: Unit::Kes }
    }
}

/// Fails where it is in another unit, and says in which.
impl TryFrom<Amount> for Sats {
    type Error = Unit;

    fn try_from(amount: Amount) -> Result<Sats, Unit> {
        match amount.unit {
            Unit::Sat => Ok(Sats(amount.number)),
            other => Err(other),
        }
    }
}

/// Fails where it is in another unit, and says in which.
impl TryFrom<Amount> for Msats {
    type Error = Unit;

    fn try_from(amount: Amount) -> Result<Msats, Unit> {
        match amount.unit {
            Unit::Msat => Ok(Msats(amount.number)),
            other => Err(other),
        }
    }
}

impl Allotment {
    pub const ZERO: Allotment = Allotment(0);

    pub fn checked_mul(self, factor: u64) -> Option<Allotment> {
        self.0.checked_mul(factor).map(Allotment)
    }

    pub fn saturating_add(self, other: Allotment) -> Allotment {
        Allotment(self.0.saturating_add(other.0))
    }

    pub fn saturating_sub(self, other: Allotment) -> Allotment {
        Allotment(self.0.saturating_sub(other.0))
    }
}

impl From<Millis> for Allotment {
    fn from(time: Millis) -> Allotment {
        Allotment(time.0)
    }
}

impl Millis {
    pub const ZERO: Millis = Millis(0);

    pub const fn from_secs(secs: u64) -> Millis {
        Millis(secs.saturating_mul(1000))
    }

    pub fn checked_add(self, other: Millis) -> Option<Millis> {
        self.0.checked_add(other.0).map(Millis)
    }

    pub fn checked_mul(self, factor: u64) -> Option<Millis> {
        self.0.checked_mul(factor).map(Millis)
    }

    pub fn saturating_add(self, other: Millis) -> Millis {
        Millis(self.0.saturating_add(other.0))
    }

    pub fn saturating_sub(self, other: Millis) -> Millis {
        Millis(self.0.saturating_sub(other.0))
    }

    /// Whole seconds, rounded up: what is shown as "left" is never shorter than what is left.
    pub fn as_secs_ceil(self) -> u64 {
        self.0.div_ceil(1000)
    }

    pub fn as_duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// A duration for people: `2d 4h`, `3h 5m`, `12m 30s`, `45s`.
pub fn time_text(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// An amount of data for people: `999 B`, `1.2 kB`, `34.5 MB`, of 10^3 and 10^6 bytes.
pub fn data_text(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")];
    match units.iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{}.{} {unit}", bytes / size, bytes % size * 10 / size),
        None => format!("{bytes} B"),
    }
}

impl fmt::Display for Sats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Kes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Msats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

const TIMES: [(&str, u64); 5] = [("w", 7 * 86_400), ("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
const SIZES: [(&str, u64); 3] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];

/// Time as people write it: `90m`, `1h30m`, `30d`.
pub fn parse_time(text: &str) -> Option<Millis> {
    parts(text, &TIMES).and_then(|seconds| seconds.checked_mul(1000)).map(Millis)
}

/// Data as people write it: `500MB`.
pub fn parse_size(text: &str) -> Option<Allotment> {
    parts(text, &SIZES).map(Allotment)
}

/// The sum of numbers with units, the larger unit first and each once: `1h30m`. `None` where it is nothing else, and
/// where the sum is 0 or too large.
fn parts(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (mut rest, mut units, mut sum) = (text, units.iter(), 0u64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = rest.split_at_checked(digits)?;
        let (left, size) = units.find_map(|(unit, size)| Some((behind.strip_prefix(unit)?, *size)))?;
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(size)?)?;
        rest = left;
    }
    (sum > 0).then_some(sum)
}
