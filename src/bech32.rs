//! Bech32 (BIP-173), as invoices, LNURLs and Nostr keys are written in. Lower case; no limit on the length.

pub const CHARSET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
pub const CHECKSUM_WORDS: usize = 6;

/// The polynomial over the expanded prefix and the data; 1 where the checksum holds.
pub fn checksum(hrp: &str, words: &[u8]) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let high = hrp.bytes().map(|b| b >> 5);
    let low = hrp.bytes().map(|b| b & 31);
    high.chain([0]).chain(low).chain(words.iter().copied()).fold(1u32, |state, word| {
        let top = state >> 25;
        let next = (state & 0x01ff_ffff) << 5 ^ u32::from(word);
        GENERATOR.iter().enumerate().fold(
            next,
            |next, (i, generator)| {
                if top >> i & 1 == 1 {
                    next ^ generator
                } else {
                    next
                }
            },
        )
    })
}

/// Bytes as text.
pub fn encode(hrp: &str, bytes: &[u8]) -> String {
    let mut words = Vec::with_capacity(bytes.len().saturating_mul(2));
    let (mut buffer, mut bits) = (0u32, 0u32);
    for byte in bytes {
        buffer = (buffer << 8 | u32::from(*byte)) & 0xfff;
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            words.push(word(buffer >> bits));
        }
    }
    if bits > 0 {
        words.push(word(buffer << (5 - bits)));
    }
    let unchecked = [words.as_slice(), &[0; CHECKSUM_WORDS]].concat();
    let sum = checksum(hrp, &unchecked) ^ 1;
    words.extend((0..6).rev().map(|place| word(sum >> (5 * place))));
    let letters = words.iter().filter_map(|word| CHARSET.get(usize::from(*word))).map(|b| char::from(*b));
    [hrp, "1"].concat().chars().chain(letters).collect()
}

/// Text as its prefix and bytes; all lower or all upper case.
pub fn decode(text: &str) -> Option<(String, Vec<u8>)> {
    let upper = text.to_ascii_uppercase() == text;
    if !upper && text.to_ascii_lowercase() != text {
        return None;
    }
    let text = text.to_ascii_lowercase();
    let (hrp, data) = text.rsplit_once('1')?;
    let place = |letter| u8::try_from(CHARSET.iter().position(|c| *c == letter)?).ok();
    let words: Vec<u8> = data.bytes().map(place).collect::<Option<_>>()?;
    let (data, _) = words.split_at_checked(words.len().checked_sub(CHECKSUM_WORDS)?)?;
    if checksum(hrp, &words) != 1 {
        return None;
    }
    let Bytes { bytes, rest, bits } = Bytes::of(data);
    // What is left over is padding.
    (bits < 5 && rest == 0).then(|| (hrp.to_owned(), bytes))
}

/// 5-bit words as bytes.
pub struct Bytes {
    pub bytes: Vec<u8>,
    /// The last words' bits that fill no byte, and how many: below 8.
    pub rest: u8,
    pub bits: u32,
}

impl Bytes {
    pub fn of(words: &[u8]) -> Bytes {
        let mut bytes = Vec::with_capacity(words.len());
        let (mut buffer, mut bits) = (0u32, 0u32);
        for word in words {
            buffer = (buffer << 5 | u32::from(*word)) & 0xfff;
            bits += 5;
            if bits >= 8 {
                bits -= 8;
                bytes.push(low_byte(buffer >> bits));
            }
        }
        Bytes { bytes, rest: low_byte(buffer & ((1 << bits) - 1)), bits }
    }
}

fn low_byte(bits: u32) -> u8 {
    let [.., byte] = bits.to_be_bytes();
    byte
}

/// The lowest five bits.
fn word(bits: u32) -> u8 {
    low_byte(bits & 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    #[test]
    fn the_key_of_nip_19_is_written_as_it_says() {
        let key = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e";
        let npub = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg";
        assert_eq!(encode("npub", &hex::decode::<32>(key).unwrap()), npub);
    }

    #[test]
    fn the_lnurl_of_lud_01_is_read_in_both_cases_and_not_with_a_fault() {
        let text = "LNURL1DP68GURN8GHJ7UM9WFMXJCM99E3K7MF0V9CXJ0M385EKVCENXC6R2C35XVUKXEFCV5MKVV34X5EKZD3EV56NYD3HXQURZEPEXEJXXEPNXSCRVWFNV9NXZCN9XQ6XYEFHVGCXXCMYXYMNSERXFQ5FNS";
        let url =
            "https://service.com/api?q=3fc3645b439ce8e7f2553a69e5267081d96dcd340693afabe04be7b0ccd178df";
        let read = decode(text).unwrap();
        assert_eq!(read, ("lnurl".to_owned(), url.as_bytes().to_vec()));
        assert_eq!(decode(&text.to_ascii_lowercase()), Some(read));
        assert_eq!(decode(&text.replacen("DP", "dp", 1)), None);
        assert_eq!(decode(&text.replacen("DP68", "DP69", 1)), None);
        for text in ["", "1", "lnurl1", "lnurl", "lnurl1bbbbbbb", "\u{e9}1qqqqqq"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_has_a_checksum_that_holds_and_is_read_again() {
        for length in 0..40u8 {
            let bytes: Vec<u8> = (0..length).collect();
            let text = encode("lnurl", &bytes);
            assert_eq!(decode(&text), Some(("lnurl".to_owned(), bytes)), "{text}");
            let (_, data) = text.rsplit_once('1').unwrap();
            let place = |letter| CHARSET.iter().position(|c| *c == letter).unwrap().try_into().unwrap();
            assert_eq!(checksum("lnurl", &data.bytes().map(place).collect::<Vec<u8>>()), 1, "{text}");
        }
    }
}
