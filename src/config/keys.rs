//! `config keys`: what keeps the keys of vouchers' codes and of the ecash that stands behind them. They are in files of this
//! router, either as they are or sealed with a key that only a Vault unwraps. Refused: a Vault in a build that knows none.

use super::fields::Fields;
use super::problem::{shown, Problems};
use super::schema::KEYS;
use super::uci::Section;
use super::values::{self, Parsed};
use crate::url::Url;
use std::path::PathBuf;

const LONGEST_NAME: usize = 64;

/// `provider 'vault'`: HashiCorp's Vault, or one that speaks like it.
#[derive(Clone, Debug, PartialEq)]
pub struct VaultConfig {
    pub address: Url,
    /// What signs in there (AppRole).
    pub role_id_file: PathBuf,
    pub secret_id_file: PathBuf,
    /// Of its transit engine.
    pub transit_key: String,
}

impl VaultConfig {
    pub fn files(&self) -> [(&'static str, &PathBuf); 2] {
        [("role_id_file", &self.role_id_file), ("secret_id_file", &self.secret_id_file)]
    }
}

/// `Some(None)`: the files of this router.
pub(super) fn read(section: Option<&Section>, problems: &mut Problems) -> Option<Option<VaultConfig>> {
    let mut fields = Fields::new(KEYS, section, problems);
    let is_vault = fields.one("provider", provider);
    let address = fields.optional("address", address);
    let transit_key = fields.optional("transit_key", transit_key);
    let role_id_file = fields.optional("role_id_file", values::plain_path);
    let secret_id_file = fields.optional("secret_id_file", values::plain_path);
    let allow_http = fields.one("allow_http", values::boolean)?;
    if let Some(Some(url)) = &address {
        if !url.is_https() && !allow_http {
            fields.error("address", "is plain http://: use https://, or set allow_http to '1'");
            return None;
        }
    }
    let (address, transit_key) = (address?, transit_key?);
    let (role_id_file, secret_id_file) = (role_id_file?, secret_id_file?);
    if !is_vault? {
        return Some(None);
    }
    let given = [
        ("address", address.is_some()),
        ("role_id_file", role_id_file.is_some()),
        ("secret_id_file", secret_id_file.is_some()),
        ("transit_key", transit_key.is_some()),
    ];
    for (name, _) in given.iter().filter(|(_, is_given)| !is_given) {
        fields.error(name, "is missing: provider 'vault' needs it");
    }
    Some(Some(VaultConfig {
        address: address?,
        role_id_file: role_id_file?,
        secret_id_file: secret_id_file?,
        transit_key: transit_key?,
    }))
}

fn provider(text: &str) -> Parsed<bool> {
    match text {
        "file" => Ok(false),
        "vault" if cfg!(feature = "vault") => Ok(true),
        "vault" => {
            Err("'vault' is not in this build: use 'file', or a build with the feature vault".to_owned())
        }
        _ => Err(format!("{} is no keeper of keys: use 'file' or 'vault'", shown(text))),
    }
}

fn address(text: &str) -> Parsed<Url> {
    let such =
        "is no address: write it like 'https://vault.example.net:8200', without user, query or fragment";
    Url::parse(text).map_err(|_| such.to_owned())
}

/// It stands in paths.
fn transit_key(text: &str) -> Parsed<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let is_good =
        (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('.');
    match is_good {
        true => Ok(text.to_owned()),
        false => Err(format!("{} is no name of a key: use letters, digits, '-' and '_'", shown(text))),
    }
}
