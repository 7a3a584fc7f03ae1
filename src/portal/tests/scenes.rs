//! The states that the tests look at: each with what a guest may see in it.

use super::super::*;
use crate::config::Metric;
use crate::units::{Allotment, Amount, Kes, Millis, Sats, Unit};

pub(super) const fn secs(secs: u64) -> Quantity {
    Quantity { metric: Metric::Milliseconds, amount: Allotment(secs * 1000) }
}

pub(super) const fn megabytes(number: u64) -> Quantity {
    Quantity { metric: Metric::Bytes, amount: Allotment(number * 1_000_000) }
}

const MINTS: [OfferedMint; 1] =
    [OfferedMint { url: "https://mint.example.com", price_per_step: Sats(1), min_steps: 1 }];

pub(super) const TWO_MINTS: [OfferedMint; 2] = [
    OfferedMint { url: "https://mint.example.com", price_per_step: Sats(1), min_steps: 1 },
    OfferedMint { url: "https://cashu.kibera.example.org/Bitcoin", price_per_step: Sats(2), min_steps: 30 },
];

pub(super) const TICKET: &str = "k3m9-0123-4567-89ab-cdef-ghjk-mnpq";
pub(super) const ADDRESS: &str = "http://wifi.kibanda/";
pub(super) const LINK: &str = "http://192.168.77.1:2121/?ticket=k3m9-0123-4567-89ab-cdef-ghjk-mnpq";

/// As long as one with route hints gets.
pub(super) fn invoice() -> String {
    format!("lnbc600n1p{}", "5q9zry8x2gf2tvdw0s3jn54khce6mua7l".repeat(11))
}

pub(super) fn offer<'a>() -> Offer<'a> {
    Offer {
        step: secs(60),
        max_steps: 1440,
        mints: MINTS.to_vec(),
        notices: vec![],
        unpaid_request: None,
        is_late: false,
        has_login: true,
        mpesa: None,
    }
}

pub(super) fn pay(invoice: &str) -> Pay<'_> {
    Pay {
        request_id: "5f0c9a7be1",
        invoice,
        amount: Sats(60),
        buys: secs(3600),
        expires_in: Millis::from_secs(3552),
        online: false,
        by_card: false,
        grace: None,
    }
}

pub(super) fn paid<'a>(done: PaidStep, waiting: Option<Waiting>) -> State<'a> {
    let (amount, buys) = (Sats(60), secs(3600));
    State::Paid(Paid { request_id: "5f0c9a7be1", amount, buys, done, waiting })
}

pub(super) fn trouble<'a>(reason: TroubleReason, money: Money) -> State<'a> {
    State::Trouble(Trouble { request_id: Some("5f0c9a7be1"), reason, money, code: "k3f9-22" })
}

pub(super) fn shillings<'a>() -> MpesaOffer<'a> {
    let price = |id, name, amount| OfferedPrice { id, name, amount: Kes(amount) };
    let prices = vec![price("1h", "1 hour", 20), price("day", "1 day", 100)];
    MpesaOffer { prices, phone: "", knows_receipts: true }
}

pub(super) fn asked_phone<'a>(step: MpesaStep) -> MpesaWait<'a> {
    MpesaWait { id: "TG7K3M9QX2", amount: Kes(20), buys: secs(3600), phone_tail: "678", step }
}

/// Everything that may be said above the form.
const SHILLINGS: [Notice; 14] = [
    Notice::MpesaFailed(MpesaFault::Cancelled),
    Notice::MpesaFailed(MpesaFault::WrongPin),
    Notice::MpesaFailed(MpesaFault::NoFunds),
    Notice::MpesaFailed(MpesaFault::Unreachable),
    Notice::MpesaFailed(MpesaFault::Limit),
    Notice::MpesaFailed(MpesaFault::NoPrompt),
    Notice::MpesaFailed(MpesaFault::Service),
    Notice::MpesaFailed(MpesaFault::NotPaid),
    Notice::MpesaFailed(MpesaFault::Refund),
    Notice::BadPhone,
    Notice::PhoneBusy { wait: Millis::from_secs(42) },
    Notice::OrderOpen,
    Notice::ClockNotSet,
    Notice::NoSuchPayment,
];

pub(super) fn bought<'a>() -> PurchaseReceipt<'a> {
    PurchaseReceipt {
        venue: "Kibanda Wi-Fi",
        amount: Amount { number: 60, unit: Unit::Sat },
        buys: secs(3600),
        at: "Nov  9 08:05:03 EAT",
        code: "5f0c9a7b",
    }
}

pub(super) fn ecash<'a>(notices: &'a [Notice<'a>]) -> PayWithEcash<'a> {
    let step = secs(60);
    PayWithEcash {
        step,
        mints: &MINTS,
        notices,
        token: "",
        id: None,
        left: None,
        request: Some("creqApGF1Y3NhdA=="),
    }
}

fn receiving(name: &str, at: Stage) -> (&str, State<'_>) {
    (name, State::Receiving(Receiving { id: "5f0c9a7be1", at }))
}

const K1: &str = "e2af6254a8df433264fa23f67eb8188635d15ce883e8fc020989d5f82ae6f11e";
const SIGN: LoginStep = LoginStep::Sign {
    k1: K1,
    lnurl: "LNURL1DP68GURN8GHJ7CT4W35ZUETCV9KHQMR99EHX2AP0D3HXZAT5DP0KCMM8D9HR7ARPVU7KCMM8D9HZV6E385CRQVP3XQERQVESXSCR2VPKXQMNQWPS8YCXZVRZXP3NQEPSV5CXVVFSXYCNZV33XVCNGVF4XYMRZDE38QCNJVTPX93RZCE3VSCK2VTXYESKXARFDAHR6MR0VA5KUTMMVUN",
    keyauth: "keyauth://auth.example.net/lnauth_login?tag=login",
};

fn asked<'a>(purpose: Purpose, at: LoginStep<'a>) -> State<'a> {
    State::Login(Login { purpose, at, notices: &[] })
}

/// Every state a guest can meet, by name.
pub(super) fn every_state(invoice: &str) -> Vec<(&'static str, State<'_>)> {
    const AWAY: Notice = Notice::MintAway { url: "https://mint.away.example" };
    const LIMITS: [Notice; 4] = [
        Notice::AmountRefused { least: secs(60), most: secs(86_400) },
        Notice::RateLimited,
        Notice::InvoiceLate { request_id: "5f0c9a7be1" },
        Notice::InvoiceExpired { request_id: "5f0c9a7be1" },
    ];
    const MINT_URLS: [&str; 2] = ["https://mint.example.com", "https://cashu.kibera.example.org/Bitcoin"];
    const TOKENS: [Notice; 11] = [
        Notice::TokenUnreadable,
        Notice::TokenSpent,
        Notice::TokenTooLittle { least: Sats(60) },
        Notice::TokenTooMuch { most: Sats(1440) },
        Notice::TokenOfOtherMint { mints: &MINT_URLS },
        Notice::TokenOfOtherUnit,
        Notice::TokenLocked,
        Notice::TokenNotNow,
        Notice::TokenLater { wait: Millis(60_000) },
        Notice::TokenRefused,
        Notice::AddressClash,
    ];
    const CARDS: [Notice; 7] = [
        Notice::CardUnreadable,
        Notice::CardOnion,
        Notice::CardBusy,
        Notice::CardUsed,
        Notice::CardUnreachable,
        Notice::CardAmount { least: Sats(1), most: Sats(1440) },
        Notice::CardSaid { reason: "insufficient funds" },
    ];
    const TICKETS: [Notice; 5] = [
        Notice::TicketWrong,
        Notice::TicketInUse { wait: Millis(29_001) },
        Notice::TicketLater { wait: Millis(1) },
        Notice::NothingPaid,
        Notice::TooLittleLeft,
    ];

    const VOUCHERS: [Notice; 6] = [
        Notice::VoucherWrong,
        Notice::VoucherUsed,
        Notice::VoucherExpired,
        Notice::VoucherRevoked,
        Notice::VoucherElsewhere { venue: "Hoteli" },
        Notice::VoucherNotReady,
    ];
    const LOGINS: [Notice; 3] = [Notice::LoginNothing, Notice::LoginWrong, Notice::LoginOver];
    let online =
        |left, offer| State::Online(Online { left, offer, kept: ShownTicket::No, address: Some(ADDRESS) });
    vec![
        ("choose", State::Choose(offer())),
        ("choose-mints", State::Choose(Offer { mints: TWO_MINTS.to_vec(), notices: vec![AWAY], ..offer() })),
        ("choose-again", State::Choose(Offer { unpaid_request: Some("5f0c9a7be1"), ..offer() })),
        ("choose-none", State::Choose(Offer { mints: vec![], notices: vec![Notice::NoMint], ..offer() })),
        (
            "choose-shut",
            State::Choose(Offer {
                mints: vec![],
                notices: vec![Notice::CannotSell { code: "STORE_CORRUPT" }],
                ..offer()
            }),
        ),
        ("choose-limits", State::Choose(Offer { notices: LIMITS.to_vec(), is_late: true, ..offer() })),
        ("choose-dear", {
            const DEAR: [OfferedMint; 1] =
                [OfferedMint { url: "https://m.example", price_per_step: Sats(2_100), min_steps: 2 }];
            State::Choose(Offer { mints: DEAR.to_vec(), step: secs(90), ..offer() })
        }),
        ("asking", State::Asking(Asking { request_id: Some("5f0c9a7be1"), is_slow: false })),
        ("asking-slow", State::Asking(Asking { request_id: Some("5f0c9a7be1"), is_slow: true })),
        ("asking-card", State::Asking(Asking { request_id: None, is_slow: true })),
        ("pay", State::Pay(pay(invoice))),
        ("pay-grace", State::Pay(Pay { grace: Some(Millis::from_secs(173)), ..pay(invoice) })),
        ("pay-top-up", State::Pay(Pay { online: true, ..pay(invoice) })),
        ("pay-by-card", State::Pay(Pay { by_card: true, ..pay(invoice) })),
        ("paid-1", paid(PaidStep::Received, None)),
        ("paid-1-waiting", paid(PaidStep::Received, Some(Waiting::Mint))),
        ("paid-2-waiting", paid(PaidStep::Claimed, Some(Waiting::Gate))),
        ("paid-3", paid(PaidStep::Online, None)),
        ("online", online(Some(secs(3_545)), Some(offer()))),
        ("online-ending", online(Some(secs(299)), Some(offer()))),
        ("online-days", online(Some(secs(176_945)), Some(offer()))),
        ("choose-data", State::Choose(Offer { step: megabytes(1), max_steps: 10_000, ..offer() })),
        ("pay-data", State::Pay(Pay { buys: megabytes(500), online: true, ..pay(invoice) })),
        (
            "online-data",
            online(Some(megabytes(843)), Some(Offer { step: megabytes(1), max_steps: 10_000, ..offer() })),
        ),
        ("ended-data", State::Ended(Offer { step: megabytes(21), ..offer() })),
        ("online-free", online(None, None)),
        (
            "online-ticket",
            State::Online(Online {
                left: Some(secs(3_545)),
                offer: Some(offer()),
                kept: ShownTicket::Shown(TICKET),
                address: None,
            }),
        ),
        (
            "online-restarted",
            State::Online(Online {
                left: Some(secs(9)),
                offer: None,
                kept: ShownTicket::Unknown,
                address: None,
            }),
        ),
        ("ecash", State::PayWithEcash(ecash(&[]))),
        (
            "ecash-mints",
            State::PayWithEcash(PayWithEcash { mints: &TWO_MINTS, left: Some(secs(3_545)), ..ecash(&[]) }),
        ),
        (
            "ecash-refused",
            State::PayWithEcash(PayWithEcash {
                id: Some("5f0c9a7be1"),
                token: "cashuBabc",
                ..ecash(&TOKENS)
            }),
        ),
        receiving("receiving", Stage::Mint),
        receiving("receiving-slow", Stage::SlowMint),
        receiving("receiving-unknown", Stage::Unknown),
        receiving("receiving-gate", Stage::Gate),
        ("card", State::PayWithCard(PayWithCard { offer: offer(), open: None })),
        ("card-open", State::PayWithCard(PayWithCard { offer: offer(), open: Some(pay(invoice)) })),
        (
            "card-refused",
            State::PayWithCard(PayWithCard {
                offer: Offer { notices: CARDS.to_vec(), ..offer() },
                open: None,
            }),
        ),
        (
            "card-shut",
            State::PayWithCard(PayWithCard {
                offer: Offer { mints: vec![], notices: vec![Notice::NoMint], ..offer() },
                open: None,
            }),
        ),
        ("ticket", State::ShowTicket(ShowTicket { typed: "", notices: &[] })),
        ("ticket-refused", State::ShowTicket(ShowTicket { typed: TICKET, notices: &TICKETS })),
        ("voucher", State::ShowVoucher(ShowVoucher { typed: "", notices: &[] })),
        ("voucher-refused", State::ShowVoucher(ShowVoucher { typed: "K7QM-3XHD-9WPT", notices: &VOUCHERS })),
        ("kept", State::OwnTicket(OwnTicket { ticket: Some(TICKET), link: LINK, notices: &[] })),
        ("kept-not", State::OwnTicket(OwnTicket { ticket: None, link: LINK, notices: &TICKETS[3..] })),
        ("receipt", State::Receipt(bought())),
        ("mpesa", State::Choose(Offer { mpesa: Some(shillings()), ..offer() })),
        ("mpesa-alone", State::Choose(Offer { mpesa: Some(shillings()), mints: vec![], ..offer() })),
        (
            "mpesa-refused",
            State::Choose(Offer { notices: SHILLINGS.to_vec(), mpesa: Some(shillings()), ..offer() }),
        ),
        ("mpesa-sending", State::Mpesa(asked_phone(MpesaStep::Sending))),
        ("mpesa-asked", State::Mpesa(asked_phone(MpesaStep::Asked))),
        ("mpesa-unknown", State::Mpesa(asked_phone(MpesaStep::Unknown))),
        ("mpesa-paid", State::Mpesa(asked_phone(MpesaStep::Paid))),
        ("mpesa-already", State::PaidAlready(PaidAlready { receipt: "", phone: "", notices: &[] })),
        ("keep", asked(Purpose::Keep, SIGN)),
        ("keep-digits", asked(Purpose::Keep, LoginStep::Digits { k1: K1 })),
        ("keep-done", asked(Purpose::Keep, LoginStep::Kept)),
        ("mine", asked(Purpose::Resume, SIGN)),
        (
            "mine-over",
            State::Login(Login { purpose: Purpose::Resume, at: LoginStep::Over, notices: &LOGINS }),
        ),
        ("login-code", State::LoginCode(7)),
        ("ended", State::Ended(offer())),
        ("trouble-mint", trouble(TroubleReason::MintUnavailable, Money::NothingTaken)),
        ("trouble-payment", trouble(TroubleReason::PaymentFailed, Money::NothingTaken)),
        ("trouble-claim", trouble(TroubleReason::PaymentFailed, Money::WillOpen)),
        ("trouble-request", trouble(TroubleReason::RequestNotFound, Money::NothingTaken)),
        ("trouble-rate", trouble(TroubleReason::RateLimited, Money::NothingTaken)),
        ("trouble-shut", trouble(TroubleReason::CannotSell, Money::NothingTaken)),
        ("trouble-device", trouble(TroubleReason::UnknownDevice, Money::NothingTaken)),
        ("trouble-amount", trouble(TroubleReason::AmountRefused, Money::NothingTaken)),
        ("trouble-internal", trouble(TroubleReason::Internal, Money::LookedUp)),
    ]
}
