//! The blinded outputs of a request to a mint, as they are written down before it is sent: enough to derive them again
//! from the seed (NUT-13).

use super::StoreError;

/// One set of blinded outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRow {
    pub keyset: String,
    pub counter: u32,
    pub amounts: Vec<u64>,
}

pub(super) fn amounts_text(amounts: &[u64]) -> String {
    amounts.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

pub(super) fn amounts_of(text: &str) -> Result<Vec<u64>, StoreError> {
    text.split(',').map(|amount| amount.parse().map_err(|_| StoreError::unreadable("amounts"))).collect()
}
