//! The HTTP/1.1 requests that we make of others, mints, nodes and strangers: bounded in time and size, without
//! redirects, proxies and compression.
//!
//! What matters most is said by the error: whether the request may have left. Until a connection (and, with
//! `https`, a TLS session) stands, no byte of it has.

mod breaker;
mod destination;
mod line;
pub mod name_servers;
mod pinned;
mod tls;

use crate::stream::{gauged, AnyStream};
use crate::task;
use crate::url::Url;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use breaker::{Breaker, BreakerState};
pub use destination::{Destination, Lookups};
pub use line::{PeerLine, WholeAnswer};
pub use pinned::pinned;
pub use tls::{crypto_provider, Tls, TlsError};

pub type CallRequest = hyper::Request<Full<Bytes>>;

const MAX_HEAD: usize = 16 * 1024;
pub const AGENT: &str = concat!("tollgated/", env!("CARGO_PKG_VERSION"));

/// Why there is no answer. Neither holds a credential.
#[derive(Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// No byte of the request left.
    NotSent(String),
    /// The peer may have acted on it.
    Lost(String),
}

impl NoAnswer {
    pub fn cause(&self) -> &str {
        match self {
            NoAnswer::NotSent(cause) | NoAnswer::Lost(cause) => cause,
        }
    }
}

/// The result of `work`, or `Lost` after `limit`.
pub async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, NoAnswer>>,
) -> Result<T, NoAnswer> {
    match timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(NoAnswer::Lost(format!("no answer in {} s", limit.as_secs()))),
    }
}

/// A request to `site`, for a path below its own, with what all of ours have in common.
pub fn request(site: &Url, path: &str) -> hyper::http::request::Builder {
    let authority = site.as_str().split_once("://").map_or("", |(_, rest)| rest);
    let host = authority.strip_suffix(site.path()).unwrap_or(authority);
    let request = hyper::Request::builder().uri(format!("{}{path}", site.path()));
    request.header(HOST, host).header(USER_AGENT, AGENT)
}

/// `GET` of a path of `site`, an `https` one, from the machine at `address`, which the caller has chosen: no name is
/// resolved here. Answers the body, of at most `most` bytes, with any status.
pub async fn get_at(
    address: SocketAddr,
    site: &Url,
    path: &str,
    tls: &Tls,
    most: usize,
) -> Result<Vec<u8>, NoAnswer> {
    let request = request(site, path).body(Full::default()).map_err(not_sent)?;
    let stream =
        destination::secure(destination::reach(&[address]).await?, site.host(), tls.config()).await?;
    Connection::over(stream).await?.send(request, most).await?.all().await
}

/// What an answer with a body of at most `most` bytes may take with its head, and with the chunks that it comes in.
fn on_the_wire(most: usize) -> usize {
    most.saturating_mul(2).saturating_add(MAX_HEAD.saturating_mul(2))
}

fn not_sent(cause: impl ToString) -> NoAnswer {
    NoAnswer::NotSent(cause.to_string())
}

/// How many bytes of an answer may still come. What it has besides its body (interim answers, what stands beside the
/// sizes of chunks, trailers) has no end of its own, and reading it takes all of the one thread that serves all.
#[derive(Clone, Debug, Default)]
struct Ration(Arc<AtomicUsize>);

impl Ration {
    fn is(&self, bytes: usize) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// False if fewer than these are left.
    fn take(&self, bytes: usize) -> bool {
        let left = self.left().checked_sub(bytes);
        self.is(left.unwrap_or(0));
        left.is_some()
    }
}

/// Why one sending of a request had no answer.
#[derive(Debug)]
enum Failed {
    /// The connection was closed before one byte of an answer came. The peer may have acted on the request, but most
    /// often it had closed an idle connection.
    Cut(String),
    Other(NoAnswer),
}

impl From<Failed> for NoAnswer {
    fn from(failed: Failed) -> NoAnswer {
        match failed {
            Failed::Cut(cause) => NoAnswer::Lost(cause),
            Failed::Other(none) => none,
        }
    }
}

impl From<NoAnswer> for Failed {
    fn from(none: NoAnswer) -> Failed {
        Failed::Other(none)
    }
}

/// A connection that stands; it ends when it is dropped.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    work: JoinHandle<()>,
    ration: Ration,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl Connection {
    pub async fn over(stream: AnyStream) -> Result<Connection, NoAnswer> {
        let ration = Ration::default();
        ration.is(MAX_HEAD);
        let of_stream = ration.clone();
        let stream = gauged(stream, move |came| of_stream.take(came));
        let shaken = Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(not_sent)?;
        // Its error is the request's error, or comes after all that we want.
        let work = task::spawn(async move { drop(connection.await) });
        Ok(Connection { sender, work, ration })
    }

    /// Sends a request and waits for the head of the answer, of whose body, or of each line of it, at most `most`
    /// bytes are read.
    pub async fn send(self, request: CallRequest, most: usize) -> Result<OpenAnswer, NoAnswer> {
        self.try_send(request, most).await.map_err(NoAnswer::from)
    }

    /// As `send`, for a caller that may send the request again.
    async fn try_send(mut self, request: CallRequest, most: usize) -> Result<OpenAnswer, Failed> {
        let ration = on_the_wire(most);
        self.ration.is(ration);
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok(OpenAnswer {
                status: response.status().as_u16(),
                body: response.into_body(),
                read: Vec::new(),
                most,
                connection: self,
            }),
            Err(mut failed) => {
                let returned = failed.take_message().is_some();
                let cause = failed.error();
                Err(match returned {
                    true => Failed::Other(not_sent(cause)),
                    false if self.ration.left() == ration => Failed::Cut(format!("no answer: {cause}")),
                    false => Failed::Other(NoAnswer::Lost(format!("no answer: {cause}"))),
                })
            }
        }
    }

    /// Whether another request can be sent now, as far as is known.
    pub fn is_open(&self) -> bool {
        self.sender.is_ready()
    }
}

/// An answer whose status is known and whose body is read by the caller.
#[derive(Debug)]
pub struct OpenAnswer {
    pub status: u16,
    body: Incoming,
    read: Vec<u8>,
    most: usize,
    connection: Connection,
}

impl OpenAnswer {
    /// The whole body.
    pub async fn all(&mut self) -> Result<Vec<u8>, NoAnswer> {
        while self.more().await? {}
        Ok(std::mem::take(&mut self.read))
    }

    /// The next line that is not empty; none at the end of the body. A line that is cut short is `Lost`.
    pub async fn line(&mut self) -> Result<Option<Vec<u8>>, NoAnswer> {
        // What was looked through is not looked through again: a line may come byte by byte.
        let mut seen = 0usize;
        loop {
            if seen == 0 {
                let blank = self.read.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                self.read.drain(..blank);
            }
            if let Some(end) = self.read.iter().skip(seen).position(|byte| *byte == b'\n') {
                self.connection.ration.is(on_the_wire(self.most));
                let rest = self.read.split_off(seen.saturating_add(end).saturating_add(1));
                return Ok(Some(std::mem::replace(&mut self.read, rest)));
            }
            seen = self.read.len();
            if !self.more().await? {
                let last = std::mem::take(&mut self.read);
                return Ok((!last.is_empty()).then_some(last));
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

    /// The connection, for another request. The body must have been read.
    pub fn into_connection(self) -> Connection {
        self.connection
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// An answer of these bytes of a chunked body, one chunk at a time, to a request of ours.
    async fn answered(chunks: Vec<&'static [u8]>) -> OpenAnswer {
        let (near, mut far) = tokio::io::duplex(16 * 1024);
        tokio::spawn(async move {
            let mut wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for chunk in chunks {
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            // Bytes that come before the request are no answer to it.
            let _ = far.read(&mut [0; 1024]).await;
            let _ = far.write_all(&wire).await;
        });
        let site = Url::parse("https://node.example").unwrap();
        let asked = request(&site, "/").body(Full::default()).unwrap();
        Connection::over(Box::new(near)).await.unwrap().send(asked, 512 * 1024).await.unwrap()
    }

    #[tokio::test]
    async fn lines_come_whole_however_they_are_cut_and_blank_ones_not_at_all() {
        let mut reply =
            answered(vec![b"\n \r\n", b"{\"a\"", b":1}\n\n{\"b\":2}", b"\n", b"\n", b"last"]).await;
        let mut lines = Vec::new();
        while let Some(line) = reply.line().await.unwrap() {
            lines.push(String::from_utf8(line).unwrap().trim().to_owned());
        }
        assert_eq!(lines, ["{\"a\":1}", "{\"b\":2}", "last"]);
    }

    #[tokio::test]
    async fn what_comes_besides_the_body_of_an_answer_has_an_end() {
        let endless: [(&[u8], &[u8]); 3] = [
            (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x"),
        ];
        for (head, again) in endless {
            let (near, mut far) = tokio::io::duplex(16 * 1024);
            let sending = tokio::spawn(async move {
                let mut sent = head.len();
                let _ = far.read(&mut [0; 1024]).await?;
                far.write_all(head).await?;
                loop {
                    far.write_all(&again.repeat(100)).await?;
                    sent += again.len() * 100;
                    if sent > 1024 * 1024 {
                        return Ok::<usize, std::io::Error>(sent);
                    }
                }
            });
            let site = Url::parse("https://node.example").unwrap();
            let asked = request(&site, "/").body(Full::default()).unwrap();
            let connection = Connection::over(Box::new(near)).await.unwrap();
            let lost = async { connection.send(asked, 32 * 1024).await?.all().await };
            assert!(matches!(in_time(Duration::from_secs(60), lost).await, Err(NoAnswer::Lost(_))));
            assert!(sending.await.unwrap().is_err(), "all of it was read: {again:?}");
        }
    }

    /// Everybody else waits while a line is looked through: this must not take the square of its length.
    #[tokio::test]
    async fn a_line_that_comes_byte_by_byte_holds_up_nobody() {
        let mut reply = answered(vec![b"x"; 150_000]).await;
        let line = timeout(Duration::from_secs(30), reply.line()).await.unwrap().unwrap();
        assert_eq!(line.map(|line| line.len()), Some(150_000));
        let mut reply = answered(vec![&[b'\n'; 4096]; 200]).await;
        let line = timeout(Duration::from_secs(30), reply.line()).await.unwrap().unwrap();
        assert_eq!(line, None);
    }
}
