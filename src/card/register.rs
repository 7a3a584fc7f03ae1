//! Making cards and unmaking them: for the operator (create, list, limits, wipe, ...) and for the app that
//! writes keys onto a chip.
//!
//! Keys are handed out once, to the bearer of a live one-time code; never by UID, and never twice. New keys make the
//! old ones worthless at once. The store knows codes only by their SHA-256.

use super::keys::CardKeys;
use super::{links, lock, Cards, Reason};
use crate::hex;
use crate::json::json;
use crate::store::{
    CardRow, HistoryRow, KeysOwner, KeysRow, NewCard, NewKeys, StoreError, TakenKeys, TapState,
};
use crate::units::{Millis, Sats, ALL_SATS};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// How long a one-time code can be used.
const CODE_LIFE: Millis = Millis::from_secs(86_400);
const MAX_NAME: usize = 64;
/// Lines of a history.
const HISTORY: u32 = 200;

/// Why the operator does not get what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    #[error("{0}")]
    Input(&'static str),
    #[error("there is no such card")]
    NoSuchCard,
    #[error("cards are not configured: add a section 'config card' with option domain")]
    NoCards,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CardError {
    /// The stable code that clients and operators see.
    pub fn code(&self) -> &'static str {
        match self {
            CardError::Input(_) => "invalid_input",
            CardError::NoSuchCard => "no_such_card",
            CardError::NoCards => "no_cards",
            CardError::Store(err) => err.code(),
        }
    }
}

impl Cards {
    /// A new card, from `card_name`, `tx_max`, `day_max` (satoshis), `enabled` and `uid_privacy`. Answers the
    /// link for the programmer.
    pub async fn create(&self, order: &Value) -> Result<Value, CardError> {
        let card = new_card(order)?;
        let domain = self.domain()?;
        let fresh = self.fresh_keys()?;
        let _changing = self.0.changing.lock().await;
        let owner = self.0.store.add_card(card, fresh.row).await?;
        self.take_up_keys(owner, &fresh.keys);
        log::info!("card {}: created", owner.card);
        Ok(self.link(&domain, owner.card, &fresh.code))
    }

    /// New keys and a new link for a card; what is on the chip pays no more.
    pub async fn reprogram(&self, card: i64) -> Result<Value, CardError> {
        let domain = self.domain()?;
        let fresh = self.fresh_keys()?;
        let _changing = self.0.changing.lock().await;
        let owner = self.0.store.renew_card_keys(card, fresh.row).await?.ok_or(CardError::NoSuchCard)?;
        self.take_up_keys(owner, &fresh.keys);
        log::info!("card {card}: gets new keys");
        Ok(self.link(&domain, card, &fresh.code))
    }

    /// Ends a card. Answers what a programmer app needs to make the chip blank again: the keys that were handed
    /// out last, or none if it never got any. Earlier ones follow: newer keys may never have reached the chip.
    pub async fn wipe(&self, card: i64) -> Result<Value, CardError> {
        let _changing = self.0.changing.lock().await;
        let (row, keys) = self.0.store.wipe_card(card).await?.ok_or(CardError::NoSuchCard)?;
        lock(&self.0.deck).remove(card);
        log::info!("card {card}: wiped");
        let mut sets = keys.iter().map(|keys| {
            let mut set = json!({"uid": keys.uid});
            self.show_keys(&mut set, keys, "k").map(|()| set)
        });
        let Some(newest) = sets.next() else {
            return Ok(json!({"status": "OK", "card_id": card, "action": "none"}));
        };
        let mut answer = newest?;
        let earlier: Vec<Value> = sets.collect::<Result<_, _>>()?;
        answer["status"] = json!("OK");
        answer["version"] = json!(1);
        answer["action"] = json!("wipe");
        answer["id"] = json!(card);
        answer["card_name"] = json!(row.name);
        if !earlier.is_empty() {
            answer["earlier"] = json!(earlier);
        }
        Ok(answer)
    }

    /// `GET /new?a=`, and `POST /new?a=` where the app names the chip that it is about to write. The keys, for the
    /// bearer of the code, once.
    pub async fn program(&self, code: &str, uid: Option<&str>) -> Result<Value, Reason> {
        let config = self.0.config.borrow().card.clone().ok_or(Reason::NoCards)?;
        let code: [u8; 16] = hex::decode(code).ok_or(Reason::NoCode)?;
        let uid = match uid {
            None => None,
            Some(uid) => Some(hex::encode(&hex::decode::<7>(uid).ok_or(Reason::NoUid)?)),
        };
        let names_chip = uid.is_some();
        let taken = self.0.store.take_card_keys(Sha256::digest(code).into(), uid).await;
        let taken = taken.map_err(|err| {
            log::error!("card: keys cannot be handed out: {err}");
            Reason::NotNow
        })?;
        let (card, keys) = match taken {
            TakenKeys::Handed(handed) => handed,
            TakenKeys::ChipOf(card) => return Err(Reason::ChipOf(card)),
            TakenKeys::None => return Err(Reason::NoCode),
        };
        let base = links::of_card(&config.domain, card.id);
        let mut answer = json!({
            "protocol_name": "create_bolt_card_response",
            "protocol_version": 2,
            "card_name": card.name,
            "lnurlw_base": base,
            // The apps read a JSON true as "No".
            "uid_privacy": if card.uid_privacy { "Y" } else { "N" },
        });
        let shown = self.show_keys(&mut answer, &keys, "k").and_then(|()| {
            if names_chip {
                answer["LNURLW"] = json!(base);
                self.show_keys(&mut answer, &keys, "K")?;
            }
            Ok(CardKeys::unseal(&self.0.vault, &keys)?)
        });
        let opened = shown.map_err(|err| {
            log::error!("card {}: its keys cannot be read: {err}", card.id);
            Reason::NotNow
        })?;
        lock(&self.0.deck).put(&keys, &opened);
        log::info!("card {}: its keys are handed out", card.id);
        Ok(answer)
    }

    pub async fn list(&self) -> Result<Value, CardError> {
        Ok(self.0.store.cards().await?.iter().map(described).collect())
    }

    pub async fn show(&self, card: i64) -> Result<Value, CardError> {
        Ok(described(&self.0.store.card(card).await?.ok_or(CardError::NoSuchCard)?))
    }

    pub async fn enable(&self, card: i64, enabled: bool) -> Result<Value, CardError> {
        if !self.0.store.enable_card(card, enabled).await? {
            return Err(CardError::NoSuchCard);
        }
        log::info!("card {card}: {}", if enabled { "enabled" } else { "disabled" });
        self.show(card).await
    }

    /// Satoshis; what is not given stays.
    pub async fn limit(&self, card: i64, order: &Value) -> Result<Value, CardError> {
        let row = self.0.store.card(card).await?.ok_or(CardError::NoSuchCard)?;
        let given = |name, now: Sats| match order.get(name) {
            None => Ok(now),
            Some(value) => sats(value),
        };
        let (tx_max, day_max) = limits(given("tx_max", row.tx_max)?, given("day_max", row.day_max)?)?;
        if !self.0.store.limit_card(card, tx_max, day_max).await? {
            return Err(CardError::NoSuchCard);
        }
        log::info!("card {card}: at most {tx_max} sat a payment and {day_max} sat a day");
        self.show(card).await
    }

    /// The newest taps and what became of them.
    pub async fn history(&self, card: i64) -> Result<Value, CardError> {
        let store = &self.0.store;
        store.card(card).await?.ok_or(CardError::NoSuchCard)?;
        Ok(store.card_history(card, HISTORY).await?.iter().map(line_of_history).collect())
    }

    /// Cards that may pay.
    pub fn count(&self) -> usize {
        lock(&self.0.deck).len()
    }

    fn domain(&self) -> Result<String, CardError> {
        let config = self.0.config.borrow();
        config.card.as_ref().map(|card| card.domain.clone()).ok_or(CardError::NoCards)
    }

    fn link(&self, domain: &str, card: i64, code: &str) -> Value {
        let url = links::of_code(domain, code);
        json!({
            "status": "OK",
            "card_id": card,
            "url": url,
            "deep_link": links::deep(&url),
            "expires_at": self.0.store.wall().0.saturating_add(CODE_LIFE.as_secs_ceil()),
        })
    }

    fn fresh_keys(&self) -> Result<Fresh, CardError> {
        let mut code = [0u8; 16];
        getrandom::fill(&mut code).map_err(|_| StoreError::NoRandomness)?;
        let keys = CardKeys::generate()?;
        let (vault, to_seal) = (self.0.vault.clone(), keys.clone());
        let row = NewKeys {
            seal: Box::new(move |owner| to_seal.seal(&vault, owner)),
            code: Sha256::digest(code).into(),
            code_ends: self.0.store.now().saturating_add(CODE_LIFE),
        };
        Ok(Fresh { keys, row, code: hex::encode(&code) })
    }

    fn take_up_keys(&self, owner: KeysOwner, keys: &CardKeys) {
        lock(&self.0.deck).put(&KeysRow { owner, sealed: Vec::new(), uid: None, counter: None }, keys);
    }

    fn show_keys(&self, answer: &mut Value, row: &KeysRow, prefix: &str) -> Result<(), CardError> {
        let keys = CardKeys::unseal(&self.0.vault, row)?;
        for (number, key) in keys.in_hex().enumerate() {
            answer[format!("{prefix}{number}")] = json!(key);
        }
        Ok(())
    }
}

/// Keys in the making, and the code that will hand them out.
struct Fresh {
    keys: CardKeys,
    row: NewKeys,
    code: String,
}

fn new_card(order: &Value) -> Result<NewCard, CardError> {
    let name = order.get("card_name").and_then(Value::as_str).map(str::trim).unwrap_or_default();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(CardError::Input("card_name must be 1 to 64 characters"));
    }
    let amount = |name| order.get(name).map_or(Err(NO_AMOUNT), sats);
    let (tx_max, day_max) = limits(amount("tx_max")?, amount("day_max")?)?;
    let flag = |names: &[&str], default| match names.iter().find_map(|name| order.get(*name)) {
        None => Ok(default),
        Some(value) => {
            value.as_bool().ok_or(CardError::Input("enabled and uid_privacy must be true or false"))
        }
    };
    Ok(NewCard {
        name: name.to_owned(),
        // The word of the reference server is taken too.
        enabled: flag(&["enabled", "enable"], true)?,
        tx_max,
        day_max,
        uid_privacy: flag(&["uid_privacy"], false)?,
    })
}

const NO_AMOUNT: CardError = CardError::Input("tx_max and day_max are both needed, in whole satoshis");

fn sats(value: &Value) -> Result<Sats, CardError> {
    value.as_u64().filter(|sats| *sats <= ALL_SATS).map(Sats).ok_or(NO_AMOUNT)
}

fn limits(tx_max: Sats, day_max: Sats) -> Result<(Sats, Sats), CardError> {
    match tx_max <= day_max {
        true => Ok((tx_max, day_max)),
        false => Err(CardError::Input("tx_max must not be above day_max")),
    }
}

fn described(card: &CardRow) -> Value {
    json!({
        "card_id": card.id,
        "card_name": card.name,
        "enabled": card.enabled,
        "wiped": card.wiped,
        "programmed": card.programmed,
        "tx_max": card.tx_max.0,
        "day_max": card.day_max.0,
        "spent_today_msat": card.spent.0,
        "uid_privacy": card.uid_privacy,
        "uid": card.uid,
        "counter": card.counter,
        "created": card.created.0,
    })
}

fn line_of_history(row: &HistoryRow) -> Value {
    json!({
        "at": row.wall.0,
        "counter": row.counter,
        "state": match row.state {
            TapState::Issued => "tapped",
            TapState::Reserved | TapState::Sent => "pending",
            TapState::Paid => "paid",
            TapState::Failed => "failed",
        },
        "amount_msat": row.amount.map(|msat| msat.0),
        "fee_msat": row.fee.map(|msat| msat.0),
        "payment_hash": row.payment_hash.map(|hash| hex::encode(&hash)),
        "note": row.note,
    })
}
