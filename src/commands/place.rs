//! Where a guest is: what the operator need not say, because the router sees it.

use crate::config::{Config, Venue};
use crate::mac::MacAddr;
use crate::network::neighbours::{self, Caller};
use crate::units::Millis;

/// The venue that a MAC is at, and its address there. One that is known at several is where it answered last.
pub fn seen(config: &Config, mac: MacAddr) -> Option<(&Venue, Caller)> {
    let devices =
        config.venues.iter().flat_map(|venue| venue.devices.iter().map(move |device| (venue, device)));
    let found = devices.filter_map(|(venue, device)| {
        let guests = neighbours::guests_on(device).unwrap_or_default();
        let caller = guests.into_iter().find(|guest| guest.mac == mac)?;
        let answered = neighbours::last_answer(device, mac).ok().flatten();
        Some((answered.unwrap_or(Millis(u64::MAX)), venue, caller))
    });
    found.min_by_key(|(ago, ..)| *ago).map(|(_, venue, caller)| (venue, caller))
}

/// Takes `--venue NAME` out of a command's words. `None`: the name is missing, or there are two.
pub fn split_venue<'a>(args: &[&'a str]) -> Option<(Vec<&'a str>, Option<&'a str>)> {
    let (mut rest, mut venue) = (Vec::with_capacity(args.len()), None);
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match *word {
            "--venue" if venue.is_some() => return None,
            "--venue" => venue = Some(*words.next()?),
            other => rest.push(other),
        }
    }
    Some((rest, venue))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_venue_may_stand_anywhere_and_once() {
        assert_eq!(split_venue(&["m", "1h"]), Some((vec!["m", "1h"], None)));
        assert_eq!(split_venue(&["m", "--venue", "hall", "1h"]), Some((vec!["m", "1h"], Some("hall"))));
        assert_eq!(split_venue(&["--venue", "hall", "m"]), Some((vec!["m"], Some("hall"))));
        assert_eq!(split_venue(&["m", "--venue"]), None);
        assert_eq!(split_venue(&["--venue", "a", "--venue", "b"]), None);
    }
}
