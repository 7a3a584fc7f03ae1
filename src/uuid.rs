//! UUIDs (RFC 9562): ids that others may choose, and that tell nothing of what they name.

use crate::hex;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// Where the text has hyphens, counted in bytes before them.
const HYPHENS: [usize; 4] = [4, 6, 8, 10];
const TEXT: usize = 36;

/// Prints in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// Version 4. `None`: the system has no randomness.
    pub fn random() -> Option<Uuid> {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes).ok()?;
        Some(Uuid::of(bytes, 4))
    }

    /// Version 8: the same for the same owner and name, and of others for all others.
    pub fn named(owner: &[u8], name: &str) -> Uuid {
        let digest = Sha256::new().chain_update(Sha256::digest(owner)).chain_update(name).finalize();
        let mut bytes = [0u8; 16];
        bytes.iter_mut().zip(digest).for_each(|(byte, from)| *byte = from);
        Uuid::of(bytes, 8)
    }

    fn of(mut bytes: [u8; 16], version: u8) -> Uuid {
        let [_, _, _, _, _, _, high, _, variant, ..] = &mut bytes;
        *high = (*high & 0x0f) | (version << 4);
        *variant = (*variant & 0x3f) | 0x80;
        Uuid(bytes)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let hyphen = if HYPHENS.contains(&at) { "-" } else { "" };
            write!(f, "{hyphen}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Of any version, in either case.
impl FromStr for Uuid {
    type Err = ();

    fn from_str(text: &str) -> Result<Uuid, ()> {
        if text.len() != TEXT || !text.is_ascii() {
            return Err(());
        }
        let id = Uuid(hex::decode(&text.replace('-', "").to_ascii_lowercase()).ok_or(())?);
        id.to_string().eq_ignore_ascii_case(text).then_some(id).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_as_it_prints() {
        let id = Uuid::random().unwrap();
        let text = id.to_string();
        assert_eq!((text.parse(), text.to_uppercase().parse()), (Ok(id), Ok(id)));
        assert_eq!((&text[14..15], text.len()), ("4", 36));
        assert!("89ab".contains(&text[19..20]));
        assert_ne!(Uuid::random(), Some(id));
        for wrong in ["", "../../etc/passwd", &text[1..], &text.replace('-', "0"), &text.replace('-', "")] {
            assert_eq!(wrong.parse::<Uuid>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn a_name_has_one_id_with_each_owner() {
        let id = Uuid::named(b"router", "guest");
        assert_eq!(id, Uuid::named(b"router", "guest"));
        assert_ne!(id, Uuid::named(b"router", "guest2"));
        assert_ne!(id, Uuid::named(b"routerg", "uest"));
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
