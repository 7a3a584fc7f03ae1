//! The address of a server that is called, in one spelling: two URLs are the same server (and mint) exactly when they
//! compare equal.
//!
//! Refuses what could send a request elsewhere than it looks (user info, query, fragment, `..`, numbers
//! that some resolvers take for an address) and what does not fit a bounded ASCII line.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

const MAX_LENGTH: usize = 512;

/// `http` or `https`, host in lower case, default port and trailing slashes dropped, the path kept.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    text: String,
    https: bool,
    host: String,
    port: u16,
    path: String,
}

/// None of these carries the text: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("longer than {MAX_LENGTH} bytes: use the mint's short address")]
    TooLong,
    #[error("holds a character that no URL may hold: write names beyond ASCII as punycode (xn--...)")]
    Character,
    #[error("no mint address: write https:// and the mint's host, like https://mint.example.com")]
    Scheme,
    #[error("holds a user name or password: mints have none, take it out")]
    UserInfo,
    #[error("holds a query or fragment: leave out everything from the first '?' or '#'")]
    Query,
    #[error("has no valid host: write a DNS name, an IPv4 address, or an IPv6 address in brackets")]
    Host,
    #[error("has no valid port: write a number from 1 to 65535 behind the ':', or no ':'")]
    Port,
    #[error("has a path with '//', '..', '.' or a bad '%': write it as the mint's operator does")]
    Path,
}

impl Url {
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        if text.len() > MAX_LENGTH {
            return Err(UrlError::TooLong);
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(UrlError::Character);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(UrlError::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(UrlError::Query);
        }
        let (authority, path) =
            rest.split_at_checked(rest.find('/').unwrap_or(rest.len())).unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let (shown_host, port) = split_port(authority)?;
        let shown_host = canonical_host(shown_host)?;
        let default_port = if https { 443 } else { 80 };
        let port = port.map_or(Ok(default_port), parse_port)?;
        let path = canonical_path(path)?;
        let scheme = if https { "https" } else { "http" };
        let text = match port == default_port {
            true => format!("{scheme}://{shown_host}{path}"),
            false => format!("{scheme}://{shown_host}:{port}{path}"),
        };
        if text.len() > MAX_LENGTH {
            return Err(UrlError::TooLong);
        }
        let host = shown_host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Url { text, https, host, port, path })
    }

    /// The canonical spelling.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.https {
            "https"
        } else {
            "http"
        }
    }

    pub fn is_https(&self) -> bool {
        self.https
    }

    /// Name or address in lower case; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port to connect to, given or implied by the scheme.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Empty, or begins with `/` and does not end with one.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The URL of one of the mint's endpoints, named by its path such as `/v1/info`.
    pub fn endpoint(&self, path: &str) -> String {
        format!("{}/{}", self.text, path.trim_start_matches('/'))
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Url, UrlError> {
        Url::parse(text)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({})", self.text)
    }
}

/// Host, in brackets if it was, and the text behind its `:`.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), UrlError> {
    let host_end = match authority.starts_with('[') {
        true => authority.find(']').ok_or(UrlError::Host)?.saturating_add(1),
        false => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at_checked(host_end).ok_or(UrlError::Host)?;
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(UrlError::Host),
    }
}

fn parse_port(text: &str) -> Result<u16, UrlError> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(UrlError::Port);
    }
    text.parse().ok().filter(|&port| port != 0).ok_or(UrlError::Port)
}

fn canonical_host(host: &str) -> Result<String, UrlError> {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().map(|address| format!("[{address}]")).map_err(|_| UrlError::Host);
    }
    let host = host.to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if host.len() > 253 || !host.split('.').all(is_label) {
        return Err(UrlError::Host);
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    match is_number {
        true => host.parse::<Ipv4Addr>().map(|address| address.to_string()).map_err(|_| UrlError::Host),
        false => Ok(host),
    }
}

fn canonical_path(path: &str) -> Result<String, UrlError> {
    let mut canonical = String::new();
    for segment in path.trim_end_matches('/').split('/').skip(1) {
        if matches!(segment, "" | "." | "..") {
            return Err(UrlError::Path);
        }
        canonical.push('/');
        let mut pieces = segment.split('%');
        canonical.push_str(plain(pieces.next().unwrap_or_default())?);
        for piece in pieces {
            let (code, rest) = piece.split_at_checked(2).ok_or(UrlError::Path)?;
            let code = code.to_ascii_uppercase();
            // Encoded dots and separators mean one thing to us and another to the server behind a proxy.
            let byte = u8::from_str_radix(&code, 16).map_err(|_| UrlError::Path)?;
            if code.starts_with('+') || byte < b' ' || matches!(byte, b'.' | b'/' | b'\\' | 0x7f) {
                return Err(UrlError::Path);
            }
            canonical.push('%');
            canonical.push_str(&code);
            canonical.push_str(plain(rest)?);
        }
    }
    Ok(canonical)
}

/// Refuses characters that RFC 3986 does not allow in a path.
fn plain(text: &str) -> Result<&str, UrlError> {
    match text.contains(['"', '<', '>', '\\', '^', '`', '{', '|', '}', '[', ']']) {
        true => Err(UrlError::Character),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        Url::parse(text).map_or_else(|error| format!("{error:?}"), |url| url.as_str().to_owned())
    }

    #[test]
    fn host_case_default_port_and_trailing_slashes_do_not_matter() {
        for text in [
            "https://mint.example.com",
            "HTTPS://Mint.Example.COM/",
            "https://mint.example.com:443",
            "https://mint.example.com:0443//",
        ] {
            assert_eq!(canonical(text), "https://mint.example.com", "{text}");
        }
        assert_eq!(canonical("http://mint.example.com:80/"), "http://mint.example.com");
        assert_eq!(canonical("http://mint.example.com:443/"), "http://mint.example.com:443");
    }

    #[test]
    fn the_path_and_its_case_are_kept() {
        let url = Url::parse("https://Mint.Minibits.cash/Bitcoin/").unwrap();
        assert_eq!(url.as_str(), "https://mint.minibits.cash/Bitcoin");
        assert_eq!(url.path(), "/Bitcoin");
        assert_eq!(url.endpoint("/v1/info"), "https://mint.minibits.cash/Bitcoin/v1/info");
        assert_ne!(url, Url::parse("https://mint.minibits.cash/bitcoin").unwrap());
        assert_eq!(canonical("https://h/%7ea%c3%a9"), "https://h/%7Ea%C3%A9");
    }

    #[test]
    fn parts_are_those_to_connect_to() {
        let url = Url::parse("http://127.0.0.1:3338").unwrap();
        assert_eq!(
            (url.scheme(), url.is_https(), url.host(), url.port(), url.path()),
            ("http", false, "127.0.0.1", 3338, "")
        );
        assert_eq!(url.endpoint("/v1/keys"), "http://127.0.0.1:3338/v1/keys");
        assert_eq!(Url::parse("https://a").unwrap().port(), 443);
    }

    #[test]
    fn ipv6_addresses_stand_in_brackets_in_their_short_form() {
        let url = Url::parse("http://[2001:DB8:0:0::1]:3338/x").unwrap();
        assert_eq!(url.as_str(), "http://[2001:db8::1]:3338/x");
        assert_eq!(url.host(), "2001:db8::1");
        for text in
            ["http://2001:db8::1/", "http://[::1", "http://[fe80::1%25eth0]", "http://[::1]x", "http://[]"]
        {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_of_test_networks_and_punycode_are_hosts() {
        for text in [
            "http://localhost:3338",
            "http://mint_1:3338",
            "https://xn--bcher-kva.example",
            "https://3mint.io",
        ] {
            assert_eq!(canonical(text), text);
        }
    }

    #[test]
    fn each_kind_of_bad_url_has_its_reason() {
        use UrlError::*;
        for (text, error) in [
            ("", Scheme),
            ("mint.example.com", Scheme),
            ("ftp://mint.example.com", Scheme),
            ("https:/mint.example.com", Scheme),
            ("https://user:pw@mint.example.com", UserInfo),
            ("https://mint.example.com?x=1", Query),
            ("https://mint.example.com/#x", Query),
            ("https://bücher.example", Character),
            ("https://mint.example.com/a b", Character),
            ("https://mint.example.com/\r\nHost:x", Character),
            ("https://mint.example.com/a\\b", Character),
            ("https://", Host),
            ("https://:443", Host),
            ("https://mint..com", Host),
            ("https://mint.example.com.", Host),
            ("https://-a.com", Host),
            ("https://a;b.com", Host),
            ("https://127.1", Host),
            ("https://2130706433", Host),
            ("https://0x7f000001", Host),
            ("https://1.2.3.256", Host),
            ("https://mint.example.com:", Port),
            ("https://mint.example.com:0", Port),
            ("https://mint.example.com:65536", Port),
            ("https://mint.example.com:+80", Port),
            ("https://mint.example.com/..", Path),
            ("https://mint.example.com/a/../b", Path),
            ("https://mint.example.com/./b", Path),
            ("https://mint.example.com/%2e%2E/b", Path),
            ("https://mint.example.com/a%2fb", Path),
            ("https://mint.example.com/a%00", Path),
            ("https://mint.example.com/a%+1", Path),
            ("https://mint.example.com/a%f", Path),
            ("https://mint.example.com/a//b", Path),
        ] {
            assert_eq!(Url::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn length_is_bounded() {
        let longest = format!("https://a/{}", "x".repeat(MAX_LENGTH - 10));
        assert!(Url::parse(&longest).is_ok());
        assert_eq!(Url::parse(&format!("{longest}x")), Err(UrlError::TooLong));
    }

    #[test]
    fn the_canonical_text_parses_to_itself() {
        for text in ["HTTP://A:81/b/%aa/", "https://[::FFFF:1.2.3.4]/", "https://A.b/c:@!$&'()*+,;=~"] {
            let url = Url::parse(text).unwrap();
            assert_eq!(Url::parse(url.as_str()).unwrap(), url);
        }
    }

    #[test]
    fn any_byte_anywhere_is_read_or_refused_without_a_panic() {
        let sample = "https://[2001:db8::1]:3338/Bitcoin/%7Ea";
        for at in 0..sample.len() {
            for c in (0..=255u8).map(char::from) {
                let text = format!("{}{c}{}", &sample[..at], &sample[at + 1..]);
                let _ = Url::parse(&text);
                let _ = text.get(..at + 1).map(Url::parse);
            }
        }
    }
}
