//! A circuit breaker: a peer that fails again and again is left alone for a while, so that nobody waits for it in vain.
//!
//! It opens after five failures in a row, or when half of at least ten calls within a minute failed; for 15 s, and twice as long
//! each time, up to five minutes and a little more by chance. Then one call may try, and its end decides. Only what says that
//! the peer is ill counts: no answer, no connection, nonsense. A refusal is an answer, so no stranger can open it by asking for
//! what is refused. It knows no clock: the caller says what time it is.

use crate::units::Millis;
use std::collections::VecDeque;

const IN_A_ROW: u32 = 5;
const WINDOW: Millis = Millis::from_secs(60);
const LEAST_CALLS: usize = 10;
/// Calls that are remembered; older ones do not count.
const MOST_CALLS: usize = 64;
const FIRST_PAUSE: Millis = Millis::from_secs(15);
const LONGEST_PAUSE: Millis = Millis::from_secs(300);
/// A call that tries, and never tells how it ended, is forgotten after this.
const TRIAL: Millis = Millis::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    Closed,
    /// Nothing is asked of the peer before its pause is over.
    Open,
    /// One call may try.
    HalfOpen,
}

/// The breaker of one peer.
#[derive(Debug, Default)]
pub struct Breaker {
    /// When calls ended, and whether they failed.
    calls: VecDeque<(Millis, bool)>,
    in_a_row: u32,
    open: Option<Pause>,
}

#[derive(Debug)]
struct Pause {
    until: Millis,
    length: Millis,
    trial: Option<Millis>,
}

impl BreakerState {
    pub fn as_str(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
        }
    }
}

impl Breaker {
    pub fn state(&self, now: Millis) -> BreakerState {
        match &self.open {
            None => BreakerState::Closed,
            Some(pause) if pause.until > now => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    /// Whether a call may be made now. The one that is let through while it is half open must be told of by
    /// [`Breaker::ended`].
    pub fn admit(&mut self, now: Millis) -> bool {
        let Some(pause) = &mut self.open else { return true };
        let is_tried = pause.trial.is_some_and(|since| now.saturating_sub(since) < TRIAL);
        if pause.until > now || is_tried {
            return false;
        }
        pause.trial = Some(now);
        true
    }

    /// A call has ended. `chance` makes pauses differ.
    pub fn ended(&mut self, now: Millis, has_failed: bool, chance: u32) {
        if let Some(pause) = &mut self.open {
            match has_failed {
                false => *self = Breaker::default(),
                // Calls that were under way when it opened change nothing.
                true if pause.trial.take().is_some() => {
                    let length = Millis(pause.length.0.saturating_mul(2).min(LONGEST_PAUSE.0));
                    self.open = Some(Pause::new(now, length, chance));
                }
                true => {}
            }
            return;
        }
        self.calls.retain(|(at, _)| now.saturating_sub(*at) < WINDOW);
        if self.calls.len() >= MOST_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back((now, has_failed));
        self.in_a_row = if has_failed { self.in_a_row.saturating_add(1) } else { 0 };
        let failed = self.calls.iter().filter(|(_, failed)| *failed).count();
        let is_half = self.calls.len() >= LEAST_CALLS && failed.saturating_mul(2) >= self.calls.len();
        if has_failed && (self.in_a_row >= IN_A_ROW || is_half) {
            self.open = Some(Pause::new(now, FIRST_PAUSE, chance));
        }
    }

    /// The peer was heard of otherwise: the next call may try at once.
    pub fn heard(&mut self, now: Millis) {
        if let Some(pause) = &mut self.open {
            (pause.until, pause.trial) = (now, None);
        }
    }
}

impl Pause {
    fn new(now: Millis, length: Millis, chance: u32) -> Pause {
        let jitter = u64::from(chance).checked_rem(length.0 / 10).unwrap_or(0);
        Pause { until: now.saturating_add(length).saturating_add(Millis(jitter)), length, trial: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Millis {
        Millis::from_secs(secs)
    }

    fn failed(times: u64) -> Breaker {
        let mut breaker = Breaker::default();
        (0..times).for_each(|second| breaker.ended(at(second), true, 0));
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_four_do_not() {
        assert_eq!(failed(4).state(at(4)), BreakerState::Closed);
        assert_eq!(failed(5).state(at(5)), BreakerState::Open);
        assert!(!failed(5).admit(at(5)));
        let mut mended = failed(4);
        mended.ended(at(4), false, 0);
        mended.ended(at(5), true, 0);
        assert_eq!(mended.state(at(5)), BreakerState::Closed);
    }

    #[test]
    fn half_of_ten_calls_in_a_minute_open_it_and_old_ones_do_not_count() {
        let mut breaker = Breaker::default();
        for second in 0..9 {
            breaker.ended(at(second), second % 2 == 0, 0);
            assert_eq!(breaker.state(at(second)), BreakerState::Closed);
        }
        breaker.ended(at(9), true, 0);
        assert_eq!(breaker.state(at(9)), BreakerState::Open);
        let mut slow = Breaker::default();
        for call in 0..40 {
            slow.ended(at(call * 10), call % 2 == 0, 0);
        }
        assert_eq!(slow.state(at(400)), BreakerState::Closed);
    }

    #[test]
    fn one_call_tries_and_its_end_decides() {
        let mut breaker = failed(5);
        assert!(!breaker.admit(at(18)));
        assert_eq!(breaker.state(at(19)), BreakerState::HalfOpen);
        assert!(breaker.admit(at(19)) && !breaker.admit(at(19)), "exactly one");
        breaker.ended(at(20), true, 0);
        assert!(!breaker.admit(at(49)) && breaker.admit(at(50)), "twice as long");
        breaker.ended(at(51), false, 0);
        assert_eq!(breaker.state(at(51)), BreakerState::Closed);
        assert_eq!(breaker.in_a_row, 0);
    }

    #[test]
    fn pauses_end_at_five_minutes_and_a_lost_trial_blocks_nobody() {
        let (mut breaker, mut now) = (failed(5), 0);
        for _ in 0..10 {
            now += 400;
            assert!(breaker.admit(at(now)));
            breaker.ended(at(now), true, 0);
        }
        assert!(!breaker.admit(at(now + 299)) && breaker.admit(at(now + 300)));
        assert!(!breaker.admit(at(now + 329)) && breaker.admit(at(now + 330)));
    }

    #[test]
    fn a_peer_that_was_heard_of_is_tried_at_once() {
        let mut breaker = failed(5);
        breaker.heard(at(6));
        assert!(breaker.admit(at(6)) && !breaker.admit(at(6)));
    }

    #[test]
    fn pauses_differ_by_a_tenth() {
        let mut breaker = Breaker::default();
        (0..5).for_each(|_| breaker.ended(at(0), true, 1499));
        assert!(!breaker.admit(Millis(16_498)) && breaker.admit(Millis(16_499)));
    }
}
