//! What a guest sees: one page in several states, rendered from plain facts. Knows no HTTP, no store and
//! no gate; nothing that comes in as data can become markup.
//!
//! The page works without JavaScript (forms, a refresh while waiting); `portal.js` makes it live. It
//! relies on this contract with the server:
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /` | the page of this guest's state: a live session, else an unfinished request, else the choice |
//! | `GET /?r=ID` | the page of that request, in any state |
//! | `GET /?choose=1&r=ID` | the choice again, with ID still payable; once ID is paid, the page of ID |
//! | `POST /pay` with `steps`, `mint`, `lang` | 303 to [`location`] of the new request, whose mint may not have answered yet |
//! | `GET /?way=ecash`, `?way=ticket`, `?way=kept` | paying with a token, showing a ticket, the guest's own ticket |
//! | `GET /?way=card`, `GET /?way=card&r=ID` | paying with a card: an amount, or the open invoice of ID |
//! | `GET /?way=card&shown=1` | what became of the card that was shown last |
//! | `GET /?way=keep`, `?way=mine`, `&k1=K` | asking a wallet to keep what is left, or to go on with it here; 303 to the address with K1 |
//! | `POST /wallet` with `way`, `k1` and `code` | two digits: 303 to where the login goes on, or the page again with the reason |
//! | `GET /?way=receipt` | what the guest has bought last |
//! | `GET /?way=voucher`, `GET /?voucher=C` | where a voucher's code is typed in; with C in the field |
//! | `POST /voucher` with `code` | 303 to `/` once it is taken, or the page again with the reason |
//! | `GET /?ticket=T` | as `?way=ticket`, with T in the field |
//! | `GET /?token=ID` | what became of a token that was posted |
//! | `POST /ecash` with `token`; `POST /ticket` with `ticket`, or `new=1` | 303, or the page again with the reason |
//! | `POST /mpesa` with `price` and `phone`; `POST /mpesa/claim` with `receipt` and `phone`, of `?way=mpesa` | 303 to `/`, or the page again with the reason |
//! | `POST /card` with `link`, and `r` or `steps` and `mint` | 303 to the request, `/` or where it will be seen, or the page again with the reason |
//! | `GET /portal.css?DIGEST`, `GET /portal.js?DIGEST` | [`STYLE`], [`SCRIPT`] |
//!
//! `steps` may come twice (a chip's, then the number typed in): the first that is not empty counts.
//! `lang=` in any request overrides `Accept-Language` and is passed on by every link and form.

// Router builds print of a value with `{:?}` no more than its variant's name.
#![cfg_attr(not(test), deny(clippy::use_debug))]

mod assets;
mod card;
mod ecash;
mod facts;
mod html;
mod lang;
mod links;
mod login;
mod login_code;
mod mpesa;
mod notice;
mod offer;
mod qr;
mod quantity;
mod receipt;
mod states;
mod strings;
mod ticket;
mod view;
mod views;
mod voucher;
mod words;

pub use assets::{Asset, SCRIPT, STYLE};
pub use facts::{page, Bought, Facts, Late, MpesaFacts, RequestFacts, RequestStep, Stock, StockedMint};
pub use lang::Lang;
pub use links::{location, login_location, shown_card_location, token_location, way_location};
pub use notice::{MpesaFault, Notice};
pub use offer::chips;
pub use quantity::Quantity;
pub use states::*;

use assets::{SCRIPT_ADDRESS, STYLE_ADDRESS};
use html::Html;

/// For the `Content-Security-Policy` header of the page. `data:` is the empty icon that keeps browsers
/// from asking for `/favicon.ico`.
pub const CONTENT_SECURITY_POLICY: &str =
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Everything one rendering shows.
#[derive(Clone, Debug)]
pub struct Page<'a> {
    /// The venue's name as configured.
    pub venue: &'a str,
    /// The language came from `?lang=` and has to be carried on, because nothing is stored on the phone.
    pub lang_chosen: bool,
    pub state: State<'a>,
}

/// The complete HTML document.
pub fn document(lang: Lang, page: &Page) -> String {
    let view = views::view(lang, page.lang_chosen, &page.state);
    let request_id = page.state.request_id();

    let mut html = Html::new();
    html.raw("<!doctype html>\n<html").attr("lang", lang.tag()).raw(">\n<head>\n<meta charset=\"utf-8\">\n");
    html.raw("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n");
    html.raw("<meta name=\"color-scheme\" content=\"light dark\">\n");
    // In place of the header's "no-referrer", with which browsers say "null" for the origin of our own forms.
    html.raw("<meta name=\"referrer\" content=\"same-origin\">\n");
    html.raw("<meta name=\"format-detection\" content=\"telephone=no\">\n<title>");
    html.text(&view.title).raw(" · ").text(page.venue).raw("</title>\n<link rel=\"icon\" href=\"data:,\">\n");
    html.raw("<link rel=\"stylesheet\"").attr("href", STYLE_ADDRESS).raw(">\n<script");
    html.attr("src", SCRIPT_ADDRESS).raw(" defer></script>\n");
    if let Some(seconds) = view.refresh {
        html.raw("<noscript><meta http-equiv=\"refresh\"").attr("content", &seconds.to_string());
        html.raw("></noscript>\n");
    }
    html.raw("</head>\n<body")
        .attr("data-words", &words::for_script(lang))
        .raw(">\n<header><span class=\"venue\">");
    html.text(page.venue).raw("</span><a class=\"lang\"");
    html.attr("href", &page.state.in_language(lang.other())).attr("lang", lang.other().tag());
    html.attr("hreflang", lang.other().tag())
        .raw(">")
        .text(lang.other().strings().language)
        .raw("</a></header>\n");
    html.raw("<p id=\"say\" class=\"unseen\" role=\"status\" aria-live=\"polite\"></p>\n");
    html.raw("<p id=\"away\" hidden>").text(lang.strings().router_away).raw("</p>\n");
    html.raw("<main id=\"main\" tabindex=\"-1\"");
    html.attr("class", view.state).attr("data-state", view.state).attr("data-step", &view.step);
    html.attr("data-request", request_id.unwrap_or("")).attr("data-say", &view.title);
    if let Some(seconds) = view.poll {
        html.attr("data-poll", &seconds.to_string());
    }
    html.raw(">\n").add(&view.main).raw("</main>\n");
    html.raw("</body>\n</html>\n");
    html.into_string()
}

#[cfg(test)]
mod tests;
