//! Vouchers for the operator and for shops (`/admin/**`, `/internal/**`, `/webhook`, `/ticket/**`): who asks, what is ordered, what
//! is told of it, and what several operators decide together. Each order is carried out once.

pub mod approvals;
pub mod caller;
pub mod notices;
pub mod office;
pub mod orders;
pub mod reconcile;
mod shapes;
