//! What an account has moves with it: a device is attached or detached, and two accounts become one.
//!
//! One commit moves everything: the account's sessions, and the requests and tokens of a device that has to go. What the new
//! device has paid itself is added. What was sold at other venues ends there in the commit that grants what its value buys here.

use super::accounts::{
    account_by_mac, account_by_name, account_of, attach, detach, devices_of, devices_of_both, known_name,
    making_room, name_of, AccountKey,
};
use super::claims::{add_claim, claimed, hand_over, Claim};
use super::door::Door;
use super::grants::{add_grant, NewGrant};
use super::operations::hand_over_receipts;
use super::orders::hand_over_orders;
use super::reference::Reference;
use super::session_rows::{session_by_account, sessions_of_account, sessions_on_devices, SessionRow};
use super::time::{self, Moment};
use super::worth::{Moving, VenuePrice};
use super::{RequestId, Store, StoreAnswer, StoreError};
use crate::config::{Metric, MintUrl};
use crate::mac::MacAddr;
use crate::units::{Allotment, Millis, Sats, UnixSeconds};
use rusqlite::{params, Transaction};

/// Accounts that were made for a link, without anything paid: keys cost strangers nothing.
const MOST_EMPTY: u32 = 256;

/// How accounts may move here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveRules {
    /// Devices that an account may have at a time; at least one.
    pub max_devices: usize,
    /// An account moves this often at most, or two devices could use one purchase by turns.
    pub cooldown: Millis,
}

impl Default for MoveRules {
    fn default() -> MoveRules {
        MoveRules { max_devices: 1, cooldown: Millis::from_secs(60) }
    }
}

/// An account as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    /// The longest attached first.
    pub devices: Vec<MacAddr>,
    /// Its sessions, also ended ones, each as the asking device has it.
    pub sessions: Vec<SessionRow>,
    /// When it moved last, or a link has made a device go; by service time.
    moved: Option<Millis>,
    /// A device was detached since then.
    was_left: bool,
}

/// What became of an attempt to attach a device to an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeOver {
    Done(Moved),
    /// The account is not as it was when it was looked at: another was quicker, or nothing stands for it any more.
    Changed,
    /// The account has moved lately: wait this long.
    TooSoon(Millis),
    /// What is left of it, all at other venues, buys no whole step at this one.
    TooLittle,
}

/// The accounts that had to do with a move, as they are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Every device that one of them has or had.
    pub devices: Vec<MacAddr>,
    /// Their sessions, each for every device that has it.
    pub rows: Vec<SessionRow>,
}

/// What became of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linked {
    Done {
        /// The account's name.
        account: String,
        /// The devices that had to go.
        detached: Vec<MacAddr>,
        moved: Moved,
    },
    /// The account has as many already as one may have.
    TooMany,
    /// A device would have to go, and one has lately: wait this long.
    TooSoon(Millis),
    /// The MAC has no account, and there are enough that nobody has paid for.
    NothingPaid,
}

/// Where a device wants to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownAt {
    pub price: VenuePrice,
    /// The guest wants to go on here: where that is not to be had, nothing changes at all.
    pub is_wish: bool,
}

/// A device that is to be attached.
#[derive(Clone, Debug)]
pub struct NewDevice {
    pub mac: MacAddr,
    /// The devices that make room for it, as they were found.
    pub leaving: Vec<MacAddr>,
    pub at: ShownAt,
    pub rules: MoveRules,
}

/// When a write takes place.
struct Now {
    service: Millis,
    wall: UnixSeconds,
    moment: Moment,
}

impl AccountRow {
    /// Whether it is a move when these make room for another device: one that takes a place which was free from the
    /// beginning moves nothing.
    fn is_move(&self, leaving: &[MacAddr]) -> bool {
        !leaving.is_empty() || self.devices.is_empty() || self.was_left
    }

    /// How long it has to stay as it is, before these can make room for another device.
    pub fn stays(&self, leaving: &[MacAddr], rules: MoveRules, now: Millis) -> Millis {
        let moved = self.moved.filter(|_| self.is_move(leaving));
        moved.map_or(Millis::ZERO, |moved| moved.saturating_add(rules.cooldown).saturating_sub(now))
    }

    /// Whether anything is left of it.
    pub fn has_something(&self, now: Millis) -> bool {
        self.sessions.iter().any(|row| row.remaining(now) > Allotment::ZERO)
    }

    /// What is left of it, of one metric, at all venues.
    pub fn left(&self, metric: Metric, now: Millis) -> Allotment {
        let of_it = self.sessions.iter().filter(|row| row.metric == metric);
        of_it.fold(Allotment::ZERO, |sum, row| sum.saturating_add(row.remaining(now)))
    }
}

impl Store {
    /// The account that this stands for, as `mac` sees it.
    pub fn account(&self, key: &AccountKey, mac: MacAddr) -> StoreAnswer<Option<AccountRow>> {
        let key = key.clone();
        self.read(move |tx| match key.account(tx)? {
            Some(account) => account_row(tx, account, &mac.to_string()).map(Some),
            None => Ok(None),
        })
    }

    /// The name of the account that this claims.
    pub fn claimed_account(&self, claim: &Claim) -> StoreAnswer<Option<String>> {
        let claim = claim.clone();
        self.read(move |tx| claimed(&Door::of(tx), &claim))
    }

    /// The sessions that a device has.
    pub fn sessions_of_device(&self, mac: MacAddr) -> StoreAnswer<Vec<SessionRow>> {
        self.read(move |tx| match account_by_mac(tx, &mac.to_string())? {
            Some(account) => {
                let rows = sessions_on_devices(tx, account)?;
                Ok(rows.into_iter().filter(|row| row.mac == mac).collect())
            }
            None => Ok(Vec::new()),
        })
    }

    /// Attaches a device to an account that it is not attached to, and brings what the account has at other venues to
    /// where the device is. What the device's own account has is added, unless other devices use it as well; of both
    /// tickets the account's stays valid.
    pub fn attach(&self, key: &AccountKey, new: NewDevice) -> StoreAnswer<TakeOver> {
        let (when, key) = (self.moment_of_writing(), key.clone());
        self.write(move |tx| {
            let (now, mac) = (when.service, new.mac.to_string());
            let Some(account) = key.account(tx)? else { return Ok(TakeOver::Changed) };
            let row = account_row(tx, account, &mac)?;
            let leaving = making_room(&row.devices, new.mac, new.rules.max_devices);
            if row.devices.contains(&new.mac) || leaving != new.leaving {
                return Ok(TakeOver::Changed);
            }
            let stays = row.stays(&leaving, new.rules, now);
            if stays > Millis::ZERO {
                return Ok(TakeOver::TooSoon(stays));
            }
            let own = account_by_mac(tx, &mac)?;
            let beside = own.map_or(Ok(Vec::new()), |own| devices_of(tx, own))?;
            let (absorbed, left) = if beside.len() > 1 { (None, own) } else { (own, None) };
            let mut sessions = row.sessions.clone();
            if let Some(absorbed) = absorbed {
                sessions.extend(sessions_of_account(tx, absorbed, &mac)?);
            }
            let moving = new.at.price.moving(&sessions, now);
            if moving == Moving::TooLittle && new.at.is_wish {
                return Ok(TakeOver::TooLittle);
            }
            make_room(tx, account, &leaving, &mac)?;
            if let Some(own) = own {
                detach(tx, own, &mac)?;
            }
            if let Some(absorbed) = absorbed {
                absorb(tx, account, absorbed, &mac, now)?;
            }
            attach(tx, account, &mac, now)?;
            if row.is_move(&leaving) {
                let note = "UPDATE accounts SET moved_ms = ?2, left_ms = NULL WHERE id = ?1";
                tx.execute(note, params![account, now])?;
            }
            hold(tx, account, &mac)?;
            bring(tx, account, new.mac, &new.at.price, moving, &when)?;
            let mut moved = Moved { devices: row.devices, rows: sessions_on_devices(tx, account)? };
            moved.devices.push(new.mac);
            if let Some(left) = left {
                note_left(tx, left, now)?;
                hold_on(tx, left)?;
                moved.devices.extend(beside.into_iter().filter(|device| *device != new.mac));
                moved.rows.extend(sessions_on_devices(tx, left)?);
            }
            Ok(TakeOver::Done(moved))
        })
    }

    /// Detaches a device from the account that this stands for; what the account has stays with it. `None`: it is not
    /// attached to it.
    pub fn detach(&self, key: &AccountKey, mac: MacAddr) -> StoreAnswer<Option<Moved>> {
        let (now, key) = (self.now(), key.clone());
        self.write(move |tx| {
            let Some(account) = key.account(tx)? else { return Ok(None) };
            let devices = devices_of(tx, account)?;
            if !detach(tx, account, &mac.to_string())? {
                return Ok(None);
            }
            note_left(tx, account, now)?;
            hold_on(tx, account)?;
            Ok(Some(Moved { devices, rows: sessions_on_devices(tx, account)? }))
        })
    }

    /// Lets this claim the account of a MAC, which is made if there is none. If it claims another account already, both
    /// become one: what is left is added, and devices beyond the limit go, never this one. That is no move; but within the
    /// cool-down of either account no device may go by it. A refusal leaves no account behind.
    pub fn link(&self, mac: MacAddr, claim: Claim, rules: MoveRules) -> StoreAnswer<Linked> {
        let now = self.now();
        self.write(move |tx| {
            let is_new = account_by_mac(tx, &mac.to_string())?.is_none();
            if is_new && has_many_empty(tx)? {
                return Ok(Linked::NothingPaid);
            }
            let account = account_of(tx, &mac.to_string(), now)?;
            let linked = link(tx, account, mac, &claim, rules, now)?;
            if is_new && !matches!(linked, Linked::Done { .. }) {
                tx.execute("DELETE FROM accounts WHERE id = ?1", [account])?;
            }
            Ok(linked)
        })
    }

    /// Moves what an account has at other venues to this one, for a device that is attached to it.
    pub fn bring(&self, key: &AccountKey, mac: MacAddr, price: VenuePrice) -> StoreAnswer<TakeOver> {
        let (when, key) = (self.moment_of_writing(), key.clone());
        self.write(move |tx| {
            let Some(account) = key.account(tx)? else { return Ok(TakeOver::Changed) };
            let row = account_row(tx, account, &mac.to_string())?;
            if !row.devices.contains(&mac) {
                return Ok(TakeOver::Changed);
            }
            let moving = price.moving(&row.sessions, when.service);
            if moving == Moving::TooLittle {
                return Ok(TakeOver::TooLittle);
            }
            bring(tx, account, mac, &price, moving, &when)?;
            Ok(TakeOver::Done(Moved { devices: row.devices, rows: sessions_on_devices(tx, account)? }))
        })
    }

    fn moment_of_writing(&self) -> Now {
        Now { service: self.now(), wall: self.wall(), moment: self.0.time.moment() }
    }
}

/// Lets a claim the account of `mac`, see [`Store::link`].
fn link(
    tx: &Transaction,
    account: i64,
    mac: MacAddr,
    claim: &Claim,
    rules: MoveRules,
    now: Millis,
) -> Result<Linked, StoreError> {
    let (door, text) = (Door::of(tx), mac.to_string());
    let name = name_of(tx, account)?;
    let other = claimed(&door, claim)?.filter(|other| *other != name);
    let other = other.map_or(Ok(None), |other| account_by_name(tx, &other))?;
    let devices = devices_of_both(tx, account, other.unwrap_or(account))?;
    let detached = making_room(&devices, mac, rules.max_devices);
    // A device that was detached on purpose may be anywhere: to link its account from here is as good as a move.
    if !detached.is_empty() || other.map_or(Ok(false), |other| was_left(tx, other))? {
        let lately = last_change(tx, account)?.max(other.map_or(Ok(None), |other| last_change(tx, other))?);
        let until = lately.map_or(Millis::ZERO, |lately| lately.saturating_add(rules.cooldown));
        if until > now {
            return Ok(Linked::TooSoon(until.saturating_sub(now)));
        }
        tx.execute("UPDATE accounts SET merged_ms = ?2 WHERE id = ?1", params![account, now])?;
    }
    match other {
        Some(other) => {
            merge_notes(tx, account, other)?;
            absorb(tx, account, other, &text, now)?;
        }
        None if claimed(&door, claim)?.is_some() => {}
        None if !add_claim(&door, &name, claim, now)? => return Ok(Linked::TooMany),
        None => {}
    }
    make_room(tx, account, &detached, &text)?;
    hold(tx, account, &text)?;
    let moved = Moved { devices, rows: sessions_on_devices(tx, account)? };
    Ok(Linked::Done { account: name, detached, moved })
}

/// A device has left an account of its own accord: who takes its place moves something.
fn note_left(tx: &Transaction, account: i64, now: Millis) -> Result<(), StoreError> {
    tx.execute("UPDATE accounts SET left_ms = ?2 WHERE id = ?1", params![account, now])?;
    Ok(())
}

/// Whether a device was detached from an account since its last move.
fn was_left(tx: &Transaction, account: i64) -> Result<bool, StoreError> {
    let mut left = tx.prepare_cached("SELECT left_ms IS NOT NULL FROM accounts WHERE id = ?1")?;
    Ok(left.query_row([account], |row| row.get(0))?)
}

/// When a device of an account had to go last.
fn last_change(tx: &Transaction, account: i64) -> Result<Option<Millis>, StoreError> {
    let mut last = tx.prepare_cached(
        "SELECT MAX(COALESCE(moved_ms, merged_ms), COALESCE(merged_ms, moved_ms)) FROM accounts WHERE id = ?1",
    )?;
    Ok(last.query_row([account], |row| row.get(0))?)
}

/// Whether strangers have made as many accounts as they may: those that never had a session.
fn has_many_empty(tx: &Transaction) -> Result<bool, StoreError> {
    let mut empty = tx.prepare_cached(
        "SELECT COUNT(*) >= ?1 FROM (SELECT 1 FROM accounts a
         WHERE NOT EXISTS (SELECT 1 FROM sessions WHERE account = a.id) LIMIT ?1)",
    )?;
    Ok(empty.query_row([MOST_EMPTY], |row| row.get(0))?)
}

fn account_row(tx: &Transaction, account: i64, mac: &str) -> Result<AccountRow, StoreError> {
    let (moved, was_left) = (last_change(tx, account)?, was_left(tx, account)?);
    let (devices, sessions) = (devices_of(tx, account)?, sessions_of_account(tx, account, mac)?);
    Ok(AccountRow { devices, sessions, moved, was_left })
}

/// Detaches these in favour of `mac`: what they have asked for, or pay at this moment, is its business now.
fn make_room(tx: &Transaction, account: i64, leaving: &[MacAddr], mac: &str) -> Result<(), StoreError> {
    for gone in leaving {
        let gone = gone.to_string();
        detach(tx, account, &gone)?;
        tx.execute("UPDATE requests SET mac = ?2 WHERE mac = ?1", params![gone, mac])?;
        hand_over_receipts(tx, &gone, mac)?;
        hand_over_orders(&Door::of(tx), &gone, mac)?;
    }
    Ok(())
}

/// Gives an account's bytes to this device. Holders of an older row of any session see that there is a newer one.
fn hold(tx: &Transaction, account: i64, mac: &str) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE sessions SET mac = ?2, revision = revision + 1 WHERE account = ?1",
        params![account, mac],
    )?;
    Ok(())
}

/// The same for the device that was attached last, where the one that had them is gone.
fn hold_on(tx: &Transaction, account: i64) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE sessions SET revision = revision + 1, mac = COALESCE(
             (SELECT mac FROM account_macs WHERE account = ?1 ORDER BY mac = sessions.mac DESC, attached_ms DESC LIMIT 1),
             mac)
         WHERE account = ?1",
        [account],
    )?;
    Ok(())
}

/// An account that takes the place of `other` keeps the other's ticket, if it has none itself, and the later of both last
/// moves and links.
fn merge_notes(tx: &Transaction, account: i64, other: i64) -> Result<(), StoreError> {
    let kept: (Option<Vec<u8>>, Option<Millis>, Option<Millis>) =
        tx.query_row("SELECT ticket, moved_ms, merged_ms FROM accounts WHERE id = ?1", [other], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    tx.execute("UPDATE accounts SET ticket = NULL WHERE id = ?1", [other])?;
    tx.execute(
        "UPDATE accounts SET ticket = COALESCE(ticket, ?2),
             moved_ms = MAX(COALESCE(moved_ms, ?3), COALESCE(?3, moved_ms)),
             merged_ms = MAX(COALESCE(merged_ms, ?4), COALESCE(?4, merged_ms)) WHERE id = ?1",
        params![account, kept.0, kept.1, kept.2],
    )?;
    Ok(())
}

/// Ends an account's sessions at other venues, and grants what they are worth at this one.
fn bring(
    tx: &Transaction,
    account: i64,
    mac: MacAddr,
    price: &VenuePrice,
    moving: Moving,
    when: &Now,
) -> Result<(), StoreError> {
    let Moving::Steps { from, allotment, value, mint } = moving else { return Ok(()) };
    // Or a reboot would begin before this end, and give the sessions their last seconds again.
    time::note(tx, &when.moment)?;
    for (venue, metric) in from {
        tx.execute(
            "UPDATE sessions SET ends_ms = ?4, revision = revision + 1
             WHERE account = ?1 AND venue = ?2 AND metric = ?3 AND ends_ms > ?4",
            params![account, venue, metric, when.service],
        )?;
    }
    let reference = Reference::Moved(RequestId::random()?);
    let (venue, metric) = (price.venue.clone(), price.metric);
    // No sale: it was counted when it was paid.
    let grant = NewGrant {
        reference,
        mac,
        venue,
        amount: Sats(0).into(),
        metric,
        allotment,
        value: value.into(),
        mint,
    };
    add_grant(tx, &grant, when.service, when.wall).map(drop)
}

/// Adds what the account `other` has to `account`, its devices and who may claim it as well, and ends it.
fn absorb(tx: &Transaction, account: i64, other: i64, mac: &str, now: Millis) -> Result<(), StoreError> {
    for theirs in sessions_of_account(tx, other, mac)? {
        match session_by_account(tx, account, &theirs.venue, theirs.metric, mac)? {
            None => {
                tx.execute(
                    "UPDATE sessions SET account = ?1 WHERE account = ?2 AND venue = ?3 AND metric = ?4",
                    params![account, other, theirs.venue, theirs.metric],
                )?;
            }
            Some(ours) => {
                let sum = sum(&ours, &theirs, now);
                tx.execute(
                    "UPDATE sessions SET allotment = ?4, used = ?5, started_ms = ?6, ends_ms = ?7, revision = ?8,
                         value = ?9, value_of = ?10, mint = ?11
                     WHERE account = ?1 AND venue = ?2 AND metric = ?3",
                    params![
                        account,
                        sum.venue,
                        sum.metric,
                        sum.allotment,
                        sum.used,
                        sum.started,
                        sum.ends,
                        sum.revision,
                        sum.worth.value,
                        sum.worth.of,
                        sum.worth.mint.as_ref().map(MintUrl::as_str)
                    ],
                )?;
            }
        }
    }
    tx.execute("UPDATE grants SET account = ?1 WHERE account = ?2", params![account, other])?;
    tx.execute("UPDATE account_macs SET account = ?1 WHERE account = ?2", params![account, other])?;
    if let Some(name) = known_name(tx, other)? {
        hand_over(&Door::of(tx), &name, &name_of(tx, account)?)?;
    }
    // With it go the sessions that were added, and its ticket.
    tx.execute("DELETE FROM accounts WHERE id = ?1", [other])?;
    Ok(())
}

/// One session with what both have left.
fn sum(ours: &SessionRow, theirs: &SessionRow, now: Millis) -> SessionRow {
    let runs = |row: &SessionRow| row.remaining(now) > Allotment::ZERO;
    let left = |row: &SessionRow| row.worth.left(row.remaining(now));
    // A holder of an older row of either sees that this one is newer.
    let revision = ours.revision.max(theirs.revision).saturating_add(1);
    let sum = match (runs(ours), runs(theirs)) {
        (_, false) => ours.clone(),
        (false, true) => theirs.clone(),
        (true, true) => SessionRow {
            allotment: Allotment(ours.allotment.0.saturating_add(theirs.allotment.0)),
            used: Allotment(ours.used.0.saturating_add(theirs.used.0)),
            ends: match ours.metric {
                Metric::Milliseconds => ours.ends.saturating_add(theirs.ends.saturating_sub(now)),
                Metric::Bytes => ours.ends.max(theirs.ends),
            },
            worth: Box::new(left(ours).plus(left(theirs))),
            ..ours.clone()
        },
    };
    SessionRow { revision, ..sum }
}
