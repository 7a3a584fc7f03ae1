//! How much is sold: time or data.

use crate::config::Metric;
use crate::units::{Allotment, Millis};

/// An amount of time, or of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantity {
    pub metric: Metric,
    pub amount: Allotment,
}

impl Quantity {
    /// Of time.
    pub fn time(length: Millis) -> Quantity {
        Quantity { metric: Metric::Milliseconds, amount: length.into() }
    }

    pub(super) fn checked_mul(self, factor: u64) -> Option<Quantity> {
        Some(Quantity { amount: self.amount.checked_mul(factor)?, ..self })
    }
}
