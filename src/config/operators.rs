//! Who may use the operator's interface: the roles, and `config operator`.

/// What an operator may do; each may what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Lets guests in.
    Cashier,
    /// Sends guests away, and limits cards.
    Manager,
    /// Has the money and the keys.
    Owner,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Cashier => "cashier",
            Role::Manager => "manager",
            Role::Owner => "owner",
        }
    }
}
