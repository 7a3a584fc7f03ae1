//! Keys that ecash is locked to, as numbers: the keys themselves are derived from a seed that is a file beside the store. One
//! of a class and owner is the current one; older ones stay, as what is locked to them has to be spent with them.

use super::counters::{take_counter, VOUCHERS};
use super::door::Door;
use super::{Store, StoreAnswer, StoreError};
use crate::config::Tenant;
use rusqlite::{params, OptionalExtension, Transaction};

/// The counter of numbers, also of keys that lock quotes.
const NUMBERS: &str = "key";

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockClass {
    /// A venue's: spends what backs its vouchers.
    Venue,
    /// The operator's: takes back what was not redeemed in time.
    Refund,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockKeyRow {
    pub tenant: Tenant,
    pub class: LockClass,
    /// The venue.
    pub owner: String,
    pub number: u32,
    pub public: String,
    pub is_current: bool,
    /// Nothing that is not over is locked to it.
    pub is_unused: bool,
}

impl LockClass {
    pub fn as_str(self) -> &'static str {
        match self {
            LockClass::Venue => "venue",
            LockClass::Refund => "refund",
        }
    }

    pub fn parse(text: &str) -> Option<LockClass> {
        [LockClass::Venue, LockClass::Refund].into_iter().find(|class| class.as_str() == text)
    }
}

/// Says the public key of a number.
pub type PublicOf = Box<dyn FnOnce(u32) -> Option<String> + Send>;

impl Store {
    /// The number of the current key, which is made where there is none.
    pub fn lock_key(
        &self,
        tenant: &Tenant,
        class: LockClass,
        owner: &str,
        public_of: PublicOf,
    ) -> StoreAnswer<u32> {
        let (tenant, owner, at) = (tenant.clone(), owner.to_owned(), self.wall());
        self.write(move |tx| {
            let door = Door::for_tenant(tx, &tenant);
            let found = door.query(
                "SELECT number FROM key_versions
                 WHERE tenant = $1 AND class = $2 AND owner = $3 AND state = 'current'",
                &[class.as_str().into(), owner.as_str().into()],
            )?;
            match found.first() {
                Some(row) => number_of(row.number(0)?),
                None => add(tx, &door, class, &owner, public_of, at.0),
            }
        })
    }

    /// Makes a new current key. Answers its number; `None` where there was none before.
    pub fn rotate_lock_key(
        &self,
        tenant: &Tenant,
        class: LockClass,
        owner: &str,
        public_of: PublicOf,
    ) -> StoreAnswer<Option<u32>> {
        let (tenant, owner, at) = (tenant.clone(), owner.to_owned(), self.wall());
        self.write(move |tx| {
            let door = Door::for_tenant(tx, &tenant);
            let retired = door.execute(
                "UPDATE key_versions SET state = 'old', retired_at = $4
                 WHERE tenant = $1 AND class = $2 AND owner = $3 AND state = 'current'",
                &[class.as_str().into(), owner.as_str().into(), at.into()],
            )?;
            match retired {
                0 => Ok(None),
                _ => add(tx, &door, class, &owner, public_of, at.0).map(Some),
            }
        })
    }

    /// All keys of this router, of all tenants.
    pub fn lock_keys(&self) -> StoreAnswer<Vec<LockKeyRow>> {
        self.read(|tx| {
            tx.prepare(
                "SELECT k.tenant, k.class, k.owner, k.number, k.public, k.state = 'current',
                        NOT EXISTS (SELECT 1 FROM locked l WHERE l.tenant = k.tenant
                                    AND (l.lock = k.number OR l.refund = k.number)
                                    AND l.state NOT IN ('swapped', 'lost', 'failed'))
                 FROM key_versions k WHERE k.class IN ('venue', 'refund')
                 ORDER BY k.tenant, k.class, k.owner, k.number",
            )?
            .query_map([], |row| {
                let (tenant, class): (String, String) = (row.get(0)?, row.get(1)?);
                let number: i64 = row.get(3)?;
                Ok((tenant, class, row.get(2)?, number, row.get(4)?, row.get(5)?, row.get(6)?))
            })?
            .map(|row| {
                let (tenant, class, owner, number, public, is_current, is_unused) = row?;
                Ok(LockKeyRow {
                    tenant: Tenant::named(&tenant),
                    class: LockClass::parse(&class).ok_or_else(|| StoreError::unreadable("class"))?,
                    owner,
                    number: number_of(number)?,
                    public,
                    is_current,
                    is_unused,
                })
            })
            .collect()
        })
    }

    /// The numbers of the keys that vouchers' codes are known by, of all tenants.
    pub async fn voucher_keys_in_use(&self) -> Result<Vec<u32>, StoreError> {
        self.read(|tx| {
            let mut found = tx.prepare("SELECT DISTINCT tenant, key_no FROM vouchers")?;
            let found = found.query_map([], |row| row.get(1))?;
            found.map(|number| number_of(number?)).collect()
        })
        .await
    }

    /// Whether there has ever been a key that codes are known by.
    pub async fn has_voucher_key(&self) -> Result<bool, StoreError> {
        self.read(|tx| {
            let known = tx.query_row("SELECT 1 FROM meta WHERE key = 'key vouchers'", [], |_| Ok(()));
            Ok(known.optional()?.is_some())
        })
        .await
    }

    /// A number for a key that locks a quote.
    pub fn quote_key(&self) -> StoreAnswer<u32> {
        self.write(|tx| take_counter(tx, VOUCHERS, NUMBERS, 1))
    }

    /// Whether there has ever been a key that something is locked to.
    pub fn has_lock_keys(&self) -> StoreAnswer<bool> {
        self.read(|tx| {
            let found = tx.query_row(
                "SELECT 1 FROM counters WHERE owner = ?1 AND keyset = ?2",
                params![VOUCHERS, NUMBERS],
                |_| Ok(()),
            );
            Ok(found.optional()?.is_some())
        })
    }
}

fn add(
    tx: &Transaction<'_>,
    door: &Door<'_>,
    class: LockClass,
    owner: &str,
    public_of: PublicOf,
    at: u64,
) -> Result<u32, StoreError> {
    let number = take_counter(tx, VOUCHERS, NUMBERS, 1)?;
    let public = public_of(number).ok_or(StoreError::CounterExhausted)?;
    door.execute(
        "INSERT INTO key_versions (tenant, class, owner, number, public, state, made_at)
         VALUES ($1, $2, $3, $4, $5, 'current', $6)",
        &[class.as_str().into(), owner.into(), i64::from(number).into(), public.into(), at.into()],
    )?;
    Ok(number)
}

fn number_of(number: i64) -> Result<u32, StoreError> {
    u32::try_from(number).map_err(|_| StoreError::unreadable("number"))
}
