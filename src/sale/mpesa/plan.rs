//! When what is done for an order: how soon it is asked about, and how long. All of it is divided by the pace.

use crate::units::Millis;

/// A prompt that was sent is asked about this long; its order is open as long.
pub const LIFE: Millis = Millis::from_secs(900);
/// An order that was never sent is dropped after it.
pub const UNSENT: Millis = Millis::from_secs(300);
/// A prompt that cannot be sent is tried this long.
pub const SENDING: Millis = Millis::from_secs(60);
/// Wrong credentials are tried again after it.
pub const CREDENTIALS: Millis = Millis::from_secs(120);
pub const LONGEST_BACKOFF: Millis = Millis::from_secs(60);
/// The list of payments is asked for this long after an answer was lost, then this often,
pub const PULL_FIRST: Millis = Millis::from_secs(30);
pub const PULL_AGAIN: Millis = Millis::from_secs(60);
/// and this often without any open order,
pub const PULL_IDLE: Millis = Millis::from_secs(300);
/// and for this long.
pub const PULL_LIFE: Millis = Millis::from_secs(48 * 3600);
/// A callback that comes with the money has this time to say how much it was.
pub const CALLBACK: Millis = Millis::from_secs(2);

/// How fast time passes for orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderPace(pub u64);

impl OrderPace {
    /// A waiting time as it is waited.
    pub fn of(self, time: Millis) -> Millis {
        Millis(time.0.checked_div(self.0).unwrap_or(time.0))
    }

    /// How long until a prompt of this age is asked about again; `None`: no more.
    pub fn next_look(self, age: Millis) -> Option<Millis> {
        let age = Millis(age.0.saturating_mul(self.0));
        let wait = match age.0 {
            0..8_000 => Millis::from_secs(8).saturating_sub(age),
            8_000..75_000 => Millis::from_secs(5),
            75_000..180_000 => Millis::from_secs(15),
            180_000..900_000 => Millis::from_secs(60),
            _ => return None,
        };
        Some(self.of(wait).max(Millis(1)))
    }

    /// How long to wait after this many tries that came to nothing.
    pub fn backoff(self, tries: u32) -> Millis {
        let wait = Millis::from_secs(1u64.checked_shl(tries.min(10)).unwrap_or(1)).min(LONGEST_BACKOFF);
        self.of(wait).max(Millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_asked_about_after_8_s_then_every_5_15_and_60_s_and_at_last_no_more() {
        let mut age = Millis::ZERO;
        let mut looks = Vec::new();
        while let Some(wait) = OrderPace(1).next_look(age) {
            age = age.saturating_add(wait);
            looks.push(age.0 / 1000);
        }
        assert_eq!(looks[..4], [8, 13, 18, 23]);
        assert!(looks.contains(&78) && looks.contains(&93) && looks.contains(&183) && looks.contains(&243));
        assert_eq!(looks.len(), 34, "{looks:?}");
        assert_eq!(OrderPace(10).next_look(Millis(800)), Some(Millis(500)));
        assert_eq!(OrderPace(10).next_look(Millis(90_000)), None);
    }
}
