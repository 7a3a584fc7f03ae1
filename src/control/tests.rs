//! Commands as lines, answered by a site whose store or gate is as the test wants it.

use super::*;
use crate::access::{Access, Gatekeeper};
use crate::calls::Tls;
use crate::card::Cards;
use crate::clock::Clock;
use crate::config::Config;
use crate::ecash::wallet::Wallet;
use crate::ecash::{Mints, Seed};
use crate::folder::fresh_folder;
use crate::lightning::{Account, Backends};
use crate::mint_proxy::MintProxy;
use crate::network::gate::recording::RecordingGate;
use crate::network::gate::Plan;
use crate::sale::invoice::InvoiceEngine;
use crate::sale::till::Till;
use crate::sale::token::TokenEngine;
use crate::sale::Terms;
use crate::shop::{Closed, Shop};
use crate::store::{KeyFile, Store, Vault};
use crate::tollgate::TollGate;
use crate::units::UnixSeconds;
use litemap::LiteMap;
use serde_json::json;
use tokio::sync::watch;

const MAC: &str = "02:00:00:00:00:11";

struct Desk {
    site: Arc<Site>,
    reload: Reload,
    /// What the app is asked to reload.
    reloads: mpsc::Receiver<oneshot::Sender<Result<Vec<String>, Vec<String>>>>,
    dir: PathBuf,
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// `open`: with a store of its own; otherwise the shop is closed for a damaged one.
async fn desk(open: bool) -> Desk {
    let dir = fresh_folder();
    let clock = Clock::manual("boot", Millis::from_secs(100), UnixSeconds(1_800_000_000));
    let file = include_str!("../../tests/vectors/tollgate.uci");
    let (config, _) = Config::from_uci(&format!("{file}\nconfig card\noption domain 'c.example'\n")).unwrap();
    // The sender may go: the configuration stays readable.
    let (_, config) = watch::channel(Arc::new(config));
    let mints = Mints::new(Tls::new(None).unwrap(), clock.clone(), mpsc::channel(1).0);
    let gate = Box::new(RecordingGate::new());
    let (gatekeeper, shop) = if open {
        let store = Store::open(&dir, &clock).unwrap();
        let access = Access::start(store.clone(), clock, gate, Plan::default()).await.unwrap();
        let (guests, takings) = (Seed::generate().unwrap(), Arc::new(Seed::generate().unwrap()));
        let late = mpsc::channel(1).0;
        let wallet = Wallet::start(store.clone(), mints.clone(), takings.clone(), late).await.unwrap();
        let terms = Terms::new(store.clone(), access.clone(), config.clone());
        let invoices = InvoiceEngine::start(terms.clone(), mints.clone(), guests, takings).await.unwrap();
        let mint_proxy = MintProxy::new(invoices.clone(), access.clone(), config.clone());
        let tokens = TokenEngine::new(terms.clone(), wallet.clone());
        let engines = (invoices.clone(), tokens.clone());
        let tollgate = TollGate::start(store.clone(), terms.clone(), engines, mints.clone()).await;
        let vault = Vault::open(&store, KeyFile("cards")).await.unwrap();
        let nothing = Box::new(|_: &Account| Err("nothing pays here".to_owned()));
        let backends = Backends::new(store.clone(), vault.clone(), nothing);
        let cards = Ok(Cards::start(store.clone(), vault, backends, config.clone()).await.unwrap());
        let till = Till::new(terms, invoices.clone(), None, Tls::new(None).unwrap());
        (
            access.gatekeeper().clone(),
            Ok(Shop { store, access, invoices, tokens, mint_proxy, wallet, tollgate, cards, till }),
        )
    } else {
        let closed = Closed { code: "STORE_CORRUPT", cause: "the store is damaged: page 3".to_owned() };
        (Gatekeeper::start(gate, clock, Plan::default(), LiteMap::new(), true), Err(closed))
    };
    let (reload, reloads) = mpsc::channel(1);
    Desk { site: Site::new(config, gatekeeper, mints, shop), reload, reloads, dir }
}

impl Desk {
    async fn say(&self, line: &str) -> Value {
        match carry_out(line, &self.site, &self.reload).await {
            Ok(data) => data,
            Err((code, message)) => json!({"code": code, "message": message}),
        }
    }

    async fn order(&self, command: &str, args: &[&str]) -> Value {
        self.say(&json!({"command": command, "args": args}).to_string()).await
    }
}

#[tokio::test]
async fn a_grant_is_listed_until_it_is_revoked() {
    let desk = desk(true).await;
    assert_eq!(
        desk.order("grant", &[MAC, "90m"]).await,
        json!({"mac": MAC, "venue": "guest", "remaining_seconds": 5400})
    );
    assert_eq!(desk.order("grant", &[MAC, "30m"]).await["remaining_seconds"], 7200);
    let sessions = desk.order("sessions", &[]).await;
    assert_eq!((&sessions[0]["mac"], &sessions[0]["remaining_seconds"]), (&json!(MAC), &json!(7200)));
    assert_eq!(desk.order("revoke", &[MAC]).await, json!({"mac": MAC, "revoked": true, "venues": ["guest"]}));
    assert_eq!(desk.order("sessions", &[]).await, json!([]));
    assert_eq!(desk.order("revoke", &[MAC]).await["code"], "no_session");
}

#[tokio::test]
async fn what_is_not_a_command_is_answered_as_wrong_usage() {
    let desk = desk(true).await;
    for line in [
        "",
        "status",
        "[]",
        "{}",
        r#"{"command":"fly"}"#,
        r#"{"command":5}"#,
        r#"{"command":"grant"}"#,
        r#"{"command":"grant","args":["02:00:00:00:00:11"]}"#,
        r#"{"command":"grant","args":[1,2]}"#,
        r#"{"command":"revoke","args":[]}"#,
        r#"{"command":"status","args":["now"]}"#,
    ] {
        assert_eq!(desk.say(line).await["code"], "usage", "{line}");
    }
}

#[tokio::test]
async fn addresses_and_durations_that_mean_nothing_have_their_own_codes() {
    let desk = desk(true).await;
    for mac in ["somebody", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "01:00:5e:00:00:01"] {
        assert_eq!(desk.order("grant", &[mac, "1h"]).await["code"], "invalid_mac", "{mac}");
        assert_eq!(desk.order("revoke", &[mac]).await["code"], "invalid_mac", "{mac}");
    }
    assert_eq!(desk.order("grant", &[MAC, "soon"]).await["code"], "invalid_duration");
    assert_eq!(desk.order("sessions", &[]).await, json!([]));
}

#[tokio::test]
async fn a_closed_shop_says_its_code_and_still_tells_its_status() {
    let desk = desk(false).await;
    assert_eq!(desk.order("grant", &[MAC, "1h"]).await["code"], "STORE_CORRUPT");
    assert_eq!(desk.order("revoke", &[MAC]).await["code"], "STORE_CORRUPT");
    assert_eq!(desk.order("sessions", &[]).await, json!([]));
    let status = desk.order("status", &[]).await;
    assert_eq!((&status["ready"], &status["store"]["state"]), (&json!(false), &json!("STORE_CORRUPT")));
}

#[tokio::test]
async fn a_reload_answers_what_is_wrong_with_the_file() {
    let mut desk = desk(false).await;
    let (_, mut unused) = mpsc::channel(1);
    std::mem::swap(&mut unused, &mut desk.reloads);
    let mut reloads = unused;
    let app = tokio::spawn(async move {
        reloads.recv().await.unwrap().send(Ok(vec!["line 3: odd".to_owned()])).unwrap();
        reloads.recv().await.unwrap().send(Err(vec!["line 5: bad".to_owned()])).unwrap();
    });
    assert_eq!(desk.order("reload", &[]).await, json!({"reloaded": true, "warnings": ["line 3: odd"]}));
    assert_eq!(desk.order("reload", &[]).await, json!({"code": "invalid_config", "message": "line 5: bad"}));
    app.await.unwrap();
    assert_eq!(desk.order("reload", &[]).await["code"], "stopping");
}

#[tokio::test]
async fn a_line_without_end_is_cut_and_refused() {
    let desk = desk(false).await;
    let (ours, theirs) = UnixStream::pair().unwrap();
    let serving = converse(theirs, &desk.site, &desk.reload);
    let asking = async {
        let (read, mut write) = ours.into_split();
        // The far side stops reading before the end of it.
        let _ = write.write_all(&vec![b'x'; 100_000]).await;
        let mut answer = String::new();
        BufReader::new(read).read_line(&mut answer).await.unwrap();
        answer
    };
    let (_, answer) = tokio::join!(serving, asking);
    assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["code"], "usage");
}

#[test]
fn durations_need_a_unit_and_a_sensible_size() {
    assert_eq!(parse_duration("90s"), Some(Millis(90_000)));
    assert_eq!(parse_duration("2h"), Some(Millis(7_200_000)));
    for text in ["", "5", "h", "0m", "-1h", "1.5h", "2w", "367d", "99999999999999999999d", "1 h", "1é"] {
        assert_eq!(parse_duration(text), None, "{text}");
    }
}

#[tokio::test]
async fn a_card_is_made_listed_limited_and_wiped() {
    let desk = desk(true).await;
    let made =
        desk.order("card", &["create", "Alice", "--tx-max", "21", "--day-max", "210", "--uid-privacy"]).await;
    assert_eq!((&made["status"], &made["card_id"]), (&json!("OK"), &json!(1)));
    let shown = desk.order("card", &["show", "1"]).await;
    assert_eq!(
        (&shown["uid_privacy"], &shown["enabled"], &shown["tx_max"]),
        (&json!(true), &json!(true), &json!(21))
    );
    assert_eq!(desk.order("card", &["list"]).await, json!([shown]));
    assert_eq!(desk.order("card", &["limits", "1", "--tx-max", "42"]).await["tx_max"], 42);
    assert_eq!(desk.order("card", &["disable", "1"]).await["enabled"], false);
    assert_eq!(desk.order("card", &["enable", "1"]).await["enabled"], true);
    assert_eq!(desk.order("card", &["history", "1"]).await, json!([]));
    assert!(desk.order("card", &["reprogram", "1"]).await["url"].is_string());
    assert_eq!(desk.order("card", &["wipe", "1"]).await["action"], "none");
    assert_eq!(desk.order("card", &["show", "1"]).await["wiped"], true);
}

#[tokio::test]
async fn a_card_command_with_a_fault_says_what_is_wrong() {
    let desk = desk(true).await;
    for args in [
        &[][..],
        &["create"],
        &["create", "Alice", "--tx-max"],
        &["create", "Alice", "--colour", "red"],
        &["limits", "1"],
        &["limits", "1", "--disabled"],
        &["show"],
        &["show", "one"],
        &["wipe", "1", "2"],
        &["paint", "1"],
    ] {
        assert_eq!(desk.order("card", args).await["code"], "usage", "{args:?}");
    }
    for args in [
        &["create", "Alice"][..],
        &["create", "", "--tx-max", "1", "--day-max", "1"],
        &["create", "Alice", "--tx-max", "2", "--day-max", "1"],
        &["create", "Alice", "--tx-max", "-2", "--day-max", "1"],
    ] {
        assert_eq!(desk.order("card", args).await["code"], "invalid_input", "{args:?}");
    }
    assert_eq!(desk.order("card", &["show", "7"]).await["code"], "no_such_card");
}
