//! `/ln-invoice`: access for a Lightning payment, for clients that poll. A quote is a request of the mint proxy with
//! `apply`, so it is kept, watched and granted there, whether or not the client polls.

use super::{Client, Reply, TollGate};
use crate::config::MintUrl;
use crate::json::json;
use crate::sale::invoice::{Ask, AskPart, Part, Progress, Request};
use crate::sale::SaleError;
use crate::store::{Owner, RequestId};
use crate::units::Sats;
use serde_json::Value;
use std::sync::Arc;

/// How long (seconds) until one of several waiting invoices counts no more.
const RETRY_AFTER_SECS: u64 = 60;

const NOT_CREATED: &str = "failed to create lightning invoice";
const NOT_FETCHED: &str = "failed to fetch invoice status";
const NO_MAC: &str = "failed to resolve device MAC address";

impl TollGate {
    /// `POST`: asks the mint for an invoice; the same again while it is unpaid. An invoice that comes after the
    /// client stopped waiting is found by asking for the same again.
    pub async fn new_invoice(&self, client: &Client<'_>, body: &str) -> Reply {
        let (mint, amount) = match asked(body) {
            Ok(asked) => asked,
            Err(error) => return refused_invoice(400, error),
        };
        let Some(caller) = client.caller else { return refused_invoice(400, NO_MAC) };
        let Ok(mint) = MintUrl::parse(&mint) else { return refused_invoice(400, NOT_CREATED) };
        let ask = Ask::for_access(AskPart { mint, amount });
        match self.0.invoices.open(caller, client.venue, ask).await {
            Ok(opened) => match only_part(&opened.request) {
                Some(part) => created(&opened.request, part),
                None => refused_invoice(400, NOT_CREATED),
            },
            Err(SaleError::TooMany(_)) => {
                Reply { retry_after: Some(RETRY_AFTER_SECS), ..refused_invoice(429, NOT_CREATED) }
            }
            Err(_) => refused_invoice(400, NOT_CREATED),
        }
    }

    /// `GET ?quote=`: how far a quote of this client has come. Another's is as unknown as one that never was.
    pub async fn invoice_status(&self, client: &Client<'_>, quote: Option<&str>) -> Reply {
        let Some(quote) = quote.map(str::trim).filter(|quote| !quote.is_empty()) else {
            return refused_invoice(400, "quote is required");
        };
        let Some(mac) = client.mac else { return refused_invoice(400, NO_MAC) };
        let Ok(id) = quote.parse::<RequestId>() else { return refused_invoice(404, NOT_FETCHED) };
        match self.0.invoices.status_asked(mac, &id).await {
            Ok(request) => match only_part(&request) {
                Some(part) => Reply::value(200, &status(&request, part, client.venue.metric.as_str())),
                None => refused_invoice(404, NOT_FETCHED),
            },
            Err(
                SaleError::NoSuchRequest | SaleError::MintAway | SaleError::MintBusy | SaleError::MintSilent,
            ) => refused_invoice(404, NOT_FETCHED),
            Err(SaleError::TooMany(_)) => {
                Reply { retry_after: Some(RETRY_AFTER_SECS), ..refused_invoice(429, NOT_FETCHED) }
            }
            Err(_) => refused_invoice(500, NOT_FETCHED),
        }
    }
}

/// Any refusal, in the shape of the answer that it stands for.
pub fn refused_invoice(status: u16, error: &str) -> Reply {
    let body = json!({
        "status": 0, "quote": "", "mint_url": "", "amount": 0, "state": "", "access_granted": false,
        "error": error,
    });
    Reply::value(status, &body)
}

/// The answer to any request while nothing can be sold.
pub fn closed_invoice(is_post: bool) -> Reply {
    if is_post {
        refused_invoice(400, NOT_CREATED)
    } else {
        refused_invoice(500, NOT_FETCHED)
    }
}

/// The mint and the amount that a body asks for, as the reference reads it: what is missing is zero or empty.
fn asked(body: &str) -> Result<(String, Sats), &'static str> {
    const UNREADABLE: &str = "invalid request body";
    let body: Value = serde_json::from_str(body).map_err(|_| UNREADABLE)?;
    let fields = body.as_object().ok_or(UNREADABLE)?;
    let text = |name| match fields.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.trim()),
        Some(_) => Err(UNREADABLE),
    };
    let amount = match fields.get("amount") {
        None | Some(Value::Null) => 0,
        Some(amount) => amount.as_u64().ok_or(UNREADABLE)?,
    };
    let mint = [text("mint_url")?, text("mint")?].into_iter().find(|mint| !mint.is_empty());
    match mint {
        Some(mint) if amount > 0 => Ok((mint.to_owned(), Sats(amount))),
        _ => Err("amount and mint_url are required"),
    }
}

/// Quotes are requests that become access and have one invoice; others belong to other interfaces.
fn only_part(request: &Arc<Request>) -> Option<&Part> {
    match request.parts() {
        [part] if request.owner == Owner::House => Some(part),
        _ => None,
    }
}

fn created(request: &Request, part: &Part) -> Reply {
    let body = json!({
        "status": 1,
        "quote": request.id.as_str(),
        "invoice": part.invoice,
        "mint_url": part.mint.as_str(),
        "amount": part.amount.0,
        "expiry": part.expires_at.0,
        "state": state(&part.progress()),
        "access_granted": false,
    });
    Reply::value(200, &body)
}

fn status(request: &Request, part: &Part, metric: &str) -> Value {
    let progress = part.progress();
    let mut body = json!({
        "status": 1,
        "quote": request.id.as_str(),
        "mint_url": part.mint.as_str(),
        "amount": part.amount.0,
        "state": state(&progress),
        "access_granted": progress == Progress::Granted { online: true },
        "metric": metric,
    });
    if let (Progress::Granted { online: true }, Some(fields)) = (progress, body.as_object_mut()) {
        fields.insert("allotment".to_owned(), part.allotment.0.into());
    }
    body
}

/// In the mints' words (NUT-04). What has expired was never paid.
pub fn state(progress: &Progress) -> &'static str {
    match progress {
        Progress::Unpaid | Progress::Overdue | Progress::Expired => "UNPAID",
        Progress::Paid => "PAID",
        Progress::Tokens(_) | Progress::Granted { .. } => "ISSUED",
    }
}

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_ask(body: &str) -> String {
    format!("{:?}", asked(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_as_the_reference_reads_it() {
        let good = Ok(("https://mint.example".to_owned(), Sats(21)));
        assert_eq!(asked(r#"{"amount":21,"mint_url":"https://mint.example"}"#), good);
        assert_eq!(asked(r#"{"amount":21,"mint":" https://mint.example ","x":[1]}"#), good);
        assert_eq!(asked(r#"{"amount":21,"mint_url":"","mint":"https://mint.example"}"#), good);
        for body in [
            "",
            "null",
            "[]",
            "x",
            r#"{"amount":"21"}"#,
            r#"{"amount":-1}"#,
            r#"{"amount":1.5}"#,
            r#"{"mint":1}"#,
        ] {
            assert_eq!(asked(body), Err("invalid request body"), "{body}");
        }
        for body in [
            "{}",
            r#"{"amount":1}"#,
            r#"{"amount":0,"mint":"x"}"#,
            r#"{"mint":"x"}"#,
            r#"{"amount":1,"mint":" "}"#,
        ] {
            assert_eq!(asked(body), Err("amount and mint_url are required"), "{body}");
        }
    }

    #[test]
    fn a_refusal_has_every_field_of_the_answer_it_stands_for() {
        let expected =
            "{\"access_granted\":false,\"amount\":0,\"error\":\"quote is required\",\"mint_url\":\"\",\
                        \"quote\":\"\",\"state\":\"\",\"status\":0}\n";
        let Reply { status, body: super::super::ReplyBody::Json(body), .. } =
            refused_invoice(400, "quote is required")
        else {
            panic!()
        };
        assert_eq!((status, body.as_str()), (400, expected));
    }
}
