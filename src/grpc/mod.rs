//! gRPC, for the operator's own programs: the takings as a wallet, and payments out of them (`proto/`).
//!
//! Everything here is for the bearer of one token, on loopback, or over TLS at the address of a VPN. Refused: who does not
//! show the token, before anything of a message is read; a guest device's or an uplink's address; what is larger, slower
//! or more than the bounds of this room.

mod connection;
mod framing;
mod messages;
mod methods;
mod payments;
mod status;

use crate::certificate::OwnCertificate;
use crate::config::GrpcConfig;
use crate::http::{bind, make_token};
use crate::setup::unfit_for_programs;
use crate::shop::Site;
use crate::task;
use methods::Office;
use payments::Payments;
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Connections at a time; a program needs one.
const CONNECTIONS: usize = 16;
/// Clients of HTTP/2 over TLS ask for it by this name.
const ALPN: &[u8] = b"h2";

/// The listening socket, and the payments behind it.
#[derive(Default)]
pub struct GrpcListener {
    running: Option<Running>,
    complaint: Option<String>,
    payments: Option<Payments>,
}

struct Running {
    config: GrpcConfig,
    task: JoinHandle<()>,
}

impl GrpcListener {
    /// Opens what the configuration wants and closes what it does not. Answers why it cannot be opened.
    pub fn reconcile(&mut self, site: &Arc<Site>) -> Option<String> {
        let config = site.config();
        let Some(wanted) = &config.grpc else {
            self.stop();
            return None;
        };
        // What an earlier run has begun is brought to its end, whether or not anybody asks.
        if let (None, Ok(shop)) = (&self.payments, &site.shop) {
            self.payments = Some(Payments::start(shop));
        }
        let unfit = match wanted.is_tls() {
            // An address may become a guest device's while we run.
            true => unfit_for_programs(&config, wanted.listen.ip()),
            false => None,
        };
        if self.running.as_ref().is_some_and(|running| running.config != *wanted) || unfit.is_some() {
            self.stop();
        }
        if self.running.as_ref().is_some_and(|running| !running.task.is_finished()) {
            return None;
        }
        let opened = match unfit {
            Some(why) => Err(why),
            None => self.open(wanted, site).map_err(|err| err.to_string()),
        };
        let complaint = opened.err().map(|why| format!("gRPC is not served at {}: {why}", wanted.listen));
        if let Some(complaint) = complaint.as_ref().filter(|new| self.complaint.as_ref() != Some(new)) {
            log::warn!("{complaint}; trying again");
        }
        self.complaint = complaint.clone();
        complaint
    }

    fn open(&mut self, wanted: &GrpcConfig, site: &Arc<Site>) -> std::io::Result<()> {
        make_token(&wanted.token_file, "the token of the gRPC services")?;
        let listener = bind(wanted.listen, None)?;
        let office = Arc::new(Office::new(site.clone(), self.payments.clone(), wanted.token_file.clone()));
        log::info!("gRPC is served at {}", wanted.listen);
        let task = task::spawn(accept(listener, site.clone(), wanted.is_tls(), office));
        self.running = Some(Running { config: wanted.clone(), task });
        Ok(())
    }

    /// Closes the socket and its connections.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.task.abort();
        }
        self.complaint = None;
    }
}

async fn accept(listener: TcpListener, site: Arc<Site>, is_tls: bool, office: Arc<Office>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    // Dropped with this task, which ends the connections.
    let mut open = tokio::task::JoinSet::new();
    loop {
        let (stream, peer): (_, SocketAddr) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(err) => {
                log::debug!("accept: {err}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while open.try_join_next().is_some() {}
        let server = is_tls.then(|| server(&site.certificate));
        let (Ok(place), true) = (room.clone().try_acquire_owned(), !matches!(server, Some(None))) else {
            log::debug!("gRPC: there is no room, or no certificate, for {peer}");
            continue;
        };
        let office = office.clone();
        open.spawn(async move {
            connection::serve(stream, peer.ip(), server.flatten(), office).await;
            drop(place);
        });
    }
}

/// What connections over TLS are served with.
fn server(certificate: &OwnCertificate) -> Option<Arc<ServerConfig>> {
    let mut server = ServerConfig::clone(&*certificate.server()?);
    server.alpn_protocols = vec![ALPN.to_vec()];
    Some(Arc::new(server))
}
