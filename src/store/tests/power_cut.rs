use super::*;
use crate::store::database::{work, work_result};
use rusqlite::Transaction;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const FRAME: u64 = 24 + 1024;

fn log_length(dir: &Scratch) -> u64 {
    fs::metadata(dir.file("store.db-wal")).unwrap().len()
}

fn cut_log(dir: &Scratch, length: u64) {
    fs::File::options().write(true).open(dir.file("store.db-wal")).unwrap().set_len(length).unwrap();
}

#[tokio::test]
async fn child_that_pays_until_it_is_killed() {
    let Some(dir) = child_dir() else { return };
    let store = open(&dir).unwrap();
    let start = references(&store).await.unwrap().len();
    for number in start..start + 50_000 {
        pay_with_note(&store, &number.to_string(), number % 4000).await.unwrap();
        writeln!(std::io::stdout(), "\npaid {number}").unwrap();
    }
}

/// A process that pays until it is dropped: then it gets SIGKILL.
struct Payer(Child);

impl Payer {
    fn start(dir: &Scratch, stdout: Stdio) -> Payer {
        let mut command = child("store::tests::power_cut::child_that_pays_until_it_is_killed", dir.path());
        Payer(command.stdout(stdout).spawn().unwrap())
    }
}

impl Drop for Payer {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn kill_9_at_any_moment_loses_nothing_acknowledged() {
    let dir = Scratch::new();
    let mut acknowledged = 0;
    for round in 0..12u64 {
        let mut payer = Payer::start(&dir, Stdio::piped());
        let mut lines = BufReader::new(payer.0.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut paid = || lines.find_map(|line| line.strip_prefix("paid ")?.parse::<usize>().ok());
        let mut last = paid().expect("the child pays");
        let killed_at = Instant::now() + Duration::from_micros(1_000 + round * 7_919);
        while Instant::now() < killed_at {
            last = paid().unwrap();
        }
        drop(payer);
        while let Some(number) = paid() {
            last = number;
        }
        let store = open(dir.path()).unwrap();
        let found = references(&store).await.unwrap();
        assert!(found.len() > last, "round {round}: {last} was acknowledged, {} are there", found.len());
        assert!(found.iter().enumerate().all(|(number, reference)| *reference == number.to_string()));
        acknowledged = last;
        store.close().await;
    }
    assert!(acknowledged > 12);
}

#[tokio::test]
async fn kill_9_while_the_store_is_being_made_leaves_one_that_opens() {
    for round in 0..40 {
        let dir = Scratch::new();
        let payer = Payer::start(&dir, Stdio::null());
        while dir.names().is_empty() {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_micros(round * 400));
        drop(payer);
        open(dir.path()).unwrap_or_else(|error| panic!("round {round}: {error}")).close().await;
    }
}

#[tokio::test]
async fn a_log_cut_at_any_byte_keeps_every_commit_before_the_cut() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    // Where the log ended when the commit was acknowledged.
    let mut ends = vec![0];
    for number in 0..6 {
        pay_with_note(&store, &number.to_string(), 1500).await.unwrap();
        ends.push(log_length(&dir));
    }
    let cut = dir.as_after_power_cut();
    let last_two = ends[ends.len() - 3];
    assert!(log_length(&cut) - last_two > 4 * FRAME);
    // Every byte of the last two transactions, and a coarser grid before. From the end on: an open without a close
    // leaves the files alone.
    let lengths = (0..=log_length(&cut)).rev().filter(|length| *length >= last_two || length % 131 == 0);
    for length in lengths {
        cut_log(&cut, length);
        let survived = ends.iter().filter(|end| **end <= length).count() - 1;
        let conn = crate::store::database::Database::open(
            &crate::store::files::DatabaseFiles::new(cut.path()).unwrap(),
            &clock(),
            &TRIAL,
            Default::default(),
        );
        let mut database = conn.unwrap_or_else(|error| panic!("cut at {length}: {error}"));
        let count = |tx: &Transaction<'_>| {
            Ok(tx.query_row("SELECT count(*) FROM payment", [], |row| row.get::<_, i64>(0))?)
        };
        let found: i64 = work_result(database.read(work(count)).unwrap()).unwrap();
        assert_eq!(usize::try_from(found), Ok(survived), "cut at {length}");
    }
}

#[tokio::test]
async fn a_checkpoint_cut_at_any_point_loses_nothing() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    for number in 0..100 {
        pay_with_note(&store, &number.to_string(), 900).await.unwrap();
    }
    let cut = dir.as_after_power_cut();
    store.close().await;
    let before = fs::read(cut.file("store.db")).unwrap();
    let after = fs::read(dir.file("store.db")).unwrap();
    let log = fs::read(cut.file("store.db-wal")).unwrap();
    assert!(after.len() > before.len() + 64 * 1024);
    for written in (0..after.len()).step_by(200) {
        let old = before.get(written..).unwrap_or_default();
        fs::write(cut.file("store.db"), [&after[..written], old].concat()).unwrap();
        fs::write(cut.file("store.db-wal"), &log).unwrap();
        let store = open(cut.path()).unwrap_or_else(|error| panic!("after {written} bytes: {error}"));
        assert_eq!(references(&store).await.unwrap().len(), 100, "after {written} bytes");
        store.close().await;
    }
}

#[tokio::test]
async fn a_log_of_a_big_endian_router_is_read_as_sqlite_reads_it() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    for number in 0..3 {
        pay(&store, &number.to_string()).await.unwrap();
    }
    let dir = dir.as_after_power_cut();
    let mut log = fs::read(dir.file("store.db-wal")).unwrap();
    log[3] |= 1;
    let mut sum = big_endian_sum([0, 0], &log[..24]);
    log[24..32].copy_from_slice(&sum.map(u32::to_be_bytes).concat());
    for frame in log[32..].chunks_exact_mut(24 + 1024) {
        sum = big_endian_sum(sum, &[&frame[..8], &frame[24..]].concat());
        frame[16..24].copy_from_slice(&sum.map(u32::to_be_bytes).concat());
    }
    fs::write(dir.file("store.db-wal"), &log).unwrap();
    let again = dir.as_after_power_cut();
    let store = open(dir.path()).unwrap();
    assert_eq!(references(&store).await.unwrap(), ["0", "1", "2"]);

    log[32 + 30] ^= 1;
    fs::write(again.file("store.db-wal"), &log).unwrap();
    assert_eq!(open(again.path()).err().unwrap().code(), "STORE_CORRUPT");
}

fn big_endian_sum([mut a, mut b]: [u32; 2], bytes: &[u8]) -> [u32; 2] {
    let word = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    for pair in bytes.chunks_exact(8) {
        a = a.wrapping_add(word(&pair[..4])).wrapping_add(b);
        b = b.wrapping_add(word(&pair[4..])).wrapping_add(a);
    }
    [a, b]
}

#[tokio::test]
async fn frames_of_one_transaction_that_arrived_out_of_order_are_a_torn_tail() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    pay(&store, "before").await.unwrap();
    let end = log_length(&dir);
    pay_with_note(&store, "torn", 8000).await.unwrap();
    let sectors = log_length(&dir).div_ceil(512);
    for sector in end.div_ceil(512)..sectors {
        let cut = dir.as_after_power_cut();
        let mut log = fs::read(cut.file("store.db-wal")).unwrap();
        let at = usize::try_from(sector * 512).unwrap();
        let until = log.len().min(at + 512);
        log[at..until].fill(0x5a);
        fs::write(cut.file("store.db-wal"), log).unwrap();
        let store = open(cut.path()).unwrap();
        assert_eq!(references(&store).await.unwrap(), ["before"], "without sector {sector}");
    }
}

#[tokio::test]
async fn what_a_rolled_back_transaction_left_in_the_log_is_not_damage() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    pay(&store, "before").await.unwrap();
    let end = log_length(&dir);
    // Larger than the page cache: SQLite writes frames before the transaction is complete.
    assert!(matches!(too_large(&store).await, Err(StoreError::Closed)));
    assert!(log_length(&dir) > end + 100 * FRAME);
    for number in 0..3 {
        pay(&store, &number.to_string()).await.unwrap();
        let cut = dir.as_after_power_cut();
        let store = open(cut.path()).unwrap();
        assert_eq!(references(&store).await.unwrap().len(), 2 + number);
    }
}

async fn too_large(store: &Store) -> Result<(), StoreError> {
    store
        .write(|tx| {
            for number in 0..800 {
                tx.execute(
                    "INSERT INTO payment (reference, sats, note) VALUES (?1, 1, randomblob(900))",
                    [format!("rolled back {number}")],
                )?;
            }
            Err(StoreError::Closed)
        })
        .await
}

#[tokio::test]
async fn frames_of_an_older_log_behind_the_tail_are_normal() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    for number in 0..400 {
        pay_with_note(&store, &number.to_string(), 900).await.unwrap();
        if number % 10 == 0 {
            let cut = dir.as_after_power_cut();
            let store = open(cut.path()).unwrap();
            assert_eq!(references(&store).await.unwrap().len(), number + 1);
        }
    }
    assert!(log_length(&dir) < 1024 * 1024, "the log is bounded");
}

#[tokio::test]
async fn a_making_that_was_interrupted_is_begun_again() {
    let dir = Scratch::new();
    for leftover in ["store.db.new", "store.db.new-wal", "store.db.new-journal"] {
        fs::write(dir.file(leftover), [0; 1500]).unwrap();
    }
    let store = open(dir.path()).unwrap();
    pay(&store, "a").await.unwrap();
    assert_eq!(dir.names(), ["lock", "store.db", "store.db-wal", "store.made"]);
}

#[tokio::test]
async fn a_database_without_the_note_that_it_was_made_gets_it() {
    let dir = Scratch::new();
    open(dir.path()).unwrap().close().await;
    fs::remove_file(dir.file("store.made")).unwrap();
    open(dir.path()).unwrap();
    assert!(dir.file("store.made").exists());
}
