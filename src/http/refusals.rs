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
use serde_json::Value;

/// Where guests' paths begin that are newer than the one body of errors.
const NEWER: [&str; 9] = [
    "/connectioncodes",
    "/lnauth",
    "/logout",
    "/me",
    "/mpesa",
    "/refresh_jwt",
    "/session/",
    "/tickets/",
    "/voucher",
];

/// An error as guests' programs read it.
pub fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    answer::json(status, &told(code, message))
}

/// The same at a path; a newer one has the one body of errors besides.
pub fn error_at(path: &str, status: StatusCode, code: &str, message: &str) -> Answer {
    let mut body = told(code, message);
    if NEWER.iter().any(|newer| path.starts_with(newer)) {
        ErrorBody { code, message, details: &[] }.add_to(&mut body);
    }
    answer::json(status, &body)
}

fn told(code: &str, message: &str) -> Value {
    json!({"type": "error", "code": code, "message": message})
}

pub fn method_not_allowed<'a>(path: &str, allowed: impl Iterator<Item = &'a str>) -> Answer {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let mut answer = error_at(path, status, "method_not_allowed", "this path does not take that method");
    if let Ok(value) = HeaderValue::from_str(&allowed.collect::<Vec<_>>().join(", ")) {
        answer.headers_mut().insert(header::ALLOW, value);
    }
    answer
}

pub fn not_found(path: &str) -> Answer {
    error_at(path, StatusCode::NOT_FOUND, "not_found", "there is nothing here; the portal is at /")
}

/// The answer to what moves money, while the key files are sealed.
pub fn sealed() -> Answer {
    refused(&StoreError::Sealed.into())
}

/// The answer to a page that is not the router's own. `what`: what it wants to do, `ask` or `connect`.
pub fn foreign_origin(path: &str, what: &str) -> Answer {
    error_at(path, StatusCode::FORBIDDEN, "foreign_origin", &format!("only pages of this router may {what}"))
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
