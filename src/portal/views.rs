//! The inside of the page, one function per state.

use super::html::Html;
use super::lang::Lang;
use super::links::choosing_again;
use super::notice::Notice;
use super::quantity::Quantity;
use super::states::{Asking, Offer, Online, Paid, Pay, ShownTicket, State, Waiting};
use super::view::{in_trouble, steps, View, CHECK};
use super::{card, ecash, login, login_code, mpesa, offer, qr, receipt, ticket, voucher};
use crate::config::Metric;
use crate::units::Millis;

pub(super) fn view(lang: Lang, lang_chosen: bool, state: &State) -> View {
    match state {
        State::Choose(offer) => choose(lang, lang_chosen, offer),
        State::Asking(asking) => waiting_for_invoice(lang, lang_chosen, *asking),
        State::Pay(pay) => waiting_for_payment(lang, lang_chosen, pay),
        State::Paid(paid) => opening(lang, paid),
        State::Online(online) => passing(lang, lang_chosen, online),
        State::Ended(offer) => ended(lang, lang_chosen, offer),
        State::Trouble(trouble) => in_trouble(lang, lang_chosen, trouble),
        State::PayWithEcash(form) => ecash::form(lang, lang_chosen, form),
        State::Receiving(token) => ecash::receiving(lang, lang_chosen, *token),
        State::PayWithCard(form) => card::form(lang, lang_chosen, form),
        State::ShowTicket(form) => ticket::show_ticket(lang, lang_chosen, form),
        State::ShowVoucher(form) => voucher::show_voucher(lang, lang_chosen, form),
        State::OwnTicket(own) => ticket::own_ticket(lang, lang_chosen, own),
        State::Receipt(receipt) => receipt::receipt(lang, lang_chosen, receipt),
        State::Login(asked) => login::page(lang, lang_chosen, asked),
        State::Mpesa(wait) => mpesa::waiting(lang, lang_chosen, wait),
        State::PaidAlready(page) => mpesa::already(lang, lang_chosen, page),
        State::LoginCode(code) => login_code::login_code(lang, lang_chosen, *code),
    }
}

fn choose(lang: Lang, lang_chosen: bool, offer: &Offer) -> View {
    let title = offer::title(lang, offer);
    let mut main = Html::new();
    main.raw("<h1>").text(title).raw("</h1>\n").add(&offer::form(lang, lang_chosen, offer));
    if offer.is_open() {
        main.add(&how_to_pay(lang));
    }
    let says_late = offer.notices.iter().any(|notice| matches!(notice, Notice::InvoiceLate { .. }));
    View {
        state: "choose",
        step: offer_step(offer).to_owned(),
        title: title.to_owned(),
        main,
        refresh: says_late.then_some(60),
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
    main.add(&offer::form(lang, lang_chosen, offer)).add(&how_to_pay(lang));
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
    if offer.is_open() || offer.mpesa.is_some() {
        "open"
    } else {
        "closed"
    }
}

/// For guests who have never paid in this way.
fn how_to_pay(lang: Lang) -> Html {
    let s = lang.strings();
    let mut html = Html::new();
    html.raw("<details class=\"how\"><summary class=\"quiet\">").text(s.how_title).raw("</summary>\n<p>");
    html.text(s.how_wallet).raw("</p>\n<p>").text(s.how_scan).raw("</p>\n<p>").text(s.how_somebody);
    html.raw("</p>\n</details>\n");
    html
}

/// A choice stands still, unless a mint may come back, or an invoice may be paid elsewhere, perhaps too late.
fn offer_poll(offer: &Offer) -> Option<u64> {
    if !offer.is_open() && offer.mpesa.is_none() {
        Some(5)
    } else {
        offer.unpaid_request.map(|_| 10).or(offer.is_late.then_some(20))
    }
}

fn waiting_for_invoice(lang: Lang, lang_chosen: bool, asking: Asking) -> View {
    let s = lang.strings();
    let (title, line, slow) = match asking.request_id {
        Some(_) => (s.asking_title, s.asking, s.asking_slow),
        None => (s.card_title, s.card_waiting, s.keep_hint),
    };
    let mut main = Html::new();
    main.raw("<h1>").text(title).raw("</h1>\n<p class=\"waiting\"><i class=\"pulse\"></i><span>");
    main.text(line).raw("</span></p>\n");
    if asking.is_slow {
        main.raw("<p class=\"notice calm\">").text(slow).raw("</p>\n");
    }
    if let Some(id) = asking.request_id {
        let again = choosing_again(id, lang_chosen.then_some(lang));
        main.raw("<a class=\"quiet\" id=\"again\"").attr("href", &again).raw(">").text(s.other_amount);
        main.raw("</a>\n");
    }
    View {
        state: "asking",
        step: if asking.is_slow { "slow" } else { "" }.to_owned(),
        title: title.to_owned(),
        main,
        refresh: Some(2),
        poll: Some(2),
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

    // A card pays this; the guest need not, but may.
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
    match pay.grace {
        Some(left) => {
            main.raw("</p>\n<p class=\"hint\" id=\"grace\">").fill(s.pay_grace, "clock", &clock(lang, left));
        }
        None if !pay.online => {
            main.raw("</p>\n<p class=\"hint\">").text(s.pay_without_grace);
        }
        None => {}
    }
    let again = choosing_again(pay.request_id, lang_chosen.then_some(lang));
    main.raw("</p>\n").add(&card::row(lang, lang_chosen, pay));
    main.raw("<a class=\"quiet\" id=\"again\"").attr("href", &again).raw(">").text(s.other_amount);
    main.raw("</a>\n").add(&how_to_pay(lang));

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
        step: format!("{} {}", paid.done.name(), paid.waiting.map_or("", Waiting::name)),
        title: s.paid_title.to_owned(),
        main,
        refresh: Some(5),
        poll: Some(3),
    }
}

fn passing(lang: Lang, lang_chosen: bool, online: &Online) -> View {
    let s = lang.strings();
    let warning = online.left.and_then(|left| ending(lang, left)).unwrap_or_default();
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
                .raw("</p>\n<p class=\"ends\" data-ends>\u{a0}</p>\n<p class=\"ending\" data-live>");
            main.text(&warning).raw("</p>\n");
        }
        None => {
            main.raw("<p class=\"lead\">").text(s.no_end).raw("</p>\n");
        }
    }
    main.raw("<p class=\"notice calm\">").text(s.close_page);
    if let Some(address) = online.address {
        let mut shown = Html::new();
        shown.raw("<b dir=\"ltr\">").text(address).raw("</b>");
        main.raw(" ").fill(s.come_back, "address", &shown);
    }
    main.raw("</p>\n");
    if let Some(offer) = &online.offer {
        main.raw("<details id=\"more\"><summary class=\"button second\">")
            .text(if offer.step.metric == Metric::Bytes { s.add_data } else { s.add_time })
            .raw("</summary>\n");
        main.add(&offer::form(lang, lang_chosen, offer)).raw("</details>\n");
    }
    main.add(&ticket::card(lang, lang_chosen, online.kept));
    if online.kept != ShownTicket::No && online.offer.as_ref().is_some_and(|offer| offer.has_login) {
        main.add(&login::row(lang, lang_chosen));
    }
    if online.left.is_some() {
        main.add(&receipt::row(lang, lang_chosen));
    }
    // Without script a look once a minute keeps the time true; with it the countdown does.
    let (refresh, poll) = match online.left {
        Some(Quantity { metric: Metric::Milliseconds, amount }) => {
            (Some(Millis(amount.0).as_secs_ceil().clamp(5, 60)), 60)
        }
        Some(Quantity { metric: Metric::Bytes, .. }) => (Some(15), 10),
        None => (None, 60),
    };
    let kept = match online.kept {
        ShownTicket::No => "",
        ShownTicket::Unknown => "kept",
        ShownTicket::Shown(ticket) => ticket,
    };
    let step = format!("{} {kept}", online.offer.as_ref().map_or("", offer_step));
    let title = if warning.is_empty() { s.online_title.to_owned() } else { warning };
    View { state: "online", step, title, main, refresh, poll: Some(poll) }
}

/// What a guest is told five minutes and one minute before its time is over.
fn ending(lang: Lang, left: Quantity) -> Option<String> {
    let seconds = Millis(left.amount.0).as_secs_ceil();
    let warned = [60, 300].into_iter().find(|warned| seconds <= *warned)?;
    let is_time = left.metric == Metric::Milliseconds;
    let duration = lang.duration(Millis::from_secs(warned));
    is_time.then(|| lang.strings().ending.replace("{duration}", &duration))
}
