//! From the text of one option to a type that cannot be wrong. Each error says what would be right.

use super::problem::shown;
use super::MintUrl;
use crate::mac::MacAddr;
use crate::units::{parse_size, parse_time, Allotment, Millis, Sats, Unit, ALL_SATS};
use crate::url::Url;
use crate::uuid::Uuid;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};

/// The kernel's limit for an interface name is 16 bytes with the closing zero.
const MAX_DEVICE: usize = 15;
const MAX_NAME: usize = 64;
/// `control.sock` in it must fit the 108 bytes of a Unix socket's address.
const MAX_RUN_DIR: usize = 90;
const MAX_PATH: usize = 512;
/// Bytes of a host name and of each of its labels (RFC 1123).
const MAX_HOST: usize = 253;
const MAX_LABEL: usize = 63;
/// Beyond any invoice's own life; half a year.
const MAX_GRACE_SECS: u64 = 15_552_000;
/// Enough to pay with; what is longer is access for nothing.
const MAX_PAY_GRACE_SECS: u64 = 900;

/// Ten years (milliseconds), and a petabyte.
const MAX_LIFE: u64 = 3_650 * 86_400_000;
const MAX_DATA: u64 = 1_000_000_000_000_000;

const MAX_STEPS: u64 = 1_000_000_000;

pub(super) type Parsed<T> = Result<T, String>;

/// OpenWrt's `get_bool`, but a word it does not know is an error instead of the default.
pub fn boolean(text: &str) -> Parsed<bool> {
    match text {
        "1" | "on" | "true" | "yes" | "enabled" => Ok(true),
        "0" | "off" | "false" | "no" | "disabled" => Ok(false),
        _ => Err(format!("{} is neither yes nor no: write '1' or '0'", shown(text))),
    }
}

/// Decimal digits only.
pub fn number(text: &str, range: RangeInclusive<u64>) -> Parsed<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let value = text.parse().ok().filter(|value| digits && range.contains(value));
    value.ok_or_else(|| {
        format!("{} is not a whole number from {} to {}: write one", shown(text), range.start(), range.end())
    })
}

pub fn port(text: &str) -> Parsed<u16> {
    number(text, 1..=u64::from(u16::MAX))
        .and_then(|port| u16::try_from(port).map_err(|error| error.to_string()))
}

pub fn count(text: &str, most: u64) -> Parsed<usize> {
    number(text, 1..=most).and_then(|count| usize::try_from(count).map_err(|error| error.to_string()))
}

pub fn sats(text: &str) -> Parsed<Sats> {
    number(text, 1..=ALL_SATS).map(Sats)
}

/// The least number of steps of one purchase, at least 1.
pub fn min_steps(text: &str) -> Parsed<u64> {
    number(text, 0..=MAX_STEPS).map(|steps| steps.max(1))
}

pub fn max_steps(text: &str) -> Parsed<u64> {
    number(text, 1..=MAX_STEPS)
}

pub fn seconds(text: &str) -> Parsed<Millis> {
    number(text, 0..=MAX_GRACE_SECS).map(Millis::from_secs)
}

pub fn pay_grace(text: &str) -> Parsed<Millis> {
    number(text, 0..=MAX_PAY_GRACE_SECS).map(Millis::from_secs)
}

pub fn uuid(text: &str) -> Parsed<Uuid> {
    text.parse().map_err(|()| {
        let such = "write one like 5b1c0f0e-1111-4aaa-8bbb-000000000001";
        format!("{} is no UUID: {such}", shown(text))
    })
}

/// A length of time of at most ten years: `365d`, `1h30m`.
pub fn life(text: &str) -> Parsed<Millis> {
    let life = parse_time(text).filter(|life| life.0 <= MAX_LIFE);
    life.ok_or_else(|| {
        format!("{} is no length of time up to ten years: write one like '365d' or '1h30m'", shown(text))
    })
}

/// An amount of data: `500MB`.
pub fn data(text: &str) -> Parsed<Allotment> {
    let data = parse_size(text).filter(|data| data.0 <= MAX_DATA);
    data.ok_or_else(|| format!("{} is no amount of data: write one like '500MB' or '2GB'", shown(text)))
}

/// Satoshis, or none.
pub fn sats_or_none(text: &str) -> Parsed<Sats> {
    number(text, 0..=ALL_SATS).map(Sats)
}

pub fn run_dir(text: &str) -> Parsed<PathBuf> {
    path(text, MAX_RUN_DIR)
}

/// A file, or a directory that holds no socket.
pub fn plain_path(text: &str) -> Parsed<PathBuf> {
    path(text, MAX_PATH)
}

fn path(text: &str, most: usize) -> Parsed<PathBuf> {
    let path = Path::new(text);
    if text.len() > most {
        return Err(format!("the path is longer than {most} bytes: choose a shorter one"));
    }
    let plain = path.is_absolute()
        && !text.chars().any(char::is_control)
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        && path.components().count() > 1;
    match plain {
        true => Ok(path.to_owned()),
        false => Err(format!("{} is not a usable path: write a full one, beginning with '/'", shown(text))),
    }
}

/// The address of a listener that is not for guests: never one that a stranger could reach.
pub fn local_address(text: &str) -> Parsed<SocketAddr> {
    let address: SocketAddr = text.parse().map_err(|_| {
        format!("{} is not an address and port: write it like '127.0.0.1:2120' or '[::1]:2120'", shown(text))
    })?;
    if address.port() == 0 {
        return Err("port 0 is none: write a number from 1 to 65535 behind the ':'".to_owned());
    }
    match is_local(address.ip().to_canonical()) {
        true => Ok(address),
        false => Err(format!(
            "{} can be reached from outside: use a loopback or private address, like '127.0.0.1:2120'",
            shown(text)
        )),
    }
}

pub fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

pub fn log_level(text: &str) -> Parsed<log::LevelFilter> {
    match text {
        "error" => Ok(log::LevelFilter::Error),
        "warn" => Ok(log::LevelFilter::Warn),
        "info" => Ok(log::LevelFilter::Info),
        "debug" => Ok(log::LevelFilter::Debug),
        "trace" => Ok(log::LevelFilter::Trace),
        _ => Err(format!("{} is no log level: use error, warn, info, debug or trace", shown(text))),
    }
}

/// A name for people.
pub fn venue_name(text: &str) -> Parsed<String> {
    let name = text.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(format!("{} is no name: write 1 to {MAX_NAME} characters in one line", shown(text)));
    }
    Ok(name.to_owned())
}

/// A host name of at least two labels, for name service and browsers; lower case.
pub fn host_name(text: &str) -> Parsed<String> {
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = text.to_ascii_lowercase();
    let last = name.rsplit('.').next().unwrap_or_default();
    // Browsers search the web for a single word, and read a number at the end as an address.
    let good = name.len() <= MAX_HOST
        && name.contains('.')
        && name.split('.').all(is_label)
        && !last.starts_with(|c: char| c.is_ascii_digit());
    match (good, last) {
        (true, "local") => {
            Err("phones do not ask the router for names in .local: use another ending, like 'wifi.home'"
                .to_owned())
        }
        (true, _) => Ok(name),
        (false, _) => {
            Err(format!("{} is no host name: write one of two words or more, like 'wifi.home'", shown(text)))
        }
    }
}

/// A Linux interface name that every tool on the router takes as it is.
pub fn device(text: &str) -> Parsed<String> {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"_.:@-".contains(&b);
    if text.is_empty() || text.len() > MAX_DEVICE || matches!(text, "." | "..") || !text.bytes().all(safe) {
        return Err(format!(
            "{} is no interface name: write one like 'br-guest' (1 to {MAX_DEVICE} of A-Z a-z 0-9 _ . : @ -), each in a line of its own",
            shown(text)
        ));
    }
    if text == "lo" {
        return Err("'lo' is the router itself: name the interface that the guests are on".to_owned());
    }
    Ok(text.to_owned())
}

/// The name of a section `config interface` in `/etc/config/network`.
pub fn network(text: &str) -> Parsed<String> {
    let good =
        (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match good {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "{} is no network: write the name of an interface section in /etc/config/network",
            shown(text)
        )),
    }
}

/// A firewall zone or a network that leads to the internet.
pub fn uplink(text: &str) -> Parsed<String> {
    let good = (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    match good {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "{} is neither a firewall zone nor a network: write a name of /etc/config/firewall or /etc/config/network, like 'wan'",
            shown(text)
        )),
    }
}

pub fn mac(text: &str) -> Parsed<MacAddr> {
    text.parse().map_err(|error| format!("{} is {error}: write the address of one device", shown(text)))
}

/// The text is not repeated in the error: it may hold a password.
pub fn mint_url(text: &str) -> Parsed<MintUrl> {
    MintUrl::parse(text).map_err(|error| error.to_string())
}

/// Where wallets call back: they refuse plain http, but to an onion service (LUD-01).
pub fn wallet_url(text: &str) -> Parsed<Url> {
    let url = Url::parse(text).map_err(|_| {
        "is no address: write it like 'https://wifi.example.net:2125', without user, query or fragment"
    })?;
    match url.is_https() || url.host().ends_with(".onion") {
        true => Ok(url),
        false => Err("is plain http://, which wallets refuse: use https://".to_owned()),
    }
}

/// Where a page comes from, letter by letter as browsers send it (RFC 6454, 6.2).
pub fn origin(text: &str) -> Parsed<String> {
    let origin = Url::parse(text).ok().filter(|url| url.path().is_empty() && url.as_str() == text);
    origin.map(|url| url.to_string()).ok_or_else(|| {
        format!(
            "{} is no origin: write it as browsers send it, like 'https://app.example.com' or 'http://localhost:5173', in \
             lower case, without a path and without the port that goes without saying",
            shown(text)
        )
    })
}

pub fn unit(text: &str) -> Parsed<Unit> {
    match text {
        "sat" => Ok(Unit::Sat),
        _ => Err(format!("{} is no unit that is sold for: use 'sat'", shown(text))),
    }
}
