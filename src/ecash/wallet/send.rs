//! Giving ecash out as a token, and keeping the proofs in few pieces of keysets that are in use.
//!
//! What was given out stays on record until the mint calls it spent: a token that was lost on its way can be shown
//! again, or taken back.

use super::exchange::points;
use super::own::{states, sum, Purse, WalletError, MOST_INPUTS};
use super::Wallet;
use crate::config::MintUrl;
use crate::ecash::mint::Urgency;
use crate::ecash::token;
use crate::ecash::wire::ProofState;
use crate::store::{Begun, NewOp, OpKind, OpRow, ProofKey, ProofRow};
use crate::units::{Millis, Sats};
use std::sync::Arc;

/// Each sale leaves a handful of small proofs; so many of one mint are kept before the smallest are joined.
const MANY_PROOFS: usize = 256;
const JOINED_AT_ONCE: usize = 100;

/// A token that was given out and not seen spent.
#[derive(Clone)]
pub struct Sent {
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
    ) -> Result<Sent, WalletError> {
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
            if let Some(rows) = purse.exactly(amount) {
                return self.give_out(rows, amount, &mint, old_form).await;
            }
            let rows = purse.at_least(amount).ok_or(WalletError::Insufficient(purse.total()))?;
            self.trade(&purse, rows, |keyset, net| {
                let mut amounts = keyset.split(amount)?;
                match net.0.checked_sub(amount.0)? {
                    0 => {}
                    rest => amounts.extend(keyset.split(Sats(rest))?),
                }
                Some(amounts)
            })
            .await?;
        }
    }

    async fn give_out(
        &self,
        rows: Vec<ProofRow>,
        amount: Sats,
        mint: &MintUrl,
        old_form: bool,
    ) -> Result<Sent, WalletError> {
        let begun = self
            .0
            .store
            .op_begin(NewOp {
                kind: OpKind::Send,
                mint: mint.clone(),
                reference: None,
                amount,
                token: None,
                spends: rows.iter().map(|row| row.key).collect(),
                outputs: None,
                quote: None,
                grant: None,
            })
            .await?;
        let Begun::New(op) = begun else { return Err(WalletError::NotFound) };
        log::info!("wallet: {amount} sat of {mint} sent as a token");
        self.shown(op, &rows, old_form).await
    }

    async fn shown(&self, op: OpRow, rows: &[ProofRow], old_form: bool) -> Result<Sent, WalletError> {
        let proofs = self.derive(rows).await?;
        let token = match old_form {
            true => token::encode_v3(&op.mint, super::offer::UNIT, &proofs),
            false => token::encode(&op.mint, super::offer::UNIT, &proofs),
        };
        Ok(Sent { id: op.id, mint: op.mint, amount: op.amount, sent_at: op.created, token })
    }

    /// Tokens that were given out; those that the mints call spent are struck off first.
    pub async fn sent(&self) -> Result<Vec<Sent>, WalletError> {
        let mut waiting = Vec::new();
        for op in self.0.store.open_ops().await?.into_iter().filter(|op| op.kind == OpKind::Send) {
            let rows = self.0.store.held_proofs(op.id).await?;
            let spent = self.spent_now(&op, &rows).await.unwrap_or_default();
            match spent.len() == rows.len() {
                true => self.0.store.op_done(op.id, None, None).await.map(drop)?,
                false => waiting.push(self.shown(op, &rows, false).await?),
            }
        }
        Ok(waiting)
    }

    /// Takes back a token that nobody has spent; answers what came back.
    pub async fn take_back(&self, id: i64) -> Result<Sats, WalletError> {
        let _alone = self.0.spending.lock().await;
        let open = self.0.store.open_ops().await?;
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
        let states = states(&mint, ys, Urgency::Guest).await?;
        let spent = rows.iter().zip(states).filter(|(_, state)| *state == ProofState::Spent);
        Ok(spent.map(|(row, _)| row.key).collect())
    }

    async fn richest(&self) -> Result<MintUrl, WalletError> {
        let balances = self.balances().await?;
        let most = balances.into_iter().max_by_key(|balance| balance.free);
        most.map(|balance| balance.mint).ok_or(WalletError::Insufficient(Sats(0)))
    }

    /// Once an hour: strikes off what was spent, trades proofs of retired keysets, and joins small ones.
    pub async fn tidy(&self) {
        if let Err(err) = self.sent().await {
            log::warn!("wallet: {err}");
        }
        for balance in self.balances().await.unwrap_or_default() {
            let _alone = self.0.spending.lock().await;
            let traded = async {
                let purse = self.purse(&balance.mint).await?;
                match worth_trading(&purse) {
                    Some(rows) => self.trade(&purse, rows, |keyset, net| keyset.split(net)).await,
                    None => Ok(()),
                }
            };
            if let Err(err) = traded.await {
                log::warn!("wallet: {}: proofs are not traded: {err}", balance.mint);
            }
        }
    }
}

/// Proofs that had better be others, where the fee is not half of their worth.
fn worth_trading(purse: &Purse) -> Option<Vec<ProofRow>> {
    let retired = purse.rows.iter().filter(|row| purse.is_retired(row)).take(MOST_INPUTS);
    let mut rows: Vec<ProofRow> = retired.cloned().collect();
    if rows.is_empty() && purse.rows.len() > MANY_PROOFS {
        rows = purse.rows.iter().rev().take(JOINED_AT_ONCE).cloned().collect();
    }
    (!rows.is_empty() && purse.fee(&rows).0 < sum(&rows).0 / 2).then_some(rows)
}
