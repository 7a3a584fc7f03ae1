//! Which pages of other origins may read what is answered to guests. Of the TollGate protocol: those of this
//! router, and those of private addresses, where existing portals are served from; of a payment's answer, in which
//! they never find a ticket, also wallets' pages, which are anywhere; below `/api/`, those of apps that the operator lists.
//! Of everything else, which may hold what is worth money: those of this router only.

use super::answer::Answer;
use super::entrance::Audience;
use super::origin::{host_of, is_own_page, origin_allowed, AskedAt};
use crate::config::Config;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::Method;
use std::net::IpAddr;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, OPTIONS");
const HEADERS: HeaderValue = HeaderValue::from_static("Content-Type, Authorization");
const EXPOSED: HeaderValue = HeaderValue::from_static("X-TollGate-Client-MAC, X-TollGate-Mac-Claim-Ignored");

/// Where wallets' apps that are web pages say they come from.
const WALLET_APP: &str = "capacitor://localhost";

/// What a page may ask and read, where the handler has not said it. `origin` is answered by [`trusted_origin`] or
/// [`own_origin`].
pub fn permit(answer: &mut Answer, origin: Option<&HeaderValue>) {
    let headers = answer.headers_mut();
    if headers.contains_key(header::ACCESS_CONTROL_ALLOW_METHODS) {
        return;
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    }
}

/// A wallet's page may send a payment to a payment request's address, and read what became of it.
pub fn permit_wallet(answer: &mut Answer, origin: &HeaderValue) {
    permit_one(answer, origin, ["POST", "Content-Type"]);
}

/// An app's page may do what its other builds may. It has no cookie here: a token is all that it shows.
pub fn permit_app(answer: &mut Answer, origin: &HeaderValue) {
    permit_one(answer, origin, ["GET, POST", "Authorization, X-JWT, Content-Type, Idempotency-Key"]);
}

fn permit_one(answer: &mut Answer, origin: &HeaderValue, [methods, sent]: [&'static str; 2]) {
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(sent));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
}

/// The asking page's origin, if it may be a wallet's and this is a payment or asks whether one may be sent.
pub fn wallet_origin<'a>(method: &Method, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
    let pays = *method == Method::POST
        || (*method == Method::OPTIONS && asked.is_some_and(|asked| asked.as_bytes() == b"POST"));
    let origin = headers.get(header::ORIGIN).filter(|_| pays)?;
    let text = origin.to_str().ok()?;
    let host = text.strip_prefix("https://").unwrap_or_default();
    let is_host = host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
        && !host.contains(['/', '@', '?', '#', ' ', '*', ',']);
    (is_host || text == WALLET_APP).then_some(origin)
}

/// The asking page's origin, if it is an app's that the operator lists, and this is a path of guests' apps.
pub fn app_origin<'a>(
    config: &Config,
    audience: Audience,
    path: &str,
    headers: &'a HeaderMap,
) -> Option<&'a HeaderValue> {
    let is_of_apps = matches!(audience, Audience::Guest | Audience::Public) && path.starts_with("/api/");
    let auth = config.auth.as_ref().filter(|_| is_of_apps)?;
    let is_listed =
        |origin: &&HeaderValue| auth.origins.iter().any(|listed| listed.as_bytes() == origin.as_bytes());
    headers.get(header::ORIGIN).filter(is_listed)
}

/// The asking page's origin, if it is a page of this router.
pub fn own_origin<'a>(headers: &'a HeaderMap, at: AskedAt<'_>) -> Option<&'a HeaderValue> {
    headers.get(header::ORIGIN).filter(|_| is_own_page(headers, at))
}

/// The asking page's origin, if it may read answers of the protocol.
pub fn trusted_origin<'a>(headers: &'a HeaderMap, at: AskedAt<'_>) -> Option<&'a HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    let (scheme, authority) = origin.to_str().ok()?.split_once("://")?;
    let is_page = matches!(scheme, "http" | "https") && !authority.contains('/');
    (is_page && (is_private(&host_of(authority)) || origin_allowed(headers, at))).then_some(origin)
}

fn is_private(host: &str) -> bool {
    match host.parse() {
        Ok(IpAddr::V4(v4)) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        Ok(IpAddr::V6(v6)) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
        Err(_) => host == "localhost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LO: AskedAt = AskedAt { device: "lo", local: None, names: [None; 2] };

    fn headers(origin: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "portal.example:2121".parse().unwrap());
        headers.insert(header::ORIGIN, origin.parse().unwrap());
        headers
    }

    #[test]
    fn pages_of_private_addresses_and_of_the_host_asked_are_trusted() {
        for origin in [
            "http://192.168.1.1:2051",
            "http://10.0.0.1",
            "https://172.31.255.1:8443",
            "http://127.0.0.1:5173",
            "http://localhost:5173",
            "http://[::1]:80",
            "http://[fd00::1]:2051",
            "http://portal.example",
            "https://PORTAL.example:1",
        ] {
            let headers = headers(origin);
            assert_eq!(trusted_origin(&headers, LO).map(HeaderValue::as_bytes), Some(origin.as_bytes()));
        }
    }

    #[test]
    fn all_other_pages_are_not() {
        for origin in [
            "null",
            "*",
            "",
            "http://evil.example",
            "http://8.8.8.8",
            "http://172.32.0.1",
            "http://192.168.1.1.evil.example",
            "file://",
            "ftp://192.168.1.1",
            "http://evil.example/://192.168.1.1",
            "http://user@evil.example",
            "http://[2001:db8::1]",
        ] {
            assert_eq!(trusted_origin(&headers(origin), LO), None, "{origin}");
        }
    }

    #[test]
    fn an_apps_page_is_one_that_is_listed_letter_by_letter_and_asks_below_api() {
        let text = "config tollgate\noption enabled '0'\nconfig auth\noption domain 'w.example'\n\
                    list origin 'https://app.example'\nlist origin 'http://localhost:5173'\n";
        let config = Config::from_uci(text).unwrap().0;
        let is_listed =
            |audience, path, origin| app_origin(&config, audience, path, &headers(origin)).is_some();
        for origin in ["https://app.example", "http://localhost:5173"] {
            assert!(is_listed(Audience::Guest, "/api/wallet/balance", origin), "{origin}");
            assert!(is_listed(Audience::Public, "/api/auth/login", origin), "{origin}");
            assert!(!is_listed(Audience::Admin, "/api/createboltcard", origin), "{origin}");
            assert!(!is_listed(Audience::Guest, "/me", origin), "{origin}");
        }
        for origin in
            ["http://app.example", "https://app.example:8443", "https://APP.example", "null", "*", ""]
        {
            assert!(!is_listed(Audience::Guest, "/api/wallet/balance", origin), "{origin}");
        }
    }

    #[test]
    fn a_wallets_page_is_any_over_https_or_an_app_and_may_only_pay() {
        for origin in
            ["https://wallet.cashu.me", "https://localhost", "https://[2001:db8::1]:8443", WALLET_APP]
        {
            let mut headers = headers(origin);
            assert!(wallet_origin(&Method::POST, &headers).is_some(), "{origin}");
            assert!(wallet_origin(&Method::OPTIONS, &headers).is_none(), "to ask for what it does not say");
            for (asked, may) in [("POST", true), ("GET", false), ("PUT", false), ("post", false)] {
                headers.insert(header::ACCESS_CONTROL_REQUEST_METHOD, asked.parse().unwrap());
                assert_eq!(wallet_origin(&Method::OPTIONS, &headers).is_some(), may, "{origin} {asked}");
                assert!(wallet_origin(&Method::GET, &headers).is_none());
            }
        }
        for origin in [
            "http://wallet.example",
            "null",
            "*",
            "https://",
            "https://a/b",
            "https://u@a",
            "https://*",
            "https://a, https://b",
            "capacitor://evil",
            "capacitor://localhost.evil",
            "file://",
        ] {
            assert!(wallet_origin(&Method::POST, &headers(origin)).is_none(), "{origin}");
        }
    }
}
