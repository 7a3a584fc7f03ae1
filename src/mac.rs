//! Ethernet addresses of guests. Zero, broadcast and multicast addresses cannot be written down here.

use std::fmt;
use std::str::FromStr;

/// A unicast Ethernet address; prints as lower case hex with colons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr([u8; 6]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MacError {
    #[error("not a MAC address (want six hex pairs with colons, like 02:00:00:00:00:01)")]
    Syntax,
    #[error("not the address of one station (zero, broadcast or multicast)")]
    NotUnicast,
}

impl MacAddr {
    pub fn new(octets: [u8; 6]) -> Result<MacAddr, MacError> {
        if octets == [0; 6] || octets[0] & 1 == 1 {
            return Err(MacError::NotUnicast);
        }
        Ok(MacAddr(octets))
    }

    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for MacAddr {
    type Err = MacError;

    /// Accepts `:` or `-` between the pairs and either case.
    fn from_str(text: &str) -> Result<MacAddr, MacError> {
        let mut octets = [0u8; 6];
        let mut pairs = text.split([':', '-']);
        for octet in &mut octets {
            let pair = pairs.next().ok_or(MacError::Syntax)?;
            if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(MacError::Syntax);
            }
            *octet = u8::from_str_radix(pair, 16).map_err(|_| MacError::Syntax)?;
        }
        if pairs.next().is_some() {
            return Err(MacError::Syntax);
        }
        MacAddr::new(octets)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_normalised_to_lower_case_with_colons() {
        let mac: MacAddr = "02-AA-bb-Cc-00-0F".parse().unwrap();
        assert_eq!(mac.to_string(), "02:aa:bb:cc:00:0f");
    }

    #[test]
    fn zero_broadcast_and_multicast_are_refused() {
        for text in ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "33:33:00:00:00:01"] {
            assert_eq!(text.parse::<MacAddr>(), Err(MacError::NotUnicast), "{text}");
        }
    }

    #[test]
    fn malformed_text_is_refused() {
        for text in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "2:0:0:0:0:1",
            "02:00:00:00:00:0g",
            "+2:00:00:00:00:01",
        ] {
            assert_eq!(text.parse::<MacAddr>(), Err(MacError::Syntax), "{text}");
        }
    }
}
