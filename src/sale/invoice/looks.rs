//! When a part's quote is looked at, from its invoice to the end of its grace. Knows no clock.
//!
//! Up to the invoice's own end the looks follow the mint client's schedule, and one falls on that end. Only
//! an answer of the mint can say that an invoice was not paid in time: while it does not answer, the looks
//! go on as before. After the end a late payment is looked for once a minute for an hour, more often in the first ten
//! minutes while the guest looks on, and then every ten minutes until the grace is over.

use crate::ecash::LookSchedule;
use crate::units::Millis;

const JUST_OVER: Millis = Millis::from_secs(600);
const LATELY_OVER: Millis = Millis::from_secs(3600);
/// After the end: while the guest looks on and the invoice is just over, while it is lately over, and afterwards.
const WITH_GUEST: Millis = Millis::from_secs(30);
const LATE_LOOK_EVERY: Millis = Millis::from_secs(60);
const LAST_LOOKS_EVERY: Millis = Millis::from_secs(600);

/// Whether an invoice has ended at `due`, and not long ago.
pub fn is_just_over(due: Millis, now: Millis) -> bool {
    due <= now && now < due.saturating_add(JUST_OVER)
}

/// Whether an invoice that ended at `due` is to be looked at once a minute.
pub fn is_close(due: Millis, now: Millis) -> bool {
    now < due.saturating_add(LATELY_OVER)
}

/// The looks at one part; all times are service time.
#[derive(Debug)]
pub struct Looks {
    schedule: LookSchedule,
    due: Millis,
    next: Millis,
    /// When the mint was last asked, after the end.
    late: Option<Millis>,
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
    /// For an invoice that was made just now.
    pub fn new(due: Millis, now: Millis) -> Looks {
        Looks::by(LookSchedule::new(now), due, now)
    }

    /// For an invoice from before this start of the daemon: a payment may have been missed.
    pub fn resumed(due: Millis, now: Millis) -> Looks {
        Looks::by(LookSchedule::resumed(now), due, now)
    }

    fn by(schedule: LookSchedule, due: Millis, now: Millis) -> Looks {
        let mut looks = Looks { schedule, due, next: now, late: None };
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

    /// A guest looks on whose invoice has just ended.
    pub fn guest_looks_on(&mut self, now: Millis) {
        if let Some(late) = self.late.filter(|_| is_just_over(self.due, now)) {
            self.next = self.next.min(late.saturating_add(WITH_GUEST));
        }
    }

    /// The mint answered that the invoice is not paid; `guest_is_here`: a guest looks on.
    pub fn unpaid(&mut self, now: Millis, grace: Millis, guest_is_here: bool) -> Unpaid {
        self.schedule.looked(now);
        let end = self.due.saturating_add(grace);
        if now >= end {
            return Unpaid::GivenUp;
        }
        if now < self.due {
            self.follow_schedule(now);
            return Unpaid::Payable;
        }
        self.late = Some(now);
        let pause = if is_close(self.due, now) { LATE_LOOK_EVERY } else { LAST_LOOKS_EVERY };
        self.next = now.saturating_add(pause).min(end);
        if guest_is_here {
            self.guest_looks_on(now);
        }
        Unpaid::Overdue
    }

    /// The mint did not answer; `limited` if it limits our requests.
    pub fn failed(&mut self, now: Millis, limited: bool) {
        if limited {
            self.schedule.refused(now);
        } else {
            self.schedule.looked(now);
        }
        // A guest who looks on does not shorten what a limit asks for.
        let heard = if limited { now.saturating_add(WITH_GUEST) } else { now };
        self.late = self.late.map(|_| heard);
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
            if looks.unpaid(at, grace, false) == Unpaid::GivenUp {
                break;
            }
        }
        made
    }

    #[test]
    fn an_invoice_of_an_hour_is_looked_at_every_minute_to_its_last_second() {
        let mut looks = Looks::new(HOUR, Millis::ZERO);
        let made = unpaid_looks(&mut looks, HOUR, HOUR);
        assert_eq!(made.last(), Some(&HOUR));
        let gaps = made.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        assert!(gaps.max().unwrap() <= Millis::from_secs(61));
        let minute_45 = Millis(45 * MINUTE.0);
        let later = made.iter().find(|at| **at >= minute_45).unwrap();
        assert!(later.saturating_sub(minute_45) <= Millis::from_secs(61), "paid at minute 45");
    }

    #[test]
    fn a_late_payment_is_looked_for_once_a_minute_for_an_hour_and_then_until_the_grace_is_over() {
        let mut looks = Looks::new(MINUTE, Millis::ZERO);
        unpaid_looks(&mut looks, HOUR, MINUTE);
        let late = unpaid_looks(&mut looks, Millis(2 * HOUR.0), Millis(u64::MAX));
        let minutes: Vec<u64> = late.iter().map(|at| at.0 / 60_000).collect();
        assert_eq!(minutes[..60], (2..=61).collect::<Vec<_>>());
        assert_eq!(minutes[60..], [71, 81, 91, 101, 111, 121]);
    }

    #[test]
    fn a_guest_who_looks_on_has_a_late_payment_found_sooner_for_ten_minutes() {
        let mut looks = Looks::new(MINUTE, Millis::ZERO);
        unpaid_looks(&mut looks, HOUR, MINUTE);
        let mut at = MINUTE;
        while at < Millis(11 * MINUTE.0) {
            assert_eq!(looks.unpaid(at, HOUR, true), Unpaid::Overdue);
            assert_eq!(looks.next(), at.saturating_add(WITH_GUEST));
            at = looks.next();
        }
        assert_eq!(looks.unpaid(at, HOUR, true), Unpaid::Overdue);
        assert_eq!(looks.next(), at.saturating_add(MINUTE));
    }

    #[test]
    fn a_guest_who_comes_back_brings_a_late_look_forward_only() {
        let mut looks = Looks::new(MINUTE, Millis::ZERO);
        looks.guest_looks_on(Millis::from_secs(1));
        assert_eq!(looks.next(), Millis::from_secs(2), "before the end nothing changes");
        assert_eq!(looks.unpaid(MINUTE, HOUR, false), Unpaid::Overdue);
        looks.guest_looks_on(Millis(MINUTE.0 + 10_000));
        assert_eq!(looks.next(), Millis(MINUTE.0 + 30_000));
        looks.guest_looks_on(Millis(MINUTE.0 + 20_000));
        assert_eq!(looks.next(), Millis(MINUTE.0 + 30_000));
    }

    #[test]
    fn the_end_of_an_invoice_is_told_by_the_mints_answer() {
        let mut looks = Looks::new(MINUTE, Millis::ZERO);
        assert_eq!(looks.unpaid(Millis(59_999), HOUR, false), Unpaid::Payable);
        assert_eq!(looks.next(), MINUTE);
        assert_eq!(looks.unpaid(MINUTE, HOUR, false), Unpaid::Overdue);
        assert_eq!(looks.unpaid(Millis(HOUR.0 + MINUTE.0), HOUR, false), Unpaid::GivenUp);
        assert_eq!(looks.unpaid(MINUTE, Millis::ZERO, false), Unpaid::GivenUp, "without grace");
    }

    #[test]
    fn a_mint_that_is_away_at_the_end_is_asked_as_before_and_never_in_a_spin() {
        let mut looks = Looks::new(MINUTE, Millis::ZERO);
        unpaid_looks(&mut looks, Millis::ZERO, Millis(50_000));
        let mut now = MINUTE;
        for limited in [false, true].into_iter().cycle().take(40) {
            looks.failed(now, limited);
            let wait = looks.next().saturating_sub(now);
            assert!(wait >= Millis::from_secs(1) && wait <= Millis::from_secs(61), "{wait:?}");
            now = looks.next();
        }
        assert_eq!(looks.unpaid(now, Millis::ZERO, false), Unpaid::GivenUp);
    }

    #[test]
    fn a_mint_that_is_back_is_asked_at_once() {
        let mut looks = Looks::new(HOUR, Millis::ZERO);
        unpaid_looks(&mut looks, HOUR, Millis(30 * MINUTE.0));
        let now = Millis(30 * MINUTE.0 + 1);
        assert!(looks.next() > now);
        looks.look_now(now);
        assert_eq!(looks.next(), now);
    }

    #[test]
    fn after_a_restart_an_invoice_is_looked_at_at_once() {
        let now = Millis(45 * MINUTE.0);
        assert_eq!(Looks::resumed(HOUR, now).next(), now);
        assert_eq!(Looks::resumed(MINUTE, now).next(), now, "one that has ended, too");
    }
}
