//! Asking a wallet for ecash (NUT-18): a text that a wallet opens, pays, and sends the ecash to an address.

use super::token;
use crate::config::MintUrl;
use base64::alphabet::URL_SAFE;
use base64::engine::{general_purpose::PAD, GeneralPurpose};
use base64::Engine;
use minicbor::encode::Error;
use minicbor::Encoder;
use serde_json::Value;
use std::convert::Infallible;

/// As the specification's own example has it: with padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, PAD);

/// A request for any amount of sat of one of these mints, to be sent to an address by HTTP POST: `creqA...`.
pub fn encode<'a>(
    mints: impl ExactSizeIterator<Item = &'a MintUrl>,
    description: &str,
    post_to: &str,
) -> String {
    let mut bytes = Vec::new();
    // Writing to a Vec cannot fail.
    let _: Result<(), Error<Infallible>> = write(&mut Encoder::new(&mut bytes), mints, description, post_to);
    format!("creqA{}", BASE64.encode(bytes))
}

fn write<'a>(
    e: &mut Encoder<&mut Vec<u8>>,
    mints: impl ExactSizeIterator<Item = &'a MintUrl>,
    description: &str,
    post_to: &str,
) -> Result<(), Error<Infallible>> {
    e.map(4)?.str("u")?.str("sat")?.str("m")?.array(u64::try_from(mints.len()).unwrap_or_default())?;
    for mint in mints {
        e.str(mint.as_str())?;
    }
    e.str("d")?.str(description)?;
    e.str("t")?.array(1)?.map(2)?.str("t")?.str("post")?.str("a")?.str(post_to)?;
    Ok(())
}

/// The token of what a wallet sends to such an address, if it is that. Whether it is any good is for
/// [`Token::parse`](super::Token::parse) to say.
pub fn paid_with(payload: &Value) -> Option<String> {
    let (mint, proofs) = (payload.get("mint")?, payload.get("proofs")?);
    Some(token::encode_json(mint, payload.get("unit").unwrap_or(&Value::Null), proofs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecash::Token;
    use serde_json::json;

    #[test]
    fn a_request_names_unit_mints_purpose_and_address() {
        let mints =
            ["https://m.example", "https://n.example/Bitcoin"].map(|url| MintUrl::parse(url).unwrap());
        let request = encode(mints.iter(), "Kibanda Wi-Fi", "http://192.168.77.1:2121/");
        let cbor = BASE64.decode(request.strip_prefix("creqA").unwrap()).unwrap();
        let expected = [
            "\u{a4}aucsatam\u{82}qhttps://m.example",
            "x\u{19}https://n.example/Bitcoinad",
            "mKibanda Wi-Fiat\u{81}\u{a2}atdpostaax\u{19}http://192.168.77.1:2121/",
        ];
        let bytes: Vec<u8> = expected.concat().chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        assert_eq!(cbor, bytes);
    }

    #[test]
    fn what_a_wallet_sends_is_a_token() {
        let sent = |amount: Value| {
            let proof = json!({"amount": amount, "id": "009a1f293253e41e", "secret": "s",
                "C": "02bc9097997d81afb2cc7346b5e4345a9346bd2a506eb7958598a72f0cf85163ea"});
            let payload = json!({"id": "x", "memo": "m", "mint": "https://m.example", "unit": "sat", "proofs": [proof]});
            Token::parse(&paid_with(&payload).unwrap())
        };
        // Numbers, and digits as cashu-ts 4 writes them.
        for amount in [json!(2), json!("2")] {
            let token = sent(amount).unwrap();
            assert_eq!((token.mint.as_str(), token.unit.as_str()), ("https://m.example", "sat"));
            assert_eq!(token.total().unwrap().0, 2);
        }
        for amount in ["", "-2", "+2", " 2", "2.0", "2e0", "0x2", "0", "\u{662}", "18446744073709551616"] {
            assert!(sent(json!(amount)).is_err(), "{amount}");
        }
        for amount in [json!(2.0), json!(-2), json!(null), json!([2]), json!({"value": "2"}), json!(true)] {
            assert!(sent(amount.clone()).is_err(), "{amount}");
        }
        assert_eq!(paid_with(&json!({"kind": 21000})), None);
    }
}
