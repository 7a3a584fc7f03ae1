//! The daemon's answers as text for people; scripts take the JSON as it is. Names say the unit: `remaining_seconds` is a
//! duration, `used_bytes` an amount of data, `ends_at` a time.

use crate::clock::timestamp;
use serde_json::Value;

/// The fields that come first; all others follow by name.
const ORDER: &str = "ready not_ready trouble guests sales_today mints ways gate store cards clock version \
    mac address device venue trusted remaining_seconds remaining_bytes used_bytes allotment_seconds allotment_bytes ends_at \
    url state reachable online count sat \
    card_id card_name enabled wiped programmed tx_max day_max spent_today_msat at amount_msat fee_msat";

/// Tables as lines, everything else as indented names and values. `what` names the rows.
pub fn for_people(what: &str, data: &Value) -> String {
    let mut text = String::new();
    match data {
        Value::Array(rows) if rows.is_empty() => text = format!("no {what}\n"),
        Value::Array(rows) => rows.iter().for_each(|row| line(row, 0, &mut text)),
        other => outline(ordered(other), 0, &mut text),
    }
    text
}

/// One line, and below it what has parts of its own.
fn line(row: &Value, depth: usize, text: &mut String) {
    let (below, fields): (Vec<_>, Vec<_>) = ordered(row).into_iter().partition(|(_, value)| has_parts(value));
    let field = |(name, value): (&String, &Value)| {
        let (name, text) = shown(name, value);
        format!("{name}={text}")
    };
    let fields: Vec<String> = fields.into_iter().map(field).collect();
    text.push_str(&format!("{}{}\n", "  ".repeat(depth), fields.join("  ")));
    outline(below, depth.saturating_add(1), text);
}

fn outline(entries: Vec<(&String, &Value)>, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    for (name, value) in entries {
        if !has_parts(value) {
            let (name, value) = shown(name, value);
            text.push_str(&format!("{indent}{name}: {value}\n"));
            continue;
        }
        text.push_str(&format!("{indent}{name}\n"));
        let depth = depth.saturating_add(1);
        match value {
            Value::Array(items) => {
                for item in items {
                    if item.is_object() {
                        line(item, depth, text);
                    } else {
                        text.push_str(&format!("{indent}  {}\n", plain(item)));
                    }
                }
            }
            inner => outline(ordered(inner), depth, text),
        }
    }
}

fn has_parts(value: &Value) -> bool {
    match value {
        Value::Object(inner) => !inner.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

fn ordered(value: &Value) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = value.as_object().into_iter().flatten().collect();
    entries.sort_by_key(|(name, _)| {
        ORDER.split(' ').position(|first| first == name.as_str()).unwrap_or(usize::MAX)
    });
    entries
}

/// Name and value, the unit moved from the one to the other.
fn shown<'a>(name: &'a str, value: &Value) -> (&'a str, String) {
    let Some(number) = value.as_u64() else {
        return (name.trim_end_matches("_seconds"), plain(value));
    };
    match (name.rsplit_once('_'), name) {
        (Some((name, "seconds")), _) => (name, duration(number)),
        (Some((name, "bytes")), _) => (name, data(number)),
        (None, "seconds") => ("time", duration(number)),
        (None, "bytes") => ("data", data(number)),
        (Some((_, "at")), _) | (None, "wall" | "at" | "created") => {
            (name, format!("{} UTC", timestamp(number)))
        }
        _ => (name, plain(value)),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => other.to_string(),
    }
}

/// `2d 4h`, `3h 5m`, `12m 30s`, `45s`.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// `999 B`, `1.2 kB`, `34.5 MB`: of 2^10 and 2^20 bytes, as `grant` takes it and the portal shows it.
fn data(bytes: u64) -> String {
    let units = [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB")];
    match units.iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{}.{} {unit}", bytes / size, bytes % size * 10 / size),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_is_a_line_with_what_matters_first_and_units_in_the_values() {
        let rows = json!([
            {"venue": "guest", "mac": "02:00:00:00:00:01", "ends_at": 951_868_800, "remaining_seconds": 3599, "allotment_seconds": 7_200},
            {"venue": "guest", "mac": "02:00:00:00:00:02", "used_bytes": 999, "remaining_bytes": 36_178_000},
        ]);
        assert_eq!(
            for_people("sessions", &rows),
            "mac=02:00:00:00:00:01  venue=guest  remaining=59m 59s  allotment=2h 0m  ends_at=Mar  1 00:00:00 UTC\n\
             mac=02:00:00:00:00:02  venue=guest  remaining=34.5 MB  used=999 B\n"
        );
        assert_eq!(for_people("sessions", &json!([])), "no sessions\n");
    }

    #[test]
    fn a_state_begins_with_whether_anything_can_be_sold() {
        let state = json!({
            "version": "1.0.0", "clock": {"wall": 951_868_800, "service_seconds": 187_200}, "not_ready": [],
            "ready": true, "sales_today": {"count": 2, "sat": 7, "seconds": 90, "bytes": 1024}, "store": null,
        });
        assert_eq!(
            for_people("status", &state),
            "ready: yes\nnot_ready: none\nsales_today\n  count: 2\n  sat: 7\n  data: 1.0 kB\n  time: 1m 30s\nstore: -\n\
             clock\n  service: 2d 4h\n  wall: Mar  1 00:00:00 UTC\nversion: 1.0.0\n"
        );
    }

    #[test]
    fn parts_of_a_row_stand_below_it() {
        let info = json!({"mints": [
            {"url": "https://a.example", "balance": 21, "keysets": [{"id": "00ab", "active": true}, {"id": "00cd", "active": false}]},
            {"url": "https://b.example", "balance": 0, "keysets": []},
        ], "open": {"receiving": 0, "spending": 1}});
        assert_eq!(
            for_people("wallet", &info),
            "mints\n  url=https://a.example  balance=21\n    keysets\n      active=yes  id=00ab\n      active=no  id=00cd\n  \
             url=https://b.example  balance=0  keysets=none\nopen\n  receiving: 0\n  spending: 1\n"
        );
    }

    #[test]
    fn what_is_not_known_is_a_dash_under_the_same_name() {
        assert_eq!(
            for_people("clients", &json!([{"mac": "m", "remaining_seconds": null}])),
            "mac=m  remaining=-\n"
        );
    }
}
