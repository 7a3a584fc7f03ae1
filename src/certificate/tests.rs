//! Certificates of `tests/vectors/tls` (see the first line of each), at times that the test chooses.

use super::*;
use crate::folder::fresh_folder;
use std::path::PathBuf;

/// 2026-11-30 and 2024-01-01.
const NOW: UnixSeconds = UnixSeconds(1_795_996_800);
const UNSET: UnixSeconds = UnixSeconds(1_704_067_200);

struct Files {
    dir: PathBuf,
    clock: Clock,
    certificate: OwnCertificate,
    tls: TlsConfig,
}

impl Files {
    fn at(wall: UnixSeconds) -> Files {
        let dir = fresh_folder();
        let tls = TlsConfig {
            name: "wifi.example.net".to_owned(),
            cert_file: dir.join("cert.pem"),
            key_file: dir.join("key.pem"),
            port: 2125,
            listen: "127.0.0.1:2126".parse().unwrap(),
            admin_listen: "127.0.0.1:2127".parse().unwrap(),
        };
        Files {
            dir,
            clock: Clock::manual("boot", Millis(0), wall),
            certificate: OwnCertificate::default(),
            tls,
        }
    }

    fn put(&self, certificate: &str, key: &str) -> &Files {
        let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/tls");
        std::fs::copy(vectors.join(certificate), &self.tls.cert_file).unwrap();
        std::fs::copy(vectors.join(key), &self.tls.key_file).unwrap();
        self
    }

    fn look(&self) -> CertificateStanding {
        self.clock.advance(LOOK_EVERY);
        self.certificate.tend(Some(&self.tls), &self.clock);
        self.certificate.standing().unwrap()
    }

    /// The first certificate that is served.
    fn served(&self) -> Option<Arc<ServerConfig>> {
        self.certificate.server()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn said(standing: &CertificateStanding) -> String {
    standing.fault.as_ref().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn keys_of_every_kind_are_served_and_a_wildcard_is_for_the_name() {
    for kind in ["p256", "rsa", "ed25519"] {
        let files = Files::at(NOW);
        let standing = files.put(&format!("{kind}.crt"), &format!("{kind}.key")).look();
        assert_eq!((said(&standing).as_str(), standing.in_service), ("", true), "{kind}");
        assert_eq!(standing.not_after, Some(UnixSeconds(4_891_363_200)), "2125-01-01");
        assert_eq!(check(&files.tls, &files.clock), None);
    }
}

#[test]
fn a_pair_that_cannot_be_used_is_not_served_and_said() {
    for (certificate, key, why) in [
        ("p256.crt", "rsa.key", "does not belong to"),
        ("other-name.crt", "p256.key", "is not for wifi.example.net"),
        ("ca.crt", "p256.key", "does not belong to"),
        ("p256.key", "p256.key", "cert.pem holds no certificate"),
        ("p256.crt", "p256.crt", "key.pem holds no private key"),
    ] {
        let files = Files::at(NOW);
        let standing = files.put(certificate, key).look();
        assert!(said(&standing).contains(why), "{}", said(&standing));
        assert!(!standing.in_service && files.served().is_none(), "{why}");
        assert_eq!(check(&files.tls, &files.clock), standing.fault);
    }
    let files = Files::at(NOW);
    assert!(said(&files.look()).contains("cert.pem cannot be read"));
    let text = said(&files.put("p256.crt", "p256.key").look());
    assert_eq!(text, "", "and is served when it is there");
}

#[test]
fn the_one_before_stays_until_a_better_one_is_there() {
    let files = Files::at(NOW);
    files.put("p256.crt", "p256.key").look();
    let first = files.served().unwrap();
    for (certificate, key) in [
        ("p256.crt", "rsa.key"),
        ("other-name.crt", "p256.key"),
        ("until-2026.crt", "p256.key"),
        ("rsa.key", "rsa.key"),
    ] {
        let standing = files.put(certificate, key).look();
        assert!(standing.fault.is_some() && standing.in_service, "{certificate}");
        assert_eq!(standing.not_after, Some(UnixSeconds(4_891_363_200)), "of the one in service");
        assert!(Arc::ptr_eq(&files.served().unwrap(), &first), "{certificate}");
    }
    let standing = files.put("renewed.crt", "p256.key").look();
    assert_eq!((standing.fault, standing.not_after), (None, Some(UnixSeconds(4_733_510_400))));
    assert!(!Arc::ptr_eq(&files.served().unwrap(), &first));
}

#[test]
fn files_are_looked_at_every_ten_seconds_and_at_once_when_others_are_named() {
    let mut files = Files::at(NOW);
    files.put("p256.crt", "p256.key").look();
    let first = files.served().unwrap();
    files.put("renewed.crt", "p256.key");
    files.clock.advance(Millis(9_000));
    files.certificate.tend(Some(&files.tls), &files.clock);
    assert!(Arc::ptr_eq(&files.served().unwrap(), &first));
    assert!(files.look().fault.is_none() && !Arc::ptr_eq(&files.served().unwrap(), &first));
    let second = files.served().unwrap();
    assert!(
        files.look().fault.is_none() && Arc::ptr_eq(&files.served().unwrap(), &second),
        "not taken again"
    );
    files.tls.name = "cards.example.net".to_owned();
    files.certificate.tend(Some(&files.tls), &files.clock);
    assert!(files.served().is_none(), "the one before was for another name");
    files.certificate.tend(None, &files.clock);
    assert_eq!(files.certificate.standing(), None);
}

#[test]
fn a_certificate_out_of_its_time_is_served_where_there_is_no_better_one_and_said() {
    for (certificate, why) in
        [("until-2026.crt", "has ended on 2026-01-01"), ("from-2100.crt", "begins on 2100-01-01")]
    {
        let files = Files::at(NOW);
        let standing = files.put(certificate, "p256.key").look();
        assert!(said(&standing).contains(why) && standing.in_service, "{}", said(&standing));
        let same = files.served().unwrap();
        assert!(files.look().fault.is_some() && Arc::ptr_eq(&files.served().unwrap(), &same));
        assert!(files.put("p256.crt", "p256.key").look().fault.is_none());
    }
}

#[test]
fn a_clock_that_was_never_set_says_nothing_of_dates() {
    let files = Files::at(UNSET);
    let standing = files.put("until-2026.crt", "p256.key").look();
    assert_eq!((standing.fault, standing.in_service), (None, true));
    files.clock.set_wall(NOW);
    assert!(said(&files.look()).contains("has ended"), "from then on it does");
}

#[test]
fn no_reason_shows_what_is_in_the_key() {
    let files = Files::at(NOW);
    std::fs::write(&files.tls.key_file, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
        .unwrap();
    std::fs::copy("tests/vectors/tls/p256.crt", &files.tls.cert_file).unwrap();
    let text = said(&files.look());
    assert!(text.contains("holds no private key") && !text.contains("c2VjcmV0") && !text.contains("secret"));
}
