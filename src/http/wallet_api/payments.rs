//! Payments from a balance that an app knows by ids of its own. What is asked again under an id is never
//! paid again, and is answered with what became of it; an id that comes with something else is refused.

use super::super::sent::Sent;
use super::super::Edge;
use super::asked::{body, either};
use super::balances::{balances, refused};
use super::holder::{must_be_fresh, AccountHolder};
use super::told::{invalid, refusal, ApiTold};
use crate::bolt11::Invoice;
use crate::json::json;
use crate::pasted;
use crate::sale::balance::{PaidInvoice, PaidState};
use crate::units::Sats;
use hyper::StatusCode;
use serde_json::Value;

const LONGEST_ID: usize = 128;
const LONGEST_TEXT: usize = 1024;

/// `POST /api/payments/process` of `{"payment_id","invoice"[,"amount_sats","wallet_id","description"]}`.
pub(super) async fn process(edge: &Edge, holder: &AccountHolder, sent: Sent) -> ApiTold {
    let fields = body(sent).await?;
    let text = |name, other| match either(&fields, name, other) {
        Value::Null => Ok(""),
        Value::String(text) if text.len() <= LONGEST_TEXT => Ok(text.as_str()),
        _ => Err(invalid(&format!("{name} is a text of at most {LONGEST_TEXT} bytes"))),
    };
    let id = either(&fields, "payment_id", "paymentId").as_str().filter(|id| is_id(id));
    let id = id.ok_or_else(|| {
        invalid(&format!("payment_id is 1 to {LONGEST_ID} letters, digits, '-', '_', '.', '~' or ':'"))
    })?;
    let (wallet, description) = (text("wallet_id", "walletId")?, text("description", "description")?);
    let invoice = either(&fields, "invoice", "lightningInvoice");
    let invoice = pasted::one(invoice.as_str().ok_or_else(|| invalid("invoice is a text"))?).to_lowercase();
    let asked = Invoice::parse(&invoice).ok().and_then(|invoice| invoice.amount());
    let asked = Sats(asked.map_or(0, |amount| amount.0.div_ceil(1000)));
    let amount = either(&fields, "amount_sats", "amountSats");
    let said = format!("{wallet:?} {description:?} {amount}");
    // What is known under the id is answered first: it may have been asked for with the amount of another invoice.
    let known = balances(edge)?.paid_once(&holder.account, id).await.map_err(refused)?;
    if known.is_none() {
        if !amount.is_null() && amount.as_u64() != Some(asked.0) {
            return Err(invalid("amount_sats is not what the invoice says"));
        }
        must_be_fresh(edge, holder, asked)?;
    }
    let paid = balances(edge)?.pay_once(&holder.account, (id, &said), &invoice).await;
    paid.map(|paid| told(id, &paid)).map_err(refused)
}

/// `GET /api/payments/ID/status`; another account's is unknown.
pub(super) async fn status(edge: &Edge, holder: &AccountHolder, id: &str) -> ApiTold {
    let known = balances(edge)?.paid_once(&holder.account, id).await.map_err(refused)?;
    let unknown = || refusal(StatusCode::NOT_FOUND, "not_found", "Transaction not found");
    known.map(|paid| told(id, &paid)).ok_or_else(unknown)
}

fn told(id: &str, paid: &PaidInvoice) -> Value {
    let status = match paid.state {
        PaidState::Succeeded => "COMPLETED",
        PaidState::Pending | PaidState::Failed => paid.state.as_str(),
    };
    json!({
        "payment_id": id,
        "status": status,
        "amount_sats": paid.amount.0,
        "fee_sats": paid.fee.0,
        "payment_hash": paid.payment_hash,
    })
}

/// It is a part of a path.
fn is_id(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~:".contains(&byte);
    (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(is_plain)
}
