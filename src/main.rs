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
use tollgated::commands::{carry_out, is_option, manual, Above, Shell};
use tollgated::{app, config, control, ops};

const ABOVE: Above = Above {
    daemon: |config| app::run(config),
    ask: control::ask,
    log: |main| ops::log::start(main.log_target, main.log_format, main.log_level),
};

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
            complain(&format!("{message}\nTry 'tollgated --help'."));
            return ExitCode::from(2);
        }
    };
    let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--version"] => print(concat!("tollgated ", env!("CARGO_PKG_VERSION"), "\n")),
        [] if !line.wants_help => {
            print(&manual::help());
            return ExitCode::from(2);
        }
        // It lists its own flags.
        ["setup"] if line.wants_help => return run(&line, &["setup", "--usage"]),
        words if line.wants_help => print(&manual::help_of(words)),
        words => return run(&line, words),
    }
    ExitCode::SUCCESS
}

fn run(line: &Line, words: &[&str]) -> ExitCode {
    let (mut input, mut out) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut shell =
        Shell { config: &line.config, json: line.json, input: &mut input, out: &mut out, above: &ABOVE };
    let left = carry_out(&mut shell, words);
    print(&left.out);
    if let Some(complaint) = left.complaint {
        complain(&complaint);
    }
    left.status
}

impl Line {
    fn read(mut args: impl Iterator<Item = String>) -> Result<Line, String> {
        let config = PathBuf::from(config::DEFAULT_PATH);
        let mut line = Line { words: Vec::new(), config, json: false, wants_help: false };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "-c" => line.config = PathBuf::from(args.next().ok_or("-c needs a file")?),
                "--json" => line.json = true,
                "-h" | "--help" | "help" => line.wants_help = true,
                "--version" => line.words = vec![arg],
                option if line.words.is_empty() && is_option(option) => {
                    return Err(format!("there is no option {option}"));
                }
                _ => line.words.push(arg),
            }
        }
        Ok(line)
    }
}

/// A reader that has gone away is no failure.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "tollgated: {text}");
}
