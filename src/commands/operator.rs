//! Who calls a command.

use crate::config::Role;

const TOKEN: &str = "token";

/// The caller of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The name of the operator's section, or `shell` or `token`.
    pub name: String,
    pub role: Role,
    /// Whether it may move money: it has signed within the last minute, or has the token.
    pub may_sign: bool,
}

impl Operator {
    /// The router's root, who has everything.
    pub fn of_shell() -> Operator {
        Operator { name: "shell".to_owned(), role: Role::Owner, may_sign: true }
    }

    /// Whether it is the bearer of the token of `token_file`: no operator can have that name.
    pub fn is_token(&self) -> bool {
        self.name == TOKEN
    }

    /// The bearer of the token of `token_file`.
    pub fn with_token() -> Operator {
        Operator { name: TOKEN.to_owned(), role: Role::Owner, may_sign: true }
    }
}
