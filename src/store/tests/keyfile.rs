use super::*;
use crate::store::{KeyFile, Secret};
use std::os::unix::fs::PermissionsExt;

const SEED: KeyFile = KeyFile("trial-seed");

fn fresh() -> Secret {
    let mut bytes = vec![0; 32];
    getrandom::fill(&mut bytes).unwrap();
    Secret::new(bytes)
}

#[tokio::test]
async fn a_key_is_made_once_and_is_the_same_ever_after() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    let made = SEED.load_or_create(&store, fresh).await.unwrap();
    assert_eq!(SEED.load_or_create(&store, fresh).await.unwrap(), made);
    store.close().await;
    let store = open(dir.path()).unwrap();
    assert_eq!(SEED.load_or_create(&store, fresh).await.unwrap(), made);
    assert_eq!(store.commits(), 0);
    let mode = fs::metadata(dir.file("trial-seed.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_key_that_vanished_is_never_made_anew() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    SEED.load_or_create(&store, fresh).await.unwrap();
    fs::remove_file(dir.file("trial-seed.key")).unwrap();
    let refused = SEED.load_or_create(&store, || panic!("made anew")).await.unwrap_err();
    assert_eq!(refused.code(), "KEY_MISSING");
    assert!(!dir.file("trial-seed.key").exists());
}

#[tokio::test]
async fn another_key_in_its_place_is_refused_and_left_alone() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    SEED.load_or_create(&store, fresh).await.unwrap();
    fs::write(dir.file("trial-seed.key"), [7; 32]).unwrap();
    let refused = SEED.load_or_create(&store, fresh).await.unwrap_err();
    assert_eq!(refused.code(), "KEY_MISSING");
    assert_eq!(fs::read(dir.file("trial-seed.key")).unwrap(), [7; 32]);
}

#[tokio::test]
async fn a_file_made_just_before_a_power_cut_is_taken_over() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    fs::write(dir.file("trial-seed.key"), [7; 32]).unwrap();
    fs::write(dir.file("trial-seed.key.new"), [8; 3]).unwrap();
    let key = SEED.load_or_create(&store, fresh).await.unwrap();
    assert_eq!(key.expose(), [7; 32]);
}

#[tokio::test]
async fn a_half_written_key_is_not_a_key() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    fs::write(dir.file("trial-seed.key.new"), [8; 3]).unwrap();
    let key = SEED.load_or_create(&store, fresh).await.unwrap();
    assert_eq!(key.expose().len(), 32);
    assert!(!dir.file("trial-seed.key.new").exists());
}

#[test]
fn a_secret_does_not_print_itself() {
    assert_eq!(format!("{:?}", Secret::new(vec![1, 2, 3])), "Secret(..)");
}

fn followed_by(held: &Secret) -> Result<Secret, crate::store::StoreError> {
    Ok(Secret::new([held.expose(), &[9; 32]].concat()))
}

#[tokio::test]
async fn a_key_is_replaced_and_the_new_one_is_known() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    assert_eq!(SEED.replace(&store, followed_by).await.unwrap_err().code(), "KEY_MISSING");
    let first = SEED.load_or_create(&store, fresh).await.unwrap();
    let second = SEED.replace(&store, followed_by).await.unwrap();
    assert_eq!(second.expose(), [first.expose(), &[9; 32]].concat());
    store.close().await;
    let store = open(dir.path()).unwrap();
    assert_eq!(SEED.load_or_create(&store, fresh).await.unwrap(), second);
}

#[tokio::test]
async fn a_replacement_that_was_cut_off_leaves_the_one_key_or_the_other() {
    let dir = Scratch::new();
    let store = open(dir.path()).unwrap();
    let first = SEED.load_or_create(&store, fresh).await.unwrap();
    // The file cannot be put in its place: the power is cut before that.
    fs::create_dir(dir.file("trial-seed.key.new")).unwrap();
    assert!(SEED.replace(&store, followed_by).await.is_err());
    assert_eq!(SEED.load_or_create(&store, fresh).await.unwrap(), first);
    fs::remove_dir(dir.file("trial-seed.key.new")).unwrap();
    // It is in its place, and the store has not heard of it: the power is cut after that.
    let second = followed_by(&first).unwrap();
    fs::write(dir.file("trial-seed.key"), second.expose()).unwrap();
    store.close().await;
    let store = open(dir.path()).unwrap();
    assert_eq!(SEED.load_or_create(&store, fresh).await.unwrap(), second);
    // From then on the one before it is another one.
    fs::write(dir.file("trial-seed.key"), first.expose()).unwrap();
    assert_eq!(SEED.load_or_create(&store, fresh).await.unwrap_err().code(), "KEY_MISSING");
}

#[cfg(feature = "vault")]
mod sealed {
    use super::*;
    use std::time::Duration;

    const CODES: KeyFile = KeyFile("vouchers");

    fn data_key(byte: u8) -> Secret {
        Secret::new(vec![byte; 32])
    }

    #[tokio::test]
    async fn a_file_that_is_sealed_is_read_once_its_data_key_is_there() {
        let dir = Scratch::new();
        let store = open(dir.path()).unwrap();
        let key = CODES.load_or_create(&store, fresh).await.unwrap();
        let plain = SEED.load_or_create(&store, fresh).await.unwrap();
        store.seal_keys();
        assert!(store.is_sealed());
        store.open_keys(&[data_key(1)]).await.unwrap();
        let held = fs::read(dir.file("vouchers.key")).unwrap();
        assert!(!held.windows(8).any(|part| part == &key.expose()[..8]));
        assert_eq!(CODES.load_or_create(&store, fresh).await.unwrap(), key);
        store.close().await;

        let store = open(dir.path()).unwrap();
        assert!(store.has_sealed_keys().await.unwrap());
        store.seal_keys();
        assert!(tokio::time::timeout(Duration::from_millis(50), CODES.opened(&store)).await.is_err());
        assert_eq!(CODES.load_or_create(&store, fresh).await.unwrap_err().code(), "SEALED");
        SEED.opened(&store).await;
        // What is not of vouchers is as it is.
        assert_eq!(SEED.load_or_create(&store, fresh).await.unwrap(), plain);
        assert_eq!(store.unseal_for_good().await.unwrap_err().code(), "SEALED");
        let (waiter, opener) = (store.clone(), store.clone());
        let waiting = tokio::spawn(async move {
            CODES.opened(&waiter).await;
            CODES.load_or_create(&waiter, fresh).await
        });
        opener.open_keys(&[data_key(1)]).await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), key);
        opener.unseal_for_good().await.unwrap();
        assert_eq!(fs::read(dir.file("vouchers.key")).unwrap(), key.expose());
    }

    #[tokio::test]
    async fn files_of_two_data_keys_are_read_and_sealed_with_the_first() {
        let dir = Scratch::new();
        let store = open(dir.path()).unwrap();
        let key = CODES.load_or_create(&store, fresh).await.unwrap();
        store.open_keys(&[data_key(1)]).await.unwrap();
        let first = fs::read(dir.file("vouchers.key")).unwrap();
        store.open_keys(&[data_key(2), data_key(1)]).await.unwrap();
        assert_ne!(fs::read(dir.file("vouchers.key")).unwrap(), first);
        store.open_keys(&[data_key(2)]).await.unwrap();
        assert_eq!(CODES.load_or_create(&store, fresh).await.unwrap(), key);
        // Another's data key opens nothing, and harms nothing.
        assert_eq!(store.open_keys(&[data_key(3)]).await.unwrap_err().code(), "KEY_MISSING");
        store.open_keys(&[data_key(2)]).await.unwrap();
        assert_eq!(CODES.load_or_create(&store, fresh).await.unwrap(), key);
    }

    #[tokio::test]
    async fn a_sealed_file_is_of_its_name() {
        let dir = Scratch::new();
        let store = open(dir.path()).unwrap();
        store.open_keys(&[data_key(1)]).await.unwrap();
        CODES.load_or_create(&store, fresh).await.unwrap();
        fs::copy(dir.file("vouchers.key"), dir.file("backing.key")).unwrap();
        let refused = KeyFile("backing").load_or_create(&store, fresh).await.unwrap_err();
        assert_eq!(refused.code(), "KEY_MISSING");
    }
}
