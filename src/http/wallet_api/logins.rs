//! Logging in to the wallet API by a wallet's signature, and out again.

use super::super::entrance::{Audience, Entrance};
use super::super::login::{self, caller_address};
use super::super::route::Answering;
use super::super::sent::Sent;
use super::super::Edge;
use super::asked::body;
use super::holder::{bearer, door, of_auth};
use super::told::{enveloped, refusal, waiting, ApiRefusal, ApiTold};
use crate::auth::{Action, Auth, Callback, Issued, LoginRefusal, LoginStation};
use crate::json::json;
use crate::store::LoginAudience;
use hyper::StatusCode;
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;

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

/// A guest is known by its device, anybody else by the address.
fn station(edge: &Edge, at: &Entrance, address: IpAddr) -> Result<LoginStation, ApiRefusal> {
    if at.audience == Audience::Public {
        return Ok(LoginStation::Address(address));
    }
    login::station(edge, at).map_err(|_| {
        refusal(StatusCode::BAD_REQUEST, "unknown_device", "the router does not know this device")
    })
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
            waiting(refusal(StatusCode::TOO_MANY_REQUESTS, "too_many", &message), Some(wait))
        }
        LoginRefusal::NotLinked(_) => refusal(StatusCode::CONFLICT, "not_linked", &message),
        LoginRefusal::Closed(error) => of_auth(error),
    }
}
