//! One request to a Lightning node, with our credential, over a connection of its own.

use super::Account;
use crate::calls::{self, in_time, pinned, CallRequest, Connection, Destination, NoAnswer, OpenAnswer, Tls};
use crate::url::Url;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue, CONTENT_TYPE};
use hyper::Method;
use serde_json::Value;
use std::time::Duration;

/// For everything but paying.
pub(super) const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// For paying; the node goes on after it.
pub(super) const PAY_TIMEOUT: Duration = Duration::from_secs(45);
/// Of an answer, or of one line of it (bytes). A payment in many parts is described at length.
const MAX_ANSWER: usize = 512 * 1024;

/// Where a node is, whom we trust to be it, and what it knows us by.
pub(super) struct Peer {
    to: Destination,
    credential: (HeaderName, HeaderValue),
}

/// A body to send.
pub(super) enum CallBody {
    None,
    Json(Value),
    Form(String),
}

impl Peer {
    /// The node of `account`, which knows us by `header`. `None` if the secret cannot stand in a header.
    pub fn new(account: &Account, tls: &Tls, header: &'static str, value: &str) -> Option<Peer> {
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(true);
        let tls = match account.pin {
            Some(pin) => pinned(pin)?,
            None => tls.clone(),
        };
        Some(Peer {
            to: Destination::new(Url::parse(&account.url).ok()?, tls),
            credential: (HeaderName::from_static(header), value),
        })
    }

    /// Sends a request and reads all of its answer; `Null` where that is not JSON. `Lost`, too, are answers
    /// that are cut short, too long, or do not come in `limit`.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: CallBody,
        limit: Duration,
    ) -> Result<(u16, Value), NoAnswer> {
        let read = async {
            let mut reply = self.open(method, path, body).await?;
            let bytes = reply.all().await?;
            Ok((reply.status, crate::json::read(&bytes).unwrap_or_default()))
        };
        in_time(limit, read).await
    }

    /// Sends a request and waits for the head of the answer.
    pub async fn open(&self, method: Method, path: &str, body: CallBody) -> Result<OpenAnswer, NoAnswer> {
        let request = self.request(method, path, body);
        let request = request.map_err(|err| NoAnswer::NotSent(err.to_string()))?;
        Connection::over(self.to.open().await?).await?.send(request, MAX_ANSWER).await
    }

    fn request(&self, method: Method, path: &str, body: CallBody) -> Result<CallRequest, hyper::http::Error> {
        let (name, value) = self.credential.clone();
        let request = calls::request(self.to.url(), path).method(method).header(name, value);
        match body {
            CallBody::None => request.body(Full::default()),
            CallBody::Json(value) => request
                .header(CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::from(value.to_string()))),
            CallBody::Form(text) => request
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Full::new(Bytes::from(text))),
        }
    }
}
