//! Who is logged in: a row for each token that counts, so that what was logged out stays so after a restart, and a
//! signing key alone is worth nothing.
//!
//! A login is one write, and takes away what is over. Strangers make as many keys as they like, so there are limits for a
//! key and for all guests together: the oldest logins go.

use super::{Store, StoreError};
use crate::units::Millis;
use rusqlite::{params, OptionalExtension, Transaction};

/// Logins of one key at a time, and of all guests.
const OF_ONE_KEY: u32 = 16;
const OF_ALL_GUESTS: u32 = 4096;
/// The router's own rows, until there are others.
const TENANT: &str = "local";
/// Beside an offset, for "all the rest".
const ALL: i64 = i64::MAX;

/// Whose login it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginAudience {
    /// A guest's.
    Client,
    /// An operator's.
    Admin,
}

impl LoginAudience {
    pub fn as_str(self) -> &'static str {
        match self {
            LoginAudience::Client => "client",
            LoginAudience::Admin => "admin",
        }
    }

    pub fn parse(text: &str) -> Option<LoginAudience> {
        [LoginAudience::Client, LoginAudience::Admin].into_iter().find(|known| known.as_str() == text)
    }
}

/// A login as it is stored; times are service time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginRow {
    /// The token's name.
    pub jti: [u8; 16],
    /// The wallet's key, compressed.
    pub pubkey: [u8; 33],
    pub audience: LoginAudience,
    /// The name of the key that signed the token.
    pub kid: String,
    /// When the wallet signed.
    pub began: Millis,
    pub ends: Millis,
}

impl Store {
    /// Adds a login, and takes away those that are over or too many.
    pub async fn begin_login(&self, login: LoginRow) -> Result<(), StoreError> {
        let now = self.now();
        self.write(move |tx| {
            insert(tx, &login)?;
            let (count, first_end): (u32, Millis) = tx.query_row(
                "SELECT count(*), min(ends_ms) FROM logins WHERE tenant = ?1",
                [TENANT],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            if first_end <= now {
                tx.execute("DELETE FROM logins WHERE tenant = ?1 AND ends_ms <= ?2", params![TENANT, now])?;
            }
            tx.execute(
                "DELETE FROM logins WHERE tenant = ?1 AND jti IN
                     (SELECT jti FROM logins WHERE tenant = ?1 AND pubkey = ?2
                      ORDER BY began_ms DESC, jti LIMIT ?3 OFFSET ?4)",
                params![TENANT, login.pubkey, ALL, OF_ONE_KEY],
            )?;
            if count > OF_ALL_GUESTS {
                tx.execute(
                    "DELETE FROM logins WHERE tenant = ?1 AND jti IN
                         (SELECT jti FROM logins WHERE tenant = ?1 AND audience = 'client'
                          ORDER BY began_ms DESC, jti LIMIT ?2 OFFSET ?3)",
                    params![TENANT, ALL, OF_ALL_GUESTS],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// The login of a token, unless it is over.
    pub async fn login(&self, jti: [u8; 16]) -> Result<Option<LoginRow>, StoreError> {
        let now = self.now();
        self.read(move |tx| login_of(tx, jti, now)).await
    }

    /// Puts a new token in the place of one; false if that does not count any more.
    pub async fn renew_login(&self, old: [u8; 16], new: LoginRow) -> Result<bool, StoreError> {
        let now = self.now();
        self.write(move |tx| {
            let renewed = tx.execute(
                "UPDATE logins SET jti = ?3, kid = ?4, began_ms = ?5, ends_ms = ?6
                 WHERE tenant = ?1 AND jti = ?2 AND ends_ms > ?7",
                params![TENANT, old, new.jti, new.kid, new.began, new.ends, now],
            )?;
            Ok(renewed == 1)
        })
        .await
    }

    /// Ends the login of a token; false if there was none.
    pub async fn end_login(&self, jti: [u8; 16]) -> Result<bool, StoreError> {
        self.write(move |tx| {
            let ended =
                tx.execute("DELETE FROM logins WHERE tenant = ?1 AND jti = ?2", params![TENANT, jti])?;
            Ok(ended == 1)
        })
        .await
    }

    /// Ends all logins of a wallet's key.
    pub async fn end_logins_of(&self, pubkey: [u8; 33]) -> Result<(), StoreError> {
        self.write(move |tx| {
            tx.execute("DELETE FROM logins WHERE tenant = ?1 AND pubkey = ?2", params![TENANT, pubkey])?;
            Ok(())
        })
        .await
    }

    /// The names of the keys that signed what still counts.
    pub async fn kids_in_use(&self) -> Result<Vec<String>, StoreError> {
        let now = self.now();
        self.read(move |tx| {
            let mut kids =
                tx.prepare("SELECT DISTINCT kid FROM logins WHERE tenant = ?1 AND ends_ms > ?2")?;
            let kids = kids.query_map(params![TENANT, now], |row| row.get(0))?;
            Ok(kids.collect::<Result<Vec<String>, _>>()?)
        })
        .await
    }
}

fn insert(tx: &Transaction<'_>, login: &LoginRow) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO logins (tenant, jti, pubkey, audience, kid, began_ms, ends_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![TENANT, login.jti, login.pubkey, login.audience.as_str(), login.kid, login.began, login.ends],
    )?;
    Ok(())
}

fn login_of(tx: &Transaction<'_>, jti: [u8; 16], now: Millis) -> Result<Option<LoginRow>, StoreError> {
    let found = tx
        .query_row(
            "SELECT pubkey, audience, kid, began_ms, ends_ms FROM logins
             WHERE tenant = ?1 AND jti = ?2 AND ends_ms > ?3",
            params![TENANT, jti, now],
            |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
        )
        .optional()?;
    let Some((pubkey, audience, kid, began, ends)) = found else { return Ok(None) };
    let audience = LoginAudience::parse(&audience).ok_or_else(|| StoreError::unreadable("audience"))?;
    Ok(Some(LoginRow { jti, pubkey, audience, kid, began, ends }))
}
