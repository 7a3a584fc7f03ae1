//! `config grpc`: where the operator's own programs are served over gRPC, and what they show.

use super::fields::Fields;
use super::problem::Problems;
use super::schema::GRPC;
use super::uci::Section;
use super::{values, TlsConfig};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// `config grpc`, where it is there and this program has gRPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcConfig {
    /// Loopback's, or a VPN's address.
    pub listen: SocketAddr,
    /// Holds the bearer token; made if absent.
    pub token_file: PathBuf,
}

impl GrpcConfig {
    /// Whether it is served over TLS: everywhere except on loopback.
    pub fn is_tls(&self) -> bool {
        !self.listen.ip().to_canonical().is_loopback()
    }
}

/// `Some(None)`: there is no such section. `tls`: whether there is a certificate for what is not loopback's.
pub(super) fn read(
    section: Option<&Section>,
    state_dir: Option<&Path>,
    tls: Option<&TlsConfig>,
    problems: &mut Problems,
) -> Option<Option<GrpcConfig>> {
    let Some(section) = section else { return Some(None) };
    let mut fields = Fields::new(GRPC, Some(section), problems);
    let listen = fields.one("listen", address);
    let token_file = fields.optional("token_file", values::plain_path);
    if cfg!(not(feature = "grpc")) {
        fields.warn("listen", "has no effect: this program was built without gRPC");
        return Some(None);
    }
    let token_file = token_file?.or_else(|| Some(state_dir?.join("grpc.token")));
    let config = GrpcConfig { listen: listen?, token_file: token_file? };
    if config.is_tls() && tls.is_none() {
        let message =
            "is not loopback's: it needs a section config tls, or the token could be read on its way";
        fields.error("listen", message);
        return None;
    }
    Some(Some(config))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let is_everywhere = |address: &SocketAddr| address.ip().to_canonical().is_unspecified();
    if text.parse().is_ok_and(|address| is_everywhere(&address)) {
        return Err("is every address, the guests' too: write loopback's, or that of a VPN".to_owned());
    }
    match text.parse::<SocketAddr>() {
        // Some VPNs number their members so (RFC 6598).
        Ok(address) if is_shared(address.ip().to_canonical()) && address.port() != 0 => Ok(address),
        _ => values::local_address(text),
    }
}

/// `100.64.0.0/10`
fn is_shared(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if u32::from(v4) >> 22 == u32::from(Ipv4Addr::new(100, 64, 0, 0)) >> 22)
}
