//! What mints say, read: JSON answers into checked types.
//!
//! Bodies come bounded from the caller. Fields that real mints leave out, set to null or fill with oddities
//! are optional here; everything else that is missing or of another type makes the answer `Malformed`.

use super::curve::{Dleq, PublicKey};
use super::error::{EcashError, Lie};
use super::hex;
use super::keyset::{Keyset, KeysetId, KeysetTerms};
use super::outputs::{BlindSignature, Outputs};
use super::refusal::plain;
use crate::json::json;
use crate::units::{Sats, UnixSeconds};
use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;

const MAX_QUOTE_ID: usize = 256;
const MAX_KEYSETS: usize = 4096;
const MAX_INVOICE: usize = 4096;

/// The mint's name for a quote: 1 to 256 characters that mean nothing in a URL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuoteId(String);

impl QuoteId {
    pub fn parse(text: &str) -> Option<QuoteId> {
        let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
        let plain = !text.is_empty() && text.len() <= MAX_QUOTE_ID && text.bytes().all(safe);
        (plain && text.bytes().any(|b| b != b'.')).then(|| QuoteId(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QuoteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for QuoteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuoteState {
    Unpaid,
    /// nutshell, while it talks to its Lightning node.
    Pending,
    Paid,
    /// The ecash has been signed: restore it.
    Issued,
}

impl QuoteState {
    pub(super) fn parse(text: &str) -> Option<QuoteState> {
        match text {
            "UNPAID" => Some(QuoteState::Unpaid),
            "PENDING" => Some(QuoteState::Pending),
            "PAID" => Some(QuoteState::Paid),
            "ISSUED" => Some(QuoteState::Issued),
            _ => None,
        }
    }
}

/// A mint quote as the mint tells it (NUT-04, NUT-23). nutshell leaves out `expiry` in all but the first
/// answer, so keep the first.
#[derive(Clone, Debug)]
pub struct MintQuote {
    pub id: QuoteId,
    pub state: QuoteState,
    pub amount: Option<Sats>,
    pub unit: Option<String>,
    /// On the mint's clock.
    pub expiry: Option<UnixSeconds>,
    /// The key it is locked to, where the mint says so.
    pub(super) lock: Option<String>,
    pub(super) request: Option<InvoiceText>,
}

/// An invoice as the mint wrote it. Debug output leaves it out.
#[derive(Clone, PartialEq, Eq)]
pub struct InvoiceText(String);

impl InvoiceText {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for InvoiceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InvoiceText(..)")
    }
}

/// What a mint says about itself (NUT-06), as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MintInfo {
    pub name: Option<String>,
    pub version: Option<String>,
    /// The mint's clock when it answered.
    pub time: Option<UnixSeconds>,
    /// Whether, and for which amounts, it sells `sat` ecash for a BOLT 11 invoice.
    pub minting: Option<AmountLimits>,
    /// Whether its invoices can have a description (NUT-04).
    pub describes: bool,
    /// Whether it pays BOLT 11 invoices from `sat` ecash (NUT-05).
    pub melting: bool,
    pub restore: bool,
    pub dleq: bool,
    /// Whether it announces changes of mint quotes over a WebSocket (NUT-17).
    pub websocket: bool,
    /// How many mint quotes may be looked at together (NUT-29); at least two.
    pub quotes_at_once: Option<usize>,
    /// Whether minting or restoring needs a login (NUT-21, NUT-22).
    pub login: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmountLimits {
    pub min: Option<Sats>,
    pub max: Option<Sats>,
}

impl MintInfo {
    /// Why no money should be taken for this mint's ecash, if so.
    pub fn unsuitable(&self) -> Option<&'static str> {
        match self {
            MintInfo { login: false, minting: None, .. } => Some("it does not sell sat ecash over Lightning"),
            _ => self.unsafe_to_take(),
        }
    }

    /// Why none of its ecash should be taken, if so.
    pub fn unsafe_to_take(&self) -> Option<&'static str> {
        match self {
            MintInfo { login: true, .. } => Some("it needs a login"),
            MintInfo { restore: false, .. } => Some("it cannot restore lost answers (NUT-09)"),
            MintInfo { dleq: false, .. } => Some("it does not prove its signatures (NUT-12)"),
            _ => None,
        }
    }
}

/// An entry of a mint's list of keysets (NUT-02).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysetInfo {
    pub id: KeysetId,
    pub terms: KeysetTerms,
    pub active: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofState {
    Unspent,
    Pending,
    Spent,
}

// ---- requests

pub(super) fn outputs_json(outputs: &Outputs) -> Value {
    let id = outputs.keyset().to_string();
    let one = |(amount, blinded): (Sats, PublicKey)| json!({"amount": amount.0.max(1), "id": id, "B_": blinded.to_string()});
    outputs.blinded().map(one).collect()
}

// ---- answers

pub(super) fn info(body: &[u8]) -> Result<MintInfo, EcashError> {
    let text: InfoText = parse(body)?;
    let nut = |number: &str| text.nuts.get(number).unwrap_or(&Value::Null);
    let supported = |number: &str| nut(number)["supported"] == true;
    let methods = |number: &str| nut(number)["methods"].as_array().map(Vec::as_slice).unwrap_or_default();
    let sat = |method: &&Value| method["method"] == "bolt11" && method["unit"] == "sat";
    let limits = |method: &Value| AmountLimits {
        min: method["min_amount"].as_u64().map(Sats),
        max: method["max_amount"].as_u64().map(Sats),
    };
    // Older mints have it beside the options.
    let describes =
        |method: &Value| method["options"]["description"] == true || method["description"] == true;
    let minting = methods("4").iter().find(sat).map(limits).filter(|_| nut("4")["disabled"] != true);
    let announces = |entry: &Value| {
        let commands = entry["commands"].as_array().map(Vec::as_slice).unwrap_or_default();
        sat(&entry) && commands.iter().any(|command| command == "bolt11_mint_quote")
    };
    Ok(MintInfo {
        name: text.name.map(|name| plain(&name, 64)),
        version: text.version.map(|version| plain(&version, 64)),
        time: text.time.as_u64().map(UnixSeconds),
        minting,
        describes: methods("4").iter().find(sat).is_some_and(describes),
        melting: nut("5")["disabled"] != true && methods("5").iter().any(|method| sat(&method)),
        restore: supported("9"),
        dleq: supported("12"),
        websocket: nut("17")["supported"].as_array().is_some_and(|all| all.iter().any(announces)),
        quotes_at_once: quotes_at_once(nut("29")),
        login: protects_minting(nut("21")) || protects_minting(nut("22")),
    })
}

/// No limit is any number; no list of methods is all of them.
fn quotes_at_once(nut: &Value) -> Option<usize> {
    let methods = nut.as_object()?.get("methods").and_then(Value::as_array);
    let takes_bolt11 = methods.is_none_or(|methods| methods.iter().any(|method| method == "bolt11"));
    let most = nut["max_batch_size"].as_u64().and_then(|most| usize::try_from(most).ok());
    takes_bolt11.then_some(most.unwrap_or(usize::MAX)).filter(|most| *most > 1)
}

/// Whether a list of protected endpoints covers one that we need. A `*` (or an older mint's pattern) covers
/// all that begins as it does.
fn protects_minting(nut: &Value) -> bool {
    const NEEDED: [&str; 4] =
        ["/v1/mint/quote/bolt11", "/v1/mint/quote/bolt11/id", "/v1/mint/bolt11", "/v1/restore"];
    let covers = |endpoint: &Value| {
        let path = endpoint["path"].as_str().unwrap_or_default().trim_start_matches('^');
        match path.split_once(['*', '.', '(', '[', '\\']) {
            Some((start, _)) => NEEDED.iter().any(|needed| needed.starts_with(start)),
            None => NEEDED.contains(&path.trim_end_matches('$')),
        }
    };
    nut["protected_endpoints"].as_array().is_some_and(|all| all.iter().any(covers))
}

/// The mint's keysets; those with an id from before NUT-02 are left out.
pub(super) fn keysets(body: &[u8]) -> Result<Vec<KeysetInfo>, EcashError> {
    let text: KeysetsText = parse(body)?;
    let known = |entry: KeysetText| {
        Some(KeysetInfo {
            id: KeysetId::parse(&entry.id)?,
            active: entry.active == Some(true),
            terms: entry.terms(),
        })
    };
    Ok(text.keysets.into_iter().filter_map(known).take(MAX_KEYSETS).collect())
}

/// The keys of keyset `listed`, checked against its id. Terms that this answer leaves out are taken from the list.
pub(super) fn keys(body: &[u8], listed: &KeysetInfo) -> Result<Keyset, EcashError> {
    let text: KeysetsText = parse(body)?;
    let id = listed.id.to_string();
    let entry = text.keysets.into_iter().find(|entry| entry.id.eq_ignore_ascii_case(&id));
    let entry = entry.ok_or(Lie::OtherKeyset)?;
    let said = entry.terms();
    let terms = KeysetTerms {
        unit: said.unit,
        input_fee_ppk: entry.input_fee_ppk.as_u64().unwrap_or(listed.terms.input_fee_ppk),
        final_expiry: said.final_expiry.or(listed.terms.final_expiry),
    };
    let keys = entry.keys.iter().map(|(amount, key)| (amount.as_str(), key.as_str()));
    Ok(Keyset::verified(listed.id, terms, keys).map_err(Lie::Keyset)?)
}

pub(super) fn mint_quote(body: &[u8]) -> Result<MintQuote, EcashError> {
    let text: QuoteText = parse(body)?;
    text.quote()
}

/// The states of the quotes asked for, in that order (NUT-29).
pub(super) fn mint_quotes(body: &[u8], asked: &[QuoteId]) -> Result<Vec<MintQuote>, EcashError> {
    let texts: Vec<QuoteText> = parse(body)?;
    let quotes = texts.into_iter().map(QuoteText::quote).collect::<Result<Vec<MintQuote>, EcashError>>()?;
    match quotes.iter().map(|quote| &quote.id).eq(asked) {
        true => Ok(quotes),
        false => Err(Lie::OtherQuote.into()),
    }
}

pub(super) fn signatures(body: &[u8]) -> Result<Vec<BlindSignature>, EcashError> {
    let text: SignaturesText = parse(body)?;
    text.signatures.into_iter().map(SignatureText::signature).collect()
}

/// Which of the outputs were signed, by `B_` (NUT-09).
pub(super) fn restored(body: &[u8]) -> Result<Vec<(PublicKey, BlindSignature)>, EcashError> {
    let text: RestoredText = parse(body)?;
    if text.outputs.len() != text.signatures.len() {
        return Err(Lie::SignatureCount.into());
    }
    let pair = |(output, signature): (OutputText, SignatureText)| {
        Ok((PublicKey::parse(&output.blinded).ok_or(BAD_POINT)?, signature.signature()?))
    };
    text.outputs.into_iter().zip(text.signatures).map(pair).collect()
}

/// The states of the proofs asked for, in the order asked (NUT-07).
pub(super) fn states(body: &[u8], asked: &[PublicKey]) -> Result<Vec<ProofState>, EcashError> {
    let text: StatesText = parse(body)?;
    if text.states.len() != asked.len() {
        return Err(Lie::OtherProofs.into());
    }
    let mut said = HashMap::new();
    for entry in text.states {
        let state = match entry.state.as_str() {
            "UNSPENT" => ProofState::Unspent,
            "PENDING" => ProofState::Pending,
            "SPENT" => ProofState::Spent,
            _ => return Err(EcashError::Malformed("unknown proof state")),
        };
        said.insert(entry.y.to_ascii_lowercase(), state);
    }
    let find = |y: &PublicKey| said.get(&y.to_string()).copied().ok_or(Lie::OtherProofs.into());
    asked.iter().map(find).collect()
}

/// What the proofs asked for were spent with, in the order asked; empty where that is not said.
pub(super) fn witnesses(body: &[u8], asked: &[String]) -> Result<Vec<String>, EcashError> {
    let said: Value = parse(body)?;
    let of = |y: &String| {
        let mut all = said["states"].as_array().into_iter().flatten();
        let one = all.find(|one| one["Y"].as_str().is_some_and(|said| said.eq_ignore_ascii_case(y)));
        one.and_then(|one| one["witness"].as_str()).unwrap_or_default().to_owned()
    };
    Ok(asked.iter().map(of).collect())
}

/// The state of a quote in a NUT-17 event.
pub(super) fn quote_event(payload: &Value) -> Option<(QuoteId, QuoteState)> {
    let id = QuoteId::parse(payload["quote"].as_str()?)?;
    Some((id, QuoteState::parse(payload["state"].as_str()?)?))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, EcashError> {
    crate::json::read(body).ok_or(EcashError::Malformed("not the expected JSON"))
}

const BAD_POINT: EcashError = EcashError::Malformed("not a point of the curve");

// ---- shapes

#[derive(Deserialize)]
struct InfoText {
    name: Option<String>,
    version: Option<String>,
    #[serde(default)]
    time: Value,
    #[serde(default)]
    nuts: HashMap<String, Value>,
}

#[derive(Deserialize)]
struct KeysetsText {
    keysets: Vec<KeysetText>,
}

#[derive(Deserialize)]
struct KeysetText {
    id: String,
    unit: String,
    active: Option<bool>,
    #[serde(default)]
    input_fee_ppk: Value,
    #[serde(default)]
    final_expiry: Value,
    #[serde(default)]
    keys: HashMap<String, String>,
}

impl KeysetText {
    fn terms(&self) -> KeysetTerms {
        KeysetTerms {
            unit: self.unit.clone(),
            input_fee_ppk: self.input_fee_ppk.as_u64().unwrap_or(0),
            final_expiry: self.final_expiry.as_u64().map(UnixSeconds),
        }
    }
}

#[derive(Deserialize)]
struct QuoteText {
    quote: String,
    request: Option<String>,
    #[serde(default)]
    amount: Value,
    unit: Option<String>,
    state: Option<String>,
    #[serde(default)]
    amount_paid: Value,
    #[serde(default)]
    amount_issued: Value,
    #[serde(default)]
    expiry: Value,
    pubkey: Option<String>,
}

impl QuoteText {
    fn quote(self) -> Result<MintQuote, EcashError> {
        let amount = self.amount.as_u64();
        let state = match &self.state {
            Some(state) => QuoteState::parse(state),
            // Newer mints count instead of naming.
            None => match (self.amount_paid.as_u64(), self.amount_issued.as_u64()) {
                (Some(paid), Some(issued)) if issued > 0 && issued >= paid => Some(QuoteState::Issued),
                (Some(paid), _) if paid > 0 && Some(paid) >= amount => Some(QuoteState::Paid),
                (Some(_), _) => Some(QuoteState::Unpaid),
                _ => None,
            },
        };
        Ok(MintQuote {
            id: QuoteId::parse(&self.quote).ok_or(EcashError::Malformed("the quote id is not usable"))?,
            state: state.ok_or(EcashError::Malformed("the quote has no known state"))?,
            amount: amount.map(Sats),
            unit: self.unit.map(|unit| plain(&unit, 32)),
            expiry: self.expiry.as_u64().filter(|expiry| *expiry > 0).map(UnixSeconds),
            lock: self.pubkey.filter(|key| !key.is_empty()),
            request: self.request.filter(|request| request.len() <= MAX_INVOICE).map(InvoiceText),
        })
    }
}

#[derive(Deserialize)]
struct SignaturesText {
    signatures: Vec<SignatureText>,
}

#[derive(Deserialize)]
struct RestoredText {
    outputs: Vec<OutputText>,
    #[serde(alias = "promises")]
    signatures: Vec<SignatureText>,
}

#[derive(Deserialize)]
struct OutputText {
    #[serde(rename = "B_")]
    blinded: String,
}

#[derive(Deserialize)]
struct SignatureText {
    id: String,
    amount: u64,
    #[serde(rename = "C_")]
    c_: String,
    dleq: Option<DleqText>,
}

#[derive(Deserialize)]
struct DleqText {
    e: String,
    s: String,
}

impl SignatureText {
    fn signature(self) -> Result<BlindSignature, EcashError> {
        let dleq = match self.dleq {
            Some(DleqText { e, s }) => Some(Dleq {
                e: hex::decode(&e).ok_or(Lie::BadDleq)?,
                s: hex::decode(&s).ok_or(Lie::BadDleq)?,
            }),
            None => None,
        };
        Ok(BlindSignature {
            keyset: KeysetId::parse(&self.id).ok_or(Lie::SignatureTerms)?,
            amount: Sats(self.amount),
            c_: PublicKey::parse(&self.c_).ok_or(BAD_POINT)?,
            dleq,
        })
    }
}

#[derive(Deserialize)]
struct StatesText {
    states: Vec<StateText>,
}

#[derive(Deserialize)]
struct StateText {
    #[serde(rename = "Y")]
    y: String,
    state: String,
}

pub(super) mod spending;

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_answers(body: &[u8]) -> String {
    let (known, quote) = (keysets(body), QuoteId::parse("q"));
    let keys = known.iter().flatten().next().map(|listed| keys(body, listed).map(drop));
    let asked = crate::ecash::SecretKey::from_bytes(&[1; 32]).map(|key| key.public_key());
    format!(
        "{:?} {known:?} {keys:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        info(body).map(drop),
        mint_quote(body).map(drop),
        mint_quotes(body, quote.as_slice()).map(drop),
        signatures(body).map(drop),
        restored(body).map(drop),
        states(body, asked.as_slice()),
        spending::melt_quote(body).map(drop),
    )
}

#[cfg(test)]
mod tests;
