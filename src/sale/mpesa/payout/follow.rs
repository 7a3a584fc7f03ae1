//! A payout's way to its end: sent, heard of or asked about, and after a restart gone on with where it was.

use super::heard::{stops_payouts, RESULT as RESULT_CALL, STATUS, TIMEOUT};
use super::times::{self, AIRTIME, AIRTIME_SURE, AWAITED, LATER, RESULT, UNSENT};
use super::{MpesaEngine, PayoutEnd};
use crate::config::Config;
use crate::fiat::{
    AirtimeSeller, AirtimeVerdict, DarajaRefusal, Initiator, PaidOut, Payee, Payment, Phone, Why,
};
use crate::sale::mpesa::follow::Again;
use crate::sale::mpesa::plan::LIFE;
use crate::sale::mpesa::token_hash;
use crate::store::{Known, PaidBy, PayoutKind, PayoutRow, PayoutState, Reference, StoreError, PAYOUT_JOB};
use crate::units::Millis;

/// Characters of a path's end: 128 bits in hex.
const TOKEN: usize = 32;
/// As `status` shows it.
const UNHEARD: &str = "nobody tells what became of it: find out, and say so by 'tollgated fiat decide'";

impl MpesaEngine {
    /// After a start: what was being sent may have been sent.
    pub(in crate::sale::mpesa) async fn resume_payouts(&self) -> Result<(), StoreError> {
        let store = &self.0.terms.store;
        for row in store.open_payouts().await? {
            if row.state == PayoutState::Sending {
                store.payout_lost(row.id.clone()).await?;
            }
            self.table().follow(&row.id, store.now(), false);
        }
        Ok(())
    }

    pub(in crate::sale::mpesa) async fn deal_with_payout(&self, id: &str) -> Result<Again, StoreError> {
        let store = &self.0.terms.store;
        let Some(row) = store.payout(id.to_owned()).await? else { return Ok(None) };
        if row.state.is_over() {
            return Ok(None);
        }
        let later = Ok(Some(store.now().saturating_add(self.payout_pace().of(LATER))));
        if row.state == PayoutState::Awaiting {
            return self.await_money(&row).await;
        }
        if row.state == PayoutState::Created && self.is_too_late(&row) {
            self.end_payout(&row, PayoutEnd::Failed("dropped".to_owned())).await?;
            return Ok(None);
        }
        // What has left is asked about also while nothing new is sent.
        let is_held = row.state == PayoutState::Created && self.payouts_paused().is_some();
        if is_held || !store.wall_is_plausible() {
            return later;
        }
        match (row.state, row.kind) {
            (PayoutState::Created, _) => self.send_payout(&row).await,
            // A bill is not known as the same when it comes again.
            (PayoutState::Sending, PayoutKind::Bill) => self.ask_about_payout(&row).await,
            (PayoutState::Sending, _) => match (self.is_unheard(&row), row.kind) {
                (false, _) => self.send_payout(&row).await,
                (true, PayoutKind::Airtime) => {
                    self.table().failed(&row.id, UNHEARD);
                    later
                }
                (true, _) => self.ask_about_payout(&row).await,
            },
            (_, PayoutKind::Airtime) => self.look_for_airtime(&row).await,
            _ => self.ask_about_payout(&row).await,
        }
    }

    /// Nothing of it has left, and nobody waits for it any more. Service time stands still without power, and accounts do not.
    fn is_too_late(&self, row: &PayoutRow) -> bool {
        let (store, life) = (&self.0.terms.store, self.payout_pace().of(UNSENT));
        // What it costs may have come long after it was asked for.
        let since = if row.sent > Millis::ZERO { row.sent } else { row.changed };
        let until = since.saturating_add(life);
        let until_wall = row.at.0.saturating_add(until.saturating_sub(row.created).as_secs_ceil());
        until < store.now() || until_wall < store.wall().0
    }

    /// Sends it, or sends it again under the same id: its state is on the flash before.
    async fn send_payout(&self, row: &PayoutRow) -> Result<Again, StoreError> {
        let (store, config) = (&self.0.terms.store, self.0.terms.config());
        let tokens = [
            (RESULT_CALL, self.token_of(row, RESULT_CALL).await?),
            (TIMEOUT, self.token_of(row, TIMEOUT).await?),
        ];
        let hashes = tokens.iter().map(|(what, token)| (*what, token_hash(token))).collect();
        let sender = match self.sender(&config, row) {
            Ok(sender) => sender,
            Err(why) => {
                log::error!("payout {}: not sent: {why}", row.id);
                return self.try_again(row, &why).await;
            }
        };
        if !store.payout_sending(row.id.clone(), hashes).await? {
            return Ok(Some(store.now()));
        }
        let phone = row
            .phone
            .as_ref()
            .and_then(|phone| std::str::from_utf8(phone.expose()).ok()?.parse::<Phone>().ok());
        let sent = match (sender, phone) {
            (Sender::Airtime(seller), Some(phone)) => seller.send(&phone, row.amount, &row.originator).await,
            (Sender::Daraja { initiator, url, .. }, phone) => {
                let to = match &phone {
                    Some(phone) => Payee::Phone(phone),
                    None => Payee::Bill { paybill: &row.paybill, account: &row.bill },
                };
                let [(_, result), (_, timeout)] = &tokens;
                let (result_url, timeout_url) = (url.endpoint(result), url.endpoint(timeout));
                let payment = Payment {
                    originator: &row.originator,
                    amount: row.amount,
                    to,
                    result_url: &result_url,
                    timeout_url: &timeout_url,
                };
                match self.daraja() {
                    Ok(daraja) => daraja.pay_out(&initiator, &payment).await,
                    Err(why) => {
                        log::warn!("payout {}: {why}", row.id);
                        PaidOut::Refused(DarajaRefusal { why: Why::Away, code: "credentials".to_owned() })
                    }
                }
            }
            (Sender::Airtime(_), None) => {
                PaidOut::Refused(DarajaRefusal { why: Why::Request, code: "no_phone".to_owned() })
            }
        };
        self.sent(row, sent).await
    }

    async fn sent(&self, row: &PayoutRow, sent: PaidOut) -> Result<Again, StoreError> {
        let (store, pace, id) = (&self.0.terms.store, self.payout_pace(), || row.id.clone());
        match sent {
            PaidOut::Accepted(conversation) => {
                self.table().went_well();
                store.payout_accepted(id(), conversation).await?;
                let wait = if row.kind == PayoutKind::Airtime { AIRTIME } else { RESULT };
                Ok(Some(store.now().saturating_add(pace.of(wait))))
            }
            PaidOut::Unknown(cause) => {
                log::warn!("payout {}: it is not known whether it was taken: {cause}", row.id);
                self.line().last_error = Some(cause.clone());
                store.payout_lost(id()).await?;
                self.try_again(row, &cause).await
            }
            PaidOut::Refused(refused) => {
                log::warn!("payout {}: refused: {:?} {}", row.id, refused.why, refused.code);
                self.line().last_error = Some(format!("{:?} {}", refused.why, refused.code));
                let is_final = matches!(refused.why, Why::Request | Why::Credentials);
                // One that was sent before may be done: this answer is not about that.
                let was_lost = store.payout(id()).await?.is_some_and(|row| row.is_lost);
                if is_final && (refused.why == Why::Credentials || stops_payouts(&refused.code)) {
                    self.pause_payouts(format!("a payout was refused ({})", refused.code));
                }
                if is_final && !was_lost {
                    self.end_payout(row, PayoutEnd::Failed(refused.code)).await?;
                    return Ok(None);
                }
                store.payout_unsent(id()).await?;
                if refused.why == Why::Busy {
                    self.table().slow_down(store.now(), pace);
                }
                self.try_again(row, &refused.code).await
            }
        }
    }

    async fn try_again(&self, row: &PayoutRow, why: &str) -> Result<Again, StoreError> {
        let (store, pace) = (&self.0.terms.store, self.payout_pace());
        let tries = self.table().failed(&row.id, why);
        let due = store.now().saturating_add(pace.backoff(tries));
        store.job_failed(PAYOUT_JOB, row.id.clone(), due, why.to_owned()).await?;
        Ok(Some(due))
    }

    /// Asks Daraja for its state, which is told by a call.
    async fn ask_about_payout(&self, row: &PayoutRow) -> Result<Again, StoreError> {
        let (store, pace, config) = (&self.0.terms.store, self.payout_pace(), self.0.terms.config());
        let now = store.now();
        let due = row.changed.saturating_add(pace.of(RESULT));
        if due > now && !row.is_overdue() {
            return Ok(Some(due));
        }
        let token = self.token_of(row, STATUS).await?;
        store.payout_asked(row.id.clone(), token_hash(&token)).await?;
        // Daraja makes the id of a bill, and tells it in its answer, unless that is lost.
        let is_theirs = row.kind == PayoutKind::Bill && !row.conversation.is_empty();
        let originator = if is_theirs { &row.conversation } else { &row.originator };
        let asked = match (self.sender(&config, row), self.daraja()) {
            (Ok(Sender::Daraja { initiator, url, .. }), Ok(daraja)) => {
                daraja.ask_about(&initiator, originator, &url.endpoint(&token)).await
            }
            (Err(why), _) | (_, Err(why)) => Err(why),
            (Ok(Sender::Airtime(_)), _) => Ok(()),
        };
        if self.is_unheard(row) {
            self.table().failed(&row.id, UNHEARD);
        }
        if let Err(why) = asked {
            log::warn!("payout {}: it cannot be asked about: {why}", row.id);
            self.table().failed(&row.id, &why);
        }
        let wait = times::next_question(pace, now.saturating_sub(row.sent));
        Ok(Some(store.now().saturating_add(wait)))
    }

    async fn look_for_airtime(&self, row: &PayoutRow) -> Result<Again, StoreError> {
        let (store, pace, config) = (&self.0.terms.store, self.payout_pace(), self.0.terms.config());
        let receipt = Some(row.conversation.clone()).filter(|id| !id.is_empty());
        let found = match (self.sender(&config, row), &receipt) {
            (Ok(Sender::Airtime(seller)), Some(id)) => seller.look(id).await,
            (Err(why), _) => AirtimeVerdict::Unclear(why),
            _ => AirtimeVerdict::Unclear("it has no id".to_owned()),
        };
        let age = store.now().saturating_sub(row.changed);
        match found {
            AirtimeVerdict::Delivered => {
                self.end_payout(row, PayoutEnd::Paid { receipt }).await?;
                return Ok(None);
            }
            AirtimeVerdict::Failed => {
                self.end_payout(row, PayoutEnd::Failed("undelivered".to_owned())).await?;
                return Ok(None);
            }
            AirtimeVerdict::Unclear(why) => {
                log::debug!("payout {}: asked for nothing: {why}", row.id);
                self.table().failed(&row.id, &why);
                if age > pace.of(AIRTIME_SURE) {
                    log::warn!("payout {}: sent, and nobody can say whether it was delivered: {why}", row.id);
                    self.end_payout(row, PayoutEnd::Paid { receipt }).await?;
                    return Ok(None);
                }
            }
            AirtimeVerdict::Pending => {}
        }
        let wait = match age > pace.of(AIRTIME_SURE) {
            true => times::next_question(pace, age),
            false => pace.of(AIRTIME),
        };
        Ok(Some(store.now().saturating_add(wait)))
    }

    /// What pays for it is looked for in its account's balance. What comes later than it is waited for stays there.
    async fn await_money(&self, row: &PayoutRow) -> Result<Again, StoreError> {
        let (store, pace) = (&self.0.terms.store, self.payout_pace());
        let came = match row.wallet.is_empty() {
            true => None,
            false => store.balance_move(row.wallet.clone()).await?,
        };
        if let Some(came) = came {
            if came.account != row.account {
                self.end_payout(row, row.not_paid("token_spent")).await?;
                return Ok(None);
            }
            let is_funded = store.payout_funded(row.id.clone(), self.rules()).await?;
            return Ok(is_funded.then(|| store.now()));
        }
        let life = match (row.via, row.wallet.is_empty()) {
            (PaidBy::Lightning, false) => LIFE,
            // Only the program's end keeps it from going on at once.
            _ => UNSENT,
        };
        let is_open = match row.via {
            PaidBy::Token => {
                let known = store.op_known(Reference::read(&row.wallet)).await?;
                matches!(known, Some(Known::Open(_)))
            }
            _ => false,
        };
        if !is_open && row.created.saturating_add(pace.of(life)) < store.now() {
            self.end_payout(row, row.not_paid("not_paid")).await?;
            return Ok(None);
        }
        Ok(Some(store.now().saturating_add(pace.of(AWAITED))))
    }

    /// Who pays it out, as the configuration and its files say now.
    fn sender(&self, config: &Config, row: &PayoutRow) -> Result<Sender, String> {
        if row.kind == PayoutKind::Airtime {
            let airtime = config.airtime.as_ref().ok_or("there is no section config airtime")?;
            let seller = AirtimeSeller::of(airtime, &self.0.tls);
            return seller.map(Sender::Airtime).map_err(|error| error.to_string());
        }
        let (Some(mpesa), Some(fiat)) = (&config.mpesa, &config.fiat) else {
            return Err("there is no section config mpesa, or none config fiat".to_owned());
        };
        let initiator = Initiator::of(fiat).map_err(|error| error.to_string())?;
        Ok(Sender::Daraja { initiator, url: mpesa.callback_url.clone() })
    }

    /// The end of a path that Daraja calls for this payout: the same at every try, and not to be guessed.
    async fn token_of(&self, row: &PayoutRow, what: &'static str) -> Result<String, StoreError> {
        let mut token = self.keyed(what, row.originator.as_bytes()).await?;
        token.truncate(TOKEN);
        Ok(token)
    }
}

enum Sender {
    Daraja { initiator: Initiator, url: crate::url::Url },
    Airtime(AirtimeSeller),
}
