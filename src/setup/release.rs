//! `tollgated gate release`: both locks away, when the program leaves the router.

use super::SetupError;
use crate::config::{run_dir_of, Config, DEFAULT_RUN_DIR};
use crate::network::gate::visit;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// As long as procd waits before it kills, and a little more.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const STATE_DIR: &str = "/etc/tollgate";

/// Refuses while a daemon runs, which would put the locks back within seconds. With `wait`, one that is
/// about to stop is waited for.
pub fn release(config: &Path, wait: bool) -> Result<(), SetupError> {
    let deadline = Instant::now() + if wait { PATIENCE } else { Duration::ZERO };
    while daemon_runs(config) {
        if Instant::now() >= deadline {
            return Err(SetupError::Refused(
                "the daemon runs and would put the locks back: '/etc/init.d/tollgated stop' first".to_owned(),
            ));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    visit::release().map_err(|error| SetupError::Refused(error.to_string()))
}

/// By its control socket or its hold on the store: it may have only one of them.
fn daemon_runs(config: &Path) -> bool {
    let state_dir = Config::load(config).map_or_else(|_| PathBuf::from(STATE_DIR), |(c, _)| c.main.state_dir);
    let held = File::open(state_dir.join("lock")).is_ok_and(|file| {
        matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
    });
    let run_dir = run_dir_of(config).unwrap_or_else(|| PathBuf::from(DEFAULT_RUN_DIR));
    held || UnixStream::connect(run_dir.join("control.sock")).is_ok()
}
