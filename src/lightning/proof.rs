//! What proves a payment's end, the same for every backend.

use super::{BackendAnswer, Outcome, Report};
use crate::hex;
use crate::units::Msats;
use serde_json::Value;
use sha2::{Digest, Sha256};

const MAX_SHOWN: usize = 120;

/// A payment that the backend calls paid. With a wrong preimage it is not: that is logged, and looked up again.
/// None at all (some show zeros) will do only where the backend keeps the money itself.
pub(super) fn settled(
    backend: &str,
    payment_hash: &[u8; 32],
    preimage: &Value,
    required: bool,
    fee: Option<Msats>,
) -> Outcome {
    let shown = preimage.as_str().unwrap_or_default();
    if shown.bytes().all(|digit| digit == b'0') {
        return match required {
            true => Outcome::Unknown("paid, it says, without the preimage".to_owned()),
            false => Outcome::Paid { preimage: None, fee },
        };
    }
    match hex::decode::<32>(shown).filter(|preimage| Sha256::digest(preimage).as_slice() == payment_hash) {
        Some(preimage) => Outcome::Paid { preimage: Some(preimage), fee },
        None => {
            let hash = hex::encode(payment_hash);
            log::error!("{backend} calls payment {hash} paid and shows a preimage that is not its own");
            Outcome::Unknown("paid, it says, with a wrong preimage".to_owned())
        }
    }
}

/// A complete refusal, and what the backend said of the payment right after it: proof together, unless the
/// payment is there.
pub(super) fn refused_by_backend(why: String, known: Outcome) -> BackendAnswer {
    match known {
        Outcome::Absent | Outcome::Failed(_) => BackendAnswer::failed(why),
        known => known.into(),
    }
}

/// An answer that proves nothing by itself.
pub(super) fn unclear(why: String, known: Outcome) -> BackendAnswer {
    match known {
        Outcome::Absent => BackendAnswer::unknown(why),
        known => known.into(),
    }
}

/// Statuses by which a server says that it has not looked at what was asked.
pub(super) fn never_looked_at(status: u16) -> bool {
    matches!(status, 401 | 403 | 404 | 405)
}

/// `HTTP 500: what it said`, for the operator.
pub(super) fn said(status: u16, text: &Value) -> String {
    match text.as_str() {
        Some(text) => format!("HTTP {status}: {}", plain(text)),
        None => format!("HTTP {status}"),
    }
}

/// A peer's text, fit for a log line.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect()
}

/// Whether hex that a peer wrote is this hash.
pub(super) fn is_hash(text: &Value, hash: &[u8; 32]) -> bool {
    text.as_str().and_then(hex::decode::<32>).is_some_and(|found| found == *hash)
}

/// The hash of no payment.
pub(super) fn nobodys_hash() -> [u8; 32] {
    let mut hash = [0u8; 32];
    // Without randomness it is the hash of no known preimage.
    let _ = getrandom::fill(&mut hash);
    hash
}

impl Report {
    /// Of a backend that does not answer, or not as it should.
    pub fn silent(cause: impl Into<String>) -> Report {
        let not_tried = Some("not tried".to_owned());
        Report {
            answers: Some(cause.into()),
            may_pay: not_tried.clone(),
            may_look_up: not_tried,
            notes: Vec::new(),
        }
    }

    pub fn is_good(&self) -> bool {
        self.answers.is_none() && self.may_pay.is_none() && self.may_look_up.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_invoices_own_preimage_is_proof() {
        let preimage = [7u8; 32];
        let hash: [u8; 32] = Sha256::digest(preimage).into();
        let paid = |shown: Value, required| settled("node", &hash, &shown, required, None);
        let own = Outcome::Paid { preimage: Some(preimage), fee: None };
        assert_eq!(paid(json!(hex::encode(&preimage)), true), own);
        assert_eq!(paid(json!(hex::encode(&preimage).to_uppercase()), false), own);
        let none = Outcome::Paid { preimage: None, fee: None };
        for nothing in [json!(null), json!(""), json!("0".repeat(64)), json!(7)] {
            assert_eq!(paid(nothing.clone(), false), none, "{nothing}");
            assert!(matches!(paid(nothing.clone(), true), Outcome::Unknown(_)), "{nothing}");
        }
        for wrong in [json!("00ff"), json!(hex::encode(&[8; 32])), json!("z".repeat(64))] {
            assert!(matches!(paid(wrong.clone(), false), Outcome::Unknown(_)), "{wrong}");
        }
    }
}
