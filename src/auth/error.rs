//! Why somebody is not let in. What the caller sees names no cause that helps to guess.

use super::jwt::JwtFault;
use crate::access::TicketError;
use crate::store::StoreError;
use crate::units::Millis;

/// Why a token, or a request for one, is refused.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// There is no section `auth`.
    #[error("nobody logs in here")]
    Off,
    #[error("the token {0}")]
    Token(#[from] JwtFault),
    #[error("the token is for another place")]
    OtherAudience,
    /// The key is not an operator's.
    #[error("the key is not allowed here")]
    NotAllowed,
    /// Too many challenges, or tokens of a key; wait this long.
    #[error("too many logins, try again later")]
    TooMany(Millis),
    /// The page's socket is not there.
    #[error("there is no such socket on this device")]
    NoSocket,
    /// Operators are let in only where the time is known.
    #[error("the router's clock is not set yet")]
    NoClock,
    /// The key cannot stand for what was paid on this device.
    #[error("{0}")]
    NotLinked(#[source] TicketError),
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// Why a wallet's callback is refused. Each has the status and the sentence that wallets show (LUD-04).
#[derive(Debug, thiserror::Error)]
pub enum LoginRefusal {
    /// Never given out, used, or over.
    #[error("k1 unknown, expired or used")]
    K1,
    #[error("bad parameter: {0}")]
    Parameter(&'static str),
    #[error("invalid signature")]
    Signature,
    #[error("key not allowed")]
    NotAllowed,
    #[error("too many logins, try again later")]
    TooMany(Millis),
    /// The key cannot stand for what was paid on the device that asked.
    #[error("{}", not_linked(.0))]
    NotLinked(#[source] TicketError),
    #[error("not possible now, try again later")]
    Closed(#[source] AuthError),
}

fn not_linked(cause: &TicketError) -> String {
    match cause {
        TicketError::TooSoon(wait) => {
            format!("what was paid has moved a moment ago, try again in {} s", wait.as_secs_ceil())
        }
        cause => cause.to_string(),
    }
}

impl From<AuthError> for LoginRefusal {
    fn from(error: AuthError) -> LoginRefusal {
        match error {
            AuthError::NotAllowed => LoginRefusal::NotAllowed,
            AuthError::TooMany(wait) => LoginRefusal::TooMany(wait),
            AuthError::NotLinked(TicketError::Store(cause)) => LoginRefusal::Closed(cause.into()),
            AuthError::NotLinked(cause) => LoginRefusal::NotLinked(cause),
            error => LoginRefusal::Closed(error),
        }
    }
}
