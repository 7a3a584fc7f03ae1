use super::*;
use litemap::LiteMap;

const HEADER: usize = 32;
const FRAME: usize = 24 + 1024;

type Files = LiteMap<String, Vec<u8>>;

/// The store's own files and their bytes.
fn files(dir: &Scratch) -> Files {
    let names = dir.names().into_iter().filter(|name| name.starts_with("store.") && dir.file(name).is_file());
    names.map(|name| (name.clone(), fs::read(dir.file(&name)).unwrap())).collect()
}

/// Opening must answer `STORE_CORRUPT`, again and again, and leave every byte as it was.
fn assert_corrupt_and_untouched(dir: &Scratch, what: &str) {
    let before = files(dir);
    for _ in 0..2 {
        match open(dir.path()) {
            Err(error) => assert_eq!(error.code(), "STORE_CORRUPT", "{what}: {error}"),
            Ok(_) => panic!("{what}: opened"),
        }
        let mut after = files(dir);
        if !before.contains_key("store.db-wal") {
            assert!(after.remove("store.db-wal").is_none_or(|log| log.is_empty()), "{what}");
        }
        assert!(before == after, "{what}: files were changed");
    }
}

fn copies(dir: &Scratch) -> Vec<String> {
    dir.names().into_iter().filter(|name| name.starts_with("corrupt-")).collect()
}

/// A store as a power cut leaves it: six transactions in the log.
async fn crashed() -> Scratch {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    for number in 0..6 {
        pay_with_note(&store, &number.to_string(), 1500).await.unwrap();
    }
    dir.as_after_power_cut()
}

/// A store that was closed: all in `store.db`.
async fn closed(rows: usize) -> Scratch {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    for number in 0..rows {
        pay_with_note(&store, &number.to_string(), 900).await.unwrap();
    }
    store.close().await;
    dir
}

fn flip(dir: &Scratch, name: &str, at: usize) {
    let mut bytes = fs::read(dir.file(name)).unwrap();
    bytes[at] ^= 0x10;
    fs::write(dir.file(name), bytes).unwrap();
}

#[tokio::test]
async fn any_flipped_bit_in_the_logs_header_is_damage() {
    let sound = crashed().await;
    for at in 0..HEADER {
        let dir = sound.as_after_power_cut();
        flip(&dir, "store.db-wal", at);
        assert_corrupt_and_untouched(&dir, &format!("header byte {at}"));
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_middle_of_the_log_is_damage() {
    let sound = crashed().await;
    let log = fs::read(sound.file("store.db-wal")).unwrap();
    let commits: Vec<usize> = (0..(log.len() - HEADER) / FRAME)
        .filter(|frame| log[HEADER + frame * FRAME + 4..][..4] != [0; 4])
        .collect();
    assert_eq!(commits.len(), 6);
    for frame in 0..=commits[3] {
        for at in (0..24).chain((24..FRAME).step_by(333)) {
            let dir = sound.as_after_power_cut();
            flip(&dir, "store.db-wal", HEADER + frame * FRAME + at);
            assert_corrupt_and_untouched(&dir, &format!("frame {frame} byte {at}"));
        }
    }
}

#[tokio::test]
async fn damaged_files_are_copied_aside_once_and_complete() {
    let dir = crashed().await;
    flip(&dir, "store.db-wal", 3);
    assert_corrupt_and_untouched(&dir, "header");
    let copies = copies(&dir);
    assert_eq!(copies.len(), 1);
    for name in ["store.db", "store.db-wal"] {
        let copy = fs::read(dir.file(&copies[0]).join(name)).unwrap();
        assert!(copy == fs::read(dir.file(name)).unwrap());
    }
}

#[tokio::test]
async fn copies_do_not_fill_the_flash() {
    let dir = crashed().await;
    for at in 0..5 {
        flip(&dir, "store.db-wal", at);
        assert_corrupt_and_untouched(&dir, "header");
    }
    assert_eq!(copies(&dir).len(), 2);
}

#[tokio::test]
async fn a_page_overwritten_in_the_database_is_damage() {
    let sound = closed(40).await;
    let pages = fs::read(sound.file("store.db")).unwrap().len() / 1024;
    // The first pages are the roots of tables and indexes.
    for page in 0..6 {
        let dir = sound.as_after_power_cut();
        let mut database = fs::read(dir.file("store.db")).unwrap();
        assert!(page < pages);
        database[page * 1024..][..1024].fill(0xee);
        fs::write(dir.file("store.db"), database).unwrap();
        assert_corrupt_and_untouched(&dir, &format!("page {page}"));
    }
}

#[tokio::test]
async fn a_damaged_database_with_commits_in_the_log_keeps_both() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    for number in 0..400 {
        pay_with_note(&store, &number.to_string(), 900).await.unwrap();
    }
    let dir = dir.as_after_power_cut();
    let mut database = fs::read(dir.file("store.db")).unwrap();
    database[1024..].fill(0xee);
    fs::write(dir.file("store.db"), database).unwrap();
    assert_corrupt_and_untouched(&dir, "database under a log");
}

#[tokio::test]
async fn a_database_cut_short_or_empty_is_damage() {
    let sound = closed(40).await;
    for length in [0, 1, 99, 100, 1024, 5000, 20480] {
        let dir = sound.as_after_power_cut();
        fs::File::options().write(true).open(dir.file("store.db")).unwrap().set_len(length).unwrap();
        assert_corrupt_and_untouched(&dir, &format!("{length} bytes"));
    }
}

#[tokio::test]
async fn an_empty_database_beside_a_log_is_damage() {
    let dir = crashed().await;
    fs::write(dir.file("store.db"), []).unwrap();
    assert_corrupt_and_untouched(&dir, "empty database");
}

#[tokio::test]
async fn a_vanished_database_is_damage_whatever_is_left_of_it() {
    let sound = crashed().await;
    fs::write(sound.file("a-seed.key"), [1; 32]).unwrap();
    for left in ["store.made", "store.db-wal", "a-seed.key"] {
        let dir = Scratch::new();
        fs::copy(sound.file(left), dir.file(left)).unwrap();
        assert_corrupt_and_untouched(&dir, left);
        assert!(!dir.file("store.db").exists());
    }
}

#[tokio::test]
async fn another_programs_database_without_a_schema_is_damage() {
    let dir = Scratch::new();
    let conn = rusqlite::Connection::open(dir.file("store.db")).unwrap();
    conn.execute_batch("CREATE TABLE other (a)").unwrap();
    drop(conn);
    assert_corrupt_and_untouched(&dir, "no version");
}

#[tokio::test]
async fn a_newer_store_is_left_alone() {
    const NEWER: Schema =
        Schema { steps: &[TRIAL.steps[0], TRIAL.steps[1], "CREATE TABLE from_the_future (a)"] };
    for crashed in [false, true] {
        let mut dir = Scratch::new();
        let store = Store::open_with(dir.path(), &clock(), &NEWER).unwrap();
        pay(&store, "a").await.unwrap();
        if crashed {
            dir = dir.as_after_power_cut();
        }
        store.close().await;
        assert_eq!(dir.file("store.db-wal").exists(), crashed);
        let before = files(&dir);
        let error = open(dir.path()).err().unwrap();
        assert!(matches!(error, StoreError::TooNew { found: 3, known: 2 }), "{error:?}");
        assert_eq!(error.code(), "STORE_TOO_NEW");
        assert!(before == files(&dir));
        assert!(copies(&dir).is_empty());
    }
}

#[tokio::test]
async fn damage_found_while_running_stops_every_write() {
    let dir = closed(1000).await;
    let store = open(dir.path()).unwrap();
    pay(&store, "acknowledged").await.unwrap();
    let mut database = fs::read(dir.file("store.db")).unwrap();
    let half = database.len() / 2;
    database[half..].fill(0xee);
    fs::write(dir.file("store.db"), database).unwrap();
    let before = files(&dir);

    let scan = |store: Store| async move {
        store
            .read(|tx| {
                Ok(tx.query_row("SELECT sum(length(note)) FROM payment", [], |row| row.get::<_, i64>(0))?)
            })
            .await
    };
    assert_eq!(scan(store.clone()).await.unwrap_err().code(), "STORE_CORRUPT");
    assert_eq!(pay(&store, "refused").await.unwrap_err().code(), "STORE_CORRUPT");
    store.close().await;
    assert!(before == files(&dir));
    assert_corrupt_and_untouched(&dir, "next start");
}
