//! One mint's endpoints, one blocking call each, from a thread beside the runtime ([`task::blocking`]). Every call
//! ends within 12 s, reads at most 1 MiB, and goes to the mint's own address only.

use super::curve::{PublicKey, SecretKey};
use super::error::{EcashError, Lie};
use super::keyset::Keyset;
use super::outputs::{BlindSignature, Outputs, Proof};
use super::quote_lock::{self, Form};
use super::refusal;
use super::wire::spending::{inputs_json, melt_quote, MeltQuote};
use super::wire::{self, KeysetInfo, MintInfo, MintQuote, ProofState, QuoteId};
use crate::calls::{self, in_time, Connection, NoAnswer, Request, Tls};
use crate::config::MintUrl;
use crate::json::json;
use crate::task;
use crate::units::Sats;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::Method;
use rustls::ClientConfig;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// After this a call is given up and looked up later.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(12);
/// Many servers close a connection that was idle for longer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_CONNECTIONS: usize = 2;
const MAX_ANSWER: usize = 1024 * 1024;
const JSON: &str = "application/json";

#[derive(Debug)]
pub struct MintClient {
    line: Arc<Line>,
    /// Whether this mint was last seen to want the older form of NUT-20 signatures.
    legacy_signatures: AtomicBool,
}

impl MintClient {
    pub fn new(url: MintUrl, tls: &Tls) -> MintClient {
        MintClient::with_timeout(url, tls, CALL_TIMEOUT)
    }

    fn with_timeout(url: MintUrl, tls: &Tls, timeout: Duration) -> MintClient {
        let line = Arc::new(Line { url, tls: tls.config(), timeout, idle: Mutex::default() });
        MintClient { line, legacy_signatures: AtomicBool::new(false) }
    }

    pub fn url(&self) -> &MintUrl {
        &self.line.url
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
        self.ask(Method::GET, path, String::new())
    }

    fn post(&self, path: &str, body: &Value) -> Result<Vec<u8>, EcashError> {
        self.ask(Method::POST, path, body.to_string())
    }

    fn ask(&self, method: Method, path: &str, body: String) -> Result<Vec<u8>, EcashError> {
        let request = calls::request(&self.line.url, path).method(method).header(ACCEPT, JSON);
        let request = request.header(CONTENT_TYPE, JSON).body(body.into());
        let request = request.map_err(|err| EcashError::Unreachable(err.to_string()))?;
        let (tell, told) = oneshot::channel();
        let line = self.line.clone();
        task::spawn(async move { drop(tell.send(line.ask(request).await)) });
        let stopped = |_| NoAnswer::Lost("the call was stopped".to_owned());
        let (status, body) = match told.blocking_recv().map_err(stopped).flatten() {
            Ok(answer) => answer,
            Err(NoAnswer::NotSent(cause)) => return Err(EcashError::Unreachable(cause)),
            Err(NoAnswer::Lost(cause)) => return Err(EcashError::NoAnswer(cause)),
        };
        match status {
            200..=299 => Ok(body),
            300..=399 => Err(EcashError::Malformed("a redirect")),
            _ => Err(refusal::read(status, &body)),
        }
    }
}

/// The way to a mint: a few connections that are kept for the next call.
#[derive(Debug)]
struct Line {
    url: MintUrl,
    tls: Arc<ClientConfig>,
    timeout: Duration,
    idle: Mutex<Vec<(Instant, Connection)>>,
}

impl Line {
    async fn ask(&self, request: Request) -> Result<(u16, Vec<u8>), NoAnswer> {
        in_time(self.timeout, async {
            let mut reply = match self.idle() {
                Some(connection) => match connection.send(request.clone(), MAX_ANSWER).await {
                    Err(NoAnswer::NotSent(_)) => self.connect().await?.send(request, MAX_ANSWER).await?,
                    outcome => outcome?,
                },
                None => self.connect().await?.send(request, MAX_ANSWER).await?,
            };
            let (status, body) = (reply.status, reply.all().await);
            // How an error is described is not worth another error.
            let body = if (200..400).contains(&status) { body? } else { body.unwrap_or_default() };
            self.keep(reply.into_connection());
            Ok((status, body))
        })
        .await
    }

    async fn connect(&self) -> Result<Connection, NoAnswer> {
        Connection::over(calls::open(&self.url, self.tls.clone()).await?).await
    }

    fn idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, connection)| since.elapsed() < IDLE_TIMEOUT && connection.is_open());
        idle.pop().map(|(_, connection)| connection)
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CONNECTIONS {
            idle.push((Instant::now(), connection));
        }
    }
}

fn same_quote(answer: MeltQuote, asked: &QuoteId) -> Result<MeltQuote, EcashError> {
    match answer.id == *asked {
        true => Ok(answer),
        false => Err(Lie::OtherQuote.into()),
    }
}

#[cfg(test)]
mod tests;
