//! What is left of a request of the house once its money is in the takings: its grants, one per part.
//!
//! The request with its invoice, quote and outputs is five times as large, and nothing of it is needed any more. A
//! guest that asks for it later is answered from the grants.

use super::reference::Reference;
use super::values::{mac_of, mint_of, money};
use super::{Owner, PartRow, PartState, RequestId, RequestRow, StoreError, TokenForm};
use crate::units::Millis;
use rusqlite::{Connection, Row, Transaction};

/// Removes a request whose parts are all in the takings. What has a token, or may still be paid, stays.
pub(super) fn settle_request(tx: &Transaction, request: &str) -> Result<(), StoreError> {
    tx.prepare_cached(
        "DELETE FROM requests WHERE id = ?1 AND owner = 'house' AND NOT EXISTS
         (SELECT 1 FROM parts WHERE request = ?1
          AND (state != 'claimed' OR token IS NOT NULL OR sealed IS NOT NULL))",
    )?
    .execute([request])?;
    Ok(())
}

/// A settled request as it was, without what is not needed any more.
pub(super) fn settled_request(db: &Connection, id: &RequestId) -> Result<Option<RequestRow>, StoreError> {
    let mut grants = db.prepare_cached(
        "SELECT g.reference, g.amount, g.metric, g.allotment, k.mint,
             COALESCE((SELECT mac FROM account_macs m WHERE m.account = g.account
                 ORDER BY m.mac != g.mac, m.attached_ms DESC LIMIT 1), g.mac),
             g.venue, g.granted_ms, g.unit
         FROM grants g JOIN wallet_keysets k ON k.id = g.keyset
         WHERE g.reference > ?1 || '/' AND g.reference < ?1 || '0'",
    )?;
    let rows = grants.query_map([id.as_str()], |row| {
        Ok((part_of(row), row.get::<_, String>(5)?, row.get::<_, String>(6)?, row.get::<_, Millis>(7)?))
    })?;
    let mut found: Option<RequestRow> = None;
    for row in rows {
        let (part, mac, venue, created) = row?;
        let mac = mac_of(&mac)?;
        let owner = Owner::House;
        found
            .get_or_insert_with(|| RequestRow {
                id: id.clone(),
                mac,
                venue,
                owner,
                form: TokenForm::default(),
                created,
                parts: Vec::new(),
            })
            .parts
            .push(part?);
    }
    if let Some(request) = &mut found {
        request.parts.sort_by_key(|part| part.position);
    }
    Ok(found)
}

fn part_of(row: &Row) -> Result<PartRow, StoreError> {
    let Reference::Invoice(_, position) = row.get(0)? else {
        return Err(StoreError::unreadable("reference"));
    };
    Ok(PartRow {
        id: 0,
        position,
        mint: mint_of(&row.get::<_, String>(4)?)?,
        amount: money(row, 1, 8)?,
        metric: row.get(2)?,
        allotment: row.get(3)?,
        lock_index: 0,
        state: PartState::Claimed,
        quote: None,
        invoice: None,
        expires_at: None,
        due: None,
        token: None,
        acked: false,
        outputs: Vec::new(),
    })
}
