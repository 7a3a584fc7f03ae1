//! JSON Web Tokens (RFC 7519) of one kind: HS256 (RFC 7515), with a `kid`, and every claim that we write.
//!
//! Refuses every other algorithm, a key that is not in the ring, a claim that is missing or twice what it should be, and
//! another issuer. It knows no store: whether a token was logged out is asked elsewhere.

use super::ring::KeyRing;
use super::signature::WalletKey;
use crate::hex;
use crate::json::json;
use crate::store::LoginAudience;
use crate::units::UnixSeconds;
use base64::prelude::{Engine, BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use zeroize::Zeroizing;

/// A token that is longer is not read; ours are a third of it.
const LONGEST: usize = 2048;
/// How long after its end a token still counts, and how far another clock may be ahead (seconds).
const GRACE: u64 = 60;

/// Which token: 128 random bits.
pub type TokenId = [u8; 16];

/// What a token says.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    pub audience: LoginAudience,
    /// `sub`, and `pubkey`, which older clients read.
    pub key: WalletKey,
    pub issued: UnixSeconds,
    /// The same as `issued` where the time was not known: such a token ends with its row in the store.
    pub expires: UnixSeconds,
    pub id: TokenId,
    /// When the wallet signed.
    pub auth_time: UnixSeconds,
    /// `client`, or an operator's role when the token was made.
    pub role: String,
}

/// Why a token does not count. Its bearer is told nothing of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtFault {
    #[error("is no token")]
    Malformed,
    #[error("has another algorithm than HS256")]
    Algorithm,
    #[error("is signed with a key that is not known here")]
    Key,
    #[error("has a wrong signature")]
    Signature,
    #[error("lacks a claim, or has one that cannot be")]
    Claim,
    #[error("is of another issuer")]
    Issuer,
    #[error("is over")]
    Expired,
    #[error("was logged out")]
    LoggedOut,
}

/// The fields that ours have. A member that stands there twice is refused; others mean nothing, but `crit` (RFC 7515,
/// 4.1.11), which asks for what we do not know.
#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Body {
    iss: String,
    aud: String,
    sub: String,
    pubkey: String,
    iat: u64,
    exp: u64,
    jti: String,
    auth_time: u64,
    role: String,
}

impl Claims {
    /// The token, signed with the ring's newest key.
    pub fn sign(&self, issuer: &str, ring: &KeyRing) -> String {
        let signing = ring.newest();
        let key = self.key.to_string();
        let head = json!({"alg": "HS256", "typ": "JWT", "kid": signing.kid});
        let body = json!({
            "iss": issuer,
            "aud": self.audience.as_str(),
            "sub": key,
            "pubkey": key,
            "iat": self.issued.0,
            "exp": self.expires.0,
            "jti": hex::encode(&self.id),
            "auth_time": self.auth_time.0,
            "role": self.role,
        });
        let part = |value: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&head), part(&body));
        let mac = keyed(&signing.secret, &signed).map(|mac| mac.finalize().into_bytes());
        format!("{signed}.{}", mac.map(|mac| BASE64_URL_SAFE_NO_PAD.encode(mac)).unwrap_or_default())
    }

    /// What a token of this issuer says, if its signature is one of the ring's. Whether it is over by the wall clock is
    /// asked only where that can be right.
    pub fn verify(
        token: &str,
        issuer: &str,
        ring: &KeyRing,
        wall: Option<UnixSeconds>,
    ) -> Result<Claims, JwtFault> {
        let (signed, mac) =
            token.rsplit_once('.').filter(|_| token.len() <= LONGEST).ok_or(JwtFault::Malformed)?;
        let (head, body) = signed.split_once('.').ok_or(JwtFault::Malformed)?;
        let head: Head = part(head)?;
        if head.alg != "HS256" || head.crit.is_some() {
            return Err(JwtFault::Algorithm);
        }
        let signing = head.kid.and_then(|kid| ring.key(&kid)).ok_or(JwtFault::Key)?;
        let mac = BASE64_URL_SAFE_NO_PAD.decode(mac).map_err(|_| JwtFault::Malformed)?;
        keyed(&signing.secret, signed)
            .filter(|_| mac.len() == 32)
            .and_then(|keyed| keyed.verify_slice(&mac).ok())
            .ok_or(JwtFault::Signature)?;
        let body: Body = part(body)?;
        if body.iss != issuer {
            return Err(JwtFault::Issuer);
        }
        let claims = body.claims().ok_or(JwtFault::Claim)?;
        match wall {
            Some(now) if claims.is_over(now) => Err(JwtFault::Expired),
            Some(now) if claims.issued.0 > now.0.saturating_add(GRACE) => Err(JwtFault::Claim),
            _ => Ok(claims),
        }
    }

    fn is_over(&self, now: UnixSeconds) -> bool {
        let is_timeless = self.audience == LoginAudience::Client && self.expires == self.issued;
        !is_timeless && now.0 > self.expires.0.saturating_add(GRACE)
    }
}

impl Body {
    fn claims(self) -> Option<Claims> {
        let key = WalletKey::parse(&self.sub)?;
        let is_whole = self.pubkey == self.sub && self.iat <= self.exp && self.auth_time <= self.iat;
        is_whole.then_some(Claims {
            audience: LoginAudience::parse(&self.aud)?,
            key,
            issued: UnixSeconds(self.iat),
            expires: UnixSeconds(self.exp),
            id: hex::decode(&self.jti)?,
            auth_time: UnixSeconds(self.auth_time),
            role: self.role,
        })
    }
}

/// One part of a token as what it is to be.
fn part<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, JwtFault> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| JwtFault::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| JwtFault::Claim)
}

/// Takes every key; `None` never happens.
fn keyed(secret: &Zeroizing<[u8; 32]>, signed: &str) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_slice()).ok()?;
    mac.update(signed.as_bytes());
    Some(mac)
}

#[cfg(test)]
pub mod tests;
