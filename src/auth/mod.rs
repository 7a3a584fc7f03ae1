//! Who may do what, and who did: the audit log.

mod audit;

pub use audit::AuditLog;
