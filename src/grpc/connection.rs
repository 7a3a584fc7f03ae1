//! One connection: HTTP/2, bounded in time, streams and sizes.

use super::methods::{self, Office};
use crate::stream::AnyStream;
use crate::task;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::Request;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// Calls of a connection that are open at a time.
const STREAMS: u32 = 16;
/// The headers of one call (bytes).
const MAX_HEAD: u32 = 8 * 1024;
/// What is taken of a body before it is read, and held of answers before they are sent (bytes).
const WINDOW: u32 = 64 * 1024;
/// How long a new connection may say nothing.
const SILENT: Duration = Duration::from_secs(10);
/// A connection without a call ends after this many times `SILENT`.
const IDLE: usize = 60;
const ALIVE_EVERY: Duration = Duration::from_secs(30);
const ALIVE_WITHIN: Duration = Duration::from_secs(20);

/// Work of a connection, as hyper starts it.
#[derive(Clone)]
struct Tasks;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, work: F) {
        task::spawn(work);
    }
}

/// The calls of a connection.
#[derive(Default)]
struct Calls {
    begun: AtomicUsize,
    open: Arc<AtomicUsize>,
}

/// One of them, while it is being answered.
struct OpenCall(Arc<AtomicUsize>);

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Calls {
    fn begin(&self) -> OpenCall {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenCall(self.open.clone())
    }
}

/// Serves a connection until it ends; with `server` over TLS.
pub async fn serve(stream: TcpStream, from: IpAddr, server: Option<Arc<ServerConfig>>, office: Arc<Office>) {
    // Frames are small and written at once: waiting to fill a segment costs 40 ms a call.
    let _ = stream.set_nodelay(true);
    let stream: AnyStream = match server {
        None => Box::new(stream),
        Some(server) => match tokio::time::timeout(SILENT, TlsAcceptor::from(server).accept(stream)).await {
            Ok(Ok(stream)) => Box::new(stream),
            _ => return,
        },
    };
    let calls = Arc::new(Calls::default());
    let of_service = calls.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (office, call) = (office.clone(), of_service.begin());
        async move { Ok::<_, Infallible>(methods::answer(office, request, from, Box::new(call)).await) }
    });
    let connection = http2::Builder::new(Tasks)
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(MAX_HEAD)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(ALIVE_EVERY)
        .keep_alive_timeout(ALIVE_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let (mut before, mut idle) = (0, 0usize);
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = tokio::time::sleep(SILENT) => {
                let begun = calls.begun.load(Ordering::Relaxed);
                if begun == 0 {
                    return;
                }
                let is_used = begun != before || calls.open.load(Ordering::Relaxed) > 0;
                (before, idle) = (begun, if is_used { 0 } else { idle.saturating_add(1) });
                if idle == IDLE {
                    connection.as_mut().graceful_shutdown();
                } else if idle > IDLE {
                    return;
                }
            }
        }
    }
}
