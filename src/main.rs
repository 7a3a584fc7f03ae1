//! Command line of tollgated: run the daemon, check a configuration, and the operator's commands.
#![forbid(unsafe_code)]

use serde_json::{json, Value};
use std::io::{BufRead, BufReader, ErrorKind, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tollgated::commands::{terminal, text};
use tollgated::config::{self, check, Config, Problem};
use tollgated::control;
use tollgated::ecash::wallet;
use tollgated::lightning::test_command;
use tollgated::ops::log;
use tollgated::setup::{self, SetupError};

const HELP: &str = "\
tollgated - sells internet access on this router

USAGE
    tollgated COMMAND [ARGUMENT...] [-c FILE] [--json]

COMMANDS
    run                  run the daemon in the foreground (procd does this)
    check                say what is wrong with the configuration, with line numbers
    check --system       say what is wrong with this router, and the command that mends it
    setup                make this router ready to sell; asks first (setup --usage: without asking, undo)
    reload               make the running daemon read its configuration again
    status               guests, today's sales, mints, both locks, store, clock
    clients [--venue NAME]
                         stations on the guest devices, and who of them is online
    sessions [--venue NAME]
                         running sessions, where, and what is left of them
    grant MAC AMOUNT [--venue NAME]
                         let a device through unpaid (30m, 2h, 1d, 500MB; adds to what it has), at
                         the venue where it is now if none is named
    revoke MAC [--venue NAME]
                         end a device's sessions now, paid or granted; everywhere if no venue is named
    wallet balance       what the takings are, per mint; 'wallet info' tells more
    wallet receive TOKEN take a token in ('-': from standard input)
    wallet send AMOUNT [--mint URL] [--v3]
                         print a token over so many sat; 'wallet sent' lists those nobody has
                         spent, 'wallet reclaim ID' takes one back
    wallet restore [-]   look for ecash of the wallet's own words ('-': of other words, from
                         standard input, which becomes the wallet's)
    wallet seed          print the twelve words that the takings are made from; to a terminal only
    card create NAME --tx-max SAT --day-max SAT [--uid-privacy] [--disabled]
                         a Bolt Card; shows the code that the programmer app reads
    card list | show ID | history ID
                         the cards, their limits and what they spent
    card enable ID | disable ID | limits ID [--tx-max SAT] [--day-max SAT]
    card wipe ID         end a card; shows what the app needs to make the chip blank
    card reprogram ID    new keys for a card; the old ones pay no more
    card tap LINK --mac MAC [--amount SAT | --steps N]
                         let a device in for what a tapped card pays, the least that is sold if not said
                         ('-': the link comes from standard input, where nobody else sees it)
    lightning test       whether what pays invoices answers, may pay and may look payments up; pays nothing
    gate release         take the locks away, the daemon being stopped: guests pass as the firewall says.
                         For removal only; --wait gives the daemon 20 s to stop
    wiring               what the init script tells procd, one 'name value' a line

OPTIONS
    -c FILE              configuration to use; default /etc/config/tollgate
    --json               print JSON, for scripts (all but run, setup, wiring, gate release)
    -h, --help           this text
    --version            the version

EXIT STATUS
    0 done; 1 refused or failed, or 'check' found errors; 2 wrong usage

FILES
    /etc/config/tollgate             configuration (UCI)
    /etc/tollgate                    what must survive: store and keys
    /var/run/tollgate/control.sock   how these commands reach the daemon

EXAMPLES
    tollgated setup --dry-run --mint https://mint.example.com --ssid 'Kibanda Wi-Fi'
    tollgated check && tollgated reload      after a change of the configuration
    tollgated grant 02:00:00:00:00:01 1d     let the printer in until tomorrow
    tollgated status --json                  for monitoring
";

/// What the running daemon answers.
const DAEMON_COMMANDS: [&str; 8] =
    ["status", "clients", "sessions", "grant", "revoke", "reload", "wallet", "card"];
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// A mint is asked, perhaps more than once.
const WALLET_TIMEOUT: Duration = Duration::from_secs(60);
/// Every keyset of every mint is searched, and some mints limit requests.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(1800);
const MAX_INPUT: u64 = 70 * 1024;
const MAX_ANSWER: u64 = 4 * 1024 * 1024;

struct Line {
    command: Vec<String>,
    config: PathBuf,
    json: bool,
}

impl Line {
    /// Whether the command has options of its own.
    fn takes_flags(&self) -> bool {
        matches!(
            self.command.first().map(String::as_str),
            Some(
                "setup" | "check" | "gate" | "wallet" | "card" | "clients" | "sessions" | "grant" | "revoke"
            )
        )
    }
}

fn main() -> ExitCode {
    let line = match parse(std::env::args().skip(1)) {
        Ok(Some(line)) => line,
        Ok(None) => return ExitCode::SUCCESS,
        Err(message) => {
            complain(&format!("{message}\nTry 'tollgated --help'."));
            return ExitCode::from(2);
        }
    };
    let words: Vec<&str> = line.command.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["run"] => tollgated::app::run(&line.config),
        ["check"] => check_config(&line),
        ["check", "--system"] => check_system(&line),
        ["setup", args @ ..] => set_up(&line, args),
        ["wiring"] => wiring(&line),
        ["lightning", "test"] => test_lightning(&line),
        ["gate", "release"] => release(&line, false),
        ["gate", "release", "--wait"] => release(&line, true),
        ["wallet", "seed"] => show_seed(&line),
        ["wallet", command @ ("receive" | "restore"), "-"] => with_input(&line, "wallet", command, &[]),
        ["card", "tap", "-", flags @ ..] => with_input(&line, "card", "tap", flags),
        [command, args @ ..] if DAEMON_COMMANDS.contains(command) => ask_daemon(&line, command, args),
        [_, ..] => {
            complain(&format!("there is no command '{}'\nTry 'tollgated --help'.", words.join(" ")));
            ExitCode::from(2)
        }
        [] => {
            print(HELP);
            ExitCode::from(2)
        }
    }
}

/// Nothing when the answer has been printed already.
fn parse(args: impl Iterator<Item = String>) -> Result<Option<Line>, String> {
    let mut line = Line { command: Vec::new(), config: PathBuf::from(config::DEFAULT_PATH), json: false };
    let mut args = args;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-c" => line.config = PathBuf::from(args.next().ok_or("-c needs a file")?),
            "--json" => line.json = true,
            "-h" | "--help" if line.command == ["setup"] => line.command.push("--usage".to_owned()),
            "-h" | "--help" | "help" => {
                print(HELP);
                return Ok(None);
            }
            "--version" => {
                print(concat!("tollgated ", env!("CARGO_PKG_VERSION"), "\n"));
                return Ok(None);
            }
            option if is_option(option) && !line.takes_flags() => {
                return Err(format!("there is no option {option}"))
            }
            _ => line.command.push(arg),
        }
    }
    Ok(Some(line))
}

/// A number below zero is an argument, if a wrong one: the command says what it takes.
fn is_option(word: &str) -> bool {
    word.strip_prefix('-').is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn check_config(line: &Line) -> ExitCode {
    let (text, code) = check::report(&line.config, &Config::load(&line.config), line.json);
    print(&text);
    ExitCode::from(code)
}

fn check_system(line: &Line) -> ExitCode {
    let (text, code) = setup::system::report(&setup::system::look(&line.config), line.json);
    print(&text);
    ExitCode::from(code)
}

fn set_up(line: &Line, args: &[&str]) -> ExitCode {
    let (mut input, mut out) = (std::io::stdin().lock(), std::io::stdout().lock());
    match setup::run(args, &line.config, &mut input, &mut out) {
        Ok(_) => ExitCode::SUCCESS,
        Err(err @ SetupError::Usage(_)) => {
            complain(&err.to_string());
            ExitCode::from(2)
        }
        Err(err) => {
            complain(&err.to_string());
            ExitCode::FAILURE
        }
    }
}

fn test_lightning(line: &Line) -> ExitCode {
    let config = &match Config::load(&line.config) {
        Ok((config, _)) => config,
        Err(problems) => {
            complain_of(&line.config, &problems);
            return ExitCode::FAILURE;
        }
    };
    let tried = match test_command::is_the_daemons(config) {
        false => test_command::try_node(config),
        true => try_ecash(&control::path(&config.main.run_dir)),
    };
    let (text, good) = test_command::printed(config, tried, line.json);
    print(&text);
    ExitCode::from(u8::from(!good))
}

/// The wallet is the running daemon's.
fn try_ecash(socket: &Path) -> Result<Value, String> {
    let order = json!({"command": "lightning", "args": ["test"]});
    let mut answer = ask(socket, &order, WALLET_TIMEOUT)
        .map_err(|err| format!("the daemon, which has the wallet, does not answer: {err}"))?;
    match answer["ok"] == true {
        true => Ok(answer["data"].take()),
        false => Err(answer["message"].as_str().unwrap_or("the daemon's answer cannot be read").to_owned()),
    }
}

fn wiring(line: &Line) -> ExitCode {
    match setup::wiring::wiring(&line.config) {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(problems) => {
            complain_of(&line.config, &problems);
            ExitCode::FAILURE
        }
    }
}

fn release(line: &Line, wait: bool) -> ExitCode {
    match setup::release(&line.config, wait) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            complain(&err.to_string());
            ExitCode::FAILURE
        }
    }
}

/// A command with an argument that is worth money and comes through standard input.
fn with_input(line: &Line, command: &str, action: &str, rest: &[&str]) -> ExitCode {
    let mut text = String::new();
    match std::io::stdin().lock().take(MAX_INPUT).read_to_string(&mut text) {
        Ok(_) => {
            let words: Vec<&str> = text.split_whitespace().collect();
            ask_daemon(line, command, &[&[action, &words.join(" ")], rest].concat())
        }
        Err(err) => {
            complain(&format!("standard input: {err}"));
            ExitCode::FAILURE
        }
    }
}

/// The words come from the key file, not through the daemon, which may not run; it only notes that they were shown.
fn show_seed(line: &Line) -> ExitCode {
    if !std::io::stdout().is_terminal() {
        complain("the words are printed to a terminal only: whoever has them has the money");
        return ExitCode::FAILURE;
    }
    let main = match Config::load(&line.config) {
        Ok((config, _)) => config.main,
        Err(problems) => {
            complain_of(&line.config, &problems);
            return ExitCode::FAILURE;
        }
    };
    match wallet::words(&main.state_dir) {
        Ok(words) => {
            let noted = json!({"command": "wallet", "args": ["seed"]});
            if ask(&control::path(&main.run_dir), &noted, ANSWER_TIMEOUT).is_err() {
                log::start(main.log_target, main.log_format, main.log_level);
                ::log::warn!("operator: the wallet's twelve words are shown");
            }
            print(&if line.json { format!("{}\n", json!({"words": words})) } else { format!("{words}\n") });
            ExitCode::SUCCESS
        }
        Err(err) => {
            complain(&err.to_string());
            ExitCode::FAILURE
        }
    }
}

fn ask_daemon(line: &Line, command: &str, args: &[&str]) -> ExitCode {
    // The daemon of another configuration than the one that was named is not asked.
    if let Err(err) = std::fs::metadata(&line.config) {
        if line.config != Path::new(config::DEFAULT_PATH) {
            complain(&format!("{}: {err}", line.config.display()));
            return ExitCode::FAILURE;
        }
    }
    let run_dir = config::run_dir_of(&line.config);
    let patience = match (command, args) {
        ("wallet", ["restore", ..]) => RESTORE_TIMEOUT,
        ("wallet", _) | ("card", ["tap", ..]) => WALLET_TIMEOUT,
        _ => ANSWER_TIMEOUT,
    };
    let answer = match ask(&control::path(&run_dir), &json!({"command": command, "args": args}), patience) {
        Ok(answer) => answer,
        Err(err) => {
            let hint = match err.kind() {
                ErrorKind::PermissionDenied => "Only root may ask it.",
                _ => "Is it running? Try '/etc/init.d/tollgated start' and 'logread -e tollgated'.",
            };
            let socket = control::path(&run_dir);
            complain(&format!("the daemon does not answer at {}: {err}\n{hint}", socket.display()));
            return ExitCode::FAILURE;
        }
    };
    if line.json {
        let is_bare = command == "wallet" && answer["ok"] == true;
        print(&format!("{}\n", if is_bare { &answer["data"] } else { &answer }));
    }
    if answer["ok"] == true {
        if !line.json {
            print(&match (args, answer["data"]["token"].as_str()) {
                (["send", ..], Some(token)) => format!("{token}\n"),
                (["sent"], _) => text::for_people("sent tokens", &answer["data"]),
                (["history", ..], _) => text::for_people("taps", &answer["data"]),
                _ if command == "card" => text::for_people("cards", &answer["data"]),
                _ => text::for_people(command, &answer["data"]),
            });
            show_code(&answer["data"]);
        }
        return ExitCode::SUCCESS;
    }
    if !line.json {
        complain(answer["message"].as_str().unwrap_or("the daemon's answer cannot be read"));
    }
    if answer["code"] == "usage" {
        ExitCode::from(2)
    } else {
        ExitCode::FAILURE
    }
}

fn ask(socket: &Path, order: &Value, patience: Duration) -> std::io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(format!("{order}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_ANSWER)).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

/// What an app reads with a phone's camera: the link to a card's keys, or the keys of one to be wiped. Only on a
/// terminal: in a file it is of no use.
fn show_code(data: &Value) {
    let text = match (data["deep_link"].as_str(), data["action"].as_str()) {
        (Some(link), _) => link.to_owned(),
        (None, Some("wipe")) => {
            let mut keys = data.clone();
            keys.as_object_mut().map(|keys| keys.remove("earlier"));
            keys.to_string()
        }
        _ => return,
    };
    if std::io::stdout().is_terminal() {
        print(&terminal::qr(&text).unwrap_or_default());
    }
}

/// A reader that has gone away is no failure.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn complain_of(path: &Path, problems: &[Problem]) {
    for problem in problems {
        let line = problem.line.map_or(String::new(), |line| format!("{line}:"));
        complain(&format!("{}:{line} {problem}", path.display()));
    }
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "tollgated: {text}");
}
