//! A command line, carried out: here, or by the daemon at the other end of the control socket.
//!
//! With `--json` every command ends with one envelope on standard output, also where it fails: `{"ok":true,"data"}` or
//! `{"ok":false,"code","message"}`, with `data` where there is something to be told all the same. `ok` is true exactly
//! where the exit status is 0.

use super::error::INVALID_CONFIG;
use super::given::SECRET;
use super::{all, find, takings, terminal, text, usages_of, Command, CommandError, Given, Reach, Shows};
use crate::config::{self, Config, Problem, RelayConfig};
use crate::json::json;
use crate::zone::Zone;
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, ErrorKind, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// What is read from standard input where the line says `-`, because others see a command's line.
const MAX_INPUT: u64 = 70 * 1024;
/// Somebody types and waits.
const SOON: Duration = Duration::from_secs(2);

const UNREAD_TOKEN: &str = "the token could not be printed; 'tollgated wallet sent' shows it again";

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
    /// Runs a relay until it is told to stop.
    pub relay: fn(&Path, RelayConfig) -> ExitCode,
    /// Sends an order to the daemon of this `run_dir`; its answer comes within the time.
    pub ask: fn(&Path, &Value, Duration) -> io::Result<Value>,
    /// Starts logging as the configuration says.
    pub log: fn(&config::Main),
}

/// How a command of the shell ended.
pub enum Ended {
    /// With an answer, to be printed as the row says.
    Answer(Value),
    Told(Told),
    /// With everything printed.
    Exit(ExitCode),
}

/// What was looked at and found.
pub struct Told {
    /// For people, with its last line's end.
    pub text: String,
    /// For scripts.
    pub data: Value,
    /// Code and sentence, if something is wrong.
    pub wrong: Option<(&'static str, String)>,
}

impl Told {
    /// Nothing is wrong.
    pub fn well(text: String, data: Value) -> Ended {
        Ended::Told(Told { text, data, wrong: None })
    }
}

/// What is left to be printed, and the exit status.
pub struct Printout {
    pub out: String,
    /// For standard error.
    pub complaint: Option<String>,
    pub status: ExitCode,
    /// What to say if `out` is worth money and cannot be printed.
    pub unread: Option<&'static str>,
}

/// Carries out the words of a command line.
pub fn carry_out(shell: &mut Shell, words: &[&str]) -> Printout {
    let Some((command, rest)) = find(words) else {
        return wrong_usage(usages_of(words).unwrap_or_else(|| unknown(words)), shell.json);
    };
    let mut page = None;
    let given = Given::from_words(command, rest).and_then(|given| shell.completed(given));
    let answer = match given.and_then(|given| {
        page = given.text("--print").map(PageFile::open).transpose()?;
        Ok(given)
    }) {
        Ok(given) => match &command.reach {
            Reach::Shell(handler) | Reach::Errand(handler, ..) => handler(shell, &given),
            Reach::Socket(patience, _) | Reach::Signed(_, patience, _) | Reach::Http(_, patience, _) => {
                shell.order("command", &given, *patience).map(Ended::Answer)
            }
            Reach::Takings(_, patience, handler) => {
                let ask = || shell.order("command", &given, *patience);
                takings::carry_out(shell, &given, ask, *handler, *patience).map(Ended::Answer)
            }
            Reach::AuditLog(_, patience, handler) => {
                let ask = || shell.order("command", &given, *patience);
                takings::look_at_log(shell, &given, ask, *handler, *patience).map(Ended::Answer)
            }
        },
        Err(error) => Err(error),
    };
    let answer = match (answer, page) {
        (Ok(Ended::Answer(mut data)), Some(page)) => page.take(&mut data).map(|()| Ended::Answer(data)),
        (answer, _) => answer,
    };
    match answer {
        Ok(Ended::Answer(data)) => {
            let out = if shell.json { enveloped(&Ok(data)) } else { for_people(command, &data) };
            let unread = (command.shows == Shows::Token).then_some(UNREAD_TOKEN);
            Printout { unread, ..printed(out, None, 0) }
        }
        Ok(Ended::Told(Told { text, data, wrong })) => {
            let status = u8::from(wrong.is_some());
            match (shell.json, wrong) {
                (false, _) => printed(text, None, status),
                (true, None) => printed(enveloped(&Ok(data)), None, status),
                (true, Some((code, message))) => {
                    let envelope = json!({"ok": false, "code": code, "message": message, "data": data});
                    printed(format!("{envelope}\n"), None, status)
                }
            }
        }
        Ok(Ended::Exit(status)) => Printout { status, ..printed(String::new(), None, 0) },
        Err(error) => refused(error, shell.json),
    }
}

/// What is printed where a line cannot be read.
pub fn wrong_usage(message: String, as_json: bool) -> Printout {
    refused(CommandError::Usage(message), as_json)
}

/// The file that a page goes to, for its owner only: it may have codes on it.
struct PageFile {
    file: File,
    name: String,
}

impl PageFile {
    /// Opened before anything is made that goes onto the page.
    fn open(name: &str) -> Result<PageFile, CommandError> {
        let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(name);
        match opened {
            Ok(file) => Ok(PageFile { file, name: name.to_owned() }),
            Err(err) => Err(CommandError::Refused("not_written", format!("{name}: {err}"))),
        }
    }

    /// Moves the page from the answer to the file.
    fn take(mut self, data: &mut Value) -> Result<(), CommandError> {
        let page = data["page"].take();
        data.as_object_mut().map(|data| data.remove("page"));
        self.file.write_all(page.as_str().unwrap_or_default().as_bytes()).map_err(|err| {
            let again = format!(
                "; 'tollgated voucher sheet {}' prints it again",
                data["batch"].as_str().unwrap_or_default()
            );
            CommandError::Refused("not_written", format!("{}: {err}{again}", self.name))
        })
    }
}

fn printed(out: String, complaint: Option<String>, status: u8) -> Printout {
    Printout { out, complaint, status: ExitCode::from(status), unread: None }
}

fn refused(error: CommandError, as_json: bool) -> Printout {
    let status = error.status();
    match as_json {
        true => printed(enveloped(&Err(error)), None, status),
        false => printed(String::new(), Some(error.to_string()), status),
    }
}

fn enveloped(answer: &Result<Value, CommandError>) -> String {
    format!("{}\n", envelope(answer))
}

/// The one form of every answer.
pub fn envelope(answer: &Result<Value, CommandError>) -> Value {
    match answer {
        Ok(data) => json!({"ok": true, "data": data}),
        Err(error) => json!({"ok": false, "code": error.code(), "message": error.to_string()}),
    }
}

/// Names the commands that may have been meant.
fn unknown(words: &[&str]) -> String {
    let mut text = format!("there is no command '{}'", words.join(" "));
    let has_word = |command: &&Command| command.name.split(' ').any(|known| words.first() == Some(&known));
    let meant: Vec<&str> = all().filter(has_word).map(|command| command.name).collect();
    if !meant.is_empty() {
        text.push_str(&format!("; there is {}", meant.join(", ")));
    }
    format!("{text}\nTry 'tollgated --help'.")
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
        CommandError::Refused(INVALID_CONFIG, lines.join("\n"))
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
        let Some(name) = SECRET.into_iter().find(|name| given.text(name) == Some("-")) else {
            return Ok(given);
        };
        let mut text = String::new();
        let read = (&mut *self.input).take(MAX_INPUT).read_to_string(&mut text);
        read.map_err(|err| CommandError::Refused("no_input", format!("standard input: {err}")))?;
        let words: Vec<&str> = text.split_whitespace().collect();
        given.replace(name, words.join(" "));
        Ok(given)
    }

    /// Has the daemon carry out a command. After `no_daemon` and `switched_off` no daemon has received it.
    fn order(&self, kind: &str, given: &Given, patience: Duration) -> Result<Value, CommandError> {
        if given.command().name == "reload" {
            // Where that fails, the daemon says that it cannot read the file.
            let _ = config::give_to_root(self.config);
        }
        // The daemon of another configuration than the one that was named is not asked.
        if let Err(err) = std::fs::metadata(self.config) {
            if self.config != Path::new(config::DEFAULT_PATH) {
                let message = format!("{}: {err}", self.config.display());
                return Err(CommandError::Refused(INVALID_CONFIG, message));
            }
        }
        let Some(run_dir) = config::run_dir_of(self.config) else {
            return Err(self.loaded().err().unwrap_or_else(|| self.broken(&[])));
        };
        let name: Vec<&str> = given.command().name.split(' ').collect();
        let (first, rest) = name.split_first().unwrap_or((&"", &[]));
        let args: Vec<&str> = rest.iter().copied().chain(given.words()).collect();
        let mut order = json!({"args": args});
        order[kind] = json!(first);
        let mut answer = (self.above.ask)(&run_dir, &order, patience)
            .map_err(|err| self.no_answer(&err, &run_dir.join("control.sock"), given.command()))?;
        if answer["ok"] == true {
            return Ok(answer["data"].take());
        }
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        let message = text("message").unwrap_or_else(|| "the daemon's answer cannot be read".to_owned());
        Err(CommandError::Answered(text("code").unwrap_or_default(), message))
    }

    /// Why the daemon has not answered, as far as can be seen from here.
    fn no_answer(&self, err: &io::Error, socket: &Path, command: &Command) -> CommandError {
        let (socket, file) = (socket.display(), self.config.display());
        match err.kind() {
            ErrorKind::PermissionDenied => CommandError::Closed(
                "not_allowed",
                format!("the daemon does not answer at {socket}: {err}\nOnly root may ask it."),
            ),
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => match Config::load(self.config) {
                Ok((config, _)) if !config.main.enabled => CommandError::Closed(
                    "switched_off",
                    format!(
                        "tollgated is switched off in the configuration ({file}: option enabled)\nSwitch it on with \
                         'uci set tollgate.main.enabled=1; uci commit tollgate; /etc/init.d/tollgated start'."
                    ),
                ),
                Ok(_) => CommandError::Closed(
                    "no_daemon",
                    format!(
                        "the daemon does not answer at {socket}: {err}\nIs it running? Try '/etc/init.d/tollgated \
                         start' and 'logread -e tollgated'."
                    ),
                ),
                Err(problems) => CommandError::Closed(
                    "no_daemon",
                    format!(
                        "the daemon does not answer at {socket}: {err}\nIts configuration cannot be used:\n{}",
                        self.broken(&problems)
                    ),
                ),
            },
            _ => {
                // It has the order, and may have carried it out.
                let look = match command.reach {
                    Reach::Takings(..) => "'tollgated wallet sent' and 'tollgated wallet balance' tell",
                    _ => "'tollgated status' tells how it is",
                };
                let why = match err.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => "it took too long".to_owned(),
                    _ => err.to_string(),
                };
                let message = format!(
                    "the daemon was asked and has not answered ({why}): it may have done it, or do it yet; {look}"
                );
                CommandError::Closed("no_answer", message)
            }
        }
    }
}

fn for_people(command: &Command, data: &Value) -> String {
    let text = |what| text::for_people(what, data, &Zone::local());
    match (command.shows, data["token"].as_str()) {
        (Shows::Token, Some(token)) => format!("{token}\n"),
        (Shows::Page, _) => data["page"].as_str().unwrap_or_default().to_owned(),
        (Shows::Rows(what), _) => text(what),
        (Shows::Code, _) => format!("{}{}", text(""), code(data).unwrap_or_default()),
        _ => text(""),
    }
}

/// What an app reads with a phone's camera: the link to a card's keys, the keys of one to be wiped, or what a wallet is to
/// sign. Only on a terminal: in a file it is of no use.
fn code(data: &Value) -> Option<String> {
    let link = data["deep_link"].as_str().or(data["encode"].as_str());
    let text = match (link, data["action"].as_str()) {
        (Some(link), _) => link.to_owned(),
        (None, Some("wipe")) => {
            let mut keys = data.clone();
            keys.as_object_mut().map(|keys| keys.remove("earlier"));
            keys.to_string()
        }
        _ => return None,
    };
    io::stdout().is_terminal().then(|| terminal::code(&text, terminal::width()))
}
