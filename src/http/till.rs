//! The portal's page for paying with a card, and its form.

use super::answer::{self, Answer};
use super::pages::{chosen, refused_purchase, show, OfferFacts};
use super::routes::{open_shop, Visit};
use crate::ecash::GUEST_PATIENCE;
use crate::mint_proxy::{Code, ProxyError};
use crate::portal::{self, Asking, Lang, Notice, Pay, PayWithCard, Quantity, State};
use crate::sale::invoice::Request;
use crate::sale::till::{Purchase, Sold};
use crate::sale::{Limit, SaleError};
use crate::shop::Site;
use crate::units::Millis;
use hyper::StatusCode;
use std::sync::Arc;

/// A card that takes longer is said to.
const SLOW: Millis = Millis::from_secs(5);

/// `?way=card`, with `r` for an invoice that is open, or `shown` for the card that was shown last.
pub async fn page(site: &Arc<Site>, visit: &Visit) -> Answer {
    let open = open_request(site, visit).await.ok();
    let shop = site.shop.as_ref().ok().filter(|_| visit.get("shown").is_some());
    match shop.and_then(|shop| Some((shop, shop.till.latest(visit.caller.mac)?))) {
        Some((_, (_, Some(outcome)))) => ended(site, visit, open.as_deref(), outcome),
        Some((shop, (since, None))) => {
            let is_slow = shop.store.now().saturating_sub(since) > SLOW;
            show(visit, StatusCode::OK, State::Asking(Asking { request_id: None, is_slow }))
        }
        None => form(site, visit, StatusCode::OK, open.as_deref(), None),
    }
}

/// `POST /card`, with the form as the query of the visit.
pub async fn pay(site: &Arc<Site>, visit: &Visit) -> Answer {
    let lang = visit.filled("lang").and_then(Lang::from_tag);
    let open = match visit.filled("r") {
        Some(_) => match open_request(site, visit).await {
            Ok(request) => Some(request),
            // It has ended, or is paid: its page says so.
            Err(_) => return answer::redirect(StatusCode::SEE_OTHER, &portal::location(None, lang)),
        },
        None => None,
    };
    let shop = match open_shop(site) {
        Ok(shop) => shop,
        Err(error) => return refused_purchase(site, visit, &error),
    };
    let part = open.as_ref().and_then(|request| request.parts().first());
    let purchase = match part {
        Some(part) => Purchase { mint: part.mint.clone(), amount: part.amount },
        None => match chosen(visit) {
            Ok(part) => Purchase { mint: part.mint, amount: part.amount },
            Err(error) => return refused_purchase(site, visit, &error),
        },
    };
    let link = visit.get("link").unwrap_or_default();
    let sold = shop.till.sell(&visit.caller, &visit.venue, purchase, link);
    match tokio::time::timeout(GUEST_PATIENCE, sold).await {
        Ok(outcome) => ended(site, visit, open.as_deref(), outcome),
        Err(_) => answer::redirect(StatusCode::SEE_OTHER, &portal::shown_card_location(lang)),
    }
}

/// What a guest is shown whose card has paid, or has not.
fn ended(
    site: &Arc<Site>,
    visit: &Visit,
    open: Option<&Request>,
    outcome: Result<Sold, SaleError>,
) -> Answer {
    let lang = visit.filled("lang").and_then(Lang::from_tag);
    let why = match outcome {
        Ok(Sold::Here) => return answer::redirect(StatusCode::SEE_OTHER, &portal::location(None, lang)),
        Ok(Sold::Given(id)) => {
            return answer::redirect(StatusCode::SEE_OTHER, &portal::location(Some(id.as_str()), lang))
        }
        Err(why) => why,
    };
    let (status, notice) = match &why {
        SaleError::NoLink => (StatusCode::BAD_REQUEST, Notice::CardUnreadable),
        SaleError::Onion => (StatusCode::BAD_REQUEST, Notice::CardOnion),
        SaleError::TooMany(Limit::Cards) => (StatusCode::TOO_MANY_REQUESTS, Notice::CardBusy),
        SaleError::LinkUsed => (StatusCode::CONFLICT, Notice::CardUsed),
        SaleError::CardAmount { least, most } => {
            (StatusCode::BAD_REQUEST, Notice::CardAmount { least: *least, most: *most })
        }
        SaleError::CardSays(reason) => (StatusCode::BAD_GATEWAY, Notice::CardSaid { reason }),
        SaleError::IssuerAway => (StatusCode::BAD_GATEWAY, Notice::CardUnreachable),
        _ => return refused_purchase(site, visit, &why.into()),
    };
    form(site, visit, status, open, Some(notice))
}

/// The request of this guest that `r` names, where it can still be paid.
async fn open_request(site: &Site, visit: &Visit) -> Result<Arc<Request>, ProxyError> {
    let unknown = || ProxyError::new(Code::RequestNotFound, "no such request");
    let shop = open_shop(site)?;
    let id = visit.filled("r").and_then(|id| id.parse().ok()).ok_or_else(unknown)?;
    let request = shop.invoices.glance(visit.caller.mac, &id).await?;
    let can_be_paid = request.is_payable(shop.store.now()) && request.parts().len() == 1;
    Some(request).filter(|_| can_be_paid).ok_or_else(unknown)
}

fn form(
    site: &Site,
    visit: &Visit,
    status: StatusCode,
    open: Option<&Request>,
    notice: Option<Notice>,
) -> Answer {
    let facts = OfferFacts::gather(site, visit);
    let mut notices = facts.notices();
    notices.extend(notice);
    let mints = facts.mints();
    let offer = facts.offer(visit, &mints, &notices, None);
    let open = open.and_then(|request| {
        let part = request.parts().first()?;
        Some(Pay {
            request_id: request.id.as_str(),
            invoice: &part.invoice,
            amount: part.amount,
            buys: Quantity { metric: part.metric, amount: part.allotment },
            expires_in: Millis::ZERO,
            online: false,
            by_card: false,
            grace: None,
        })
    });
    show(visit, status, State::PayWithCard(PayWithCard { offer, open }))
}
