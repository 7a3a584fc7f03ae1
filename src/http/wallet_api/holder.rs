//! Whose wallet it is: the bearer's token, which is asked for before anything else, and how long ago the wallet has signed.

use super::super::entrance::{Audience, Entrance};
use super::super::login::token;
use super::super::sent::Sent;
use super::super::Edge;
use super::told::{nothing_there, refusal, sealed, waiting, ApiRefusal};
use crate::auth::{Auth, AuthError};
use crate::config::WalletConfig;
use crate::shop::Shop;
use crate::store::LoginAudience;
use crate::units::{Sats, UnixSeconds};
use hyper::{Method, StatusCode};

/// The age (seconds) at which a signature is not fresh any more.
const FRESH: u64 = 60;

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

/// Moving a large amount needs a fresh signature, as it does for an operator.
pub(super) fn must_be_fresh(edge: &Edge, holder: &AccountHolder, amount: Sats) -> Result<(), ApiRefusal> {
    let WalletConfig { sign_above, .. } = edge.site.config().wallet;
    let now = edge.site.shop.as_ref().map_or(UnixSeconds(u64::MAX), |shop| shop.store.wall());
    if amount <= sign_above || now.0.saturating_sub(holder.signed.0) <= FRESH {
        return Ok(());
    }
    let message = "this needs a signature that is not older than a minute: log in again";
    Err(refusal(StatusCode::FORBIDDEN, "fresh_signature_needed", message))
}

/// The bearer's token, which is asked for before anything else.
pub(super) fn bearer<'a>(
    edge: &'a Edge,
    at: &Entrance,
    sent: &'a Sent,
) -> Result<(&'a Auth, &'a str), ApiRefusal> {
    let token = token(sent.headers()).filter(|token| !token.is_empty());
    let token =
        token.ok_or_else(|| refusal(StatusCode::UNAUTHORIZED, "unauthorized", "Access token required"))?;
    Ok((door(edge, at)?, token))
}

/// What checks tokens. Refuses if a token must not be shown here.
pub(super) fn door<'a>(edge: &'a Edge, at: &Entrance) -> Result<&'a Auth, ApiRefusal> {
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

pub(super) fn of_auth(error: AuthError) -> ApiRefusal {
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
            waiting(refusal(StatusCode::TOO_MANY_REQUESTS, "too_many", &message), Some(wait))
        }
        error => {
            log::warn!("no login: {error}");
            refusal(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "not possible now, try again later")
        }
    }
}
