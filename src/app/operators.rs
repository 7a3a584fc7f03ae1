//! Watches the operators in the configuration file: an operator who is removed from it is out within seconds, and a
//! newly enrolled one is in, without a reload. Everything else in the file waits for a reload.

use crate::config::Config;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

/// What tells one state of a file from another: its inode, its length, and when it was written.
type Stamp = (u64, u64, i64, i64);

#[derive(Default)]
pub struct OperatorWatch {
    seen: Option<Stamp>,
}

impl OperatorWatch {
    /// Takes over the operators of a file that has changed. A broken one changes nothing.
    pub fn look(&mut self, path: &Path, config: &watch::Sender<Arc<Config>>) {
        let now = stamp(path);
        if now == self.seen {
            return;
        }
        self.seen = now;
        let Ok((new, _)) = Config::load(path) else {
            log::warn!("{} cannot be used: the operators stay those that were there", path.display());
            return;
        };
        let taken = config.send_if_modified(|config| {
            // Where nobody can sign in, the token stays the way in until a reload.
            let token = new.admin.token || config.auth.is_none();
            if config.operators == new.operators && config.admin.token == token {
                return false;
            }
            let mut changed = Config::clone(config);
            changed.operators = new.operators;
            changed.admin.token = token;
            *config = Arc::new(changed);
            true
        });
        if taken {
            log::info!("the operators are those of the file now");
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let about = std::fs::metadata(path).ok()?;
    Some((about.ino(), about.len(), about.mtime(), about.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_taken_over_and_nothing_else() {
        let path = crate::folder::fresh_folder().join("tollgate");
        let write = |level: &str, rest: &str| {
            let text = format!("config tollgate\n\toption enabled '0'\n\toption log_level '{level}'\n{rest}");
            std::fs::write(&path, text).unwrap();
        };
        let key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        let alice = format!(
            "config operator\n\toption name 'alice'\n\toption pubkey '{key}'\n\toption role 'owner'\n"
        );
        write("info", "");
        let (sender, receiver) = watch::channel(Arc::new(Config::load(&path).unwrap().0));
        let mut operators = OperatorWatch::default();
        let mut look = || {
            operators.look(&path, &sender);
            let config = receiver.borrow().clone();
            (config.operators.len(), config.main.log_level)
        };
        assert_eq!(look(), (0, log::LevelFilter::Info));
        write("debug", &alice);
        assert_eq!(look(), (1, log::LevelFilter::Info));
        write("debug", "broken");
        assert_eq!(look().0, 1);
        write("debug", "");
        assert_eq!(look(), (0, log::LevelFilter::Info));
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
