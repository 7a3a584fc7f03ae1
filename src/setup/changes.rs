//! From what should be there and what is there to the commands that make the difference.

use super::uci::UciChange;
use super::SetupError;
use crate::config::uci::{Section, UciFile, Value};

/// Everything we make is named so ...
pub const PREFIX: &str = "tollgate_";
/// ... and, outside our own package, carries this option.
pub const MARK: &str = "tollgate";

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
}

impl WantedSection {
    pub fn new(package: &'static str, name: &str, kind: &'static str) -> WantedSection {
        let mut wanted = WantedSection { package, name: name.to_owned(), kind, options: Vec::new() };
        if package != "tollgate" {
            wanted.options.push((MARK, Wish::One("1".to_owned())));
        }
        wanted
    }

    pub fn with(mut self, option: &'static str, value: impl Into<String>) -> WantedSection {
        self.options.push((option, Wish::One(value.into())));
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
                Wish::One(value) => {
                    if !matches!(current, Some(Value::One(item)) if item.text == *value) {
                        changes.push(UciChange::Set(path, value.clone()));
                    }
                }
                Wish::List(values) => {
                    let same = matches!(current, Some(Value::List(items))
                        if items.iter().map(|item| &item.text).eq(values.iter()));
                    if !same {
                        if current.is_some() {
                            changes.push(UciChange::Delete(path.clone()));
                        }
                        changes.extend(values.iter().map(|v| UciChange::AddList(path.clone(), v.clone())));
                    }
                }
            }
        }
        Ok(changes)
    }
}

/// Whether we made this section.
pub fn is_ours(package: &str, section: &Section) -> bool {
    section.name.starts_with(PREFIX) && (package == "tollgate" || option_text(section, MARK) == Some("1"))
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
            .with("input", "REJECT")
            .with_list("network", "guest")
    }

    #[test]
    fn what_is_missing_is_made() {
        let lines: Vec<String> =
            zone().changes(&UciFile::default()).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "uci set firewall.tollgate_guest='zone'",
                "uci set firewall.tollgate_guest.tollgate='1'",
                "uci set firewall.tollgate_guest.input='REJECT'",
                "uci add_list firewall.tollgate_guest.network='guest'",
            ]
        );
    }

    #[test]
    fn what_is_there_needs_nothing_and_an_addition_stays() {
        let text = "config zone 'tollgate_guest'\n\toption tollgate '1'\n\toption input 'REJECT'\n\
                    \tlist network 'guest'\n\toption log '1'\n";
        assert_eq!(zone().changes(&parse(text.as_bytes()).unwrap()).unwrap(), []);
    }

    #[test]
    fn a_section_of_that_name_without_our_mark_is_refused() {
        let file = parse(b"config zone 'tollgate_guest'\n\toption input 'ACCEPT'\n").unwrap();
        assert!(matches!(zone().changes(&file), Err(SetupError::NotOurs(..))));
    }
}
