//! Why a command was not carried out.

use crate::card::CardError;
use crate::shop::Closed;
use crate::store::StoreError;

/// The code of a configuration that cannot be used: no wrong usage.
pub const INVALID_CONFIG: &str = "invalid_config";

/// Each has a stable code, and a sentence that names no secret.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No such command, or not what it takes.
    #[error("{0}")]
    Usage(String),
    /// A value that is malformed, whatever exists on this router.
    #[error("{1}")]
    Input(&'static str, String),
    /// The caller's role, or what it has shown of itself, is not enough.
    #[error("{1}")]
    Forbidden(&'static str, String),
    /// What was named is not there.
    #[error("{1}")]
    Missing(&'static str, String),
    /// As things are it cannot be done.
    #[error("{1}")]
    Refused(&'static str, String),
    /// The room that would do it is closed, or the machine refuses.
    #[error("{1}")]
    Closed(&'static str, String),
    /// The daemon's refusal, as the command line hears it.
    #[error("{1}")]
    Answered(String, String),
}

impl CommandError {
    /// The key files are sealed, and what was asked for moves money.
    pub fn sealed() -> CommandError {
        CommandError::Closed(StoreError::Sealed.code(), StoreError::Sealed.to_string())
    }

    pub fn code(&self) -> &str {
        match self {
            CommandError::Usage(_) => "usage",
            CommandError::Input(code, _)
            | CommandError::Forbidden(code, _)
            | CommandError::Missing(code, _)
            | CommandError::Refused(code, _)
            | CommandError::Closed(code, _) => code,
            CommandError::Answered(code, _) => code,
        }
    }

    /// The exit status of a command line that ends so: 2 for wrong usage. In the daemon's answer only the code shows
    /// that.
    pub fn status(&self) -> u8 {
        let is_wrong_usage = match self {
            CommandError::Usage(_) | CommandError::Input(..) => true,
            CommandError::Answered(code, _) => {
                ["usage", "invalid_mac", "invalid_duration"].contains(&code.as_str())
            }
            _ => false,
        };
        if is_wrong_usage {
            2
        } else {
            1
        }
    }
}

impl From<&Closed> for CommandError {
    fn from(closed: &Closed) -> CommandError {
        CommandError::Closed(closed.code, closed.cause.clone())
    }
}

impl From<CardError> for CommandError {
    fn from(error: CardError) -> CommandError {
        let (code, message) = (error.code(), error.to_string());
        match error {
            CardError::Input(_) => CommandError::Input(code, message),
            CardError::NoSuchCard => CommandError::Missing(code, message),
            CardError::NoCards => CommandError::Refused(code, message),
            CardError::Store(_) => CommandError::Closed(code, message),
        }
    }
}
