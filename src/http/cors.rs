//! Which pages of other origins may read what is answered to guests. Of the TollGate protocol: those of this
//! router, and those of private addresses, where existing portals are served from. Of everything else, which
//! may hold what is worth money: those of this router only.

use super::answer::Answer;
use super::origin::{host_of, is_own_page, origin_allowed, AskedAt};
use hyper::header::{self, HeaderMap, HeaderValue};
use std::net::IpAddr;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, OPTIONS");
const HEADERS: HeaderValue = HeaderValue::from_static("Content-Type, Authorization");
const EXPOSED: HeaderValue = HeaderValue::from_static("X-TollGate-Client-MAC, X-TollGate-Mac-Claim-Ignored");

/// What a page may ask and read. `origin` is answered by [`trusted_origin`] or [`own_origin`].
pub fn permit(answer: &mut Answer, origin: Option<&HeaderValue>) {
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    }
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

    const LO: AskedAt = AskedAt { device: "lo", local: None, name: None };

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
}
