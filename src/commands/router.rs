//! `tollgated run`, `check`, `setup`, `gate release` and `wiring`: what is done on the router itself, with or without
//! a daemon, and never from outside.

use super::error::INVALID_CONFIG;
use super::Reach::Shell as InShell;
use super::Shows::Own;
use super::{Command, CommandError, Ended, Given, Shell, Told, Whose};
use crate::config::check::{self, Verdict};
use crate::config::Role::Owner;
use crate::config::{Config, RelayConfig};
use crate::json::json;
use crate::setup::{self, SetupError};
use std::io::IsTerminal;
use std::process::ExitCode;

pub static COMMANDS: &[Command] = &[
    Command {
        name: "setup",
        args: "[--yes] [--dry-run] [--undo] [--usage] [--name TEXT] [--mint URL] [--allow-http] [--price SAT] [--step SECONDS] \
               [--megabytes MB] [--grace SECONDS] \
               [--guest-network] [--subnet ADDRESS] [--ssid TEXT] [--radio NAME] [--device NAME] [--network NAME] [--force]",
        role: Owner,
        audited: false,
        moves_money: false,
        whose: Whose::Platform,
        reach: InShell(set_up),
        shows: Own,
        summary: "make this router ready to sell; asks first (--usage: what may be said beforehand)",
    },
    Command {
        name: "check",
        args: "[--system]",
        role: Owner,
        audited: false,
        moves_money: false,
        whose: Whose::Platform,
        reach: InShell(checked),
        shows: Own,
        summary: "say what is wrong with the configuration, with line numbers; --system: with this router, and the \
                  command that mends it",
    },
    Command {
        name: "run",
        args: "",
        role: Owner,
        audited: false,
        moves_money: false,
        whose: Whose::Platform,
        reach: InShell(run),
        shows: Own,
        summary: "run the daemon in the foreground (procd does this)",
    },
    Command {
        name: "relay",
        args: "",
        role: Owner,
        audited: false,
        moves_money: false,
        whose: Whose::Platform,
        reach: InShell(relay),
        shows: Own,
        summary: "run a relay in the foreground, on a server: it takes Daraja's calls for routers that nobody can call \
                  (config relay)",
    },
    Command {
        name: "gate release",
        args: "[--wait]",
        role: Owner,
        audited: false,
        moves_money: false,
        whose: Whose::Platform,
        reach: InShell(release),
        shows: Own,
        summary: "take the locks away, the daemon being stopped: guests pass as the firewall says. For removal only; \
                  --wait gives the daemon 20 s to stop",
    },
    Command {
        name: "wiring",
        args: "",
        role: Owner,
        audited: false,
        moves_money: false,
        whose: Whose::Platform,
        reach: InShell(wiring),
        shows: Own,
        summary: "what the init script tells procd, one 'name value' a line",
    },
];

fn set_up(shell: &mut Shell, given: &Given) -> Result<Ended, CommandError> {
    if !shell.json {
        setup::run(&given.words(), shell.config, shell.input, shell.out).map_err(of_setup)?;
        return Ok(Ended::Exit(ExitCode::SUCCESS));
    }
    if !["--yes", "--dry-run", "--usage"].iter().any(|flag| given.has(flag)) {
        let message =
            "with --json setup asks nothing: it needs --yes or --dry-run, and to be told what to do";
        return Err(CommandError::Usage(message.to_owned()));
    }
    let mut told = Vec::new();
    let changes = setup::run(&given.words(), shell.config, shell.input, &mut told).map_err(of_setup)?;
    let told = String::from_utf8_lossy(&told);
    Ok(Ended::Answer(json!({"changes": changes, "lines": told.lines().collect::<Vec<_>>()})))
}

fn of_setup(error: SetupError) -> CommandError {
    match error {
        SetupError::Usage(message) => CommandError::Usage(message),
        error => CommandError::Refused("refused", error.to_string()),
    }
}

fn checked(shell: &mut Shell, given: &Given) -> Result<Ended, CommandError> {
    let (told, code) = match given.has("--system") {
        true => (of_the_system(shell), "errors_found"),
        false if RelayConfig::is_in(shell.config) => {
            (check::report_relay(shell.config, &RelayConfig::load(shell.config)), INVALID_CONFIG)
        }
        false => {
            let loaded = Config::load_keeping(shell.config);
            let missing = loaded
                .as_ref()
                .map_or_else(|_| Vec::new(), |(config, _)| setup::missing(shell.config, config));
            (check::report(shell.config, &loaded, &missing), INVALID_CONFIG)
        }
    };
    let wrong = (!told.is_good).then_some((code, told.summary));
    Ok(Ended::Told(Told { text: told.text, data: told.data, wrong }))
}

/// The shop may be closed although nothing is wrong with the router. The reason comes first, because people look here
/// first.
fn of_the_system(shell: &Shell) -> Verdict {
    let why: Vec<String> = match shell.answer_of("status") {
        Some(status) => serde_json::from_value(status["not_ready"].clone()).unwrap_or_default(),
        None => vec!["the daemon does not answer; 'tollgated status' says more".to_owned()],
    };
    let mut told = setup::system::report(&setup::system::look(shell.config));
    let lines: String = why.iter().map(|why| format!("nothing is sold now: {why}\n")).collect();
    told.text.insert_str(0, &lines);
    told.data["not_ready"] = why.into();
    told
}

/// The log says it too, but a person who types this looks at the terminal.
fn run(shell: &mut Shell, _: &Given) -> Result<Ended, CommandError> {
    let status = (shell.above.daemon)(shell.config);
    if std::io::stderr().is_terminal() {
        let config = shell.loaded()?;
        if !config.main.enabled {
            let _ = writeln!(shell.out, "switched off in the configuration ({})", shell.config.display());
        }
    }
    Ok(Ended::Exit(status))
}

/// What is wrong with the file is told here: no log is there yet.
fn relay(shell: &mut Shell, _: &Given) -> Result<Ended, CommandError> {
    let (config, warnings) = RelayConfig::load(shell.config).map_err(|problems| shell.broken(&problems))?;
    for warning in &warnings {
        let _ = writeln!(shell.out, "{}: {warning}", shell.config.display());
    }
    Ok(Ended::Exit((shell.above.relay)(shell.config, config)))
}

fn release(shell: &mut Shell, given: &Given) -> Result<Ended, CommandError> {
    setup::release(shell.config, given.has("--wait")).map_err(of_setup)?;
    Ok(Told::well(String::new(), json!({"released": true})))
}

fn wiring(shell: &mut Shell, _: &Given) -> Result<Ended, CommandError> {
    let text = setup::wiring::wiring(shell.config).map_err(|problems| shell.broken(&problems))?;
    let data = json!({"lines": text.lines().collect::<Vec<_>>()});
    Ok(Told::well(text, data))
}
