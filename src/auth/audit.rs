//! What goes into the audit log. What changes something is a row of its own. What changes nothing, as a refusal, can be
//! repeated for free, by strangers too, and each row wears the flash and pushes an older one out: from the eleventh in a minute
//! on, refusals are counted, and written as one row a minute. Once they have made 60 rows in an hour, there is one row for ten
//! minutes, until the hour is over. A reader of the log also sees what is still counted; reading writes nothing.

use crate::store::{AuditRow, AuditVerdict, NewAuditRow, Store, StoreError};
use crate::units::{Millis, UnixSeconds};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Refusals that have a row each within a minute.
const APART: usize = 10;
const MINUTE: Millis = Millis::from_secs(60);
/// Rows that refusals make within an hour, before they are counted for longer.
const OF_AN_HOUR: usize = 60;
const HOUR: Millis = Millis::from_secs(3600);
const TEN_MINUTES: Millis = Millis::from_secs(600);
/// Stands for a text in which the refusals of one row differ.
const SEVERAL: &str = "several";

/// The audit log of a store; clones share it.
#[derive(Clone)]
pub struct AuditLog {
    store: Store,
    flood: Arc<Mutex<Flood>>,
}

impl AuditLog {
    pub fn new(store: Store) -> AuditLog {
        AuditLog { store, flood: Arc::default() }
    }

    /// Writes down what was done, and returns when it is on the flash. What was done stays done even if this fails.
    pub async fn done(&self, row: NewAuditRow) {
        if let Err(err) = self.store.audit(row).await {
            log::error!("the audit log lacks a row: {err}");
        }
    }

    /// How a call ended. If it `changed` nothing, it may be counted with others.
    pub async fn ended(&self, row: NewAuditRow, changed: bool) {
        match changed {
            true => self.done(row).await,
            false => self.refused(row),
        }
    }

    /// Writes down what was refused, or counts it.
    pub fn refused(&self, row: NewAuditRow) {
        let row = self.flood().refused(row, self.store.now());
        row.into_iter().for_each(|row| self.store.audit_later(row));
    }

    /// To be called every few seconds: writes down what was counted for a minute.
    pub fn tend(&self) {
        let row = self.flood().over(self.store.now());
        row.into_iter().for_each(|row| self.store.audit_later(row));
    }

    /// Writes down what was counted so far: the daemon stops.
    pub fn write_counted(&self) {
        let row = self.flood().held.take().map(|held| held.row);
        row.into_iter().for_each(|row| self.store.audit_later(row));
    }

    /// What is counted and not written yet.
    pub fn counted(&self) -> Option<NewAuditRow> {
        self.flood().held.as_ref().map(|held| held.row.clone())
    }

    /// The clock that rows are dated by.
    pub fn wall(&self) -> UnixSeconds {
        self.store.wall()
    }

    /// At most `most` rows: the newest or, since a wall time, the first from then on. Oldest first.
    pub async fn rows(&self, since: Option<UnixSeconds>, most: u32) -> Result<Vec<AuditRow>, StoreError> {
        self.store.audit_rows(since, most).await
    }

    pub async fn verify(&self) -> Result<AuditVerdict, StoreError> {
        self.store.verify_audit().await
    }

    fn flood(&self) -> MutexGuard<'_, Flood> {
        self.flood.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The refusals of the last minute, of all callers together.
#[derive(Default)]
struct Flood {
    /// When the last ten refusals were.
    recent: VecDeque<Millis>,
    /// When the rows of the last hour were written.
    rows: VecDeque<Millis>,
    held: Option<Held>,
}

/// Refusals that are counted.
struct Held {
    since: Millis,
    row: NewAuditRow,
}

impl Flood {
    /// The row to be written at once, if it is to have one of its own.
    fn refused(&mut self, row: NewAuditRow, now: Millis) -> Option<NewAuditRow> {
        self.recent.retain(|at| at.saturating_add(MINUTE) > now);
        let is_flood = self.recent.len() >= APART;
        if is_flood {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        let is_flood = is_flood || self.has_many_rows(now);
        match &mut self.held {
            Some(held) => add(&mut held.row, &row),
            None if is_flood => self.held = Some(Held { since: now, row }),
            None => {
                self.rows.push_back(now);
                return Some(row);
            }
        }
        None
    }

    fn has_many_rows(&mut self, now: Millis) -> bool {
        self.rows.retain(|at| at.saturating_add(HOUR) > now);
        self.rows.len() >= OF_AN_HOUR
    }

    /// The row of what was counted, once that has lasted long enough.
    fn over(&mut self, now: Millis) -> Option<NewAuditRow> {
        let lasts = if self.has_many_rows(now) { TEN_MINUTES } else { MINUTE };
        let held = self.held.take_if(|held| held.since.saturating_add(lasts) <= now)?;
        self.rows.push_back(now);
        Some(held.row)
    }
}

/// One more refusal in the row of others.
fn add(row: &mut NewAuditRow, one: &NewAuditRow) {
    let texts = [
        (&mut row.who, &one.who),
        (&mut row.role, &one.role),
        (&mut row.what, &one.what),
        (&mut row.target, &one.target),
        (&mut row.result, &one.result),
    ];
    for (all, one) in texts {
        if all != one {
            *all = SEVERAL.to_owned();
        }
    }
    row.count = row.count.saturating_add(one.count);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(who: &str) -> NewAuditRow {
        NewAuditRow::new(who, "viewer", "grant", "x", "forbidden")
    }

    fn count(flood: &mut Flood, refusals: usize, now: Millis) -> usize {
        (0..refusals).filter(|_| flood.refused(refusal("a"), now).is_some()).count()
    }

    #[test]
    fn from_the_eleventh_in_a_minute_on_they_are_one_row() {
        let mut flood = Flood::default();
        assert_eq!(count(&mut flood, 10, Millis(0)), 10);
        assert_eq!(flood.over(Millis::from_secs(60)), None);
        assert_eq!(count(&mut flood, 500, Millis::from_secs(30)), 0);
        assert_eq!(flood.over(Millis::from_secs(89)), None);
        let row = flood.over(Millis::from_secs(90)).unwrap();
        assert_eq!((row.count, row.who.as_str(), row.result.as_str()), (500, "a", "forbidden"));
        assert_eq!(flood.over(Millis::from_secs(90)), None);
    }

    #[test]
    fn a_flood_that_goes_on_is_a_row_a_minute() {
        let mut flood = Flood::default();
        let (mut apart, mut together) = (0, 0);
        for second in 0..600 {
            let now = Millis::from_secs(second);
            apart += count(&mut flood, 20, now);
            together += usize::from(flood.over(now).is_some());
        }
        assert_eq!((apart, together), (10, 9));
    }

    #[test]
    fn refusals_that_never_end_are_a_hundred_rows_in_the_first_hour_and_six_in_each_after_it() {
        for pause in [1, 6, 7, 30] {
            let mut flood = Flood::default();
            let mut rows = [0; 6];
            for second in 0..6 * 3600u64 {
                let now = Millis::from_secs(second);
                let refused = second % pause == 0 && flood.refused(refusal("a"), now).is_some();
                let counted = flood.over(now).is_some();
                rows[usize::try_from(second / 3600).unwrap()] += usize::from(refused) + usize::from(counted);
            }
            assert!(rows.iter().all(|rows| *rows <= 66), "{pause}: {rows:?}");
        }
    }

    #[test]
    fn after_a_quiet_minute_each_has_its_row_again() {
        let mut flood = Flood::default();
        count(&mut flood, 50, Millis(0));
        flood.over(Millis::from_secs(60)).unwrap();
        assert_eq!(count(&mut flood, 10, Millis::from_secs(60)), 10);
    }

    #[test]
    fn what_differs_is_not_told_of_one() {
        let mut flood = Flood::default();
        count(&mut flood, 11, Millis(0));
        let other = NewAuditRow::new("b", "cashier", "grant", "x", "forbidden");
        assert_eq!(flood.refused(other, Millis(1)), None);
        let row = flood.over(Millis::from_secs(61)).unwrap();
        let told = [row.who, row.role, row.what, row.target, row.result];
        assert_eq!(
            (told, row.count),
            (["several", "several", "grant", "x", "forbidden"].map(String::from), 2)
        );
    }
}
