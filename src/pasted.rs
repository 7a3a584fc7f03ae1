//! What people paste: a token, a link, an invoice or a ticket, in the form that chats, wallets and keyboards give it.
//! With words, brackets, quotes and punctuation around it, behind the scheme that opens a wallet, broken into lines,
//! with marks between its letters that are not seen, or hidden behind an emoji. There is one reader for every form and
//! command; whether what it finds is any good is for the parser of that thing to say.
//!
//! Not read: more than 256 KiB. Of the rest at most 64 words are looked at.

const MAX_PASTED: usize = 256 * 1024;
const MAX_WORDS: usize = 64;
/// Fewer variation selectors only say how an emoji looks.
const LEAST_HIDDEN: usize = 16;
/// Schemes that open a wallet and say nothing of what follows.
const SCHEMES: [&str; 4] = ["cashu:", "web+cashu:", "lightning:", "lnurl:"];
/// What a link may end in, besides letters and digits.
const ENDS: &str = "/=&-_~%#+";

/// The texts in what was pasted, likeliest first: what an emoji hides, and what is seen.
pub fn texts(pasted: &str) -> Vec<String> {
    if pasted.len() > MAX_PASTED {
        return Vec::new();
    }
    let seen = pasted.chars().filter(|letter| !is_invisible(*letter)).collect();
    hidden(pasted).into_iter().chain([seen]).collect()
}

/// What `read` makes of the whole text without its line breaks, or else of the first word that it takes.
pub fn find<T>(pasted: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    texts(pasted).iter().find_map(|text| {
        let text = text.trim();
        let is_alone = text.contains(['\n', '\r']) && !text.contains([' ', '\t']);
        let whole = || read(bare(&joined(text)));
        let word = || text.split_whitespace().take(MAX_WORDS).find_map(|word| read(bare(word)));
        is_alone.then(whole).flatten().or_else(word)
    })
}

/// The text as one word, of what holds nothing else.
pub fn one(pasted: &str) -> String {
    let text = texts(pasted).into_iter().next().unwrap_or_default();
    bare(&joined(&text)).to_owned()
}

/// A word without what stands around it.
fn bare(word: &str) -> &str {
    let mut word = without_marks(word);
    while let Some(rest) = SCHEMES.iter().find_map(|scheme| after(word, scheme)) {
        word = without_marks(rest);
    }
    word
}

/// The text after `start`, which may be in upper or lower case.
pub fn after<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    let (before, rest) = text.split_at_checked(start.len())?;
    before.eq_ignore_ascii_case(start).then_some(rest)
}

/// All lines as one word; mails begin those that they quote with a mark.
fn joined(text: &str) -> String {
    text.lines().map(|line| line.trim_start_matches(['>', ' '])).flat_map(str::split_whitespace).collect()
}

fn without_marks(word: &str) -> &str {
    let inner = word.trim_start_matches(|letter: char| !letter.is_alphanumeric());
    // Chats write emphasis with a mark that a link may end in.
    let is_emphasis = word.starts_with(['_', '~']);
    let may_end = |letter: char| letter.is_alphanumeric() || (ENDS.contains(letter) && !is_emphasis);
    inner.trim_end_matches(|letter| !may_end(letter))
}

/// The texts in the variation selectors behind emojis: each selector stands for a byte. One that says how its emoji looks
/// may come before them. What is not printable ASCII is no text.
fn hidden(pasted: &str) -> Vec<String> {
    let is_text = |byte: &u8| matches!(byte, b' '..=b'~');
    let bytes: Vec<Option<u8>> = pasted.chars().map(selector).collect();
    let text = |run: &[Option<u8>]| {
        let text: Vec<u8> = run.iter().flatten().copied().skip_while(|byte| !is_text(byte)).collect();
        let is_hidden = text.len() >= LEAST_HIDDEN && text.iter().all(is_text);
        is_hidden.then(|| text.into_iter().map(char::from).collect())
    };
    bytes.split(Option::is_none).filter_map(text).collect()
}

/// The byte of a variation selector.
fn selector(letter: char) -> Option<u8> {
    let number = u32::from(letter);
    let byte = match number {
        0xfe00..=0xfe0f => number.checked_sub(0xfe00),
        0xe0100..=0xe01ef => number.checked_sub(0xe0100 - 16),
        _ => None,
    };
    u8::try_from(byte?).ok()
}

/// Marks that chats and keyboards put between letters: hyphens that may break, joiners, directions, tags, selectors, a
/// byte order mark, controls.
fn is_invisible(letter: char) -> bool {
    let is_mark = matches!(
        letter,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffc}'
            | '\u{e0000}'..='\u{e007f}'
    );
    is_mark || selector(letter).is_some() || (letter.is_control() && !letter.is_whitespace())
}

/// As wallets hide a text in an emoji.
#[cfg(test)]
pub(crate) fn behind_an_emoji(text: &str) -> String {
    let selector = |byte: u8| match byte {
        0..16 => char::from_u32(0xfe00 + u32::from(byte)),
        16.. => char::from_u32(0xe0100 + u32::from(byte) - 16),
    };
    format!("\u{1f95c}{}", text.bytes().filter_map(selector).collect::<String>())
}

/// For `tests/fuzz`: what is found is a part of what was pasted, and is found again in itself.
#[cfg(test)]
pub(crate) fn fuzz_pasted(pasted: &str) -> String {
    let texts = texts(pasted);
    for text in &texts {
        assert!(text.len() <= pasted.len() && !text.chars().any(is_invisible), "{text:?}");
    }
    let one = one(pasted);
    assert_eq!(self::one(&one), one);
    let word = find(pasted, |word| (word.len() > 3).then(|| word.to_owned()));
    format!("{} {} {:?}", texts.len(), one.len().min(9), word.map(|word| word.len().min(9)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_without_what_stands_around_it() {
        for pasted in [
            "lnbc1abc",
            " lnbc1abc\r\n",
            "lightning:lnbc1abc",
            "LIGHTNING://lnbc1abc",
            "(lightning:lnbc1abc).",
            "\u{ab}lnbc1abc\u{bb}",
            "\u{201e}lnbc1abc\u{201c}!",
            "**lnbc1abc**",
            "_lnbc1abc_",
            "`lnbc1abc`,",
            "[lnbc1abc]",
            "<lnbc1abc>",
            "> lnbc1\n> abc",
            "lnbc1\n  abc",
            "\u{feff}lnbc1\u{200b}a\u{2066}b\u{ad}c\u{2069}\u{fe0f}",
        ] {
            assert_eq!(one(pasted), "lnbc1abc", "{pasted}");
        }
        assert_eq!(
            one("lnurlw://b.example/ln?p=00&c=1/"),
            "lnurlw://b.example/ln?p=00&c=1/",
            "no wallet's scheme"
        );
    }

    #[test]
    fn the_first_word_that_is_taken_is_it_and_lines_alone_are_one_word() {
        let link = |word: &str| word.starts_with("https:").then(|| word.to_owned());
        let found = |pasted| find(pasted, link);
        assert_eq!(
            found("Look: https://a.example/x, or https://b.example").as_deref(),
            Some("https://a.example/x")
        );
        assert_eq!(found("https://a.example/\nx?y").as_deref(), Some("https://a.example/x?y"));
        assert_eq!(found("Here you are:\nhttps://a.example/x\nBye").as_deref(), Some("https://a.example/x"));
        assert_eq!(found("nothing"), None);
        assert_eq!(
            found(&format!("{}https://a.example", "x ".repeat(MAX_WORDS))),
            None,
            "only the first words are looked at"
        );
    }

    #[test]
    fn what_an_emoji_hides_is_read_first() {
        let hiding = behind_an_emoji("cashuBo2F0gaJhaUgA");
        assert_eq!(texts(&format!("see {hiding}!")), ["cashuBo2F0gaJhaUgA", "see \u{1f95c}!"]);
        assert_eq!(one(&hiding), "cashuBo2F0gaJhaUgA");
        let selectors = hiding.trim_start_matches('\u{1f95c}');
        for among_others in [
            format!("\u{2764}\u{fe0f} take {hiding}"),
            format!("{hiding} \u{2764}\u{fe0f}"),
            format!("\u{2764}\u{fe0f}{selectors}"),
        ] {
            assert_eq!(one(&among_others), "cashuBo2F0gaJhaUgA", "{among_others}");
        }
        for plain in [
            "\u{2764}\u{fe0f} thanks",
            &behind_an_emoji("short"),
            &behind_an_emoji("\u{e9}".repeat(20).as_str()),
        ] {
            assert_eq!(texts(plain).len(), 1, "{plain}");
        }
    }

    #[test]
    fn more_than_anybody_pastes_is_not_read() {
        assert_eq!(texts(&"x".repeat(MAX_PASTED)).len(), 1);
        assert!(texts(&"x".repeat(MAX_PASTED + 1)).is_empty() && one(&"x".repeat(MAX_PASTED + 1)).is_empty());
    }
}
