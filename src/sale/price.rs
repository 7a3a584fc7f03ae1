//! From money to steps to time or bytes.

use crate::config::{Config, Metric, MintConfig, Venue};
use crate::store::VenuePrice;
use crate::units::{Allotment, Sats};

/// What a venue sells for one mint's money: whole steps of its metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    pub metric: Metric,
    pub per_step: Sats,
    pub step: Allotment,
    pub min_steps: u64,
    pub max_steps: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    #[error("too little: the smallest purchase is {0} sat")]
    BelowMinimum(Sats),
    #[error("too much: the largest purchase is {0} sat")]
    AboveMaximum(Sats),
}

impl Price {
    pub fn of(venue: &Venue, mint: &MintConfig) -> Price {
        Price {
            metric: venue.metric,
            per_step: mint.price_per_step,
            step: Allotment(venue.step_size),
            min_steps: mint.min_steps.max(1),
            max_steps: venue.max_steps,
        }
    }

    /// What an amount buys. A remainder below a step buys nothing.
    pub fn allotment(&self, amount: Sats) -> Result<Allotment, PriceError> {
        let steps = amount.0.checked_div(self.per_step.0).unwrap_or(0);
        if steps < self.min_steps {
            return Err(PriceError::BelowMinimum(self.cost(self.min_steps)));
        }
        if steps > self.max_steps {
            return Err(PriceError::AboveMaximum(self.cost(self.max_steps)));
        }
        self.step.checked_mul(steps).ok_or(PriceError::AboveMaximum(self.cost(self.max_steps)))
    }

    /// What of `amount` an allotment has cost: all but the remainder that bought nothing. All of it if it was sold
    /// at another price.
    pub fn value(&self, amount: Sats, allotment: Allotment) -> Sats {
        let steps = amount.0.checked_div(self.per_step.0).unwrap_or(0);
        match self.step.checked_mul(steps) == Some(allotment) {
            true => self.cost(steps),
            false => amount,
        }
    }

    /// What a number of steps costs.
    pub fn cost(&self, steps: u64) -> Sats {
        Sats(self.per_step.0.saturating_mul(steps))
    }
}

/// What a venue sells a step of by each of its mints, to move value there.
pub fn price_list(config: &Config, venue: &Venue) -> VenuePrice {
    let own = config.tenant_of_venue(&venue.id);
    let strangers = config.venues.iter().filter(|other| config.tenant_of_venue(&other.id) != own);
    VenuePrice {
        venue: venue.id.clone(),
        metric: venue.metric,
        step: Allotment(venue.step_size),
        per_step: config.mints_of(venue).map(|mint| (mint.url.clone(), mint.price_per_step)).collect(),
        strangers: strangers.map(|other| other.id.clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICE: Price = Price {
        metric: Metric::Milliseconds,
        per_step: Sats(3),
        step: Allotment(60_000),
        min_steps: 2,
        max_steps: 10,
    };

    #[test]
    fn whole_steps_are_sold_and_a_remainder_buys_nothing() {
        assert_eq!(PRICE.allotment(Sats(6)), Ok(Allotment(120_000)));
        assert_eq!(PRICE.allotment(Sats(8)), Ok(Allotment(120_000)));
        assert_eq!(PRICE.allotment(Sats(30)), Ok(Allotment(600_000)));
    }

    #[test]
    fn amounts_outside_the_limits_are_refused_with_the_limit() {
        assert_eq!(PRICE.allotment(Sats(5)), Err(PriceError::BelowMinimum(Sats(6))));
        assert_eq!(PRICE.allotment(Sats(0)), Err(PriceError::BelowMinimum(Sats(6))));
        assert_eq!(PRICE.allotment(Sats(33)), Err(PriceError::AboveMaximum(Sats(30))));
        assert_eq!(PRICE.allotment(Sats(u64::MAX)), Err(PriceError::AboveMaximum(Sats(30))));
    }

    #[test]
    fn a_remainder_has_no_value_and_another_price_is_not_guessed() {
        assert_eq!(PRICE.value(Sats(8), Allotment(120_000)), Sats(6));
        assert_eq!(PRICE.value(Sats(6), Allotment(120_000)), Sats(6));
        assert_eq!(PRICE.value(Sats(8), Allotment(240_000)), Sats(8));
    }

    #[test]
    fn what_was_paid_at_another_tenants_venue_has_no_value() {
        let venues =
            ["bar", "hall", "yard"].map(|name| format!("config venue '{name}'\n\tlist device '{name}0'\n"));
        let club = "config tenant 'club'\n\tlist venue 'bar'\n\tlist venue 'hall'\n";
        let text = format!("config tollgate 'main'\n{}", venues.concat());
        for (tenants, strangers) in [("", ["", "", ""]), (club, ["yard", "yard", "bar hall"])] {
            let config = Config::from_uci(&format!("{text}{tenants}")).unwrap().0;
            let found = config.venues.iter().map(|venue| price_list(&config, venue).strangers.join(" "));
            assert_eq!(found.collect::<Vec<_>>(), strangers);
        }
    }

    #[test]
    fn the_largest_configurable_numbers_do_not_overflow() {
        let price = Price {
            per_step: Sats(1),
            step: Allotment(u64::MAX),
            min_steps: 1,
            max_steps: u64::MAX,
            ..PRICE
        };
        assert!(price.allotment(Sats(2)).is_err());
    }
}
