//! Whether the mint that the operator names answers now. Nothing depends on it: at the first set-up the uplink is often
//! not there yet.

use super::changes::option_text;
use crate::calls::Tls;
use crate::config::uci::UciFile;
use crate::config::MintUrl;
use crate::ecash::{EcashError, MintClient};
use std::path::Path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

/// What became of asking the mint, in words; after at most 5 s. `own`: our configuration, for its `ca_file`.
pub fn tried(mint: &MintUrl, own: &UciFile) -> String {
    let url = mint.as_str();
    let later = "it is asked again until it answers, and nothing is sold before";
    match ask(mint, own) {
        Ok(None) => format!("{url} answers and can be used"),
        Ok(Some(why)) => format!("{url} answers, but nothing can be sold with it: {why}"),
        Err(error @ (EcashError::Unreachable(_) | EcashError::NoAnswer(_) | EcashError::RateLimited)) => {
            format!("{url} could not be tried now ({error}): {later}")
        }
        Err(error) => format!("{url} does not answer as a mint does ({error}): is this its address?"),
    }
}

/// Why the mint cannot be used, if so.
fn ask(mint: &MintUrl, own: &UciFile) -> Result<Option<&'static str>, EcashError> {
    let named = own.of_kind("tollgate").find_map(|section| option_text(section, "ca_file"));
    let tls = Tls::with_file(named.map(Path::new)).map_err(EcashError::Unreachable)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| EcashError::Unreachable(error.to_string()))?;
    let client = MintClient::new(mint.clone(), &tls);
    let asked = runtime.block_on(async { tokio::time::timeout(PATIENCE, unsuitable(&client)).await });
    // A look-up of its name may hang in the C library.
    runtime.shutdown_background();
    let seconds = PATIENCE.as_secs();
    asked.unwrap_or_else(|_| Err(EcashError::NoAnswer(format!("not within {seconds} s"))))
}

async fn unsuitable(client: &MintClient) -> Result<Option<&'static str>, EcashError> {
    if let Some(why) = client.info().await?.unsuitable() {
        return Ok(Some(why));
    }
    let sells = client.keysets().await?.iter().any(|keyset| keyset.active && keyset.terms.unit == "sat");
    Ok((!sells).then_some("it has no active keyset for sat"))
}
