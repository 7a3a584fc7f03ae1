//! The wallet API of apps: logging in by a wallet's signature, under the paths and in the envelope that SatsConnect's clients
//! know. Where there is https, over that only; never at the operator's socket, nor at the plain public one.

use super::answer::{self, Answer};
use super::entrance::{Audience, Entrance};
use super::login::{self, caller_address, token};
use super::route::Answering;
use super::sent::Sent;
use super::{buys, payouts, Edge};
use crate::auth::{Action, Auth, AuthError, Callback, Issued, LoginRefusal, LoginStation};
use crate::config::fiat::MOST_KES;
use crate::correlation;
use crate::json::json;
use crate::shop::Shop;
use crate::store::{LoginAudience, StoreError};
use crate::units::{Millis, UnixSeconds};
use crate::vouchers::VoucherRefusal;
use hyper::header::{self, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;

/// Why something is not done: status, code, sentence, and when to come again.
pub(super) struct ApiRefusal(StatusCode, &'static str, String, Option<Millis>);

pub(super) type ApiTold = Result<Value, ApiRefusal>;

/// `POST /api/auth/login` of `{}`: something to sign (LUD-04); of `{"k1","key","sig"}`: the token.
pub fn log_in(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move { enveloped(logged_in(&edge, &at, sent).await) })
}

/// `POST /api/auth/refresh`: a new token in place of this one.
pub fn refresh(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move {
        let renewed = async {
            let (auth, token) = bearer(&edge, &at, &sent)?;
            let issued = auth.refresh(token, LoginAudience::Client).await.map_err(of_auth)?;
            Ok(json!({"token": issued.token, "expires_at": issued.claims.expires.0}))
        };
        enveloped(renewed.await)
    })
}

/// `POST /api/auth/logout`: this token counts no more.
pub fn log_out(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move {
        let done = async {
            let (auth, token) = bearer(&edge, &at, &sent)?;
            let claims = auth.identify(token, LoginAudience::Client).await.map_err(of_auth)?;
            auth.log_out(&claims).await.map_err(of_auth)?;
            Ok(json!({}))
        };
        enveloped(done.await)
    })
}

/// `/api/fiat/**`: what shillings do beside access. Each is switched off unless `config fiat` says otherwise.
pub fn fiat(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move {
        let asked = async {
            let holder = holder(&edge, &at, &sent).await?;
            let config = edge.site.config();
            let fiat = config.fiat.as_ref().filter(|fiat| fiat.operator_licensed);
            let path = sent.rest.clone();
            if sent.method() == Method::GET {
                return match path.as_str() {
                    "mpesa/limits" => {
                        let daily = fiat.map_or(0, |fiat| fiat.day_max.0);
                        Ok(json!({"min": 1, "max": MOST_KES, "daily": daily}))
                    }
                    "airtime/providers" => Ok(payouts::providers(&config)),
                    path => buys::transaction(&edge, &holder, path.strip_prefix("transaction/")).await,
                };
            }
            if sent.method() != Method::POST {
                return Err(nothing_there());
            }
            match (path.as_str(), payouts::kind_of(&path)) {
                (_, Some(kind)) => payouts::pay_out(&edge, &holder, kind, sent).await,
                ("mpesa/buy", _) if fiat.is_some_and(|fiat| fiat.buy) => {
                    buys::buy(&edge, &holder, sent).await
                }
                ("mpesa/buy", _) => {
                    Err(refusal(StatusCode::FORBIDDEN, "switched_off", "this is switched off here"))
                }
                _ => Err(nothing_there()),
            }
        };
        enveloped(asked.await)
    })
}

/// Who has logged in: whose balance it is, and when the wallet has signed.
pub(super) struct AccountHolder {
    /// The wallet's key, in hex.
    pub account: String,
    pub signed: UnixSeconds,
}

/// Refuses a caller who is not logged in, and while the key files are sealed what moves money.
pub(super) async fn holder(edge: &Edge, at: &Entrance, sent: &Sent) -> Result<AccountHolder, ApiRefusal> {
    let (auth, token) = bearer(edge, at, sent)?;
    let claims = auth.identify(token, LoginAudience::Client).await.map_err(of_auth)?;
    if moves_money(sent) && edge.site.is_sealed() {
        return Err(sealed());
    }
    Ok(AccountHolder { account: claims.key.to_string(), signed: claims.auth_time })
}

/// What is sent moves some, but for what only tells something.
fn moves_money(sent: &Sent) -> bool {
    let path = sent.path().trim_end_matches('/');
    let tells = path == "/api/wallet/create" || path.starts_with("/api/bitcoin/convert/");
    !tells && !matches!(*sent.method(), Method::GET | Method::HEAD)
}

async fn logged_in(edge: &Edge, at: &Entrance, sent: Sent) -> ApiTold {
    let auth = door(edge, at)?;
    let address = caller_address(at, sent.headers());
    let fields = body(sent).await?;
    let named = ["k1", "key", "sig"].map(|name| fields.get(name));
    if named.iter().all(Option::is_none) {
        return challenge(auth, station(edge, at, address)?);
    }
    let [Some(k1), Some(key), Some(sig)] = named.map(|value| value.and_then(Value::as_str)) else {
        let message = "send k1, key and sig, each as a text, or nothing to be given a k1";
        return Err(refusal(StatusCode::BAD_REQUEST, "invalid_input", message));
    };
    let sent = Callback { k1: Some(k1), sig: Some(sig), key: Some(key), mac: None, address };
    let Issued { token, claims } = auth.sign_in(sent).await.map_err(of_login)?;
    let account = auth.account_of(&claims.key, LoginAudience::Client).await.map_err(of_auth)?;
    let user = auth.user(&claims.key, &claims.role, account.as_deref());
    Ok(json!({"token": token, "expires_at": claims.expires.0, "user": user}))
}

/// The JSON object that was sent; no body is an empty object.
pub(super) async fn body(sent: Sent) -> ApiTold {
    let text = match sent.text().await {
        Ok(text) => text,
        Err(unread) => {
            let message = "the body is too large, no text, or does not come";
            return Err(refusal(unread.status(), "invalid_input", message));
        }
    };
    match text.trim() {
        "" => Ok(json!({})),
        text => serde_json::from_str(text).ok().filter(Value::is_object).ok_or_else(no_object),
    }
}

fn challenge(auth: &Auth, station: LoginStation) -> ApiTold {
    let what = (LoginAudience::Client, Action::Login);
    let made = auth.challenge((station, &[]), what, None).map_err(of_auth)?;
    Ok(json!({
        "k1": made.k1,
        "encode": made.links.encode,
        "url": made.links.url,
        "keyauth": made.links.keyauth,
        "expires_in": made.expires_in.as_secs_ceil(),
    }))
}

/// The bearer's token, which is asked for before anything else.
fn bearer<'a>(edge: &'a Edge, at: &Entrance, sent: &'a Sent) -> Result<(&'a Auth, &'a str), ApiRefusal> {
    let token = token(sent.headers()).filter(|token| !token.is_empty());
    let token =
        token.ok_or_else(|| refusal(StatusCode::UNAUTHORIZED, "unauthorized", "Access token required"))?;
    Ok((door(edge, at)?, token))
}

/// What checks tokens. Refuses if a token must not be shown here.
fn door<'a>(edge: &'a Edge, at: &Entrance) -> Result<&'a Auth, ApiRefusal> {
    if at.audience == Audience::Public && !at.is_tls {
        return Err(nothing_there());
    }
    if !at.is_tls && edge.site.config().tls.is_some() {
        let message = "anybody on this network could read it: use https";
        return Err(refusal(StatusCode::FORBIDDEN, "tls_required", message));
    }
    Ok(&shop(edge)?.auth)
}

pub(super) fn shop(edge: &Edge) -> Result<&Shop, ApiRefusal> {
    let closed = |code| refusal(StatusCode::SERVICE_UNAVAILABLE, code, "nothing works here now");
    edge.site.shop.as_ref().map_err(|why| closed(why.code))
}

/// A guest is known by its device, anybody else by the address.
fn station(edge: &Edge, at: &Entrance, address: IpAddr) -> Result<LoginStation, ApiRefusal> {
    if at.audience == Audience::Public {
        return Ok(LoginStation::Address(address));
    }
    login::station(edge, at).map_err(|_| {
        refusal(StatusCode::BAD_REQUEST, "unknown_device", "the router does not know this device")
    })
}

fn of_auth(error: AuthError) -> ApiRefusal {
    let message = error.to_string();
    match error {
        AuthError::Token(fault) => {
            log::info!("a token {fault}");
            refusal(StatusCode::UNAUTHORIZED, "unauthorized", "Invalid or expired token")
        }
        AuthError::OtherAudience | AuthError::NotAllowed => {
            refusal(StatusCode::FORBIDDEN, "forbidden", &message)
        }
        AuthError::TooMany(wait) => {
            ApiRefusal(StatusCode::TOO_MANY_REQUESTS, "too_many", message, Some(wait))
        }
        error => {
            log::warn!("no login: {error}");
            refusal(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "not possible now, try again later")
        }
    }
}

/// A signature that is not valid, and a k1 that is not valid any more, are both 401.
fn of_login(why: LoginRefusal) -> ApiRefusal {
    let message = why.to_string();
    match why {
        LoginRefusal::K1 | LoginRefusal::Parameter(_) | LoginRefusal::Signature => {
            refusal(StatusCode::UNAUTHORIZED, "unauthorized", &message)
        }
        LoginRefusal::NotAllowed => refusal(StatusCode::FORBIDDEN, "forbidden", &message),
        LoginRefusal::TooMany(wait) => {
            ApiRefusal(StatusCode::TOO_MANY_REQUESTS, "too_many", message, Some(wait))
        }
        LoginRefusal::NotLinked(_) => refusal(StatusCode::CONFLICT, "not_linked", &message),
        LoginRefusal::Closed(error) => of_auth(error),
    }
}

pub(super) fn nothing_there() -> ApiRefusal {
    refusal(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
}

fn no_object() -> ApiRefusal {
    refusal(StatusCode::BAD_REQUEST, "invalid_input", "the body is no JSON object")
}

pub(super) fn refusal(status: StatusCode, code: &'static str, message: &str) -> ApiRefusal {
    ApiRefusal(status, code, message.to_owned(), None)
}

/// The same, with how long to wait.
pub(super) fn waiting(refusal: ApiRefusal, wait: Option<Millis>) -> ApiRefusal {
    ApiRefusal(refusal.0, refusal.1, refusal.2, wait)
}

/// As the rooms of vouchers refuse.
fn sealed() -> ApiRefusal {
    let refusal = VoucherRefusal::from(StoreError::Sealed);
    ApiRefusal(StatusCode::SERVICE_UNAVAILABLE, refusal.code, refusal.message.clone(), refusal.wait)
}

/// `{"success":true,"data"}`, or `{"success":false,"error","code","request_id"}`.
pub(super) fn enveloped(told: ApiTold) -> Answer {
    answered(StatusCode::OK, told)
}

/// The same, 201 where it is done.
pub(super) fn created(told: ApiTold) -> Answer {
    answered(StatusCode::CREATED, told)
}

fn answered(done: StatusCode, told: ApiTold) -> Answer {
    let ApiRefusal(status, code, message, wait) = match told {
        Ok(data) => return answer::json(done, &json!({"success": true, "data": data})),
        Err(refusal) => refusal,
    };
    let request_id = correlation::current().map(|id| id.to_string());
    let body = json!({"success": false, "error": message, "code": code, "request_id": request_id});
    let mut answer = answer::json(status, &body);
    if let Some(wait) = wait {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs_ceil().max(1)));
    }
    answer
}
