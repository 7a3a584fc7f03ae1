//! What Daraja tells of a payout: its result, that it took too long, or its state, where that was asked for. Each comes to a path of
//! its own, which nobody else was told; what does not fit the payout is no result.

use super::times::RESENDING;
use super::{MpesaEngine, PayoutEnd};
use crate::fiat::PayoutResult;
use crate::sale::mpesa::Heard;
use crate::store::{PayoutKind, PayoutRow, PayoutState, StoreError};
use crate::units::{Kes, Millis};
use std::cmp::Ordering;

/// What is called at a path.
pub const RESULT: &str = "result";
pub const TIMEOUT: &str = "timeout";
pub const STATUS: &str = "status";

/// The short code is empty.
const NO_FUNDS: &str = "1";
/// Daraja has seen it before: no end of this one.
const DUPLICATE: &str = "15";

/// Codes after which no payout works until the operator has done something.
pub fn stops_payouts(code: &str) -> bool {
    matches!(code, "21" | "2001" | "8006")
}

impl MpesaEngine {
    /// Durable when this returns.
    pub(in crate::sale::mpesa) async fn heard_of_payout(
        &self,
        token_hash: String,
        body: &[u8],
    ) -> Result<Heard, StoreError> {
        let called = self.0.terms.store.payout_called(token_hash).await?;
        let Some((row, what)) = called else { return Ok(Heard::Unknown) };
        let told = PayoutResult::read(body);
        match (what.as_str(), told) {
            (RESULT, Some(told)) if is_of(&told, &row) => self.take_result(&row, told).await?,
            (STATUS, Some(told)) if is_of(&told, &row) => self.take_state(&row, told).await?,
            // Its outcome is not known, whatever the notice says: it is asked for.
            (TIMEOUT, _) => {
                self.0.terms.store.payout_overdue(row.id.clone()).await?;
                self.follow_payout_if_open(&row);
            }
            _ => log::warn!("payout {}: a call that is no {what} of it", row.id),
        }
        Ok(Heard::Known)
    }

    async fn take_result(&self, row: &PayoutRow, told: PayoutResult) -> Result<(), StoreError> {
        if told.code == DUPLICATE {
            self.0.terms.store.payout_overdue(row.id.clone()).await?;
            self.follow_payout_if_open(row);
            return Ok(());
        }
        if told.code == "0" {
            return self.is_paid(row, &told).await;
        }
        if told.code == NO_FUNDS {
            self.line().funds = None;
        }
        if self.end_payout(row, PayoutEnd::Failed(told.code.clone())).await? && stops_payouts(&told.code) {
            self.pause_payouts(format!("Daraja answers {} to a payout", told.code));
        }
        Ok(())
    }

    async fn take_state(&self, row: &PayoutRow, told: PayoutResult) -> Result<(), StoreError> {
        match (told.code.as_str(), told.status.as_str()) {
            ("0", "completed") => self.is_paid(row, &told).await,
            ("0", "failed" | "declined" | "cancelled" | "expired") => {
                self.end_payout(row, PayoutEnd::Failed(told.status)).await.map(drop)
            }
            // It is not known yet, or the question was refused.
            _ => Ok(()),
        }
    }

    async fn is_paid(&self, row: &PayoutRow, told: &PayoutResult) -> Result<(), StoreError> {
        if told.amount.is_some_and(|amount| amount != row.amount) {
            log::error!("payout {}: a result of another amount is not believed", row.id);
            return Ok(());
        }
        match row.state {
            PayoutState::Refunded => {
                log::error!(
                    "payout {}: {} KES were paid although it had failed: see 'fiat ledger'",
                    row.id,
                    row.amount
                )
            }
            PayoutState::Paid | PayoutState::Failed => {}
            _ => self.note_funds(row, told),
        }
        self.end_payout(row, PayoutEnd::Paid { receipt: told.receipt.clone() }).await.map(drop)
    }

    /// What is at the short code now that this is paid: noted before it ends, so that it is counted twice rather than not at all.
    fn note_funds(&self, row: &PayoutRow, told: &PayoutResult) {
        let now = self.0.terms.store.now();
        let mut line = self.line();
        line.funds = ToldFunds::after(line.funds, told, row.amount, now);
    }

    /// Ends a payout as the operator has found it out. False: its end may still be told, or was.
    pub async fn decide_payout(&self, row: &PayoutRow, is_paid: bool) -> Result<bool, StoreError> {
        if !self.is_unheard(row) {
            return Ok(false);
        }
        let ended = match is_paid {
            true => PayoutEnd::Paid { receipt: None },
            false => PayoutEnd::Failed("operator".to_owned()),
        };
        self.end_payout(row, ended).await
    }

    /// Whether it was sent, and nobody has told of it for as long as it is sent again.
    pub(super) fn is_unheard(&self, row: &PayoutRow) -> bool {
        let until = row.sent.saturating_add(self.payout_pace().of(RESENDING));
        matches!(row.state, PayoutState::Sending | PayoutState::Pending) && until < self.0.terms.store.now()
    }

    /// Ends a payout. False: it was over before.
    pub(super) async fn end_payout(&self, row: &PayoutRow, ended: PayoutEnd) -> Result<bool, StoreError> {
        let said = match &ended {
            PayoutEnd::Paid { .. } => "paid".to_owned(),
            PayoutEnd::NotPaid { code, .. } => {
                format!("came to nothing ({code}) before anything was taken for it")
            }
            PayoutEnd::Failed(code) => format!("came to nothing ({code}), what it cost is given back"),
        };
        let is_new = self.0.terms.store.end_payout(row.id.clone(), ended).await?;
        if is_new {
            log::info!("payout {}: {said}", row.id);
            // So that it is followed no more.
            self.follow_payout(&row.id, false);
        }
        Ok(is_new)
    }

    fn follow_payout_if_open(&self, row: &PayoutRow) {
        if !row.state.is_over() {
            self.follow_payout(&row.id, false);
        }
    }
}

/// What was at the short code, as a result has told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldFunds {
    pub funds: Kes,
    /// When we heard it.
    pub at: Millis,
    /// When it was so, by Daraja's clock.
    as_of: Option<u64>,
}

impl ToldFunds {
    /// What is known after the result of a payment of `paid`. Results come in any order: the one that was completed last counts,
    /// and of two that cannot be told apart the one that says less.
    fn after(known: Option<ToldFunds>, told: &PayoutResult, paid: Kes, now: Millis) -> Option<ToldFunds> {
        let said = told.funds.map(|funds| ToldFunds { funds, at: now, as_of: told.completed });
        let Some(known) = known else { return said };
        let order = match (told.completed, known.as_of) {
            (Some(completed), Some(as_of)) => completed.cmp(&as_of),
            _ => Ordering::Equal,
        };
        Some(match (order, said) {
            (Ordering::Less, _) => known,
            (Ordering::Greater, Some(said)) => said,
            (Ordering::Equal, Some(said)) if said.funds < known.funds => said,
            (Ordering::Equal, Some(_)) => known,
            (_, None) => ToldFunds { funds: Kes(known.funds.0.saturating_sub(paid.0)), ..known },
        })
    }
}

/// Bills have an id of Daraja's own, which is not promised to be ours.
fn is_of(told: &PayoutResult, row: &PayoutRow) -> bool {
    row.kind == PayoutKind::Bill || told.originator.is_empty() || told.originator == row.originator
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_results_out_of_order_the_one_that_was_completed_last_counts() {
        let told = |funds: Option<u64>, completed| PayoutResult {
            originator: String::new(),
            code: "0".to_owned(),
            receipt: None,
            amount: None,
            funds: funds.map(Kes),
            completed,
            status: String::new(),
        };
        let after = |known, told: &PayoutResult| ToldFunds::after(known, told, Kes(100), Millis(7));
        let funds = |known: Option<ToldFunds>| known.map(|known| known.funds.0);
        assert_eq!(after(None, &told(None, Some(1))), None);
        let second = after(None, &told(Some(700), Some(2)));
        assert_eq!(funds(second), Some(700));
        assert_eq!(after(second, &told(Some(900), Some(1))), second, "it was before");
        assert_eq!(after(second, &told(None, Some(1))), second);
        assert_eq!(funds(after(second, &told(Some(900), Some(3)))), Some(900), "the operator has added some");
        for unclear in [Some(2), None] {
            assert_eq!(funds(after(second, &told(Some(900), unclear))), Some(700));
            assert_eq!(funds(after(second, &told(Some(600), unclear))), Some(600));
        }
        assert_eq!(funds(after(second, &told(None, None))), Some(600));
        assert_eq!(funds(after(second, &told(None, Some(3)))), Some(600));
    }
}
