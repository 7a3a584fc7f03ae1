//! What a code that was made for time, bytes or sats is worth at a venue.

use super::Price;
use crate::config::{Config, Metric, MintUrl, Venue};
use crate::mac::MacAddr;
use crate::store::{CodeWorth, NewGrant, Reference};
use crate::units::{Allotment, Sats};

pub(super) struct CodeValue {
    pub allotment: Allotment,
    /// What that costs there; zero if it was given away as time or bytes.
    value: Sats,
    mint: Option<MintUrl>,
}

impl CodeValue {
    /// `None`: the venue does not sell it.
    pub fn at(config: &Config, venue: &Venue, worth: CodeWorth) -> Option<CodeValue> {
        let given = |allotment| CodeValue { allotment, value: Sats(0), mint: None };
        match (worth, venue.metric) {
            (CodeWorth::Seconds(seconds), Metric::Milliseconds) => {
                seconds.checked_mul(1000).map(|millis| given(Allotment(millis)))
            }
            (CodeWorth::Bytes(bytes), Metric::Bytes) => Some(given(Allotment(bytes))),
            (CodeWorth::Sats(sats), _) => {
                let mint = config.mints_of(venue).next()?;
                let price = Price::of(venue, mint);
                let steps = sats.checked_div(price.per_step.0).filter(|steps| *steps > 0)?;
                let (allotment, value) = (price.step.checked_mul(steps)?, price.cost(steps));
                Some(CodeValue { allotment, value, mint: Some(mint.url.clone()) })
            }
            _ => None,
        }
    }

    /// No sale: nothing was paid here.
    pub fn grant(self, reference: Reference, mac: MacAddr, venue: &Venue) -> NewGrant {
        NewGrant {
            reference,
            mac,
            venue: venue.id.clone(),
            amount: Sats(0).into(),
            metric: venue.metric,
            allotment: self.allotment,
            value: self.value.into(),
            mint: self.mint,
        }
    }
}

/// Whether a venue sells what a code is worth.
pub fn buys(config: &Config, venue: &Venue, worth: CodeWorth) -> bool {
    CodeValue::at(config, venue, worth).is_some()
}

/// What it costs there to buy as much; zero if no mint has a price.
pub fn price_of(config: &Config, venue: &Venue, worth: CodeWorth) -> Sats {
    let Some(mint) = config.mints_of(venue).next() else { return Sats(0) };
    let price = Price::of(venue, mint);
    let amount = match worth {
        CodeWorth::Sats(sats) => return Sats(sats),
        CodeWorth::Seconds(seconds) => seconds.saturating_mul(1000),
        CodeWorth::Bytes(bytes) => bytes,
    };
    price.cost(amount.div_ceil(price.step.0.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sats_are_worth_the_steps_that_they_buy() {
        let text = "config tollgate 'main'\nconfig venue 'v'\n\tlist device 'br-guest'\n\toption step_size '60000'\n\
                    config mint\n\toption url 'https://m.example'\n\toption price_per_step '3'\n";
        let config = Config::from_uci(text).unwrap().0;
        let at = |worth| {
            CodeValue::at(&config, &config.venues[0], worth).map(|value| (value.allotment.0, value.value.0))
        };
        assert_eq!(at(CodeWorth::Sats(2)), None);
        assert_eq!(at(CodeWorth::Sats(8)), Some((120_000, 6)));
        assert_eq!(at(CodeWorth::Sats(u64::MAX)), None);
        assert_eq!(at(CodeWorth::Seconds(90)), Some((90_000, 0)));
        assert_eq!(at(CodeWorth::Seconds(u64::MAX)), None);
        assert_eq!(at(CodeWorth::Bytes(1)), None);
    }
}
