//! Shillings: M-Pesa as Safaricom's Daraja speaks it, airtime, and the phone numbers that pay. It knows neither router nor gate, and
//! no order: it sends one request and says what is certain afterwards.
//!
//! Refused: an answer that is too long, too deep, or no answer to what was asked. What may have been carried out is never
//! said to have failed.

mod airtime;
mod answers;
mod callback;
mod credentials;
mod daraja;
mod payout;
mod phone;
mod pull;
mod rate;
mod relayed;
mod result;
mod stamp;

pub use airtime::{AirtimeSeller, AirtimeVerdict};
pub use answers::{DarajaRefusal, PromptVerdict, Why};
pub use callback::{receipt_of, StkCallback};
pub use credentials::{read_secret, CredentialError};
pub use daraja::{basic_of, fresh_token, Daraja, Prompt, Pushed, BUCKET};
pub use payout::{Initiator, PaidOut, Payee, Payment};
pub use phone::{masked, Phone};
pub use pull::PulledRow;
pub use rate::{Quote, RateStale, Rates};
pub use relayed::RelayLine;
pub use result::PayoutResult;
