//! The chain of the audit log: what was tampered with shows, and old rows go without breaking it.

use super::*;
use crate::store::audit::{AuditFault, KEPT};
use crate::store::{with_change, AuditVerdict, NewAuditRow};
use crate::units::Millis;
use rusqlite::Connection;

fn row(target: &str) -> NewAuditRow {
    NewAuditRow::new("alice", "cashier", "grant", target, "ok")
}

async fn logged(scratch: &Scratch, rows: usize) -> Store {
    let clock = Clock::manual("boot", Millis::from_secs(100), UnixSeconds(1_800_000_000));
    let store = Store::open(scratch.path(), &clock).unwrap();
    for number in 0..rows {
        store.audit_later(row(&number.to_string()));
    }
    store
}

/// The verdict after a hand at the database.
async fn after(statement: &str) -> AuditVerdict {
    let scratch = Scratch::new();
    logged(&scratch, 5).await.close().await;
    let db = Connection::open(scratch.file("store.db")).unwrap();
    db.execute_batch(statement).unwrap();
    db.close().unwrap();
    logged(&scratch, 0).await.verify_audit().await.unwrap()
}

#[tokio::test]
async fn rows_are_read_as_they_were_written_and_go_on_from_each_other() {
    let scratch = Scratch::new();
    let store = logged(&scratch, 3).await;
    store.audit(NewAuditRow::new("a\nb", "", &"x".repeat(100), &"y".repeat(300), "")).await.unwrap();
    let rows = store.audit_rows(None, 3).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!((&rows[0].row, rows[0].at), (&row("1"), UnixSeconds(1_800_000_000)));
    assert_eq!((&rows[1].prev, &rows[2].prev), (&rows[0].hash, &rows[1].hash));
    let long = &rows[2].row;
    assert_eq!((long.who.as_str(), long.what.len(), long.target.len()), ("ab", 64, 200));
    assert_eq!(store.audit_rows(Some(UnixSeconds(1_800_000_000)), 1).await.unwrap()[0].seq, 1);
    assert_eq!(store.audit_rows(Some(UnixSeconds(1_800_000_001)), 9).await.unwrap(), []);
    assert_eq!(store.verify_audit().await.unwrap(), AuditVerdict::Whole { rows: 4 });
}

#[tokio::test]
async fn the_hash_is_of_a_text_that_others_can_make() {
    let scratch = Scratch::new();
    let first = logged(&scratch, 1).await.audit_rows(None, 1).await.unwrap().remove(0);
    let zeros = "0".repeat(64);
    let text = format!(r#"["{zeros}",1,1800000000,"alice","cashier","grant","0","ok",1]"#);
    use sha2::{Digest, Sha256};
    assert_eq!(first.hash, crate::hex::encode(&Sha256::digest(text)));
}

#[tokio::test]
async fn the_first_row_that_was_tampered_with_is_named() {
    let bad = |seq, fault| AuditVerdict::Bad { seq, fault };
    assert_eq!(after("").await, AuditVerdict::Whole { rows: 5 });
    for (statement, verdict) in [
        ("UPDATE audit SET who = 'bob' WHERE seq >= 3", bad(3, AuditFault::Changed)),
        ("UPDATE audit SET at = at - 1 WHERE seq = 1", bad(1, AuditFault::Changed)),
        ("UPDATE audit SET hash = '00' WHERE seq = 4", bad(4, AuditFault::Changed)),
        ("UPDATE audit SET prev = '00' WHERE seq = 2", bad(2, AuditFault::Changed)),
        ("DELETE FROM audit WHERE seq = 2", bad(2, AuditFault::Missing)),
        ("DELETE FROM audit WHERE seq = 1", bad(1, AuditFault::Missing)),
        ("DELETE FROM audit WHERE seq >= 4", bad(4, AuditFault::Missing)),
        ("DELETE FROM audit", bad(1, AuditFault::Missing)),
        ("UPDATE audit SET seq = 9 WHERE seq = 5", bad(9, AuditFault::Torn)),
        (
            "INSERT INTO audit SELECT tenant, 0, at, who, role, what, target, result, count, prev, hash
             FROM audit WHERE seq = 1",
            bad(0, AuditFault::Torn),
        ),
        ("UPDATE audit_ends SET last_hash = '00'", bad(5, AuditFault::Changed)),
        ("DELETE FROM audit_ends", bad(1, AuditFault::Torn)),
    ] {
        assert_eq!(after(statement).await, verdict, "{statement}");
    }
}

#[tokio::test]
async fn old_rows_go_and_the_chain_holds() {
    let scratch = Scratch::new();
    let kept = usize::try_from(KEPT).unwrap();
    let store = logged(&scratch, kept + 7).await;
    assert_eq!(store.verify_audit().await.unwrap(), AuditVerdict::Whole { rows: KEPT });
    assert_eq!(store.audit_rows(Some(UnixSeconds(0)), 1).await.unwrap()[0].seq, 8);
    store.audit(row("one more")).await.unwrap();
    assert_eq!(store.verify_audit().await.unwrap(), AuditVerdict::Whole { rows: KEPT });
    store.close().await;
    let db = Connection::open(scratch.file("store.db")).unwrap();
    db.execute("DELETE FROM audit WHERE seq = 9", []).unwrap();
    drop(db);
    let bad = AuditVerdict::Bad { seq: 9, fault: AuditFault::Missing };
    assert_eq!(logged(&scratch, 0).await.verify_audit().await.unwrap(), bad);
}

#[tokio::test]
async fn a_row_is_in_the_commit_of_the_change_that_it_tells_of_and_of_no_other() {
    let scratch = Scratch::new();
    let store = logged(&scratch, 0).await;
    let before = store.commits();
    let spend = |token| {
        let store = store.clone();
        Box::pin(async move { store.spend_token([token; 32], Millis::from_secs(60)).await.unwrap() })
    };
    assert_eq!(with_change(row("first"), spend(1)).await, (true, true));
    assert_eq!(store.commits() - before, 1);
    assert_eq!(with_change(row("nothing changed"), spend(1)).await, (false, false));
    let two = Box::pin(async { (spend(2).await, spend(3).await) });
    assert_eq!(with_change(row("once"), two).await, ((true, true), true));
    assert!(spend(4).await);
    let rows = store.audit_rows(None, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.row.clone()).collect::<Vec<_>>(), [row("first"), row("once")]);
    assert_eq!(store.verify_audit().await.unwrap(), AuditVerdict::Whole { rows: 2 });
}
