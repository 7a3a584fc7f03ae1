//! Amounts with their unit in the type. Arithmetic on money and allotments is checked, never wrapping.

use std::fmt;
use std::time::Duration;

/// Satoshis (bitcoin / 10^8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sats(pub u64);

/// Millisatoshis: what Lightning reckons in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Msats(pub u64);

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

impl fmt::Display for Sats {
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
