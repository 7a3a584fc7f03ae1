//! Payment requests: what a guest asked for, paid by one invoice for each part.
//!
//! What the outputs and the lock key of a part are derived from is committed in `begin`, before the mint is asked, so
//! the tokens can always be had from the seed and the mint (NUT-09). A request of the house goes as a whole once it
//! is paid (see `settled`).

use super::parts::{add_part, parts_of, NewPart, PartRow};
use super::settled::settled_request;
use super::values::mac_of;
use super::{Store, StoreAnswer, StoreError, Vault};
use crate::mac::MacAddr;
use crate::units::Millis;
use rusqlite::{params, Connection, OptionalExtension, Row};
use std::fmt;
use std::str::FromStr;

/// Names a request towards its guest: 128 random bits, so knowing it is a proof of having asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) String);

/// Whose money the tokens of a request are; each owner has a seed of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The guest's: handed out as ecash.
    Guest,
    /// The house's takings: the guest gets access for it.
    House,
}

/// How tokens that are handed out are written (NUT-00).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenForm {
    /// V3, JSON: for clients that read no other.
    CashuA,
    /// V4, CBOR.
    #[default]
    CashuB,
}

#[derive(Clone, Debug)]
pub struct NewRequest {
    pub id: RequestId,
    pub mac: MacAddr,
    pub venue: String,
    pub owner: Owner,
    pub form: TokenForm,
    pub parts: Vec<NewPart>,
}

#[derive(Clone, Debug)]
pub struct RequestRow {
    pub id: RequestId,
    pub mac: MacAddr,
    pub venue: String,
    pub owner: Owner,
    pub form: TokenForm,
    pub created: Millis,
    pub parts: Vec<PartRow>,
}

impl Store {
    /// Journals a request before any mint is asked: lock keys and output counters are taken for good.
    pub async fn begin(&self, request: NewRequest) -> Result<RequestRow, StoreError> {
        let (now, vault) = (self.now(), self.vault().await?);
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO requests (id, mac, venue, owner, form, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    request.id.0,
                    request.mac.to_string(),
                    request.venue,
                    request.owner.as_str(),
                    request.form.version(),
                    now
                ],
            )?;
            for (position, part) in (0u32..).zip(&request.parts) {
                add_part(tx, &request, position, part)?;
            }
            request_by_id(tx, &vault, &request.id)?.ok_or(StoreError::Gone)
        })
        .await
    }

    /// No usable invoice came: the request is forgotten before anything was shown, and its counters stay taken. It
    /// leaves no row behind: a guest can make a mint refuse as often as it likes.
    pub fn not_invoiced(&self, request: &RequestId) -> StoreAnswer<()> {
        let id = request.0.clone();
        self.write(move |tx| {
            tx.execute(
                "DELETE FROM requests WHERE id = ?1 AND NOT EXISTS
                 (SELECT 1 FROM parts WHERE request = ?1 AND state NOT IN ('asking', 'unpaid'))",
                [id],
            )?;
            Ok(())
        })
    }

    /// Forgets the requests that a mint was being asked for: nothing was shown of them.
    pub fn forget_asking(&self) -> StoreAnswer<()> {
        self.write(|tx| {
            tx.execute(
                "DELETE FROM requests WHERE id IN
                     (SELECT request FROM parts WHERE state IN ('asking', 'unpaid', 'paid') AND state = 'asking')
                 AND NOT EXISTS
                     (SELECT 1 FROM parts WHERE request = requests.id AND state NOT IN ('asking', 'unpaid'))",
                [],
            )?;
            Ok(())
        })
    }

    /// Requests that still have work to do, at most `most`: the paid ones first, then the newest unpaid.
    pub async fn open_requests(&self, most: usize) -> Result<Vec<RequestRow>, StoreError> {
        let vault = self.vault().await?;
        self.read(move |db| {
            let ids = db
                .prepare(
                    "SELECT request FROM parts WHERE state IN ('asking', 'unpaid', 'paid')
                     GROUP BY request ORDER BY MAX(state = 'paid') DESC, MAX(id) DESC LIMIT ?1",
                )?
                .query_map([i64::try_from(most).unwrap_or(i64::MAX)], |row| row.get::<_, String>(0))?
                .collect::<Result<Vec<_>, _>>()?;
            ids.into_iter().filter_map(|id| request_by_id(db, &vault, &RequestId(id)).transpose()).collect()
        })
        .await
    }

    /// The guests that have asked for invoices since this service time, and when last.
    pub fn asked_after(&self, since: Millis) -> StoreAnswer<Vec<(MacAddr, Millis)>> {
        self.read(move |db| {
            // A request that was settled has left its grant.
            let mut asked = db.prepare(
                "SELECT mac, MAX(at) FROM (SELECT mac, created_ms AS at FROM requests WHERE created_ms > ?1
                 UNION ALL SELECT mac, granted_ms FROM grants
                 WHERE granted_ms > ?1 AND reference LIKE '________________________________/%') GROUP BY mac",
            )?;
            let rows = asked.query_map([since], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
            let read = |(mac, at): (String, Millis)| Some((mac.parse().ok()?, at));
            Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().filter_map(read).collect())
        })
    }

    /// Requests with tokens that are not yet safe with their guest, oldest first: those of one MAC, or all.
    pub fn undelivered(&self, of: Option<MacAddr>) -> StoreAnswer<Vec<RequestId>> {
        self.read(move |db| {
            let requests = "SELECT id FROM requests WHERE owner = 'guest' AND id IN
                (SELECT request FROM parts WHERE state = 'claimed' AND NOT acked)";
            let id = |row: &Row| row.get(0).map(RequestId);
            let ids = match of {
                Some(mac) => db
                    .prepare_cached(&format!("{requests} AND mac = ?1 ORDER BY created_ms"))?
                    .query_map([mac.to_string()], id)?
                    .collect::<Result<_, _>>(),
                None => db
                    .prepare(&format!("{requests} ORDER BY created_ms"))?
                    .query_map([], id)?
                    .collect::<Result<_, _>>(),
            };
            Ok(ids?)
        })
    }

    /// A request; of one that is settled, what is still known of it.
    pub async fn request(&self, id: &RequestId) -> Result<Option<RequestRow>, StoreError> {
        let (id, vault) = (id.clone(), self.vault().await?);
        self.read(move |db| match request_by_id(db, &vault, &id)? {
            None => settled_request(db, &id),
            found => Ok(found),
        })
        .await
    }
}

pub(super) fn request_by_id(
    db: &Connection,
    vault: &Vault,
    id: &RequestId,
) -> Result<Option<RequestRow>, StoreError> {
    let row = db
        .prepare_cached("SELECT mac, venue, owner, form, created_ms FROM requests WHERE id = ?1")?
        .query_row([&id.0], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, u8>(3)?,
                row.get::<_, Millis>(4)?,
            ))
        })
        .optional()?;
    let Some((mac, venue, owner, form, created)) = row else { return Ok(None) };
    let form = TokenForm::ALL.into_iter().find(|known| known.version() == form);
    let form = form.ok_or_else(|| StoreError::unreadable("form"))?;
    let (mac, owner, parts) = (mac_of(&mac)?, owner.parse()?, parts_of(db, vault, id)?);
    Ok(Some(RequestRow { id: id.clone(), mac, venue, owner, form, created, parts }))
}

impl RequestId {
    /// A fresh one from the kernel's random numbers.
    pub fn random() -> Result<RequestId, StoreError> {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes).map_err(|_| StoreError::NoRandomness)?;
        Ok(RequestId(bytes.iter().map(|b| format!("{b:02x}")).collect()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RequestId {
    type Err = ();

    fn from_str(text: &str) -> Result<RequestId, ()> {
        let well_formed = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if well_formed {
            Ok(RequestId(text.to_owned()))
        } else {
            Err(())
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TokenForm {
    const ALL: [TokenForm; 2] = [TokenForm::CashuA, TokenForm::CashuB];

    /// The prefix of such tokens.
    pub fn as_str(self) -> &'static str {
        match self {
            TokenForm::CashuA => "cashuA",
            TokenForm::CashuB => "cashuB",
        }
    }

    pub fn named(prefix: &str) -> Option<TokenForm> {
        TokenForm::ALL.into_iter().find(|form| form.as_str() == prefix)
    }

    fn version(self) -> u8 {
        match self {
            TokenForm::CashuA => 3,
            TokenForm::CashuB => 4,
        }
    }
}

impl Owner {
    pub fn as_str(self) -> &'static str {
        match self {
            Owner::Guest => "guest",
            Owner::House => "house",
        }
    }
}

impl FromStr for Owner {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Owner, StoreError> {
        match text {
            "guest" => Ok(Owner::Guest),
            "house" => Ok(Owner::House),
            _ => Err(StoreError::unreadable("owner")),
        }
    }
}
