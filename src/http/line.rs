//! A guest's connection as bytes: its first head, which is kept small until it is whole, and the bytes after it,
//! counted until it is a whole message.

use super::crowd::{ConnectionPlace, Hold};
use super::wire::Wire;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{ready, Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longer heads are refused by hyper.
pub const MAX_HEAD: usize = 16 * 1024;
/// What a connection costs (bytes) before its first head is whole: no buffer of hyper's, and a short head.
pub const WAITING: usize = 3 * 1024;
/// While hyper has it: a buffer in each direction, and what answers.
pub const SERVED: usize = 24 * 1024;
/// As a WebSocket.
pub const SOCKET: usize = 6656;

/// Bytes of a head that are free while it is waited for, of a head at hyper, and of a frame: their room is in the
/// costs above.
const SHORT_HEAD: usize = 512;
const HEAD_AT_HYPER: usize = 8 * 1024;
const SHORT_FRAME: usize = 1024;
const STEP: usize = 1024;

/// One connection, for all who serve it.
pub struct GuestLine {
    pub place: Arc<ConnectionPlace>,
    unfinished: Mutex<Unfinished>,
}

/// What has come of the next message.
struct Unfinished {
    bytes: usize,
    free: usize,
    hold: Option<Hold>,
    /// A request is being answered: bytes that come are its body, and the reader of the body counts them.
    is_body: bool,
}

impl GuestLine {
    pub fn new(place: Arc<ConnectionPlace>) -> Arc<GuestLine> {
        let unfinished = Unfinished { bytes: 0, free: HEAD_AT_HYPER, hold: None, is_body: false };
        Arc::new(GuestLine { place, unfinished: Mutex::new(unfinished) })
    }

    /// A whole head has come.
    pub fn end_head(&self) {
        *self.unfinished() = Unfinished { bytes: 0, free: HEAD_AT_HYPER, hold: None, is_body: true };
    }

    /// The next head may come.
    pub fn begin_head(&self) {
        self.unfinished().is_body = false;
    }

    /// From now on, and after every whole frame, a frame may come.
    pub fn begin_frame(&self) {
        *self.unfinished() = Unfinished { bytes: 0, free: SHORT_FRAME, hold: None, is_body: false };
    }

    /// Whether `more` further bytes may come.
    fn may_come(&self, more: usize) -> bool {
        let mut unfinished = self.unfinished();
        let Unfinished { bytes, free, hold, is_body } = &mut *unfinished;
        if *is_body {
            return true;
        }
        *bytes = bytes.saturating_add(more);
        let held = hold.as_ref().map_or(0, Hold::bytes);
        let missing = bytes.saturating_sub(free.saturating_add(held));
        if missing == 0 {
            return true;
        }
        let missing = missing.next_multiple_of(STEP);
        match hold {
            Some(hold) => hold.grow(missing),
            None => {
                *hold = self.place.hold(missing);
                hold.is_some()
            }
        }
    }

    fn unfinished(&self) -> MutexGuard<'_, Unfinished> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first head of a connection.
pub struct FirstHead {
    bytes: Vec<u8>,
    hold: Option<Hold>,
}

impl FirstHead {
    /// Reads until the head is whole, or cannot be one: why not is for hyper to say. `None` when the connection has
    /// ended, or no room is left.
    pub async fn read(wire: &mut Wire, place: &Arc<ConnectionPlace>) -> Option<FirstHead> {
        let mut head = FirstHead { bytes: Vec::new(), hold: None };
        while !is_whole_head(&head.bytes) {
            let has_room = poll_fn(|cx| {
                // Not a part of the task while nothing comes.
                let mut buffer = [0; 2048];
                let mut buffer = ReadBuf::new(&mut buffer);
                ready!(Pin::new(&mut *wire).poll_read(cx, &mut buffer))?;
                Poll::Ready(Ok::<_, io::Error>(head.take(buffer.filled(), place)))
            });
            if !has_room.await.ok()? {
                return None;
            }
        }
        Some(head)
    }

    /// Takes what has come. `false` at the end, or where no room is left.
    fn take(&mut self, came: &[u8], place: &Arc<ConnectionPlace>) -> bool {
        let length = self.bytes.len().saturating_add(came.len());
        if came.is_empty() {
            return false;
        }
        if length > self.bytes.capacity() {
            let capacity = length.next_power_of_two();
            let more = capacity.saturating_sub(self.bytes.capacity().max(SHORT_HEAD));
            let has_room = match &mut self.hold {
                _ if more == 0 => true,
                Some(hold) => hold.grow(more),
                None => {
                    self.hold = place.hold(more);
                    self.hold.is_some()
                }
            };
            if !has_room {
                return false;
            }
            self.bytes.reserve_exact(capacity.saturating_sub(self.bytes.len()));
        }
        self.bytes.extend_from_slice(came);
        true
    }
}

/// Whether hyper can say something to these bytes: the head ends here, is too long, or is no head.
fn is_whole_head(bytes: &[u8]) -> bool {
    if bytes.len() >= MAX_HEAD || bytes.first().is_some_and(|first| !first.is_ascii_uppercase()) {
        return true;
    }
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return false };
    let line = bytes.get(..end).unwrap_or_default().trim_ascii_end();
    let is_request = line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0");
    !is_request || bytes.windows(3).any(|end| end == b"\n\r\n") || bytes.windows(2).any(|end| end == b"\n\n")
}

/// The stream of a line, from its first head on; fails where more comes than may.
pub struct GuestStream {
    first: FirstHead,
    /// How much of it was read.
    read: usize,
    stream: Wire,
    line: Arc<GuestLine>,
}

impl GuestStream {
    pub fn new(first: FirstHead, stream: Wire, line: Arc<GuestLine>) -> GuestStream {
        GuestStream { first, read: 0, stream, line }
    }
}

impl AsyncRead for GuestStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let waiting = self.first.bytes.get(self.read..).unwrap_or_default();
        if waiting.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        } else {
            let (now, _) = waiting.split_at(waiting.len().min(buf.remaining()));
            buf.put_slice(now);
        }
        let came = buf.filled().len().saturating_sub(before);
        if !self.first.bytes.is_empty() {
            self.read = self.read.saturating_add(came);
            if self.read >= self.first.bytes.len() {
                (self.first, self.read) = (FirstHead { bytes: Vec::new(), hold: None }, 0);
            }
        }
        Poll::Ready(match self.line.may_come(came) {
            true => Ok(()),
            false => Err(io::Error::other("too much comes")),
        })
    }
}

impl AsyncWrite for GuestStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    /// So that hyper does not copy what it writes.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_head(bytes: &[u8]) -> bool {
    is_whole_head(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::crowd::{Budget, ConnectionHolder, Crowd};
    use std::net::IpAddr;

    fn place(kib: usize) -> Arc<ConnectionPlace> {
        let crowd = Crowd::new(Budget { bytes: kib * 1024, connections: 10 }, Arc::default(), Vec::new);
        Arc::new(crowd.admit(ConnectionHolder::Address(IpAddr::from([192, 0, 2, 1])), 10, 0).unwrap())
    }

    #[test]
    fn a_head_is_kept_until_hyper_can_say_something_to_it() {
        for part in ["", "G", "GET / HTTP/1.1", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r"] {
            assert!(!is_whole_head(part.as_bytes()), "{part:?}");
        }
        for whole in ["GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.0\n\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\nmore"]
        {
            assert!(is_whole_head(whole.as_bytes()), "{whole:?}");
        }
        for none in ["\x16\x03\x01", "get", "GET /\n", "PRI * HTTP/2.0\r\n", "\r\n"] {
            assert!(is_whole_head(none.as_bytes()), "{none:?}");
        }
        assert!(is_whole_head(&[b'A'; MAX_HEAD]));
    }

    #[test]
    fn long_heads_and_frames_need_room_and_short_ones_and_bodies_none() {
        let line = GuestLine::new(place(4));
        assert!(line.may_come(HEAD_AT_HYPER) && line.may_come(3 * 1024) && !line.may_come(1));
        line.end_head();
        assert!(line.may_come(1 << 20), "a body");
        line.begin_head();
        assert!(line.may_come(HEAD_AT_HYPER + 1) && line.may_come(1023));
        line.begin_frame();
        assert!(line.may_come(SHORT_FRAME + 3 * 1024) && !line.may_come(1));
        line.begin_frame();
        assert!(line.may_come(SHORT_FRAME));
    }
}
