//! What must survive a power cut.
//!
//! One thread owns one SQLite connection; all other code holds a `Store`, a handle that sends it closures. A write is
//! one `BEGIN IMMEDIATE` transaction, and its answer is given only after COMMIT has returned with `synchronous=FULL`:
//! what has been answered is on the flash. Writes that wait behind each other share one transaction, since the flash
//! takes longer than all the rest; each still counts or is undone by itself.
//!
//! Refuses to run without those guarantees, to write to a store that is damaged or newer than this
//! program, and to make a new store where there was one. Uniqueness and limits belong in the SQL of one
//! write, as conditional statements whose row count is tested; never read in one call and write in another.

mod accounts;
mod answer;
mod audit;
mod backends;
mod balances;
mod behind;
mod buys;
mod card_keys;
mod cards;
mod claims;
mod counters;
mod database;
mod door;
mod error;
mod files;
mod fundings;
mod grants;
#[cfg(feature = "grpc")]
mod grpc_payments;
mod invites;
mod jobs;
mod keyfile;
mod lock_keys;
mod locked;
mod ledger;
mod logins;
mod migrations;
mod moves;
mod notices;
mod older;
mod operations;
mod order_rows;
mod orders;
mod outputs;
mod parts;
mod payments;
mod payout_rows;
mod payouts;
mod proofs;
mod reference;
mod relay;
mod requests;
mod reservations;
#[cfg(feature = "vault")]
mod seal;
mod session_rows;
mod sessions;
mod settled;
mod taken;
mod taps;
mod ticket;
mod tickets;
mod tidy;
mod time;
mod tokens;
mod topups;
mod unused_codes;
mod usage;
mod values;
mod vault;
mod wal;
mod worth;

#[cfg(test)]
pub(crate) mod tests;

pub use accounts::{making_room, AccountKey};
pub use answer::StoreAnswer;
pub use audit::{with_change, with_same_row, AuditRow, AuditVerdict, Changing, NewAuditRow};
pub use backends::BackendRow;
pub use balances::{BalanceMove, MoveState, NewMove, Reserved};
pub use behind::BehindRow;
pub use buys::{BuyRow, NewBuy, BUY};
pub use card_keys::{KeysOwner, KeysRow, NewKeys, TakenKeys};
pub use cards::{CardRow, NewCard};
pub use claims::Claim;
pub use door::{Datum, Door, DoorRow, TenantStore};
pub use error::StoreError;
pub use files::StoreHolder;
pub use fundings::FundingRow;
pub use grants::{Admission, NewGrant, PaidFor, PaidGrant, PaymentRow, Sales};
#[cfg(feature = "grpc")]
pub use grpc_payments::{GrpcBegun, GrpcOrder, GrpcPayment, GrpcState};
pub use invites::{CodeWorth, InviteHash, InviteRow, InviteUse, NewInvites};
pub use jobs::JobRow;
pub use keyfile::{KeyFile, RenewableKey, Secret};
pub use ledger::{BookAccount, BookBalance, BookEntry, KES, MSAT};
pub use lock_keys::{LockClass, LockKeyRow, PublicOf};
pub use locked::{LockedProof, LockedRow, LockedState, NewLocked, NewLocking, Unplanned};
pub use logins::{LoginAudience, LoginRow};
pub use moves::{AccountRow, Linked, MoveRules, Moved, NewDevice, ShownAt, TakeOver};
pub use notices::{add_voucher_job, note_notice, note_step, ChangedState};
pub use operations::{Begun, Known, NewOp, OpKind, OpRow, OpState};
pub use order_rows::{OrderRow, OrderState, OrderStep};
pub use orders::{NewOrder, OpenedOrder, OrdersSince, PromptRules, Settled, ORDER_JOB};
pub use outputs::OutputsRow;
pub use parts::{InvoiceRow, NewPart, OpenPart, PartRow, PartState, Tokens};
pub use payments::{HeardCallback, SuspenseRow};
pub use payout_rows::{NewPayout, PaidBy, PayoutKind, PayoutRow, PayoutState};
pub use payouts::{OpenedPayout, PayoutEnd, PayoutRules, PAYOUT_JOB};
pub use proofs::{Balance, NewProofs, ProofKey, ProofRow, PurseName};
pub use reference::Reference;
pub use relay::{RelayPlace, RelayedEvent};
pub use requests::{NewRequest, Owner, RequestId, RequestRow, TokenForm};
pub use reservations::{give_back_reserved, window_start, EVERYBODY, LIMIT_WINDOWS};
pub use session_rows::SessionRow;
pub use taken::{forget_backing, take_backing, LockedTaking, Loss, OfflineLimits};
pub use taps::{
    HistoryRow, NewPayment, NewTap, OpenPayment, ReserveResult, TapId, TapResult, TapRow, TapState,
};
pub use ticket::Ticket;
pub use tidy::RecordsSince;
pub use time::WallFault;
pub use topups::TopupRow;
pub use unused_codes::UnusedCode;
pub use usage::UsageRow;
pub use vault::Vault;
#[cfg(test)]
pub(crate) use wal::{fuzz_wal, with_good_checksums};
pub use worth::{VenuePrice, Worth};

use crate::clock::Clock;
use crate::task::AnyResult;
use answer::AnyAnswer;
use database::{work, work_result, Counts, Database, Piece};
use files::DatabaseFiles;
use migrations::{Schema, SCHEMA};
use rusqlite::Transaction;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{mpsc, Arc, OnceLock};
use time::Timekeeper;
use tokio::sync::oneshot;

/// Below this much free space (bytes) no new sale is started.
const ROOM_FOR_SALES: u64 = 1024 * 1024;
/// Below this much, room is made while there still are sales: some 500 of them fit in between.
const ROOM_IS_SHORT: u64 = ROOM_FOR_SALES + 512 * 1024;
/// At least this much of it must be outside of the database, whose log has most of its length already.
const ROOM_FOR_LOG: u64 = ROOM_FOR_SALES / 2;

/// A handle to the store; clones share it. The store is closed when the last handle is dropped, and
/// `close` waits for that.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    /// Unbounded, because a job is only ever queued by a caller that waits for its answer, and those are bounded at
    /// the door (sockets, connections, background tasks).
    jobs: mpsc::Sender<Job>,
    counts: Arc<Counts>,
    files: DatabaseFiles,
    time: Timekeeper,
    /// What seals tokens, once it was needed.
    vault: OnceLock<Vault>,
    #[cfg(feature = "vault")]
    seal: seal::Seal,
}

/// How a store is kept.
pub struct StoreFacts {
    /// Number of the last step of its schema.
    pub schema_version: u32,
    /// As SQLite names it: `wal`, or `truncate`.
    pub journal_mode: String,
    pub synchronous: &'static str,
}

enum Job {
    Do(Piece<'static>, Asker),
    Rebuild(oneshot::Sender<Result<(), StoreError>>),
    Close(oneshot::Sender<()>),
}

/// Who gets the answer.
enum Asker {
    Waits(oneshot::Sender<Answer>),
    /// No caller; the text says in the log what was to be written.
    Log(&'static str),
}

type Answer = Result<AnyResult, StoreError>;

/// Pieces of work in one transaction, at most.
const TOGETHER: usize = 64;

impl Store {
    /// Opens the store in `state_dir`, or makes one where there never was one. Blocks for the recovery of
    /// what a power cut left and for a check of the database (see `database`); called once, at start.
    ///
    /// `Corrupt`, `TooNew`: nothing in the store's files has been changed. `Full` and `InUse` may pass:
    /// try again later.
    pub fn open(state_dir: &Path, clock: &Clock) -> Result<Store, StoreError> {
        Store::open_as(StoreHolder::Daemon, state_dir, clock)
    }

    /// The same; others see who holds it.
    pub fn open_as(holder: StoreHolder, state_dir: &Path, clock: &Clock) -> Result<Store, StoreError> {
        Store::open_held(holder, state_dir, clock, &SCHEMA)
    }

    /// Whether there is, or was, a store in this directory. Changes nothing.
    pub fn is_made(state_dir: &Path) -> bool {
        files::is_made(state_dir)
    }

    #[cfg(test)]
    fn open_with(state_dir: &Path, clock: &Clock, schema: &Schema) -> Result<Store, StoreError> {
        Store::open_held(StoreHolder::Daemon, state_dir, clock, schema)
    }

    fn open_held(
        holder: StoreHolder,
        state_dir: &Path,
        clock: &Clock,
        schema: &Schema,
    ) -> Result<Store, StoreError> {
        let files = DatabaseFiles::new(state_dir)?;
        let lock = files.lock(holder)?;
        let counts = Arc::<Counts>::default();
        let mut database = Database::open(&files, clock, schema, counts.clone())?;
        let (time, new_boot) = work_result(database.read(work(|tx| time::resume(tx, clock)))?)?;
        if let Some(moment) = new_boot {
            match database.write(work(|tx| time::note(tx, &moment))) {
                // What is paid is worth more than this note; the next one makes up for it.
                Err(StoreError::Full) => log::warn!("store: no space left to note this boot"),
                noted => drop(noted?),
            }
        }

        let own_files = files.clone();
        let (jobs, queue) = mpsc::channel();
        std::thread::Builder::new().name("store".to_owned()).spawn(move || {
            let waiting = run(&mut database, &own_files, queue);
            database.close();
            drop(lock);
            if let Some(waiting) = waiting {
                let _ = waiting.send(());
            }
        })?;
        Ok(Store(Arc::new(Shared {
            jobs,
            counts,
            files,
            time,
            vault: OnceLock::new(),
            #[cfg(feature = "vault")]
            seal: seal::Seal::default(),
        })))
    }

    /// Runs `f` in a transaction and commits it; the answer comes after COMMIT has returned. An error of
    /// `f` rolls back. A caller that stops waiting does not stop the write.
    pub(in crate::store) fn write<T, F>(&self, f: F) -> StoreAnswer<T>
    where
        F: FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        self.ask(Piece::Write(audit::noting(work(f), self.wall()))).typed()
    }

    /// Runs `f` on one consistent state of the store. Whatever `f` changes is rolled back.
    pub(in crate::store) fn read<T, F>(&self, f: F) -> StoreAnswer<T>
    where
        F: FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        self.ask(Piece::Read(work(f))).typed()
    }

    /// Queues a write behind those already queued and does not wait for it. A failure is only logged, so
    /// this is for what is written again anyway; `what` names it in the log.
    pub(in crate::store) fn write_later<F>(&self, what: &'static str, f: F)
    where
        F: FnOnce(&Transaction<'_>) -> Result<(), StoreError> + Send + 'static,
    {
        if self.0.jobs.send(Job::Do(Piece::Write(work(f)), Asker::Log(what))).is_err() {
            log::error!("store: {what} not written: {}", StoreError::Closed);
        }
    }

    /// Closes the store for every handle, after the writes queued so far, and waits until the database is
    /// checkpointed and unlocked.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        if self.0.jobs.send(Job::Close(done)).is_ok() {
            let _ = closed.await;
        }
    }

    /// Transactions that have written something since the store was opened.
    pub fn commits(&self) -> usize {
        self.0.counts.commits.load(Ordering::Relaxed)
    }

    /// How the store is kept.
    pub async fn facts(&self) -> Result<StoreFacts, StoreError> {
        self.read(|tx| {
            let synchronous: i64 = tx.pragma_query_value(None, "synchronous", |row| row.get(0))?;
            Ok(StoreFacts {
                schema_version: migrations::user_version(tx)?,
                journal_mode: tx.pragma_query_value(None, "journal_mode", |row| row.get(0))?,
                synchronous: if synchronous == 2 { "full" } else { "less than full" },
            })
        })
        .await
    }

    /// Bytes free for us on the file system that holds the store.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        Ok(self.0.files.free_bytes()?)
    }

    /// Whether a new sale may be started: at least 1 MiB is free, up to half of it in the database itself, which
    /// never shrinks. What is paid already is written even below that, as long as it fits.
    pub fn room_for_sales(&self) -> bool {
        self.has_room(ROOM_FOR_SALES)
    }

    /// Whether old records had better go, so that there will be room for sales.
    pub fn is_short_of_room(&self) -> bool {
        !self.has_room(ROOM_IS_SHORT)
    }

    fn has_room(&self, wanted: u64) -> bool {
        let vacant = u64::try_from(self.0.counts.vacant.load(Ordering::Relaxed)).unwrap_or(u64::MAX);
        let is_enough = |free: u64| free >= ROOM_FOR_LOG && free.saturating_add(vacant) >= wanted;
        self.free_bytes().is_ok_and(is_enough)
    }

    /// Writes the database anew, without what was removed from it, and empties the log. `Full` where there is no
    /// room for that: nothing has changed then.
    async fn rebuild(&self) -> Result<(), StoreError> {
        let (tell, told) = oneshot::channel();
        self.0.jobs.send(Job::Rebuild(tell)).map_err(|_| StoreError::Closed)?;
        told.await.map_err(|_| StoreError::Closed)?
    }

    fn ask(&self, piece: Piece<'static>) -> AnyAnswer {
        AnyAnswer::Unasked(self.0.jobs.clone(), Some(piece))
    }
}

/// Works until the last handle is gone, or until a caller closes the store: then returns the channel to that caller,
/// who is told when it is done.
fn run(
    database: &mut Database,
    files: &DatabaseFiles,
    queue: mpsc::Receiver<Job>,
) -> Option<oneshot::Sender<()>> {
    while let Ok(job) = queue.recv() {
        let mut next = Some(job);
        let mut pieces = Vec::new();
        let mut askers = Vec::new();
        let (mut closing, mut rebuilding) = (None, None);
        while let Some(job) = next.take() {
            match job {
                // Nothing is before it that it would have to wait for.
                Job::Do(Piece::Read(work), asker) if pieces.is_empty() => asker.tell(database.read(work)),
                Job::Do(piece, asker) => {
                    pieces.push(piece);
                    askers.push(asker);
                }
                Job::Rebuild(tell) => rebuilding = Some(tell),
                Job::Close(waiting) => closing = Some(waiting),
            }
            if closing.is_none() && rebuilding.is_none() && pieces.len() < TOGETHER {
                next = queue.try_recv().ok();
            }
        }
        let answers = database.write_together(pieces);
        askers.into_iter().zip(answers).for_each(|(asker, answer)| asker.tell(answer));
        if let Some(tell) = rebuilding {
            let _ = tell.send(database.rebuild(files));
        }
        if closing.is_some() {
            return closing;
        }
    }
    None
}

impl Asker {
    fn tell(self, answer: Answer) {
        match (self, answer) {
            (Asker::Waits(asker), answer) => drop(asker.send(answer)),
            (Asker::Log(what), Err(error)) => log::error!("store: {what} not written: {error}"),
            (Asker::Log(_), Ok(_)) => {}
        }
    }
}
