//! The pages of tickets: where the ticket of an earlier payment is shown, and where a guest sees its own. All of them
//! are plain forms.

use super::html::Html;
use super::lang::Lang;
use super::links::way_location;
use super::notice::notices;
use super::qr;
use super::states::{OwnTicket, ShowTicket, ShownTicket};
use super::view::{back, in_language, still, View};

pub(super) fn show_ticket(lang: Lang, lang_chosen: bool, page: &ShowTicket) -> View {
    let s = lang.strings();
    let mut main = Html::new();
    main.raw("<h1>").text(s.ticket_title).raw("</h1>\n").add(&notices(lang, page.notices));
    main.raw("<form method=\"post\" action=\"/ticket\" autocomplete=\"off\">\n");
    main.add(&in_language(lang, lang_chosen));
    main.raw("<label class=\"rate\" for=\"ticket\">").text(s.ticket_label).raw("</label>\n");
    main.raw("<textarea id=\"ticket\" class=\"paste groups\" name=\"ticket\" rows=\"2\" maxlength=\"120\" required");
    main.raw(" spellcheck=\"false\" autocapitalize=\"off\">").text(page.typed).raw("</textarea>\n");
    main.raw("<button class=\"button\" type=\"submit\"><span>").text(s.ticket_button);
    main.raw("</span></button>\n<p class=\"hint\">").text(s.ticket_hint).raw("</p>\n</form>\n");
    main.add(&back(lang, lang_chosen));
    still("ticket", s.ticket_title, main)
}

pub(super) fn own_ticket(lang: Lang, lang_chosen: bool, page: &OwnTicket) -> View {
    let s = lang.strings();
    let mut main = Html::new();
    main.raw("<h1>").text(s.kept_title).raw("</h1>\n<p class=\"lead\">").text(s.kept_why).raw("</p>\n");
    main.add(&notices(lang, page.notices));
    if let Some(ticket) = page.ticket {
        if let Some(code) = qr::of_text(page.link, s.kept_qr) {
            main.raw("<div class=\"code\">").add(&code).raw("</div>\n");
        }
        main.add(&text_to_keep(lang, ticket));
    }
    main.raw("<form method=\"post\" action=\"/ticket\">\n").add(&in_language(lang, lang_chosen));
    main.raw("<input type=\"hidden\" name=\"new\" value=\"1\">\n<button class=\"button second\" type=\"submit\"><span>");
    main.text(s.kept_renew).raw("</span></button>\n");
    if page.ticket.is_some() {
        main.raw("<p class=\"hint\">").text(s.kept_renew_hint).raw("</p>\n");
    }
    main.raw("</form>\n").add(&back(lang, lang_chosen));
    View {
        step: if page.ticket.is_some() { "shown" } else { "" }.to_owned(),
        ..still("kept", s.kept_title, main)
    }
}

/// What the page of an online guest says of its ticket.
pub(super) fn card(lang: Lang, lang_chosen: bool, kept: ShownTicket) -> Html {
    let s = lang.strings();
    let mut html = Html::new();
    let link = way_location("kept", lang_chosen.then_some(lang));
    match kept {
        ShownTicket::No => {}
        ShownTicket::Unknown => {
            html.raw("<a class=\"quiet\" id=\"kept\"").attr("href", &link).raw(">").text(s.kept_title);
            html.raw("</a>\n");
        }
        ShownTicket::Shown(ticket) => {
            html.raw("<section class=\"kept\">\n<h2>").text(s.kept_title).raw("</h2>\n<p class=\"hint\">");
            html.text(s.kept_why).raw("</p>\n").add(&text_to_keep(lang, ticket));
            html.raw("<a class=\"quiet\" id=\"kept\"").attr("href", &link).raw(">").text(s.kept_code);
            html.raw("</a>\n</section>\n");
        }
    }
    html
}

fn text_to_keep(lang: Lang, ticket: &str) -> Html {
    let s = lang.strings();
    let mut html = Html::new();
    html.raw("<textarea id=\"own-ticket\" class=\"paste groups\" readonly rows=\"2\"")
        .attr("aria-label", s.kept_title);
    html.raw(" spellcheck=\"false\">").text(ticket).raw("</textarea>\n");
    html.raw("<button class=\"button second script-only\" id=\"copy-ticket\" type=\"button\" data-copies=\"own-ticket\">");
    html.text(s.copy).raw("</button>\n");
    html
}
