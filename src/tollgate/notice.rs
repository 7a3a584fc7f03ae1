//! What went wrong, as a client is told: a notice (kind 21023, TIP-01) with the HTTP status that says what
//! became of the money. 402: refused, and still the payer's. 503, 429: ask again with the same token. 400: that
//! was no payment.

use super::event::{tag, Tags};
use crate::mac::MacAddr;

pub const KIND: u32 = 21023;

/// A code is for programs and never changes; the sentence is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TollGateNotice {
    pub code: &'static str,
    pub status: u16,
    pub message: String,
}

impl TollGateNotice {
    pub fn new(code: &'static str, status: u16, message: impl Into<String>) -> TollGateNotice {
        TollGateNotice { code, status, message: message.into() }
    }

    /// The money did not change hands and a try later may work, or it did and nothing more is to be paid.
    pub fn is_passing(&self) -> bool {
        matches!(self.status, 503 | 429 | 200)
    }

    pub fn tags(&self, mac: Option<MacAddr>) -> Tags {
        let level = if self.is_passing() { "warning" } else { "error" };
        let mut tags = vec![tag(["level", level]), tag(["code", self.code])];
        if let Some(mac) = mac {
            tags.push(tag(["p", &mac.to_string()]));
        }
        // The Android client reads this tag and not the content.
        tags.push(tag(["message", &self.message]));
        tags
    }
}
