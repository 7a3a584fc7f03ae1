//! What is answered where nothing else can be: unknown paths and methods, pages of others, a closed shop.

use super::answer::{self, Answer};
use super::error_body::{refused, ErrorBody};
use crate::json::json;
use crate::mint_proxy::{Code, ProxyError};
use crate::sale::SaleError;
use crate::shop::{Shop, Site};
use crate::store::StoreError;
use hyper::header::{self, HeaderValue};
use hyper::StatusCode;

/// An error as guests' programs read it, and beside that as it is on newer paths.
pub fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    let mut body = ErrorBody { code, message, details: &[] }.to_json();
    (body["type"], body["code"], body["message"]) = (json!("error"), json!(code), json!(message));
    answer::json(status, &body)
}

pub fn method_not_allowed<'a>(allowed: impl Iterator<Item = &'a str>) -> Answer {
    let mut answer =
        error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take that method");
    if let Ok(value) = HeaderValue::from_str(&allowed.collect::<Vec<_>>().join(", ")) {
        answer.headers_mut().insert(header::ALLOW, value);
    }
    answer
}

pub fn not_found() -> Answer {
    error(StatusCode::NOT_FOUND, "not_found", "there is nothing here; the portal is at /")
}

/// The answer to what moves money, while the key files are sealed.
pub fn sealed() -> Answer {
    refused(&StoreError::Sealed.into())
}

/// The answer to a page that is not the router's own. `what`: what it wants to do, `ask` or `connect`.
pub fn foreign_origin(what: &str) -> Answer {
    error(StatusCode::FORBIDDEN, "foreign_origin", &format!("only pages of this router may {what}"))
}

/// The rooms that sell, or the error that says why nothing is sold.
pub fn open_shop(site: &Site) -> Result<&Shop, SaleError> {
    site.shop.as_ref().map_err(|closed| SaleError::Closed(closed.code))
}

pub fn refusal(error: &ProxyError) -> Answer {
    answer::json(status_of(error.code), &error.to_json())
}

pub fn status_of(code: Code) -> StatusCode {
    match code {
        Code::InvalidMint | Code::InvalidMessage => StatusCode::BAD_REQUEST,
        Code::RequestNotFound | Code::VoucherNotFound => StatusCode::NOT_FOUND,
        Code::InvalidTicket => StatusCode::FORBIDDEN,
        Code::TicketInUse | Code::TooLittle => StatusCode::CONFLICT,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::MintUnavailable | Code::InvoiceExpired | Code::PaymentFailed | Code::TokenClaimFailed => {
            StatusCode::BAD_GATEWAY
        }
        Code::InternalError | Code::AddressClash | Code::Closed(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
