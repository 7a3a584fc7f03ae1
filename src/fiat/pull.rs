//! The list of payments that Daraja gives on request (Pull API): what came in, callbacks or not.

use super::answers::{text_of, DarajaReply};
use super::callback::{receipt_of, whole};
use crate::units::Kes;
use serde_json::Value;

/// Rows of one answer.
const MOST: usize = 1000;
const DEEPEST: u8 = 3;

/// One payment into the short code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PulledRow {
    pub receipt: String,
    /// What the customer paid for, as our request named it: an order's id.
    pub reference: String,
    pub amount: Kes,
}

/// Rows are in a list, or in lists in a list. What cannot be read is left out.
pub(super) fn rows(reply: &DarajaReply) -> Vec<PulledRow> {
    let mut found = Vec::new();
    if let Some(body) = &reply.body {
        gather(&body["Response"], DEEPEST, &mut found);
    }
    found
}

fn gather(value: &Value, deepest: u8, found: &mut Vec<PulledRow>) {
    match value {
        Value::Array(values) if deepest > 0 => {
            values.iter().take(MOST).for_each(|value| gather(value, deepest.saturating_sub(1), found));
        }
        Value::Object(_) if found.len() < MOST => {
            let row = || {
                let receipt = receipt_of(&text_of(&value["transactionId"]))?;
                let amount = whole(&text_of(&value["amount"]))?;
                let reference = text_of(&value["billreference"]).chars().take(32).collect();
                Some(PulledRow { receipt, reference, amount })
            };
            found.extend(row());
        }
        _ => {}
    }
}
