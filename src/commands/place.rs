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
