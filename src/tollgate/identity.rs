//! Who this router is to TollGate clients: one key for good, and what the ecosystem derives from it.
//!
//! The derived addresses are those that existing tools expect to see; nothing on this router is set to them.

use super::event::x_only;
use crate::bech32;
use crate::ecash::SecretKey;
use crate::hex;
use crate::json::json;
use crate::mac::MacAddr;
use crate::store::{KeyFile, Secret, Store, StoreError};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Devices for which clients expect an address.
const DEVICES: [&str; 3] = ["br-lan", "wlan0", "wlan1"];

/// The key that signs everything this router says to TollGate clients, and what follows from it: any client may ask
/// for that, and a router derives it slowly. Debug output shows no key.
#[derive(Clone, Debug)]
pub struct Identity {
    pub key: SecretKey,
    /// What others know it by: 64 hex digits.
    pub public: String,
    /// The body of `GET /identity`.
    pub shown: Value,
}

impl Identity {
    /// The key of this state directory, made at the first start. `KeyMissing` where it has gone since.
    pub async fn load(store: &Store) -> Result<Identity, StoreError> {
        let mut fresh = [0; 32];
        getrandom::fill(&mut fresh).map_err(|_| StoreError::NoRandomness)?;
        let fresh = SecretKey::reduced_from(&fresh).ok_or(StoreError::NoRandomness)?;
        let make = move || Secret::new(fresh.to_bytes().to_vec());
        let name = "identity";
        let bytes = KeyFile(name).load_or_create(store, make).await?;
        let key = bytes.expose().try_into().ok().and_then(|bytes| SecretKey::from_bytes(&bytes));
        Ok(Identity::of(key.ok_or_else(|| StoreError::KeyMissing(name.to_owned()))?))
    }

    fn of(key: SecretKey) -> Identity {
        let public = x_only(&key);
        let bytes: [u8; 32] = hex::decode(&public).unwrap_or_default();
        let macs = DEVICES.map(|device| (device.to_owned(), mac(&public, device).into()));
        let shown = json!({
            "npub": bech32::encode("npub", &bytes),
            "ipv4": ipv4(&public),
            "macs": Value::Object(macs.into_iter().collect()),
        });
        Identity { key, public, shown }
    }
}

/// A gateway's address of 100.64.0.0/10 (RFC 6598).
fn ipv4(public: &str) -> String {
    let [second, third, ..] = digest("tollgate-ipv4-v1:", public);
    format!("100.{}.{third}.1", 64 | second & 63)
}

/// A locally administered unicast address.
fn mac(public: &str, device: &str) -> String {
    let [first, b, c, d, e, f, ..] = digest(&format!("tollgate-mac-v1:{device}:"), public);
    MacAddr::new([first & 0xfc | 2, b, c, d, e, f]).map(|mac| mac.to_string()).unwrap_or_default()
}

fn digest(domain: &str, public: &str) -> [u8; 32] {
    Sha256::new().chain_update(domain).chain_update(public).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Key 1, whose public key is the generator's x.
    fn identity() -> Identity {
        let mut one = [0; 32];
        one[31] = 1;
        Identity::of(SecretKey::from_bytes(&one).unwrap())
    }

    #[test]
    fn what_is_derived_is_what_other_tollgates_derive() {
        let shown = identity().shown;
        assert_eq!(shown["npub"], "npub10xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqpkge6d");
        assert_eq!(shown["ipv4"], "100.99.243.1");
        assert_eq!(
            shown["macs"],
            json!({"br-lan": "c2:29:93:26:30:8c", "wlan0": "02:db:2c:45:f0:d1", "wlan1": "ae:0b:28:f8:e9:00"})
        );
    }

    #[test]
    fn the_key_does_not_show_in_debug_output() {
        let shown = format!("{:?}", identity());
        assert!(shown.starts_with("Identity") && !shown.contains("00000001"), "{shown}");
    }
}
