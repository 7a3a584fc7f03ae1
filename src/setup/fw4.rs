//! What fw4's table holds in the kernel, as `nft` lists it: whether it lets out what is paid, and no more than that.

use crate::network::gate::MARK;
use std::process::{Command, Stdio};

/// A rule: its chain, and its text without the comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub chain: String,
    pub rule: String,
}

/// What of fw4's table concerns paid packets; `None` where it is not loaded or cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted(Vec<Listed>);

impl Accepted {
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
        let mut found = Vec::new();
        let mut chain = "";
        for line in listing.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("chain ") {
                chain = name.trim_end_matches(['{', ' ']);
            }
            let rule = line.split(" comment \"").next().unwrap_or_default();
            if looks_at_our_mark(rule) && accepts(rule) {
                found.push(Listed { chain: chain.to_owned(), rule: rule.to_owned() });
            }
        }
        Accepted(found)
    }

    /// Whether what is paid in one zone may leave through another.
    pub fn leads(&self, from: &str, to: &str) -> bool {
        let (chain, jump) = (format!("forward_{from}"), format!("accept_to_{to}"));
        self.0.iter().any(|listed| listed.chain == chain && listed.rule.ends_with(&jump))
    }

    /// Rules that accept what is paid wherever it goes.
    pub fn too_wide(&self) -> impl Iterator<Item = &Listed> {
        self.0.iter().filter(|listed| {
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

fn accepts(rule: &str) -> bool {
    rule.ends_with(" accept") || rule.split(' ').any(|word| word.starts_with("accept_to_"))
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
