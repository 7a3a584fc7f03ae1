//! What the wallet's commands work with: the daemon's wallet or, where none runs, the same wallet opened by the shell on
//! the same store, which it holds alone meanwhile. A daemon that is started then waits for it.

use super::{audit, CommandError, Desk, Doing, Given, OnAuditLog, OnTakings, Shell};
use crate::auth::AuditLog;
use crate::calls::Tls;
use crate::clock::Clock;
use crate::config::{Config, LogTarget, MintUrl};
use crate::ecash::wallet::{self, Wallet};
use crate::ecash::Mints;
use crate::store::{PurseName, Store, StoreError, StoreHolder};
use nix::sys::stat::{umask, Mode};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Commands that make sense before the first sale.
const BEGIN: [&str; 2] = ["wallet receive", "wallet restore"];
/// How long to wait, at the end, for calls to a mint that hangs.
const LEFT_OVER: Duration = Duration::from_millis(200);
/// As in the daemon, for arithmetic on the curve.
const BLOCKING_THREADS: usize = 8;

/// The router's own ecash.
pub struct Takings {
    pub wallet: Wallet,
    pub store: Store,
    pub mints: Mints,
    /// Those of the configuration.
    pub sellers: Vec<MintUrl>,
}

impl Takings {
    /// The daemon's.
    pub fn of(desk: &Desk) -> Result<Takings, CommandError> {
        let shop = desk.site.shop.as_ref()?;
        Ok(Takings {
            wallet: shop.wallet.clone(),
            store: shop.store.clone(),
            mints: desk.site.mints.clone(),
            sellers: sellers(&desk.site.config()),
        })
    }

    /// As a starting daemon opens them: what is under way is taken up.
    async fn open(config: &Config, store: Store, clock: Clock) -> Result<Takings, CommandError> {
        let tls = Tls::with_file(config.main.ca_file.as_deref());
        let tls = tls.map_err(|err| CommandError::Refused("ca_file", err))?;
        let mints = Mints::new(tls, clock, mpsc::channel(1).0);
        let opened = async {
            store.catch_up().await?;
            let seed = Arc::new(wallet::seed(&store).await?);
            // Needs no receiver: a session that a payment begins now is found in the store when the daemon starts.
            let nobody = mpsc::channel(1).0;
            Wallet::start(store.clone(), mints.clone(), (PurseName::House, seed), nobody).await
        };
        let wallet = opened.await.map_err(|err| closed(&err))?;
        Ok(Takings { wallet, store, mints, sellers: sellers(config) })
    }
}

/// Has the daemon do it with `ask` or, where none runs, does it here with `handler`, unless a daemon comes up in time.
pub fn carry_out(
    shell: &Shell,
    given: &Given,
    ask: impl Fn() -> Result<Value, CommandError>,
    handler: OnTakings,
    patience: Duration,
) -> Result<Value, CommandError> {
    let is_made = |dir: &Path| match BEGIN.contains(&given.command().name) {
        true => Ok(()),
        false => must_be_made(dir),
    };
    let work: Work<'_> = &|config, store, clock, given| {
        Box::pin(async move {
            let takings = Takings::open(config, store.clone(), clock).await;
            // Nobody opens what is sealed where no daemon runs.
            let is_sealed = store.has_sealed_keys().await.map_err(|err| closed(&err))?;
            let doing: Doing<'_> = match is_sealed && given.command().moves_money {
                true => Box::pin(std::future::ready(Err(CommandError::sealed()))),
                false => Box::pin(async move { handler(&takings?, given).await }),
            };
            audit::noted(Some(&AuditLog::new(store)), given, doing).await
        })
    };
    with_store(shell, given, &ask, &is_made, work, patience)
}

/// The same for what needs the audit log only.
pub fn look_at_log(
    shell: &Shell,
    given: &Given,
    ask: impl Fn() -> Result<Value, CommandError>,
    handler: OnAuditLog,
    patience: Duration,
) -> Result<Value, CommandError> {
    let is_made = |dir: &Path| match Store::is_made(dir) {
        true => Ok(()),
        false => {
            let message = format!("there is no store in {}: nothing was done here yet", dir.display());
            Err(CommandError::Missing("no_store", message))
        }
    };
    let work: Work<'_> =
        &|_, store, _, given| Box::pin(async move { handler(&AuditLog::new(store), given).await });
    with_store(shell, given, &ask, &is_made, work, patience)
}

/// Writes down that the shell has done this by itself. If the store cannot be opened, nothing is written.
pub fn note_done(shell: &Shell, given: &Given) {
    let nobody = || Err(CommandError::Closed("no_daemon", String::new()));
    let work: Work<'_> = &|_, store, _, given| Box::pin(audit::noted_here(AuditLog::new(store), given));
    if let Err(error) = with_store(shell, given, &nobody, &must_be_made, work, Duration::ZERO) {
        log::warn!("the audit log lacks a row: {error}");
    }
}

/// What is done with a store that this process has opened.
type Work<'w> = &'w dyn for<'a> Fn(&'a Config, Store, Clock, &'a Given) -> Doing<'a>;

fn with_store(
    shell: &Shell,
    given: &Given,
    ask: &dyn Fn() -> Result<Value, CommandError>,
    is_made: &dyn Fn(&Path) -> Result<(), CommandError>,
    work: Work<'_>,
    patience: Duration,
) -> Result<Value, CommandError> {
    let is_nobody_there =
        |error: &CommandError| matches!(error, CommandError::Closed("no_daemon" | "switched_off", _));
    match ask() {
        Err(nobody) if is_nobody_there(&nobody) => {}
        answer => return answer,
    }
    let config = shell.loaded()?;
    let state_dir = &config.main.state_dir;
    is_made(state_dir)?;
    if config.main.log_target == LogTarget::Syslog {
        (shell.above.log)(&config.main);
    }
    // What a store makes is its owner's alone.
    umask(Mode::from_bits_truncate(0o077));
    let (clock, give_up) = (Clock::machine(), Instant::now() + patience);
    let store = loop {
        match Store::open_as(StoreHolder::Command, state_dir, &clock) {
            Ok(store) => break store,
            Err(err @ (StoreError::InUse | StoreError::HeldByCommand)) => match ask() {
                Err(nobody) if is_nobody_there(&nobody) && Instant::now() < give_up => {}
                Err(nobody) if is_nobody_there(&nobody) => return Err(closed(&err)),
                answer => return answer,
            },
            Err(err) => return Err(closed(&err)),
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|err| CommandError::Closed("no_runtime", err.to_string()))?;
    let answer = runtime.block_on(async {
        let answer = work(&config, store.clone(), clock, given).await;
        store.close().await;
        answer
    });
    runtime.shutdown_timeout(LEFT_OVER);
    answer
}

/// Refuses where there never was a store.
pub fn must_be_made(state_dir: &Path) -> Result<(), CommandError> {
    match Store::is_made(state_dir) {
        true => Ok(()),
        false => {
            let message =
                format!("there are no takings in {}: nothing was sold here yet", state_dir.display());
            Err(CommandError::Missing("no_takings", message))
        }
    }
}

fn sellers(config: &Config) -> Vec<MintUrl> {
    config.mints.iter().map(|mint| mint.url.clone()).collect()
}

fn closed(err: &StoreError) -> CommandError {
    CommandError::Closed(err.code(), err.to_string())
}
