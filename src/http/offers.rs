//! What a guest may buy, as the portal's pages offer it, and what a form has chosen of it.

use super::answer::Answer;
use super::entrance::Visit;
use super::refusals::{open_shop, status_of};
use super::show::{cannot_sell, show};
use crate::config::MintUrl;
use crate::portal::{MpesaOffer, Notice, OfferedMint, OfferedPrice, Quantity, State, Stock, StockedMint};
use crate::sale::invoice::AskPart;
use crate::sale::{Price, SaleError};
use crate::shop::Site;
use crate::store::RequestId;
use crate::units::Allotment;

/// What is sold at the venue of this guest.
pub fn stock<'a>(site: &Site, visit: &'a Visit) -> Stock<'a> {
    let venue = &visit.venue;
    let may_sell = open_shop(site).and_then(|shop| shop.terms.may_sell(venue.metric));
    let closed = may_sell.err().and_then(|why| why.closed_code());
    let mints = visit.config.mints_of(venue).map(|mint| {
        let price = Price::of(venue, mint);
        let (price_per_step, min_steps) = (price.per_step, price.min_steps);
        let mint_offered = OfferedMint { url: mint.url.as_str(), price_per_step, min_steps };
        StockedMint { mint: mint_offered, seems_reachable: site.mints.seems_reachable(&mint.url) }
    });
    let step = Quantity { metric: venue.metric, amount: Allotment(venue.step_size) };
    let has_login = visit.config.auth.is_some();
    let (max_steps, mints, mpesa) = (venue.max_steps, mints.collect(), mpesa_offer(visit));
    Stock { step, max_steps, mints, closed, has_login, mpesa }
}

/// What is sold for shillings at the venue of this guest.
pub fn mpesa_offer(visit: &Visit) -> Option<MpesaOffer<'_>> {
    let knows_receipts = visit.config.mpesa.as_ref()?.knows_receipts();
    let prices = visit.config.prices_of(&visit.venue);
    let prices: Vec<_> =
        prices.map(|price| OfferedPrice { id: &price.id, name: &price.name, amount: price.amount }).collect();
    (!prices.is_empty()).then_some(MpesaOffer { prices, phone: "", knows_receipts })
}

/// The mint and the amount that a form names.
pub fn chosen(visit: &Visit) -> Result<AskPart, SaleError> {
    let steps = visit.filled("steps").and_then(|steps| steps.trim().parse().ok());
    let mint = match visit.filled("mint") {
        Some(url) => MintUrl::parse(url).ok().and_then(|url| visit.config.mint_for(&visit.venue, &url)),
        None => visit.config.mints_of(&visit.venue).next(),
    };
    let steps: u64 = steps.ok_or(SaleError::NoAmount)?;
    let mint = mint.ok_or(SaleError::MintNotAccepted)?;
    Ok(AskPart { mint: mint.url.clone(), amount: Price::of(&visit.venue, mint).cost(steps) })
}

/// What cannot be bought is said above the choice, so that another amount or mint is one tap away. `request` is the one
/// that has come to nothing.
pub fn refused_purchase(
    site: &Site,
    visit: &Visit,
    error: &SaleError,
    request: Option<&RequestId>,
) -> Answer {
    let status = status_of(error.into());
    let stock = stock(site, visit);
    let notice = match error {
        SaleError::NoAmount | SaleError::Price { .. } | SaleError::TooMuchTogether | SaleError::NotIssued => {
            stock.limits()
        }
        SaleError::TooMany(_) => Notice::RateLimited,
        SaleError::Clash => Notice::AddressClash,
        _ => return show(visit, status, cannot_sell(error, request.map(RequestId::as_str))),
    };
    let shop = site.shop.as_ref().ok();
    let unpaid = shop.and_then(|shop| shop.invoices.unfinished_access(visit.caller.mac, &visit.venue.id));
    let notices = [notice].into_iter().chain(stock.notices()).collect();
    show(
        visit,
        status,
        State::Choose(stock.offer(notices, unpaid.as_ref().map(|request| request.id.as_str()))),
    )
}
