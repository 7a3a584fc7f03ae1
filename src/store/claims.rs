//! Who may claim an account beside its ticket: a wallet's key, or a card of this router. Each claims one account at
//! most. All statements go through the [`Door`].

use super::door::{random_id, Datum, Door};
use super::StoreError;
use crate::units::Millis;

/// More than anybody has; an account with more would be a way to fill the flash.
const MOST: usize = 16;

/// By what an account is claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A wallet's public key: the hex of its 33 bytes, in lower case.
    Key(String),
    /// The number of a card of this router.
    Card(i64),
}

impl Claim {
    fn kind(&self) -> &'static str {
        match self {
            Claim::Key(_) => "key",
            Claim::Card(_) => "card",
        }
    }

    fn data(&self) -> [Datum; 2] {
        let subject = match self {
            Claim::Key(key) => key.as_str().into(),
            Claim::Card(card) => card.to_string().as_str().into(),
        };
        [self.kind().into(), subject]
    }
}

/// The name of the account that this claims.
pub(super) fn claimed(door: &Door, claim: &Claim) -> Result<Option<String>, StoreError> {
    let found = door.query(
        "SELECT account FROM account_claims WHERE tenant = $1 AND kind = $2 AND subject = $3",
        &claim.data(),
    )?;
    found.first().map(|row| row.text(0).map(str::to_owned)).transpose()
}

/// Lets this claim an account, where it claims none. False: it does, or the account has too many.
pub(super) fn add_claim(door: &Door, account: &str, claim: &Claim, now: Millis) -> Result<bool, StoreError> {
    let own = "SELECT kind FROM account_claims WHERE tenant = $1 AND account = $2";
    if door.query(own, &[account.into()])?.len() >= MOST {
        return Ok(false);
    }
    let [kind, subject] = claim.data();
    let now = i64::try_from(now.0).unwrap_or(i64::MAX);
    let added = door.execute(
        "INSERT INTO account_claims (tenant, id, account, kind, subject, linked_ms)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        &[random_id()?.as_str().into(), account.into(), kind, subject, now.into()],
    )?;
    Ok(added == 1)
}

/// What claimed one account claims another from now on.
pub(super) fn hand_over(door: &Door, from: &str, to: &str) -> Result<(), StoreError> {
    door.execute(
        "UPDATE account_claims SET account = $3 WHERE tenant = $1 AND account = $2",
        &[from.into(), to.into()],
    )
    .map(drop)
}

/// From now on this claims nothing.
pub(super) fn drop_claim(door: &Door, claim: &Claim) -> Result<(), StoreError> {
    door.execute("DELETE FROM account_claims WHERE tenant = $1 AND kind = $2 AND subject = $3", &claim.data())
        .map(drop)
}
