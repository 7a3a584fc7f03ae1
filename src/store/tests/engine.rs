use super::*;
use std::os::unix::fs::PermissionsExt;

const FIRST_STEP: Schema = Schema { steps: &[SCHEMA.steps[0]] };

#[tokio::test]
async fn what_was_written_is_there_after_close_and_open() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    assert!(pay(&store, "a").await.unwrap());
    store.close().await;
    assert!(!dir.file("store.db-wal").exists(), "a clean close leaves no log");
    let store = open(dir.path()).unwrap();
    assert_eq!(references(&store).await.unwrap(), ["a"]);
}

#[tokio::test]
async fn the_products_own_schema_opens_twice_without_writing() {
    let dir = Scratch::new();
    Store::open(dir.path(), &clock()).unwrap().close().await;
    let store = Store::open(dir.path(), &clock()).unwrap();
    assert_eq!(store.commits(), 0);
}

#[tokio::test]
async fn fifty_parallel_inserts_of_one_reference_make_one_row() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { pay(&store, "same").await.unwrap() })
        })
        .collect();
    let mut inserted = 0;
    for task in tasks {
        inserted += usize::from(task.await.unwrap());
    }
    assert_eq!(inserted, 1);
    assert_eq!(references(&store).await.unwrap(), ["same"]);
    assert_eq!(store.commits(), 1, "a statement that changed nothing costs no commit");
}

#[tokio::test]
async fn an_error_rolls_the_whole_transaction_back() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    let failed: Result<(), _> = store
        .write(|tx| {
            tx.execute("INSERT INTO payment (reference, sats) VALUES ('half', 1)", [])?;
            tx.execute("INSERT INTO payment (reference, sats) VALUES ('rest', 'not a number')", [])?;
            Ok(())
        })
        .await;
    assert!(matches!(failed, Err(StoreError::Sqlite(_))));
    assert!(references(&store).await.unwrap().is_empty());
    assert!(pay(&store, "next").await.unwrap());
}

#[tokio::test]
async fn writes_that_wait_share_a_commit_and_each_counts_or_fails_by_itself() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    let (begin, begun) = std::sync::mpsc::channel();
    let (open_gate, gate) = std::sync::mpsc::channel::<()>();
    store.write_later("a write that takes long", move |_| {
        begin.send(()).unwrap();
        gate.recv().unwrap();
        Ok(())
    });
    begun.recv().unwrap();
    let insert = |reference: &'static str, sats: &'static str| {
        store.write(move |tx| {
            let half = "INSERT INTO payment (reference, sats) VALUES (?1, 1)";
            tx.execute(half, [format!("half of {reference}")])?;
            Ok(tx.execute("INSERT INTO payment (reference, sats) VALUES (?1, ?2)", [reference, sats])?)
        })
    };
    let meddle = store.read(|tx| Ok(tx.execute("DELETE FROM payment", [])?));
    let open_up = async { open_gate.send(()).unwrap() };
    let (a, broken, meddled, b, ()) =
        tokio::join!(insert("a", "1"), insert("broken", "none"), meddle, insert("b", "1"), open_up);
    assert!(matches!((a, b), (Ok(1), Ok(1))) && matches!(broken, Err(StoreError::Sqlite(_))));
    assert_eq!(meddled.unwrap(), 2, "it sees what was asked before it");
    assert_eq!(references(&store).await.unwrap(), ["half of a", "a", "half of b", "b"]);
    assert_eq!(store.commits(), 1);
}

#[tokio::test]
async fn a_read_changes_nothing() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    pay(&store, "a").await.unwrap();
    store.read(|tx| Ok(tx.execute("DELETE FROM payment", [])?)).await.unwrap();
    assert_eq!(references(&store).await.unwrap(), ["a"]);
}

#[tokio::test]
async fn a_later_write_comes_before_what_is_asked_after_it() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    store.write_later("a test", |tx| {
        tx.execute("INSERT INTO payment (reference, sats) VALUES ('later', 1)", [])?;
        Ok(())
    });
    assert_eq!(references(&store).await.unwrap(), ["later"]);
}

#[tokio::test]
async fn a_second_open_is_refused_while_the_first_lives() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    let second = open(dir.path()).err().unwrap();
    assert!(matches!(second, StoreError::InUse), "{second:?}");
    assert_eq!(second.code(), "STORE_IN_USE");
    store.close().await;
    open(dir.path()).unwrap();
}

#[tokio::test]
async fn a_database_that_another_program_holds_is_in_use() {
    let dir = Scratch::new();
    open(dir.path()).unwrap().close().await;
    let other = rusqlite::Connection::open(dir.file("store.db")).unwrap();
    other.execute_batch("PRAGMA locking_mode=EXCLUSIVE; BEGIN IMMEDIATE").unwrap();
    assert!(matches!(open(dir.path()), Err(StoreError::InUse)));
}

#[tokio::test]
async fn other_handles_are_told_that_the_store_is_closed() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    store.clone().close().await;
    assert!(matches!(pay(&store, "late").await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn dropping_the_last_handle_finishes_the_queue_and_unlocks() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    store.write_later("a test", |tx| {
        tx.execute("INSERT INTO payment (reference, sats) VALUES ('queued', 1)", [])?;
        Ok(())
    });
    drop(store);
    let store = loop {
        match open(dir.path()) {
            Err(StoreError::InUse) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            opened => break opened.unwrap(),
        }
    };
    assert_eq!(references(&store).await.unwrap(), ["queued"]);
}

#[tokio::test]
async fn files_are_closed_to_others_and_there_is_no_shared_memory() {
    let dir = Scratch::new();
    let state = dir.file("state");
    let store = open(&state).unwrap();
    pay(&store, "a").await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    let mut names: Vec<_> = fs::read_dir(&state)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["lock", "store.db", "store.db-wal", "store.made"]);
    for name in names {
        assert_eq!(mode(&state.join(&name)), 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_directory_open_to_others_is_closed() {
    let dir = Scratch::new();
    open(dir.path()).unwrap().close().await;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.file("store.db"), fs::Permissions::from_mode(0o644)).unwrap();
    open(dir.path()).unwrap();
    assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(dir.file("store.db")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn the_settings_that_survive_a_power_cut_are_in_force() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    let settings = store
        .read(|tx| {
            let text = |pragma| tx.pragma_query_value(None, pragma, |row| row.get::<_, String>(0));
            let number = |pragma| tx.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
            Ok((
                (text("journal_mode")?, text("locking_mode")?),
                (number("synchronous")?, number("page_size")?),
                (number("foreign_keys")?, number("wal_autocheckpoint")?),
            ))
        })
        .await
        .unwrap();
    assert_eq!(settings, (("wal".into(), "exclusive".into()), (2, 1024), (1, 512)));
}

#[test]
fn without_a_write_ahead_log_the_journal_is_truncated_and_synced() {
    let dir = Scratch::new();
    // `nolock` is the one way left in which SQLite refuses a log under an exclusive lock.
    let uri = format!("file:{}?nolock=1", dir.file("x.db").display());
    let conn = rusqlite::Connection::open(uri).unwrap();
    crate::store::database::make_durable(&conn).unwrap();
    let mode: String = conn.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "truncate");
}

#[test]
fn a_journal_that_can_lose_commits_is_refused() {
    // A database in memory has neither a log nor a journal.
    let conn = rusqlite::Connection::open_in_memory().unwrap();
    let refused = crate::store::database::make_durable(&conn).unwrap_err();
    assert_eq!(refused.code(), "STORE_NOT_DURABLE");
}

#[tokio::test]
async fn an_older_store_takes_the_steps_it_has_not_seen() {
    let dir = Scratch::new();
    Store::open_with(dir.path(), &clock(), &FIRST_STEP).unwrap().close().await;
    let store = open(dir.path()).unwrap();
    assert!(pay(&store, "a").await.unwrap());
}

#[tokio::test]
async fn a_step_that_fails_leaves_the_version_before_it() {
    const BROKEN: Schema =
        Schema { steps: &[SCHEMA.steps[0], "CREATE TABLE half (a); INSERT INTO nowhere VALUES (1);"] };
    let dir = Scratch::new();
    Store::open_with(dir.path(), &clock(), &FIRST_STEP).unwrap().close().await;
    assert!(Store::open_with(dir.path(), &clock(), &BROKEN).is_err());
    let store = open(dir.path()).unwrap();
    let tables: i64 = store
        .read(|tx| {
            Ok(tx.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'half'", [], |row| row.get(0))?)
        })
        .await
        .unwrap();
    assert_eq!(tables, 0);
}

#[tokio::test]
async fn numbers_that_do_not_fit_a_column_are_refused() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    let too_large: Result<(), _> = store
        .write(|tx| {
            tx.execute("INSERT INTO payment (reference, sats) VALUES ('x', ?1)", [Sats(u64::MAX)])?;
            Ok(())
        })
        .await;
    assert!(too_large.is_err());
    let negative = store.read(|tx| Ok(tx.query_row("SELECT -1", [], |row| row.get::<_, Millis>(0))?)).await;
    assert!(negative.is_err());
}

#[tokio::test]
async fn rebuilt_store_is_small_and_has_everything() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    for number in 0..20 {
        pay_with_note(&store, &format!("note {number}"), 20_000).await.unwrap();
    }
    store.write(|tx| Ok(tx.execute("DELETE FROM payment WHERE reference != 'note 7'", [])?)).await.unwrap();
    let other = store.clone();
    let (rebuilt, paid) = tokio::join!(store.rebuild(), pay(&other, "meanwhile"));
    rebuilt.unwrap();
    assert!(paid.unwrap());
    assert!(pay(&store, "after").await.unwrap() && !pay(&store, "note 7").await.unwrap());
    assert_eq!(references(&store).await.unwrap(), ["note 7", "meanwhile", "after"]);
    assert!(fs::metadata(dir.file("store.db")).unwrap().len() < 40_000);
    assert_eq!(fs::metadata(dir.file("store.db")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(dir.names(), ["lock", "store.db", "store.db-wal", "store.made"]);

    let after = open(dir.as_after_power_cut().path()).unwrap();
    assert_eq!(references(&after).await.unwrap(), ["note 7", "meanwhile", "after"]);
    let mode =
        store.read(|tx| Ok(tx.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0))?));
    assert_eq!(mode.await.unwrap(), "wal");
}

#[test]
fn rebuilding_keeps_no_copy_in_memory() {
    let dir = Scratch::new();
    let child = child("store::tests::engine::child_that_rebuilds", dir.path()).output().unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}

#[tokio::test]
async fn child_that_rebuilds() {
    let Some(dir) = child_dir() else { return };
    let store = open(&dir).unwrap();
    for number in 0..80 {
        pay_with_note(&store, &number.to_string(), 200_000).await.unwrap();
    }
    let peak = || {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    // An emulator has no such thing.
    let before = fs::write("/proc/self/clear_refs", "5").ok().and_then(|()| peak());
    store.rebuild().await.unwrap();
    if let (Some(before), Some(after)) = (before, peak()) {
        // The kernel counts with some delay: it may also have become less.
        assert!(after.saturating_sub(before) < 4_000, "{before} kB, then {after} kB, for 16,000 kB");
    }
}

#[tokio::test]
async fn free_space_is_counted_in_bytes() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    assert!(store.free_bytes().unwrap() > 1024 * 1024);
    assert!(store.room_for_sales());
}
