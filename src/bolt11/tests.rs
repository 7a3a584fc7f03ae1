//! Against the specification's examples.

pub mod maker;

use super::*;
use crate::hex;
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/vectors/bolt11/invoices.json")).unwrap()
}

#[test]
fn invoices_of_the_specification_are_read() {
    for case in vectors()["good"].as_array().unwrap() {
        let text = case["invoice"].as_str().unwrap();
        for text in [text.to_owned(), text.to_uppercase()] {
            let invoice = Invoice::parse(&text).unwrap();
            assert_eq!(invoice.amount(), case["msat"].as_u64().map(Msats));
            assert_eq!(invoice.timestamp().0, case["timestamp"].as_u64().unwrap());
            assert_eq!(invoice.lifetime(), Millis::from_secs(case["expiry"].as_u64().unwrap()));
            assert_eq!(hex::encode(&invoice.payment_hash()), case["payment_hash"].as_str().unwrap());
        }
    }
}

#[test]
fn invalid_invoices_of_the_specification_are_refused() {
    for case in vectors()["bad"].as_array().unwrap() {
        let invoice = Invoice::parse(case["invoice"].as_str().unwrap());
        match case["why"].as_str().unwrap() {
            "unknown feature 100 is set" => assert_eq!(invoice.unwrap().unknown_feature(), Some(100)),
            "signature is not recoverable" => assert_eq!(invoice.unwrap().payee(), None),
            why => assert!(invoice.is_err(), "{why}"),
        }
    }
}

#[test]
fn invoices_of_the_specification_are_signed_by_its_node() {
    let node = "03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad";
    // The last example has a high s, which recovers another key.
    let other = "02d0139ce7427d6dfffd26a326c18be754ef1e64672b42694ba5b23ef6e6e7803d";
    let vectors = vectors();
    let good = vectors["good"].as_array().unwrap();
    for (number, case) in good.iter().enumerate() {
        let node = if number + 1 == good.len() { other } else { node };
        let invoice = Invoice::parse(case["invoice"].as_str().unwrap()).unwrap();
        let payee = invoice.payee().map(|key| hex::encode(&key));
        assert_eq!(payee.as_deref(), Some(node), "{}", case["invoice"]);
        assert_eq!(invoice.unknown_feature(), None);
    }
}

#[test]
fn a_named_payee_must_have_signed_with_a_low_s() {
    let case = &vectors()["good"][0];
    let invoice = Invoice::parse(case["invoice"].as_str().unwrap()).unwrap();
    let payee = invoice.payee().unwrap();
    let named = Invoice { named_payee: Some(payee), ..invoice.clone() };
    assert_eq!(named.payee(), Some(payee));
    let mut other = payee;
    other[0] ^= 1;
    assert_eq!(Invoice { named_payee: Some(other), ..invoice.clone() }.payee(), None);
    assert_eq!(Invoice { named_payee: Some([2; 33]), digest: [7; 32], ..invoice.clone() }.payee(), None);
    let high = Invoice { signature: with_high_s(&invoice.signature), ..invoice };
    assert_eq!(high.payee(), Some(payee), "recovery takes either");
    assert_eq!(Invoice { named_payee: Some(payee), ..high }.payee(), None);
}

/// n - s and the other recovery id: as valid a signature, of the form that Lightning does not sign.
fn with_high_s(signature: &Signature) -> Signature {
    use k256::elliptic_curve::PrimeField;
    let mut bytes = signature.0;
    let s: [u8; 32] = bytes[32..64].try_into().unwrap();
    let negated = -k256::Scalar::from_repr(s.into()).unwrap();
    bytes[32..64].copy_from_slice(&negated.to_bytes());
    bytes[64] ^= 1;
    Signature(bytes)
}

#[test]
fn signatures_out_of_range_are_refused() {
    let case = &vectors()["good"][0];
    let invoice = Invoice::parse(case["invoice"].as_str().unwrap()).unwrap();
    let payee = invoice.payee().unwrap();
    for (from, to, value) in
        [(0, 32, 0), (32, 64, 0), (0, 32, 0xff), (32, 64, 0xff), (64, 65, 2), (64, 65, 31)]
    {
        let mut bytes = invoice.signature.0;
        bytes[from..to].fill(value);
        let bad = Invoice { signature: Signature(bytes), ..invoice.clone() };
        assert_eq!(bad.payee(), None);
        let named = Invoice { named_payee: Some(payee), ..bad };
        assert_eq!(named.payee().is_some(), from == 64, "the recovery id does not matter there");
    }
}

#[test]
fn networks_and_amounts_are_exact() {
    for (hrp, read) in [
        ("lnbc", Ok((Some(Network::Mainnet), None))),
        ("lnbcrt", Ok((Some(Network::Regtest), None))),
        ("lnbc1", Ok((Some(Network::Mainnet), Some(100_000_000_000)))),
        ("lntbs20m", Ok((Some(Network::Signet), Some(2_000_000_000)))),
        ("lntb1u", Ok((Some(Network::Testnet), Some(100_000)))),
        ("lnbcrt640n", Ok((Some(Network::Regtest), Some(64_000)))),
        ("lnbc10p", Ok((Some(Network::Mainnet), Some(1)))),
        ("lnsb1u", Ok((None, Some(100_000)))),
        ("lnbc15p", Err(InvoiceError::Amount)),
        ("lnbc184467441", Err(InvoiceError::Amount)),
        ("lnbc99999999999999999999", Err(InvoiceError::Amount)),
        ("lnbcm", Ok((None, None))),
        ("lnbc1x", Err(InvoiceError::Syntax)),
        ("lnbc1mm", Err(InvoiceError::Syntax)),
        ("ln1m", Err(InvoiceError::Syntax)),
        ("bc1m", Err(InvoiceError::Syntax)),
    ] {
        let read = read.map(|(network, msat)| (network, msat.map(Msats)));
        assert_eq!(prefix(hrp), read, "{hrp}");
    }
}

#[test]
fn features_are_counted_from_the_end() {
    let bit = |bit: usize| {
        let mut words = vec![0u8; bit / 5 + 3];
        let at = words.len() - 1 - bit / 5;
        words[at] = 1 << (bit % 5);
        words
    };
    for known in KNOWN_FEATURES {
        assert_eq!(unknown_feature(&bit(known)), None);
    }
    for odd in [9, 15, 101] {
        assert_eq!(unknown_feature(&bit(odd)), None);
    }
    for unknown in [0, 10, 100, 2000] {
        assert_eq!(unknown_feature(&bit(unknown)), Some(unknown));
    }
    assert_eq!(unknown_feature(&[]), None);
}

#[test]
fn an_invoice_asks_for_its_own_amount_only() {
    let case = &vectors()["good"][1];
    let invoice = Invoice::parse(case["invoice"].as_str().unwrap()).unwrap();
    assert!(invoice.asks_for(Sats(250_000)));
    for other in [0, 249_999, 250_001, u64::MAX] {
        assert!(!invoice.asks_for(Sats(other)));
    }
    let open = Invoice::parse(vectors()["good"][0]["invoice"].as_str().unwrap()).unwrap();
    assert!(!open.asks_for(Sats(0)));
    assert!(!open.asks_for(Sats(u64::MAX)));
}

#[test]
fn every_single_wrong_character_is_noticed() {
    let case = &vectors()["good"][1];
    let text = case["invoice"].as_str().unwrap();
    for at in 0..text.len() {
        for wrong in [b'q', b'1', b'z', b'9', 0x7f, b' '] {
            let mut bytes = text.as_bytes().to_vec();
            if bytes[at] != wrong {
                bytes[at] = wrong;
                assert!(Invoice::parse(std::str::from_utf8(&bytes).unwrap()).is_err(), "{at}");
            }
        }
        assert!(Invoice::parse(&text[..at]).is_err());
    }
}

#[test]
fn fields_that_overrun_and_endless_text_are_refused() {
    assert_eq!(Invoice::parse(&"q".repeat(5000)), Err(InvoiceError::Syntax));
    // Correct checksums over nonsense: the parser behind it must hold.
    for len in 0..300usize {
        for seed in 0..4u8 {
            let word = |i: usize| ((i * 7 + usize::from(seed) * 13 + len) % 32) as u8;
            let mut words: Vec<u8> = (0..len).map(word).collect();
            let mut padded = words.clone();
            padded.extend([0; 6]);
            let sum = checksum("lnbc1u", &padded) ^ 1;
            words.extend((0..6).map(|i| (sum >> (5 * (5 - i)) & 31) as u8));
            let text: String = words.iter().map(|w| CHARSET[usize::from(*w)] as char).collect();
            assert_ne!(Invoice::parse(&format!("lnbc1u1{text}")), Err(InvoiceError::Checksum));
        }
    }
}

#[test]
fn what_the_tests_make_is_signed() {
    let invoice = Invoice::parse(&maker::Maker::default().make()).unwrap();
    assert_eq!(invoice.payee(), Some(maker::payee()));
    assert_eq!(invoice.network(), Some(Network::Regtest));
}
