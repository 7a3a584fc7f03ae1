//! What pays the invoices of taps, or has paid: kept as long as a payment may have to be looked up there.

use super::{Store, StoreAnswer};
use rusqlite::params;

/// What pays, with its credentials sealed.
#[derive(Clone)]
pub struct BackendRow {
    pub id: i64,
    pub kind: String,
    pub url: String,
    pub pin: Option<[u8; 32]>,
    pub sealed: Vec<u8>,
}

impl Store {
    pub fn backends(&self) -> StoreAnswer<Vec<BackendRow>> {
        self.read(|db| {
            let rows = db
                .prepare("SELECT id, kind, url, pin, sealed FROM backends")?
                .query_map([], |row| {
                    Ok(BackendRow {
                        id: row.get(0)?,
                        kind: row.get(1)?,
                        url: row.get(2)?,
                        pin: row.get(3)?,
                        sealed: row.get(4)?,
                    })
                })?
                .collect::<Result<_, _>>();
            Ok(rows?)
        })
    }

    /// Keeps a backend and answers its id. The id in `backend` is ignored.
    pub fn add_backend(&self, backend: BackendRow) -> StoreAnswer<i64> {
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO backends (kind, url, pin, sealed) VALUES (?1, ?2, ?3, ?4)",
                params![backend.kind, backend.url, backend.pin, backend.sealed],
            )?;
            Ok(tx.last_insert_rowid())
        })
    }
}
