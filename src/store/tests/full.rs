use super::*;
use crate::store::{KeyFile, Secret};
use std::io::Write;

const CHILD: &str = "store::tests::full::child_on_a_small_disk";
const FILLED: &str = "store::tests::full::child_that_fills_its_disk";

#[test]
fn a_full_disk_refuses_writes_loses_nothing_and_passes() {
    on_a_disk_of("256k", CHILD, "survived a full disk");
}

/// The file of a database never shrinks: without this a shop that strangers filled up once stayed closed for ever.
#[test]
fn what_is_removed_from_the_store_makes_room_for_sales_again() {
    on_a_disk_of("2560k", FILLED, "sells again");
}

/// The child gets a file system of its own.
pub(super) fn on_a_disk_of(size: &str, name: &str, end: &str) {
    let dir = Scratch::new();
    let exe = child(name, dir.path());
    let mut mounted = Command::new("unshare");
    mounted
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg(format!("mount -t tmpfs -o size={size} none \"$STORE_CHILD\" && exec \"$0\" \"$@\""))
        .arg(exe.get_program())
        .args(exe.get_args())
        .envs(exe.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = mounted.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains(end), "{output:?}");
}

#[tokio::test]
async fn child_that_fills_its_disk() {
    let Some(dir) = child_dir() else { return };
    let store = open(&dir).unwrap();
    let mut written = 0;
    while store.room_for_sales() {
        pay_with_note(&store, &written.to_string(), 3000).await.unwrap();
        written += 1;
    }
    assert!(written > 100);
    store.write(|tx| Ok(tx.execute("DELETE FROM payment WHERE rowid % 10 > 0", [])?)).await.unwrap();
    assert!(store.room_for_sales());
    store.close().await;
    let store = open(&dir).unwrap();
    assert!(store.room_for_sales(), "after a restart");
    let mut filler = fs::File::create(dir.join("filler")).unwrap();
    while store.free_bytes().unwrap() >= 512 * 1024 {
        filler.write_all(&[1; 4096]).unwrap();
    }
    assert!(!store.room_for_sales(), "the log needs room outside of the database");
    writeln!(std::io::stdout(), "sells again").unwrap();
}

#[tokio::test]
async fn child_on_a_small_disk() {
    let Some(dir) = child_dir() else { return };

    let store = open(&dir).unwrap();
    assert!(!store.room_for_sales());
    let filler = dir.join("filler");
    fs::write(&filler, vec![1; 100 * 1024]).unwrap();
    let mut acknowledged = Vec::new();
    let refused = loop {
        let reference = acknowledged.len().to_string();
        match pay_with_note(&store, &reference, 3000).await {
            Ok(inserted) => assert!(inserted),
            Err(error) => break error,
        }
        acknowledged.push(reference);
        assert!(acknowledged.len() < 1000, "the disk is never full");
    };
    assert_eq!(refused.code(), "STORE_FULL");
    assert!(acknowledged.len() > 10);
    assert_eq!(references(&store).await.unwrap(), acknowledged);
    let noted = store.now();
    store.close().await;

    let mut file = fs::File::options().append(true).open(&filler).unwrap();
    while file.write_all(&[1; 512]).is_ok() {}
    drop(file);
    let rebooted = Clock::manual("boot-2", Millis::from_secs(20), UnixSeconds(1_800_000_000));
    let store = Store::open_with(&dir, &rebooted, &TRIAL).expect("a full disk can still be read");
    assert_eq!(store.now(), noted);
    assert_eq!(references(&store).await.unwrap(), acknowledged);
    assert!(matches!(pay_with_note(&store, "refused", 3000).await, Err(StoreError::Full)));
    let key = KeyFile("k").load_or_create(&store, || Secret::new(vec![1; 2000])).await;
    assert!(matches!(key, Err(StoreError::Full)));
    assert!(!dir.join("k.key").exists());

    fs::remove_file(&filler).unwrap();
    assert!(pay_with_note(&store, "after", 3000).await.unwrap());
    KeyFile("k").load_or_create(&store, || Secret::new(vec![1; 2000])).await.unwrap();
    acknowledged.push("after".to_owned());
    rebooted.advance(Millis::from_secs(90));
    store.checkpoint(true, &[]);
    store.close().await;
    let store = Store::open_with(&dir, &rebooted, &TRIAL).unwrap();
    assert_eq!(store.now(), noted.saturating_add(Millis::from_secs(90)), "the boot is noted after all");
    assert_eq!(references(&store).await.unwrap(), acknowledged);
    writeln!(std::io::stdout(), "survived a full disk").unwrap();
}
