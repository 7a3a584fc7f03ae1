//! Nostr events (NIP-01): what TollGate's answers are written in. Signed here, never checked: the payer is known by
//! the neighbour table, not by a key.

use crate::ecash::SecretKey;
use crate::hex;
use crate::units::UnixSeconds;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Tags of an event. Every element is text: Go's clients fail on a JSON number.
pub type Tags = Vec<Vec<String>>;

/// One tag.
pub fn tag<const N: usize>(elements: [&str; N]) -> Vec<String> {
    elements.map(str::to_owned).to_vec()
}

/// An event that is not signed yet.
pub struct Event<'a> {
    pub kind: u32,
    pub created_at: UnixSeconds,
    pub tags: &'a Tags,
    pub content: &'a str,
}

impl Event<'_> {
    /// The event as JSON, signed with `key` (BIP-340), whose [`x_only`] is `pubkey`. `None` with negligible
    /// probability.
    pub fn sign(&self, key: &SecretKey, pubkey: &str) -> Option<String> {
        let id = self.id(pubkey);
        let signature = hex::encode(&key.sign(&id)?);
        let (id, tags, content) = (hex::encode(&id), self.tags_json(), text(self.content));
        let Event { kind, created_at, .. } = self;
        Some(format!(
            r#"{{"kind":{kind},"id":"{id}","pubkey":"{pubkey}","created_at":{},"tags":{tags},"content":{content},"sig":"{signature}"}}"#,
            created_at.0
        ))
    }

    /// SHA-256 of NIP-01's canonical form: no blanks, and only what JSON requires is escaped.
    fn id(&self, pubkey: &str) -> [u8; 32] {
        let (tags, content) = (self.tags_json(), text(self.content));
        let canonical = format!(r#"[0,"{pubkey}",{},{},{tags},{content}]"#, self.created_at.0, self.kind);
        Sha256::digest(canonical).into()
    }

    fn tags_json(&self) -> String {
        let tags: Vec<String> = self
            .tags
            .iter()
            .map(|tag| format!("[{}]", tag.iter().map(|element| text(element)).collect::<Vec<_>>().join(",")))
            .collect();
        format!("[{}]", tags.join(","))
    }
}

/// The key that others know an event's author by: 64 hex digits.
pub fn x_only(key: &SecretKey) -> String {
    let compressed = key.public_key().to_bytes();
    hex::encode(compressed.get(1..).unwrap_or_default())
}

fn text(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k256::schnorr::{Signature, VerifyingKey};

    /// The key of BIP-340's first vector; its public key is the x coordinate of 3 G.
    fn key(last: u8) -> SecretKey {
        let mut bytes = [0; 32];
        bytes[31] = last;
        SecretKey::from_bytes(&bytes).unwrap()
    }

    fn parsed(event: &Event, key: &SecretKey) -> Value {
        serde_json::from_str(&event.sign(key, &x_only(key)).unwrap()).unwrap()
    }

    #[test]
    fn signatures_are_those_of_bip_340() {
        let vectors = include_str!("../../tests/vectors/nostr/bip340.json");
        let vectors: Value = serde_json::from_str(vectors).unwrap();
        for case in vectors["sign"].as_array().unwrap() {
            let bytes = |name: &str| hex::decode::<32>(case[name].as_str().unwrap()).unwrap();
            let key = SecretKey::from_bytes(&bytes("secret")).unwrap();
            assert_eq!(x_only(&key), case["public"].as_str().unwrap());
            let signature = hex::encode(&key.sign(&bytes("message")).unwrap());
            assert_eq!(signature, case["signature"].as_str().unwrap());
        }
    }

    #[test]
    fn ids_are_those_that_other_implementations_compute() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../tests/vectors/nostr/events.json")).unwrap();
        for case in vectors["events"].as_array().unwrap() {
            let tags: Tags = serde_json::from_value(case["tags"].clone()).unwrap();
            let event = Event {
                kind: case["kind"].as_u64().unwrap().try_into().unwrap(),
                created_at: UnixSeconds(case["created_at"].as_u64().unwrap()),
                tags: &tags,
                content: case["content"].as_str().unwrap(),
            };
            assert_eq!(
                hex::encode(&event.id(case["pubkey"].as_str().unwrap())),
                case["id"].as_str().unwrap()
            );
        }
    }

    #[test]
    fn an_event_carries_a_signature_over_its_id_that_holds() {
        let tags = vec![tag(["p", "02:00:00:00:00:01"]), tag(["x", "\"quotes\"\n", "1"])];
        let event = Event { kind: 1022, created_at: UnixSeconds(7), tags: &tags, content: "é \u{1f}" };
        let shown = parsed(&event, &key(3));
        let digits = |name: &str| shown[name].as_str().unwrap().to_owned();
        let id: [u8; 32] = hex::decode(&digits("id")).unwrap();
        let public = VerifyingKey::from_bytes(&hex::decode::<32>(&digits("pubkey")).unwrap().into()).unwrap();
        let signature = hex::decode::<64>(&digits("sig")).unwrap();
        let signature = Signature::try_from(signature.as_slice()).unwrap();
        public.verify_raw(&id, &signature).unwrap();
        assert_eq!(shown["tags"][1][1], "\"quotes\"\n");
        assert_eq!((shown["kind"].as_u64(), shown["created_at"].as_u64()), (Some(1022), Some(7)));
    }
}
