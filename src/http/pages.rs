//! The portal's page: which state of it a guest is shown, from the facts of the other rooms.

use super::answer::{self, Answer};
use super::entrance::Visit;
use super::offers::{chosen, refused_purchase, OfferFacts};
use super::origin::is_asked_by_address;
use super::refusals::open_shop;
use super::route::Answering;
use super::sent::Sent;
use super::show::{cannot_sell, show};
use super::{ecash, till, ways, Edge};
use crate::access::Session;
use crate::form::pairs;
use crate::portal::{
    self, Asking, Kept, Notice, Offer, Online, Paid, PaidStep, Pay, Quantity, State, Waiting,
};
use crate::sale::invoice::{Ask, Code, Progress, Request};
use crate::shop::{Shop, Site};
use crate::units::Millis;
use hyper::StatusCode;
use std::sync::Arc;
use std::time::Duration;

/// A step that takes longer says what it waits for.
const PATIENCE: Millis = Millis::from_secs(5);
/// How long the form waits for its invoice; then the page says what is going on, and follows it.
const FORM_PATIENCE: Duration = Duration::from_secs(3);

/// `GET /`: the page that the query names, else the state of `?r=`, else that of the MAC alone.
pub fn portal(edge: Arc<Edge>, visit: Visit, _: Sent) -> Answering {
    Box::pin(async move {
        let site = &edge.site;
        let shop = match open_shop(site) {
            Ok(shop) => shop,
            Err(error) => return show(&visit, StatusCode::OK, cannot_sell(&error, None)),
        };
        if visit.get("way") == Some("card") {
            return till::page(site, &visit).await;
        }
        if let Some(id) = visit.get("token") {
            return ecash::receipt(site, shop, &visit, id).await;
        }
        match ways::way(&visit) {
            Some("ecash") => ecash::page(site, &visit),
            Some(way) => match ways::page(shop, &visit, way) {
                Some(page) => page,
                None => home(site, shop, &visit).await,
            },
            None => home(site, shop, &visit).await,
        }
    })
}

async fn home(site: &Arc<Site>, shop: &Shop, visit: &Visit) -> Answer {
    let session = shop.access.session(visit.caller.mac, &visit.venue.id);
    let online = session.as_ref().filter(|session| session.is_running());
    let choosing = visit.get("choose").is_some();
    let asked_for = match visit.get("r").and_then(|id| id.parse().ok()) {
        Some(id) => match shop.mint_proxy.glance(visit.caller.mac, &id).await {
            // Another mint was faster.
            Ok(request) if request.id != id && !choosing => {
                let there = portal::location(Some(request.id.as_str()), visit.lang());
                return answer::redirect(StatusCode::SEE_OTHER, &there);
            }
            Ok(request) => Some(request),
            Err(error) if error.code == Code::RequestNotFound || choosing => None,
            Err(error) => return refused_purchase(site, visit, &error),
        },
        None => None,
    };
    let unfinished = || shop.mint_proxy.unfinished_access(visit.caller.mac, &visit.venue.id);
    let request = match asked_for {
        Some(request) if choosing && (request.is_asking() || request.is_payable(shop.store.now())) => None,
        Some(request) => Some(request),
        None if choosing => None,
        None if online.is_some() => unfinished().filter(|request| !request.is_payable(shop.store.now())),
        None => unfinished(),
    };
    // Who was choosing another amount while this one was paid has nothing left to choose.
    let choosing = choosing && request.is_none();
    if let Some(request) = &request {
        if let Some(answer) = show_request(site, visit, request, online) {
            return answer;
        }
    }
    let unpaid = unfinished().map(|request| request.id.to_string());
    let is_late = shop.mint_proxy.page_is_open(visit.caller.mac);
    let expired = request.filter(|request| {
        request
            .parts()
            .iter()
            .all(|part| part.progress() == Progress::Expired || part.due <= shop.store.now())
    });
    if trusted(visit) {
        return show(
            visit,
            StatusCode::OK,
            State::Online(Online { left: None, offer: None, kept: Kept::No }),
        );
    }
    let ticket = shop.access.ticket(visit.caller.mac).map(|ticket| ticket.to_string());
    let kept = match (is_asked_by_address(&visit.headers, visit.asked_at()), &ticket) {
        (false, _) => Kept::No,
        (true, Some(ticket)) => Kept::Shown(ticket),
        (true, None) => Kept::Unknown,
    };
    let offer = OfferFacts::gather(site, visit);
    let mut notices = offer.notices();
    if let (Some(request), None) = (&expired, online) {
        notices.insert(0, Notice::InvoiceExpired { request_id: request.id.as_str() });
    }
    let mints = offer.mints();
    let offer = Offer { is_late, ..offer.offer(&mints, &notices, unpaid.as_deref()) };
    let state = match (online, session.is_some()) {
        (Some(session), _) if !choosing => {
            let left = Quantity { metric: session.metric, amount: session.remaining };
            State::Online(Online { left: Some(left), offer: Some(offer), kept })
        }
        (None, true) if !choosing && expired.is_none() => State::Ended(offer),
        _ => State::Choose(offer),
    };
    show(visit, StatusCode::OK, state)
}

/// `POST /pay`: opens the request and sends the browser to its page.
pub fn pay(edge: Arc<Edge>, visit: Visit, sent: Sent) -> Answering {
    Box::pin(async move {
        match sent.text().await {
            Ok(form) => paid(&edge.site, &Visit { query: pairs(&form), ..visit }).await,
            Err(answer) => answer,
        }
    })
}

async fn paid(site: &Arc<Site>, visit: &Visit) -> Answer {
    let opened = async {
        let shop = open_shop(site)?;
        let ask = Ask { parts: vec![chosen(visit)?], apply: true };
        let begun = shop.mint_proxy.begin(&visit.caller, &visit.venue, ask)?;
        let id = begun.request.id.clone();
        match tokio::time::timeout(FORM_PATIENCE, shop.mint_proxy.opened(begun)).await {
            Ok(opened) => Ok(opened?.request.id.clone()),
            Err(_) => Ok(id),
        }
    };
    match opened.await {
        Ok(id) => {
            let there = portal::location(Some(id.as_str()), visit.lang());
            answer::redirect(StatusCode::SEE_OTHER, &there)
        }
        Err(error) => refused_purchase(site, visit, &error),
    }
}

/// The page of a request, unless the offer or the session says more.
fn show_request(
    site: &Site,
    visit: &Visit,
    request: &Arc<Request>,
    online: Option<&Session>,
) -> Option<Answer> {
    let shop = site.shop.as_ref().ok()?;
    let now = shop.store.now();
    let id = request.id.as_str();
    if request.is_asking() {
        let is_slow = now.saturating_sub(request.created) > PATIENCE;
        return Some(show(visit, StatusCode::OK, State::Asking(Asking { request_id: Some(id), is_slow })));
    }
    let part = request.parts().first()?;
    let waited = now.saturating_sub(part.since());
    let (metric, amount) = request.allotment();
    let buys = Quantity { metric, amount };
    let paid = |done, waiting| {
        let waiting = (waited > PATIENCE).then_some(waiting);
        State::Paid(Paid { request_id: id, amount: request.amount(), buys, done, waiting })
    };
    let state = match part.progress() {
        Progress::Unpaid if part.due > now => State::Pay(Pay {
            request_id: id,
            invoice: &part.invoice,
            amount: part.amount,
            buys: Quantity { metric: part.metric, amount: part.allotment },
            expires_in: part.due.saturating_sub(now),
            online: online.is_some(),
            by_card: shop.till.waits_for(&request.id),
            grace: shop.access.grace(visit.caller.mac, &visit.venue.id),
        }),
        Progress::Paid => paid(PaidStep::Received, Waiting::Mint),
        Progress::Granted { online: false } => paid(PaidStep::Claimed, Waiting::Gate),
        Progress::Granted { online: true }
        | Progress::Unpaid
        | Progress::Overdue
        | Progress::Expired
        | Progress::Tokens(_) => return None,
    };
    Some(show(visit, StatusCode::OK, state))
}

fn trusted(visit: &Visit) -> bool {
    visit.venue.trusted_macs.contains(&visit.caller.mac)
}
