use super::super::ring::RingKey;
use super::*;
use serde_json::{json, Value};

const ISSUER: &str = "https://wifi.example.net";
const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

fn ring() -> KeyRing {
    KeyRing::of(RingKey { kid: "k1".to_owned(), secret: Zeroizing::new([7; 32]) })
}

fn claims() -> Claims {
    Claims {
        audience: LoginAudience::Client,
        key: WalletKey::from_bytes([2; 33]).unwrap(),
        issued: NOW,
        expires: UnixSeconds(NOW.0 + 600),
        id: [9; 16],
        auth_time: UnixSeconds(NOW.0 - 5),
        role: "client".to_owned(),
    }
}

fn read(token: &str) -> Result<Claims, JwtFault> {
    Claims::verify(token, ISSUER, &ring(), Some(NOW))
}

/// A token of ours with another head and other claims, signed as it says.
fn made(head: &[(&str, Value)], body: &[(&str, Value)]) -> String {
    let text = |part: &str| String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    let ours = claims().sign(ISSUER, &ring());
    let parts: Vec<&str> = ours.split('.').collect();
    let part = |part: &str, changes: &[(&str, Value)]| {
        let mut value: Value = serde_json::from_str(&text(part)).unwrap();
        for (name, change) in changes {
            match change {
                Value::Null => drop(value.as_object_mut().unwrap().remove(*name)),
                change => value[*name] = change.clone(),
            }
        }
        BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
    };
    let signed = format!("{}.{}", part(parts[0], head), part(parts[1], body));
    let mac = keyed(&Zeroizing::new([7; 32]), &signed).unwrap().finalize().into_bytes();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac))
}

fn same(result: Result<Claims, JwtFault>) -> Result<(), JwtFault> {
    result.map(|_| ())
}

#[test]
fn what_was_signed_is_read_again_and_is_hs256_with_a_kid() {
    let token = claims().sign(ISSUER, &ring());
    assert!(read(&token).is_ok_and(|read| read == claims()));
    let head = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&head).unwrap(),
        json!({"alg": "HS256", "typ": "JWT", "kid": "k1"})
    );
    assert!(token.len() < LONGEST / 3, "{}", token.len());
}

#[test]
fn the_token_of_another_maker_is_read_alike() {
    let vectors = include_str!("../../../tests/vectors/lnauth/tokens.txt").lines().skip(1);
    let ring = KeyRing::of(RingKey { kid: "k1".to_owned(), secret: Zeroizing::new([0x0b; 32]) });
    for line in vectors {
        let (verdict, token) = line.split_once(' ').unwrap();
        let found = Claims::verify(token, ISSUER, &ring, Some(NOW));
        assert_eq!(found.is_ok(), verdict == "good", "{line}");
    }
}

#[test]
fn each_way_to_forge_a_token_is_refused() {
    use JwtFault::*;
    let mine = |head: &[(&str, Value)], body: &[(&str, Value)]| same(read(&made(head, body)));
    assert_eq!(mine(&[], &[]), Ok(()));
    for alg in ["none", "None", "HS512", "hs256", "RS256", "ES256", ""] {
        assert_eq!(mine(&[("alg", json!(alg))], &[]), Err(Algorithm), "{alg}");
    }
    assert_eq!(mine(&[("crit", json!(["exp"]))], &[]), Err(Algorithm));
    assert_eq!(mine(&[("alg", Value::Null)], &[]), Err(Claim));
    assert_eq!(mine(&[("kid", Value::Null)], &[]), Err(Key));
    assert_eq!(mine(&[("kid", json!("k2"))], &[]), Err(Key));
    for claim in ["iss", "aud", "sub", "pubkey", "iat", "exp", "jti", "auth_time", "role"] {
        assert_eq!(mine(&[], &[(claim, Value::Null)]), Err(Claim), "no {claim}");
        assert_eq!(mine(&[], &[(claim, json!({}))]), Err(Claim), "{claim}");
    }
    assert_eq!(mine(&[], &[("iss", json!("https://other.example"))]), Err(Issuer));
    assert_eq!(mine(&[], &[("aud", json!("everybody"))]), Err(Claim));
    assert_eq!(mine(&[], &[("pubkey", json!("03".repeat(33)))]), Err(Claim));
    assert_eq!(mine(&[], &[("sub", json!("04".repeat(33))), ("pubkey", json!("04".repeat(33)))]), Err(Claim));
    assert_eq!(mine(&[], &[("jti", json!("09"))]), Err(Claim));
    assert_eq!(mine(&[], &[("exp", json!(1.5))]), Err(Claim));
    assert_eq!(mine(&[], &[("iat", json!(NOW.0 + 61))]), Err(Claim), "from the future");
    let none = made(&[("alg", json!("none"))], &[]);
    let (unsigned, _) = none.rsplit_once('.').unwrap();
    assert!(read(&format!("{unsigned}.")).is_err());
}

#[test]
fn a_flipped_byte_anywhere_is_refused() {
    let token = claims().sign(ISSUER, &ring());
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        assert!(read(std::str::from_utf8(&bytes).unwrap()).is_err(), "{at}");
    }
    for bad in ["", ".", "..", "...", "a.b.c", &token[1..], &format!("{token}."), &format!("{token}=")] {
        assert!(read(bad).is_err(), "{bad}");
    }
    let other = KeyRing::of(RingKey { kid: "k1".to_owned(), secret: Zeroizing::new([8; 32]) });
    let forged = claims().sign(ISSUER, &other);
    assert_eq!(same(read(&forged)), Err(JwtFault::Signature));
}

#[test]
fn a_token_ends_by_a_clock_that_is_set_with_a_minute_of_grace() {
    let token = claims().sign(ISSUER, &ring());
    let at = |wall| same(Claims::verify(&token, ISSUER, &ring(), wall));
    assert_eq!(at(Some(UnixSeconds(NOW.0 + 660))), Ok(()));
    assert_eq!(at(Some(UnixSeconds(NOW.0 + 661))), Err(JwtFault::Expired));
    assert_eq!(at(None), Ok(()));
}

#[test]
fn a_key_that_was_changed_still_verifies() {
    let old = claims().sign(ISSUER, &ring());
    let rotated = ring().rotated(RingKey::random().unwrap(), &["k1".to_owned()]);
    assert!(Claims::verify(&old, ISSUER, &rotated, Some(NOW)).is_ok());
    let new = claims().sign(ISSUER, &rotated);
    assert!(Claims::verify(&new, ISSUER, &rotated, Some(NOW)).is_ok());
    assert_eq!(same(read(&new)), Err(JwtFault::Key));
}

/// A head and a body in two lines, signed as ours are: what is read is read again when we write it.
pub fn fuzz_jwt(text: &str) -> Result<Claims, JwtFault> {
    let (head, body) = text.split_once('\n').unwrap_or((text, ""));
    let signed = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(head), BASE64_URL_SAFE_NO_PAD.encode(body));
    let mac = keyed(&Zeroizing::new([7; 32]), &signed).unwrap().finalize().into_bytes();
    let claims = read(&format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac)));
    assert!(read(&format!("{signed}.")).is_err() && read(text).is_err(), "it is signed");
    if let Ok(claims) = &claims {
        assert!(read(&claims.sign(ISSUER, &ring())).is_ok_and(|again| again == *claims));
    }
    claims
}
