//! Command line of tollgated: reads it, and prints what the command leaves to be printed.
#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::dbg_macro
)]

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use tollgated::commands::{carry_out, find, is_option, manual, wrong_usage, Above, Printout, Shell};
use tollgated::{app, config, control, ops};

const ABOVE: Above = Above {
    daemon: |config| app::run(config),
    relay: |path, config| app::relay::run(path, config),
    ask: control::ask,
    log: |main| ops::log::start(main.log_target, main.log_format, main.log_level),
};

/// What is built in that a router's build leaves out.
const FEATURES: &[&str] = &[
    #[cfg(feature = "grpc")]
    "grpc",
    #[cfg(feature = "vault")]
    "vault",
];

struct Line {
    words: Vec<String>,
    config: PathBuf,
    json: bool,
    wants_help: bool,
}

fn main() -> ExitCode {
    let words: Result<Vec<String>, _> = std::env::args_os().skip(1).map(|word| word.into_string()).collect();
    let line = match words
        .map_err(|word| format!("{word:?} is no UTF-8"))
        .and_then(|words| Line::read(words.into_iter()))
    {
        Ok(line) => line,
        Err(message) => {
            let wants_json = std::env::args_os().any(|arg| arg == "--json");
            return leave(wrong_usage(format!("{message}\nTry 'tollgated --help'."), wants_json));
        }
    };
    let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--version"] => {
            print(concat!("tollgated ", env!("CARGO_PKG_VERSION"), "\n"));
            if !FEATURES.is_empty() {
                print(&format!("with {}\n", FEATURES.join(", ")));
            }
        }
        [] if line.json && !line.wants_help => {
            return leave(wrong_usage("what is to be done?".to_owned(), true))
        }
        [] => {
            print(&manual::help());
            return ExitCode::from(if line.wants_help { 0 } else { 2 });
        }
        // It lists its own flags.
        ["setup", ..] if line.wants_help => return run(&line, &["setup", "--usage"]),
        words if line.wants_help => match manual::help_of(words) {
            Some(help) => {
                print(&help);
            }
            None => return run(&line, words),
        },
        words => return run(&line, words),
    }
    ExitCode::SUCCESS
}

fn run(line: &Line, words: &[&str]) -> ExitCode {
    let (mut input, mut out) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut shell =
        Shell { config: &line.config, json: line.json, input: &mut input, out: &mut out, above: &ABOVE };
    let printout = carry_out(&mut shell, words);
    leave(printout)
}

fn leave(printout: Printout) -> ExitCode {
    let is_printed = print(&printout.out);
    if let Some(unread) = printout.unread.filter(|_| !is_printed) {
        complain(unread);
        return ExitCode::FAILURE;
    }
    if let Some(complaint) = printout.complaint {
        complain(&complaint);
    }
    printout.status
}

impl Line {
    fn read(args: impl Iterator<Item = String>) -> Result<Line, String> {
        let config = PathBuf::from(config::DEFAULT_PATH);
        let mut line = Line { words: Vec::new(), config, json: false, wants_help: false };
        let mut args = args.peekable();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "-c" => line.config = PathBuf::from(args.next().ok_or("-c needs a file")?),
                "--json" => line.json = true,
                "-h" | "--help" => line.wants_help = true,
                // It asks for help before a command, or alone behind a group; elsewhere it is a value.
                "help" if line.words.is_empty() || (args.peek().is_none() && !line.is_command()) => {
                    line.wants_help = true;
                }
                "--version" => line.words = vec![arg],
                option if line.words.is_empty() && is_option(option) => {
                    return Err(format!("there is no option {option}"));
                }
                _ => line.words.push(arg),
            }
        }
        Ok(line)
    }

    fn is_command(&self) -> bool {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        find(&words).is_some()
    }
}

/// Answers whether it could be. A reader that has gone away is mostly no failure.
fn print(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "tollgated: {text}");
}
