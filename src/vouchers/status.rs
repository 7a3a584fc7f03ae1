//! What became of a ticket, for the bearer of its code or its token: asked once, or told of each change. Refused: a claim
//! that is not this ticket's, in the words and after the work of one that nobody has.

use super::minting::MintDesk;
use super::rows::{self, VoucherRow};
use super::{TicketId, VoucherCode, VoucherRefusal, VoucherState};
use crate::config::{Config, Tenant};
use crate::json::json;
use crate::store::{StoreError, TenantStore};
use crate::units::UnixSeconds;
use crate::uuid::Uuid;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// After this many seconds it is worth asking again about what is under way.
const ASK_AGAIN: u64 = 5;

/// A ticket that somebody is told of, and how much of its history was told.
pub struct TicketWatch {
    tenant: Tenant,
    id: TicketId,
    seq: u64,
    state: VoucherState,
}

impl TicketWatch {
    /// Whether both are of one ticket.
    pub fn is_same(&self, other: &TicketWatch) -> bool {
        self.id == other.id && self.tenant == other.tenant
    }
}

/// A step of a ticket's history.
struct Step {
    seq: u64,
    at: UnixSeconds,
    became: VoucherState,
    reason: String,
}

impl MintDesk {
    /// What became of a ticket, for the bearer of its claim.
    pub async fn told_of(&self, config: &Config, id: &str, claim: &str) -> Result<Value, VoucherRefusal> {
        let (_, row) = self.ticket_of(config, id, claim).await?;
        let state = row.state_at(self.book.store().wall());
        Ok(told(config, &row, (state, row.changed_at, row.error_code.as_deref())))
    }

    /// The same, and what it takes to tell of its changes from now on.
    pub async fn watch(
        &self,
        config: &Config,
        id: &str,
        claim: &str,
    ) -> Result<(Value, TicketWatch), VoucherRefusal> {
        let (tenant, row) = self.ticket_of(config, id, claim).await?;
        let id = row.id;
        // It may have changed since it was found; from here on no step is left out.
        let (row, steps) = self.since(&tenant, id, 0).await?.ok_or_else(VoucherRefusal::nowhere)?;
        let state = row.state_at(self.book.store().wall());
        let seq = steps.last().map_or(0, |step| step.seq);
        let told = told(config, &row, (state, row.changed_at, row.error_code.as_deref()));
        Ok((told, TicketWatch { tenant, id, seq, state }))
    }

    /// What is new of a ticket, oldest first, and the watch as it is once that is told. `None`: the ticket is forgotten.
    pub async fn news(
        &self,
        config: &Config,
        watch: &TicketWatch,
    ) -> Result<Option<(Vec<Value>, TicketWatch)>, StoreError> {
        let Some((row, steps)) = self.since(&watch.tenant, watch.id, watch.seq).await? else {
            return Ok(None);
        };
        let (now, mut after) =
            (self.book.store().wall(), TicketWatch { tenant: watch.tenant.clone(), ..*watch });
        let mut news = Vec::new();
        for step in steps {
            (after.seq, after.state) = (step.seq, step.became);
            news.push(told(config, &row, (step.became, step.at, Some(&step.reason))));
        }
        let state = row.state_at(now);
        // It expires by itself.
        if state != after.state {
            after.state = state;
            news.push(told(config, &row, (state, row.expires_at.min(now), row.error_code.as_deref())));
        }
        Ok(Some((news, after)))
    }

    async fn since(
        &self,
        tenant: &Tenant,
        id: TicketId,
        seq: u64,
    ) -> Result<Option<(VoucherRow, Vec<Step>)>, StoreError> {
        let own = self.book.of(tenant);
        let read = own.read(move |door| {
            let Some(row) = rows::by_id(door, id)? else { return Ok(None) };
            let found = door.query(
                "SELECT seq, at, became, reason FROM voucher_history WHERE tenant = $1 AND voucher = $2 AND seq > $3
                 ORDER BY seq",
                &[id.into(), seq.into()],
            )?;
            let steps = found.iter().map(|row| {
                let (at, reason) = (UnixSeconds(row.count(1)?), row.text(3)?.to_owned());
                Ok(Step { seq: row.count(0)?, at, became: row.parsed(2)?, reason })
            });
            Ok(Some((row, steps.collect::<Result<_, StoreError>>()?)))
        });
        read.await
    }

    /// A ticket that does not exist, and one that is not the caller's: the same words, after the same work.
    async fn ticket_of(
        &self,
        config: &Config,
        id: &str,
        claim: &str,
    ) -> Result<(Tenant, VoucherRow), VoucherRefusal> {
        let id = id.parse::<Uuid>().ok();
        let code: Option<VoucherCode> = claim.parse().ok();
        let nobodys = VoucherCode::random().ok_or_else(VoucherRefusal::nowhere)?;
        let hashes = self.book.key().await?.hashes(code.as_ref().unwrap_or(&nobodys))?;
        let mut found = None;
        for tenant in config.all_tenants() {
            let (rows, hashes) = (self.book.of(&tenant), hashes.clone());
            let by_code = rows.read(move |door| rows::by_hashes(door, &hashes)).await?;
            let mut row = by_code.filter(|row| Some(row.id) == id);
            if row.is_none() && claim.starts_with("cashu") {
                row = self.by_token(&rows, id, claim).await?;
            }
            found = found.or(row.map(|row| (tenant, row)));
        }
        found.ok_or_else(VoucherRefusal::nowhere)
    }

    /// The ticket whose ecash the claim is.
    async fn by_token(
        &self,
        rows: &TenantStore,
        id: Option<Uuid>,
        claim: &str,
    ) -> Result<Option<VoucherRow>, VoucherRefusal> {
        let Some(id) = id else { return Ok(None) };
        let tokens = self.wallet.tokens_of(rows.tenant(), &[id.to_string()]).await.unwrap_or_default();
        let is_it = |token: &str| {
            bool::from(subtle::ConstantTimeEq::ct_eq(
                Sha256::digest(token).as_slice(),
                Sha256::digest(claim).as_slice(),
            ))
        };
        match tokens.iter().any(|known| is_it(&known.token)) {
            true => Ok(rows.read(move |door| rows::by_id(door, id)).await?),
            false => Ok(None),
        }
    }
}

/// A ticket in a state that it had at a time; the fault is that of one that has failed.
fn told(
    config: &Config,
    row: &VoucherRow,
    (state, at, fault): (VoucherState, UnixSeconds, Option<&str>),
) -> Value {
    let venue = config.venue(&row.venue).map_or(row.venue.as_str(), |venue| venue.name.as_str());
    let mut told = json!({
        "ticketId": row.id.to_string(),
        "status": state.as_str(),
        "venueName": venue,
        "amount": row.face.0,
        "unit": "sat",
        "updatedAt": at.0,
        "expiresAt": row.expires_at.0,
    });
    if matches!(state, VoucherState::Queued | VoucherState::AwaitingPayment | VoucherState::Minting) {
        told["retryAfter"] = json!(ASK_AGAIN);
    }
    if state == VoucherState::Failed {
        let message = "this voucher could not be made; please ask where you bought it";
        let code = fault.filter(|code| !code.is_empty()).unwrap_or("failed");
        told["failure"] = json!({"code": code, "message": message, "refund": Value::Null});
    }
    told
}
