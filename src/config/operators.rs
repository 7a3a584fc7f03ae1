//! Who may use the operator's interface: the roles, and `config operator`.

use super::fields::Fields;
use super::problem::{shown, Problems};
use super::schema::OPERATOR;
use super::uci::Section;
use crate::hex;
use k256::PublicKey;

/// Sections that are read.
pub(super) const MOST: usize = 64;
const LONGEST_NAME: usize = 32;
/// What the audit log calls others.
const TAKEN: [&str; 4] = ["shell", "token", "stranger", "several"];

/// A compressed point of secp256k1.
pub type OperatorKey = [u8; 33];

/// `config operator`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorConfig {
    /// For the audit log.
    pub name: String,
    /// What the operator's wallet signs with for this router.
    pub key: OperatorKey,
    pub role: Role,
}

/// What an operator may do; each may what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Lets guests in.
    Cashier,
    /// Sends guests away, and limits cards.
    Manager,
    /// Has the money and the keys.
    Owner,
}

impl OperatorConfig {
    /// Its section, after an empty line.
    pub(super) fn to_uci(&self) -> String {
        let (name, key, role) = (&self.name, hex::encode(&self.key), self.role.as_str());
        format!(
            "\nconfig operator\n\toption name '{name}'\n\toption pubkey '{key}'\n\toption role '{role}'\n"
        )
    }
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Cashier => "cashier",
            Role::Manager => "manager",
            Role::Owner => "owner",
        }
    }

    pub fn parse(text: &str) -> Option<Role> {
        let all = [Role::Viewer, Role::Cashier, Role::Manager, Role::Owner];
        all.into_iter().find(|role| role.as_str() == text)
    }
}

pub(super) fn read(section: &Section, problems: &mut Problems) -> Option<OperatorConfig> {
    let mut fields = Fields::new(OPERATOR, Some(section), problems);
    let name = fields.one("name", operator_name);
    let key = fields.one("pubkey", key);
    let role = fields.one("role", |text| {
        let known = Role::parse(text);
        known.ok_or_else(|| format!("{} is no role: use owner, manager, cashier or viewer", shown(text)))
    });
    Some(OperatorConfig { name: name?, key: key?, role: role? })
}

/// A name for lines and logs.
pub fn operator_name(text: &str) -> Result<String, String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'@');
    if TAKEN.iter().any(|taken| taken.eq_ignore_ascii_case(text)) {
        return Err(format!("{} is what the audit log calls others: choose another name", shown(text)));
    }
    match (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(is_plain) {
        true => Ok(text.to_owned()),
        false => {
            Err(format!("{} is no name: write 1 to {LONGEST_NAME} letters, digits or . _ - @", shown(text)))
        }
    }
}

fn key(text: &str) -> Result<OperatorKey, String> {
    let key = hex::decode(&text.to_ascii_lowercase()).filter(|key: &OperatorKey| {
        matches!(key.first(), Some(2 | 3)) && PublicKey::from_sec1_bytes(key).is_ok()
    });
    key.ok_or_else(|| {
        format!("{} is no wallet's key: write its 66 hex digits, which begin with 02 or 03", shown(text))
    })
}
