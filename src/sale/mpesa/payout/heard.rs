//! What Daraja tells of a payout: its result, that it took too long, or its state, where that was asked for. Each comes to a path of
//! its own, which nobody else was told; what does not fit the payout is no result.

use super::{MpesaEngine, PayoutEnd};
use crate::fiat::PayoutResult;
use crate::sale::mpesa::Heard;
use crate::store::{PayoutKind, PayoutRow, StoreError};
use crate::units::Kes;

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
        if !row.state.is_over() {
            self.note_funds(row, told.funds);
        }
        self.end_payout(row, PayoutEnd::Paid { receipt: told.receipt.clone() }).await.map(drop)
    }

    /// What is at the short code now that this is paid: noted before it ends, so that it is counted twice rather than not at all.
    fn note_funds(&self, row: &PayoutRow, told: Option<Kes>) {
        let now = self.0.terms.store.now();
        let mut line = self.line();
        line.funds = match (told, line.funds) {
            (Some(funds), _) => Some((funds, now)),
            (None, known) => known.map(|(funds, at)| (Kes(funds.0.saturating_sub(row.amount.0)), at)),
        };
    }

    /// Ends a payout. False: it was over before.
    pub(super) async fn end_payout(&self, row: &PayoutRow, ended: PayoutEnd) -> Result<bool, StoreError> {
        let said = match &ended {
            PayoutEnd::Paid { .. } => "paid".to_owned(),
            PayoutEnd::NotPaid(code) => format!("came to nothing ({code}) before anything was taken for it"),
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

/// Bills have an id of Daraja's own, which is not promised to be ours.
fn is_of(told: &PayoutResult, row: &PayoutRow) -> bool {
    row.kind == PayoutKind::Bill || told.originator.is_empty() || told.originator == row.originator
}
