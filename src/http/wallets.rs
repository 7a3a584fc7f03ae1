//! The portal's pages on which a wallet is asked for a signature: to keep what is left on this device, and to go on here with what
//! it has kept. They need no script: the page's address names the challenge, and the browser's cookie proves that it is its own.

use super::answer::{self, Answer};
use super::entrance::Visit;
use super::login::{cookies, give_cookie};
use super::refusals::{open_shop, status_of};
use super::route::Answering;
use super::sent::Sent;
use super::show::{cannot_sell, show};
use super::tickets::with_wait;
use super::ways::notice_of;
use super::Edge;
use crate::access::TicketError;
use crate::auth::{Action, AuthError, ConfirmRefusal, LoginLinks, LoginStation, Standing};
use crate::hex;
use crate::mint_proxy;
use crate::portal::{self, Login, LoginStep, Notice, Purpose, State};
use crate::sale::invoice::Shown;
use crate::sale::SaleError;
use crate::shop::Shop;
use crate::store::{Claim, LoginAudience};
use crate::task;
use hyper::StatusCode;
use std::sync::Arc;

/// `?way=keep` and `?way=mine`, with `k1` once it is begun. `None`: there is no such page for this guest.
pub async fn page(shop: &Shop, visit: &Visit, purpose: Purpose) -> Option<Answer> {
    let auth = visit.config.auth.as_ref()?;
    let has_paid = shop.access.session(visit.caller.mac, &visit.venue.id).is_some();
    if purpose == Purpose::Keep && !has_paid {
        return None;
    }
    let Some((text, k1)) = visit.filled("k1").and_then(|text| Some((text, hex::decode(text)?))) else {
        return Some(begin(shop, visit, purpose));
    };
    let browser = (LoginStation::Mac(visit.caller.mac), &cookies(visit.is_tls, &visit.headers)[..]);
    Some(match (shop.auth.standing(&k1, browser), purpose) {
        (Standing::Pending, _) => {
            let links = LoginLinks::of(&auth.url, &k1, action(purpose));
            let at = LoginStep::Sign { k1: text, lnurl: &links.encode, keyauth: &links.keyauth };
            said(visit, StatusCode::OK, purpose, at, &[])
        }
        (Standing::Confirm, _) => said(visit, StatusCode::OK, purpose, LoginStep::Digits { k1: text }, &[]),
        (Standing::Expired | Standing::Foreign, _) => over(visit, StatusCode::OK, purpose),
        (Standing::Ok(_), Purpose::Keep) => said(visit, StatusCode::OK, purpose, LoginStep::Kept, &[]),
        (Standing::Ok(Some(login)), Purpose::Resume) => {
            resumed(shop, visit, Claim::Key(login.key.to_string())).await
        }
        // It was attached when this was told for the first time.
        (Standing::Ok(None), Purpose::Resume) => {
            answer::redirect(StatusCode::SEE_OTHER, &portal::location(None, visit.lang()))
        }
    })
}

/// `POST /wallet` with `way`, `k1` and `code`: the two digits that the wallet's side was told.
pub fn digits(edge: Arc<Edge>, visit: Visit, sent: Sent) -> Answering {
    Box::pin(async move {
        let visit = match sent.text().await {
            Ok(form) => visit.with_form(&form),
            Err(answer) => return answer,
        };
        match open_shop(&edge.site) {
            Ok(shop) => typed(shop, &visit).await,
            Err(error) => show(&visit, StatusCode::SERVICE_UNAVAILABLE, cannot_sell(&error, None)),
        }
    })
}

async fn typed(shop: &Shop, visit: &Visit) -> Answer {
    let purpose = visit.get("way").and_then(Purpose::of_way).unwrap_or(Purpose::Resume);
    let k1 = visit.filled("k1").and_then(|text| Some((text, hex::decode(text)?)));
    let Some((text, k1)) = k1 else { return over(visit, StatusCode::BAD_REQUEST, purpose) };
    let code = visit.get("code").map(str::trim).filter(|code| code.len() == 2);
    // What is not a number counts as wrong digits.
    let code = code.and_then(|code| code.parse().ok()).unwrap_or(u8::MAX);
    let browser = (LoginStation::Mac(visit.caller.mac), &cookies(visit.is_tls, &visit.headers)[..]);
    match shop.auth.confirm(&k1, browser, code).await {
        Ok(()) => {
            let there = portal::login_location(purpose, Some(text), visit.lang());
            answer::redirect(StatusCode::SEE_OTHER, &there)
        }
        Err(ConfirmRefusal::Wrong) if shop.auth.standing(&k1, browser) == Standing::Confirm => {
            let at = LoginStep::Digits { k1: text };
            said(visit, StatusCode::FORBIDDEN, purpose, at, &[Notice::LoginWrong])
        }
        Err(ConfirmRefusal::Closed(error)) => closed(visit, purpose, error),
        Err(_) => over(visit, StatusCode::FORBIDDEN, purpose),
    }
}

fn begin(shop: &Shop, visit: &Visit, purpose: Purpose) -> Answer {
    let browser = (LoginStation::Mac(visit.caller.mac), &cookies(visit.is_tls, &visit.headers)[..]);
    let what = (LoginAudience::Client, action(purpose));
    match shop.auth.challenge(browser, what, None) {
        Ok(made) => {
            let there = portal::login_location(purpose, Some(&made.k1), visit.lang());
            let mut answer = answer::redirect(StatusCode::SEE_OTHER, &there);
            give_cookie(&mut answer, visit.is_tls, &made);
            answer
        }
        Err(error) => closed(visit, purpose, error),
    }
}

/// The account that the wallet stands for goes on here.
async fn resumed(shop: &Shop, visit: &Visit, claim: Claim) -> Answer {
    match shop.invoices.attach(&visit.caller, &visit.venue, Shown::Claim(claim)).await {
        Ok(_) => {
            let (proxy, mac) = (shop.mint_proxy.clone(), visit.caller.mac);
            task::spawn(async move { proxy.deliver(mac).await });
            answer::redirect(StatusCode::SEE_OTHER, &portal::location(None, visit.lang()))
        }
        Err(error) => {
            let status = status_of(mint_proxy::refused_ticket(&error).code);
            let notice = match &error {
                TicketError::Wrong | TicketError::NothingLeft => Ok(Notice::LoginNothing),
                error => notice_of(error),
            };
            match notice {
                Ok(notice) => {
                    let page = said(visit, status, Purpose::Resume, LoginStep::Over, &[notice]);
                    with_wait(page, &error)
                }
                Err(closed) => show(visit, status, cannot_sell(&closed, None)),
            }
        }
    }
}

fn closed(visit: &Visit, purpose: Purpose, error: AuthError) -> Answer {
    match error {
        AuthError::TooMany(wait) => {
            let notices = [Notice::TicketLater { wait }];
            said(visit, StatusCode::TOO_MANY_REQUESTS, purpose, LoginStep::Over, &notices)
        }
        AuthError::Store(error) => {
            let closed = SaleError::Closed(error.code());
            show(visit, StatusCode::SERVICE_UNAVAILABLE, cannot_sell(&closed, None))
        }
        _ => over(visit, StatusCode::FORBIDDEN, purpose),
    }
}

fn over(visit: &Visit, status: StatusCode, purpose: Purpose) -> Answer {
    said(visit, status, purpose, LoginStep::Over, &[Notice::LoginOver])
}

fn said(visit: &Visit, status: StatusCode, purpose: Purpose, at: LoginStep, notices: &[Notice]) -> Answer {
    show(visit, status, State::Login(Login { purpose, at, notices }))
}

fn action(purpose: Purpose) -> Action {
    match purpose {
        Purpose::Keep => Action::Link,
        Purpose::Resume => Action::Login,
    }
}
