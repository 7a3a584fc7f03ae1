//! The control socket: one JSON line in, one JSON line out.
//!
//! `{"command": "grant", "args": ["02:00:00:00:00:01", "1h"]}` is answered `{"ok": true, "data": ...}` or `{"ok":
//! false, "code": ..., "message": ...}`. The socket is 0600 in `run_dir`: a process that may open it may command.
//! What is for the router's own shell is refused; the daemon's part of such a command is asked for as `{"errand":
//! ..., "args": ...}`.
//!
//! An order may bring its `"request_id"`; otherwise one is made. It is in the answer, and in what is logged meanwhile.

mod client;

pub use client::ask;

use crate::commands::{by_socket, envelope, errand, CommandError, Desk};
use crate::correlation::{self, CorrelationId};
use crate::task;
use serde_json::Value;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// The longest is a token that the wallet is to receive.
const MAX_LINE: u64 = 80 * 1024;
const LINE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the socket of a run directory is.
pub fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("control.sock")
}

/// Opens the socket. One that a dead daemon left behind is replaced.
pub fn listen(run_dir: &Path) -> io::Result<UnixListener> {
    std::fs::create_dir_all(run_dir)?;
    let path = path(run_dir);
    match std::fs::remove_file(&path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves commands until dropped.
pub async fn serve(listener: UnixListener, desk: Arc<Desk>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = desk.clone();
                task::spawn(async move {
                    if let Err(err) = converse(stream, &desk).await {
                        log::debug!("control socket: {err}");
                    }
                });
            }
            Err(err) => {
                log::warn!("control socket: {err}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, desk: &Desk) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(MAX_LINE));
    tokio::time::timeout(LINE_TIMEOUT, reader.read_line(&mut line)).await??;
    write.write_all(format!("{}\n", answer(&line, desk).await).as_bytes()).await
}

async fn answer(line: &str, desk: &Desk) -> Value {
    let order: Value = serde_json::from_str(line).unwrap_or_default();
    let id = order["request_id"].as_str().and_then(CorrelationId::parse).unwrap_or_else(CorrelationId::make);
    let mut answer = envelope(&correlation::within(id.clone(), carry_out(&order, desk)).await);
    answer["request_id"] = id.as_str().into();
    answer
}

async fn carry_out(order: &Value, desk: &Desk) -> Result<Value, CommandError> {
    if !order.is_object() {
        return Err(CommandError::Usage("not a JSON object".to_owned()));
    }
    let text = |name: &str| order.get(name).and_then(Value::as_str);
    let args = order.get("args").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    match (text("command"), text("errand")) {
        (None, Some(first)) => errand(desk, &[first].into_iter().chain(args).collect::<Vec<_>>()).await,
        (first, _) => by_socket(desk, &first.into_iter().chain(args).collect::<Vec<_>>()).await,
    }
}

#[cfg(test)]
mod tests;
