//! Where log lines go: syslog (ident `tollgated`, facility daemon), or stderr while developing.
//!
//! Only our own lines: what the libraries log about requests and frames may hold tokens and invoices.

use crate::clock::timestamp;
use crate::config::{LogFormat, LogTarget};
use crate::correlation::{self, CorrelationId};
use crate::json::json;
use log::{Level, LevelFilter, Log, Metadata, Record};
use serde_json::Value;
use std::fmt::Display;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::panic::Location;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use syslog::{Facility, Logger, LoggerBackend, Severity};

/// Where syslog daemons listen.
const SYSLOG: &str = "/dev/log";

/// Starts logging. Without a syslog daemon the lines go to stderr, which procd forwards.
pub fn start(target: LogTarget, format: LogFormat, level: LevelFilter) {
    std::panic::set_hook(Box::new(move |panic| report_fault(target, format, panic.location())));
    let sink: Box<dyn Log> = match target {
        LogTarget::Syslog => syslog_logger(format).unwrap_or_else(|| Box::new(Stderr(format))),
        LogTarget::Stderr => Box::new(Stderr(format)),
    };
    if log::set_boxed_logger(Box::new(OurOwn(sink))).is_ok() {
        log::set_max_level(level);
    }
}

/// Says where the program failed, in one line. It does not say why: a panic's message may hold what a guest sent. It
/// does not use the logger, which may be what failed. Without a syslog daemon the line goes to stderr, which procd
/// forwards.
fn report_fault(target: LogTarget, format: LogFormat, place: Option<&Location>) {
    let line = match format {
        LogFormat::Text => fault(place),
        LogFormat::Json => as_json_line("error", &fault(place)).to_string(),
    };
    let sent = || UnixDatagram::unbound()?.send_to(&error_packet(&line), SYSLOG);
    if target == LogTarget::Stderr || sent().is_err() {
        let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
    }
}

fn error_packet(line: &str) -> Vec<u8> {
    let mut packet = Vec::new();
    let rfc3164 = Rfc3164 { pid: std::process::id() };
    let _ = syslog::LogFormat::format(&rfc3164, &mut packet, Severity::LOG_ERR, line);
    packet
}

fn fault(place: Option<&Location>) -> String {
    let place = place.map_or("an unknown place".to_owned(), |at| format!("{}:{}", at.file(), at.line()));
    format!("a fault of the program at {place}")
}

/// Drops what the libraries say.
struct OurOwn(Box<dyn Log>);

impl Log for OurOwn {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"))
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            self.0.log(record);
        }
    }

    fn flush(&self) {}
}

fn syslog_logger(format: LogFormat) -> Option<Box<dyn Log>> {
    let logger = syslog::unix(Rfc3164 { pid: std::process::id() }).ok()?;
    Some(Box::new(Syslog { format, logger: Mutex::new(logger) }))
}

struct Syslog {
    format: LogFormat,
    logger: Mutex<Logger<LoggerBackend, Rfc3164>>,
}

impl Log for Syslog {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let text = match self.format {
            LogFormat::Text => told(record.args(), correlation::current()),
            LogFormat::Json => as_json(record, correlation::current()),
        };
        let mut logger = self.logger.lock().unwrap_or_else(PoisonError::into_inner);
        // A syslog daemon that went away must not stop ours.
        let _ = match record.level() {
            Level::Error => logger.err(text),
            Level::Warn => logger.warning(text),
            Level::Info => logger.info(text),
            Level::Debug | Level::Trace => logger.debug(text),
        };
    }

    fn flush(&self) {}
}

/// RFC 3164 as local sockets take it. The crate's own formatter brings a whole calendar for its timestamp.
#[derive(Clone)]
struct Rfc3164 {
    pid: u32,
}

impl<T: Display> syslog::LogFormat<T> for Rfc3164 {
    fn format<W: Write>(&self, w: &mut W, severity: Severity, message: T) -> syslog::Result<()> {
        let priority = Facility::LOG_DAEMON as u8 | severity as u8;
        let stamp = timestamp(wall_seconds());
        write!(w, "<{priority}>{stamp} tollgated[{}]: {message}", self.pid).map_err(syslog::Error::Write)
    }
}

fn wall_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The message, and the request that it belongs to.
fn told(message: &dyn Display, request: Option<CorrelationId>) -> String {
    match request {
        Some(request) => format!("{message} [{request}]"),
        None => message.to_string(),
    }
}

fn as_json_line(level: &str, message: &str) -> Value {
    json!({"time": wall_seconds(), "level": level, "message": message})
}

fn as_json(record: &Record, request: Option<CorrelationId>) -> String {
    let level = record.level().as_str().to_ascii_lowercase();
    let mut line = as_json_line(&level, &record.args().to_string());
    if let Some(request) = request {
        line["request_id"] = request.as_str().into();
    }
    line.to_string()
}

struct Stderr(LogFormat);

impl Log for Stderr {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        // Stderr has no buffer: piece by piece, a line would be a dozen writes.
        let request = correlation::current();
        let line = match self.0 {
            LogFormat::Text => format!("{:<5} {}\n", record.level(), told(record.args(), request)),
            LogFormat::Json => format!("{}\n", as_json(record, request)),
        };
        // A reader that went away must not stop the daemon.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use syslog::LogFormat as _;

    #[test]
    fn a_line_names_the_request_that_it_belongs_to() {
        let id = CorrelationId::parse("request-1");
        let record = |args| Record::builder().level(Level::Warn).args(args).build();
        assert_eq!(told(&"the gate is down", None), "the gate is down");
        assert_eq!(told(&"the gate is down", id.clone()), "the gate is down [request-1]");
        let line: serde_json::Value =
            serde_json::from_str(&as_json(&record(format_args!("\"a\"\nb")), id)).unwrap();
        assert_eq!((&line["level"], &line["message"]), (&"warn".into(), &"\"a\"\nb".into()));
        assert_eq!(line["request_id"], "request-1");
        assert!(line["time"].is_u64());
        assert!(!as_json(&record(format_args!("x")), None).contains("request_id"));
    }

    #[test]
    fn a_line_is_what_syslog_daemons_take() {
        let mut line = Vec::new();
        Rfc3164 { pid: 7 }.format(&mut line, Severity::LOG_WARNING, "the gate is down").unwrap();
        let line = String::from_utf8(line).unwrap();
        assert!(line.starts_with("<28>"), "{line}");
        assert!(line.ends_with(" tollgated[7]: the gate is down"), "{line}");
    }

    #[test]
    fn a_fault_is_one_line_with_its_place() {
        let (here, line) = (Location::caller(), line!());
        assert_eq!(fault(Some(here)), format!("a fault of the program at src/ops/log.rs:{line}"));
        assert_eq!(fault(None), "a fault of the program at an unknown place");
        let packet = String::from_utf8(error_packet(&fault(None))).unwrap();
        assert!(
            packet.starts_with("<27>") && packet.ends_with("]: a fault of the program at an unknown place")
        );
    }

    #[test]
    fn child_that_panics() {
        if std::env::var_os("PANICS").is_some() {
            start(LogTarget::Stderr, LogFormat::Text, LevelFilter::Info);
            panic!("what a guest sent");
        }
    }

    #[test]
    fn a_panic_tells_its_place_and_not_its_message() {
        let mut child = std::process::Command::new(std::env::args_os().next().unwrap());
        child.args(["--exact", "ops::log::tests::child_that_panics", "--nocapture", "--test-threads=1"]);
        child.args(["-Zunstable-options", "--force-run-in-process"]).env("RUSTC_BOOTSTRAP", "1");
        let ended = child.env("PANICS", "1").output().unwrap();
        let told = String::from_utf8_lossy(&ended.stderr);
        let ours = told.lines().filter(|line| line.starts_with("a fault of the program at src/ops/log.rs:"));
        assert_eq!(ours.count(), 1, "{told}");
        assert!(!ended.status.success() && !told.contains("what a guest sent"), "{told}");
    }
}
