//! The options of one section, parsed one by one. Every fault becomes a problem with its line; the
//! caller gets `None` and goes on, so that the operator sees all of them at once.

use super::problem::{shown, ConfigPosition, Problems};
use super::schema::{self, Default};
use super::uci::{Item, Section, Value};

pub struct Fields<'a> {
    kind: &'static str,
    section: Option<&'a Section>,
    problems: &'a mut Problems,
}

impl<'a> Fields<'a> {
    /// Without a section every option has its default.
    pub fn new(kind: &'static str, section: Option<&'a Section>, problems: &'a mut Problems) -> Fields<'a> {
        Fields { kind, section, problems }
    }

    /// An option that is in the file or has a default.
    pub fn one<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        if self.is_set(name) {
            return self.optional(name, parse).flatten();
        }
        let default = schema::find(self.kind, name).map(|option| option.default);
        let value = match default {
            Some(Default::Text(text)) => parse(text),
            _ => Err("is missing: add a line with it to this section".to_owned()),
        };
        value.map_err(|message| self.error(name, message)).ok()
    }

    /// `Some(None)` when the file does not have it, `None` when it is wrong.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        let value = match self.section.and_then(|section| section.option(name)) {
            None => return Some(None),
            Some(Value::One(item)) => parse(&item.text),
            Some(Value::List(_)) => {
                Err("takes one value: write one line with 'option', not 'list'".to_owned())
            }
        };
        value.map(Some).map_err(|message| self.error(name, message)).ok()
    }

    /// A list, in the order of the file, an entry given twice only once; empty when the file has none.
    pub fn many<T: PartialEq>(
        &mut self,
        name: &'static str,
        most: usize,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let items: &[Item] = self.section.and_then(|section| section.option(name)).map_or(&[], Value::items);
        if items.len() > most {
            self.error(name, format!("has more than {most} entries: leave out those that are not needed"));
            return None;
        }
        let mut good = Vec::new();
        let mut all_good = true;
        for item in items {
            let place = self.place().option(name, item.line);
            match parse(&item.text) {
                Ok(value) if good.contains(&value) => {
                    self.problems
                        .warn(place, format!("{} is in the list twice: remove one", shown(&item.text)));
                }
                Ok(value) => good.push(value),
                Err(message) => {
                    all_good = false;
                    self.problems.error(place, message);
                }
            }
        }
        all_good.then_some(good)
    }

    pub fn is_set(&self, name: &str) -> bool {
        self.section.is_some_and(|section| section.option(name).is_some())
    }

    pub fn error(&mut self, name: &'static str, message: impl Into<String>) {
        self.problems.error(position_of(self.section, name), message);
    }

    pub fn warn(&mut self, name: &'static str, message: impl Into<String>) {
        self.problems.warn(position_of(self.section, name), message);
    }

    fn place(&self) -> ConfigPosition<'a> {
        self.section.map(ConfigPosition::section).unwrap_or_default()
    }
}

/// The line of an option, or of its section where the file does not have it.
pub fn position_of<'a>(section: Option<&'a Section>, name: &'a str) -> ConfigPosition<'a> {
    let place = section.map(ConfigPosition::section).unwrap_or_default();
    let first = section.and_then(|section| section.option(name)).and_then(|value| value.items().first());
    match first.map(|item| item.line).or(place.line) {
        Some(line) => place.option(name, line),
        None => ConfigPosition { option: Some(name), ..place },
    }
}
