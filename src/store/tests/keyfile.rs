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
