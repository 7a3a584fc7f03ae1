//! Commands as lines, answered by a site whose store or gate is as the test wants it.

use super::*;
use crate::access::{Access, Gatekeeper};
use crate::calls::Tls;
use crate::card::Cards;
use crate::clock::Clock;
use crate::commands::{all, by_http, Command, Given, Operator, Reach};
use crate::config::{Config, Role, Tenant};
use crate::ecash::wallet::Wallet;
use crate::ecash::{Mints, Seed};
use crate::folder::fresh_folder;
use crate::kms::Keeper;
use crate::lightning::{Account, Backends};
use crate::network::gate::recording::RecordingGate;
use crate::network::gate::Plan;
use crate::sale::invoice::InvoiceEngine;
use crate::sale::Terms;
use crate::shop::{Closed, Shop, Site};
use crate::store::{KeyFile, PurseName, Store, Vault};
use crate::units::{Millis, UnixSeconds};
use litemap::LiteMap;
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};

const MAC: &str = "02:00:00:00:00:11";

struct Office {
    desk: Arc<Desk>,
    /// What the app is asked to reload.
    reloads: mpsc::Receiver<oneshot::Sender<Result<Vec<String>, Vec<String>>>>,
    dir: PathBuf,
}

impl Drop for Office {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// `open`: with a store of its own; otherwise the shop is closed for a damaged one.
async fn desk(open: bool) -> Office {
    desk_with(open, "").await
}

/// The same, with these sections besides.
async fn desk_with(open: bool, sections: &str) -> Office {
    let dir = fresh_folder();
    let clock = Clock::manual("boot", Millis::from_secs(100), UnixSeconds(1_800_000_000));
    let file = include_str!("../../tests/vectors/tollgate.uci");
    let text = format!("{file}\nconfig card\noption domain 'c.example'\n{sections}");
    let (config, _) = Config::from_uci(&text).unwrap();
    // The sender may go: the configuration stays readable.
    let (_, config) = watch::channel(Arc::new(config));
    let mints = Mints::new(Tls::new(None).unwrap(), clock.clone(), mpsc::channel(1).0);
    let gate = Box::new(RecordingGate::new());
    let (gatekeeper, shop) = if open {
        let store = Store::open(&dir, &clock).unwrap();
        let access = Access::start(store.clone(), clock, gate, Plan::default()).await.unwrap();
        let (guests, takings) = (Seed::generate().unwrap(), Arc::new(Seed::generate().unwrap()));
        let late = mpsc::channel(1).0;
        let wallet = Wallet::start(store.clone(), mints.clone(), (PurseName::House, takings.clone()), late)
            .await
            .unwrap();
        let terms = Terms::new(store.clone(), access.clone(), config.clone());
        let invoices = InvoiceEngine::start(terms.clone(), mints.clone(), guests, takings).await.unwrap();
        let vault = Vault::open(&store, KeyFile("cards")).await.unwrap();
        let nothing = Box::new(|_: &Account| Err("nothing pays here".to_owned()));
        let backends = Backends::new(store.clone(), vault.clone(), nothing);
        let cards = Ok(Cards::start(store.clone(), vault, backends, config.clone()).await.unwrap());
        let tls = Tls::new(None).unwrap();
        let keeper = Keeper::start(&store, config.clone(), tls.clone()).await.unwrap();
        let shop = Shop::new(terms, (invoices, wallet), mints.clone(), (cards, keeper), tls).await.unwrap();
        (access.gatekeeper().clone(), Ok(shop))
    } else {
        let closed = Closed { code: "STORE_CORRUPT", cause: "the store is damaged: page 3".to_owned() };
        (Gatekeeper::start(gate, clock, Plan::default(), LiteMap::new(), true), Err(closed))
    };
    let (reload, reloads) = mpsc::channel(1);
    let site = Site::new(config, gatekeeper, mints, shop);
    let desk =
        Arc::new(Desk { site, reload, file: dir.join("tollgate"), started: std::time::Instant::now() });
    Office { desk, reloads, dir }
}

impl Office {
    async fn say(&self, line: &str) -> Value {
        let mut answer = answer(line, &self.desk).await;
        match answer["ok"] == true {
            true => answer["data"].take(),
            false => json!({"code": answer["code"], "message": answer["message"]}),
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
async fn every_answer_names_the_request() {
    let desk = desk(false).await;
    let ask = async |line: &str| answer(line, &desk.desk).await["request_id"].as_str().unwrap().to_owned();
    assert_eq!(ask(r#"{"command":"status","request_id":"deploy-42"}"#).await, "deploy-42");
    assert_eq!(ask(r#"{"command":"fly","request_id":"deploy-42"}"#).await, "deploy-42");
    for line in [r#"{"command":"status"}"#, r#"{"command":"status","request_id":"a b"}"#, "status"] {
        assert_eq!(ask(line).await.len(), 16, "{line}");
    }
    assert_ne!(ask("{}").await, ask("{}").await);
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
async fn what_is_for_the_shell_cannot_be_called_over_the_socket() {
    let desk = desk(true).await;
    for command in all().filter(|command| matches!(command.reach, Reach::Shell(_) | Reach::Errand(..))) {
        let words: Vec<&str> = command.name.split(' ').collect();
        for args in [&words[1..], &[&words[1..], &["-"]].concat(), &[&words[1..], &["--yes"]].concat()] {
            let refused = desk.order(words[0], args).await;
            assert_eq!(refused["code"], "usage", "{} {args:?}", command.name);
            let message = refused["message"].as_str().unwrap();
            assert!(message.ends_with("is for the router's own shell"), "{message}");
        }
    }
    for command in all().filter(|command| !matches!(command.reach, Reach::Errand(..))) {
        let (first, args) = command.name.split_once(' ').unwrap_or((command.name, ""));
        let args: Vec<&str> = args.split_whitespace().collect();
        let refused = desk.say(&json!({"errand": first, "args": args}).to_string()).await;
        assert_eq!(refused["code"], "usage", "{}", command.name);
    }
    assert_eq!(desk.say(r#"{"errand":"fly"}"#).await["code"], "usage");
    let restored = desk.say(r#"{"errand":"wallet","args":["restore","no","words"]}"#).await;
    assert_eq!(restored["code"], "usage");
    assert_eq!(desk.say(r#"{"errand":"wallet","args":["seed"]}"#).await, json!({}));
    let both = r#"{"command":"wallet","errand":"wallet","args":["seed"]}"#;
    assert_eq!(desk.say(both).await["code"], "usage");
}

#[tokio::test]
async fn what_is_not_for_http_or_not_for_the_caller_is_refused_there() {
    let mut desk = desk(true).await;
    // No task answers a reload.
    desk.reloads.close();
    let ask = async |command: &'static Command, role, may_sign| {
        let given = Given::from_members(command, &[], json!({})).unwrap();
        let operator = Operator { name: "alice".to_owned(), role, may_sign };
        let done = by_http(&desk.desk, &given.by(operator)).await;
        done.err().map_or_else(String::new, |error| error.code().to_owned())
    };
    for command in all() {
        let by_owner = ask(command, Role::Owner, false).await;
        let by_viewer = ask(command, Role::Viewer, true).await;
        match command.reach {
            _ if command.paths().is_empty() => {
                assert_eq!(
                    (by_owner.as_str(), by_viewer.as_str()),
                    ("not_found", "not_found"),
                    "{}",
                    command.name
                );
                assert_eq!(ask(command, Role::Owner, true).await, "not_found", "{}", command.name);
            }
            Reach::Signed(..) => assert_eq!(by_owner, "fresh_signature_needed", "{}", command.name),
            _ => {
                assert!(!["not_found", "forbidden", "fresh_signature_needed"].contains(&by_owner.as_str()));
            }
        }
        if !command.paths().is_empty() {
            assert_eq!(by_viewer == "forbidden", command.role > Role::Viewer, "{}", command.name);
        }
    }
}

const TWO_TENANTS: &str = "
config venue 'hall'
	list device 'br-hall'
config tenant 'hotel'
	list venue 'guest'
config tenant 'club'
	list venue 'hall'
config tenant 'bare'
";

#[tokio::test]
async fn a_tenants_operator_calls_what_is_of_its_venues_and_nothing_of_the_whole_router() {
    let desk = desk_with(true, TWO_TENANTS).await;
    for command in all().filter(|command| !command.paths().is_empty()) {
        let ask = async |tenant: Option<&str>| {
            let given = Given::from_members(command, &[], json!({})).unwrap();
            let operator = Operator { name: "alice".to_owned(), role: Role::Owner, may_sign: true };
            let given = given.by(operator).of(tenant.map(Tenant::of_test));
            let done = by_http(&desk.desk, &given).await;
            done.err().map_or_else(String::new, |error| error.code().to_owned())
        };
        let own = ["clients", "sessions", "grant", "revoke"].contains(&command.name)
            || command.name.starts_with("voucher ");
        assert_eq!(ask(Some("hotel")).await == "forbidden", !own, "{}", command.name);
        // No task answers a reload.
        if command.name != "reload" {
            assert_ne!(ask(None).await, "forbidden", "{}", command.name);
        }
    }
    let refused = desk.order("audit", &[]).await;
    let row = |name: &str| refused.as_array().unwrap().iter().any(|row| row["what"] == name);
    assert!(row("wallet balance") && !row("clients"));
}

#[tokio::test]
async fn a_tenants_operator_reaches_its_own_venues_only() {
    let desk = desk_with(true, TWO_TENANTS).await;
    let ask = async |tenant: &str, line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let (command, args) = crate::commands::find(&words).unwrap();
        let operator = Operator { name: tenant.to_owned(), role: Role::Owner, may_sign: false };
        let given = Given::from_words(command, args).unwrap().by(operator).of(Some(Tenant::of_test(tenant)));
        by_http(&desk.desk, &given).await.unwrap_or_else(|error| json!(error.code()))
    };
    let places = |rows: Value| -> Vec<String> {
        rows.as_array().unwrap().iter().map(|row| row["venue"].as_str().unwrap().to_owned()).collect()
    };
    let grant = format!("grant {MAC} 1h");
    assert_eq!(ask("club", &format!("{grant} --venue guest")).await, "unknown_venue");
    assert_eq!(ask("bare", &grant).await, "unknown_venue");
    assert_eq!(places(desk.order("sessions", &[]).await), [""; 0]);
    assert_eq!(ask("hotel", &grant).await["venue"], "guest");
    assert_eq!(ask("club", &grant).await["venue"], "hall");
    for list in ["sessions", "clients"] {
        assert_eq!(places(ask("hotel", list).await), ["guest"], "{list}");
        assert_eq!(places(ask("club", list).await), ["hall"], "{list}");
        assert_eq!(places(ask("bare", list).await), [""; 0], "{list}");
    }
    assert_eq!(ask("bare", &format!("revoke {MAC}")).await, "no_session");
    assert_eq!(ask("hotel", &format!("revoke {MAC} --venue hall")).await, "unknown_venue");
    assert_eq!(ask("hotel", &format!("revoke {MAC}")).await["venues"], json!(["guest"]));
    assert_eq!(places(desk.order("sessions", &[]).await), ["hall"]);
}

#[tokio::test]
async fn what_was_changed_or_refused_is_in_the_audit_log_and_what_was_looked_at_is_not() {
    let desk = desk(true).await;
    desk.order("grant", &[MAC, "90m"]).await;
    desk.order("sessions", &[]).await;
    desk.order("grant", &[MAC, "soon"]).await;
    desk.order("revoke", &["02:00:00:00:00:12"]).await;
    desk.order("wallet", &["receive", "cashuAsecret"]).await;
    let by = |name: &str, role| Operator { name: name.to_owned(), role, may_sign: false };
    let over_http = async |line: &str, operator| {
        let words: Vec<&str> = line.split(' ').collect();
        let (command, args) = crate::commands::find(&words).unwrap();
        drop(by_http(&desk.desk, &Given::from_words(command, args).unwrap().by(operator)).await);
    };
    over_http("revoke 02:00:00:00:00:11", by("bob", Role::Cashier)).await;
    over_http("card wipe 1", by("alice", Role::Owner)).await;
    over_http("revoke 02:00:00:00:00:11", by("carol", Role::Manager)).await;
    over_http("status", by("bob", Role::Viewer)).await;
    let rows = desk.order("audit", &[]).await;
    let told = |row: &Value| {
        let texts =
            ["who", "role", "what", "target", "result"].map(|name| row[name].as_str().unwrap().to_owned());
        texts.join(" | ")
    };
    let told: Vec<String> = rows.as_array().unwrap().iter().map(told).collect();
    assert_eq!(
        told,
        [
            "shell | owner | grant | 02:00:00:00:00:11 90m | ok",
            "shell | owner | wallet receive | - | refused",
            "bob | cashier | revoke | 02:00:00:00:00:11 | forbidden",
            "alice | owner | card wipe | 1 | fresh_signature_needed",
            "carol | manager | revoke | 02:00:00:00:00:11 | ok",
        ]
    );
    assert_eq!(desk.order("audit", &["--verify"]).await, json!({"verified": true, "rows": 5}));
    assert_eq!(desk.order("audit", &["--since", "1900-01-01"]).await["code"], "usage");
}

#[tokio::test]
async fn a_line_without_end_is_cut_and_refused() {
    let desk = desk(false).await;
    let (ours, theirs) = UnixStream::pair().unwrap();
    let serving = converse(theirs, &desk.desk);
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
        &["create", "Alice"],
        &["create", "Alice", "--tx-max"],
        &["create", "Alice", "--colour", "red"],
        &["create", "Alice", "--tx-max", "-2", "--day-max", "1"],
        &["limits", "1"],
        &["limits", "1", "--disabled"],
        &["show"],
        &["show", "one"],
        &["wipe", "1", "2"],
        &["paint", "1"],
        &["tap", "x"],
        &["tap", "x", "--mac"],
        &["tap", "x", "--mac", "y"],
        &["tap", "x", "--amount", "21"],
        &["tap", "x", "--mac", MAC, "--amount", "-1"],
        &["tap", "x", "--mac", MAC, "--amount", "1", "--steps", "1"],
        &["tap", "x", "--mac", MAC, "21"],
    ] {
        assert_eq!(desk.order("card", args).await["code"], "usage", "{args:?}");
    }
    for args in [
        &["create", "", "--tx-max", "1", "--day-max", "1"],
        &["create", "Alice", "--tx-max", "2", "--day-max", "1"],
    ] {
        assert_eq!(desk.order("card", args).await["code"], "invalid_input", "{args:?}");
    }
    assert_eq!(desk.order("card", &["show", "7"]).await["code"], "no_such_card");
    assert_eq!(
        desk.order("card", &["tap", "x", "--mac", MAC, "--steps", "3"]).await["code"],
        "unknown_device"
    );
}
