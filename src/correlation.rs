//! The id of one request, by which an operator finds everything that was said of it: in the answer, in the log, in events
//! and in the audit. A caller may bring its own; otherwise one is made.

use crate::hex;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

const SHORTEST: usize = 8;
const LONGEST: usize = 64;

/// 8 to 64 of `[A-Za-z0-9._-]`: safe in a header, in a line and in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorrelationId(Arc<str>);

tokio::task_local! {
    static CURRENT: CorrelationId;
}

impl CorrelationId {
    /// A new one: 16 hex digits.
    pub fn make() -> CorrelationId {
        let mut bytes = [0; 8];
        // Without random numbers it is not unique, and still names the request.
        let _ = getrandom::fill(&mut bytes);
        CorrelationId(hex::encode(&bytes).into())
    }

    /// The id in an `X-Request-Id`.
    pub fn parse(text: &str) -> Option<CorrelationId> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let fits = (SHORTEST..=LONGEST).contains(&text.len()) && text.bytes().all(is_plain);
        fits.then(|| CorrelationId(text.into()))
    }

    /// The trace id in a `traceparent` (W3C Trace Context, section 3.2).
    pub fn of_traceparent(text: &str) -> Option<CorrelationId> {
        let mut parts = text.split('-');
        let [version, trace, parent, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let is_hex = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_named = |part: &str| part.bytes().any(|b| b != b'0');
        let is_whole = is_hex(version, 2)
            && version != "ff"
            && is_hex(trace, 32)
            && is_named(trace)
            && is_hex(parent, 16)
            && is_named(parent)
            && is_hex(flags, 2)
            // Later versions may have more parts.
            && (version != "00" || parts.next().is_none());
        is_whole.then(|| CorrelationId(trace.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Does the work of one request: all that it logs while it runs has this id.
pub async fn within<T>(id: CorrelationId, work: impl Future<Output = T>) -> T {
    CURRENT.scope(id, work).await
}

/// The id of the request that is being answered here.
pub fn current() -> Option<CorrelationId> {
    CURRENT.try_with(CorrelationId::clone).ok()
}

/// The same as text; empty where no request is answered.
pub fn current_text() -> String {
    current().map(|id| id.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_8_to_64_plain_characters() {
        for good in ["12345678", "a.B_c-D9", &"x".repeat(64)] {
            assert_eq!(CorrelationId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "1234567", &"x".repeat(65), "with space", "line\nbreak", "quote\"quote", "löwe-löwe"]
        {
            assert_eq!(CorrelationId::parse(bad), None, "{bad}");
        }
        let made = [CorrelationId::make(), CorrelationId::make()];
        assert!(made[0] != made[1] && CorrelationId::parse(made[0].as_str()).as_ref() == Some(&made[0]));
    }

    #[test]
    fn a_traceparent_gives_its_trace_id() {
        const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = "00f067aa0ba902b7";
        let found = |text: &str| CorrelationId::of_traceparent(text).map(|id| id.to_string());
        assert_eq!(found(&format!("00-{TRACE}-{parent}-01")).as_deref(), Some(TRACE));
        assert_eq!(found(&format!("cc-{TRACE}-{parent}-01-what-comes")).as_deref(), Some(TRACE));
        for bad in [
            String::new(),
            format!("00-{TRACE}-{parent}"),
            format!("00-{TRACE}-{parent}-01-more"),
            format!("ff-{TRACE}-{parent}-01"),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-{parent}-01", TRACE.to_uppercase()),
        ] {
            assert_eq!(found(&bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn what_is_done_within_a_request_has_its_id() {
        let id = CorrelationId::parse("request-1").unwrap();
        assert_eq!(within(id.clone(), async { current() }).await, Some(id));
        assert_eq!(current(), None);
    }
}
