//! What Daraja calls with when a prompt is over. It carries no signature: a hint to ask, and never a proof.

use super::answers::{text_of, told};
use crate::json;
use crate::units::Kes;
use serde_json::Value;

/// Items of one callback that are looked at.
const MOST_ITEMS: usize = 32;
/// Far above what M-Pesa moves at once, and what every book can add up.
const MOST: u64 = 1_000_000_000;
const NOT_WHOLE: Kes = Kes(0);

/// A callback that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StkCallback {
    pub checkout: String,
    /// `0`: paid.
    pub code: String,
    /// `None`: it names none. One that is no whole number is [`NOT_WHOLE`], which is no order's.
    pub amount: Option<Kes>,
    pub receipt: Option<String>,
}

impl StkCallback {
    /// `None` if it is not a callback.
    pub fn read(body: &[u8]) -> Option<StkCallback> {
        let body: Value = json::read(body)?;
        let callback = &body["Body"]["stkCallback"];
        let checkout = text_of(&callback["CheckoutRequestID"]);
        let code = told(&text_of(&callback["ResultCode"]));
        if checkout.is_empty() || checkout.len() > 100 || code.is_empty() {
            return None;
        }
        let items = &callback["CallbackMetadata"]["Item"];
        let items = match items {
            Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        let item = |name: &str| {
            let found = items.iter().take(MOST_ITEMS).find(|item| item["Name"] == name)?;
            Some(&found["Value"]).filter(|value| !value.is_null() && *value != "")
        };
        let receipt = item("MpesaReceiptNumber").and_then(|value| receipt_of(&text_of(value)));
        let amount = item("Amount").map(|value| whole(&text_of(value)).unwrap_or(NOT_WHOLE));
        Some(StkCallback { checkout, code, amount, receipt })
    }
}

/// A receipt's number in its one spelling; `None`: it cannot be one.
pub fn receipt_of(text: &str) -> Option<String> {
    let receipt = text.trim().to_ascii_uppercase();
    let good = (6..=20).contains(&receipt.len()) && receipt.bytes().all(|b| b.is_ascii_alphanumeric());
    good.then_some(receipt)
}

/// `20`, `20.0`, `20.00`: M-Pesa has whole shillings only. A sum that nobody has ever paid counts as `MOST`.
pub fn whole(text: &str) -> Option<Kes> {
    let (whole, cents) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(cents) || cents.bytes().any(|b| b != b'0') {
        return None;
    }
    Some(Kes(whole.parse().unwrap_or(MOST).min(MOST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_items(code: &str, items: &str) -> Option<StkCallback> {
        let text = format!(
            r#"{{"Body":{{"stkCallback":{{"MerchantRequestID":"1-2","CheckoutRequestID":"ws_CO_1","ResultCode":{code},
                "ResultDesc":"..","CallbackMetadata":{{"Item":{items}}}}}}}}}"#
        );
        StkCallback::read(text.as_bytes())
    }

    const AMOUNT: &str = r#"{"Name":"Amount","Value":20.00}"#;
    const RECEIPT: &str = r#"{"Name":"MpesaReceiptNumber","Value":"NLJ7RT61SV"}"#;

    #[test]
    fn what_was_paid_is_found_in_every_shape() {
        let paid = Some(StkCallback {
            checkout: "ws_CO_1".to_owned(),
            code: "0".to_owned(),
            amount: Some(Kes(20)),
            receipt: Some("NLJ7RT61SV".to_owned()),
        });
        let text = r#"{"Name":"Amount","Value":"20.0"}"#;
        assert_eq!(with_items("0", &format!(r#"[{AMOUNT},{RECEIPT},{{"Name":"Balance"}}]"#)), paid);
        assert_eq!(with_items("\"0\"", &format!(r#"[{{"Name":"Balance"}},{RECEIPT},{text}]"#)), paid);
        let one = with_items("0", RECEIPT).unwrap();
        assert_eq!((one.amount, one.receipt), (None, Some("NLJ7RT61SV".to_owned())));
        for none in [r#"{"Name":"Amount"}"#, r#"{"Name":"Amount","Value":""}"#, "7", "null", "[[]]"] {
            assert_eq!(with_items("0", none).unwrap().amount, None, "{none}");
        }
    }

    #[test]
    fn an_amount_that_is_no_whole_number_is_another_one_than_ordered() {
        for odd in ["20.5", "19.99", "-20", "\"20.5\"", "\"abc\"", "\"20,00\"", "1e30", "true", "{}"] {
            let item = format!(r#"{{"Name":"Amount","Value":{odd}}}"#);
            assert_eq!(with_items("0", &item).unwrap().amount, Some(NOT_WHOLE), "{odd}");
        }
    }

    #[test]
    fn an_amount_that_nobody_can_pay_is_another_one_than_ordered() {
        for huge in ["9999999999", "18446744073709551615", "99999999999999999999999"] {
            assert_eq!(whole(huge), Some(Kes(MOST)), "{huge}");
        }
        assert_eq!(whole("250000.00"), Some(Kes(250_000)));
    }

    #[test]
    fn a_failure_has_no_items_and_other_bodies_are_none() {
        let failed = br#"{"Body":{"stkCallback":{"CheckoutRequestID":"ws_CO_1","ResultCode":1032}}}"#;
        let read = StkCallback::read(failed).unwrap();
        assert_eq!((read.code.as_str(), read.amount, read.receipt), ("1032", None, None));
        for text in
            ["", "{}", "[]", "<html>", r#"{"Body":{"stkCallback":{"ResultCode":0}}}"#, r#"{"Result":{}}"#]
        {
            assert_eq!(StkCallback::read(text.as_bytes()), None, "{text}");
        }
        let deep = format!("{}{}", "{\"Body\":".repeat(5000), "}".repeat(5000));
        assert_eq!(StkCallback::read(deep.as_bytes()), None);
    }
}
