//! Paying with a token: the field it is pasted into, and what is shown while it is received.

use super::html::Html;
use super::lang::Lang;
use super::links::location;
use super::notice::{host, notices};
use super::offer;
use super::states::{Money, PaidStep, PayWithEcash, Receiving, Stage, Trouble, TroubleReason, Waiting};
use super::view::{back, in_language, in_trouble, steps, still, View};

pub(super) fn form(lang: Lang, lang_chosen: bool, page: &PayWithEcash) -> View {
    let s = lang.strings();
    let mut main = Html::new();
    main.raw("<h1>").text(s.ecash_title).raw("</h1>\n");
    if let ([mint, ..], true) = (page.mints, offer::has_one_price(page.mints)) {
        main.raw("<p class=\"rate\">").text(&offer::terms_of(lang, mint, page.step)).raw("</p>\n");
    }
    if let Some(left) = page.left {
        let home = location(None, lang_chosen.then_some(lang));
        main.raw("<a class=\"notice calm\" id=\"home\"").attr("href", &home).raw(">").text(s.online_title);
        main.raw(" · ").text(&lang.quantity(left)).raw("</a>\n");
    }
    main.add(&notices(lang, page.notices));
    main.raw("<form method=\"post\" action=\"/ecash\" autocomplete=\"off\">\n");
    main.add(&in_language(lang, lang_chosen));
    main.raw("<label class=\"rate\" for=\"token\">").text(s.ecash_label).raw("</label>\n");
    main.raw("<textarea id=\"token\" class=\"paste\" name=\"token\" rows=\"5\" required");
    main.raw(" spellcheck=\"false\" autocapitalize=\"off\" placeholder=\"cashuB…\">").text(page.token);
    main.raw("</textarea>\n<button class=\"button\" type=\"submit\"><span>").text(s.ecash_button);
    main.raw("</span></button>\n");
    if let Some(request) = page.request {
        main.raw("<a class=\"button second\" id=\"wallet\"").attr("href", &format!("cashu:{request}"));
        main.raw(">").text(s.ecash_wallet).raw("</a>\n");
    }
    main.add(&accepted(lang, page));
    main.raw("</form>\n").add(&back(lang, lang_chosen));
    // A wallet may pay without the page: then it says so.
    View {
        step: page.left.map(|left| format!("online {}", left.metric.as_str())).unwrap_or_default(),
        poll: page.request.map(|_| 5),
        ..still("ecash", s.ecash_title, main)
    }
}

/// Whose ecash is taken; at which price, where that is not the same for all.
fn accepted(lang: Lang, page: &PayWithEcash) -> Html {
    let mut html = Html::new();
    if page.mints.is_empty() {
        return html;
    }
    let one_price = offer::has_one_price(page.mints);
    html.raw("<p class=\"hint\">").text(lang.strings().ecash_hint);
    for mint in page.mints {
        html.raw("<br><b>").text(host(mint.url)).raw("</b>");
        if !one_price {
            html.raw("<br>").text(&offer::terms_of(lang, mint, page.step));
        }
    }
    html.raw("</p>\n");
    html
}

pub(super) fn receiving(lang: Lang, lang_chosen: bool, page: Receiving) -> View {
    let s = lang.strings();
    let (title, done, waiting) = match page.at {
        Stage::Mint => (s.receiving_title, PaidStep::Received, None),
        Stage::SlowMint => (s.receiving_title, PaidStep::Received, Some(Waiting::Mint)),
        Stage::Gate => (s.paid_title, PaidStep::Claimed, Some(Waiting::Gate)),
        Stage::Unknown => {
            let trouble = Trouble {
                request_id: None,
                reason: TroubleReason::TokenUnknown,
                money: Money::LookedUp,
                code: page.id.get(..8).unwrap_or(page.id),
            };
            return in_trouble(lang, lang_chosen, &trouble);
        }
    };
    let mut main = Html::new();
    main.raw("<h1>").text(title).raw("</h1>\n");
    main.add(&steps(lang, [s.step_sent, s.step_confirmed, s.step_online], done, waiting));
    View {
        state: "paid",
        step: page.at.name().to_owned(),
        title: title.to_owned(),
        main,
        refresh: Some(3),
        poll: Some(2),
    }
}
