//! What wallets are asked to sign: each k1 with the browser that asked for it, from its making to the token's delivery.
//!
//! A table in memory, without curve, store or clock. A k1 can be used once: the first caller that takes it out of `Pending`
//! has it. It belongs to the browser that asked, and only that browser learns what became of it. If the wallet is on another
//! device, the browser has to send two digits that only the wallet's side was told: in a relay the attacker asks, and the
//! victim's wallet signs.
//!
//! The table is bounded. Where it is full, the station that holds the most loses its oldest row.

use super::signature::WalletKey;
use crate::mac::MacAddr;
use crate::store::LoginAudience;
use crate::units::Millis;
use litemap::LiteMap;
use std::net::IpAddr;
use subtle::ConstantTimeEq;

/// Rows at a time.
const MOST: usize = 512;
/// A row stays for this long after its end, so that its browser can be told of it.
const KEPT: Millis = Millis::from_secs(60);
/// The least time that a browser has for sending the digits.
const TYPING: Millis = Millis::from_secs(60);
/// Signatures that are looked at, and wrong codes that are taken, before a challenge ends.
const SIGNATURES: u8 = 5;
const CODES: u8 = 3;

/// 32 random bytes, which the wallet signs as they are (LUD-04).
pub type K1 = [u8; 32];
/// What a browser shows of itself: 128 random bits.
pub type CookieId = [u8; 16];

/// The device that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoginStation {
    /// A guest's.
    Mac(MacAddr),
    /// The operator's, which is known by its address only.
    Address(IpAddr),
}

/// Who asked, and who is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Browser {
    pub station: LoginStation,
    pub cookie: CookieId,
}

impl Browser {
    fn is_same(&self, other: &Browser) -> bool {
        self.station == other.station && bool::from(self.cookie.ct_eq(&other.cookie))
    }
}

/// What a signature is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Login,
    /// To tie the key to what was paid on the device that asks.
    Link,
    /// To show again, just now, that the key is at hand.
    Auth,
    /// To log in with a token of Sphinx Tribes; no wallet signs this.
    Ask,
}

impl Action {
    /// As LUD-04 calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Login => "login",
            Action::Link => "link",
            Action::Auth => "auth",
            Action::Ask => "ask",
        }
    }

    pub fn parse(text: &str) -> Option<Action> {
        [Action::Login, Action::Link, Action::Auth].into_iter().find(|known| known.as_str() == text)
    }
}

/// Everything about a challenge that does not change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AskedLogin {
    pub browser: Browser,
    pub audience: LoginAudience,
    pub action: Action,
    /// The socket that hears of it.
    pub socket: Option<SocketKey>,
}

impl AskedLogin {
    pub fn is_operators(&self) -> bool {
        self.audience == LoginAudience::Admin
    }
}

/// 128 random bits that name a socket.
pub type SocketKey = [u8; 16];

/// A token, and who it is of, until its browser has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Delivery {
    pub token: String,
    pub key: WalletKey,
    pub role: String,
    /// The account that the key stands for, if it stands for one.
    pub account: Option<String>,
}

enum State {
    Pending,
    /// Somebody has it, and brings it to its end.
    Taken,
    Confirm {
        key: WalletKey,
        code: u8,
        wallet: Option<MacAddr>,
        tries: u8,
    },
    /// With the token until that is delivered.
    Done(Option<Delivery>),
    Over,
}

struct Challenge {
    asked: AskedLogin,
    ends: Millis,
    /// In the order of their making.
    number: u64,
    /// Signatures that are being looked at, and those that were wrong.
    looking: u8,
    wrong: u8,
    state: State,
}

/// A challenge that is unknown, used or over: there is one answer for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPending;

/// What became of a challenge, for its browser.
#[derive(Clone, PartialEq, Eq)]
pub enum Standing {
    Pending,
    Confirm,
    /// With the token, once.
    Ok(Option<Delivery>),
    Expired,
    /// Somebody else asked for it.
    Foreign,
}

/// What became of two digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// They are right; the caller has the challenge now.
    Right(WalletKey),
    Wrong,
    /// No digits are asked for, or no more.
    Unasked,
    Foreign,
}

#[derive(Default)]
pub struct Challenges {
    rows: LiteMap<K1, Box<Challenge>>,
    made: u64,
}

impl Challenges {
    pub fn add(&mut self, k1: K1, asked: AskedLogin, now: Millis, life: Millis) {
        self.forget(now);
        if self.rows.len() >= MOST {
            self.make_room();
        }
        self.made = self.made.saturating_add(1);
        let challenge = Challenge {
            asked,
            ends: now.saturating_add(life),
            number: self.made,
            looking: 0,
            wrong: 0,
            state: State::Pending,
        };
        self.rows.insert(k1, Box::new(challenge));
    }

    /// Whether this browser has asked before, so that its cookie is one of ours.
    pub fn knows(&self, browser: &Browser) -> bool {
        self.rows.values().any(|row| row.asked.browser.is_same(browser))
    }

    /// Whose challenge it is, if an answer to it is worth looking at: a wallet's, or a token of Sphinx Tribes where that was
    /// asked for. Costs no arithmetic.
    pub fn pending(&self, k1: &K1, is_sphinx: bool, now: Millis) -> Option<LoginStation> {
        let row = self.rows.get(k1).filter(|row| row.is_pending(now))?;
        ((row.asked.action == Action::Ask) == is_sphinx).then_some(row.asked.browser.station)
    }

    /// Permits one signature to be looked at.
    pub fn begin(&mut self, k1: &K1, now: Millis) -> Result<(), NotPending> {
        let row = self.rows.get_mut(k1).filter(|row| row.is_pending(now)).ok_or(NotPending)?;
        row.looking = row.looking.saturating_add(1);
        Ok(())
    }

    /// The signature was wrong. Where it was the last one, answers whom to tell.
    pub fn wrong(&mut self, k1: &K1) -> Option<AskedLogin> {
        let row = self.rows.get_mut(k1)?;
        row.looking = row.looking.saturating_sub(1);
        row.wrong = row.wrong.saturating_add(1);
        let ends = matches!(row.state, State::Pending) && row.wrong >= SIGNATURES;
        if ends {
            row.state = State::Over;
        }
        ends.then_some(row.asked)
    }

    /// The signature was right: the first one to say so has the challenge.
    pub fn take(&mut self, k1: &K1, now: Millis) -> Result<AskedLogin, NotPending> {
        let row = self.rows.get_mut(k1).ok_or(NotPending)?;
        if !matches!(row.state, State::Pending) || row.ends <= now {
            return Err(NotPending);
        }
        row.state = State::Taken;
        Ok(row.asked)
    }

    /// What was taken waits for the digits, which the device `wallet` is shown.
    pub fn ask_code(&mut self, k1: &K1, key: WalletKey, code: u8, wallet: Option<MacAddr>, now: Millis) {
        if let Some(row) = self.rows.get_mut(k1) {
            row.ends = row.ends.max(now.saturating_add(TYPING));
            row.state = State::Confirm { key, code, wallet, tries: 0 };
        }
    }

    /// A challenge that was taken has come to a token. `None`: the token was delivered already.
    pub fn finish(&mut self, k1: &K1, delivery: Option<Delivery>) {
        if let Some(row) = self.rows.get_mut(k1) {
            row.state = State::Done(delivery);
        }
    }

    /// What was taken has come to nothing.
    pub fn end(&mut self, k1: &K1) {
        if let Some(row) = self.rows.get_mut(k1) {
            row.state = State::Over;
        }
    }

    /// What became of a challenge, for the browser with one of these cookies.
    pub fn standing(
        &mut self,
        k1: &K1,
        station: LoginStation,
        cookies: &[CookieId],
        now: Millis,
    ) -> Standing {
        let Some(row) = self.rows.get_mut(k1).filter(|row| row.ends.saturating_add(KEPT) > now) else {
            return Standing::Expired;
        };
        if !row.is_of(station, cookies) {
            return Standing::Foreign;
        }
        match &mut row.state {
            State::Done(delivery) => Standing::Ok(delivery.take()),
            State::Over => Standing::Expired,
            _ if row.ends <= now => Standing::Expired,
            State::Pending | State::Taken => Standing::Pending,
            State::Confirm { .. } => Standing::Confirm,
        }
    }

    /// Checks the two digits that the browser with one of these cookies has sent.
    pub fn confirm(
        &mut self,
        k1: &K1,
        (station, cookies): (LoginStation, &[CookieId]),
        typed: u8,
        now: Millis,
    ) -> Option<(Confirmed, AskedLogin)> {
        let row = self.rows.get_mut(k1)?;
        if !row.is_of(station, cookies) {
            return Some((Confirmed::Foreign, row.asked));
        }
        let State::Confirm { key, code, tries, .. } = &mut row.state else {
            return Some((Confirmed::Unasked, row.asked));
        };
        if row.ends <= now {
            return Some((Confirmed::Unasked, row.asked));
        }
        if bool::from(code.ct_eq(&typed)) {
            let key = *key;
            row.state = State::Taken;
            return Some((Confirmed::Right(key), row.asked));
        }
        *tries = tries.saturating_add(1);
        if *tries >= CODES {
            row.state = State::Over;
        }
        Some((Confirmed::Wrong, row.asked))
    }

    /// Whether a challenge has come to nothing.
    pub fn is_over(&self, k1: &K1) -> bool {
        self.rows.get(k1).is_none_or(|row| matches!(row.state, State::Over))
    }

    /// The digits that the holder of this device is to be shown.
    pub fn code_for(&self, mac: MacAddr, now: Millis) -> Option<u8> {
        let shown = self.rows.values().filter(|row| row.ends > now).filter_map(|row| match row.state {
            State::Confirm { code, wallet: Some(wallet), .. } if wallet == mac => Some((row.number, code)),
            _ => None,
        });
        shown.max_by_key(|(number, _)| *number).map(|(_, code)| code)
    }

    fn forget(&mut self, now: Millis) {
        self.rows.retain(|_, row| row.ends.saturating_add(KEPT) > now);
    }

    fn make_room(&mut self) {
        let mut held: LiteMap<LoginStation, usize> = LiteMap::new();
        for row in self.rows.values() {
            let count = held.entry(row.asked.browser.station).or_default();
            *count = count.saturating_add(1);
        }
        let most = held.values().copied().max().unwrap_or(0);
        let oldest = self
            .rows
            .iter()
            .filter(|(_, row)| held.get(&row.asked.browser.station) == Some(&most))
            .min_by_key(|(_, row)| row.number)
            .map(|(k1, _)| *k1);
        if let Some(oldest) = oldest {
            self.rows.remove(&oldest);
        }
    }
}

impl Challenge {
    fn is_pending(&self, now: Millis) -> bool {
        let looked = self.looking.saturating_add(self.wrong);
        matches!(self.state, State::Pending) && self.ends > now && looked < SIGNATURES
    }

    fn is_of(&self, station: LoginStation, cookies: &[CookieId]) -> bool {
        let own = self.asked.browser;
        match self.asked.action {
            Action::Ask => {
                own.station == station || cookies.iter().any(|cookie| own.cookie.ct_eq(cookie).into())
            }
            _ => cookies.iter().any(|cookie| own.is_same(&Browser { station, cookie: *cookie })),
        }
    }
}

#[cfg(test)]
mod tests;
