//! Why something is refused or has failed, in the mint proxy's words.

use crate::json::json;
use crate::sale::SaleError;
use crate::store::RequestId;
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    InvalidMint,
    MintUnavailable,
    InvoiceExpired,
    PaymentFailed,
    TokenClaimFailed,
    RequestNotFound,
    InvalidMessage,
    RateLimited,
    InternalError,
    /// Another device uses the caller's address. Clients know it as `internal_error` with a sentence.
    AddressClash,
    /// No ticket was shown where one is needed, or one that is not valid.
    InvalidTicket,
    /// The ticket's account is with a MAC that is still there.
    TicketInUse,
    /// No voucher has this id and this claim.
    VoucherNotFound,
    /// What the ticket stands for is at another venue, and buys no step at this one.
    TooLittle,
    /// Nothing can be sold: the store is damaged (`STORE_CORRUPT`, `STORE_TOO_NEW`, ...). A socket is told
    /// `internal_error` with this code in the sentence.
    Closed(&'static str),
}

/// The one clear error of a refused or failed request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProxyError {
    pub code: Code,
    pub message: String,
    pub request: Option<RequestId>,
}

impl Code {
    pub fn as_str(self) -> &'static str {
        match self {
            Code::InvalidMint => "invalid_mint",
            Code::MintUnavailable => "mint_unavailable",
            Code::InvoiceExpired => "invoice_expired",
            Code::PaymentFailed => "payment_failed",
            Code::TokenClaimFailed => "token_claim_failed",
            Code::RequestNotFound => "request_not_found",
            Code::InvalidMessage => "invalid_message",
            Code::RateLimited => "rate_limited",
            Code::InternalError | Code::AddressClash => "internal_error",
            Code::InvalidTicket => "invalid_ticket",
            Code::TicketInUse => "ticket_in_use",
            Code::VoucherNotFound => "not_found",
            Code::TooLittle => "too_little_left",
            Code::Closed(code) => code,
        }
    }
}

impl ProxyError {
    pub fn new(code: Code, message: impl Into<String>) -> ProxyError {
        ProxyError { code, message: message.into(), request: None }
    }

    /// Names the request that it is about.
    pub fn about(self, request: &RequestId) -> ProxyError {
        ProxyError { request: Some(request.clone()), ..self }
    }

    /// As a socket's `error` message.
    pub fn to_socket(&self) -> Value {
        match self.code {
            Code::Closed(code) => {
                let message = format!("{} ({code})", self.message);
                ProxyError { code: Code::InternalError, message, request: self.request.clone() }.to_json()
            }
            _ => self.to_json(),
        }
    }

    /// As the body of the REST fallback's answer.
    pub fn to_json(&self) -> Value {
        let mut object = json!({"type": "error", "code": self.code.as_str(), "message": self.message});
        if let (Some(id), Some(map)) = (&self.request, object.as_object_mut()) {
            map.insert("request_id".into(), id.as_str().into());
        }
        object
    }
}

impl From<SaleError> for ProxyError {
    fn from(error: SaleError) -> ProxyError {
        ProxyError::new(Code::from(&error), error.to_string())
    }
}

impl From<&SaleError> for Code {
    fn from(error: &SaleError) -> Code {
        match error {
            SaleError::Closed(code) => Code::Closed(code),
            SaleError::GateDown | SaleError::Internal => Code::InternalError,
            SaleError::Clash => Code::AddressClash,
            SaleError::MintNotAccepted => Code::InvalidMint,
            SaleError::NoAmount
            | SaleError::Price { .. }
            | SaleError::TooMuchTogether
            | SaleError::NotIssued => Code::InvalidMessage,
            SaleError::TooMany(_) => Code::RateLimited,
            SaleError::MintBusy | SaleError::MintAway | SaleError::MintSilent => Code::MintUnavailable,
            SaleError::NoSuchRequest | SaleError::NoSuchPart => Code::RequestNotFound,
            // Other ways to pay speak for themselves.
            _ => Code::PaymentFailed,
        }
    }
}
