//! Paying with a token on the portal: the form, and what has become of a token that was posted by it.

use super::answer::{self, Answer};
use super::entrance::Visit;
use super::offers::stock;
use super::refusals::open_shop;
use super::route::Answering;
use super::sent::Sent;
use super::show::{cannot_sell, show};
use super::Edge;
use crate::access::Session;
use crate::ecash::{payment_request, token, TokenError};
use crate::portal::{self, Notice, PayWithEcash, Quantity, Receiving, Stage, State};
use crate::sale::token::{Buyer, Receipt};
use crate::sale::{PriceError, Retry, SaleError, TokenFault};
use crate::shop::{Shop, Site};
use crate::units::{Millis, Sats};
use hyper::header::{self, HeaderValue};
use hyper::StatusCode;
use std::sync::Arc;
use std::time::Duration;

/// How long a form waits for its answer; then the page says what is going on, and follows it.
const PATIENCE: Duration = Duration::from_secs(3);
/// If a mint takes longer, the page says so.
const SLOW: Millis = Millis::from_secs(5);

/// The form, empty.
pub fn page(site: &Site, visit: &Visit) -> Answer {
    form(site, visit, StatusCode::OK, &Filled::default())
}

/// `POST /ecash` with `token`: pays, and sends the browser to what it has bought or to where that will be seen.
pub fn pay(edge: Arc<Edge>, visit: Visit, sent: Sent) -> Answering {
    Box::pin(async move {
        match sent.text().await {
            Ok(form) => paid(&edge.site, &visit.with_form(&form)).await,
            Err(_) => unreadable(&edge.site, &visit),
        }
    })
}

async fn paid(site: &Site, visit: &Visit) -> Answer {
    let shop = match open_shop(site) {
        Ok(shop) => shop,
        Err(error) => return show(visit, StatusCode::SERVICE_UNAVAILABLE, cannot_sell(&error, None)),
    };
    let posted = visit.get("token").unwrap_or_default().trim();
    let filled = Filled { token: posted, ..Filled::default() };
    if let Err(wait) = shop.tokens.may_pay(visit.caller.mac) {
        let notice = Some(Notice::TokenLater { wait });
        return later(form(site, visit, StatusCode::TOO_MANY_REQUESTS, &Filled { notice, ..filled }), wait);
    }
    let Visit { venue, caller, .. } = visit;
    let buyer = Buyer { venue: venue.clone(), mac: caller.mac, caller: Some(caller.clone()) };
    let token = token::found_in(posted);
    match shop.tokens.begin(buyer, token.as_deref().unwrap_or(posted)) {
        Err(why) => refused(site, visit, &why, filled),
        Ok(id) => match shop.tokens.receipt(&visit.caller, &visit.venue, &id, PATIENCE).await {
            Receipt::NotPaid(why, _) => refused(site, visit, &why, filled),
            Receipt::Granted => {
                answer::redirect(StatusCode::SEE_OTHER, &portal::location(None, visit.lang()))
            }
            _ => answer::redirect(StatusCode::SEE_OTHER, &portal::token_location(&id, visit.lang())),
        },
    }
}

/// A form that is longer than any token, or did not arrive.
fn unreadable(site: &Site, visit: &Visit) -> Answer {
    refused(site, visit, &TokenError::Damaged.into(), Filled::default())
}

/// `GET /?token=ID`: what has become of it.
pub async fn receipt(site: &Site, shop: &Shop, visit: &Visit, id: &str) -> Answer {
    let at = match shop.tokens.receipt(&visit.caller, &visit.venue, id, Duration::ZERO).await {
        Receipt::Working(so_far) if so_far > SLOW => Stage::SlowMint,
        Receipt::Working(_) => Stage::Mint,
        Receipt::Opening => Stage::Gate,
        Receipt::Unknown => Stage::Unknown,
        Receipt::NotPaid(why, token) => {
            return refused(site, visit, &why, Filled { token: &token, id: Some(id), ..Filled::default() });
        }
        Receipt::Granted => {
            return answer::redirect(StatusCode::SEE_OTHER, &portal::location(None, visit.lang()))
        }
        Receipt::Never => {
            return answer::redirect(StatusCode::SEE_OTHER, &portal::way_location("ecash", visit.lang()))
        }
    };
    show(visit, StatusCode::OK, State::Receiving(Receiving { id, at }))
}

/// What stands in the form.
#[derive(Default)]
struct Filled<'a> {
    token: &'a str,
    id: Option<&'a str>,
    notice: Option<Notice<'a>>,
}

/// The form again, with the reason and the token, which is the guest's as before.
fn refused(site: &Site, visit: &Visit, why: &SaleError, filled: Filled) -> Answer {
    let urls: Vec<&str> = visit.config.mints_of(&visit.venue).map(|mint| mint.url.as_str()).collect();
    let (status, notice) = match (why.token_fault(), why) {
        (Some(fault), _) => said(fault),
        (_, SaleError::MintNotAccepted) => {
            (StatusCode::PAYMENT_REQUIRED, Notice::TokenOfOtherMint { mints: &urls })
        }
        (_, SaleError::Price { error, fee, .. }) => (StatusCode::PAYMENT_REQUIRED, priced(*error, *fee)),
        (_, SaleError::Clash) => (StatusCode::SERVICE_UNAVAILABLE, Notice::AddressClash),
        _ => (StatusCode::SERVICE_UNAVAILABLE, Notice::TokenNotNow),
    };
    // One that is spent is good for nothing.
    let token = if notice == Notice::TokenSpent { "" } else { filled.token };
    let answer = form(site, visit, status, &Filled { token, notice: Some(notice), ..filled });
    match why.retry() {
        Retry::After(wait) => later(answer, wait),
        _ => answer,
    }
}

fn later(mut answer: Answer, wait: Millis) -> Answer {
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs_ceil()));
    answer
}

fn said(fault: TokenFault) -> (StatusCode, Notice<'static>) {
    match fault {
        TokenFault::Unreadable => (StatusCode::BAD_REQUEST, Notice::TokenUnreadable),
        TokenFault::Spent => (StatusCode::PAYMENT_REQUIRED, Notice::TokenSpent),
        TokenFault::OtherUnit => (StatusCode::PAYMENT_REQUIRED, Notice::TokenOfOtherUnit),
        TokenFault::Locked => (StatusCode::PAYMENT_REQUIRED, Notice::TokenLocked),
        TokenFault::TooSoon(wait) => (StatusCode::TOO_MANY_REQUESTS, Notice::TokenLater { wait }),
        TokenFault::NotNow => (StatusCode::SERVICE_UNAVAILABLE, Notice::TokenNotNow),
        TokenFault::Refused => (StatusCode::PAYMENT_REQUIRED, Notice::TokenRefused),
    }
}

/// The mint's fee comes on top of what has to arrive.
fn priced<'a>(error: PriceError, fee: Sats) -> Notice<'a> {
    let with_fee = |amount: Sats| Sats(amount.0.saturating_add(fee.0));
    match error {
        PriceError::BelowMinimum(least) => Notice::TokenTooLittle { least: with_fee(least) },
        PriceError::AboveMaximum(most) => Notice::TokenTooMuch { most: with_fee(most) },
    }
}

fn form(site: &Site, visit: &Visit, status: StatusCode, filled: &Filled) -> Answer {
    let stock = stock(site, visit);
    let mints = stock.mints();
    let notices: Vec<Notice> = stock.notices().into_iter().chain(filled.notice).collect();
    let accepted: Vec<_> = visit.config.mints_of(&visit.venue).map(|mint| &mint.url).collect();
    let request = visit
        .home(None)
        .map(|post_to| payment_request::encode(accepted.into_iter(), &visit.venue.name, &post_to));
    let shop = site.shop.as_ref().ok();
    let session = shop.and_then(|shop| shop.access.session(visit.caller.mac, &visit.venue.id));
    let left = session
        .filter(Session::is_running)
        .map(|session| Quantity { metric: session.metric, amount: session.remaining });
    let form = PayWithEcash {
        step: stock.step,
        mints: &mints,
        notices: &notices,
        token: filled.token,
        id: filled.id,
        left,
        request: request.as_deref(),
    };
    show(visit, status, State::PayWithEcash(form))
}
