//! What is wrong with a configuration, said so that the operator can mend it: where, what, and what to do.

use super::uci::{Section, UciError};
use std::fmt;

/// If a file has more, that is said, and the rest is left out.
const MAX_PROBLEMS: usize = 200;
const MAX_SHOWN: usize = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is not used.
    Error,
    /// The file is used.
    Warning,
}

/// Prints as `error: section 'guest': option 'port': what is wrong and what to do`, always one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line of the file, from 1; `None` if it is about something that is missing.
    pub line: Option<usize>,
    pub section: Option<String>,
    pub option: Option<String>,
    pub message: String,
    pub severity: Severity,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.severity)?;
        if let Some(section) = &self.section {
            write!(f, "section '{section}': ")?;
        }
        if let Some(option) = &self.option {
            write!(f, "option '{option}': ")?;
        }
        f.write_str(&self.message)
    }
}

impl Problem {
    /// An error about the file as a whole.
    pub fn of_file(message: impl Into<String>) -> Problem {
        Problem {
            line: None,
            section: None,
            option: None,
            message: message.into(),
            severity: Severity::Error,
        }
    }
}

impl From<UciError> for Problem {
    fn from(error: UciError) -> Problem {
        let advice = match error.reason {
            "invalid command" => {
                "begin each line with config, option or list (and save the file without byte order mark)"
            }
            "too many arguments" => "put a value that holds blanks in quotes",
            "insufficient arguments"
            | "config without name"
            | "option without name"
            | "package without name" => "write the name behind the command",
            "EOF with unterminated '" | "EOF with unterminated \"" => {
                "close the quote that this command opens"
            }
            "option/list command found before the first section" => {
                "put a line like config tollgate 'main' before it"
            }
            "invalid character in name field" => "use only letters, digits and _ in names",
            "invalid character in type field" => "use only visible ASCII characters in the section's type",
            "section of different type overwrites prior section with same name" => {
                "give one of the two another name"
            }
            "NUL byte" => "this is no text file: restore it from a copy, or write it anew",
            _ => "this is more than a configuration holds: restore it from a copy, or write it anew",
        };
        Problem { line: Some(error.started), ..Problem::of_file(format!("{error}: {advice}")) }
    }
}

/// Collects the problems of one file.
#[derive(Default)]
pub(super) struct Problems {
    found: Vec<Problem>,
    left_out: usize,
    errors: bool,
}

impl Problems {
    pub fn error(&mut self, place: ConfigPosition<'_>, message: impl Into<String>) {
        self.add(place.problem(Severity::Error, message.into()));
    }

    pub fn warn(&mut self, place: ConfigPosition<'_>, message: impl Into<String>) {
        self.add(place.problem(Severity::Warning, message.into()));
    }

    pub fn add(&mut self, problem: Problem) {
        let is_error = problem.severity == Severity::Error;
        // The first error is kept even after many warnings: a refused file must say why.
        if self.found.len() < MAX_PROBLEMS || (is_error && !self.errors) {
            self.found.push(problem);
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
        self.errors |= is_error;
    }

    /// In the order of the file; `Err` when one of them is an error.
    pub fn finish(mut self) -> Result<Vec<Problem>, Vec<Problem>> {
        self.found.sort_by_key(|problem| (problem.line.unwrap_or(usize::MAX), problem.severity));
        if self.left_out > 0 {
            let severity = if self.errors { Severity::Error } else { Severity::Warning };
            let message = format!("{} more problems are not shown: mend these first", self.left_out);
            self.found.push(Problem { severity, ..Problem::of_file(message) });
        }
        match self.errors {
            true => Err(self.found),
            false => Ok(self.found),
        }
    }
}

/// Where in the file something is.
#[derive(Clone, Copy, Default)]
pub(super) struct ConfigPosition<'a> {
    pub line: Option<usize>,
    pub section: Option<&'a Section>,
    pub option: Option<&'a str>,
}

impl<'a> ConfigPosition<'a> {
    pub fn section(section: &'a Section) -> ConfigPosition<'a> {
        ConfigPosition { line: Some(section.line), section: Some(section), option: None }
    }

    pub fn option(self, option: &'a str, line: usize) -> ConfigPosition<'a> {
        ConfigPosition { line: Some(line), option: Some(option), ..self }
    }

    fn problem(self, severity: Severity, message: String) -> Problem {
        let section = self.section.map(|section| cut(&section.name));
        Problem { line: self.line, section, option: self.option.map(cut), message, severity }
    }
}

/// A piece of the file as it may stand in a message: in quotes, short, one line.
pub(super) fn shown(text: &str) -> String {
    format!("'{}'", cut(text))
}

fn cut(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(MAX_SHOWN) {
        match c {
            // Common in names, and no danger inside our own quotes.
            '\'' | '"' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_the_file_are_shown_short_and_in_one_line() {
        assert_eq!(shown("a\nb\u{1b}[0m"), "'a\\nb\\u{1b}[0m'");
        assert_eq!(shown(&"x".repeat(100)), format!("'{}...'", "x".repeat(60)));
    }

    #[test]
    fn a_flood_of_warnings_does_not_hide_the_first_error() {
        let mut problems = Problems::default();
        for _ in 0..1000 {
            problems.warn(ConfigPosition::default(), "w");
        }
        problems.error(ConfigPosition::default(), "the reason");
        let found = problems.finish().unwrap_err();
        assert!(found.iter().any(|problem| problem.message == "the reason"));
        assert!(found.len() <= MAX_PROBLEMS + 2);
        assert!(found.last().unwrap().message.starts_with("800 more problems"));
    }
}
