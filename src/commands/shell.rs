//! A command line, carried out: here, or by the daemon at the other end of the control socket.

use super::{find, lightning, terminal, text, usages_of, Command, CommandError, Given, Reach, Shows};
use crate::config::{self, Config, Problem};
use crate::json::json;
use serde_json::Value;
use std::io::{self, BufRead, ErrorKind, IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Arguments that are read from standard input where the line says `-`: it is worth money, and others see a command's
/// line.
const FROM_INPUT: [&str; 3] = ["TOKEN", "LINK", "WORDS"];
const MAX_INPUT: u64 = 70 * 1024;
/// Somebody types and waits.
const SOON: Duration = Duration::from_secs(2);

/// What a command line reaches.
pub struct Shell<'a> {
    pub config: &'a Path,
    pub json: bool,
    pub input: &'a mut dyn BufRead,
    pub out: &'a mut dyn Write,
    pub above: &'a Above,
}

/// What the shell's commands need of rooms above this one.
pub struct Above {
    /// Runs the daemon until it is told to stop.
    pub daemon: fn(&Path) -> ExitCode,
    /// Sends an order to the daemon of this `run_dir`; its answer comes within the time.
    pub ask: fn(&Path, &Value, Duration) -> io::Result<Value>,
    /// Starts logging as the configuration says.
    pub log: fn(&config::Main),
}

/// How a command of the shell ended.
pub enum Ended {
    /// With an answer, to be printed as the row says.
    Answer(Value),
    /// With an answer about something, printed likewise; `false`: that is not well.
    Finding(Value, bool),
    /// With a text, for people or scripts as it was asked for; `false`: what it tells of is not well.
    Report(String, bool),
    /// With everything printed.
    Exit(ExitCode),
}

/// What is left to be printed, and the exit status.
pub struct Printout {
    pub out: String,
    /// For standard error.
    pub complaint: Option<String>,
    pub status: ExitCode,
}

/// Carries out the words of a command line.
pub fn carry_out(shell: &mut Shell, words: &[&str]) -> Printout {
    let Some((command, rest)) = find(words) else {
        let message = usages_of(words)
            .unwrap_or_else(|| format!("there is no command '{}'\nTry 'tollgated --help'.", words.join(" ")));
        return refused(&CommandError::Usage(message), shell.json);
    };
    let answer = match Given::from_words(command, rest).and_then(|given| shell.completed(given)) {
        Ok(given) => match &command.reach {
            Reach::Shell(handler) | Reach::Errand(handler, ..) => handler(shell, &given),
            Reach::Socket(patience, _) | Reach::Signed(_, patience, _) | Reach::Http(_, patience, _) => {
                shell.order("command", &given, *patience).map(Ended::Answer)
            }
        },
        Err(error) => Err(error),
    };
    match answer {
        Ok(Ended::Answer(data)) => Printout::of(answered(command, &data, shell.json), true),
        Ok(Ended::Finding(data, is_well)) => Printout::of(answered(command, &data, shell.json), is_well),
        Ok(Ended::Report(out, is_well)) => Printout::of(out, is_well),
        Ok(Ended::Exit(status)) => Printout { out: String::new(), complaint: None, status },
        Err(error) => refused(&error, shell.json && !matches!(command.reach, Reach::Shell(_))),
    }
}

impl Printout {
    fn of(out: String, is_well: bool) -> Printout {
        Printout { out, complaint: None, status: ExitCode::from(u8::from(!is_well)) }
    }
}

impl Shell<'_> {
    /// The configuration, or what is wrong with it.
    pub fn loaded(&self) -> Result<Config, CommandError> {
        Config::load(self.config).map(|(config, _)| config).map_err(|problems| self.broken(&problems))
    }

    pub fn broken(&self, problems: &[Problem]) -> CommandError {
        let line = |problem: &Problem| {
            let line = problem.line.map_or(String::new(), |line| format!("{line}:"));
            format!("{}:{line} {problem}", self.config.display())
        };
        let lines: Vec<String> = problems.iter().map(line).collect();
        CommandError::Input("invalid_config", lines.join("\n"))
    }

    /// The same for another configuration.
    pub fn of<'b>(&'b mut self, config: &'b Path) -> Shell<'b> {
        Shell { config, json: self.json, input: self.input, out: self.out, above: self.above }
    }

    /// What the daemon answers to a command that takes nothing; `None` if it does not answer soon.
    pub fn answer_of(&self, name: &str) -> Option<Value> {
        let line = [name];
        let (command, rest) = find(&line)?;
        let given = Given::from_words(command, rest).ok()?;
        self.order("command", &given, SOON).ok()
    }

    /// Has the daemon do its part of a command of the shell.
    pub fn have_done(&self, given: &Given) -> Result<Value, CommandError> {
        match &given.command().reach {
            Reach::Errand(_, patience, _) => self.order("errand", given, *patience),
            _ => Err(given.wrong()),
        }
    }

    /// Fills in the argument that standard input holds.
    fn completed(&mut self, mut given: Given) -> Result<Given, CommandError> {
        let Some(name) = FROM_INPUT.into_iter().find(|name| given.text(name) == Some("-")) else {
            return Ok(given);
        };
        let mut text = String::new();
        let read = (&mut *self.input).take(MAX_INPUT).read_to_string(&mut text);
        read.map_err(|err| CommandError::Refused("no_input", format!("standard input: {err}")))?;
        let words: Vec<&str> = text.split_whitespace().collect();
        given.replace(name, words.join(" "));
        Ok(given)
    }

    fn order(&self, kind: &str, given: &Given, patience: Duration) -> Result<Value, CommandError> {
        if given.command().name == "reload" {
            // Where that fails, the daemon says that it cannot read the file.
            let _ = config::give_to_root(self.config);
        }
        // The daemon of another configuration than the one that was named is not asked.
        if let Err(err) = std::fs::metadata(self.config) {
            if self.config != Path::new(config::DEFAULT_PATH) {
                let message = format!("{}: {err}", self.config.display());
                return Err(CommandError::Input("invalid_config", message));
            }
        }
        let run_dir = config::run_dir_of(self.config);
        let name: Vec<&str> = given.command().name.split(' ').collect();
        let (first, rest) = name.split_first().unwrap_or((&"", &[]));
        let args: Vec<&str> = rest.iter().copied().chain(given.words()).collect();
        let mut order = json!({"args": args});
        order[kind] = json!(first);
        let mut answer = (self.above.ask)(&run_dir, &order, patience).map_err(|err| {
            let hint = match err.kind() {
                ErrorKind::PermissionDenied => "Only root may ask it.",
                _ => "Is it running? Try '/etc/init.d/tollgated start' and 'logread -e tollgated'.",
            };
            let at = run_dir.join("control.sock");
            let message = format!("the daemon does not answer at {}: {err}\n{hint}", at.display());
            CommandError::Closed("no_daemon", message)
        })?;
        if answer["ok"] == true {
            return Ok(answer["data"].take());
        }
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        let message = text("message").unwrap_or_else(|| "the daemon's answer cannot be read".to_owned());
        Err(CommandError::Answered(text("code").unwrap_or_default(), message))
    }
}

fn answered(command: &Command, data: &Value, as_json: bool) -> String {
    if as_json {
        // What the wallet and the test of a node answer is printed alone.
        return match command.name.starts_with("wallet ") || command.shows == Shows::Tested {
            true => format!("{data}\n"),
            false => format!("{}\n", json!({"ok": true, "data": data})),
        };
    }
    match (command.shows, data["token"].as_str()) {
        (Shows::Token, Some(token)) => format!("{token}\n"),
        (Shows::Tested, _) => lightning::for_people(data),
        (Shows::Rows(what), _) => text::for_people(what, data),
        (Shows::Code, _) => format!("{}{}", text::for_people("", data), code(data).unwrap_or_default()),
        _ => text::for_people("", data),
    }
}

fn refused(error: &CommandError, as_json: bool) -> Printout {
    let status = ExitCode::from(if error.code() == "usage" { 2 } else { 1 });
    let is_answer = matches!(error, CommandError::Answered(..) | CommandError::Usage(_));
    match as_json && is_answer {
        true => {
            let answer = json!({"ok": false, "code": error.code(), "message": error.to_string()});
            Printout { out: format!("{answer}\n"), complaint: None, status }
        }
        false => Printout { out: String::new(), complaint: Some(error.to_string()), status },
    }
}

/// What an app reads with a phone's camera: the link to a card's keys, or the keys of one to be wiped. Only on a
/// terminal: in a file it is of no use.
fn code(data: &Value) -> Option<String> {
    let text = match (data["deep_link"].as_str(), data["action"].as_str()) {
        (Some(link), _) => link.to_owned(),
        (None, Some("wipe")) => {
            let mut keys = data.clone();
            keys.as_object_mut().map(|keys| keys.remove("earlier"));
            keys.to_string()
        }
        _ => return None,
    };
    io::stdout().is_terminal().then(|| terminal::qr(&text)).flatten()
}
