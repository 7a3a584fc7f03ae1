//! Where the internet is, for the gate: by the router's files as they were read with the configuration, and by the
//! kernel's routes, which are looked at again and again.

use crate::config::{netifd, Config};
use crate::network::routes;
use crate::set::SortedSet;
use crate::setup::firewall::Files;
use crate::setup::uplinks;
use std::path::Path;

pub struct UplinkWatch {
    files: Files,
    /// The devices of the default routes when there last were any.
    routes: SortedSet<String>,
}

impl UplinkWatch {
    pub fn read() -> UplinkWatch {
        let dir = Path::new(netifd::DEFAULT_PATH).parent().unwrap_or(Path::new("/"));
        // A machine that is no OpenWrt has neither file; its routes say enough.
        let (files, _) = Files::read(dir);
        let mut uplinks = UplinkWatch { files, routes: SortedSet::new() };
        uplinks.look();
        uplinks
    }

    pub fn devices(&self, config: &Config) -> Vec<String> {
        uplinks::devices_of(config, &self.files, &self.routes).iter().cloned().collect()
    }

    /// Whether other devices lead to the internet now. Where none does, those that did so last are expected back.
    pub fn look(&mut self) -> bool {
        let found = routes::to_internet().unwrap_or_else(|err| {
            log::debug!("the routes cannot be read: {err}");
            SortedSet::new()
        });
        let changed = !found.is_empty() && found != self.routes;
        if changed {
            self.routes = found;
        }
        changed
    }
}
