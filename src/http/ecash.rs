//! Paying with a token on the portal: the form, and what has become of a token that was posted by it.

use super::answer::{self, Answer};
use super::entrance::{own_address, with_host, Visit};
use super::offers::stock;
use super::refusals::open_shop;
use super::route::Answering;
use super::sent::Sent;
use super::show::{cannot_sell, show};
use super::Edge;
use crate::access::Session;
use crate::ecash::wallet::{Refusal, Wallet};
use crate::ecash::{payment_request, TokenError};
use crate::form::pairs;
use crate::portal::{self, Notice, PayWithEcash, Quantity, Receiving, Stage, State};
use crate::sale::token::{Buyer, Receipt};
use crate::sale::{PriceError, Retry, SaleError};
use crate::shop::{Shop, Site};
use crate::units::{Millis, Sats};
use hyper::header::{self, HeaderValue};
use hyper::StatusCode;
use std::sync::Arc;
use std::time::Duration;

/// How long a form waits for its answer; then the page says what is going on, and follows it.
const PATIENCE: Duration = Duration::from_secs(3);
/// A mint that takes longer is said to.
const SLOW: Millis = Millis::from_secs(5);

/// The form, empty.
pub fn page(site: &Site, visit: &Visit) -> Answer {
    form(site, visit, StatusCode::OK, &Filled::default())
}

/// `POST /ecash` with `token`: pays, and sends the browser to what it has bought or to where that will be seen.
pub fn pay(edge: Arc<Edge>, visit: Visit, sent: Sent) -> Answering {
    Box::pin(async move {
        match sent.text().await {
            Ok(form) => paid(&edge.site, &Visit { query: pairs(&form), ..visit }).await,
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
    match shop.tokens.begin(buyer, token_in(posted)) {
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
    let why = SaleError::Token(TokenError::Damaged.into());
    refused(site, visit, &why, Filled::default())
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
    let (status, notice) = match why {
        SaleError::Token(refusal) => (status_of(refusal), said(refusal)),
        SaleError::MintNotAccepted => {
            (StatusCode::PAYMENT_REQUIRED, Notice::TokenOfOtherMint { mints: &urls })
        }
        SaleError::Price { error, fee, .. } => (StatusCode::PAYMENT_REQUIRED, priced(*error, *fee)),
        SaleError::Clash => (StatusCode::SERVICE_UNAVAILABLE, Notice::AddressClash),
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

fn status_of(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Token(TokenError::NotAToken | TokenError::Damaged | TokenError::Empty) => {
            StatusCode::BAD_REQUEST
        }
        Refusal::Later(_) => StatusCode::TOO_MANY_REQUESTS,
        refusal if refusal.may_pass() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::PAYMENT_REQUIRED,
    }
}

fn said(refusal: &Refusal) -> Notice<'static> {
    match refusal {
        Refusal::Token(TokenError::NotAToken | TokenError::Damaged | TokenError::Empty) => {
            Notice::TokenUnreadable
        }
        Refusal::Spent => Notice::TokenSpent,
        Refusal::Unit => Notice::TokenOfOtherUnit,
        Refusal::Locked => Notice::TokenLocked,
        Refusal::Later(wait) => Notice::TokenLater { wait: *wait },
        refusal if refusal.may_pass() => Notice::TokenNotNow,
        _ => Notice::TokenRefused,
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
    let own = own_address(&visit.caller.device, None, visit.caller.address);
    let request = own.map(|own| {
        let post_to = with_host(own, visit.config.main.port);
        payment_request::encode(accepted.into_iter(), &visit.venue.name, &post_to)
    });
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

/// The token in what was pasted: what is sent over a chat comes with words around it.
fn token_in(pasted: &str) -> &str {
    let start = ["cashuA", "cashuB"].iter().filter_map(|prefix| pasted.find(prefix)).min();
    let Some(found) = start.and_then(|start| pasted.get(start..)) else { return pasted };
    let word = found.split_whitespace().next().unwrap_or_default();
    let is_broken_into_lines = Wallet::reference(word).is_err() && Wallet::reference(found).is_ok();
    if is_broken_into_lines {
        found
    } else {
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the specification (NUT-00).
    const TOKEN: &str = "cashuBo2F0gqJhaUgA_9SLj17PgGFwgaNhYQFhc3hAYWNjMTI0MzVlN2I4NDg0YzNjZjE4NTAxNDkyMThhZjkwZjcxNmE1MmJmNGE1ZWQzNDdlNDhlY2MxM2Y3NzM4OGFjWCECRFODGd5IXVW-07KaZCvuWHk3WrnnpiDhHki6SCQh88-iYWlIAK0mjE0fWCZhcIKjYWECYXN4QDEzMjNkM2Q0NzA3YTU4YWQyZTIzYWRhNGU5ZjFmNDlmNWE1YjRhYzdiNzA4ZWIwZDYxZjczOGY0ODMwN2U4ZWVhY1ghAjRWqhENhLSsdHrr2Cw7AFrKUL9Ffr1XN6RBT6w659lNo2FhAWFzeEA1NmJjYmNiYjdjYzY0MDZiM2ZhNWQ1N2QyMTc0ZjRlZmY4YjQ0MDJiMTc2OTI2ZDNhNTdkM2MzZGNiYjU5ZDU3YWNYIQJzEpxXGeWZN5qXSmJjY8MzxWyvwObQGr5G1YCCgHicY2FtdWh0dHA6Ly9sb2NhbGhvc3Q6MzMzOGF1Y3NhdA";

    #[test]
    fn a_token_is_found_in_what_a_chat_makes_of_it() {
        let (start, end) = TOKEN.split_at(90);
        for pasted in [
            TOKEN.to_owned(),
            format!("cashu:{TOKEN}"),
            format!("https://wallet.example/#token={TOKEN}"),
            format!("Here is your ecash:\n{TOKEN}\nEnjoy it"),
        ] {
            assert_eq!(token_in(&pasted), TOKEN, "{pasted}");
        }
        let broken = format!("Ecash: {start}\n{end}");
        assert_eq!(Wallet::reference(token_in(&broken)), Wallet::reference(TOKEN));
    }

    #[test]
    fn what_has_no_token_stays_as_it_is() {
        for pasted in ["", "lnbc1abc", "no cash here"] {
            assert_eq!(token_in(pasted), pasted);
        }
        assert_eq!(token_in("cashuBbroken and more"), "cashuBbroken");
    }
}
