//! What is to change among the elements and quotas of our tables, in order. Said to the kernel as one batch, or to
//! nft as part of the script that loads the table, so that no paid guest is without an element in between.

use super::count::{Count, Name};
use super::plan::GatePlace;
use crate::network::netlink;
use crate::network::nftables::batch::Batch;
use crate::network::nftables::{Home, TABLE};
use crate::units::Millis;
use std::fmt::{self, Write};
use std::net::IpAddr;

/// No element is given more; sessions that are longer are given the rest later.
const LONGEST: Millis = Millis::from_secs(365 * 24 * 3600);

/// An element: its set, and its key there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Paid(GatePlace),
    Upload(GatePlace, IpAddr),
    Download(IpAddr),
    Counted(GatePlace),
    LetInByUs(GatePlace),
    Slow(GatePlace),
    CountedDownload(IpAddr),
    /// At the device, where bytes are counted there.
    Metered(GatePlace),
    Received(GatePlace),
    /// Copies of `Paid` and `Slow` where bytes are counted at the devices.
    LetIn(GatePlace),
    Paced(GatePlace),
}

impl Key {
    fn home(&self) -> Home {
        match self {
            Key::Metered(_) | Key::Received(_) | Key::LetIn(_) | Key::Paced(_) => Home::Netdev,
            _ => Home::Inet,
        }
    }

    fn set(&self) -> &'static str {
        match self {
            Key::Paid(_) => "paid_at",
            Key::Upload(_, IpAddr::V4(_)) => "ul4_at",
            Key::Upload(_, IpAddr::V6(_)) => "ul6_at",
            Key::Download(IpAddr::V4(_)) => "dl4",
            Key::Download(IpAddr::V6(_)) => "dl6",
            Key::Counted(_) => "qm_at",
            Key::LetInByUs(_) => "counted_at",
            Key::Slow(_) => "slow_at",
            Key::CountedDownload(IpAddr::V4(_)) => "qm4",
            Key::CountedDownload(IpAddr::V6(_)) => "qm6",
            Key::Metered(_) => "metered",
            Key::Received(_) => "received",
            Key::LetIn(_) => "let_in",
            Key::Paced(_) => "slow",
        }
    }

    /// What it is made of: a place, an address, or both.
    fn parts(&self) -> (Option<&GatePlace>, Option<IpAddr>) {
        match self {
            Key::Paid(place)
            | Key::Counted(place)
            | Key::LetInByUs(place)
            | Key::Slow(place)
            | Key::Metered(place)
            | Key::Received(place)
            | Key::LetIn(place)
            | Key::Paced(place) => (Some(place), None),
            Key::Upload(place, address) => (Some(place), Some(*address)),
            Key::Download(address) | Key::CountedDownload(address) => (None, Some(*address)),
        }
    }

    /// As the kernel keeps it: names and addresses as they stand in packets, each part padded to four bytes.
    fn octets(&self) -> Vec<u8> {
        let (place, address) = self.parts();
        [place.map(GatePlace::octets), address.map(netlink::octets)].into_iter().flatten().flatten().collect()
    }
}

/// As nft reads it.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (Some(place), Some(address)) => write!(f, "{place} . {address}"),
            (Some(place), None) => place.fmt(f),
            (None, address) => address.iter().try_for_each(|address| address.fmt(f)),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// Fails with `is_new` where the element is there, and otherwise leaves that one as it is.
    Add {
        key: Key,
        timeout: Option<Millis>,
        object: Option<Name>,
        is_new: bool,
    },
    /// Fails where it is not there.
    Delete(Key),
    PutQuota(Home, Name, Count),
    DeleteQuota(Home, Name),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Changes(Vec<Change>);

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Change> {
        self.0.iter()
    }

    /// Makes the element end `remaining` from now, whether it was there or not. Zero removes it.
    pub fn put(&mut self, key: Key, remaining: Millis) {
        self.remove(key.clone());
        if remaining != Millis::ZERO {
            self.add(key, Some(remaining), None, false);
        }
    }

    /// The same for one that is not there: where it is, nothing is changed at all.
    pub fn put_new(&mut self, key: Key, remaining: Millis) {
        if remaining != Millis::ZERO {
            self.add(key, Some(remaining), None, true);
        }
    }

    /// Makes the element stay without end.
    pub fn put_for_good(&mut self, key: Key) {
        self.remove(key.clone());
        self.put_new_for_good(key);
    }

    /// The same for one that is not there or has no end.
    pub fn put_new_for_good(&mut self, key: Key) {
        self.add(key, None, None, false);
    }

    /// Makes a map give this quota for the key, where it gives none.
    pub fn put_object(&mut self, key: Key, object: Name) {
        self.add(key, None, Some(object), false);
    }

    /// Removes an element that may be there. To delete one that is not there would fail everything, so it is
    /// added first.
    pub fn remove(&mut self, key: Key) {
        self.add(key.clone(), Some(Millis::from_secs(3600)), None, false);
        self.delete(key);
    }

    /// Removes an element that is there and has no end of its own.
    pub fn delete(&mut self, key: Key) {
        self.0.push(Change::Delete(key));
    }

    /// Makes a quota, or changes the limit of the one that is there.
    pub fn put_quota(&mut self, home: Home, name: Name, count: Count) {
        self.0.push(Change::PutQuota(home, name, count));
    }

    /// Deletes a quota that no map gives any more.
    pub fn delete_quota(&mut self, home: Home, name: Name) {
        self.0.push(Change::DeleteQuota(home, name));
    }

    /// The same changes, and with them those of the copies at the devices.
    pub fn with_copies(mut self) -> Changes {
        let copy = |key: &Key| match key {
            Key::Paid(place) => Some(Key::LetIn(place.clone())),
            Key::Slow(place) => Some(Key::Paced(place.clone())),
            _ => None,
        };
        let mut copies = Changes::default();
        for change in &self.0 {
            match change {
                Change::Add { key, timeout, .. } => {
                    if let Some(key) = copy(key) {
                        copies.remove(key.clone());
                        copies.add(key, *timeout, None, false);
                    }
                }
                Change::Delete(key) => {
                    if let Some(key) = copy(key) {
                        copies.remove(key);
                    }
                }
                Change::PutQuota(..) | Change::DeleteQuota(..) => {}
            }
        }
        self.0.append(&mut copies.0);
        self
    }

    fn add(&mut self, key: Key, timeout: Option<Millis>, object: Option<Name>, is_new: bool) {
        let timeout = timeout.map(|timeout| timeout.min(LONGEST));
        self.0.push(Change::Add { key, timeout, object, is_new });
    }

    /// For the kernel itself.
    pub fn batch(&self) -> Batch {
        let mut batch = Batch::default();
        for change in &self.0 {
            match change {
                Change::Add { key, timeout, object, is_new } => {
                    let object = object.map(|name| name.to_string());
                    batch.add(key.home(), key.set(), &key.octets(), *timeout, object.as_deref(), *is_new);
                }
                Change::Delete(key) => batch.delete(key.home(), key.set(), &key.octets()),
                Change::PutQuota(home, name, Count { limit, used, .. }) => {
                    batch.put_quota(*home, &name.to_string(), *limit, *used)
                }
                Change::DeleteQuota(home, name) => batch.delete_quota(*home, &name.to_string()),
            }
        }
        batch
    }

    /// For nft, in the transaction that loads the table.
    pub fn script(&self) -> String {
        self.0.iter().map(|change| format!("{change}\n")).collect()
    }

    /// One of the changes, as a refusal names it by its number.
    pub fn name(&self, number: usize) -> String {
        self.0.get(number).map(ToString::to_string).unwrap_or_default()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Add { key, timeout, object, .. } => {
                write!(f, "add element {} {TABLE} {} {{ {key}", key.home(), key.set())?;
                if let Some(remaining) = timeout {
                    write!(f, " timeout {}", in_words(*remaining))?;
                }
                if let Some(name) = object {
                    write!(f, " : \"{name}\"")?;
                }
                f.write_str(" }")
            }
            Change::Delete(key) => {
                write!(f, "delete element {} {TABLE} {} {{ {key} }}", key.home(), key.set())
            }
            Change::PutQuota(home, name, Count { limit, used, .. }) => {
                write!(f, "add quota {home} {TABLE} {name} {{ over {limit} bytes used {used} bytes }}")
            }
            Change::DeleteQuota(home, name) => write!(f, "delete quota {home} {TABLE} {name}"),
        }
    }
}

/// nft's notation; it takes no more than 2^32 of a unit.
fn in_words(remaining: Millis) -> String {
    let Millis(all) = remaining;
    let (days, hours) = (all / 86_400_000, all / 3_600_000 % 24);
    let (minutes, seconds, millis) = (all / 60_000 % 60, all / 1000 % 60, all % 1000);
    let mut text = String::new();
    for (amount, unit) in [(days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s"), (millis, "ms")] {
        if amount > 0 {
            let _ = write!(text, "{amount}{unit}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> GatePlace {
        GatePlace { device: "br-guest".to_owned(), mac: "02:00:00:00:00:11".parse().unwrap() }
    }

    #[test]
    fn timeouts_are_written_to_the_millisecond() {
        for (millis, text) in [
            (1, "1ms"),
            (1000, "1s"),
            (60_000, "1m"),
            (3_723_450, "1h2m3s450ms"),
            (86_400_000, "1d"),
            (90_061_005, "1d1h1m1s5ms"),
            (u64::MAX, "365d"),
        ] {
            let mut changes = Changes::default();
            changes.put_new(Key::Paid(place()), Millis(millis));
            let wanted = format!(
                "add element inet tollgate paid_at {{ \"br-guest\" . 02:00:00:00:00:11 timeout {text} }}\n"
            );
            assert_eq!(changes.script(), wanted);
        }
    }

    #[test]
    fn nothing_left_is_never_written_as_no_end() {
        let mut changes = Changes::default();
        changes.put(Key::Paid(place()), Millis::ZERO);
        changes.put_new(Key::Slow(place()), Millis::ZERO);
        assert_eq!(
            changes.script(),
            "add element inet tollgate paid_at { \"br-guest\" . 02:00:00:00:00:11 timeout 1h }\n\
             delete element inet tollgate paid_at { \"br-guest\" . 02:00:00:00:00:11 }\n"
        );
    }

    #[test]
    fn each_part_of_a_key_is_padded_to_four_bytes() {
        let key = Key::Upload(place(), IpAddr::from([192, 168, 77, 11]));
        let parts = [&b"br-guest\0\0\0\0\0\0\0\0"[..], &[2, 0, 0, 0, 0, 0x11, 0, 0], &[192, 168, 77, 11]];
        assert_eq!(key.octets(), parts.concat());
    }
}
