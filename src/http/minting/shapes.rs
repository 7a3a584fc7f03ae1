//! What is answered to an order of vouchers: to the operator, to a shop, and to who does not wait for it.

use crate::json::json;
use crate::units::UnixSeconds;
use crate::vouchers::{Order, OrderOutcome, TicketResult};
use serde_json::Value;

/// The body of a batch's answer.
pub fn batch_shape(order: &Order, outcome: &OrderOutcome, _: UnixSeconds) -> Value {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for result in &outcome.results {
        let id = result.id.to_string();
        match (&result.made, &result.fault) {
            (Some(made), _) => {
                let backing = made.backing.as_ref();
                successful.push(json!({
                    "ticketId": id,
                    "code": made.code,
                    "signature": backing.map(|backing| backing.signature.as_str()),
                    "metadataUri": backing.map(|backing| backing.token.as_str()),
                    "keysetId": backing.map(|backing| backing.keyset.as_str()),
                    "proofCount": backing.map_or(0, |backing| backing.proofs),
                    "lockedTo": backing.map(|backing| backing.locked_to.as_str()),
                    "expiresAt": made.expires_at,
                }));
            }
            (None, fault) => failed.push(json!({
                "ticketId": id,
                "error": fault.as_ref().map(|fault| fault.code.as_str()),
                "retryable": fault.as_ref().is_some_and(|fault| fault.retryable),
            })),
        }
    }
    let total = outcome.results.len();
    let seconds = |millis: u128| u32::try_from(millis).map_or(0.0, |millis| f64::from(millis) / 1000.0);
    let took = outcome.took.as_millis();
    let average = took.checked_div(u128::try_from(total).unwrap_or(1)).unwrap_or(0);
    let summary = json!({
        "total": total,
        "succeeded": successful.len(),
        "failed": failed.len(),
        "totalDuration": seconds(took),
        "avgDuration": seconds(average),
    });
    json!({
        "batchId": order.id.to_string(),
        "venueId": order.venue_id,
        "successful": successful,
        "failed": failed,
        "summary": summary,
    })
}

pub fn tickets_shape(order: &Order, outcome: &OrderOutcome, now: UnixSeconds) -> Value {
    let one = |result: &TicketResult| {
        let mut told = json!({"ticketId": result.id.to_string(), "success": result.made.is_some()});
        if let Some(made) = &result.made {
            told["mintAddress"] = json!(made.backing.as_ref().map(|backing| backing.keyset.as_str()));
            told["code"] = json!(made.code);
            told["expiresAt"] = json!(made.expires_at);
            if made.already {
                told["alreadyMinted"] = json!(true);
            }
        }
        if let Some(fault) = &result.fault {
            told["error"] = json!(fault.code);
        }
        told
    };
    let total = outcome.results.len();
    let made = outcome.results.iter().filter(|result| result.made.is_some()).count();
    json!({
        "success": made == total,
        "results": outcome.results.iter().map(one).collect::<Value>(),
        "summary": json!({"total": total, "successful": made, "failed": total.saturating_sub(made)}),
        "batchId": order.id.to_string(),
        "mintedBy": order.principal,
        "timestamp": now.0,
    })
}

pub fn queued_shape(order: &Order, _: &OrderOutcome, _: UnixSeconds) -> Value {
    json!({"success": true, "jobId": order.id.to_string()})
}
