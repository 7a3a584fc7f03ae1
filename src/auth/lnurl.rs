//! The address that a wallet calls, in the forms that wallets read (LUD-01, LUD-04, LUD-17).

use super::challenge::{Action, K1};
use crate::bech32;
use crate::hex;
use crate::url::Url;

/// One address, three times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginLinks {
    pub url: String,
    /// For QR codes, in upper case.
    pub encode: String,
    pub keyauth: String,
}

impl LoginLinks {
    /// k1 stands in the path too: there are clients that drop the query of an address that they add to.
    pub fn of(base: &Url, k1: &K1, action: Action) -> LoginLinks {
        let k1 = hex::encode(k1);
        let path = format!("/lnauth_login/{k1}?tag=login&k1={k1}&action={}", action.as_str());
        let url = base.endpoint(&path);
        let encode = bech32::encode("lnurl", url.as_bytes()).to_ascii_uppercase();
        let keyauth = url.split_once("://").map(|(_, rest)| format!("keyauth://{rest}"));
        LoginLinks { encode, keyauth: keyauth.unwrap_or_default(), url }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_the_k1_twice_and_reads_back() {
        let base = Url::parse("https://wifi.example.net:2125").unwrap();
        let links = LoginLinks::of(&base, &[0xab; 32], Action::Link);
        let k1 = "ab".repeat(32);
        let rest = format!("wifi.example.net:2125/lnauth_login/{k1}?tag=login&k1={k1}&action=link");
        assert_eq!(links.url, format!("https://{rest}"));
        assert_eq!(links.keyauth, format!("keyauth://{rest}"));
        assert!(links.encode.starts_with("LNURL1"));
        assert_eq!(bech32::decode(&links.encode).unwrap().1, links.url.as_bytes());
    }
}
