//! A secret that is shared with another program, in a file of its own that the operator or the program has made; and what is
//! signed with it.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use zeroize::Zeroizing;

/// The longest file that is read (bytes).
const LONGEST: u64 = 4096;

/// What the file holds, without blanks at its ends, as it is now: a new one counts at once.
pub fn secret(path: &Path, shortest: usize) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    // The operator may have made it; others have no business with it.
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(LONGEST).read_to_end(&mut bytes)?;
    let secret = Zeroizing::new(bytes.trim_ascii().to_vec());
    if secret.len() < shortest {
        let message = format!("the secret is shorter than {shortest} characters");
        return Err(std::io::Error::new(ErrorKind::InvalidData, message));
    }
    Ok(secret)
}

/// HMAC-SHA-256 over the parts, one behind the other.
pub fn mac(secret: &[u8], parts: &[&[u8]]) -> Option<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    parts.iter().for_each(|part| mac.update(part));
    Some(mac.finalize().into_bytes().into())
}
