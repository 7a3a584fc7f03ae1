//! Why the store could not do it.

use super::values::UnitNotKnown;
use crate::units::Sats;
use rusqlite::ErrorCode;

/// Every error of this room. The texts name files, tables and columns, never a value from a row.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The files do not hold what was written. They stay as they are, and nothing is sold.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// A newer version of this program has written the store. Treated like a damaged one.
    #[error(
        "a newer tollgated has written the store (version {found}, here {known}): install that one again"
    )]
    TooNew { found: u32, known: u32 },
    /// An amount is in a unit that this version does not know there. Nothing was reckoned with it.
    #[error("a newer tollgated has written amounts in '{0}', which this one does not know: install that one again")]
    UnitNotKnown(String),
    /// SQLite did not accept a setting without which a power cut loses what was acknowledged.
    #[error("the store cannot promise to survive a power cut: {0}")]
    NoDurability(String),
    /// Another process holds the store.
    #[error("the store is in use by another process")]
    InUse,
    /// A command does, and soon no more.
    #[error("the store is in use by another command")]
    HeldByCommand,
    /// No space left; the transaction was rolled back. Passes when there is space again.
    #[error("no space left for the store")]
    Full,
    /// The store has used this key before, and its file is gone or another one. Never made anew.
    #[error("the key file {0} is missing or is not the one this store has used")]
    KeyMissing(String),
    /// The key files are sealed, and what opens them has not come yet. Passes.
    #[error("the key files are sealed: a Vault has to open them first")]
    Sealed,
    /// The store has been closed, or its thread is gone.
    #[error("the store is closed")]
    Closed,
    /// A row that must exist does not: the caller's state and the store's have parted.
    #[error("the record is not there or not in the state it should be in")]
    Gone,
    /// The takings would not have it any more. Nothing was taken.
    #[error("{0} sat of the takings are promised to accounts and open orders, which would not be there")]
    Promised(Sats),
    #[error("the counters of a keyset are used up")]
    CounterExhausted,
    #[error("the system has no randomness")]
    NoRandomness,
    #[error("store: {0}")]
    Io(std::io::Error),
    /// Boxed, because it is twice as large as all others, and nearly every function of this room returns one.
    #[error("store: {0}")]
    Sqlite(Box<rusqlite::Error>),
}

impl StoreError {
    /// A column holds something that this program never writes.
    pub(super) fn unreadable(column: &str) -> StoreError {
        StoreError::Corrupt(format!("the column {column} cannot be read"))
    }

    /// The same for another piece of work of the transaction that it ended.
    pub(super) fn shared(&self) -> StoreError {
        match self {
            StoreError::Corrupt(what) => StoreError::Corrupt(what.clone()),
            StoreError::Full => StoreError::Full,
            StoreError::InUse => StoreError::InUse,
            StoreError::Closed => StoreError::Closed,
            other => StoreError::Io(std::io::Error::other(other.to_string())),
        }
    }

    /// The stable code that clients and operators see.
    pub fn code(&self) -> &'static str {
        match self {
            StoreError::Corrupt(_) => "STORE_CORRUPT",
            StoreError::TooNew { .. } | StoreError::UnitNotKnown(_) => "STORE_TOO_NEW",
            StoreError::NoDurability(_) => "STORE_NOT_DURABLE",
            StoreError::InUse | StoreError::HeldByCommand => "STORE_IN_USE",
            StoreError::Full => "STORE_FULL",
            StoreError::KeyMissing(_) => "KEY_MISSING",
            StoreError::Sealed => "SEALED",
            StoreError::Closed => "STORE_CLOSED",
            StoreError::Promised(_) => "promised",
            StoreError::Gone
            | StoreError::CounterExhausted
            | StoreError::NoRandomness
            | StoreError::Io(_)
            | StoreError::Sqlite(_) => "STORE_ERROR",
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        if let rusqlite::Error::FromSqlConversionFailure(_, _, cause) = &error {
            if let Some(UnitNotKnown(unit)) = cause.downcast_ref() {
                return StoreError::UnitNotKnown(unit.clone());
            }
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Corrupt(error.to_string())
            }
            Some(ErrorCode::DiskFull) => StoreError::Full,
            Some(ErrorCode::DatabaseBusy) => StoreError::InUse,
            _ => StoreError::Sqlite(Box::new(error)),
        }
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> StoreError {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::Full,
            _ => StoreError::Io(error),
        }
    }
}
