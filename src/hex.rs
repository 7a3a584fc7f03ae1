//! Lower-case hex, the text form of points, scalars and keyset ids. Refuses odd lengths, signs and blanks.

use std::fmt::Write;

pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Exactly `N` bytes; either case is read.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != N.checked_mul(2)? {
        return None;
    }
    let mut bytes = [0u8; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(bytes)
}

/// Any number of bytes; either case is read.
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
        _ => None,
    };
    pairs.map(byte).collect()
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_the_round_trip_in_lower_case() {
        assert_eq!(decode::<4>("00fFa07E"), Some([0x00, 0xff, 0xa0, 0x7e]));
        assert_eq!(encode(&[0x00, 0xff, 0xa0, 0x7e]), "00ffa07e");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "0", "0011", "+f", "0x", "é", " 1", "zz"] {
            assert_eq!(decode::<1>(text), None, "{text}");
        }
    }
}
