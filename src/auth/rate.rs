//! How often each caller may do something: `at_once` together, then one more each `period`. The caller passes the time.

use crate::units::Millis;
use litemap::LiteMap;

/// Addresses are easily made up: when this many were counted lately, a new one has to wait.
const MOST: usize = 4096;

pub struct Rate<K> {
    at_once: u64,
    period: Millis,
    /// When each caller has rested for everything that it did. A caller that has rested is not listed.
    rested: LiteMap<K, Millis>,
}

impl<K: Ord> Rate<K> {
    pub const fn new(at_once: u64, period: Millis) -> Rate<K> {
        Rate { at_once, period, rested: LiteMap::new() }
    }

    /// Counts one more, or says how long to wait for that.
    pub fn admit(&mut self, who: K, now: Millis) -> Result<(), Millis> {
        if self.rested.len() >= MOST {
            self.rested.retain(|_, rested| *rested > now);
        }
        let rested = self.rested.get(&who).copied();
        if rested.is_none() && self.rested.len() >= MOST {
            return Err(self.period);
        }
        let rested = rested.unwrap_or(now).max(now);
        let burst = Millis(self.period.0.saturating_mul(self.at_once.saturating_sub(1)));
        let ahead = rested.saturating_sub(now);
        if ahead > burst {
            return Err(ahead.saturating_sub(burst));
        }
        self.rested.insert(who, rested.saturating_add(self.period));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_at_once_and_one_more_each_second() {
        let mut rate = Rate::new(60, Millis::from_secs(1));
        let taken =
            |rate: &mut Rate<u8>, who, now| (0..100).filter(|_| rate.admit(who, Millis(now)).is_ok()).count();
        assert_eq!(taken(&mut rate, 1, 5), 60);
        assert_eq!(rate.admit(1, Millis(505)), Err(Millis(500)));
        assert_eq!(taken(&mut rate, 1, 3005), 3);
        assert_eq!(taken(&mut rate, 2, 3005), 60, "another is not affected");
        assert_eq!(taken(&mut rate, 1, 500_000), 60, "a pause makes no longer burst");
    }

    #[test]
    fn made_up_addresses_take_bounded_memory() {
        let mut rate = Rate::new(60, Millis::from_secs(1));
        let taken = (0..2 * MOST).filter(|who| rate.admit(*who, Millis(0)).is_ok()).count();
        assert_eq!((taken, rate.rested.len()), (MOST, MOST));
        assert!(rate.admit(0, Millis(0)).is_ok(), "who is counted already is not affected");
        assert!(rate.admit(2 * MOST, Millis(1000)).is_ok());
        assert_eq!(rate.rested.len(), 2);
    }
}
