//! Whose a row of the store is.

use std::fmt;
use std::sync::Arc;

/// An operator whose vouchers, limits and reports nobody else sees or changes. It comes from a credential or from the venue
/// that a guest stands in, never from what a request says.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// The one of a router that has no others.
    pub fn main() -> Tenant {
        Tenant("main".into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tenant({})", self.0)
    }
}
