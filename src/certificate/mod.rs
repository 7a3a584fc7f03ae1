//! The operator's certificate for https: read from its files, judged, and taken anew when they change.
//!
//! A pair is taken when certificate and key belong together and are for the configured name; until then the one before
//! stays in service. It knows nothing of connections, and never ends the daemon.

mod validity;

use crate::calls::crypto_provider;
use crate::clock::{date_of, Clock, PLAUSIBLE};
use crate::config::TlsConfig;
use crate::units::{Millis, UnixSeconds};
use rustls::client::verify_server_name;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error, InconsistentKeys, ServerConfig};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use validity::Validity;
use zeroize::{Zeroize, Zeroizing};

const LOOK_EVERY: Millis = Millis::from_secs(10);
/// A certificate with its chain and a key are some kilobytes.
const LONGEST_FILE: u64 = 64 * 1024;

/// Why the certificate in the files is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    #[error("{0} cannot be read: {1}")]
    Unread(String, String),
    #[error("{0} holds no certificate (PEM) that can be used")]
    NoCertificate(String),
    #[error("{0} holds no private key (PEM: RSA, P-256, P-384 or Ed25519, not encrypted)")]
    NoKey(String),
    #[error("the key does not belong to the certificate")]
    Unpaired,
    #[error("the certificate is not for {0}")]
    OtherName(String),
    #[error("the certificate has ended on {0}")]
    Expired(String),
    #[error("the certificate begins on {0} only")]
    NotYet(String),
    #[error("TLS cannot be set up")]
    Unusable,
}

/// How the certificate stands, for status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateStanding {
    /// `None` where all is well.
    pub fault: Option<CertificateFault>,
    /// The end of the one in service; without one, of the one in the files.
    pub not_after: Option<UnixSeconds>,
    pub in_service: bool,
}

/// The certificate in service, and what was last found in its files.
#[derive(Default)]
pub struct OwnCertificate(Mutex<State>);

#[derive(Default)]
struct State {
    last: Option<Look>,
    in_service: Option<InService>,
}

struct Look {
    at: Millis,
    tls: TlsConfig,
    files: Option<FilesDigest>,
    fault: Option<CertificateFault>,
    /// Of the certificate in the files.
    validity: Option<Validity>,
    /// It is the one in service.
    is_taken: bool,
}

struct InService {
    server: Arc<ServerConfig>,
    validity: Validity,
}

type FilesDigest = [u8; 32];

impl OwnCertificate {
    /// Looks at the files when it is time to, or when they are others than before. Meant to be asked often.
    pub fn tend(&self, tls: Option<&TlsConfig>, clock: &Clock) {
        let mut state = self.state();
        let Some(tls) = tls else {
            *state = State::default();
            return;
        };
        let now = clock.now();
        let is_same = state.last.as_ref().is_some_and(|last| last.tls == *tls);
        let is_early = |last: &Look| now < last.at.saturating_add(LOOK_EVERY);
        if is_same && state.last.as_ref().is_some_and(is_early) {
            return;
        }
        if state.last.as_ref().is_some_and(|last| last.tls.name != tls.name) {
            // It is for another name.
            state.in_service = None;
        }
        state.look(tls, now, clock.wall());
    }

    /// What connections are served with. `None` while there is no certificate that can be used.
    pub fn server(&self) -> Option<Arc<ServerConfig>> {
        self.state().in_service.as_ref().map(|service| service.server.clone())
    }

    /// `None` where none is configured.
    pub fn standing(&self) -> Option<CertificateStanding> {
        let state = self.state();
        let last = state.last.as_ref()?;
        let service = state.in_service.as_ref().map(|service| service.validity);
        Some(CertificateStanding {
            fault: last.fault.clone(),
            not_after: service.or(last.validity).map(|validity| validity.not_after),
            in_service: service.is_some(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn look(&mut self, tls: &TlsConfig, now: Millis, wall: UnixSeconds) {
        let before = self.last.take();
        let (files, read) = match Pem::read(tls) {
            Ok(pem) => (Some(pem.digest()), Ok(pem)),
            Err(fault) => (None, Err(fault)),
        };
        let is_known = |last: &&Look| files.is_some() && last.files == files && last.tls == *tls;
        let taken = before.as_ref().filter(is_known).filter(|last| last.is_taken);
        let (validity, is_taken, fault) = match taken.and_then(|last| last.validity) {
            Some(validity) => (Some(validity), true, validity.fault(wall)),
            None => match read.and_then(|pem| Pair::of(&pem, &tls.name)) {
                Ok(pair) => {
                    let (validity, fault) = (pair.validity, pair.validity.fault(wall));
                    match self.take(pair, &tls.name, wall) {
                        Ok(is_taken) => (Some(validity), is_taken, fault),
                        Err(fault) => (Some(validity), false, Some(fault)),
                    }
                }
                Err(fault) => (None, false, Some(fault)),
            },
        };
        if fault != before.and_then(|last| last.fault) {
            match &fault {
                None => {}
                Some(fault) if is_taken => log::warn!("https is served all the same: {fault}"),
                Some(fault) if self.in_service.is_some() => {
                    log::warn!("https: {fault}; the certificate before stays in service");
                }
                Some(fault) => log::warn!("https is not served: {fault}"),
            }
        }
        self.last = Some(Look { at: now, tls: tls.clone(), files, fault, validity, is_taken });
    }

    /// Takes the pair, unless one with better dates is in service. Returns whether it did.
    fn take(&mut self, pair: Pair, name: &str, wall: UnixSeconds) -> Result<bool, CertificateFault> {
        let validity = pair.validity;
        let is_better = |service: &InService| service.validity.fault(wall).is_none();
        if validity.fault(wall).is_some() && self.in_service.as_ref().is_some_and(is_better) {
            return Ok(false);
        }
        let server = server(pair.key).ok_or(CertificateFault::Unusable)?;
        log::info!("https is served as {name}, with a certificate until {}", day(validity.not_after));
        self.in_service = Some(InService { server, validity });
        Ok(true)
    }
}

/// What is wrong with the files that the configuration names, if anything is.
pub fn check(tls: &TlsConfig, clock: &Clock) -> Option<CertificateFault> {
    match Pem::read(tls).and_then(|pem| Pair::of(&pem, &tls.name)) {
        Ok(pair) => pair.validity.fault(clock.wall()),
        Err(fault) => Some(fault),
    }
}

/// The two files as they are.
struct Pem {
    cert_file: String,
    certificates: Vec<u8>,
    key_file: String,
    key: Zeroizing<Vec<u8>>,
}

impl Pem {
    fn read(tls: &TlsConfig) -> Result<Pem, CertificateFault> {
        let [cert_file, key_file] = [&tls.cert_file, &tls.key_file].map(|file| file.display().to_string());
        let unread =
            |file: &str, err: std::io::Error| CertificateFault::Unread(file.to_owned(), err.to_string());
        let mut certificates = read(&tls.cert_file).map_err(|err| unread(&cert_file, err))?;
        let key = read(&tls.key_file).map_err(|err| unread(&key_file, err))?;
        Ok(Pem { certificates: std::mem::take(&mut *certificates), cert_file, key_file, key })
    }

    fn digest(&self) -> FilesDigest {
        let mut digest = Sha256::new();
        digest.update(Sha256::digest(&self.certificates));
        digest.update(&*self.key);
        digest.finalize().into()
    }
}

/// Never blocks on a pipe.
fn read(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    std::fs::File::open(path)?.take(LONGEST_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A certificate with the key that belongs to it.
struct Pair {
    key: CertifiedKey,
    validity: Validity,
}

impl Pair {
    fn of(pem: &Pem, name: &str) -> Result<Pair, CertificateFault> {
        let no_certificate = || CertificateFault::NoCertificate(pem.cert_file.clone());
        let no_key = || CertificateFault::NoKey(pem.key_file.clone());
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem.certificates)
            .collect::<Result<_, _>>()
            .map_err(|_| no_certificate())?;
        let own = chain.first().ok_or_else(no_certificate)?;
        let parsed = ParsedCertificate::try_from(own).map_err(|_| no_certificate())?;
        let validity = Validity::of(own).ok_or_else(no_certificate)?;
        let server_name =
            ServerName::try_from(name).map_err(|_| CertificateFault::OtherName(name.to_owned()))?;
        let is_for_it = verify_server_name(&parsed, &server_name);
        drop(parsed);
        let mut key = PrivateKeyDer::from_pem_slice(&pem.key).map_err(|_| no_key())?;
        let signing = any_supported_type(&key);
        key.zeroize();
        let key = CertifiedKey::new(chain, signing.map_err(|_| no_key())?);
        match key.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => return Err(CertificateFault::Unpaired),
        }
        is_for_it.map_err(|_| CertificateFault::OtherName(name.to_owned()))?;
        Ok(Pair { key, validity })
    }
}

impl Validity {
    /// What is wrong with these dates at this time. A clock that was never set says nothing.
    fn fault(self, wall: UnixSeconds) -> Option<CertificateFault> {
        match wall {
            _ if wall < PLAUSIBLE => None,
            _ if wall > self.not_after => Some(CertificateFault::Expired(day(self.not_after))),
            _ if wall < self.not_before => Some(CertificateFault::NotYet(day(self.not_before))),
            _ => None,
        }
    }
}

/// `2026-11-30`.
fn day(time: UnixSeconds) -> String {
    let date = date_of(time.0 / 86_400);
    format!("{}-{:02}-{:02}", date.year, date.month, date.day)
}

/// Serves one certificate, whatever name a client asks for, or none. Every connection has a handshake of its own: nothing
/// of it is kept for a later one.
fn server(key: CertifiedKey) -> Option<Arc<ServerConfig>> {
    let mut config = ServerConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .ok()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Some(Arc::new(config))
}

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_dates(certificate: &[u8]) -> Option<(UnixSeconds, UnixSeconds)> {
    Validity::of(certificate).map(|validity| (validity.not_before, validity.not_after))
}

#[cfg(test)]
mod tests;
