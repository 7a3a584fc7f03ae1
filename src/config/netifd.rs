//! The device behind a network of `/etc/config/network`, for venues that name a network.
//!
//! Understands what a guest network looks like there: `option device`, and before OpenWrt 21 `option
//! ifname` and bridges by `option type 'bridge'`. An alias (`@lan`) has the device of its network. A network
//! without a device in the file may have one all the same, which netifd attaches (a Wi-Fi network without a
//! bridge): the caller knows it.

use super::problem::shown;
use super::{uci, values, Config, Problem, Severity};
use std::path::Path;

/// Where OpenWrt keeps its networks.
pub const DEFAULT_PATH: &str = "/etc/config/network";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    #[error("{DEFAULT_PATH} cannot be read ({0}): name the interface with list device instead")]
    Unreadable(String),
    #[error("no network {0} in {DEFAULT_PATH}: add it there, or correct the name here")]
    Missing(String),
    #[error("network {0} names no device: add option device to it in {DEFAULT_PATH}")]
    NoDevice(String),
    #[error("network {0}: {1}")]
    BadDevice(String, String),
}

/// Aliases of aliases that are followed.
const MAX_ALIASES: usize = 4;

/// The device of an interface section in the text of a network file.
pub fn device_in(text: &[u8], network: &str) -> Result<String, NetworkError> {
    let file = uci::parse_large(text).map_err(|errors| {
        NetworkError::Unreadable(errors.first().map(ToString::to_string).unwrap_or_default())
    })?;
    let mut name = network.to_owned();
    for _ in 0..MAX_ALIASES {
        let device = written(&file, &name)?;
        match device.strip_prefix('@') {
            Some(of) => name = of.to_owned(),
            None => {
                return values::device(&device)
                    .map_err(|message| NetworkError::BadDevice(shown(network), message))
            }
        }
    }
    Err(NetworkError::NoDevice(shown(network)))
}

/// What the section names, a device or an alias.
fn written(file: &uci::UciFile, network: &str) -> Result<String, NetworkError> {
    let mut interfaces = file.of_kind("interface");
    let section = interfaces
        .find(|section| section.name == network && !section.anonymous)
        .ok_or_else(|| NetworkError::Missing(shown(network)))?;
    let first_word = |name: &str| {
        let item = section.option(name)?.items().first()?;
        item.text.split_ascii_whitespace().next()
    };
    match (first_word("device"), first_word("type"), first_word("ifname")) {
        (Some(device), ..) => Ok(device.to_owned()),
        (None, Some("bridge"), _) => Ok(format!("br-{network}")),
        (None, _, Some(device)) => Ok(device.to_owned()),
        (None, _, None) => Err(NetworkError::NoDevice(shown(network))),
    }
}

/// The file in `run_dir` in which the service notes what netifd attached: a network and its device a line.
pub const ATTACHED: &str = "networks";

/// The device that the service noted for a network.
pub fn attached(run_dir: &Path, network: &str) -> Option<String> {
    let text = std::fs::read_to_string(run_dir.join(ATTACHED)).ok()?;
    let device = text.lines().find_map(|line| line.strip_prefix(network)?.strip_prefix(' '))?;
    values::device(device.trim()).ok()
}

/// As [`device_in`], from a file.
pub fn device_of(path: &Path, network: &str) -> Result<String, NetworkError> {
    let bytes = super::read_file(path).map_err(|error| NetworkError::Unreadable(error.to_string()))?;
    device_in(&bytes, network)
}

impl Config {
    /// Fills in the devices of venues that name a network; to be called again when networks change.
    /// A venue whose network has no device, or one that another venue has, stays without: each such
    /// is a warning, for the rest of the file is as good as before. `attached` knows devices that the file does
    /// not name.
    pub fn resolve_networks(
        &mut self,
        path: &Path,
        attached: &dyn Fn(&str) -> Option<String>,
    ) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut taken: Vec<String> = self
            .venues
            .iter()
            .filter(|venue| venue.network.is_none())
            .flat_map(|venue| venue.devices.clone())
            .collect();
        for venue in &mut self.venues {
            let Some(network) = &venue.network else {
                continue;
            };
            let written = device_of(path, network);
            let device = written.or_else(|error| attached(network).ok_or(error));
            let device =
                device.map_err(|error| error.to_string()).and_then(|device| match taken.contains(&device) {
                    true => Err(format!(
                        "its device {} belongs to another venue already: remove it from one",
                        shown(&device)
                    )),
                    false => Ok(device),
                });
            match device {
                Ok(device) => {
                    taken.push(device.clone());
                    venue.devices = vec![device];
                }
                Err(message) => {
                    venue.devices.clear();
                    problems.push(Problem {
                        line: None,
                        section: Some(venue.id.clone()),
                        option: Some("network".to_owned()),
                        message,
                        severity: Severity::Warning,
                    });
                }
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: &[u8] = b"config interface 'loopback'
\toption device 'lo'

config device
\toption name 'br-guest'
\toption type 'bridge'

config interface 'guest'
\toption device 'br-guest'
\toption proto 'static'

config interface 'old'
\toption type 'bridge'
\toption ifname 'eth0.3 eth1.3'

config interface 'plain'
\toption ifname 'eth0.4'

config interface 'alias'
\toption device '@guest'

config interface 'circle'
\toption device '@circle'

config interface 'empty'
\toption proto 'none'

config interface 'bad'
\toption device 'a;b'
";

    #[test]
    fn a_network_has_the_device_that_its_section_names() {
        for (network, device) in
            [("guest", "br-guest"), ("old", "br-old"), ("plain", "eth0.4"), ("alias", "br-guest")]
        {
            assert_eq!(device_in(NETWORK, network).as_deref(), Ok(device), "{network}");
        }
    }

    #[test]
    fn a_network_without_a_usable_device_is_refused() {
        assert_eq!(device_in(NETWORK, "wan"), Err(NetworkError::Missing("'wan'".to_owned())));
        for network in ["circle", "empty"] {
            assert!(matches!(device_in(NETWORK, network), Err(NetworkError::NoDevice(_))), "{network}");
        }
        for network in ["bad", "loopback"] {
            assert!(matches!(device_in(NETWORK, network), Err(NetworkError::BadDevice(..))), "{network}");
        }
        assert!(matches!(device_in(b"x", "guest"), Err(NetworkError::Unreadable(_))));
    }

    #[test]
    fn venues_get_the_devices_of_their_networks_but_no_device_twice() {
        let text = "config tollgate 'main'\n\toption enabled '0'\n
config venue 'a'\n\toption network 'guest'\n
config venue 'b'\n\tlist device 'br-old'\n
config venue 'c'\n\toption network 'old'\n
config venue 'd'\n\toption network 'nowhere'\n";
        let (mut config, _) = Config::from_uci(text).unwrap();
        let dir = crate::folder::fresh_folder();
        let path = dir.join("network");
        std::fs::write(&path, NETWORK).unwrap();
        let problems = config.resolve_networks(&path, &|_| None);
        assert_eq!(config.venue_of_device("br-guest").unwrap().id, "a");
        assert_eq!(config.venue_of_device("br-old").unwrap().id, "b");
        let sections: Vec<_> = problems.iter().filter_map(|problem| problem.section.as_deref()).collect();
        assert_eq!(sections, ["c", "d"]);
        std::fs::write(dir.join(ATTACHED), "nowhere phy0-ap1\nnowhere2 x\n").unwrap();
        let problems = config.resolve_networks(&path, &|network| attached(&dir, network));
        assert_eq!(problems.len(), 1, "netifd attached one");
        assert_eq!(config.venue_of_device("phy0-ap1").unwrap().id, "d");
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(config.resolve_networks(Path::new("/nonexistent"), &|_| None).len() == 3);
        assert!(config.venue_of_device("br-guest").is_none());
    }
}
