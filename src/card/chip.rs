//! What an NTAG 424 DNA says when it is tapped (NXP AN12196): `p` is its UID and counter under K1, `c` a MAC
//! of them under a session key of K2.
//!
//! A bolt card's MAC covers nothing else, so messages that sign more of the link are refused. All comparing
//! is constant-time; the tag byte alone proves nothing (one random `p` in 256 has it).

use crate::hex;
use aes::cipher::{Array, BlockCipherDecrypt, KeyInit};
use aes::Aes128;
use cmac::{Cmac, Mac};
use subtle::ConstantTimeEq;

/// UID and counter are mirrored, and the UID has seven bytes.
const PICC_TAG: u8 = 0xc7;
/// SV2 of AN12196: what the session key for the MAC is derived from begins with this.
const SESSION: [u8; 6] = [0x3c, 0xc3, 0x00, 0x01, 0x00, 0x80];

pub type ChipKey = [u8; 16];
pub type Uid = [u8; 7];

/// `p` and `c` of a tap, not yet believed.
#[derive(Clone, Copy)]
pub struct ChipMessage {
    encrypted: [u8; 16],
    mac: [u8; 8],
}

/// The chip that was tapped, and its count of taps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tapped {
    pub uid: Uid,
    /// 24 bit; each tap counts one up.
    pub counter: u32,
}

impl ChipMessage {
    /// 32 and 16 hex digits, in either case.
    pub fn parse(p: &str, c: &str) -> Option<ChipMessage> {
        Some(ChipMessage { encrypted: hex::decode(p)?, mac: hex::decode(c)? })
    }

    /// What the card said, if it holds these keys.
    pub fn open(&self, k1: &ChipKey, k2: &ChipKey) -> Option<Tapped> {
        let mut plain = Array(self.encrypted);
        // One block with a zero initialisation vector: CBC is ECB.
        Aes128::new(&Array(*k1)).decrypt_block(&mut plain);
        let [tag, u0, u1, u2, u3, u4, u5, u6, low, middle, high, ..] = plain.0;
        let uid = [u0, u1, u2, u3, u4, u5, u6];
        let mut sv2 = [0u8; 16];
        let parts = SESSION.into_iter().chain(uid).chain([low, middle, high]);
        for (to, from) in sv2.iter_mut().zip(parts) {
            *to = from;
        }
        let session = cmac(k2, &sv2);
        let full = cmac(&session, &[]);
        // AN12196: every second byte of the MAC.
        let mut expected = [0u8; 8];
        for (to, from) in expected.iter_mut().zip(full.into_iter().skip(1).step_by(2)) {
            *to = from;
        }
        let is_good = expected.ct_eq(&self.mac) & tag.ct_eq(&PICC_TAG);
        bool::from(is_good).then_some(Tapped { uid, counter: u32::from_le_bytes([low, middle, high, 0]) })
    }
}

fn cmac(key: &ChipKey, message: &[u8]) -> [u8; 16] {
    let mut mac = <Cmac<Aes128> as KeyInit>::new(&Array(*key));
    mac.update(message);
    mac.finalize().into_bytes().0
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use aes::cipher::BlockCipherEncrypt;
    use serde_json::Value;

    /// `p` and `c` of a chip with these keys.
    pub fn tap(k1: &ChipKey, k2: &ChipKey, tag: u8, uid: Uid, counter: u32) -> (String, String) {
        let [low, middle, high, _] = counter.to_le_bytes();
        let mut block = Array([0xa5u8; 16]);
        block[0] = tag;
        block[1..8].copy_from_slice(&uid);
        block[8..11].copy_from_slice(&[low, middle, high]);
        let mut sv2 = [0u8; 16];
        sv2[..6].copy_from_slice(&SESSION);
        sv2[6..].copy_from_slice(&block[1..11]);
        let full = cmac(&cmac(k2, &sv2), &[]);
        Aes128::new(&Array(*k1)).encrypt_block(&mut block);
        let mac: Vec<u8> = full.iter().skip(1).step_by(2).copied().collect();
        (hex::encode(&block.0), hex::encode(&mac))
    }

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../tests/vectors/cards/taps.json")).unwrap()
    }

    fn text<'a>(case: &'a Value, name: &str) -> &'a str {
        case[name].as_str().unwrap()
    }

    fn open(case: &Value) -> Option<Tapped> {
        let key = |name| hex::decode(text(case, name)).unwrap();
        ChipMessage::parse(text(case, "p"), text(case, "c")).unwrap().open(&key("k1"), &key("k2"))
    }

    #[test]
    fn published_taps_are_read() {
        for case in vectors()["good"].as_array().unwrap() {
            let tapped = open(case).unwrap_or_else(|| panic!("{case}"));
            assert_eq!(hex::encode(&tapped.uid), text(case, "uid"));
            assert_eq!(u64::from(tapped.counter), case["counter"].as_u64().unwrap());
        }
    }

    #[test]
    fn macs_that_cover_more_than_a_bolt_cards_are_refused() {
        for case in vectors()["other_macs"].as_array().unwrap() {
            assert_eq!(open(case), None, "{case}");
        }
    }

    #[test]
    fn the_session_key_and_full_mac_are_those_of_an12196() {
        for case in vectors()["intermediates"].as_array().unwrap() {
            let sv2: [u8; 16] = hex::decode(text(case, "sv2")).unwrap();
            let session = cmac(&hex::decode(text(case, "k2")).unwrap(), &sv2);
            assert_eq!(hex::encode(&session), text(case, "session"));
            if let Some(full) = case["full"].as_str() {
                assert_eq!(hex::encode(&cmac(&session, &[])), full);
            }
        }
    }

    #[test]
    fn every_changed_bit_of_a_tap_is_noticed() {
        let case = &vectors()["good"][0];
        let (p, c) = (text(case, "p"), text(case, "c"));
        let key = |name| hex::decode(text(case, name)).unwrap();
        let good = ChipMessage::parse(p, c).unwrap();
        for bit in 0..128 {
            let mut bad = good;
            bad.encrypted[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(bad.open(&key("k1"), &key("k2")), None);
        }
        for bit in 0..64 {
            let mut bad = good;
            bad.mac[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(bad.open(&key("k1"), &key("k2")), None);
        }
        assert_eq!(good.open(&key("k2"), &key("k1")), None);
    }

    #[test]
    fn a_good_mac_under_another_tag_byte_is_refused() {
        let (k1, k2) = ([1u8; 16], [2u8; 16]);
        for tag in [0xc6u8, 0xc7, 0x47, 0x00] {
            let (p, c) = tap(&k1, &k2, tag, [4; 7], 9);
            let message = ChipMessage::parse(&p, &c).unwrap();
            assert_eq!(message.open(&k1, &k2).is_some(), tag == PICC_TAG, "{tag:x}");
        }
    }

    #[test]
    fn lengths_and_digits_are_exact() {
        let (p, c) = ("0".repeat(32), "0".repeat(16));
        assert!(ChipMessage::parse(&p.to_uppercase(), &c).is_some());
        for (p, c) in
            [(&p[1..], &*c), (&*p, &c[1..]), ("", ""), (&*format!("{p}0"), &*c), (&*p.replace('0', "g"), &*c)]
        {
            assert!(ChipMessage::parse(p, c).is_none());
        }
    }
}
