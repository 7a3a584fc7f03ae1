//! What Daraja calls with when a payment out is over, or when its state was asked for. It carries no signature: what makes it
//! Daraja's is the path that it comes to, which nobody else was told.

use super::answers::{text_of, told, LONGEST_ID};
use super::callback::{receipt_of, whole};
use crate::json;
use crate::units::Kes;
use serde_json::Value;

/// Parameters of one result that are looked at.
const MOST_PARAMETERS: usize = 32;

/// A result that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayoutResult {
    /// Our id of the payment that it speaks of; empty: it does not say.
    pub originator: String,
    /// Of the request that it answers: `0` is done.
    pub code: String,
    pub receipt: Option<String>,
    pub amount: Option<Kes>,
    /// What was left at the short code when it was done.
    pub funds: Option<Kes>,
    /// When that was, by their clock: a greater number is later.
    pub completed: Option<u64>,
    /// Of the payment, where its state was asked for: `Completed`, ...
    pub status: String,
}

impl PayoutResult {
    /// `None` if it is not a result.
    pub fn read(body: &[u8]) -> Option<PayoutResult> {
        let body: Value = json::read(body)?;
        let result = &body["Result"];
        let code = told(&text_of(&result["ResultCode"]));
        if code.is_empty() {
            return None;
        }
        let parameters = &result["ResultParameters"]["ResultParameter"];
        let parameters = match parameters {
            Value::Array(parameters) => parameters.as_slice(),
            one => std::slice::from_ref(one),
        };
        let named = |names: &[&str]| {
            let of = |name: &&str| {
                let found = parameters.iter().take(MOST_PARAMETERS).find(|one| one["Key"] == *name)?;
                Some(text_of(&found["Value"])).filter(|text| !text.is_empty())
            };
            names.iter().find_map(of)
        };
        let id = |text: String| text.chars().take(LONGEST_ID).collect::<String>();
        let of_payment = named(&["OriginatorConversationID"]);
        let receipt = named(&["ReceiptNo", "TransactionReceipt"]).and_then(|text| receipt_of(&text));
        let funds = named(&["B2CUtilityAccountAvailableFunds"]);
        let funds = funds.and_then(|text| whole(text.split('.').next().unwrap_or_default()));
        Some(PayoutResult {
            originator: id(of_payment.unwrap_or_else(|| text_of(&result["OriginatorConversationID"]))),
            code,
            receipt: receipt.or_else(|| receipt_of(&text_of(&result["TransactionID"]))),
            amount: named(&["TransactionAmount", "Amount"]).and_then(|text| whole(&text)),
            funds,
            completed: named(&["TransactionCompletedDateTime", "TransCompletedTime", "FinalisedTime"])
                .and_then(|text| moment(&text)),
            status: named(&["TransactionStatus"]).map(|text| text.to_ascii_lowercase()).unwrap_or_default(),
        })
    }
}

/// Of `06.07.2024 22:48:52`, or of the same as 14 digits, the year first.
fn moment(text: &str) -> Option<u64> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if digits.len() != 14 {
        return None;
    }
    match text.split(' ').next()?.split('.').collect::<Vec<_>>().as_slice() {
        [day, month, year] => format!("{year}{month}{day}{}", digits.get(8..)?).parse().ok(),
        _ => digits.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(code: &str, parameters: &str) -> Option<PayoutResult> {
        let text = format!(
            r#"{{"Result":{{"ResultType":0,"ResultCode":{code},"ResultDesc":"..","OriginatorConversationID":"tg-1",
                "ConversationID":"AG_1","TransactionID":"SG632NMUAB","ResultParameters":{{"ResultParameter":{parameters}}},
                "ReferenceData":{{"ReferenceItem":{{"Key":"QueueTimeoutURL","Value":".."}}}}}}}}"#
        );
        PayoutResult::read(text.as_bytes())
    }

    #[test]
    fn a_result_is_read_in_every_shape() {
        let amount = r#"{"Key":"TransactionAmount","Value":10.00}"#;
        let funds = r#"{"Key":"B2CUtilityAccountAvailableFunds","Value":"8959269.60"}"#;
        let read = result("0", &format!("[{amount},{funds}]")).unwrap();
        assert_eq!((read.code.as_str(), read.originator.as_str()), ("0", "tg-1"));
        assert_eq!((read.amount, read.funds), (Some(Kes(10)), Some(Kes(8_959_269))));
        assert_eq!(read.receipt.as_deref(), Some("SG632NMUAB"));
        let turned = result("\"0\"", &format!("[{funds},{amount}]")).unwrap();
        assert_eq!(turned, read);
        let one = result("0", amount).unwrap();
        assert_eq!((one.amount, one.funds), (Some(Kes(10)), None));
        assert_eq!(result("2001", "null").unwrap().code, "2001");
    }

    #[test]
    fn the_state_of_a_payment_is_told_with_its_own_id() {
        let parameters = r#"[{"Key":"OriginatorConversationID","Value":"tg-2"},{"Key":"ReceiptNo","Value":"SX632NMUAB"},
            {"Key":"TransactionStatus","Value":"Completed"},{"Key":"Amount","Value":127}]"#;
        let read = result("0", parameters).unwrap();
        assert_eq!((read.originator.as_str(), read.status.as_str()), ("tg-2", "completed"));
        assert_eq!((read.amount, read.receipt.as_deref()), (Some(Kes(127)), Some("SX632NMUAB")));
    }

    #[test]
    fn later_results_have_greater_moments() {
        assert_eq!(moment("06.07.2024 22:48:52"), Some(20_240_706_224_852));
        assert_eq!(moment("20240706224852"), moment("06.07.2024 22:48:52"));
        assert!(moment("01.08.2024 00:00:00") > moment("31.07.2024 23:59:59"));
        for odd in ["", "06.07.2024", "06.07.2024 22:48", "6.7.2024 2:48:52", "123456789012345"] {
            assert_eq!(moment(odd), None, "{odd}");
        }
        let read = result("0", r#"{"Key":"TransactionCompletedDateTime","Value":"06.07.2024 22:48:52"}"#);
        assert_eq!(read.unwrap().completed, Some(20_240_706_224_852));
    }

    #[test]
    fn other_bodies_are_none() {
        let deep = format!("{}{}", "{\"Result\":".repeat(5000), "}".repeat(5000));
        for text in ["", "{}", "[]", "<html>", r#"{"Result":{}}"#, r#"{"Body":{"stkCallback":{}}}"#, &deep] {
            assert_eq!(PayoutResult::read(text.as_bytes()), None, "{text:.40}");
        }
    }
}
