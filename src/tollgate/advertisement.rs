//! `GET /`: what is sold here and for whose money (kind 10021), or why nothing can be (kind 21023).

use super::event::{tag, Tags};
use super::notice::{self, TollGateNotice};
use super::{Reply, TollGate};
use crate::config::{Config, MintConfig, Venue};

const KIND: u32 = 10021;

impl TollGate {
    /// The venue's offer: every accepted mint that is there. Calls no mint; 200 even where nothing is sold, as
    /// clients look at the kind.
    pub fn advertisement(&self, config: &Config, venue: &Venue) -> Reply {
        let mints = &self.0.mints;
        let there: Vec<&MintConfig> =
            config.mints_of(venue).filter(|m| mints.seems_reachable(&m.url)).collect();
        if there.is_empty() {
            let message = "TollGate is initializing. No reachable mints detected. Service will auto-recover.";
            return self.in_place_of_an_offer(venue, TollGateNotice::new("no-reachable-mints", 200, message));
        }
        if let Err(why) = self.0.terms.may_sell(venue.metric) {
            return self
                .in_place_of_an_offer(venue, TollGateNotice { status: 200, ..TollGateNotice::from(&why) });
        }
        let steps = venue.steps_as_one(config.mints_of(venue));
        Reply::event(200, self.sign_once(&venue.id, KIND, tags(venue, &there, steps), ""))
    }

    fn in_place_of_an_offer(&self, venue: &Venue, why: TollGateNotice) -> Reply {
        Reply::event(200, self.sign_once(&venue.id, notice::KIND, why.tags(None), &why.message))
    }
}

/// All text, and six elements for each mint: the reference's own client takes nothing else. `steps` steps are offered as
/// one, which is also the least: existing portals show a wrong price where the least is above 1.
fn tags(venue: &Venue, mints: &[&MintConfig], steps: u64) -> Tags {
    let mut tags = vec![
        tag(["metric", venue.metric.as_str()]),
        tag(["step_size", &venue.step_size.saturating_mul(steps).to_string()]),
        tag(["tips", "1", "2"]),
    ];
    tags.extend(mints.iter().map(|mint| {
        let price = mint.price_per_step.0.saturating_mul(steps).to_string();
        tag(["price_per_step", "cashu", &price, mint.unit.as_str(), mint.url.as_str(), "1"])
    }));
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mint_has_its_price_in_six_strings_and_several_steps_are_offered_as_one_where_portals_need_it() {
        for (least, size, prices) in [("1", "1000", ["1", "2"]), ("3", "3000", ["3", "6"])] {
            let text = format!(
                "config tollgate 'main'\n\
                 config venue 'guest'\n\tlist device 'br-guest'\n\toption step_size '1000'\n\
                 config mint\n\toption url 'https://mint.example'\n\toption price_per_step '1'\n\
                 config mint\n\toption url 'https://Mint2.example/Bitcoin/'\n\toption price_per_step '2'\n\
                 \toption min_steps '{least}'\n"
            );
            let (config, _) = Config::from_uci(&text).unwrap();
            let venue = &config.venues[0];
            let expected = [
                vec!["metric", "milliseconds"],
                vec!["step_size", size],
                vec!["tips", "1", "2"],
                vec!["price_per_step", "cashu", prices[0], "sat", "https://mint.example", "1"],
                vec!["price_per_step", "cashu", prices[1], "sat", "https://mint2.example/Bitcoin", "1"],
            ];
            let mints: Vec<_> = config.mints_of(venue).collect();
            assert_eq!(tags(venue, &mints, venue.steps_as_one(mints.iter().copied())), expected);
        }
    }
}
