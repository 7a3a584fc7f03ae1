//! Logs in with the crate `lnurl-rs`, its key derived as LUD-05 says:
//! `lnurl-wallet LINK ADDRESS CA_DER` prints the key and what the crate makes of the answer.

use bitcoin::bip32::{DerivationPath, Xpriv};
use bitcoin::secp256k1::{Message, Secp256k1};
use bitcoin::Network;
use lnurl::{get_derivation_path, lnurl::LnUrl, BlockingClient, Response};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use url::Url;

fn main() {
    let [link, address, ca]: [String; 3] = std::env::args().skip(1).collect::<Vec<_>>().try_into().unwrap();
    let lnurl = LnUrl::from_str(&link).unwrap();
    assert!(lnurl.is_lnurl_auth());
    let url = Url::parse(&lnurl.url).unwrap();
    let (_, k1) = url.query_pairs().find(|(name, _)| name == "k1").unwrap();
    let secp = Secp256k1::new();
    let root = Xpriv::new_master(Network::Bitcoin, &[0x11; 64]).unwrap();
    let hashing = root.derive_priv(&secp, &DerivationPath::from_str("m/138'/0").unwrap()).unwrap();
    let path = get_derivation_path(hashing.private_key.secret_bytes(), &url).unwrap();
    let linking = root.derive_priv(&secp, &path).unwrap().private_key;
    let k1: Vec<u8> = (0..64).step_by(2).map(|at| u8::from_str_radix(&k1[at..at + 2], 16).unwrap()).collect();
    let signature = secp.sign_ecdsa(&Message::from_digest_slice(&k1).unwrap(), &linking);

    let mut roots = rustls::RootCertStore::empty();
    roots.add(&rustls::Certificate(std::fs::read(ca).unwrap())).unwrap();
    let tls = rustls::ClientConfig::builder().with_safe_defaults().with_root_certificates(roots).with_no_client_auth();
    let address: IpAddr = address.parse().unwrap();
    let resolve = move |netloc: &str| {
        let port = netloc.rsplit(':').next().unwrap().parse().unwrap();
        Ok(vec![SocketAddr::new(address, port)])
    };
    let agent = ureq::AgentBuilder::new().tls_config(Arc::new(tls)).resolver(resolve).build();
    let client = BlockingClient::from_agent(agent);
    let key = linking.public_key(&secp);
    let answer = match client.lnurl_auth(lnurl, signature, key) {
        Ok(Response::Ok { .. }) => "ok".to_owned(),
        Ok(Response::Error { reason }) => reason,
        Err(error) => error.to_string(),
    };
    println!("{key} {answer}");
}
