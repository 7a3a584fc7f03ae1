//! What a relay keeps for this router, collected: each call is written down as if Daraja had called here, and is a reason to
//! ask. Where the relay is away, orders are asked about by themselves, as in mode `poll`.

use super::{Heard, MpesaEngine};
use crate::config::MpesaMode;
use crate::fiat::RelayLine;
use crate::store::{RelayPlace, StoreError};
use std::time::Duration;

/// After one answer without anything, and after a fault.
const AGAIN: Duration = Duration::from_millis(100);
/// While the clock is not set, nothing leaves this router.
const CLOCK_AGAIN: Duration = Duration::from_secs(2);
const LATER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

impl MpesaEngine {
    /// Asks the relay that the configuration of each moment names; never ends.
    pub(super) async fn collect(self) {
        let mut settings = self.0.terms.settings();
        let mut later = LATER[0];
        let mut reached = None;
        loop {
            settings.mark_unchanged();
            let config = settings.borrow().clone();
            let Some(mpesa) = config.mpesa.as_ref().filter(|mpesa| mpesa.mode == MpesaMode::Relay) else {
                if settings.changed().await.is_err() {
                    return;
                }
                continue;
            };
            if !self.0.terms.store.wall_is_plausible() {
                tokio::time::sleep(CLOCK_AGAIN).await;
                continue;
            }
            let line = match RelayLine::of(mpesa, &self.0.tls) {
                Ok(Some(line)) => Ok(line),
                Ok(None) => Err("no relay is named".to_owned()),
                Err(err) => Err(err.to_string()),
            };
            let url = mpesa.relay_url.as_ref().map_or("", |url| url.as_str());
            let collected = async {
                let line = line?;
                self.collect_once(&line, url, &mut reached).await
            };
            let done = tokio::select! {
                done = collected => done,
                // A reload may name another one.
                _ = settings.changed() => Ok(()),
            };
            let pause = match done {
                Ok(()) => {
                    if self.line().relay_trouble.take().is_some() {
                        log::info!("the relay answers again");
                    }
                    later = LATER[0];
                    AGAIN
                }
                Err(why) => {
                    let pause = later;
                    later = later.saturating_mul(2).min(LATER[1]);
                    if self.line().relay_trouble.replace(why.clone()).as_ref() != Some(&why) {
                        log::warn!("the relay: {why}; orders are asked about without it");
                    }
                    pause / u32::try_from(mpesa.account.pace).unwrap_or(1).max(1)
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// `reached`: how far this was heard since the start, at which relay.
    async fn collect_once(
        &self,
        line: &RelayLine,
        url: &str,
        reached: &mut Option<(String, RelayPlace)>,
    ) -> Result<(), String> {
        let stored = |err: StoreError| format!("{}: {err}", err.code());
        let store = &self.0.terms.store;
        let after = match reached {
            Some((of, after)) if of == url => after.clone(),
            _ => store.relay_cursor(url).await.map_err(stored)?,
        };
        let came = line.calls(&after).await?;
        let mut is_ours = false;
        for call in &came.calls {
            is_ours |= self.heard(&call.token, call.body.as_bytes()).await.map_err(stored)? == Heard::Known;
        }
        // Only now they count as collected: what is heard twice is heard once. Anybody may call the relay, and what is no
        // order's is not worth a write to the flash.
        if is_ours {
            store.set_relay_cursor(url, &came.next).await.map_err(stored)?;
        }
        *reached = Some((url.to_owned(), came.next));
        Ok(())
    }
}
