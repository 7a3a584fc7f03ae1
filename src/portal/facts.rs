//! Which state of the page a guest is shown, from plain facts: nothing is asked here, so every case is a row of a table.

use super::notice::Notice;
use super::quantity::Quantity;
use super::states::{
    Asking, MpesaOffer, MpesaStep, MpesaWait, Offer, OfferedMint, Online, Paid, PaidStep, Pay, ShownTicket,
    State, Waiting,
};
use crate::units::{Allotment, Millis, Sats};

/// A step that takes longer says what it waits for.
const PATIENCE: Millis = Millis::from_secs(5);

/// What is known of a guest that asks for the page.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// It uses the internet without paying.
    pub is_trusted: bool,
    /// What it has bought here last.
    pub session: Option<Bought>,
    /// It wants to choose another amount.
    pub is_choosing: bool,
    /// The request that the page's address names.
    pub named: Option<RequestFacts<'a>>,
    /// The guest's request for internet that has not ended.
    pub unfinished: Option<RequestFacts<'a>>,
    /// An invoice of this guest has ended, and a late payment of it is still looked for.
    pub late: Option<Late<'a>>,
    /// What it paid with turned out to be spent.
    pub has_lost: bool,
    /// The order that it has made last, to be paid with M-Pesa.
    pub mpesa: Option<MpesaFacts<'a>>,
    pub kept: ShownTicket<'a>,
    /// Where the page is found again.
    pub address: Option<&'a str>,
    pub stock: Stock<'a>,
}

/// An order of a guest, as far as the page shows it.
#[derive(Clone, Copy, Debug)]
pub enum MpesaFacts<'a> {
    /// It is under way.
    Waiting(MpesaWait<'a>),
    /// It has come to nothing, which is said above the choice.
    Over(Notice<'a>),
}

#[derive(Clone, Copy, Debug)]
pub struct Bought {
    pub left: Quantity,
    pub is_running: bool,
}

/// A request whose invoice has ended.
#[derive(Clone, Copy, Debug)]
pub struct Late<'a> {
    pub request_id: &'a str,
    /// It ended a moment ago, so that it is said without being asked for.
    pub is_just_over: bool,
}

/// A request of a guest, as far as the page shows it.
#[derive(Clone, Debug)]
pub struct RequestFacts<'a> {
    pub request_id: &'a str,
    pub amount: Sats,
    pub buys: Quantity,
    pub step: RequestStep<'a>,
    /// How long it has come no further.
    pub waited: Millis,
    /// A payment that arrives now is in time.
    pub is_payable: bool,
    /// All invoices of it have run out.
    pub has_expired: bool,
    /// A payment would still be found, however late.
    pub is_watched: bool,
}

/// How far a request has come.
#[derive(Clone, Debug)]
pub enum RequestStep<'a> {
    /// Its mint is asked for the invoice.
    Asking,
    /// The invoice waits to be paid, and is shown so.
    Unpaid(Pay<'a>),
    Paid,
    /// Its mint has handed the payment over; the gate is not open yet.
    Granted,
    /// There is nothing to show of it: the session or the choice says more.
    Ended,
}

/// What is sold here, and by which mints.
#[derive(Clone, Debug)]
pub struct Stock<'a> {
    pub step: Quantity,
    /// The most steps of one purchase.
    pub max_steps: u64,
    pub mints: Vec<StockedMint<'a>>,
    /// Why the router could not honour a sale now.
    pub closed: Option<&'a str>,
    /// Wallets can log in.
    pub has_login: bool,
    /// What is sold for shillings.
    pub mpesa: Option<MpesaOffer<'a>>,
}

#[derive(Clone, Copy, Debug)]
pub struct StockedMint<'a> {
    pub mint: OfferedMint<'a>,
    pub seems_reachable: bool,
}

/// The state of the guest's page.
pub fn page<'a>(facts: &Facts<'a>) -> State<'a> {
    let online = facts.session.filter(|session| session.is_running);
    let request = match &facts.named {
        Some(named) if facts.is_choosing && (named.is_asking() || named.is_payable) => None,
        Some(named) => Some(named),
        None if facts.is_choosing => None,
        None if online.is_some() => facts.unfinished.as_ref().filter(|request| !request.is_payable),
        None => facts.unfinished.as_ref(),
    };
    if let Some(state) = request.and_then(RequestFacts::state) {
        return state;
    }
    let is_asking_phone = match facts.mpesa {
        Some(MpesaFacts::Waiting(wait))
            if !facts.is_choosing && facts.named.is_none() && !facts.is_trusted =>
        {
            // A guest who is online is not kept from what is left by an answer that was lost.
            (online.is_none() || wait.step != MpesaStep::Unknown).then_some(wait)
        }
        _ => None,
    };
    if let Some(wait) = is_asking_phone {
        return State::Mpesa(wait);
    }
    if facts.is_trusted {
        let address = facts.address;
        return State::Online(Online { left: None, offer: None, kept: ShownTicket::No, address });
    }
    // A guest that was choosing another amount while this one was paid has nothing left to choose.
    let is_choosing = facts.is_choosing && request.is_none();
    let is_late = facts.late.is_some() || request.is_some_and(|request| request.is_watched);
    let expired = match (request.filter(|request| request.has_expired), facts.late) {
        (Some(request), _) => Some(request.request_id),
        (None, Some(late)) if late.is_just_over => Some(late.request_id),
        (None, _) => None,
    };
    let mut notices = facts.stock.notices();
    if let (Some(request_id), None) = (expired, online) {
        let notice =
            if is_late { Notice::InvoiceLate { request_id } } else { Notice::InvoiceExpired { request_id } };
        notices.insert(0, notice);
    }
    if facts.has_lost && online.is_none() {
        notices.insert(0, Notice::TokenLost);
    }
    if let (Some(MpesaFacts::Over(notice)), None) = (facts.mpesa, online) {
        notices.insert(0, notice);
    }
    let unpaid_request = facts.unfinished.as_ref().map(|request| request.request_id);
    let offer = Offer { is_late, ..facts.stock.offer(notices, unpaid_request) };
    match (online, facts.session) {
        (Some(session), _) if !is_choosing => {
            let (left, kept, address) = (Some(session.left), facts.kept, facts.address);
            State::Online(Online { left, offer: Some(offer), kept, address })
        }
        (None, Some(_)) if !is_choosing && expired.is_none() => State::Ended(offer),
        _ => State::Choose(offer),
    }
}

impl<'a> RequestFacts<'a> {
    fn is_asking(&self) -> bool {
        matches!(self.step, RequestStep::Asking)
    }

    /// `None`: the offer or the session says more.
    fn state(&self) -> Option<State<'a>> {
        let is_slow = self.waited > PATIENCE;
        let paid = |done, waiting: Waiting| {
            let (request_id, amount, buys) = (self.request_id, self.amount, self.buys);
            State::Paid(Paid { request_id, amount, buys, done, waiting: is_slow.then_some(waiting) })
        };
        match &self.step {
            RequestStep::Asking => Some(State::Asking(Asking { request_id: Some(self.request_id), is_slow })),
            RequestStep::Unpaid(pay) => Some(State::Pay(pay.clone())),
            RequestStep::Paid => Some(paid(PaidStep::Received, Waiting::Mint)),
            RequestStep::Granted => Some(paid(PaidStep::Claimed, Waiting::Gate)),
            RequestStep::Ended => None,
        }
    }
}

impl<'a> Stock<'a> {
    /// The mints that can be used now.
    pub fn mints(&self) -> Vec<OfferedMint<'a>> {
        let usable = self.mints.iter().filter(|stocked| stocked.seems_reachable && self.closed.is_none());
        usable.map(|stocked| stocked.mint).collect()
    }

    /// What a guest should know before choosing.
    pub fn notices(&self) -> Vec<Notice<'a>> {
        if let Some(code) = self.closed {
            return vec![Notice::CannotSell { code }];
        }
        let away = || self.mints.iter().filter(|stocked| !stocked.seems_reachable);
        if self.mints.is_empty() && self.mpesa.is_some() {
            return Vec::new();
        }
        if away().count() == self.mints.len() {
            return vec![Notice::NoMint];
        }
        away().map(|stocked| Notice::MintAway { url: stocked.mint.url }).collect()
    }

    /// What can be bought at once.
    pub fn limits(&self) -> Notice<'a> {
        let least = self.mints.iter().map(|stocked| stocked.mint.min_steps).min().unwrap_or(1);
        let steps = |steps: u64| Quantity {
            amount: Allotment(self.step.amount.0.saturating_mul(steps)),
            ..self.step
        };
        Notice::AmountRefused { least: steps(least), most: steps(self.max_steps) }
    }

    /// The offer, with these notices and the guest's request that can still be paid.
    pub fn offer(&self, notices: Vec<Notice<'a>>, unpaid_request: Option<&'a str>) -> Offer<'a> {
        let (step, max_steps, mints, has_login) = (self.step, self.max_steps, self.mints(), self.has_login);
        let mpesa = self.mpesa.clone().filter(|_| self.closed.is_none());
        Offer { step, max_steps, mints, notices, unpaid_request, is_late: false, has_login, mpesa }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Quantity =
        Quantity { metric: crate::config::Metric::Milliseconds, amount: Allotment(60_000) };
    const MINT: OfferedMint = OfferedMint { url: "https://m.example", price_per_step: Sats(1), min_steps: 2 };

    fn stranger<'a>() -> Facts<'a> {
        let mints = vec![StockedMint { mint: MINT, seems_reachable: true }];
        Facts {
            is_trusted: false,
            session: None,
            is_choosing: false,
            named: None,
            unfinished: None,
            late: None,
            has_lost: false,
            mpesa: None,
            kept: ShownTicket::No,
            address: None,
            stock: Stock { step: MINUTE, max_steps: 60, mints, closed: None, has_login: false, mpesa: None },
        }
    }

    fn request(step: RequestStep<'static>) -> Option<RequestFacts<'static>> {
        Some(RequestFacts {
            request_id: "r1",
            amount: Sats(2),
            buys: MINUTE,
            is_payable: matches!(step, RequestStep::Unpaid(_)),
            has_expired: false,
            is_watched: false,
            step,
            waited: Millis::ZERO,
        })
    }

    fn unpaid() -> Option<RequestFacts<'static>> {
        request(RequestStep::Unpaid(Pay {
            request_id: "r1",
            invoice: "lnbc1",
            amount: Sats(2),
            buys: MINUTE,
            expires_in: Millis::from_secs(60),
            online: false,
            by_card: false,
            grace: None,
        }))
    }

    /// Its grace is over as well.
    fn given_up() -> Option<RequestFacts<'static>> {
        request(RequestStep::Ended).map(|ended| RequestFacts { has_expired: true, ..ended })
    }

    fn late() -> Option<RequestFacts<'static>> {
        given_up().map(|ended| RequestFacts { is_watched: true, ..ended })
    }

    const JUST_OVER: Option<Late<'static>> = Some(Late { request_id: "r1", is_just_over: true });
    const LONG_OVER: Option<Late<'static>> = Some(Late { request_id: "r1", is_just_over: false });

    fn slow(request: Option<RequestFacts<'static>>) -> Option<RequestFacts<'static>> {
        request.map(|request| RequestFacts { waited: Millis::from_secs(6), ..request })
    }

    const RUNNING: Option<Bought> = Some(Bought { left: MINUTE, is_running: true });
    const OVER: Option<Bought> = Some(Bought { left: MINUTE, is_running: false });

    /// A state in a few words.
    fn told(state: &State) -> String {
        match state {
            State::Choose(offer) => format!("choose{}", with(offer)),
            State::Ended(offer) => format!("ended{}", with(offer)),
            State::Asking(asking) => if asking.is_slow { "asking, slow" } else { "asking" }.to_owned(),
            State::Pay(pay) => format!("pay {}", pay.request_id),
            // Router builds print of an `Option` no more than its variant.
            State::Paid(paid) => match paid.waiting {
                Some(waiting) => format!("{:?}, waiting: {waiting:?}", paid.done),
                None => format!("{:?}", paid.done),
            },
            State::Online(Online { left: None, .. }) => "free".to_owned(),
            State::Online(Online { offer, .. }) => format!("online{}", offer.as_ref().map_or("", with)),
            other => format!("{other:?}"),
        }
    }

    fn with(offer: &Offer) -> &'static str {
        match (offer.notices.first(), offer.unpaid_request, offer.is_late) {
            (Some(Notice::InvoiceExpired { .. }), _, false) => ", nothing was taken",
            (Some(Notice::InvoiceLate { .. }), _, true) => ", do not pay again",
            (Some(_), ..) => ", noticed",
            (None, Some(_), false) => ", unpaid",
            (None, Some(_), true) => ", unpaid, looks on",
            (None, None, true) => ", looks on",
            (None, None, false) => "",
        }
    }

    #[test]
    fn every_guest_is_shown_what_concerns_it_most() {
        let paid = || request(RequestStep::Paid);
        let cases = [
            ("choose", stranger()),
            ("free", Facts { is_trusted: true, ..stranger() }),
            ("free", Facts { is_trusted: true, session: RUNNING, ..stranger() }),
            ("pay r1", Facts { is_trusted: true, named: unpaid(), ..stranger() }),
            ("online", Facts { session: RUNNING, ..stranger() }),
            ("ended", Facts { session: OVER, ..stranger() }),
            // What is under way comes first, whether the address names it or not.
            ("pay r1", Facts { unfinished: unpaid(), ..stranger() }),
            ("pay r1", Facts { named: unpaid(), unfinished: unpaid(), ..stranger() }),
            ("asking", Facts { named: request(RequestStep::Asking), ..stranger() }),
            ("asking, slow", Facts { named: slow(request(RequestStep::Asking)), ..stranger() }),
            ("Received", Facts { unfinished: paid(), ..stranger() }),
            ("Received, waiting: Mint", Facts { unfinished: slow(paid()), ..stranger() }),
            ("Claimed, waiting: Gate", Facts { named: slow(request(RequestStep::Granted)), ..stranger() }),
            // A session is not hidden by an invoice for more, unless that is asked for, or paid.
            ("online, unpaid", Facts { session: RUNNING, unfinished: unpaid(), ..stranger() }),
            ("pay r1", Facts { session: RUNNING, named: unpaid(), ..stranger() }),
            ("Received", Facts { session: RUNNING, unfinished: paid(), ..stranger() }),
            ("online", Facts { session: RUNNING, named: request(RequestStep::Ended), ..stranger() }),
            ("online, looks on", Facts { session: RUNNING, named: late(), ..stranger() }),
            ("online", Facts { session: RUNNING, named: given_up(), ..stranger() }),
            ("online, looks on", Facts { session: RUNNING, late: JUST_OVER, ..stranger() }),
            // Choosing another amount leaves what is unpaid payable.
            ("choose", Facts { is_choosing: true, session: RUNNING, ..stranger() }),
            ("choose", Facts { is_choosing: true, session: OVER, ..stranger() }),
            (
                "choose, unpaid",
                Facts { is_choosing: true, named: unpaid(), unfinished: unpaid(), ..stranger() },
            ),
            ("choose, unpaid", Facts { is_choosing: true, unfinished: unpaid(), ..stranger() }),
            ("choose", Facts { is_choosing: true, named: request(RequestStep::Asking), ..stranger() }),
            ("Received", Facts { is_choosing: true, named: paid(), ..stranger() }),
            (
                "online",
                Facts {
                    is_choosing: true,
                    named: request(RequestStep::Ended),
                    session: RUNNING,
                    ..stranger()
                },
            ),
            // What may still be paid late is never called unpaid, and is watched as long as the router does.
            ("choose, do not pay again", Facts { named: late(), ..stranger() }),
            ("choose, do not pay again", Facts { named: late(), late: LONG_OVER, ..stranger() }),
            ("choose, do not pay again", Facts { named: late(), session: OVER, ..stranger() }),
            ("choose, do not pay again", Facts { named: given_up(), late: LONG_OVER, ..stranger() }),
            ("choose, nothing was taken", Facts { named: given_up(), ..stranger() }),
            ("choose, nothing was taken", Facts { named: given_up(), session: OVER, ..stranger() }),
            // The device alone leads back to it for a while, and nothing is missed afterwards.
            ("choose, do not pay again", Facts { late: JUST_OVER, ..stranger() }),
            ("choose, do not pay again", Facts { late: JUST_OVER, session: OVER, ..stranger() }),
            ("choose, do not pay again", Facts { is_choosing: true, late: JUST_OVER, ..stranger() }),
            ("choose, looks on", Facts { late: LONG_OVER, ..stranger() }),
            ("ended, looks on", Facts { late: LONG_OVER, session: OVER, ..stranger() }),
            ("pay r1", Facts { late: JUST_OVER, unfinished: unpaid(), ..stranger() }),
            (
                "choose, unpaid, looks on",
                Facts { late: LONG_OVER, is_choosing: true, unfinished: unpaid(), ..stranger() },
            ),
            ("ended", Facts { named: request(RequestStep::Ended), session: OVER, ..stranger() }),
        ];
        for (number, (expected, facts)) in cases.iter().enumerate() {
            assert_eq!(told(&page(facts)), *expected, "case {number}: {facts:?}");
        }
    }

    #[test]
    fn what_cannot_be_sold_is_said_above_the_choice() {
        let stocked = |reachable: [bool; 2], closed| Stock {
            mints: reachable.map(|seems_reachable| StockedMint { mint: MINT, seems_reachable }).to_vec(),
            closed,
            ..stranger().stock
        };
        let away = Notice::MintAway { url: MINT.url };
        for (reachable, closed, notices, mints) in [
            ([true, true], None, vec![], 2),
            ([true, false], None, vec![away], 1),
            ([false, false], None, vec![Notice::NoMint], 0),
            ([true, true], Some("GATE_DOWN"), vec![Notice::CannotSell { code: "GATE_DOWN" }], 0),
        ] {
            let stock = stocked(reachable, closed);
            assert_eq!((stock.notices(), stock.mints().len()), (notices, mints));
        }
        let hour = Quantity { amount: Allotment(3_600_000), ..MINUTE };
        let two = Quantity { amount: Allotment(120_000), ..MINUTE };
        assert_eq!(stranger().stock.limits(), Notice::AmountRefused { least: two, most: hour });
    }
}
