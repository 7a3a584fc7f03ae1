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

/// The lowest five bits.
fn word(bits: u32) -> u8 {
    u8::try_from(bits & 31).unwrap_or_default()
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
    fn what_is_written_has_a_checksum_that_holds() {
        for length in 0..40u8 {
            let text = encode("lnurl", &(0..length).collect::<Vec<_>>());
            let (_, data) = text.rsplit_once('1').unwrap();
            let place = |letter| CHARSET.iter().position(|c| *c == letter).unwrap().try_into().unwrap();
            assert_eq!(checksum("lnurl", &data.bytes().map(place).collect::<Vec<u8>>()), 1, "{text}");
        }
    }
}
