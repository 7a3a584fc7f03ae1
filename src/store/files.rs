//! The state directory: which files the store keeps there, with which modes, and what shows that there was
//! a store before.
//!
//! | file | what |
//! | --- | --- |
//! | `store.db`, `store.db-wal` | the database (there is no `-shm`: the lock is exclusive) |
//! | `store.db.new` | a database in the making; renamed when complete, deleted when found |
//! | `store.made` | says that a database was made here, so that a vanished one is noticed |
//! | `lock` | held while a process has the store open |
//! | `<name>.key` | a secret, see `keyfile` |
//! | `corrupt-<digest>/` | copy of a damaged database |

use super::StoreError;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// More damaged states than this are not copied: the first ones are what a repair needs, and the flash is small.
const COPIES: usize = 2;

/// The longest wait, in all, for another process that dies, or was told to stop and still writes to a slow flash.
const LOCK_TRIES: u32 = 100;
const LOCK_AGAIN: Duration = Duration::from_millis(20);

/// What a copy must leave free on the file system (bytes).
const LEFT_FREE: u64 = 1024 * 1024;

const MADE: &[u8] =
    b"tollgated has made its database (store.db) in this directory. While this file is here, a missing\n\
store.db counts as damage: nothing is sold, and no new database is made in its place.\n";

/// Who holds a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreHolder {
    Daemon,
    /// A command, which is done with it within a minute or so.
    Command,
}

impl StoreHolder {
    /// What the lock's file says.
    fn word(self) -> &'static [u8] {
        match self {
            StoreHolder::Daemon => b"daemon\n",
            StoreHolder::Command => b"command\n",
        }
    }
}

/// Whether a database was made in this directory.
pub(super) fn is_made(dir: &Path) -> bool {
    ["store.db", "store.made"].iter().any(|name| dir.join(name).exists())
}

/// Where the key of this name is.
pub(super) fn key(state_dir: &Path, name: &str) -> PathBuf {
    state_dir.join(format!("{name}.key"))
}

/// The paths of one state directory.
#[derive(Clone)]
pub(super) struct DatabaseFiles {
    dir: PathBuf,
}

impl DatabaseFiles {
    /// Makes the directory if need be and closes it to other users.
    pub fn new(dir: &Path) -> io::Result<DatabaseFiles> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        close_to_others(dir, 0o700)?;
        Ok(DatabaseFiles { dir: dir.to_owned() })
    }

    pub fn database(&self) -> PathBuf {
        self.dir.join("store.db")
    }

    pub fn wal(&self) -> PathBuf {
        self.dir.join("store.db-wal")
    }

    pub fn new_database(&self) -> PathBuf {
        self.dir.join("store.db.new")
    }

    pub fn key(&self, name: &str) -> PathBuf {
        key(&self.dir, name)
    }

    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Held until dropped; the kernel frees it if the process dies.
    pub fn lock(&self, holder: StoreHolder) -> Result<Flock<File>, StoreError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.dir.join("lock"))?;
        // A program that a killed daemon was just starting has the lock for the moment until it runs.
        let mut tries = LOCK_TRIES;
        let mut asked = Flock::lock(file, FlockArg::LockExclusiveNonblock);
        loop {
            asked = match asked {
                Ok(lock) => {
                    // A lock without the word is a lock all the same: on a full flash, say.
                    if word_of(&lock) != holder.word() {
                        let _ = lock.set_len(0).and_then(|()| lock.write_all_at(holder.word(), 0));
                    }
                    return Ok(lock);
                }
                Err((file, Errno::EWOULDBLOCK)) if tries == 0 => {
                    return Err(match word_of(&file) == StoreHolder::Command.word() {
                        true => StoreError::HeldByCommand,
                        false => StoreError::InUse,
                    });
                }
                Err((file, Errno::EWOULDBLOCK)) => {
                    std::thread::sleep(LOCK_AGAIN);
                    Flock::lock(file, FlockArg::LockExclusiveNonblock)
                }
                Err((_, errno)) => return Err(StoreError::Io(errno.into())),
            };
            tries = tries.saturating_sub(1);
        }
    }

    /// Why there must have been a store here before, if there is reason to think so.
    pub fn evidence(&self) -> io::Result<Option<String>> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let left_by_a_store = match &*name {
                "store.made" => true,
                "store.db-wal" => entry.metadata()?.len() > 0,
                name => name.ends_with(".key"),
            };
            if left_by_a_store {
                return Ok(Some(format!("store.db is missing beside {name}")));
            }
        }
        Ok(None)
    }

    /// Removes a database whose making was interrupted, and makes its file anew, empty and with the right
    /// mode: SQLite gives the files beside it the same.
    pub fn start_new_database(&self) -> io::Result<PathBuf> {
        self.discard_new_database()?;
        let new = self.new_database();
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        Ok(new)
    }

    /// Removes a database in the making.
    pub fn discard_new_database(&self) -> io::Result<()> {
        for file in ["", "-wal", "-journal"] {
            remove_if_there(&suffixed(&self.new_database(), file))?;
        }
        Ok(())
    }

    /// Puts the complete new database in its place.
    pub fn finish_new_database(&self) -> io::Result<()> {
        let new = self.new_database();
        File::open(&new)?.sync_all()?;
        fs::rename(&new, self.database())?;
        self.sync_dir()
    }

    /// Notes that a database was made here. A power cut before this leaves a database without the note,
    /// which the next start adds.
    pub fn note_made(&self) -> io::Result<()> {
        let path = self.dir.join("store.made");
        if !path.try_exists()? {
            self.write_durably(&path, MADE)?;
        }
        Ok(())
    }

    /// Writes a file so that after a power cut it is there completely or not at all. Mode 0600.
    pub fn write_durably(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let new = suffixed(path, ".new");
        remove_if_there(&new)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let written = file.write_all(contents).and_then(|()| file.sync_all());
        if let Err(error) = written {
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        fs::rename(&new, path)?;
        self.sync_dir()
    }

    /// Bytes an unprivileged process could still write here.
    #[allow(clippy::useless_conversion, reason = "32-bit targets count in u32")]
    pub fn free_bytes(&self) -> io::Result<u64> {
        let fs = nix::sys::statvfs::statvfs(&self.dir)?;
        Ok(u64::from(fs.blocks_available()).saturating_mul(u64::from(fs.fragment_size())))
    }

    /// Copies the damaged files to `corrupt-<digest>/`, once for each distinct content, at most `COPIES`
    /// of them and only where there is room. The files themselves are only read. A copy that fails is
    /// logged: the originals are what counts.
    pub fn copy_aside(&self) {
        match self.try_copy_aside() {
            Ok(Some(copy)) => log::warn!("store: damaged files copied to {}", copy.display()),
            Ok(None) => {}
            Err(error) => log::error!("store: damaged files could not be copied aside: {error}"),
        }
    }

    fn try_copy_aside(&self) -> io::Result<Option<PathBuf>> {
        let files = ["store.db", "store.db-wal", "store.db-shm", "store.db-journal"];
        let files: Vec<&str> = files.into_iter().filter(|name| self.dir.join(name).is_file()).collect();
        let mut digest = Sha256::new();
        let mut size = 0u64;
        for name in &files {
            digest.update(name);
            size = size.saturating_add(self.feed(name, &mut digest)?);
        }
        let digest: String = digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();

        let copy = self.dir.join(format!("corrupt-{digest}"));
        if files.is_empty() || copy.is_dir() {
            return Ok(None);
        }
        if self.copies()? >= COPIES || self.free_bytes()? < size.saturating_add(LEFT_FREE) {
            log::warn!("store: no room for a copy of the damaged files, they stay where they are");
            return Ok(None);
        }

        let unfinished = self.dir.join("copying");
        if unfinished.is_dir() {
            fs::remove_dir_all(&unfinished)?;
        }
        DirBuilder::new().mode(0o700).create(&unfinished)?;
        for name in &files {
            let mut to =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(unfinished.join(name))?;
            io::copy(&mut File::open(self.dir.join(name))?, &mut to)?;
            to.sync_all()?;
        }
        sync_dir(&unfinished)?;
        fs::rename(&unfinished, &copy)?;
        self.sync_dir()?;
        Ok(Some(copy))
    }

    /// Feeds a file into the digest; returns its length in bytes.
    fn feed(&self, name: &str, digest: &mut Sha256) -> io::Result<u64> {
        let mut file = File::open(self.dir.join(name))?;
        let mut buffer = [0; 4096];
        let mut length = 0u64;
        loop {
            let count = match file.read(&mut buffer) {
                Ok(0) => return Ok(length),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let Some(read) = buffer.get(..count) else { return Err(ErrorKind::InvalidData.into()) };
            digest.update(read);
            length = length.saturating_add(read.len().try_into().unwrap_or(u64::MAX));
        }
    }

    fn copies(&self) -> io::Result<usize> {
        let mut copies = 0usize;
        for entry in fs::read_dir(&self.dir)? {
            if entry?.file_name().to_string_lossy().starts_with("corrupt-") {
                copies = copies.saturating_add(1);
            }
        }
        Ok(copies)
    }

    fn sync_dir(&self) -> io::Result<()> {
        sync_dir(&self.dir)
    }
}

/// What the lock's file says of its holder.
fn word_of(file: &File) -> Vec<u8> {
    let mut word = vec![0; 16];
    let length = file.read_at(&mut word, 0).unwrap_or_default();
    word.truncate(length);
    word
}

/// Takes the rights of group and others away, if they have any.
pub(super) fn close_to_others(path: &Path, mode: u32) -> io::Result<()> {
    if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
