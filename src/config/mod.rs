//! UCI text -> typed `Config`: parse once, so that no other room has to check again. A file with an error gives no
//! configuration at all; every error of it is reported, with its line.
//!
//! Reads files and nothing else. Options that do not exist here are warned about and have no effect.

mod airtime;
mod auth;
pub mod check;
mod enroll;
pub mod fiat;
mod fields;
pub mod garden;
mod grpc;
mod keys;
mod main;
mod mint;
pub mod netifd;
mod operators;
mod payments;
mod portals;
mod ports;
mod problem;
pub mod range;
mod rate;
pub mod reach;
mod read;
mod relay;
mod schema;
mod tenant;
mod services;
mod tls;
pub mod uci;
mod values;
mod venue;
mod vouchers;
mod wallet;

pub use airtime::AirtimeConfig;
pub use auth::{AuthConfig, SphinxConfig, DOMAIN_NOTE};
pub use enroll::{enroll, EnrolError};
pub use fiat::{DarajaAccount, FiatConfig, MpesaConfig, MpesaMode, PriceConfig};
pub use grpc::GrpcConfig;
pub use keys::VaultConfig;
pub use main::{LogFormat, LogTarget, Main, MintProxyAuth};
pub use mint::MintConfig;
pub use operators::{operator_name, OperatorConfig, OperatorKey, Role};
pub use payments::{Admin, Card, LightningConfig, LightningKind};
pub use problem::{Problem, Severity};
pub use range::AddressRange;
pub use rate::{RateConfig, RateSource, BASIS_POINTS};
pub use relay::{RelayConfig, RelayRouter};
pub use services::{ApprovalConfig, Funding, HmacKeyConfig, LimitConfig, WebhookConfig};
pub use tenant::{Tenant, TenantConfig};
pub use tls::TlsConfig;
pub use venue::{Metric, Venue};
pub use vouchers::{ProductConfig, ProductWorth, VoucherConfig};
pub use wallet::WalletConfig;

use crate::url::Url;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The address of a mint: two are the same mint exactly when they are equal.
pub type MintUrl = Url;

/// Where the configuration is, unless `-c` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/config/tollgate";
/// Where `control.sock` is, unless the configuration says otherwise.
pub const DEFAULT_RUN_DIR: &str = "/var/run/tollgate";

const MAX_VENUES: usize = 32;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub main: Main,
    /// In the order of the file; no device is in two of them.
    pub venues: Vec<Venue>,
    /// In the order of the file; no two have the same URL.
    pub mints: Vec<MintConfig>,
    pub admin: Admin,
    /// Who may sign in at the operator's interface; empty: nobody. No two have the same name or key.
    pub operators: Vec<OperatorConfig>,
    /// None: no cards here.
    pub card: Option<Card>,
    /// What pays invoices, in the order in which it is tried; never empty.
    pub lightning: Vec<LightningConfig>,
    /// None: no https.
    pub tls: Option<TlsConfig>,
    /// None: nobody logs in here.
    pub auth: Option<AuthConfig>,
    /// No two have the same id.
    pub hmac_keys: Vec<HmacKeyConfig>,
    pub webhooks: Vec<WebhookConfig>,
    pub limits: Vec<LimitConfig>,
    /// None: what is over a limit is refused.
    pub approval: Option<ApprovalConfig>,
    pub voucher: VoucherConfig,
    pub wallet: WalletConfig,
    /// None: keys are in files of this router, unsealed.
    pub keys: Option<VaultConfig>,
    /// No two have the same id.
    pub products: Vec<ProductConfig>,
    /// No two share a name, a venue or an operator; empty: the router is one operator's.
    pub tenants: Vec<TenantConfig>,
    /// None: nothing is sold for M-Pesa.
    pub mpesa: Option<MpesaConfig>,
    /// What is sold for shillings, in the order of the file; no two have the same id.
    pub prices: Vec<PriceConfig>,
    /// None: shillings buy access only.
    pub fiat: Option<FiatConfig>,
    /// None: no airtime is sold.
    pub airtime: Option<AirtimeConfig>,
    /// None: there is no rate.
    pub rate: Option<RateConfig>,
    /// None: no gRPC.
    pub grpc: Option<GrpcConfig>,
}

impl Config {
    /// The configuration and its warnings, or all that is wrong, in the order of the lines.
    pub fn from_uci(text: &str) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
        match uci::parse(text.as_bytes()) {
            Ok(file) => read::config(&file),
            Err(errors) => Err(errors.into_iter().map(Problem::from).collect()),
        }
    }

    /// As [`Config::from_uci`], from a regular file of at most [`uci::MAX_BYTES`].
    pub fn load(path: &Path) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
        let bytes = read_file(path).map_err(|error| {
            vec![Problem::of_file(format!("cannot be read ({error}): check the path and its permissions"))]
        })?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Config::from_uci(text),
            Err(error) => {
                let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = good.iter().filter(|&&b| b == b'\n').count().saturating_add(1);
                let message = "this line is not UTF-8: save the file in that encoding";
                Err(vec![Problem { line: Some(line), ..Problem::of_file(message) }])
            }
        }
    }

    /// The zones or networks that lead this venue's guests to the internet; empty: not said.
    pub fn uplinks_of<'a>(&'a self, venue: &'a Venue) -> &'a [String] {
        match venue.uplinks.is_empty() {
            true => &self.main.uplinks,
            false => &venue.uplinks,
        }
    }

    /// Where the operator's interface is.
    pub fn operators_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        [Some(self.main.admin_listen), self.tls.as_ref().map(|tls| tls.admin_listen)].into_iter().flatten()
    }

    /// The router's own names for the guests of a venue: the portal's, and the certificate's.
    pub fn names_at<'a>(&'a self, venue: Option<&'a Venue>) -> [Option<&'a str>; 2] {
        let portal = venue.and_then(|venue| venue.portal_name.as_deref());
        [portal, self.tls.as_ref().map(|tls| tls.name.as_str())]
    }

    /// Where tills and wallets ask, through a tunnel, a proxy or an onion service.
    pub fn public_listen(&self) -> SocketAddr {
        self.card.as_ref().and_then(|card| card.listen).unwrap_or(self.main.public_listen)
    }

    /// The operator with this key.
    pub fn operator(&self, key: &OperatorKey) -> Option<&OperatorConfig> {
        self.operators.iter().find(|operator| operator.key == *key)
    }

    /// Whose venue it is. Where tenants are configured, what is left over belongs to the platform.
    pub fn tenant_of_venue(&self, id: &str) -> Tenant {
        let owner = self.tenants.iter().find(|tenant| tenant.venues.iter().any(|venue| venue == id));
        owner.map_or_else(Tenant::main, |owner| owner.tenant.clone())
    }

    /// The tenant that an operator works for, if it is configured.
    pub fn tenant_of_operator(&self, name: &str) -> Option<Tenant> {
        if self.tenants.is_empty() {
            return Some(Tenant::main());
        }
        let employer = self.tenants.iter().find(|tenant| tenant.operators.iter().any(|one| one == name));
        employer.map(|tenant| tenant.tenant.clone())
    }

    /// The tenant of this name, if there is one.
    pub fn tenant_named(&self, name: &str) -> Option<Tenant> {
        self.all_tenants().into_iter().find(|tenant| tenant.as_str() == name)
    }

    /// Every tenant, the main one first.
    pub fn all_tenants(&self) -> Vec<Tenant> {
        std::iter::once(Tenant::main()).chain(self.tenants.iter().map(|one| one.tenant.clone())).collect()
    }

    /// The venue with this id.
    pub fn venue(&self, id: &str) -> Option<&Venue> {
        self.venues.iter().find(|venue| venue.id == id)
    }

    pub fn venue_of_device(&self, device: &str) -> Option<&Venue> {
        self.venues.iter().find(|venue| venue.devices.iter().any(|own| own == device))
    }

    /// The mints that sell in a venue, in the order of the file.
    pub fn mints_of<'a>(&'a self, venue: &'a Venue) -> impl Iterator<Item = &'a MintConfig> + 'a {
        self.mints.iter().filter(|mint| mint.sells_in(&venue.id))
    }

    /// The files with secrets of what pays invoices.
    pub fn lightning_files(&self) -> impl Iterator<Item = &PathBuf> {
        self.lightning.iter().filter_map(|section| section.secret_file.as_ref())
    }

    /// The files with secrets of M-Pesa.
    pub fn mpesa_files(&self) -> impl Iterator<Item = &PathBuf> {
        let of_mpesa = self.mpesa.iter().flat_map(|mpesa| {
            mpesa.credential_files().into_iter().map(|(_, file)| file).chain(mpesa.relay_key_file.as_ref())
        });
        let credential = self.fiat.iter().filter_map(|fiat| fiat.credential_file.as_ref());
        of_mpesa.chain(credential).chain(self.airtime.iter().map(|airtime| &airtime.key_file))
    }

    /// What is sold for shillings in a venue, in the order of the file.
    pub fn prices_of<'a>(&'a self, venue: &'a Venue) -> impl Iterator<Item = &'a PriceConfig> + 'a {
        let sells = self.mpesa.is_some();
        self.prices.iter().filter(move |price| sells && price.sells_in(&venue.id))
    }

    /// The mint with this URL, if it sells in the venue.
    pub fn mint_for(&self, venue: &Venue, url: &MintUrl) -> Option<&MintConfig> {
        self.mints.iter().find(|mint| mint.url == *url && mint.sells_in(&venue.id))
    }
}

/// The `run_dir` that a file names, also if the file has other faults; otherwise [`DEFAULT_RUN_DIR`]. So `status` finds a
/// daemon that still runs with an older state of the file. `None` if the file cannot be read at all and is not the
/// router's own: its daemon is another one.
pub fn run_dir_of(path: &Path) -> Option<PathBuf> {
    let file = match read_file(path).ok().and_then(|bytes| uci::parse(&bytes).ok()) {
        None if path != Path::new(DEFAULT_PATH) => return None,
        file => file.unwrap_or_default(),
    };
    Some(read::run_dir(&file).unwrap_or_else(|| PathBuf::from(DEFAULT_RUN_DIR)))
}

/// If root calls this, gives root a file that only its owner may read: the daemon is root, but without the right to
/// read what belongs to others. Returns whether the file was given.
pub fn give_to_root(path: &Path) -> std::io::Result<bool> {
    let about = std::fs::metadata(path)?;
    if !nix::unistd::geteuid().is_root() || about.uid() == 0 || about.mode() & 0o004 != 0 {
        return Ok(false);
    }
    std::os::unix::fs::chown(path, Some(0), None).map(|()| true)
}

/// Never blocks on a pipe and never reads more than one byte above the limit.
fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let limit = u64::try_from(uci::MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
