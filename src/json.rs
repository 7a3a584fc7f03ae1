//! JSON objects as they are written. `serde_json`'s own macro is code for every entry; this one hands a list of entries to
//! one function, which is a few dozen kB less on MIPS.

use serde::de::DeserializeOwned;
use serde::Serialize;
use serde_json::{Map, Value};

/// In memory a value takes up to fifty times its length, so a text of a stranger may hold at most this many.
const MOST_VALUES: usize = 50_000;

/// `json!({"name": value, ..})` or `json!(value)`. A value is any expression that can be serialised; an object within an
/// object is a `json!` of its own.
macro_rules! json {
    ({}) => { serde_json::Value::Object(serde_json::Map::new()) };
    ({ $($name:literal : $value:expr),+ $(,)? }) => {
        $crate::json::object(&mut [$(($name, $crate::json::value(&$value))),+])
    };
    ($value:expr) => { $crate::json::value(&$value) };
}
pub(crate) use json;

/// The object of these entries, whose values are taken out of the list.
pub fn object(entries: &mut [(&str, Value)]) -> Value {
    let mut object = Map::new();
    for (name, value) in entries {
        object.insert((*name).to_owned(), std::mem::take(value));
    }
    Value::Object(object)
}

/// Null where it cannot be said in JSON, as a map whose keys are no text.
#[inline(never)]
pub fn value<T: Serialize + ?Sized>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Reads the text of a stranger. `None` if it is not of this type, or holds more values than any use needs.
pub fn read<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    let values = text.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    if values > MOST_VALUES {
        return None;
    }
    serde_json::from_slice(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_for_the_memory_is_not_read() {
        let long = format!("[{:?}{}]", "x".repeat(900_000), ",[0]".repeat(1000));
        assert!(read::<Value>(long.as_bytes()).is_some());
        assert!(read::<Value>(format!("[0{}]", ",[0]".repeat(25_000)).as_bytes()).is_none());
        assert!(read::<Value>(b"[0").is_none());
    }

    #[test]
    fn entries_become_an_object() {
        let made = json!({"a": 1, "b": json!({"c": [true]}), "d": Option::<u8>::None});
        assert_eq!(made, serde_json::json!({"a": 1, "b": {"c": [true]}, "d": null}));
        assert_eq!((json!({}), json!("x")), (serde_json::json!({}), serde_json::json!("x")));
    }
}
