//! `tollgated setup`: asks, shows, makes the changes in one go or not at all.

use super::answers::{Flags, USAGE};
use super::changes::{is_ours, option_text, option_words};
use super::place::RouterFacts;
use super::plan::{enabled, package, plan, MINT};
use super::questions::ask;
use super::uci::{Uci, UciChange};
use super::{mint, release, SetupError};
use crate::config::{Config, Severity};
use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// The packages in which setup leaves anything, in the order of undoing.
const PACKAGES: [&str; 5] = ["tollgate", "wireless", "dhcp", "firewall", "network"];
const OWN_INIT: &str = "/etc/init.d/tollgated";

/// Runs `tollgated setup ARGUMENTS`. True when something was changed, or would be.
pub fn run(
    arguments: &[&str],
    config: &Path,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
) -> Result<bool, SetupError> {
    let mut flags = Flags::parse(arguments)?;
    if flags.mode.usage {
        write!(out, "{USAGE}")?;
        return Ok(false);
    }
    let dir = config.parent().unwrap_or(Path::new("/"));
    if config.file_name().is_none_or(|name| name != "tollgate") {
        return Err(SetupError::Usage(
            "setup needs a configuration file that is named 'tollgate'".to_owned(),
        ));
    }
    let uci = Uci::at(dir);
    let around = RouterFacts::look(dir, uci.is_the_routers());
    let mut stays = Vec::new();
    let changes = match flags.mode.undo {
        true => {
            // What was made goes, even if other changes are not committed.
            let _aside = uci.set_aside(&PACKAGES)?;
            let (changes, unread) = undo(&uci);
            stays = unread;
            changes
        }
        false => {
            if !flags.say_something() {
                if flags.mode.yes {
                    return Err(SetupError::Usage(format!("--yes needs to be told what to do\n\n{USAGE}")));
                }
                ask(&mut flags, &uci, &around, input, out)?;
            }
            let plan = plan(&flags, &uci, &around)?;
            let summary = if plan.changes.is_empty() { Vec::new() } else { plan.summary };
            let named = flags.answers.mint.as_ref().filter(|_| !plan.changes.is_empty());
            let tried = named.map(|mint| Ok::<_, SetupError>(mint::tried(mint, &package(&uci, "tollgate")?)));
            for line in summary.iter().chain(&plan.notes).chain(&tried.transpose()?) {
                writeln!(out, "# {line}")?;
            }
            plan.changes
        }
    };
    if changes.is_empty() {
        stayed(&stays)?;
        writeln!(out, "nothing to do")?;
        return Ok(false);
    }
    for line in lost(&changes, &uci)? {
        writeln!(out, "# {line}")?;
    }
    for change in &changes {
        writeln!(out, "{change}")?;
    }
    for package in packages(&changes) {
        writeln!(out, "uci commit {package}")?;
    }
    if flags.mode.dry_run {
        return Ok(true);
    }
    if !flags.mode.yes && !confirmed(input, out)? {
        writeln!(out, "nothing was changed")?;
        return Ok(false);
    }
    let aside = flags.mode.undo.then(|| uci.set_aside(&PACKAGES)).transpose()?;
    apply(&changes, &uci)?;
    drop(aside);
    if uci.is_the_routers() {
        take_effect(out)?;
    }
    match flags.mode.undo {
        true => {
            if uci.is_the_routers() {
                // Guests of a network that was there before are online again as the firewall says.
                if let Err(why) = let_go(&uci, config, &changes) {
                    writeln!(out, "# guests stay locked out: {why}; then 'tollgated gate release'")?;
                }
            }
            stayed(&stays)?;
            writeln!(out, "done; mints and what setup did not make are left as they were")?;
        }
        false => writeln!(out, "done; 'tollgated check --system' tells what is missing yet")?,
    }
    Ok(true)
}

/// All of it or nothing: staged, tried against our own reading of the result, and only then committed.
fn apply(changes: &[UciChange], uci: &Uci) -> Result<(), SetupError> {
    let touched = packages(changes);
    for package in &touched {
        if uci.has_uncommitted(package)? {
            return Err(SetupError::Uncommitted((*package).to_owned()));
        }
    }
    let is_own = touched.contains(&"tollgate");
    let staged = changes.iter().try_for_each(|change| uci.stage(change));
    let staged = staged.and_then(|()| if is_own { usable(uci) } else { Ok(()) });
    if let Err(error) = staged {
        touched.iter().for_each(|package| uci.revert(package));
        return Err(error);
    }
    touched.iter().try_for_each(|package| uci.commit(package))?;
    uci.tidy();
    Ok(())
}

fn usable(uci: &Uci) -> Result<(), SetupError> {
    match Config::from_uci(&uci.text("tollgate")?) {
        Ok(_) => Ok(()),
        Err(problems) => {
            let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
            let text: Vec<String> = errors.map(ToString::to_string).collect();
            Err(SetupError::Refused(format!("the configuration could not be used: {}", text.join("; "))))
        }
    }
}

/// netifd, fw4, dnsmasq and hostapd notice by procd's triggers; our own service is started.
fn take_effect(out: &mut dyn Write) -> Result<(), SetupError> {
    let mut run = |program: &str, arguments: &[&str]| -> Result<(), SetupError> {
        let mut command = Command::new(program);
        match command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status() {
            Ok(status) if status.success() => {}
            Ok(status) => writeln!(out, "# {program} {}: {status}", arguments.join(" "))?,
            Err(error) => writeln!(out, "# {program}: {error}")?,
        }
        Ok(())
    };
    run("reload_config", &[])?;
    if Path::new(OWN_INIT).exists() {
        run(OWN_INIT, &["reload"])?;
    }
    Ok(())
}

/// What setup made goes; mints and everything the operator wrote stay. A package that cannot be read keeps nothing else
/// from going: why it could not is told besides.
fn undo(uci: &Uci) -> (Vec<UciChange>, Vec<SetupError>) {
    let (mut changes, mut unread) = (Vec::new(), Vec::new());
    for name in PACKAGES {
        let file = match uci.package(name) {
            Ok(Some(file)) => file,
            Ok(None) => continue,
            Err(error) => {
                unread.push(error);
                continue;
            }
        };
        let own = file.sections.iter().filter(|section| is_ours(name, section) && section.name != MINT);
        let gone: Vec<&str> = own.map(|section| section.name.as_str()).collect();
        changes.extend(gone.iter().map(|section| UciChange::Delete(format!("{name}.{section}"))));
        let left = file.of_kind("venue").any(|venue| !gone.contains(&venue.name.as_str()));
        if name == "tollgate" && !gone.is_empty() && !left {
            changes.extend(enabled(&file, "0"));
        }
    }
    (changes, unread)
}

/// What was made in files that cannot be read is left there.
fn stayed(unread: &[SetupError]) -> Result<(), SetupError> {
    let why: Vec<String> = unread.iter().map(ToString::to_string).collect();
    match why.is_empty() {
        true => Ok(()),
        false => Err(SetupError::Refused(format!("what setup made there stays: {}", why.join("; ")))),
    }
}

/// With no venue left the locks go; with others a daemon that runs takes away those of devices that it has no more.
fn let_go(uci: &Uci, config: &Path, changes: &[UciChange]) -> Result<(), SetupError> {
    let own = package(uci, "tollgate")?;
    if own.of_kind("venue").next().is_none() {
        return release(config, true);
    }
    let is_off = own.of_kind("tollgate").any(|main| option_text(main, "enabled") == Some("0"));
    match is_off && changes.iter().any(|change| change.package() == "tollgate") {
        true => Err(SetupError::Refused(
            "other venues are left, and the service that tells them apart is switched off".to_owned(),
        )),
        false => Ok(()),
    }
}

/// What was there before and will not be, in words.
fn lost(changes: &[UciChange], uci: &Uci) -> Result<Vec<String>, SetupError> {
    let mut lines = Vec::new();
    for name in packages(changes) {
        let file = uci.package(name)?.unwrap_or_default();
        for change in changes.iter().filter(|change| change.package() == name) {
            let path = change.path();
            let mut names = path.splitn(3, '.').skip(1);
            let (section, option) = (names.next().unwrap_or_default(), names.next());
            let Some(found) = file.sections.iter().find(|found| found.name == section) else { continue };
            match (change, option) {
                (UciChange::Delete(_), None) => {
                    let options: Vec<&str> =
                        found.options.iter().map(|option| option.name.as_str()).collect();
                    lines.push(format!("{path} goes ({}: {})", found.kind, options.join(", ")));
                }
                (UciChange::Delete(_), Some(option)) => {
                    lines.push(format!("{path} goes: it was '{}'", option_words(found, option).join(" ")));
                }
                (UciChange::Set(..), Some(option)) if found.option(option).is_some() => {
                    lines.push(format!("{path} was '{}'", option_words(found, option).join(" ")));
                }
                _ => {}
            }
        }
    }
    Ok(lines)
}

fn confirmed(input: &mut dyn BufRead, out: &mut dyn Write) -> Result<bool, SetupError> {
    write!(out, "Do this? y/n [n]: ")?;
    out.flush()?;
    let mut line = String::new();
    match input.read_line(&mut line)? {
        0 => Err(SetupError::Refused("no answer: nothing was changed".to_owned())),
        _ => Ok(line.trim_start().starts_with(['y', 'Y'])),
    }
}

fn packages(changes: &[UciChange]) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for change in changes {
        if !found.contains(&change.package()) {
            found.push(change.package());
        }
    }
    found
}
