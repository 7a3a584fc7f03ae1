//! Logging in with a token of Sphinx Tribes (`sphinx_compat`): a signature over the time by a node's key, as lnd and Core
//! Lightning sign messages.
//!
//! The token does not sign the challenge, so it is worth less than a wallet's signature: what it was made for cannot be seen.
//! Hence it verifies one challenge, once, also over a restart; it lets nobody in as an operator; and it is too old after 300 s.

use super::challenge::{Action, CookieId, LoginStation, NotPending, Standing, K1};
use super::signature::WalletKey;
use super::{section, Auth, AuthError, NewChallenge};
use crate::ecdsa::EcdsaSignature;
use crate::hex;
use crate::store::{LoginAudience, StoreError};
use crate::task;
use crate::units::{Millis, UnixSeconds};
use base64::prelude::{Engine, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::net::IpAddr;

const PREFIX: &[u8] = b"Lightning Signed Message:";
/// The time and the signature; longer texts are not read.
const LENGTH: usize = 4 + 65;
const LONGEST: usize = 93;
/// How old a token may be, and how far its maker's clock ahead (seconds).
const OLDEST: u64 = 300;
const AHEAD: u64 = 5;
/// A token that was used is remembered for longer than it can be valid.
const REMEMBERED: Millis = Millis::from_secs(OLDEST + AHEAD + 5);

/// What Sphinx Tribes tells of a user beside the key.
const OTHER_KEYS: [&str; 15] = [
    "id",
    "uuid",
    "created",
    "owner_pubkey",
    "owner_alias",
    "contact_key",
    "img",
    "description",
    "tags",
    "unique_name",
    "extras",
    "last_login",
    "price_to_meet",
    "alias",
    "url",
];

/// Why a challenge is not verified.
#[derive(Debug, thiserror::Error)]
pub enum SphinxRefusal {
    /// Never given out, used, or over.
    #[error("challenge unknown, expired or used")]
    Challenge,
    /// No token, or one that is wrong, old or used. The answer does not say which.
    #[error("the token does not count")]
    Token,
    #[error("{0}")]
    Closed(#[from] AuthError),
}

impl From<StoreError> for SphinxRefusal {
    fn from(error: StoreError) -> SphinxRefusal {
        SphinxRefusal::Closed(error.into())
    }
}

/// Adds what the reference tells and we do not know, as null, and the key under its other name.
pub fn fill_in(user: &mut Value) {
    for name in OTHER_KEYS {
        user[name] = Value::Null;
    }
    user["owner_pubkey"] = user["pubkey"].clone();
}

impl Auth {
    /// A challenge to be verified with a token, and the time.
    pub fn ask(
        &self,
        browser: (LoginStation, &[CookieId]),
    ) -> Result<(NewChallenge, UnixSeconds), AuthError> {
        let now = self.token_time()?;
        let asked = self.challenge(browser, (LoginAudience::Client, Action::Ask), None)?;
        Ok((asked, now))
    }

    /// Verifies a challenge with a token. It is looked up first: nothing else may cost arithmetic.
    pub async fn verify_ask(
        &self,
        challenge: &str,
        token: Option<&str>,
        address: IpAddr,
    ) -> Result<(), SphinxRefusal> {
        let wall = self.token_time()?;
        let k1: K1 = hex::decode(challenge).ok_or(SphinxRefusal::Challenge)?;
        let now = self.0.store.now();
        let asker = self.challenges().pending(&k1, true, now).ok_or(SphinxRefusal::Challenge)?;
        self.admit_call(address, asker).map_err(AuthError::TooMany)?;
        let token = token.and_then(SphinxToken::parse).filter(|token| token.is_of(wall));
        let token = token.ok_or(SphinxRefusal::Token)?;
        self.challenges().begin(&k1, now).map_err(unknown)?;
        let Some((key, id)) = self.recovered(token).await? else {
            self.challenges().wrong(&k1);
            return Err(SphinxRefusal::Token);
        };
        let asked = self.challenges().take(&k1, self.0.store.now()).map_err(unknown)?;
        let logged_in = async {
            // Spent before the login: after a crash in between only the token is lost.
            match self.0.store.spend_token(id, REMEMBERED).await? {
                true => Ok(self.log_in(&k1, &asked, key).await?),
                false => Err(SphinxRefusal::Token),
            }
        };
        logged_in.await.inspect_err(|error| {
            log::info!("a challenge is not verified: {error}");
            self.give_up(&k1, &asked);
        })
    }

    /// What became of it, for who asked. The login's token comes once.
    pub fn polled(&self, challenge: &str, browser: (LoginStation, &[CookieId])) -> Standing {
        hex::decode(challenge).map_or(Standing::Expired, |k1| self.standing(&k1, browser))
    }

    /// The time that tokens are compared with, where it is known and they are taken.
    fn token_time(&self) -> Result<UnixSeconds, AuthError> {
        section(&self.config())?.sphinx.as_ref().ok_or(AuthError::Off)?;
        match self.0.store.wall_is_plausible() {
            true => Ok(self.0.store.wall()),
            false => Err(AuthError::NoClock),
        }
    }

    /// The key that has signed, and what the token is known by from now on.
    async fn recovered(&self, token: SphinxToken) -> Result<Option<(WalletKey, [u8; 32])>, StoreError> {
        let _place = self.0.looking.acquire().await;
        task::blocking(move || token.recover()).await.map_err(|_| StoreError::Closed)
    }
}

fn unknown(_: NotPending) -> SphinxRefusal {
    SphinxRefusal::Challenge
}

/// base64url of the time, big-endian, and a signature over it: over the four bytes or, behind a dot, over their base64url.
pub struct SphinxToken {
    time: [u8; 4],
    is_text: bool,
    signature: [u8; 65],
}

impl SphinxToken {
    pub fn parse(text: &str) -> Option<SphinxToken> {
        if text.len() > LONGEST {
            return None;
        }
        let plain = text.strip_prefix('.');
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(plain.unwrap_or(text)).ok()?;
        let (time, signature) = bytes.split_first_chunk().filter(|_| bytes.len() == LENGTH)?;
        Some(SphinxToken { time: *time, is_text: plain.is_some(), signature: signature.try_into().ok()? })
    }

    fn is_of(&self, now: UnixSeconds) -> bool {
        let time = u64::from(u32::from_be_bytes(self.time));
        time.saturating_add(OLDEST) >= now.0 && time <= now.0.saturating_add(AHEAD)
    }

    /// The key, and a hash of it with the time: another signature of the same key over the same is the same token, or its
    /// other s would be a second one.
    fn recover(&self) -> Option<(WalletKey, [u8; 32])> {
        let message = match self.is_text {
            true => BASE64_URL_SAFE.encode(self.time).into_bytes(),
            false => self.time.to_vec(),
        };
        let key = signer(&message, &self.signature)?;
        let id = Sha256::new().chain_update(key.to_bytes()).chain_update(&message).finalize();
        Some((key, id.into()))
    }
}

/// Who has signed a message as lnd and Core Lightning do: 31 and the recovery id, r, s. Arithmetic on the curve.
fn signer(message: &[u8], signature: &[u8; 65]) -> Option<WalletKey> {
    let (header, parts) = signature.split_first()?;
    let is_odd = match header {
        31 => false,
        32 => true,
        _ => return None,
    };
    let digest = Sha256::digest(Sha256::new().chain_update(PREFIX).chain_update(message).finalize());
    let key = EcdsaSignature::from_bytes(parts.try_into().ok()?)?.recover(is_odd, &digest.into())?;
    WalletKey::from_bytes(key)
}

#[cfg(test)]
mod tests;
