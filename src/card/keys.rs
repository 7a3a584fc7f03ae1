//! The keys of the cards: made from the system's randomness, sealed for the store, held ready for taps.

use super::chip::{ChipKey, Tapped, Uid};
use crate::hex;
use crate::store::{KeysOwner, KeysRow, Secret, Store, StoreError, Vault};
use litemap::LiteMap;
use zeroize::Zeroizing;

const KEYS: usize = 5;
const KEY_LEN: usize = 16;

/// K0 to K4 of one card, all different.
#[derive(Clone)]
pub struct CardKeys(Zeroizing<[ChipKey; KEYS]>);

impl CardKeys {
    pub fn generate() -> Result<CardKeys, StoreError> {
        let mut bytes = Zeroizing::new([0u8; KEYS * KEY_LEN]);
        loop {
            getrandom::fill(&mut *bytes).map_err(|_| StoreError::NoRandomness)?;
            let keys = CardKeys::from_bytes(&*bytes).ok_or(StoreError::NoRandomness)?;
            if keys.differ() {
                return Ok(keys);
            }
        }
    }

    fn from_bytes(bytes: &[u8]) -> Option<CardKeys> {
        let mut keys = Zeroizing::new([[0u8; KEY_LEN]; KEYS]);
        let (chunks, rest) = bytes.as_chunks::<KEY_LEN>();
        for (to, from) in keys.iter_mut().zip(chunks) {
            *to = *from;
        }
        (chunks.len() == KEYS && rest.is_empty()).then_some(CardKeys(keys))
    }

    fn differ(&self) -> bool {
        self.0.iter().enumerate().all(|(at, key)| self.0.iter().skip(at.saturating_add(1)).all(|k| k != key))
    }

    pub fn seal(&self, vault: &Vault, owner: &KeysOwner) -> Result<Vec<u8>, StoreError> {
        let bytes = Zeroizing::new(self.0.concat());
        vault.seal(&name(owner), &bytes)
    }

    pub fn unseal(vault: &Vault, row: &KeysRow) -> Result<CardKeys, StoreError> {
        let bytes: Secret = vault.unseal(&name(&row.owner), &row.sealed)?;
        CardKeys::from_bytes(bytes.expose()).ok_or_else(|| StoreError::Corrupt("a card's keys".to_owned()))
    }

    /// K0 to K4 in hex, for the programmer.
    pub fn in_hex(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|key| hex::encode(key))
    }
}

fn name(owner: &KeysOwner) -> String {
    format!("card {} keys {}", owner.card, owner.version)
}

/// What a tap is checked with, by card.
pub struct Deck(LiteMap<i64, InHand>);

#[derive(Clone)]
pub struct InHand {
    pub owner: KeysOwner,
    /// SDMMetaRead and SDMFileRead.
    read: Zeroizing<[ChipKey; 2]>,
    uid: Option<Uid>,
    counter: Option<u32>,
}

impl Deck {
    pub async fn load(store: &Store, vault: &Vault) -> Result<Deck, StoreError> {
        let mut deck = Deck(LiteMap::new());
        for row in store.live_card_keys().await? {
            deck.put(&row, &CardKeys::unseal(vault, &row)?);
        }
        Ok(deck)
    }

    /// Adds the keys of a card, unless newer ones are there already.
    pub fn put(&mut self, row: &KeysRow, keys: &CardKeys) {
        if self.get(row.owner.card).is_some_and(|hand| hand.owner.version > row.owner.version) {
            return;
        }
        let [_, k1, k2, ..] = *keys.0;
        let uid = row.uid.as_deref().and_then(hex::decode);
        let counter = row.counter;
        let hand = InHand { owner: row.owner, read: Zeroizing::new([k1, k2]), uid, counter };
        self.0.insert(row.owner.card, hand);
    }

    pub fn remove(&mut self, card: i64) {
        self.0.remove(&card);
    }

    pub fn get(&self, card: i64) -> Option<&InHand> {
        self.0.get(&card)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What the store has accepted, so that it need not be asked about the same tap again.
    pub fn note(&mut self, owner: KeysOwner, tapped: &Tapped) {
        if let Some(hand) = self.0.get_mut(&owner.card).filter(|hand| hand.owner == owner) {
            hand.uid = Some(tapped.uid);
            hand.counter = hand.counter.max(Some(tapped.counter));
        }
    }
}

impl InHand {
    pub fn open(&self, message: &super::chip::ChipMessage) -> Option<Tapped> {
        let [k1, k2] = &*self.read;
        let tapped = message.open(k1, k2)?;
        let is_this_chip = self.uid.is_none_or(|uid| uid == tapped.uid);
        let is_new = self.counter.is_none_or(|counter| counter < tapped.counter);
        (is_this_chip && is_new).then_some(tapped)
    }
}
