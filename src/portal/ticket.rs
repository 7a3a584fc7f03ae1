//! The pages of tickets: where the ticket of an earlier payment is shown, and where a guest sees its own. All of them
//! are plain forms.

use super::html::Html;
use super::lang::Lang;
use super::links::way_location;
use super::notice::notices;
use super::qr;
use super::states::{OwnTicket, ShowTicket, ShownTicket};
use super::view::{back, in_language, still, View};
use maud::html;

pub(super) fn show_ticket(lang: Lang, lang_chosen: bool, page: &ShowTicket) -> View {
    let s = lang.strings();
    let main = html! {
        h1 { (s.ticket_title) }
        (notices(lang, page.notices))
        form method="post" action="/ticket" autocomplete="off" {
            (in_language(lang, lang_chosen))
            label class="rate" for="ticket" { (s.ticket_label) }
            textarea id="ticket" class="paste groups" name="ticket" rows="2" maxlength="512" required
                spellcheck="false" autocapitalize="off" { (page.typed) }
            button class="button" type="submit" { span { (s.ticket_button) } }
            p class="hint" { (s.ticket_hint) }
        }
        (back(lang, lang_chosen))
    };
    still("ticket", s.ticket_title, main.into())
}

pub(super) fn own_ticket(lang: Lang, lang_chosen: bool, page: &OwnTicket) -> View {
    let s = lang.strings();
    let main = html! {
        h1 { (s.kept_title) }
        p class="lead" { (s.kept_why) }
        (notices(lang, page.notices))
        @if let Some(ticket) = page.ticket {
            @if let Some(code) = qr::of_text(page.link, s.kept_qr) {
                div class="code" { (code) }
            }
            (text_to_keep(lang, ticket))
        }
        form method="post" action="/ticket" {
            (in_language(lang, lang_chosen))
            input type="hidden" name="new" value="1";
            button class="button second" type="submit" { span { (s.kept_renew) } }
            @if page.ticket.is_some() {
                p class="hint" { (s.kept_renew_hint) }
            }
        }
        (back(lang, lang_chosen))
    };
    View {
        step: if page.ticket.is_some() { "shown" } else { "" }.to_owned(),
        ..still("kept", s.kept_title, main.into())
    }
}

/// What the page of an online guest says of its ticket.
pub(super) fn card(lang: Lang, lang_chosen: bool, kept: ShownTicket) -> Html {
    let s = lang.strings();
    let link = way_location("kept", lang_chosen.then_some(lang));
    let card = html! {
        @match kept {
            ShownTicket::No => {}
            ShownTicket::Unknown => a class="quiet" id="kept" href=(link) { (s.kept_title) },
            ShownTicket::Shown(ticket) => section class="kept" {
                h2 { (s.kept_title) }
                p class="hint" { (s.kept_why) }
                (text_to_keep(lang, ticket))
                a class="quiet" id="kept" href=(link) { (s.kept_code) }
            },
        }
    };
    card.into()
}

fn text_to_keep(lang: Lang, ticket: &str) -> Html {
    let s = lang.strings();
    let text = html! {
        textarea id="own-ticket" class="paste groups" readonly rows="2" aria-label=(s.kept_title) spellcheck="false" {
            (ticket)
        }
        button class="button second script-only" id="copy-ticket" type="button" data-copies="own-ticket" { (s.copy) }
    };
    text.into()
}
