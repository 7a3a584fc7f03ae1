//! The issuer of a card, asked as a till does (LUD-03). A guest names the address, so where it leads is decided here:
//! `https` on the usual port or one above 1023; the name is resolved once, and every answer must be out in the
//! internet; the connection goes to one of these addresses, while TLS checks the name. Redirects are not followed.
//! The callback, which the issuer names, has to pass the same.
//!
//! Answers are read up to 16 KiB and for at most 8 s.

use super::link::Link;
use crate::calls::{get_at, Lookups, NoAnswer, Tls};
use crate::network::internet;
use crate::units::{Msats, Sats};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::timeout;

/// Less than a guest waits for the page that says so.
const LIMIT: Duration = Duration::from_secs(8);
const MAX_ANSWER: usize = 16 * 1024;
const MAX_K1: usize = 512;
/// The longest part of an issuer's words that is shown.
const MAX_REASON: usize = 120;

/// Names that are looked up at once, each on a thread of its own.
const LOOKUPS: usize = 3;
/// Addresses of an issuer that are tried.
const TRIES: usize = 3;

/// The way to issuers.
pub struct Outside {
    tls: Tls,
    lookups: Lookups,
}

/// What a card may pay, and where its invoice goes (LUD-03).
pub struct Withdrawal {
    callback: Link,
    k1: String,
    least: Msats,
    most: Msats,
}

/// Why an issuer gives nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum NoWithdrawal {
    /// It cannot be reached, must not be asked, or its answer is not usable. The text is for the log.
    Useless(String),
    /// In its own words, cut and without control characters.
    Refused(String),
}

/// What an issuer said to an invoice.
#[derive(Debug, PartialEq, Eq)]
pub enum CardTake {
    /// It pays, or has paid.
    Taken,
    Refused(String),
    /// It never had the invoice.
    NotSent(String),
    /// It may pay, or may have paid.
    Unclear(String),
}

impl Withdrawal {
    /// Asks what a link is good for; this uses a card's tap up.
    pub async fn ask(link: &Link, outside: &Outside) -> Result<Withdrawal, NoWithdrawal> {
        let answer = outside.get(link, &link.path).await;
        let answer = answer.map_err(|why| NoWithdrawal::Useless(why.cause().to_owned()))?;
        Withdrawal::read(&answer)
    }

    fn read(answer: &Value) -> Result<Withdrawal, NoWithdrawal> {
        if let Some(reason) = refusal(answer) {
            return Err(NoWithdrawal::Refused(reason));
        }
        let useless = |what: &str| NoWithdrawal::Useless(format!("its answer has no usable {what}"));
        if answer["tag"] != "withdrawRequest" {
            return Err(useless("tag"));
        }
        let callback = answer["callback"].as_str().and_then(Link::of_url);
        let k1 = answer["k1"].as_str().filter(|k1| (1..=MAX_K1).contains(&k1.len()));
        let msats = |name: &str| answer[name].as_u64().map(Msats);
        Ok(Withdrawal {
            callback: callback.ok_or_else(|| useless("callback"))?,
            k1: k1.ok_or_else(|| useless("k1"))?.to_owned(),
            least: msats("minWithdrawable").ok_or_else(|| useless("minWithdrawable"))?,
            most: msats("maxWithdrawable").ok_or_else(|| useless("maxWithdrawable"))?,
        })
    }

    /// What may be paid, in whole sats, where this amount may not.
    pub fn refuses(&self, amount: Sats) -> Option<(Sats, Sats)> {
        let fits = amount.to_msats().is_some_and(|amount| (self.least..=self.most).contains(&amount));
        (!fits).then_some((Sats(self.least.0.div_ceil(1000)), Sats(self.most.0 / 1000)))
    }

    /// Gives the issuer an invoice to pay, once.
    pub async fn give(&self, invoice: &str, outside: &Outside) -> CardTake {
        match outside.get(&self.callback, &self.callback.with(&self.k1, invoice)).await {
            Ok(answer) if answer["status"] == "OK" => CardTake::Taken,
            Ok(answer) => match refusal(&answer) {
                Some(reason) => CardTake::Refused(reason),
                None => CardTake::Unclear("its answer is neither OK nor ERROR".to_owned()),
            },
            Err(NoAnswer::NotSent(why)) => CardTake::NotSent(why),
            Err(NoAnswer::Lost(why)) => CardTake::Unclear(why),
        }
    }
}

/// LUD-01: the status of HTTP means nothing.
fn refusal(answer: &Value) -> Option<String> {
    if !answer["status"].as_str()?.eq_ignore_ascii_case("ERROR") {
        return None;
    }
    let reason = answer["reason"].as_str().unwrap_or_default();
    Some(reason.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect())
}

impl Outside {
    pub fn new(tls: Tls) -> Outside {
        Outside { tls, lookups: Lookups::new(LOOKUPS) }
    }

    async fn get(&self, link: &Link, path: &str) -> Result<Value, NoAnswer> {
        let port = link.site.port();
        if link.is_onion() || !(port == 443 || port > 1023) {
            return Err(not_sent("it is not asked at such an address"));
        }
        let asking = async {
            let mut outcome = Err(not_sent("it is not out there"));
            let found = self.lookups.addresses(link.site.host(), port).await?;
            for address in public(found, internet::is_public) {
                outcome = get_at(address, &link.site, path, &self.tls, MAX_ANSWER).await;
                if !matches!(outcome, Err(NoAnswer::NotSent(_))) {
                    break;
                }
            }
            outcome
        };
        let body = timeout(LIMIT, asking).await;
        let body = body.map_err(|_| NoAnswer::Lost("no answer in 8 s".to_owned()))??;
        serde_json::from_slice(&body).map_err(|_| NoAnswer::Lost("its answer is no JSON".to_owned()))
    }
}

fn not_sent(why: &str) -> NoAnswer {
    NoAnswer::NotSent(why.to_owned())
}

/// The addresses to connect to, IPv4 first, of a name that leads nowhere but out into the internet.
fn public(mut found: Vec<SocketAddr>, is_public: impl Fn(IpAddr) -> bool) -> Vec<SocketAddr> {
    if !found.iter().all(|address| is_public(address.ip())) {
        return Vec::new();
    }
    found.sort_by_key(SocketAddr::is_ipv6);
    found.truncate(TRIES);
    found
}

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_withdrawal(answer: &Value) -> String {
    match Withdrawal::read(answer) {
        Ok(withdrawal) => format!("{:?}", withdrawal.refuses(Sats(21))),
        Err(why) => format!("{why:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn chosen(found: &[&str]) -> Vec<String> {
        let found = found.iter().map(|address| address.parse().unwrap()).collect();
        public(found, internet::is_public).iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn a_name_with_one_answer_out_there_and_one_inside_is_not_asked() {
        assert_eq!(chosen(&["198.51.100.1:443"]), ["198.51.100.1:443"]);
        let many = ["[2a00::1]:443", "198.51.100.1:443", "198.51.100.2:443", "[2a00::2]:443"];
        assert_eq!(chosen(&many), ["198.51.100.1:443", "198.51.100.2:443", "[2a00::1]:443"]);
        for found in [
            &["198.51.100.1:443", "192.168.1.1:443"][..],
            &["192.168.1.1:443", "198.51.100.1:443"],
            &["198.51.100.1:443", "[::ffff:10.0.0.1]:443"],
            &["198.51.100.1:443", "[fd00::1]:443"],
            &["127.0.0.1:443"],
            &[],
        ] {
            assert!(chosen(found).is_empty(), "{found:?}");
        }
    }

    #[tokio::test]
    async fn what_is_inside_or_at_a_port_of_others_is_not_connected_to() {
        let outside = Outside::new(Tls::new(None).unwrap());
        let door = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        door.set_nonblocking(true).unwrap();
        let port = door.local_addr().unwrap().port();
        for url in [
            format!("https://127.0.0.1:{port}/"),
            format!("https://[::ffff:127.0.0.1]:{port}/"),
            format!("https://localhost:{port}/"),
            "https://198.51.100.1:22/".to_owned(),
            "https://198.51.100.1:80/".to_owned(),
            "http://abc.onion/".to_owned(),
        ] {
            let link = Link::of_url(&url).unwrap();
            assert!(matches!(outside.get(&link, "/").await, Err(NoAnswer::NotSent(_))), "{url}");
        }
        assert_eq!(door.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }

    fn request() -> Value {
        json!({"tag": "withdrawRequest", "callback": "https://b.example/cb", "k1": "ab", "defaultDescription": "x",
            "minWithdrawable": 1500, "maxWithdrawable": 60_999})
    }

    fn read(change: impl Fn(&mut Value)) -> Option<NoWithdrawal> {
        let mut answer = request();
        change(&mut answer);
        Withdrawal::read(&answer).err()
    }

    #[test]
    fn only_a_whole_withdraw_request_is_taken() {
        assert_eq!(read(|_| {}), None);
        for (name, value) in [
            ("tag", json!("payRequest")),
            ("tag", Value::Null),
            ("callback", json!("http://b.example/cb")),
            ("callback", json!("lnurlw://b.example/cb")),
            ("callback", json!(7)),
            ("k1", json!("")),
            ("k1", json!("x".repeat(513))),
            ("k1", json!(1)),
            ("minWithdrawable", json!("1500")),
            ("minWithdrawable", json!(-1)),
            ("maxWithdrawable", json!(1.5)),
            ("maxWithdrawable", Value::Null),
        ] {
            let refused = read(|answer| answer[name] = value.clone());
            assert!(matches!(refused, Some(NoWithdrawal::Useless(_))), "{name}: {refused:?}");
        }
        for answer in [json!(null), json!([]), json!("x"), json!({})] {
            assert!(matches!(Withdrawal::read(&answer), Err(NoWithdrawal::Useless(_))), "{answer}");
        }
    }

    #[test]
    fn an_issuers_reason_is_cut_and_loses_its_control_characters() {
        let said = |reason: Value| Withdrawal::read(&json!({"status": "error", "reason": reason})).err();
        let refused = |text: &str| Some(NoWithdrawal::Refused(text.to_owned()));
        assert_eq!(said(json!("no\u{1b}[31m\r\n money")), refused("no[31m money"));
        assert_eq!(said(json!("é".repeat(1000))), refused(&"é".repeat(120)));
        assert_eq!(said(json!({"a": 1})), refused(""));
    }

    #[test]
    fn the_limits_are_kept_to_the_millisatoshi() {
        let withdrawal = Withdrawal::read(&request()).unwrap();
        assert_eq!(withdrawal.refuses(Sats(1)), Some((Sats(2), Sats(60))));
        assert_eq!((withdrawal.refuses(Sats(2)), withdrawal.refuses(Sats(60))), (None, None));
        assert!(withdrawal.refuses(Sats(61)).is_some() && withdrawal.refuses(Sats(u64::MAX)).is_some());
    }
}
