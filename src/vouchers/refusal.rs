//! Why the operator, or a service, does not get what was asked for.

use crate::store::StoreError;
use crate::units::Millis;

/// Becomes the one body of errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoucherRefusal {
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
        VoucherRefusal { status, code, message: message.into(), details: Vec::new(), wait: None }
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
        VoucherRefusal { details, ..VoucherRefusal::new(400, "invalid_input", message) }
    }

    /// One field of it.
    pub fn field(field: &str, what: &str) -> VoucherRefusal {
        VoucherRefusal::input(vec![(field.to_owned(), what.to_owned())])
    }
}

impl From<StoreError> for VoucherRefusal {
    fn from(error: StoreError) -> VoucherRefusal {
        log::warn!("vouchers: {error}");
        let wait = Some(Millis::from_secs(5));
        if matches!(error, StoreError::Sealed) {
            return VoucherRefusal { wait, ..VoucherRefusal::new(503, error.code(), error.to_string()) };
        }
        VoucherRefusal { wait, ..VoucherRefusal::new(503, error.code(), "not possible now, try again later") }
    }
}
