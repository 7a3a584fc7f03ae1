//! Giving ecash out as a token, and keeping the proofs in few pieces of keysets that are in use.
//!
//! What was given out stays on record until the mint calls it spent: a token that was lost on its way can be shown
//! again, or taken back.

use super::exchange::points;
use super::offer::MAX_PROOFS;
use super::own::{parted, proof_states, sum, Purse, WalletError, MOST_INPUTS};
use super::Wallet;
use crate::config::MintUrl;
use crate::ecash::mint::Urgency;
use crate::ecash::outputs::Proof;
use crate::ecash::token;
use crate::ecash::wire::ProofState;
use crate::store::{Balance, Begun, Known, NewOp, OpKind, OpRow, ProofKey, ProofRow, Reference};
use crate::units::{Millis, Msats, Sats};
use std::sync::Arc;

/// Each sale leaves a handful of small proofs. More of one mint than this are joined when no payment is under way and
/// the mint wants (next to) nothing for it; more than that at any time.
const SOME_PROOFS: usize = 64;
const MANY_PROOFS: usize = 256;
/// Where nothing presses, joining may cost one part in this many of what is joined.
const SMALL_FEE: u64 = 50;
/// Requests of one round, which begins anew every hour.
const MOST_TRADES: usize = 16;

/// A token that was given out and not seen spent.
#[derive(Clone)]
pub struct SentToken {
    pub id: i64,
    pub mint: MintUrl,
    pub amount: Sats,
    pub sent_at: Millis,
    pub token: String,
}

impl Wallet {
    /// Makes a token over `amount`, of this mint or of the one that holds most. Its receiver pays the mint's fee for
    /// taking it. `old_form`: as `cashuA`.
    pub async fn send(
        &self,
        amount: Sats,
        mint: Option<&MintUrl>,
        old_form: bool,
    ) -> Result<SentToken, WalletError> {
        self.send_for(None, amount, mint, old_form).await
    }

    /// The same under a name, by which it is found again; with a cost, what was reserved of a balance under this name is spent.
    pub async fn send_for(
        &self,
        named: Option<(&str, Option<Msats>)>,
        amount: Sats,
        mint: Option<&MintUrl>,
        old_form: bool,
    ) -> Result<SentToken, WalletError> {
        let _alone = self.0.spending.lock().await;
        let mint = match mint {
            Some(mint) => mint.clone(),
            None => self.richest().await?,
        };
        if amount == Sats(0) {
            return Err(WalletError::NotFound);
        }
        loop {
            let purse = self.purse(&mint).await?;
            let exactly = purse.exactly(amount);
            // No more than we would take ourselves, if that can be had.
            if let Some(rows) = exactly.clone().filter(|rows| rows.len() <= MAX_PROOFS) {
                return self.give_out(named, rows, amount, &mint, old_form).await;
            }
            if let Some(rows) = purse.at_least(amount) {
                self.trade(&purse, rows, |keyset, net| parted(keyset, net, amount)).await?;
            } else if let Some(rows) = exactly {
                return self.give_out(named, rows, amount, &mint, old_form).await;
            } else {
                self.join_towards(&purse, amount).await?;
            }
        }
    }

    async fn give_out(
        &self,
        named: Option<(&str, Option<Msats>)>,
        mut rows: Vec<ProofRow>,
        amount: Sats,
        mint: &MintUrl,
        old_form: bool,
    ) -> Result<SentToken, WalletError> {
        in_order(&mut rows);
        // What can fail without the store comes first: once it is journaled, it is sent.
        let proofs = self.derive(&rows).await?;
        // What has a name of ours goes to the balances, which were promised it.
        let keeps = if named.is_none() { self.kept(mint).await? } else { None };
        let begun = self
            .0
            .store
            .op_begin(NewOp {
                reference: named.map(|(name, _)| Reference::Balance(name.to_owned())),
                spends: rows.iter().map(|row| row.key).collect(),
                keeps,
                settles: named.and_then(|(name, cost)| Some((name.to_owned(), cost?))),
                ..NewOp::new(OpKind::Send, self.0.purse, mint.clone(), amount)
            })
            .await?;
        let Begun::New(op) = begun else { return Err(WalletError::NotFound) };
        log::info!("wallet: {amount} sat of {mint} sent as a token");
        Ok(written(op, &proofs, old_form))
    }

    async fn shown(&self, op: OpRow, rows: &[ProofRow]) -> Result<SentToken, WalletError> {
        let mut rows = rows.to_vec();
        in_order(&mut rows);
        let proofs = self.derive(&rows).await?;
        Ok(written(op, &proofs, false))
    }

    /// The token that was given out under this name. `None`: there was none, or somebody has taken it.
    pub async fn sent_for(&self, name: &str) -> Result<Option<SentToken>, WalletError> {
        let known = self.0.store.op_known(Reference::Balance(name.to_owned())).await?;
        let Some(Known::Open(op)) = known else { return Ok(None) };
        let rows = self.0.store.held_proofs(op.id).await?;
        Ok(Some(self.shown(op, &rows).await?))
    }

    /// Tokens that were given out under names that begin like this.
    pub async fn sent_under(&self, prefix: &str) -> Result<Vec<SentToken>, WalletError> {
        let mut found = Vec::new();
        for op in self.0.store.open_ops(self.0.purse).await? {
            let is_named =
                matches!(&op.reference, Some(Reference::Balance(name)) if name.starts_with(prefix));
            if is_named && op.kind == OpKind::Send {
                let rows = self.0.store.held_proofs(op.id).await?;
                found.push(self.shown(op, &rows).await?);
            }
        }
        Ok(found)
    }

    /// Tokens that were given out; those that the mints call spent are struck off first.
    pub async fn sent(&self) -> Result<Vec<SentToken>, WalletError> {
        let mut waiting = Vec::new();
        for op in self.0.store.open_ops(self.0.purse).await?.into_iter().filter(|op| op.kind == OpKind::Send)
        {
            let rows = self.0.store.held_proofs(op.id).await?;
            let spent = self.spent_now(&op, &rows).await.unwrap_or_default();
            match spent.len() == rows.len() {
                true => self.0.store.op_done(op.id, None, None).await.map(drop)?,
                false => waiting.push(self.shown(op, &rows).await?),
            }
        }
        Ok(waiting)
    }

    /// Takes back an unspent token; returns what came back.
    pub async fn take_back(&self, id: i64) -> Result<Sats, WalletError> {
        let _alone = self.0.spending.lock().await;
        let open = self.0.store.open_ops(self.0.purse).await?;
        let op = open.into_iter().find(|op| op.id == id && op.kind == OpKind::Send);
        let op = op.ok_or(WalletError::NotFound)?;
        let rows = self.0.store.held_proofs(id).await?;
        let spent = self.spent_now(&op, &rows).await?;
        self.0.store.op_failed(id, spent.clone(), String::new()).await?;
        let rows: Vec<ProofRow> = rows.into_iter().filter(|row| !spent.contains(&row.key)).collect();
        if rows.is_empty() {
            return Err(super::Refusal::Spent.into());
        }
        let purse = self.purse(&op.mint).await?;
        let net = purse.net(&rows);
        self.trade(&purse, rows, |keyset, net| keyset.split(net)).await?;
        Ok(net)
    }

    async fn spent_now(&self, op: &OpRow, rows: &[ProofRow]) -> Result<Vec<ProofKey>, WalletError> {
        let mint = self.0.mints.get(&op.mint);
        let ys = points(Arc::new(self.derive(rows).await?)).await?;
        let states = proof_states(&mint, ys, Urgency::Guest).await?;
        let spent = rows.iter().zip(states).filter(|(_, state)| *state == ProofState::Spent);
        Ok(spent.map(|(row, _)| row.key).collect())
    }

    pub(super) async fn richest(&self) -> Result<MintUrl, WalletError> {
        let balances = self.balances().await?;
        let sats = |balance: Balance| Some((Sats::try_from(balance.free).ok()?, balance.mint));
        let most = balances.into_iter().filter_map(sats).max_by_key(|(free, _)| *free);
        most.map(|(_, mint)| mint).ok_or(WalletError::Insufficient(Sats(0)))
    }

    /// Once an hour: strikes off what was spent, trades proofs of retired keysets, and joins small ones.
    pub async fn tidy(&self) {
        if let Err(err) = self.sent().await {
            log::warn!("wallet: {err}");
        }
        for balance in self.balances().await.unwrap_or_default() {
            for _ in 0..MOST_TRADES {
                match self.trade_some(&balance.mint).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(err) => {
                        log::warn!("wallet: {}: proofs are not traded: {err}", balance.mint);
                        break;
                    }
                }
            }
        }
    }

    /// Whether there was something to trade.
    async fn trade_some(&self, mint: &MintUrl) -> Result<bool, WalletError> {
        let _alone = self.0.spending.lock().await;
        let purse = self.purse(mint).await?;
        let is_quiet = self.running().is_empty();
        let Some(rows) = worth_trading(&purse, is_quiet) else { return Ok(false) };
        let are_retired = rows.iter().all(|row| purse.is_retired(row));
        if !are_retired && !self.are_fewer_joined(&purse, &rows).await? {
            return Ok(false);
        }
        self.trade(&purse, rows, |keyset, net| keyset.split(net)).await.map(|()| true)
    }
}

/// A token that is shown again is the same text.
fn in_order(rows: &mut [ProofRow]) {
    rows.sort_by(|one, other| (&one.keyset, one.counter).cmp(&(&other.keyset, other.counter)));
}

fn written(op: OpRow, proofs: &[Proof], old_form: bool) -> SentToken {
    let token = match old_form {
        true => token::encode_v3(&op.mint, super::offer::UNIT, proofs),
        false => token::encode(&op.mint, super::offer::UNIT, proofs),
    };
    SentToken { id: op.id, mint: op.mint, amount: op.amount, sent_at: op.created, token }
}

/// Proofs that are better traded for others.
fn worth_trading(purse: &Purse, is_quiet: bool) -> Option<Vec<ProofRow>> {
    let retired: Vec<ProofRow> =
        purse.rows.iter().filter(|row| purse.is_retired(row)).take(MOST_INPUTS).cloned().collect();
    if !retired.is_empty() && purse.fee(&retired).0 < sum(&retired).0 / 2 {
        return Some(retired);
    }
    let rows = purse.smallest();
    let (fee, worth) = (purse.fee(&rows).0, sum(&rows).0);
    let is_worth_it = match purse.rows.len() {
        some if some <= SOME_PROOFS => false,
        many if many <= MANY_PROOFS => is_quiet && fee <= worth / SMALL_FEE,
        _ => fee < worth / 2,
    };
    is_worth_it.then_some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traded(small: usize, ppk: u64, is_quiet: bool) -> Option<usize> {
        worth_trading(&Purse::of(&vec![8; small], ppk), is_quiet).map(|rows| rows.len())
    }

    #[tokio::test]
    async fn small_proofs_are_joined_when_nothing_is_under_way_and_many_at_any_time() {
        assert_eq!((traded(64, 0, true), traded(65, 0, true)), (None, Some(65)));
        assert_eq!((traded(256, 0, false), traded(257, 0, false)), (None, Some(MOST_INPUTS)));
    }

    #[tokio::test]
    async fn what_joining_costs_is_weighed() {
        assert_eq!(
            (traded(100, 100, true), traded(100, 200, true)),
            (Some(100), None),
            "10 and 20 sat of 800"
        );
        assert_eq!((traded(300, 200, true), traded(300, 4000, true)), (Some(MOST_INPUTS), None));
    }

    #[tokio::test]
    async fn the_smallest_are_joined_first() {
        let purse = Purse::of(&[vec![64; 150], vec![1; 150]].concat(), 0);
        let rows = worth_trading(&purse, false).unwrap();
        assert_eq!(sum(&rows), Sats(150 + 50 * 64));
    }
}
