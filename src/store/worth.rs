//! What a session is worth at another venue.
//!
//! What was sold at a venue opens there only; what is left of it moves to another one as the value that was paid for
//! it, and buys whole steps there. A price that changed since then makes no guest richer, and what the operator gave
//! away has no value.

use super::session_rows::SessionRow;
use crate::config::{Metric, MintUrl};
use crate::units::{Allotment, Millis, Msats, Sats};

/// What was paid for the last `of` of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Worth {
    /// Of a session that runs out a bit at a time: whole sats would lose too much.
    pub value: Msats,
    pub of: Allotment,
    /// The venue whose price was paid; `None` if there were several.
    pub mint: Option<MintUrl>,
}

/// What a venue sells a step of, and for how much by which mint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VenuePrice {
    pub venue: String,
    pub metric: Metric,
    pub step: Allotment,
    pub per_step: Vec<(MintUrl, Sats)>,
    /// The venues of other tenants: what is left there has no value here.
    pub strangers: Vec<String>,
}

/// What becomes of an account's sessions when its guest goes on at a venue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Moving {
    /// There is nothing elsewhere; or less than a step, and something here already.
    Nothing,
    /// All that is left is elsewhere, and buys no whole step here.
    TooLittle,
    /// These sessions end, and the venue gives this for them.
    Steps { from: Vec<(String, Metric)>, allotment: Allotment, value: Sats, mint: Option<MintUrl> },
}

impl Worth {
    /// The value of what is `left`, rounded down.
    pub fn left(&self, left: Allotment) -> Worth {
        let of = left.min(self.of);
        let product = u128::from(self.value.0).saturating_mul(u128::from(of.0));
        let value = product.checked_div(u128::from(self.of.0)).unwrap_or_default();
        // A part of a u64 is one.
        Worth {
            value: Msats(u64::try_from(value).unwrap_or(self.value.0)),
            of: left,
            mint: self.mint.clone(),
        }
    }

    /// Both together.
    pub fn plus(self, other: Worth) -> Worth {
        let nothing = Msats(0);
        let mint = match (&self, &other) {
            (_, other) if other.value == nothing => self.mint,
            (own, _) if own.value == nothing => other.mint,
            (own, other) if own.mint == other.mint => self.mint,
            _ => None,
        };
        Worth {
            value: Msats(self.value.0.saturating_add(other.value.0)),
            of: self.of.saturating_add(other.of),
            mint,
        }
    }
}

impl VenuePrice {
    /// The mint's own price if it sells here; else the dearest. The value stays that mint's, so that no way round makes more of
    /// the same money.
    fn at(&self, mint: Option<&MintUrl>) -> Option<(Option<MintUrl>, Sats)> {
        let same = self.per_step.iter().find(|(own, _)| mint == Some(own));
        let found = same.or_else(|| self.per_step.iter().max_by_key(|(_, price)| *price));
        found.map(|(_, price)| (mint.cloned(), *price))
    }

    /// What the sessions of an account are worth here.
    pub(super) fn moving(&self, sessions: &[SessionRow], now: Millis) -> Moving {
        let running = || sessions.iter().filter(|row| row.remaining(now) > Allotment::ZERO);
        let is_here = running().any(|row| row.venue == self.venue);
        let elsewhere = || running().filter(|row| row.venue != self.venue);
        if elsewhere().next().is_none() {
            return Moving::Nothing;
        }
        let ours = || elsewhere().filter(|row| !self.strangers.contains(&row.venue));
        let left = ours().map(|row| row.worth.left(row.remaining(now)));
        let worth = left.fold(Worth::default(), Worth::plus);
        let bought = self.at(worth.mint.as_ref()).and_then(|(mint, price)| {
            let steps = (worth.value.0 / 1000).checked_div(price.0).filter(|steps| *steps > 0)?;
            Some((mint, price.checked_mul(steps)?, self.step.checked_mul(steps)?))
        });
        match bought {
            Some((mint, value, allotment)) => {
                let from = ours().map(|row| (row.venue.clone(), row.metric)).collect();
                Moving::Steps { from, allotment, value, mint }
            }
            None if is_here => Moving::Nothing,
            None => Moving::TooLittle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mint(name: &str) -> MintUrl {
        MintUrl::parse(&format!("https://{name}.example")).unwrap()
    }

    fn worth(value: u64, of: u64, name: &str) -> Worth {
        Worth { value: Msats(value), of: Allotment(of), mint: Some(mint(name)) }
    }

    #[test]
    fn the_value_of_what_is_left_is_its_share_rounded_down() {
        let paid = worth(10_000, 3, "a");
        assert_eq!(paid.left(Allotment(3)).value, Msats(10_000));
        assert_eq!(paid.left(Allotment(2)).value, Msats(6_666));
        assert_eq!(paid.left(Allotment(0)).value, Msats(0));
        assert_eq!(paid.left(Allotment(9)).value, Msats(10_000), "more is left than was paid for");
        assert_eq!(worth(5, 0, "a").left(Allotment(7)).value, Msats(0));
        let most = u64::MAX;
        assert_eq!(worth(most, most, "a").left(Allotment(most)).value, Msats(most));
    }

    #[test]
    fn a_cheap_top_up_does_not_make_the_rest_dear() {
        // An hour for 60 sat, of which a minute is left; then another for 1 sat.
        let left = worth(60_000, 60, "a").left(Allotment(1));
        let both = left.plus(worth(1_000, 60, "a"));
        assert_eq!((both.value, both.of), (Msats(2_000), Allotment(61)));
    }

    #[test]
    fn the_mint_is_known_as_long_as_it_is_one() {
        let gift = Worth { of: Allotment(5), ..Worth::default() };
        assert_eq!(gift.clone().plus(worth(1, 1, "a")).mint, Some(mint("a")));
        assert_eq!(worth(1, 1, "a").plus(gift).mint, Some(mint("a")));
        assert_eq!(worth(1, 1, "a").plus(worth(1, 1, "a")).mint, Some(mint("a")));
        assert_eq!(worth(1, 1, "a").plus(worth(1, 1, "b")).mint, None);
    }

    #[test]
    fn the_price_is_that_of_the_mint_that_was_paid_or_else_the_dearest() {
        let per_step = vec![(mint("a"), Sats(1)), (mint("b"), Sats(3)), (mint("c"), Sats(2))];
        let (venue, strangers) = ("hall".to_owned(), Vec::new());
        let price = VenuePrice { venue, metric: Metric::Bytes, step: Allotment(1), per_step, strangers };
        assert_eq!(price.at(Some(&mint("a"))), Some((Some(mint("a")), Sats(1))));
        assert_eq!(price.at(Some(&mint("x"))), Some((Some(mint("x")), Sats(3))));
        assert_eq!(price.at(None), Some((None, Sats(3))));
        assert_eq!(VenuePrice { per_step: Vec::new(), ..price }.at(None), None);
    }
}
