//! Logging in with a wallet: what a browser asks and types, what a wallet calls, and what the bearer of a token may ask.
//!
//! A browser is known by its device and by a cookie; a wallet by what it signs. At the operator's socket everything is for
//! operators, elsewhere for guests. No answer to a `HEAD`: what is told once must be read.

use super::answer::{self, Answer};
use super::entrance::{field, Audience, Entrance};
use super::error_body::ErrorBody;
use super::route::Answering;
use super::sent::Sent;
use super::Edge;
use crate::access::{Belongings, TicketError};
use crate::auth::{
    Action, Answered, Auth, AuthError, Callback, Claims, ConfirmRefusal, CookieId, LoginRefusal,
    LoginStation, NewChallenge, Standing,
};
use crate::commands::write_down;
use crate::config::OperatorConfig;
use crate::form::pairs;
use crate::hex;
use crate::json::json;
use crate::store::{with_change, AccountKey, Changing, Claim, LoginAudience, NewAuditRow};
use crate::task;
use crate::units::{Allotment, Millis};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;

const COOKIE: &str = "lnauth";
/// Over https: what is set over http is not taken for it (RFC 6265bis, 4.1.3.2).
const SECURE_COOKIE: &str = "__Host-lnauth";
/// Cookies of that name that are looked at.
const COOKIES: usize = 4;
/// More fields than anybody sends: what stands behind them is not read, and could be a second of a kind.
const MOST_FIELDS: usize = 24;
/// What wallets send, each once.
const SENT_ONCE: [&str; 5] = ["tag", "k1", "action", "sig", "key"];

/// `GET /lnauth?[socketKey=K][&action=login|link|auth][&aud=client|admin]`: something for a wallet to sign.
pub fn challenge(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move {
        let asked = begun(&edge, &at, &sent);
        match asked {
            Ok(made) => {
                let mut answer = answer::json(StatusCode::OK, &told(&made));
                give_cookie(&mut answer, at.is_tls, &made);
                answer
            }
            Err(refused) => *refused,
        }
    })
}

/// What the browser shows from now on.
pub fn give_cookie(answer: &mut Answer, is_tls: bool, made: &NewChallenge) {
    if let Ok(cookie) = HeaderValue::from_str(&set_cookie(is_tls, &made.cookie)) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
}

fn told(made: &NewChallenge) -> Value {
    json!({
        "k1": made.k1,
        "encode": made.links.encode,
        "url": made.links.url,
        "keyauth": made.links.keyauth,
        "expires_in": made.expires_in.as_secs_ceil(),
        "confirm": made.confirm,
    })
}

fn begun(edge: &Edge, at: &Entrance, sent: &Sent) -> Result<NewChallenge, Box<Answer>> {
    must_read(sent)?;
    let query = pairs(sent.query());
    only_once(&query, &["socketKey", "action", "aud"])?;
    let own = audience(at);
    match field(&query, "aud").map(LoginAudience::parse) {
        Some(None) => return Err(bad("aud must be client or admin")),
        Some(Some(asked)) if asked != own => return Err(refused(&AuthError::OtherAudience)),
        _ => {}
    }
    let action = field(&query, "action").map_or(Some(Action::Login), Action::parse);
    let action = action.ok_or_else(|| bad("action must be login, link or auth"))?;
    let socket = match field(&query, "socketKey") {
        Some(key) => Some(hex::decode(key).ok_or_else(|| refused(&AuthError::NoSocket))?),
        None => None,
    };
    let station = station(edge, at)?;
    let made = auth(edge)?.challenge((station, &cookies(at.is_tls, sent.headers())), (own, action), socket);
    made.map_err(|error| refused(&error))
}

/// `GET /lnauth_status?k1=...`: what became of it, for the browser that asked.
pub fn status(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move {
        let stands = || {
            must_read(&sent)?;
            let query = pairs(sent.query());
            only_once(&query, &["k1"])?;
            let k1 =
                field(&query, "k1").and_then(hex::decode).ok_or_else(|| bad("k1 must be 64 hex digits"))?;
            let station = station(&edge, &at)?;
            Ok::<_, Box<Answer>>(auth(&edge)?.standing(&k1, (station, &cookies(at.is_tls, sent.headers()))))
        };
        let status = |status: &str| answer::json(StatusCode::OK, &json!({"status": status}));
        match stands() {
            Ok(Standing::Pending) => status("pending"),
            Ok(Standing::Confirm) => status("confirm"),
            Ok(Standing::Expired) => status("expired"),
            Ok(Standing::Ok(None)) => status("ok"),
            Ok(Standing::Ok(Some(delivery))) => {
                let user = edge.site.shop.as_ref().map_or(Value::Null, |shop| {
                    shop.auth.user(&delivery.key, &delivery.role, delivery.account.as_deref())
                });
                answer::json(StatusCode::OK, &json!({"status": "ok", "jwt": delivery.token, "user": user}))
            }
            Ok(Standing::Foreign) => *foreign(),
            Err(refused) => *refused,
        }
    })
}

/// `POST /lnauth_confirm` of `{"k1","code"}`: the two digits that the wallet's side was told.
pub fn confirm(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move {
        let (headers, station) = (sent.headers().clone(), station(&edge, &at));
        let text = match sent.text().await {
            Ok(text) => text,
            Err(answer) => return answer,
        };
        let confirmed = async {
            let station = station?;
            let (k1, code) =
                digits(&text).ok_or_else(|| bad("send k1, of 64 hex digits, and code, of two digits"))?;
            let done = auth(&edge)?.confirm(&k1, (station, &cookies(at.is_tls, &headers)), code).await;
            done.map_err(|why| match &why {
                ConfirmRefusal::Foreign => foreign(),
                ConfirmRefusal::Wrong => {
                    note_refused(&edge, &at, "login", "wrong_code");
                    error(StatusCode::FORBIDDEN, "wrong_code", &why.to_string())
                }
                ConfirmRefusal::Unasked => error(StatusCode::BAD_REQUEST, "code_expired", &why.to_string()),
                ConfirmRefusal::Closed(error) => refused(error),
            })
        };
        match confirmed.await {
            Ok(()) => answer::json(StatusCode::OK, &json!({"status": "ok"})),
            Err(refused) => *refused,
        }
    })
}

/// The k1, and the number that two digits are: as a text or, as some clients write them, as a number.
fn digits(text: &str) -> Option<([u8; 32], u8)> {
    let sent: Value = serde_json::from_str(text).ok()?;
    let k1 = hex::decode(sent.get("k1")?.as_str()?)?;
    let code = match sent.get("code")? {
        Value::String(code) if code.len() == 2 && code.bytes().all(|b| b.is_ascii_digit()) => {
            code.parse().ok()?
        }
        Value::Number(code) => code.as_u64().and_then(|code| u8::try_from(code).ok())?,
        _ => return None,
    };
    (code < 100).then_some((k1, code))
}

/// `GET /lnauth_login[/K1]?tag&k1&action&sig&key`: a wallet's answer (LUD-04). One object of JSON, whatever happens.
pub fn callback(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move {
        if *sent.method() != Method::GET {
            let reason = "this path takes GET";
            let mut answer =
                lnurl(StatusCode::METHOD_NOT_ALLOWED, &json!({"status": "ERROR", "reason": reason}));
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
            return answer;
        }
        match answered(&edge, &at, &sent).await {
            Ok(Answered::LoggedIn) => lnurl(StatusCode::OK, &json!({"status": "OK"})),
            Ok(Answered::Code(code)) => {
                lnurl(StatusCode::OK, &json!({"status": "OK", "message": format!("Code {code:02}")}))
            }
            Ok(Answered::Enrols(operator)) => match enrol(&edge, operator).await {
                Ok(()) => lnurl(StatusCode::OK, &json!({"status": "OK"})),
                Err(why) => {
                    log::error!("nobody is enrolled: {why}");
                    let reason = "the router could not write it down";
                    lnurl(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "ERROR", "reason": reason}))
                }
            },
            Err(why) => {
                let code = match &why {
                    LoginRefusal::NotAllowed => Some("forbidden"),
                    LoginRefusal::Signature => Some("invalid_signature"),
                    _ => None,
                };
                if let (Ok(shop), Some(code)) = (&edge.site.shop, code) {
                    let from = caller_address(&at, sent.headers());
                    shop.audit.refused(NewAuditRow::of_stranger("login", from, code));
                }
                lnurl_refusal(&why)
            }
        }
    })
}

/// What has begun comes to its end, and into the audit log, if the wallet goes away, too.
async fn enrol(edge: &Edge, operator: OperatorConfig) -> Result<(), String> {
    let desk = edge.desk.clone();
    let writing = task::start(async move { write_down(&desk, operator).await });
    writing.await.unwrap_or_else(|_| Err("the daemon is stopping".to_owned()))
}

async fn answered(edge: &Edge, at: &Entrance, sent: &Sent) -> Result<Answered, LoginRefusal> {
    let query = pairs(sent.query());
    if let Some(twice) = SENT_ONCE.into_iter().find(|name| is_twice(&query, name)) {
        return Err(LoginRefusal::Parameter(twice));
    }
    if query.len() > MOST_FIELDS {
        return Err(LoginRefusal::Parameter("too many"));
    }
    if field(&query, "tag").is_some_and(|tag| tag != "login") {
        return Err(LoginRefusal::Parameter("tag"));
    }
    let in_path = Some(sent.rest.as_str()).filter(|k1| !k1.is_empty());
    let k1 = match (in_path, field(&query, "k1")) {
        (Some(path), Some(query)) if !path.eq_ignore_ascii_case(query) => {
            return Err(LoginRefusal::Parameter("k1"));
        }
        (path, query) => path.or(query),
    };
    let Ok(shop) = &edge.site.shop else {
        return Err(LoginRefusal::Closed(AuthError::Store(crate::store::StoreError::Closed)));
    };
    // What comes through a tunnel is from anywhere.
    let mac = match at.audience {
        Audience::Guest => edge.neighbours.identify(at.device(), at.peer).ok().map(|caller| caller.mac),
        _ => None,
    };
    let (sig, key) = (field(&query, "sig"), field(&query, "key"));
    let address = caller_address(at, sent.headers());
    shop.auth.callback(Callback { k1, sig, key, mac, address }).await
}

/// Who calls, where a proxy on this router passes that on: what is nearest to us is last.
pub fn caller_address(at: &Entrance, headers: &HeaderMap) -> IpAddr {
    let passed_on = || {
        let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
        last.rsplit(',').next()?.trim().parse::<IpAddr>().ok()
    };
    match at.audience == Audience::Public && at.peer.is_loopback() {
        true => passed_on().map_or(at.peer, |address| address.to_canonical()),
        false => at.peer,
    }
}

fn lnurl_refusal(why: &LoginRefusal) -> Answer {
    let status = match why {
        LoginRefusal::K1 | LoginRefusal::Parameter(_) => StatusCode::BAD_REQUEST,
        LoginRefusal::Signature => StatusCode::UNAUTHORIZED,
        LoginRefusal::NotAllowed => StatusCode::FORBIDDEN,
        LoginRefusal::NotLinked(_) => StatusCode::CONFLICT,
        LoginRefusal::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
        LoginRefusal::Closed(cause) => {
            log::warn!("no login: {cause}");
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    let mut answer = lnurl(status, &json!({"status": "ERROR", "reason": why.to_string()}));
    let wait = match why {
        LoginRefusal::TooMany(wait) => Some(*wait),
        LoginRefusal::NotLinked(cause) => cause.wait(),
        _ => None,
    };
    wait.into_iter().for_each(|wait| come_back(&mut answer, wait));
    answer
}

/// Wallets that are web pages ask too, from wherever they are.
fn lnurl(status: StatusCode, value: &Value) -> Answer {
    let mut answer = answer::json(status, value);
    answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    answer
}

/// `GET /me`: who the bearer of the token is.
pub fn me(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move {
        let told = async {
            let claims = bearer(&edge, &at, sent.headers()).await?;
            who(&edge, &at, &claims).await
        };
        told.await.map_or_else(|refused| *refused, |me| answer::json(StatusCode::OK, &me))
    })
}

/// With the account that the key stands for, and what is left of it where it is asked.
async fn who(edge: &Edge, at: &Entrance, claims: &Claims) -> Result<Value, Box<Answer>> {
    let auth = auth(edge)?;
    let account = auth.account_of(&claims.key, claims.audience).await.map_err(|error| refused(&error))?;
    let mut me = auth.user(&claims.key, &claims.role, account.as_deref());
    (me["macs"], me["remaining"]) = (Value::Array(Vec::new()), Value::Null);
    let config = edge.site.config();
    let venue = config.venue_of_device(at.device());
    let (Some(_), Some(venue), LoginStation::Mac(mac), Ok(shop)) =
        (account, venue, station(edge, at)?, &edge.site.shop)
    else {
        return Ok(me);
    };
    let key = AccountKey::Claim(Claim::Key(claims.key.to_string()));
    let belongings = shop.access.belongings(&key, mac, &venue.id).await;
    if let Some(Belongings { macs, remaining }) = belongings.map_err(|error| refused(&error.into()))? {
        let (metric, amount) = remaining.unwrap_or((venue.metric, Allotment::ZERO));
        me["macs"] = macs.iter().map(|mac| Value::from(mac.to_string())).collect();
        me["remaining"] = json!({"metric": metric.as_str(), "amount": amount.0});
    }
    Ok(me)
}

/// `GET /refresh_jwt`: a new token in place of this one.
pub fn refresh(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move {
        let renewed = async {
            must_read(&sent)?;
            let token = token(sent.headers()).ok_or_else(unauthorized)?;
            let auth = auth(&edge)?;
            let renewed = async {
                let issued = auth.refresh(token, audience(&at)).await?;
                let account = auth.account_of(&issued.claims.key, issued.claims.audience).await?;
                let user = auth.user(&issued.claims.key, &issued.claims.role, account.as_deref());
                Ok((issued, user))
            };
            renewed.await.map_err(|error| refused(&error))
        };
        match renewed.await {
            Ok((issued, user)) => {
                let told = json!({"k1": "", "status": true, "jwt": issued.token, "user": user});
                answer::json(StatusCode::OK, &told)
            }
            Err(refused) => *refused,
        }
    })
}

/// `POST /logout`: this token counts no more.
pub fn log_out(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move {
        let done = async {
            let claims = bearer(&edge, &at, sent.headers()).await?;
            let ending = Box::pin(auth(&edge)?.log_out(&claims));
            ended(&edge, &claims, "logout", ending).await
        };
        done.await.map_or_else(|refused| *refused, |()| answer::empty(StatusCode::NO_CONTENT))
    })
}

/// `POST /logout_all`: no token of this key counts any more.
pub fn log_out_all(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move {
        let done = async {
            let claims = bearer(&edge, &at, sent.headers()).await?;
            let ending = Box::pin(auth(&edge)?.log_out_all(&claims));
            ended(&edge, &claims, "logout_all", ending).await
        };
        done.await.map_or_else(|refused| *refused, |()| answer::empty(StatusCode::NO_CONTENT))
    })
}

/// Who bears the token in the headers.
pub async fn bearer(edge: &Edge, at: &Entrance, headers: &HeaderMap) -> Result<Claims, Box<Answer>> {
    let token = token(headers).ok_or_else(unauthorized)?;
    let claims = auth(edge)?.identify(token, audience(at)).await;
    claims.map_err(|error| {
        note_refused(edge, at, "login", "unauthorized");
        refused(&error)
    })
}

/// What was refused at the operator's interface is in the audit log.
fn note_refused(edge: &Edge, at: &Entrance, what: &str, result: &str) {
    if let (LoginAudience::Admin, Ok(shop)) = (audience(at), &edge.site.shop) {
        shop.audit.refused(NewAuditRow::of_stranger(what, at.peer, result));
    }
}

/// Ends logins. Where an operator ends the own ones, that is in the audit log by the same commit.
async fn ended(
    edge: &Edge,
    claims: &Claims,
    what: &str,
    ending: Changing<'_, Result<(), AuthError>>,
) -> Result<(), Box<Answer>> {
    let config = edge.site.config();
    let operator = config.operator(&claims.key.to_bytes());
    let done = match operator.filter(|_| claims.audience == LoginAudience::Admin) {
        Some(operator) => {
            let row = NewAuditRow::new(&operator.name, operator.role.as_str(), what, "", "ok");
            with_change(row, ending).await.0
        }
        None => ending.await,
    };
    done.map_err(|error| refused(&error))
}

/// The token in `x-jwt`, or in `Authorization: Bearer`.
pub fn token(headers: &HeaderMap) -> Option<&str> {
    if let Some(token) = headers.get("x-jwt") {
        return token.to_str().ok();
    }
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whom a socket is for: operators or guests.
pub fn audience(at: &Entrance) -> LoginAudience {
    match at.audience {
        Audience::Admin => LoginAudience::Admin,
        _ => LoginAudience::Client,
    }
}

/// The device that asks: a guest's by its MAC address, the operator's by its address.
pub fn station(edge: &Edge, at: &Entrance) -> Result<LoginStation, Box<Answer>> {
    if at.audience == Audience::Admin {
        return Ok(LoginStation::Address(at.peer));
    }
    match edge.neighbours.identify(at.device(), at.peer) {
        Ok(caller) => Ok(LoginStation::Mac(caller.mac)),
        Err(err) => {
            log::info!("a guest cannot be identified: {err}");
            Err(error(StatusCode::BAD_REQUEST, "unknown_device", "the router does not know this device"))
        }
    }
}

/// Where the shop is closed, nobody logs in.
pub fn auth(edge: &Edge) -> Result<&Auth, Box<Answer>> {
    match &edge.site.shop {
        Ok(shop) => Ok(&shop.auth),
        Err(closed) => Err(error(StatusCode::SERVICE_UNAVAILABLE, closed.code, "nothing works here now")),
    }
}

fn cookie_name(is_tls: bool) -> &'static str {
    match is_tls {
        true => SECURE_COOKIE,
        false => COOKIE,
    }
}

fn set_cookie(is_tls: bool, id: &CookieId) -> String {
    let secure = if is_tls { "; Secure" } else { "" };
    format!("{}={}; HttpOnly; SameSite=Strict; Path=/{secure}", cookie_name(is_tls), hex::encode(id))
}

/// What our cookies say, in a browser that may have several.
pub fn cookies(is_tls: bool, headers: &HeaderMap) -> Vec<CookieId> {
    let own = cookie_name(is_tls);
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == own).filter_map(|(_, id)| hex::decode(id)).take(COOKIES).collect()
}

/// The answer to a token that is missing, or refused.
pub fn refused(why: &AuthError) -> Box<Answer> {
    let message = why.to_string();
    match why {
        AuthError::Token(fault) => {
            log::info!("a token {fault}");
            unauthorized()
        }
        AuthError::OtherAudience => error(StatusCode::FORBIDDEN, "forbidden", &message),
        AuthError::NotAllowed => error(StatusCode::FORBIDDEN, "forbidden", &message),
        AuthError::NoSocket => bad(&message),
        AuthError::NoClock => error(StatusCode::SERVICE_UNAVAILABLE, "clock_not_set", &message),
        AuthError::TooMany(wait) => {
            let mut answer = error(StatusCode::TOO_MANY_REQUESTS, "too_many", &message);
            come_back(&mut answer, *wait);
            answer
        }
        AuthError::NotLinked(cause) => {
            let (status, code) = match cause {
                TicketError::TooSoon(_) => (StatusCode::CONFLICT, "cooldown"),
                TicketError::TooManyClaims => (StatusCode::CONFLICT, "too_many"),
                TicketError::Store(error) => (StatusCode::SERVICE_UNAVAILABLE, error.code()),
                _ => (StatusCode::NOT_FOUND, "nothing_to_move"),
            };
            let mut answer = error(status, code, &message);
            if let Some(wait) = cause.wait() {
                come_back(&mut answer, wait);
            }
            answer
        }
        AuthError::Off => error(StatusCode::NOT_FOUND, "not_found", &message),
        AuthError::Store(cause) => {
            log::warn!("no login: {cause}");
            error(StatusCode::SERVICE_UNAVAILABLE, cause.code(), "not possible now, try again later")
        }
    }
}

fn unauthorized() -> Box<Answer> {
    let mut answer = error(StatusCode::UNAUTHORIZED, "unauthorized", "log in first");
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

pub fn foreign() -> Box<Answer> {
    error(StatusCode::FORBIDDEN, "forbidden", "this login was begun elsewhere")
}

fn bad(message: &str) -> Box<Answer> {
    error(StatusCode::BAD_REQUEST, "invalid_input", message)
}

pub fn error(status: StatusCode, code: &str, message: &str) -> Box<Answer> {
    Box::new(ErrorBody { code, message, details: &[] }.answer(status))
}

pub fn come_back(answer: &mut Answer, wait: Millis) {
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs_ceil()));
}

pub fn must_read(sent: &Sent) -> Result<(), Box<Answer>> {
    match *sent.method() == Method::HEAD {
        true => Err(error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path takes GET")),
        false => Ok(()),
    }
}

fn only_once(query: &[(String, String)], names: &[&str]) -> Result<(), Box<Answer>> {
    match names.iter().find(|name| is_twice(query, name)) {
        Some(name) => Err(bad(&format!("{name} is there twice"))),
        None => Ok(()),
    }
}

fn is_twice(query: &[(String, String)], name: &str) -> bool {
    query.iter().filter(|(known, _)| known == name).count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_token_is_in_either_header_and_nowhere_else() {
        assert_eq!(token(&with("x-jwt", &["a.b.c"])), Some("a.b.c"));
        assert_eq!(token(&with("authorization", &["bearer a.b.c"])), Some("a.b.c"));
        assert_eq!(token(&with("authorization", &["Basic a.b.c"])), None);
        assert_eq!(token(&with("authorization", &["a.b.c"])), None);
        assert_eq!(token(&with("cookie", &["x-jwt=a.b.c"])), None);
    }

    #[test]
    fn cookies_of_others_are_passed_over_and_all_of_ours_are_read() {
        let (one, two) = ("01".repeat(16), "02".repeat(16));
        let sent = [
            format!("a=b; {COOKIE}={one};{COOKIE}x={two}; {COOKIE}=zz"),
            format!("x{COOKIE}={two}; {COOKIE}={two}"),
        ];
        let sent: Vec<&str> = sent.iter().map(String::as_str).collect();
        assert_eq!(cookies(false, &with("cookie", &sent)), [[1; 16], [2; 16]]);
        assert!(cookies(false, &HeaderMap::new()).is_empty());
        assert!(cookies(true, &with("cookie", &sent)).is_empty(), "set over http");
        let set = set_cookie(true, &[1; 16]);
        assert_eq!(set, format!("__Host-lnauth={one}; HttpOnly; SameSite=Strict; Path=/; Secure"));
        assert_eq!(cookies(true, &with("cookie", &[set.as_str()])), [[1; 16]]);
    }

    #[test]
    fn two_digits_are_two_digits() {
        let k1 = "ab".repeat(32);
        let read = |code: &str| digits(&format!("{{\"k1\":\"{k1}\",\"code\":{code}}}"));
        for (code, number) in [("\"42\"", 42), ("\"07\"", 7), ("7", 7), ("99", 99), ("\"00\"", 0)] {
            assert_eq!(read(code), Some(([0xab; 32], number)), "{code}");
        }
        for code in ["\"7\"", "\"+7\"", "\"007\"", "100", "-1", "4.2", "null", "\"\"", "[4,2]"] {
            assert_eq!(read(code), None, "{code}");
        }
        assert_eq!(digits("{\"k1\":\"ab\",\"code\":\"42\"}"), None);
    }

    #[test]
    fn only_a_proxy_on_this_router_says_who_calls() {
        let at = |audience, peer: &str| Entrance {
            audience,
            is_tls: false,
            device: None,
            peer: peer.parse().unwrap(),
            local: None,
        };
        let headers = with("x-forwarded-for", &["198.51.100.1", "203.0.113.9, 198.51.100.7"]);
        let said = |audience, peer| caller_address(&at(audience, peer), &headers).to_string();
        assert_eq!(said(Audience::Public, "127.0.0.1"), "198.51.100.7");
        assert_eq!(said(Audience::Public, "192.168.1.9"), "192.168.1.9");
        assert_eq!(said(Audience::Guest, "192.168.77.11"), "192.168.77.11");
        let nobody = caller_address(&at(Audience::Public, "127.0.0.1"), &with("x-forwarded-for", &["x"]));
        assert_eq!(nobody.to_string(), "127.0.0.1");
    }
}
