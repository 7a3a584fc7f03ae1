//! Invites: a code that the operator gave away, in for a session. Refused: a code that nobody made, that is used up or
//! has expired, one whose worth this venue does not sell, and a caller who tries too many.
//!
//! A code is used, and what it is worth granted, in one commit; then the gate opens, then the guest is told.

mod code;

pub use code::InviteCode;

use super::code_value::CodeValue;
use super::guesses::Guesses;
use super::{SaleError, Terms};
use crate::access::Session;
use crate::config::Venue;
use crate::network::neighbours::Caller;
use crate::store::{
    InviteHash, InviteRow, InviteUse, KeyFile, NewInvites, Reference, RequestId, Secret, StoreError,
};
use crate::task;
use crate::units::Millis;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use zeroize::Zeroizing;

/// Makes the hashes of codes; made with the first code.
const KEY: KeyFile = KeyFile("invites");
const KEY_LEN: usize = 32;
/// Only a few wrong codes may be tried within this.
const MINUTE: Millis = Millis::from_secs(60);
/// The gate opens in much less, or later by itself.
const GATE: Duration = Duration::from_secs(5);

/// Why a code lets nobody in, or an order makes none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    #[error("there is no such code")]
    Unknown,
    #[error("this code was used already")]
    Used,
    #[error("this code has expired")]
    Expired,
    /// It can still be used, elsewhere.
    #[error("what this code is worth is not sold here; it can still be used elsewhere")]
    WrongMetric,
    /// For this long.
    #[error("too many wrong codes; please wait")]
    TooMany(Millis),
    /// It is used; access opens by itself.
    #[error("your code is taken, and access will open by itself; do not use another one")]
    GrantPending,
    #[error("{0}")]
    Sale(SaleError),
    /// Of an order.
    #[error("no venue sells that")]
    NowhereSold,
    #[error("there are too many codes already: delete some")]
    Full,
}

impl InviteError {
    pub fn code(&self) -> &'static str {
        match self {
            InviteError::Unknown => "unknown_code",
            InviteError::Used => "code_used",
            InviteError::Expired => "code_expired",
            InviteError::WrongMetric => "wrong_metric",
            InviteError::TooMany(_) => "too_many",
            InviteError::GrantPending => "grant_pending",
            InviteError::Sale(error) => error.code(),
            InviteError::NowhereSold => "invalid_input",
            InviteError::Full => "too_many_codes",
        }
    }

    /// Whether it was no good code, as guesses are.
    fn is_a_guess(&self) -> bool {
        matches!(self, InviteError::Unknown | InviteError::Used | InviteError::Expired)
    }
}

impl From<StoreError> for InviteError {
    fn from(error: StoreError) -> InviteError {
        InviteError::Sale(error.into())
    }
}

impl From<SaleError> for InviteError {
    fn from(error: SaleError) -> InviteError {
        InviteError::Sale(error)
    }
}

/// A code that was made, which is shown only now.
pub struct MadeInvite {
    pub id: RequestId,
    pub code: InviteCode,
}

/// Makes codes, and lets a guest in who shows one. Clones share everything.
#[derive(Clone)]
pub struct InviteEngine(Arc<SharedInvites>);

struct SharedInvites {
    terms: Terms,
    key: tokio::sync::OnceCell<Secret>,
    guesses: Mutex<Guesses>,
}

impl InviteEngine {
    pub fn new(terms: Terms) -> InviteEngine {
        let guesses = Mutex::new(Guesses::new(MINUTE));
        InviteEngine(Arc::new(SharedInvites { terms, key: tokio::sync::OnceCell::new(), guesses }))
    }

    /// Makes `number` codes.
    pub async fn make(&self, order: NewInvites, number: usize) -> Result<Vec<MadeInvite>, InviteError> {
        let terms = &self.0.terms;
        let config = terms.config();
        if !config.venues.iter().any(|venue| CodeValue::at(&config, venue, order.worth).is_some()) {
            return Err(InviteError::NowhereSold);
        }
        terms.has_space()?;
        let key = self.key().await?;
        let codes: Option<Vec<InviteCode>> = (0..number).map(|_| InviteCode::random()).collect();
        let codes = codes.ok_or(StoreError::NoRandomness)?;
        let hashes: Option<Vec<InviteHash>> = codes.iter().map(|code| hash(key, code)).collect();
        let hashes = hashes.ok_or(SaleError::Internal)?;
        // Where nobody takes them out again, they are kept nowhere.
        let is_sphinx = config.auth.as_ref().is_some_and(|auth| auth.sphinx.is_some());
        let shown = |code: &InviteCode| Secret::new(code.to_string().into_bytes());
        let unused = if is_sphinx { codes.iter().map(shown).collect() } else { Vec::new() };
        let ids = terms.store.make_invites(order, hashes, unused).await?.ok_or(InviteError::Full)?;
        Ok(ids.into_iter().zip(codes).map(|(id, code)| MadeInvite { id, code }).collect())
    }

    /// Lets a guest in for a code. A caller that stops waiting does not stop it.
    pub async fn redeem(&self, caller: &Caller, venue: &Venue, code: &str) -> Result<Session, InviteError> {
        self.0.terms.may_admit(venue.metric)?;
        self.guesses().admit(caller.mac, self.0.terms.store.now()).map_err(InviteError::TooMany)?;
        let (engine, caller, venue) = (self.clone(), caller.clone(), venue.clone());
        let code = Zeroizing::new(code.to_owned());
        let redeeming = task::start(async move {
            let redeemed = engine.redeem_counted(&caller, &venue, &code).await;
            if !redeemed.as_ref().is_err_and(InviteError::is_a_guess) {
                engine.guesses().take_back(caller.mac);
            }
            redeemed
        });
        redeeming.await.unwrap_or(Err(InviteError::Sale(SaleError::Internal)))
    }

    async fn redeem_counted(
        &self,
        caller: &Caller,
        venue: &Venue,
        code: &str,
    ) -> Result<Session, InviteError> {
        let terms = &self.0.terms;
        let code: InviteCode = code.parse().map_err(|()| InviteError::Unknown)?;
        let hash = hash(self.key().await?, &code).ok_or(SaleError::Internal)?;
        let row = self.usable(terms.store.invite(hash).await?)?;
        let value = CodeValue::at(&terms.config(), venue, row.worth).ok_or(InviteError::WrongMetric)?;
        Terms::seems_alone(caller.clone()).await?;
        let grant = value.grant(Reference::Invite(row.id.clone(), 0), caller.mac, venue);
        let admission = match terms.store.use_invite(hash, grant).await? {
            InviteUse::Granted(admission) => admission,
            InviteUse::Refused(row) => return Err(self.usable(row).err().unwrap_or(InviteError::Used)),
        };
        log::info!("{} is let in by invite {}", caller.mac, row.id);
        let access = terms.access.clone();
        let admitting = task::start(async move { access.admit(admission).await });
        match tokio::time::timeout(GATE, admitting).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(_)) | Err(_) => Err(InviteError::GrantPending),
        }
    }

    /// The invite, if it is there and can be used.
    fn usable(&self, row: Option<InviteRow>) -> Result<InviteRow, InviteError> {
        match row {
            None => Err(InviteError::Unknown),
            Some(row) if row.has_expired(self.0.terms.store.now()) => Err(InviteError::Expired),
            Some(row) if row.uses_left == 0 => Err(InviteError::Used),
            Some(row) => Ok(row),
        }
    }

    async fn key(&self) -> Result<&Secret, StoreError> {
        let store = &self.0.terms.store;
        let open = || async {
            let mut fresh = Zeroizing::new([0u8; KEY_LEN]);
            getrandom::fill(&mut *fresh).map_err(|_| StoreError::NoRandomness)?;
            KEY.load_or_create(store, move || Secret::new(fresh.to_vec())).await
        };
        self.0.key.get_or_try_init(open).await
    }

    fn guesses(&self) -> MutexGuard<'_, Guesses> {
        self.0.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Never `None`: any key will do.
fn hash(key: &Secret, code: &InviteCode) -> Option<InviteHash> {
    let mac = Hmac::<Sha256>::new_from_slice(key.expose()).ok()?;
    Some(mac.chain_update(code.digits()).finalize().into_bytes().into())
}
