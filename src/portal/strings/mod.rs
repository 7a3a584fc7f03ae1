//! What the portal says, one file per language. English names the texts: the compiler refuses a language that misses one, and
//! warns of one that no page shows. `{name}` is replaced by a fact.

/// The first language, and with it the names of all texts.
macro_rules! strings {
    ($language:ident: $($key:ident: $text:expr,)*) => {
        /// One language's texts.
        pub(in super::super) struct Strings {
            $(pub(in super::super) $key: &'static str,)*
        }

        pub(in super::super) static $language: Strings = Strings { $($key: $text,)* };

        #[cfg(test)]
        impl Strings {
            pub(super) fn all(&self) -> Vec<(&'static str, &'static str)> {
                vec![$((stringify!($key), self.$key)),*]
            }
        }
    };
}

mod en;
mod sw;

pub(super) use en::{Strings, EN};
pub(super) use sw::SW;

#[cfg(test)]
mod tests {
    use super::*;

    fn placeholders(text: &str) -> Vec<&str> {
        let mut names: Vec<&str> =
            text.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn every_language_has_the_same_placeholders_in_the_same_keys() {
        for ((key, english), (_, swahili)) in EN.all().into_iter().zip(SW.all()) {
            assert_eq!(placeholders(english), placeholders(swahili), "{key}");
        }
    }

    #[test]
    fn no_text_is_empty() {
        for (key, text) in EN.all().into_iter().chain(SW.all()) {
            assert!(!text.is_empty(), "{key}");
        }
    }

    /// It is a word of the operator's world: guests read "payment service".
    #[test]
    fn no_sentence_for_guests_speaks_of_mints() {
        for (key, text) in EN.all().into_iter().chain(SW.all()) {
            let shown = text.to_lowercase().replace("{mint}", "").replace("{mints}", "");
            assert!(!shown.contains("mint"), "{key}: {text}");
        }
    }
}
