//! Paying with M-Pesa: an order and what became of it, the receipt of what was paid already, and Daraja's callbacks.

use super::answer::{self, Answer};
use super::entrance::{is_form, Visit};
use super::error_body::ErrorBody;
use super::offers::{mpesa_offer, stock};
use super::refusals::open_shop;
use super::route::Answering;
use super::sent::Sent;
use super::show::{cannot_sell, show};
use super::Edge;
use crate::fiat::masked;
use crate::json::{self, json};
use crate::portal::{
    self, MpesaFacts, MpesaFault, MpesaOffer, MpesaStep, MpesaWait, Notice, PaidAlready, Quantity, State,
};
use crate::sale::mpesa::{Heard, MpesaError, OrderFault, OrderView};
use crate::sale::SaleError;
use crate::shop::Site;
use crate::store::OrderState;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::StatusCode;
use serde_json::Value;
use std::sync::Arc;

/// Characters of an Idempotency-Key.
const LONGEST_KEY: usize = 255;

/// `POST /mpesa` of `price` and `phone`, as a form or as JSON: 201 `{"order","state","amount","phone","expires_at"}`, before
/// Daraja has answered; a form goes back to the page.
pub fn order(edge: Arc<Edge>, visit: Visit, sent: Sent) -> Answering {
    Box::pin(async move {
        let text = match sent.text().await {
            Ok(text) => text,
            Err(unread) => return unreadable(unread.status()),
        };
        let Some(asked) = fields(&visit.headers, &text, ["price", "phone"]) else {
            return unreadable(StatusCode::BAD_REQUEST);
        };
        let [price, phone] = asked.map(Option::unwrap_or_default);
        let question = visit.headers.get("idempotency-key").map(|key| key.to_str().unwrap_or_default());
        if question.is_some_and(|key| !(1..=LONGEST_KEY).contains(&key.len())) {
            let message = format!("Idempotency-Key is 1 to {LONGEST_KEY} plain characters");
            return ErrorBody { code: "idempotency_key_invalid", message: &message, details: &[] }
                .answer(StatusCode::BAD_REQUEST);
        }
        let ordered = match open_shop(&edge.site) {
            Ok(shop) => shop.mpesa.order(&visit.caller, &visit.venue, (&price, &phone), question).await,
            Err(error) => Err(error.into()),
        };
        let is_form = is_page_form(&visit.headers);
        let visit = if is_form { visit.with_form(&text) } else { visit };
        match ordered {
            Ok(_) if is_form => {
                answer::redirect(StatusCode::SEE_OTHER, &portal::location(None, visit.lang()))
            }
            Ok(order) => answer::json(
                StatusCode::CREATED,
                &json!({
                    "order": order.id,
                    "state": order.state_name(),
                    "amount": order.amount.0,
                    "phone": masked(&order.phone_tail),
                    "expires_at": order.expires.0,
                }),
            ),
            Err(error) if is_form => choose_again(&edge.site, &visit, &error, &phone),
            Err(error) => refusal(&error),
        }
    })
}

/// `GET /mpesa/ORDER`: `{"order","state","message"[,"allotment","metric"]}`.
pub fn look(edge: Arc<Edge>, visit: Visit, sent: Sent) -> Answering {
    Box::pin(async move {
        let seen = match open_shop(&edge.site) {
            Ok(shop) => shop.mpesa.look(visit.caller.mac, &sent.rest).await,
            Err(error) => Err(error.into()),
        };
        match seen {
            Ok(order) => answer::json(StatusCode::OK, &told(&order)),
            Err(error) => refusal(&error),
        }
    })
}

fn told(order: &OrderView) -> Value {
    let mut told = json!({"order": order.id, "state": order.state_name(), "message": order.message()});
    if matches!(order.state, OrderState::Paid | OrderState::Granted | OrderState::LatePaid) {
        told["allotment"] = order.allotment.0.into();
        told["metric"] = order.metric.as_str().into();
    }
    told
}

/// `POST /mpesa/claim` of `receipt` and `phone`: what was paid goes on at this device. 200
/// `{"metric","allotment","remaining"}`, or for a form the page.
pub fn claim(edge: Arc<Edge>, visit: Visit, sent: Sent) -> Answering {
    Box::pin(async move {
        let text = match sent.text().await {
            Ok(text) => text,
            Err(unread) => return unreadable(unread.status()),
        };
        let Some([Some(receipt), Some(phone)]) = fields(&visit.headers, &text, ["receipt", "phone"]) else {
            let message = "a receipt and the phone that has paid are needed";
            return ErrorBody { code: "invalid_input", message, details: &[] }
                .answer(StatusCode::BAD_REQUEST);
        };
        let claimed = match open_shop(&edge.site) {
            Ok(shop) => shop.mpesa.claim(&visit.caller, &visit.venue, (&receipt, &phone)).await,
            Err(error) => Err(error.into()),
        };
        let is_form = is_page_form(&visit.headers);
        let visit = if is_form { visit.with_form(&text) } else { visit };
        match claimed {
            Ok(_) if is_form => {
                answer::redirect(StatusCode::SEE_OTHER, &portal::location(None, visit.lang()))
            }
            Ok(session) => {
                let metric = session.as_ref().map_or(visit.venue.metric, |session| session.metric);
                let allotment = session.as_ref().map_or(0, |session| session.allotment.0);
                let remaining = session.as_ref().map_or(0, |session| session.remaining.0);
                let told = json!({"metric": metric.as_str(), "allotment": allotment, "remaining": remaining});
                answer::json(StatusCode::OK, &told)
            }
            Err(error) if is_form => {
                let notice = notice_of(&error);
                let (receipt, phone) = (receipt.as_str(), phone.as_str());
                match notice {
                    Ok(notice) => {
                        let notices = [notice];
                        let page = PaidAlready { receipt, phone, notices: &notices };
                        with_wait(show(&visit, status_of(&error), State::PaidAlready(page)), &error)
                    }
                    Err(why) => show(&visit, status_of(&error), cannot_sell(&why, None)),
                }
            }
            Err(error) => refusal(&error),
        }
    })
}

/// The page where a receipt is typed in, where receipts are known.
pub fn claim_page(visit: &Visit) -> Option<Answer> {
    let knows = visit.config.mpesa.as_ref().is_some_and(|mpesa| mpesa.knows_receipts());
    let page = PaidAlready { receipt: "", phone: "", notices: &[] };
    knows.then(|| show(visit, StatusCode::OK, State::PaidAlready(page)))
}

/// `POST /cb/TOKEN`: what Daraja calls. A caller without an order's token is told nothing.
pub fn called_back(edge: Arc<Edge>, sent: Sent) -> Answering {
    Box::pin(async move {
        let token = sent.rest.clone();
        let Ok(shop) = open_shop(&edge.site) else { return answer::empty(StatusCode::SERVICE_UNAVAILABLE) };
        // Who does not know one has nothing read.
        if matches!(shop.mpesa.knows_token(&token).await, Ok(false)) {
            return answer::empty(StatusCode::NOT_FOUND);
        }
        let body = match sent.text().await {
            Ok(body) => body,
            Err(unread) => return answer::empty(unread.status()),
        };
        match shop.mpesa.heard(&token, body.as_bytes()).await {
            Ok(Heard::Known) => {
                answer::json(StatusCode::OK, &json!({"ResultCode": 0, "ResultDesc": "Accepted"}))
            }
            Ok(Heard::Unknown) => answer::empty(StatusCode::NOT_FOUND),
            Err(error) => {
                log::error!("a callback of Daraja is not written down: {error}");
                answer::empty(StatusCode::SERVICE_UNAVAILABLE)
            }
        }
    })
}

/// A device that is not in the neighbour table.
pub fn unknown_device() -> Answer {
    let message = "this device is not known here; turn Wi-Fi off and on again";
    ErrorBody { code: "unknown_device", message, details: &[] }.answer(StatusCode::FORBIDDEN)
}

/// The guest's order, as the portal's page shows it.
pub fn facts<'a>(order: &'a OrderView, knows_session: bool) -> Option<MpesaFacts<'a>> {
    let waiting = |step| {
        let buys = Quantity { metric: order.metric, amount: order.allotment };
        let wait =
            MpesaWait { id: &order.id, amount: order.amount, buys, phone_tail: &order.phone_tail, step };
        Some(MpesaFacts::Waiting(wait))
    };
    match order.state {
        OrderState::Created | OrderState::Sending => waiting(MpesaStep::Sending),
        OrderState::Pending => waiting(MpesaStep::Asked),
        OrderState::Unknown => waiting(MpesaStep::Unknown),
        OrderState::Paid if !knows_session => waiting(MpesaStep::Paid),
        OrderState::Paid | OrderState::Granted | OrderState::LatePaid => None,
        OrderState::RefundDue => Some(MpesaFacts::Over(Notice::MpesaFailed(MpesaFault::Refund))),
        OrderState::Failed => Some(MpesaFacts::Over(Notice::MpesaFailed(match order.fault {
            OrderFault::Cancelled => MpesaFault::Cancelled,
            OrderFault::WrongPin => MpesaFault::WrongPin,
            OrderFault::NoFunds => MpesaFault::NoFunds,
            OrderFault::Unreachable => MpesaFault::Unreachable,
            OrderFault::Limit => MpesaFault::Limit,
            OrderFault::NoPrompt => MpesaFault::NoPrompt,
            OrderFault::Service => MpesaFault::Service,
            OrderFault::None | OrderFault::Other => MpesaFault::NotPaid,
        }))),
    }
}

/// The named fields of a form or of a JSON object, numbers as text. `None`: it is neither.
fn fields(headers: &HeaderMap, text: &str, names: [&str; 2]) -> Option<[Option<String>; 2]> {
    if is_form(headers) {
        let pairs = crate::form::pairs(text);
        let field =
            |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        return Some(names.map(|name| field(name).filter(|value| !value.is_empty())));
    }
    let body: Value = json::read(text.as_bytes())?;
    body.is_object().then(|| {
        names.map(|name| match &body[name] {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    })
}

/// A form that is followed by a page, unless a program has sent it.
fn is_page_form(headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT).and_then(|accepts| accepts.to_str().ok()).unwrap_or_default();
    is_form(headers) && !accepts.contains("application/json")
}

fn unreadable(status: StatusCode) -> Answer {
    let message = "a small JSON object or form is needed";
    ErrorBody { code: "invalid_input", message, details: &[] }.answer(status)
}

pub(super) fn status_of(error: &MpesaError) -> StatusCode {
    use crate::access::TicketError;
    match error {
        MpesaError::BadPhone | MpesaError::BadPrice | MpesaError::BadAmount => StatusCode::BAD_REQUEST,
        MpesaError::SwitchedOff => StatusCode::FORBIDDEN,
        MpesaError::OrderOpen | MpesaError::OtherQuestion => StatusCode::CONFLICT,
        MpesaError::PhoneBusy(_)
        | MpesaError::PhoneLimit(_)
        | MpesaError::DayLimit
        | MpesaError::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
        MpesaError::NoSuchOrder | MpesaError::NoSuchPayment => StatusCode::NOT_FOUND,
        MpesaError::Move(TicketError::NothingLeft | TicketError::NothingPaid | TicketError::Wrong) => {
            StatusCode::NOT_FOUND
        }
        MpesaError::Move(TicketError::TooMany(_)) => StatusCode::TOO_MANY_REQUESTS,
        MpesaError::Move(TicketError::Clash(_) | TicketError::Store(_)) => StatusCode::SERVICE_UNAVAILABLE,
        MpesaError::Move(_) => StatusCode::CONFLICT,
        MpesaError::ClockNotSet | MpesaError::FloatTooSmall | MpesaError::RateStale | MpesaError::Sale(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

fn refusal(error: &MpesaError) -> Answer {
    let message = error.to_string();
    let body = ErrorBody { code: error.code(), message: &message, details: &[] };
    with_wait(body.answer(status_of(error)), error)
}

fn with_wait(mut answer: Answer, error: &MpesaError) -> Answer {
    if let Some(wait) = error.wait() {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs_ceil().max(1)));
    }
    answer
}

/// What a guest is told above a form, or why nothing works here at all.
fn notice_of(error: &MpesaError) -> Result<Notice<'static>, SaleError> {
    Ok(match error {
        MpesaError::BadPhone => Notice::BadPhone,
        MpesaError::OrderOpen | MpesaError::OtherQuestion => Notice::OrderOpen,
        MpesaError::PhoneBusy(wait) => Notice::PhoneBusy { wait: *wait },
        MpesaError::PhoneLimit(_) => Notice::PhoneLimit,
        MpesaError::TooMany(wait) => Notice::TicketLater { wait: *wait },
        MpesaError::ClockNotSet => Notice::ClockNotSet,
        MpesaError::NoSuchOrder | MpesaError::NoSuchPayment => Notice::NoSuchPayment,
        MpesaError::BadPrice
        | MpesaError::SwitchedOff
        | MpesaError::BadAmount
        | MpesaError::DayLimit
        | MpesaError::FloatTooSmall
        | MpesaError::RateStale => Notice::MpesaFailed(MpesaFault::Service),
        MpesaError::Move(error) => return super::ways::notice_of(error),
        MpesaError::Sale(SaleError::Clash) => Notice::AddressClash,
        MpesaError::Sale(error) => return Err(error.clone()),
    })
}

/// The choice again, with the reason and what was typed.
fn choose_again(site: &Site, visit: &Visit, error: &MpesaError, phone: &str) -> Answer {
    let status = status_of(error);
    let notice = match notice_of(error) {
        Ok(notice) => notice,
        Err(why) => return show(visit, status, cannot_sell(&why, None)),
    };
    let stock = stock(site, visit);
    let notices = [notice].into_iter().chain(stock.notices()).collect();
    let mut offer = stock.offer(notices, None);
    offer.mpesa = mpesa_offer(visit).map(|offer| MpesaOffer { phone, ..offer });
    with_wait(show(visit, status, State::Choose(offer)), error)
}
