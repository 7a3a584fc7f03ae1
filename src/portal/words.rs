//! The texts that the script writes by itself, under their names.

use super::lang::Lang;
use serde_json::Value;

macro_rules! words {
    ($strings:expr, $($key:ident)*) => {
        [$((stringify!($key), $strings.$key)),*]
    };
}

/// A JSON object.
pub(super) fn for_script(lang: Lang) -> String {
    let words = words!(
        lang.strings(),
        group sats day_one days hour_one hours minute_one minutes second_one seconds last_join clock_days unit_price
        working copied copy_failed ends_at ends_tomorrow ends_on kilobytes megabytes gigabytes
    );
    Value::from_iter(words).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_script_has_each_text_that_it_writes_and_no_other() {
        let script = include_str!("portal.js");
        let end = |rest: &str| rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap();
        let written: BTreeSet<&str> = script.split("words.").skip(1).map(|rest| &rest[..end(rest)]).collect();
        let json: serde_json::Value = serde_json::from_str(&for_script(Lang::English)).unwrap();
        let sent: BTreeSet<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(written, sent);
    }
}
