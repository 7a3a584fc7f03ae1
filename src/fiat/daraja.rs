//! The calls to Daraja, each on a connection of its own: what may have been carried out is never sent twice by itself.
//!
//! One OAuth token is kept as long as it lives. Another router with the same consumer key kills it by asking for its own; a
//! request that was refused for that was not carried out, and goes again with a new one.

use super::answers::{id_of, told, DarajaRefusal, DarajaReply, PromptVerdict, Why};
use super::credentials::{read_secret, CredentialError};
use super::phone::Phone;
use super::pull::{rows, PulledRow};
use super::relayed::RelayLine;
use super::stamp::{password, timestamp};
use crate::calls::{in_time, request, CallRequest, Connection, Destination, NoAnswer, Tls};
use crate::config::{DarajaAccount, MpesaConfig};
use crate::form::query_value;
use crate::json::json;
use crate::store::Secret;
use crate::units::{Kes, Millis, UnixSeconds};
use base64::prelude::{Engine, BASE64_STANDARD};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{HeaderValue, AUTHORIZATION, CONTENT_TYPE};
use hyper::Method;
use serde_json::Value;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 256 * 1024;
/// How long before its end a token is renewed.
const BEFORE_END: Duration = Duration::from_secs(60);
/// Tokens that are tried for one request.
const TOKENS: usize = 3;
/// Between two calls, whatever they are for: Daraja counts those of a consumer key together.
pub const BUCKET: Millis = Millis::from_secs(1);

const TOKEN: &str = "/oauth/v1/generate?grant_type=client_credentials";
const PUSH: &str = "/mpesa/stkpush/v1/processrequest";
const QUERY: &str = "/mpesa/stkpushquery/v1/query";
const PULL: &str = "/pulltransactions/v1/query";
const PULL_REGISTER: &str = "/pulltransactions/v1/register";

/// What one prompt asks for.
pub struct Prompt<'a> {
    pub phone: &'a Phone,
    pub amount: Kes,
    /// At most 12 characters.
    pub reference: &'a str,
    pub callback_url: &'a str,
}

/// What became of a prompt.
#[derive(Debug)]
pub enum Pushed {
    /// By this CheckoutRequestID it is asked about.
    Accepted(String),
    /// Certainly not sent to the phone.
    Refused(DarajaRefusal),
    /// The phone may have it.
    Unknown(String),
}

/// A short code at Daraja, as the configuration of this moment and the files that it names say.
pub struct Daraja {
    to: Destination,
    basic: Secret,
    shortcode: String,
    party: String,
    kind: &'static str,
    passkey: Secret,
    utc_offset: i32,
    /// Who holds the token, where it is shared.
    relay: Option<RelayLine>,
    token: tokio::sync::Mutex<Option<Token>>,
    between: Duration,
    /// Before this nothing is asked.
    next: Mutex<Instant>,
}

#[derive(Clone)]
struct Token {
    text: Zeroizing<String>,
    ends: Instant,
}

/// The OAuth token of an account and how many seconds it lives, as it is asked for; it kills the one before.
pub async fn fresh_token(
    to: &Destination,
    basic: &Secret,
) -> Result<(Zeroizing<String>, u64), DarajaRefusal> {
    let mut value = Zeroizing::new(String::from("Basic "));
    value.push_str(std::str::from_utf8(basic.expose()).unwrap_or_default());
    let away = |_: NoAnswer| DarajaRefusal { why: Why::Away, code: "no_token".to_owned() };
    let reply = ask(to, Method::GET, TOKEN, &value, None).await.map_err(away)?;
    let token = reply.text("access_token");
    let is_one = (1..=4096).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    if reply.status == 200 && is_one {
        let life = reply.text("expires_in");
        let life = life.split('.').next().and_then(|life| life.parse().ok()).unwrap_or(0);
        return Ok((Zeroizing::new(token), life));
    }
    let refused = reply.refused();
    Err(match (reply.status, refused) {
        (_, Some(refused)) if matches!(refused.why, Why::Busy) => refused,
        (400 | 401 | 403, refused) => {
            let code = refused.map_or("no_token".to_owned(), |refused| refused.code);
            DarajaRefusal { why: Why::Credentials, code }
        }
        _ => DarajaRefusal { why: Why::Away, code: "no_token".to_owned() },
    })
}

/// How an account names itself: `base64(key:secret)`.
pub fn basic_of(account: &DarajaAccount) -> Result<Secret, CredentialError> {
    let (key, secret) = (read_secret(&account.key_file)?, read_secret(&account.secret_file)?);
    let plain = Zeroizing::new([key.expose(), b":", secret.expose()].concat());
    Ok(Secret::new(BASE64_STANDARD.encode(&*plain).into_bytes()))
}

impl Daraja {
    /// Reads the files of the credentials.
    pub fn new(config: &MpesaConfig, tls: &Tls) -> Result<Daraja, CredentialError> {
        let till = config.till.as_ref();
        Ok(Daraja {
            to: Destination::new(config.account.base_url.clone(), tls.clone()),
            basic: basic_of(&config.account)?,
            shortcode: config.shortcode.clone(),
            party: till.unwrap_or(&config.shortcode).clone(),
            kind: if till.is_some() { "CustomerBuyGoodsOnline" } else { "CustomerPayBillOnline" },
            passkey: read_secret(&config.passkey_file)?,
            utc_offset: config.utc_offset,
            relay: RelayLine::of(config, tls)?,
            token: tokio::sync::Mutex::default(),
            between: Millis(BUCKET.0.checked_div(config.account.pace).unwrap_or(BUCKET.0)).as_duration(),
            next: Mutex::new(Instant::now()),
        })
    }

    /// Sends a prompt to a phone: once.
    pub async fn push(&self, prompt: &Prompt<'_>, wall: UnixSeconds) -> Pushed {
        let stamp = timestamp(wall, self.utc_offset);
        let phone = prompt.phone.expose();
        let body = json!({
            "BusinessShortCode": self.shortcode,
            "Password": password(&self.shortcode, &self.passkey, &stamp).as_str(),
            "Timestamp": stamp,
            "TransactionType": self.kind,
            "Amount": prompt.amount.0,
            "PartyA": phone,
            "PartyB": self.party,
            "PhoneNumber": phone,
            "CallBackURL": prompt.callback_url,
            "AccountReference": prompt.reference,
            "TransactionDesc": "wifi",
        });
        let reply = match self.call(Method::POST, PUSH, &body).await {
            Ok(reply) => reply,
            Err(Failure::Refused(refused)) => return Pushed::Refused(refused),
            Err(Failure::Lost(cause)) => return Pushed::Unknown(cause),
        };
        let checkout = id_of(&reply.text("CheckoutRequestID"));
        match (reply.status, reply.text("ResponseCode").as_str(), checkout) {
            (200, "0", Some(checkout)) => Pushed::Accepted(checkout),
            (200, code, _) if !code.is_empty() && code != "0" => {
                Pushed::Refused(DarajaRefusal { why: Why::Request, code: told(code) })
            }
            (status, ..) => match reply.refused() {
                Some(refused) => Pushed::Refused(refused),
                None => Pushed::Unknown(format!("HTTP {status}, and no answer that can be read")),
            },
        }
    }

    /// What became of a prompt, as far as Daraja knows now.
    pub async fn query(&self, checkout: &str, wall: UnixSeconds) -> PromptVerdict {
        let stamp = timestamp(wall, self.utc_offset);
        let body = json!({
            "BusinessShortCode": self.shortcode,
            "Password": password(&self.shortcode, &self.passkey, &stamp).as_str(),
            "Timestamp": stamp,
            "CheckoutRequestID": checkout,
        });
        match self.call(Method::POST, QUERY, &body).await {
            Ok(reply) => reply.verdict(checkout),
            Err(Failure::Refused(DarajaRefusal { why: Why::Busy, .. })) => PromptVerdict::Busy,
            Err(failure) => PromptVerdict::Unclear(failure.told()),
        }
    }

    /// The payments of the last two days, from the `skip`-th on.
    pub async fn payments(&self, skip: usize, wall: UnixSeconds) -> Result<Vec<PulledRow>, String> {
        let day = |wall: u64| {
            let text = timestamp(UnixSeconds(wall), self.utc_offset);
            let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default().to_owned();
            let date = format!("{}-{}-{}", part(0, 4), part(4, 6), part(6, 8));
            format!("{date} {}:{}:{}", part(8, 10), part(10, 12), part(12, 14))
        };
        let (since, until) = (day(wall.0.saturating_sub(2 * 86_400)), day(wall.0.saturating_add(60)));
        let skip = skip.to_string();
        let fields = [
            ("ShortCode", &self.shortcode),
            ("StartDate", &since),
            ("EndDate", &until),
            ("OffSetValue", &skip),
        ];
        // Its page describes a GET with a body; a query is what many servers look at.
        let query: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", query_value(value))).collect();
        let body =
            json!({"ShortCode": self.shortcode, "StartDate": since, "EndDate": until, "OffSetValue": skip});
        match self.call(Method::GET, &format!("{PULL}?{}", query.join("&")), &body).await {
            Ok(reply) if reply.status == 200 => Ok(rows(&reply)),
            Ok(reply) => Err(format!("HTTP {} {}", reply.status, told(&reply.text("errorCode")))),
            Err(failure) => Err(failure.told()),
        }
    }

    /// Has the list of payments kept for the short code. One that is registered already stays so.
    pub async fn register_list(&self, number: &str, callback_url: &str) -> Result<(), String> {
        let body = json!({
            "ShortCode": self.shortcode,
            "RequestType": "Pull",
            "NominatedNumber": number,
            "CallBackURL": callback_url,
        });
        match self.call(Method::POST, PULL_REGISTER, &body).await {
            Ok(reply) => match (reply.status, reply.text("ResponseStatus").as_str()) {
                (200, "1000" | "1001") => Ok(()),
                (status, code) => Err(format!("HTTP {status} {}", told(code))),
            },
            Err(failure) => Err(failure.told()),
        }
    }

    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<DarajaReply, Failure> {
        let mut dead = None;
        for _ in 0..TOKENS {
            let token = self.token(dead.take()).await.map_err(Failure::Refused)?;
            let mut value = Zeroizing::new(String::from("Bearer "));
            value.push_str(&token);
            let sent = Zeroizing::new(body.to_string());
            self.turn().await;
            let reply = ask(&self.to, method.clone(), path, &value, Some(sent.as_bytes())).await;
            match reply.map_err(Failure::from)? {
                // The request was refused before it was carried out.
                reply if reply.is_dead_token() => dead = Some(token),
                reply => return Ok(reply),
            }
        }
        Err(Failure::Refused(DarajaRefusal { why: Why::Busy, code: "token".to_owned() }))
    }

    /// Returns when the next call may be made. Who comes at once waits one behind the other.
    async fn turn(&self) {
        let at = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let at = (*next).max(Instant::now());
            *next = at + self.between;
            at
        };
        tokio::time::sleep_until(at.into()).await;
    }

    /// The token, unless it is the dead one.
    async fn token(&self, dead: Option<Zeroizing<String>>) -> Result<Zeroizing<String>, DarajaRefusal> {
        let mut kept = self.token.lock().await;
        let is_good = |token: &&Token| dead.as_ref() != Some(&token.text) && Instant::now() < token.ends;
        if let Some(token) = kept.as_ref().filter(is_good) {
            return Ok(token.text.clone());
        }
        *kept = None;
        let shared = match &self.relay {
            Some(relay) => relay.token(dead.as_ref().map(|dead| dead.as_str())).await.ok(),
            None => None,
        };
        // If the relay is away, the router fetches a token itself, and the others have to fetch theirs anew.
        let (text, life) = match shared {
            Some(shared) => shared,
            None => {
                self.turn().await;
                fresh_token(&self.to, &self.basic).await?
            }
        };
        let life = Duration::from_secs(life.min(86_400));
        let ends = Instant::now() + life.checked_sub(BEFORE_END).unwrap_or(life / 2);
        *kept = Some(Token { text: text.clone(), ends });
        Ok(text)
    }
}

pub(super) enum Failure {
    /// Certainly not carried out.
    Refused(DarajaRefusal),
    Lost(String),
}

impl Failure {
    /// Where it makes no difference which of them it is.
    fn told(self) -> String {
        match self {
            Failure::Refused(refused) => refused.code,
            Failure::Lost(cause) => cause,
        }
    }
}

impl From<NoAnswer> for Failure {
    fn from(none: NoAnswer) -> Failure {
        match none {
            NoAnswer::NotSent(cause) => {
                log::debug!("daraja: {cause}");
                Failure::Refused(DarajaRefusal { why: Why::Away, code: "away".to_owned() })
            }
            NoAnswer::Lost(cause) => Failure::Lost(cause),
        }
    }
}

async fn ask(
    to: &Destination,
    method: Method,
    path: &str,
    credential: &str,
    body: Option<&[u8]>,
) -> Result<DarajaReply, NoAnswer> {
    let made =
        made(to, method, path, credential, body).ok_or_else(|| NoAnswer::NotSent("credential".to_owned()))?;
    let asked = async {
        let mut answer = Connection::over(to.open().await?).await?.send(made, MAX_ANSWER).await?;
        let body = answer.all().await?;
        Ok(DarajaReply::new(answer.status, &body))
    };
    in_time(TIMEOUT, asked).await
}

fn made(
    to: &Destination,
    method: Method,
    path: &str,
    credential: &str,
    body: Option<&[u8]>,
) -> Option<CallRequest> {
    let mut value = HeaderValue::from_str(credential).ok()?;
    value.set_sensitive(true);
    let request = request(to.url(), path).method(method).header(AUTHORIZATION, value);
    let request = match body {
        Some(body) => {
            request.header(CONTENT_TYPE, "application/json").body(Full::new(Bytes::copy_from_slice(body)))
        }
        None => request.body(Full::default()),
    };
    request.ok()
}
