//! What fw4's table holds in the kernel, as `nft` lists it: whether it lets out what is paid, and no more than that;
//! and which of its rules are of no section.

use crate::network::gate::MARK;
use std::process::{Command, Stdio};

/// A rule: its chain, and its text without the comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub chain: String,
    pub rule: String,
}

/// What of fw4's table accepts packets that are forwarded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// What is paid.
    paid: Vec<Listed>,
    /// Whatever comes, by rules that fw4 has from files and not from sections.
    included: Vec<Listed>,
}

/// The words of a rule that looks at no more than the devices that packets come from and leave by.
const WIDE: [&str; 14] = [
    "iif", "iifname", "oif", "oifname", "!=", "{", "}", "counter", "packets", "bytes", "log", "prefix",
    "jump", "accept",
];

impl Accepted {
    /// `None` where the table is not loaded or cannot be read.
    pub fn look() -> Option<Accepted> {
        let listing = Command::new("nft")
            .args(["list", "table", "inet", "fw4"])
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        let listing = listing.ok().filter(|done| done.status.success())?;
        Some(Accepted::read(&String::from_utf8_lossy(&listing.stdout)))
    }

    fn read(listing: &str) -> Accepted {
        let mut found = Accepted::default();
        let mut chain = "";
        for line in listing.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("chain ") {
                chain = name.trim_end_matches(['{', ' ']);
            }
            let rule = line.split(" comment \"").next().unwrap_or_default();
            let listed = || Listed { chain: chain.to_owned(), rule: rule.to_owned() };
            if looks_at_our_mark(rule) && accepts(rule) {
                found.paid.push(listed());
            } else if chain.starts_with("forward") && accepts(rule) && is_included(line) {
                found.included.push(listed());
            }
        }
        found
    }

    /// Rules of no section that let the whole of a zone out, which has these devices.
    pub fn past<'a>(&'a self, zone: &'a str, devices: &'a [String]) -> impl Iterator<Item = &'a Listed> + 'a {
        self.included.iter().filter(move |listed| match listed.chain.strip_prefix("forward_") {
            // The zone's own policy is told elsewhere.
            Some(of) => of == zone && !listed.rule.ends_with(&format!("accept_to_{zone}")),
            None => comes_from(&listed.rule, devices),
        })
    }

    /// Whether what is paid in one zone may leave through another.
    pub fn leads(&self, from: &str, to: &str) -> bool {
        let (chain, jump) = (format!("forward_{from}"), format!("accept_to_{to}"));
        self.paid.iter().any(|listed| listed.chain == chain && listed.rule.ends_with(&jump))
    }

    /// Rules that accept what is paid wherever it goes.
    pub fn too_wide(&self) -> impl Iterator<Item = &Listed> {
        self.paid.iter().filter(|listed| {
            let words: Vec<&str> = listed.rule.split(' ').collect();
            let is_towards =
                words.contains(&"daddr") || words.iter().any(|word| word.starts_with("accept_to_"));
            !is_towards || !listed.chain.starts_with("forward_")
        })
    }
}

fn looks_at_our_mark(rule: &str) -> bool {
    let words = rule.split(' ');
    let number = |word: &str| u32::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    rule.contains("meta mark ") && words.filter_map(number).any(|number| number == MARK)
}

/// Whether a rule is from a file, and accepts whatever passes between devices.
fn is_included(line: &str) -> bool {
    let rule = line.split(" comment \"").next().unwrap_or_default();
    let is_wide = |word: &str| {
        WIDE.contains(&word)
            || word.starts_with('"')
            || word.starts_with("accept_to_")
            || word.bytes().all(|byte| byte.is_ascii_digit())
    };
    !line.contains("comment \"!fw4: ") && rule.split(' ').all(is_wide)
}

/// Whether a rule looks at what comes in by one of these devices.
fn comes_from(rule: &str, devices: &[String]) -> bool {
    let Some(named) = ["iifname ", "iif "].iter().find_map(|key| rule.split_once(key)) else {
        return true;
    };
    // `"br-guest"`, `{ "br-guest", "br-lan" }` or `"br-*"`; with `!=` it is whatever is not named.
    let (is_other, named) = match named.1.strip_prefix("!= ") {
        Some(named) => (true, named),
        None => (false, named.1),
    };
    let set = match named.strip_prefix('{') {
        Some(set) => set.split('}').next().unwrap_or_default(),
        None => named.split(' ').next().unwrap_or_default(),
    };
    let names: Vec<&str> = set.split(',').map(|name| name.trim().trim_matches('"')).collect();
    let is_named = |device: &String| {
        names.iter().any(|name| match name.strip_suffix('*') {
            Some(beginning) => device.starts_with(beginning),
            None => name == device,
        })
    };
    devices.iter().any(|device| is_named(device) != is_other)
}

fn accepts(rule: &str) -> bool {
    rule == "accept"
        || rule.ends_with(" accept")
        || rule.split(' ').any(|word| word.starts_with("accept_to_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(forward: &str, forward_visitors: &str) -> Accepted {
        Accepted::read(&format!(
            "table inet fw4 {{\n\tchain forward {{\n\t\ttype filter hook forward priority filter; policy drop;\n\t\t{forward}\n\t}}\n\
             \n\tchain forward_visitors {{\n\t\t{forward_visitors}\n\t\tjump reject_to_visitors\n\t}}\n}}\n"
        ))
    }

    #[test]
    fn a_rule_towards_the_uplink_leads_there_and_nowhere_else() {
        let rule = "meta mark & 0x08000000 == 0x08000000 counter packets 3 bytes 180 jump accept_to_wan comment \"!fw4: ubus:x rule 0\"";
        let accepted = table("", rule);
        assert!(accepted.leads("visitors", "wan"));
        assert!(!accepted.leads("visitors", "lan") && !accepted.leads("lan", "wan"));
        assert_eq!(accepted.too_wide().count(), 0);
    }

    #[test]
    fn a_rule_for_one_machine_is_not_too_wide() {
        let rule =
            "ip daddr 192.168.1.9 meta mark & 0x08000000 == 0x08000000 counter packets 0 bytes 0 accept";
        assert_eq!(table("", rule).too_wide().count(), 0);
    }

    #[test]
    fn the_mark_alone_is_too_wide() {
        let include = "meta mark & 0x08000000 == 0x08000000 accept comment \"tollgated: paid\"";
        let accepted = table(include, "");
        assert_eq!(accepted.too_wide().map(|listed| listed.chain.as_str()).collect::<Vec<_>>(), ["forward"]);
        assert!(!accepted.leads("visitors", "wan"));
        assert_eq!(table("", include).too_wide().count(), 1);
        assert_eq!(table(&include.replace("accept", "jump accept_to_lan"), "").too_wide().count(), 1);
    }

    #[test]
    fn a_rule_of_a_file_that_accepts_all_that_guests_send_is_a_way_past_the_gate() {
        let past = |forward: &str, visitors: &str| {
            let devices = ["br-guest".to_owned()];
            table(forward, visitors).past("visitors", &devices).count()
        };
        for rule in [
            "accept",
            "counter packets 0 bytes 0 accept",
            "iifname \"br-guest\" accept",
            "iifname { \"br-lan\", \"br-guest\" } oifname \"wan\" counter packets 1 bytes 2 accept",
            "iifname \"br-*\" accept comment \"mine\"",
            "iifname != \"br-lan\" accept",
            "oifname \"wan\" accept",
        ] {
            assert_eq!(past(rule, ""), 1, "{rule}");
        }
        assert_eq!(past("", "jump accept_to_wan"), 1);
        assert_eq!(past("", "jump accept_to_visitors"), 0);
        for rule in [
            "accept comment \"!fw4: Allow-all\"",
            "iifname \"br-lan\" accept",
            "iifname != \"br-guest\" accept",
            "ct state vmap { established : accept, related : accept }",
            "ip daddr 192.168.1.9 accept",
            "meta mark & 0x00010000 == 0x00010000 accept",
            "tcp dport 443 accept",
            "iifname \"br-guest\" jump forward_visitors",
        ] {
            assert_eq!(past(rule, ""), 0, "{rule}");
        }
    }

    #[test]
    fn other_marks_and_refusals_do_not_count() {
        for rule in [
            "meta mark & 0x00010000 == 0x00010000 accept",
            "meta mark & 0x08000000 == 0x08000000 counter packets 0 bytes 0 jump handle_reject",
            "tcp dport 25 counter packets 0 bytes 0 jump reject_to_wan",
        ] {
            assert_eq!(table(rule, rule), Accepted::default(), "{rule}");
        }
    }
}
