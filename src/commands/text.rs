//! The daemon's answers as text for people; scripts take the JSON as it is. Names say the unit: `remaining_seconds` is a
//! duration, `used_bytes` an amount of data, `ends_at` a time, which is shown as the clock on the wall shows it, and
//! `paid_sat` and what is in [`IN_SATS`] are money.

use crate::units::{data_text, time_text};
use crate::zone::Zone;
use serde_json::Value;

/// The fields that come first; all others follow by name.
const ORDER: &str = "ready not_ready trouble guests sales_today vouchers_today takings mints ways gate venues store cards \
    mpesa jobs clock uptime_seconds tls version name mac addresses venue device trusted remaining_seconds remaining_bytes used_bytes allotment_seconds \
    allotment_bytes ends_at paid_sat \
    seq who role what target result count url state reachable cause online count sat balance held \
    card_id card_name enabled wiped programmed tx_max day_max spent_today_msat at amount_msat fee_msat";
/// Sats whose names do not say it.
const IN_SATS: &str = "amount balance day_max fee held received reclaimed restored tx_max";

/// Tables as lines, everything else as indented names and values. `what` names the rows.
pub fn for_people(what: &str, data: &Value, zone: &Zone) -> String {
    let mut page = Page { text: String::new(), zone };
    match data {
        Value::Array(rows) if rows.is_empty() => page.text = format!("no {what}\n"),
        Value::Array(rows) => rows.iter().for_each(|row| page.line(row, 0)),
        other => page.outline(ordered(other), 0),
    }
    page.text
}

struct Page<'a> {
    text: String,
    zone: &'a Zone,
}

impl Page<'_> {
    /// One line, and below it what has parts of its own.
    fn line(&mut self, row: &Value, depth: usize) {
        let (below, fields): (Vec<_>, Vec<_>) =
            ordered(row).into_iter().partition(|(_, value)| has_rows(value));
        let field = |(name, value): (&String, &Value)| {
            let (name, text) = self.shown(name, value);
            format!("{name}={text}")
        };
        let fields: Vec<String> = fields.into_iter().map(field).collect();
        self.text.push_str(&format!("{}{}\n", "  ".repeat(depth), fields.join("  ")));
        self.outline(below, depth.saturating_add(1));
    }

    fn outline(&mut self, entries: Vec<(&String, &Value)>, depth: usize) {
        let indent = "  ".repeat(depth);
        for (name, value) in entries {
            if !has_parts(value) {
                let (name, value) = self.shown(name, value);
                self.text.push_str(&format!("{indent}{name}: {value}\n"));
                continue;
            }
            self.text.push_str(&format!("{indent}{name}\n"));
            let depth = depth.saturating_add(1);
            match value {
                Value::Array(items) => {
                    for item in items {
                        if item.is_object() {
                            self.line(item, depth);
                        } else {
                            self.text.push_str(&format!("{indent}  {}\n", plain(item)));
                        }
                    }
                }
                inner => self.outline(ordered(inner), depth),
            }
        }
    }

    /// Name and value, the unit moved from the one to the other.
    fn shown<'a>(&self, name: &'a str, value: &Value) -> (&'a str, String) {
        let (start, end) = name.rsplit_once('_').unwrap_or(("", name));
        let unit_of_name = ["seconds", "bytes", "sat", "msat"].contains(&end) && !start.is_empty();
        let Some(number) = value.as_u64() else {
            return (if unit_of_name { start } else { name }, plain(value));
        };
        match (start, end) {
            ("", "seconds") => ("time", time_text(number)),
            ("", "bytes") => ("data", data_text(number)),
            ("seconds", "ago") => ("ago", time_text(number)),
            (_, "seconds") => (start, time_text(number)),
            (_, "bytes") => (start, data_text(number)),
            (_, "sat") if !start.is_empty() => (start, format!("{number} sat")),
            (_, "msat") if !start.is_empty() => (start, msats(number)),
            (_, "at") | ("not", "after") | ("", "wall" | "created") => (name, self.zone.timestamp(number)),
            _ if IN_SATS.split(' ').any(|known| known == name) => (name, format!("{number} sat")),
            _ => (name, plain(value)),
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

/// Whether it does not fit into a line.
fn has_rows(value: &Value) -> bool {
    has_parts(value) && !value.as_array().is_some_and(|items| items.iter().all(|item| !has_parts(item)))
}

fn ordered(value: &Value) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = value.as_object().into_iter().flatten().collect();
    entries.sort_by_key(|(name, _)| {
        ORDER.split_whitespace().position(|first| first == name.as_str()).unwrap_or(usize::MAX)
    });
    entries
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => other.to_string(),
    }
}

/// `21 sat`, `0.5 sat`
fn msats(number: u64) -> String {
    match number % 1000 {
        0 => format!("{} sat", number / 1000),
        rest => format!("{}.{rest:03} sat", number / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(what: &str, data: &Value) -> String {
        for_people(what, data, &Zone::utc())
    }

    #[test]
    fn a_row_is_a_line_with_what_matters_first_and_units_in_the_values() {
        let rows = json!([
            {"venue": "guest", "mac": "02:00:00:00:00:01", "name": "annas-phone", "addresses": ["192.168.1.20", "fd77::b"],
             "ends_at": 951_868_800, "remaining_seconds": 3599, "allotment_seconds": 7_200, "paid_sat": 21},
            {"venue": "guest", "mac": "02:00:00:00:00:02", "name": null, "addresses": [], "used_bytes": 999,
             "remaining_bytes": 34_500_000},
        ]);
        assert_eq!(
            shown("sessions", &rows),
            "name=annas-phone  mac=02:00:00:00:00:01  addresses=192.168.1.20,fd77::b  venue=guest  remaining=59m 59s  \
             allotment=2h 0m  ends_at=Mar  1 00:00:00 UTC  paid=21 sat\n\
             name=-  mac=02:00:00:00:00:02  addresses=none  venue=guest  remaining=34.5 MB  used=999 B\n"
        );
        assert_eq!(shown("sessions", &json!([])), "no sessions\n");
    }

    #[test]
    fn a_time_is_what_the_clock_on_the_wall_shows() {
        let zone = Zone::parse("EAT-3").unwrap();
        assert_eq!(for_people("", &json!({"ends_at": 951_868_800}), &zone), "ends_at: Mar  1 03:00:00 EAT\n");
    }

    #[test]
    fn money_has_its_unit() {
        let card = json!({"tx_max": 1000, "day_max": 5000, "spent_today_msat": 21_500, "counter": 3});
        assert_eq!(
            shown("", &card),
            "tx_max: 1000 sat\nday_max: 5000 sat\nspent_today: 21.500 sat\ncounter: 3\n"
        );
    }

    #[test]
    fn a_state_begins_with_whether_anything_can_be_sold() {
        let state = json!({
            "version": "1.0.0", "clock": {"wall": 951_868_800, "service_seconds": 187_200}, "not_ready": [],
            "ready": true, "sales_today": {"count": 2, "sat": 7, "seconds": 90, "bytes": 1000}, "store": null,
            "uptime_seconds": 61, "tls": {"not_after": 951_868_800, "name": "w.example"},
        });
        assert_eq!(
            shown("status", &state),
            "ready: yes\nnot_ready: none\nsales_today\n  count: 2\n  sat: 7\n  data: 1.0 kB\n  time: 1m 30s\nstore: -\n\
             clock\n  service: 2d 4h\n  wall: Mar  1 00:00:00 UTC\nuptime: 1m 1s\n\
             tls\n  name: w.example\n  not_after: Mar  1 00:00:00 UTC\nversion: 1.0.0\n"
        );
    }

    #[test]
    fn parts_of_a_row_stand_below_it() {
        let info = json!({"mints": [
            {"url": "https://a.example", "balance": 21, "keysets": [{"id": "00ab", "active": true}, {"id": "00cd", "active": false}]},
            {"url": "https://b.example", "balance": 0, "keysets": []},
        ], "open": {"receiving": 0, "spending": 1}});
        assert_eq!(
            shown("wallet", &info),
            "mints\n  url=https://a.example  balance=21 sat\n    keysets\n      active=yes  id=00ab\n      active=no  id=00cd\n  \
             url=https://b.example  balance=0 sat  keysets=none\nopen\n  receiving: 0\n  spending: 1\n"
        );
    }

    #[test]
    fn what_is_not_known_is_a_dash_under_the_same_name() {
        assert_eq!(
            shown("clients", &json!([{"mac": "m", "remaining_seconds": null}])),
            "mac=m  remaining=-\n"
        );
    }
}
