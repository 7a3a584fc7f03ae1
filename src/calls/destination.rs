//! Where a peer is, and the way to it: name, connection, TLS.
//!
//! The system's resolver blocks, for a minute where the name servers are silent, so it works on threads of its own. A
//! peer has one of them at a time: its dead name takes none of those that do the work, and no other peer's. Where it
//! fails, or takes its time, [`name_servers`] are asked.

use super::name_servers::{self, MAX_ADDRESSES};
use super::{not_sent, NoAnswer, Tls};
use crate::stream::AnyStream;
use crate::url::Url;
use rustls::pki_types::ServerName;
use rustls::ClientConfig;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// After this the name servers are asked by ourselves as well.
const SYSTEMS_HEAD_START: Duration = Duration::from_millis(1500);

/// A peer, and whom we trust to be it.
pub struct Destination {
    url: Url,
    tls: Tls,
    lookups: Lookups,
}

impl Destination {
    pub fn new(url: Url, tls: Tls) -> Destination {
        Destination { url, tls, lookups: Lookups::new(1) }
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    /// A stream to it, with TLS where its URL is an `https` one.
    pub async fn open(&self) -> Result<AnyStream, NoAnswer> {
        self.open_where(|_| true).await
    }

    /// The same, if its name leads to no address but such ones.
    pub async fn open_where(&self, is_allowed: fn(IpAddr) -> bool) -> Result<AnyStream, NoAnswer> {
        let host = self.url.host();
        let found = self.lookups.addresses(host, self.url.port()).await?;
        if !found.iter().all(|address| is_allowed(address.ip())) {
            return Err(not_sent("it is not out there"));
        }
        let stream = reach(&found).await?;
        match self.url.is_https() {
            true => secure(stream, host, self.tls.config()).await,
            false => Ok(Box::new(stream)),
        }
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Destination({})", self.url)
    }
}

/// Bounded use of the system's resolver.
pub struct Lookups(Arc<Semaphore>);

impl Lookups {
    /// At most `at_once` lookups at a time.
    pub fn new(at_once: usize) -> Lookups {
        Lookups(Arc::new(Semaphore::new(at_once)))
    }

    /// The addresses of a host; they are there within 5 s or not at all.
    pub async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, NoAnswer> {
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        if let Ok(address) = literal {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let found = timeout(STEP_TIMEOUT, self.by_either(host, port)).await;
        let found = found.map_err(|_| not_sent("its name is not resolved in 5 s"))?;
        found.map_err(|err| not_sent(format!("no such host: {err}")))
    }

    /// What the system's resolver says, or else the name servers.
    async fn by_either(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let mut system = pin!(self.resolved(host.to_owned(), port));
        let said = timeout(SYSTEMS_HEAD_START, &mut system).await;
        if let Ok(Ok(found)) = said {
            return Ok(found);
        }
        let mut asked = pin!(name_servers::ask(host));
        let found = match said {
            Ok(failed) => (asked.await, Some(failed)),
            Err(_) => tokio::select! {
                said = &mut system => match said {
                    Ok(found) => return Ok(found),
                    failed => (asked.await, Some(failed)),
                },
                found = &mut asked => (found, None),
            },
        };
        match found {
            (found, _) if !found.is_empty() => {
                Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
            }
            (_, Some(failed)) => failed,
            (_, None) => system.await,
        }
    }

    async fn resolved(&self, host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
        let permit = self.0.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (tell, told) = oneshot::channel();
        std::thread::Builder::new().name("resolver".to_owned()).spawn(move || {
            let found = (host.as_str(), port).to_socket_addrs();
            // The asker may have given up; the thread is counted until it is over.
            let _ = tell.send(found.map(|found| found.take(MAX_ADDRESSES).collect()));
            drop(permit);
        })?;
        told.await.map_err(io::Error::other)?
    }
}

pub(super) async fn reach(addresses: &[SocketAddr]) -> Result<TcpStream, NoAnswer> {
    let stream = timeout(STEP_TIMEOUT, TcpStream::connect(addresses));
    let stream = stream.await.map_err(|_| not_sent("no connection in 5 s"))?;
    let stream = stream.map_err(|err| not_sent(format!("no connection: {err}")))?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

pub(super) async fn secure(
    stream: TcpStream,
    host: &str,
    tls: Arc<ClientConfig>,
) -> Result<AnyStream, NoAnswer> {
    let name = ServerName::try_from(host.to_owned()).map_err(not_sent)?;
    let shake = timeout(STEP_TIMEOUT, TlsConnector::from(tls).connect(name, stream));
    let stream = shake.await.map_err(|_| not_sent("no TLS session in 5 s"))?;
    Ok(Box::new(stream.map_err(|err| not_sent(format!("no TLS session: {err}")))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lookup_waits_for_the_one_before_it_and_an_address_for_none() {
        let lookups = Lookups::new(1);
        let hanging = lookups.0.clone().acquire_owned().await.unwrap();
        let waiting = lookups.resolved("localhost".to_owned(), 80);
        assert!(timeout(Duration::from_millis(50), waiting).await.is_err());
        for (host, address) in [("127.0.0.1", "127.0.0.1:80"), ("[::1]", "[::1]:80")] {
            assert_eq!(lookups.addresses(host, 80).await, Ok(vec![address.parse().unwrap()]));
        }
        drop(hanging);
        assert!(!lookups.resolved("localhost".to_owned(), 80).await.unwrap().is_empty());
    }
}
