//! The section of the daemon itself: `config tollgate 'main'`.

use super::fields::Fields;
use super::problem::{shown, Problems};
use super::schema::MAIN;
use super::uci::Section;
use super::values::Parsed;
use super::{garden, range, values, AddressRange};
use crate::units::Millis;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

const MAX_GARDEN: usize = 64;
pub(super) const MAX_UPLINKS: usize = 16;

/// `config tollgate 'main'`.
#[derive(Clone, Debug, PartialEq)]
pub struct Main {
    /// False: the daemon does not run, and there may be nothing to sell.
    pub enabled: bool,
    /// What must survive a power cut.
    pub state_dir: PathBuf,
    /// `control.sock`.
    pub run_dir: PathBuf,
    /// Portal and API for guests. No two listeners have the same port.
    pub port: u16,
    pub mint_proxy_port: u16,
    /// Where nft redirects port 80 to.
    pub redirect_port: u16,
    /// The operator's interface: a loopback, private or link-local address.
    pub admin_listen: SocketAddr,
    /// For a tunnel, a proxy or an onion service; the same kinds of addresses. See [`super::Config::public_listen`].
    pub public_listen: SocketAddr,
    /// WebSockets per MAC address.
    pub guest_sockets: usize,
    /// TCP connections per MAC address.
    pub guest_connections: usize,
    pub log_level: log::LevelFilter,
    pub log_target: LogTarget,
    pub log_format: LogFormat,
    /// Certificates (PEM) that are trusted besides the public ones.
    pub ca_file: Option<PathBuf>,
    /// How long after an invoice's own expiry its payment is still looked for.
    pub invoice_grace: Millis,
    pub mint_proxy_auth: MintProxyAuth,
    /// What guests reach without paying; ascending, no two overlap or touch.
    pub garden: Vec<AddressRange>,
    /// Firewall zones or networks that lead to the internet; empty: those that do so now.
    pub uplinks: Vec<String>,
}

/// What a guest must show at the mint proxy besides its MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MintProxyAuth {
    Nothing,
    /// Its session ticket, from the first payment on.
    Ticket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTarget {
    Syslog,
    Stderr,
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

pub(super) fn read(section: Option<&Section>, problems: &mut Problems) -> Option<Main> {
    let mut fields = Fields::new(MAIN, section, problems);
    let enabled = fields.one("enabled", values::boolean);
    let state_dir = fields.one("state_dir", values::plain_path);
    let run_dir = fields.one("run_dir", values::run_dir);
    let port = fields.one("port", values::port);
    let mint_proxy_port = fields.one("mint_proxy_port", values::port);
    let redirect_port = fields.one("redirect_port", values::port);
    let admin_listen = fields.one("admin_listen", values::local_address);
    let public_listen = fields.one("public_listen", values::local_address);
    let guest_sockets = fields.one("guest_sockets", |text| values::count(text, 1024));
    let guest_connections = fields.one("guest_connections", |text| values::count(text, 4096));
    let log_level = fields.one("log_level", values::log_level);
    let log_target = fields.one("log_target", log_target);
    let log_format = fields.one("log_format", log_format);
    let ca_file = fields.optional("ca_file", values::plain_path);
    let invoice_grace = fields.one("invoice_grace", values::seconds);
    let mint_proxy_auth = fields.one("mint_proxy_auth", mint_proxy_auth);
    let garden = fields.many("garden", MAX_GARDEN, garden::parse);
    let uplinks = fields.many("uplink", MAX_UPLINKS, values::uplink);

    if guest_sockets > guest_connections {
        fields.warn(
            "guest_sockets",
            "is more than guest_connections, which counts them too: raise that as well",
        );
    }
    if let Some(dir) = state_dir.as_deref().filter(|dir| is_in_ram(dir)) {
        let message = format!(
            "{} is in memory on OpenWrt, all sales are forgotten at a reboot: use a directory on flash, like '/etc/tollgate'",
            shown(&dir.to_string_lossy())
        );
        fields.warn("state_dir", message);
    }
    Some(Main {
        enabled: enabled?,
        state_dir: state_dir?,
        run_dir: run_dir?,
        port: port?,
        mint_proxy_port: mint_proxy_port?,
        redirect_port: redirect_port?,
        admin_listen: admin_listen?,
        public_listen: public_listen?,
        guest_sockets: guest_sockets?,
        guest_connections: guest_connections?,
        log_level: log_level?,
        log_target: log_target?,
        log_format: log_format?,
        ca_file: ca_file?,
        invoice_grace: invoice_grace?,
        mint_proxy_auth: mint_proxy_auth?,
        garden: range::merged(garden?),
        uplinks: uplinks?,
    })
}

fn is_in_ram(dir: &Path) -> bool {
    ["/tmp", "/var", "/run", "/dev/shm"].iter().any(|ram| dir.starts_with(ram))
}

fn log_target(text: &str) -> Parsed<LogTarget> {
    match text {
        "syslog" => Ok(LogTarget::Syslog),
        "stderr" => Ok(LogTarget::Stderr),
        _ => Err(format!("{} is no log target: use syslog or stderr", shown(text))),
    }
}

fn log_format(text: &str) -> Parsed<LogFormat> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("{} is no log format: use text or json", shown(text))),
    }
}

fn mint_proxy_auth(text: &str) -> Parsed<MintProxyAuth> {
    match text {
        "none" => Ok(MintProxyAuth::Nothing),
        "ticket" => Ok(MintProxyAuth::Ticket),
        _ => Err(format!("{} is none of the two: use none or ticket", shown(text))),
    }
}
