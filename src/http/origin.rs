//! Which page in the guest's browser is asking, by what the browser says of it.
//!
//! Any website may be open in a guest's browser, and its owner can point its name at the router at any moment (DNS
//! rebinding): then its requests are of the same origin. Such a page may do what does no harm; what is worth
//! something is only for pages under an address or a name that the router knows to be its own. A session ticket is
//! worth most: it is only for pages under the router's address, the venue's `portal_name` or the certificate's name, because a name of the
//! router that others can guess (`openwrt.lan`) may have led to another host a moment ago.

use crate::network::{devices, neighbours};
use hyper::header::{self, HeaderMap};
use std::net::IpAddr;

/// Where a request came to.
#[derive(Clone, Copy, Debug)]
pub struct AskedAt<'a> {
    pub device: &'a str,
    /// The address that was asked.
    pub local: Option<IpAddr>,
    /// The router's own names there.
    pub names: [Option<&'a str>; 2],
}

/// Whether a request may ask: it comes from no page, from a page of the host that is asked, or from one of the router's
/// own addresses or names, on any port.
pub fn origin_allowed(headers: &HeaderMap, at: AskedAt<'_>) -> bool {
    if is_sent_across_sites(headers) {
        return false;
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Some(origin) = host_of_origin(origin) else { return false };
    let asked = headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(host_of);
    asked.as_deref() == Some(&origin) || is_own(&origin, at)
}

/// Whether it comes from no page, or from one under the router's own address or name.
pub fn is_own_page(headers: &HeaderMap, at: AskedAt<'_>) -> bool {
    let is_own = |value| host_of_origin(value).is_some_and(|host| is_own(&host, at));
    !is_sent_across_sites(headers) && headers.get(header::ORIGIN).is_none_or(is_own)
}

/// Whether the answer may hold a session ticket: it goes to no page, or to one under an address or the name of this
/// place.
pub fn may_see_ticket(headers: &HeaderMap, at: AskedAt<'_>) -> bool {
    let is_here = |value| host_of_origin(value).is_some_and(|host| is_here(&host, at));
    !is_sent_across_sites(headers)
        && headers.get(header::ORIGIN).is_none_or(is_here)
        && is_asked_here(headers, at)
}

/// For what a page may show: a look has no Origin, but the name that leads to us is in its Host. Only programs send
/// none.
pub fn is_asked_here(headers: &HeaderMap, at: AskedAt<'_>) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    host.to_str().is_ok_and(|host| is_here(&host_of(host), at))
}

/// Only browsers send this, and only where they trust the connection; it cannot be forged by a page.
fn is_sent_across_sites(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site")
}

/// An address of the router at this place, or its name there.
fn is_here(host: &str, at: AskedAt<'_>) -> bool {
    let Ok(address) = host.parse::<IpAddr>() else { return at.names.contains(&Some(host)) };
    let address = neighbours::normalise(address);
    at.local == Some(address) || devices::addresses(at.device).unwrap_or_default().contains(&address)
}

fn is_own(host: &str, at: AskedAt<'_>) -> bool {
    if is_here(host, AskedAt { local: None, ..at }) {
        return true;
    }
    let Ok(name) = nix::unistd::gethostname() else { return false };
    let name = name.to_string_lossy().to_ascii_lowercase();
    !name.is_empty() && (host == name || host.strip_prefix(&name).is_some_and(|rest| rest == ".lan"))
}

fn host_of_origin(origin: &header::HeaderValue) -> Option<String> {
    origin.to_str().ok()?.split_once("://").map(|(_, authority)| host_of(authority))
}

/// The host of `host:port`, lower case, without the brackets of an IPv6 address.
pub fn host_of(authority: &str) -> String {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    host.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LO: AskedAt = AskedAt { device: "lo", local: None, names: [None; 2] };

    fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        headers
    }

    #[test]
    fn pages_of_the_same_host_may_ask_whatever_their_port() {
        assert!(origin_allowed(&headers("192.168.1.1:2121", None), LO));
        assert!(origin_allowed(&headers("192.168.1.1:2121", Some("http://192.168.1.1")), LO));
        assert!(origin_allowed(&headers("[fd00::1]:2121", Some("http://[FD00::1]:8080")), LO));
    }

    #[test]
    fn pages_of_other_hosts_may_not_ask() {
        for origin in [
            "http://evil.example",
            "null",
            "http://192.168.1.10",
            "file://",
            "http://192.168.1.1.evil.example",
        ] {
            assert!(!origin_allowed(&headers("192.168.1.1:2121", Some(origin)), LO), "{origin}");
        }
    }

    #[test]
    fn a_page_whose_name_was_turned_to_the_router_is_not_the_routers_own() {
        let rebound = headers("evil.example:2121", Some("http://evil.example:2121"));
        assert!(origin_allowed(&rebound, LO) && !is_own_page(&rebound, LO));
        assert!(!is_asked_here(&headers("evil.example:2121", None), LO));
        for own in ["127.0.0.1:2121", "[::ffff:127.0.0.1]:8080"] {
            let origin = format!("http://{own}");
            assert!(is_own_page(&headers("evil.example", Some(&origin)), LO), "{own}");
            assert!(is_asked_here(&headers(own, None), LO), "{own}");
        }
    }

    #[test]
    fn a_ticket_is_for_pages_under_an_address_of_the_place_that_was_asked() {
        let at = AskedAt { local: "192.0.2.1".parse().ok(), ..LO };
        let sees = |host, origin| may_see_ticket(&headers(host, origin), at);
        assert!(sees("127.0.0.1:2121", None) && sees("192.0.2.1:2121", Some("http://127.0.0.1:2051")));
        assert!(may_see_ticket(&HeaderMap::new(), at), "no browser");
        for (host, origin) in [
            ("evil.example:2121", None),
            ("evil.example:2121", Some("http://evil.example:2121")),
            ("evil.example:2121", Some("http://127.0.0.1")),
            ("127.0.0.1:2121", Some("http://evil.example")),
            ("127.0.0.1.evil.example", None),
            ("192.0.2.2", None),
            ("localhost", None),
            ("", None),
        ] {
            assert!(!sees(host, origin), "{host} {origin:?}");
        }
    }

    #[test]
    fn a_name_that_others_can_guess_gets_no_ticket() {
        let name = nix::unistd::gethostname().unwrap().to_string_lossy().into_owned();
        for host in [format!("{name}:2121"), format!("{name}.lan:2121")] {
            let asked = headers(&host, Some(&format!("http://{host}")));
            assert!(is_own_page(&asked, LO) && !may_see_ticket(&asked, LO));
        }
    }

    #[test]
    fn the_portals_and_the_certificates_name_are_the_routers_own_there() {
        let at = AskedAt { names: [Some("wifi.home"), Some("wifi.example.net")], ..LO };
        for host in ["wifi.home:2121", "WiFi.home", "wifi.example.net:2125"] {
            let page = headers(host, Some(&format!("http://{host}")));
            assert!(
                may_see_ticket(&page, at) && is_own_page(&page, at) && is_asked_here(&page, at),
                "{host}"
            );
            assert!(!may_see_ticket(&page, LO) && !is_own_page(&page, LO), "{host}: of no other venue");
        }
        for host in ["wifi.home.evil.example", "x.wifi.home", "wifi.hom", "wifi.home."] {
            assert!(!may_see_ticket(&headers(host, None), at), "{host}");
        }
        assert!(!may_see_ticket(&headers("wifi.home", Some("http://evil.example")), at));
    }

    #[test]
    fn what_a_browser_says_was_sent_across_sites_is_refused() {
        let mut sent = headers("127.0.0.1:2121", None);
        sent.insert("sec-fetch-site", "same-origin".parse().unwrap());
        assert!(origin_allowed(&sent, LO) && is_own_page(&sent, LO));
        sent.insert("sec-fetch-site", "cross-site".parse().unwrap());
        assert!(!origin_allowed(&sent, LO) && !is_own_page(&sent, LO));
    }
}
