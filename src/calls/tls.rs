//! Whom we trust: the public roots, and one more certificate authority if the operator named one. Calls and the
//! mints' WebSockets share these settings, so that all trust the same.

use rustls::crypto::{ring, CryptoProvider, KeyProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    #[error("the extra certificate file holds no usable certificate (PEM)")]
    NoCertificate,
    #[error("TLS cannot be set up")]
    Unusable,
}

/// TLS settings for all but nodes known by their certificate (see [`super::pinned()`]).
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Trusts the public roots and the certificates in `extra_ca` (PEM).
    pub fn new(extra_ca: Option<&[u8]>) -> Result<Tls, TlsError> {
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
        Ok(Tls(Arc::new(config)))
    }

    pub fn config(&self) -> Arc<ClientConfig> {
        self.0.clone()
    }
}

/// What our TLS is made of. We never show a certificate, so nothing that signs is linked in (40 kB).
pub(super) fn crypto_provider() -> Arc<CryptoProvider> {
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
    use crate::hex;
    use ::ring::rand::SystemRandom;
    use ::ring::signature::{
        EcdsaKeyPair, UnparsedPublicKey, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING,
    };

    #[test]
    fn an_extra_certificate_file_without_certificate_is_refused() {
        for pem in [&b""[..], b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(Tls::new(Some(pem)).unwrap_err(), TlsError::NoCertificate);
        }
        assert!(Tls::new(None).is_ok());
    }

    const P256_KEYS: [(&str, &str, &str); 4] = [
        // RFC 6979, appendix A.2.5; then the generator itself, its double and its negative.
        (
            "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721",
            "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6",
            "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299",
        ),
        (
            "0000000000000000000000000000000000000000000000000000000000000001",
            "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
            "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
        ),
        (
            "0000000000000000000000000000000000000000000000000000000000000002",
            "7cf27b188d034f7e8a52380304b51ac3c08969e277f21b35a60b48fc47669978",
            "07775510db8ed040293d9ac69f7430dbba7dade63ce982299e04b79d227873d1",
        ),
        (
            "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550",
            "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
            "b01cbd1c01e58065711814b583f061e9d431cca994cea1313449bf97c840ae0a",
        ),
    ];

    fn p256_point(x: &str, y: &str) -> [u8; 65] {
        hex::decode(&format!("04{x}{y}")).unwrap()
    }

    /// Some builds for routers bring a function of their own for this: see `cross/p256.c`.
    #[test]
    fn generator_of_p256_times_a_private_key_is_the_public_key() {
        for (private, x, y) in P256_KEYS {
            let private: [u8; 32] = hex::decode(private).unwrap();
            let made = |public: [u8; 65]| {
                EcdsaKeyPair::from_private_key_and_public_key(
                    &ECDSA_P256_SHA256_FIXED_SIGNING,
                    &private,
                    &public,
                    &SystemRandom::new(),
                )
            };
            assert!(made(p256_point(x, y)).is_ok());
            let (_, other_x, other_y) = P256_KEYS.iter().find(|key| key.1 != x).unwrap();
            assert!(made(p256_point(other_x, other_y)).is_err());
        }
    }

    #[test]
    fn signature_of_a_p256_certificate_is_checked() {
        let (_, x, y) = P256_KEYS[0];
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, p256_point(x, y));
        let mut signature: [u8; 64] = hex::decode(concat!(
            "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716",
            "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
        ))
        .unwrap();
        assert!(key.verify(b"sample", &signature).is_ok());
        assert!(key.verify(b"simple", &signature).is_err());
        signature[63] ^= 1;
        assert!(key.verify(b"sample", &signature).is_err());
    }
}
