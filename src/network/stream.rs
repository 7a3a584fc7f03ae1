//! A connection of any kind, plain or TLS, ours to others or others' to us: the protocols spoken over it exist once.

use tokio::io::{AsyncRead, AsyncWrite};

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub type AnyStream = Box<dyn Stream>;
