//! Unpacks what `build.rs` has packed: deflate (RFC 1951) in blocks with codes of their own, as packers make them of text.
//! A crate for it is 14 kB of program.

/// Codes are at most so many bits long.
const LONGEST: usize = 15;
const END_OF_BLOCK: usize = 256;
/// The order in which the lengths of the lengths' codes are written.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// `None` for what is damaged, unpacks to more than `most` bytes, or has blocks of another kind.
pub(super) fn inflate(packed: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut bits = Bits { packed, at: 0 };
    let mut text = Vec::new();
    loop {
        let is_last = bits.take(1)? == 1;
        let has_own_codes = bits.take(2)? == 2;
        if !has_own_codes {
            return None;
        }
        let (letters, distances) = codes(&mut bits)?;
        loop {
            match letters.next(&mut bits)? {
                END_OF_BLOCK => break,
                letter if letter < END_OF_BLOCK => text.push(u8::try_from(letter).ok()?),
                length => {
                    let length = repeated(&mut bits, length.checked_sub(257)?)?;
                    let number = distances.next(&mut bits)?;
                    let back = distance(&mut bits, number)?;
                    let from = text.len().checked_sub(back)?;
                    for at in from..from.checked_add(length)? {
                        text.push(*text.get(at)?);
                    }
                }
            }
            if text.len() > most {
                return None;
            }
        }
        if is_last {
            return Some(text);
        }
    }
}

/// The codes that a block begins with: of letters and lengths, and of distances.
fn codes(bits: &mut Bits) -> Option<(Code, Code)> {
    let (letters, distances) = (bits.take(5)?.checked_add(257)?, bits.take(5)?.checked_add(1)?);
    let mut of_lengths = [0; 19];
    for at in ORDER.into_iter().take(bits.take(4)?.checked_add(4)?) {
        *of_lengths.get_mut(at)? = bits.take(3)?;
    }
    let of_lengths = Code::of(&of_lengths);
    let mut lengths = Vec::new();
    while lengths.len() < letters.checked_add(distances)? {
        let (length, times) = match of_lengths.next(bits)? {
            16 => (*lengths.last()?, bits.take(2)?.checked_add(3)?),
            17 => (0, bits.take(3)?.checked_add(3)?),
            18 => (0, bits.take(7)?.checked_add(11)?),
            length => (length, 1),
        };
        lengths.resize(lengths.len().checked_add(times)?, length);
    }
    let (of_letters, of_distances) = lengths.split_at_checked(letters)?;
    Some((Code::of(of_letters), Code::of(of_distances)))
}

/// How many letters the length with this number repeats: 3 to 10 by themselves, then four to each number of bits more.
fn repeated(bits: &mut Bits, number: usize) -> Option<usize> {
    match number {
        0..8 => number.checked_add(3),
        28 => Some(258),
        _ => {
            let more = (number / 4).checked_sub(1)?;
            ((number % 4).checked_add(4)? << more).checked_add(3)?.checked_add(bits.take(more)?)
        }
    }
}

/// How far back the distance with this number is: 1 to 4 by themselves, then two to each number of bits more.
fn distance(bits: &mut Bits, number: usize) -> Option<usize> {
    match number {
        0..4 => number.checked_add(1),
        4..30 => {
            let more = (number / 2).checked_sub(1)?;
            ((number % 2).checked_add(2)? << more).checked_add(1)?.checked_add(bits.take(more)?)
        }
        _ => None,
    }
}

/// A canonical Huffman code.
struct Code {
    /// How many symbols have a code of each length.
    counts: [usize; LONGEST + 1],
    /// By the length of their codes.
    symbols: Vec<usize>,
}

impl Code {
    fn of(lengths: &[usize]) -> Code {
        let mut counts = [0; LONGEST + 1];
        let mut symbols = Vec::new();
        for (length, count) in counts.iter_mut().enumerate().skip(1) {
            let of_length = lengths.iter().enumerate().filter(|(_, its)| **its == length);
            let before = symbols.len();
            symbols.extend(of_length.map(|(symbol, _)| symbol));
            *count = symbols.len().saturating_sub(before);
        }
        Code { counts, symbols }
    }

    /// The symbol whose code comes next.
    fn next(&self, bits: &mut Bits) -> Option<usize> {
        let (mut code, mut first, mut place) = (0usize, 0usize, 0usize);
        for count in self.counts.into_iter().skip(1) {
            code = code << 1 | bits.take(1)?;
            first <<= 1;
            let number = code.checked_sub(first)?;
            if number < count {
                return self.symbols.get(place.checked_add(number)?).copied();
            }
            (first, place) = (first.checked_add(count)?, place.checked_add(count)?);
        }
        None
    }
}

struct Bits<'a> {
    packed: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// A number of so many bits, its lowest first.
    fn take(&mut self, count: usize) -> Option<usize> {
        (0..count).try_fold(0, |number, place| {
            let byte = usize::from(*self.packed.get(self.at / 8)?);
            let bit = byte >> (self.at % 8) & 1;
            self.at = self.at.checked_add(1)?;
            Some(number | bit << place)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portal::{SCRIPT, STYLE};

    fn packed() -> impl Iterator<Item = &'static [u8]> {
        [&STYLE, &SCRIPT].into_iter().map(|asset| asset.gzipped.get(10..).unwrap())
    }

    #[test]
    fn what_unpacks_to_more_than_is_allowed_is_refused() {
        for packed in packed() {
            let length = inflate(packed, 100_000).unwrap().len();
            assert!(inflate(packed, length).is_some() && inflate(packed, length - 1).is_none());
        }
    }

    #[test]
    fn what_is_cut_or_changed_ends_and_panics_not() {
        for packed in packed() {
            let whole = packed.len() - 8;
            for end in (0..whole).step_by(97).chain([whole - 1]) {
                assert_eq!(inflate(&packed[..end], 100_000), None);
            }
            for at in (0..packed.len()).step_by(31) {
                let mut changed = packed.to_vec();
                changed[at] ^= 0x55;
                let _ = inflate(&changed, 100_000);
            }
        }
        assert_eq!(inflate(&[0b001, 0, 0, 255, 255], 10), None, "a stored block");
    }
}
