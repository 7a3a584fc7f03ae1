//! Writes an operator into the configuration's file. Everything that is there stays, comments too.

use super::operators::OperatorConfig;
use super::{read_file, Config};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Two at a time would write over each other's new file.
static WRITING: Mutex<()> = Mutex::new(());
/// How often to start again if others write the file at the same time.
const TRIES: usize = 3;

/// Why an operator is not in the file.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    #[error("{0}")]
    File(#[from] std::io::Error),
    /// With the new section the file would be invalid.
    #[error("{0}")]
    Problem(String),
    #[error("the file is changed again and again")]
    Busy,
}

/// Adds an operator's section to the file, behind all that is there. The file is replaced as a whole, or not at all.
pub fn enroll(path: &Path, operator: &OperatorConfig) -> Result<(), EnrolError> {
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    // A file that is a link stays one.
    let path = &std::fs::canonicalize(path)?;
    for _ in 0..TRIES {
        let before = read_file(path)?;
        let mut text = String::from_utf8(before.clone())
            .map_err(|_| EnrolError::Problem("the configuration is not UTF-8".to_owned()))?;
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&operator.to_uci());
        Config::from_uci(&text).map_err(|problems| {
            EnrolError::Problem(problems.first().map(ToString::to_string).unwrap_or_default())
        })?;
        let (new, about) = (path.with_file_name(".tollgate.new"), std::fs::metadata(path)?);
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(about.permissions().mode() & 0o777)
            .open(&new)?;
        // Set again, because the umask may have taken bits from the mode above.
        let written = file.set_permissions(about.permissions());
        let written = written.and_then(|()| file.write_all(text.as_bytes())).and_then(|()| file.sync_all());
        // What others have written meanwhile must not be lost.
        let is_as_it_was = written.and_then(|()| Ok(read_file(path)? == before));
        match is_as_it_was {
            Ok(true) => {
                std::fs::rename(&new, path)?;
                return Ok(path.parent().map_or(Ok(()), |dir| std::fs::File::open(dir)?.sync_all())?);
            }
            Ok(false) => std::fs::remove_file(&new)?,
            Err(error) => {
                let _ = std::fs::remove_file(&new);
                return Err(error.into());
            }
        }
    }
    Err(EnrolError::Busy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;

    const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    fn operator(name: &str) -> OperatorConfig {
        OperatorConfig { name: name.to_owned(), key: crate::hex::decode(KEY).unwrap(), role: Role::Owner }
    }

    #[test]
    fn those_who_come_at_once_are_all_written() {
        let dir = crate::folder::fresh_folder();
        let file = dir.join("tollgate");
        std::fs::write(&file, "config tollgate\n\toption enabled '0'\n").unwrap();
        let added = &|number: u8| {
            let secret = k256::SecretKey::from_slice(&[number; 32]).unwrap();
            let key = secret.public_key().to_sec1_bytes()[..].try_into().unwrap();
            let operator = OperatorConfig { name: format!("number-{number}"), key, role: Role::Viewer };
            enroll(&file, &operator).unwrap();
        };
        std::thread::scope(|scope| {
            for number in 1..=8 {
                scope.spawn(move || added(number));
            }
        });
        assert_eq!(Config::load(&file).unwrap().0.operators.len(), 8);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_section_is_added_and_all_that_is_there_stays() {
        let dir = crate::folder::fresh_folder();
        let (file, link) = (dir.join("tollgate"), dir.join("link"));
        let text = "# mine\nconfig tollgate\n\toption enabled '0' # not yet";
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        enroll(&link, &operator("alice")).unwrap();
        let written = std::fs::read_to_string(&file).unwrap();
        let section = format!(
            "config operator\n\toption name 'alice'\n\toption pubkey '{KEY}'\n\toption role 'owner'\n"
        );
        assert_eq!(written, format!("{text}\n\n{section}"));
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(Config::load(&file).unwrap().0.operators, [operator("alice")]);
        assert!(matches!(enroll(&file, &operator("bob")), Err(EnrolError::Problem(_))), "the same key");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), written);
        let names = std::fs::read_dir(&dir).unwrap().count();
        assert_eq!(names, 2, "nothing is left over");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
