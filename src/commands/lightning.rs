//! The operator's `lightning` command, as the control socket answers it, for the router's own ecash.

use super::Refusal;
use crate::lightning::test_command;
use crate::shop::Site;
use serde_json::Value;

pub async fn command(site: &Site, args: &[&str]) -> Result<Value, Refusal> {
    let shop = site.shop.as_ref().map_err(|closed| (closed.code, closed.cause.clone()))?;
    match args {
        ["test"] => Ok(test_command::try_ecash(&shop.wallet).await),
        _ => Err(("usage", "lightning test".to_owned())),
    }
}
