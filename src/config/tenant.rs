//! Whose a row of the store is, and `config tenant`: several operators of one router.

use super::fields::Fields;
use super::operators::operator_name;
use super::problem::Problems;
use super::schema::TENANT;
use super::uci::Section;
use super::MAX_VENUES;
use std::fmt;
use std::sync::Arc;

/// Sections that are read.
pub(super) const MOST: usize = 64;
const MOST_OPERATORS: usize = 64;

/// An operator whose vouchers, limits and reports nobody else sees or changes. It comes from a credential or from the venue
/// that a guest stands in, never from what a request says.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// The one of a router that has no others.
    pub fn main() -> Tenant {
        Tenant("main".into())
    }

    /// By the name in a row of the store.
    pub fn named(name: &str) -> Tenant {
        Tenant(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[cfg(test)]
    pub fn of_test(name: &str) -> Tenant {
        Tenant(name.into())
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tenant({})", self.0)
    }
}

/// `config tenant`.
#[derive(Clone, Debug, PartialEq)]
pub struct TenantConfig {
    pub tenant: Tenant,
    /// Ids of its venues.
    pub venues: Vec<String>,
    /// Names of its operators.
    pub operators: Vec<String>,
}

pub(super) fn read(section: &Section, problems: &mut Problems) -> Option<TenantConfig> {
    let mut fields = Fields::new(TENANT, Some(section), problems);
    let name = fields.optional("name", operator_name);
    let venues = fields.many("venue", MAX_VENUES, |text| Ok(text.to_owned()));
    let operators = fields.many("operator", MOST_OPERATORS, |text| Ok(text.to_owned()));
    let name = name?.unwrap_or_else(|| section.name.clone());
    Some(TenantConfig { tenant: Tenant(name.into()), venues: venues?, operators: operators? })
}
