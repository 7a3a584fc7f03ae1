//! Guesses at a secret: ten per MAC and sixty of all guests together, within a while. Knows no clock.

use crate::mac::MacAddr;
use crate::pace::Pace;
use crate::units::Millis;
use std::collections::VecDeque;

const OF_ONE: usize = 10;
const OF_ALL: usize = 60;

/// What was shown lately and was no good.
pub(super) struct Guesses {
    window: Millis,
    of_one: Pace,
    of_all: VecDeque<Millis>,
}

impl Guesses {
    pub fn new(window: Millis) -> Guesses {
        Guesses { window, of_one: Pace::new(OF_ONE, window), of_all: VecDeque::new() }
    }

    /// Counts one, or says how long until one more may be tried.
    pub fn admit(&mut self, mac: MacAddr, now: Millis) -> Result<(), Millis> {
        let window = self.window;
        self.of_all.retain(|at| at.saturating_add(window) > now);
        let wait_of_all = match self.of_all.front() {
            Some(first) if self.of_all.len() >= OF_ALL => first.saturating_add(window).saturating_sub(now),
            _ => Millis::ZERO,
        };
        let wait = self.of_one.wait(mac, now).max(wait_of_all);
        if wait > Millis::ZERO || !self.of_one.admit(mac, now) {
            return Err(wait.max(Millis(1)));
        }
        self.of_all.push_back(now);
        Ok(())
    }

    /// Takes the last guess back: it was right.
    pub fn take_back(&mut self, mac: MacAddr) {
        self.of_one.take_back(mac);
        self.of_all.pop_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> MacAddr {
        MacAddr::new([2, 0, 0, 0, 0, last]).unwrap()
    }

    #[test]
    fn ten_guesses_of_one_and_sixty_of_all_are_let_through_in_a_minute() {
        let mut guesses = Guesses::new(Millis::from_secs(60));
        assert_eq!((0..20).filter(|_| guesses.admit(mac(1), Millis(0)).is_ok()).count(), 10);
        let others =
            (2..100).map(|last| (0..10).filter(|_| guesses.admit(mac(last), Millis(0)).is_ok()).count());
        assert_eq!(others.sum::<usize>(), 50);
        assert_eq!(guesses.admit(mac(200), Millis::from_secs(50)), Err(Millis::from_secs(10)));
        assert_eq!(guesses.admit(mac(200), Millis::from_secs(60)), Ok(()));
    }

    #[test]
    fn good_codes_are_not_counted() {
        let mut guesses = Guesses::new(Millis::from_secs(60));
        for _ in 0..200 {
            assert_eq!(guesses.admit(mac(1), Millis(0)), Ok(()));
            guesses.take_back(mac(1));
        }
    }
}
