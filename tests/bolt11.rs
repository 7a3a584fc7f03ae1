//! Our reading of invoices against the `lightning-invoice` crate's, over many that this test makes and damages.

use lightning_invoice::{Bolt11Invoice, Currency, SignedRawBolt11Invoice};
use sha2::{Digest, Sha256};
use std::str::FromStr;
use tollgated::bolt11::{Invoice, Network};

const CHARSET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// The x coordinate of a point that is on the curve.
const GENERATOR: [u8; 32] = [
    0x79, 0xbe, 0x66, 0x7e, 0xf9, 0xdc, 0xbb, 0xac, 0x55, 0xa0, 0x62, 0x95, 0xce, 0x87, 0x0b, 0x07, 0x02,
    0x9b, 0xfc, 0xdb, 0x2d, 0xce, 0x28, 0xd9, 0x59, 0xf2, 0x81, 0x5b, 0x16, 0xf8, 0x17, 0x98,
];
const ROUNDS: usize = 4000;
/// Feature bits that a payer of ours may be asked to know.
const KNOWN: [usize; 7] = [8, 14, 16, 24, 30, 48, 262];

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let x = self.0 ^ (self.0 >> 33);
        x.wrapping_mul(0xff51afd7ed558ccd) >> 11
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    fn words(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(32) as u8).collect()
    }
}

fn checksum(hrp: &str, words: &[u8]) -> Vec<u8> {
    let expanded = hrp.bytes().map(|b| b >> 5).chain([0]).chain(hrp.bytes().map(|b| b & 31));
    let state = expanded.chain(words.iter().copied()).chain([0; 6]).fold(1u32, |state, word| {
        let top = state >> 25;
        let generator = [0x3b6a57b2u32, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
        let next = (state & 0x1ffffff) << 5 ^ u32::from(word);
        (0..5).filter(|i| top >> i & 1 == 1).fold(next, |next, i| next ^ generator[i as usize])
    }) ^ 1;
    (0..6).map(|i| (state >> (5 * (5 - i)) & 31) as u8).collect()
}

fn bytes_to_words(bytes: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1)).collect();
    bits.chunks(5)
        .map(|five| (0..5).fold(0, |word, i| word << 1 | five.get(i).copied().unwrap_or(0)))
        .collect()
}

fn words_to_bytes(words: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> = words.iter().flat_map(|word| (0..5).rev().map(move |i| word >> i & 1)).collect();
    bits.chunks(8)
        .map(|eight| (0..8).fold(0, |byte, i| byte << 1 | eight.get(i).copied().unwrap_or(0)))
        .collect()
}

fn number_words(number: u64) -> Vec<u8> {
    let digits = (0..13).rev().map(|i| (number >> (5 * i) & 31) as u8);
    digits.skip_while(|word| *word == 0).collect()
}

fn field(tag: u8, words: &[u8]) -> Vec<u8> {
    let mut field = vec![tag, (words.len() >> 5) as u8, (words.len() & 31) as u8];
    field.extend(words);
    field
}

fn encode(hrp: &str, words: &[u8]) -> String {
    let sum = checksum(hrp, words);
    let text: String = words.iter().chain(&sum).map(|word| CHARSET[usize::from(*word)] as char).collect();
    format!("{hrp}1{text}")
}

/// An invoice as a node might write it, or nearly so: odd fields, odd lengths, numbers at the edges.
fn invoice(dice: &mut Dice) -> String {
    let network = dice.one(&["bc", "bc", "tb", "tbs", "bcrt", "sb"]);
    // Theirs overflows on more money than there is.
    let digits = match dice.below(4) {
        0 => dice.below(10),
        1 => dice.below(1_000_000_000),
        _ => dice.below(100_000) * 10,
    };
    let amount = match dice.below(8) {
        0 => String::new(),
        1 => dice.below(10_000_000).to_string(),
        _ => format!("{digits}{}", dice.one(&["m", "u", "n", "p"])),
    };
    let hrp = format!("ln{network}{amount}");
    let mut words = {
        let mut timestamp = number_words(1_500_000_000 + dice.below(500_000_000));
        while timestamp.len() < 7 {
            timestamp.insert(0, 0);
        }
        timestamp
    };
    if dice.below(20) > 0 {
        let hash = dice.words(51);
        words.extend(field(1, &[hash, vec![16]].concat()));
    }
    if dice.below(20) > 0 {
        let secret = dice.words(51);
        words.extend(field(16, &[secret, vec![0]].concat()));
    }
    // Some are longer than 1,500 characters, as invoices with many hints are.
    let text =
        if dice.below(8) == 0 { "coffee ".repeat(60 + dice.below(31) as usize) } else { "coffee".to_owned() };
    words.extend(field(13, &bytes_to_words(text.as_bytes())));
    for _ in 0..dice.below(5) {
        let extra = match dice.below(10) {
            0 => field(6, &number_words(dice.below(1_000_000))),
            1 => field(24, &number_words(dice.below(3000))),
            2 => {
                let count = dice.below(16) as usize;
                field(6, &dice.words(count))
            }
            3 => field(5, &[16, 8, 0]),
            7 => {
                // Features: up to 300 bits, few of them set.
                let count = dice.below(60) as usize;
                let mut bits = vec![0; count];
                for _ in 0..=dice.below(3) {
                    let at = dice.below(60) as usize;
                    if let Some(word) = bits.get_mut(at) {
                        *word |= 1 << dice.below(5);
                    }
                }
                field(5, &bits)
            }
            8 => {
                let (tag, count) = (*dice.one(&[0u8, 8, 14, 30]), dice.below(500) as usize);
                field(tag, &dice.words(count))
            }
            9 => {
                // A way to the payee.
                let mut hops = Vec::new();
                for _ in 0..=dice.below(7) {
                    hops.extend([&[2][..], &GENERATOR].concat());
                    hops.extend((0..18).map(|_| dice.below(256) as u8));
                }
                field(3, &bytes_to_words(&hops))
            }
            4 => {
                let count = *dice.one(&[51usize, 52, 53]);
                field(1, &dice.words(count))
            }
            5 => {
                let (tag, count) = (*dice.one(&[2u8, 4, 7, 31, 12]), dice.below(60) as usize);
                field(tag, &dice.words(count))
            }
            _ => {
                let count = *dice.one(&[52usize, 54]);
                field(19, &dice.words(count))
            }
        };
        words.extend(extra);
    }
    sign(dice, &hrp, words)
}

fn sign(dice: &mut Dice, hrp: &str, mut words: Vec<u8>) -> String {
    use bitcoin::secp256k1::{Message, Secp256k1, SecretKey};
    let secp = Secp256k1::new();
    let mut secret = [1u8; 32];
    secret[31] = dice.below(200) as u8 + 1;
    let secret = SecretKey::from_slice(&secret).unwrap();
    let digest: [u8; 32] =
        Sha256::new().chain_update(hrp).chain_update(words_to_bytes(&words)).finalize().into();
    let (id, compact) =
        secp.sign_ecdsa_recoverable(&Message::from_digest(digest), &secret).serialize_compact();
    let mut signature = compact.to_vec();
    signature.push(id.to_i32() as u8);
    if dice.below(10) == 0 {
        let at = dice.below(65) as usize;
        signature[at] ^= 1 << dice.below(2);
    }
    words.extend(bytes_to_words(&signature));
    encode(hrp, &words)
}

#[test]
fn what_both_read_is_the_same() {
    let mut dice = Dice(21);
    let (mut read, mut refused, mut signed, mut with_features, mut long) = (0, 0, 0, 0, 0);
    let mut networks = std::collections::BTreeSet::new();
    for _ in 0..ROUNDS {
        let text = invoice(&mut dice);
        let ours = Invoice::parse(&text);
        let theirs = SignedRawBolt11Invoice::from_str(&text).ok().filter(|theirs| {
            // Theirs leaves these to its strict type.
            theirs.payment_hash().is_some() && theirs.amount_pico_btc().is_none_or(|pico| pico % 10 == 0)
        });
        let (ours, theirs) = match (ours, theirs) {
            (Ok(ours), Some(theirs)) => (ours, theirs),
            (Err(_), None) => {
                refused += 1;
                continue;
            }
            (ours, theirs) => panic!("{text}\nours {ours:?}, theirs {}", theirs.is_some()),
        };
        read += 1;
        let network = match theirs.currency() {
            Currency::Bitcoin => Some(Network::Mainnet),
            Currency::BitcoinTestnet => Some(Network::Testnet),
            Currency::Signet => Some(Network::Signet),
            Currency::Regtest => Some(Network::Regtest),
            Currency::Simnet => None,
        };
        assert_eq!(ours.network(), network, "{text}");
        networks.insert(format!("{network:?}"));
        assert_eq!(
            ours.amount().map(|msat| msat.0),
            theirs.amount_pico_btc().map(|pico| pico / 10),
            "{text}"
        );
        assert_eq!(ours.timestamp().0, theirs.raw_invoice().data.timestamp.as_unix_timestamp(), "{text}");
        let hash: &[u8] = theirs.payment_hash().unwrap().0.as_ref();
        assert_eq!(ours.payment_hash(), hash, "{text}");
        let expiry = theirs.expiry_time().map_or(3600, |expiry| expiry.as_seconds());
        assert_eq!(ours.lifetime().0, expiry.saturating_mul(1000), "{text}");
        let cltv = theirs.min_final_cltv_expiry_delta().map_or(18, |cltv| cltv.0);
        assert_eq!(ours.min_final_cltv(), cltv, "{text}");
        // Which of the bits somebody has to know is each reader's own affair; which are set is not.
        let flags = theirs.features().map(|features| features.le_flags().to_vec()).unwrap_or_default();
        let is_set = |bit: &usize| flags.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1);
        let mut required = (0..flags.len() * 8).step_by(2).filter(is_set);
        assert_eq!(ours.unknown_feature(), required.find(|bit| !KNOWN.contains(bit)), "{text}");
        with_features += usize::from(ours.unknown_feature().is_some());
        long += usize::from(text.len() > 1500);
        // Theirs hashes the invoice as it would write it, so only then there is something to compare.
        if theirs.to_string() != text {
            continue;
        }
        let payee = theirs.recover_payee_pub_key().ok().filter(|_| theirs.check_signature());
        assert_eq!(ours.payee(), payee.as_ref().map(|key| key.0.serialize()), "{text}");
        signed += usize::from(payee.is_some());
    }
    assert!(read > ROUNDS / 2 && refused > ROUNDS / 50 && signed > read / 2, "{read} {refused} {signed}");
    assert!(
        with_features > ROUNDS / 50 && long > ROUNDS / 100 && networks.len() == 5,
        "{with_features} {long} {networks:?}"
    );
}

#[test]
fn nothing_is_read_of_damaged_text_that_the_other_refuses() {
    let mut dice = Dice(7);
    for _ in 0..ROUNDS {
        let mut text = invoice(&mut dice).into_bytes();
        for _ in 0..=dice.below(3) {
            let at = dice.below(text.len() as u64) as usize;
            match dice.below(4) {
                0 => text[at] = *dice.one(CHARSET),
                1 => {
                    text.remove(at);
                }
                2 => text.insert(at, *dice.one(CHARSET)),
                _ => text[at] ^= 1 << dice.below(7),
            }
        }
        let text = String::from_utf8_lossy(&text);
        if Invoice::parse(&text).is_ok() {
            assert!(SignedRawBolt11Invoice::from_str(&text).is_ok(), "{text}");
        }
    }
}

#[test]
fn whatever_the_strict_reader_takes_we_take() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("vectors/bolt11/invoices.json")).unwrap();
    let mut strict = 0;
    for case in vectors["good"].as_array().unwrap() {
        let text = case["invoice"].as_str().unwrap();
        if let Ok(theirs) = Bolt11Invoice::from_str(text) {
            strict += 1;
            let ours = Invoice::parse(text).unwrap();
            assert_eq!(ours.payee(), Some(theirs.recover_payee_pub_key().serialize()));
            assert_eq!(ours.expires_at().0, theirs.expires_at().unwrap().as_secs());
        }
    }
    assert!(strict > 8, "{strict}");
}
