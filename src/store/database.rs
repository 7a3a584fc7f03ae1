//! The SQLite connection: opened only when its files are sound, with settings that survive a power cut.
//!
//! Opening looks in this order, and changes nothing in the files of a store that fails: is the file there
//! (see `files`), is the log sound (see `wal`), is the file a database of a version we know, does SQLite's
//! `quick_check` pass. The check reads the whole file once (16 MiB take 30 ms on a PC);
//! files above `CHECKED_AT_OPEN` are not checked at open, damage there shows at the first statement that
//! meets it. From the first damage on nothing is written any more, no checkpoint either.

use super::files::{close_to_others, DatabaseFiles};
use super::migrations::{user_version, Schema};
use super::wal::{self, Wal};
use super::{time, StoreError};
use crate::clock::Clock;
use crate::task::{self, AnyResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use std::any::Any;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of database up to which `quick_check` is run at open.
const CHECKED_AT_OPEN: u64 = 64 * 1024 * 1024;

/// Small pages: a commit writes whole pages (a frame of 1048 bytes for each), and our rows are small.
const PAGE_BYTES: u32 = 1024;

/// Frames after which the log is copied into the database: half a MiB. Pages that change often are copied
/// once per round, so a longer log wears the flash less; but it must fit into the last free MiB.
const CHECKPOINT_FRAMES: u32 = 512;

/// What one large transaction may leave of the log file (bytes).
const LOG_BYTES: u32 = 768 * 1024;

/// What a transaction does. Its result has lost its type on the way, so that the code around every one of the store's
/// many transactions exists once.
pub type Work<'a> = Box<dyn FnOnce(&Transaction<'_>) -> Result<AnyResult, StoreError> + Send + 'a>;

pub fn work<'a, T: Any + Send>(
    f: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'a,
) -> Work<'a> {
    Box::new(move |tx| f(tx).map(|value| Box::new(value) as AnyResult))
}

/// The result of a `work` that returned a `T`.
pub fn work_result<T: Any>(value: AnyResult) -> Result<T, StoreError> {
    task::unpack(value).ok_or(StoreError::Closed)
}

/// What others may know of the database without asking it.
#[derive(Default)]
pub(super) struct Counts {
    /// Transactions that have written something.
    pub commits: AtomicUsize,
    /// Bytes of the file that hold nothing: what was removed has left them, and new rows go there first.
    pub vacant: AtomicUsize,
}

pub enum Piece<'a> {
    Read(Work<'a>),
    Write(Work<'a>),
}

pub(super) struct Database {
    conn: Connection,
    counts: Arc<Counts>,
    /// Set at the first sign of damage; everything is refused from then on.
    damage: Option<String>,
}

impl Database {
    /// Opens the database, or makes one if there are no traces of an earlier one. What is damaged is
    /// copied aside.
    pub fn open(
        files: &DatabaseFiles,
        clock: &Clock,
        schema: &Schema,
        counts: Arc<Counts>,
    ) -> Result<Database, StoreError> {
        let opened = open_sound(files, clock, schema);
        if let Err(StoreError::Corrupt(_)) = &opened {
            files.copy_aside();
        }
        let database = Database { conn: opened?, counts, damage: None };
        database.count_vacant();
        Ok(database)
    }

    /// One transaction, committed when the work succeeds.
    pub fn write(&mut self, work: Work<'_>) -> Result<AnyResult, StoreError> {
        self.refuse_if_damaged()?;
        let changes = self.conn.total_changes();
        let result = (|| {
            let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&tx)?;
            tx.commit()?;
            Ok(value)
        })();
        if result.is_ok() && self.conn.total_changes() != changes {
            self.counts.commits.fetch_add(1, Ordering::Relaxed);
            self.count_vacant();
        }
        self.watch(result)
    }

    /// One transaction for all pieces, in their order. One that fails is undone by itself; when the commit fails, none
    /// has happened, and each is told so.
    pub fn write_together(&mut self, mut pieces: Vec<Piece<'_>>) -> Vec<Result<AnyResult, StoreError>> {
        match (pieces.len(), pieces.pop()) {
            (_, None) => return Vec::new(),
            (1, Some(Piece::Write(work))) => return vec![self.write(work)],
            (_, Some(last)) => pieces.push(last),
        }
        let count = pieces.len();
        let mut results = Vec::with_capacity(count);
        let all = work(|tx| {
            for piece in pieces {
                tx.execute_batch("SAVEPOINT piece")?;
                let (result, is_undone) = match piece {
                    Piece::Read(work) => (work(tx), true),
                    Piece::Write(work) => (work(tx), false),
                };
                if let Err(error) = &result {
                    // With a full disk, SQLite itself may have rolled everything back.
                    if matches!(error, StoreError::Corrupt(_)) || tx.is_autocommit() {
                        return Err(error.shared());
                    }
                }
                if is_undone || result.is_err() {
                    tx.execute_batch("ROLLBACK TO piece")?;
                }
                tx.execute_batch("RELEASE piece")?;
                results.push(result);
            }
            Ok(())
        });
        match self.write(all) {
            Ok(_) => results,
            Err(error) => (0..count).map(|_| Err(error.shared())).collect(),
        }
    }

    /// One transaction, always rolled back.
    pub fn read(&mut self, work: Work<'_>) -> Result<AnyResult, StoreError> {
        self.refuse_if_damaged()?;
        let result = (|| work(&self.conn.transaction()?))();
        self.watch(result)
    }

    /// Puts a copy in the place of the database, without what was removed from it, and empties the log. The copy goes
    /// to the flash as it is made; all of it in memory would be too much for a small router. `Full` where there is no
    /// room for it: nothing has changed then.
    pub fn rebuild(&mut self, files: &DatabaseFiles) -> Result<(), StoreError> {
        self.refuse_if_damaged()?;
        let copied = self.copy_to_new(files);
        let result = match copied {
            Ok(()) => self.change_over(files),
            Err(error) => files.discard_new_database().map_err(StoreError::from).and(Err(error)),
        };
        self.count_vacant();
        self.watch(result)
    }

    fn copy_to_new(&self, files: &DatabaseFiles) -> Result<(), StoreError> {
        let new = files.start_new_database()?;
        let pages = |pragma| self.conn.pragma_query_value(None, pragma, |row| row.get::<_, u32>(0));
        let used = pages("page_count")?.saturating_sub(pages("freelist_count")?);
        let size = u64::from(used).saturating_mul(u64::from(PAGE_BYTES));
        if files.free_bytes()? < size.saturating_add(u64::from(LOG_BYTES)) {
            return Err(StoreError::Full);
        }
        // With an empty log, each of the two files is all there is of the database.
        self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        let new = new.to_str().ok_or(std::io::ErrorKind::InvalidFilename).map_err(std::io::Error::from)?;
        self.conn.execute("VACUUM INTO ?1", [new])?;
        Ok(())
    }

    fn change_over(&mut self, files: &DatabaseFiles) -> Result<(), StoreError> {
        // The old file stays as it is when it is let go.
        drop(std::mem::replace(&mut self.conn, Connection::open_in_memory()?));
        let changed = files.finish_new_database();
        let opened = connect(&files.database()).and_then(|conn| {
            make_durable(&conn)?;
            Ok(conn)
        });
        match opened {
            Ok(conn) => self.conn = conn,
            Err(error) => return Err(StoreError::Corrupt(format!("store.db does not open again: {error}"))),
        }
        Ok(changed?)
    }

    /// Checkpoints and closes. A damaged database is left as it is.
    pub fn close(self) {
        if self.damage.is_none() {
            let _ = self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
        }
        if let Err((_, error)) = self.conn.close() {
            log::error!("store: not closed cleanly: {error}");
        }
    }

    fn count_vacant(&self) {
        let pages: Result<u32, _> = self.conn.pragma_query_value(None, "freelist_count", |row| row.get(0));
        let bytes = usize::try_from(pages.unwrap_or(0).saturating_mul(PAGE_BYTES)).unwrap_or(usize::MAX);
        self.counts.vacant.store(bytes, Ordering::Relaxed);
    }

    fn refuse_if_damaged(&self) -> Result<(), StoreError> {
        match &self.damage {
            Some(what) => Err(StoreError::Corrupt(what.clone())),
            None => Ok(()),
        }
    }

    fn watch<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Corrupt(what)) = &result {
            log::error!("store: damaged, nothing more is written: {what}");
            self.damage = Some(what.clone());
        }
        result
    }
}

fn open_sound(files: &DatabaseFiles, clock: &Clock, schema: &Schema) -> Result<Connection, StoreError> {
    let path = files.database();
    if !path.try_exists()? {
        if let Some(evidence) = files.evidence()? {
            return Err(StoreError::Corrupt(evidence));
        }
        make(files, clock, schema)?;
    }
    match wal::inspect(&files.wal())? {
        Wal::Damaged(what) => return Err(StoreError::Corrupt(what)),
        // Page 1 stands in the log, perhaps; the file's own may be torn by a checkpoint.
        Wal::Commits if path.metadata()?.len() > 0 => {}
        Wal::Commits | Wal::Empty => check_header(&path, schema)?,
    }
    close_to_others(&path, 0o600)?;

    let mut conn = connect(&path)?;
    check_version(user_version(&conn)?, schema)?;
    quick_check(&conn, path.metadata()?.len())?;
    make_durable(&conn)?;
    schema.migrate(&mut conn)?;
    files.note_made()?;
    Ok(conn)
}

/// Makes the database under another name and renames it when it is complete, so that a power cut in
/// between leaves either none or one that is as sound as any.
fn make(files: &DatabaseFiles, clock: &Clock, schema: &Schema) -> Result<(), StoreError> {
    let mut conn = connect(&files.start_new_database()?)?;
    conn.pragma_update(None, "page_size", PAGE_BYTES)?;
    make_durable(&conn)?;
    schema.migrate(&mut conn)?;
    time::first_boot(&conn, clock)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    conn.close().map_err(|(_, error)| error)?;
    files.finish_new_database()?;
    Ok(())
}

/// A connection that has read and written nothing yet, and that leaves log and database alone when it is
/// dropped: only `Database::close` knows that they are sound.
fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(Duration::from_secs(2))?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Before anything is read: this keeps SQLite from wanting shared memory, which JFFS2 cannot map.
    expect(&conn, "locking_mode", "exclusive")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "temp_store", "memory")?;
    // What is removed is overwritten: phone numbers among it.
    conn.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
    conn.pragma_update(None, "cache_size", -256)?; // KiB
    Ok(conn)
}

/// What a power cut may do to a commit depends on these, so they are read back.
pub(super) fn make_durable(conn: &Connection) -> Result<(), StoreError> {
    // SQLite's default journal, DELETE, can lose an acknowledged commit: deleting the journal is not
    // synced. TRUNCATE with FULL is.
    match expect(conn, "journal_mode", "wal") {
        Err(StoreError::NoDurability(_)) => expect(conn, "journal_mode", "truncate")?,
        tried => tried?,
    }
    conn.pragma_update(None, "synchronous", "full")?;
    let synchronous: i64 = conn.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    if synchronous != 2 {
        return Err(StoreError::NoDurability(format!("synchronous is {synchronous}")));
    }
    conn.pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT_FRAMES, |_| Ok(()))?;
    conn.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES, |_| Ok(()))?;
    Ok(())
}

/// Sets a pragma that answers with what it is now.
fn expect(conn: &Connection, pragma: &str, value: &str) -> Result<(), StoreError> {
    let now: String = conn.pragma_update_and_check(None, pragma, value, |row| row.get(0))?;
    if now.eq_ignore_ascii_case(value) {
        Ok(())
    } else {
        Err(StoreError::NoDurability(format!("{pragma} is {now}, not {value}")))
    }
}

/// The database file's own header, for a store whose log is empty: SQLite takes an empty file for a new
/// database, and would make files beside one of a newer version.
fn check_header(path: &Path, schema: &Schema) -> Result<(), StoreError> {
    let mut header = [0; 100];
    let magic = File::open(path)?.read_exact(&mut header).ok().and_then(|()| header.first_chunk::<16>());
    if magic != Some(b"SQLite format 3\0") {
        return Err(StoreError::Corrupt("store.db has no SQLite header".to_owned()));
    }
    let [.., a, b, c, d] = *header.first_chunk::<64>().unwrap_or(&[0; 64]);
    check_version(u32::from_be_bytes([a, b, c, d]), schema)
}

fn check_version(found: u32, schema: &Schema) -> Result<(), StoreError> {
    match found {
        // A database is put in its place only with its schema.
        0 => Err(StoreError::Corrupt("store.db has no schema".to_owned())),
        found if found > schema.version() => Err(StoreError::TooNew { found, known: schema.version() }),
        _ => Ok(()),
    }
}

fn quick_check(conn: &Connection, size: u64) -> Result<(), StoreError> {
    if size > CHECKED_AT_OPEN {
        log::warn!("store: {size} bytes are too much to check at start");
        return Ok(());
    }
    let finding: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if finding == "ok" {
        Ok(())
    } else {
        Err(StoreError::Corrupt(finding))
    }
}
