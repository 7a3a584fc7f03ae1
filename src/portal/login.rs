//! The pages on which a wallet is asked for a signature: to keep what is left, and to go on with it on another device. Without
//! script they load themselves again until the wallet has answered.

use super::html::Html;
use super::lang::Lang;
use super::links::login_location;
use super::notice::notices;
use super::qr;
use super::states::{Login, LoginStep, Purpose};
use super::view::{back, in_language, still, View, CHECK};
use maud::{html, PreEscaped};

/// Seconds between two looks for the wallet's answer.
const LOOK: u64 = 2;

pub(super) fn page(lang: Lang, lang_chosen: bool, page: &Login) -> View {
    let s = lang.strings();
    let (title, why) = match page.purpose {
        Purpose::Keep => (s.keep_title, s.keep_why),
        Purpose::Resume => (s.mine_title, s.mine_why),
    };
    let main = html! {
        @if let LoginStep::Kept = page.at {
            p class="seal" { (PreEscaped(CHECK)) }
            h1 { (s.keep_done) }
            p class="lead" { (s.keep_done_hint) }
        } @else {
            h1 { (title) }
            p class="lead" { (why) }
        }
        (notices(lang, page.notices))
        @match page.at {
            LoginStep::Sign { lnurl, keyauth, .. } => (sign(lang, lnurl, keyauth)),
            LoginStep::Digits { k1 } => (digits(lang, lang_chosen, page.purpose, k1)),
            LoginStep::Over => a class="button" id="again" href=(login_location(page.purpose, None, lang_chosen.then_some(lang))) {
                (s.try_again)
            },
            LoginStep::Kept => {}
        }
        (back(lang, lang_chosen))
    };
    let (step, look) = match page.at {
        LoginStep::Sign { k1, .. } => (format!("sign {k1}"), Some(LOOK)),
        LoginStep::Digits { k1 } => (format!("digits {k1}"), None),
        LoginStep::Kept => ("kept".to_owned(), None),
        LoginStep::Over => ("over".to_owned(), None),
    };
    View { step, refresh: look, poll: look, ..still(page.purpose.way(), title, main.into()) }
}

fn sign(lang: Lang, lnurl: &str, keyauth: &str) -> Html {
    let s = lang.strings();
    let wallet = format!("lightning:{lnurl}");
    let part = html! {
        @if let Some(code) = qr::svg(lnurl) {
            a class="code" id="qr" href=(wallet) aria-label=(s.login_qr) { (code) }
        }
        p class="waiting" { i class="pulse" {} span { (s.login_waiting) } }
        div class="pair" {
            a class="button" id="wallet" href=(wallet) { (s.open_wallet) }
            button class="button script-only" id="copy" type="button" data-copies="lnurl" { (s.copy) }
        }
        textarea id="lnurl" readonly rows="1" aria-label=(s.login_label) spellcheck="false" autocapitalize="off" {
            (lnurl)
        }
        a class="quiet" id="keyauth" href=(keyauth) { (s.login_other) }
    };
    part.into()
}

fn digits(lang: Lang, lang_chosen: bool, purpose: Purpose, k1: &str) -> Html {
    let s = lang.strings();
    let part = html! {
        form method="post" action="/wallet" autocomplete="off" {
            (in_language(lang, lang_chosen))
            input type="hidden" name="way" value=(purpose.way());
            input type="hidden" name="k1" value=(k1);
            label class="rate" for="code" { (s.login_digits) }
            input id="code" class="paste" name="code" inputmode="numeric" pattern="[0-9][0-9]" maxlength="2" required;
            button class="button" type="submit" { span { (s.login_go_on) } }
        }
    };
    part.into()
}

/// The way to keep what is left.
pub(super) fn row(lang: Lang, lang_chosen: bool) -> Html {
    let link = login_location(Purpose::Keep, None, lang_chosen.then_some(lang));
    html! { a class="quiet" id="way-keep" href=(link) { (lang.strings().keep_title) } }.into()
}
