//! The store's promises, tried on real files.

mod audit;
mod backing;
mod balances;
mod damage;
mod engine;
mod full;
mod invites;
mod keyfile;
mod logins;
mod older;
mod orders;
mod payouts;
mod power_cut;
mod relay;
mod requests;
mod sales;
mod sessions;
mod tenants;
mod tickets;
mod tidy;
mod time;
mod upgrade;
mod venues;

use super::migrations::{Schema, SCHEMA};
use super::{Store, StoreError};
use crate::clock::Clock;
use crate::folder::fresh_folder;
use crate::units::{Allotment, Millis, Sats, UnixSeconds};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The product's first step and a table to try things on.
const TRIAL: Schema = Schema {
    steps: &[
        SCHEMA.steps[0],
        "CREATE TABLE payment (
             reference TEXT PRIMARY KEY,
             sats      INTEGER NOT NULL,
             note      BLOB,
             ends_ms   INTEGER
         ) STRICT;",
    ],
};

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        Scratch(fresh_folder())
    }

    fn at(dir: &Path) -> Scratch {
        Scratch(dir.to_owned())
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A copy of the files as a power cut at this moment would leave them.
    fn as_after_power_cut(&self) -> Scratch {
        let copy = Scratch::new();
        for name in self.names() {
            if self.file(&name).is_file() {
                fs::copy(self.file(&name), copy.file(&name)).unwrap();
            }
        }
        copy
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn clock() -> Clock {
    Clock::manual("boot-1", Millis::from_secs(1000), UnixSeconds(1_800_000_000))
}

fn open(dir: &Path) -> Result<Store, StoreError> {
    Store::open_with(dir, &clock(), &TRIAL)
}

/// True if this call has inserted the row: the way every unique reference is used.
async fn pay(store: &Store, reference: &str) -> Result<bool, StoreError> {
    pay_with_note(store, reference, 0).await
}

async fn pay_with_note(store: &Store, reference: &str, note: usize) -> Result<bool, StoreError> {
    let reference = reference.to_owned();
    store
        .write(move |tx| {
            let rows = tx.execute(
                "INSERT INTO payment (reference, sats, note) VALUES (?1, ?2, randomblob(?3))
                 ON CONFLICT DO NOTHING",
                (reference, Sats(21), i64::try_from(note).unwrap()),
            )?;
            Ok(rows == 1)
        })
        .await
}

async fn references(store: &Store) -> Result<Vec<String>, StoreError> {
    store
        .read(|tx| {
            let mut statement = tx.prepare("SELECT reference FROM payment ORDER BY rowid")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
}

/// This test binary again, by the name it was started by (which may be an emulator's), running one test that does nothing
/// unless `STORE_CHILD` names a directory. It runs in that very process, which is killed, also where tests abort on panic.
fn child(test: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::args_os().next().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.args(["-Zunstable-options", "--force-run-in-process"]).env("RUSTC_BOOTSTRAP", "1");
    command.env("STORE_CHILD", dir);
    command
}

fn child_dir() -> Option<PathBuf> {
    std::env::var_os("STORE_CHILD").map(PathBuf::from)
}
