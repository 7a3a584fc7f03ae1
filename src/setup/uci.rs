//! Running `uci`: one process per command, arguments as they are.

use super::SetupError;
use crate::config::uci::{parse_large, UciFile};
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The router's own.
const CONFIG_DIR: &str = "/etc/config";

/// One change, printed as the command line that makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UciChange {
    /// `uci set PATH=VALUE`: a section (its type) or an option.
    Set(String, String),
    AddList(String, String),
    Delete(String),
}

/// The configuration in one directory.
pub struct Uci {
    options: Vec<String>,
    is_the_routers: bool,
}

/// Where uci keeps what is not committed, a file a package, and where it waits while we commit.
const STAGED: &str = "/tmp/.uci";
const ASIDE: &str = "/tmp/.uci-tollgated";

/// Changes of others that come back when this is dropped.
pub struct SetAside(Vec<(PathBuf, PathBuf)>);

impl Drop for SetAside {
    fn drop(&mut self) {
        for (staged, aside) in &self.0 {
            let changes = std::fs::read(aside).unwrap_or_default();
            // Somebody may have made others meanwhile.
            let file = std::fs::OpenOptions::new().create(true).append(true).open(staged);
            if file.and_then(|mut file| file.write_all(&changes)).is_ok() {
                let _ = std::fs::remove_file(aside);
            }
        }
        let _ = std::fs::remove_dir(ASIDE);
    }
}

impl Uci {
    pub fn at(dir: &Path) -> Uci {
        let dir = dir.display().to_string();
        if dir == CONFIG_DIR {
            return Uci { options: Vec::new(), is_the_routers: true };
        }
        let options = vec!["-c".to_owned(), dir.clone(), "-t".to_owned(), format!("{dir}/.changes")];
        Uci { options, is_the_routers: false }
    }

    /// Takes the router's uncommitted changes of these packages out of the way, until what is returned is dropped.
    pub fn set_aside(&self, packages: &[&str]) -> std::io::Result<SetAside> {
        let mut aside = SetAside(Vec::new());
        if self.is_the_routers {
            std::fs::create_dir_all(ASIDE)?;
            for package in packages {
                let (from, to) = (Path::new(STAGED).join(package), Path::new(ASIDE).join(package));
                if from.exists() {
                    std::fs::rename(&from, &to)?;
                    aside.0.push((from, to));
                }
            }
        }
        Ok(aside)
    }

    /// Whether this is the configuration that the router runs with.
    pub fn is_the_routers(&self) -> bool {
        self.is_the_routers
    }

    /// A package with its uncommitted changes; `None` if no package has that name.
    pub fn package(&self, name: &str) -> Result<Option<UciFile>, SetupError> {
        match self.run(&["export", name]) {
            Ok(text) => match parse_large(text.as_bytes()) {
                Ok(file) => Ok(Some(file)),
                Err(errors) => {
                    let why = errors.first().map(ToString::to_string).unwrap_or_default();
                    Err(SetupError::Uci(format!("export {name}"), why))
                }
            },
            Err(SetupError::Uci(_, why)) if why.contains("not found") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The text of a package with its uncommitted changes.
    pub fn text(&self, name: &str) -> Result<String, SetupError> {
        self.run(&["export", name])
    }

    pub fn has_uncommitted(&self, package: &str) -> Result<bool, SetupError> {
        Ok(!self.run(&["changes", package])?.trim().is_empty())
    }

    pub fn stage(&self, change: &UciChange) -> Result<(), SetupError> {
        let arguments = change.arguments();
        self.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).map(|_| ())
    }

    pub fn commit(&self, package: &str) -> Result<(), SetupError> {
        self.run(&["commit", package])?;
        match self.has_uncommitted(package)? {
            true => {
                Err(SetupError::Uci(format!("commit {package}"), "the changes are still pending".to_owned()))
            }
            false => Ok(()),
        }
    }

    /// Leaves nothing in a directory that is not the router's own.
    pub fn tidy(&self) {
        if let Some(staging) = self.options.last() {
            let _ = std::fs::remove_dir_all(staging);
        }
    }

    pub fn revert(&self, package: &str) {
        let _ = self.run(&["revert", package]);
    }

    fn run(&self, arguments: &[&str]) -> Result<String, SetupError> {
        let done =
            Command::new("uci").args(&self.options).args(arguments).stdin(Stdio::null()).output().map_err(
                |error| match error.kind() {
                    std::io::ErrorKind::NotFound => SetupError::NoUci,
                    _ => SetupError::Io(error),
                },
            )?;
        if done.status.success() {
            return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&done.stderr);
        let why = said.lines().next().unwrap_or("failed").trim_start_matches("uci: ");
        Err(SetupError::Uci(arguments.join(" "), why.to_owned()))
    }
}

impl UciChange {
    pub fn package(&self) -> &str {
        self.path().split('.').next().unwrap_or_default()
    }

    pub fn path(&self) -> &str {
        let (UciChange::Set(path, _) | UciChange::AddList(path, _) | UciChange::Delete(path)) = self;
        path
    }

    fn arguments(&self) -> Vec<String> {
        match self {
            UciChange::Set(path, value) => vec!["set".to_owned(), format!("{path}={value}")],
            UciChange::AddList(path, value) => vec!["add_list".to_owned(), format!("{path}={value}")],
            UciChange::Delete(path) => vec!["delete".to_owned(), path.clone()],
        }
    }
}

impl fmt::Display for UciChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UciChange::Set(path, value) => write!(f, "uci set {path}={}", quoted(value)),
            UciChange::AddList(path, value) => write!(f, "uci add_list {path}={}", quoted(value)),
            UciChange::Delete(path) => write!(f, "uci delete {path}"),
        }
    }
}

/// As a shell wants it, for those who copy it.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_prints_as_a_line_that_a_shell_reads_back() {
        let change =
            UciChange::Set("tollgate.tollgate_guest.name".to_owned(), "Mama's; $(reboot)".to_owned());
        assert_eq!(change.to_string(), "uci set tollgate.tollgate_guest.name='Mama'\\''s; $(reboot)'");
        assert_eq!(change.arguments()[1], "tollgate.tollgate_guest.name=Mama's; $(reboot)");
        assert_eq!(change.package(), "tollgate");
    }
}
