//! Tokens: made for a login, put in the place of an older one, logged out. A token counts while its row is in the store.

use super::jwt::{Claims, JwtFault};
use super::ring::{KeyRing, RingKey};
use super::signature::WalletKey;
use super::{lock, random, role_of, section, Auth, AuthError};
use crate::config::AuthConfig;
use crate::store::{LoginAudience, LoginRow, RenewableKey, StoreError};
use crate::units::{Millis, UnixSeconds};
use std::io::ErrorKind;

const KEYS: RenewableKey = RenewableKey("jwt");
/// How long an operator's token lasts without another one, and how long after the signature others are to be had.
const ADMIN_IDLE: Millis = Millis::from_secs(3600);
const ADMIN_LIFE: Millis = Millis::from_secs(12 * 3600);
/// The same as at a token's own end.
const GRACE: Millis = Millis::from_secs(60);
/// How old a signature may be where a fresh one is needed.
const FRESH: Millis = Millis::from_secs(60);
const CLIENT: &str = "client";

/// A token, and what it says.
pub struct Issued {
    pub token: String,
    pub claims: Claims,
}

/// The keys after a rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The name of the key that signs now.
    pub kid: String,
    /// Earlier keys whose tokens still count.
    pub earlier: usize,
}

impl Auth {
    /// Who bears this token. `NoClock`: operators' tokens count only where the time is known.
    pub async fn identify(&self, token: &str, audience: LoginAudience) -> Result<Claims, AuthError> {
        Ok(self.look_up(token, audience).await?.0)
    }

    /// The same, and whether the wallet has signed within the last minute: by the wall clock, which also counts the time
    /// without power, and by service time, which nobody sets back.
    pub async fn signer(&self, token: &str, audience: LoginAudience) -> Result<(Claims, bool), AuthError> {
        let (claims, row) = self.look_up(token, audience).await?;
        let store = &self.0.store;
        let wall = Millis::from_secs(store.wall().0.saturating_sub(claims.auth_time.0));
        let is_fresh = wall <= FRESH && store.now().saturating_sub(row.began) <= FRESH;
        Ok((claims, is_fresh))
    }

    async fn look_up(&self, token: &str, audience: LoginAudience) -> Result<(Claims, LoginRow), AuthError> {
        let config = self.config();
        let auth = section(&config)?;
        let ring = self.ring().await?;
        let store = &self.0.store;
        let wall = store.wall_is_plausible().then(|| store.wall());
        let mut claims = Claims::verify(token, auth.url.as_str(), &ring, wall)?;
        let row = store.login(claims.id).await?.ok_or(JwtFault::LoggedOut)?;
        if row.pubkey != claims.key.to_bytes() || row.audience != claims.audience {
            return Err(JwtFault::LoggedOut.into());
        }
        if claims.audience != audience {
            return Err(AuthError::OtherAudience);
        }
        if audience == LoginAudience::Admin {
            wall.ok_or(AuthError::NoClock)?;
            // An operator who is taken off the list is out at once, and a role is what it is now.
            claims.role = role_of(&config, &claims.key).ok_or(JwtFault::LoggedOut)?;
        }
        Ok((claims, row))
    }

    /// A token for a key that has just signed. `NotAllowed`: it is no operator's. `TooMany`: this operator logs in too often.
    /// `replaces`: the key's other tokens of this audience count no more.
    pub(super) async fn issue(
        &self,
        key: WalletKey,
        audience: LoginAudience,
        replaces: bool,
    ) -> Result<Issued, AuthError> {
        let config = self.config();
        let (auth, role) = (section(&config)?, self.role(&key, audience)?);
        let (ring, now) = (self.ring().await?, self.0.store.now());
        if audience == LoginAudience::Admin {
            lock(&self.0.entering).admit(key.to_bytes(), now).map_err(AuthError::TooMany)?;
        }
        let (row, issued) = self.made(auth, &ring, (key, audience, role), (now, self.0.store.wall()))?;
        self.0.store.begin_login(row, replaces).await?;
        Ok(issued)
    }

    /// A new token for the bearer of this one, which counts no more.
    pub async fn refresh(&self, token: &str, audience: LoginAudience) -> Result<Issued, AuthError> {
        let (claims, row) = self.look_up(token, audience).await?;
        let renewing = lock(&self.0.renewing).admit(claims.key.to_bytes(), self.0.store.now());
        renewing.map_err(AuthError::TooMany)?;
        let config = self.config();
        let (auth, ring) = (section(&config)?, self.ring().await?);
        let who = (claims.key, audience, claims.role);
        let (new, issued) = self.made(auth, &ring, who, (row.began, claims.auth_time))?;
        match new.ends > self.0.store.now() && self.0.store.renew_login(row.jti, new).await? {
            true => Ok(issued),
            false => Err(JwtFault::LoggedOut.into()),
        }
    }

    /// Ends this token.
    pub async fn log_out(&self, claims: &Claims) -> Result<(), AuthError> {
        self.0.store.end_login(claims.id).await?;
        self.0.sockets.close(&claims.key, Some(&claims.id));
        Ok(())
    }

    /// Ends every token of the bearer's key, a guest's and an operator's.
    pub async fn log_out_all(&self, claims: &Claims) -> Result<(), AuthError> {
        self.0.store.end_logins_of(claims.key.to_bytes()).await?;
        self.0.sockets.close(&claims.key, None);
        Ok(())
    }

    /// The names of the keys that verify, the newest first.
    pub async fn kids(&self) -> Result<Vec<String>, AuthError> {
        section(&self.config())?;
        Ok(self.ring().await?.kids())
    }

    /// Signs with a new key from now on.
    pub async fn rotate(&self) -> Result<Rotated, AuthError> {
        section(&self.config())?;
        let ring = self.ring().await?;
        self.0.store.note_change_elsewhere().await?;
        let mut held = self.0.ring.lock().await;
        // Another caller may have rotated meanwhile.
        let ring = held.take().unwrap_or(ring);
        let in_use = self.0.store.kids_in_use().await;
        let rotated = in_use.and_then(|in_use| {
            let new = RingKey::random().map_err(|_| StoreError::NoRandomness)?;
            Ok(ring.clone().rotated(new, &in_use))
        });
        let written = match rotated {
            Ok(rotated) => KEYS.replace(&self.0.store, rotated.to_file()).await.map(|()| rotated),
            Err(error) => Err(error),
        };
        let now = held.insert(match &written {
            Ok(rotated) => rotated.clone(),
            Err(_) => ring,
        });
        let rotated = Rotated { kid: now.newest().kid.clone(), earlier: now.count().saturating_sub(1) };
        written.map(|_| rotated).map_err(AuthError::from)
    }

    /// A guest may be anybody; an operator stands in the configuration, and is let in only where the time is known.
    pub(super) fn role(&self, key: &WalletKey, audience: LoginAudience) -> Result<String, AuthError> {
        match audience {
            LoginAudience::Client => Ok(CLIENT.to_owned()),
            LoginAudience::Admin if !self.0.store.wall_is_plausible() => Err(AuthError::NoClock),
            LoginAudience::Admin => role_of(&self.config(), key).ok_or(AuthError::NotAllowed),
        }
    }

    fn made(
        &self,
        auth: &AuthConfig,
        ring: &KeyRing,
        (key, audience, role): (WalletKey, LoginAudience, String),
        (began, auth_time): (Millis, UnixSeconds),
    ) -> Result<(LoginRow, Issued), AuthError> {
        let store = &self.0.store;
        let (now, wall, id) = (store.now(), store.wall(), random()?);
        let life = match audience {
            LoginAudience::Client => auth.jwt_ttl,
            LoginAudience::Admin => ADMIN_IDLE.min(began.saturating_add(ADMIN_LIFE).saturating_sub(now)),
        };
        let ends = match life {
            Millis::ZERO => now,
            life => now.saturating_add(life).saturating_add(GRACE),
        };
        let kid = ring.newest().kid.clone();
        let row = LoginRow { jti: id, pubkey: key.to_bytes(), audience, kid, began, ends };
        // Where the time is not known, nobody can be told one: the row ends the token.
        let told = if store.wall_is_plausible() { life } else { Millis::ZERO };
        let expires = UnixSeconds(wall.0.saturating_add(told.0 / 1000));
        // The clock may have been set back since the wallet signed.
        let auth_time = auth_time.min(wall);
        let claims = Claims { audience, key, issued: wall, expires, id, auth_time, role };
        Ok((row, Issued { token: claims.sign(auth.url.as_str(), ring), claims }))
    }

    /// The keys. Makes new ones if there are none, or if the file is gone: that ends all tokens, and nothing else.
    async fn ring(&self) -> Result<KeyRing, AuthError> {
        let mut held = self.0.ring.lock().await;
        if let Some(ring) = &*held {
            return Ok(ring.clone());
        }
        let store = &self.0.store;
        let ring = match KEYS.load(store).await? {
            Some(file) => KeyRing::parse(&file)
                .map_err(|error| StoreError::Io(std::io::Error::new(ErrorKind::InvalidData, error)))?,
            None => {
                let ring = KeyRing::of(RingKey::random().map_err(|_| StoreError::NoRandomness)?);
                KEYS.replace(store, ring.to_file()).await?;
                log::info!("jwt.key: made, the key that signs logins");
                ring
            }
        };
        Ok(held.insert(ring).clone())
    }
}
