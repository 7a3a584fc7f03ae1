//! Which state of the portal a guest is shown, from the facts of the other rooms.

use super::answer::{self, Answer};
use super::origin::{is_asked_by_address, AskedAt};
use super::routes::{open_shop, status_of, Visit};
use super::{till, ways};
use crate::access::Session;
use crate::config::{MintUrl, Venue};
use crate::mint_proxy::{Code, ProxyError};
use crate::portal::{
    self, Asking, Kept, Lang, Money, Notice, Offer, OfferedMint, Online, Page, Paid, PaidStep, Pay, Quantity,
    Reason, State, Trouble, Waiting,
};
use crate::sale::invoice::{Ask, AskPart, Progress, Request};
use crate::sale::Price;
use crate::shop::{Shop, Site};
use crate::store::RequestId;
use crate::units::{Allotment, Millis, Sats};
use hyper::header::{self, HeaderMap};
use hyper::StatusCode;
use std::sync::Arc;
use std::time::Duration;

/// A step that takes longer says what it waits for.
const PATIENCE: Millis = Millis::from_secs(5);
/// How long the form waits for its invoice; then the page says what is going on, and follows it.
const FORM_PATIENCE: Duration = Duration::from_secs(3);

/// `GET /`: the state comes from `?r=`, else from the MAC alone.
pub async fn portal(site: &Arc<Site>, visit: &Visit) -> Answer {
    let shop = match open_shop(site) {
        Ok(shop) => shop,
        Err(error) => return show(visit, StatusCode::OK, cannot_sell(&error, None)),
    };
    if visit.get("way") == Some("card") {
        return till::page(site, visit).await;
    }
    if let Some(page) = ways::page(site, shop, visit).await {
        return page;
    }
    let session = shop.access.session(visit.caller.mac, &visit.venue.id);
    let online = session.as_ref().filter(|session| session.is_running());
    let choosing = visit.get("choose").is_some();
    let asked_for = match visit.get("r").and_then(|id| id.parse().ok()) {
        Some(id) => match glance(shop, visit, &id).await {
            // Another mint was faster.
            Ok(request) if request.id != id && !choosing => {
                let lang = visit.get("lang").and_then(Lang::from_tag);
                let there = portal::location(Some(request.id.as_str()), lang);
                return answer::redirect(StatusCode::SEE_OTHER, &there);
            }
            Ok(request) => Some(request),
            Err(error) if error.code == Code::RequestNotFound || choosing => None,
            Err(error) => return refused_purchase(site, visit, &error),
        },
        None => None,
    };
    let unfinished = || shop.invoices.unfinished_access(visit.caller.mac, &visit.venue.id);
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
    let is_late = shop.invoices.page_is_open(visit.caller.mac);
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
    let offer = Offer { is_late, ..offer.offer(visit, &mints, &notices, unpaid.as_deref()) };
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

async fn glance(shop: &Shop, visit: &Visit, id: &RequestId) -> Result<Arc<Request>, ProxyError> {
    let found = shop.invoices.glance(visit.caller.mac, id).await;
    found.map_err(|error| ProxyError::from(error).about(id))
}

/// `POST /pay`, with the form as the query of the visit: opens the request and sends the browser to its page.
pub async fn pay(site: &Arc<Site>, visit: &Visit) -> Answer {
    let lang = visit.filled("lang").and_then(Lang::from_tag);
    let opened = async {
        let shop = open_shop(site)?;
        let ask = Ask { parts: vec![chosen(visit)?], apply: true };
        let begun = shop.invoices.begin(&visit.caller, &visit.venue, ask)?;
        let id = begun.request.id.clone();
        match tokio::time::timeout(FORM_PATIENCE, shop.invoices.opened(begun)).await {
            Ok(opened) => {
                let opened = opened.map_err(|error| ProxyError::from(error).about(&id))?;
                Ok(opened.request.id.clone())
            }
            Err(_) => Ok(id),
        }
    };
    match opened.await {
        Ok(id) => answer::redirect(StatusCode::SEE_OTHER, &portal::location(Some(id.as_str()), lang)),
        Err(error) => refused_purchase(site, visit, &error),
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
pub fn refused_purchase(site: &Arc<Site>, visit: &Visit, error: &ProxyError) -> Answer {
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
        .and_then(|shop| shop.invoices.unfinished_access(visit.caller.mac, &visit.venue.id));
    let unpaid = unpaid.map(|request| request.id.to_string());
    show(visit, status, State::Choose(facts.offer(visit, &mints, &notices, unpaid.as_deref())))
}

/// A device that is not in the neighbour table: it cannot be let in, so it is not asked to pay.
pub fn unknown_device(venue: &Venue, headers: &HeaderMap, query: &[(String, String)]) -> Answer {
    let state = State::Trouble(Trouble {
        request_id: None,
        reason: Reason::UnknownDevice,
        money: Money::NothingTaken,
        code: "unknown_device",
    });
    render(StatusCode::SERVICE_UNAVAILABLE, venue, headers, query, state)
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

pub fn cannot_sell<'a>(error: &'a ProxyError, request_id: Option<&'a str>) -> State<'a> {
    let reason = match error.code {
        Code::MintUnavailable | Code::InvalidMint => Reason::MintUnavailable,
        Code::InvoiceExpired => Reason::InvoiceExpired,
        Code::PaymentFailed => Reason::PaymentFailed,
        Code::TokenClaimFailed => Reason::ClaimFailed,
        Code::RequestNotFound => Reason::RequestNotFound,
        Code::RateLimited => Reason::RateLimited,
        Code::InvalidMessage => Reason::AmountRefused,
        Code::Closed(_) => Reason::CannotSell,
        Code::InternalError
        | Code::AddressClash
        | Code::InvalidTicket
        | Code::TicketInUse
        | Code::TooLittle => Reason::Internal,
    };
    let code = match error.code {
        Code::Closed(code) => code,
        // Enough of the id to find it in the log, and to be read out to somebody.
        _ => request_id.and_then(|id| id.get(..8)).unwrap_or(error.code.as_str()),
    };
    State::Trouble(Trouble { request_id: None, reason, money: Money::NothingTaken, code })
}

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
        _visit: &Visit,
        mints: &'a [OfferedMint<'a>],
        notices: &'a [Notice<'a>],
        unpaid_request: Option<&'a str>,
    ) -> Offer<'a> {
        let (step, max_steps) = (self.step, self.max_steps);
        Offer { step, max_steps, mints, notices, unpaid_request, is_late: false }
    }
}

fn trusted(visit: &Visit) -> bool {
    visit.venue.trusted_macs.contains(&visit.caller.mac)
}

pub fn show(visit: &Visit, status: StatusCode, state: State<'_>) -> Answer {
    render(status, &visit.venue, &visit.headers, &visit.query, state)
}

fn render(
    status: StatusCode,
    venue: &Venue,
    headers: &HeaderMap,
    query: &[(String, String)],
    state: State<'_>,
) -> Answer {
    let chosen = value(query, "lang").and_then(Lang::from_tag);
    let lang = chosen.unwrap_or_else(|| accepted_language(headers));
    let page = Page { venue: &venue.name, lang_chosen: chosen.is_some(), state };
    answer::html(status, portal::page(lang, &page))
}

fn accepted_language(headers: &HeaderMap) -> Lang {
    let accepts = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    Lang::from_accept_language(accepts.unwrap_or_default())
}

impl Visit {
    pub fn asked_at(&self) -> AskedAt<'_> {
        AskedAt { device: &self.caller.device, local: self.local }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        value(&self.query, name)
    }

    /// The first field of that name that is not empty.
    pub fn filled(&self, name: &str) -> Option<&str> {
        let is_it = |(n, value): &&(String, String)| n == name && !value.is_empty();
        self.query.iter().find(is_it).map(|(_, value)| value.as_str())
    }
}

fn value<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}
