//! How many new requests a guest may make: 10 a minute, and 3 unpaid ones younger than 10 minutes; and how
//! often ask about them: 600 times a minute.

use crate::pace::Pace;
use crate::units::Millis;

const WINDOW: Millis = Millis::from_secs(60);
const NEW_PER_WINDOW: usize = 10;
/// Questions about requests: far more than any client has.
const QUESTIONS_PER_WINDOW: usize = 600;

/// An unpaid request counts against its guest this long; it stays payable after that.
pub const UNPAID_COUNTS_FOR: Millis = Millis::from_secs(600);
pub const MAX_UNPAID: usize = 3;

/// Invoices of all guests together that are watched closely. Addresses are easily made up, so the last of them are
/// for those who have bought access before.
const MAX_INVOICES: usize = 2000;
pub const FOR_STRANGERS: usize = 1500;
/// Requests in memory with something left to do, those that are paid included.
pub const MAX_UNFINISHED: usize = 3000;

pub fn of_requests() -> Pace {
    Pace::new(NEW_PER_WINDOW, WINDOW)
}

pub fn of_questions() -> Pace {
    Pace::new(QUESTIONS_PER_WINDOW, WINDOW)
}

/// Whether `more` invoices may be asked for while `open` are watched.
pub fn has_room(open: usize, more: usize, is_customer: bool) -> bool {
    let limit = if is_customer { MAX_INVOICES } else { FOR_STRANGERS };
    open.saturating_add(more) <= limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_cannot_take_the_last_invoices_from_customers() {
        assert!(has_room(1499, 1, false) && !has_room(1500, 1, false) && !has_room(1497, 4, false));
        assert!(has_room(1500, 4, true) && has_room(1999, 1, true) && !has_room(2000, 1, true));
    }
}
