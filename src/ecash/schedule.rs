//! When to look at an unpaid quote. Events of the mint's WebSocket are faster, but they get lost.
//!
//! Mints count requests per path and each quote has a path of its own; nutshell refuses the 21st look unless a minute
//! passes between two. So: looks after 2, 4 and 8 s, then every 10 s, and after 15 looks, or a refusal, every 61 s. A
//! guest that asks adds a look, at most every 3 s.

use crate::units::Millis;

const FIRST_LOOKS: [Millis; 3] = [Millis::from_secs(2), Millis::from_secs(4), Millis::from_secs(8)];
const EVERY: Millis = Millis::from_secs(10);
const SLOW: Millis = Millis::from_secs(61);
const FAST_LOOKS: u32 = 15;
const GUEST_EVERY: Millis = Millis::from_secs(3);

/// The looks at one quote. Knows no clock: `now` is the monotonic time of the caller.
#[derive(Clone, Debug)]
pub struct LookSchedule {
    started: Millis,
    looks: u32,
    next: Millis,
    last_look: Option<Millis>,
}

impl LookSchedule {
    /// For a quote made just now.
    pub fn new(now: Millis) -> LookSchedule {
        let mut schedule = LookSchedule { started: now, looks: 0, next: now, last_look: None };
        schedule.next = schedule.after(now);
        schedule
    }

    /// For a quote from before this start: one look at once, then as for a new one.
    pub fn resumed(now: Millis) -> LookSchedule {
        LookSchedule { next: now, ..LookSchedule::new(now) }
    }

    /// When to look next.
    pub fn next_look(&self) -> Millis {
        self.next
    }

    /// Whether a guest's own question is worth a look now.
    pub fn guest_may_look(&self, now: Millis) -> bool {
        self.last_look.is_none_or(|last| now.saturating_sub(last) >= GUEST_EVERY)
    }

    /// A look was made, for any reason.
    pub fn looked(&mut self, now: Millis) {
        self.looks = self.looks.saturating_add(1);
        self.last_look = Some(now);
        self.next = self.after(now);
    }

    /// The mint refused a look with 429.
    pub fn refused(&mut self, now: Millis) {
        self.looks = self.looks.max(FAST_LOOKS);
        self.next = now.saturating_add(SLOW);
    }

    /// Something was heard of the mint (the WebSocket came back): look now.
    pub fn look_now(&mut self, now: Millis) {
        self.next = self.next.min(now);
    }

    fn after(&self, now: Millis) -> Millis {
        if self.looks >= FAST_LOOKS {
            return now.saturating_add(SLOW);
        }
        let early =
            FIRST_LOOKS.iter().map(|offset| self.started.saturating_add(*offset)).find(|at| *at > now);
        early.unwrap_or_else(|| now.saturating_add(EVERY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds at which looks are due, when each is made on time.
    fn looks(mut schedule: LookSchedule, count: usize) -> Vec<u64> {
        let look = |_| {
            let at = schedule.next_look();
            schedule.looked(at);
            at.0 / 1000
        };
        (0..count).map(look).collect()
    }

    #[test]
    fn looks_are_quick_at_first_and_slow_after_fifteen() {
        let expected = [102, 104, 108, 118, 128, 138, 148, 158, 168, 178, 188, 198, 208, 218, 228, 289, 350];
        assert_eq!(looks(LookSchedule::new(Millis::from_secs(100)), 17), expected);
    }

    #[test]
    fn a_resumed_quote_is_looked_at_first_at_once() {
        assert_eq!(looks(LookSchedule::resumed(Millis::from_secs(5)), 4), [5, 7, 9, 13]);
    }

    #[test]
    fn a_refused_look_slows_down_for_good() {
        let mut schedule = LookSchedule::new(Millis::ZERO);
        schedule.looked(Millis::from_secs(2));
        schedule.refused(Millis::from_secs(4));
        assert_eq!(looks(schedule, 3), [65, 126, 187]);
    }

    #[test]
    fn a_guest_may_ask_every_three_seconds() {
        let mut schedule = LookSchedule::new(Millis::ZERO);
        assert!(schedule.guest_may_look(Millis::ZERO));
        schedule.looked(Millis::from_secs(1));
        assert!(!schedule.guest_may_look(Millis(3999)));
        assert!(schedule.guest_may_look(Millis(4000)));
    }

    #[test]
    fn looks_that_guests_add_count_towards_the_fifteen() {
        let mut schedule = LookSchedule::new(Millis::ZERO);
        for second in 1..=15 {
            schedule.looked(Millis::from_secs(second * 3));
        }
        assert_eq!(schedule.next_look(), Millis::from_secs(45 + 61));
    }

    #[test]
    fn a_returned_socket_brings_the_next_look_forward_only() {
        let mut schedule = LookSchedule::new(Millis::ZERO);
        schedule.look_now(Millis::from_secs(9));
        assert_eq!(schedule.next_look(), Millis::from_secs(2));
        schedule.look_now(Millis::from_secs(1));
        assert_eq!(schedule.next_look(), Millis::from_secs(1));
    }

    #[test]
    fn the_end_of_time_is_not_passed() {
        let mut schedule = LookSchedule::new(Millis(u64::MAX));
        schedule.looked(Millis(u64::MAX));
        schedule.refused(Millis(u64::MAX));
        assert_eq!(schedule.next_look(), Millis(u64::MAX));
    }
}
