//! Every path, its method, who may ask and what answers.

use super::answer::{self, Answer};
use super::bodies::{self, Body, Text, Unread};
use super::cards::CardRoute;
use super::listeners::Audience;
use super::origin::{may_see_ticket, origin_allowed};
use super::tollgate::{self, Source};
use super::{admin, cards, cors, ecash, pages, tickets, till, ways, websocket, Edge};
use crate::config::{Config, Venue};
use crate::form::pairs;
use crate::json::json;
use crate::mint_proxy::{self, parse_ask, without_ticket};
use crate::mint_proxy::{Code, ProxyError};
use crate::network::devices;
use crate::network::neighbours::{Caller, CallerError};
use crate::portal;

use crate::shop::{Shop, Site};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, StatusCode};
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;

/// Nothing that a guest sends is larger, but for tokens.
const MAX_BODY: usize = mint_proxy::MAX_MESSAGE;
/// Twice the longest token that is read: a form escapes some of its letters.
const MAX_TOKEN_FORM: usize = 128 * 1024;

#[derive(Clone, Copy)]
enum Route {
    Portal,
    Pay,
    PayWithCard,
    Ecash,
    /// The address that a refused form leaves in the browser.
    FormAgain,
    Style,
    Script,
    MintProxy,
    NewMintRequest,
    MintRequest,
    Ticket,
    Health,
    Stats,
    Card(CardRoute),
    Live,
    Ready,
}

const GUEST: &[(Method, &str, Route)] = &[
    (Method::GET, "/", Route::Portal),
    (Method::POST, "/pay", Route::Pay),
    (Method::GET, "/pay", Route::FormAgain),
    (Method::POST, "/card", Route::PayWithCard),
    (Method::GET, "/card", Route::FormAgain),
    (Method::POST, "/ecash", Route::Ecash),
    (Method::GET, "/ecash", Route::FormAgain),
    (Method::GET, "/portal.css", Route::Style),
    (Method::GET, "/portal.js", Route::Script),
    (Method::GET, "/mint-proxy", Route::MintProxy),
    (Method::POST, "/mint-requests", Route::NewMintRequest),
    (Method::GET, "/mint-requests/", Route::MintRequest),
    (Method::POST, "/ticket", Route::Ticket),
    (Method::GET, "/ticket", Route::FormAgain),
    (Method::GET, "/ln", Route::Card(CardRoute::Tap)),
    (Method::GET, "/ln/callback", Route::Card(CardRoute::Callback)),
    (Method::GET, "/new", Route::Card(CardRoute::Keys)),
    (Method::POST, "/new", Route::Card(CardRoute::Keys)),
    (Method::GET, "/health", Route::Health),
    (Method::GET, "/stats", Route::Stats),
];

const MINT_PROXY: &[(Method, &str, Route)] = &[
    (Method::GET, "/mint-proxy", Route::MintProxy),
    (Method::POST, "/mint-requests", Route::NewMintRequest),
    (Method::GET, "/mint-requests/", Route::MintRequest),
    (Method::POST, "/ticket", Route::Ticket),
    (Method::GET, "/health", Route::Health),
    (Method::GET, "/stats", Route::Stats),
];

const CARD: &[(Method, &str, Route)] = &[
    (Method::GET, "/ln", Route::Card(CardRoute::Tap)),
    (Method::GET, "/ln/callback", Route::Card(CardRoute::Callback)),
    (Method::GET, "/new", Route::Card(CardRoute::Keys)),
    (Method::POST, "/new", Route::Card(CardRoute::Keys)),
];

const ADMIN: &[(Method, &str, Route)] =
    &[(Method::GET, "/health/live", Route::Live), (Method::GET, "/health/ready", Route::Ready)];

/// A guest's request with everything that was found out about it.
pub struct Visit {
    pub config: Arc<Config>,
    pub venue: Venue,
    pub caller: Caller,
    /// The address that was asked.
    pub local: Option<IpAddr>,
    pub headers: HeaderMap,
    pub query: Vec<(String, String)>,
}

/// The addresses at the two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub peer: IpAddr,
    /// The address that was asked.
    pub local: Option<IpAddr>,
}

pub async fn answer(edge: &Arc<Edge>, audience: &Audience, ends: Ends, request: Request<Incoming>) -> Answer {
    let (routes, device) = match audience {
        Audience::Redirected { device } => return to_the_portal(&edge.site, device, ends),
        Audience::Admin if admin::is_admin(request.uri().path()) => {
            return admin::answer(&edge.site, request).await
        }
        Audience::Admin => (ADMIN, None),
        Audience::Card => (CARD, None),
        Audience::Router => return tollgate::answer(edge, Source::Router, request).await,
        Audience::Guest { device } => match addressee(&request) {
            Addressee::Own => {
                let origin = cors::own_origin(request.headers(), device).cloned();
                let mut answer = answer_by(GUEST, edge, Some(device), ends, request).await;
                cors::permit(&mut answer, origin.as_ref());
                return answer;
            }
            Addressee::Portal => return answer::redirect(StatusCode::SEE_OTHER, "/"),
            Addressee::TollGate => {
                return tollgate::answer(edge, Source::Guest { device, ends }, request).await
            }
        },
        Audience::MintProxy { device } => (MINT_PROXY, Some(device.as_str())),
    };
    answer_by(routes, edge, device, ends, request).await
}

async fn answer_by(
    routes: &[(Method, &str, Route)],
    edge: &Arc<Edge>,
    device: Option<&str>,
    ends: Ends,
    request: Request<Incoming>,
) -> Answer {
    let (route, rest) = match find(routes, request.method(), request.uri().path()) {
        Ok(found) => found,
        Err(answer) => return *answer,
    };
    match (route, device) {
        (Route::Live, _) => answer::json(StatusCode::OK, &json!({"live": true})),
        (Route::Ready, _) => ready(&edge.site),
        (Route::Health, _) => answer::text(StatusCode::OK, "OK"),
        (Route::Stats, _) => answer::json(StatusCode::OK, &stats(&edge.site)),
        (Route::FormAgain, _) => answer::redirect(StatusCode::SEE_OTHER, "/"),
        (Route::Style, _) => answer::asset("text/css; charset=utf-8", portal::STYLE),
        (Route::Script, _) => answer::asset("text/javascript; charset=utf-8", portal::SCRIPT),
        (Route::Card(route), _) => cards::answer(&edge.site, route, request).await,
        (_, None) => not_found(),
        (route, Some(device)) => for_guest(edge, device, ends, route, &rest, request).await,
    }
}

/// Whom a guest's request is for.
enum Addressee {
    /// A path of the table.
    Own,
    /// A browser that asks for a page of another portal (`/portal`, `/balance.html`).
    Portal,
    /// The TollGate protocol: its own paths, and whatever a program asks for that is none of ours.
    TollGate,
}

fn addressee(request: &Request<Incoming>) -> Addressee {
    let path = request.uri().path();
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let is_browser = accept.is_some_and(|accept| accept.contains("text/html"))
        && matches!(*request.method(), Method::GET | Method::HEAD);
    match path {
        // Preflights are answered alike everywhere; what a page may really do is decided when it asks.
        _ if *request.method() == Method::OPTIONS => Addressee::TollGate,
        // For programs it is a path like any other: only browsers come back to where a form was sent.
        "/pay" if !is_browser && *request.method() != Method::POST => Addressee::TollGate,
        _ if is_ours(path) => Addressee::Own,
        _ if !is_browser || tollgate::is_question(path) => Addressee::TollGate,
        "/" => Addressee::Own,
        _ => Addressee::Portal,
    }
}

/// Whether the first part of a path is one of our own interfaces, whose mistakes are said to be mistakes.
fn is_ours(path: &str) -> bool {
    let first = |path: &str| path.split('/').nth(1).unwrap_or_default().to_ascii_lowercase();
    let own = first(path);
    own == "admin" || (!own.is_empty() && GUEST.iter().any(|(_, pattern, _)| first(pattern) == own))
}

async fn for_guest(
    edge: &Arc<Edge>,
    device: &str,
    ends: Ends,
    route: Route,
    rest: &str,
    request: Request<Incoming>,
) -> Answer {
    let site = &edge.site;
    let config = site.config();
    let Some(venue) = config.venue_of_device(device).cloned() else { return not_found() };
    let headers = request.headers().clone();
    let query = request.uri().query().map(pairs).unwrap_or_default();
    let caller = match edge.neighbours.identify(device, ends.peer) {
        Ok(caller) => caller,
        Err(err) => return unknown_caller(route, &venue, &headers, &query, &err),
    };
    let visit = Visit { config, venue, caller, local: ends.local, headers, query };
    match route {
        Route::Portal => pages::portal(site, &visit).await,
        Route::Pay | Route::PayWithCard if !origin_allowed(&visit.headers, device) => foreign_origin(),
        Route::Pay | Route::PayWithCard => match body(request).await {
            Ok(form) => {
                let visit = Visit { query: pairs(&form), ..visit };
                match route {
                    Route::PayWithCard => till::pay(site, &visit).await,
                    _ => pages::pay(site, &visit).await,
                }
            }
            Err(answer) => answer,
        },
        Route::Ecash if !origin_allowed(&visit.headers, device) => foreign_origin(),
        Route::Ecash => match body_of(request, MAX_TOKEN_FORM).await {
            Ok(form) => ecash::pay(site, &Visit { query: pairs(&form), ..visit }).await,
            Err(_) => ecash::unreadable(site, &visit),
        },
        Route::MintProxy => websocket::upgrade(edge, device, visit, request).await,
        Route::NewMintRequest if !origin_allowed(&visit.headers, device) => foreign_origin(),
        Route::NewMintRequest => match body(request).await {
            Ok(text) => new_mint_request(site, &visit, &text).await,
            Err(answer) => answer,
        },
        // A ticket is worth what is left of the session.
        Route::Ticket if !may_see_ticket(&visit.headers, visit.asked_at()) => foreign_origin(),
        Route::Ticket => match body(request).await {
            Ok(form) if is_form(&visit.headers) => {
                ways::ticket(site, &Visit { query: pairs(&form), ..visit }).await
            }
            Ok(text) => tickets::post(site, &visit, &text).await,
            Err(answer) => answer,
        },
        Route::MintRequest => mint_request(site, &visit, rest).await,
        _ => not_found(),
    }
}

async fn new_mint_request(site: &Arc<Site>, visit: &Visit, text: &str) -> Answer {
    let opened = async {
        let shop = open_shop(site)?;
        shop.mint_proxy.check_ticket(visit.caller.mac, bearer(&visit.headers)).await?;
        let opened = shop.mint_proxy.open(&visit.caller, &visit.venue, parse_ask(text)?).await?;
        Ok((shop, opened))
    };
    match opened.await {
        Ok((shop, opened)) => {
            answer::json(StatusCode::CREATED, &told(visit, shop.mint_proxy.answer(&opened.request)))
        }
        Err(error) => refusal(&error),
    }
}

async fn mint_request(site: &Arc<Site>, visit: &Visit, id: &str) -> Answer {
    let found = async {
        let shop = open_shop(site)?;
        shop.mint_proxy.check_ticket(visit.caller.mac, bearer(&visit.headers)).await?;
        let id = id.parse().map_err(|()| ProxyError::new(Code::RequestNotFound, "no such request"))?;
        Ok((shop, shop.mint_proxy.status_asked(visit.caller.mac, &id).await?))
    };
    match found.await {
        Ok((shop, request)) => answer::json(StatusCode::OK, &told(visit, shop.mint_proxy.answer(&request))),
        Err(error) => refusal(&error),
    }
}

/// What a request has come to, as far as whoever asks may know it.
fn told(visit: &Visit, answer: Value) -> Value {
    if may_see_ticket(&visit.headers, visit.asked_at()) {
        answer
    } else {
        without_ticket(answer)
    }
}

/// `Authorization: Bearer <ticket>`, where the mint proxy wants one.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// The rooms that sell, or the error that says why nothing is sold.
pub fn open_shop(site: &Site) -> Result<&Shop, ProxyError> {
    site.shop.as_ref().map_err(|closed| {
        ProxyError::new(
            Code::Closed(closed.code),
            "this router cannot sell at the moment; please tell the operator",
        )
    })
}

pub fn refusal(error: &ProxyError) -> Answer {
    answer::json(status_of(error.code), &error.to_json())
}

pub fn status_of(code: Code) -> StatusCode {
    match code {
        Code::InvalidMint | Code::InvalidMessage => StatusCode::BAD_REQUEST,
        Code::RequestNotFound => StatusCode::NOT_FOUND,
        Code::InvalidTicket => StatusCode::FORBIDDEN,
        Code::TicketInUse | Code::TooLittle => StatusCode::CONFLICT,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::MintUnavailable | Code::InvoiceExpired | Code::PaymentFailed | Code::TokenClaimFailed => {
            StatusCode::BAD_GATEWAY
        }
        Code::InternalError | Code::AddressClash | Code::Closed(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn find(
    routes: &[(Method, &str, Route)],
    method: &Method,
    path: &str,
) -> Result<(Route, String), Box<Answer>> {
    let mut allowed = Vec::new();
    for (wants, pattern, route) in routes {
        let rest = match path.strip_prefix(pattern) {
            Some("") => "",
            Some(rest) if pattern.len() > 1 && pattern.ends_with('/') => rest,
            _ => continue,
        };
        if method == wants || (method == Method::HEAD && *wants == Method::GET) {
            return Ok((*route, rest.to_owned()));
        }
        allowed.push(wants.as_str());
    }
    if allowed.is_empty() {
        return Err(Box::new(not_found()));
    }
    Err(Box::new(method_not_allowed(allowed.into_iter())))
}

pub fn method_not_allowed<'a>(allowed: impl Iterator<Item = &'a str>) -> Answer {
    let mut answer =
        error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take that method");
    if let Ok(value) = header::HeaderValue::from_str(&allowed.collect::<Vec<_>>().join(", ")) {
        answer.headers_mut().insert(header::ALLOW, value);
    }
    answer
}

pub fn not_found() -> Answer {
    error(StatusCode::NOT_FOUND, "not_found", "there is nothing here; the portal is at /")
}

fn foreign_origin() -> Answer {
    error(StatusCode::FORBIDDEN, "foreign_origin", "only pages of this router may ask")
}

fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    answer::json(status, &json!({"type": "error", "code": code, "message": message}))
}

/// Without a MAC nobody can be let in, so nothing is sold either.
fn unknown_caller(
    route: Route,
    venue: &Venue,
    headers: &HeaderMap,
    query: &[(String, String)],
    err: &CallerError,
) -> Answer {
    log::info!("a guest cannot be identified: {err}");
    match route {
        Route::Portal | Route::Pay | Route::PayWithCard | Route::Ecash => {
            pages::unknown_device(venue, headers, query)
        }
        Route::Ticket if is_form(headers) => pages::unknown_device(venue, headers, query),
        _ => error(StatusCode::BAD_REQUEST, "unknown_device", "Failed to identify client"),
    }
}

/// The whole answer to what nft has redirected from port 80: a way to the portal under our own address.
/// An OS that probes for a captive portal sees by it that there is one.
fn to_the_portal(site: &Site, device: &str, Ends { peer, local }: Ends) -> Answer {
    let Some(own) = own_address(device, local, peer) else {
        return error(StatusCode::SERVICE_UNAVAILABLE, "no_address", "the router has no address here yet");
    };
    let mut answer = answer::redirect(StatusCode::FOUND, &with_host(own, site.config().main.port));
    answer.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    answer
}

/// The address that a guest best reaches us by: the one it has used, or one of its family.
pub fn own_address(device: &str, local: Option<IpAddr>, peer: IpAddr) -> Option<IpAddr> {
    let own = devices::addresses(device).unwrap_or_default();
    // A link-local address would need the zone that only the guest's own system knows.
    let usable = |address: &&IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => !devices::is_link_local(v6),
    };
    local
        .filter(|local| own.contains(local))
        .filter(|local| usable(&local))
        .or_else(|| own.iter().filter(usable).find(|address| address.is_ipv4() == peer.is_ipv4()).copied())
        .or_else(|| own.iter().find(usable).copied())
}

/// The portal under this address.
pub fn with_host(address: IpAddr, port: u16) -> String {
    match address {
        IpAddr::V4(v4) => format!("http://{v4}:{port}/"),
        IpAddr::V6(v6) => format!("http://[{v6}]:{port}/"),
    }
}

/// Whether the body is what a browser makes of a form.
fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded")
}

fn ready(site: &Site) -> Answer {
    let reasons = site.not_ready();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer::json(status, &json!({"ready": reasons.is_empty(), "reasons": reasons}))
}

fn stats(site: &Site) -> Value {
    match &site.shop {
        Ok(shop) => {
            let (requests, unpaid) = shop.invoices.counts();
            json!({
                "sockets": shop.mint_proxy.sockets().count(),
                "connections": site.connections(),
                "requests": requests,
                "unpaid": unpaid,
                "sessions": shop.access.running().len(),
            })
        }
        Err(closed) => json!({"connections": site.connections(), "closed": closed.code}),
    }
}

/// A bounded body that is UTF-8.
pub async fn body(request: Request<Incoming>) -> Result<Text, Answer> {
    body_of(request, MAX_BODY).await
}

async fn body_of(request: Request<Incoming>, most: usize) -> Result<Text, Answer> {
    let (status, message) = match bodies::read(request, most).await.map(Body::into_text) {
        Ok(Ok(text)) => return Ok(text),
        Ok(Err(_)) => (StatusCode::BAD_REQUEST, "the body is not UTF-8"),
        Err(Unread::TooLong) => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
        Err(Unread::Broken) => (StatusCode::BAD_REQUEST, "the body was not sent whole"),
        Err(Unread::Late) => (StatusCode::REQUEST_TIMEOUT, "the body did not arrive"),
        Err(Unread::Crowded) => (StatusCode::SERVICE_UNAVAILABLE, "too much is being sent; please try again"),
    };
    let code = if status == StatusCode::SERVICE_UNAVAILABLE { "rate_limited" } else { "invalid_message" };
    Err(error(status, code, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_another_method_says_which_it_takes() {
        let refused = find(GUEST, &Method::DELETE, "/mint-requests").err().unwrap();
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(refused.headers()[header::ALLOW], "POST");
        assert_eq!(find(GUEST, &Method::GET, "/etc/passwd").err().unwrap().status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn the_id_of_a_mint_request_is_the_rest_of_the_path() {
        let (_, rest) = find(GUEST, &Method::GET, "/mint-requests/abc").ok().unwrap();
        assert_eq!(rest, "abc");
    }
}
