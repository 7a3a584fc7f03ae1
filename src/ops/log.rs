//! Where log lines go: syslog (ident `tollgated`, facility daemon), or stderr while developing.

use crate::config::LogTarget;
use log::{LevelFilter, Log, Metadata, Record};
use std::io::Write;

/// Starts logging. Without a syslog daemon the lines go to stderr, which procd forwards.
pub fn start(target: LogTarget, level: LevelFilter) {
    let logger: Box<dyn Log> = match target {
        LogTarget::Syslog => syslog_logger().unwrap_or_else(|| Box::new(Stderr)),
        LogTarget::Stderr => Box::new(Stderr),
    };
    if log::set_boxed_logger(logger).is_ok() {
        log::set_max_level(level);
    }
}

fn syslog_logger() -> Option<Box<dyn Log>> {
    let formatter = syslog::Formatter3164 {
        facility: syslog::Facility::LOG_DAEMON,
        hostname: None,
        process: "tollgated".to_owned(),
        pid: std::process::id(),
    };
    let logger = syslog::unix(formatter).ok()?;
    Some(Box::new(syslog::BasicLogger::new(logger)))
}

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        // A reader that went away must not stop the daemon.
        let _ = writeln!(std::io::stderr().lock(), "{:<5} {}", record.level(), record.args());
    }

    fn flush(&self) {}
}
