//! What a client may know of its session: `/usage`, `/balance`, `/session-state`, and the event that a paid
//! client gets. All amounts are in the session's metric; a session that is over counts as none.

use super::event::{tag, Tags};
use crate::access::Session;
use crate::json::json;
use crate::mac::MacAddr;
use crate::sale::invoice::Request;
use crate::store::Ticket;
use serde_json::{Map, Value};

/// Kind of the event that answers a payment.
pub const KIND: u32 = 1022;

/// `used/allotment`, or `-1/-1` where no session runs.
pub fn usage(session: Option<&Session>) -> String {
    match running(session) {
        Some(session) => format!("{}/{}", session.used.0, session.allotment.0),
        None => "-1/-1".to_owned(),
    }
}

/// The body of `GET /balance`.
pub fn balance(session: Option<&Session>) -> Value {
    let mut body = facts(session);
    body.insert("status".to_owned(), 1.into());
    body.into()
}

/// The body of `GET /balance` where sessions cannot be read.
pub fn no_balance() -> Value {
    let mut body = facts(None);
    body.insert("status".to_owned(), 0.into());
    body.insert("error".to_owned(), "failed to retrieve usage data".into());
    body.into()
}

/// The body of `GET /session-state`: the balance, and whose it is, how it came to be so and what is under way.
pub fn state(mac: Option<MacAddr>, session: Option<&Session>, unfinished: Option<&Request>) -> Value {
    let mut body = facts(session);
    let state = match (session, running(session)) {
        (_, Some(_)) => "active",
        (Some(_), None) => "ended",
        (None, None) => "none",
    };
    body.insert("status".to_owned(), 1.into());
    body.insert("state".to_owned(), state.into());
    body.insert("mac".to_owned(), mac.map(|mac| mac.to_string()).into());
    if let Some(session) = session {
        body.insert("venue".to_owned(), session.venue.as_str().into());
        if let Some(ends_at) = session.ends_at.filter(|_| session.is_running()) {
            body.insert("ends_at".to_owned(), ends_at.0.into());
        }
    }
    if let Some((request, part)) = unfinished.and_then(|r| r.parts().first().map(|part| (r, part))) {
        let invoice = json!({
            "quote": request.id.as_str(),
            "amount": request.amount().0,
            "state": super::ln_invoice::state(&part.progress()),
        });
        body.insert("invoice".to_owned(), invoice);
    }
    body.into()
}

/// The tags of the event that answers a payment: the session as it is now, all that was paid for together.
pub fn tags(session: &Session, ticket: Option<&Ticket>) -> Tags {
    let mac = session.mac.to_string();
    let mut tags = vec![
        // Existing clients find their MAC here, where TIP-01 has the customer's key.
        tag(["p", &mac]),
        tag(["device-identifier", "mac", &mac]),
        tag(["allotment", &session.allotment.0.to_string()]),
        tag(["metric", session.metric.as_str()]),
        tag(["start-time", &session.started_at.0.to_string()]),
    ];
    tags.extend(ticket.map(|ticket| tag(["ticket", &ticket.to_string()])));
    tags
}

fn facts(session: Option<&Session>) -> Map<String, Value> {
    let session = running(session);
    let mut facts = Map::new();
    let mut number =
        |name: &str, value: Option<u64>| facts.insert(name.to_owned(), value.unwrap_or(0).into());
    number("usage", session.map(|s| s.used.0));
    number("allotment", session.map(|s| s.allotment.0));
    number("remaining", session.map(|s| s.remaining.0));
    facts.insert("session_active".to_owned(), session.is_some().into());
    if let Some(session) = session {
        facts.insert("metric".to_owned(), session.metric.as_str().into());
        facts.insert("start_time".to_owned(), session.started_at.0.into());
    }
    facts
}

fn running(session: Option<&Session>) -> Option<&Session> {
    session.filter(|session| session.is_running())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Metric;
    use crate::units::{Allotment, Millis, UnixSeconds};
    use serde_json::json;

    fn session(used: u64) -> Session {
        Session {
            mac: MacAddr::new([2, 0, 0, 0, 0, 1]).unwrap(),
            venue: "guest".to_owned(),
            metric: Metric::Bytes,
            allotment: Allotment(44_040_192),
            used: Allotment(used),
            remaining: Allotment(44_040_192 - used),
            started: Millis(1),
            started_at: UnixSeconds(1_795_219_357),
            ends_at: None,
        }
    }

    #[test]
    fn usage_is_used_of_allotment_while_a_session_runs() {
        assert_eq!(usage(Some(&session(5))), "5/44040192");
        assert_eq!(usage(Some(&session(44_040_192))), "-1/-1");
        assert_eq!(usage(None), "-1/-1");
    }

    #[test]
    fn the_balance_leaves_out_what_is_empty() {
        let none = json!({"status": 1, "session_active": false, "usage": 0, "allotment": 0, "remaining": 0});
        assert_eq!(balance(None), none);
        assert_eq!(balance(Some(&session(44_040_192))), none);
        let running = json!({
            "status": 1, "session_active": true, "metric": "bytes", "usage": 192, "allotment": 44_040_192,
            "remaining": 44_040_000, "start_time": 1_795_219_357,
        });
        assert_eq!(balance(Some(&session(192))), running);
    }

    #[test]
    fn a_paid_client_is_told_its_session_in_strings() {
        let expected = [
            vec!["p", "02:00:00:00:00:01"],
            vec!["device-identifier", "mac", "02:00:00:00:00:01"],
            vec!["allotment", "44040192"],
            vec!["metric", "bytes"],
            vec!["start-time", "1795219357"],
        ];
        assert_eq!(tags(&session(7), None), expected);
        let ticket = Ticket::random().unwrap();
        let last = tags(&session(7), Some(&ticket)).pop();
        assert_eq!(last, Some(vec!["ticket".to_owned(), ticket.to_string()]));
    }
}
