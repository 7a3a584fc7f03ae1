//! One HTTP/1.1 request to a Lightning node, or to a stranger: bounded in time and size, over a connection of
//! its own.
//!
//! What matters most is said by the error: whether the request may have left. Until a connection (and, with
//! `https`, a TLS session) stands, no byte of it has. Redirects, proxies and compression are not used.

use super::pinned::pinned;
use super::Account;
use crate::config::MintUrl;
use crate::ecash::Tls;
use crate::network::stream::AnyStream;
use crate::task;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::ClientConfig;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For everything but paying.
pub(super) const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// For paying; the node goes on after it.
pub(super) const PAY_TIMEOUT: Duration = Duration::from_secs(45);
/// Of an answer, or of one line of it (bytes). A payment in many parts is described at length.
const MAX_ANSWER: usize = 512 * 1024;
const MAX_HEAD: usize = 16 * 1024;
const AGENT: &str = concat!("tollgated/", env!("CARGO_PKG_VERSION"));

/// Where a node is, whom we trust to be it, and what it knows us by.
pub(super) struct Peer {
    url: MintUrl,
    tls: Arc<ClientConfig>,
    credential: (HeaderName, HeaderValue),
}

/// Why there is no answer. Neither holds a credential.
#[derive(Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nothing of the request left.
    NotSent(String),
    /// The node may have acted on it.
    Lost(String),
}

impl NoAnswer {
    pub fn cause(&self) -> &str {
        match self {
            NoAnswer::NotSent(cause) | NoAnswer::Lost(cause) => cause,
        }
    }
}

/// A body to send.
pub(super) enum Body {
    None,
    Json(Value),
    Form(String),
}

/// An answer whose status is known and whose body is read by the caller.
pub(super) struct Reply {
    pub status: u16,
    body: Incoming,
    read: Vec<u8>,
    /// The longest that is read of the body, or of a line of it (bytes).
    most: usize,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Peer {
    /// The node of `account`, which knows us by `header`. None where the secret cannot stand in a header.
    pub fn new(account: &Account, tls: &Tls, header: &'static str, value: &str) -> Option<Peer> {
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(true);
        Some(Peer {
            url: MintUrl::parse(&account.url).ok()?,
            tls: match account.pin {
                Some(pin) => pinned(pin)?,
                None => tls.config(),
            },
            credential: (HeaderName::from_static(header), value),
        })
    }

    /// Sends a request and reads all of its answer; `Null` where that is not JSON. `Lost`, too, are answers
    /// that are cut short, too long, or do not come in `limit`.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Body,
        limit: Duration,
    ) -> Result<(u16, Value), NoAnswer> {
        let read = async {
            let mut reply = self.open(method, path, body).await?;
            let bytes = reply.all().await?;
            Ok((reply.status, serde_json::from_slice(&bytes).unwrap_or_default()))
        };
        in_time(limit, read).await
    }

    /// Sends a request and waits for the head of the answer.
    pub async fn open(&self, method: Method, path: &str, body: Body) -> Result<Reply, NoAnswer> {
        let not_sent = |cause: String| NoAnswer::NotSent(cause);
        let request = self.request(method, path, body).map_err(|err| not_sent(err.to_string()))?;
        let host = self.url.host();
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect((host, self.url.port())));
        let stream = stream.await.map_err(|_| not_sent("no connection in 5 s".to_owned()))?;
        let stream = stream.map_err(|err| not_sent(format!("no connection: {err}")))?;
        let _ = stream.set_nodelay(true);
        if !self.url.is_https() {
            return exchange(Box::new(stream), request, MAX_ANSWER).await;
        }
        exchange(secure(stream, host, self.tls.clone()).await?, request, MAX_ANSWER).await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let authority = self.url.as_str().split_once("://").map_or("", |(_, rest)| rest);
        let host = authority.strip_suffix(self.url.path()).unwrap_or(authority);
        let (name, value) = self.credential.clone();
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url.path()))
            .header(HOST, host)
            .header(USER_AGENT, AGENT)
            .header(name, value);
        match body {
            Body::None => request.body(Full::default()),
            Body::Json(value) => request
                .header(CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::from(value.to_string()))),
            Body::Form(text) => request
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Full::new(Bytes::from(text))),
        }
    }
}

/// `GET` of a path of `site`, an `https` one, from the machine at `address`, which the caller has chosen: no name
/// is resolved here. Answers the body, of at most `most` bytes, whatever the status.
pub async fn get_at(
    address: SocketAddr,
    site: &MintUrl,
    path: &str,
    tls: &Tls,
    most: usize,
) -> Result<Vec<u8>, NoAnswer> {
    let not_sent = |cause: String| NoAnswer::NotSent(cause);
    let authority = site.as_str().split_once("://").map_or("", |(_, rest)| rest);
    let request = Request::builder().uri(path).header(HOST, authority).header(USER_AGENT, AGENT);
    let request = request.body(Full::default()).map_err(|err| not_sent(err.to_string()))?;
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
    let stream = stream.await.map_err(|_| not_sent("no connection in 5 s".to_owned()))?;
    let stream = stream.map_err(|err| not_sent(format!("no connection: {err}")))?;
    let stream = secure(stream, site.host(), tls.config()).await?;
    exchange(stream, request, most).await?.all().await
}

async fn secure(stream: TcpStream, host: &str, tls: Arc<ClientConfig>) -> Result<AnyStream, NoAnswer> {
    let not_sent = |cause: String| NoAnswer::NotSent(cause);
    let name = ServerName::try_from(host.to_owned()).map_err(|err| not_sent(err.to_string()))?;
    let shake = timeout(CONNECT_TIMEOUT, TlsConnector::from(tls).connect(name, stream));
    let stream = shake.await.map_err(|_| not_sent("no TLS session in 5 s".to_owned()))?;
    Ok(Box::new(stream.map_err(|err| not_sent(format!("no TLS session: {err}")))?))
}

/// From here on the request may have left.
async fn exchange(stream: AnyStream, request: Request<Full<Bytes>>, most: usize) -> Result<Reply, NoAnswer> {
    let shaken = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await;
    let (mut sender, connection) = shaken.map_err(|err| NoAnswer::NotSent(err.to_string()))?;
    // Its error is the request's error, or comes after all that we want.
    let connection = task::spawn(async move { drop(connection.await) });
    let guard = AbortOnDrop(Some(connection));
    let response: Response<Incoming> =
        sender.send_request(request).await.map_err(|err| NoAnswer::Lost(format!("no answer: {err}")))?;
    let status = response.status().as_u16();
    Ok(Reply { status, body: response.into_body(), read: Vec::new(), most, connection: guard.keep()? })
}

/// A connection is not left behind by a caller who has gone away.
struct AbortOnDrop(Option<tokio::task::JoinHandle<()>>);

impl AbortOnDrop {
    fn keep(mut self) -> Result<tokio::task::JoinHandle<()>, NoAnswer> {
        self.0.take().ok_or_else(|| NoAnswer::Lost("no connection".to_owned()))
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.abort();
        }
    }
}

impl Reply {
    /// The whole body.
    pub async fn all(&mut self) -> Result<Vec<u8>, NoAnswer> {
        while self.more().await? {}
        Ok(std::mem::take(&mut self.read))
    }

    /// The next line that is not empty; none at the end of the body. A line that is cut short is `Lost`.
    pub async fn line(&mut self) -> Result<Option<Vec<u8>>, NoAnswer> {
        loop {
            while let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let rest = self.read.split_off(end.saturating_add(1));
                let line = std::mem::replace(&mut self.read, rest);
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(line));
                }
            }
            if !self.more().await? {
                let last = std::mem::take(&mut self.read);
                return Ok((!last.trim_ascii().is_empty()).then_some(last));
            }
        }
    }

    async fn more(&mut self) -> Result<bool, NoAnswer> {
        let lost = |cause: &str| NoAnswer::Lost(format!("HTTP {}: {cause}", self.status));
        match self.body.frame().await {
            None => return Ok(false),
            Some(Err(_)) => return Err(lost("the answer is cut short")),
            Some(Ok(frame)) => self.read.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
        }
        match self.read.len() > self.most {
            true => Err(lost("the answer is too long")),
            false => Ok(true),
        }
    }
}

pub(super) async fn in_time<T>(
    limit: Duration,
    work: impl std::future::Future<Output = Result<T, NoAnswer>>,
) -> Result<T, NoAnswer> {
    match timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(NoAnswer::Lost(format!("no answer in {} s", limit.as_secs()))),
    }
}
