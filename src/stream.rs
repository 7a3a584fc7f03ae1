//! A connection of any kind, plain or TLS, ours to others or others' to us: the protocols spoken over it exist once.

use std::io;
use std::pin::Pin;
use std::task::{ready, Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub type AnyStream = Box<dyn Stream>;

/// Gets the number of bytes that came, and says whether they may come.
type Gauge = Box<dyn FnMut(usize) -> bool + Send>;

struct Gauged {
    stream: AnyStream,
    may_come: Gauge,
}

/// The same stream, which fails where more comes than may.
pub fn gauged(
    stream: impl Stream + 'static,
    may_come: impl FnMut(usize) -> bool + Send + 'static,
) -> AnyStream {
    Box::new(Gauged { stream: Box::new(stream), may_come: Box::new(may_come) })
}

impl AsyncRead for Gauged {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let came = buf.filled().len().saturating_sub(before);
        Poll::Ready(match (self.may_come)(came) {
            true => Ok(()),
            false => Err(io::Error::other("too much comes")),
        })
    }
}

impl AsyncWrite for Gauged {
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
