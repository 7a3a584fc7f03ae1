//! One mint's endpoints, one call each. Every call ends within 9 s, reads at most 1 MiB, and goes to the mint's own
//! address only. What is arithmetic on the curve in reading an answer is done on another thread.

use super::curve::{PublicKey, SecretKey};
use super::error::{EcashError, Lie};
use super::keyset::Keyset;
use super::outputs::{BlindSignature, Outputs, Proof};
use super::quote_lock::{self, Form};
use super::refusal;
use super::wire::spending::{inputs_json, melt_quote, MeltQuote, MeltState};
use super::wire::{self, KeysetInfo, MintInfo, MintQuote, ProofState, QuoteId};
use crate::calls::{self, Destination, NoAnswer, PeerLine, Tls};
use crate::config::MintUrl;
use crate::json::json;
use crate::task;
use crate::units::Sats;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::Method;
use serde_json::Value;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

/// After this a call is given up and looked up later: clients give up after 10 s.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(9);
const MAX_ANSWER: usize = 1024 * 1024;
const JSON: &str = "application/json";

/// Whether the request was sent twice, and an answer that is no refusal.
type Asked<'a> = Pin<Box<dyn Future<Output = (bool, Result<Vec<u8>, EcashError>)> + Send + 'a>>;

#[derive(Debug)]
pub struct MintClient {
    line: PeerLine,
    /// Whether this mint was last seen to want the older form of NUT-20 signatures.
    legacy_signatures: AtomicBool,
}

impl MintClient {
    pub fn new(url: MintUrl, tls: &Tls) -> MintClient {
        MintClient::with_timeout(url, tls, CALL_TIMEOUT)
    }

    fn with_timeout(url: MintUrl, tls: &Tls, timeout: Duration) -> MintClient {
        let line = PeerLine::new(Destination::new(url, tls.clone()), timeout, MAX_ANSWER);
        MintClient { line, legacy_signatures: AtomicBool::new(false) }
    }

    pub fn url(&self) -> &MintUrl {
        self.line.destination().url()
    }

    /// NUT-06.
    pub async fn info(&self) -> Result<MintInfo, EcashError> {
        wire::info(&self.get("/v1/info").await?)
    }

    /// NUT-02.
    pub async fn keysets(&self) -> Result<Vec<KeysetInfo>, EcashError> {
        wire::keysets(&self.get("/v1/keysets").await?)
    }

    /// The keys of a listed keyset (NUT-01), checked against its id.
    pub async fn keys(&self, listed: KeysetInfo) -> Result<Keyset, EcashError> {
        let answer = self.get(&format!("/v1/keys/{}", listed.id)).await?;
        read(answer, move |answer| wire::keys(answer, &listed)).await
    }

    /// Asks for an invoice over `amount` sat; what is paid on it can only be minted with the key of `lock` (NUT-04,
    /// NUT-20). An invoice that is asked for twice and shown once costs nothing.
    pub async fn mint_quote(
        &self,
        amount: Sats,
        lock: PublicKey,
        memo: Option<String>,
    ) -> Result<MintQuote, EcashError> {
        let mut body = json!({"amount": amount.0, "unit": "sat", "pubkey": lock.to_string()});
        if let Some(memo) = memo {
            body["description"] = memo.into();
        }
        wire::mint_quote(&self.post("/v1/mint/quote/bolt11", &body).await?)
    }

    pub async fn quote_state(&self, quote: &QuoteId) -> Result<MintQuote, EcashError> {
        let answer = wire::mint_quote(&self.get(&format!("/v1/mint/quote/bolt11/{quote}")).await?)?;
        match answer.id == *quote {
            true => Ok(answer),
            false => Err(Lie::OtherQuote.into()),
        }
    }

    /// The states of many quotes, in their order (NUT-29). The mint answers for all or for none.
    pub async fn quote_states(&self, quotes: &[QuoteId]) -> Result<Vec<MintQuote>, EcashError> {
        let ids: Vec<&str> = quotes.iter().map(QuoteId::as_str).collect();
        wire::mint_quotes(&self.post("/v1/mint/quote/bolt11/check", &json!({"quotes": ids})).await?, quotes)
    }

    /// Has the outputs signed for a paid quote (NUT-04). A refused signature (NUT-20) does not use up the
    /// outputs, so the other form is tried at once with the same ones. A mint that has signed them before says so,
    /// and they are restored: so the request may be sent twice.
    pub async fn mint(
        &self,
        quote: &QuoteId,
        outputs: Arc<Outputs>,
        lock: SecretKey,
    ) -> Result<Vec<BlindSignature>, EcashError> {
        let legacy = self.legacy_signatures.load(Ordering::Relaxed);
        let (first, second) = if legacy { (Form::Legacy, Form::V1) } else { (Form::V1, Form::Legacy) };
        match self.mint_signed(quote, outputs.clone(), lock.clone(), first).await {
            Err(EcashError::SignatureRefused) => {}
            outcome => return outcome,
        }
        let outcome = self.mint_signed(quote, outputs, lock, second).await;
        if outcome.is_ok() {
            self.legacy_signatures.store(second == Form::Legacy, Ordering::Relaxed);
        }
        outcome
    }

    async fn mint_signed(
        &self,
        quote: &QuoteId,
        outputs: Arc<Outputs>,
        lock: SecretKey,
        form: Form,
    ) -> Result<Vec<BlindSignature>, EcashError> {
        let text = quote.as_str().to_owned();
        let signed = task::blocking(move || {
            let signature = quote_lock::sign(form, &lock, &text, outputs.blinded())?;
            Some(json!({"quote": text, "outputs": wire::outputs_json(&outputs), "signature": signature}))
        });
        let body = signed.await.ok().flatten().ok_or(EcashError::SignatureRefused)?;
        let answer = self.post("/v1/mint/bolt11", &body).await?;
        read(answer, wire::signatures).await
    }

    /// Trades proofs for new ones (NUT-03).
    pub async fn swap(&self, inputs: &[Proof], outputs: &Outputs) -> Result<Vec<BlindSignature>, EcashError> {
        let body = json!({"inputs": inputs_json(inputs), "outputs": wire::outputs_json(outputs)});
        let (answer, _) = self.post_once("/v1/swap", &body).await?;
        read(answer, wire::signatures).await
    }

    /// Asks what the mint wants for paying an invoice (NUT-05).
    pub async fn melt_quote(&self, invoice: &str) -> Result<MeltQuote, EcashError> {
        let body = json!({"request": invoice, "unit": "sat"});
        melt_quote(&self.post("/v1/melt/quote/bolt11", &body).await?)
    }

    pub async fn melt_state(&self, quote: &QuoteId) -> Result<MeltQuote, EcashError> {
        let answer = self.get(&format!("/v1/melt/quote/bolt11/{quote}")).await?;
        same_quote(read(answer, melt_quote).await?, quote)
    }

    /// Has the mint pay a quote's invoice with these proofs; change comes on the blank outputs (NUT-08).
    pub async fn melt(
        &self,
        quote: &QuoteId,
        inputs: &[Proof],
        blanks: Option<&Outputs>,
    ) -> Result<MeltQuote, EcashError> {
        let mut body = json!({"quote": quote.as_str(), "inputs": inputs_json(inputs)});
        if let Some(blanks) = blanks {
            body["outputs"] = wire::outputs_json(blanks);
        }
        let (answer, sent_twice) = self.post_once("/v1/melt/bolt11", &body).await?;
        let answer = same_quote(read(answer, melt_quote).await?, quote)?;
        // The first may still be on its way: an answer to the second that is no success settles nothing.
        match sent_twice && answer.state != MeltState::Paid {
            true => Err(EcashError::PaymentFailed.of_second()),
            false => Ok(answer),
        }
    }

    /// Which of the outputs the mint has signed before (NUT-09).
    pub async fn restore(&self, outputs: &Outputs) -> Result<Vec<(PublicKey, BlindSignature)>, EcashError> {
        let body = json!({"outputs": wire::outputs_json(outputs)});
        read(self.post("/v1/restore", &body).await?, wire::restored).await
    }

    /// Whether proofs are spent (NUT-07), in the order of `ys` (see [`super::ProofSecret::y`]).
    pub async fn proof_states(&self, ys: &[PublicKey]) -> Result<Vec<ProofState>, EcashError> {
        let texts: Vec<String> = ys.iter().map(PublicKey::to_string).collect();
        wire::states(&self.post("/v1/checkstate", &json!({"Ys": texts})).await?, ys)
    }

    /// What spent proofs were spent with (NUT-07), in the order of `ys`; empty where the mint does not say.
    pub async fn proof_witnesses(&self, ys: &[PublicKey]) -> Result<Vec<String>, EcashError> {
        let texts: Vec<String> = ys.iter().map(PublicKey::to_string).collect();
        wire::witnesses(&self.post("/v1/checkstate", &json!({"Ys": texts})).await?, &texts)
    }

    async fn get(&self, path: &str) -> Result<Vec<u8>, EcashError> {
        self.ask(Method::GET, path, String::new()).await.1
    }

    /// For what is safe to repeat, and for what tells a repetition from a refusal.
    async fn post(&self, path: &str, body: &Value) -> Result<Vec<u8>, EcashError> {
        self.ask(Method::POST, path, body.to_string()).await.1
    }

    /// For what is not safe to repeat. If it was sent twice, the second may be refused because the mint has carried out
    /// the first.
    async fn post_once(&self, path: &str, body: &Value) -> Result<(Vec<u8>, bool), EcashError> {
        match self.ask(Method::POST, path, body.to_string()).await {
            (sent_twice, Ok(answer)) => Ok((answer, sent_twice)),
            (true, Err(refused)) => Err(refused.of_second()),
            (false, Err(err)) => Err(err),
        }
    }

    /// Boxed, so that the code of a call exists once.
    fn ask<'a>(&'a self, method: Method, path: &str, body: String) -> Asked<'a> {
        let request = calls::request(self.url(), path).method(method).header(ACCEPT, JSON);
        let request = request.header(CONTENT_TYPE, JSON).body(body.into());
        Box::pin(async move {
            let request = match request {
                Ok(request) => request,
                Err(err) => return (false, Err(EcashError::Unreachable(err.to_string()))),
            };
            let answer = match self.line.ask(request).await {
                Ok(answer) => answer,
                Err(NoAnswer::NotSent(cause)) => return (false, Err(EcashError::Unreachable(cause))),
                Err(NoAnswer::Lost(cause)) => return (false, Err(EcashError::NoAnswer(cause))),
            };
            let body = match answer.status {
                200..=299 => Ok(answer.body),
                300..=399 => Err(EcashError::Malformed("a redirect")),
                status => Err(refusal::read(status, &answer.body)),
            };
            (answer.sent_twice, body)
        })
    }
}

/// Reads an answer with points of the curve in it.
async fn read<T: Send + 'static>(
    answer: Vec<u8>,
    how: impl FnOnce(&[u8]) -> Result<T, EcashError> + Send + 'static,
) -> Result<T, EcashError> {
    task::blocking(move || how(&answer)).await.unwrap_or(Err(EcashError::NoAnswer("stopped".to_owned())))
}

fn same_quote(answer: MeltQuote, asked: &QuoteId) -> Result<MeltQuote, EcashError> {
    match answer.id == *asked {
        true => Ok(answer),
        false => Err(Lie::OtherQuote.into()),
    }
}

#[cfg(test)]
mod tests;
