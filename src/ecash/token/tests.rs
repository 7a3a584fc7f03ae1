use super::*;
use crate::ecash::outputs::tests::Signer;
use crate::ecash::outputs::Outputs;
use crate::ecash::seed::Seed;
use crate::pasted::behind_an_emoji;
use serde_json::{json, Value};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../tests/vectors/cashu/nut00-tokens.json")).unwrap()
}

fn assert_matches(token: &Token, mint: &Value, unit: &Value, memo: &Value, proofs: &Value) {
    assert_eq!(token.mint, mint.as_str().unwrap());
    assert_eq!(token.unit, unit.as_str().unwrap());
    assert_eq!(token.memo.as_deref(), memo.as_str());
    let proofs = proofs.as_array().unwrap();
    assert_eq!(token.proofs.len(), proofs.len());
    for (ours, theirs) in token.proofs.iter().zip(proofs) {
        assert_eq!(ours.amount.0, theirs["amount"].as_u64().unwrap());
        assert_eq!(Some(ours.keyset), KeysetRef::parse(theirs["id"].as_str().unwrap()));
        assert_eq!(ours.secret.as_str(), theirs["secret"].as_str().unwrap());
        assert_eq!(ours.c.to_string(), theirs["C"].as_str().unwrap());
    }
}

fn our_proofs() -> Vec<Proof> {
    let signer = Signer::new();
    let seed = Seed::from_entropy(&[3; 16]).unwrap();
    let outputs = Outputs::prepare(&seed, signer.keyset.id(), 0, &[Sats(1), Sats(2), Sats(8)]).unwrap();
    outputs.unblind(&signer.keyset, &signer.sign_all(&outputs)).unwrap()
}

fn mint() -> MintUrl {
    MintUrl::parse("https://mint.example.com").unwrap()
}

fn v3(json: &Value) -> String {
    format!("cashuA{}", BASE64.encode(json.to_string()))
}

#[test]
fn v4_tokens_of_the_vectors_are_read() {
    for case in vectors()["v4"].as_array().unwrap() {
        let token = Token::parse(case["token"].as_str().unwrap()).unwrap();
        assert_matches(&token, &case["mint"], &case["unit"], &case["memo"], &case["proofs"]);
    }
}

#[test]
fn v3_tokens_of_the_vectors_are_read_with_and_without_padding() {
    let v = vectors();
    let text = v["v3"]["token"].as_str().unwrap();
    let json = &v["v3"]["json"];
    let entry = &json["token"][0];
    let padding = "=".repeat((4 - (text.len() - 6) % 4) % 4);
    for text in [text.to_owned(), format!("{text}{padding}")] {
        let token = Token::parse(&text).unwrap();
        assert_matches(&token, &entry["mint"], &json["unit"], &json["memo"], &entry["proofs"]);
    }
}

#[test]
fn links_and_text_that_was_broken_into_lines_are_read() {
    let v = vectors();
    let case = &v["v4"][0];
    let text = case["token"].as_str().unwrap();
    let broken =
        text.as_bytes().chunks(20).map(|line| std::str::from_utf8(line).unwrap()).collect::<Vec<_>>();
    for text in [
        format!(" cashu:{text}\n"),
        format!("cashu://{text}"),
        format!("web+cashu:{text}"),
        format!("web+cashu://{text}"),
        format!("Cashu: {text}"),
        broken.join("\r\n"),
        broken.join(" \t"),
    ] {
        let token = Token::parse(&text).unwrap();
        assert_matches(&token, &case["mint"], &case["unit"], &case["memo"], &case["proofs"]);
    }
}

#[test]
fn other_prefixes_are_no_tokens() {
    for text in vectors()["v3_bad"].as_array().unwrap() {
        assert_eq!(Token::parse(text.as_str().unwrap()).unwrap_err(), TokenError::NotAToken);
    }
    for text in [
        "",
        "cashu",
        "cashuC",
        "lnbc1",
        ":",
        "cashu:",
        "cashu:cashu:cashuA",
        "http://cashuA",
        "webcashu:cashuA",
    ] {
        assert_eq!(Token::parse(text).unwrap_err(), TokenError::NotAToken);
    }
}

#[test]
fn a_token_we_write_is_read_back_with_its_evidence() {
    let proofs = our_proofs();
    let text = encode(&mint(), "sat", &proofs);
    assert!(text.len() < 6 + 310 * proofs.len() + 150, "{}", text.len());
    let token = Token::parse(&text).unwrap();
    assert_eq!((token.mint.as_str(), token.unit.as_str()), ("https://mint.example.com", "sat"));
    assert_eq!(token.total(), Some(Sats(11)));
    let known = [proofs[0].keyset];
    let keyset = Signer::new().keyset;
    for (read, written) in token.resolve(&known).unwrap().iter().zip(&proofs) {
        assert_eq!((read.amount, &read.secret, read.c), (written.amount, &written.secret, written.c));
        assert_eq!(read.dleq_holds(&keyset), Some(true));
    }
}

#[test]
fn the_old_form_that_we_write_is_read_back() {
    let proofs = our_proofs();
    let token = Token::parse(&encode_v3(&mint(), "sat", &proofs)).unwrap();
    assert_eq!((token.mint.as_str(), token.unit.as_str()), ("https://mint.example.com", "sat"));
    assert_eq!(token.total(), Some(Sats(11)));
    assert!(token
        .proofs
        .iter()
        .zip(&proofs)
        .all(|(read, ours)| read.secret == ours.secret && read.c == ours.c));
}

/// cashu-ts reads no indefinite lengths.
#[test]
fn arrays_are_written_with_their_length() {
    let mut proofs = our_proofs();
    proofs[1].keyset = KeysetId::V1([0; 8]);
    let text = encode(&mint(), "sat", &proofs);
    let bytes = BASE64.decode(&text[6..]).unwrap();
    for array in [[0x61, b't', 0x82], [0x61, b'p', 0x81], [0x61, b'p', 0x82]] {
        assert_eq!(bytes.windows(3).filter(|window| *window == array).count(), 1, "{array:x?}");
    }
    assert_eq!(Token::parse(&text).unwrap().total(), Some(Sats(11)));
}

#[test]
fn a_token_of_a_keyset_the_mint_does_not_have_is_refused() {
    let token = Token::parse(&encode(&mint(), "sat", &our_proofs())).unwrap();
    assert_eq!(token.resolve(&[KeysetId::V1([0; 8])]).unwrap_err(), TokenError::UnknownKeyset);
}

#[test]
fn the_standard_base64_alphabet_is_read_too() {
    let text = vectors()["v4"][1]["token"].as_str().unwrap().to_owned();
    let (prefix, body) = text.split_at(6);
    let standard = format!("{prefix}{}", body.replace('-', "+").replace('_', "/"));
    assert_ne!(standard, text);
    assert_eq!(Token::parse(&standard).unwrap().total(), Some(Sats(4)));
}

#[test]
fn v4_fields_in_any_order_of_indefinite_length_and_unknown_are_read() {
    let c = our_proofs()[0].c.to_bytes();
    let mut bytes = Vec::new();
    let mut e = minicbor::Encoder::new(&mut bytes);
    e.begin_map().unwrap().str("zz").unwrap().array(1).unwrap().null().unwrap();
    e.u8(7).unwrap().str("a number as key").unwrap();
    e.str("t").unwrap().begin_array().unwrap().begin_map().unwrap();
    e.str("p").unwrap().begin_array().unwrap().begin_map().unwrap();
    e.str("w").unwrap().undefined().unwrap().str("d").unwrap().null().unwrap();
    e.str("c").unwrap().begin_bytes().unwrap().bytes(&c[..10]).unwrap().bytes(&c[10..]).unwrap();
    e.end().unwrap();
    e.str("s").unwrap().begin_str().unwrap().str("se").unwrap().str("cret").unwrap().end().unwrap();
    e.str("a").unwrap().u64(1 << 63).unwrap().end().unwrap().end().unwrap();
    e.str("i").unwrap().bytes(&[1, 2, 3, 4, 5, 6, 7, 8]).unwrap().end().unwrap().end().unwrap();
    e.str("u").unwrap().str("sat").unwrap().str("m").unwrap().str("https://m").unwrap().end().unwrap();
    let token = Token::parse(&format!("cashuB{}", BASE64.encode(bytes))).unwrap();
    assert_eq!(token.total(), Some(Sats(1 << 63)));
    assert_eq!(token.proofs[0].secret.as_str(), "secret");
    assert_eq!(token.proofs[0].keyset, KeysetRef::Short([1, 2, 3, 4, 5, 6, 7, 8]));
    assert!(token.proofs[0].dleq.is_none());
}

#[test]
fn a_v3_token_of_two_mints_is_refused_and_of_one_mint_twice_is_read() {
    let v = vectors();
    let mut json = v["v3"]["json"].clone();
    let mut second = json["token"][0].clone();
    json["token"].as_array_mut().unwrap().push(second.clone());
    assert_eq!(Token::parse(&v3(&json)).unwrap().total(), Some(Sats(20)));
    second["mint"] = json!("https://other.example.com");
    json["token"][1] = second;
    assert_eq!(Token::parse(&v3(&json)).unwrap_err(), TokenError::ManyMints);
}

#[test]
fn incomplete_evidence_is_left_out() {
    let mut json = vectors()["v3"]["json"].clone();
    json["token"][0]["proofs"][0]["dleq"] = json!({"e": "00", "s": "zz"});
    let token = Token::parse(&v3(&json)).unwrap();
    assert!(token.proofs[0].dleq.is_none());
}

#[test]
fn amounts_that_are_zero_negative_or_too_large_are_refused() {
    for amount in [json!(0), json!(-1), json!(1.5), json!("1x"), json!(null), json!(18446744073709551615u64)]
    {
        let mut json = vectors()["v3"]["json"].clone();
        json["token"][0]["proofs"][0]["amount"] = amount.clone();
        assert_eq!(Token::parse(&v3(&json)).unwrap_err(), TokenError::Damaged, "{amount}");
    }
}

#[test]
fn tokens_without_proofs_are_empty() {
    let mut json = vectors()["v3"]["json"].clone();
    json["token"][0]["proofs"] = json!([]);
    assert_eq!(Token::parse(&v3(&json)).unwrap_err(), TokenError::Empty);
    json["token"] = json!([]);
    assert_eq!(Token::parse(&v3(&json)).unwrap_err(), TokenError::Empty);
    assert_eq!(Token::parse(&encode(&mint(), "sat", &[])).unwrap_err(), TokenError::Empty);
}

#[test]
fn old_keyset_ids_are_named_as_the_cause() {
    let mut json = vectors()["v3"]["json"].clone();
    json["token"][0]["proofs"][1]["id"] = json!("I2yN+iRYfkzT");
    assert_eq!(Token::parse(&v3(&json)).unwrap_err(), TokenError::OldKeyset);
}

#[test]
fn tokens_beyond_the_limits_are_refused() {
    let long = format!("cashuB{}", "A".repeat(MAX_TEXT));
    assert_eq!(Token::parse(&long).unwrap_err(), TokenError::TooLarge);

    let proof = our_proofs().remove(0);
    let bare = Proof { dleq: None, ..proof.clone() };
    let text = encode(&mint(), "sat", &vec![bare.clone(); 256]);
    assert_eq!(Token::parse(&text).unwrap().proofs.len(), 256);
    let text = encode(&mint(), "sat", &vec![bare; 257]);
    assert_eq!(Token::parse(&text).unwrap_err(), TokenError::TooLarge);

    let secret = ProofSecret("x".repeat(MAX_SECRET + 1));
    let text = encode(&mint(), "sat", &[Proof { secret, ..proof }]);
    assert_eq!(Token::parse(&text).unwrap_err(), TokenError::TooLarge);
}

#[test]
fn nesting_without_end_is_refused() {
    for start in [0x81u8, 0x9f, 0xa1, 0xbf, 0xd8, 0xf6] {
        for prefix in [&[][..], &[0xa1, 0x61, b't'], &[0xa1, 0x61, b'x'], &[0x9b, 0xff, 0xff]] {
            let mut bytes = prefix.to_vec();
            bytes.extend(vec![start; 40_000]);
            assert!(Token::parse(&format!("cashuB{}", BASE64.encode(bytes))).is_err());
        }
    }
    let deep = format!("{{\"token\":{}", "[".repeat(40_000));
    assert!(Token::parse(&format!("cashuA{}", BASE64.encode(deep))).is_err());
}

#[test]
fn a_length_that_promises_more_than_there_is_costs_nothing() {
    let huge = [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    for head in [&[0xa1, 0x61, b't'][..], &[0xa1, 0x61, b't', 0x81, 0xa1, 0x61, b'p']] {
        let mut bytes = head.to_vec();
        bytes.extend(huge);
        assert!(Token::parse(&format!("cashuB{}", BASE64.encode(bytes))).is_err());
    }
}

/// Cut and flipped tokens are refused or read as another token; they never panic.
#[test]
fn damaged_tokens_never_panic() {
    let v = vectors();
    let v3_text = v["v3"]["token"].as_str().unwrap().to_owned();
    for text in [v3_text, encode(&mint(), "sat", &our_proofs())] {
        for at in 0..text.len() {
            assert!(Token::parse(&text[..at]).is_err());
        }
        let (prefix, body) = text.split_at(6);
        let bytes = BASE64.decode(body).unwrap();
        for at in 0..bytes.len() {
            for flip in [1u8, 0x20, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] ^= flip;
                let _ = Token::parse(&format!("{prefix}{}", BASE64.encode(bytes)));
            }
        }
    }
}

#[test]
fn tokens_do_not_show_their_secrets_in_debug_output() {
    let proofs = our_proofs();
    let shown = format!("{:?}", Token::parse(&encode(&mint(), "sat", &proofs)).unwrap());
    assert!(proofs.iter().all(|proof| !shown.contains(proof.secret.as_str())));
}

#[test]
fn a_token_is_found_in_what_a_chat_makes_of_it() {
    let text = vectors()["v4"][0]["token"].as_str().unwrap().to_owned();
    let (start, end) = text.split_at(90);
    for pasted in [
        text.clone(),
        format!("cashu:{text}"),
        format!("https://wallet.example/#token={text}"),
        format!("Here is your ecash:\n{text}\nEnjoy it"),
        format!("{text}."),
        format!("{text},"),
        format!("{text}!"),
        format!("({text})"),
        format!("\"{text}\""),
        format!("\u{201c}{text}\u{201d}"),
        format!("*{text}*"),
        format!("<{text}>"),
        format!("Pay: {text}."),
        format!("Here is a cashuB token, no cashuA: {text}"),
        format!("{start}\u{200b}{end}\u{feff}"),
        format!("\u{2066}{start}\u{ad}{end}\u{2069}"),
        format!("_{text}_"),
        format!("`{text}`"),
        format!("[ecash]({text})"),
        format!("Here you are: {}", behind_an_emoji(&text)),
        behind_an_emoji(&format!("cashu:{text}")).replace('\u{1f95c}', ""),
    ] {
        assert_eq!(found_in(&pasted).as_deref(), Some(text.as_str()), "{pasted}");
    }
    for broken in [
        format!("Ecash: {start}\n{end}."),
        format!("> {start}\r\n> {end}\r\n"),
        format!("{start}\n{end}\n\nEnjoy it."),
        format!("\u{201c}{start}\n  {end}\u{201d}"),
    ] {
        assert_eq!(found_in(&broken).as_deref(), Some(text.as_str()), "{broken}");
    }
    for pasted in ["", "lnbc1abc", "no cash here"] {
        assert_eq!(found_in(pasted), None);
    }
    assert_eq!(found_in("cashuBbroken and more").as_deref(), Some("cashuBbroken"));
}
