//! The two digits of a login whose wallet is on this device: for its holder to type where the login was begun.

use super::lang::Lang;
use super::links::choosing;
use super::view::{still, View};
use maud::html;

/// Seconds until the page is loaded again: it goes away once the digits were typed.
const AGAIN: Option<u64> = Some(3);

pub(super) fn login_code(lang: Lang, lang_chosen: bool, code: u8) -> View {
    let s = lang.strings();
    let digits = format!("{code:02}");
    let main = html! {
        h1 { (s.login_title) }
        p class="lead" { (s.login_lead) }
        p class="amount" id="login-code" { (digits) }
        p class="hint" { (s.login_warning) }
        a class="quiet" href=(choosing(lang_chosen.then_some(lang))) { (s.back) }
    };
    View { step: digits, refresh: AGAIN, poll: AGAIN, ..still("login-code", s.login_title, main.into()) }
}
