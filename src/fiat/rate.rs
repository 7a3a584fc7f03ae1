//! How many shillings a bitcoin is, and what an amount of the one is in the other. Whole numbers, rounded down once, at the
//! end, in the house's favour.
//!
//! Refused: a value that is too old, outside of the bounds, or too far from the last good one. Then there is no rate: no
//! other value takes its place.

use crate::calls::{in_time, request, Connection, Destination, NoAnswer, Tls};
use crate::config::{Config, RateConfig, RateSource, BASIS_POINTS};
use crate::store::Store;
use crate::units::{Kes, Msats};
use http_body_util::Full;
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Millisatoshis.
const ONE_BTC: u128 = 100_000_000_000;
const ONE_SAT: u128 = 1000;
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 256 * 1024;
/// How often a feed is asked, at most and at least.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(60);
/// After a day without a good value the next one may be as much farther away, and so on: a router that was off for long
/// finds its way back.
const DAY: u64 = 86_400;

/// Shillings for a bitcoin, and what customers pay more or get less (hundredths of a percent): as an order keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    pub rate: u64,
    pub spread_bp: u64,
}

impl Quote {
    /// What is given for this many shillings. `None` if that is more than there can be.
    pub fn bought_with(self, paid: Kes) -> Option<Msats> {
        let numerator = u128::from(paid.0).checked_mul(ONE_BTC)?.checked_mul(self.kept()?)?;
        let msats = numerator.checked_div(u128::from(BASIS_POINTS).checked_mul(u128::from(self.rate))?)?;
        u64::try_from(msats).ok().map(Msats)
    }

    /// Whole shillings that are paid for this many millisatoshis.
    pub fn paid_for(self, sold: Msats) -> Option<Kes> {
        let numerator = u128::from(sold.0).checked_mul(u128::from(self.rate))?.checked_mul(self.kept()?)?;
        let kes = numerator.checked_div(u128::from(BASIS_POINTS).checked_mul(ONE_BTC)?)?;
        u64::try_from(kes).ok().map(Kes)
    }

    /// The fewest whole satoshis for which this many shillings are paid.
    pub fn cost_of(self, paid: Kes) -> Option<Msats> {
        let numerator = u128::from(paid.0).checked_mul(ONE_BTC)?.checked_mul(u128::from(BASIS_POINTS))?;
        let per_sat = u128::from(self.rate).checked_mul(self.kept()?)?.checked_mul(ONE_SAT)?;
        let sats = numerator.checked_add(per_sat.checked_sub(1)?)?.checked_div(per_sat)?;
        u64::try_from(sats.checked_mul(ONE_SAT)?).ok().map(Msats)
    }

    fn kept(self) -> Option<u128> {
        BASIS_POINTS.checked_sub(self.spread_bp).map(u128::from)
    }
}

/// There is no rate now, and why; for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no rate that can be used: {0}")]
pub struct RateStale(String);

/// The rate of this moment.
#[derive(Clone)]
pub struct Rates(Arc<Shared>);

struct Shared {
    config: watch::Receiver<Arc<Config>>,
    tls: Tls,
    store: Store,
    feed: Mutex<Feed>,
    /// One asks at a time.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Feed {
    /// What it was asked by.
    source: Option<RateSource>,
    good: Option<(u64, Instant)>,
    asked: Option<Instant>,
    trouble: String,
}

impl Rates {
    pub fn new(config: watch::Receiver<Arc<Config>>, tls: Tls, store: Store) -> Rates {
        let (feed, asking) = Default::default();
        Rates(Arc::new(Shared { config, tls, store, feed, asking }))
    }

    /// For who buys with shillings.
    pub async fn buying(&self) -> Result<Quote, RateStale> {
        self.quote(|config| config.spread_buy_bp).await
    }

    /// For who sells for shillings.
    pub async fn selling(&self) -> Result<Quote, RateStale> {
        self.quote(|config| config.spread_sell_bp).await
    }

    /// Asks a feed when it is due, so that a value is there when somebody buys, and no step between two is long.
    pub async fn tend(&self) {
        if let Some(config) = self.config() {
            if let (RateSource::Feed { .. }, true) = (&config.source, self.is_due(&config)) {
                self.refresh(&config).await;
            }
        }
    }

    async fn quote(&self, spread: impl Fn(&RateConfig) -> u64) -> Result<Quote, RateStale> {
        let stale = |why: &str| RateStale(why.to_owned());
        let config = self.config().ok_or_else(|| stale("there is no section config rate"))?;
        let spread_bp = spread(&config);
        if let RateSource::Fixed(rate) = config.source {
            return Ok(Quote { rate, spread_bp });
        }
        if self.live(&config).is_none() && self.is_due(&config) {
            self.refresh(&config).await;
        }
        let rate = self.live(&config);
        rate.map(|rate| Quote { rate, spread_bp }).ok_or_else(|| match self.feed().trouble.as_str() {
            "" => stale("the feed was not asked yet"),
            trouble => stale(trouble),
        })
    }

    fn config(&self) -> Option<RateConfig> {
        self.0.config.borrow().rate.clone()
    }

    /// The last good value, if it is young enough and within the bounds of now.
    fn live(&self, config: &RateConfig) -> Option<u64> {
        let feed = self.feed();
        let (rate, since) = feed.good.filter(|_| feed.source.as_ref() == Some(&config.source))?;
        let is_young = since.elapsed() <= Duration::from_millis(config.max_age.0);
        (is_young && (config.min..=config.max).contains(&rate)).then_some(rate)
    }

    fn is_due(&self, config: &RateConfig) -> bool {
        let every = Duration::from_millis(config.max_age.0 / 3).clamp(SOONEST, LATEST);
        let feed = self.feed();
        feed.source.as_ref() != Some(&config.source)
            || feed.asked.is_none_or(|asked| asked.elapsed() >= every)
    }

    async fn refresh(&self, config: &RateConfig) {
        let _one = self.0.asking.lock().await;
        if !self.is_due(config) {
            return;
        }
        // While the clock is not set nothing is asked.
        if let Some(fault) = self.0.store.wall_fault() {
            self.feed().trouble = fault.to_string();
            return;
        }
        {
            let mut feed = self.feed();
            if feed.source.as_ref() != Some(&config.source) {
                *feed = Feed { source: Some(config.source.clone()), ..Feed::default() };
            }
            feed.asked = Some(Instant::now());
        }
        let found = self.ask(&config.source).await;
        let mut feed = self.feed();
        let taken = found.and_then(|rate| feed.accept(rate, config));
        match taken {
            Ok(()) => feed.trouble.clear(),
            Err(why) => {
                if feed.trouble != why {
                    log::warn!("the rate's feed: {why}");
                }
                feed.trouble = why;
            }
        }
    }

    async fn ask(&self, source: &RateSource) -> Result<u64, String> {
        let RateSource::Feed { url, path, pointer } = source else { return Err(String::new()) };
        let to = Destination::new(url.clone(), self.0.tls.clone());
        let asked = request(url, path).body(Full::default()).map_err(|err| err.to_string())?;
        let answered = async {
            let mut answer = Connection::over(to.open().await?).await?.send(asked, MAX_ANSWER).await?;
            let body = answer.all().await?;
            Ok((answer.status, body))
        };
        let (status, body) =
            in_time(TIMEOUT, answered).await.map_err(|none: NoAnswer| none.cause().to_owned())?;
        if status != 200 {
            return Err(format!("it answers {status}"));
        }
        let answer: Value = serde_json::from_slice(&body).map_err(|_| "its answer is no JSON".to_owned())?;
        answer
            .pointer(pointer)
            .and_then(whole)
            .ok_or_else(|| "its answer has no rate at the pointer".to_owned())
    }

    fn feed(&self) -> MutexGuard<'_, Feed> {
        self.0.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed {
    fn accept(&mut self, rate: u64, config: &RateConfig) -> Result<(), String> {
        if !(config.min..=config.max).contains(&rate) {
            return Err(format!("{rate} is outside of the bounds"));
        }
        if let Some((last, since)) = self.good {
            let days = (since.elapsed().as_secs() / DAY).saturating_add(1);
            let most = u128::from(last) * u128::from(config.max_jump_bp) * u128::from(days);
            if u128::from(rate.abs_diff(last)) * u128::from(BASIS_POINTS) > most {
                return Err(format!("{rate} is too far from {last}, the last good one"));
            }
        }
        self.good = Some((rate, Instant::now()));
        Ok(())
    }
}

/// Whole shillings, of a number or a text; what stands behind the point is left out.
fn whole(value: &Value) -> Option<u64> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    let (digits, rest) = text.split_once('.').unwrap_or((&text, ""));
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    (!digits.is_empty() && digits.len() <= 18 && is_number(digits) && is_number(rest)).then_some(())?;
    digits.parse().ok().filter(|rate| *rate > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Millis;

    fn quote(spread_bp: u64) -> Quote {
        Quote { rate: 13_000_000, spread_bp }
    }

    #[test]
    fn amounts_are_those_of_the_vectors() {
        assert_eq!(quote(0).bought_with(Kes(100)), Some(Msats(769_230)));
        assert_eq!(quote(200).bought_with(Kes(100)), Some(Msats(753_846)));
        assert_eq!(quote(200).bought_with(Kes(250_000)), Some(Msats(1_884_615_384)));
        assert_eq!(quote(0).paid_for(Msats(1_000_000)), Some(Kes(130)));
        assert_eq!(quote(200).paid_for(Msats(1_000_000)), Some(Kes(127)));
        assert_eq!(quote(200).paid_for(Msats(79_000)), Some(Kes(10)));
    }

    #[test]
    fn what_shillings_cost_is_the_least_that_pays_them() {
        assert_eq!(quote(200).cost_of(Kes(10)), Some(Msats(79_000)));
        assert_eq!(quote(0).cost_of(Kes(130)), Some(Msats(1_000_000)));
        for (kes, bp) in [(1, 0), (127, 200), (250_000, 137), (99_999, 4999)] {
            let cost = quote(bp).cost_of(Kes(kes)).unwrap();
            assert!(quote(bp).paid_for(cost).unwrap() >= Kes(kes), "{kes} {bp}");
            assert!(quote(bp).paid_for(Msats(cost.0 - 1000)).unwrap() < Kes(kes), "{kes} {bp}");
        }
    }

    #[test]
    fn the_largest_amounts_overflow_nothing() {
        for spread_bp in [0, 5000, BASIS_POINTS, BASIS_POINTS + 1] {
            let quote = Quote { rate: 1, spread_bp };
            let _ = (quote.bought_with(Kes(u64::MAX)), quote.paid_for(Msats(u64::MAX)));
            let _ = quote.cost_of(Kes(u64::MAX));
        }
        assert_eq!(Quote { rate: 0, spread_bp: 0 }.bought_with(Kes(1)), None);
        assert_eq!(Quote { rate: 0, spread_bp: 0 }.cost_of(Kes(1)), None);
    }

    #[test]
    fn a_rate_is_read_from_a_number_and_from_a_text() {
        let of = |text: &str| whole(&serde_json::from_str(text).unwrap());
        for good in ["13000000", "13000000.99", "\"13000000\"", "\" 13000000.5\"", "1.3e7"] {
            assert_eq!(of(good), Some(13_000_000), "{good}");
        }
        for bad in ["0", "-1", "\"\"", "\"13,000,000\"", "null", "[1]", "1e300", "\"0x10\"", "\"1e7\""] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_value_outside_of_the_bounds_or_too_far_from_the_last_is_refused_and_the_last_one_stays() {
        let config = RateConfig {
            source: RateSource::Fixed(1),
            max_age: Millis::from_secs(300),
            max_jump_bp: 500,
            min: 10_000_000,
            max: 20_000_000,
            spread_buy_bp: 0,
            spread_sell_bp: 0,
        };
        let mut feed = Feed::default();
        assert!(feed.accept(9_999_999, &config).is_err());
        assert!(feed.accept(13_000_000, &config).is_ok());
        assert!(feed.accept(13_650_001, &config).is_err() && feed.accept(12_349_999, &config).is_err());
        assert!(feed.accept(13_650_000, &config).is_ok());
        assert!(feed.accept(20_000_001, &config).is_err());
        assert_eq!(feed.good.unwrap().0, 13_650_000);
    }
}
