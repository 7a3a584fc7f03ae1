//! How a call ends that has no answer: one of gRPC's codes, and a sentence.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

const CODE: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The codes of gRPC that are used here, with their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcCode {
    Ok = 0,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl GrpcCode {
    /// What the audit log has of a call that ended so. `None`: there was nothing to be done, and what was said may be anything.
    pub fn noted(self) -> Option<&'static str> {
        match self {
            GrpcCode::AlreadyExists => Some("already_exists"),
            GrpcCode::ResourceExhausted => Some("resource_exhausted"),
            GrpcCode::FailedPrecondition => Some("failed_precondition"),
            GrpcCode::Unavailable => Some("unavailable"),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: GrpcCode,
    pub message: String,
}

impl Status {
    pub fn new(code: GrpcCode, message: impl Into<String>) -> Status {
        Status { code, message: message.into() }
    }

    pub fn invalid_argument(message: impl Into<String>) -> Status {
        Status::new(GrpcCode::InvalidArgument, message)
    }

    pub fn failed_precondition(message: impl Into<String>) -> Status {
        Status::new(GrpcCode::FailedPrecondition, message)
    }

    pub fn resource_exhausted(message: impl Into<String>) -> Status {
        Status::new(GrpcCode::ResourceExhausted, message)
    }

    pub fn unavailable(message: impl Into<String>) -> Status {
        Status::new(GrpcCode::Unavailable, message)
    }

    /// As the headers that end a stream.
    pub fn write_to(&self, headers: &mut HeaderMap) {
        headers.insert(CODE, HeaderValue::from(self.code as u16));
        if let Ok(message) = HeaderValue::from_str(&escaped(&self.message)) {
            headers.insert(MESSAGE, message);
        }
    }
}

/// Everything but printable ASCII, and `%`, as `%XX`.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_header_whatever_it_holds() {
        let mut headers = HeaderMap::new();
        Status::new(GrpcCode::NotFound, "100 % of\n\u{20bf}").write_to(&mut headers);
        assert_eq!(headers["grpc-status"], "5");
        assert_eq!(headers["grpc-message"], "100 %25 of%0A%E2%82%BF");
    }
}
