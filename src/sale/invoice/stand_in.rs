//! When a mint keeps a request waiting: the next one of the same price is asked as well, and the guest gets the
//! invoice that comes first. The late one is watched like any unpaid invoice, though no guest was shown it.
//!
//! Only for access: a guest that asks for tokens has chosen the mint. However long the mints take, the caller is
//! answered in time.

use super::opening::{Checked, Limits, Opened};
use super::request::Request;
use super::{Ask, AskPart, InvoiceEngine, SaleError};
use crate::config::{Config, MintConfig, MintUrl, Venue};
use crate::ecash::GUEST_PATIENCE;
use crate::mac::MacAddr;
use crate::network::neighbours::Caller;
use crate::store::{Owner, RequestId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep_until, timeout, Instant};

/// When a mint was silent for this long, the next one is asked as well.
const NEXT_AFTER: Duration = Duration::from_secs(5);
/// At most this many refusals are remembered for guests that come to ask, of all guests together.
const REMEMBERED: usize = 64;

/// Why requests got no invoice, lately.
#[derive(Default)]
pub(super) struct Refused(VecDeque<(MacAddr, RequestId, SaleError)>);

impl Refused {
    fn add(&mut self, mac: MacAddr, id: RequestId, error: SaleError) {
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((mac, id, error));
    }

    pub fn get(&self, mac: MacAddr, id: &RequestId) -> Option<&SaleError> {
        let is_it = |(of, request, _): &&(MacAddr, RequestId, SaleError)| *of == mac && request == id;
        self.0.iter().find(is_it).map(|(.., error)| error)
    }
}

impl InvoiceEngine {
    /// Waits for the invoices of a request, as long as a caller may be kept waiting.
    pub async fn opened(&self, begun: Opened) -> Result<Opened, SaleError> {
        let Opened { request, is_new } = begun;
        match timeout(GUEST_PATIENCE, request.opened()).await {
            Ok(Ok(None)) => Ok(Opened { request, is_new }),
            Ok(Ok(Some((request, is_told)))) => Ok(Opened { request, is_new: is_new && is_told }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(SaleError::MintSilent),
        }
    }

    /// Brings a new request to its invoices, or to the one of another mint.
    pub(super) async fn bring_invoices(
        &self,
        request: &Arc<Request>,
        caller: Caller,
        venue: Venue,
        ask: Ask,
        parts: Vec<Checked>,
    ) {
        let asked_at = Instant::now();
        let mut asking = self.ask_mints(request, &caller, &venue, parts);
        let mut error = match timeout(NEXT_AFTER, &mut asking).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) if !is_mint_away(&error) => return self.refuse(request, error),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        let mut standing_in = std::pin::pin!(self.other_invoice(request, &caller, &venue, &ask));
        let mut may_come = true;
        let mut is_noted = false;
        loop {
            tokio::select! {
                found = &mut standing_in, if may_come => match found {
                    Some((other, is_told)) => return request.stand_back(other, is_told),
                    None => may_come = false,
                },
                asked = &mut asking, if error.is_none() => match asked {
                    Ok(()) => return,
                    Err(why) => error = Some(why),
                },
                () = sleep_until(asked_at + GUEST_PATIENCE), if !is_noted && error.is_none() => {
                    is_noted = true;
                    // Which of several has not answered is noted by its own call.
                    if let [part] = ask.parts.as_slice() {
                        self.0.mints.kept_a_guest_waiting(&part.mint);
                    }
                }
            }
            if let (false, Some(error)) = (may_come, &error) {
                return self.refuse(request, error.clone());
            }
        }
    }

    /// The invoice of the next mint of the same price, and whether all sockets of the guest are told of it.
    async fn other_invoice(
        &self,
        request: &Arc<Request>,
        caller: &Caller,
        venue: &Venue,
        ask: &Ask,
    ) -> Option<(Arc<Request>, bool)> {
        let config = self.0.config.borrow().clone();
        let [part] = ask.parts.as_slice() else { return None };
        let mint = next_of_same_price(&config, venue, &part.mint, |mint| self.0.mints.seems_reachable(mint));
        let mint = mint.filter(|_| ask.apply)?;
        log::info!("request {}: {} keeps a guest waiting; {mint} is asked", request.id, part.mint);
        let ask = Ask::for_access(AskPart { mint, amount: part.amount });
        let parts = self.check(venue, &ask).ok()?;
        let entered = self.enter(caller, venue, (Owner::House, ask.form), &parts, Limits::StandIn);
        let (other, is_new) = entered.ok()?;
        if is_new {
            if let Err(error) = self.ask_mints(&other, caller, venue, parts).await {
                other.refuse(error);
                return None;
            }
        }
        // Another request of this guest may have asked for the same, and that one be answered elsewhere.
        other.opened().await.ok().filter(Option::is_none)?;
        Some((other, is_new))
    }

    fn refuse(&self, request: &Arc<Request>, error: SaleError) {
        self.table().refused.add(request.mac(), request.id.clone(), error.clone());
        request.refuse(error);
    }
}

fn is_mint_away(error: &SaleError) -> bool {
    matches!(error, SaleError::MintAway | SaleError::MintBusy | SaleError::MintSilent)
}

/// The mint after `mint` in the configuration, first to last and round, that sells for as much and may be offered.
fn next_of_same_price(
    config: &Config,
    venue: &Venue,
    mint: &MintUrl,
    is_there: impl Fn(&MintUrl) -> bool,
) -> Option<MintUrl> {
    let mints: Vec<&MintConfig> = config.mints_of(venue).collect();
    let at = mints.iter().position(|other| other.url == *mint)?;
    let price = |mint: &MintConfig| (mint.price_per_step, mint.min_steps);
    let (before, after) = (mints.get(..at)?, mints.get(at..)?);
    let (same, others) = after.split_first()?;
    let mut others = others.iter().chain(before);
    others.find(|other| price(other) == price(same) && is_there(&other.url)).map(|other| other.url.clone())
}
