//! The sections of cards and what pays for them: `admin`, `card`, `lightning`.

use super::fields::Fields;
use super::problem::{shown, ConfigPosition, Problems};
use super::schema::{ADMIN, CARD, LIGHTNING};
use super::uci::{Section, UciFile};
use super::values;
use crate::bolt11::Network;
use crate::hex;
use crate::units::{Millis, Msats, ALL_MSATS};
use crate::url::Url;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The link on a card must fit its NDEF file with some room for the card's number (bytes).
const MAX_DOMAIN: usize = 150;
/// Sections that say what pays invoices.
const MOST_LIGHTNING: usize = 8;
const NO_EFFECT: &str =
    "has no effect with this type: change option type ('melt' if it is missing), or remove this";

/// `config admin`.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Holds the bearer token of the admin listener; made if absent.
    pub token_file: PathBuf,
    /// Whether that token lets its bearer in.
    pub token: bool,
}

/// `config card`, where it is there and enabled.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// Host, and port if not the scheme's own, under which tills reach us; lower case.
    pub domain: String,
    /// Invoices of other networks are refused.
    pub network: Network,
    /// How long a tap may be turned into a payment.
    pub k1_life: Millis,
    /// In place of `public_listen`.
    pub listen: Option<SocketAddr>,
}

/// `config lightning`, of which there may be several; without one it is the router's own ecash.
#[derive(Clone, Debug, PartialEq)]
pub struct LightningConfig {
    pub kind: LightningKind,
    /// `https`, or `http` on this machine; none for the router's own ecash.
    pub url: Option<Url>,
    /// Macaroon, rune, key, password or token; none for the router's own ecash.
    pub secret_file: Option<PathBuf>,
    /// SHA-256 of the DER of the one certificate that is trusted.
    pub cert_sha256: Option<[u8; 32]>,
    pub fee_limit: Msats,
}

/// What pays invoices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LightningKind {
    Lnd,
    Cln,
    Lnbits,
    Phoenixd,
    /// The router's own ecash, melted at its mint.
    Melt,
    Sphinx,
}

impl LightningKind {
    pub const ALL: [LightningKind; 6] = [
        LightningKind::Lnd,
        LightningKind::Cln,
        LightningKind::Lnbits,
        LightningKind::Phoenixd,
        LightningKind::Melt,
        LightningKind::Sphinx,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            LightningKind::Lnd => "lnd",
            LightningKind::Cln => "cln",
            LightningKind::Lnbits => "lnbits",
            LightningKind::Phoenixd => "phoenixd",
            LightningKind::Melt => "melt",
            LightningKind::Sphinx => "sphinx",
        }
    }

    pub fn parse(text: &str) -> Option<LightningKind> {
        LightningKind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The option that names the file with its credentials.
    fn secret_option(self) -> Option<&'static str> {
        match self {
            LightningKind::Lnd => Some("macaroon_file"),
            LightningKind::Cln => Some("rune_file"),
            LightningKind::Lnbits => Some("key_file"),
            LightningKind::Phoenixd => Some("password_file"),
            LightningKind::Melt => None,
            LightningKind::Sphinx => Some("token_file"),
        }
    }
}

pub(super) fn admin(
    section: Option<&Section>,
    state_dir: Option<&Path>,
    problems: &mut Problems,
) -> Option<Admin> {
    let mut fields = Fields::new(ADMIN, section, problems);
    let token_file = fields.optional("token_file", values::plain_path)?;
    let token = fields.one("token", values::boolean);
    Some(Admin { token_file: token_file.or_else(|| Some(state_dir?.join("admin.token")))?, token: token? })
}

pub(super) fn card(section: Option<&Section>, problems: &mut Problems) -> Option<Option<Card>> {
    let Some(section) = section else { return Some(None) };
    let mut fields = Fields::new(CARD, Some(section), problems);
    let enabled = fields.one("enabled", values::boolean);
    let domain = match enabled {
        Some(false) if !fields.is_set("domain") => Some(String::new()),
        _ => fields.one("domain", domain),
    };
    let network = fields.one("network", network);
    let k1_life = fields.one("k1_life", |text| values::number(text, 5..=600).map(Millis::from_secs));
    let listen = fields.optional("listen", values::local_address);
    let card = Card { domain: domain?, network: network?, k1_life: k1_life?, listen: listen? };
    Some(enabled?.then_some(card))
}

/// What pays, in the order of the file.
pub(super) fn lightning(file: &UciFile, problems: &mut Problems) -> Option<Vec<LightningConfig>> {
    if let Some(section) = file.of_kind(LIGHTNING).nth(MOST_LIGHTNING) {
        let message = format!("more than {MOST_LIGHTNING} sections {LIGHTNING}: remove some");
        problems.error(ConfigPosition::section(section), message);
    }
    let mut sections: Vec<_> = file.of_kind(LIGHTNING).take(MOST_LIGHTNING).map(Some).collect();
    if sections.is_empty() {
        sections.push(None);
    }
    // All of them are read, so that every fault is told.
    let read: Vec<_> = sections.into_iter().map(|section| backend(section, problems)).collect();
    read.into_iter().collect()
}

fn backend(section: Option<&Section>, problems: &mut Problems) -> Option<LightningConfig> {
    let mut fields = Fields::new(LIGHTNING, section, problems);
    let kind = fields.one("type", kind);
    let url = fields.optional("url", node_url);
    let mut secret_file = None;
    for option in LightningKind::ALL.into_iter().filter_map(LightningKind::secret_option) {
        let file = fields.optional(option, values::plain_path)?;
        let is_used = kind.and_then(LightningKind::secret_option) == Some(option);
        match file {
            None if is_used => fields.error(option, "is missing: add a line with it to this section"),
            Some(_) if kind.is_some() && !is_used => {
                fields.warn(option, NO_EFFECT);
            }
            file if is_used => secret_file = file,
            _ => {}
        }
    }
    if matches!(kind, Some(kind) if kind != LightningKind::Melt) && url == Some(None) {
        fields.error("url", "is missing: add a line with the address of the node");
    }
    for option in ["url", "cert_sha256"] {
        if kind == Some(LightningKind::Melt) && fields.is_set(option) {
            fields.warn(option, NO_EFFECT);
        }
    }
    let cert_sha256 = fields.optional("cert_sha256", fingerprint);
    let fee_limit = fields.one("fee_limit_msat", |text| values::number(text, 0..=ALL_MSATS).map(Msats));
    Some(LightningConfig {
        kind: kind?,
        url: url?,
        secret_file,
        cert_sha256: cert_sha256?,
        fee_limit: fee_limit?,
    })
}

/// A host name or address, with a port where it is not the scheme's own.
fn domain(text: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "{} is no host: write the name that tills reach this router by, like 'cards.example.com'",
            shown(text)
        )
    };
    // An IPv6 address would need brackets, which the programmer apps do not expect.
    let url = Url::parse(&format!("https://{text}")).map_err(|_| wrong())?;
    let plain = url.path().is_empty() && !url.host().contains(':') && !text.ends_with('/');
    if !plain || text.len() > MAX_DOMAIN {
        return Err(wrong());
    }
    Ok(text.to_ascii_lowercase())
}

fn network(text: &str) -> Result<Network, String> {
    match text {
        "mainnet" => Ok(Network::Mainnet),
        "testnet" => Ok(Network::Testnet),
        "signet" => Ok(Network::Signet),
        "regtest" => Ok(Network::Regtest),
        _ => Err(format!("{} is no network: use mainnet, testnet, signet or regtest", shown(text))),
    }
}

fn kind(text: &str) -> Result<LightningKind, String> {
    LightningKind::parse(text).ok_or_else(|| {
        format!("{} is no backend: use lnd, cln, lnbits, phoenixd, melt or sphinx", shown(text))
    })
}

/// The text is not repeated in the error: it may hold a password.
fn node_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| {
        "is no address: write it like 'https://127.0.0.1:8080', without user, query or fragment"
    })?;
    let ip: Option<std::net::IpAddr> = url.host().parse().ok();
    if url.is_https() || url.host() == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
        Ok(url)
    } else {
        Err("is plain http:// to another machine, which anybody on the way can read: use https://".to_owned())
    }
}

/// Colons, blanks and case do not matter.
fn fingerprint(text: &str) -> Result<[u8; 32], String> {
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
    hex::decode(&digits).ok_or_else(|| format!("{} is no SHA-256: write its 64 hex digits", shown(text)))
}
