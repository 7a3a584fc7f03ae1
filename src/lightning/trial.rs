//! Whether what pays invoices answers, may pay, and may look payments up: asked without being the daemon.

use super::{Account, Lightning as _, Melt, Report};
use crate::calls::Tls;
use crate::config::{Config, LightningConfig};
use crate::ecash::wallet::Wallet;

/// Tries a configured node out. An error is the reason why there is nothing to try.
pub fn try_node(config: &Config, node: &LightningConfig) -> Result<Report, String> {
    let tls = Tls::with_file(config.main.ca_file.as_deref())?;
    let account = Account::load(node).map_err(|err| err.to_string())?;
    let node = account.node(&tls, None).map_err(|err| err.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let mut report = runtime.map_err(|err| err.to_string())?.block_on(node.test());
    if report.answers.as_deref().is_some_and(|cause| cause.contains("invalid peer certificate")) {
        report.notes.push("if the node's certificate is its own, name it with option cert_sha256".to_owned());
    }
    Ok(report)
}

/// Tries the router's own ecash out, which is in the daemon's hands.
pub async fn try_ecash(wallet: &Wallet) -> Report {
    Melt::new(wallet.clone()).test().await
}
