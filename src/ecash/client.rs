//! One mint's endpoints, one blocking call each. Every call ends within 12 s, reads at most 1 MiB, and goes
//! to the mint's own address only.

use super::curve::{PublicKey, SecretKey};
use super::error::{EcashError, Lie};
use super::keyset::Keyset;
use super::outputs::{BlindSignature, Outputs, Proof};
use super::quote_lock::{self, Form};
use super::refusal;
use super::tls::{HandshakeFailed, Tls, CALL_TIMEOUT};
use super::wire::spending::{inputs_json, melt_quote, MeltQuote};
use super::wire::{self, KeysetInfo, MintInfo, MintQuote, ProofState, QuoteId};
use crate::config::MintUrl;
use crate::json::json;
use crate::units::Sats;
use serde_json::Value;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use ureq::http::Response;
use ureq::{Body, Timeout};

const MAX_ANSWER: u64 = 1024 * 1024;

#[derive(Debug)]
pub struct MintClient {
    url: MintUrl,
    agent: ureq::Agent,
    /// Whether this mint was last seen to want the older form of NUT-20 signatures.
    legacy_signatures: AtomicBool,
}

impl MintClient {
    pub fn new(url: MintUrl, tls: &Tls) -> MintClient {
        MintClient::with_timeout(url, tls, CALL_TIMEOUT)
    }

    fn with_timeout(url: MintUrl, tls: &Tls, timeout: Duration) -> MintClient {
        MintClient { url, agent: tls.agent(timeout), legacy_signatures: AtomicBool::new(false) }
    }

    pub fn url(&self) -> &MintUrl {
        &self.url
    }

    /// NUT-06.
    pub fn info(&self) -> Result<MintInfo, EcashError> {
        wire::info(&self.get("/v1/info")?)
    }

    /// NUT-02.
    pub fn keysets(&self) -> Result<Vec<KeysetInfo>, EcashError> {
        wire::keysets(&self.get("/v1/keysets")?)
    }

    /// The keys of a listed keyset (NUT-01), checked against its id.
    pub fn keys(&self, listed: &KeysetInfo) -> Result<Keyset, EcashError> {
        wire::keys(&self.get(&format!("/v1/keys/{}", listed.id))?, listed)
    }

    /// Asks for an invoice over `amount` sat; what is paid on it can only be minted with the key of `lock`
    /// (NUT-04, NUT-20).
    pub fn mint_quote(&self, amount: Sats, lock: PublicKey) -> Result<MintQuote, EcashError> {
        let body = json!({"amount": amount.0, "unit": "sat", "pubkey": lock.to_string()});
        wire::mint_quote(&self.post("/v1/mint/quote/bolt11", &body)?)
    }

    pub fn quote_state(&self, quote: &QuoteId) -> Result<MintQuote, EcashError> {
        let answer = wire::mint_quote(&self.get(&format!("/v1/mint/quote/bolt11/{quote}"))?)?;
        match answer.id == *quote {
            true => Ok(answer),
            false => Err(Lie::OtherQuote.into()),
        }
    }

    /// The states of many quotes, in their order (NUT-29). The mint answers for all or for none.
    pub fn quote_states(&self, quotes: &[QuoteId]) -> Result<Vec<MintQuote>, EcashError> {
        let ids: Vec<&str> = quotes.iter().map(QuoteId::as_str).collect();
        wire::mint_quotes(&self.post("/v1/mint/quote/bolt11/check", &json!({"quotes": ids}))?, quotes)
    }

    /// Has the outputs signed for a paid quote (NUT-04). A refused signature (NUT-20) does not use up the
    /// outputs, so the other form is tried at once with the same ones.
    pub fn mint(
        &self,
        quote: &QuoteId,
        outputs: &Outputs,
        lock: &SecretKey,
    ) -> Result<Vec<BlindSignature>, EcashError> {
        let legacy = self.legacy_signatures.load(Ordering::Relaxed);
        let (first, second) = if legacy { (Form::Legacy, Form::V1) } else { (Form::V1, Form::Legacy) };
        match self.mint_signed(quote, outputs, lock, first) {
            Err(EcashError::SignatureRefused) => {}
            outcome => return outcome,
        }
        let outcome = self.mint_signed(quote, outputs, lock, second);
        if outcome.is_ok() {
            self.legacy_signatures.store(second == Form::Legacy, Ordering::Relaxed);
        }
        outcome
    }

    fn mint_signed(
        &self,
        quote: &QuoteId,
        outputs: &Outputs,
        lock: &SecretKey,
        form: Form,
    ) -> Result<Vec<BlindSignature>, EcashError> {
        let signature = quote_lock::sign(form, lock, quote.as_str(), outputs.blinded());
        let signature = signature.ok_or(EcashError::SignatureRefused)?;
        let outputs = wire::outputs_json(outputs);
        let body = json!({"quote": quote.as_str(), "outputs": outputs, "signature": signature});
        wire::signatures(&self.post("/v1/mint/bolt11", &body)?)
    }

    /// Trades proofs for new ones (NUT-03).
    pub fn swap(&self, inputs: &[Proof], outputs: &Outputs) -> Result<Vec<BlindSignature>, EcashError> {
        let body = json!({"inputs": inputs_json(inputs), "outputs": wire::outputs_json(outputs)});
        wire::signatures(&self.post("/v1/swap", &body)?)
    }

    /// Asks what the mint wants for paying an invoice (NUT-05).
    pub fn melt_quote(&self, invoice: &str) -> Result<MeltQuote, EcashError> {
        melt_quote(&self.post("/v1/melt/quote/bolt11", &json!({"request": invoice, "unit": "sat"}))?)
    }

    pub fn melt_state(&self, quote: &QuoteId) -> Result<MeltQuote, EcashError> {
        same_quote(melt_quote(&self.get(&format!("/v1/melt/quote/bolt11/{quote}"))?)?, quote)
    }

    /// Has the mint pay a quote's invoice with these proofs; change comes on the blank outputs (NUT-08).
    pub fn melt(
        &self,
        quote: &QuoteId,
        inputs: &[Proof],
        blanks: Option<&Outputs>,
    ) -> Result<MeltQuote, EcashError> {
        let mut body = json!({"quote": quote.as_str(), "inputs": inputs_json(inputs)});
        if let Some(blanks) = blanks {
            body["outputs"] = wire::outputs_json(blanks);
        }
        same_quote(melt_quote(&self.post("/v1/melt/bolt11", &body)?)?, quote)
    }

    /// Which of the outputs the mint has signed before (NUT-09).
    pub fn restore(&self, outputs: &Outputs) -> Result<Vec<(PublicKey, BlindSignature)>, EcashError> {
        wire::restored(&self.post("/v1/restore", &json!({"outputs": wire::outputs_json(outputs)}))?)
    }

    /// Whether proofs are spent (NUT-07), in the order of `ys` (see [`super::Secret::y`]).
    pub fn proof_states(&self, ys: &[PublicKey]) -> Result<Vec<ProofState>, EcashError> {
        let texts: Vec<String> = ys.iter().map(PublicKey::to_string).collect();
        wire::states(&self.post("/v1/checkstate", &json!({"Ys": texts}))?, ys)
    }

    fn get(&self, path: &str) -> Result<Vec<u8>, EcashError> {
        answer(self.agent.get(self.url.endpoint(path)).call())
    }

    fn post(&self, path: &str, body: &Value) -> Result<Vec<u8>, EcashError> {
        let request = self.agent.post(self.url.endpoint(path)).content_type("application/json");
        answer(request.send(body.to_string()))
    }
}

fn same_quote(answer: MeltQuote, asked: &QuoteId) -> Result<MeltQuote, EcashError> {
    match answer.id == *asked {
        true => Ok(answer),
        false => Err(Lie::OtherQuote.into()),
    }
}

fn answer(outcome: Result<Response<Body>, ureq::Error>) -> Result<Vec<u8>, EcashError> {
    let mut response = outcome.map_err(failure)?;
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
    match status {
        200..=299 => body.map_err(failure),
        300..=399 => Err(EcashError::Malformed("a redirect")),
        _ => Err(refusal::read(status, &body.unwrap_or_default())),
    }
}

/// Tells apart what never reached the mint from what may have.
fn failure(error: ureq::Error) -> EcashError {
    let unreachable = match &error {
        ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::BadUri(_)
        | ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => true,
        ureq::Error::Io(cause) => matches!(
            cause.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::AddrNotAvailable
        ),
        ureq::Error::Other(cause) => cause.is::<HandshakeFailed>(),
        _ => false,
    };
    match error {
        _ if unreachable => EcashError::Unreachable(error.to_string()),
        ureq::Error::BodyExceedsLimit(_) => EcashError::Malformed("too large"),
        ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => EcashError::Malformed("not HTTP"),
        _ => EcashError::NoAnswer(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
