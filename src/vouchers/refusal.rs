//! Why the operator, or a service, does not get what was asked for.

use crate::store::StoreError;
use crate::units::Millis;
use std::ops::Deref;

/// Becomes the one body of errors. Boxed, because most functions of the desk return one or else something small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoucherRefusal(Box<RefusedVoucher>);

/// What the body says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedVoucher {
    /// As HTTP has it.
    pub status: u16,
    pub code: &'static str,
    pub message: String,
    /// Fields, and what is wrong with them.
    pub details: Vec<(String, String)>,
    /// When it may be tried again.
    pub wait: Option<Millis>,
}

impl VoucherRefusal {
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> VoucherRefusal {
        let message = message.into();
        VoucherRefusal(Box::new(RefusedVoucher { status, code, message, details: Vec::new(), wait: None }))
    }

    /// The same, to be tried again after this time.
    pub fn after(mut self, wait: Millis) -> VoucherRefusal {
        self.0.wait = Some(wait);
        self
    }

    /// The same words for what does not exist and for what is somebody else's.
    pub fn nowhere() -> VoucherRefusal {
        VoucherRefusal::new(404, "not_found", "there is nothing here")
    }

    /// The input cannot be right, whatever there is here.
    pub fn input(details: Vec<(String, String)>) -> VoucherRefusal {
        let message = match details.first() {
            Some((field, what)) => format!("{field} {what}"),
            None => "the input is not what is taken here".to_owned(),
        };
        let mut refusal = VoucherRefusal::new(400, "invalid_input", message);
        refusal.0.details = details;
        refusal
    }

    /// One field of it.
    pub fn field(field: &str, what: &str) -> VoucherRefusal {
        VoucherRefusal::input(vec![(field.to_owned(), what.to_owned())])
    }
}

impl Deref for VoucherRefusal {
    type Target = RefusedVoucher;

    fn deref(&self) -> &RefusedVoucher {
        &self.0
    }
}

impl From<StoreError> for VoucherRefusal {
    fn from(error: StoreError) -> VoucherRefusal {
        log::warn!("vouchers: {error}");
        let message = match error {
            StoreError::Sealed => error.to_string(),
            _ => "not possible now, try again later".to_owned(),
        };
        VoucherRefusal::new(503, error.code(), message).after(Millis::from_secs(5))
    }
}
