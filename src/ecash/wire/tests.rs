use super::*;
use crate::ecash::outputs::tests::Signer;
use crate::ecash::seed::Seed;
use serde_json::json;

const POINT: &str = "02a9acc1e48c25eeeb9289b5031cc57da9fe72f3fe2861d264bdc074209b107ba2";
const QUOTE: &str = r#"{"quote":"01a1fb5d-aa26-74b5-bccd-75c42dcf678c","request":"lnbc640n1","amount":64,"unit":"sat","amount_paid":0,"amount_issued":0,"updated_at":1795218582,"state":"UNPAID","expiry":1795222181,"pubkey":"039d16"}"#;
const INFO: &str = r#"{"name":"A\nmint","version":"Nutshell/0.20.2","time":1795218582,"nuts":{"4":{"methods":[{"method":"bolt11","unit":"usd"},{"method":"bolt11","unit":"sat","min_amount":1,"max_amount":1000}],"disabled":false},"9":{"supported":true},"12":{"supported":true},"17":{"supported":[{"method":"bolt11","unit":"sat","commands":["bolt11_mint_quote","proof_state"]}]}}}"#;

fn changed(json: &str, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut json: Value = serde_json::from_str(json).unwrap();
    change(&mut json);
    json.to_string().into_bytes()
}

fn keyset_json(signer: &Signer) -> Value {
    let keys: serde_json::Map<String, Value> = (0..20)
        .map(|bit| 1u64 << bit)
        .map(|amount| (amount.to_string(), json!(signer.keyset.key(Sats(amount)).unwrap().to_string())))
        .collect();
    json!({"keysets": [{"id": signer.keyset.id().to_string(), "unit": "sat", "active": true, "keys": keys}]})
}

#[test]
fn a_quote_is_read_with_the_oddities_of_real_mints() {
    let quote = mint_quote(QUOTE.as_bytes()).unwrap();
    assert_eq!((quote.state, quote.amount), (QuoteState::Unpaid, Some(Sats(64))));
    assert_eq!(quote.expiry, Some(UnixSeconds(1795222181)));
    for odd in [json!(null), json!(0), json!(-1), json!("soon"), json!(1.5)] {
        let body = changed(QUOTE, |quote| quote["expiry"] = odd);
        assert_eq!(mint_quote(&body).unwrap().expiry, None);
    }
    let body = changed(QUOTE, |quote| quote["pubkey"] = json!(""));
    assert_eq!(mint_quote(&body).unwrap().lock, None);
}

#[test]
fn a_quote_without_state_is_read_from_its_counts() {
    let state = |paid: u64, issued: u64| {
        let body = changed(QUOTE, |quote| {
            quote.as_object_mut().unwrap().remove("state");
            quote["amount_paid"] = json!(paid);
            quote["amount_issued"] = json!(issued);
        });
        mint_quote(&body).unwrap().state
    };
    assert_eq!(state(0, 0), QuoteState::Unpaid);
    assert_eq!(state(63, 0), QuoteState::Unpaid);
    assert_eq!(state(64, 0), QuoteState::Paid);
    assert_eq!(state(64, 64), QuoteState::Issued);
}

#[test]
fn quotes_that_cannot_be_used_are_malformed() {
    for (field, value) in [
        ("quote", json!("")),
        ("quote", json!("..")),
        ("quote", json!("a/../b")),
        ("quote", json!("a?b")),
        ("quote", json!("x".repeat(257))),
        ("quote", json!(7)),
        ("state", json!("DONE")),
        ("state", json!(1)),
    ] {
        let body = changed(QUOTE, |quote| quote[field] = value.clone());
        assert!(matches!(mint_quote(&body), Err(EcashError::Malformed(_))), "{field} {value}");
    }
}

#[test]
fn an_invoice_does_not_show_in_debug_output() {
    assert!(!format!("{:?}", mint_quote(QUOTE.as_bytes()).unwrap()).contains("lnbc640n1"));
}

#[test]
fn info_says_what_a_mint_can_do() {
    let info = info(INFO.as_bytes()).unwrap();
    assert_eq!(info.name.as_deref(), Some("Amint"));
    assert_eq!(info.minting, Some(AmountLimits { min: Some(Sats(1)), max: Some(Sats(1000)) }));
    assert!(info.websocket && !info.login);
    assert_eq!(info.unsuitable(), None);
}

#[test]
fn info_says_whether_a_mint_pays_invoices() {
    let pays = |nut: Value| {
        let mut text: Value = serde_json::from_str(INFO).unwrap();
        text["nuts"]["5"] = nut;
        info(text.to_string().as_bytes()).unwrap().melting
    };
    assert!(pays(json!({"methods": [{"method": "bolt11", "unit": "sat"}]})));
    assert!(!pays(json!({"methods": [{"method": "bolt11", "unit": "sat"}], "disabled": true})));
    for other in [json!(null), json!([1]), json!({"methods": [{"method": "bolt11", "unit": "usd"}]})] {
        assert!(!pays(other.clone()), "{other}");
    }
}

#[test]
fn a_mint_that_lacks_what_safe_minting_needs_is_unsuitable() {
    let why = |change: fn(&mut Value)| info(&changed(INFO, change)).unwrap().unsuitable();
    assert!(why(|info| info["nuts"]["9"] = json!(null)).is_some());
    assert!(why(|info| info["nuts"]["12"]["supported"] = json!(false)).is_some());
    assert!(why(|info| info["nuts"]["4"]["disabled"] = json!(true)).is_some());
    assert!(why(|info| info["nuts"]["4"]["methods"] = json!([{"method": "bolt11", "unit": "usd"}])).is_some());
    assert!(why(|info| info["nuts"]["4"] = json!([1])).is_some());
}

#[test]
fn a_login_counts_where_it_covers_minting() {
    for (path, covers) in [
        ("/v1/mint/bolt11", true),
        ("/v1/mint/*", true),
        ("/v1/*", true),
        ("^/v1/mint/.*", true),
        (".*", true),
        ("/v1/restore", true),
        ("/v1/melt/*", false),
        ("/v1/swap", false),
        ("/v1/mint", false),
    ] {
        let protected = json!({"protected_endpoints": [{"method": "POST", "path": path}]});
        assert_eq!(protects_minting(&protected), covers, "{path}");
    }
}

#[test]
fn keysets_with_ids_from_before_nut_02_are_left_out() {
    let body = br#"{"keysets":[{"id":"I2yN+iRYfkzT","unit":"sat","active":true},{"id":"00456a94ab4e1c46","unit":"sat","active":true,"input_fee_ppk":null,"final_expiry":null}]}"#;
    let keysets = keysets(body).unwrap();
    assert_eq!(keysets.len(), 1);
    assert_eq!(keysets[0].terms.input_fee_ppk, 0);
    assert!(keysets[0].active);
}

#[test]
fn keys_are_checked_against_the_listed_id() {
    let signer = Signer::new();
    let listed = KeysetInfo { id: signer.keyset.id(), terms: signer.keyset.terms().clone(), active: true };
    let body = keyset_json(&signer).to_string();
    assert_eq!(keys(body.as_bytes(), &listed).unwrap().id(), listed.id);

    let other = KeysetInfo { id: KeysetId::V1([0; 8]), ..listed.clone() };
    assert_eq!(keys(body.as_bytes(), &other).unwrap_err(), Lie::OtherKeyset.into());
    let forged = changed(&body, |json| json["keysets"][0]["keys"]["1"] = json!(POINT));
    assert!(matches!(keys(&forged, &listed).unwrap_err(), EcashError::Lied(Lie::Keyset(_))));
}

#[test]
fn states_are_matched_by_point_and_complete() {
    let (a, b) = (PublicKey::parse(POINT).unwrap(), Signer::new().keyset.key(Sats(1)).unwrap());
    let body = json!({"states": [{"Y": b.to_string(), "state": "SPENT", "witness": null}, {"Y": POINT.to_uppercase(), "state": "UNSPENT"}]});
    let body = body.to_string();
    assert_eq!(states(body.as_bytes(), &[a, b]).unwrap(), [ProofState::Unspent, ProofState::Spent]);
    assert_eq!(states(body.as_bytes(), &[a]).unwrap_err(), Lie::OtherProofs.into());
    assert_eq!(states(body.as_bytes(), &[a, a]).unwrap(), [ProofState::Unspent, ProofState::Unspent]);
    let none = br#"{"states":[]}"#;
    assert_eq!(states(none, &[a]).unwrap_err(), Lie::OtherProofs.into());
}

/// Every answer cut short or with a byte changed is read or refused; nothing panics.
#[test]
fn damaged_answers_never_panic() {
    let signer = Signer::new();
    let seed = Seed::from_entropy(&[1; 16]).unwrap();
    let outputs = Outputs::prepare(&seed, signer.keyset.id(), 0, &[Sats(1), Sats(2)]).unwrap();
    let dleq = json!({"e": "00".repeat(32), "s": "11".repeat(32)});
    let signature = json!({"id": signer.keyset.id().to_string(), "amount": 1, "C_": POINT, "dleq": dleq});
    let listed = KeysetInfo { id: signer.keyset.id(), terms: signer.keyset.terms().clone(), active: true };
    let read_all = |body: &[u8]| {
        let _ = info(body);
        let _ = keysets(body);
        let _ = keys(body, &listed);
        let _ = mint_quote(body);
        let _ = states(body, &[PublicKey::parse(POINT).unwrap()]);
        let _ = crate::ecash::refusal::read(400, body);
        if let Ok(signatures) = signatures(body) {
            let _ = outputs.unblind(&signer.keyset, &signatures);
        }
        if let Ok(restored) = restored(body) {
            let _ = outputs.unblind_restored(&signer.keyset, &restored);
        }
    };
    for body in [
        INFO.to_owned(),
        QUOTE.to_owned(),
        json!({"signatures": [signature, signature]}).to_string(),
        json!({"outputs": [{"B_": POINT}], "signatures": [signature]}).to_string(),
        json!({"states": [{"Y": POINT, "state": "SPENT"}]}).to_string(),
        json!({"detail": [{"msg": "x"}], "code": 1}).to_string(),
    ] {
        for at in 0..body.len() {
            read_all(&body.as_bytes()[..at]);
            for flip in [1u8, 0x10, 0x80] {
                let mut bytes = body.clone().into_bytes();
                bytes[at] ^= flip;
                read_all(&bytes);
            }
        }
    }
    for body in ["[".repeat(100_000), "{\"a\":".repeat(100_000), "null".into(), "1e999".into(), "\"".into()] {
        read_all(body.as_bytes());
    }
}

#[test]
fn restored_outputs_and_signatures_come_in_pairs() {
    assert!(restored(br#"{"outputs":[],"signatures":[]}"#).unwrap().is_empty());
    let uneven = format!(r#"{{"outputs":[{{"B_":"{POINT}"}}],"signatures":[]}}"#);
    assert_eq!(restored(uneven.as_bytes()).unwrap_err(), Lie::SignatureCount.into());
}
