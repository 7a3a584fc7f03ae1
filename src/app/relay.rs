//! `tollgated relay`: configuration to a running relay, until a signal.

use super::report;
use crate::calls::Tls;
use crate::clock::Clock;
use crate::config::RelayConfig;
use crate::http::RelayListener;
use crate::ops;
use crate::relay::Relay;
use crate::store::Store;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{signal, SignalKind};
use tokio::time::MissedTickBehavior;

const TIDY_EVERY: Duration = Duration::from_secs(3600);

/// Runs the relay with the configuration at `path`, which was read, until SIGTERM.
pub fn run(path: &Path, config: RelayConfig) -> ExitCode {
    ops::log::start(config.main.log_target, config.main.log_format, config.main.log_level);
    ops::privileges::give_up(path);
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(live(path, config));
            runtime.shutdown_timeout(Duration::from_millis(200));
            ended
        }
        Err(err) => Err(err.to_string()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            log::error!("{why}");
            ExitCode::FAILURE
        }
    }
}

async fn live(path: &Path, mut config: RelayConfig) -> Result<(), String> {
    let on = |kind| signal(kind).map_err(|err| format!("cannot listen for signals: {err}"));
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut hangup = on(SignalKind::hangup())?;
    let store = Store::open(&config.main.state_dir, &Clock::machine())
        .map_err(|err| format!("{}: {err}", config.main.state_dir.display()))?;
    let tls = Tls::with_file(config.main.ca_file.as_deref())?;
    let relay = Arc::new(Relay::new(store.clone(), tls, &config).await?);
    let open = |config: &RelayConfig| {
        RelayListener::open(config.listen, relay.clone())
            .map_err(|err| format!("cannot listen on {}: {err}", config.listen))
    };
    let mut listener = open(&config)?;
    log::info!(
        "tollgated {} relays at {} for {} routers",
        env!("CARGO_PKG_VERSION"),
        config.listen,
        config.routers.len()
    );
    let mut tidy = tokio::time::interval(TIDY_EVERY);
    tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tidy.tick() => {
                store.checkpoint_now(&[]);
                if let Err(err) = store.forget_events().await {
                    log::warn!("old events are not removed: {err}");
                }
            }
            _ = hangup.recv() => match RelayConfig::load(path) {
                Ok((new, warnings)) => {
                    report(path, &warnings);
                    match relay.configure(&new) {
                        Ok(()) => log::info!("configuration reloaded"),
                        Err(why) => log::error!("{why}; the configuration stays as it was"),
                    }
                    if new.listen != config.listen {
                        match open(&new) {
                            Ok(opened) => {
                                listener = opened;
                                config.listen = new.listen;
                            }
                            Err(why) => log::error!("{why}"),
                        }
                    }
                }
                Err(problems) => {
                    report(path, &problems);
                    log::error!("the configuration stays as it was");
                }
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    drop(listener);
    drop(relay);
    store.checkpoint_now(&[]);
    store.close().await;
    log::info!("stopped");
    Ok(())
}
