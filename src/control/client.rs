//! The other end of the socket: what the command line asks of a daemon.

use super::path;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const MAX_ANSWER: u64 = 4 * 1024 * 1024;

/// Sends an order to the daemon of this `run_dir`. An error if it does not answer within `patience`.
pub fn ask(run_dir: &Path, order: &Value, patience: Duration) -> io::Result<Value> {
    let mut stream = UnixStream::connect(path(run_dir))?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(format!("{order}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_ANSWER)).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}
