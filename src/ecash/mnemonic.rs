//! Sixteen bytes of entropy as twelve English words and back, and what the words stretch to (BIP-39, no passphrase).
//! Words that are not on the list, too few or too many of them, or with a wrong checksum are refused.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};

/// Sorted, one a line, 2048 of them: <https://github.com/bitcoin/bips/blob/master/bip-0039/english.txt>.
const WORDS: &str = include_str!("bip39_english.txt");
const COUNT: usize = 12;
const BITS_PER_WORD: u32 = 11;
/// One bit per 32 of entropy.
const CHECKSUM_BITS: u32 = 4;
const ROUNDS: u32 = 2048;

pub(super) fn words(entropy: &[u8; 16]) -> Vec<&'static str> {
    let list: Vec<&str> = WORDS.lines().collect();
    // 132 bits: the top four of the first word go over the edge of the number.
    let mut low = (u128::from_be_bytes(*entropy) << CHECKSUM_BITS) | u128::from(checksum(entropy));
    let top = entropy.first().copied().unwrap_or_default() >> (8 - CHECKSUM_BITS);
    let mut indices = [0u16; COUNT];
    for index in indices.iter_mut().rev() {
        *index = u16::try_from(low & 0x7ff).unwrap_or_default();
        low >>= BITS_PER_WORD;
    }
    if let Some(first) = indices.first_mut() {
        *first |= u16::from(top) << 7;
    }
    indices.iter().filter_map(|index| list.get(usize::from(*index)).copied()).collect()
}

/// The entropy that these words, parted by single blanks, stand for.
pub(super) fn entropy(text: &str) -> Option<[u8; 16]> {
    let list: Vec<&str> = WORDS.lines().collect();
    let mut found = 0;
    let mut top = 0u128;
    let mut low = 0u128;
    for word in text.split(' ') {
        let index = list.binary_search(&word).ok().and_then(|index| u128::try_from(index).ok())?;
        found += 1;
        if found > COUNT {
            return None;
        }
        top = (top << BITS_PER_WORD) | (low >> (u128::BITS - BITS_PER_WORD));
        low = (low << BITS_PER_WORD) | index;
    }
    let entropy = ((top << (u128::BITS - CHECKSUM_BITS)) | (low >> CHECKSUM_BITS)).to_be_bytes();
    (found == COUNT && low & 0xf == u128::from(checksum(&entropy))).then_some(entropy)
}

/// PBKDF2-HMAC-SHA512 of the words, 2048 rounds.
pub(super) fn stretched(words: &str) -> Option<[u8; 64]> {
    let keyed = Hmac::<Sha512>::new_from_slice(words.as_bytes()).ok()?;
    let mut mac = keyed.clone();
    mac.update(b"mnemonic");
    mac.update(&1u32.to_be_bytes());
    let mut round: [u8; 64] = mac.finalize().into_bytes().into();
    let mut sum = round;
    for _ in 1..ROUNDS {
        let mut mac = keyed.clone();
        mac.update(&round);
        round = mac.finalize().into_bytes().into();
        sum.iter_mut().zip(round).for_each(|(sum, byte)| *sum ^= byte);
    }
    Some(sum)
}

fn checksum(entropy: &[u8; 16]) -> u8 {
    Sha256::digest(entropy).first().copied().unwrap_or_default() >> (8 - CHECKSUM_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecash::hex;

    /// From <https://github.com/trezor/python-mnemonic/blob/master/vectors.json>; entropy of sixteen equal bytes.
    const VECTORS: [(u8, &str); 4] = [
        (
            0x00,
            "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about",
        ),
        (0x7f, "legal winner thank year wave sausage worth useful legal winner thank yellow"),
        (0x80, "letter advice cage absurd amount doctor acoustic avoid letter advice cage above"),
        (0xff, "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo wrong"),
    ];

    #[test]
    fn entropy_becomes_the_words_of_the_vectors_and_back() {
        for (byte, text) in VECTORS {
            assert_eq!(words(&[byte; 16]).join(" "), text);
            assert_eq!(entropy(text), Some([byte; 16]));
        }
    }

    #[test]
    fn every_entropy_comes_back() {
        let mut bytes = [0u8; 16];
        for step in 0..500u16 {
            let digest = Sha256::digest(step.to_be_bytes());
            bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
            let text = words(&bytes).join(" ");
            assert_eq!((text.split(' ').count(), entropy(&text)), (12, Some(bytes)));
        }
    }

    #[test]
    fn words_stretch_as_in_the_specification() {
        // The seed that every BIP-39 tool shows for these words without a passphrase.
        let seed = stretched(VECTORS[0].1).unwrap();
        assert_eq!(
            hex::encode(&seed),
            "5eb00bbddcf069084889a8ab9155568165f5c453ccb85e70811aaed6f6da5fc1\
             9a5ac40b389cd370d086206dec8aa6c43daea6690f20ad3d8d48b2d2ce9e38e4"
        );
    }

    #[test]
    fn a_wrong_checksum_an_unknown_word_and_other_counts_are_refused() {
        let zeros = "abandon ".repeat(11);
        for bad in [
            format!("{zeros}abandon"),
            format!("{zeros}About"),
            format!("{zeros}aboutt"),
            format!("{zeros}about about"),
            zeros.trim_end().to_owned(),
            zeros.clone(),
            format!(" {zeros}about"),
            String::new(),
        ] {
            assert_eq!(entropy(&bad), None, "{bad:?}");
        }
    }
}
