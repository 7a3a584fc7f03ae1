//! `cashuB`: base64 of CBOR, proofs grouped by keyset.

use super::{Token, TokenError, TokenProof, MAX_MEMO, MAX_MINT_URL, MAX_PROOFS, MAX_SECRET, MAX_UNIT};
use crate::ecash::curve::{Dleq, PublicKey, SecretKey};
use crate::ecash::keyset::{KeysetId, KeysetRef};
use crate::ecash::outputs::{Proof, ProofDleq};
use crate::units::Sats;
use litemap::LiteMap;
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use std::convert::Infallible;

type Decoded<T> = Result<T, TokenError>;

/// Writes definite lengths only: cashu-ts reads no others.
pub(super) fn encode(mint: &str, unit: &str, proofs: &[Proof]) -> Vec<u8> {
    let mut keysets: LiteMap<KeysetId, Vec<&Proof>> = LiteMap::new();
    for proof in proofs {
        keysets.entry(proof.keyset).or_default().push(proof);
    }
    let mut bytes = Vec::new();
    // Writing to a Vec cannot fail.
    let _: Result<(), minicbor::encode::Error<Infallible>> =
        write(&mut Encoder::new(&mut bytes), mint, unit, &keysets);
    bytes
}

fn write(
    e: &mut Encoder<&mut Vec<u8>>,
    mint: &str,
    unit: &str,
    keysets: &LiteMap<KeysetId, Vec<&Proof>>,
) -> Result<(), minicbor::encode::Error<Infallible>> {
    e.map(3)?.str("m")?.str(mint)?.str("u")?.str(unit)?.str("t")?.array(len(keysets.len()))?;
    for (keyset, proofs) in keysets {
        e.map(2)?.str("i")?.bytes(keyset.as_bytes())?.str("p")?.array(len(proofs.len()))?;
        for proof in proofs {
            e.map(if proof.dleq.is_some() { 4 } else { 3 })?;
            e.str("a")?.u64(proof.amount.0)?.str("s")?.str(proof.secret.as_str())?;
            e.str("c")?.bytes(&proof.c.to_bytes())?;
            if let Some(ProofDleq { dleq, r }) = &proof.dleq {
                e.str("d")?.map(3)?.str("e")?.bytes(&dleq.e)?.str("s")?.bytes(&dleq.s)?;
                e.str("r")?.bytes(&r.to_bytes())?;
            }
        }
    }
    Ok(())
}

fn len(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

pub(super) fn decode(cbor: &[u8]) -> Decoded<Token> {
    let mut d = Decoder::new(cbor);
    let (mut mint, mut unit, mut memo) = (None, None, None);
    let mut proofs = Vec::new();
    each_field(&mut d, |d, key| {
        match key {
            "m" => mint = Some(text(d, MAX_MINT_URL)?),
            "u" => unit = Some(text(d, MAX_UNIT)?),
            "d" => memo = text(d, MAX_MEMO).ok(),
            "t" => each_item(d, |d| keyset(d, &mut proofs))?,
            _ => return Ok(Field::Unknown),
        }
        Ok(Field::Known)
    })?;
    Ok(Token { mint: mint.ok_or(TokenError::Damaged)?, unit: unit.ok_or(TokenError::Damaged)?, memo, proofs })
}

/// One entry of `t`. The id may come after its proofs.
fn keyset(d: &mut Decoder<'_>, proofs: &mut Vec<TokenProof>) -> Decoded<()> {
    let mut id = None;
    let mut found = Vec::new();
    each_field(d, |d, key| {
        match key {
            "i" => id = Some(bytes(d, 33)?),
            "p" => each_item(d, |d| {
                if proofs.len().saturating_add(found.len()) >= MAX_PROOFS {
                    return Err(TokenError::TooLarge);
                }
                found.push(proof(d)?);
                Ok(())
            })?,
            _ => return Ok(Field::Unknown),
        }
        Ok(Field::Known)
    })?;
    let keyset = KeysetRef::from_bytes(&id.ok_or(TokenError::Damaged)?).ok_or(TokenError::OldKeyset)?;
    proofs.extend(found.into_iter().map(|bare| bare.of(keyset)));
    Ok(())
}

/// A proof before its keyset is known.
struct BareProof {
    amount: Sats,
    secret: super::ProofSecret,
    c: PublicKey,
    dleq: Option<ProofDleq>,
}

impl BareProof {
    fn of(self, keyset: KeysetRef) -> TokenProof {
        let BareProof { amount, secret, c, dleq } = self;
        TokenProof { keyset, amount, secret, c, dleq }
    }
}

fn proof(d: &mut Decoder<'_>) -> Decoded<BareProof> {
    let (mut amount, mut secret, mut c, mut evidence) = (None, None, None, None);
    each_field(d, |d, key| {
        match key {
            "a" => amount = Some(d.u64().map_err(damaged)?),
            "s" => secret = Some(super::checked_secret(text(d, MAX_SECRET)?)?),
            "c" => c = PublicKey::from_bytes(&bytes(d, 33)?),
            "d" => evidence = dleq(d)?,
            _ => return Ok(Field::Unknown),
        }
        Ok(Field::Known)
    })?;
    Ok(BareProof {
        amount: amount.filter(|amount| *amount > 0).map(Sats).ok_or(TokenError::Damaged)?,
        secret: secret.ok_or(TokenError::Damaged)?,
        c: c.ok_or(TokenError::Damaged)?,
        dleq: evidence,
    })
}

fn dleq(d: &mut Decoder<'_>) -> Decoded<Option<ProofDleq>> {
    if matches!(d.datatype().map_err(damaged)?, Type::Null | Type::Undefined) {
        d.skip().map_err(damaged)?;
        return Ok(None);
    }
    let (mut e, mut s, mut r) = (None, None, None);
    each_field(d, |d, key| {
        let slot = match key {
            "e" => &mut e,
            "s" => &mut s,
            "r" => &mut r,
            _ => return Ok(Field::Unknown),
        };
        *slot = <[u8; 32]>::try_from(bytes(d, 33)?).ok();
        Ok(Field::Known)
    })?;
    Ok(match (e, s, r.and_then(|r| SecretKey::from_bytes(&r))) {
        (Some(e), Some(s), Some(r)) => Some(ProofDleq { dleq: Dleq { e, s }, r }),
        _ => None,
    })
}

enum Field {
    Known,
    Unknown,
}

/// Walks a map of definite or indefinite length. `read` consumes the value of a key it knows; values of
/// other keys are skipped here.
fn each_field<'b>(
    d: &mut Decoder<'b>,
    mut read: impl FnMut(&mut Decoder<'b>, &str) -> Decoded<Field>,
) -> Decoded<()> {
    let len = d.map().map_err(damaged)?;
    walk(d, len, |d| {
        let key = match d.datatype().map_err(damaged)? {
            Type::String | Type::StringIndef => text(d, MAX_SECRET)?,
            _ => {
                d.skip().map_err(damaged)?;
                String::new()
            }
        };
        match read(d, &key)? {
            Field::Known => Ok(()),
            Field::Unknown => d.skip().map_err(damaged),
        }
    })
}

/// Walks an array of definite or indefinite length.
fn each_item<'b>(d: &mut Decoder<'b>, read: impl FnMut(&mut Decoder<'b>) -> Decoded<()>) -> Decoded<()> {
    let len = d.array().map_err(damaged)?;
    walk(d, len, read)
}

/// A length beyond the input ends with the input, as each item takes at least one byte.
fn walk<'b>(
    d: &mut Decoder<'b>,
    len: Option<u64>,
    mut read: impl FnMut(&mut Decoder<'b>) -> Decoded<()>,
) -> Decoded<()> {
    match len {
        Some(len) => (0..len).try_for_each(|_| read(d)),
        None => {
            while d.datatype().map_err(damaged)? != Type::Break {
                read(d)?;
            }
            d.skip().map_err(damaged)
        }
    }
}

fn text(d: &mut Decoder<'_>, max: usize) -> Decoded<String> {
    let mut all = String::new();
    for part in d.str_iter().map_err(damaged)? {
        let part = part.map_err(damaged)?;
        if all.len().saturating_add(part.len()) > max {
            return Err(TokenError::TooLarge);
        }
        all.push_str(part);
    }
    Ok(all)
}

fn bytes(d: &mut Decoder<'_>, max: usize) -> Decoded<Vec<u8>> {
    let mut all = Vec::new();
    for part in d.bytes_iter().map_err(damaged)? {
        let part = part.map_err(damaged)?;
        if all.len().saturating_add(part.len()) > max {
            return Err(TokenError::Damaged);
        }
        all.extend_from_slice(part);
    }
    Ok(all)
}

fn damaged(_: minicbor::decode::Error) -> TokenError {
    TokenError::Damaged
}
