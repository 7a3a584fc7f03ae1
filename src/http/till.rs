//! The portal's page for paying with a card, and its form.

use super::answer::{self, Answer};
use super::entrance::Visit;
use super::offers::{chosen, refused_purchase, stock};
use super::refusals::open_shop;
use super::route::Answering;
use super::sent::Sent;
use super::show::show;
use super::Edge;
use crate::ecash::GUEST_PATIENCE;
use crate::portal::{self, Asking, Notice, Pay, PayWithCard, Quantity, State};
use crate::sale::invoice::Request;
use crate::sale::till::{Purchase, Sold};
use crate::sale::{Limit, SaleError};
use crate::shop::Site;
use crate::units::Millis;
use hyper::StatusCode;
use std::sync::Arc;

/// If a card takes longer, the page says so.
const SLOW: Millis = Millis::from_secs(5);

/// `?way=card`, with `r` for an invoice that is open, or `shown` for the card that was shown last.
pub async fn page(site: &Arc<Site>, visit: &Visit) -> Answer {
    let open = open_request(site, visit).await;
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

/// `POST /card`: shows the card whose link is in the form.
pub fn pay(edge: Arc<Edge>, visit: Visit, sent: Sent) -> Answering {
    Box::pin(async move {
        match sent.text().await {
            Ok(form) => paid(&edge.site, &visit.with_form(&form)).await,
            Err(unread) => {
                let mut page = ended(&edge.site, &visit, None, Err(SaleError::NoLink));
                *page.status_mut() = unread.status();
                page
            }
        }
    })
}

async fn paid(site: &Arc<Site>, visit: &Visit) -> Answer {
    let lang = visit.lang();
    let open = match visit.filled("r") {
        Some(_) => match open_request(site, visit).await {
            Some(request) => Some(request),
            // It has ended, or is paid: its page says so.
            None => return answer::redirect(StatusCode::SEE_OTHER, &portal::location(None, lang)),
        },
        None => None,
    };
    let sold = async {
        let shop = open_shop(site)?;
        let part = open.as_ref().and_then(|request| request.parts().first());
        let purchase = match part {
            Some(part) => Purchase { mint: part.mint.clone(), amount: part.amount },
            None => chosen(visit).map(|part| Purchase { mint: part.mint, amount: part.amount })?,
        };
        let link = visit.get("link").unwrap_or_default();
        shop.till.sell(&visit.caller, &visit.venue, purchase, link).await
    };
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
    let lang = visit.lang();
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
        why => return refused_purchase(site, visit, why, None),
    };
    form(site, visit, status, open, Some(notice))
}

/// The request of this guest that `r` names, where it can still be paid.
async fn open_request(site: &Site, visit: &Visit) -> Option<Arc<Request>> {
    let shop = site.shop.as_ref().ok()?;
    let id = visit.filled("r")?.parse().ok()?;
    let request = shop.invoices.glance(visit.caller.mac, &id).await.ok()?;
    let can_be_paid = request.is_payable(shop.store.now()) && request.parts().len() == 1;
    Some(request).filter(|_| can_be_paid)
}

fn form(
    site: &Site,
    visit: &Visit,
    status: StatusCode,
    open: Option<&Request>,
    notice: Option<Notice>,
) -> Answer {
    let stock = stock(site, visit);
    let offer = stock.offer(stock.notices().into_iter().chain(notice).collect(), None);
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
