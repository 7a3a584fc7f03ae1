//! Sphinx Tribes' interface, where `sphinx_compat` says so: its names and statuses, and none of its holes. A challenge is
//! for who asked, a token verifies one, what is told once is told once; errors have our one body.

use super::answer;
use super::entrance::{field, Entrance};
use super::login::{auth, caller_address, cookies, error, foreign, give_cookie, must_read, refused, station};
use super::route::Answering;
use super::sent::Sent;
use super::{admin, Edge};
use crate::auth::{SphinxRefusal, Standing};
use crate::clock::rfc3339;
use crate::form::pairs;
use crate::json::{self, json};
use crate::store::{with_change, NewAuditRow, Store, StoreError, UnusedCode};
use hyper::StatusCode;
use serde_json::Value;
use std::sync::Arc;

/// The path of codes, as the audit log names it.
const CODES: &str = "connectioncodes";
/// What `/poll` has beside the key and the token: profiles are not ours.
const PROFILE: [&str; 10] = [
    "id",
    "contact_key",
    "alias",
    "photo_url",
    "route_hint",
    "price_to_meet",
    "url",
    "description",
    "verification_signature",
    "extras",
];

/// `GET /ask`: 200 `{"challenge","ts"}`.
pub fn ask(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move {
        let asked = || {
            must_read(&sent)?;
            let station = station(&edge, &at)?;
            let asked = auth(&edge)?.ask((station, &cookies(at.is_tls, sent.headers())));
            asked.map_err(|error| refused(&error))
        };
        match asked() {
            Ok((made, now)) => {
                let told = json!({"challenge": made.k1, "ts": now.0.to_string()});
                let mut answer = answer::json(StatusCode::OK, &told);
                give_cookie(&mut answer, at.is_tls, &made);
                answer
            }
            Err(refused) => *refused,
        }
    })
}

/// `POST /verify/CHALLENGE` with a token in `?token=` or `x-jwt`: 200 `{}`. The profile that apps send is not kept.
pub fn verify(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move {
        let challenge = sent.rest.clone();
        let query = pairs(sent.query());
        let header = sent.headers().get("x-jwt").and_then(|token| token.to_str().ok()).map(str::to_owned);
        let token = field(&query, "token").map(str::to_owned).or(header);
        let address = caller_address(&at, sent.headers());
        let text = match sent.text().await {
            Ok(text) => text,
            Err(answer) => return answer,
        };
        if !json::read::<Value>(text.as_bytes()).is_some_and(|body| body.is_object()) {
            return *error(StatusCode::NOT_ACCEPTABLE, "invalid_input", "send a JSON object");
        }
        let verified = match auth(&edge) {
            Ok(auth) => auth.verify_ask(&challenge, token.as_deref(), address).await,
            Err(refused) => return *refused,
        };
        match verified {
            Ok(()) => answer::json(StatusCode::OK, &json!({})),
            Err(SphinxRefusal::Closed(why)) => *refused(&why),
            Err(why) => *error(StatusCode::UNAUTHORIZED, "unauthorized", &why.to_string()),
        }
    })
}

/// `GET /poll/CHALLENGE`, for who asked: 401 until it is verified, then 200 with a login's token, once.
pub fn poll(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move {
        let polled = || {
            must_read(&sent)?;
            let browser = (station(&edge, &at)?, &*cookies(at.is_tls, sent.headers()));
            let pending = || error(StatusCode::UNAUTHORIZED, "unauthorized", "not verified, or told already");
            match auth(&edge)?.polled(&sent.rest, browser) {
                Standing::Ok(Some(delivery)) => Ok(delivery),
                Standing::Foreign => Err(foreign()),
                _ => Err(pending()),
            }
        };
        match polled() {
            Ok(delivery) => {
                let mut told = json!({
                    "pubkey": delivery.key.to_string(),
                    "jwt": delivery.token,
                    "tribe_jwt": delivery.token,
                });
                PROFILE.iter().for_each(|name| told[*name] = Value::Null);
                answer::json(StatusCode::OK, &told)
            }
            Err(refused) => *refused,
        }
    })
}

/// `GET /connectioncodes` with `token`: 200 `{"connection_string","date_created"}`, a code that nobody else is given.
pub fn code(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move {
        let shown = sent.headers().get("token").map(|token| token.as_bytes()).unwrap_or_default();
        let file = edge.site.config().auth.as_ref().and_then(|auth| auth.sphinx.clone());
        let is_it = file.is_some_and(|sphinx| admin::is_token(&sphinx.connection_token_file, shown));
        if let Err(refused) = must_read(&sent) {
            return *refused;
        }
        let shop = match &edge.site.shop {
            Ok(shop) => shop,
            Err(closed) => {
                return *error(StatusCode::SERVICE_UNAVAILABLE, closed.code, "nothing works here now")
            }
        };
        if !is_it {
            shop.audit.refused(NewAuditRow::of_stranger(CODES, at.peer, "unauthorized"));
            return *error(StatusCode::UNAUTHORIZED, "unauthorized", "the connection token is needed");
        }
        match taken(&shop.store).await {
            Ok(Some(unused)) => {
                let made = rfc3339(unused.made);
                answer::json(StatusCode::OK, &json!({"connection_string": unused.code, "date_created": made}))
            }
            Ok(None) => *error(StatusCode::NOT_FOUND, "unknown_code", "there is no unused code"),
            Err(why) => *refused(&why.into()),
        }
    })
}

/// Takes a code out, and writes it down in the same commit. Others may take it at the same time: then the next one.
async fn taken(store: &Store) -> Result<Option<UnusedCode>, StoreError> {
    while let Some(id) = store.unused_code().await? {
        let row = NewAuditRow::new("connection token", "-", CODES, &id, "ok");
        let taken = with_change(row, Box::pin(store.take_unused_code(id))).await.0?;
        if taken.is_some() {
            return Ok(taken);
        }
    }
    Ok(None)
}
