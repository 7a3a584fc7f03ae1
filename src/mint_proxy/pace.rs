//! How many new requests a guest may make: 10 a minute, and 3 unpaid ones younger than 10 minutes.

use crate::mac::MacAddr;
use crate::units::Millis;
use std::collections::{BTreeMap, VecDeque};

const WINDOW: Millis = Millis::from_secs(60);
const NEW_PER_WINDOW: usize = 10;

/// An unpaid request counts against its guest this long; it stays payable after that.
pub const UNPAID_COUNTS_FOR: Millis = Millis::from_secs(600);
pub const MAX_UNPAID: usize = 3;

/// Invoices of all guests together that can be paid at a time. Addresses are easily made up, so the last of
/// them are for those who have bought access before.
const MAX_INVOICES: usize = 2000;
const FOR_CUSTOMERS: usize = 500;
/// Requests in memory with something left to do, those whose invoices have ended included.
pub const MAX_UNFINISHED: usize = 3000;

/// Whether `more` invoices may be asked for while `open` can be paid.
pub fn has_room(open: usize, more: usize, is_customer: bool) -> bool {
    let limit = if is_customer { MAX_INVOICES } else { MAX_INVOICES.saturating_sub(FOR_CUSTOMERS) };
    open.saturating_add(more) <= limit
}

/// Moments of the latest requests of each guest. Guests without a recent one take no memory.
#[derive(Default)]
pub struct Pace {
    recent: BTreeMap<MacAddr, VecDeque<Millis>>,
}

impl Pace {
    /// Counts a new request; false if it is one too many.
    pub fn admit(&mut self, mac: MacAddr, now: Millis) -> bool {
        self.recent.retain(|_, moments| {
            while moments.front().is_some_and(|at| at.saturating_add(WINDOW) <= now) {
                moments.pop_front();
            }
            !moments.is_empty()
        });
        let moments = self.recent.entry(mac).or_default();
        if moments.len() >= NEW_PER_WINDOW {
            return false;
        }
        moments.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> MacAddr {
        MacAddr::new([2, 0, 0, 0, 0, last]).unwrap()
    }

    #[test]
    fn the_eleventh_request_within_a_minute_is_refused() {
        let mut pace = Pace::default();
        for i in 0..10 {
            assert!(pace.admit(mac(1), Millis(i * 1000)));
        }
        assert!(!pace.admit(mac(1), Millis(59_999)));
        assert!(pace.admit(mac(2), Millis(59_999)), "another guest is not affected");
        assert!(pace.admit(mac(1), Millis(60_000)));
    }

    #[test]
    fn strangers_cannot_take_the_last_invoices_from_customers() {
        assert!(has_room(1499, 1, false) && !has_room(1500, 1, false) && !has_room(1497, 4, false));
        assert!(has_room(1500, 4, true) && has_room(1999, 1, true) && !has_room(2000, 1, true));
    }

    #[test]
    fn guests_who_left_take_no_memory() {
        let mut pace = Pace::default();
        for last in 0..200 {
            pace.admit(mac(last), Millis(0));
        }
        pace.admit(mac(201), Millis(60_000));
        assert_eq!(pace.recent.len(), 1);
    }
}
