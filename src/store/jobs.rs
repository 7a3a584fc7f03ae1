//! What is still to be done, whatever happens in between: written in the commit that makes it necessary, and removed in the
//! one that has done it.

use super::door::Door;
use super::{Store, StoreAnswer, StoreError};
use crate::units::Millis;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRow {
    pub kind: String,
    pub subject: String,
    pub tries: u32,
    /// By service time.
    pub due: Millis,
    pub created: Millis,
    /// Why it did not come to its end so far.
    pub error: String,
}

impl Store {
    /// All of them, the next one first.
    pub fn jobs(&self) -> StoreAnswer<Vec<JobRow>> {
        self.read(|tx| {
            let rows = Door::of(tx).query(
                "SELECT kind, subject, tries, due_ms, created_ms, error FROM jobs WHERE tenant = $1
                 ORDER BY due_ms, subject",
                &[],
            )?;
            let millis = |number: i64| Millis(u64::try_from(number).unwrap_or(0));
            rows.iter()
                .map(|row| {
                    Ok(JobRow {
                        kind: row.text(0)?.to_owned(),
                        subject: row.text(1)?.to_owned(),
                        tries: u32::try_from(row.number(2)?).unwrap_or(u32::MAX),
                        due: millis(row.number(3)?),
                        created: millis(row.number(4)?),
                        error: row.text(5)?.to_owned(),
                    })
                })
                .collect()
        })
    }

    /// One more try came to nothing for this reason; the next one is due then.
    pub fn job_failed(
        &self,
        kind: &'static str,
        subject: String,
        due: Millis,
        error: String,
    ) -> StoreAnswer<()> {
        self.write(move |tx| {
            let due = i64::try_from(due.0).unwrap_or(i64::MAX);
            Door::of(tx).execute(
                "UPDATE jobs SET tries = tries + 1, due_ms = $4, error = $5
                 WHERE tenant = $1 AND kind = $2 AND subject = $3",
                &[kind.into(), subject.as_str().into(), due.into(), error.as_str().into()],
            )?;
            Ok(())
        })
    }
}

pub(super) fn add_job(door: &Door, kind: &str, subject: &str, now: Millis) -> Result<(), StoreError> {
    let now = i64::try_from(now.0).unwrap_or(i64::MAX);
    door.execute(
        "INSERT INTO jobs (tenant, kind, subject, tries, due_ms, created_ms, error)
         VALUES ($1, $2, $3, 0, $4, $4, '') ON CONFLICT DO NOTHING",
        &[kind.into(), subject.into(), now.into()],
    )?;
    Ok(())
}

pub(super) fn end_job(door: &Door, kind: &str, subject: &str) -> Result<(), StoreError> {
    let ended = "DELETE FROM jobs WHERE tenant = $1 AND kind = $2 AND subject = $3";
    door.execute(ended, &[kind.into(), subject.into()]).map(drop)
}
