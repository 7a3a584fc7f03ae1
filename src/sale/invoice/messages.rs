//! The mint proxy's messages: what a client may send, what it is answered.
//!
//! Client: `mint_request`, `resume`/`status`, `ack`, `auth`, `ping`/`pong`. Server: `invoice_ready`,
//! `tokens_ready`, `error`, `auth_ok`, and for requests with `apply` also `payment_received` and `session_granted`.
//! Unknown fields are ignored; a field of the wrong type is `invalid_message`.

use crate::access::Session;
use crate::config::MintUrl;
use crate::json::json;
use crate::store::{RequestId, Ticket};
use crate::units::{Sats, UnixSeconds};
use serde_json::{Map, Value};

/// A message longer than this is refused unread.
pub const MAX_MESSAGE: usize = 16 * 1024;
/// The most mints that one request may be split over.
pub const MAX_PARTS: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    MintRequest(Ask),
    /// `resume` and `status`: the current message of a request again.
    Status(RequestId),
    /// The tokens of a request are safe; of this part only, where one is named.
    Ack(RequestId, Option<u32>),
    Ping,
    Pong,
    /// The session ticket: of this MAC's account, or of one that moves to it.
    Auth(String),
}

/// What a guest asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub parts: Vec<AskPart>,
    /// Spend the tokens straight into this guest's session.
    pub apply: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskPart {
    pub mint: MintUrl,
    pub amount: Sats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    InvalidMint,
    MintUnavailable,
    InvoiceExpired,
    PaymentFailed,
    TokenClaimFailed,
    RequestNotFound,
    InvalidMessage,
    RateLimited,
    InternalError,
    /// Another device uses the caller's address. Clients know it as `internal_error` with a sentence.
    AddressClash,
    /// No ticket was shown where one is needed, or one that is not valid.
    InvalidTicket,
    /// The ticket's account is with a MAC that is still there.
    TicketInUse,
    /// What the ticket stands for is at another venue, and buys no step at this one.
    TooLittle,
    /// Nothing can be sold: the store is damaged (`STORE_CORRUPT`, `STORE_TOO_NEW`, ...). A socket is told
    /// `internal_error` with this code in the sentence.
    Closed(&'static str),
}

/// The one clear error of a refused or failed request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProxyError {
    pub code: Code,
    pub message: String,
    pub request: Option<RequestId>,
}

impl Code {
    pub fn as_str(self) -> &'static str {
        match self {
            Code::InvalidMint => "invalid_mint",
            Code::MintUnavailable => "mint_unavailable",
            Code::InvoiceExpired => "invoice_expired",
            Code::PaymentFailed => "payment_failed",
            Code::TokenClaimFailed => "token_claim_failed",
            Code::RequestNotFound => "request_not_found",
            Code::InvalidMessage => "invalid_message",
            Code::RateLimited => "rate_limited",
            Code::InternalError | Code::AddressClash => "internal_error",
            Code::InvalidTicket => "invalid_ticket",
            Code::TicketInUse => "ticket_in_use",
            Code::TooLittle => "too_little_left",
            Code::Closed(code) => code,
        }
    }
}

impl ProxyError {
    pub fn new(code: Code, message: impl Into<String>) -> ProxyError {
        ProxyError { code, message: message.into(), request: None }
    }

    pub fn about(self, request: &RequestId) -> ProxyError {
        ProxyError { request: Some(request.clone()), ..self }
    }

    fn invalid(message: impl Into<String>) -> ProxyError {
        ProxyError::new(Code::InvalidMessage, message)
    }

    /// As a socket's `error` message.
    pub fn to_socket(&self) -> Value {
        match self.code {
            Code::Closed(code) => {
                let message = format!("{} ({code})", self.message);
                ProxyError { code: Code::InternalError, message, request: self.request.clone() }.to_json()
            }
            _ => self.to_json(),
        }
    }

    /// As the body of the REST fallback's answer.
    pub fn to_json(&self) -> Value {
        let mut object = json!({"type": "error", "code": self.code.as_str(), "message": self.message});
        if let (Some(id), Some(map)) = (&self.request, object.as_object_mut()) {
            map.insert("request_id".into(), id.as_str().into());
        }
        object
    }
}

impl ClientMessage {
    pub fn parse(text: &str) -> Result<ClientMessage, ProxyError> {
        let object = object(text)?;
        match object.get("type").and_then(Value::as_str) {
            Some("mint_request") => Ask::from_object(&object).map(ClientMessage::MintRequest),
            Some("resume" | "status") => request_id(&object).map(ClientMessage::Status),
            Some("ack") => Ok(ClientMessage::Ack(request_id(&object)?, part(&object)?)),
            Some("ping") => Ok(ClientMessage::Ping),
            Some("pong") => Ok(ClientMessage::Pong),
            Some("auth") => match object.get("ticket").and_then(Value::as_str) {
                Some(ticket) => Ok(ClientMessage::Auth(ticket.to_owned())),
                None => Err(ProxyError::invalid("\"ticket\" is required")),
            },
            Some(_) => Err(ProxyError::invalid(
                "unknown message type; send mint_request, resume, status, ack, auth or ping",
            )),
            None => Err(ProxyError::invalid("a message needs a \"type\" that is a string")),
        }
    }
}

impl Ask {
    /// The body of `POST /mint-requests`.
    pub fn parse(text: &str) -> Result<Ask, ProxyError> {
        Ask::from_object(&object(text)?)
    }

    fn from_object(object: &Map<String, Value>) -> Result<Ask, ProxyError> {
        let apply = match object.get("apply") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(apply)) => *apply,
            Some(_) => return Err(ProxyError::invalid("\"apply\" must be true or false")),
        };
        let parts = match object.get("mints") {
            None | Some(Value::Null) => vec![AskPart::from_object(object)?],
            Some(Value::Array(list)) if (1..=MAX_PARTS).contains(&list.len()) => list
                .iter()
                .map(|part| match part {
                    Value::Object(part) => AskPart::from_object(part),
                    _ => Err(ProxyError::invalid("each entry of \"mints\" needs mint_url and amount")),
                })
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(ProxyError::invalid("\"mints\" must be a list of 1 to 4 mints")),
        };
        Ok(Ask { parts, apply })
    }
}

/// The body of `POST /ticket`: a ticket to go on with, or none to get a new one.
pub fn shown_ticket(text: &str) -> Result<Option<String>, ProxyError> {
    match object(text)?.get("ticket") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(ticket)) => Ok(Some(ticket.clone())),
        Some(_) => Err(ProxyError::invalid("\"ticket\" must be a string")),
    }
}

impl AskPart {
    fn from_object(object: &Map<String, Value>) -> Result<AskPart, ProxyError> {
        let mint = object
            .get("mint_url")
            .and_then(Value::as_str)
            .ok_or_else(|| ProxyError::invalid("\"mint_url\" is required"))?;
        let mint = MintUrl::parse(mint)
            .map_err(|_| ProxyError::new(Code::InvalidMint, "this is not the URL of a mint"))?;
        let amount = object.get("amount").and_then(Value::as_u64).filter(|amount| *amount > 0);
        let amount = amount
            .filter(|amount| *amount <= i64::MAX.unsigned_abs() / 1000)
            .ok_or_else(|| ProxyError::invalid("\"amount\" must be a whole number of sats above 0"))?;
        Ok(AskPart { mint, amount: Sats(amount) })
    }
}

fn object(text: &str) -> Result<Map<String, Value>, ProxyError> {
    if text.len() > MAX_MESSAGE {
        return Err(ProxyError::invalid("the message is too long"));
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(ProxyError::invalid("not a JSON object")),
    }
}

fn request_id(object: &Map<String, Value>) -> Result<RequestId, ProxyError> {
    let text = object
        .get("request_id")
        .and_then(Value::as_str)
        .ok_or_else(|| ProxyError::invalid("\"request_id\" is required"))?;
    text.parse().map_err(|()| ProxyError::new(Code::RequestNotFound, "no such request"))
}

fn part(object: &Map<String, Value>) -> Result<Option<u32>, ProxyError> {
    match object.get("part") {
        None | Some(Value::Null) => Ok(None),
        Some(part) => match part.as_u64().and_then(|part| u32::try_from(part).ok()) {
            Some(part) => Ok(Some(part)),
            None => Err(ProxyError::invalid("\"part\" must be the number of a part")),
        },
    }
}

/// Position and mint of a part, in requests over several mints.
pub struct PartTag<'a> {
    pub position: u32,
    pub mint: &'a MintUrl,
}

pub fn invoice_ready(id: &RequestId, part: Option<PartTag>, invoice: &str, expires_at: UnixSeconds) -> Value {
    tagged(
        json!({"type": "invoice_ready", "request_id": id.as_str(), "invoice": invoice, "expires_at": expires_at.0}),
        part,
    )
}

pub fn payment_received(id: &RequestId, part: Option<PartTag>) -> Value {
    tagged(json!({"type": "payment_received", "request_id": id.as_str()}), part)
}

pub fn tokens_ready(id: &RequestId, part: Option<PartTag>, tokens: &str) -> Value {
    tagged(json!({"type": "tokens_ready", "request_id": id.as_str(), "tokens": tokens}), part)
}

/// With the ticket where this grant has made it.
pub fn session_granted(
    id: &RequestId,
    part: Option<PartTag>,
    session: &Session,
    ticket: Option<&Ticket>,
) -> Value {
    let mut message = with_session(json!({"type": "session_granted", "request_id": id.as_str()}), session);
    if let (Some(ticket), Some(map)) = (ticket, message.as_object_mut()) {
        map.insert("ticket".into(), ticket.to_string().into());
    }
    tagged(message, part)
}

/// The message for a page that may not see the guest's ticket.
pub fn without_ticket(mut message: Value) -> Value {
    if let Some(map) = message.as_object_mut() {
        map.remove("ticket");
        if let Some(Value::Array(parts)) = map.get_mut("parts") {
            parts.iter_mut().for_each(|part| *part = without_ticket(part.take()));
        }
    }
    message
}

/// The answer to who has asked for a new ticket.
pub fn new_ticket(ticket: &Ticket) -> Value {
    json!({"type": "ticket", "ticket": ticket.to_string()})
}

/// The answer to a right ticket.
pub fn auth_ok(session: Option<&Session>) -> Value {
    let message = json!({"type": "auth_ok"});
    match session {
        Some(session) => with_session(message, session),
        None => message,
    }
}

fn with_session(mut message: Value, session: &Session) -> Value {
    if let Some(map) = message.as_object_mut() {
        map.insert("allotment".into(), session.allotment.0.into());
        map.insert("metric".into(), session.metric.as_str().into());
        map.insert("remaining".into(), session.remaining.0.into());
        // A session by bytes has no end that could be told.
        if let Some(ends_at) = session.ends_at {
            map.insert("ends_at".into(), ends_at.0.into());
        }
    }
    message
}

fn tagged(mut message: Value, part: Option<PartTag>) -> Value {
    if let (Some(part), Some(map)) = (part, message.as_object_mut()) {
        map.insert("part".into(), part.position.into());
        map.insert("mint_url".into(), part.mint.as_str().into());
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(text: &str) -> &'static str {
        ClientMessage::parse(text).expect_err(text).code.as_str()
    }

    #[test]
    fn the_message_of_existing_clients_is_understood() {
        let text = r#"{"type":"mint_request","mint_url":"https://Mint.example/","amount":21}"#;
        let ask = Ask {
            parts: vec![AskPart { mint: MintUrl::parse("https://mint.example").unwrap(), amount: Sats(21) }],
            apply: false,
        };
        assert_eq!(ClientMessage::parse(text), Ok(ClientMessage::MintRequest(ask)));
    }

    #[test]
    fn several_mints_make_one_request() {
        let text = r#"{"type":"mint_request","apply":true,"mints":[{"mint_url":"https://a.example","amount":1},{"mint_url":"https://b.example","amount":2}]}"#;
        let Ok(ClientMessage::MintRequest(ask)) = ClientMessage::parse(text) else { panic!() };
        assert!(ask.apply);
        assert_eq!(ask.parts.iter().map(|p| p.amount.0).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_ticket_is_taken_out_wherever_it_is() {
        let granted = |ticket: bool| {
            let mut message = json!({"type": "session_granted", "remaining": 5});
            if let (true, Some(map)) = (ticket, message.as_object_mut()) {
                map.insert("ticket".into(), "abcd".into());
            }
            message
        };
        assert_eq!(without_ticket(granted(true)), granted(false));
        let parts = |ticket| json!({"type": "parts", "parts": [granted(ticket), granted(false)]});
        assert_eq!(without_ticket(parts(true)), parts(false));
    }

    #[test]
    fn malformed_messages_are_invalid_message() {
        for text in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"type":1}"#,
            r#"{"type":"mint"}"#,
            r#"{"type":"mint_request"}"#,
            r#"{"type":"mint_request","mint_url":7,"amount":1}"#,
            r#"{"type":"ack"}"#,
            r#"{"type":"mint_request","mint_url":"https://a.example","amount":1,"apply":"yes"}"#,
            r#"{"type":"mint_request","mints":[]}"#,
            r#"{"type":"mint_request","mints":[1,2,3,4,5]}"#,
            r#"{"type":"mint_request","mints":["https://a.example"]}"#,
        ] {
            assert_eq!(code_of(text), "invalid_message", "{text}");
        }
        let deep = format!("{}{}", "[".repeat(9000), "]".repeat(7000));
        assert_eq!(code_of(&deep), "invalid_message");
    }

    #[test]
    fn amounts_must_be_positive_whole_numbers() {
        for amount in
            ["0", "-1", "1.5", "1e3", "\"1\"", "null", "18446744073709551616", "9223372036854775807"]
        {
            let text =
                format!(r#"{{"type":"mint_request","mint_url":"https://a.example","amount":{amount}}}"#);
            assert_eq!(code_of(&text), "invalid_message", "{amount}");
        }
    }

    #[test]
    fn a_malformed_request_id_is_not_found() {
        assert_eq!(code_of(r#"{"type":"status","request_id":"x"}"#), "request_not_found");
    }

    #[test]
    fn a_url_that_is_none_is_invalid_mint() {
        assert_eq!(code_of(r#"{"type":"mint_request","mint_url":"ftp://x","amount":1}"#), "invalid_mint");
    }
}
