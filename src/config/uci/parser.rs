//! The parser: a cursor over the current line, as libuci has one, since its quirks come from that.

use super::{Item, Section, Surprise, UciError, UciFile, Value, MAX_BYTES};

pub(super) const MAX_SECTIONS: usize = 2000;
pub(super) const MAX_OPTIONS: usize = 500;
pub(super) const MAX_ERRORS: usize = 20;

/// The most that is read of one file.
struct Limits {
    bytes: usize,
    sections: usize,
    options: usize,
}

const OURS: Limits = Limits { bytes: MAX_BYTES, sections: MAX_SECTIONS, options: MAX_OPTIONS };
const OF_OTHERS: Limits = Limits { bytes: 16 << 20, sections: 20_000, options: 20_000 };

/// Reads a whole file. Returns the file if all of it is good, otherwise only the errors, of which libuci would name
/// the first; reading goes on at the next line while that line can be told.
pub fn parse(text: &[u8]) -> Result<UciFile, Vec<UciError>> {
    parse_within(text, OURS)
}

/// As [`parse`], for the files of other programs: a school's static leases are thousands of sections.
pub fn parse_large(text: &[u8]) -> Result<UciFile, Vec<UciError>> {
    parse_within(text, OF_OTHERS)
}

fn parse_within(text: &[u8], limits: Limits) -> Result<UciFile, Vec<UciError>> {
    if text.len() > limits.bytes {
        return Err(vec![UciError { line: 1, byte: 0, started: 1, reason: "file too large" }]);
    }
    if let Some(at) = text.iter().position(|&b| b == 0) {
        let before = text.get(..at).unwrap_or_default();
        let line = before.iter().filter(|&&b| b == b'\n').count().saturating_add(1);
        let byte = before.iter().rev().take_while(|&&b| b != b'\n').count();
        return Err(vec![UciError { line, byte, started: line, reason: "NUL byte" }]);
    }
    let mut parser = Parser::new(text, limits);
    let mut errors = Vec::new();
    while parser.next_line() {
        if let Err(error) = parser.command_line() {
            let resumable = error.started == error.line;
            errors.push(error);
            if !resumable || errors.len() >= MAX_ERRORS {
                break;
            }
        }
    }
    if errors.is_empty() {
        Ok(parser.file)
    } else {
        Err(errors)
    }
}

struct Parser<'a> {
    limits: Limits,
    rest: &'a [u8],
    /// The current line; longer when a quote or a backslash joined the next ones to it.
    buf: Vec<u8>,
    pos: usize,
    line: usize,
    started: usize,
    file: UciFile,
    /// Index of the section that options go to.
    section: Option<usize>,
    /// The last `config` command was bad: its options are not worth an error each.
    orphaned: bool,
}

impl<'a> Parser<'a> {
    fn new(text: &'a [u8], limits: Limits) -> Parser<'a> {
        Parser {
            limits,
            rest: text,
            buf: Vec::new(),
            pos: 0,
            line: 0,
            started: 0,
            file: UciFile::default(),
            section: None,
            orphaned: false,
        }
    }

    fn next_line(&mut self) -> bool {
        self.pos = 0;
        self.join_next_line()
    }

    /// Puts the next line in place of what follows the cursor. False at the end of the file.
    fn join_next_line(&mut self) -> bool {
        self.buf.truncate(self.pos);
        if self.rest.is_empty() {
            return false;
        }
        let end =
            self.rest.iter().position(|&b| b == b'\n').map_or(self.rest.len(), |at| at.saturating_add(1));
        let (line, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, &[]));
        self.buf.extend_from_slice(line);
        self.rest = rest;
        self.line = self.line.saturating_add(1);
        true
    }

    /// The commands of one line; `;` separates them.
    fn command_line(&mut self) -> Result<(), UciError> {
        self.skip_whitespace();
        loop {
            self.started = self.line;
            let start = self.pos + self.count_from(self.pos, |b| b == b' ' || b == b'\t');
            let length = self.count_from(start, |b| b != b' ' && b != b'\t');
            let word = self.buf.get(start..start + length).unwrap_or_default();
            match word {
                [] | [b'#', ..] => return Ok(()),
                b"p" | b"package" => self.package(start + length)?,
                b"c" | b"config" => self.config(start + length)?,
                b"o" | b"option" => self.option(start + length, false)?,
                b"l" | b"list" => self.option(start + length, true)?,
                _ => return Err(self.error("invalid command")),
            }
        }
    }

    /// A file that is loaded by its name keeps that name; what it says here is ignored.
    fn package(&mut self, word_end: usize) -> Result<(), UciError> {
        self.pass_word(word_end, "package without name")?;
        self.required_argument(|b| is_name(b) || b == b'-')?;
        self.end_of_command()
    }

    fn config(&mut self, word_end: usize) -> Result<(), UciError> {
        self.orphaned = true;
        self.pass_word(word_end, "config without name")?;
        let kind = self.required_argument(|_| true)?;
        if !kind.bytes().all(|b| (33..=126).contains(&b)) {
            return Err(self.error("invalid character in type field"));
        }
        let name = self.name_argument(is_name)?;
        self.end_of_command()?;
        let known = match name.is_empty() {
            true => None,
            false => self.file.sections.iter().position(|section| section.name == name),
        };
        self.section = match known {
            Some(at) if self.file.sections.get(at).is_some_and(|section| section.kind != kind) => {
                return Err(self.error("section of different type overwrites prior section with same name"));
            }
            Some(at) => Some(at),
            None => Some(self.add_section(kind, name)?),
        };
        self.orphaned = false;
        Ok(())
    }

    fn add_section(&mut self, kind: String, name: String) -> Result<usize, UciError> {
        let at = self.file.sections.len();
        if at >= self.limits.sections {
            return Err(self.error("too many sections"));
        }
        let anonymous = name.is_empty();
        let name = if anonymous { hidden_name(at + 1, &kind) } else { name };
        self.file.sections.push(Section { kind, name, anonymous, line: self.started, options: Vec::new() });
        Ok(at)
    }

    fn option(&mut self, word_end: usize, list: bool) -> Result<(), UciError> {
        if self.section.is_none() && !self.orphaned {
            return Err(self.error("option/list command found before the first section"));
        }
        self.pass_word(word_end, "option without name")?;
        let name = self.required_argument(is_name)?;
        let text = self.argument()?;
        self.end_of_command()?;
        if self.orphaned {
            return Ok(());
        }
        let item = Item { text, line: self.started };
        let Some(section) = self.section.and_then(|at| self.file.sections.get_mut(at)) else {
            return Ok(());
        };
        if section.options.len() >= self.limits.options {
            return Err(self.error("too many options in a section"));
        }
        if list {
            section.add(name, item);
        } else if !item.text.is_empty() {
            if matches!(section.option(&name), Some(Value::One(old)) if old.text != item.text) {
                let what = "this section has the option already, and the last one counts: remove one of the two lines, or give the sections names that differ";
                self.file.surprises.push(Surprise { line: item.line, what });
            }
            section.set(name, item);
        } else if section.take(&name).is_some() {
            let what = "an empty value takes back the value set before it: remove one of the two lines";
            self.file.surprises.push(Surprise { line: item.line, what });
        }
        Ok(())
    }

    /// Steps over a command word and the blank behind it.
    fn pass_word(&mut self, word_end: usize, missing: &'static str) -> Result<(), UciError> {
        if word_end >= self.buf.len() {
            return Err(self.error(missing));
        }
        self.pos = word_end + 1;
        Ok(())
    }

    fn end_of_command(&mut self) -> Result<(), UciError> {
        match self.argument()?.is_empty() {
            true => Ok(()),
            false => Err(self.error("too many arguments")),
        }
    }

    fn required_argument(&mut self, allowed: impl Fn(u8) -> bool) -> Result<String, UciError> {
        let name = self.name_argument(allowed)?;
        match name.is_empty() {
            true => Err(self.error("insufficient arguments")),
            false => Ok(name),
        }
    }

    fn name_argument(&mut self, allowed: impl Fn(u8) -> bool) -> Result<String, UciError> {
        let name = self.argument()?;
        match name.bytes().all(allowed) {
            true => Ok(name),
            false => Err(self.error("invalid character in name field")),
        }
    }

    /// The next word of the command, its quoted and bare pieces joined; empty if there is no further word.
    fn argument(&mut self) -> Result<String, UciError> {
        self.skip_whitespace();
        let start = self.pos;
        let mut word = Vec::new();
        match self.current() {
            Some(b';') => self.pos += 1,
            _ => self.word(start, &mut word)?,
        }
        Ok(match String::from_utf8(word) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }

    fn word(&mut self, start: usize, word: &mut Vec<u8>) -> Result<(), UciError> {
        loop {
            match self.current() {
                Some(b'\'') => self.single_quoted(word)?,
                Some(b'"') => self.double_quoted(word)?,
                Some(b'#') => {
                    self.buf.truncate(self.pos);
                    return Ok(());
                }
                Some(b';') => {
                    // libuci ends the word in place. After a word without quote or backslash that is
                    // where the `;` stands, and nothing behind it is read any more.
                    if self.pos == start + word.len() {
                        self.drop_rest_of_line();
                    }
                    return Ok(());
                }
                Some(b'\\') if !self.escapes_a_character() => {}
                Some(_) => self.take_byte(word),
                None => return Ok(()),
            }
            match self.current() {
                Some(b) if is_space(b) => {
                    self.pos += 1;
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    fn single_quoted(&mut self, word: &mut Vec<u8>) -> Result<(), UciError> {
        self.pos += 1;
        loop {
            match self.current() {
                Some(b'\'') => {
                    self.pos += 1;
                    return Ok(());
                }
                Some(_) => self.take_byte(word),
                None if self.join_next_line() => {}
                None => return Err(self.error("EOF with unterminated '")),
            }
        }
    }

    fn double_quoted(&mut self, word: &mut Vec<u8>) -> Result<(), UciError> {
        self.pos += 1;
        loop {
            match self.current() {
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(());
                }
                Some(b'\\') if !self.escapes_a_character() => {}
                Some(_) => self.take_byte(word),
                None if self.join_next_line() => {}
                None => return Err(self.error("EOF with unterminated \"")),
            }
        }
    }

    /// Steps over a backslash. False when it stood at the end of its line, which is then joined with
    /// the next one; else the character under the cursor is taken as it is.
    fn escapes_a_character(&mut self) -> bool {
        self.pos += 1;
        match self.buf.get(self.pos..).unwrap_or_default() {
            b"" | b"\r\n" | [b'\n', ..] => {
                self.join_next_line();
                false
            }
            _ => true,
        }
    }

    fn take_byte(&mut self, word: &mut Vec<u8>) {
        word.extend(self.current());
        self.pos += 1;
    }

    fn drop_rest_of_line(&mut self) {
        let dropped = self.buf.get(self.pos + 1..).unwrap_or_default().trim_ascii_start();
        if !dropped.is_empty() && !dropped.starts_with(b"#") {
            let what = "nothing behind this ';' is read: put each command in a line of its own";
            self.file.surprises.push(Surprise { line: self.line, what });
        }
        self.buf.truncate(self.pos);
    }

    fn skip_whitespace(&mut self) {
        self.pos += self.count_from(self.pos, is_space);
    }

    fn count_from(&self, at: usize, wanted: impl Fn(u8) -> bool) -> usize {
        self.buf.get(at..).unwrap_or_default().iter().take_while(|&&b| wanted(b)).count()
    }

    fn current(&self) -> Option<u8> {
        self.buf.get(self.pos).copied()
    }

    fn error(&self, reason: &'static str) -> UciError {
        UciError { line: self.line, byte: self.pos, started: self.started, reason }
    }
}

/// C's `isspace`.
fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

fn is_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// The name libuci gives an anonymous section: its number in the file and a hash of its type.
fn hidden_name(number: usize, kind: &str) -> String {
    let hash = kind.bytes().fold(5381u32, |hash, b| hash.wrapping_mul(33).wrapping_add(u32::from(b)));
    format!("cfg{number:02x}{:04x}", hash & 0xffff)
}
