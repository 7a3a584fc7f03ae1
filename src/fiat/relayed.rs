//! A relay, as its router asks it: for what Daraja called, and for the token that several routers share. Nothing that
//! it says is believed, except the token, and whether that is one is for Daraja to say.

use super::answers::id_of;
use super::credentials::{read_secret, CredentialError};
use crate::calls::{in_time, request, Connection, Destination, NoAnswer, Tls};
use crate::config::{MpesaConfig, MpesaMode};
use crate::form::query_value;
use crate::store::{RelayPlace, Secret};
use http_body_util::Full;
use hyper::header::{HeaderValue, AUTHORIZATION};
use serde_json::Value;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long the relay waits for news.
const WAIT: u64 = 25;
const TIMEOUT: Duration = Duration::from_secs(40);
const TOKEN_TIMEOUT: Duration = Duration::from_secs(20);
/// A relay gives 256 KiB of bodies at once, or one of 64 KiB, each byte of which may take six in JSON.
const MAX_ANSWER: usize = 2 * 1024 * 1024;
const MAX_TOKEN: usize = 16 * 1024;

pub struct RelayLine {
    to: Destination,
    bearer: HeaderValue,
}

/// What the relay was called with.
pub struct RelayedCall {
    pub token: String,
    pub body: String,
}

/// One answer.
pub struct RelayedCalls {
    pub calls: Vec<RelayedCall>,
    /// Behind which to ask the next time.
    pub next: RelayPlace,
}

impl RelayLine {
    /// `None` in another mode. Reads the file of the key.
    pub fn of(config: &MpesaConfig, tls: &Tls) -> Result<Option<RelayLine>, CredentialError> {
        let (MpesaMode::Relay, Some(url), Some(file)) =
            (config.mode, &config.relay_url, &config.relay_key_file)
        else {
            return Ok(None);
        };
        let key: Secret = read_secret(file)?;
        let mut value = Zeroizing::new(b"Bearer ".to_vec());
        value.extend_from_slice(key.expose());
        let bearer = HeaderValue::from_bytes(&value);
        let mut bearer = bearer.map_err(|_| CredentialError::NoSecret(file.display().to_string()))?;
        bearer.set_sensitive(true);
        Ok(Some(RelayLine { to: Destination::new(url.clone(), tls.clone()), bearer }))
    }

    /// What was called behind this place; a relay with another store begins with its first. Returns when there is something, or
    /// after a while.
    pub async fn calls(&self, after: &RelayPlace) -> Result<RelayedCalls, String> {
        let path = format!("/v1/events?after={}&of={}&wait={WAIT}", after.seq, query_value(&after.id));
        let answer = self.ask(&path, TIMEOUT, MAX_ANSWER).await?;
        read_calls(&answer, after).ok_or_else(|| "its answer cannot be read".to_owned())
    }

    /// The shared token and how many seconds it lives; another one than `dead`.
    pub async fn token(&self, dead: Option<&str>) -> Result<(Zeroizing<String>, u64), String> {
        let path = match dead {
            Some(dead) => Zeroizing::new(format!("/v1/token?dead={}", query_value(dead))),
            None => Zeroizing::new("/v1/token".to_owned()),
        };
        let answer = self.ask(&path, TOKEN_TIMEOUT, MAX_TOKEN).await?;
        let token = answer["access_token"].as_str().unwrap_or_default();
        let is_one = (1..=4096).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
        let odd = || "its answer has no token".to_owned();
        let token = is_one.then(|| Zeroizing::new(token.to_owned())).ok_or_else(odd)?;
        Ok((token, answer["expires_in"].as_u64().unwrap_or(0)))
    }

    async fn ask(&self, path: &str, limit: Duration, most: usize) -> Result<Value, String> {
        let asked = request(self.to.url(), path).header(AUTHORIZATION, self.bearer.clone());
        let asked = asked.body(Full::default()).map_err(|_| "the question cannot be put".to_owned())?;
        let answered = async {
            let mut answer = Connection::over(self.to.open().await?).await?.send(asked, most).await?;
            let body = answer.all().await?;
            Ok((answer.status, body))
        };
        let (status, body) =
            in_time(limit, answered).await.map_err(|none: NoAnswer| none.cause().to_owned())?;
        match status {
            200 => serde_json::from_slice(&body).map_err(|_| "its answer is no JSON".to_owned()),
            status => Err(format!("it answers {status}")),
        }
    }
}

fn read_calls(answer: &Value, after: &RelayPlace) -> Option<RelayedCalls> {
    let text = |event: &Value, name: &str| event[name].as_str().map(str::to_owned);
    let call = |event: &Value| {
        Some(RelayedCall { token: text(event, "token")?, body: text(event, "body").unwrap_or_default() })
    };
    let calls = answer["events"].as_array()?.iter().filter_map(call).collect();
    let next = answer["next"].as_i64()?;
    let id = id_of(&text(answer, "relay").unwrap_or_default()).unwrap_or_default();
    // One with an older copy of its store, or that has no id, counts again: all that it has is asked for.
    let is_older = id == after.id && answer["newest"].as_i64().is_some_and(|newest| newest < after.seq);
    Some(RelayedCalls { calls, next: RelayPlace { id, seq: if is_older { 0 } else { next.max(0) } } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_relay_that_was_made_anew_is_asked_for_all_that_it_has() {
        let place = |id: &str, seq| RelayPlace { id: id.to_owned(), seq };
        let read = |next: i64, newest: Value, after: i64| {
            let answer = json!({"relay": "x", "events": [], "next": next, "newest": newest});
            read_calls(&answer, &place("x", after)).map(|came| came.next.seq)
        };
        assert_eq!(read(100, json!(3), 100), Some(0));
        assert_eq!(read(100, json!(100), 100), Some(100));
        assert_eq!(read(103, json!(200), 100), Some(103));
        assert_eq!(read(-1, Value::Null, 100), Some(0));
        let other = json!({"relay": "y", "events": [], "next": 2, "newest": 2});
        assert_eq!(read_calls(&other, &place("x", 100)).unwrap().next, place("y", 2));
        let odd = json!({"relay": "a b", "events": [], "next": 2, "newest": 2});
        assert_eq!(read_calls(&odd, &place("", 1)).unwrap().next, place("", 2));
        assert!(read_calls(&json!({"next": 1}), &place("", 0)).is_none());
        let answer =
            json!({"events": [{"token": "t", "body": "b"}, {"body": "nobody's"}], "next": 2, "newest": 2});
        let came = read_calls(&answer, &place("", 0)).unwrap();
        assert!(
            matches!(came.calls.as_slice(), [one] if (one.token.as_str(), one.body.as_str()) == ("t", "b"))
        );
    }
}
