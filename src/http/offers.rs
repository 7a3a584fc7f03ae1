//! What a guest may buy, as the portal's pages offer it, and what a form has chosen of it.

use super::answer::Answer;
use super::entrance::Visit;
use super::refusals::status_of;
use super::show::{cannot_sell, show};
use crate::access::Price;
use crate::config::{MintUrl, Venue};
use crate::portal::{Notice, Offer, OfferedMint, Quantity, State};
use crate::sale::invoice::{AskPart, Code, ProxyError};
use crate::shop::Site;
use crate::units::{Allotment, Sats};

/// What is sold here and by which mints, as plain facts that the page borrows from.
pub struct OfferFacts {
    step: Quantity,
    max_steps: u64,
    mints: Vec<(String, Sats, u64, bool)>,
    /// Why the router could not honour a sale now.
    closed: Option<&'static str>,
}

impl OfferFacts {
    pub fn gather(site: &Site, visit: &Visit) -> OfferFacts {
        let venue = &visit.venue;
        let full = site.shop.as_ref().is_ok_and(|shop| !shop.store.room_for_sales());
        let closed = site.gate().cannot_sell(venue.metric).or(full.then_some("STORE_FULL"));
        let mints = visit
            .config
            .mints_of(venue)
            .map(|mint| {
                let price = Price::of(venue, mint);
                let reachable = site.mints.seems_reachable(&mint.url);
                (mint.url.to_string(), price.per_step, price.min_steps, reachable)
            })
            .collect();
        let step = Quantity { metric: venue.metric, amount: Allotment(venue.step_size) };
        OfferFacts { step, max_steps: venue.max_steps, mints, closed }
    }

    pub fn step(&self) -> Quantity {
        self.step
    }

    pub fn mints(&self) -> Vec<OfferedMint<'_>> {
        let reachable = self.mints.iter().filter(|(.., reachable)| *reachable && self.closed.is_none());
        reachable
            .map(|(url, price, min_steps, _)| OfferedMint {
                url,
                price_per_step: *price,
                min_steps: *min_steps,
            })
            .collect()
    }

    pub fn notices(&self) -> Vec<Notice<'_>> {
        if let Some(code) = self.closed {
            return vec![Notice::CannotSell { code }];
        }
        let mut notices = Vec::new();
        let away = || self.mints.iter().filter(|(.., reachable)| !reachable);
        if away().count() == self.mints.len() {
            notices.push(Notice::NoMint);
        } else {
            notices.extend(away().map(|(url, ..)| Notice::MintAway { url }));
        }
        notices
    }

    fn limits<'a>(&self, visit: &Visit) -> Notice<'a> {
        let least = self.mints.iter().map(|(_, _, min_steps, _)| *min_steps).min().unwrap_or(1);
        let Venue { metric, step_size, .. } = visit.venue;
        let steps = |steps: u64| Quantity { metric, amount: Allotment(step_size.saturating_mul(steps)) };
        Notice::AmountRefused { least: steps(least), most: steps(self.max_steps) }
    }

    pub fn offer<'a>(
        &self,
        mints: &'a [OfferedMint<'a>],
        notices: &'a [Notice<'a>],
        unpaid_request: Option<&'a str>,
    ) -> Offer<'a> {
        let (step, max_steps) = (self.step, self.max_steps);
        Offer { step, max_steps, mints, notices, unpaid_request, is_late: false }
    }
}

/// The mint and the amount that a form names.
pub fn chosen(visit: &Visit) -> Result<AskPart, ProxyError> {
    let refused = |message: &str| ProxyError::new(Code::InvalidMessage, message);
    let steps = visit.filled("steps").and_then(|steps| steps.trim().parse().ok());
    let mint = match visit.filled("mint") {
        Some(url) => MintUrl::parse(url).ok().and_then(|url| visit.config.mint_for(&visit.venue, &url)),
        None => visit.config.mints_of(&visit.venue).next(),
    };
    let steps: u64 = steps.ok_or_else(|| refused("how much?"))?;
    let mint = mint.ok_or_else(|| ProxyError::new(Code::InvalidMint, "this mint is not accepted here"))?;
    Ok(AskPart { mint: mint.url.clone(), amount: Price::of(&visit.venue, mint).cost(steps) })
}

/// What cannot be bought is said above the choice, so that another amount or mint is one tap away.
pub fn refused_purchase(site: &Site, visit: &Visit, error: &ProxyError) -> Answer {
    let status = status_of(error.code);
    let facts = OfferFacts::gather(site, visit);
    let mut notices = facts.notices();
    match error.code {
        Code::InvalidMessage => notices.insert(0, facts.limits(visit)),
        Code::RateLimited => notices.insert(0, Notice::RateLimited),
        Code::AddressClash => notices.insert(0, Notice::AddressClash),
        _ => return show(visit, status, cannot_sell(error, error.request.as_ref().map(|id| id.as_str()))),
    }
    let mints = facts.mints();
    let unpaid = site
        .shop
        .as_ref()
        .ok()
        .and_then(|shop| shop.mint_proxy.unfinished_access(visit.caller.mac, &visit.venue.id));
    let unpaid = unpaid.map(|request| request.id.to_string());
    show(visit, status, State::Choose(facts.offer(&mints, &notices, unpaid.as_deref())))
}
