//! Whose wallet it is: the bearer's token, which is asked for before anything else, and whether the wallet has signed just now.

use super::super::entrance::{Audience, Entrance};
use super::super::login::token;
use super::super::sent::Sent;
use super::super::Edge;
use super::told::{nothing_there, refusal, sealed, waiting, ApiRefusal};
use crate::auth::{Auth, AuthError};
use crate::config::WalletConfig;
use crate::shop::Shop;
use crate::store::LoginAudience;
use crate::units::Sats;
use hyper::{Method, StatusCode};

/// Who has logged in: whose balance it is.
pub(super) struct AccountHolder {
    /// The wallet's key, in hex.
    pub account: String,
    /// The wallet has signed within the last minute.
    pub may_sign: bool,
}

/// Refuses a caller who is not logged in, and while the key files are sealed what moves money.
pub(super) async fn holder(edge: &Edge, at: &Entrance, sent: &Sent) -> Result<AccountHolder, ApiRefusal> {
    let (auth, token) = bearer(edge, at, sent)?;
    let (claims, may_sign) = auth.signer(token, LoginAudience::Client).await.map_err(of_auth)?;
    if moves_money(sent) && edge.site.is_sealed() {
        return Err(sealed());
    }
    Ok(AccountHolder { account: claims.key.to_string(), may_sign })
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
    if amount <= sign_above || holder.may_sign {
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
