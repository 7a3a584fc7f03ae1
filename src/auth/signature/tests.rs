use super::*;

/// Name, verdict, k1, sig and key of each line.
fn vectors() -> impl Iterator<Item = [&'static str; 5]> {
    let lines = include_str!("../../../tests/vectors/lnauth/signatures.txt").lines().skip(1);
    lines.map(|line| {
        let parts: Vec<&str> = line.split(' ').map(|part| if part == "-" { "" } else { part }).collect();
        parts.try_into().unwrap()
    })
}

#[test]
fn signatures_are_judged_as_the_vectors_say() {
    for [name, verdict, k1, sig, key] in vectors() {
        let k1 = hex::decode(k1).unwrap();
        for (sig, key) in [(sig.to_owned(), key.to_owned()), (sig.to_uppercase(), key.to_uppercase())] {
            let found = match SignedBy::parse(&key, &sig) {
                Ok(signed) => match signed.has_signed(&k1) {
                    Some(true) => "good",
                    Some(false) => "wrong",
                    None => "key",
                },
                Err(which) => which,
            };
            assert_eq!(found, verdict, "{name}");
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_is_no_signature() {
    let [_, _, k1, sig, key] = vectors().next().unwrap();
    let k1 = hex::decode(k1).unwrap();
    let sig = hex::bytes(sig).unwrap();
    for bit in 0..sig.len() * 8 {
        let mut sig = sig.clone();
        sig[bit / 8] ^= 1 << (bit % 8);
        let signed = SignedBy::parse(key, &hex::encode(&sig));
        assert!(!signed.is_ok_and(|signed| signed.has_signed(&k1) == Some(true)), "{bit}");
    }
}

#[test]
fn a_key_is_shown_as_its_first_digits_only() {
    let [.., key] = vectors().next().unwrap();
    let key = WalletKey::parse(key).unwrap();
    assert_eq!((format!("{key:?}"), key.to_string().len()), ("0279be66".to_owned(), 66));
}
