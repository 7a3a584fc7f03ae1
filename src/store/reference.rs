//! What a payment is known by, for good: nothing is granted, minted or paid out twice under one reference.
//!
//! A new way to pay gets a form of its own here. The text is what stores have, so a form never changes.

use super::{RequestId, TapId};
use crate::hex;
use crate::uuid::Uuid;
use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use std::fmt;

/// Prints as its text in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// A part of a request, by its position: `<request>/<position>`.
    Invoice(RequestId, u32),
    /// Ecash, by a hash of its secrets, however it is written: `token:<64 hex digits>`.
    Token([u8; 32]),
    /// An invoice that the takings pay: `melt:<name>`.
    Melt(String),
    /// A tap of a card of ours that was spent here: `card:<tap>`.
    Card(TapId),
    /// What the operator gave away: `operator:<random>`.
    Operator(RequestId),
    /// What was left at another venue: `moved:<random>`.
    Moved(RequestId),
    /// The n-th use of an invite: `invite:<invite>.<n>`.
    Invite(RequestId, u32),
    /// A voucher that was redeemed: `voucher:<uuid>`.
    Voucher(Uuid),
    /// Ecash of a voucher that is put back into the takings: `backing:<64 hex digits>`.
    Backing([u8; 32]),
    /// An order that was paid in shillings: `mpesa:<order>`.
    Mpesa(String),
    /// What is done with the ecash of a balance: `balance:<name>`.
    Balance(String),
    /// In no form that this version has: kept as it is.
    Other(String),
}

const TOKEN: &str = "token:";
const MELT: &str = "melt:";
const CARD: &str = "card:";
const OPERATOR: &str = "operator:";
const MOVED: &str = "moved:";
const INVITE: &str = "invite:";
const VOUCHER: &str = "voucher:";
const BACKING: &str = "backing:";
const MPESA: &str = "mpesa:";
const BALANCE: &str = "balance:";

impl Reference {
    /// Reads the text of a store.
    pub fn read(text: &str) -> Reference {
        known(text)
            // Another spelling of the same is not the same row.
            .filter(|reference| reference.to_string() == text)
            .unwrap_or_else(|| Reference::Other(text.to_owned()))
    }
}

fn known(text: &str) -> Option<Reference> {
    if let Some((request, position)) = text.split_once('/') {
        return Some(Reference::Invoice(request.parse().ok()?, position.parse().ok()?));
    }
    let (form, name) = text.split_at(text.find(':')?.checked_add(1)?);
    Some(match form {
        TOKEN => Reference::Token(hex::decode(name)?),
        BACKING => Reference::Backing(hex::decode(name)?),
        MELT => Reference::Melt(name.to_owned()),
        CARD => Reference::Card(name.parse().ok()?),
        OPERATOR => Reference::Operator(name.parse().ok()?),
        MOVED => Reference::Moved(name.parse().ok()?),
        VOUCHER => Reference::Voucher(name.parse().ok()?),
        INVITE => {
            let (invite, number) = name.split_once('.')?;
            Reference::Invite(invite.parse().ok()?, number.parse().ok()?)
        }
        MPESA => Reference::Mpesa(name.to_owned()),
        BALANCE => Reference::Balance(name.to_owned()),
        _ => return None,
    })
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Invoice(request, position) => write!(f, "{request}/{position}"),
            Reference::Token(hash) => write!(f, "{TOKEN}{}", hex::encode(hash)),
            Reference::Backing(hash) => write!(f, "{BACKING}{}", hex::encode(hash)),
            Reference::Melt(name) => write!(f, "{MELT}{name}"),
            Reference::Card(tap) => write!(f, "{CARD}{tap}"),
            Reference::Operator(id) => write!(f, "{OPERATOR}{id}"),
            Reference::Moved(id) => write!(f, "{MOVED}{id}"),
            Reference::Invite(id, number) => write!(f, "{INVITE}{id}.{number}"),
            Reference::Voucher(id) => write!(f, "{VOUCHER}{id}"),
            Reference::Mpesa(order) => write!(f, "{MPESA}{order}"),
            Reference::Balance(name) => write!(f, "{BALANCE}{name}"),
            Reference::Other(text) => f.write_str(text),
        }
    }
}

impl ToSql for Reference {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.to_string()))
    }
}

impl FromSql for Reference {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Reference> {
        value.as_str().map(Reference::read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_that_of_every_store_so_far() {
        let id = || "00112233445566778899aabbccddeeff".parse::<RequestId>().unwrap();
        for (reference, text) in [
            (Reference::Invoice(id(), 3), "00112233445566778899aabbccddeeff/3".to_owned()),
            (Reference::Token([0xab; 32]), format!("token:{}", "ab".repeat(32))),
            (Reference::Melt("00ff".to_owned()), "melt:00ff".to_owned()),
            (Reference::Card(12), "card:12".to_owned()),
            (Reference::Operator(id()), "operator:00112233445566778899aabbccddeeff".to_owned()),
            (Reference::Moved(id()), "moved:00112233445566778899aabbccddeeff".to_owned()),
            (Reference::Mpesa("TG7K3M9QX2".to_owned()), "mpesa:TG7K3M9QX2".to_owned()),
            (Reference::Balance("token:ab".to_owned()), "balance:token:ab".to_owned()),
            (Reference::Invite(id(), 7), "invite:00112233445566778899aabbccddeeff.7".to_owned()),
            (
                Reference::Voucher("00112233-4455-6677-8899-aabbccddeeff".parse().unwrap()),
                "voucher:00112233-4455-6677-8899-aabbccddeeff".to_owned(),
            ),
        ] {
            assert_eq!(reference.to_string(), text);
            assert_eq!(Reference::read(&text), reference);
        }
    }

    #[test]
    fn what_has_no_known_form_stays_byte_for_byte() {
        let upper = format!("token:{}", "AB".repeat(32));
        for text in ["", ":", "/", "card:x", "card:+1", "card:01", "token:ab", "swap:1", upper.as_str()] {
            assert_eq!(Reference::read(text), Reference::Other(text.to_owned()));
            assert_eq!(Reference::read(text).to_string(), text);
        }
    }
}
