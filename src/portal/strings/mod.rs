//! What the portal says, one file per language. The compiler refuses a language that misses a key, and
//! warns of a key that no page shows. `{name}` is replaced by a fact.

mod en;
mod sw;

pub(super) use en::EN;
pub(super) use sw::SW;

macro_rules! keys {
    ($($key:ident)*) => {
        /// One language's texts.
        pub(super) struct Strings {
            $(pub(super) $key: &'static str,)*
        }

        #[cfg(test)]
        impl Strings {
            fn all(&self) -> Vec<(&'static str, &'static str)> {
                vec![$((stringify!($key), self.$key)),*]
            }
        }
    };
}

keys! {
    language
    group sats day_one days hour_one hours minute_one minutes second_one seconds last_join clock_days unit_price
    kilobytes megabytes gigabytes megabytes_name gigabytes_name
    days_name hours_name minutes_name seconds_name times_name
    router_away
    choose_title choose_data_title other_amount fewer more you_get pay_button pay_hint working mint_choice at_least back_to_invoice try_again
    notice_mint_away notice_no_mint notice_cannot_sell notice_amount notice_rate_limited notice_expired notice_late
    asking_title asking asking_slow
    pay_title buys qr_label open_wallet copy copied copy_failed copy_by_hand invoice_label expires_in waiting_for_payment
    leave_hint still_online still_online_data pay_grace pay_without_grace
    how_title how_wallet how_scan how_somebody
    paid_title step_received step_claimed step_online wait_mint wait_gate keep_hint
    online_title time_left data_left ends_at ends_tomorrow ends_on no_end close_page come_back ending add_time add_data
    ended_title data_ended_title ended_hint
    mint_unavailable mint_unavailable_do payment_failed payment_failed_do
    request_not_found request_not_found_do rate_limited rate_limited_do
    cannot_sell cannot_sell_do unknown_device unknown_device_do amount_refused amount_refused_do
    internal internal_do
    token_unknown token_unknown_do
    back ecash_title ecash_label ecash_button ecash_wallet ecash_hint receiving_title step_sent step_confirmed
    ticket_title ticket_label ticket_button ticket_hint
    kept_title kept_why kept_code kept_qr kept_renew kept_renew_hint
    ticket_wrong ticket_in_use ticket_later nothing_paid too_little_left
    token_unreadable token_spent token_too_little token_too_much token_other_mint token_other_unit token_locked
    token_not_now token_refused token_good address_clash
    card_title card_label card_hint card_waiting card_no_link card_onion card_busy card_used card_unreachable
    card_amount card_said
    receipt_title receipt_code
    money_nothing_taken money_looked_up money_will_open staff_code choose_again
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placeholders(text: &str) -> Vec<&str> {
        let mut names: Vec<&str> =
            text.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn every_language_has_the_same_placeholders_in_the_same_keys() {
        for ((key, english), (_, swahili)) in EN.all().into_iter().zip(SW.all()) {
            assert_eq!(placeholders(english), placeholders(swahili), "{key}");
        }
    }

    #[test]
    fn no_text_is_empty() {
        for (key, text) in EN.all().into_iter().chain(SW.all()) {
            assert!(!text.is_empty(), "{key}");
        }
    }

    /// It is a word of the operator's world: guests read "payment service".
    #[test]
    fn no_sentence_for_guests_speaks_of_mints() {
        for (key, text) in EN.all().into_iter().chain(SW.all()) {
            let shown = text.to_lowercase().replace("{mint}", "").replace("{mints}", "");
            assert!(!shown.contains("mint"), "{key}: {text}");
        }
    }
}
