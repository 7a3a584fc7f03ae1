//! When and how a money-bearing call is made again whose outcome is not known, or that a mint refuses for now.

use std::time::Duration;

/// The least pause between two attempts, even if a guest asks for the next.
pub const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// After a refusal for too many calls (429).
pub const RATE_LIMIT_PAUSE: Duration = Duration::from_secs(61);
/// A mint that calls every new set of outputs used is not sent ever more of them.
pub const MOST_OUTPUT_SETS: usize = 16;
/// At most this many sets of outputs are sent without a pause; a mint that refuses every one must not have us write
/// new ones as fast as it answers.
pub const PROMPT_OUTPUT_SETS: usize = 6;

/// Waits between attempts; the last one goes on for as long as it takes.
const BACK_OFF: [u64; 7] = [1, 1, 2, 4, 8, 15, 30];
/// Counters that are skipped when the mint knows outputs that we do not remember (an old backup): twice as many
/// each time, so that few attempts get past any backup's age.
const SKIP_COUNTERS: u32 = 100;
const MOST_SKIPPED: u32 = 100_000;

pub fn pause(attempts: usize) -> Duration {
    BACK_OFF.get(attempts).or(BACK_OFF.last()).map_or(LEAST_PAUSE, |secs| Duration::from_secs(*secs))
}

/// How many counters are left out after `tried` sets of outputs that the mint knew already.
pub fn skipped(tried: usize) -> u32 {
    let doublings = u32::try_from(tried.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    SKIP_COUNTERS.saturating_mul(1 << doublings).min(MOST_SKIPPED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_a_backup_of_any_age_are_passed_in_few_attempts() {
        assert_eq!([1, 2, 3].map(skipped), [100, 200, 400]);
        assert_eq!([skipped(0), skipped(usize::MAX)], [100, MOST_SKIPPED]);
    }

    #[test]
    fn pauses_grow_to_half_a_minute_and_stay_there() {
        assert_eq!([0, 2, 6, 1000].map(|attempts| pause(attempts).as_secs()), [1, 2, 30, 30]);
    }
}
