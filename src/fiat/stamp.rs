//! What signs a request: a password that is made of a moment, and that moment, from one look at the clock.

use crate::clock::date_of;
use crate::store::Secret;
use crate::units::UnixSeconds;
use base64::prelude::{Engine, BASE64_STANDARD};
use zeroize::Zeroizing;

/// `YYYYMMDDHHmmss`, this many minutes ahead of UTC.
pub fn timestamp(wall: UnixSeconds, offset: i32) -> String {
    let shifted = wall.0.saturating_add_signed(i64::from(offset).saturating_mul(60));
    let (date, second) = (date_of(shifted / 86_400), shifted % 86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{:04}{:02}{:02}{hour:02}{minute:02}{second:02}", date.year, date.month, date.day)
}

/// `base64(short code, passkey, timestamp)`.
pub fn password(shortcode: &str, passkey: &Secret, timestamp: &str) -> Zeroizing<String> {
    let mut plain = Zeroizing::new(Vec::with_capacity(256));
    plain.extend_from_slice(shortcode.as_bytes());
    plain.extend_from_slice(passkey.expose());
    plain.extend_from_slice(timestamp.as_bytes());
    Zeroizing::new(BASE64_STANDARD.encode(&*plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_and_timestamp_are_those_of_the_reference() {
        // 2026-01-01 12:00:00 in Nairobi.
        let stamp = timestamp(UnixSeconds(1_767_258_000), 180);
        assert_eq!(stamp, "20260101120000");
        let made = password("174379", &Secret::new(b"testpasskey".to_vec()), &stamp);
        assert_eq!(made.as_str(), "MTc0Mzc5dGVzdHBhc3NrZXkyMDI2MDEwMTEyMDAwMA==");
        assert_eq!(timestamp(UnixSeconds(1_767_258_000), -570), "20251231233000");
        assert_eq!(timestamp(UnixSeconds(0), 0), "19700101000000");
    }
}
