//! Paying with a card: where its link is pasted, for an amount or for an invoice that is open. A plain form.

use super::html::Html;
use super::lang::Lang;
use super::links::card_location;
use super::notice::notices;
use super::offer;
use super::states::{Pay, PayWithCard};
use super::view::{back, in_language, still, View};

pub(super) fn form(lang: Lang, lang_chosen: bool, page: &PayWithCard) -> View {
    let s = lang.strings();
    let mut main = Html::new();
    main.raw("<h1>").text(s.card_title).raw("</h1>\n").add(&notices(lang, &page.offer.notices));
    if page.open.is_some() || page.offer.is_open() {
        main.raw("<form method=\"post\" action=\"/card\" autocomplete=\"off\">\n");
        main.add(&in_language(lang, lang_chosen));
        match &page.open {
            Some(pay) => {
                main.raw("<p class=\"lead\">").text(&lang.sats(pay.amount)).raw(" · ");
                main.text(&s.buys.replace("{duration}", &lang.quantity(pay.buys))).raw("</p>\n");
                main.raw("<input type=\"hidden\" name=\"r\"").attr("value", pay.request_id).raw(">\n");
            }
            None => {
                main.add(&offer::short_choice(lang, &page.offer));
            }
        }
        main.raw("<label class=\"rate\" for=\"link\">").text(s.card_label).raw("</label>\n");
        main.raw(
            "<textarea id=\"link\" class=\"paste\" name=\"link\" rows=\"4\" maxlength=\"2048\" required",
        );
        main.raw(" spellcheck=\"false\" autocapitalize=\"off\"></textarea>\n");
        main.raw("<button class=\"button\" type=\"submit\"><span>").text(s.ecash_button);
        main.raw("</span></button>\n<p class=\"hint\">").text(s.card_hint).raw("</p>\n</form>\n");
    }
    main.add(&back(lang, lang_chosen));
    still("card", s.card_title, main)
}

/// What the page of an invoice says of cards: the way to pay it with one, or that one pays it.
pub(super) fn row(lang: Lang, lang_chosen: bool, pay: &Pay) -> Html {
    let mut html = Html::new();
    if !pay.by_card {
        let link = card_location(Some(pay.request_id), lang_chosen.then_some(lang));
        html.raw("<a class=\"quiet\" id=\"way-card\"").attr("href", &link).raw(">");
        html.text(lang.strings().card_title).raw("</a>\n");
    }
    html
}
