//! A connection below HTTP: plain TCP, or TLS over it. What comes over TLS is kept until it is a whole record; that is
//! bounded, and counts against the connection.

use super::crowd::{ConnectionPlace, Hold};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What TLS costs a connection beside what it costs without (bytes): keys and states, and a buffer in each direction.
pub const TLS: usize = 10 * 1024;
/// While hands are shaken.
pub const SHAKING: usize = 16 * 1024;
/// What is encrypted and not sent yet.
pub const UNSENT: usize = 4 * 1024;

/// What rustls reads at once, which is in the costs above. A browser's part of a handshake is shorter.
const BUFFER: usize = 4 * 1024;
/// A record with its header and what encryption adds (RFC 8446, 5.2; RFC 5246, 6.2.3).
const RECORD: usize = 5 + 16 * 1024 + 2048;

pub enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TappedTcp>>),
}

impl Wire {
    /// The address that was asked.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        match self {
            Wire::Plain(stream) => stream.local_addr(),
            Wire::Tls(stream) => stream.get_ref().0.stream.local_addr(),
        }
    }

    fn writer(&mut self) -> Pin<&mut dyn Writer> {
        match self {
            Wire::Plain(stream) => Pin::new(stream),
            Wire::Tls(stream) => Pin::new(stream.as_mut()),
        }
    }
}

trait Writer: AsyncWrite + Unpin {}
impl<T: AsyncWrite + Unpin> Writer for T {}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Wire::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Wire::Tls(stream) => {
                // One record at a time.
                let come = ready!(Pin::new(stream.as_mut()).poll_fill_buf(cx))?;
                let (now, _) = come.split_at(come.len().min(buf.remaining()));
                buf.put_slice(now);
                let length = now.len();
                Pin::new(stream.as_mut()).consume(length);
                stream.get_mut().0.is_read |= length > 0;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.writer().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writer().poll_write_vectored(cx, bufs)
    }

    /// So that hyper does not copy what it writes.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer().poll_shutdown(cx)
    }
}

/// TCP below TLS.
pub struct TappedTcp {
    stream: TcpStream,
    place: Arc<ConnectionPlace>,
    /// How much has come since the connection began, or since the last record was read.
    came: usize,
    /// For what of it is not in the connection's cost.
    hold: Option<Hold>,
    /// Something of what has come was read: when more is asked for, it is used up.
    is_read: bool,
}

impl TappedTcp {
    pub fn new(stream: TcpStream, place: Arc<ConnectionPlace>) -> TappedTcp {
        TappedTcp { stream, place, came: 0, hold: None, is_read: false }
    }

    fn may_come(&mut self, more: usize) -> bool {
        self.came = self.came.saturating_add(more);
        if self.came > BUFFER && self.hold.is_none() {
            self.hold = self.place.hold(RECORD);
            return self.hold.is_some();
        }
        self.came <= BUFFER + RECORD
    }
}

impl AsyncRead for TappedTcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.is_read) {
            (self.came, self.hold) = (0, None);
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let came = buf.filled().len().saturating_sub(before);
        Poll::Ready(match self.may_come(came) {
            true => Ok(()),
            false => Err(io::Error::other("too much comes for one record")),
        })
    }
}

impl AsyncWrite for TappedTcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
