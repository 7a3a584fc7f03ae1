//! The addresses that are written onto cards and into answers.

/// `https`, but `http` for an onion service (LUD-17).
fn scheme(domain: &str) -> &'static str {
    let host = domain.split_once(':').map_or(domain, |(host, _)| host);
    if host.ends_with(".onion") {
        "http"
    } else {
        "https"
    }
}

/// What a card tells a till, without `p` and `c`.
pub fn of_card(domain: &str, card: i64) -> String {
    format!("lnurlw://{domain}/ln?card_id={card}")
}

/// Without a query: wallets add theirs.
pub fn of_callback(domain: &str) -> String {
    format!("{}://{domain}/ln/callback", scheme(domain))
}

/// Where a programmer app finds a card's keys.
pub fn of_code(domain: &str, code: &str) -> String {
    format!("{}://{domain}/new?a={code}", scheme(domain))
}

/// The same for a phone's camera: the app opens instead of a browser.
pub fn deep(link: &str) -> String {
    let escaped = link.replace(':', "%3A").replace('/', "%2F").replace('?', "%3F").replace('=', "%3D");
    format!("boltcard://program?url={escaped}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_https_but_for_onion_services() {
        assert_eq!(of_card("c.example", 7), "lnurlw://c.example/ln?card_id=7");
        assert_eq!(of_callback("c.example:8443"), "https://c.example:8443/ln/callback");
        assert_eq!(of_callback("abc.onion"), "http://abc.onion/ln/callback");
        assert_eq!(of_code("abc.onion:81", "ff"), "http://abc.onion:81/new?a=ff");
        assert_eq!(
            deep("https://c.example/new?a=ff"),
            "boltcard://program?url=https%3A%2F%2Fc.example%2Fnew%3Fa%3Dff"
        );
    }

    #[test]
    fn the_longest_link_fits_a_card() {
        let link = of_card(&"d".repeat(150), i64::MAX);
        assert!(link.len() <= 195, "{}", link.len());
        assert!(!link.contains("p=") && !link.contains("c="));
    }
}
