//! What a body or a query may hold, as tables: a member that no table names, or that is of another kind, is refused, and
//! each fault is told with the place where it is.

use super::VoucherRefusal;
use crate::json;
use crate::url::Url;
use crate::uuid::Uuid;
use serde_json::{Map, Value};

/// Faults that are told of one input.
const MOST_FAULTS: usize = 20;

/// One member.
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub needed: bool,
}

#[derive(Clone, Copy)]
pub enum Kind {
    Uuid,
    /// A name that is safe in a path and a line: 1 to 64 letters, digits or . _ : @ -
    Name,
    /// One line of at most this many characters.
    Text(usize),
    /// A whole number of this range.
    Number(u64, u64),
    OneOf(&'static [&'static str]),
    Yes,
    Address,
    /// What is compared with a hash: text of any form, which is then not that hash.
    Hash,
    /// Anything that is an object; it is not looked into.
    Object,
    /// Different UUIDs, at least one and at most this many.
    Uuids(usize),
    /// Objects with different `id`, at least one and at most this many.
    Objects(usize, &'static [Field]),
}

pub const fn needed(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, needed: true }
}

pub const fn optional(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, needed: false }
}

/// The object of a body.
pub fn body(text: &str, fields: &[Field]) -> Result<Value, VoucherRefusal> {
    let value: Value = json::read(text.as_bytes())
        .ok_or_else(|| VoucherRefusal::new(400, "invalid_json", "the body is no JSON that is taken here"))?;
    let Value::Object(object) = &value else {
        return Err(VoucherRefusal::new(400, "invalid_input", "the body is no JSON object"));
    };
    let mut faults = Vec::new();
    check(object, fields, "", &mut faults);
    faults.is_empty().then_some(()).ok_or_else(|| VoucherRefusal::input(faults))?;
    Ok(value)
}

/// The fields of a query, each at most once; numbers become numbers.
pub fn query(pairs: &[(String, String)], fields: &[Field]) -> Result<Value, VoucherRefusal> {
    let mut object = Map::new();
    for (name, text) in pairs {
        let kind = fields.iter().find(|field| field.name == name).map(|field| field.kind);
        let is_decimal = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse::<u64>().ok().filter(|_| is_decimal);
        let value = match (kind, number) {
            (Some(Kind::Number(..)), Some(number)) => Value::from(number),
            _ => Value::from(text.as_str()),
        };
        if object.insert(name.clone(), value).is_some() {
            return Err(VoucherRefusal::field(&told(name), "is there twice"));
        }
    }
    let mut faults = Vec::new();
    check(&object, fields, "", &mut faults);
    faults.is_empty().then_some(Value::Object(object)).ok_or_else(|| VoucherRefusal::input(faults))
}

fn check(object: &Map<String, Value>, fields: &[Field], before: &str, faults: &mut Vec<(String, String)>) {
    let mut fault = |name: &str, what: String| {
        if faults.len() < MOST_FAULTS {
            faults.push((format!("{before}{}", told(name)), what));
        }
    };
    for name in object.keys() {
        if !fields.iter().any(|field| field.name == name) {
            fault(name, "is not known here".to_owned());
        }
    }
    let mut inner = Vec::new();
    for field in fields {
        match object.get(field.name) {
            None | Some(Value::Null) if field.needed => fault(field.name, "is missing".to_owned()),
            None | Some(Value::Null) => {}
            Some(value) => match (field.kind, value) {
                (Kind::Objects(most, fields), Value::Array(items)) => {
                    if !(1..=most).contains(&items.len()) {
                        fault(field.name, format!("are 1 to {most}"));
                        continue;
                    }
                    inner.push((field.name, fields, items));
                }
                (kind, value) => {
                    if let Some(what) = wrong(kind, value) {
                        fault(field.name, what);
                    }
                }
            },
        }
    }
    for (name, fields, items) in inner {
        let mut ids: Vec<&str> = Vec::new();
        for (number, item) in items.iter().enumerate() {
            let place = format!("{before}{name}[{number}]");
            match item {
                Value::Object(object) => check(object, fields, &format!("{place}."), faults),
                _ if faults.len() < MOST_FAULTS => faults.push((place.clone(), "is no object".to_owned())),
                _ => {}
            }
            let Some(id) = item.get("id").and_then(Value::as_str) else { continue };
            if ids.iter().any(|known| known.eq_ignore_ascii_case(id)) && faults.len() < MOST_FAULTS {
                faults.push((format!("{place}.id"), "is there twice".to_owned()));
            }
            ids.push(id);
        }
    }
}

/// What is wrong with a value.
fn wrong(kind: Kind, value: &Value) -> Option<String> {
    let text = value.as_str();
    let is_right = match kind {
        Kind::Uuid => text.is_some_and(|text| text.parse::<Uuid>().is_ok()),
        Kind::Name => text.is_some_and(is_name),
        Kind::Text(most) => {
            text.is_some_and(|text| text.chars().count() <= most && !text.chars().any(char::is_control))
        }
        Kind::Number(least, most) => value.as_u64().is_some_and(|number| (least..=most).contains(&number)),
        Kind::OneOf(words) => text.is_some_and(|text| words.contains(&text)),
        Kind::Yes => value.is_boolean(),
        Kind::Address => text.is_some_and(|text| Url::parse(text).is_ok()),
        Kind::Hash => text.is_some(),
        Kind::Object => value.is_object(),
        Kind::Uuids(most) => return uuids(value, most),
        Kind::Objects(..) => false,
    };
    (!is_right).then(|| match kind {
        Kind::Uuid => "is no UUID".to_owned(),
        Kind::Name => "is no name of 1 to 64 letters, digits or . _ : @ -".to_owned(),
        Kind::Text(most) => format!("is no line of at most {most} characters"),
        Kind::Number(least, most) => format!("is no whole number from {least} to {most}"),
        Kind::OneOf(words) => format!("is none of {}", words.join(", ")),
        Kind::Yes => "is neither true nor false".to_owned(),
        Kind::Address => "is no address like https://example.com".to_owned(),
        Kind::Hash => "is no text".to_owned(),
        Kind::Object => "is no object".to_owned(),
        Kind::Uuids(_) | Kind::Objects(..) => "is no list".to_owned(),
    })
}

fn uuids(value: &Value, most: usize) -> Option<String> {
    let Value::Array(items) = value else { return Some("is no list".to_owned()) };
    if !(1..=most).contains(&items.len()) {
        return Some(format!("are 1 to {most}"));
    }
    let mut ids: Vec<Uuid> = Vec::new();
    for item in items {
        match item.as_str().and_then(|text| text.parse().ok()) {
            None => return Some("holds what is no UUID".to_owned()),
            Some(id) if ids.contains(&id) => return Some("holds an id twice".to_owned()),
            Some(id) => ids.push(id),
        }
    }
    None
}

pub fn is_name(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'@' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(is_plain)
}

/// A name of a stranger, as far as it is told again.
fn told(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_graphic()).take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKET: &[Field] = &[needed("id", Kind::Uuid), optional("amount", Kind::Number(1, 1000))];
    const ORDER: &[Field] = &[
        needed("tickets", Kind::Objects(2, TICKET)),
        optional("kind", Kind::OneOf(&["a", "b"])),
        optional("note", Kind::Text(5)),
    ];
    const ID: &str = "7b0f2f0e-6a52-4a0e-9c3b-0c6f0a3b9a01";

    fn fault(text: &str) -> String {
        match body(text, ORDER) {
            Ok(_) => "ok".to_owned(),
            Err(refusal) => {
                assert_eq!(refusal.status, 400);
                refusal.details.first().map_or_else(|| refusal.code.to_owned(), |(field, _)| field.clone())
            }
        }
    }

    #[test]
    fn what_is_taken_is_in_the_table_and_each_fault_has_its_place() {
        assert_eq!(fault(&format!(r#"{{"tickets":[{{"id":"{ID}","amount":7}}],"kind":"a"}}"#)), "ok");
        let deep = "[".repeat(200_000);
        for (text, place) in [
            ("", "invalid_json"),
            ("[]", "invalid_input"),
            (deep.as_str(), "invalid_json"),
            (r#"{"tickets":[]}"#, "tickets"),
            (r#"{"tickets":{}}"#, "tickets"),
            (r#"{"tickets":[1]}"#, "tickets[0]"),
            (r#"{"tickets":[{"id":"../x"}]}"#, "tickets[0].id"),
            (r#"{"tickets":[{"id":7}]}"#, "tickets[0].id"),
            (
                &format!(r#"{{"tickets":[{{"id":"{ID}"}},{{"id":"{}"}}]}}"#, ID.to_uppercase()),
                "tickets[1].id",
            ),
            (&format!(r#"{{"tickets":[{{"id":"{ID}","amount":-1}}]}}"#), "tickets[0].amount"),
            (&format!(r#"{{"tickets":[{{"id":"{ID}","amount":1.5}}]}}"#), "tickets[0].amount"),
            (
                &format!(r#"{{"tickets":[{{"id":"{ID}","amount":9223372036854775808}}]}}"#),
                "tickets[0].amount",
            ),
            (&format!(r#"{{"tickets":[{{"id":"{ID}","amount":1e400}}]}}"#), "invalid_json"),
            (&format!(r#"{{"tickets":[{{"id":"{ID}"}}],"colour":1}}"#), "colour"),
            (&format!(r#"{{"tickets":[{{"id":"{ID}"}}],"kind":"c"}}"#), "kind"),
            (&format!("{{\"tickets\":[{{\"id\":\"{ID}\"}}],\"note\":\"a\\u0000\"}}"), "note"),
        ] {
            assert_eq!(fault(text), place, "{}", text.chars().take(80).collect::<String>());
        }
    }

    #[test]
    fn a_hash_is_text_of_any_form() {
        const VOTE: &[Field] = &[needed("requestHash", Kind::Hash)];
        for text in ["", "00", "no hash", &"0".repeat(64)] {
            assert!(body(&format!(r#"{{"requestHash":"{text}"}}"#), VOTE).is_ok(), "{text}");
        }
        for bad in ["{}", r#"{"requestHash":0}"#, r#"{"requestHash":null}"#, r#"{"requestHash":["00"]}"#] {
            assert!(body(bad, VOTE).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_query_is_read_by_the_same_tables() {
        const FIELDS: &[Field] = &[needed("count", Kind::Number(1, 10)), optional("name", Kind::Name)];
        let pairs = |text: &str| query(&crate::form::pairs(text), FIELDS);
        assert_eq!(pairs("count=7&name=12").unwrap()["count"], 7);
        for bad in
            ["", "count=0", "count=+1", "count=1e1", "count=1&count=2", "count=1&name=a/b", "count=1&x=1"]
        {
            assert!(pairs(bad).is_err(), "{bad}");
        }
    }
}
