//! What monitoring asks at the operator's socket. Whether guests who have paid are served is not a question of mints: one
//! that is away makes the router degraded, and neither unready nor dead.

use super::answer::{self, Answer};
use super::entrance::Entrance;
use super::route::Answering;
use super::sent::Sent;
use super::Edge;
use crate::json::json;
use crate::task;
use hyper::StatusCode;
use serde_json::Value;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// If this is not reached within that time, the program does nothing else either.
const TICK: Duration = Duration::from_secs(10);
/// How long one check may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /health`: that somebody answers; asks nobody.
pub fn health(edge: &Edge, _: &Entrance) -> Answer {
    told(StatusCode::OK, json!({"status": "ok", "service": "tollgate", "timestamp": timestamp(edge)}))
}

/// `GET /health/live`
pub fn live(_: Arc<Edge>, _: Sent) -> Answering {
    Box::pin(async move {
        // Whatever holds up the loop holds this up.
        let ticks = tokio::time::timeout(TICK, tokio::task::yield_now()).await.is_ok();
        match ticks {
            true => told(StatusCode::OK, json!({"status": "alive", "live": true})),
            false => told(StatusCode::SERVICE_UNAVAILABLE, json!({"status": "stuck", "live": false})),
        }
    })
}

/// `GET /health/ready`: whether what is paid is honoured.
pub fn ready(edge: Arc<Edge>, _: Sent) -> Answering {
    Box::pin(async move {
        let reasons = edge.site.not_serving();
        let told_why =
            |status: &str| json!({"status": status, "ready": reasons.is_empty(), "reasons": reasons});
        match reasons.first() {
            None => told(StatusCode::OK, told_why("ready")),
            Some(first) => {
                let mut body = told_why("not_ready");
                body["error"] = json!(first);
                told(StatusCode::SERVICE_UNAVAILABLE, body)
            }
        }
    })
}

/// `GET /health/startup`: 503 until everything that a start does is done, and 200 from then on.
pub fn startup(edge: Arc<Edge>, _: Sent) -> Answering {
    Box::pin(async move {
        let step = match &edge.site.shop {
            _ if edge.has_started.load(Ordering::Relaxed) => None,
            Err(_) => Some("store"),
            Ok(shop) if shop.store.is_sealed() => Some("unseal"),
            Ok(_) if !edge.site.gate().closed_to_strangers => Some("firewall"),
            Ok(_) => None,
        };
        match step {
            None => {
                edge.has_started.store(true, Ordering::Relaxed);
                told(StatusCode::OK, json!({"status": "started"}))
            }
            Some(step) => told(StatusCode::SERVICE_UNAVAILABLE, json!({"status": "starting", "step": step})),
        }
    })
}

/// `GET /health/full`: every part by itself.
pub fn full(edge: Arc<Edge>, _: Sent) -> Answering {
    Box::pin(async move {
        let site = &edge.site;
        let config = site.config();
        let mut checks = json!({});
        let mut worst = Worth::Fine;
        let mut check = |name: &str, began: Instant, needed: bool, fault: Option<String>| {
            let status = if fault.is_none() { "pass" } else { "fail" };
            worst = match (&fault, needed) {
                (None, _) => worst,
                (Some(_), true) => Worth::Nothing,
                (Some(_), false) => worst.max(Worth::Less),
            };
            let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let message = fault.unwrap_or_else(|| "ok".to_owned());
            checks[name] = json!({"status": status, "message": message, "responseTime": took});
        };
        let began = Instant::now();
        let (store_fault, clock_fault, disk_fault) = match &site.shop {
            Err(closed) => (Some(format!("{}: {}", closed.code, closed.cause)), None, None),
            Ok(shop) => {
                let store = shop.store.clone();
                let reading =
                    task::start(async move { store.backends().await.err().map(|err| err.to_string()) });
                let fault = match tokio::time::timeout(PATIENCE, reading).await {
                    Ok(read) => read.unwrap_or_default(),
                    Err(_) => Some("the store does not answer".to_owned()),
                };
                let short = || "less than 1 MiB free for the store".to_owned();
                let clock = shop.store.wall_fault().map(|fault| fault.to_string());
                (fault, clock, (!shop.store.room_for_sales()).then(short))
            }
        };
        check("store", began, true, store_fault);
        if let Ok(shop) = &site.shop {
            let facts = shop.keeper.facts();
            let sealed = || facts.trouble.clone().unwrap_or_else(|| "the key files are sealed".to_owned());
            check("kms", began, facts.is_sealed, (facts.is_sealed || facts.trouble.is_some()).then(sealed));
        }
        check("disk", began, false, disk_fault);
        check("clock", began, false, clock_fault);
        let gate = site.gate();
        let open = || gate.trouble.clone().unwrap_or_else(|| "the gate is not in place yet".to_owned());
        check("firewall", began, true, (!gate.closed_to_strangers).then(open));
        for mint in &config.mints {
            let silent =
                (!site.mints.get(&mint.url).answers()).then(|| "the mint does not answer".to_owned());
            check(&format!("mint:{}", mint.url.as_str()), began, false, silent);
        }
        for way in site.ways().iter().filter(|way| way.name == "lightning") {
            check("lightning", began, false, way.closed.as_ref().map(|closed| closed.cause.clone()));
        }
        let (status, word) = match worst {
            Worth::Fine => (StatusCode::OK, "healthy"),
            Worth::Less => (StatusCode::OK, "degraded"),
            Worth::Nothing => (StatusCode::SERVICE_UNAVAILABLE, "unhealthy"),
        };
        told(status, json!({"status": word, "timestamp": timestamp(&edge), "checks": checks}))
    })
}

/// How well the router serves, as things are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    Fine,
    Less,
    Nothing,
}

fn timestamp(edge: &Edge) -> Option<u64> {
    edge.site.shop.as_ref().ok().map(|shop| shop.store.wall().0)
}

fn told(status: StatusCode, body: Value) -> Answer {
    answer::json(status, &body)
}
