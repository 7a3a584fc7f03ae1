//! The inside of the page, one function per state.

use super::html::Html;
use super::lang::Lang;
use super::offer::{self, Offer};
use super::{
    card, choosing_again, ecash, location, qr, ways, Kept, Money, Online, Page, Paid, PaidStep, Pay,
    Quantity, Reason, State, Trouble, Waiting,
};
use crate::config::Metric;
use crate::units::Millis;

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

pub(super) fn view(lang: Lang, page: &Page) -> View {
    match &page.state {
        State::Choose(offer) => choose(lang, page.lang_chosen, offer),
        State::Pay(pay) => waiting_for_payment(lang, page.lang_chosen, pay),
        State::Paid(paid) => opening(lang, paid),
        State::Online(online) => passing(lang, page.lang_chosen, online),
        State::Ended(offer) => ended(lang, page.lang_chosen, offer),
        State::Trouble(trouble) => in_trouble(lang, page.lang_chosen, trouble),
        State::PayWithEcash(form) => ecash::form(lang, page.lang_chosen, form),
        State::Receiving(token) => ecash::receiving(lang, page.lang_chosen, *token),
        State::PayWithCard(form) => card::form(lang, page.lang_chosen, form),
        State::ShowTicket(form) => ways::show_ticket(lang, page.lang_chosen, form),
        State::OwnTicket(own) => ways::own_ticket(lang, page.lang_chosen, own),
    }
}

fn choose(lang: Lang, lang_chosen: bool, offer: &Offer) -> View {
    let title = offer::title(lang, offer);
    let mut main = Html::new();
    main.raw("<h1>").text(title).raw("</h1>\n").add(&offer::form(lang, lang_chosen, offer));
    View {
        state: "choose",
        step: offer_step(offer).to_owned(),
        title: title.to_owned(),
        main,
        refresh: None,
        poll: offer_poll(offer),
    }
}

fn ended(lang: Lang, lang_chosen: bool, offer: &Offer) -> View {
    let s = lang.strings();
    let mut main = Html::new();
    let title = match offer.step.metric {
        Metric::Milliseconds => s.ended_title,
        Metric::Bytes => s.data_ended_title,
    };
    main.raw("<h1>").text(title).raw("</h1>\n<p class=\"lead\">").text(s.ended_hint).raw("</p>\n");
    main.add(&offer::form(lang, lang_chosen, offer));
    View {
        state: "ended",
        step: offer_step(offer).to_owned(),
        title: title.to_owned(),
        main,
        refresh: None,
        poll: offer_poll(offer),
    }
}

fn offer_step(offer: &Offer) -> &'static str {
    if offer.is_open() {
        "open"
    } else {
        "closed"
    }
}

/// A choice stands still, unless a mint may come back or an invoice may be paid elsewhere, if need be too late.
fn offer_poll(offer: &Offer) -> Option<u64> {
    if !offer.is_open() {
        Some(5)
    } else {
        offer.unpaid_request.map(|_| 10).or(offer.is_late.then_some(20))
    }
}

fn waiting_for_payment(lang: Lang, lang_chosen: bool, pay: &Pay) -> View {
    let s = lang.strings();
    let title = s.pay_title.replace("{amount}", &lang.sats(pay.amount));
    let wallet = format!("lightning:{}", pay.invoice);

    let mut main = Html::new();
    main.raw("<h1 class=\"amount\">").text(&title).raw("</h1>\n<p class=\"lead\">");
    main.text(&s.buys.replace("{duration}", &lang.quantity(pay.buys))).raw("</p>\n");
    let mut waiting = Html::new();
    waiting.raw("<p class=\"waiting\"><i class=\"pulse\"></i><span>");
    waiting.text(if pay.by_card { s.card_waiting } else { s.waiting_for_payment }).raw(" <small>");
    waiting.fill(s.expires_in, "clock", &clock(lang, pay.expires_in)).raw("</small></span></p>\n");

    // What a card pays need not be paid, but may be.
    if pay.by_card {
        main.add(&waiting).raw("<details><summary class=\"button second\">").text(s.pay_button);
        main.raw("</summary>\n");
    }
    if let Some(code) = qr::svg(pay.invoice) {
        main.raw("<a class=\"code\" id=\"qr\"").attr("href", &wallet).attr("aria-label", s.qr_label).raw(">");
        main.add(&code).raw("</a>\n");
    }
    if !pay.by_card {
        main.add(&waiting);
    }

    main.raw("<div class=\"pair\"><a class=\"button\" id=\"wallet\"").attr("href", &wallet).raw(">");
    main.text(s.open_wallet).raw("</a><button class=\"button script-only\" id=\"copy\" type=\"button\"");
    main.attr("data-copies", "invoice").raw(">");
    main.text(s.copy).raw("</button></div>\n<textarea id=\"invoice\" readonly rows=\"1\"");
    main.attr("aria-label", s.invoice_label)
        .raw(" spellcheck=\"false\" autocapitalize=\"off\">")
        .text(pay.invoice);
    main.raw("</textarea>\n<noscript><p class=\"hint\">").text(s.copy_by_hand).raw("</p></noscript>\n");
    if pay.by_card {
        main.raw("</details>\n");
    }
    main.raw("<p class=\"hint\">").text(match (pay.online, pay.buys.metric) {
        (true, Metric::Milliseconds) => s.still_online,
        (true, Metric::Bytes) => s.still_online_data,
        (false, _) => s.leave_hint,
    });
    if let Some(left) = pay.grace {
        main.raw("</p>\n<p class=\"hint\" id=\"grace\">").fill(s.pay_grace, "clock", &clock(lang, left));
    }
    let again = choosing_again(pay.request_id, lang_chosen.then_some(lang));
    main.raw("</p>\n").add(&card::row(lang, lang_chosen, pay));
    main.raw("<a class=\"quiet\" id=\"again\"").attr("href", &again).raw(">").text(s.other_amount);
    main.raw("</a>\n");

    let by = if pay.by_card { " card" } else { "" };
    let step = format!("{}{by}{}", pay.request_id, if pay.grace.is_some() { " grace" } else { "" });
    View { state: "pay", step, title, main, refresh: Some(5), poll: Some(3) }
}

/// Counts down where there is script.
fn clock(lang: Lang, left: Millis) -> Html {
    let mut clock = Html::new();
    clock.raw("<span class=\"clock\"").attr("data-seconds", &left.as_secs_ceil().to_string());
    clock.raw(">").text(&lang.clock(left)).raw("</span>");
    clock
}

fn opening(lang: Lang, paid: &Paid) -> View {
    let s = lang.strings();
    let mut main = Html::new();
    main.raw("<h1>")
        .text(s.paid_title)
        .raw("</h1>\n<p class=\"lead\">")
        .text(&lang.sats(paid.amount))
        .raw(" · ");
    main.text(&s.buys.replace("{duration}", &lang.quantity(paid.buys))).raw("</p>\n");
    let names = [s.step_received, s.step_claimed, s.step_online];
    main.add(&steps(lang, names, paid.done, paid.waiting));

    View {
        state: "paid",
        step: format!("{:?} {:?}", paid.done, paid.waiting),
        title: s.paid_title.to_owned(),
        main,
        refresh: Some(5),
        poll: Some(3),
    }
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

fn passing(lang: Lang, lang_chosen: bool, online: &Online) -> View {
    let s = lang.strings();
    let mut main = Html::new();
    main.raw("<p class=\"seal\">").raw(CHECK).raw("</p>\n<h1>").text(s.online_title).raw("</h1>\n");
    match online.left {
        Some(Quantity { metric: Metric::Bytes, amount }) => {
            main.raw("<p class=\"lead\">").text(s.data_left).raw("</p>\n<p class=\"left\" data-live>");
            main.text(&lang.data(amount)).raw("</p>\n");
        }
        Some(Quantity { metric: Metric::Milliseconds, amount }) => {
            let left = Millis(amount.0);
            let seconds = left.as_secs_ceil();
            main.raw("<p class=\"lead\">").text(s.time_left).raw("</p>\n<p class=\"left clock");
            main.raw(if seconds >= 86_400 { " long\"" } else { "\"" })
                .attr("data-seconds", &seconds.to_string());
            main.raw(" role=\"timer\">")
                .text(&lang.clock(left))
                .raw("</p>\n<p class=\"ends\" data-ends>\u{a0}</p>\n");
        }
        None => {
            main.raw("<p class=\"lead\">").text(s.no_end).raw("</p>\n");
        }
    }
    main.raw("<p class=\"notice calm\">").text(s.close_page).raw("</p>\n");
    if let Some(offer) = &online.offer {
        main.raw("<details id=\"more\"><summary class=\"button second\">")
            .text(if offer.step.metric == Metric::Bytes { s.add_data } else { s.add_time })
            .raw("</summary>\n");
        main.add(&offer::form(lang, lang_chosen, offer)).raw("</details>\n");
    }
    main.add(&ways::card(lang, lang_chosen, online.kept));
    // Without script a look once a minute keeps the time true; with it the countdown does.
    let (refresh, poll) = match online.left {
        Some(Quantity { metric: Metric::Milliseconds, amount }) => {
            (Some(Millis(amount.0).as_secs_ceil().clamp(5, 60)), 60)
        }
        Some(Quantity { metric: Metric::Bytes, .. }) => (Some(15), 10),
        None => (None, 60),
    };
    let kept = match online.kept {
        Kept::No => "",
        Kept::Unknown => "kept",
        Kept::Shown(ticket) => ticket,
    };
    let step = format!("{} {kept}", online.offer.as_ref().map_or("", offer_step));
    View { state: "online", step, title: s.online_title.to_owned(), main, refresh, poll: Some(poll) }
}

pub(super) fn in_trouble(lang: Lang, lang_chosen: bool, trouble: &Trouble) -> View {
    let s = lang.strings();
    let (happened, advice) = match trouble.reason {
        Reason::MintUnavailable => (s.mint_unavailable, s.mint_unavailable_do),
        Reason::InvoiceExpired => (s.invoice_expired, s.invoice_expired_do),
        Reason::PaymentFailed => (s.payment_failed, s.payment_failed_do),
        Reason::ClaimFailed => (s.claim_failed, s.claim_failed_do),
        Reason::RequestNotFound => (s.request_not_found, s.request_not_found_do),
        Reason::RateLimited => (s.rate_limited, s.rate_limited_do),
        Reason::CannotSell => (s.cannot_sell, s.cannot_sell_do),
        Reason::UnknownDevice => (s.unknown_device, s.unknown_device_do),
        Reason::AmountRefused => (s.amount_refused, s.amount_refused_do),
        Reason::TokenUnknown => (s.token_unknown, s.token_unknown_do),
        Reason::Internal => (s.internal, s.internal_do),
    };
    let money = match trouble.money {
        Money::NothingTaken => s.money_nothing_taken,
        Money::LookedUp => s.money_looked_up,
        Money::WillOpen => s.money_will_open,
    };
    // Money on its way: the page follows it. Otherwise it stands still until the guest acts.
    let on_its_way = trouble.money != Money::NothingTaken;

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
        // Who could not choose yet cannot choose again.
        let shut = matches!(trouble.reason, Reason::UnknownDevice | Reason::CannotSell);
        main.raw(">").text(if shut { s.try_again } else { s.choose_again }).raw("</a>\n");
    }
    main.raw("<p class=\"hint\">").text(s.staff_code).raw(": <code>").text(trouble.code).raw("</code></p>\n");
    View {
        state: "trouble",
        step: format!("{:?} {:?}", trouble.reason, trouble.money),
        title: happened.to_owned(),
        main,
        refresh: on_its_way.then_some(5),
        poll: on_its_way.then_some(5),
    }
}

const CHECK: &str = "<svg width=\"20\" height=\"20\" viewBox=\"0 0 24 24\" fill=\"none\" stroke=\"currentColor\" \
stroke-width=\"3\" stroke-linecap=\"round\" stroke-linejoin=\"round\" aria-hidden=\"true\"><path d=\"M5 12.5l4.6 4.6L19 7.4\"/></svg>";

const ALERT: &str =
    "<svg width=\"20\" height=\"20\" viewBox=\"0 0 24 24\" fill=\"none\" stroke=\"currentColor\" \
stroke-width=\"3\" stroke-linecap=\"round\" aria-hidden=\"true\"><path d=\"M12 5v8.5M12 18.8v.2\"/></svg>";
