//! Every state of the page as plain facts: what is shown in it, where it is found again, and nothing of how it looks.

use super::lang::Lang;
use super::links::{
    card_location, choosing_again, location, login_location, shown_card_location, token_location,
    voucher_location, way_location,
};
use super::notice::Notice;
use super::quantity::Quantity;
use crate::units::{Amount, Kes, Millis, Sats};

#[derive(Clone, Debug)]
pub enum State<'a> {
    Choose(Offer<'a>),
    Asking(Asking<'a>),
    Pay(Pay<'a>),
    Paid(Paid<'a>),
    Online(Online<'a>),
    Ended(Offer<'a>),
    Trouble(Trouble<'a>),
    PayWithEcash(PayWithEcash<'a>),
    PayWithCard(PayWithCard<'a>),
    Receiving(Receiving<'a>),
    ShowTicket(ShowTicket<'a>),
    ShowVoucher(ShowVoucher<'a>),
    OwnTicket(OwnTicket<'a>),
    Receipt(PurchaseReceipt<'a>),
    Login(Login<'a>),
    Mpesa(MpesaWait<'a>),
    PaidAlready(PaidAlready<'a>),
    /// Two digits, below 100.
    LoginCode(u8),
}

impl<'a> State<'a> {
    /// Where the same state is shown in another language.
    pub(super) fn in_language(&self, lang: Lang) -> String {
        match self {
            State::Choose(Offer { unpaid_request: Some(id), .. }) => choosing_again(id, Some(lang)),
            State::Choose(offer) => {
                let expired = offer.notices.iter().find_map(|notice| match notice {
                    Notice::InvoiceExpired { request_id } | Notice::InvoiceLate { request_id } => {
                        Some(*request_id)
                    }
                    _ => None,
                });
                location(expired, Some(lang))
            }
            // What is unpaid beside a session would be shown instead of it.
            State::Online(_) => location(None, Some(lang)),
            State::PayWithEcash(PayWithEcash { id: None, .. }) => way_location("ecash", Some(lang)),
            State::PayWithEcash(PayWithEcash { id: Some(id), .. })
            | State::Receiving(Receiving { id, .. }) => token_location(id, Some(lang)),
            State::PayWithCard(card) => {
                card_location(card.open.as_ref().map(|pay| pay.request_id), Some(lang))
            }
            State::ShowTicket(_) => way_location("ticket", Some(lang)),
            State::ShowVoucher(page) => voucher_location(page.typed, Some(lang)),
            State::OwnTicket(_) => way_location("kept", Some(lang)),
            State::Receipt(_) => way_location("receipt", Some(lang)),
            State::PaidAlready(_) => way_location("mpesa", Some(lang)),
            State::Login(login) => login_location(login.purpose, login.at.k1(), Some(lang)),
            State::Asking(Asking { request_id: None, .. }) => shown_card_location(Some(lang)),
            _ => location(self.request_id(), Some(lang)),
        }
    }

    /// The request that the script follows, and that the page is found again by.
    pub(super) fn request_id(&self) -> Option<&'a str> {
        match self {
            State::Choose(offer) | State::Ended(offer) => offer.unpaid_request,
            State::Asking(asking) => asking.request_id,
            State::Pay(pay) => Some(pay.request_id),
            State::Paid(paid) => Some(paid.request_id),
            State::Online(online) => online.offer.as_ref().and_then(|offer| offer.unpaid_request),
            State::Trouble(trouble) => trouble.request_id,
            State::PayWithEcash(_)
            | State::PayWithCard(_)
            | State::Receiving(_)
            | State::ShowTicket(_)
            | State::ShowVoucher(_)
            | State::OwnTicket(_)
            | State::Receipt(_)
            | State::Mpesa(_)
            | State::PaidAlready(_)
            | State::Login(_)
            | State::LoginCode(_) => None,
        }
    }
}

/// The mint is asked for an invoice, or a card's bank to pay one.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// `None`: a card was shown.
    pub request_id: Option<&'a str>,
    /// For more than 5 s.
    pub is_slow: bool,
}

/// An invoice that waits to be paid.
#[derive(Clone, Debug)]
pub struct Pay<'a> {
    pub request_id: &'a str,
    /// BOLT 11 text, as the mint wrote it.
    pub invoice: &'a str,
    pub amount: Sats,
    pub buys: Quantity,
    /// Until the invoice's own expiry.
    pub expires_in: Millis,
    /// A session runs meanwhile; this is a top-up.
    pub online: bool,
    /// A card's issuer has the invoice.
    pub by_card: bool,
    /// How much longer the guest may use a little of the internet, to pay.
    pub grace: Option<Millis>,
}

/// A payment on its way to a session.
#[derive(Clone, Debug)]
pub struct Paid<'a> {
    pub request_id: &'a str,
    pub amount: Sats,
    pub buys: Quantity,
    pub done: PaidStep,
    /// Set once a step takes more than 5 s.
    pub waiting: Option<Waiting>,
}

/// How far a payment has come; each step includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PaidStep {
    Received,
    Claimed,
    Online,
}

impl PaidStep {
    /// Part of what the script compares.
    pub(super) fn name(self) -> &'static str {
        match self {
            PaidStep::Received => "received",
            PaidStep::Claimed => "claimed",
            PaidStep::Online => "online",
        }
    }
}

/// What a payment waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    Mint,
    Gate,
}

impl Waiting {
    pub(super) fn name(self) -> &'static str {
        match self {
            Waiting::Mint => "mint",
            Waiting::Gate => "gate",
        }
    }
}

/// A guest that may use the internet now.
#[derive(Clone, Debug)]
pub struct Online<'a> {
    /// `None`: without end and without paying.
    pub left: Option<Quantity>,
    /// What can be added.
    pub offer: Option<Offer<'a>>,
    pub kept: ShownTicket<'a>,
    /// Where this page is found again.
    pub address: Option<&'a str>,
}

/// Something went wrong. What became of the money is always said.
#[derive(Clone, Debug)]
pub struct Trouble<'a> {
    pub request_id: Option<&'a str>,
    pub reason: TroubleReason,
    pub money: Money,
    /// The correlation id under which the log has the cause.
    pub code: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleReason {
    MintUnavailable,
    PaymentFailed,
    RequestNotFound,
    RateLimited,
    CannotSell,
    UnknownDevice,
    AmountRefused,
    /// A token has been sent to its mint, and what became of it is not known yet.
    TokenUnknown,
    Internal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Money {
    NothingTaken,
    LookedUp,
    WillOpen,
}

/// What is sold, under which conditions.
#[derive(Clone, Debug)]
pub struct Offer<'a> {
    pub step: Quantity,
    /// The most steps of one purchase.
    pub max_steps: u64,
    /// The mints that can be used right now, the preselected one first. None: there is nothing to choose.
    pub mints: Vec<OfferedMint<'a>>,
    /// What the guest should know before choosing.
    pub notices: Vec<Notice<'a>>,
    /// An invoice of this guest that can still be paid.
    pub unpaid_request: Option<&'a str>,
    /// An invoice of this guest has ended, and a late payment of it is still looked for.
    pub is_late: bool,
    /// Wallets can keep and resume what was paid.
    pub has_login: bool,
    /// What is sold for shillings.
    pub mpesa: Option<MpesaOffer<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferedMint<'a> {
    pub url: &'a str,
    pub price_per_step: Sats,
    pub min_steps: u64,
}

/// What is sold for shillings; at least one price.
#[derive(Clone, Debug)]
pub struct MpesaOffer<'a> {
    pub prices: Vec<OfferedPrice<'a>>,
    /// What was typed and not taken.
    pub phone: &'a str,
    /// What was paid can be found by its receipt.
    pub knows_receipts: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct OfferedPrice<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub amount: Kes,
}

/// A phone is asked to pay.
#[derive(Clone, Copy, Debug)]
pub struct MpesaWait<'a> {
    pub id: &'a str,
    pub amount: Kes,
    pub buys: Quantity,
    pub phone_tail: &'a str,
    pub step: MpesaStep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MpesaStep {
    Sending,
    Asked,
    /// It is not known whether the phone was asked.
    Unknown,
    Paid,
}

/// Where the receipt of something that was paid with M-Pesa is typed in.
#[derive(Clone, Debug)]
pub struct PaidAlready<'a> {
    pub receipt: &'a str,
    pub phone: &'a str,
    pub notices: &'a [Notice<'a>],
}

/// Where the link of a card is pasted.
#[derive(Clone, Debug)]
pub struct PayWithCard<'a> {
    /// What can be bought; its notices come first.
    pub offer: Offer<'a>,
    /// The open invoice that the card is to pay instead.
    pub open: Option<Pay<'a>>,
}

/// Where a token is pasted.
#[derive(Clone, Debug)]
pub struct PayWithEcash<'a> {
    pub step: Quantity,
    /// The mints whose ecash is taken now.
    pub mints: &'a [OfferedMint<'a>],
    pub notices: &'a [Notice<'a>],
    /// What was sent and not taken: it is still the guest's.
    pub token: &'a str,
    /// By what the refused token can be looked at again.
    pub id: Option<&'a str>,
    /// What this guest has left of what it has paid for.
    pub left: Option<Quantity>,
    /// What asks a wallet on the same phone for ecash (NUT-18), if there is an address to send it to.
    pub request: Option<&'a str>,
}

/// A token on its way to a session.
#[derive(Clone, Copy, Debug)]
pub struct Receiving<'a> {
    pub id: &'a str,
    pub at: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its mint is asked; when slow, for more than 5 s.
    Mint,
    SlowMint,
    /// The mint was asked and has not said whether it took it.
    Unknown,
    /// Paid, and the gate not open yet.
    Gate,
}

impl Stage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Stage::Mint => "mint",
            Stage::SlowMint => "slow",
            Stage::Unknown => "unknown",
            Stage::Gate => "gate",
        }
    }
}

/// Where the ticket of an earlier payment is typed in.
#[derive(Clone, Debug)]
pub struct ShowTicket<'a> {
    pub typed: &'a str,
    pub notices: &'a [Notice<'a>],
}

/// Where the code of a voucher is typed in.
#[derive(Clone, Debug)]
pub struct ShowVoucher<'a> {
    pub typed: &'a str,
    pub notices: &'a [Notice<'a>],
}

/// A guest's own ticket.
#[derive(Clone, Debug)]
pub struct OwnTicket<'a> {
    /// As far as the router knows it in clear text.
    pub ticket: Option<&'a str>,
    /// The address that shows it here: what the code says to a camera.
    pub link: &'a str,
    pub notices: &'a [Notice<'a>],
}

/// A wallet is asked for a signature.
#[derive(Clone, Debug)]
pub struct Login<'a> {
    pub purpose: Purpose,
    pub at: LoginStep<'a>,
    pub notices: &'a [Notice<'a>],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To stand for what is left on this device.
    Keep,
    /// To go on here with what it stands for.
    Resume,
}

impl Purpose {
    /// As the page's address says it.
    pub fn way(self) -> &'static str {
        match self {
            Purpose::Keep => "keep",
            Purpose::Resume => "mine",
        }
    }

    pub fn of_way(way: &str) -> Option<Purpose> {
        [Purpose::Keep, Purpose::Resume].into_iter().find(|purpose| purpose.way() == way)
    }
}

#[derive(Clone, Copy, Debug)]
pub enum LoginStep<'a> {
    /// The wallet signs `k1`.
    Sign {
        k1: &'a str,
        /// The address that it calls, as LNURL (LUD-01), and for what opens a wallet (LUD-17).
        lnurl: &'a str,
        keyauth: &'a str,
    },
    /// It has signed, on another device; two digits are asked for.
    Digits { k1: &'a str },
    /// It stands for what is left.
    Kept,
    /// It can be begun again.
    Over,
}

impl<'a> LoginStep<'a> {
    pub(super) fn k1(&self) -> Option<&'a str> {
        match self {
            LoginStep::Sign { k1, .. } | LoginStep::Digits { k1 } => Some(k1),
            LoginStep::Kept | LoginStep::Over => None,
        }
    }
}

/// What an online guest is shown of its ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownTicket<'a> {
    /// Nothing: it has none, or this is not the router's own page.
    No,
    /// That a new one can be made.
    Unknown,
    Shown(&'a str),
}

/// What a guest has bought last, to be kept by the one who paid.
#[derive(Clone, Debug)]
pub struct PurchaseReceipt<'a> {
    pub venue: &'a str,
    pub amount: Amount,
    pub buys: Quantity,
    /// By the router's clock and in its time zone: `Nov  9 08:05:03 EAT`.
    pub at: &'a str,
    /// Under which the operator finds the payment.
    pub code: &'a str,
}
