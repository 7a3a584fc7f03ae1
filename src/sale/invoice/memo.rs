//! What an invoice says that it is for, as the payer's wallet shows it: the venue, and what is bought. In English, as
//! the payer may be anybody.

use super::AskPart;
use crate::config::Venue;
use crate::units::Allotment;

/// `Kibanda Wi-Fi: 1 h 30 min`; of what becomes no access, its amount. At most 64 characters and what they name.
pub fn memo(venue: &Venue, allotment: Allotment, part: &AskPart, applies: bool) -> String {
    let bought = match applies {
        true => venue.metric.in_words(allotment.0),
        false => format!("{} sat", part.amount),
    };
    format!("{}: {bought}", venue.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::units::Sats;

    #[test]
    fn an_invoice_says_where_and_what() {
        let text = "config tollgate 'main'\nconfig venue 'guest'\n\toption name 'Kibanda Wi-Fi'\n\tlist device 'br-guest'\n\
                    config mint\n\toption url 'https://mint.example'\n\toption price_per_step '1'\n";
        let venue = |metric: &str| {
            let text = text.replace(
                "config mint",
                &format!("\toption metric '{metric}'\n\toption step_size '1000000'\nconfig mint"),
            );
            Config::from_uci(&text).unwrap().0.venues[0].clone()
        };
        let part = AskPart {
            mint: crate::config::MintUrl::parse("https://mint.example").unwrap(),
            amount: Sats(21),
        };
        let of_time = memo(&venue("milliseconds"), Allotment(5_400_000), &part, true);
        assert_eq!(of_time, "Kibanda Wi-Fi: 1 h 30 min");
        assert_eq!(memo(&venue("bytes"), Allotment(500_000_000), &part, true), "Kibanda Wi-Fi: 500 MB");
        assert_eq!(memo(&venue("bytes"), Allotment::ZERO, &part, false), "Kibanda Wi-Fi: 21 sat");
    }
}
