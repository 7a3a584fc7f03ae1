//! Vouchers compared with their mints: what was promised is there and unspent, what is under way moves, what was paid for came.
//!
//! A mint calls even what it never signed unspent (NUT-07), so that alone proves nothing: the state of a quote and the
//! outputs that are on record here (NUT-09) are asked for as well. Knows no request, and changes nothing.

use super::{total, Wallet};
use crate::config::{MintUrl, Tenant};
use crate::ecash::curve::PublicKey;
use crate::ecash::error::EcashError;
use crate::ecash::keyset::KeysetId;
use crate::ecash::mint::Urgency;
use crate::ecash::wire::{KeysetInfo, ProofState, QuoteId, QuoteState};
use crate::store::{BehindRow, LockedState, StoreError};
use crate::units::UnixSeconds;
use std::sync::Arc;
use tokio::time::Instant;

/// What has been under way for longer than this (seconds) is reported.
const STUCK: u64 = 600;
const JUST_NOW: u64 = 5;
/// A keyset that ends within this (seconds) ends too soon.
const SOON: u64 = 30 * 86_400;
/// Proofs of one question, rows of one look at the store, and quotes and exchanges that are asked for.
const PROOFS: usize = 500;
const ROWS: usize = 200;
const QUESTIONS: usize = 100;

/// How a voucher is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discrepancy {
    /// Its invoice is paid, and nothing was made for it.
    PaidNotMinted,
    /// It was made, and is not here.
    IssuedNotStored,
    /// Its ecash was spent, and not here.
    SpentElsewhere,
    /// It was redeemed here, and its ecash is still as it was.
    RedeemedNotSwapped,
    /// It is under way for too long.
    PendingStuck,
    /// Nobody has redeemed it in time.
    ExpiredUnclaimed,
    /// Its mint will not take its ecash for much longer.
    KeysetExpiring,
    /// Nobody has paid its invoice in time.
    UnpaidExpired,
}

impl Discrepancy {
    pub fn as_str(self) -> &'static str {
        self.told().0
    }

    /// What a repair does.
    pub fn action(self) -> &'static str {
        self.told().1
    }

    pub fn details(self) -> &'static str {
        self.told().2
    }

    fn told(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Discrepancy::PaidNotMinted => ("paid_not_minted", "mint", "quote PAID, nothing minted"),
            Discrepancy::IssuedNotStored => {
                ("issued_not_stored", "restore", "signed by the mint, proofs missing")
            }
            Discrepancy::SpentElsewhere => {
                ("spent_elsewhere", "mark", "spent at the mint, not redeemed here")
            }
            Discrepancy::RedeemedNotSwapped => {
                ("redeemed_not_swapped", "swap", "redeemed here, not swapped yet")
            }
            Discrepancy::PendingStuck => ("pending_stuck", "poll", "under way for more than ten minutes"),
            Discrepancy::ExpiredUnclaimed => ("expired_unclaimed", "refund", "past its locktime, unspent"),
            Discrepancy::KeysetExpiring => {
                ("keyset_expiring", "reissue", "its keyset is retired, or ends within 30 days")
            }
            Discrepancy::UnpaidExpired => ("unpaid_expired", "close", "its invoice has expired unpaid"),
        }
    }
}

/// What became of a comparison of one voucher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    pub found: Option<Discrepancy>,
    /// As the mint says it: of its proofs, or of its quote.
    pub mint_state: &'static str,
    /// Its mint was not asked, or has not answered.
    pub is_unknown: bool,
}

/// What is known of a voucher.
#[derive(Clone, Copy, Debug, Default)]
struct Evidence<'a> {
    /// The voucher's own state, and for how long it has been so (seconds).
    state: &'a str,
    age: u64,
    locked: Option<LockedState>,
    proofs: Option<ProofState>,
    quote: Option<QuoteState>,
    is_invoice_over: bool,
    /// Whether its mint has signed outputs of an exchange that is under way.
    is_signed: Option<bool>,
    is_past_locktime: bool,
    is_keyset_ending: bool,
}

struct Look {
    row: BehindRow,
    states: Vec<Option<ProofState>>,
    quote: Option<QuoteState>,
    is_invoice_over: bool,
    is_signed: Option<bool>,
}

impl Wallet {
    /// Compares these vouchers with their mints; those that nothing stands behind are left out. What is not answered by
    /// `until` counts as unknown.
    pub async fn compare(
        &self,
        tenant: &Tenant,
        ids: Vec<String>,
        until: Instant,
    ) -> Result<Vec<(String, Compared)>, StoreError> {
        let mut looks: Vec<Look> = Vec::new();
        for some in ids.chunks(ROWS) {
            let rows = self.0.store.behind(tenant, some.to_vec()).await?;
            looks.extend(rows.into_iter().map(|row| Look {
                states: vec![None; row.proofs.len()],
                row,
                quote: None,
                is_invoice_over: false,
                is_signed: None,
            }));
        }
        let mut silent: Vec<MintUrl> = Vec::new();
        self.look_at_proofs(&mut looks, &mut silent, until).await;
        self.look_at_quotes(tenant, &mut looks, &mut silent, until).await?;
        self.look_at_exchanges(&mut looks, &mut silent, until).await?;
        let keysets = self.keysets_behind(&looks, &silent).await;
        let now = self.0.store.wall();
        let judged = |look: Look| {
            let compared = judge(&evidence(&look, &keysets, now));
            (look.row.id, compared)
        };
        Ok(looks.into_iter().map(judged).collect())
    }

    /// Asks each mint for the states of all proofs that are here, many at once.
    async fn look_at_proofs(&self, looks: &mut [Look], silent: &mut Vec<MintUrl>, until: Instant) {
        let is_held = |state| matches!(state, LockedState::Ready | LockedState::Taken);
        let mut asked: Vec<(MintUrl, usize, usize)> = Vec::new();
        for (number, look) in looks.iter().enumerate() {
            let locked = look.row.locked.as_ref().filter(|locked| is_held(locked.state));
            let Some(mint) = locked.and_then(|locked| locked.mint.clone()) else { continue };
            asked.extend((0..look.states.len()).map(|proof| (mint.clone(), number, proof)));
        }
        asked.sort_by(|one, other| one.0.cmp(&other.0));
        let mut rest = asked.as_slice();
        while let Some((mint, ..)) = rest.first() {
            let same = rest.iter().take(PROOFS).take_while(|(other, ..)| other == mint).count();
            let (some, others) = rest.split_at(same);
            rest = others;
            let y = |(_, look, proof): &(MintUrl, usize, usize)| {
                looks
                    .get(*look)
                    .and_then(|look| look.row.proofs.get(*proof))
                    .and_then(|(y, _)| PublicKey::parse(y))
            };
            let Some(ys) = some.iter().map(y).collect::<Option<Vec<_>>>() else { continue };
            let at = self.0.mints.get(mint);
            let question = at.proof_states(ys, Urgency::Guest);
            let Some(states) = answered(silent, mint, until, question).await else { continue };
            for ((_, look, proof), state) in some.iter().zip(states) {
                let place = looks.get_mut(*look).and_then(|look| look.states.get_mut(*proof));
                place.into_iter().for_each(|place| *place = Some(state));
            }
        }
    }

    /// Asks for the quotes of batches that somebody else was to pay for.
    async fn look_at_quotes(
        &self,
        tenant: &Tenant,
        looks: &mut [Look],
        silent: &mut Vec<MintUrl>,
        until: Instant,
    ) -> Result<(), StoreError> {
        let mut known: Vec<(String, Option<QuoteState>, bool)> = Vec::new();
        let now = self.0.store.wall();
        for look in looks {
            let is_of_invoice = match look.row.locked.as_ref().map(|locked| locked.state) {
                Some(LockedState::Awaiting) => true,
                Some(LockedState::Failed) => look.row.error == "invoice_expired",
                _ => false,
            };
            if !is_of_invoice {
                continue;
            }
            if !known.iter().any(|(batch, ..)| *batch == look.row.batch) {
                if known.len() >= QUESTIONS {
                    continue;
                }
                let funding = self.0.store.funding(tenant, &look.row.batch).await?;
                let quote = funding.as_ref().and_then(|funding| QuoteId::parse(&funding.quote));
                let (mut state, mut is_over) = (None, false);
                if let (Some(funding), Some(quote)) = (funding, quote) {
                    let at = self.0.mints.get(&funding.mint);
                    let question = at.quote_state(&quote, Urgency::Guest);
                    state = answered(silent, &funding.mint, until, question).await.map(|quote| quote.state);
                    is_over = funding.expires_at <= now;
                }
                known.push((look.row.batch.clone(), state, is_over));
            }
            if let Some((_, state, is_over)) = known.iter().find(|(batch, ..)| *batch == look.row.batch) {
                (look.quote, look.is_invoice_over) = (*state, *is_over);
            }
        }
        Ok(())
    }

    /// Asks whether exchanges that are under way have taken place.
    async fn look_at_exchanges(
        &self,
        looks: &mut [Look],
        silent: &mut Vec<MintUrl>,
        until: Instant,
    ) -> Result<(), StoreError> {
        let mut known: Vec<(i64, Option<bool>)> = Vec::new();
        let now = self.0.store.wall();
        for look in looks {
            let Some(locked) = &look.row.locked else { continue };
            if locked.state != LockedState::Minting || age(&look.row, now) < JUST_NOW {
                look.is_signed = Some(false);
                continue;
            }
            if !known.iter().any(|(op, _)| *op == locked.op) {
                if known.len() >= QUESTIONS {
                    continue;
                }
                known.push((locked.op, self.is_signed(locked.op, silent, until).await?));
            }
            look.is_signed = known.iter().find(|(op, _)| *op == locked.op).and_then(|(_, signed)| *signed);
        }
        Ok(())
    }

    async fn is_signed(
        &self,
        op: i64,
        silent: &mut Vec<MintUrl>,
        until: Instant,
    ) -> Result<Option<bool>, StoreError> {
        let Some((_, rows)) = self.0.store.locking(op).await? else { return Ok(Some(false)) };
        let Some(mint) = rows.first().and_then(|row| row.mint.clone()) else { return Ok(Some(false)) };
        let sets = rows.iter().map(|row| row.outputs.len()).min().unwrap_or(0);
        let wanted = rows.iter().fold(0u64, |sum, row| sum.saturating_add(row.amount.0));
        for set in (0..sets).rev() {
            let Ok(outputs) = self.locked_outputs(&rows, set, None).await else { return Ok(None) };
            let at = self.0.mints.get(&mint);
            let question = at.restore(outputs, Urgency::Guest);
            match answered(silent, &mint, until, question).await {
                Some(proofs) if total(&proofs).0 == wanted => return Ok(Some(true)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
        Ok(Some(false))
    }

    async fn keysets_behind(&self, looks: &[Look], silent: &[MintUrl]) -> Vec<Arc<Vec<KeysetInfo>>> {
        let mut mints: Vec<&MintUrl> = Vec::new();
        for look in looks.iter().filter(|look| !look.states.is_empty()) {
            let mint = look.row.locked.as_ref().and_then(|locked| locked.mint.as_ref());
            mints.extend(mint.filter(|mint| !mints.contains(mint) && !silent.contains(mint)));
        }
        let mut all = Vec::new();
        for mint in mints {
            all.extend(self.0.mints.get(mint).keysets_anew(Urgency::Guest).await);
        }
        all
    }
}

/// The answer of a mint, unless it has kept us waiting before, or does now.
async fn answered<T>(
    silent: &mut Vec<MintUrl>,
    mint: &MintUrl,
    until: Instant,
    question: impl std::future::Future<Output = Result<T, EcashError>>,
) -> Option<T> {
    if silent.contains(mint) {
        return None;
    }
    match tokio::time::timeout_at(until, question).await {
        Ok(Ok(answer)) => Some(answer),
        failed => {
            if let Ok(Err(err)) = failed {
                log::warn!("vouchers: {mint} cannot be asked: {err}");
            }
            silent.push(mint.clone());
            None
        }
    }
}

fn age(row: &BehindRow, now: UnixSeconds) -> u64 {
    now.0.saturating_sub(row.changed_at.0)
}

fn evidence<'a>(look: &'a Look, keysets: &[Arc<Vec<KeysetInfo>>], now: UnixSeconds) -> Evidence<'a> {
    let worst = |state: &Option<ProofState>| match state {
        None => 3,
        Some(ProofState::Spent) => 2,
        Some(ProofState::Pending) => 1,
        Some(ProofState::Unspent) => 0,
    };
    let ends = |keyset: &KeysetInfo| {
        let end = keyset.terms.final_expiry.filter(|end| end.0 > 0);
        !keyset.active || end.is_some_and(|end| end.0 < now.0.saturating_add(SOON))
    };
    let is_ending = |(_, keyset): &(String, String)| {
        let id = KeysetId::parse(keyset);
        keysets.iter().flat_map(|all| all.iter()).any(|known| Some(known.id) == id && ends(known))
    };
    let locked = look.row.locked.as_ref();
    Evidence {
        state: &look.row.state,
        age: age(&look.row, now),
        locked: locked.map(|locked| locked.state),
        proofs: look.states.iter().max_by_key(|state| worst(state)).copied().flatten(),
        quote: look.quote,
        is_invoice_over: look.is_invoice_over,
        is_signed: look.is_signed,
        is_past_locktime: locked.is_some_and(|locked| locked.locktime < now),
        is_keyset_ending: look.row.proofs.iter().any(is_ending),
    }
}

fn judge(known: &Evidence) -> Compared {
    use Discrepancy::*;
    let is_stuck = known.age >= STUCK;
    let told = |found: Option<Discrepancy>, mint_state| Compared { found, mint_state, is_unknown: false };
    let unknown = |found| Compared { found, mint_state: "UNKNOWN", is_unknown: true };
    let proofs = match known.proofs {
        Some(ProofState::Unspent) => "UNSPENT",
        Some(ProofState::Pending) => "PENDING",
        Some(ProofState::Spent) => "SPENT",
        None => "UNKNOWN",
    };
    match known.locked {
        None => {
            let waits = matches!(known.state, "queued" | "minting" | "awaiting_payment");
            told((waits && is_stuck).then_some(PendingStuck), "UNKNOWN")
        }
        Some(LockedState::Planned) => told(is_stuck.then_some(PendingStuck), "PENDING"),
        Some(LockedState::Minting) => match known.is_signed {
            Some(true) => told(Some(IssuedNotStored), "ISSUED"),
            Some(false) => told(is_stuck.then_some(PendingStuck), "PENDING"),
            None => unknown(is_stuck.then_some(PendingStuck)),
        },
        Some(state @ (LockedState::Awaiting | LockedState::Failed)) => {
            let is_open = state == LockedState::Awaiting;
            match known.quote {
                Some(QuoteState::Paid) => told(Some(PaidNotMinted), "PAID"),
                Some(QuoteState::Issued) => told(Some(IssuedNotStored), "ISSUED"),
                Some(QuoteState::Unpaid) => {
                    told((is_open && known.is_invoice_over).then_some(UnpaidExpired), "UNPAID")
                }
                Some(QuoteState::Pending) => told(is_stuck.then_some(PendingStuck), "PENDING"),
                None if is_open => unknown(None),
                None => told(None, "UNKNOWN"),
            }
        }
        Some(LockedState::Ready) => match known.proofs {
            Some(ProofState::Spent) => told(Some(SpentElsewhere), proofs),
            Some(ProofState::Pending) => told(is_stuck.then_some(PendingStuck), proofs),
            Some(ProofState::Unspent) if known.is_past_locktime => told(Some(ExpiredUnclaimed), proofs),
            Some(ProofState::Unspent) => {
                let ends = known.is_keyset_ending && known.state == "ready";
                told(ends.then_some(KeysetExpiring), proofs)
            }
            None => unknown(None),
        },
        Some(LockedState::Taken) => {
            let found = if known.state == "refunded" { ExpiredUnclaimed } else { RedeemedNotSwapped };
            let is_just_done = known.proofs == Some(ProofState::Spent) && known.age < JUST_NOW;
            let compared = told((!is_just_done).then_some(found), proofs);
            Compared { is_unknown: known.proofs.is_none(), ..compared }
        }
        Some(LockedState::Swapped | LockedState::Lost) => told(None, "SPENT"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(known: Evidence) -> (Option<&'static str>, &'static str) {
        let compared = judge(&known);
        (compared.found.map(Discrepancy::as_str), compared.mint_state)
    }

    #[test]
    fn each_class_has_its_evidence() {
        let ready = Evidence { state: "ready", locked: Some(LockedState::Ready), ..Evidence::default() };
        let awaits = Evidence {
            state: "awaiting_payment",
            locked: Some(LockedState::Awaiting),
            ..Evidence::default()
        };
        let minting =
            Evidence { state: "minting", locked: Some(LockedState::Minting), ..Evidence::default() };
        let taken = Evidence { state: "redeemed", locked: Some(LockedState::Taken), ..Evidence::default() };
        let of = |state| Some(state);
        for (known, class, mint) in [
            (Evidence { quote: of(QuoteState::Paid), ..awaits }, "paid_not_minted", "PAID"),
            (
                Evidence { quote: of(QuoteState::Paid), locked: Some(LockedState::Failed), ..awaits },
                "paid_not_minted",
                "PAID",
            ),
            (Evidence { quote: of(QuoteState::Issued), ..awaits }, "issued_not_stored", "ISSUED"),
            (Evidence { is_signed: Some(true), ..minting }, "issued_not_stored", "ISSUED"),
            (Evidence { proofs: Some(ProofState::Spent), ..ready }, "spent_elsewhere", "SPENT"),
            (Evidence { proofs: Some(ProofState::Unspent), ..taken }, "redeemed_not_swapped", "UNSPENT"),
            (taken, "redeemed_not_swapped", "UNKNOWN"),
            (Evidence { is_signed: Some(false), age: 600, ..minting }, "pending_stuck", "PENDING"),
            (Evidence { proofs: Some(ProofState::Pending), age: 600, ..ready }, "pending_stuck", "PENDING"),
            (Evidence { state: "minting", age: 600, ..Evidence::default() }, "pending_stuck", "UNKNOWN"),
            (
                Evidence { proofs: Some(ProofState::Unspent), is_past_locktime: true, ..ready },
                "expired_unclaimed",
                "UNSPENT",
            ),
            (
                Evidence { proofs: Some(ProofState::Unspent), is_keyset_ending: true, ..ready },
                "keyset_expiring",
                "UNSPENT",
            ),
            (
                Evidence { quote: of(QuoteState::Unpaid), is_invoice_over: true, ..awaits },
                "unpaid_expired",
                "UNPAID",
            ),
        ] {
            assert_eq!(found(known), (Some(class), mint), "{known:?}");
        }
    }

    #[test]
    fn what_is_as_it_should_be_or_not_known_is_no_discrepancy() {
        let ready = Evidence { state: "ready", locked: Some(LockedState::Ready), ..Evidence::default() };
        assert_eq!(found(Evidence { proofs: Some(ProofState::Unspent), ..ready }), (None, "UNSPENT"));
        assert_eq!(found(ready), (None, "UNKNOWN"));
        assert!(judge(&ready).is_unknown, "its mint has not answered");
        let failed = Evidence { locked: Some(LockedState::Failed), ..ready };
        let unpaid = Evidence { quote: Some(QuoteState::Unpaid), is_invoice_over: true, ..failed };
        assert_eq!(found(unpaid), (None, "UNPAID"), "it is closed already");
        let swapped = Evidence { locked: Some(LockedState::Swapped), ..ready };
        assert_eq!(found(swapped), (None, "SPENT"));
    }
}
