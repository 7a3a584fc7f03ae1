//! The grace to pay in: a little slow access for a guest with an open invoice, so that the wallet on the
//! guest's own phone can pay it, at the venue where it was asked for. Once per MAC and hour, for a few guests at a
//! time, and for no more bytes than the slow rate gives in that time.
//!
//! It is not stored. A guest that asked for an invoice in the hour before a start counts as having had its grace, and
//! one that runs ends with the daemon's start.

use super::{monotonic, Access};
use crate::config::Metric;
use crate::mac::MacAddr;
use crate::network::gate::{Quota, Station, SLOW};
use crate::units::{Allotment, Millis};
use litemap::LiteMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

const EACH: Millis = Millis::from_secs(3600);
const AT_A_TIME: usize = 16;
/// At most this many guests of the last hour are remembered; when there are more, no new guest gets a grace.
const MOST: usize = 4096;

/// The guests that had a grace in the last hour, and those whose grace runs.
pub(super) struct Graces(Mutex<LiteMap<MacAddr, Grace>>);

/// In service time.
struct Grace {
    asked: Millis,
    ends: Millis,
    /// Empty for a grace from before the start.
    venue: String,
}

impl Graces {
    /// `asked`: when each MAC last asked for an invoice.
    pub fn new(asked: Vec<(MacAddr, Millis)>) -> Graces {
        let had = |(mac, asked)| (mac, Grace { asked, ends: Millis::ZERO, venue: String::new() });
        Graces(Mutex::new(asked.into_iter().map(had).collect()))
    }

    /// Since when requests are to be looked at on a start.
    pub fn memory(now: Millis) -> Millis {
        now.saturating_sub(EACH)
    }

    /// False if this guest may not have one now.
    fn begin(&self, station: &Station, asked: Millis, ends: Millis, now: Millis) -> bool {
        let mut graces = self.lock();
        graces.retain(|_, grace| grace.asked.saturating_add(EACH) > now || grace.ends > now);
        let running = graces.values().filter(|grace| grace.ends > now).count();
        let may =
            !graces.contains_key(&station.mac) && running < AT_A_TIME && graces.len() < MOST && ends > now;
        if may {
            graces.insert(station.mac, Grace { asked, ends, venue: station.venue.clone() });
        }
        may
    }

    /// Ends the grace of a MAC, at one venue or at any. Returns the venue where one was running.
    pub fn end(&self, mac: MacAddr, venue: Option<&str>) -> Option<String> {
        let mut graces = self.lock();
        let grace = graces.get_mut(&mac).filter(|grace| venue.is_none_or(|venue| venue == grace.venue))?;
        (std::mem::take(&mut grace.ends) > Millis::ZERO).then(|| grace.venue.clone())
    }

    fn lock(&self) -> MutexGuard<'_, LiteMap<MacAddr, Grace>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Access {
    /// Lets a guest through slowly for a limited time, unless it passes anyway or has had its grace. `asked` is when
    /// (service time) it asked for the invoice.
    pub fn begin_grace(&self, mac: MacAddr, venue: &str, asked: Millis, length: Millis) {
        let passes = self.session(mac, venue).is_some_and(|session| session.is_running());
        let station = Station { mac, venue: venue.to_owned() };
        let cannot = self.gatekeeper.status().cannot_sell(Metric::Bytes).is_some();
        let now = self.store.now();
        let ends = now.saturating_add(length);
        if passes || cannot || !self.graces.begin(&station, asked, ends, now) {
            return;
        }
        let allotment = Allotment((length.0 / 1000).saturating_mul(SLOW));
        let quota = Quota { session: now.0, allotment, used: Allotment::ZERO };
        self.gatekeeper.grace(station, Some((quota, monotonic(&self.clock, now, ends))));
        log::info!("{mac} may use a little of the internet for {} s, to pay its invoice", length.0 / 1000);
    }

    /// What is left of a guest's grace at a venue.
    pub fn grace(&self, mac: MacAddr, venue: &str) -> Option<Millis> {
        let graces = self.graces.lock();
        let grace = graces.get(&mac).filter(|grace| grace.venue == venue)?;
        let left = grace.ends.saturating_sub(self.store.now());
        (left > Millis::ZERO).then_some(left)
    }

    /// Ends the graces of all but these guests.
    pub fn keep_graces(&self, of: impl Fn(MacAddr, &str) -> bool) {
        let now = self.store.now();
        let running: Vec<Station> = {
            let graces = self.graces.lock();
            let running = graces.iter().filter(|(_, grace)| grace.ends > now);
            running.map(|(mac, grace)| Station { mac: *mac, venue: grace.venue.clone() }).collect()
        };
        for station in running.into_iter().filter(|station| !of(station.mac, &station.venue)) {
            self.graces.end(station.mac, None);
            self.gatekeeper.grace(station, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Millis = Millis::from_secs(10_000);

    fn mac(number: u16) -> MacAddr {
        let [high, low] = number.to_be_bytes();
        MacAddr::new([2, 0, 0, 0, high, low]).unwrap()
    }

    fn at(seconds: u64) -> Millis {
        START.saturating_add(Millis::from_secs(seconds))
    }

    /// A grace of five minutes.
    fn begins(graces: &Graces, guest: u16, now: u64) -> bool {
        let station = Station { mac: mac(guest), venue: "guest".to_owned() };
        graces.begin(&station, at(now), at(now + 300), at(now))
    }

    #[test]
    fn a_guest_has_one_grace_in_an_hour_however_it_ended() {
        let graces = Graces::new(Vec::new());
        assert!(begins(&graces, 1, 0) && !begins(&graces, 1, 1));
        assert_eq!(graces.end(mac(1), Some("elsewhere")), None);
        assert_eq!(graces.end(mac(1), None), Some("guest".to_owned()));
        assert_eq!(graces.end(mac(1), None), None);
        assert!(!begins(&graces, 1, 2) && !begins(&graces, 1, 3599) && begins(&graces, 2, 3));
        assert!(begins(&graces, 1, 3600));
    }

    #[test]
    fn who_asked_before_a_start_has_had_it() {
        let graces = Graces::new(vec![(mac(1), at(0))]);
        assert!(!begins(&graces, 1, 10) && begins(&graces, 2, 10) && begins(&graces, 1, 3600));
    }

    #[test]
    fn a_few_have_one_at_a_time_and_not_more_than_are_remembered() {
        let graces = Graces::new(Vec::new());
        let many = u16::try_from(AT_A_TIME).unwrap();
        assert!((0..many).all(|guest| begins(&graces, guest, 0)));
        assert!(!begins(&graces, many, 1));
        assert!(
            graces.end(mac(0), None).is_some() && begins(&graces, many, 1),
            "room is made by one that ends"
        );
        let asked = (0..u16::try_from(MOST).unwrap()).map(|guest| (mac(guest), at(0))).collect();
        assert!(!begins(&Graces::new(asked), 9999, 1));
    }
}
