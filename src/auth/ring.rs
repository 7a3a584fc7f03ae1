//! The keys that sign tokens: the newest signs, the ones before it verify until their last token is over.
//!
//! In `jwt.key` of the state directory, one line for each: `KID HEX`, the newest last. Refuses a file that it cannot read
//! to its end, rather than going on with a part of it.

use crate::hex;
use crate::store::Secret;
use zeroize::Zeroizing;

/// The most keys at a time. Changing them more often than this within a token's life ends tokens.
const MOST: usize = 16;
/// Hex digits of a key's name.
const KID: usize = 16;

/// A key and its name.
#[derive(Clone)]
pub struct RingKey {
    pub kid: String,
    pub secret: Zeroizing<[u8; 32]>,
}

/// At least one key.
#[derive(Clone)]
pub struct KeyRing {
    newest: RingKey,
    /// The newer ones last.
    earlier: Vec<RingKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("jwt.key is no list of keys: each line is a name and 64 hex digits")]
pub struct NotARing;

impl RingKey {
    /// A new random key.
    pub fn random() -> Result<RingKey, getrandom::Error> {
        let (mut kid, mut secret) = ([0; KID / 2], Zeroizing::new([0; 32]));
        getrandom::fill(&mut kid)?;
        getrandom::fill(secret.as_mut_slice())?;
        Ok(RingKey { kid: hex::encode(&kid), secret })
    }

    fn parse(line: &str) -> Option<RingKey> {
        let (kid, secret) = line.split_once(' ')?;
        let is_name = kid.len() <= 64 && !kid.is_empty() && kid.bytes().all(|b| b.is_ascii_alphanumeric());
        let secret = hex::decode(secret.trim()).map(Zeroizing::new)?;
        is_name.then(|| RingKey { kid: kid.to_owned(), secret })
    }
}

impl KeyRing {
    pub fn of(newest: RingKey) -> KeyRing {
        KeyRing { newest, earlier: Vec::new() }
    }

    /// What the file holds.
    pub fn parse(file: &Secret) -> Result<KeyRing, NotARing> {
        let text = std::str::from_utf8(file.expose()).map_err(|_| NotARing)?;
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let mut keys: Vec<RingKey> = lines.map(RingKey::parse).collect::<Option<_>>().ok_or(NotARing)?;
        let newest = keys.pop().ok_or(NotARing)?;
        let mut names: Vec<&str> = keys.iter().chain([&newest]).map(|key| key.kid.as_str()).collect();
        names.sort_unstable();
        if names.len() > MOST || names.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(NotARing);
        }
        Ok(KeyRing { newest, earlier: keys })
    }

    /// As it is to stand in the file.
    pub fn to_file(&self) -> Secret {
        let mut text = Zeroizing::new(String::with_capacity(MOST * 160));
        for key in self.earlier.iter().chain([&self.newest]) {
            let secret = Zeroizing::new(hex::encode(key.secret.as_slice()));
            for part in [&key.kid, " ", &secret, "\n"] {
                text.push_str(part);
            }
        }
        Secret::new(text.as_bytes().to_vec())
    }

    /// With a new key that signs from now on. Of the earlier keys, only those `in_use` stay.
    pub fn rotated(self, newest: RingKey, in_use: &[String]) -> KeyRing {
        let KeyRing { newest: before, mut earlier } = self;
        earlier.push(before);
        earlier.retain(|key| in_use.contains(&key.kid));
        let too_many = earlier.len().saturating_sub(MOST - 1);
        earlier.drain(..too_many);
        KeyRing { newest, earlier }
    }

    pub fn newest(&self) -> &RingKey {
        &self.newest
    }

    /// The key of this name. Names are no secret.
    pub fn key(&self, kid: &str) -> Option<&RingKey> {
        self.earlier.iter().chain([&self.newest]).find(|key| key.kid == kid)
    }

    /// The names of all, the newest first.
    pub fn kids(&self) -> Vec<String> {
        let all = [&self.newest].into_iter().chain(self.earlier.iter().rev());
        all.map(|key| key.kid.clone()).collect()
    }

    /// How many keys verify.
    pub fn count(&self) -> usize {
        self.earlier.len().saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<KeyRing, NotARing> {
        KeyRing::parse(&Secret::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn the_file_is_a_line_for_each_key_and_the_last_one_signs() {
        let text = format!("a {}\nb {}\n", "11".repeat(32), "22".repeat(32));
        let ring = read(&text).unwrap();
        assert_eq!((ring.newest().kid.as_str(), ring.count()), ("b", 2));
        assert_eq!(ring.key("a").unwrap().secret.as_slice(), [0x11; 32]);
        assert_eq!(ring.to_file().expose(), text.as_bytes());
        let one = format!("a {}", "11".repeat(32));
        assert!(read(&one).is_ok());
        let bad = [
            String::new(),
            "a".to_owned(),
            "a 11".to_owned(),
            format!("{one}\n{one}"),
            format!("{one}\nb 22\n"),
            one[2..].to_owned(),
        ];
        assert!(bad.iter().all(|text| read(text).is_err()));
    }

    #[test]
    fn a_key_verifies_while_a_token_of_it_counts_and_no_longer() {
        let first = RingKey::random().unwrap();
        let used = [first.kid.clone()];
        let mut ring = KeyRing::of(first);
        for _ in 0..40 {
            ring = ring.rotated(RingKey::random().unwrap(), &used);
            assert!(ring.key(&used[0]).is_some());
            assert_eq!(ring.count(), 2);
        }
        ring = ring.rotated(RingKey::random().unwrap(), &[]);
        assert_eq!((ring.count(), ring.key(&used[0]).is_some()), (1, false));
    }

    #[test]
    fn there_are_never_more_keys_than_the_file_takes() {
        let mut ring = KeyRing::of(RingKey::random().unwrap());
        let mut used = Vec::new();
        for _ in 0..40 {
            used.push(ring.newest().kid.clone());
            ring = ring.rotated(RingKey::random().unwrap(), &used);
            assert!(KeyRing::parse(&ring.to_file()).is_ok());
        }
        assert_eq!(ring.count(), MOST);
    }
}
