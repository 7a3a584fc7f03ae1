//! Tokens: ecash as text (NUT-00). We write `cashuB` (V4), and `cashuA` (V3) on request, and read both.
//!
//! We write full keyset ids: every wallet in the field reads them, and a short id has to be resolved by
//! asking the mint. We write each proof's DLEQ evidence, so that the receiver can check it offline.
//!
//! Tokens come from strangers. Refused: more than 64 KiB of text, more than 256 proofs, several mints,
//! keyset ids from before NUT-02, points off the curve, amounts of 0 or beyond 64 bits. Skipped: fields we
//! do not know, DLEQ evidence that is incomplete.

mod v3;
mod v4;

use super::curve::PublicKey;
use super::keyset::{KeysetId, KeysetRef};
use super::outputs::{Proof, ProofDleq};
use super::seed::ProofSecret;
use super::wire::spending::inputs_json;
use crate::config::MintUrl;
use crate::json::json;
use crate::pasted;
use crate::units::Sats;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::Engine;
use minicbor::Decoder;
use serde::de::IgnoredAny;
use serde_json::Value;

/// `cashuA`, `cashuB`.
const PREFIX: usize = 6;
const MAX_TEXT: usize = 64 * 1024;
/// How many places of a text that might begin a token are looked at: a sentence may name the form before the token.
const MAX_STARTS: usize = 4;
const MAX_PROOFS: usize = 256;
/// Secrets with spending conditions (NUT-10) are longer than the usual 64 characters.
const MAX_SECRET: usize = 4096;
const MAX_MINT_URL: usize = 512;
const MAX_UNIT: usize = 32;
const MAX_MEMO: usize = 1024;

/// Base64 as found in the field: with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Ecash of one mint, as received. Nothing in it is checked with the mint yet.
#[derive(Clone, Debug)]
pub struct Token {
    /// As written by the sender; compare as [`MintUrl`].
    pub mint: String,
    pub unit: String,
    pub memo: Option<String>,
    pub proofs: Vec<TokenProof>,
}

/// A [`Proof`] whose keyset may be named by a short id.
#[derive(Clone, Debug)]
pub struct TokenProof {
    pub keyset: KeysetRef,
    pub amount: Sats,
    pub secret: ProofSecret,
    pub c: PublicKey,
    pub dleq: Option<ProofDleq>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("not a Cashu token")]
    NotAToken,
    #[error("the token is too large")]
    TooLarge,
    #[error("the token is damaged")]
    Damaged,
    #[error("the token is of more than one mint")]
    ManyMints,
    #[error("the token is of a kind of keyset that is not supported any more")]
    OldKeyset,
    #[error("the token is empty")]
    Empty,
    #[error("the token names a keyset that the mint does not have")]
    UnknownKeyset,
}

impl Token {
    /// Reads a token, with or without the scheme of a link before it (`cashu:`, `web+cashu:`) and with blanks
    /// anywhere: text that was copied often has line breaks in it.
    pub fn parse(text: &str) -> Result<Token, TokenError> {
        let text: String = text.split_whitespace().collect();
        let text = without_scheme(&text);
        let (form, body) = text.split_at_checked(PREFIX).unwrap_or_default();
        let token = match form {
            "cashuA" | "cashuB" if text.len() > MAX_TEXT => return Err(TokenError::TooLarge),
            "cashuB" => v4::decode(&unbase64(body)?)?,
            "cashuA" => v3::decode(&unbase64(body)?)?,
            _ => return Err(TokenError::NotAToken),
        };
        match token.total() {
            Some(Sats(0)) => Err(TokenError::Empty),
            Some(_) => Ok(token),
            None => Err(TokenError::Damaged),
        }
    }

    /// The face value; `None` beyond 64 bits, which [`Token::parse`] never returns.
    pub fn total(&self) -> Option<Sats> {
        self.proofs.iter().try_fold(Sats(0), |sum, proof| sum.checked_add(proof.amount))
    }

    /// The proofs with their keysets named in full.
    pub fn resolve(self, known: &[KeysetId]) -> Result<Vec<Proof>, TokenError> {
        let full = |proof: TokenProof| {
            let keyset = proof.keyset.resolve(known).ok_or(TokenError::UnknownKeyset)?;
            let TokenProof { amount, secret, c, dleq, .. } = proof;
            Ok(Proof { counter: None, keyset, amount, secret, c, dleq, witness: None })
        };
        self.proofs.into_iter().map(full).collect()
    }
}

/// Finds the token in what was [`pasted`], which may have words around it and line breaks in it. Returns `None` if there
/// is no token.
pub fn found_in(pasted: &str) -> Option<String> {
    pasted::texts(pasted).iter().find_map(|text| found(text))
}

fn found(text: &str) -> Option<String> {
    let starts = text.match_indices("cashu").filter_map(|(at, _)| text.get(at..));
    let mut found: Vec<String> = starts.filter_map(begun).take(MAX_STARTS).collect();
    let whole = found.iter().position(|token| is_complete(token)).unwrap_or(0);
    (whole < found.len()).then(|| found.swap_remove(whole))
}

/// The token that a text begins with, as far as it goes.
fn begun(found: &str) -> Option<String> {
    if !["cashuA", "cashuB"].iter().any(|form| found.starts_with(form)) {
        return None;
    }
    let is_of_token = |letter: char| letter.is_ascii_alphanumeric() || "+/-_=".contains(letter);
    let end = found.find(|letter| !is_of_token(letter)).unwrap_or(found.len());
    let word = found.get(..end)?;
    let joined = |text: &str| text.chars().filter(|letter| is_of_token(*letter)).collect::<String>();
    // Emphasis, or lines that may be followed by other words.
    let bare = word.trim_end_matches(['_', '-', '/', '+']);
    let paragraph = found.split("\n\n").next().unwrap_or_default();
    let others = || [bare.to_owned(), joined(paragraph), joined(found)];
    let other = (!is_complete(word)).then(others).into_iter().flatten().find(|text| is_complete(text));
    Some(other.unwrap_or_else(|| word.to_owned()))
}

/// Whether a token has its end. Checks nothing else, so it costs no curve arithmetic.
fn is_complete(text: &str) -> bool {
    let (form, body) = text.split_at_checked(PREFIX).unwrap_or_default();
    match unbase64(body) {
        Ok(cbor) if form == "cashuB" => Decoder::new(&cbor).skip().is_ok(),
        Ok(json) => serde_json::from_slice::<IgnoredAny>(&json).is_ok(),
        Err(_) => false,
    }
}

/// Writes a `cashuB` token. About 310 characters per proof.
pub fn encode(mint: &MintUrl, unit: &str, proofs: &[Proof]) -> String {
    format!("cashuB{}", BASE64.encode(v4::encode(mint.as_str(), unit, proofs)))
}

/// Writes a `cashuA` token without evidence, for receivers that read no other.
pub fn encode_v3(mint: &MintUrl, unit: &str, proofs: &[Proof]) -> String {
    encode_json(&mint.as_str().into(), &unit.into(), &inputs_json(proofs))
}

/// Writes what a stranger claims to be mint, unit and proofs as `cashuA`, for [`Token::parse`] to judge.
pub(super) fn encode_json(mint: &Value, unit: &Value, proofs: &Value) -> String {
    let json = json!({"token": [json!({"mint": mint, "proofs": proofs})], "unit": unit});
    format!("cashuA{}", BASE64.encode(json.to_string()))
}

/// A link's scheme is the same in any case, and some write it with slashes.
fn without_scheme(text: &str) -> &str {
    match text.split_once(':') {
        Some((scheme, rest)) if ["cashu", "web+cashu"].iter().any(|s| scheme.eq_ignore_ascii_case(s)) => {
            rest.strip_prefix("//").unwrap_or(rest)
        }
        _ => text,
    }
}

fn unbase64(body: &str) -> Result<Vec<u8>, TokenError> {
    let url_safe: Vec<u8> = body
        .bytes()
        .map(|b| match b {
            b'+' => b'-',
            b'/' => b'_',
            other => other,
        })
        .collect();
    BASE64.decode(url_safe).map_err(|_| TokenError::Damaged)
}

fn checked_secret(text: String) -> Result<ProofSecret, TokenError> {
    match text.len() {
        0 => Err(TokenError::Damaged),
        1..=MAX_SECRET => Ok(ProofSecret(text)),
        _ => Err(TokenError::TooLarge),
    }
}

#[cfg(test)]
mod tests;
