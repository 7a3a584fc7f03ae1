//! What was sent with a request and is not read yet: it is read by its handler, up to the limit of its route.

use super::answer::Answer;
use super::bodies::{self, ReadBody, Text, Unread};
use super::refusals::error_at;
use crate::commands::Operator;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Method, Request, StatusCode};

/// What is longer is not even read.
const DRAINED: usize = 16 << 20;

pub struct Sent {
    request: Request<Incoming>,
    limit: usize,
    /// What the path has in place of the route's `*`.
    pub rest: String,
    /// Who has signed in, where that is asked for.
    pub operator: Option<Operator>,
}

impl Sent {
    pub fn new(request: Request<Incoming>, limit: usize, rest: String) -> Sent {
        Sent { request, limit, rest, operator: None }
    }

    pub fn method(&self) -> &Method {
        self.request.method()
    }

    pub fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    pub fn path(&self) -> &str {
        self.request.uri().path()
    }

    /// The text behind the `?`.
    pub fn query(&self) -> &str {
        self.request.uri().query().unwrap_or_default()
    }

    /// The body, which must be UTF-8, or the answer that says what is wrong with it.
    pub async fn text(self) -> Result<Text, Answer> {
        let uri = self.request.uri().clone();
        let read = bodies::read(self.request, self.limit).await.map(ReadBody::into_text);
        read_by(uri.path(), read).map_err(|refused| *refused)
    }

    /// As `text`; bytes that are not UTF-8 are replaced.
    pub async fn lossy_text(self) -> Result<Text, Answer> {
        let uri = self.request.uri().clone();
        let read = bodies::read(self.request, self.limit).await.map(|body| Ok(body.into_text_lossy()));
        read_by(uri.path(), read).map_err(|refused| *refused)
    }

    /// The body as far as `keep` says, see [`bodies::read_if`].
    pub async fn read_if(
        self,
        keep: impl FnMut(usize) -> Result<bool, Unread>,
    ) -> Result<Option<ReadBody>, Unread> {
        bodies::read_if(self.request, self.limit, keep).await
    }

    /// The body, if it is no longer than the route takes; a longer one is read, so that its sender hears the answer, and
    /// not kept: `None`.
    pub async fn whole(self) -> Result<Option<ReadBody>, Unread> {
        let limit = self.limit;
        bodies::read_if(self.request, DRAINED, |length| Ok(length <= limit)).await
    }

    /// For a connection that goes on as something else.
    pub fn into_request(self) -> Request<Incoming> {
        self.request
    }
}

fn read_by(path: &str, read: Result<Result<Text, Vec<u8>>, Unread>) -> Result<Text, Box<Answer>> {
    let (status, message) = match read {
        Ok(Ok(text)) => return Ok(text),
        Ok(Err(_)) => (StatusCode::BAD_REQUEST, "the body is not UTF-8"),
        Err(Unread::TooLong) => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
        Err(Unread::Broken) => (StatusCode::BAD_REQUEST, "the body was not sent whole"),
        Err(Unread::Late) => (StatusCode::REQUEST_TIMEOUT, "the body did not arrive"),
        Err(Unread::Crowded) => (StatusCode::SERVICE_UNAVAILABLE, "too much is being sent; please try again"),
    };
    let code = if status == StatusCode::SERVICE_UNAVAILABLE { "rate_limited" } else { "invalid_message" };
    Err(Box::new(error_at(path, status, code, message)))
}
