//! Airtime, bought at Africa's Talking: a form goes out, JSON comes back. `Sent` is not delivered, so what became of it is asked
//! for; a request that was sent twice with the same key is one.

use super::answers::{id_of, told, DarajaRefusal, DarajaReply, Why};
use super::credentials::{read_secret, CredentialError};
use super::payout::PaidOut;
use super::phone::Phone;
use crate::calls::{in_time, request, Connection, Destination, NoAnswer, Tls};
use crate::config::AirtimeConfig;
use crate::form::query_value;
use crate::json::json;
use crate::store::Secret;
use crate::units::Kes;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{HeaderValue, ACCEPT, CONTENT_TYPE};
use hyper::Method;
use serde_json::Value;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 64 * 1024;
const SEND: &str = "/version1/airtime/send";
const FORM: &str = "application/x-www-form-urlencoded";

/// An account at Africa's Talking.
pub struct AirtimeSeller {
    to: Destination,
    username: String,
    key: Secret,
    status_path: String,
}

/// What became of airtime that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AirtimeVerdict {
    Delivered,
    /// It will not be.
    Failed,
    Pending,
    /// It cannot be told from the answer.
    Unclear(String),
}

impl AirtimeSeller {
    /// Reads the file of the key.
    pub fn of(config: &AirtimeConfig, tls: &Tls) -> Result<AirtimeSeller, CredentialError> {
        Ok(AirtimeSeller {
            to: Destination::new(config.base_url.clone(), tls.clone()),
            username: config.username.clone(),
            key: read_secret(&config.key_file)?,
            status_path: config.status_path.clone(),
        })
    }

    /// Sends airtime, or the same request once more. `key`: the same at every try.
    pub async fn send(&self, phone: &Phone, amount: Kes, key: &str) -> PaidOut {
        let to = json!({
            "phoneNumber": format!("+{}", phone.expose()),
            "amount": format!("KES {amount}"),
        });
        let recipients = Value::Array(vec![to]).to_string();
        let form =
            format!("username={}&recipients={}", query_value(&self.username), query_value(&recipients));
        match self.ask(Method::POST, SEND, Some((form, key))).await {
            Ok(reply) => sent(&reply),
            Err(NoAnswer::NotSent(cause)) => {
                log::debug!("airtime: {cause}");
                PaidOut::Refused(DarajaRefusal { why: Why::Away, code: "away".to_owned() })
            }
            Err(NoAnswer::Lost(cause)) => PaidOut::Unknown(cause),
        }
    }

    /// What became of what was sent under this id of theirs.
    pub async fn look(&self, id: &str) -> AirtimeVerdict {
        let path = format!(
            "{}?username={}&transactionId={}",
            self.status_path,
            query_value(&self.username),
            query_value(id)
        );
        match self.ask(Method::GET, &path, None).await {
            Ok(reply) => state(&reply),
            Err(none) => AirtimeVerdict::Unclear(none.cause().to_owned()),
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        form: Option<(String, &str)>,
    ) -> Result<DarajaReply, NoAnswer> {
        let unfit = || NoAnswer::NotSent("credential".to_owned());
        let mut key = HeaderValue::from_bytes(self.key.expose()).map_err(|_| unfit())?;
        key.set_sensitive(true);
        let made = request(self.to.url(), path).method(method).header("apiKey", key);
        let made = made.header(ACCEPT, "application/json");
        let made = match form {
            Some((form, key)) => made
                .header(CONTENT_TYPE, FORM)
                .header("Idempotency-Key", key)
                .body(Full::new(Bytes::from(form.into_bytes()))),
            None => made.body(Full::default()),
        };
        let made = made.map_err(|_| unfit())?;
        let asked = async {
            let mut answer = Connection::over(self.to.open().await?).await?.send(made, MAX_ANSWER).await?;
            let body = answer.all().await?;
            Ok(DarajaReply::new(answer.status, &body))
        };
        in_time(TIMEOUT, asked).await
    }
}

fn sent(reply: &DarajaReply) -> PaidOut {
    let refused = |why, code: &str| PaidOut::Refused(DarajaRefusal { why, code: told(code) });
    match reply.status {
        200..=299 => {}
        401 | 403 => return refused(Why::Credentials, "credentials"),
        429 => return refused(Why::Busy, "busy"),
        400..=499 if reply.status != 408 => return refused(Why::Request, &format!("HTTP{}", reply.status)),
        status => return PaidOut::Unknown(format!("HTTP {status}")),
    }
    let Some(body) = &reply.body else { return PaidOut::Unknown("no answer that can be read".to_owned()) };
    let one = &body["responses"][0];
    let of_one = |name: &str| one[name].as_str().unwrap_or_default().trim().to_owned();
    match reply.text("numSent").as_str() {
        // Success by its status, and nothing was sent.
        "0" => {
            let why = Some(of_one("errorMessage")).filter(|why| !matches!(why.as_str(), "" | "None"));
            refused(Why::Request, &why.unwrap_or_else(|| "none_sent".to_owned()).replace(' ', "_"))
        }
        "1" => {
            let id = id_of(&of_one("requestId")).filter(|id| id != "None");
            PaidOut::Accepted(id.unwrap_or_default())
        }
        _ => PaidOut::Unknown("no answer that can be read".to_owned()),
    }
}

fn state(reply: &DarajaReply) -> AirtimeVerdict {
    let body = match &reply.body {
        Some(body) if reply.status == 200 => body,
        _ => return AirtimeVerdict::Unclear(format!("HTTP {}", reply.status)),
    };
    let status = body["data"]["status"].as_str().unwrap_or_default().to_ascii_lowercase();
    match status.as_str() {
        "success" => AirtimeVerdict::Delivered,
        "failed" => AirtimeVerdict::Failed,
        "pending" | "sent" | "queued" => AirtimeVerdict::Pending,
        _ => AirtimeVerdict::Unclear("no state".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, text: &str) -> PaidOut {
        sent(&DarajaReply::new(status, text.as_bytes()))
    }

    #[test]
    fn none_sent_is_a_failure_whatever_the_status() {
        let none = r#"{"errorMessage":"Insufficient Credit","numSent":0,"responses":[{"errorMessage":"Insufficient Credit"}]}"#;
        for status in [200, 201] {
            let PaidOut::Refused(refused) = of(status, none) else { panic!("{status}") };
            assert_eq!((refused.why, refused.code.as_str()), (Why::Request, "Insufficient_Credit"));
        }
        let text = r#"{"numSent":"0","responses":[]}"#;
        assert!(matches!(of(200, text), PaidOut::Refused(refused) if refused.code == "none_sent"));
    }

    #[test]
    fn what_was_sent_has_an_id_and_what_cannot_be_read_is_not_known() {
        let one =
            r#"{"errorMessage":"None","numSent":1,"responses":[{"status":"Sent","requestId":"ATQid_1"}]}"#;
        assert!(matches!(of(201, one), PaidOut::Accepted(id) if id == "ATQid_1"));
        for (status, text) in
            [(200, "{}"), (200, "<html>"), (502, one), (500, "{}"), (200, "[1]"), (408, "{}")]
        {
            assert!(matches!(of(status, text), PaidOut::Unknown(_)), "{status} {text}");
        }
        assert!(matches!(of(401, "{}"), PaidOut::Refused(refused) if refused.why == Why::Credentials));
        assert!(matches!(of(400, "{}"), PaidOut::Refused(refused) if refused.why == Why::Request));
    }

    #[test]
    fn delivered_is_what_is_said_to_be() {
        let of = |status, text: &str| state(&DarajaReply::new(status, text.as_bytes()));
        let data = |state: &str| format!(r#"{{"status":"Success","data":{{"status":"{state}"}}}}"#);
        assert_eq!(of(200, &data("Success")), AirtimeVerdict::Delivered);
        assert_eq!(of(200, &data("Failed")), AirtimeVerdict::Failed);
        assert_eq!(of(200, &data("Pending")), AirtimeVerdict::Pending);
        for text in [r#"{"status":"Success"}"#, r#"{"status":"Failure","errorMessage":"none"}"#, "[]"] {
            assert!(matches!(of(200, text), AirtimeVerdict::Unclear(_)), "{text}");
        }
        assert!(matches!(of(404, &data("Success")), AirtimeVerdict::Unclear(_)));
    }
}
