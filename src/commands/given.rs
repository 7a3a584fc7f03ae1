//! What a command was given, read by its row: the words of a command line, or the members of a JSON object.
//!
//! The row says what it takes as its usage is printed: `MAC AMOUNT [--venue NAME]`. Capitals stand for a value, brackets
//! hold what may be left out, and of alternatives in one pair of brackets at most one may be given.

use super::{amounts, Command, CommandError, Operator};
use crate::config::Tenant;
use crate::vouchers::WorkRequest;
use serde_json::Value;
use std::str::FromStr;

/// One thing that a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arg {
    /// `MAC`, `--venue`
    pub name: &'static str,
    /// What stands for an option's value: `NAME`. `None` for a flag, and for an argument without a name of its own.
    pub value: Option<&'static str>,
    pub optional: bool,
    /// The pair of brackets that it is in, counted from 1; 0 outside.
    brackets: usize,
}

impl Arg {
    pub fn is_option(&self) -> bool {
        self.name.starts_with("--")
    }

    /// Its name in a JSON object, a path or a query: `tx_max`.
    pub fn member(&self) -> String {
        self.name.trim_start_matches('-').replace('-', "_").to_ascii_lowercase()
    }
}

/// What a usage like `ID [--tx-max SAT] [--day-max SAT]` says.
pub fn expected(usage: &'static str) -> Vec<Arg> {
    let mut found: Vec<Arg> = Vec::new();
    let (mut brackets, mut optional) = (0usize, false);
    for word in usage.split_whitespace().filter(|word| *word != "|") {
        if word.starts_with('[') {
            optional = true;
            brackets = brackets.saturating_add(1);
        }
        let name = word.trim_matches(['[', ']']);
        match found.last_mut() {
            Some(option) if option.is_option() && option.value.is_none() && is_value_of(word) => {
                option.value = Some(name);
            }
            _ => {
                let brackets = if optional { brackets } else { 0 };
                found.push(Arg { name, value: None, optional, brackets });
            }
        }
        optional &= !word.ends_with(']');
    }
    found
}

fn is_value_of(word: &str) -> bool {
    !word.starts_with(['[', '-'])
}

/// Arguments that must not be in a log, because they are worth money or for another reason.
pub const SECRET: [&str; 3] = ["TOKEN", "LINK", "WORDS"];

/// Whether a word is an option. A negative number is an argument, though a wrong one: the command then says what it
/// takes.
pub fn is_option(word: &str) -> bool {
    word.strip_prefix('-')
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Arguments and options by the names that the row gives them.
#[derive(Clone)]
pub struct Given {
    command: &'static Command,
    values: Vec<(&'static str, String)>,
    /// The JSON object that was sent, if it was one and not words.
    body: Option<Value>,
    operator: Operator,
    /// For whom the operator works here, where that matters.
    tenant: Option<Tenant>,
    /// The request over HTTP that it came with, where that is more than its members.
    request: Option<WorkRequest>,
}

impl Given {
    /// Reads the words behind a command's name.
    pub fn from_words(command: &'static Command, words: &[&str]) -> Result<Given, CommandError> {
        let mut given = Given::nothing(command);
        let expected = expected(command.args);
        let mut places = expected.iter().filter(|arg| !arg.is_option());
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let arg = match is_option(word) {
                true => expected.iter().find(|arg| arg.name == *word).ok_or_else(|| {
                    CommandError::Usage(format!("there is no option {word}\n{}", command.usage()))
                })?,
                false => places.next().ok_or_else(|| given.wrong())?,
            };
            let value = match (arg.is_option(), arg.value) {
                (true, Some(_)) => words.next().ok_or_else(|| given.wrong())?,
                (true, None) => "",
                (false, _) => word,
            };
            if excludes(arg, &expected, &given) {
                return Err(given.wrong());
            }
            amounts::check(command, arg, value)?;
            given.values.push((arg.name, value.to_owned()));
        }
        if places.any(|arg| !arg.optional) {
            return Err(given.wrong());
        }
        match expected.iter().find(|arg| arg.is_option() && !arg.optional && !given.has(arg.name)) {
            Some(arg) => {
                Err(CommandError::Usage(format!("{} is missing\n{}", arg.member(), command.usage())))
            }
            None => Ok(given),
        }
    }

    /// Reads what a path and a query say, and a JSON object. What the object has besides is the command's own business.
    pub fn from_members(
        command: &'static Command,
        named: &[(String, String)],
        body: Value,
    ) -> Result<Given, CommandError> {
        let mut given = Given::nothing(command);
        let expected = expected(command.args);
        for arg in &expected {
            let member = arg.member();
            let named = named.iter().find(|(name, _)| *name == member).map(|(_, value)| value.clone());
            let value = match (named, body.get(&member)) {
                (Some(value), _) => value,
                (None, Some(Value::String(text))) => text.clone(),
                (None, Some(Value::Number(number))) => number.to_string(),
                (None, Some(Value::Bool(true))) if arg.is_option() && arg.value.is_none() => String::new(),
                _ => continue,
            };
            if excludes(arg, &expected, &given) {
                return Err(CommandError::Input("invalid_input", command.usage()));
            }
            given.values.push((arg.name, value));
        }
        given.body = Some(body);
        Ok(given)
    }

    fn nothing(command: &'static Command) -> Given {
        Given {
            command,
            values: Vec::new(),
            body: None,
            operator: Operator::of_shell(),
            tenant: None,
            request: None,
        }
    }

    /// The same, called by this operator instead of the shell.
    pub fn by(self, operator: Operator) -> Given {
        Given { operator, ..self }
    }

    /// The same, for one tenant only.
    pub fn of(self, tenant: Option<Tenant>) -> Given {
        Given { tenant, ..self }
    }

    /// The same, of a request that may be sent again.
    pub fn asked_by(self, request: Option<WorkRequest>) -> Given {
        Given { request, ..self }
    }

    pub fn request(&self) -> Option<&WorkRequest> {
        self.request.as_ref()
    }

    /// The tenant that the caller is limited to; `None` if it is limited to none, as the shell is.
    pub fn tenant(&self) -> Option<&Tenant> {
        self.tenant.as_ref()
    }

    pub fn command(&self) -> &'static Command {
        self.command
    }

    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// The answer to what the command cannot make sense of.
    pub fn wrong(&self) -> CommandError {
        CommandError::Usage(self.command.usage())
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// What the command cannot do without.
    pub fn need(&self, name: &str) -> Result<&str, CommandError> {
        self.text(name).ok_or_else(|| self.wrong())
    }

    /// A value that must be of its kind if it is given; otherwise it is wrong usage.
    pub fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, CommandError> {
        self.text(name).map(|text| text.parse().map_err(|_| self.wrong())).transpose()
    }

    pub fn has(&self, flag: &str) -> bool {
        self.text(flag).is_some()
    }

    /// Whether it was words, of a command line or of the socket.
    pub fn is_of_words(&self) -> bool {
        self.body.is_none()
    }

    /// The JSON object that was sent; `None` where there were words.
    pub fn body(&self) -> Option<&Value> {
        self.body.as_ref()
    }

    /// Puts a value in place of one that was given.
    pub fn replace(&mut self, name: &str, value: String) {
        if let Some((_, old)) = self.values.iter_mut().find(|(known, _)| *known == name) {
            *old = value;
        }
    }

    /// The words that [`Given::from_words`] would read the same values from.
    pub fn words(&self) -> Vec<&str> {
        self.words_with(|_, value| value)
    }

    /// As words for a log: what is worth money is `-`.
    pub fn told(&self) -> String {
        self.words_with(|name, value| if SECRET.contains(&name) { "-" } else { value }).join(" ")
    }

    fn words_with<'a>(&'a self, shown: impl Fn(&str, &'a str) -> &'a str) -> Vec<&'a str> {
        let expected = expected(self.command.args);
        let is_flag = |name: &str| expected.iter().any(|arg| arg.name == name && arg.value.is_none());
        let mut words = Vec::new();
        for (name, value) in &self.values {
            let value = shown(name, value);
            let is_option = name.starts_with("--");
            words.extend(is_option.then_some(*name));
            words.extend((!is_option || !is_flag(name)).then_some(value));
        }
        words
    }
}

/// Whether this argument, or an alternative to it, was given already.
fn excludes(arg: &Arg, expected: &[Arg], given: &Given) -> bool {
    let rival = |other: &&Arg| {
        other.name == arg.name || (arg.optional && other.brackets == arg.brackets && other.optional)
    };
    expected.iter().filter(rival).any(|other| given.has(other.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{Reach, Shows, Whose, MOMENT};
    use crate::config::Role;
    use serde_json::json;

    static COMMAND: Command = Command {
        name: "card tap",
        args: "LINK [WORDS] [--mac MAC] [--amount SAT | --steps N] [--twice]",
        role: Role::Cashier,
        audited: true,
        moves_money: true,
        whose: Whose::Platform,
        reach: Reach::Socket(MOMENT, |_, _| Box::pin(std::future::ready(Ok(Value::Null)))),
        shows: Shows::Facts,
        summary: "",
    };

    fn read(line: &str) -> Option<Vec<(&'static str, String)>> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Given::from_words(&COMMAND, &words).ok().map(|given| given.values)
    }

    #[test]
    fn a_usage_says_what_is_taken() {
        let found = expected(COMMAND.args);
        let told: Vec<_> = found.iter().map(|arg| (arg.name, arg.value, arg.optional)).collect();
        let told_of_steps = ("--steps", Some("N"), true);
        assert_eq!(
            told,
            [
                ("LINK", None, false),
                ("WORDS", None, true),
                ("--mac", Some("MAC"), true),
                ("--amount", Some("SAT"), true),
                told_of_steps,
                ("--twice", None, true),
            ]
        );
        assert_eq!(expected(""), []);
    }

    #[test]
    fn options_stand_anywhere_and_once() {
        let values = |pairs: &[(&'static str, &str)]| {
            Some(pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect::<Vec<_>>())
        };
        const MAC: &str = "02:00:00:00:00:01";
        assert_eq!(read(&format!("l --mac {MAC}")), values(&[("LINK", "l"), ("--mac", MAC)]));
        assert_eq!(
            read(&format!("--mac {MAC} - w")),
            values(&[("--mac", MAC), ("LINK", "-"), ("WORDS", "w")])
        );
        assert_eq!(
            read("l --twice --amount 5"),
            values(&[("LINK", "l"), ("--twice", ""), ("--amount", "5")])
        );
        assert_eq!(read("-5m"), values(&[("LINK", "-5m")]));
        for wrong in [
            "",
            "--mac 02:00:00:00:00:01",
            "l --mac m",
            "l --amount -5",
            "l --steps many",
            "l w x",
            "l --mac",
            "l --mac 02:00:00:00:00:01 --mac 02:00:00:00:00:02",
            "l --amount 1 --steps 1",
            "l --colour",
            "l -x",
            "l --twice --twice",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_option_without_brackets_is_needed() {
        let create = super::super::find(&["card", "create"]).unwrap().0;
        let said = Given::from_words(create, &["A", "--day-max", "1"]).map(|_| ()).unwrap_err();
        assert!(said.status() == 2 && said.to_string().starts_with("tx_max is missing\nusage: card create "));
        assert!(Given::from_words(create, &["A", "--day-max", "1", "--tx-max", "1"]).is_ok());
    }

    #[test]
    fn words_and_members_are_read_alike() {
        let words = ["l", "--steps", "3", "--twice"];
        let given = Given::from_words(&COMMAND, &words).ok().unwrap();
        assert_eq!(given.words(), words);
        assert_eq!(given.told(), "- --steps 3 --twice");
        assert!(given.body().is_none());
        let body = json!({"steps": 3, "twice": true, "mac": null, "colour": "red"});
        let path = [("link".to_owned(), "l".to_owned())];
        let same = Given::from_members(&COMMAND, &path, body).ok().unwrap();
        assert_eq!(same.values, given.values);
        assert_eq!(same.body().unwrap()["colour"], "red");
        assert!(Given::from_members(&COMMAND, &path, json!({"steps": 3, "amount": 1})).is_err());
    }

    #[test]
    fn what_is_needed_or_of_another_kind_is_wrong_usage() {
        let given = Given::from_members(&COMMAND, &[], json!({"link": "l", "steps": "many"})).ok().unwrap();
        assert_eq!(given.need("LINK").ok(), Some("l"));
        assert!(given.need("--mac").is_err() && given.parsed::<u64>("--steps").is_err());
        assert!(matches!(given.parsed::<u64>("--amount"), Ok(None)));
    }
}
