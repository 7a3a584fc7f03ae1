//! Spending our own proofs: which ones, and trading them for others.
//!
//! Proofs of keysets that the mint has retired go first, so that none is left when their keyset ends.

use super::exchange::{points, Exchange};
use super::receive::{NewsReceiver, Received, Teller};
use super::{Refusal, Wallet};
use crate::config::{MintUrl, Tenant};
use crate::ecash::error::EcashError;
use crate::ecash::keyset::{Keyset, KeysetId};
use crate::ecash::mint::{Mint, Urgency};
use crate::ecash::outputs::Proof;
use crate::ecash::wire::{KeysetInfo, ProofState};
use crate::ecash::{curve::PublicKey, retry};
use crate::store::{Begun, LockedRow, NewOp, OpKind, OpRow, ProofKey, ProofRow, PurseName, StoreError};
use crate::task;
use crate::units::Sats;
use std::cmp::Reverse;
use std::sync::Arc;

/// Inputs whose fee is reserved.
const INPUTS: u64 = 16;
/// Inputs of one request; mints take a thousand at most.
pub(super) const MOST_INPUTS: usize = 200;

/// Why something could not be done with our own ecash. No money is lost by any of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalletError {
    #[error("no mint holds that much; {0} sat can be spent at one")]
    Insufficient(Sats),
    /// It is not the operator's to spend.
    #[error("{}; nothing was sent", StoreError::Promised(*.0))]
    Promised(Sats),
    #[error("there is no such token; 'tollgated wallet sent' lists those that nobody has spent")]
    NotFound,
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("{}", .0.of_sending())]
    NotSent(Refusal),
    #[error(
        "the mint has not answered in time; what became of it is being found out, look again in a minute"
    )]
    NotKnownYet,
    /// Proofs were to be changed, so that the amount could be sent.
    #[error(
        "the mint has not answered in time; nothing was sent. What it has not answered for is held until it does, and \
         comes back by itself: try again in a minute"
    )]
    ChangeNotKnownYet,
    #[error("the wallet cannot be used: {0}")]
    Store(&'static str),
    #[error("the mint wants a fee of {0} sat")]
    FeeTooHigh(Sats),
    #[error("{0}")]
    Mint(String),
}

impl From<StoreError> for WalletError {
    fn from(error: StoreError) -> WalletError {
        if let StoreError::Promised(promised) = error {
            return WalletError::Promised(promised);
        }
        log::error!("wallet: {error}");
        WalletError::Store(error.code())
    }
}

impl WalletError {
    /// The same where ecash was to be sent.
    pub fn of_sending(self) -> WalletError {
        match self {
            WalletError::Refused(refusal) => WalletError::NotSent(refusal),
            WalletError::NotKnownYet => WalletError::ChangeNotKnownYet,
            WalletError::Mint(why) => WalletError::Mint(format!("{why}; nothing was sent")),
            other => other,
        }
    }
}

impl From<EcashError> for WalletError {
    fn from(error: EcashError) -> WalletError {
        WalletError::Mint(error.to_string())
    }
}

/// The free proofs of a mint, those to be spent first in front.
pub(super) struct Purse {
    pub mint: Mint,
    pub rows: Vec<ProofRow>,
    listed: Arc<Vec<KeysetInfo>>,
}

impl Purse {
    /// What the mint takes for spending these together (NUT-02).
    pub fn fee(&self, rows: &[ProofRow]) -> Sats {
        Sats(self.ppk(rows).div_ceil(1000))
    }

    /// The same in thousandths of a sat, not rounded.
    pub fn ppk(&self, rows: &[ProofRow]) -> u64 {
        let ppk = |row: &ProofRow| self.keyset(row).map_or(0, |keyset| keyset.terms.input_fee_ppk);
        rows.iter().map(ppk).fold(0, u64::saturating_add)
    }

    /// Proofs that make exactly `amount`. Amounts are powers of two, so taking the largest that fit finds them.
    pub fn exactly(&self, amount: Sats) -> Option<Vec<ProofRow>> {
        let mut by_size: Vec<&ProofRow> = self.rows.iter().collect();
        by_size.sort_by_key(|row| Reverse(row.amount));
        let mut rest = amount.0;
        let mut taken = Vec::new();
        for row in by_size {
            if let Some(left) = rest.checked_sub(row.amount.0) {
                rest = left;
                taken.push(row.clone());
            }
        }
        (rest == 0 && taken.len() <= MOST_INPUTS).then_some(taken)
    }

    /// Proofs that are worth `amount` and the fee for spending them, or more.
    pub fn at_least(&self, amount: Sats) -> Option<Vec<ProofRow>> {
        let mut taken: Vec<ProofRow> = Vec::new();
        for row in self.rows.iter().take(MOST_INPUTS) {
            taken.push(row.clone());
            if self.net(&taken) >= amount {
                return Some(taken);
            }
        }
        None
    }

    /// The smallest proofs, as many as one request takes.
    pub fn smallest(&self) -> Vec<ProofRow> {
        let mut by_size: Vec<&ProofRow> = self.rows.iter().collect();
        by_size.sort_by_key(|row| row.amount);
        by_size.into_iter().take(MOST_INPUTS).cloned().collect()
    }

    /// What is left of these when they are spent.
    pub fn net(&self, rows: &[ProofRow]) -> Sats {
        Sats(sum(rows).0.saturating_sub(self.fee(rows).0))
    }

    pub fn is_retired(&self, row: &ProofRow) -> bool {
        self.keyset(row).is_some_and(|keyset| !keyset.active)
    }

    fn keyset(&self, row: &ProofRow) -> Option<&KeysetInfo> {
        let id = KeysetId::parse(&row.keyset)?;
        self.listed.iter().find(|keyset| keyset.id == id)
    }
}

#[cfg(test)]
impl Purse {
    /// Proofs of these amounts, of one keyset.
    pub fn of(amounts: &[u64], input_fee_ppk: u64) -> Purse {
        use crate::{calls::Tls, clock::Clock, ecash::keyset::KeysetTerms, ecash::mints::Mints};
        let url = MintUrl::parse("https://mint.example").unwrap();
        let events = tokio::sync::mpsc::channel(1).0;
        let mint = Mints::new(Tls::new(None).unwrap(), Clock::machine(), events).get(&url);
        let keyset = "00aabbccddeeff00";
        let row = |(counter, amount): (u32, &u64)| ProofRow {
            key: ProofKey::of(counter),
            mint: url.clone(),
            keyset: keyset.to_owned(),
            counter,
            amount: Sats(*amount),
            c: Vec::new(),
        };
        let terms = KeysetTerms { unit: "sat".to_owned(), input_fee_ppk, final_expiry: None };
        let listed = KeysetInfo { id: KeysetId::parse(keyset).unwrap(), terms, active: true };
        Purse { mint, rows: (0..).zip(amounts).map(row).collect(), listed: Arc::new(vec![listed]) }
    }
}

impl Wallet {
    /// What a mint takes at most for the proofs of one payment.
    pub async fn spending_fee(&self, mint: &MintUrl) -> Result<Sats, EcashError> {
        let keysets = self.0.mints.get(mint).keysets(Urgency::Guest).await?;
        let most = keysets.iter().map(|keyset| keyset.terms.input_fee_ppk).max().unwrap_or_default();
        Ok(Sats(most.saturating_mul(INPUTS).div_ceil(1000)))
    }

    /// What stays in the takings, beside what was promised of them, whatever is spent.
    pub(super) async fn kept(&self, mint: &MintUrl) -> Result<Option<Sats>, EcashError> {
        match self.0.purse {
            PurseName::House => self.spending_fee(mint).await.map(Some),
            PurseName::Balances => Ok(None),
        }
    }

    pub(super) async fn purse(&self, mint: &MintUrl) -> Result<Purse, WalletError> {
        let rows = self.0.store.free_proofs(self.0.purse, mint).await?;
        let mint = self.0.mints.get(mint);
        let listed = mint.keysets(Urgency::Guest).await?;
        let mut purse = Purse { mint, rows: Vec::new(), listed };
        let mut rows: Vec<(bool, ProofRow)> =
            rows.into_iter().map(|row| (!purse.is_retired(&row), row)).collect();
        rows.sort_by_key(|(active, row)| (*active, Reverse(row.amount)));
        purse.rows = rows.into_iter().map(|(_, row)| row).collect();
        Ok(purse)
    }

    /// Where `amount` lies in more proofs than one request takes: trades the smallest of them for few.
    pub(super) async fn join_towards(&self, purse: &Purse, amount: Sats) -> Result<(), WalletError> {
        let (all, rows) = (purse.net(&purse.rows), purse.smallest());
        if purse.rows.len() <= MOST_INPUTS || all < amount || !self.are_fewer_joined(purse, &rows).await? {
            return Err(WalletError::Insufficient(all));
        }
        // Together with the others they make the amount, which then needs no further fee.
        let others = Sats(sum(&purse.rows).0.saturating_sub(sum(&rows).0));
        let missing = Sats(amount.0.saturating_sub(others.0));
        self.trade(purse, rows, |keyset, net| parted(keyset, net, missing)).await
    }

    /// Whether these make at most half as many when they are joined. The largest that a mint issues do not.
    pub(super) async fn are_fewer_joined(
        &self,
        purse: &Purse,
        rows: &[ProofRow],
    ) -> Result<bool, WalletError> {
        let keyset = purse.mint.active_keyset(Urgency::Guest).await?;
        let joined = keyset.split(purse.net(rows));
        Ok(joined.is_some_and(|joined| !joined.is_empty() && joined.len() <= rows.len() / 2))
    }

    /// Trades proofs of ours for others that are worth what is left of them; `split` says in which amounts, given the
    /// keyset and their worth.
    pub(super) async fn trade(
        &self,
        purse: &Purse,
        rows: Vec<ProofRow>,
        split: impl FnOnce(&Keyset, Sats) -> Option<Vec<Sats>>,
    ) -> Result<(), WalletError> {
        let keyset = purse.mint.active_keyset(Urgency::Guest).await?;
        let net = purse.net(&rows);
        let amounts = split(&keyset, net).ok_or(EcashError::AmountNotPossible)?;
        let begun = self
            .0
            .store
            .op_begin(NewOp {
                spends: rows.iter().map(|row| row.key).collect(),
                outputs: Some((keyset.id().to_string(), amounts.iter().map(|amount| amount.0).collect())),
                ..NewOp::new(OpKind::Swap, self.0.purse, purse.mint.url().clone(), net)
            })
            .await?;
        let Begun::New(op) = begun else { return Err(WalletError::NotFound) };
        let news = self.launch_trade(op, rows, None, Urgency::Guest);
        match self.wait_for(news, true).await {
            Received::Done { .. } => Ok(()),
            Received::Refused(refusal) => Err(refusal.into()),
            Received::Unknown | Received::InFlight => Err(WalletError::NotKnownYet),
        }
    }

    /// Takes up a trade from before this start.
    pub(super) async fn resume_trade(&self, op: OpRow) -> Result<(), StoreError> {
        let rows = self.0.store.held_proofs(op.id).await?;
        self.launch_trade(op, rows, None, Urgency::Background);
        Ok(())
    }

    /// `locking`: the vouchers that what comes back is to stand behind.
    pub(super) fn launch_trade(
        &self,
        op: OpRow,
        rows: Vec<ProofRow>,
        locking: Option<(Tenant, Vec<LockedRow>)>,
        urgency: Urgency,
    ) -> NewsReceiver {
        let (name, mint, wallet) = (format!("op:{}", op.id), op.mint.clone(), self.clone());
        self.launch(&mut self.running(), name, mint, |teller| async move {
            match wallet.derive(&rows).await {
                Ok(inputs) => {
                    let mint = wallet.0.mints.get(&op.mint);
                    let mut swap = match urgency {
                        Urgency::Guest => Exchange::new(op, mint, inputs),
                        Urgency::Background => Exchange::resumed(op, mint, inputs, wallet.0.store.now()),
                    };
                    swap.locking = locking;
                    if let Err(err) = wallet.add_locked_inputs(&mut swap).await {
                        // Nothing was sent; the next start tries again.
                        log::error!("wallet: {err}");
                        return Received::Unknown;
                    }
                    match swap.locking.is_some() {
                        true => wallet.bring_locking_about(&mut swap, &rows, urgency, &teller).await,
                        false => wallet.bring_trade_about(&mut swap, &rows, urgency, &teller).await,
                    }
                }
                Err(err) => {
                    // Nothing was sent; the next start tries again.
                    log::error!("wallet: {err}");
                    Received::Unknown
                }
            }
        })
    }

    async fn bring_trade_about(
        &self,
        swap: &mut Exchange,
        rows: &[ProofRow],
        urgency: Urgency,
        teller: &Teller,
    ) -> Received {
        match self.bring_about(swap, urgency, &teller.wake, |pause| teller.tell(pause)).await {
            Ok(proofs) => {
                self.keep(swap.op.id, &swap.op.mint, &proofs).await;
                Received::Done { net: swap.op.amount, session: None }
            }
            Err(refusal) => {
                let spent = match refusal {
                    Refusal::Spent => self.spent_of(&swap.mint, &swap.inputs, rows).await,
                    _ => Vec::new(),
                };
                self.give_up(swap.op.id, spent, &refusal.to_string()).await;
                Received::Refused(refusal)
            }
        }
    }

    /// Which of these proofs of ours the mint calls spent; asks until it is told.
    pub(super) async fn spent_of(
        &self,
        mint: &Mint,
        proofs: &Arc<Vec<Proof>>,
        rows: &[ProofRow],
    ) -> Vec<ProofKey> {
        let mut attempts = 0usize;
        loop {
            let asked = match points(proofs.clone()).await {
                Ok(ys) => proof_states(mint, ys, Urgency::Background).await,
                Err(err) => Err(err),
            };
            match asked {
                Ok(states) => {
                    let spent = rows.iter().zip(states).filter(|(_, state)| *state == ProofState::Spent);
                    let spent: Vec<ProofKey> = spent.map(|(row, _)| row.key).collect();
                    log::warn!("wallet: {}: {} of our proofs were spent elsewhere", mint.url(), spent.len());
                    return spent;
                }
                Err(err) => log::warn!("wallet: {}: {err}", mint.url()),
            }
            tokio::time::sleep(retry::pause(attempts)).await;
            attempts = attempts.saturating_add(1);
        }
    }

    /// Proofs with their secrets.
    pub(super) async fn derive(&self, rows: &[ProofRow]) -> Result<Vec<Proof>, EcashError> {
        let (seed, rows) = (self.0.seed.clone(), rows.to_vec());
        let derived = task::blocking(move || {
            let one = |row: &ProofRow| {
                let keyset = KeysetId::parse(&row.keyset).ok_or(EcashError::KeysetInactive)?;
                let (secret, _) = seed.secret(&keyset, row.counter)?;
                let c = PublicKey::from_bytes(&row.c).ok_or(EcashError::Malformed("a proof of the store"))?;
                Ok(Proof {
                    counter: Some(row.counter),
                    keyset,
                    amount: row.amount,
                    secret,
                    c,
                    dleq: None,
                    witness: None,
                })
            };
            rows.iter().map(one).collect()
        });
        derived.await.map_err(|_| EcashError::Busy)?
    }
}

/// NUT-07, in as many questions as it takes.
pub(super) async fn proof_states(
    mint: &Mint,
    ys: Vec<PublicKey>,
    urgency: Urgency,
) -> Result<Vec<ProofState>, EcashError> {
    let mut all = Vec::with_capacity(ys.len());
    for some in ys.chunks(MOST_INPUTS) {
        all.extend(mint.proof_states(some.to_vec(), urgency).await?);
    }
    Ok(all)
}

/// The amounts that are worth `net`, some of which are worth `part`; all of `net` where that is less.
pub(super) fn parted(keyset: &Keyset, net: Sats, part: Sats) -> Option<Vec<Sats>> {
    let part = part.min(net);
    let mut amounts = Vec::new();
    for some in [part, Sats(net.0.checked_sub(part.0)?)].into_iter().filter(|some| *some > Sats(0)) {
        amounts.extend(keyset.split(some)?);
    }
    Some(amounts)
}

pub(super) fn sum(rows: &[ProofRow]) -> Sats {
    Sats(rows.iter().map(|row| row.amount.0).fold(0, u64::saturating_add))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_sending_speaks_of_sending() {
        for refusal in [
            Refusal::MintAway,
            Refusal::MintBusy,
            Refusal::TooMany,
            Refusal::MintRefuses,
            Refusal::TermsChanged,
        ] {
            let said = WalletError::Refused(refusal).of_sending().to_string();
            assert!(said.contains("nothing was sent") && !said.contains("token"), "{said}");
        }
        let lost = WalletError::NotKnownYet.of_sending().to_string();
        assert!(lost.contains("nothing was sent") && !lost.contains("what became of it"), "{lost}");
        let away = WalletError::Refused(Refusal::MintAway).of_sending();
        assert_eq!(away.to_string(), "the mint cannot be reached; nothing was sent");
    }
}
