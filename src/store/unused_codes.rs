//! Codes that a program of the operator's takes one by one, and gives away (`sphinx_compat`): each is handed out once.
//!
//! They are sealed, unlike invites, whose codes nobody can read again. A code that was used, deleted or has expired
//! meanwhile is handed to nobody.

use super::door::{random_id, Door};
use super::{Store, StoreAnswer, StoreError};
use crate::hex;
use crate::units::{Millis, UnixSeconds};

/// Invites of the bot that wait for somebody.
const MOST_OF_BOT: i64 = 1000;

/// A code for a program to give away.
pub struct UnusedCode {
    pub id: String,
    pub code: String,
    pub made: UnixSeconds,
}

impl Store {
    /// Keeps an invite of the bot. Its id; `None`: there are too many.
    pub async fn keep_bots_invite(&self, text: String) -> Result<Option<String>, StoreError> {
        let (vault, made) = (self.vault().await?, self.wall());
        self.write(move |tx| {
            let door = Door::of(tx);
            if !has_room(&door)? {
                return Ok(None);
            }
            let id = random_id()?;
            keep(&door, &id, &vault.seal(&owner(&id), text.as_bytes())?, true, made)?;
            Ok(Some(id))
        })
        .await
    }

    /// Whether one more invite of the bot can be kept.
    pub fn has_room_for_bots_invites(&self) -> StoreAnswer<bool> {
        self.read(|tx| has_room(&Door::of(tx)))
    }

    /// The id of the oldest one.
    pub fn unused_code(&self) -> StoreAnswer<Option<String>> {
        let now = self.now();
        self.read(move |tx| oldest(&Door::of(tx), now))
    }

    /// Takes the oldest one out: no other caller gets it. `None`: that one has another id by now.
    pub async fn take_unused_code(&self, id: String) -> Result<Option<UnusedCode>, StoreError> {
        let (vault, now) = (self.vault().await?, self.now());
        self.write(move |tx| {
            let door = Door::of(tx);
            if oldest(&door, now)?.as_ref() != Some(&id) {
                return Ok(None);
            }
            let taken = door.query(
                "DELETE FROM unused_codes WHERE tenant = $1 AND id = $2 RETURNING sealed, made_at",
                &[id.as_str().into()],
            )?;
            let Some(row) = taken.first() else { return Ok(None) };
            let unreadable = || StoreError::unreadable("of unused codes");
            let sealed = hex::bytes(row.text(0)?).ok_or_else(unreadable)?;
            let code = vault.unseal(&owner(&id), &sealed)?;
            let code = String::from_utf8(code.expose().to_vec()).map_err(|_| unreadable())?;
            let made = UnixSeconds(u64::try_from(row.number(1)?).map_err(|_| unreadable())?);
            Ok(Some(UnusedCode { id, code, made }))
        })
        .await
    }
}

/// The id of the oldest code that is worth something.
fn oldest(door: &Door, now: Millis) -> Result<Option<String>, StoreError> {
    let found = door.query(
        "SELECT c.id FROM unused_codes c LEFT JOIN invites i ON i.tenant = c.tenant AND i.id = c.id
         WHERE c.tenant = $1 AND (c.is_bots = 1 OR (i.used = 0 AND i.uses_left > 0 AND i.ends_ms > $2))
         ORDER BY c.made_at, c.id LIMIT 1",
        &[i64::try_from(now.0).unwrap_or(i64::MAX).into()],
    )?;
    found.first().map(|row| row.text(0).map(str::to_owned)).transpose()
}

/// Keeps the sealed text of a code under its id.
pub(super) fn keep(
    door: &Door,
    id: &str,
    sealed: &[u8],
    is_bots: bool,
    made: UnixSeconds,
) -> Result<(), StoreError> {
    let made = i64::try_from(made.0).unwrap_or(i64::MAX);
    let values = [id.into(), hex::encode(sealed).as_str().into(), i64::from(is_bots).into(), made.into()];
    door.execute(
        "INSERT INTO unused_codes (tenant, id, sealed, is_bots, made_at) VALUES ($1, $2, $3, $4, $5)",
        &values,
    )
    .map(drop)
}

/// What a sealed text belongs to.
pub(super) fn owner(id: &str) -> String {
    format!("unused code {id}")
}

fn has_room(door: &Door) -> Result<bool, StoreError> {
    let counted = door.query("SELECT COUNT(*) FROM unused_codes WHERE tenant = $1 AND is_bots = 1", &[])?;
    Ok(counted.first().map_or(Ok(0), |row| row.number(0))? < MOST_OF_BOT)
}
