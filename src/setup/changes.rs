//! From what should be there and what is there to the commands that make the difference.

use super::uci::UciChange;
use super::SetupError;
use crate::config::uci::{Section, UciFile, Value};

/// Everything we make is named so ...
pub const PREFIX: &str = "tollgate_";
/// ... and carries this option, outside our own package and the firewall's: fw4 complains of options that it does not
/// know, so its sections are ours by the name that they show.
pub const MARK: &str = "tollgate";
/// The guest network that we make.
pub const NETWORK: &str = "tollgate_guest";

/// A section as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedSection {
    pub package: &'static str,
    pub name: String,
    pub kind: &'static str,
    pub options: Vec<(&'static str, Wish)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    One(String),
    List(Vec<String>),
    /// Only where nothing is set: what the operator chose stays.
    Unless(String),
}

impl WantedSection {
    pub fn new(package: &'static str, name: &str, kind: &'static str) -> WantedSection {
        let mut wanted = WantedSection { package, name: name.to_owned(), kind, options: Vec::new() };
        if !matches!(package, "tollgate" | "firewall") {
            wanted.options.push((MARK, Wish::One("1".to_owned())));
        }
        wanted
    }

    pub fn with(mut self, option: &'static str, value: impl Into<String>) -> WantedSection {
        self.options.push((option, Wish::One(value.into())));
        self
    }

    pub fn with_unless(mut self, option: &'static str, value: impl Into<String>) -> WantedSection {
        self.options.push((option, Wish::Unless(value.into())));
        self
    }

    pub fn with_list(mut self, option: &'static str, value: impl Into<String>) -> WantedSection {
        self.options.push((option, Wish::List(vec![value.into()])));
        self
    }

    /// What is missing or differs. Options that the operator added to our section stay.
    pub fn changes(&self, file: &UciFile) -> Result<Vec<UciChange>, SetupError> {
        let path = format!("{}.{}", self.package, self.name);
        let found = file.sections.iter().find(|section| section.name == self.name);
        let mut changes = Vec::new();
        match found {
            Some(section) if section.kind != self.kind || !is_ours(self.package, section) => {
                return Err(SetupError::NotOurs(self.package.to_owned(), self.name.clone()));
            }
            Some(_) => {}
            None => changes.push(UciChange::Set(path.clone(), self.kind.to_owned())),
        }
        for (option, wish) in &self.options {
            let path = format!("{path}.{option}");
            let current = found.and_then(|section| section.option(option));
            match wish {
                Wish::One(value) if !current.is_some_and(|current| says(current, value)) => {
                    changes.push(UciChange::Set(path, value.clone()));
                }
                Wish::Unless(value) if current.is_none() => changes.push(UciChange::Set(path, value.clone())),
                Wish::One(_) | Wish::Unless(_) => {}
                Wish::List(values) => {
                    let there = found.map(|section| option_words(section, option)).unwrap_or_default();
                    let missing = values.iter().filter(|value| !there.contains(&value.as_str()));
                    changes.extend(missing.map(|value| UciChange::AddList(path.clone(), value.clone())));
                }
            }
        }
        if self.package == "firewall" && found.is_some_and(|section| section.option(MARK).is_some()) {
            changes.push(UciChange::Delete(format!("{path}.{MARK}")));
        }
        Ok(changes)
    }
}

/// Whether an option says this, in any spelling: as a list of its words, or with another word for yes.
fn says(current: &Value, value: &str) -> bool {
    let is_yes = |word: &str| matches!(word, "1" | "yes" | "on" | "true" | "enabled");
    match current {
        Value::One(item) => item.text == value || (value == "1" && is_yes(&item.text)),
        Value::List(items) => {
            let words = items.iter().flat_map(|item| item.text.split_ascii_whitespace());
            words.eq(value.split_ascii_whitespace())
        }
    }
}

/// What the names of our sections in the firewall end with.
const IN_FIREWALL: [&str; 6] = ["guest", "dhcp", "dhcpv6", "dns", "ntp", "icmp"];

/// Whether we made this section.
pub fn is_ours(package: &str, section: &Section) -> bool {
    let marked = || option_text(section, MARK) == Some("1");
    let shown = || option_text(section, "name").is_some_and(|name| name.starts_with(MARK));
    let Some(rest) = section.name.strip_prefix(PREFIX) else { return false };
    match package {
        "tollgate" => section.kind == "venue" || rest == "mint",
        "firewall" => {
            IN_FIREWALL.contains(&rest)
                && (shown() || marked() || option_words(section, "network") == [NETWORK])
        }
        _ => marked(),
    }
}

/// The first (or only) value of an option.
pub fn option_text<'a>(section: &'a Section, option: &str) -> Option<&'a str> {
    section.option(option)?.items().first().map(|item| item.text.as_str())
}

/// All values of an option; netifd and fw4 split plain options at blanks.
pub fn option_words<'a>(section: &'a Section, option: &str) -> Vec<&'a str> {
    let items = section.option(option).map(Value::items).unwrap_or_default();
    items.iter().flat_map(|item| item.text.split_ascii_whitespace()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::uci::parse;

    fn zone() -> WantedSection {
        WantedSection::new("firewall", "tollgate_guest", "zone")
            .with("name", "tollgate")
            .with("input", "REJECT")
            .with_list("network", "guest")
    }

    fn changes(wanted: &WantedSection, file: &str) -> Vec<String> {
        let changes = wanted.changes(&parse(file.as_bytes()).unwrap()).unwrap();
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_missing_is_made() {
        assert_eq!(
            changes(&zone(), ""),
            [
                "uci set firewall.tollgate_guest='zone'",
                "uci set firewall.tollgate_guest.name='tollgate'",
                "uci set firewall.tollgate_guest.input='REJECT'",
                "uci add_list firewall.tollgate_guest.network='guest'",
            ]
        );
    }

    #[test]
    fn what_is_there_needs_nothing_and_an_addition_stays() {
        let text = "config zone 'tollgate_guest'\n\toption name 'tollgate'\n\toption input 'REJECT'\n\
                    \tlist network 'guest'\n\tlist network 'more'\n\toption log '1'\n";
        assert_eq!(changes(&zone(), text), Vec::<String>::new());
    }

    #[test]
    fn another_spelling_needs_no_change_and_what_the_operator_chose_stays() {
        let wanted = WantedSection::new("network", "tollgate_guest", "interface")
            .with("proto", "static")
            .with("protocols", "tcp udp")
            .with("bridge_empty", "1")
            .with_list("network", "guest")
            .with_unless("leasetime", "2h");
        let text = "config interface 'tollgate_guest'\n\toption tollgate '1'\n\tlist proto 'static'\n\
                    \tlist protocols 'tcp'\n\tlist protocols 'udp'\n\toption bridge_empty 'on'\n\
                    \toption network 'guest other'\n\toption leasetime '12h'\n";
        assert_eq!(changes(&wanted, text), Vec::<String>::new());
    }

    #[test]
    fn fw4_keeps_no_option_that_it_does_not_know() {
        let text = "config zone 'tollgate_guest'\n\toption tollgate '1'\n\toption name 'tollgate'\n\
                    \toption input 'REJECT'\n\tlist network 'guest'\n";
        assert_eq!(changes(&zone(), text), ["uci delete firewall.tollgate_guest.tollgate"]);
    }

    #[test]
    fn what_the_operator_named_as_we_do_is_not_ours() {
        let text = "config zone 'tollgate_office'\n\toption name 'tollgate'\n\tlist network 'tollgate_office'
config mint 'tollgate_other'\nconfig venue 'tollgate_hall'\nconfig interface 'tollgate_lan'\n";
        let file = parse(text.as_bytes()).unwrap();
        let ours = |package: &str, name: &str| {
            is_ours(package, file.sections.iter().find(|section| section.name == name).unwrap())
        };
        assert!(!ours("firewall", "tollgate_office") && !ours("tollgate", "tollgate_other"));
        assert!(!ours("network", "tollgate_lan") && ours("tollgate", "tollgate_hall"));
    }

    #[test]
    fn a_section_of_that_name_without_our_mark_is_refused() {
        let file = parse(b"config zone 'tollgate_guest'\n\toption input 'ACCEPT'\n").unwrap();
        assert!(matches!(zone().changes(&file), Err(SetupError::NotOurs(..))));
    }
}
