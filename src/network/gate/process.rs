//! Running `nft -f -`: no shell, input and output bounded, and never longer than a few seconds.

use super::GateError;
use nix::errno::Errno;
use nix::fcntl::{fcntl, FcntlArg, OFlag};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(5);
const COMPLAINT: usize = 2048;

/// procd's jail has an empty environment.
const USUAL_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Feeds `script` to nft as one transaction.
pub(super) fn run(program: &OsString, script: &str) -> Result<(), GateError> {
    start(program, &["-f", "-"], script)
}

/// As [`run`], but the kernel only says whether it would take it.
pub(super) fn try_only(program: &OsString, script: &str) -> Result<(), GateError> {
    start(program, &["-c", "-f", "-"], script)
}

fn start(program: &OsString, arguments: &[&str], script: &str) -> Result<(), GateError> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| USUAL_PATH.into()))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => GateError::NftMissing,
            _ => GateError::NftFailed(error),
        })?;
    let outcome = converse(&mut child, script.as_bytes(), Instant::now() + LIMIT);
    if outcome.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    outcome
}

fn converse(child: &mut Child, script: &[u8], deadline: Instant) -> Result<(), GateError> {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let complaint = exchange(stdin, stderr, script, deadline).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => GateError::NftTimeout(LIMIT),
        _ => GateError::NftFailed(error),
    })?;
    loop {
        match child.try_wait().map_err(GateError::NftFailed)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(GateError::Refused(first_line(&complaint, &status.to_string()))),
            // Its pipes are closed, so it is all but gone.
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            None => return Err(GateError::NftTimeout(LIMIT)),
        }
    }
}

/// Writes the script and reads what nft has to say, until it closes its side.
fn exchange(
    mut stdin: Option<ChildStdin>,
    stderr: Option<ChildStderr>,
    script: &[u8],
    deadline: Instant,
) -> io::Result<Vec<u8>> {
    let mut stderr = stderr.ok_or(io::ErrorKind::BrokenPipe)?;
    let mut rest = script;
    let mut complaint = Vec::new();
    if let Some(stdin) = &stdin {
        fcntl(stdin, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    fcntl(&stderr, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut ready = vec![PollFd::new(stderr.as_fd(), PollFlags::POLLIN)];
        if let Some(stdin) = &stdin {
            ready.push(PollFd::new(stdin.as_fd(), PollFlags::POLLOUT));
        }
        match poll(&mut ready, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(pipe) = &mut stdin {
            match pipe.write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if is_not_ready(&error) => {}
                // It gave up reading; why, it says on the other pipe.
                Err(_) => rest = &[],
            }
            if rest.is_empty() {
                stdin = None;
            }
        }
        let mut chunk = [0u8; 512];
        match stderr.read(&mut chunk) {
            Ok(0) => return Ok(complaint),
            Ok(length) => {
                let room = COMPLAINT.saturating_sub(complaint.len()).min(length);
                complaint.extend(chunk.get(..room).unwrap_or_default());
            }
            Err(error) if is_not_ready(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_not_ready(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn first_line(complaint: &[u8], otherwise: &str) -> String {
    let text = String::from_utf8_lossy(complaint);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or(otherwise);
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    /// A stand-in for nft, alone in a folder that goes with it.
    struct Script(PathBuf);

    impl Script {
        fn new(body: &str) -> Script {
            let path = crate::folder::fresh_folder().join("nft");
            std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
            Script(path)
        }

        fn run(&self, script: &str) -> Result<(), GateError> {
            // Another test's fork may hold the file open for writing for a moment (ETXTBSY).
            loop {
                match run(&self.0.clone().into_os_string(), script) {
                    Err(GateError::NftFailed(e)) if e.raw_os_error() == Some(Errno::ETXTBSY as i32) => {
                        std::thread::yield_now()
                    }
                    outcome => return outcome,
                }
            }
        }
    }

    impl Drop for Script {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(self.0.with_file_name(""));
        }
    }

    #[test]
    fn a_missing_program_is_said_to_be_missing() {
        assert!(matches!(run(&"/nonexistent/nft".into(), ""), Err(GateError::NftMissing)));
    }

    #[test]
    fn a_refusal_carries_the_first_line_of_the_complaint() {
        let nft = Script::new(
            "cat >/dev/null; printf '\\n/dev/stdin:1: Error: No such file\\nmore\\n' >&2; exit 1",
        );
        match nft.run("add table inet tollgate\n") {
            Err(GateError::Refused(line)) => assert_eq!(line, "/dev/stdin:1: Error: No such file"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_flood_of_complaints_and_an_unread_script_neither_hang_nor_grow() {
        let nft = Script::new("exec <&-; head -c 300000 /dev/zero | tr '\\0' x >&2; exit 3");
        match nft.run(&"x".repeat(1 << 20)) {
            Err(GateError::Refused(line)) => assert_eq!(line.len(), 200),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_script_larger_than_a_pipe_arrives_whole() {
        let nft = Script::new("test $(wc -c) = 1048576");
        nft.run(&"x".repeat(1 << 20)).unwrap();
    }

    #[test]
    fn a_hanging_program_is_killed() {
        let nft = Script::new("exec sleep 600");
        let started = Instant::now();
        assert!(matches!(nft.run("x"), Err(GateError::NftTimeout(_))));
        assert!(started.elapsed() < LIMIT + Duration::from_secs(50));
    }
}
