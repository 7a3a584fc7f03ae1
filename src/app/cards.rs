//! Opening the cards and what pays for them.

use crate::calls::Tls;
use crate::card::Cards;
use crate::config::Config;
use crate::ecash::wallet::Wallet;
use crate::http::make_token;
use crate::lightning::{Account, Backends};
use crate::shop::Closed;
use crate::store::{KeyFile, Store, StoreError, Vault};
use std::sync::Arc;
use tokio::sync::watch;

/// Takes up what the last process left without an end, whether or not there are cards to be had now.
pub async fn open(
    store: &Store,
    tls: Tls,
    wallet: Wallet,
    config: watch::Receiver<Arc<Config>>,
) -> Result<Cards, Closed> {
    let now = config.borrow().clone();
    let opened = async {
        let vault = Vault::open(store, KeyFile("cards")).await?;
        let open = Box::new(move |account: &Account| {
            account.node(&tls, Some(&wallet)).map_err(|err| err.to_string())
        });
        let backends = Backends::new(store.clone(), vault.clone(), open);
        configure(&backends, &now).await;
        Cards::start(store.clone(), vault, backends, config).await
    };
    opened.await.map_err(|err: StoreError| {
        log::error!("there are no cards: {}: {err}", err.code());
        Closed { code: err.code(), cause: err.to_string() }
    })
}

/// Takes over what pays now; the credentials are read anew. Payments on their way stay where they are.
pub async fn configure(backends: &Backends, config: &Config) {
    let sphinx = config.auth.as_ref().and_then(|auth| auth.sphinx.as_ref());
    let connection =
        sphinx.map(|sphinx| (&sphinx.connection_token_file, "the token that fetches connection codes"));
    let admin = (&config.admin.token_file, "the token of the admin interface");
    for (file, what) in [Some(admin), connection].into_iter().flatten() {
        if let Err(err) = make_token(file, what) {
            log::error!("{}: {err}", file.display());
        }
    }
    if config.card.is_some() {
        let load = |section| Account::load(section).map_err(|err| err.to_string());
        let accounts = config.lightning.iter().map(|section| (load(section), section.fee_limit));
        backends.configure(accounts.collect()).await;
    }
}
