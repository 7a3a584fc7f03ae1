//! The portal's page: which state of it a guest is shown, from the facts of the other rooms.

use super::answer::{self, Answer};
use super::entrance::Visit;
use super::offers::{chosen, refused_purchase, stock};
use super::origin::is_asked_here;
use super::refusals::open_shop;
use super::route::Answering;
use super::sent::Sent;
use super::show::{cannot_sell, show};
use super::{ecash, till, vouchers, wallets, ways, Edge};
use crate::access::Session;
use crate::portal::{
    self, Bought, Facts, Late, Pay, PurchaseReceipt, Purpose, Quantity, RequestFacts, RequestStep,
    ShownTicket, State,
};
use crate::sale::invoice::{Ask, Part, Progress, Request};
use crate::sale::SaleError;
use crate::shop::{Shop, Site};
use crate::zone::Zone;
use hyper::StatusCode;
use std::sync::Arc;
use std::time::Duration;

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
            Some("receipt") => receipt(shop, &visit).await,
            Some("mpesa") => match super::mpesa::claim_page(&visit) {
                Some(page) => page,
                None => home(site, shop, &visit).await,
            },
            Some("keep") => wallet_or_home(site, shop, &visit, Purpose::Keep).await,
            Some("mine") => wallet_or_home(site, shop, &visit, Purpose::Resume).await,
            Some("voucher") => vouchers::page(&visit),
            Some(way) => match ways::page(shop, &visit, way) {
                Some(page) => page,
                None => home(site, shop, &visit).await,
            },
            None => home(site, shop, &visit).await,
        }
    })
}

/// The page that asks a wallet, where there is one for this guest, under an address of the router's own.
async fn wallet_or_home(site: &Arc<Site>, shop: &Shop, visit: &Visit, purpose: Purpose) -> Answer {
    let is_ours = is_asked_here(&visit.headers, visit.asked_at());
    let page = if is_ours { wallets::page(shop, visit, purpose).await } else { None };
    match page {
        Some(page) => page,
        None => home(site, shop, visit).await,
    }
}

async fn home(site: &Arc<Site>, shop: &Shop, visit: &Visit) -> Answer {
    let choosing = visit.get("choose").is_some();
    let code = shop.auth.code_for(visit.caller.mac).filter(|_| !choosing && visit.get("r").is_none());
    if let Some(code) = code {
        return show(visit, StatusCode::OK, State::LoginCode(code));
    }
    let named = match visit.get("r").and_then(|id| id.parse().ok()) {
        Some(id) => match shop.invoices.glance(visit.caller.mac, &id).await {
            // Another mint was faster.
            Ok(request) if request.id != id && !choosing => {
                let there = portal::location(Some(request.id.as_str()), visit.lang());
                return answer::redirect(StatusCode::SEE_OTHER, &there);
            }
            Ok(request) => Some(request),
            Err(SaleError::NoSuchRequest) => None,
            Err(_) if choosing => None,
            Err(error) => return refused_purchase(site, visit, &error, Some(&id)),
        },
        None => None,
    };
    let (mac, venue) = (visit.caller.mac, &visit.venue);
    let order = shop.mpesa.of_guest(mac).await;
    let unfinished = shop.invoices.unfinished_access(mac, &venue.id);
    let session = shop.access.session(mac, &venue.id);
    shop.invoices.page_is_open(mac);
    let late = shop.invoices.late(mac, &venue.id);
    let address = way_back(visit);
    let ticket = shop.access.ticket(mac).map(|ticket| ticket.to_string());
    let is_online = session.as_ref().is_some_and(Session::is_running);
    let facts = Facts {
        is_trusted: venue.trusted_macs.contains(&mac),
        session: session.map(|session| Bought {
            left: Quantity { metric: session.metric, amount: session.remaining },
            is_running: session.is_running(),
        }),
        is_choosing: choosing,
        named: named.as_deref().map(|request| request_facts(shop, visit, request, is_online)),
        unfinished: unfinished.as_deref().map(|request| request_facts(shop, visit, request, is_online)),
        late: late
            .as_ref()
            .map(|(id, is_just_over)| Late { request_id: id.as_str(), is_just_over: *is_just_over }),
        has_lost: shop.wallet.has_lost(mac, &venue.id),
        kept: match (is_asked_here(&visit.headers, visit.asked_at()), &ticket) {
            (false, _) => ShownTicket::No,
            (true, Some(ticket)) => ShownTicket::Shown(ticket),
            (true, None) => ShownTicket::Unknown,
        },
        mpesa: order.as_ref().and_then(|order| super::mpesa::facts(order, is_online)),
        address: address.as_deref(),
        stock: stock(site, visit),
    };
    show(visit, StatusCode::OK, portal::page(&facts))
}

/// Where the guest finds the portal again: by its name, if it has one here, the redirect of port 80 leads to it.
fn way_back(visit: &Visit) -> Option<String> {
    match &visit.venue.portal_name {
        Some(name) if !visit.is_tls => Some(format!("http://{name}/")),
        _ => visit.home(visit.local),
    }
}

/// What the guest has bought last; without it, its own page.
async fn receipt(shop: &Shop, visit: &Visit) -> Answer {
    match shop.store.last_purchase(visit.caller.mac, &visit.venue.id).await {
        Ok(Some(bought)) => {
            let reference = bought.reference.to_string();
            let name = reference.split_once(':').map_or(reference.as_str(), |(_, name)| name);
            let at = Zone::local().timestamp(bought.wall.0);
            let receipt = PurchaseReceipt {
                venue: &visit.venue.name,
                amount: bought.amount,
                buys: Quantity { metric: bought.metric, amount: bought.allotment },
                at: &at,
                code: name.get(..8).unwrap_or(name),
            };
            show(visit, StatusCode::OK, State::Receipt(receipt))
        }
        Ok(None) => answer::redirect(StatusCode::SEE_OTHER, &portal::location(None, visit.lang())),
        Err(error) => show(visit, StatusCode::OK, cannot_sell(&error.into(), None)),
    }
}

fn request_facts<'a>(shop: &Shop, visit: &Visit, request: &'a Request, online: bool) -> RequestFacts<'a> {
    let now = shop.store.now();
    let request_id = request.id.as_str();
    let (metric, amount) = request.allotment();
    let part = request.parts().first();
    let since = match (request.is_asking(), part) {
        (false, Some(part)) => part.since(),
        _ => request.created,
    };
    let step = match part.map(|part| (part, part.progress())) {
        _ if request.is_asking() => RequestStep::Asking,
        Some((part, Progress::Unpaid)) if part.due > now => RequestStep::Unpaid(Pay {
            request_id,
            invoice: &part.invoice,
            amount: part.amount,
            buys: Quantity { metric: part.metric, amount: part.allotment },
            expires_in: part.due.saturating_sub(now),
            online,
            by_card: shop.till.waits_for(&request.id),
            grace: shop.access.grace(visit.caller.mac, &visit.venue.id),
        }),
        Some((_, Progress::Paid)) => RequestStep::Paid,
        Some((_, Progress::Granted { online: false })) => RequestStep::Granted,
        _ => RequestStep::Ended,
    };
    let has_run_out = |part: &Part| part.progress() == Progress::Expired || part.due <= now;
    RequestFacts {
        request_id,
        amount: request.amount(),
        buys: Quantity { metric, amount },
        step,
        waited: now.saturating_sub(since),
        is_payable: request.is_payable(now),
        has_expired: request.parts().iter().all(has_run_out),
        is_watched: request.parts().iter().any(Part::awaits_payment),
    }
}

/// `POST /pay`: opens the request and sends the browser to its page.
pub fn pay(edge: Arc<Edge>, visit: Visit, sent: Sent) -> Answering {
    Box::pin(async move {
        match sent.text().await {
            Ok(form) => paid(&edge.site, &visit.with_form(&form)).await,
            // The choice again: a browser has no use for another answer.
            Err(unread) => {
                let mut page = refused_purchase(&edge.site, &visit, &SaleError::NoAmount, None);
                *page.status_mut() = unread.status();
                page
            }
        }
    })
}

async fn paid(site: &Arc<Site>, visit: &Visit) -> Answer {
    let begun = open_shop(site).and_then(|shop| {
        let ask = Ask::for_access(chosen(visit)?);
        Ok((shop, shop.invoices.begin(&visit.caller, &visit.venue, ask)?))
    });
    let (shop, begun) = match begun {
        Ok(begun) => begun,
        Err(error) => return refused_purchase(site, visit, &error, None),
    };
    let asked = begun.request.id.clone();
    let opened = match tokio::time::timeout(FORM_PATIENCE, shop.invoices.opened(begun)).await {
        Ok(opened) => opened.map(|opened| opened.request.id.clone()),
        Err(_) => Ok(asked.clone()),
    };
    match opened {
        Ok(id) => {
            let there = portal::location(Some(id.as_str()), visit.lang());
            answer::redirect(StatusCode::SEE_OTHER, &there)
        }
        Err(error) => refused_purchase(site, visit, &error, Some(&asked)),
    }
}
