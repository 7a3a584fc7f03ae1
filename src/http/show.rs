//! A state of the portal as an answer, in the guest's language.

use super::answer::{self, Answer};
use super::entrance::{field, Visit};
use crate::config::Venue;
use crate::portal::{self, Lang, Money, Page, State, Trouble, TroubleReason};
use crate::sale::{Fate, SaleError};
use hyper::header::{self, HeaderMap};
use hyper::StatusCode;

pub fn show(visit: &Visit, status: StatusCode, state: State<'_>) -> Answer {
    render(status, &visit.venue, &visit.headers, &visit.query, visit.remembered, state)
}

fn render(
    status: StatusCode,
    venue: &Venue,
    headers: &HeaderMap,
    query: &[(String, String)],
    remembered: Option<Lang>,
    state: State<'_>,
) -> Answer {
    let chosen = field(query, "lang").and_then(Lang::from_tag);
    let lang = chosen.or(remembered).unwrap_or_else(|| accepted_language(headers));
    let page = Page { venue: &venue.name, lang_chosen: chosen.is_some(), state };
    answer::html(status, portal::document(lang, &page))
}

fn accepted_language(headers: &HeaderMap) -> Lang {
    let accepts = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    Lang::from_accept_language(accepts.unwrap_or_default())
}

/// A device that is not in the neighbour table: it cannot be let in, so it is not asked to pay.
pub fn unknown_device(venue: &Venue, headers: &HeaderMap, query: &[(String, String)]) -> Answer {
    let state = State::Trouble(Trouble {
        request_id: None,
        reason: TroubleReason::UnknownDevice,
        money: Money::NothingTaken,
        code: "unknown_device",
    });
    render(StatusCode::SERVICE_UNAVAILABLE, venue, headers, query, None, state)
}

/// Why nothing is sold to this guest.
pub fn cannot_sell<'a>(error: &'a SaleError, request_id: Option<&'a str>) -> State<'a> {
    let reason = match error {
        SaleError::MintBusy | SaleError::MintAway | SaleError::MintSilent | SaleError::MintNotAccepted => {
            TroubleReason::MintUnavailable
        }
        SaleError::NoSuchRequest | SaleError::NoSuchPart => TroubleReason::RequestNotFound,
        SaleError::TooMany(_) => TroubleReason::RateLimited,
        SaleError::NoAmount | SaleError::Price { .. } | SaleError::TooMuchTogether | SaleError::NotIssued => {
            TroubleReason::AmountRefused
        }
        SaleError::Closed(_) => TroubleReason::CannotSell,
        SaleError::GateDown | SaleError::Clash | SaleError::Internal => TroubleReason::Internal,
        // Their own pages say more.
        _ => TroubleReason::PaymentFailed,
    };
    let money = match error.money() {
        Fate::NotTaken => Money::NothingTaken,
        Fate::Unclear => Money::LookedUp,
        Fate::Taken => Money::WillOpen,
    };
    let code = match error {
        SaleError::Closed(code) => code,
        // Enough of the id to find it in the log, and to be read out on the telephone.
        _ => request_id.and_then(|id| id.get(..8)).unwrap_or(error.code()),
    };
    State::Trouble(Trouble { request_id: None, reason, money, code })
}
