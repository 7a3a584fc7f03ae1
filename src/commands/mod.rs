//! The operator's commands: what each does, and its answer as text for people.

pub mod cards;
pub mod lightning;
pub mod place;
pub mod status;
pub mod terminal;
pub mod text;
pub mod wallet;

/// A stable code, and a sentence for the operator.
pub type Refusal = (&'static str, String);
