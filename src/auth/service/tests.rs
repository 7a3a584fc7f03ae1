//! The vectors of both kinds, and what is refused in which order.

use super::*;
use crate::clock::Clock;
use crate::folder::fresh_folder;
use crate::units::{Millis, UnixSeconds};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

const VECTORS: &str = include_str!("../../../tests/vectors/services/hmac.json");
/// When the vectors were signed; this program is younger, so the tests sign anew where the time counts.
const SIGNED_AT: u64 = 1_735_689_600;
const NOW: u64 = 1_800_000_000;

struct Desk {
    auth: Auth,
    clock: Clock,
    dir: PathBuf,
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn vectors() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

fn desk() -> Desk {
    let dir = fresh_folder();
    std::fs::write(dir.join("secret"), format!("{}\n", vectors()["secret"].as_str().unwrap())).unwrap();
    open(dir)
}

fn open(dir: PathBuf) -> Desk {
    let file = dir.join("secret").display().to_string();
    let text = format!(
        "config tollgate\n\toption enabled 0\nconfig hmac_key\n\toption id 'shop'\n\toption secret_file '{file}'\n\
         config webhook\n\toption secret_file '{file}'\n"
    );
    let config = Config::from_uci(&text).unwrap().0;
    let clock = Clock::manual("boot-1", Millis::from_secs(1000), UnixSeconds(NOW));
    let store = Store::open(&dir, &clock).unwrap();
    let (_, settings) = watch::channel(Arc::new(config));
    Desk { auth: Auth::new(store, settings), clock, dir }
}

/// A request that is signed as the vector's, at another time and with another nonce.
struct Signed {
    timestamp: String,
    nonce: String,
    target: String,
    body: String,
    hash: String,
    signature: String,
}

fn signed(at_ms: u64, nonce: &str, target: &str, body: &str) -> Signed {
    let hash = hex::encode(&Sha256::digest(body));
    let text = format!("payment-service:{at_ms}:{nonce}:POST:{target}:{hash}");
    let secret = vectors()["secret"].as_str().unwrap().to_owned();
    let signature = hex::encode(&mac(secret.as_bytes(), &[text.as_bytes()]).unwrap());
    let (nonce, target, body) = (nonce.to_owned(), target.to_owned(), body.to_owned());
    Signed { timestamp: at_ms.to_string(), nonce, target, body, hash, signature }
}

impl Signed {
    fn request(&self) -> ServiceRequest<'_> {
        ServiceRequest {
            service: Some("payment-service"),
            key_id: Some("shop"),
            timestamp: Some(&self.timestamp),
            nonce: Some(&self.nonce),
            signature: Some(&self.signature),
            body_hash: Some(&self.hash),
            method: "POST",
            target: &self.target,
            body: self.body.as_bytes(),
        }
    }
}

fn code<T>(result: Result<T, ServiceRefusal>) -> &'static str {
    result.map_or_else(|refusal| refusal.code(), |_| "ok")
}

const NONCE: &str = "3f1c2a9e-0d7b-4c55-9a61-2b8e5f0c7d11";

#[test]
fn the_vector_of_a_service_is_signed_by_its_key() {
    let vector = &vectors()["service"];
    let text = |name: &str| vector[name].as_str().unwrap();
    let made = signed(SIGNED_AT * 1000, text("nonce"), text("target"), text("body"));
    assert_eq!((made.hash.as_str(), made.signature.as_str()), (text("body_hash"), text("signature")));
    let desk = desk();
    let (service, nonce, at) = signed_by(&desk.auth.config(), &made.request()).unwrap();
    assert_eq!((service.id.as_str(), service.tenant), ("shop", None));
    assert_eq!((nonce.as_str(), at), (NONCE, SIGNED_AT * 1000));
    let spaced = Signed { body: made.body.replace(":[", ": ["), ..made };
    assert_eq!(code(signed_by(&desk.auth.config(), &spaced.request())), "INVALID_SIGNATURE");
}

#[tokio::test]
async fn a_request_counts_once_also_after_a_restart() {
    let desk = desk();
    // As fast as a client's clock may be: its nonce is kept as long as its time would pass.
    let ahead = signed((NOW + 60) * 1000, NONCE, "/internal/mint-tickets?x=1", "{}");
    assert_eq!(code(desk.auth.service(ahead.request()).await), "ok");
    assert_eq!(code(desk.auth.service(ahead.request()).await), "NONCE_REUSED");
    desk.clock.advance(Millis::from_secs(119));
    assert_eq!(code(desk.auth.service(ahead.request()).await), "NONCE_REUSED");
    desk.auth.0.store.clone().close().await;
    let again = open(desk.dir.clone());
    again.clock.advance(Millis::from_secs(119));
    assert_eq!(code(again.auth.service(ahead.request()).await), "NONCE_REUSED");
    again.clock.advance(Millis::from_secs(2));
    assert_eq!(code(again.auth.service(ahead.request()).await), "TIMESTAMP_EXPIRED");
}

#[tokio::test]
async fn a_wrong_signature_burns_no_nonce_and_time_is_looked_at_behind_it() {
    let desk = desk();
    let good = signed(NOW * 1000, NONCE, "/internal/mint-tickets", "{}");
    let wrong = Signed { signature: "00".repeat(32), ..signed(5, NONCE, "/internal/mint-tickets", "{}") };
    assert_eq!(code(desk.auth.service(wrong.request()).await), "INVALID_SIGNATURE");
    for (at, expected) in [
        (NOW - 61, "TIMESTAMP_EXPIRED"),
        (NOW + 61, "TIMESTAMP_FUTURE"),
        (NOW - 60, "ok"),
        (NOW, "NONCE_REUSED"),
    ] {
        let request = signed(at * 1000, NONCE, "/internal/mint-tickets", "{}");
        assert_eq!(code(desk.auth.service(request.request()).await), expected, "{at}");
    }
    let other = |change: fn(&mut ServiceRequest<'_>)| {
        let mut request = good.request();
        change(&mut request);
        code(signed_by(&desk.auth.config(), &request))
    };
    assert_eq!(other(|request| request.key_id = Some("nobody")), "INVALID_SIGNATURE");
    assert_eq!(other(|request| request.target = "/internal/mint-tickets?"), "INVALID_SIGNATURE");
    assert_eq!(other(|request| request.method = "PUT"), "INVALID_SIGNATURE");
    assert_eq!(other(|request| request.nonce = Some("short")), "INVALID_NONCE");
    assert_eq!(other(|request| request.timestamp = Some("1e12")), "INVALID_TIMESTAMP");
    assert_eq!(other(|request| request.body_hash = Some("00")), "BODY_HASH_MISMATCH");
    let missing: [fn(&mut ServiceRequest<'_>); 6] = [
        |request| request.service = None,
        |request| request.key_id = None,
        |request| request.timestamp = None,
        |request| request.nonce = None,
        |request| request.signature = None,
        |request| request.body_hash = None,
    ];
    missing.into_iter().for_each(|change| assert_eq!(other(change), "MISSING_HEADERS"));
}

#[tokio::test]
async fn without_a_clock_nobody_is_believed() {
    let desk = desk();
    desk.clock.set_wall(UnixSeconds(5000));
    let request = signed(5_000_000, NONCE, "/internal/mint-tickets", "{}");
    assert_eq!(code(desk.auth.service(request.request()).await), "CLOCK_UNSYNCED");
}

#[tokio::test]
async fn a_webhook_is_signed_in_either_form_and_in_time() {
    let desk = desk();
    let vector = &vectors()["webhook"];
    let (body, v1) = (vector["body"].as_str().unwrap(), vector["v1"].as_str().unwrap());
    let header = format!("t={SIGNED_AT},v1={v1}");
    let read = WebhookSignature::read(&header, None).unwrap();
    let secret = vectors()["secret"].as_str().unwrap().to_owned();
    assert!(read.is_by(secret.as_bytes(), body.as_bytes()) && !read.is_by(secret.as_bytes(), b"{}"));
    assert_eq!(code(desk.auth.webhook(Some(&header), None, body.as_bytes())), "TIMESTAMP_EXPIRED");
    let sign = |before: String| hex::encode(&mac(secret.as_bytes(), &[before.as_bytes(), b"{}"]).unwrap());
    for (at, expected) in [
        (NOW - 300, "ok"),
        (NOW + 300, "ok"),
        (NOW - 301, "TIMESTAMP_EXPIRED"),
        (NOW + 301, "TIMESTAMP_FUTURE"),
    ] {
        let header = format!("t={at}, v1={}, v1={}", "00".repeat(32), sign(format!("{at}.")));
        assert_eq!(code(desk.auth.webhook(Some(&header), None, b"{}")), expected);
        let (ms, pair) = (format!("{at}000"), sign(format!("{at}000:")));
        assert_eq!(code(desk.auth.webhook(Some(&pair), Some(&ms), b"{}")), expected);
        assert_eq!(code(desk.auth.webhook(Some(&pair), None, b"{}")), "MISSING_HEADERS");
        assert_eq!(code(desk.auth.webhook(Some(&pair), Some(&ms), b"{ }")), "INVALID_SIGNATURE");
    }
    for wrong in ["", "t=", "t=5", "v1=00", &format!("t={NOW},v1=zz"), &format!("t=x,v1={v1}")] {
        assert_ne!(code(desk.auth.webhook(Some(wrong), None, b"{}")), "ok", "{wrong}");
    }
    assert_eq!(code(desk.auth.webhook(None, None, b"{}")), "MISSING_HEADERS");
}
