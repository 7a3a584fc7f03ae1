//! When what is done for a payout. All of it is divided by the pace.

use crate::sale::mpesa::plan::OrderPace;
use crate::units::Millis;

/// What was never sent is given back after it.
pub const UNSENT: Millis = Millis::from_secs(300);
/// A request whose answer was lost is sent again under its id this long.
pub const RESENDING: Millis = Millis::from_secs(3600);
/// A result has this time to come by itself.
pub const RESULT: Millis = Millis::from_secs(60);
/// Airtime that was sent is asked about after this,
pub const AIRTIME: Millis = Millis::from_secs(5);
/// and counts as delivered if nobody can say what became of it by then: it cannot be called back.
pub const AIRTIME_SURE: Millis = Millis::from_secs(600);
/// How long what was told of the money at the short code counts.
pub const FUNDS_LIFE: Millis = Millis::from_secs(600);
/// While payouts are stopped, or the clock is not set.
pub const LATER: Millis = Millis::from_secs(5);
/// Where too many are under way.
pub const CROWDED: Millis = Millis::from_secs(60);
/// How often what is awaited is looked for.
pub const AWAITED: Millis = Millis::from_secs(3);

/// How long until a payout that was sent this long ago is asked about again.
pub fn next_question(pace: OrderPace, age: Millis) -> Millis {
    let age = Millis(age.0.saturating_mul(pace.0));
    let wait = match age.0 {
        0..600_000 => RESULT,
        600_000..7_200_000 => Millis::from_secs(300),
        _ => Millis::from_secs(3600),
    };
    pace.of(wait).max(Millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payout_is_asked_about_each_minute_then_each_five_then_each_hour_and_never_given_up() {
        let wait = |age: u64| next_question(OrderPace(1), Millis::from_secs(age)).0 / 1000;
        assert_eq!([wait(0), wait(599), wait(600), wait(7200), wait(1_000_000)], [60, 60, 300, 3600, 3600]);
        assert_eq!(next_question(OrderPace(10), Millis::from_secs(60)), Millis::from_secs(30));
    }
}
