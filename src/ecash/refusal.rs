//! What it means when a mint refuses. The field has five shapes of error and many texts for one cause.

use super::error::EcashError;
use serde_json::Value;

const MAX_DETAIL: usize = 200;

/// What an answer with a status other than 2xx means. Mints name causes by code, by text, or not at all:
/// the code counts first, then `detail`, then the raw text.
pub(super) fn read(status: u16, body: &[u8]) -> EcashError {
    if status == 429 {
        return EcashError::RateLimited;
    }
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let code = json["code"].as_i64();
    if status >= 500 && code.is_none() {
        return EcashError::NoAnswer(format!("status {status}"));
    }
    let detail = match &json["detail"] {
        Value::String(text) => plain(text, MAX_DETAIL),
        // FastAPI's complaint about the request; it repeats the request, which must not be shown.
        Value::Array(all) => {
            let text = all.first().and_then(|first| first["msg"].as_str()).unwrap_or("invalid request");
            plain(text, MAX_DETAIL)
        }
        _ if json.is_null() => {
            plain(&String::from_utf8_lossy(body.get(..MAX_DETAIL).unwrap_or(body)), MAX_DETAIL)
        }
        _ => format!("status {status}"),
    };
    by_code(code).or_else(|| by_text(&detail)).unwrap_or(match status {
        401 | 403 => EcashError::LoginNeeded,
        _ => EcashError::Mint { code, detail },
    })
}

fn by_code(code: Option<i64>) -> Option<EcashError> {
    Some(match code? {
        11001 => EcashError::TokenSpent,
        11002 => EcashError::TokenPending,
        11005 => EcashError::Unbalanced,
        11003 | 11008 | 20006 => EcashError::OutputsAlreadySigned,
        11004 => EcashError::OutputsPending,
        12001..=12003 => EcashError::KeysetInactive,
        20001 => EcashError::NotPaid,
        20002 => EcashError::AlreadyIssued,
        20004 => EcashError::PaymentFailed,
        20005 => EcashError::QuotePending,
        20007 => EcashError::QuoteExpired,
        20008 => EcashError::SignatureRefused,
        30001 | 30002 | 31001..=31004 | 80001 | 80002 | 81001..=81004 => EcashError::LoginNeeded,
        _ => return None,
    })
}

fn by_text(detail: &str) -> Option<EcashError> {
    let text = detail.to_ascii_lowercase();
    let has = |part: &str| text.contains(part);
    if has("keyset") && (has("inactive") || has("not active") || has("unknown") || has("not found")) {
        Some(EcashError::KeysetInactive)
    } else if has("already signed") {
        Some(EcashError::OutputsAlreadySigned)
    } else if has("outputs are pending") {
        Some(EcashError::OutputsPending)
    } else if has("already spent") {
        Some(EcashError::TokenSpent)
    } else if has("proofs are pending") {
        Some(EcashError::TokenPending)
    } else if has("not balanced") {
        Some(EcashError::Unbalanced)
    } else if has("quote") && has("already pending") {
        Some(EcashError::QuotePending)
    } else if has("quote") && has("already issued") {
        Some(EcashError::AlreadyIssued)
    } else if has("quote") && has("not paid") {
        Some(EcashError::NotPaid)
    } else if has("quote") && (has("not found") || has("unknown")) {
        Some(EcashError::QuoteUnknown)
    } else {
        None
    }
}

/// A peer's text, fit for a log line: no control characters, at most `max` characters.
pub(super) fn plain(text: &str, max: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(max).collect()
}

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_refusal(body: &[u8]) -> String {
    format!("{:?}", read(400, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn refusals_of_real_mints_have_causes() {
        for (status, body, cause) in [
            (400, r#"{"detail":"x","code":11001}"#, EcashError::TokenSpent),
            (400, r#"{"detail":"x","code":11002}"#, EcashError::TokenPending),
            (400, r#"{"detail":"x","code":11005}"#, EcashError::Unbalanced),
            (400, r#"{"detail":"x","code":20004}"#, EcashError::PaymentFailed),
            (400, r#"{"detail":"Token already spent.","code":0}"#, EcashError::TokenSpent),
            (400, r#"{"detail":"proofs are pending.","code":11000}"#, EcashError::TokenPending),
            (
                400,
                r#"{"detail":"inputs (64) - fees (1) vs outputs (64) are not balanced.","code":11000}"#,
                EcashError::Unbalanced,
            ),
            (400, r#"{"detail":"x","code":11003}"#, EcashError::OutputsAlreadySigned),
            (400, r#"{"detail":"x","code":11008}"#, EcashError::OutputsAlreadySigned),
            (400, r#"{"detail":"x","code":20006}"#, EcashError::OutputsAlreadySigned),
            (400, r#"{"detail":"x","code":11004}"#, EcashError::OutputsPending),
            (400, r#"{"detail":"x","code":20001}"#, EcashError::NotPaid),
            (400, r#"{"detail":"x","code":20002}"#, EcashError::AlreadyIssued),
            (400, r#"{"detail":"x","code":20005}"#, EcashError::QuotePending),
            (400, r#"{"detail":"x","code":20008}"#, EcashError::SignatureRefused),
            (400, r#"{"detail":"x","code":12002}"#, EcashError::KeysetInactive),
            (400, r#"{"detail":"keyset id inactive.","code":11000}"#, EcashError::KeysetInactive),
            (400, r#"{"detail":"Mint quote already pending.","code":11000}"#, EcashError::QuotePending),
            (400, r#"{"detail":"Mint quote is not paid yet.","code":11000}"#, EcashError::NotPaid),
            (400, r#"{"detail":"quote not found","code":0}"#, EcashError::QuoteUnknown),
            (400, r#"{"detail":"Unknown quote","code":50000}"#, EcashError::QuoteUnknown),
            (429, r#"{"detail":"Rate limit exceeded."}"#, EcashError::RateLimited),
            (429, "<html>", EcashError::RateLimited),
            (400, r#"{"detail":"x","code":80001}"#, EcashError::LoginNeeded),
            (403, "<html>Forbidden</html>", EcashError::LoginNeeded),
            (502, "<html>Bad gateway</html>", EcashError::NoAnswer("status 502".into())),
            (500, "", EcashError::NoAnswer("status 500".into())),
        ] {
            assert_eq!(read(status, body.as_bytes()), cause, "{status} {body}");
        }
    }

    #[test]
    fn refusals_of_no_known_cause_keep_code_and_a_short_plain_text() {
        let other = |status, body: &[u8]| match read(status, body) {
            EcashError::Mint { code, detail } => (code, detail),
            other => panic!("{other:?}"),
        };
        let said = |code: Option<i64>, detail: &str| (code, detail.to_owned());
        assert_eq!(other(400, br#"{"detail":"no","code":11006}"#), said(Some(11006), "no"));
        assert_eq!(other(400, br#"{"detail":"a\nb\u001b[31m","code":"11006"}"#), said(None, "ab[31m"));
        assert_eq!(
            other(422, br#"{"detail":[{"msg":"field required","input":"my secret"}]}"#),
            said(None, "field required")
        );
        assert_eq!(other(422, b"Failed to deserialize"), said(None, "Failed to deserialize"));
        assert_eq!(other(404, b"\xff\xfe\x00"), said(None, "\u{fffd}\u{fffd}"));
        assert_eq!(other(404, b"{}"), said(None, "status 404"));
        let long = json!({"detail": "é".repeat(5000)}).to_string();
        assert_eq!(other(400, long.as_bytes()).1.chars().count(), MAX_DETAIL);
        assert_eq!(other(400, "é".repeat(5000).as_bytes()).1.chars().count(), MAX_DETAIL / 2);
    }
}
