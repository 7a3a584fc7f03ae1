//! How much may be made: per request, hour and day, of one operator and of all together. What is made is reserved in the
//! commit with which it begins; what is certain not to come of it is given back by the store.

use crate::config::{Config, LimitConfig};
use crate::store::{window_start, Door, StoreError, EVERYBODY, LIMIT_WINDOWS};
use crate::units::Millis;

/// What is over: `tx`, `hour` or `day`, and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverLimit {
    pub window: &'static str,
    pub who: String,
    pub most: u64,
}

impl OverLimit {
    /// What a caller is told who asked for this much.
    pub fn message(&self, sats: u64) -> String {
        let OverLimit { window, who, most } = self;
        let whose = if who.is_empty() { "everybody's" } else { "your" };
        format!("{sats} sat are over {whose} limit of {most} sat ({window})")
    }
}

/// Whose limits a request counts against, with what the configuration says of them.
fn limits_of<'c>(config: &'c Config, who: &'c str) -> [(&'c str, Option<&'c LimitConfig>); 2] {
    let find = |name: Option<&str>| config.limits.iter().find(|limit| limit.operator.as_deref() == name);
    [(who, find(Some(who))), (EVERYBODY, find(None))]
}

/// The limit that holds: the one that was raised by votes, where it is more than the configuration's.
pub fn most(
    door: &Door,
    config: &Config,
    who: &str,
    window: &'static str,
) -> Result<Option<u64>, StoreError> {
    let named = (who != EVERYBODY).then_some(who);
    let limit = config.limits.iter().find(|limit| limit.operator.as_deref() == named);
    let Some(configured) = limit.and_then(|limit| configured(limit, window)) else { return Ok(None) };
    let raised = door.query(
        "SELECT most FROM spending_limits WHERE tenant = $1 AND who = $2 AND span = $3",
        &[who.into(), window.into()],
    )?;
    let raised = raised.first().map_or(Ok(0), |row| row.count(0))?;
    Ok(Some(raised.max(configured)))
}

pub fn configured(limit: &LimitConfig, window: &str) -> Option<u64> {
    match window {
        "tx" => limit.tx,
        "hour" => limit.hour,
        _ => limit.day,
    }
}

/// What was made in the window that runs now.
pub fn spent(door: &Door, who: &str, window: &str, now: Millis) -> Result<u64, StoreError> {
    let starts = window_start(window, now);
    let found = door.query(
        "SELECT spent FROM spending WHERE tenant = $1 AND who = $2 AND span = $3 AND starts = $4",
        &[who.into(), window.into(), starts.into()],
    )?;
    found.first().map_or(Ok(0), |row| row.count(0))
}

/// The first limit that this much more would exceed.
pub fn over(
    door: &Door,
    config: &Config,
    who: &str,
    sats: u64,
    now: Millis,
) -> Result<Option<OverLimit>, StoreError> {
    for (who, _) in limits_of(config, who) {
        let is_over = |window, most| Some(OverLimit { window, who: who.to_owned(), most });
        match most(door, config, who, "tx")? {
            Some(most) if sats > most => return Ok(is_over("tx", most)),
            _ => {}
        }
        for (window, _) in LIMIT_WINDOWS {
            let Some(most) = most(door, config, who, window)? else { continue };
            if spent(door, who, window, now)?.saturating_add(sats) > most {
                return Ok(is_over(window, most));
            }
        }
    }
    Ok(None)
}

/// Counts what is begun, if every window has room for it, with one statement for each window. Nothing is counted where one
/// has not.
pub fn reserve(
    door: &Door,
    config: &Config,
    who: &str,
    sats: u64,
    now: Millis,
    approved: bool,
) -> Result<Option<OverLimit>, StoreError> {
    if !approved {
        if let Some(over) = over(door, config, who, sats, now)? {
            return Ok(Some(over));
        }
    }
    for (who, _) in limits_of(config, who) {
        for (window, length) in LIMIT_WINDOWS {
            let most = match approved {
                true => None,
                false => most(door, config, who, window)?,
            };
            let starts = window_start(window, now);
            door.execute(
                "DELETE FROM spending WHERE tenant = $1 AND who = $2 AND span = $3 AND starts < $4",
                &[who.into(), window.into(), starts.saturating_sub(length).into()],
            )?;
            door.execute(
                "INSERT INTO spending (tenant, who, span, starts, spent) VALUES ($1, $2, $3, $4, 0)
                 ON CONFLICT DO NOTHING",
                &[who.into(), window.into(), starts.into()],
            )?;
            let counted = door.execute(
                "UPDATE spending SET spent = spent + $5
                 WHERE tenant = $1 AND who = $2 AND span = $3 AND starts = $4 AND spent + $5 <= $6",
                &[
                    who.into(),
                    window.into(),
                    starts.into(),
                    sats.into(),
                    most.unwrap_or(u64::MAX >> 1).into(),
                ],
            )?;
            if counted != 1 {
                return Err(StoreError::Gone);
            }
        }
    }
    Ok(None)
}

/// Raises a limit, until the configuration says more.
pub fn raise(door: &Door, who: &str, window: &str, most: u64, at: u64) -> Result<(), StoreError> {
    door.execute(
        "INSERT INTO spending_limits (tenant, who, span, most, changed_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant, who, span) DO UPDATE SET most = $4, changed_at = $5",
        &[who.into(), window.into(), most.into(), at.into()],
    )?;
    Ok(())
}
