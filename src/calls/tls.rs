//! Whom we trust: the public roots, and one more certificate authority if the operator named one. Calls and the
//! mints' WebSockets share these settings, so that all trust the same.

use rustls::crypto::{ring, CryptoProvider, KeyProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    #[error("the extra certificate file holds no usable certificate (PEM)")]
    NoCertificate,
    #[error("TLS cannot be set up")]
    Unusable,
}

/// TLS settings: those of all peers but nodes known by their certificate (see [`super::pinned()`]), which have their
/// own. Copies are one: what is renewed holds for every connection made from then on.
#[derive(Clone)]
pub struct Tls(Arc<Mutex<Arc<ClientConfig>>>);

impl Tls {
    /// Trusts the public roots and the certificates in `extra_ca` (PEM).
    pub fn new(extra_ca: Option<&[u8]>) -> Result<Tls, TlsError> {
        Ok(Tls::of(trusting(extra_ca)?))
    }

    /// The same of the certificates in a file (`ca_file`), or what is wrong with that.
    pub fn with_file(ca_file: Option<&Path>) -> Result<Tls, String> {
        let extra = ca_file.map(std::fs::read).transpose().map_err(|err| format!("ca_file: {err}"))?;
        Tls::new(extra.as_deref()).map_err(|err| format!("ca_file: {err}"))
    }

    pub(super) fn of(config: Arc<ClientConfig>) -> Tls {
        Tls(Arc::new(Mutex::new(config)))
    }

    /// Trusts the certificates in `extra_ca` in place of those before; with none that can be used all stays as it is.
    pub fn renew(&self, extra_ca: Option<&[u8]>) -> Result<(), TlsError> {
        let config = trusting(extra_ca)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    pub fn config(&self) -> Arc<ClientConfig> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Settings that trust the public roots and these certificates.
fn trusting(extra_ca: Option<&[u8]>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(pem) = extra_ca {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|_| TlsError::NoCertificate)?;
        if certificates.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|_| TlsError::NoCertificate)?;
        }
    }
    let config = ClientConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .map_err(|_| TlsError::Unusable)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// What our TLS is made of. To others we never show a certificate, so no key is loaded by it.
pub fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { key_provider: &NoKeys, ..ring::default_provider() })
}

#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("no certificates of our own".to_owned()))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extra_certificate_file_without_certificate_is_refused() {
        for pem in [&b""[..], b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(Tls::new(Some(pem)).unwrap_err(), TlsError::NoCertificate);
        }
        let tls = Tls::new(None).unwrap();
        let before = tls.clone();
        assert_eq!(tls.renew(Some(b"nonsense")), Err(TlsError::NoCertificate));
        tls.renew(None).unwrap();
        assert!(Arc::ptr_eq(&before.config(), &tls.config()), "copies are one");
    }
}
