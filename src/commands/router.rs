//! `tollgated run`, `check`, `setup`, `gate release` and `wiring`: what is done on the router itself, with or without
//! a daemon, and never from outside.

use super::Reach::Shell as InShell;
use super::Role::Owner;
use super::Shows::Own;
use super::{Command, CommandError, Ended, Given, Shell};
use crate::config::{check, Config};
use crate::setup::{self, SetupError};
use std::process::ExitCode;

pub static COMMANDS: &[Command] = &[
    Command {
        name: "setup",
        args: "[--yes] [--dry-run] [--undo] [--usage] [--name TEXT] [--mint URL] [--allow-http] [--price SAT] [--step SECONDS] \
               [--megabytes MB] [--grace SECONDS] \
               [--guest-network] [--subnet ADDRESS] [--ssid TEXT] [--radio NAME] [--device NAME] [--network NAME] [--force]",
        role: Owner,
        reach: InShell(set_up),
        shows: Own,
        summary: "make this router ready to sell; asks first (--usage: what may be said beforehand)",
    },
    Command {
        name: "check",
        args: "[--system]",
        role: Owner,
        reach: InShell(checked),
        shows: Own,
        summary: "say what is wrong with the configuration, with line numbers; --system: with this router, and the \
                  command that mends it",
    },
    Command {
        name: "run",
        args: "",
        role: Owner,
        reach: InShell(|shell, _| Ok(Ended::Exit((shell.above.daemon)(shell.config)))),
        shows: Own,
        summary: "run the daemon in the foreground (procd does this)",
    },
    Command {
        name: "gate release",
        args: "[--wait]",
        role: Owner,
        reach: InShell(release),
        shows: Own,
        summary: "take the locks away, the daemon being stopped: guests pass as the firewall says. For removal only; \
                  --wait gives the daemon 20 s to stop",
    },
    Command {
        name: "wiring",
        args: "",
        role: Owner,
        reach: InShell(wiring),
        shows: Own,
        summary: "what the init script tells procd, one 'name value' a line",
    },
];

fn set_up(shell: &mut Shell, given: &Given) -> Result<Ended, CommandError> {
    setup::run(&given.words(), shell.config, shell.input, shell.out).map_err(of_setup)?;
    Ok(Ended::Exit(ExitCode::SUCCESS))
}

fn of_setup(error: SetupError) -> CommandError {
    match error {
        SetupError::Usage(message) => CommandError::Usage(message),
        error => CommandError::Refused("refused", error.to_string()),
    }
}

fn checked(shell: &mut Shell, given: &Given) -> Result<Ended, CommandError> {
    let (text, code) = match given.has("--system") {
        true => setup::system::report(&setup::system::look(shell.config), shell.json),
        false => {
            let loaded = Config::load(shell.config);
            let missing = loaded
                .as_ref()
                .map_or_else(|_| Vec::new(), |(config, _)| setup::missing(shell.config, config));
            check::report(shell.config, &loaded, &missing, shell.json)
        }
    };
    Ok(Ended::Report(text, code == 0))
}

fn release(shell: &mut Shell, given: &Given) -> Result<Ended, CommandError> {
    setup::release(shell.config, given.has("--wait")).map_err(of_setup)?;
    Ok(Ended::Exit(ExitCode::SUCCESS))
}

fn wiring(shell: &mut Shell, _: &Given) -> Result<Ended, CommandError> {
    let text = setup::wiring::wiring(shell.config).map_err(|problems| shell.broken(&problems))?;
    Ok(Ended::Report(text, true))
}
