use super::*;

/// The parts of each line of a kind.
fn vectors(kind: &'static str) -> impl Iterator<Item = [&'static str; 3]> {
    let lines = include_str!("../../../tests/vectors/lnauth/sphinx.txt").lines().skip(1);
    let lines = lines.filter_map(move |line| line.strip_prefix(kind));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().try_into().unwrap())
}

#[test]
fn messages_lead_to_the_key_of_the_vectors_that_has_signed_them() {
    assert_eq!(vectors("message ").count(), 3);
    for [signature, message, key] in vectors("message ") {
        let (signature, message) = (hex::decode(signature).unwrap(), hex::bytes(message).unwrap());
        assert_eq!(signer(&message, &signature).unwrap().to_string(), key);
        assert_ne!(signer(b"another", &signature).map(|key| key.to_string()).as_deref(), Some(key));
    }
}

#[test]
fn tokens_of_both_forms_are_of_their_key_within_their_time() {
    assert_eq!(vectors("token ").count(), 2);
    for [text, time, key] in vectors("token ") {
        let token = SphinxToken::parse(text).unwrap();
        assert_eq!(token.recover().unwrap().0.to_string(), key);
        let time: u64 = time.parse().unwrap();
        for (now, counts) in
            [(time, true), (time + 300, true), (time + 301, false), (time - 5, true), (time - 6, false)]
        {
            assert_eq!(token.is_of(UnixSeconds(now)), counts, "{now}");
        }
    }
}

#[test]
fn the_other_s_of_a_signature_is_the_same_token_and_the_other_form_is_not() {
    let ids: Vec<_> =
        vectors("token ").map(|[text, ..]| SphinxToken::parse(text).unwrap().recover().unwrap().1).collect();
    assert_ne!(ids[0], ids[1]);
    let mut token = SphinxToken::parse(vectors("token ").next().unwrap()[0]).unwrap();
    let s: [u8; 32] = token.signature[33..].try_into().unwrap();
    let order =
        hex::decode::<32>("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141").unwrap();
    let mut borrow = 0i16;
    for at in (0..32).rev() {
        let digit = i16::from(order[at]) - i16::from(s[at]) - borrow;
        borrow = i16::from(digit < 0);
        token.signature[33 + at] = digit.rem_euclid(256) as u8;
    }
    token.signature[0] = 63 - token.signature[0];
    assert_eq!(token.recover().unwrap().1, ids[0]);
}

#[test]
fn what_is_no_token_is_none() {
    let [good, ..] = vectors("token ").next().unwrap();
    for bad in ["", ".", "a.b.c", &good[1..], &format!("{good}A"), &format!("..{good}"), &format!("{good}=")]
    {
        assert!(SphinxToken::parse(bad).is_none(), "{bad}");
    }
    let mut token = SphinxToken::parse(good).unwrap();
    for header in [0, 27, 30, 33, 34, 35, 255] {
        token.signature[0] = header;
        assert!(token.recover().is_none(), "{header}");
    }
}
