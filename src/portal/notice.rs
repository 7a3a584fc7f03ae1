//! What a guest is told above a form: why something was refused, or what does not work now.

use super::html::Html;
use super::lang::Lang;
use super::quantity::Quantity;
use crate::units::{Millis, Sats};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// This mint does not answer; others may.
    MintAway {
        url: &'a str,
    },
    /// No mint answers.
    NoMint,
    /// The router cannot honour a sale; the stable code says why.
    CannotSell {
        code: &'a str,
    },
    /// What was asked for is outside of the limits.
    AmountRefused {
        least: Quantity,
        most: Quantity,
    },
    RateLimited,
    /// The invoice of this request ran out, and nothing came while a late payment was looked for.
    InvoiceExpired {
        request_id: &'a str,
    },
    /// The invoice of this request ran out; a late payment is still looked for.
    InvoiceLate {
        request_id: &'a str,
    },
    TicketWrong,
    /// The code of an invite that lets nobody in any more.
    CodeUsed,
    /// The code of an invite that is good at another venue.
    CodeElsewhere,
    /// A code of a voucher that nobody made.
    VoucherWrong,
    VoucherUsed,
    VoucherExpired,
    /// It was taken back, or could not be made good.
    VoucherRevoked,
    /// It is good at this venue, which has this name.
    VoucherElsewhere {
        venue: &'a str,
    },
    /// Nobody has paid for it yet.
    VoucherNotReady,
    /// The MAC that the ticket is with was heard of this long ago.
    TicketInUse {
        wait: Millis,
    },
    /// Too many tickets, or too soon after the last move.
    TicketLater {
        wait: Millis,
    },
    /// This device has not paid anything that a ticket could be for.
    NothingPaid,
    /// What was paid elsewhere buys nothing here.
    TooLittleLeft,
    /// The wallet that has signed stands for nothing that is left.
    LoginNothing,
    /// These are not the digits that the wallet shows.
    LoginWrong,
    /// The wallet was not asked here, or has not answered in time.
    LoginOver,
    /// Not a token, or damaged.
    TokenUnreadable,
    TokenSpent,
    /// What was paid with was taken without its mint, and is spent: the session has ended.
    TokenLost,
    TokenTooLittle {
        least: Sats,
    },
    TokenTooMuch {
        most: Sats,
    },
    /// Somebody else's key is needed to spend it.
    TokenLocked,
    TokenOfOtherUnit,
    TokenOfOtherMint {
        mints: &'a [&'a str],
    },
    /// Nothing was taken; the same token may be taken later.
    TokenNotNow,
    /// As `TokenNotNow`, for this long.
    TokenLater {
        wait: Millis,
    },
    /// Nothing was taken, and this token never is.
    TokenRefused,
    /// Not a link of a card.
    CardUnreadable,
    /// The card's issuer is an onion service.
    CardOnion,
    CardBusy,
    /// Another device has shown this link.
    CardUsed,
    /// Its issuer cannot be asked, or does not answer as it should.
    CardUnreachable,
    CardAmount {
        least: Sats,
        most: Sats,
    },
    /// In its issuer's own words.
    CardSaid {
        reason: &'a str,
    },
    /// Another device uses the same network address: nothing is sold to either.
    AddressClash,
    /// An order came to nothing.
    MpesaFailed(MpesaFault),
    BadPhone,
    /// This phone was asked a moment ago.
    PhoneBusy {
        wait: Millis,
    },
    PhoneLimit,
    OrderOpen,
    ClockNotSet,
    NoSuchPayment,
}

/// Why an order came to nothing, as far as a guest can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MpesaFault {
    Cancelled,
    WrongPin,
    NoFunds,
    Unreachable,
    Limit,
    NoPrompt,
    Service,
    NotPaid,
    /// Another amount came.
    Refund,
}

impl Notice<'_> {
    /// Whether it says why a token was refused that is as good as before.
    fn leaves_the_token_good(&self) -> bool {
        matches!(
            self,
            Notice::TokenTooLittle { .. }
                | Notice::TokenTooMuch { .. }
                | Notice::TokenOfOtherMint { .. }
                | Notice::TokenLocked
                | Notice::TokenOfOtherUnit
                | Notice::TokenNotNow
                | Notice::TokenLater { .. }
                | Notice::TokenRefused
        )
    }
}

/// Each as a paragraph.
pub(super) fn notices(lang: Lang, notices: &[Notice]) -> Html {
    let s = lang.strings();
    let mut html = Html::new();
    for notice in notices {
        let text = match notice {
            Notice::MintAway { url } => s.notice_mint_away.replace("{mint}", host(url)),
            Notice::NoMint => s.notice_no_mint.to_owned(),
            Notice::CannotSell { code } => s.notice_cannot_sell.replace("{code}", code),
            Notice::AmountRefused { least, most } => s
                .notice_amount
                .replace("{least}", &lang.quantity(*least))
                .replace("{most}", &lang.quantity(*most)),
            Notice::RateLimited => s.notice_rate_limited.to_owned(),
            Notice::InvoiceExpired { .. } => s.notice_expired.to_owned(),
            Notice::InvoiceLate { .. } => s.notice_late.to_owned(),
            Notice::TicketWrong => s.ticket_wrong.to_owned(),
            Notice::CodeUsed => s.code_used.to_owned(),
            Notice::CodeElsewhere => s.code_elsewhere.to_owned(),
            Notice::VoucherWrong => s.voucher_wrong.to_owned(),
            Notice::VoucherUsed => s.voucher_used.to_owned(),
            Notice::VoucherExpired => s.voucher_expired.to_owned(),
            Notice::VoucherRevoked => s.voucher_revoked.to_owned(),
            Notice::VoucherElsewhere { venue } => s.voucher_elsewhere.replace("{venue}", venue),
            Notice::VoucherNotReady => s.voucher_not_ready.to_owned(),
            Notice::TicketInUse { wait } => s.ticket_in_use.replace("{duration}", &lang.wait(*wait)),
            Notice::TicketLater { wait } | Notice::TokenLater { wait } => {
                s.ticket_later.replace("{duration}", &lang.wait(*wait))
            }
            Notice::NothingPaid => s.nothing_paid.to_owned(),
            Notice::TooLittleLeft => s.too_little_left.to_owned(),
            Notice::LoginNothing => s.login_nothing.to_owned(),
            Notice::LoginWrong => s.login_wrong.to_owned(),
            Notice::LoginOver => s.login_over.to_owned(),
            Notice::TokenUnreadable => s.token_unreadable.to_owned(),
            Notice::TokenLost => s.token_lost.to_owned(),
            Notice::TokenSpent => s.token_spent.to_owned(),
            Notice::TokenTooLittle { least } => s.token_too_little.replace("{amount}", &lang.sats(*least)),
            Notice::TokenTooMuch { most } => s.token_too_much.replace("{amount}", &lang.sats(*most)),
            Notice::TokenOfOtherMint { mints } => {
                let mints: Vec<&str> = mints.iter().map(|url| host(url)).collect();
                s.token_other_mint.replace("{mints}", &mints.join(", "))
            }
            Notice::TokenLocked => s.token_locked.to_owned(),
            Notice::TokenOfOtherUnit => s.token_other_unit.to_owned(),
            Notice::AddressClash => s.address_clash.to_owned(),
            Notice::MpesaFailed(fault) => match fault {
                MpesaFault::Cancelled => s.mpesa_cancelled,
                MpesaFault::WrongPin => s.mpesa_wrong_pin,
                MpesaFault::NoFunds => s.mpesa_no_funds,
                MpesaFault::Unreachable => s.mpesa_unreachable,
                MpesaFault::Limit => s.mpesa_limit,
                MpesaFault::NoPrompt => s.mpesa_no_prompt,
                MpesaFault::Service => s.mpesa_away,
                MpesaFault::NotPaid => s.mpesa_not_paid,
                MpesaFault::Refund => s.mpesa_refund,
            }
            .to_owned(),
            Notice::BadPhone => s.mpesa_bad_phone.to_owned(),
            Notice::PhoneBusy { wait } => s.mpesa_busy.replace("{duration}", &lang.wait(*wait)),
            Notice::PhoneLimit => s.mpesa_day.to_owned(),
            Notice::OrderOpen => s.mpesa_open.to_owned(),
            Notice::ClockNotSet => s.mpesa_clock.to_owned(),
            Notice::NoSuchPayment => s.mpesa_no_payment.to_owned(),
            Notice::TokenNotNow => s.token_not_now.to_owned(),
            Notice::TokenRefused => s.token_refused.to_owned(),
            Notice::CardUnreadable => s.card_no_link.to_owned(),
            Notice::CardOnion => s.card_onion.to_owned(),
            Notice::CardBusy => s.card_busy.to_owned(),
            Notice::CardUsed => s.card_used.to_owned(),
            Notice::CardUnreachable => s.card_unreachable.to_owned(),
            Notice::CardAmount { least, most } => {
                s.card_amount.replace("{least}", &lang.sats(*least)).replace("{most}", &lang.sats(*most))
            }
            Notice::CardSaid { reason } => s.card_said.replace("{reason}", reason),
        };
        html.raw("<p class=\"notice\">").text(&text);
        if notice.leaves_the_token_good() {
            html.raw(" ").text(s.token_good);
        }
        html.raw("</p>\n");
    }
    html
}

/// A mint's address without its scheme.
pub(super) fn host(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest)
}
