//! Damage of every kind that made parsers fail before: bits, lengths that lie, cuts, repetition, and words of other inputs
//! in places where nobody expects them.

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let x = self.0 ^ (self.0 >> 33);
        x.wrapping_mul(0xff51afd7ed558ccd) >> 11
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.roll().to_le_bytes()[0]
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// Borders of numbers, and characters that mean something to somebody.
const BORDERS: &[&str] = &[
    "0",
    "-1",
    "1",
    "9",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e999",
    "0x10",
    "NaN",
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "\0",
    "\u{feff}",
    "é",
    "İ",
    "\u{202e}",
    "%00",
    "%",
    "../",
    "\r\n\r\n",
    "'",
    "\"",
    "\\",
    "::",
    "::ffff:",
    "/0",
    "/129",
    ",",
    ";",
    "=",
    "&",
    " ",
];
const NUMBERS: &[u64] =
    &[0, 1, 2, 3, 4, 15, 16, 127, 128, 255, 256, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];
const MOST_WORDS: usize = 600;

pub struct Mutator {
    dice: Dice,
    words: Vec<Vec<u8>>,
}

impl Mutator {
    /// Knows the words of these inputs.
    pub fn new(seeds: &[Vec<u8>]) -> Mutator {
        let mut words: Vec<Vec<u8>> = BORDERS.iter().map(|word| word.as_bytes().to_vec()).collect();
        for seed in seeds {
            let parts = seed.split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_' && *byte != b'-');
            for word in parts.filter(|word| (2..=32).contains(&word.len())) {
                if words.len() < MOST_WORDS && !words.iter().any(|known| known == word) {
                    words.push(word.to_vec());
                }
            }
        }
        Mutator { dice: Dice(0x7011_6a7e), words }
    }

    /// One of these inputs, damaged one to six times.
    pub fn mutate(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.dice.one(pool).clone();
        for _ in 0..=self.dice.below(6) {
            self.damage(&mut input, pool);
        }
        input
    }

    fn damage(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let at = self.dice.below(input.len());
        let length = self.dice.below(input.len() - at).min(1 << self.dice.below(10));
        match self.dice.below(12) {
            0 if !input.is_empty() => input[at] ^= 1 << self.dice.below(8),
            1 if !input.is_empty() => input[at] = self.dice.byte(),
            2 => input.insert(at, self.dice.byte()),
            3 => drop(input.drain(at..at + length)),
            4 => input.truncate(at),
            5 => {
                let word = self.dice.one(&self.words).clone();
                let gone = if self.dice.below(2) == 0 { 0 } else { word.len().min(input.len() - at) };
                input.splice(at..at + gone, word);
            }
            6 => {
                let number = self.dice.one(NUMBERS);
                let width = *self.dice.one(&[1, 2, 4, 8]);
                let bytes = match self.dice.below(2) {
                    0 => number.to_le_bytes()[..width].to_vec(),
                    _ => number.to_be_bytes()[8 - width..].to_vec(),
                };
                let gone = width.min(input.len() - at);
                input.splice(at..at + gone, bytes);
            }
            7 => {
                let piece = input[at..at + length].to_vec();
                let to = self.dice.below(input.len());
                input.splice(to..to, piece);
            }
            // Nesting, and lists that are long.
            8 => {
                let piece = input[at..at + length.clamp(1, 8).min(input.len() - at)].to_vec();
                let times = 1 << self.dice.below(11);
                input.splice(at..at, piece.repeat(times));
            }
            9 => {
                let other = self.dice.one(pool).clone();
                let from = self.dice.below(other.len());
                input.truncate(at);
                input.extend(&other[from..]);
            }
            10 => input[at..at + length].reverse(),
            _ => input[at..at + length].make_ascii_uppercase(),
        }
    }
}

#[test]
fn the_same_inputs_are_made_in_every_run() {
    let pool = [b"one input".to_vec(), b"another".to_vec(), Vec::new()];
    let made = || {
        let mut mutator = Mutator::new(&pool);
        (0..2000).map(|_| mutator.mutate(&pool)).collect::<Vec<_>>()
    };
    let first = made();
    assert_eq!(first, made());
    let unchanged = first.iter().filter(|input| pool.contains(input)).count();
    assert!(unchanged < 500, "{unchanged} of 2000");
}
