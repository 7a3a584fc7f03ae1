//! `application/x-www-form-urlencoded`: the fields of queries and forms, and values that are safe in a query.

/// Fields that are read; the rest is ignored.
const MAX_FIELDS: usize = 32;

/// Names and values, in their order. What is malformed is taken literally.
pub fn pairs(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .take(MAX_FIELDS)
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut ahead = rest.clone();
                let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16));
                match (digit(ahead.next()), digit(ahead.next())) {
                    (Some(high), Some(low)) => {
                        rest = ahead;
                        u8::try_from(high.saturating_mul(16).saturating_add(low)).unwrap_or(b'?')
                    }
                    _ => b'%',
                }
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Percent-encodes everything but the unreserved characters of RFC 3986, for use in a query.
pub fn query_value(data: &str) -> String {
    let mut encoded = String::new();
    for byte in data.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_decoded_and_malformed_escapes_kept() {
        let expected = [("steps", "60"), ("mint", "https://m.example/a b"), ("x", "%zz%4"), ("flag", "")];
        let parsed = pairs("steps=60&mint=https%3A%2F%2Fm.example%2Fa+b&&x=%zz%4&flag");
        assert_eq!(parsed, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_query_value_keeps_only_unreserved_characters() {
        assert_eq!(query_value("a-Z_0.~ &=\"/é"), "a-Z_0.~%20%26%3D%22%2F%C3%A9");
    }
}
