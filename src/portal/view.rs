//! What all views of the page share: the view itself, steps of a payment, trouble, the way back.

use super::html::Html;
use super::lang::Lang;
use super::links::location;
use super::states::{Money, PaidStep, Trouble, TroubleReason, Waiting};

/// A state as HTML, with what the document around it needs to know.
pub(super) struct View {
    pub(super) state: &'static str,
    /// Changes when the inside must be drawn anew.
    pub(super) step: String,
    pub(super) title: String,
    pub(super) main: Html,
    /// Seconds after which a browser without script loads the page again.
    pub(super) refresh: Option<u64>,
    /// Seconds between two looks of the script that has no live socket.
    pub(super) poll: Option<u64>,
}

pub(super) fn back(lang: Lang, lang_chosen: bool) -> Html {
    let mut html = Html::new();
    html.raw("<a class=\"quiet\"").attr("href", &super::location(None, lang_chosen.then_some(lang)));
    html.raw(">").text(lang.strings().back).raw("</a>\n");
    html
}

/// A page that changes only by what the guest does.
pub(super) fn still(state: &'static str, title: &str, main: Html) -> View {
    View { state, step: String::new(), title: title.to_owned(), main, refresh: None, poll: None }
}

/// The language that the guest has chosen, for a form to carry on.
pub(super) fn in_language(lang: Lang, lang_chosen: bool) -> Html {
    let mut html = Html::new();
    if lang_chosen {
        html.raw("<input type=\"hidden\" name=\"lang\"").attr("value", lang.tag()).raw(">\n");
    }
    html
}

/// How far a payment has come, and what it waits for.
pub(super) fn steps(lang: Lang, names: [&str; 3], done: PaidStep, waiting: Option<Waiting>) -> Html {
    let s = lang.strings();
    let mut html = Html::new();
    html.raw("<ol class=\"steps\">\n");
    let mut current = true;
    for (step, name) in [PaidStep::Received, PaidStep::Claimed, PaidStep::Online].into_iter().zip(names) {
        if step <= done {
            html.raw("<li class=\"done\"><i>").raw(CHECK).raw("</i>");
        } else if std::mem::take(&mut current) {
            html.raw("<li class=\"now\" aria-current=\"step\"><i class=\"pulse\"></i>");
        } else {
            html.raw("<li><i></i>");
        }
        html.raw("<span>").text(name).raw("</span></li>\n");
    }
    html.raw("</ol>\n");
    let waiting = match waiting {
        Some(Waiting::Mint) => Some(s.wait_mint),
        Some(Waiting::Gate) => Some(s.wait_gate),
        None => None,
    };
    if let Some(text) = waiting {
        html.raw("<p class=\"notice calm\">").text(text).raw("</p>\n");
    }
    html.raw("<p class=\"hint\">").text(s.keep_hint).raw("</p>\n");
    html
}

pub(super) fn in_trouble(lang: Lang, lang_chosen: bool, trouble: &Trouble) -> View {
    let s = lang.strings();
    let (happened, advice) = match trouble.reason {
        TroubleReason::MintUnavailable => (s.mint_unavailable, s.mint_unavailable_do),
        TroubleReason::PaymentFailed => (s.payment_failed, s.payment_failed_do),
        TroubleReason::RequestNotFound => (s.request_not_found, s.request_not_found_do),
        TroubleReason::RateLimited => (s.rate_limited, s.rate_limited_do),
        TroubleReason::CannotSell => (s.cannot_sell, s.cannot_sell_do),
        TroubleReason::UnknownDevice => (s.unknown_device, s.unknown_device_do),
        TroubleReason::AmountRefused => (s.amount_refused, s.amount_refused_do),
        TroubleReason::TokenUnknown => (s.token_unknown, s.token_unknown_do),
        TroubleReason::Internal => (s.internal, s.internal_do),
    };
    let money = match trouble.money {
        Money::NothingTaken => s.money_nothing_taken,
        Money::LookedUp => s.money_looked_up,
        Money::WillOpen => s.money_will_open,
    };
    // Money on its way: the page follows it. Otherwise it stands still until the guest acts, unless the router is
    // about to know the device.
    let on_its_way = trouble.money != Money::NothingTaken;
    let again = match (on_its_way, trouble.reason) {
        (true, _) => Some(5),
        (false, TroubleReason::UnknownDevice) => Some(2),
        (false, _) => None,
    };

    let mut main = Html::new();
    main.raw("<p class=\"seal bad\">")
        .raw(ALERT)
        .raw("</p>\n<h1>")
        .text(happened)
        .raw("</h1>\n<p class=\"lead\">");
    main.text(advice).raw("</p>\n<p class=\"notice calm money\">");
    main.raw(if on_its_way { "<i class=\"pulse\"></i>" } else { CHECK }).raw("<span>").text(money);
    main.raw("</span></p>\n");
    if !on_its_way {
        main.raw("<a class=\"button\" id=\"again\"")
            .attr("href", &location(None, lang_chosen.then_some(lang)));
        // A guest who could not choose yet cannot choose again.
        let shut = matches!(trouble.reason, TroubleReason::UnknownDevice | TroubleReason::CannotSell);
        main.raw(">").text(if shut { s.try_again } else { s.choose_again }).raw("</a>\n");
    }
    main.raw("<p class=\"hint\">").text(s.staff_code).raw(": <code>").text(trouble.code).raw("</code></p>\n");
    View {
        state: "trouble",
        // Each reason and each fate of the money has a sentence of its own.
        step: format!("{happened} {money}"),
        title: happened.to_owned(),
        main,
        refresh: again,
        poll: again,
    }
}

pub(super) const CHECK: &str = "<svg width=\"20\" height=\"20\" viewBox=\"0 0 24 24\" fill=\"none\" stroke=\"currentColor\" \
stroke-width=\"3\" stroke-linecap=\"round\" stroke-linejoin=\"round\" aria-hidden=\"true\"><path d=\"M5 12.5l4.6 4.6L19 7.4\"/></svg>";

const ALERT: &str =
    "<svg width=\"20\" height=\"20\" viewBox=\"0 0 24 24\" fill=\"none\" stroke=\"currentColor\" \
stroke-width=\"3\" stroke-linecap=\"round\" aria-hidden=\"true\"><path d=\"M12 5v8.5M12 18.8v.2\"/></svg>";
