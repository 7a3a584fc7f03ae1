//! The receipt of what a guest has bought last: text that can be copied.

use super::html::Html;
use super::lang::Lang;
use super::links::way_location;
use super::states::PurchaseReceipt;
use super::view::{back, still, View};
use crate::units::{Kes, Sats, Unit};

pub(super) fn receipt(lang: Lang, lang_chosen: bool, page: &PurchaseReceipt) -> View {
    let s = lang.strings();
    let amount = match page.amount.unit {
        Unit::Sat => lang.sats(Sats(page.amount.number)),
        Unit::Kes => lang.kes(Kes(page.amount.number)),
        unit => format!("{} {}", lang.number(page.amount.number), unit.as_str()),
    };
    let lines = [
        page.venue.to_owned(),
        format!("{amount} · {}", s.buys.replace("{duration}", &lang.quantity(page.buys))),
        page.at.to_owned(),
        format!("{}: {}", s.receipt_code, page.code),
    ];
    let mut main = Html::new();
    main.raw("<h1>").text(s.receipt_title).raw("</h1>\n");
    main.raw("<textarea id=\"receipt\" class=\"paste\" readonly rows=\"6\"")
        .attr("aria-label", s.receipt_title);
    main.raw(" spellcheck=\"false\">").text(&lines.join("\n")).raw("</textarea>\n");
    main.raw("<button class=\"button second script-only\" id=\"copy-receipt\" type=\"button\" data-copies=\"receipt\">");
    main.text(s.copy).raw("</button>\n").add(&back(lang, lang_chosen));
    still("receipt", s.receipt_title, main)
}

/// The way to it.
pub(super) fn row(lang: Lang, lang_chosen: bool) -> Html {
    let mut html = Html::new();
    let link = way_location("receipt", lang_chosen.then_some(lang));
    html.raw("<a class=\"quiet\" id=\"way-receipt\"").attr("href", &link).raw(">");
    html.text(lang.strings().receipt_title).raw("</a>\n");
    html
}
