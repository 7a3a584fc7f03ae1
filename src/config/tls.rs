//! `config tls`: the name and the certificate under which guests, tunnels and the operator are served over https as well.

use super::fields::Fields;
use super::problem::Problems;
use super::schema::TLS;
use super::uci::Section;
use super::values;
use std::net::SocketAddr;
use std::path::PathBuf;

/// `config tls`, where it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The name that the certificate is for, and that leads guests to the router; lower case.
    pub name: String,
    /// PEM: the certificate, and those between it and a root.
    pub cert_file: PathBuf,
    /// PEM.
    pub key_file: PathBuf,
    /// On guests' devices.
    pub port: u16,
    /// What `public_listen` serves.
    pub listen: SocketAddr,
    /// The operator's interface.
    pub admin_listen: SocketAddr,
}

impl TlsConfig {
    /// Where guests find the portal: `https://wifi.example.net:2125`.
    pub fn origin(&self) -> String {
        match self.port {
            443 => format!("https://{}", self.name),
            port => format!("https://{}:{port}", self.name),
        }
    }
}

pub(super) fn read(section: Option<&Section>, problems: &mut Problems) -> Option<Option<TlsConfig>> {
    let Some(section) = section else { return Some(None) };
    let mut fields = Fields::new(TLS, Some(section), problems);
    let name = fields.one("name", values::host_name);
    let cert_file = fields.one("cert_file", values::plain_path);
    let key_file = fields.one("key_file", values::plain_path);
    let port = fields.one("port", values::port);
    let listen = fields.one("listen", values::local_address);
    let admin_listen = fields.one("admin_listen", values::local_address);
    Some(Some(TlsConfig {
        name: name?,
        cert_file: cert_file?,
        key_file: key_file?,
        port: port?,
        listen: listen?,
        admin_listen: admin_listen?,
    }))
}
