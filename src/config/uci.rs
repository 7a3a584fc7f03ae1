//! UCI text, read as libuci's `file.c` reads it in strict mode: what `uci show` accepts is accepted here,
//! with the same result, and what it refuses is refused with the same words.
//!
//! Stricter than libuci in three points: a NUL byte anywhere is an error (libuci loses part of the line),
//! so are a file above [`MAX_BYTES`] and more sections or options than a person writes; the files of other
//! programs, which may have thousands of leases or rules, are read by [`parse_large`]. And it counts a
//! last line without a newline, which libuci does not, and merges a section that is named three times
//! like one named twice, where libuci 2022 loses its place. Uncommitted changes (`/tmp/.uci`) are not seen.

mod parser;

pub use parser::{parse, parse_large};

use std::fmt;

/// Largest file that is read, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// One package: its sections in the order of the file, sections of one name merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UciFile {
    pub sections: Vec<Section>,
    /// Lines that libuci reads otherwise than their author will expect.
    pub surprises: Vec<Surprise>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The word after `config`.
    pub kind: String,
    /// The section's name; of an anonymous one the `cfg…` name that libuci makes up.
    pub name: String,
    pub anonymous: bool,
    /// Line of the (first) `config` command, from 1.
    pub line: usize,
    pub options: Vec<UciOption>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UciOption {
    pub name: String,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    One(Item),
    List(Vec<Item>),
}

/// A value and the line its command starts in. Bytes that are no UTF-8 became U+FFFD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub text: String,
    pub line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surprise {
    pub line: usize,
    pub what: &'static str,
}

/// Where and why the text is no UCI; prints as libuci does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UciError {
    /// Line the parser had reached, from 1.
    pub line: usize,
    /// Offset in the command's text, whose lines libuci joins.
    pub byte: usize,
    /// Line in which the command begins: an open quote is noticed only at the end of the file.
    pub started: usize,
    /// libuci's words.
    pub reason: &'static str,
}

impl fmt::Display for UciError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parse error ({}) at line {}, byte {}", self.reason, self.line, self.byte)
    }
}

impl std::error::Error for UciError {}

impl UciFile {
    /// The sections of one type, in order: `@kind[0]`, `@kind[1]`, ... (named ones count too).
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Section> + 'a {
        self.sections.iter().filter(move |section| section.kind == kind)
    }
}

impl Section {
    pub fn option(&self, name: &str) -> Option<&Value> {
        self.options.iter().find(|option| option.name == name).map(|option| &option.value)
    }

    /// What `option` does: the last one counts, and a changed value moves to the end.
    fn set(&mut self, name: String, item: Item) {
        match self.value_mut(&name) {
            Some(Value::One(old)) if old.text == item.text => *old = item,
            _ => {
                self.take(&name);
                self.options.push(UciOption { name, value: Value::One(item) });
            }
        }
    }

    /// What `list` does: an item more, after the plain value if there was one.
    fn add(&mut self, name: String, item: Item) {
        if let Some(Value::List(items)) = self.value_mut(&name) {
            items.push(item);
            return;
        }
        let mut items = match self.take(&name) {
            Some(Value::One(first)) => vec![first],
            _ => Vec::new(),
        };
        items.push(item);
        self.options.push(UciOption { name, value: Value::List(items) });
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.options.iter().position(|option| option.name == name)?;
        Some(self.options.remove(at).value)
    }

    fn value_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.options.iter_mut().find(|option| option.name == name).map(|option| &mut option.value)
    }
}

impl Value {
    /// The items, one for a plain option.
    pub fn items(&self) -> &[Item] {
        match self {
            Value::One(item) => std::slice::from_ref(item),
            Value::List(items) => items,
        }
    }
}

#[cfg(test)]
mod tests;
