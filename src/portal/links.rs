//! The addresses of the page's states.

use super::lang::Lang;
use super::states::Purpose;
use crate::form::query_value;

/// Where a guest goes to see a request, or `/`; with the language when the guest chose it.
pub fn location(request_id: Option<&str>, lang: Option<Lang>) -> String {
    let mut parts = Vec::new();
    if let Some(id) = request_id {
        parts.push(format!("r={}", query_value(id)));
    }
    if let Some(lang) = lang {
        parts.push(format!("lang={}", lang.tag()));
    }
    if parts.is_empty() {
        "/".to_owned()
    } else {
        format!("/?{}", parts.join("&"))
    }
}

/// Where there is the choice, whatever else could be shown.
pub(super) fn choosing(lang: Option<Lang>) -> String {
    let lang = lang.map(|lang| format!("&lang={}", lang.tag())).unwrap_or_default();
    format!("/?choose=1{lang}")
}

/// Where one of the other ways is gone.
pub fn way_location(way: &str, lang: Option<Lang>) -> String {
    let lang = lang.map(|lang| format!("&lang={}", lang.tag())).unwrap_or_default();
    format!("/?way={way}{lang}")
}

/// Where a wallet is asked for a signature: a new one, or that of `k1`.
pub fn login_location(purpose: Purpose, k1: Option<&str>, lang: Option<Lang>) -> String {
    let k1 = k1.map(|k1| format!("&k1={}", query_value(k1))).unwrap_or_default();
    way_location(&format!("{}{k1}", purpose.way()), lang)
}

/// Where a card is shown, for an open request or for a new one.
pub(super) fn card_location(request_id: Option<&str>, lang: Option<Lang>) -> String {
    location(request_id, lang).replacen("/?", "/?way=card&", 1)
}

/// Where a guest sees what becomes of the card that it has shown.
pub fn shown_card_location(lang: Option<Lang>) -> String {
    way_location("card&shown=1", lang)
}

/// Where a guest sees what becomes of its token.
pub fn token_location(id: &str, lang: Option<Lang>) -> String {
    let lang = lang.map(|lang| format!("&lang={}", lang.tag())).unwrap_or_default();
    format!("/?token={}{lang}", query_value(id))
}

/// Where a voucher's code is typed in, or stands already.
pub(super) fn voucher_location(typed: &str, lang: Option<Lang>) -> String {
    match typed {
        "" => way_location("voucher", lang),
        typed => way_location("", lang).replacen("way=", &format!("voucher={}", query_value(typed)), 1),
    }
}

/// Where a guest chooses again while the invoice of a request stays payable.
pub(super) fn choosing_again(request_id: &str, lang: Option<Lang>) -> String {
    location(Some(request_id), lang).replacen('?', "?choose=1&", 1)
}
