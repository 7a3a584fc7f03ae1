//! The signature that claims a locked mint quote (NUT-20), in the two forms the field knows.

use super::curve::{PublicKey, SecretKey};
use super::hex;
use crate::units::Sats;
use sha2::{Digest, Sha256};

/// What is signed. Mints up to nutshell 0.20.2 and cdk 0.17 know the legacy form only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    V1,
    Legacy,
}

/// Signs for `quote` and outputs (amount, `B_`) in the order of the request; 128 hex digits.
pub(super) fn sign(
    form: Form,
    key: &SecretKey,
    quote: &str,
    outputs: impl Iterator<Item = (Sats, PublicKey)>,
) -> Option<String> {
    let digest = match form {
        Form::V1 => v1_digest(quote, outputs)?,
        Form::Legacy => legacy_digest(quote, outputs),
    };
    key.sign(&digest).map(|signature| hex::encode(&signature))
}

fn v1_digest(quote: &str, outputs: impl Iterator<Item = (Sats, PublicKey)>) -> Option<[u8; 32]> {
    let mut hash = Sha256::new().chain_update(b"Cashu_MintQuoteSig_v1");
    let mut field = |bytes: &[u8]| -> Option<()> {
        hash.update(u32::try_from(bytes.len()).ok()?.to_be_bytes());
        hash.update(bytes);
        Some(())
    };
    field(quote.as_bytes())?;
    for (amount, blinded) in outputs {
        let amount = amount.0.to_be_bytes();
        let zeros = amount.iter().take_while(|byte| **byte == 0).count();
        field(amount.get(zeros..)?)?;
        field(&blinded.to_bytes())?;
    }
    Some(hash.finalize().into())
}

fn legacy_digest(quote: &str, outputs: impl Iterator<Item = (Sats, PublicKey)>) -> [u8; 32] {
    let hash = Sha256::new().chain_update(quote);
    outputs.fold(hash, |hash, (_, blinded)| hash.chain_update(blinded.to_string())).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k256::schnorr::signature::hazmat::PrehashVerifier;
    use serde_json::Value;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../tests/vectors/cashu/nut20-signature.json")).unwrap()
    }

    fn point(text: &Value) -> PublicKey {
        PublicKey::parse(text.as_str().unwrap()).unwrap()
    }

    #[test]
    fn the_v1_signature_matches_the_vector() {
        let v = &vectors()["v1"];
        let outputs: Vec<_> = v["outputs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|output| (Sats(output[0].as_u64().unwrap()), point(&output[1])))
            .collect();
        let quote = v["quote"].as_str().unwrap();
        let digest = v1_digest(quote, outputs.iter().copied()).unwrap();
        assert_eq!(hex::encode(&digest), v["sha256"].as_str().unwrap());
        let key = SecretKey::from_bytes(&hex::decode(v["key"].as_str().unwrap()).unwrap()).unwrap();
        let signature = sign(Form::V1, &key, quote, outputs.into_iter()).unwrap();
        assert_eq!(signature, v["signature"].as_str().unwrap());
    }

    #[test]
    fn the_legacy_digest_is_the_one_of_the_vector() {
        let v = &vectors()["legacy"];
        let outputs = v["outputs"].as_array().unwrap().iter().map(|output| (Sats(1), point(output)));
        let digest = legacy_digest(v["quote"].as_str().unwrap(), outputs);
        let key: [u8; 33] = hex::decode(v["pubkey"].as_str().unwrap()).unwrap();
        let key = k256::schnorr::VerifyingKey::from_slice(&key[1..]).unwrap();
        for (field, good) in [("signature", true), ("bad_signature", false)] {
            let signature: [u8; 64] = hex::decode(v[field].as_str().unwrap()).unwrap();
            let signature = k256::schnorr::Signature::try_from(&signature[..]).unwrap();
            assert_eq!(key.verify_prehash(&digest, &signature).is_ok(), good, "{field}");
        }
    }
}
