//! The mint proxy's messages: what a client may send, what it is answered.
//!
//! Client: `mint_request`, `resume`/`status`, `ack`, `auth`, `subscribe_ticket`, `ping`/`pong`. Server: `invoice_ready`,
//! `tokens_ready`, `error`, `auth_ok`, `ticket_status`, and for requests with `apply` also `payment_received` and
//! `session_granted`.
//! Unknown fields are ignored; a field of the wrong type is `invalid_message`.

use super::error::{Code, ProxyError};
use crate::access::{Access, Session};
use crate::config::MintUrl;
use crate::json::json;
use crate::sale::invoice::{Ask, AskPart, Part, Progress, Request};
use crate::store::{Owner, RequestId, Ticket, TokenForm};
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
    /// A voucher whose changes this socket is told of: its id, and its code or token.
    SubscribeTicket(String, String),
}

fn invalid(message: impl Into<String>) -> ProxyError {
    ProxyError::new(Code::InvalidMessage, message)
}

impl ClientMessage {
    pub fn parse(text: &str) -> Result<ClientMessage, ProxyError> {
        let object = object(text)?;
        match object.get("type").and_then(Value::as_str) {
            Some("mint_request") => ask(&object).map(ClientMessage::MintRequest),
            Some("resume" | "status") => request_id(&object).map(ClientMessage::Status),
            Some("ack") => Ok(ClientMessage::Ack(request_id(&object)?, part(&object)?)),
            Some("ping") => Ok(ClientMessage::Ping),
            Some("pong") => Ok(ClientMessage::Pong),
            Some("auth") => match object.get("ticket").and_then(Value::as_str) {
                Some(ticket) => Ok(ClientMessage::Auth(ticket.to_owned())),
                None => Err(invalid("\"ticket\" is required")),
            },
            Some("subscribe_ticket") => {
                let text = |name: &str| match object.get(name).and_then(Value::as_str) {
                    Some(text) => Ok(text.to_owned()),
                    None => Err(invalid(format!("\"{name}\" is required"))),
                };
                Ok(ClientMessage::SubscribeTicket(text("ticket_id")?, text("claim")?))
            }
            Some(_) => {
                Err(invalid("unknown message type; send mint_request, resume, status, ack, auth or ping"))
            }
            None => Err(invalid("a message needs a \"type\" that is a string")),
        }
    }
}

/// The body of `POST /mint-requests`.
pub fn parse_ask(text: &str) -> Result<Ask, ProxyError> {
    ask(&object(text)?)
}

fn ask(object: &Map<String, Value>) -> Result<Ask, ProxyError> {
    let apply = match object.get("apply") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(apply)) => *apply,
        Some(_) => return Err(invalid("\"apply\" must be true or false")),
    };
    let parts = match object.get("mints") {
        None | Some(Value::Null) => vec![ask_part(object)?],
        Some(Value::Array(list)) if (1..=MAX_PARTS).contains(&list.len()) => list
            .iter()
            .map(|part| match part {
                Value::Object(part) => ask_part(part),
                _ => Err(invalid("each entry of \"mints\" needs mint_url and amount")),
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(invalid("\"mints\" must be a list of 1 to 4 mints")),
    };
    let form = match object.get("format") {
        None | Some(Value::Null) => Some(TokenForm::default()),
        Some(form) => form.as_str().and_then(TokenForm::named),
    };
    let form = form.ok_or_else(|| invalid("\"format\" must be cashuA or cashuB"))?;
    Ok(Ask { parts, apply, form })
}

/// The body of `POST /ticket`: a ticket to go on with, or none to get a new one.
pub fn shown_ticket(text: &str) -> Result<Option<String>, ProxyError> {
    match object(text)?.get("ticket") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(ticket)) => Ok(Some(ticket.clone())),
        Some(_) => Err(invalid("\"ticket\" must be a string")),
    }
}

fn ask_part(object: &Map<String, Value>) -> Result<AskPart, ProxyError> {
    let mint =
        object.get("mint_url").and_then(Value::as_str).ok_or_else(|| invalid("\"mint_url\" is required"))?;
    let mint = MintUrl::parse(mint)
        .map_err(|_| ProxyError::new(Code::InvalidMint, "this is not the URL of a mint"))?;
    let amount = object.get("amount").and_then(Value::as_u64).filter(|amount| *amount > 0);
    let amount = amount
        .filter(|amount| *amount <= i64::MAX.unsigned_abs() / 1000)
        .ok_or_else(|| invalid("\"amount\" must be a whole number of sats above 0"))?;
    Ok(AskPart { mint, amount: Sats(amount) })
}

fn object(text: &str) -> Result<Map<String, Value>, ProxyError> {
    if text.len() > MAX_MESSAGE {
        return Err(invalid("the message is too long"));
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(invalid("not a JSON object")),
    }
}

fn request_id(object: &Map<String, Value>) -> Result<RequestId, ProxyError> {
    let text = object
        .get("request_id")
        .and_then(Value::as_str)
        .ok_or_else(|| invalid("\"request_id\" is required"))?;
    text.parse().map_err(|()| ProxyError::new(Code::RequestNotFound, "no such request"))
}

fn part(object: &Map<String, Value>) -> Result<Option<u32>, ProxyError> {
    match object.get("part") {
        None | Some(Value::Null) => Ok(None),
        Some(part) => match part.as_u64().and_then(|part| u32::try_from(part).ok()) {
            Some(part) => Ok(Some(part)),
            None => Err(invalid("\"part\" must be the number of a part")),
        },
    }
}

/// The current message of each part.
pub fn of_request(request: &Request, access: &Access) -> Vec<Value> {
    request.parts().iter().map(|part| of_part(request, part, &part.progress(), access)).collect()
}

/// The one object that the REST fallback answers: the only part's message, or all of them in a list.
pub fn answer(request: &Request, access: &Access) -> Value {
    let mut messages = of_request(request, access);
    match messages.len() {
        0 => ProxyError::new(Code::MintUnavailable, "the mint gave no invoice; nothing was taken")
            .about(&request.id)
            .to_json(),
        1 => messages.remove(0),
        _ => json!({"type": "parts", "request_id": request.id.as_str(), "parts": messages}),
    }
}

/// What is said of a part that has come as far as `progress`.
pub fn of_part(request: &Request, part: &Part, progress: &Progress, access: &Access) -> Value {
    let id = &request.id;
    let tag = request.is_split().then_some(PartTag { position: part.position, mint: &part.mint });
    match progress {
        Progress::Unpaid => invoice_ready(id, tag, &part.invoice, part.expires_at),
        // Clients that want tokens know only the four messages they always had.
        Progress::Paid if request.owner == Owner::Guest => {
            invoice_ready(id, tag, &part.invoice, part.expires_at)
        }
        Progress::Paid | Progress::Granted { online: false } => payment_received(id, tag),
        Progress::Tokens(token) => tokens_ready(id, tag, token),
        Progress::Granted { online: true } => match access.session(request.mac(), &request.venue) {
            Some(session) => {
                let ticket = access.ticket(request.mac()).filter(|_| part.has_made_ticket());
                session_granted(id, tag, &session, ticket.as_ref())
            }
            None => ProxyError::new(Code::RequestNotFound, "this session is over").about(id).to_json(),
        },
        Progress::Overdue | Progress::Expired => {
            ProxyError::new(Code::InvoiceExpired, "the invoice was not paid in time; ask for a new one")
                .about(id)
                .to_json()
        }
    }
}

/// The mint has the payment of a request and refuses its tokens.
pub fn claim_failed(request: &Request) -> Value {
    let message = "your payment arrived, but the mint does not hand out its tokens; it is asked again and again, keep this request id";
    ProxyError::new(Code::TokenClaimFailed, message).about(&request.id).to_socket()
}

/// Position and mint of a part, in requests over several mints.
struct PartTag<'a> {
    position: u32,
    mint: &'a MintUrl,
}

fn invoice_ready(id: &RequestId, part: Option<PartTag>, invoice: &str, expires_at: UnixSeconds) -> Value {
    tagged(
        json!({"type": "invoice_ready", "request_id": id.as_str(), "invoice": invoice, "expires_at": expires_at.0}),
        part,
    )
}

fn payment_received(id: &RequestId, part: Option<PartTag>) -> Value {
    tagged(json!({"type": "payment_received", "request_id": id.as_str()}), part)
}

fn tokens_ready(id: &RequestId, part: Option<PartTag>, tokens: &str) -> Value {
    tagged(json!({"type": "tokens_ready", "request_id": id.as_str(), "tokens": tokens}), part)
}

/// With the ticket where this grant has made it.
fn session_granted(
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

/// The answer to a request for a new ticket.
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

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_message(text: &str) -> String {
    format!("{:?} {:?}", ClientMessage::parse(text), shown_ticket(text))
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
            form: TokenForm::CashuB,
        };
        assert_eq!(ClientMessage::parse(text), Ok(ClientMessage::MintRequest(ask)));
    }

    #[test]
    fn tokens_are_asked_for_in_either_form() {
        let form = |format: &str| {
            let text = format!(
                r#"{{"type":"mint_request","mint_url":"https://m.example","amount":21,"format":{format}}}"#
            );
            match ClientMessage::parse(&text) {
                Ok(ClientMessage::MintRequest(ask)) => Ok(ask.form),
                other => Err(other.expect_err(&text).code.as_str()),
            }
        };
        assert_eq!(form(r#""cashuA""#), Ok(TokenForm::CashuA));
        assert_eq!((form(r#""cashuB""#), form("null")), (Ok(TokenForm::CashuB), Ok(TokenForm::CashuB)));
        for other in [r#""cashuC""#, r#""""#, r#""CASHUA""#, "3", "true", "[]", "{}"] {
            assert_eq!(form(other), Err("invalid_message"), "{other}");
        }
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
