//! What the configuration names and the router does not have: networks without a device, uplinks that are no zone, a
//! certificate that can be used.

use super::firewall::Files;
use super::uplinks;
use crate::certificate;
use crate::clock::Clock;
use crate::config::uci::{parse, UciFile};
use crate::config::{Config, Problem, Severity};
use std::path::Path;

/// A warning for each, with its line in the file at `path`. Networks and zones are read from the files beside it;
/// where there are none, this is no router, and they are not looked at.
pub fn missing(path: &Path, config: &Config) -> Vec<Problem> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let (files, _) = Files::read_and_ask(dir);
    let own = std::fs::read(path).ok().and_then(|bytes| parse(&bytes).ok()).unwrap_or_default();
    let mut problems: Vec<Problem> = certificate(config, &own).into_iter().collect();
    let mut config = config.clone();
    let is_router = !files.network_names().is_empty();
    let unresolved = match is_router {
        true => config.resolve_networks(&dir.join("network"), &|network| files.attached(network)),
        false => Vec::new(),
    };
    #[cfg(feature = "grpc")]
    problems.extend(super::programs::misplaced(&config, &files, &own));
    if !is_router {
        return problems;
    }
    problems.extend(unresolved.into_iter().map(|problem| {
        let section = problem.section.clone().unwrap_or_default();
        Problem { line: line(&own, &section, "network", None), ..problem }
    }));
    if files.firewall.sections.is_empty() {
        return problems;
    }
    for venue in &config.venues {
        for name in uplinks::zones_of(&config, venue, &files, &[]).unknown {
            let section = match venue.uplinks.is_empty() {
                true => own.of_kind("tollgate").next().map_or("main", |main| &main.name),
                false => &venue.id,
            };
            let problem = Problem {
                line: line(&own, section, "uplink", Some(&name)),
                section: Some(section.to_owned()),
                option: Some("uplink".to_owned()),
                message: format!(
                    "'{name}' is neither a firewall zone nor a network in one: name one that is"
                ),
                severity: Severity::Warning,
            };
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
    problems
}

/// What is wrong with the certificate for https. Sales go on without it.
fn certificate(config: &Config, own: &UciFile) -> Option<Problem> {
    let fault = certificate::check(config.tls.as_ref()?, &Clock::machine())?;
    let section = own.of_kind("tls").next()?;
    Some(Problem {
        line: Some(section.line),
        section: Some(section.name.clone()),
        option: None,
        message: format!("https: {fault}"),
        severity: Severity::Warning,
    })
}

/// Where an option, or this value of its list, stands.
fn line(own: &UciFile, section: &str, option: &str, value: Option<&str>) -> Option<usize> {
    let section = own.sections.iter().find(|found| found.name == section)?;
    let mut items = section.option(option)?.items().iter();
    Some(items.find(|item| value.is_none_or(|value| item.text == value))?.line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::fresh_folder;

    const OWN: &str = "config tollgate 'main'\n\toption enabled '0'\n\tlist uplink 'wan'\n\tlist uplink 'wann'
config venue 'a'\n\toption network 'gests'\nconfig venue 'b'\n\toption network 'guest'\n\tlist uplink 'nowhere'\n";
    const NETWORK: &str = "config interface 'guest'\n\toption device 'br-guest'\n";
    const FIREWALL: &str = "config zone\n\toption name 'wan'\n";

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let dir = fresh_folder();
        for (name, text) in [("tollgate", OWN)].iter().chain(files) {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let path = dir.join("tollgate");
        let (config, _) = Config::load(&path).unwrap();
        let problems = missing(&path, &config);
        std::fs::remove_dir_all(&dir).unwrap();
        problems.iter().map(|problem| format!("{}: {problem}", problem.line.unwrap_or_default())).collect()
    }

    #[test]
    fn networks_and_uplinks_that_are_not_there_are_named_with_their_lines() {
        let found = found(&[("network", NETWORK), ("firewall", FIREWALL)]);
        assert_eq!(found.len(), 3, "{found:?}");
        for (start, words) in [
            ("6: warning: section 'a': option 'network': ", "no network 'gests'"),
            ("4: warning: section 'main': option 'uplink': ", "'wann' is neither"),
            ("9: warning: section 'b': option 'uplink': ", "'nowhere' is neither"),
        ] {
            assert!(found.iter().any(|line| line.starts_with(start) && line.contains(words)), "{found:?}");
        }
    }

    #[test]
    fn on_a_machine_that_is_no_router_nothing_is_missing() {
        assert_eq!(found(&[]), Vec::<String>::new());
        assert_eq!(found(&[("network", "")]), Vec::<String>::new());
    }
}
