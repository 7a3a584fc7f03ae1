//! From a request to its answer: the row of the table, its guard, the caller, and the headers that go with every
//! answer.

use super::answer::{self, Answer};
use super::asker::Asker;
use super::cors;
use super::entrance::{accepts_page, is_form, Audience, Entrance, Visit};
use super::error_body::{no_such_path, other_method, ErrorBody};
use super::origin::{may_see_ticket, origin_allowed};
use super::refusals::{error_at, foreign_origin, method_not_allowed, not_found, sealed};
use super::route::{Guard, Handler, Needs, Route, Verb};
use super::routes::ROUTES;
use super::sent::Sent;
use super::{admin, head, mpesa, show, tollgate, Edge};
use crate::config::Config;
use crate::form::pairs;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, StatusCode};
use std::sync::Arc;

/// The path of the address in a payment request (NUT-18), see [`super::ecash`].
const PAYMENT_REQUEST: &str = "/";

pub async fn answer(edge: &Arc<Edge>, at: &Entrance, request: Request<Incoming>) -> Answer {
    let config = edge.site.config();
    let (path, version) = (request.uri().path(), request.version());
    if let Some(refused) = head::malformed(at.audience, path, version, request.headers()) {
        return refused;
    }
    let app = cors::app_origin(&config, at.audience, path, request.headers()).cloned();
    let mut answer = match at.audience {
        Audience::TollGate => for_program(edge, at, request).await,
        Audience::Guest => match addressee(&config, &request) {
            Addressee::Own => {
                let origin = cors::own_origin(request.headers(), at.asked_at(&config)).cloned();
                let mut answer = by_table(edge, at, request).await;
                cors::permit(&mut answer, origin.as_ref());
                answer
            }
            Addressee::Portal => answer::redirect(StatusCode::SEE_OTHER, "/"),
            Addressee::TollGate => for_program(edge, at, request).await,
        },
        Audience::MintProxy | Audience::Redirected | Audience::Public | Audience::Admin => {
            by_table(edge, at, request).await
        }
    };
    if let Some(app) = app {
        cors::permit_app(&mut answer, &app);
    }
    answer
}

/// Whom a guest's request is for.
enum Addressee {
    /// A path of the guests' own rows.
    Own,
    /// A browser that asks for a page of another portal (`/portal`, `/balance.html`).
    Portal,
    /// The TollGate protocol: its own paths, and every path that a program asks for and that is not ours.
    TollGate,
}

fn addressee(config: &Config, request: &Request<Incoming>) -> Addressee {
    let path = request.uri().path();
    let is_browser =
        accepts_page(request.headers()) && matches!(*request.method(), Method::GET | Method::HEAD);
    match path {
        // Preflights are answered alike, but for paths that tills ask; what a page may really do is decided when it asks.
        _ if *request.method() == Method::OPTIONS => {
            match find(config, Audience::Guest, &Method::OPTIONS, path) {
                Ok(_) => Addressee::Own,
                Err(_) => Addressee::TollGate,
            }
        }
        // For programs it is a path like any other: only browsers come back to where a form was sent.
        "/pay" if !is_browser && *request.method() != Method::POST => Addressee::TollGate,
        _ if is_ours(config, path) => Addressee::Own,
        _ if !is_browser || is_of_tollgate(config, path) => Addressee::TollGate,
        "/" => Addressee::Own,
        _ => Addressee::Portal,
    }
}

fn rows(config: &Config, audience: Audience) -> impl Iterator<Item = &'static Route> + '_ {
    ROUTES.iter().filter(move |route| route.audience.contains(&audience) && route.needs.are_met(config))
}

/// Whether the first part of a path is one of our own interfaces, whose mistakes are said to be mistakes.
fn is_ours(config: &Config, path: &str) -> bool {
    let first = |path: &str| path.split('/').nth(1).unwrap_or_default().to_ascii_lowercase();
    let own = first(path);
    own == "admin" || (!own.is_empty() && rows(config, Audience::Guest).any(|route| first(route.path) == own))
}

/// Whether a path means the same to a browser and to a program. On other paths a browser is shown the portal.
fn is_of_tollgate(config: &Config, path: &str) -> bool {
    path != "/" && rows(config, Audience::TollGate).any(|route| route.path == path)
}

/// The row, and what the path has for its `*`; or the answer that says that there is no such row.
fn find<'a>(
    config: &Config,
    audience: Audience,
    method: &Method,
    path: &'a str,
) -> Result<(&'static Route, &'a str), Box<Answer>> {
    let mut allowed = Vec::new();
    for route in rows(config, audience) {
        let Some(rest) = route.rest(path) else { continue };
        if route.is_for_all_others() && !allowed.is_empty() {
            break;
        }
        match (route.method.takes(method), route.method) {
            (true, _) => return Ok((route, rest)),
            (false, Verb::Get | Verb::Post | Verb::Put | Verb::Delete) if !route.is_for_all_others() => {
                allowed.push(route.method.as_str());
            }
            (false, _) => {}
        }
    }
    Err(Box::new(if allowed.is_empty() {
        not_found(path)
    } else {
        method_not_allowed(path, allowed.into_iter())
    }))
}

async fn by_table(edge: &Arc<Edge>, at: &Entrance, request: Request<Incoming>) -> Answer {
    let path = match at.audience {
        Audience::Admin => without_empty_parts(request.uri().path()),
        _ => request.uri().path().to_owned(),
    };
    let (route, rest) = match find(&edge.site.config(), at.audience, request.method(), &path) {
        Ok(found) => found,
        Err(answer) if at.audience == Audience::Admin && answer.status() == StatusCode::NOT_FOUND => {
            return no_such_path();
        }
        Err(answer) if at.audience == Audience::Admin => {
            let sent = Sent::new(request, 0, String::new());
            // A caller who is not signed in does not learn what there is.
            let is_open = !path.starts_with("/admin");
            let signed_in =
                if is_open { Ok(()) } else { admin::signed_in(edge, at, &sent, true).await.map(drop) };
            return signed_in.map_or_else(|refused| *refused, |()| other_method(&answer));
        }
        Err(answer) => return *answer,
    };
    let mut sent = Sent::new(request, route.limit, rest.to_owned());
    let visit = match route.handler {
        Handler::Page(_) | Handler::Client(_) | Handler::PageOrClient(_) | Handler::Socket(_) => {
            match visit(edge, at, route, &sent) {
                Ok(visit) => Some(visit),
                Err(answer) => return *answer,
            }
        }
        Handler::Same(_) | Handler::Anonymous(_) | Handler::At(_) | Handler::TollGate(_) => None,
    };
    if let Guard::Bearer | Guard::Operator(_) = route.guard {
        let is_newer = route.guard != Guard::Bearer || admin::is_of_vouchers(&path);
        match admin::signed_in(edge, at, &sent, is_newer).await {
            Ok(operator) => sent.operator = Some(operator),
            Err(refused) => return *refused,
        }
    }
    if let (Guard::Operator(role), Some(operator)) = (route.guard, &sent.operator) {
        if operator.role < role {
            return admin::role_needed(edge, operator, route.path, role);
        }
    }
    if let Some(refused) = turned_away(edge, at, route, sent.headers()) {
        return refused;
    }
    if route.needs_keys(sent.method()) && edge.site.is_sealed() {
        return sealed();
    }
    match (route.handler, visit) {
        (Handler::Same(handler), _) => handler(edge, at),
        (Handler::Anonymous(handler), _) => handler(edge.clone(), sent).await,
        (Handler::At(handler), _) => handler(edge.clone(), at.clone(), sent).await,
        (Handler::Page(handler), Some(visit))
        | (Handler::Client(handler), Some(visit))
        | (Handler::PageOrClient(handler), Some(visit))
        | (Handler::Socket(handler), Some(visit)) => handler(edge.clone(), visit, sent).await,
        // `for_program` finds the caller of a TollGate path.
        (_, _) => not_found(route.path),
    }
}

/// Answers a TollGate client: the caller need not be known, and every answer names the client that it is about.
async fn for_program(edge: &Arc<Edge>, at: &Entrance, request: Request<Incoming>) -> Answer {
    let headers = request.headers().clone();
    let query = request.uri().query().map(pairs).unwrap_or_default();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let asker = Asker::find(edge, at, &headers, query);
    let subject = asker.as_ref().map(Asker::subject);
    let mut answer = match (find(&edge.site.config(), Audience::TollGate, request.method(), &path), asker) {
        (Err(refused), _) => *refused,
        (Ok((Route { handler: Handler::Same(handler), .. }, _)), _) => handler(edge, at),
        (Ok((route @ Route { handler: Handler::TollGate(handler), .. }, rest)), Some(asker)) => {
            match turned_away(edge, at, route, &headers) {
                Some(refused) => refused,
                None => {
                    let sent = Sent::new(request, route.limit, rest.to_owned());
                    handler(edge.clone(), asker, sent).await
                }
            }
        }
        (Ok(_), _) => not_found(&path),
    };
    let config = edge.site.config();
    let trusted = cors::trusted_origin(&headers, at.asked_at(&config));
    match cors::wallet_origin(&method, &headers).filter(|_| trusted.is_none() && path == PAYMENT_REQUEST) {
        Some(wallet) => cors::permit_wallet(&mut answer, wallet),
        None => cors::permit(&mut answer, trusted),
    }
    if let Some(subject) = subject {
        subject.name_in(&mut answer, &headers);
    }
    answer
}

/// `//admin/cards/` is `/admin/cards`.
fn without_empty_parts(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty()).map(|part| format!("/{part}")).collect()
}

/// What is known of the calling guest. A guest without a known MAC cannot be let in, so nothing is sold to it.
fn visit(edge: &Edge, at: &Entrance, route: &Route, sent: &Sent) -> Result<Visit, Box<Answer>> {
    let config = edge.site.config();
    let Some(venue) = config.venue_of_device(at.device()).cloned() else {
        return Err(Box::new(not_found(route.path)));
    };
    let headers = sent.headers().clone();
    let query = pairs(sent.query());
    match edge.neighbours.identify(at.device(), at.peer) {
        Ok(caller) => {
            let (is_tls, local) = (at.is_tls, at.local);
            let visit = Visit { config, venue, caller, is_tls, local, headers, query, remembered: None };
            if let Some(lang) = visit.lang() {
                edge.languages.remember(visit.caller.mac, lang);
            }
            Ok(Visit { remembered: edge.languages.of(visit.caller.mac), ..visit })
        }
        Err(err) => {
            log::info!("a guest cannot be identified: {err}");
            Err(Box::new(match route.handler {
                Handler::Page(_) => show::unknown_device(&venue, &headers, &query),
                Handler::PageOrClient(_) if is_form(&headers) => {
                    let mut page = show::unknown_device(&venue, &headers, &query);
                    if route.needs == Needs::Mpesa {
                        *page.status_mut() = StatusCode::FORBIDDEN;
                    }
                    page
                }
                _ if route.needs == Needs::Mpesa => mpesa::unknown_device(),
                _ => {
                    let message = "Failed to identify client";
                    error_at(route.path, StatusCode::BAD_REQUEST, "unknown_device", message)
                }
            }))
        }
    }
}

/// The refusal of the route's guard.
fn turned_away(edge: &Edge, at: &Entrance, route: &Route, headers: &HeaderMap) -> Option<Answer> {
    let config = edge.site.config();
    let asked_at = at.asked_at(&config);
    let may_ask = match route.guard {
        // These guards have been checked before.
        Guard::Anyone | Guard::Bearer | Guard::Operator(_) | Guard::Signature => true,
        Guard::Origin | Guard::Account => {
            origin_allowed(headers, asked_at)
                || cors::app_origin(&config, at.audience, route.path, headers).is_some()
        }
        Guard::OwnPage => may_see_ticket(headers, asked_at),
        Guard::TrustedPage => {
            !headers.contains_key(header::ORIGIN) || cors::trusted_origin(headers, asked_at).is_some()
        }
    };
    (!may_ask).then(|| match route.handler {
        Handler::TollGate(_) => tollgate::foreign_page(),
        Handler::At(_) => {
            let message = "only pages of this router may ask";
            ErrorBody { code: "forbidden", message, details: &[] }.answer(StatusCode::FORBIDDEN)
        }
        Handler::Socket(_) => foreign_origin(route.path, "connect"),
        _ => foreign_origin(route.path, "ask"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "config tollgate\n\toption enabled '0'\n";

    fn config(text: &str) -> Config {
        Config::from_uci(text).unwrap().0
    }

    fn path_of(audience: Audience, method: Method, path: &str) -> Result<&'static str, (StatusCode, String)> {
        find(&config(CONFIG), audience, &method, path).map(|(route, _)| route.path).map_err(|refused| {
            let allowed = refused.headers().get(header::ALLOW).map(|value| value.to_str().unwrap());
            (refused.status(), allowed.unwrap_or_default().to_owned())
        })
    }

    fn refused<T>(status: StatusCode, allowed: &str) -> Result<T, (StatusCode, String)> {
        Err((status, allowed.to_owned()))
    }

    #[test]
    fn a_path_with_another_method_says_which_it_takes() {
        let guest = |method, path| path_of(Audience::Guest, method, path);
        assert_eq!(guest(Method::DELETE, "/mint-requests"), refused(StatusCode::METHOD_NOT_ALLOWED, "POST"));
        assert_eq!(guest(Method::GET, "/etc/passwd"), refused(StatusCode::NOT_FOUND, ""));
        assert_eq!(guest(Method::HEAD, "/mint-requests/abc"), Ok("/mint-requests/**"));
    }

    #[test]
    fn unknown_paths_of_the_protocol_are_answered_with_the_offer_and_take_no_posts() {
        let program = |method, path| path_of(Audience::TollGate, method, path);
        for path in ["/pay-me", "/x/y", "/portal"] {
            assert_eq!(program(Method::GET, path), Ok("*"), "{path}");
            assert_eq!(program(Method::OPTIONS, path), Ok("**"), "{path}");
            assert!(rows(&config(CONFIG), Audience::TollGate)
                .any(|route| route.path == "*" && route.method == Verb::Post));
        }
        assert_eq!(program(Method::OPTIONS, "/usage"), Ok("**"));
        assert_eq!(program(Method::GET, "/"), Ok("/"));
    }

    #[test]
    fn of_the_protocol_only_usage_and_the_offer_take_any_method() {
        let program = |method, path| path_of(Audience::TollGate, method, path);
        assert_eq!(program(Method::DELETE, "/usage"), Ok("/usage"));
        assert_eq!(program(Method::POST, "/balance"), refused(StatusCode::METHOD_NOT_ALLOWED, "GET"));
        assert_eq!(program(Method::PUT, "/ln-invoice"), refused(StatusCode::METHOD_NOT_ALLOWED, "POST, GET"));
        assert_eq!(program(Method::HEAD, "/whoami"), Ok("/whoami"));
    }

    #[test]
    fn what_is_the_operators_is_seen_by_its_first_part() {
        let guard = |path: &str| {
            find(&config(CONFIG), Audience::Admin, &Method::GET, path).map(|(route, _)| route.guard).ok()
        };
        for path in ["/api", "/api/", "/api/x", "/admin/cards", "/admin", "/admin/cards/7/nothing"] {
            assert_eq!(guard(path), Some(Guard::Bearer), "{path}");
        }
        for path in ["/", "/apiary", "/administer"] {
            assert_eq!(guard(path), None, "{path}");
        }
        assert_eq!(without_empty_parts("//admin/cards/"), "/admin/cards");
    }

    #[test]
    fn what_moves_money_or_shows_a_ticket_is_guarded() {
        for route in ROUTES.iter().filter(|route| route.method == Verb::Post) {
            // A card, a one-time code or a token is its own proof; the posts that are refused do nothing.
            let proves_itself = matches!(route.path, "/new" | "/" | "*" | "/verify/**" | "/cb/**");
            assert_eq!(route.guard == Guard::Anyone, proves_itself, "{}", route.path);
        }
        let config = config(CONFIG);
        let operators = rows(&config, Audience::Admin)
            .filter(|route| !route.path.starts_with("/health") && !route.path.starts_with("/tickets"));
        let is_guarded =
            |route: &Route| matches!(route.guard, Guard::Bearer | Guard::Operator(_) | Guard::Signature);
        assert!(operators.into_iter().all(|route| is_guarded(route)
            && route.audience.iter().all(|to| matches!(to, Audience::Admin | Audience::Public))));
    }

    #[test]
    fn what_needs_a_section_is_not_there_without_it() {
        let with = config(&format!("{CONFIG}config auth\n\toption domain 'w.example'\n"));
        let count = |config: &Config, audience| rows(config, audience).count();
        for (audience, more) in [(Audience::Guest, 23), (Audience::Public, 12), (Audience::Admin, 9)] {
            assert_eq!(count(&with, audience), count(&config(CONFIG), audience) + more, "{audience:?}");
        }
        for path in ["/me", "/lnauth", "/lnauth_login/abc", "/ws", "/wallet"] {
            assert!(is_ours(&with, path) && !is_ours(&config(CONFIG), path), "{path}");
        }
    }
}
