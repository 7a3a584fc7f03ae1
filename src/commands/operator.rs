//! Who calls a command.

use crate::config::Role;

const TOKEN: &str = "token";

/// Whoever calls a command, as far as that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Of its section, or one of those below.
    pub name: String,
    pub role: Role,
    /// Whether it has shown just now that it may move money, or has the token.
    pub may_sign: bool,
}

impl Operator {
    /// The router's root, who has everything.
    pub fn of_shell() -> Operator {
        Operator { name: "shell".to_owned(), role: Role::Owner, may_sign: true }
    }

    /// Whether it is the bearer of the token of `token_file`: no operator has that name.
    pub fn is_token(&self) -> bool {
        self.name == TOKEN
    }

    /// The bearer of the token of `token_file`.
    pub fn with_token() -> Operator {
        Operator { name: TOKEN.to_owned(), role: Role::Owner, may_sign: true }
    }
}
