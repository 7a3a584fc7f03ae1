//! `tollgated audit`, and what the audit log is told of the other commands.

use super::Reach::AuditLog as OfLog;
use super::Shows::Rows;
use super::{amounts, Command, CommandError, Doing, Given, Reach, Whose, OTHERS};
use crate::auth::AuditLog;
use crate::clock::{days_before, Date};
use crate::config::Metric;
use crate::config::Role::Manager;
use crate::json::json;
use crate::store::{with_change, AuditRow, AuditVerdict, NewAuditRow, StoreError};
use crate::units::UnixSeconds;
use serde_json::Value;

/// Rows of one answer. For more, ask for those since the last one.
const AT_ONCE: u32 = 1000;

pub static COMMANDS: &[Command] = &[Command {
    name: "audit",
    args: "[--verify | --since TIME]",
    role: Manager,
    audited: false,
    moves_money: false,
    whose: Whose::Platform,
    reach: OfLog(&["GET /admin/audit"], OTHERS, |log, given| Box::pin(audit(log, given))),
    shows: Rows("rows"),
    summary: "who did what, when, with which result: the newest 1000 rows, or the first 1000 since a time; --verify: whether \
              all are as they were written",
}];

async fn audit(log: &AuditLog, given: &Given) -> Result<Value, CommandError> {
    if given.has("--verify") {
        return match log.verify().await.map_err(closed)? {
            AuditVerdict::Whole { rows } => Ok(json!({"verified": true, "rows": rows})),
            AuditVerdict::Bad { seq, fault } => {
                Err(CommandError::Refused("audit_damaged", format!("row {seq} of the audit log {fault}")))
            }
        };
    }
    let since = given.text("--since").map(|text| moment(text, log.wall()).ok_or_else(|| given.wrong()));
    let rows = log.rows(since.transpose()?, AT_ONCE).await.map_err(closed)?;
    let is_all = rows.len() < usize::try_from(AT_ONCE).unwrap_or(usize::MAX) || !given.has("--since");
    let counted = log.counted().filter(|_| is_all);
    let told_of = |AuditRow { seq, at, row, prev, hash }: &AuditRow| {
        let mut told = told(row, *at);
        (told["seq"], told["prev"], told["hash"]) = (json!(seq), json!(prev), json!(hash));
        told
    };
    let still_open = |row: &NewAuditRow| {
        let mut told = told(row, log.wall());
        told["open"] = json!(true);
        told
    };
    Ok(rows.iter().map(told_of).chain(counted.iter().map(still_open)).collect())
}

/// A row without its place in the chain: one that is still being counted has none.
fn told(row: &NewAuditRow, at: UnixSeconds) -> Value {
    json!({
        "seq": Value::Null,
        "at": at.0,
        "who": row.who,
        "role": row.role,
        "what": row.what,
        "target": row.target,
        "result": row.result,
        "count": row.count,
        "prev": Value::Null,
        "hash": Value::Null,
    })
}

fn closed(error: StoreError) -> CommandError {
    CommandError::Closed(error.code(), error.to_string())
}

/// What a `TIME` names: `2026-11-30`, `2026-11-30T16:00:00Z`, seconds since 1970, or `2h`, that long before `now`.
fn moment(text: &str, now: UnixSeconds) -> Option<UnixSeconds> {
    if let Ok(seconds) = text.parse() {
        return Some(UnixSeconds(seconds));
    }
    if let Ok((Metric::Milliseconds, ago)) = amounts::amount(text) {
        return Some(UnixSeconds(now.0.saturating_sub(ago.0 / 1000)));
    }
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let number = |text: &str, digits: usize, most: u64| {
        let is_number = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|number: &u64| is_number && *number <= most)
    };
    let mut date = date.split('-');
    let (year, month, day) = (date.next()?, date.next()?, date.next()?);
    let (year, month, day) = (number(year, 4, 9999)?, number(month, 2, 12)?, number(day, 2, 31)?);
    let mut time = time.trim_end_matches('Z').split(':');
    let (hour, minute) = (number(time.next()?, 2, 23)?, number(time.next()?, 2, 59)?);
    let second = time.next().map_or(Some(0), |second| number(second, 2, 60))?;
    let is_over = date.next().is_none() && time.next().is_none();
    let days = u64::try_from(days_before(Date { year, month: month.max(1), day: day.max(1) })).ok()?;
    let seconds = hour.checked_mul(3600)?.checked_add(minute.checked_mul(60)?)?.checked_add(second)?;
    is_over.then_some(UnixSeconds(days.checked_mul(86_400)?.checked_add(seconds)?))
}

/// What a row says of a change that takes more than one commit, from the first of them on.
pub const BEGUN: &str = "begun";

/// Carries a call out, and writes down what came of it, if that is to be known.
///
/// Commands of the HTTP interface change the store in one commit, and their row is part of it. What the others change is
/// more than that: a mint's books, a key's file. Their first commit has a row that says [`BEGUN`], and a second row says how
/// it ended. After a crash between the two the first one is there alone.
pub async fn noted(log: Option<&AuditLog>, given: &Given, doing: Doing<'_>) -> Result<Value, CommandError> {
    let (command, caller) = (given.command(), given.operator());
    let Some(log) = log else { return doing.await };
    let row =
        |result| NewAuditRow::new(&caller.name, caller.role.as_str(), command.name, &given.told(), result);
    let is_one_change = matches!(command.reach, Reach::Http(..) | Reach::Signed(..));
    let (done, is_written) = match command.audited {
        true => with_change(row(if is_one_change { "ok" } else { BEGUN }), doing).await,
        false => (doing.await, false),
    };
    let result = match &done {
        Ok(_) => "ok",
        // There was nothing to be done, and what was said may be anything.
        Err(CommandError::Usage(_) | CommandError::Input(..) | CommandError::Missing(..)) if !is_written => {
            return done
        }
        Err(error) => error.code(),
    };
    match &done {
        Err(CommandError::Forbidden(..)) => log.refused(row(result)),
        Ok(_) if is_one_change && is_written => {}
        _ if command.audited => log.ended(row(result), is_written || done.is_ok()).await,
        _ => {}
    }
    done
}

/// The same for what the shell has done by itself.
pub async fn noted_here(log: AuditLog, given: &Given) -> Result<Value, CommandError> {
    noted(Some(&log), given, Box::pin(std::future::ready(Ok(Value::Null)))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_or_so_long_ago() {
        let now = UnixSeconds(1_800_000_000);
        for (text, seconds) in [
            ("0", Some(0)),
            ("1800000000", Some(1_800_000_000)),
            ("1h30m", Some(1_799_994_600)),
            ("1970-01-02", Some(86_400)),
            ("2026-11-30T16:05:09Z", Some(1_796_054_709)),
            ("2026-11-30 16:05", Some(1_796_054_700)),
            ("2026-13-01", None),
            ("2026-11-30T24:00", None),
            ("2026-11-30T16", None),
            ("2026-11-30-01", None),
            ("26-11-30", None),
            ("5MB", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(moment(text, now).map(|at| at.0), seconds, "{text}");
        }
    }
}
