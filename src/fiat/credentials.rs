//! Secrets in files of their own, which nobody else may read. Read again whenever they are used anew.

use crate::store::Secret;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use zeroize::Zeroizing;

/// The longest file of credentials (bytes).
const LONGEST: u64 = 4096;

/// Why a file gives no secret. Never holds what is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    #[error("{0} cannot be read")]
    Unreadable(String),
    #[error("{0} can be read by others: chmod 600 it")]
    OpenToOthers(String),
    #[error("{0} is empty, too long, or no text")]
    NoSecret(String),
}

/// The secret in a file, without white space.
pub fn read_secret(path: &Path) -> Result<Secret, CredentialError> {
    let name = || path.display().to_string();
    let unreadable = |_| CredentialError::Unreadable(name());
    let file = File::open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if about.permissions().mode() & 0o077 != 0 {
        return Err(CredentialError::OpenToOthers(name()));
    }
    if !about.is_file() || about.len() > LONGEST {
        return Err(CredentialError::NoSecret(name()));
    }
    // All of it at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * 4096));
    file.take(LONGEST).read_to_end(&mut bytes).map_err(unreadable)?;
    let text: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    match !text.is_empty() && text.iter().all(u8::is_ascii_graphic) {
        true => Ok(Secret::new(text)),
        false => Err(CredentialError::NoSecret(name())),
    }
}
