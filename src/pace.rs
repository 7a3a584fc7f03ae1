//! How often each MAC address may do something: a number of times within a window. Knows no clock.

use crate::mac::MacAddr;
use crate::units::Millis;
use litemap::LiteMap;
use std::collections::VecDeque;

/// Addresses are easily made up: when this many were counted lately, a new one has to wait.
const MAX_MACS: usize = 4096;

/// What happens within this part of a window counts as one moment, so that a guest takes little memory however
/// much is allowed.
const MOMENTS: u64 = 64;

/// Moments of what each MAC did lately, and how often then. One that did nothing takes no memory.
pub struct Pace {
    most: usize,
    window: Millis,
    recent: LiteMap<MacAddr, VecDeque<(Millis, usize)>>,
}

impl Pace {
    pub const fn new(most: usize, window: Millis) -> Pace {
        Pace { most, window, recent: LiteMap::new() }
    }

    /// Counts one more; false if it is one too many.
    pub fn admit(&mut self, mac: MacAddr, now: Millis) -> bool {
        let may = self.wait(mac, now) == Millis::ZERO;
        if may {
            let moments = self.recent.entry(mac).or_default();
            let slot = Millis(self.window.0 / MOMENTS);
            match moments.back_mut() {
                Some((at, count)) if now.saturating_sub(*at) < slot => *count = count.saturating_add(1),
                _ => moments.push_back((now, 1)),
            }
        }
        may
    }

    /// Takes back the last one that was counted.
    pub fn take_back(&mut self, mac: MacAddr) {
        if let Some((_, count)) = self.recent.get_mut(&mac).and_then(VecDeque::back_mut) {
            *count = count.saturating_sub(1);
        }
    }

    /// How long until one more may be counted.
    pub fn wait(&mut self, mac: MacAddr, now: Millis) -> Millis {
        let window = self.window;
        for (_, moments) in self.recent.iter_mut() {
            while moments.front().is_some_and(|(at, _)| at.saturating_add(window) <= now) {
                moments.pop_front();
            }
        }
        self.recent.retain(|_, moments| !moments.is_empty());
        match self.recent.get(&mac) {
            Some(moments) if moments.iter().map(|(_, count)| count).sum::<usize>() >= self.most => {
                moments.front().map_or(window, |(at, _)| at.saturating_add(window).saturating_sub(now))
            }
            None if self.recent.len() >= MAX_MACS => window,
            _ => Millis::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> MacAddr {
        MacAddr::new([2, 0, 0, 0, 0, last]).unwrap()
    }

    fn ten_a_minute() -> Pace {
        Pace::new(10, Millis::from_secs(60))
    }

    #[test]
    fn the_eleventh_within_a_minute_is_refused() {
        let mut pace = ten_a_minute();
        for i in 0..10 {
            assert!(pace.admit(mac(1), Millis(i * 1000)));
        }
        assert!(!pace.admit(mac(1), Millis(59_999)));
        assert_eq!(pace.wait(mac(1), Millis(59_000)), Millis(1000));
        assert!(pace.admit(mac(2), Millis(59_999)), "another guest is not affected");
        assert!(pace.admit(mac(1), Millis(60_000)));
    }

    #[test]
    fn what_is_taken_back_does_not_count() {
        let mut pace = ten_a_minute();
        for i in 0..100 {
            assert!(pace.admit(mac(1), Millis(i * 100)));
            pace.take_back(mac(1));
        }
        assert_eq!(pace.wait(mac(1), Millis(10_000)), Millis::ZERO);
    }

    #[test]
    fn much_at_once_takes_little_memory() {
        let mut pace = Pace::new(600, Millis::from_secs(60));
        assert_eq!((0..60_000).filter(|now| pace.admit(mac(1), Millis(*now))).count(), 600);
        assert!(pace.recent[&mac(1)].len() <= 65);
        assert!(pace.admit(mac(1), Millis(60_000)));
    }

    #[test]
    fn guests_who_left_take_no_memory() {
        let mut pace = ten_a_minute();
        for last in 0..200 {
            pace.admit(mac(last), Millis(0));
        }
        pace.admit(mac(201), Millis(60_000));
        assert_eq!(pace.recent.len(), 1);
    }

    #[test]
    fn made_up_addresses_take_bounded_memory() {
        let mut pace = ten_a_minute();
        for number in 0..=MAX_MACS {
            let [.., a, b] = u32::try_from(number).unwrap().to_be_bytes();
            pace.admit(MacAddr::new([2, 0, 0, 0, a, b]).unwrap(), Millis(0));
        }
        assert_eq!(pace.recent.len(), MAX_MACS);
        assert!(pace.admit(mac(1), Millis(1)), "who is counted already is not affected");
    }
}
