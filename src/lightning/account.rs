//! From the configuration to an account, and from an account to what pays.

use super::{cln, lnbits, lnd, phoenixd, sphinx, Account, Kind, Lightning, Melt};
use crate::calls::Tls;
use crate::config;
use crate::ecash::wallet::Wallet;
use crate::hex;
use crate::store::Secret;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The longest file of credentials (bytes).
const LONGEST: u64 = 8 * 1024;
/// How every macaroon of lnd begins.
const MACAROON_V2: u8 = 2;

/// Why an account cannot be used. Never holds what is in the file.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error("{0}: {1}")]
    Unreadable(String, std::io::Error),
    /// Its content is no secret then, and may not have been one for a long time.
    #[error("{0} can be read by others: chmod 600 it")]
    OpenToOthers(String),
    #[error("{0} is empty, too long, or no text")]
    NoSecret(String),
    #[error("{0} holds no macaroon")]
    NoMacaroon(String),
    #[error("the lightning section has no address or no secret that can be used")]
    Incomplete,
}

impl Account {
    /// The account that the configuration names, its secret read from its file.
    pub fn load(config: &config::LightningConfig) -> Result<Account, AccountError> {
        let url = config.url.as_ref().map_or(String::new(), |url| url.as_str().to_owned());
        let secret = match &config.secret_file {
            None => Secret::new(Vec::new()),
            Some(path) => secret(path, config.kind)?,
        };
        Ok(Account { kind: config.kind, url, pin: config.cert_sha256, secret })
    }

    /// What pays from this account: a node, or the router's own ecash, where its wallet is at hand.
    pub fn node(&self, tls: &Tls, wallet: Option<&Wallet>) -> Result<Arc<dyn Lightning>, AccountError> {
        fn node<T: Lightning + 'static>(node: Option<T>) -> Option<Arc<dyn Lightning>> {
            node.map(|node| Arc::new(node) as Arc<dyn Lightning>)
        }
        let node = match self.kind {
            Kind::Lnd => node(lnd::Lnd::new(self, tls)),
            Kind::Cln => node(cln::Cln::new(self, tls)),
            Kind::Lnbits => node(lnbits::Lnbits::new(self, tls)),
            Kind::Phoenixd => node(phoenixd::Phoenixd::new(self, tls)),
            Kind::Sphinx => node(sphinx::Sphinx::new(self, tls)),
            Kind::Melt => node(wallet.cloned().map(Melt::new)),
        };
        node.ok_or(AccountError::Incomplete)
    }
}

/// The secret as it is sent: without white space, a macaroon in hex.
fn secret(path: &Path, kind: Kind) -> Result<Secret, AccountError> {
    let name = || path.display().to_string();
    let unreadable = |err| AccountError::Unreadable(name(), err);
    let file = File::open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if about.permissions().mode() & 0o077 != 0 {
        return Err(AccountError::OpenToOthers(name()));
    }
    if !about.is_file() || about.len() > LONGEST {
        return Err(AccountError::NoSecret(name()));
    }
    // All of it at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * 8 * 1024));
    file.take(LONGEST).read_to_end(&mut bytes).map_err(unreadable)?;
    let text: Zeroizing<Vec<u8>> =
        Zeroizing::new(bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect());
    if kind == Kind::Lnd {
        return macaroon(&bytes, &text).ok_or_else(|| AccountError::NoMacaroon(name()));
    }
    match !text.is_empty() && text.iter().all(u8::is_ascii_graphic) {
        true => Ok(Secret::new(text.to_vec())),
        false => Err(AccountError::NoSecret(name())),
    }
}

/// Hex of a macaroon that is given as hex or as it is.
fn macaroon(bytes: &[u8], text: &[u8]) -> Option<Secret> {
    let hex_text = text.len() > 2 && text.len().is_multiple_of(2) && text.iter().all(u8::is_ascii_hexdigit);
    match hex_text {
        true => text.to_ascii_lowercase().starts_with(b"02").then(|| Secret::new(text.to_ascii_lowercase())),
        false => (bytes.first() == Some(&MACAROON_V2)).then(|| Secret::new(hex::encode(bytes).into_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Folder {
            Folder(crate::folder::fresh_folder())
        }

        fn file(&self, name: &str, content: &[u8], mode: u32) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_macaroon_is_the_same_as_bytes_and_as_hex_with_any_blanks() {
        let folder = Folder::new();
        let bytes = [2, 1, 3, b'l', b'n', b'd', 0, 10, 255];
        let as_hex = hex::encode(&bytes);
        let blanks = format!(" {}\n{}\r\n", as_hex[..4].to_uppercase(), &as_hex[4..]);
        for content in [&bytes[..], as_hex.as_bytes(), blanks.as_bytes()] {
            let path = folder.file("m", content, 0o600);
            assert_eq!(secret(&path, Kind::Lnd).unwrap().expose(), as_hex.as_bytes());
        }
        for content in [&b""[..], b"hello", b"ff00", b"0", b"\x01\x02", b"020"] {
            let path = folder.file("m", content, 0o600);
            assert!(matches!(secret(&path, Kind::Lnd), Err(AccountError::NoMacaroon(_))), "{content:?}");
        }
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let folder = Folder::new();
        for mode in [0o604, 0o640, 0o644, 0o601] {
            let path = folder.file("key", b"abc", mode);
            assert!(matches!(secret(&path, Kind::Lnbits), Err(AccountError::OpenToOthers(_))), "{mode:o}");
        }
        let path = folder.file("key", b"abc \n", 0o600);
        assert_eq!(secret(&path, Kind::Lnbits).unwrap().expose(), b"abc");
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_no_secret() {
        let folder = Folder::new();
        for content in [&b""[..], b" \n\t", b"a\x00b", "pässword".as_bytes(), &[b'a'; 9000]] {
            let path = folder.file("key", content, 0o600);
            assert!(matches!(secret(&path, Kind::Phoenixd), Err(AccountError::NoSecret(_))));
        }
        assert!(matches!(secret(&folder.0.join("none"), Kind::Cln), Err(AccountError::Unreadable(..))));
    }

    #[test]
    fn no_message_and_no_debug_text_shows_a_secret() {
        let folder = Folder::new();
        let path = folder.file("key", b"hunter2", 0o644);
        let refused = secret(&path, Kind::Cln).unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("hunter2"));
        let path = folder.file("key", b"hunter2", 0o600);
        let secret = secret(&path, Kind::Cln).unwrap();
        let account = Account { kind: Kind::Cln, url: "https://node".to_owned(), pin: None, secret };
        assert!(!format!("{account:?}").contains("hunter2"));
    }
}
