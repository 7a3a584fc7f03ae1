//! The taps of this run, so that strangers' k1 cost next to nothing.
//!
//! A k1 that is not among them may still be one of an earlier run: those are looked up in the store, but only a few
//! per second.

use crate::units::Millis;
use litemap::LiteMap;

/// A k1 is remembered for this long after it could be used, for tills that ask twice.
const KEPT: Millis = Millis::from_secs(600);
/// At most this many are remembered; those that are over are forgotten first.
const MANY: usize = 256;
/// Looks into the store for k1 that are not remembered, per second.
const STRANGERS: u32 = 20;
/// How many invoices are looked at for one tap, since each costs curve arithmetic; and how often the same one, for a
/// till that asks many times at once.
const TRIES: u8 = 10;
const REPEATS: u8 = 200;

#[derive(Default)]
pub struct Recent {
    taps: LiteMap<[u8; 32], Tap>,
    /// The second that is being counted, and the looks in it.
    strangers: (u64, u32),
}

struct Tap {
    ends: Millis,
    /// The payment hash that was looked at last.
    last: Option<[u8; 32]>,
    tries: u8,
    repeats: u8,
}

impl Recent {
    pub fn add(&mut self, k1: [u8; 32], ends: Millis, now: Millis) {
        if self.taps.len() >= MANY {
            self.taps.retain(|_, tap| tap.ends.saturating_add(KEPT) > now);
        }
        self.taps.insert(k1, Tap { ends, last: None, tries: 0, repeats: 0 });
    }

    /// Whether the store may be asked about a k1.
    pub fn may_ask(&mut self, k1: &[u8; 32], now: Millis) -> bool {
        if self.taps.contains_key(k1) {
            return true;
        }
        let second = now.0 / 1000;
        let (counted, times) = self.strangers;
        let times = if counted == second { times } else { 0 };
        self.strangers = (second, times.saturating_add(1));
        times < STRANGERS
    }

    /// Whether an invoice may be looked at for a k1.
    pub fn may_try(&mut self, k1: &[u8; 32], payment_hash: [u8; 32]) -> bool {
        let Some(tap) = self.taps.get_mut(k1) else { return true };
        if tap.last == Some(payment_hash) && tap.repeats < REPEATS {
            tap.repeats = tap.repeats.saturating_add(1);
            return true;
        }
        tap.last = Some(payment_hash);
        tap.tries = tap.tries.saturating_add(1);
        tap.tries <= TRIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_few_per_second_and_our_taps_always_heard() {
        let mut recent = Recent::default();
        recent.add([1; 32], Millis(60_000), Millis(0));
        let heard = (0..1000).filter(|_| recent.may_ask(&[2; 32], Millis(5_500))).count();
        assert_eq!(heard, 20);
        assert!(recent.may_ask(&[1; 32], Millis(5_500)));
        assert!(recent.may_ask(&[2; 32], Millis(6_000)));
    }

    #[test]
    fn what_is_over_is_forgotten_when_there_are_many() {
        let mut recent = Recent::default();
        for number in 0..10_000u64 {
            let mut k1 = [0; 32];
            k1[..8].copy_from_slice(&number.to_be_bytes());
            let now = Millis::from_secs(number * 10);
            recent.add(k1, now.saturating_add(Millis::from_secs(60)), now);
        }
        assert!(recent.taps.len() <= MANY + 1, "{}", recent.taps.len());
    }

    #[test]
    fn an_eleventh_invoice_is_not_looked_at() {
        let mut recent = Recent::default();
        recent.add([1; 32], Millis(60_000), Millis(0));
        assert_eq!((0..50).filter(|number| recent.may_try(&[1; 32], [*number; 32])).count(), 10);
    }

    #[test]
    fn one_invoice_may_come_often_but_not_for_ever() {
        let mut recent = Recent::default();
        recent.add([1; 32], Millis(60_000), Millis(0));
        assert!((0..50).all(|_| recent.may_try(&[1; 32], [1; 32])));
        assert!((0..9).all(|number| recent.may_try(&[1; 32], [number + 2; 32])));
        assert!(!recent.may_try(&[1; 32], [100; 32]));
        assert_eq!((0..1000).filter(|_| recent.may_try(&[1; 32], [100; 32])).count(), 151);
    }
}
