//! `tollgated completion`: what may follow in a line that is being typed, for shells that ask a program. bash does;
//! BusyBox's ash completes the names of programs and files only.

use super::Reach::Shell as InShell;
use super::Shows::Own;
use super::{all, expected, find, Arg, Command, CommandError, Ended, Given, Shell, Told, Whose};
use crate::config::Config;
use crate::config::Role::Owner;
use crate::json::json;
use serde_json::Value;
use std::path::Path;

/// What bash is told. It would hand the words over, but the line itself is in the environment, and words like `--json`
/// would be taken for our own.
const TELLS_BASH: &str =
    "complete -o default -C 'sh -c \"exec tollgated completion 2>/dev/null\"' tollgated\n";

pub static COMMANDS: &[Command] = &[Command {
    name: "completion",
    args: "",
    role: Owner,
    audited: false,
    moves_money: false,
    whose: Whose::Platform,
    reach: InShell(completed),
    shows: Own,
    summary: "what has bash complete these commands: eval \"$(tollgated completion)\"; the package does it at login",
}];

fn completed(shell: &mut Shell, _: &Given) -> Result<Ended, CommandError> {
    let Ok(line) = std::env::var("COMP_LINE") else {
        return Ok(Told::well(TELLS_BASH.to_owned(), json!({"script": TELLS_BASH})));
    };
    let point = std::env::var("COMP_POINT").ok().and_then(|point| point.parse().ok());
    let typed = point.and_then(|point| line.get(..point)).unwrap_or(&line);
    let mut known = |kind: &str, config: Option<&str>| match config {
        Some(config) => values(&mut shell.of(Path::new(config)), kind),
        None => values(shell, kind),
    };
    let found = candidates(typed, &mut known);
    let text = found.iter().map(|word| format!("{word}\n")).collect();
    Ok(Told::well(text, json!(found)))
}

/// What the line may go on with. `values` tells those of a kind, from the configuration that the line names.
fn candidates(line: &str, values: &mut dyn FnMut(&str, Option<&str>) -> Vec<String>) -> Vec<String> {
    let mut words: Vec<&str> = line.split_whitespace().skip(1).collect();
    let current = match line.ends_with(char::is_whitespace) {
        true => "",
        false => words.pop().unwrap_or_default(),
    };
    if words.last() == Some(&"-c") {
        return Vec::new();
    }
    let (mut typed, mut config, mut has_json) = (Vec::new(), None, false);
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word {
            "-c" => config = words.next(),
            "--json" => has_json = true,
            word => typed.push(word),
        }
    }
    let mut found = match find(&typed) {
        Some((command, given)) => arguments(command, given, &mut |kind| values(kind, config)),
        None => names(&typed),
    };
    found.extend((!has_json && !typed.is_empty()).then(|| "--json".to_owned()));
    found.retain(|word| word.starts_with(current));
    found
}

/// The next words of the commands that begin with these.
fn names(words: &[&str]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for command in all() {
        let name: Vec<&str> = command.name.split(' ').collect();
        let next = name.strip_prefix(words).and_then(<[&str]>::first);
        if let Some(next) = next.filter(|next| found.iter().all(|known| known != *next)) {
            found.push((*next).to_owned());
        }
    }
    found
}

/// Options that were not given, or the values of what is expected here.
fn arguments(
    command: &'static Command,
    given: &[&str],
    values: &mut dyn FnMut(&str) -> Vec<String>,
) -> Vec<String> {
    let expected = expected(command.args);
    let option = |word: &&str| expected.iter().find(|arg| arg.is_option() && arg.name == *word);
    if let Some(kind) = given.last().and_then(option).and_then(|arg| arg.value) {
        return values(kind);
    }
    let free = |arg: &&Arg| arg.is_option() && !given.contains(&arg.name);
    let options = expected.iter().filter(free).map(|arg| arg.name.to_owned()).collect();
    let mut taken = 0usize;
    let mut rest = given.iter();
    while let Some(word) = rest.next() {
        match option(word) {
            Some(Arg { value: Some(_), .. }) => drop(rest.next()),
            Some(_) => {}
            None => taken = taken.saturating_add(1),
        }
    }
    match expected.iter().filter(|arg| !arg.is_option()).nth(taken) {
        Some(arg) => [values(arg.name), options].concat(),
        None => options,
    }
}

/// The values of a kind that are known here: venues, and the devices of guests.
fn values(shell: &mut Shell, kind: &str) -> Vec<String> {
    match kind {
        "MAC" => {
            let clients = shell.answer_of("clients").unwrap_or_default();
            let mac = |client: &Value| client["mac"].as_str().map(str::to_owned);
            let mut macs: Vec<String> = clients.as_array().into_iter().flatten().filter_map(mac).collect();
            macs.sort();
            macs.dedup();
            macs
        }
        "VENUE" => {
            let config = Config::load(shell.config).map(|(config, _)| config);
            config.map(|config| config.venues.into_iter().map(|venue| venue.id).collect()).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(line: &str) -> String {
        let mut values = |kind: &str, config: Option<&str>| match (kind, config) {
            ("MAC", None) => vec!["02:00:00:00:00:01".to_owned(), "06:00:00:00:00:02".to_owned()],
            ("VENUE", None) => vec!["guest".to_owned(), "hall".to_owned()],
            ("VENUE", Some("other")) => vec!["there".to_owned()],
            _ => Vec::new(),
        };
        candidates(line, &mut values).join(" ")
    }

    #[test]
    fn commands_are_completed_word_by_word() {
        assert!(after("tollgated ").starts_with("status reload clock clients "));
        assert_eq!(after("tollgated s"), "status sessions setup");
        assert_eq!(after("tollgated wallet se"), "send sent seed");
        assert_eq!(after("tollgated gate"), "gate");
        assert_eq!(after("tollgated gate "), "release --json");
        assert_eq!(after("tollgated fly "), "--json");
    }

    #[test]
    fn options_come_once_and_values_where_they_are_expected() {
        assert_eq!(after("tollgated grant "), "02:00:00:00:00:01 06:00:00:00:00:02 --venue --json");
        assert_eq!(after("tollgated grant 02"), "02:00:00:00:00:01");
        assert_eq!(after("tollgated grant 02:00:00:00:00:01 "), "--venue --json");
        assert_eq!(after("tollgated grant --venue "), "guest hall --json");
        assert_eq!(after("tollgated grant --venue h"), "hall");
        assert_eq!(after("tollgated grant --venue hall 0"), "02:00:00:00:00:01 06:00:00:00:00:02");
        assert_eq!(after("tollgated --json card tap x --m"), "--mac");
        assert_eq!(after("tollgated card tap x --mac 06"), "06:00:00:00:00:02");
        assert_eq!(after("tollgated check --system "), "--json");
    }

    #[test]
    fn a_configuration_that_is_named_is_looked_at_and_its_name_left_to_the_shell() {
        assert_eq!(after("tollgated -c "), "");
        assert_eq!(after("tollgated -c oth"), "");
        assert_eq!(after("tollgated -c other sessions --venue "), "there --json");
        assert_eq!(after("tollgated -c other sess"), "sessions");
    }
}
