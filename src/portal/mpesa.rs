//! Paying with M-Pesa: what it costs and the phone that pays, what happens there meanwhile, and the receipt of what was
//! paid already.

use super::html::Html;
use super::lang::Lang;
use super::links::{choosing, way_location};
use super::notice::notices;
use super::states::{MpesaOffer, MpesaStep, MpesaWait, PaidAlready};
use super::view::{back, in_language, still, View};
use maud::html;

/// The form: a price, and the phone.
pub(super) fn form(lang: Lang, lang_chosen: bool, offer: &MpesaOffer) -> Html {
    let s = lang.strings();
    let text = html! {
        form id="mpesa" method="post" action="/mpesa" {
            (in_language(lang, lang_chosen))
            div class="chips" role="radiogroup" aria-label=(s.mpesa_title) {
                @for (at, price) in offer.prices.iter().enumerate() {
                    @let id = format!("k{at}");
                    input type="radio" name="price" class="unseen pick" id=(id) value=(price.id) checked[at == 0];
                    label class="chip" for=(id) { b { (price.name) } " " span { (lang.kes(price.amount)) } }
                }
            }
            label class="rate" for="phone" { (s.mpesa_phone) }
            input id="phone" class="line" type="tel" name="phone" required maxlength="24" autocomplete="tel"
                placeholder="0712 345 678" value=(offer.phone);
            button class="button pay" type="submit" { span { (s.mpesa_title) } }
        }
        @if offer.knows_receipts {
            a class="quiet" id="way-mpesa" href=(way_location("mpesa", lang_chosen.then_some(lang))) { (s.mpesa_already) }
        }
    };
    text.into()
}

/// A request is on its way to a phone, is there, or the money is on its way back.
pub(super) fn waiting(lang: Lang, lang_chosen: bool, wait: &MpesaWait) -> View {
    let s = lang.strings();
    let (title, line) = match wait.step {
        MpesaStep::Sending => (s.mpesa_sending, s.mpesa_hint),
        MpesaStep::Asked => (s.mpesa_enter, s.mpesa_hint),
        MpesaStep::Unknown => (s.mpesa_unknown_title, s.mpesa_unknown),
        MpesaStep::Paid => (s.paid_title, s.keep_hint),
    };
    let text = html! {
        h1 { (title) }
        p class="lead" {
            (lang.kes(wait.amount)) " · " (s.buys.replace("{duration}", &lang.quantity(wait.buys)))
            " · " b dir="ltr" { "***" (wait.phone_tail) }
        }
        p class="waiting" { i class="pulse" {} span { (line) } }
        @if wait.step != MpesaStep::Paid {
            a class="quiet" id="again" href=(choosing(lang_chosen.then_some(lang))) { (s.other_amount) }
        }
    };
    View {
        state: "paid",
        step: format!("mpesa {:?} {}", wait.step, wait.id),
        title: title.to_owned(),
        main: text.into(),
        refresh: Some(5),
        poll: Some(3),
    }
}

/// Where the receipt of what was paid is typed in.
pub(super) fn already(lang: Lang, lang_chosen: bool, page: &PaidAlready) -> View {
    let s = lang.strings();
    let text = html! {
        h1 { (s.mpesa_already) }
        (notices(lang, page.notices))
        form method="post" action="/mpesa/claim" autocomplete="off" {
            (in_language(lang, lang_chosen))
            label class="rate" for="code" { (s.mpesa_receipt) }
            input id="code" class="line" name="receipt" required maxlength="24" value=(page.receipt)
                autocapitalize="characters" spellcheck="false" placeholder="SG632NMUAB";
            label class="rate" for="phone" { (s.mpesa_phone) }
            input id="phone" class="line" type="tel" name="phone" required maxlength="24" value=(page.phone)
                placeholder="0712 345 678";
            button class="button" type="submit" { span { (s.mpesa_continue) } }
        }
        (back(lang, lang_chosen))
    };
    still("ticket", s.mpesa_already, text.into())
}
