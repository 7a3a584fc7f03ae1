//! Who is logged in: a row for each token that counts, so that what was logged out stays so after a restart, and a
//! signing key alone is worth nothing.
//!
//! A login is one write, which also removes logins that are over. All statements go through the [`Door`]. Strangers can make
//! any number of keys, so the logins of one key and of all guests are limited: the oldest go, and those first whose key
//! stands for nothing that was paid.

use super::accounts::has_accounts;
use super::door::{Datum, Door, DoorRow};
use super::{Store, StoreAnswer, StoreError};
use crate::config::DOMAIN_NOTE;
use crate::hex;
use crate::units::Millis;

/// Logins of one key at a time, and of all guests.
const OF_ONE_KEY: i64 = 16;
const OF_ALL_GUESTS: i64 = 4096;
/// Tokens of others that were used within their life of five minutes.
const MOST_SPENT: i64 = 4096;
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

impl LoginRow {
    fn read(row: &DoorRow) -> Result<LoginRow, StoreError> {
        let unreadable = || StoreError::unreadable("of logins");
        let time =
            |column| Ok::<_, StoreError>(Millis(row.number(column)?.try_into().map_err(|_| unreadable())?));
        Ok(LoginRow {
            jti: hex::decode(row.text(0)?).ok_or_else(unreadable)?,
            pubkey: hex::decode(row.text(1)?).ok_or_else(unreadable)?,
            audience: LoginAudience::parse(row.text(2)?).ok_or_else(unreadable)?,
            kid: row.text(3)?.to_owned(),
            began: time(4)?,
            ends: time(5)?,
        })
    }
}

impl Store {
    /// Adds a login, and takes away those that are over or too many. `replaces`: the key's others of its audience count no
    /// more.
    pub fn begin_login(&self, login: LoginRow, replaces: bool) -> StoreAnswer<()> {
        let now = self.now();
        self.write(move |tx| {
            let door = Door::of(tx);
            let pubkey = text(&login.pubkey);
            if replaces {
                let others = "DELETE FROM logins WHERE tenant = $1 AND pubkey = $2 AND audience = $3";
                door.execute(others, &[pubkey.clone(), login.audience.as_str().into()])?;
            }
            door.execute(
                "INSERT INTO logins (tenant, jti, pubkey, audience, kid, began_ms, ends_ms)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                &[
                    text(&login.jti),
                    pubkey.clone(),
                    login.audience.as_str().into(),
                    login.kid.as_str().into(),
                    time(login.began),
                    time(login.ends),
                ],
            )?;
            let counted = door.query("SELECT count(*), min(ends_ms) FROM logins WHERE tenant = $1", &[])?;
            let counted = counted.first().ok_or(StoreError::Gone)?;
            if counted.number(1)? <= number(now) {
                door.execute("DELETE FROM logins WHERE tenant = $1 AND ends_ms <= $2", &[time(now)])?;
            }
            door.execute(
                "DELETE FROM logins WHERE tenant = $1 AND jti IN
                     (SELECT jti FROM logins WHERE tenant = $1 AND pubkey = $2
                      ORDER BY began_ms DESC, jti LIMIT $3 OFFSET $4)",
                &[pubkey, ALL.into(), OF_ONE_KEY.into()],
            )?;
            if counted.number(0)? > OF_ALL_GUESTS {
                door.execute(
                    "DELETE FROM logins WHERE tenant = $1 AND jti IN
                         (SELECT jti FROM logins l WHERE tenant = $1 AND audience = 'client'
                          ORDER BY EXISTS (SELECT 1 FROM account_claims c JOIN accounts a ON a.name = c.account
                              JOIN sessions s ON s.account = a.id
                              WHERE c.tenant = $1 AND c.kind = 'key' AND c.subject = l.pubkey) DESC,
                              began_ms DESC, jti LIMIT $2 OFFSET $3)",
                    &[ALL.into(), OF_ALL_GUESTS.into()],
                )?;
            }
            Ok(())
        })
    }

    /// Notes that a token of others, known by this hash, is used. False: it was used already, or too many were lately.
    pub fn spend_token(&self, token: [u8; 32], lasts: Millis) -> StoreAnswer<bool> {
        let now = self.now();
        self.write(move |tx| {
            let door = Door::of(tx);
            door.execute("DELETE FROM spent_tokens WHERE tenant = $1 AND ends_ms <= $2", &[time(now)])?;
            let spent = door.execute(
                "INSERT INTO spent_tokens (tenant, token, ends_ms) SELECT $1, $2, $3
                 WHERE (SELECT count(*) FROM spent_tokens WHERE tenant = $1) < $4 ON CONFLICT DO NOTHING",
                &[text(&token), time(now.saturating_add(lasts)), MOST_SPENT.into()],
            )?;
            Ok(spent == 1)
        })
    }

    /// Notes what wallets sign for in a file beside the database, where commands read it; if nothing is noted yet, only once
    /// there are accounts, or where it `is_first` needed now. Returns whether it is noted.
    pub fn note_domain(&self, note: String, is_first: bool) -> StoreAnswer<bool> {
        let files = self.0.files.clone();
        self.read(move |db| {
            let file = files.beside(DOMAIN_NOTE);
            let is_due = match std::fs::read_to_string(&file) {
                Ok(noted) if noted == note => return Ok(true),
                Ok(_) => true,
                Err(_) => is_first || has_accounts(db)?,
            };
            if is_due {
                files.write_durably(&file, note.as_bytes())?;
            }
            Ok(is_due)
        })
    }

    /// The login of a token, unless it is over.
    pub fn login(&self, jti: [u8; 16]) -> StoreAnswer<Option<LoginRow>> {
        let now = self.now();
        self.read(move |tx| {
            let found = Door::of(tx).query(
                "SELECT jti, pubkey, audience, kid, began_ms, ends_ms FROM logins
                 WHERE tenant = $1 AND jti = $2 AND ends_ms > $3",
                &[text(&jti), time(now)],
            )?;
            found.first().map(LoginRow::read).transpose()
        })
    }

    /// Puts a new token in the place of one; false if that does not count any more.
    pub fn renew_login(&self, old: [u8; 16], new: LoginRow) -> StoreAnswer<bool> {
        let now = self.now();
        self.write(move |tx| {
            let renewed = Door::of(tx).execute(
                "UPDATE logins SET jti = $3, kid = $4, began_ms = $5, ends_ms = $6
                 WHERE tenant = $1 AND jti = $2 AND ends_ms > $7",
                &[
                    text(&old),
                    text(&new.jti),
                    new.kid.as_str().into(),
                    time(new.began),
                    time(new.ends),
                    time(now),
                ],
            )?;
            Ok(renewed == 1)
        })
    }

    /// Ends the login of a token; false if there was none.
    pub fn end_login(&self, jti: [u8; 16]) -> StoreAnswer<bool> {
        self.write(move |tx| {
            let ended =
                Door::of(tx).execute("DELETE FROM logins WHERE tenant = $1 AND jti = $2", &[text(&jti)])?;
            Ok(ended == 1)
        })
    }

    /// Ends all logins of a wallet's key.
    pub fn end_logins_of(&self, pubkey: [u8; 33]) -> StoreAnswer<()> {
        self.write(move |tx| {
            Door::of(tx).execute("DELETE FROM logins WHERE tenant = $1 AND pubkey = $2", &[text(&pubkey)])?;
            Ok(())
        })
    }

    /// Ends operators' logins of all keys but these. Writes only where there are some.
    pub async fn end_operators_but(&self, kept: &[[u8; 33]]) -> Result<(), StoreError> {
        let keys = "SELECT DISTINCT pubkey FROM logins WHERE tenant = $1 AND audience = 'admin'";
        let known = self.read(move |tx| {
            let known = Door::of(tx).query(keys, &[])?;
            known.iter().map(|row| row.text(0).map(str::to_owned)).collect::<Result<Vec<String>, _>>()
        });
        let kept: Vec<String> = kept.iter().map(|key| hex::encode(key)).collect();
        let gone: Vec<String> = known.await?.into_iter().filter(|key| !kept.contains(key)).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let end = "DELETE FROM logins WHERE tenant = $1 AND audience = 'admin' AND pubkey = $2";
        self.write(move |tx| {
            let door = Door::of(tx);
            gone.iter().try_for_each(|key| door.execute(end, &[key.as_str().into()]).map(drop))
        })
        .await
    }

    /// The names of the keys that signed what still counts.
    pub fn kids_in_use(&self) -> StoreAnswer<Vec<String>> {
        let now = self.now();
        self.read(move |tx| {
            let kids = "SELECT DISTINCT kid FROM logins WHERE tenant = $1 AND ends_ms > $2";
            let kids = Door::of(tx).query(kids, &[time(now)])?;
            kids.iter().map(|row| row.text(0).map(str::to_owned)).collect()
        })
    }
}

fn text(bytes: &[u8]) -> Datum {
    hex::encode(bytes).as_str().into()
}

fn time(time: Millis) -> Datum {
    number(time).into()
}

fn number(time: Millis) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}
