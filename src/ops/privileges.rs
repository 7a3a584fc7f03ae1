//! What the process may do: three capabilities, and no more by any program that it starts. procd's jail gives it just
//! these; where there is no jail (`procd-ujail` is not installed) it gives up the rest itself.
//!
//! The right to read what belongs to others goes too, in the jail and without it.

use caps::errors::CapsError;
use caps::{CapSet, Capability};
use std::path::Path;

/// As in `/etc/capabilities/tollgated.json`: the firewall and routing; ARP probes; ports below 1024.
const NEEDED: [Capability; 3] =
    [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW, Capability::CAP_NET_BIND_SERVICE];

/// Gives up what is not needed. To be called before there is a second thread: each has capabilities of its own.
pub fn give_up(config: &Path) {
    match crate::config::give_to_root(config) {
        Ok(true) => {
            log::info!("{} belongs to root now: the daemon reads nobody else's files", config.display())
        }
        Ok(false) => {}
        Err(err) => {
            log::warn!("{} belongs to another user and cannot be read again: {err}", config.display())
        }
    }
    let done = nix::sys::prctl::set_no_new_privs().map_err(|err| err.to_string());
    if let Err(err) = done.and_then(|()| reduce().map_err(|err| err.to_string())) {
        log::warn!("the daemon keeps rights that it does not need: {err}");
    }
}

fn reduce() -> Result<(), CapsError> {
    if caps::has_cap(None, CapSet::Permitted, Capability::CAP_SETPCAP)? {
        for capability in caps::all().into_iter().filter(|one| !NEEDED.contains(one)) {
            if caps::has_cap(None, CapSet::Bounding, capability)? {
                caps::drop(None, CapSet::Bounding, capability)?;
            }
        }
    }
    // Effective before permitted, which holds it.
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        let mut held = caps::read(None, set)?;
        held.retain(|one| NEEDED.contains(one));
        caps::set(None, set, &held)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_jail_gives_what_the_daemon_keeps() {
        let jail: Value =
            serde_json::from_str(include_str!("../../openwrt/files/tollgated.capabilities.json")).unwrap();
        let mut kept = NEEDED.map(|capability| capability.index());
        kept.sort_unstable();
        for (set, names) in jail.as_object().unwrap() {
            let number = |name: &Value| name.as_str().unwrap().parse::<Capability>().unwrap().index();
            let mut given: Vec<u8> = names.as_array().unwrap().iter().map(number).collect();
            given.sort_unstable();
            assert_eq!(given, kept, "{set}");
        }
    }
}
