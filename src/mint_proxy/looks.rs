//! When a part's quote is looked at, from its invoice to the end of its grace. Knows no clock.
//!
//! Up to the invoice's own end the looks follow the mint client's schedule, and one falls on that end. Only
//! an answer of the mint can say that an invoice was not paid in time: while it does not answer, the looks
//! go on as before. After the end a late payment is looked for every ten minutes, until the grace is over.

use crate::ecash::LookSchedule;
use crate::units::Millis;

/// An invoice younger than this is looked at as a new one.
const NEW: Millis = Millis::from_secs(60);
const LATE_LOOK_EVERY: Millis = Millis::from_secs(600);

/// The looks at one part; all times are service time.
#[derive(Debug)]
pub struct Looks {
    schedule: LookSchedule,
    due: Millis,
    next: Millis,
}

/// What it means that the mint calls an invoice unpaid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpaid {
    Payable,
    /// The invoice has ended; a late payment is still looked for.
    Overdue,
    /// Its grace is over as well.
    GivenUp,
}

impl Looks {
    pub fn new(created: Millis, due: Millis, now: Millis) -> Looks {
        let is_new = created.saturating_add(NEW) > now;
        let schedule = if is_new { LookSchedule::new(now) } else { LookSchedule::resumed(now) };
        let mut looks = Looks { schedule, due, next: now };
        looks.follow_schedule(now);
        looks
    }

    pub fn next(&self) -> Millis {
        self.next
    }

    /// The mint is back: events may have been missed meanwhile.
    pub fn look_now(&mut self, now: Millis) {
        self.schedule.look_now(now);
        self.next = self.next.min(now);
    }

    pub fn guest_may_look(&self, now: Millis) -> bool {
        self.schedule.guest_may_look(now)
    }

    /// The mint answered that the invoice is not paid.
    pub fn unpaid(&mut self, now: Millis, grace: Millis) -> Unpaid {
        self.schedule.looked(now);
        let end = self.due.saturating_add(grace);
        if now >= end {
            return Unpaid::GivenUp;
        }
        if now < self.due {
            self.follow_schedule(now);
            return Unpaid::Payable;
        }
        self.next = now.saturating_add(LATE_LOOK_EVERY).min(end);
        Unpaid::Overdue
    }

    /// The mint did not answer; `limited` if it limits our requests.
    pub fn failed(&mut self, now: Millis, limited: bool) {
        if limited {
            self.schedule.refused(now);
        } else {
            self.schedule.looked(now);
        }
        self.follow_schedule(now);
    }

    fn follow_schedule(&mut self, now: Millis) {
        self.next = self.schedule.next_look();
        if now < self.due {
            self.next = self.next.min(self.due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Millis = Millis::from_secs(60);
    const HOUR: Millis = Millis::from_secs(3600);

    /// Looks made on time at a mint that says "unpaid", up to `until`.
    fn unpaid_looks(looks: &mut Looks, grace: Millis, until: Millis) -> Vec<Millis> {
        let mut made = Vec::new();
        while looks.next() <= until {
            let at = looks.next();
            made.push(at);
            if looks.unpaid(at, grace) == Unpaid::GivenUp {
                break;
            }
        }
        made
    }

    #[test]
    fn an_invoice_of_an_hour_is_looked_at_every_minute_to_its_last_second() {
        let mut looks = Looks::new(Millis::ZERO, HOUR, Millis::ZERO);
        let made = unpaid_looks(&mut looks, HOUR, HOUR);
        assert_eq!(made.last(), Some(&HOUR));
        let gaps = made.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        assert!(gaps.max().unwrap() <= Millis::from_secs(61));
        let minute_45 = Millis(45 * MINUTE.0);
        let later = made.iter().find(|at| **at >= minute_45).unwrap();
        assert!(later.saturating_sub(minute_45) <= Millis::from_secs(61), "paid at minute 45");
    }

    #[test]
    fn a_late_payment_is_looked_for_every_ten_minutes_until_the_grace_is_over() {
        let mut looks = Looks::new(Millis::ZERO, MINUTE, Millis::ZERO);
        unpaid_looks(&mut looks, HOUR, MINUTE);
        let late = unpaid_looks(&mut looks, HOUR, Millis(u64::MAX));
        assert_eq!(late.iter().map(|at| at.0 / 60_000).collect::<Vec<_>>(), [11, 21, 31, 41, 51, 61]);
    }

    #[test]
    fn the_end_of_an_invoice_is_told_by_the_mints_answer() {
        let mut looks = Looks::new(Millis::ZERO, MINUTE, Millis::ZERO);
        assert_eq!(looks.unpaid(Millis(59_999), HOUR), Unpaid::Payable);
        assert_eq!(looks.next(), MINUTE);
        assert_eq!(looks.unpaid(MINUTE, HOUR), Unpaid::Overdue);
        assert_eq!(looks.unpaid(Millis(HOUR.0 + MINUTE.0), HOUR), Unpaid::GivenUp);
        assert_eq!(looks.unpaid(MINUTE, Millis::ZERO), Unpaid::GivenUp, "without grace");
    }

    #[test]
    fn a_mint_that_is_away_at_the_end_is_asked_as_before_and_never_in_a_spin() {
        let mut looks = Looks::new(Millis::ZERO, MINUTE, Millis::ZERO);
        unpaid_looks(&mut looks, Millis::ZERO, Millis(50_000));
        let mut now = MINUTE;
        for limited in [false, true].into_iter().cycle().take(40) {
            looks.failed(now, limited);
            let wait = looks.next().saturating_sub(now);
            assert!(wait >= Millis::from_secs(1) && wait <= Millis::from_secs(61), "{wait:?}");
            now = looks.next();
        }
        assert_eq!(looks.unpaid(now, Millis::ZERO), Unpaid::GivenUp);
    }

    #[test]
    fn a_mint_that_is_back_is_asked_at_once() {
        let mut looks = Looks::new(Millis::ZERO, HOUR, Millis::ZERO);
        unpaid_looks(&mut looks, HOUR, Millis(30 * MINUTE.0));
        let now = Millis(30 * MINUTE.0 + 1);
        assert!(looks.next() > now);
        looks.look_now(now);
        assert_eq!(looks.next(), now);
    }

    #[test]
    fn after_a_restart_an_older_invoice_is_looked_at_at_once() {
        let now = Millis(45 * MINUTE.0);
        assert_eq!(Looks::new(Millis::ZERO, HOUR, now).next(), now);
        assert_eq!(Looks::new(Millis::ZERO, MINUTE, now).next(), now, "one that has ended, too");
    }
}
