//! `cashuA`: base64 of JSON. Deprecated, so only read. Some wallets write amounts as text.

use super::{Token, TokenError, TokenProof, MAX_MEMO, MAX_MINT_URL, MAX_PROOFS, MAX_UNIT};
use crate::ecash::curve::{Dleq, PublicKey, SecretKey};
use crate::ecash::hex;
use crate::ecash::keyset::KeysetRef;
use crate::ecash::outputs::ProofDleq;
use crate::units::Sats;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct TokenText {
    token: Vec<MintText>,
    unit: Option<String>,
    memo: Option<String>,
}

#[derive(Deserialize)]
struct MintText {
    mint: String,
    proofs: Vec<ProofText>,
}

#[derive(Deserialize)]
struct ProofText {
    amount: Value,
    id: String,
    secret: String,
    #[serde(rename = "C")]
    c: String,
    dleq: Option<DleqText>,
}

#[derive(Deserialize)]
struct DleqText {
    e: Option<String>,
    s: Option<String>,
    r: Option<String>,
}

pub(super) fn decode(json: &[u8]) -> Result<Token, TokenError> {
    let text: TokenText = serde_json::from_slice(json).map_err(|_| TokenError::Damaged)?;
    let mut entries = text.token.into_iter();
    let MintText { mint, mut proofs } = entries.next().ok_or(TokenError::Empty)?;
    for entry in entries {
        if entry.mint != mint {
            return Err(TokenError::ManyMints);
        }
        proofs.extend(entry.proofs);
    }
    // A token without unit is from the time when there was only one.
    let unit = text.unit.unwrap_or_else(|| "sat".to_owned());
    if proofs.len() > MAX_PROOFS || mint.len() > MAX_MINT_URL || unit.len() > MAX_UNIT {
        return Err(TokenError::TooLarge);
    }
    Ok(Token {
        mint,
        unit,
        memo: text.memo.filter(|memo| memo.len() <= MAX_MEMO),
        proofs: proofs.into_iter().map(proof).collect::<Result<_, _>>()?,
    })
}

fn proof(text: ProofText) -> Result<TokenProof, TokenError> {
    let amount = amount(&text.amount).filter(|amount| *amount > 0).ok_or(TokenError::Damaged)?;
    Ok(TokenProof {
        keyset: KeysetRef::parse(&text.id).ok_or(TokenError::OldKeyset)?,
        amount: Sats(amount),
        secret: super::checked_secret(text.secret)?,
        c: PublicKey::parse(&text.c).ok_or(TokenError::Damaged)?,
        dleq: text.dleq.and_then(dleq),
    })
}

/// A number, or its digits and nothing else.
fn amount(written: &Value) -> Option<u64> {
    match written {
        Value::String(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok(),
        number => number.as_u64(),
    }
}

fn dleq(text: DleqText) -> Option<ProofDleq> {
    let dleq = Dleq { e: hex::decode(&text.e?)?, s: hex::decode(&text.s?)? };
    Some(ProofDleq { dleq, r: SecretKey::from_bytes(&hex::decode(&text.r?)?)? })
}
