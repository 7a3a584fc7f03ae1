//! Who is logged in.

use super::*;
use crate::store::{Claim, Linked, LoginAudience, LoginRow, MoveRules};
use crate::units::Millis;

fn row(store: &Store, number: u16, pubkey: u8, audience: LoginAudience) -> LoginRow {
    let mut jti = [0; 16];
    jti[..2].copy_from_slice(&number.to_be_bytes());
    let began = store.now();
    let ends = began.saturating_add(Millis::from_secs(60));
    LoginRow { jti, pubkey: [pubkey; 33], audience, kid: "k1".to_owned(), began, ends }
}

#[tokio::test]
async fn a_login_lasts_over_a_restart_and_no_longer_than_it_may() {
    let (dir, clock) = (Scratch::new(), clock());
    let store = Store::open(dir.path(), &clock).unwrap();
    let login = row(&store, 1, 2, LoginAudience::Client);
    store.begin_login(login.clone(), false).await.unwrap();
    store.begin_login(row(&store, 2, 2, LoginAudience::Admin), false).await.unwrap();
    assert!(store.end_login([0; 16]).await.is_ok_and(|ended| !ended));
    store.close().await;
    let store = Store::open(dir.path(), &clock).unwrap();
    assert_eq!(store.login(login.jti).await.unwrap(), Some(login.clone()));
    clock.advance(Millis::from_secs(60));
    assert_eq!(store.login(login.jti).await.unwrap(), None);
    assert_eq!(store.kids_in_use().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_logged_out_or_renewed_counts_no_more() {
    let (dir, clock) = (Scratch::new(), clock());
    let store = Store::open(dir.path(), &clock).unwrap();
    let [one, two, three] = [1, 2, 3].map(|number| row(&store, number, 2, LoginAudience::Client));
    let other = row(&store, 4, 3, LoginAudience::Client);
    for login in [&one, &two, &other] {
        store.begin_login(login.clone(), false).await.unwrap();
    }
    assert!(store.renew_login(one.jti, three.clone()).await.unwrap());
    assert!(!store.renew_login(one.jti, three.clone()).await.unwrap(), "once");
    assert_eq!(store.login(one.jti).await.unwrap(), None);
    assert_eq!(store.login(three.jti).await.unwrap(), Some(three.clone()));
    assert!(store.end_login(two.jti).await.unwrap());
    store.end_logins_of(three.pubkey).await.unwrap();
    assert_eq!(store.login(three.jti).await.unwrap(), None);
    assert_eq!(store.login(other.jti).await.unwrap(), Some(other));
}

#[tokio::test]
async fn the_oldest_logins_of_a_key_go_when_there_are_too_many() {
    let (dir, clock) = (Scratch::new(), clock());
    let store = Store::open(dir.path(), &clock).unwrap();
    let logins: Vec<LoginRow> = (0..20)
        .map(|number| {
            clock.advance(Millis(1));
            row(&store, number, 2, LoginAudience::Client)
        })
        .collect();
    let before = store.commits();
    for login in &logins {
        store.begin_login(login.clone(), false).await.unwrap();
    }
    assert_eq!(store.commits() - before, logins.len(), "a login is one write");
    for (number, login) in logins.iter().enumerate() {
        assert_eq!(store.login(login.jti).await.unwrap().is_some(), number >= 4, "{number}");
    }
}

#[tokio::test]
async fn logins_of_keys_that_cost_nothing_push_out_none_that_stands_for_what_was_paid() {
    let (dir, clock) = (Scratch::new(), clock());
    let store = Store::open(dir.path(), &clock).unwrap();
    let (paid, linked) = (row(&store, 1, 2, LoginAudience::Client), row(&store, 2, 3, LoginAudience::Client));
    for (login, device) in [(&paid, 1), (&linked, 2)] {
        if login == &paid {
            drop(store.grant(super::invites::minute(device)).await.unwrap());
        }
        let claim = Claim::Key(crate::hex::encode(&login.pubkey));
        let linked = store.link(super::sales::mac(device), claim, MoveRules::default()).await.unwrap();
        assert!(matches!(linked, Linked::Done { .. }));
        store.begin_login(login.clone(), false).await.unwrap();
    }
    let strangers = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 4095)
        INSERT INTO logins SELECT 'local', 'made up ' || n, 'made up ' || n, 'client', 'k', 9000000000 + n, 9000000000000 FROM n";
    store.write(|tx| Ok(tx.execute(strangers, [])?)).await.unwrap();
    store.begin_login(row(&store, 3, 4, LoginAudience::Client), false).await.unwrap();
    assert_eq!(store.login(paid.jti).await.unwrap(), Some(paid));
    assert_eq!(store.login(linked.jti).await.unwrap(), None, "nothing was paid for it");
}

#[tokio::test]
async fn a_login_that_replaces_others_ends_those_of_its_key_and_audience() {
    let (dir, clock) = (Scratch::new(), clock());
    let store = Store::open(dir.path(), &clock).unwrap();
    let [old, new] = [1, 2].map(|number| row(&store, number, 2, LoginAudience::Admin));
    let guests = row(&store, 3, 2, LoginAudience::Client);
    let other = row(&store, 4, 3, LoginAudience::Admin);
    for (login, replaces) in [(&old, false), (&guests, false), (&other, false), (&new, true)] {
        store.begin_login(login.clone(), replaces).await.unwrap();
    }
    assert_eq!(store.login(old.jti).await.unwrap(), None);
    for login in [new, guests, other] {
        assert_eq!(store.login(login.jti).await.unwrap(), Some(login));
    }
}

#[tokio::test]
async fn a_token_of_others_is_spent_once_over_a_restart_until_it_is_too_old() {
    let (dir, clock) = (Scratch::new(), clock());
    let store = Store::open(dir.path(), &clock).unwrap();
    let life = Millis::from_secs(305);
    assert!(store.spend_token([1; 32], life).await.unwrap());
    assert!(store.spend_token([2; 32], life).await.unwrap());
    assert!(!store.spend_token([1; 32], life).await.unwrap());
    store.close().await;
    let store = Store::open(dir.path(), &clock).unwrap();
    assert!(!store.spend_token([1; 32], life).await.unwrap());
    clock.advance(life);
    assert!(store.spend_token([1; 32], life).await.unwrap());
}
