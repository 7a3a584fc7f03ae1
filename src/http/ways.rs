//! The portal's pages for tickets and the codes of invites, and the forms on them.

use super::answer::{self, Answer};
use super::entrance::{is_form, Visit};
use super::invites;
use super::origin::is_asked_here;
use super::refusals::{open_shop, status_of};
use super::route::Answering;
use super::sent::Sent;
use super::show::{cannot_sell, show};
use super::tickets::{self, with_wait};
use super::Edge;
use crate::access::TicketError;
use crate::mint_proxy;
use crate::portal::{self, Notice, OwnTicket, ShowTicket, State};
use crate::sale::invite::{InviteCode, InviteError};
use crate::sale::invoice::Shown;
use crate::sale::till::Unrecognised;
use crate::sale::SaleError;
use crate::shop::{Shop, Site};
use crate::store::Claim;
use crate::task;
use crate::units::Millis;
use hyper::header;
use hyper::StatusCode;
use std::sync::Arc;

/// The way to pay that `?way=` or `?ticket=` asks for.
pub fn way(visit: &Visit) -> Option<&str> {
    let typed = |name| visit.get(name).is_some_and(|typed| !typed.is_empty());
    visit
        .get("way")
        .or_else(|| typed("ticket").then_some("ticket"))
        .or_else(|| typed("voucher").then_some("voucher"))
}

/// The page of a way that has to do with tickets.
pub fn page(shop: &Shop, visit: &Visit, way: &str) -> Option<Answer> {
    // Tickets are for pages under our own address or name only; this one may be known by another.
    if !is_asked_here(&visit.headers, visit.asked_at()) {
        let home = visit.home(None)?;
        return Some(answer::redirect(
            StatusCode::FOUND,
            &format!("{home}?way={}", if way == "kept" { way } else { "ticket" }),
        ));
    }
    match way {
        "ticket" => {
            let typed = visit.get("ticket").unwrap_or_default();
            Some(show(visit, StatusCode::OK, State::ShowTicket(ShowTicket { typed, notices: &[] })))
        }
        "kept" => Some(own_ticket(shop, visit, StatusCode::OK, &[])),
        _ => None,
    }
}

/// `POST /ticket`, of a form or of a program.
pub fn ticket(edge: Arc<Edge>, visit: Visit, sent: Sent) -> Answering {
    Box::pin(async move {
        match sent.text().await {
            Ok(form) if is_form(&visit.headers) => posted(&edge.site, &visit.with_form(&form)).await,
            Ok(text) => tickets::post(&edge.site, &visit, &text).await,
            Err(answer) => answer,
        }
    })
}

/// A form: with a ticket, a code or the link of a linked card to go on with it, with `new` for a new ticket.
async fn posted(site: &Arc<Site>, visit: &Visit) -> Answer {
    let shop = match open_shop(site) {
        Ok(shop) => shop,
        Err(error) => return show(visit, StatusCode::SERVICE_UNAVAILABLE, cannot_sell(&error, None)),
    };
    let lang = visit.lang();
    if visit.get("new").is_some() {
        return match shop.access.renew_ticket(visit.caller.mac).await {
            Ok(_) => answer::redirect(StatusCode::SEE_OTHER, &portal::way_location("kept", lang)),
            Err(error) => refused(visit, &error, |status, notices| own_ticket(shop, visit, status, notices)),
        };
    }
    let typed = visit.get("ticket").unwrap_or_default();
    // A code has another length than any ticket.
    if typed.parse::<InviteCode>().is_ok() {
        return match shop.invites.redeem(&visit.caller, &visit.venue, typed).await {
            Ok(_) | Err(InviteError::GrantPending) => {
                answer::redirect(StatusCode::SEE_OTHER, &portal::location(None, lang))
            }
            Err(error) => refused_code(visit, &error),
        };
    }
    let form =
        |status, notices: &[Notice]| show(visit, status, State::ShowTicket(ShowTicket { typed, notices }));
    let moved = match shop.till.recognise(visit.caller.mac, typed).await {
        Ok(card) => {
            let shown = Shown::Claim(Claim::Card(card));
            let attached = shop.invoices.attach(&visit.caller, &visit.venue, shown).await;
            let (proxy, mac) = (shop.mint_proxy.clone(), visit.caller.mac);
            task::spawn(async move { proxy.deliver(mac).await });
            attached.map(drop)
        }
        Err(Unrecognised::NoLink) => {
            shop.invoices.take_over(&visit.caller, &visit.venue, typed, true).await.map(drop)
        }
        Err(Unrecognised::TooMany) => Err(TicketError::TooMany(Millis::from_secs(60))),
        Err(Unrecognised::Foreign | Unrecognised::Refused(_)) => Err(TicketError::Wrong),
    };
    match moved {
        Ok(()) => answer::redirect(StatusCode::SEE_OTHER, &portal::location(None, lang)),
        Err(error) => refused(visit, &error, form),
    }
}

/// The page again, with the reason.
fn refused(visit: &Visit, error: &TicketError, page: impl Fn(StatusCode, &[Notice]) -> Answer) -> Answer {
    let status = status_of(mint_proxy::refused_ticket(error).code);
    match notice_of(error) {
        Ok(notice) => with_wait(page(status, &[notice]), error),
        Err(closed) => show(visit, status, cannot_sell(&closed, None)),
    }
}

/// Why nothing moves, or why nothing works here at all.
pub fn notice_of(error: &TicketError) -> Result<Notice<'static>, SaleError> {
    Ok(match error {
        TicketError::Wrong => Notice::TicketWrong,
        TicketError::InUse(wait) => Notice::TicketInUse { wait: *wait },
        TicketError::TooSoon(wait) | TicketError::TooMany(wait) => Notice::TicketLater { wait: *wait },
        TicketError::NothingPaid | TicketError::NothingLeft | TicketError::TooManyClaims => {
            Notice::NothingPaid
        }
        TicketError::TooLittle => Notice::TooLittleLeft,
        TicketError::Clash(_) => Notice::AddressClash,
        TicketError::Store(error) => return Err(SaleError::Closed(error.code())),
    })
}

/// The form again, with the reason why an invite's code lets nobody in.
fn refused_code(visit: &Visit, error: &InviteError) -> Answer {
    let status = invites::status_of(error);
    let notice = match error {
        InviteError::Used | InviteError::Expired => Notice::CodeUsed,
        InviteError::WrongMetric => Notice::CodeElsewhere,
        InviteError::TooMany(wait) => Notice::TicketLater { wait: *wait },
        InviteError::Sale(SaleError::Clash) => Notice::AddressClash,
        InviteError::Sale(error) => return show(visit, status, cannot_sell(error, None)),
        _ => Notice::TicketWrong,
    };
    let typed = visit.get("ticket").unwrap_or_default();
    show(visit, status, State::ShowTicket(ShowTicket { typed, notices: &[notice] }))
}

fn own_ticket(shop: &Shop, visit: &Visit, status: StatusCode, notices: &[Notice]) -> Answer {
    let ticket = shop.access.ticket(visit.caller.mac).map(|ticket| ticket.to_string());
    let host = visit.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let asked = || format!("http://{host}/");
    let home = visit.home(None).filter(|_| visit.is_tls).unwrap_or_else(asked);
    let link = format!("{home}?ticket={}", ticket.as_deref().unwrap_or_default());
    show(visit, status, State::OwnTicket(OwnTicket { ticket: ticket.as_deref(), link: &link, notices }))
}
