//! Folders for tests.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A new, empty directory. Never one that is there: it may be of a process that was killed and had our number before us.
pub(crate) fn fresh_folder() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    loop {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("tollgated-test-{}-{number}", std::process::id()));
        match fs::create_dir(&dir) {
            Ok(()) => return dir,
            Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{}: {error}", dir.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_somebody_left_behind_is_nobodys_again() {
        let dir = fresh_folder();
        let number: usize = dir.to_str().unwrap().rsplit_once('-').unwrap().1.parse().unwrap();
        // Those that the next tests would be given, as far as they do not have them by now.
        let left: Vec<_> = (number + 1..number + 20)
            .map(|next| dir.with_file_name(format!("tollgated-test-{}-{next}", std::process::id())))
            .filter(|left| fs::create_dir(left).is_ok())
            .collect();
        let fresh = fresh_folder();
        assert!(!left.contains(&fresh) && fs::read_dir(&fresh).unwrap().next().is_none());
        for dir in left.iter().chain([&dir, &fresh]) {
            fs::remove_dir(dir).unwrap();
        }
    }
}
