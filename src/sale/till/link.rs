//! What a card or a wallet shows a till: `lnurlw://` (LUD-17), `https://`, or `LNURL1...` (LUD-01), the latter
//! also in an `https` link's query, with what stands around it in a chat. Parsed here once; nothing is resolved or asked.

use crate::bech32;
use crate::hex;
use crate::pasted::{self, after};
use crate::url::Url;
use sha2::{Digest, Sha256};

const MAX_LINK: usize = 2048;

/// An address that may be asked over `https`. It is worth money until it was asked: its text is never logged.
#[derive(Clone)]
pub struct Link {
    /// Scheme, host and port.
    pub site: Url,
    /// Path and query, from the first `/` on.
    pub path: String,
}

impl Link {
    /// The link in what was [`pasted`]. What can be nothing else goes before an address that may be any.
    pub fn parse(pasted: &str) -> Option<Link> {
        pasted::find(pasted, Link::of_lnurl).or_else(|| pasted::find(pasted, Link::of_url))
    }

    fn of_lnurl(word: &str) -> Option<Link> {
        if word.len() > MAX_LINK {
            return None;
        }
        let coded = || coded(word).and_then(|url| Link::of_url(&url));
        let plain = || {
            let rest = after(word, "lnurlw:")?.trim_start_matches('/');
            Link::of_url(rest).or_else(|| Link::of_url(&format!("https://{rest}")))
        };
        coded().or_else(plain)
    }

    /// `https` only, and without user info; `http` would be for onion services.
    pub fn of_url(text: &str) -> Option<Link> {
        let text = text.split('#').next()?;
        if text.len() > MAX_LINK || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let secure = after(text, "https://");
        let rest = secure.or_else(|| after(text, "http://"))?;
        let (authority, path) = rest.split_at_checked(rest.find(['/', '?']).unwrap_or(rest.len()))?;
        let site = Url::parse(&format!("https://{authority}")).ok()?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Some(Link { site, path }).filter(|link| secure.is_some() || link.is_onion())
    }

    /// An onion service, to which there is no way from here.
    pub fn is_onion(&self) -> bool {
        self.site.host().ends_with(".onion")
    }

    /// Whether it is one reading of a card, which counts once; any other may be asked again and again.
    pub fn is_tap(&self) -> bool {
        let query = self.path.split_once('?').map_or("", |(_, query)| query);
        let has = |name| {
            query.split('&').any(|field| field.strip_prefix(name).is_some_and(|value| !value.is_empty()))
        };
        has("p=") && has("c=")
    }

    /// Names the link without telling it.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::new().chain_update(self.site.as_str()).chain_update(&self.path).finalize().into()
    }

    /// The fields of a tap, if the link is of a card of `domain`; other fields are ignored.
    pub fn own_tap(&self, domain: &str) -> Option<[&str; 3]> {
        let own = Url::parse(&format!("https://{domain}")).ok()?;
        let query = self.path.strip_prefix("/ln?").filter(|_| own == self.site)?;
        let field =
            |name: &str| query.split('&').find_map(|field| field.strip_prefix(name)).unwrap_or_default();
        Some([field("card_id="), field("p="), field("c=")])
    }

    /// With two more fields in its query.
    pub fn with(&self, k1: &str, pr: &str) -> String {
        let separator = if self.path.contains('?') { '&' } else { '?' };
        format!("{}{separator}k1={}&pr={}", self.path, escaped(k1), escaped(pr))
    }
}

/// The address in an LNURL anywhere in a word.
fn coded(word: &str) -> Option<String> {
    word.to_ascii_lowercase().match_indices("lnurl1").find_map(|(start, _)| {
        let found = word.get(start..)?;
        let end = found.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(found.len());
        let (_, bytes) = bech32::decode(found.get(..end)?).filter(|(hrp, _)| hrp == "lnurl")?;
        String::from_utf8(bytes).ok()
    })
}

/// Everything but the unreserved characters of RFC 3986 percent-encoded.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte))
            }
            _ => {
                escaped.push('%');
                escaped.push_str(&hex::encode(&[byte]).to_ascii_uppercase());
            }
        }
    }
    escaped
}

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_link(text: &str) -> String {
    let Some(link) = Link::parse(text) else { return String::new() };
    let again = Link::of_url(&format!("{}{}", link.site.as_str(), link.path));
    let is_same = again.is_some_and(|again| again.digest() == link.digest());
    assert!(is_same || link.path.len() > MAX_LINK / 2, "{}", link.path);
    format!("{:?} {}", link.own_tap("cards.example.com"), link.is_onion())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, String)> {
        Link::parse(text).map(|link| (link.site.to_string(), link.path))
    }

    fn https(site: &str, path: &str) -> Option<(String, String)> {
        Some((site.to_owned(), path.to_owned()))
    }

    #[test]
    fn a_link_is_read_in_every_shape_that_cards_and_wallets_show() {
        let bank = || https("https://bank.example", "/ln?card_id=7&p=00&c=11");
        let url = "https://bank.example/ln?card_id=7&p=00&c=11";
        let coded = bech32::encode("lnurl", url.as_bytes());
        for text in [
            "lnurlw://bank.example/ln?card_id=7&p=00&c=11".to_owned(),
            " LNURLW://Bank.example:443/ln?card_id=7&p=00&c=11\n".to_owned(),
            url.to_owned(),
            format!("{url}#top"),
            coded.clone(),
            coded.to_ascii_uppercase(),
            format!("lightning:{coded}"),
            format!("LIGHTNING:{}", coded.to_ascii_uppercase()),
            format!("lightning://{coded}"),
            format!("https://site.example/claim?x=1&lightning={}", coded.to_ascii_uppercase()),
            format!("bitcoin:bc1q?amount=1&lightning={coded}"),
            format!("lnurl:{coded}"),
            format!("LNURL:{}", coded.to_ascii_uppercase()),
            "lightning:lnurlw://bank.example/ln?card_id=7&p=00&c=11".to_owned(),
            format!("lnurlw:{coded}"),
            "lnurlw:bank.example/ln?card_id=7&p=00&c=11".to_owned(),
            format!("lnurlw:{url}"),
            format!("(Pay:{coded})."),
            format!("\u{201c}{url}\u{201d},"),
            format!("Here: <{url}>, see you"),
            format!("see https://other.example or {coded}!"),
            format!("{}\n{}", &coded[..40], &coded[40..]),
            format!("{}\r\n  {}", &url[..30], &url[30..]).replace("  ", ""),
            format!("\u{200b}{}\u{feff}{}", &coded[..9], &coded[9..]),
        ] {
            assert_eq!(read(&text), bank(), "{text}");
        }
        assert_eq!(read("lnurlw://bank.example"), https("https://bank.example", "/"));
        assert_eq!(read("https://bank.example?p=1"), https("https://bank.example", "/?p=1"));
        assert_eq!(read("https://b.example:8443/x"), https("https://b.example:8443", "/x"));
        assert_eq!(read("https://[2001:db8::1]/x"), https("https://[2001:db8::1]", "/x"));
        assert_eq!(read("lnurlw://abc.onion/ln?p=1"), https("https://abc.onion", "/ln?p=1"));
        assert_eq!(read("http://abc.onion/ln"), https("https://abc.onion", "/ln"));
    }

    #[test]
    fn what_is_no_link_of_a_card_is_refused() {
        let long = format!("https://bank.example/{}", "x".repeat(MAX_LINK));
        for text in [
            "",
            "hello",
            "cashuBo2F0",
            "lnbc10u1p0",
            "lnurl1qqqqqq",
            "lnurlp://bank.example/x",
            "http://bank.example/ln",
            "ftp://bank.example/",
            "file:///etc/passwd",
            "https://",
            "https:///x",
            "https://user:word@bank.example/",
            "https://bank.example\\@10.0.0.1/",
            "https://bank.example/\u{e9}",
            "https://0x7f000001/",
            "https://2130706433/",
            "https://127.1/",
            "https://bank.example:0/",
            "https://bank.example:65536/",
            &bech32::encode("lnurl", b"http://10.0.0.1/"),
            &bech32::encode("lnurl", b"\xff\xfe"),
            &long,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_link_ends_where_its_word_ends() {
        assert_eq!(read("https://bank.example/a b"), https("https://bank.example", "/a"));
        assert_eq!(read("https://bank.example/\r\nX: y"), https("https://bank.example", "/"));
    }

    #[test]
    fn a_tap_carries_p_and_c() {
        let is_tap = |path: &str| Link::parse(&format!("https://bank.example{path}")).unwrap().is_tap();
        assert!(is_tap("/ln?p=00&c=11") && is_tap("/x?c=11&a=b&p=00"));
        for path in ["/ln", "/ln?p=00", "/ln?c=11", "/ln?p=&c=11", "/ln?xp=00&xc=11", "/p=00&c=11", "/w?k1=1"]
        {
            assert!(!is_tap(path), "{path}");
        }
    }

    #[test]
    fn a_card_of_ours_is_known_by_its_domain() {
        let own =
            |text: &str| Link::parse(text).unwrap().own_tap("cards.example:8443").map(|tap| tap.join(" "));
        let tap = Some("7 00 11".to_owned());
        assert_eq!(own("lnurlw://cards.example:8443/ln?card_id=7&p=00&c=11"), tap);
        assert_eq!(own("https://CARDS.example:8443/ln?c=11&x=1&p=00&card_id=7"), tap);
        assert_eq!(own("lnurlw://cards.example:8443/ln?p=00").as_deref(), Some(" 00 "));
        assert_eq!(own("lnurlw://cards.example/ln?card_id=7&p=00&c=11"), None);
        assert_eq!(own("lnurlw://cards.example:8443/lnx?card_id=7&p=00&c=11"), None);
        assert_eq!(own("lnurlw://other.example:8443/ln?card_id=7&p=00&c=11"), None);
    }

    #[test]
    fn the_callback_keeps_its_query_and_nothing_breaks_out_of_a_field() {
        let link = |text: &str| Link::parse(text).unwrap();
        assert_eq!(link("https://b.example/cb").with("a1", "lnbc1"), "/cb?k1=a1&pr=lnbc1");
        assert_eq!(
            link("https://b.example/cb?x=1").with("a&b= \u{e9}", "p"),
            "/cb?x=1&k1=a%26b%3D%20%C3%A9&pr=p"
        );
    }
}
