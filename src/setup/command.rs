//! `tollgated setup`: asks, shows, makes the changes in one go or not at all.

use super::answers::{self, Answers, Flags, GuestPlace, Wifi, USAGE};
use super::changes::{is_ours, option_text, option_words, WantedSection};
use super::firewall::{zone_name, Files};
use super::uci::{Uci, UciChange};
use super::{guest, uplinks, SetupError};
use crate::config::{Config, Severity};
use crate::network::routes;
use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const VENUE: &str = "tollgate_guest";
const MINT: &str = "tollgate_mint";
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
    let changes = match flags.mode.undo {
        true => undo(&uci)?,
        false => {
            if !flags.say_something() {
                if flags.mode.yes {
                    return Err(SetupError::Usage(format!("--yes needs to be told what to do\n\n{USAGE}")));
                }
                ask(&mut flags, &uci, input, out)?;
            }
            let (answers, notes) = complete(&flags, &uci, dir)?;
            let changes = plan(&answers, &uci)?;
            for note in notes {
                writeln!(out, "# {note}")?;
            }
            changes
        }
    };
    if changes.is_empty() {
        writeln!(out, "nothing to do")?;
        return Ok(false);
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
    apply(&changes, &uci)?;
    if uci.is_the_routers() {
        take_effect(out)?;
    }
    match flags.mode.undo {
        true => writeln!(out, "done; mints and what setup did not make are left as they were")?,
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
    let staged = changes.iter().try_for_each(|change| uci.stage(change)).and_then(|()| usable(uci));
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

/// Answers as they will be carried out, and what the operator should know.
fn complete(flags: &Flags, uci: &Uci, dir: &Path) -> Result<(Answers, Vec<String>), SetupError> {
    let mut answers = flags.answers.clone();
    let mut notes = Vec::new();
    if flags.make_network {
        let network = package(uci, "network")?;
        let made = network.sections.iter().find(|section| section.name == guest::NETWORK);
        let before = made.and_then(|section| {
            let (router, mask) =
                (option_text(section, "ipaddr")?.parse().ok()?, option_text(section, "netmask")?);
            let prefix = u32::from(mask.parse::<std::net::Ipv4Addr>().ok()?).count_ones();
            Some(answers::Subnet { router, prefix })
        });
        let subnet = match flags.subnet.or(before) {
            Some(subnet) => subnet,
            None => guest::free_subnet(&network).ok_or_else(|| {
                SetupError::Refused("no free subnet found: name one with --subnet".to_owned())
            })?,
        };
        if let Some(other) = guest::clash(subnet, &network) {
            return Err(SetupError::Refused(format!(
                "{}/{} overlaps the network '{other}'",
                subnet.router, subnet.prefix
            )));
        }
        answers.place = GuestPlace::Make(subnet);
        notes.extend(no_way_back(dir));
    }
    if let Some(ssid) = &flags.ssid {
        answers.wifi = Some(Wifi { ssid: ssid.clone(), radio: flags.radio.clone() });
        for radio in uci.package("wireless")?.as_ref().map(guest::radios_off).unwrap_or_default() {
            notes.push(format!(
                "{radio} is off; to switch it on: uci delete wireless.{radio}.disabled; uci commit wireless; wifi reload"
            ));
        }
    }
    Ok((answers, notes))
}

/// What the operator should know where guests' packets would leave with addresses that the next router does not know,
/// as on an access point behind the router.
fn no_way_back(dir: &Path) -> Option<String> {
    let (files, _) = Files::read_and_ask(dir);
    let routes: Vec<String> = routes::to_internet().unwrap_or_default().iter().cloned().collect();
    let zones = uplinks::zones_unsaid(&files, &routes);
    let why = match uplinks::unmasked(&zones, &files, &routes) {
        Some(zone) => format!("zone {} leads to the internet and does not masquerade", zone_name(zone)),
        None if zones.is_empty() => "no firewall zone leads to the internet and masquerades".to_owned(),
        None => return None,
    };
    Some(format!("{why}: no answers will come back to guests; 'tollgated check --system' says what mends it"))
}

fn plan(answers: &Answers, uci: &Uci) -> Result<Vec<UciChange>, SetupError> {
    let wireless = uci.package("wireless")?;
    let mut changes = Vec::new();
    for wanted in guest::sections(answers, wireless.as_ref())? {
        changes.extend(wanted.changes(&package(uci, wanted.package)?)?);
    }
    let own = package(uci, "tollgate")?;
    let venues: Vec<_> = own.of_kind("venue").collect();
    let ours = venues.iter().any(|venue| venue.name == VENUE);
    let gated_already = venues.iter().any(|venue| match &answers.place {
        GuestPlace::AsItIs => true,
        GuestPlace::Device(device) => {
            venue.name != VENUE && option_words(venue, "device").contains(&device.as_str())
        }
        GuestPlace::Network(network) => venue.name != VENUE && option_text(venue, "network") == Some(network),
        GuestPlace::Make(_) => false,
    });
    if !gated_already && answers.place == GuestPlace::AsItIs {
        return Err(SetupError::Usage(
            "where are the guests? --guest-network, --device or --network says it".to_owned(),
        ));
    }
    let concerns_venue =
        answers.place != GuestPlace::AsItIs || answers.name.is_some() || answers.step_seconds.is_some();
    if (!gated_already || ours) && concerns_venue {
        let mut venue = WantedSection::new("tollgate", VENUE, "venue");
        if let Some(name) = &answers.name {
            venue = venue.with("name", name);
        } else if !ours {
            venue = venue.with("name", "Wi-Fi");
        }
        if let Some(seconds) = answers.step_seconds {
            venue = venue.with("step_size", seconds.saturating_mul(1000).to_string());
        }
        let path = |option: &str| format!("tollgate.{VENUE}.{option}");
        let other = |option: &str| {
            let there = venues.iter().any(|v| v.name == VENUE && v.option(option).is_some());
            there.then(|| UciChange::Delete(path(option)))
        };
        match &answers.place {
            GuestPlace::AsItIs => {}
            GuestPlace::Device(device) => {
                venue = venue.with_list("device", device);
                changes.extend(other("network"));
            }
            GuestPlace::Network(network) => {
                venue = venue.with("network", network);
                changes.extend(other("device"));
            }
            GuestPlace::Make(_) => {
                venue = venue.with("network", guest::NETWORK);
                changes.extend(other("device"));
            }
        }
        changes.extend(venue.changes(&own)?);
    } else if concerns_venue && answers.place == GuestPlace::AsItIs {
        return Err(SetupError::Refused(
            "the venue was not made by setup: change it in the configuration".to_owned(),
        ));
    }
    if let Some(mint) = &answers.mint {
        let foreign = own
            .of_kind("mint")
            .any(|section| section.name != MINT && option_text(section, "url") == Some(mint.as_str()));
        if !foreign {
            let known = own.sections.iter().find(|section| section.name == MINT);
            let price = answers.price.map(|price| price.to_string());
            let before = known.and_then(|section| option_text(section, "price_per_step")).map(str::to_owned);
            let wanted = WantedSection::new("tollgate", MINT, "mint")
                .with("url", mint.as_str())
                .with("price_per_step", price.or(before).unwrap_or_else(|| "1".to_owned()));
            changes.extend(wanted.changes(&own)?);
        }
    } else if let Some(price) = answers.price {
        if !own.sections.iter().any(|section| section.name == MINT) {
            return Err(SetupError::Usage("--price needs --mint".to_owned()));
        }
        let wanted = WantedSection::new("tollgate", MINT, "mint").with("price_per_step", price.to_string());
        changes.extend(wanted.changes(&own)?);
    }
    let has_mint = answers.mint.is_some() || own.of_kind("mint").next().is_some();
    changes.extend(has_mint.then(|| enabled(&own, "1")).flatten());
    Ok(changes)
}

fn enabled(own: &crate::config::uci::UciFile, value: &str) -> Option<UciChange> {
    let main = own.of_kind("tollgate").next();
    let path = match main {
        Some(section) if section.anonymous => "tollgate.@tollgate[0].enabled".to_owned(),
        Some(section) => format!("tollgate.{}.enabled", section.name),
        None => return None,
    };
    let now = main.and_then(|section| option_text(section, "enabled"));
    (now != Some(value)).then(|| UciChange::Set(path, value.to_owned()))
}

/// What setup made goes; mints and everything the operator wrote stay.
fn undo(uci: &Uci) -> Result<Vec<UciChange>, SetupError> {
    let mut changes = Vec::new();
    for name in PACKAGES {
        let Some(file) = uci.package(name)? else { continue };
        let own = file.sections.iter().filter(|section| is_ours(name, section) && section.name != MINT);
        let gone: Vec<&str> = own.map(|section| section.name.as_str()).collect();
        changes.extend(gone.iter().map(|section| UciChange::Delete(format!("{name}.{section}"))));
        let left = file.of_kind("venue").any(|venue| !gone.contains(&venue.name.as_str()));
        if name == "tollgate" && !gone.is_empty() && !left {
            changes.extend(enabled(&file, "0"));
        }
    }
    Ok(changes)
}

fn ask(flags: &mut Flags, uci: &Uci, input: &mut dyn BufRead, out: &mut dyn Write) -> Result<(), SetupError> {
    let mut question = |text: &str, default: &str, take: Take| question(input, out, text, default, take);
    let answers = &mut flags.answers;
    question("Name that guests see", "Wi-Fi", &mut |text| {
        answers.name = Some(answers::name(text)?);
        Ok(())
    })?;
    let own = package(uci, "tollgate")?;
    let known = own.of_kind("mint").find_map(|section| option_text(section, "url")).unwrap_or_default();
    question("Mint (https://...)", known, &mut |text| {
        answers.mint = Some(answers::mint(text)?);
        Ok(())
    })?;
    question("Price of a minute in sat", "1", &mut |text| {
        answers.price = Some(answers::amount("price", text)?);
        Ok(())
    })?;
    question("Make a guest network for it? y/n", "y", &mut |text| {
        flags.make_network = match text.chars().next() {
            Some('y' | 'Y') => true,
            Some('n' | 'N') => false,
            _ => return Err(SetupError::Usage("y or n".to_owned())),
        };
        Ok(())
    })?;
    if flags.make_network {
        let network = package(uci, "network")?;
        let free = guest::free_subnet(&network).map(|net| format!("{}/{}", net.router, net.prefix));
        question("Its address", &free.unwrap_or_default(), &mut |text| {
            let subnet = answers::subnet(text)?;
            if let Some(other) = guest::clash(subnet, &network) {
                return Err(SetupError::Usage(format!("{text} overlaps the network '{other}'")));
            }
            flags.subnet = Some(subnet);
            Ok(())
        })?;
        question("Name of an open Wi-Fi network into it (- for none)", "-", &mut |text| {
            flags.ssid = if text == "-" { None } else { Some(answers::ssid(text)?) };
            Ok(())
        })
    } else {
        question("Device the guests come in by (as in 'ip link')", "br-guest", &mut |text| {
            flags.answers.place = Flags::parse(&["--device", text])?.answers.place;
            Ok(())
        })
    }
}

/// What becomes of an answer. `SetupError::Usage` asks for another one.
type Take<'a> = &'a mut dyn FnMut(&str) -> Result<(), SetupError>;

/// Asks until the answer can be used; an empty one is `default`.
fn question(
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    text: &str,
    default: &str,
    take: Take,
) -> Result<(), SetupError> {
    loop {
        match default {
            "" => write!(out, "{text}: ")?,
            default => write!(out, "{text} [{default}]: ")?,
        }
        out.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Err(SetupError::Refused("no answer: nothing was changed".to_owned()));
        }
        let line = line.trim();
        match take(if line.is_empty() { default } else { line }) {
            Err(SetupError::Usage(why)) => writeln!(out, "{why}")?,
            done => return done,
        }
    }
}

fn confirmed(input: &mut dyn BufRead, out: &mut dyn Write) -> Result<bool, SetupError> {
    write!(out, "Do this? y/n [n]: ")?;
    out.flush()?;
    let mut line = String::new();
    input.read_line(&mut line)?;
    Ok(line.trim_start().starts_with(['y', 'Y']))
}

fn package(uci: &Uci, name: &str) -> Result<crate::config::uci::UciFile, SetupError> {
    uci.package(name)?
        .ok_or_else(|| SetupError::Refused(format!("there is no configuration '{name}' on this router")))
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
