//! Paying out of a balance, or of what is brought: shillings to a phone, airtime, a bill. The caller is known by then.

use super::super::sent::Sent;
use super::super::Edge;
use super::asked::{self, body, either};
use super::balances;
use super::holder::{must_be_fresh, shop, AccountHolder};
use super::told::{invalid, refusal, waiting, ApiRefusal, ApiTold};
use crate::config::Config;
use crate::json::json;
use crate::sale::mpesa::payout::{PayoutError, PayoutWish, PROVIDERS};
use crate::store::{PaidBy, PayoutKind, PayoutRow};
use crate::units::{Kes, Sats};
use hyper::StatusCode;
use serde_json::Value;

/// The fields that say what is to be done: one of another kind than a text is never read as none.
const TEXTS: [(&str, &str); 3] = [("token", "cashuToken"), ("via", "via"), ("provider", "provider")];

/// `POST` of one of these paths, with its aliases.
pub fn kind_of(path: &str) -> Option<PayoutKind> {
    match path {
        "mpesa/sell" | "mpesa/payout" => Some(PayoutKind::Sell),
        "airtime/buy" | "airtime" => Some(PayoutKind::Airtime),
        "bills/pay" => Some(PayoutKind::Bill),
        _ => None,
    }
}

/// Pays out for the account that has logged in: `{"id","kind","state","amount_kes","amount_sats"[,"invoice"]}`.
pub async fn pay_out(edge: &Edge, holder: &AccountHolder, kind: PayoutKind, sent: Sent) -> ApiTold {
    let (shop, config) = (shop(edge)?, edge.site.config());
    shop.mpesa.may_pay_out(&config, kind).map_err(refused)?;
    let key = asked::key(&sent)?;
    let fields = body(sent).await?;
    for (name, other) in TEXTS {
        if !matches!(either(&fields, name, other), Value::Null | Value::String(_)) {
            return Err(invalid(&format!("{name} is a text")));
        }
    }
    let text = |name, other| either(&fields, name, other).as_str().unwrap_or_default().trim();
    let number = |name, other| {
        let number = either(&fields, name, other).as_u64().filter(|number| *number > 0);
        let message = format!("{name} is a whole number above zero");
        number.ok_or_else(|| refusal(StatusCode::BAD_REQUEST, "bad_amount", &message))
    };
    let (phone, token, via) =
        (text("phoneNumber", "phone_number"), text("token", "cashuToken"), text("via", "via"));
    let (account, rates) = (holder.account.as_str(), &shop.rates);
    let wish = match kind {
        PayoutKind::Sell if !token.is_empty() => {
            let sold = shop.mpesa.sell_token(account, (phone, token), (&shop.balances, rates)).await;
            return sold.map(|row| told(&row)).map_err(refused);
        }
        PayoutKind::Sell if via == "lightning" => {
            let sold = (phone, Sats(number("amount_sats", "amountSats")?));
            let asked = shop.mpesa.sell_by_invoice(account, sold, (&shop.balances, rates), key.as_deref());
            let (row, invoice) = asked.await.map_err(refused)?;
            let mut told = told(&row);
            told["invoice"] = invoice.into();
            return Ok(told);
        }
        PayoutKind::Sell if matches!(via, "" | "balance") => {
            let sold = Sats(number("amount_sats", "amountSats")?);
            PayoutWish::Sell { phone, sold, via: PaidBy::Balance }
        }
        PayoutKind::Sell => return Err(invalid("via is balance or lightning")),
        PayoutKind::Airtime => {
            let provider = text("provider", "provider");
            match either(&fields, "amount", "amountKes") {
                Value::Null if !either(&fields, "amount_sats", "amountSats").is_null() => {
                    let sold = Sats(number("amount_sats", "amountSats")?);
                    PayoutWish::AirtimeFor { phone, sold, provider }
                }
                _ => PayoutWish::Airtime { phone, amount: Kes(number("amount", "amountKes")?), provider },
            }
        }
        PayoutKind::Bill => {
            let (paybill, account) = (text("paybill", "paybillNumber"), text("account", "accountNumber"));
            PayoutWish::Bill { paybill, account, amount: Kes(number("amount", "amountKes")?) }
        }
    };
    // What is looked at here is what is paid: a rate of a moment later may be another.
    let quote = rates.selling().await.map_err(|stale| refused(stale.into()))?;
    let cost = shop.mpesa.cost_of(wish, quote).map_err(refused)?;
    must_be_fresh(edge, holder, Sats(cost.0.div_ceil(1000)))?;
    let row = shop.mpesa.open_payout(account, wish, quote, key.as_deref()).await;
    row.map(|row| told(&row)).map_err(refused)
}

/// `{"id","kind","state","amount_kes","amount_sats"}`, as `GET /api/fiat/transaction/ID` tells it.
pub fn told(row: &PayoutRow) -> Value {
    json!({
        "id": row.id,
        "kind": row.kind.as_str(),
        "state": row.state.told(),
        "amount_kes": row.amount.0,
        "amount_sats": row.cost.0.div_ceil(1000),
    })
}

/// `GET /api/fiat/airtime/providers`.
pub fn providers(config: &Config) -> Value {
    let (min, max) = config.airtime.as_ref().map_or((0, 0), |airtime| (airtime.min.0, airtime.max.0));
    let one = |name: &&str| json!({"id": name, "name": name, "min": min, "max": max});
    json!({"providers": PROVIDERS.iter().filter(|_| max > 0).map(one).collect::<Value>()})
}

fn refused(error: PayoutError) -> ApiRefusal {
    let status = match error {
        PayoutError::SwitchedOff => StatusCode::FORBIDDEN,
        PayoutError::BadPhone
        | PayoutError::BadAmount(..)
        | PayoutError::BadProvider
        | PayoutError::BadBill => StatusCode::BAD_REQUEST,
        PayoutError::OtherQuestion => StatusCode::CONFLICT,
        PayoutError::DayLimit | PayoutError::Crowded(_) => StatusCode::TOO_MANY_REQUESTS,
        PayoutError::Balance(error) => return balances::refused(error),
        PayoutError::ClockNotSet
        | PayoutError::RateStale(_)
        | PayoutError::FloatTooSmall
        | PayoutError::Paused
        | PayoutError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let wait = if let PayoutError::Crowded(wait) = error { Some(wait) } else { None };
    waiting(refusal(status, error.code(), &error.to_string()), wait)
}
