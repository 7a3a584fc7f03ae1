//! Looking at a token before anything is taken: what it is worth to us, or why it is refused.
//!
//! Cheap looks come first: text and shape, then what the journal knows of it, then the mint's terms; the curve last.

use super::locked_offer::{LockedOffer, Weighed};
use super::Wallet;
use crate::config::MintUrl;
use crate::ecash::keyset::{Keyset, KeysetId};
use crate::ecash::lock::{is_condition, Lock};
use crate::ecash::mint::{Mint, Urgency};
use crate::ecash::outputs::Proof;
use crate::ecash::token::{self, Token, TokenError};
use crate::ecash::wire::KeysetInfo;
use crate::ecash::EcashError;
use crate::set::SortedSet;
use crate::store::{Known, OfflineLimits, Reference, StoreError};
use crate::task;
use crate::units::{Millis, Sats, Unit};
use litemap::{Entry, LiteMap};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;

pub(super) const UNIT: &str = Unit::Sat.as_str();
/// Checking the evidence of one proof takes a small router a fiftieth of a second.
pub(super) const MAX_PROOFS: usize = 100;
/// How long to wait for a mint if its token may be taken without it.
const MINT_FIRST: Duration = Duration::from_secs(2);

/// A token that can be taken, and what it is worth. Made only by [`Wallet::assess`].
#[derive(Clone, Debug)]
pub struct TokenOffer {
    pub mint: MintUrl,
    pub unit: String,
    /// Its face value.
    pub amount: Sats,
    /// What the mint takes for the swap (NUT-02).
    pub fee: Sats,
    /// What arrives with us; never zero.
    pub net: Sats,
    /// The same for the same ecash, however it is written.
    pub reference: Reference,
    /// Received before, or being received now: [`Wallet::receive`] answers with the outcome.
    pub is_known: bool,
    /// A stranger's without evidence: it may be made up.
    pub(super) is_suspect: bool,
    pub(super) proofs: Vec<Proof>,
    /// The account whose balance it is added to.
    pub credits: Option<String>,
    /// It is locked to a venue of ours.
    pub(super) locked: Option<LockedOffer>,
}

/// Who hands a token in, and where.
#[derive(Clone, Copy, Debug)]
pub struct TokenFrom<'a> {
    pub payer: Payer,
    /// The venue; `None`: any of ours.
    pub venue: Option<&'a str>,
    /// How much may be taken without its mint, if it is locked to the venue.
    pub offline: Option<OfflineLimits>,
}

/// Who hands a token in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payer {
    /// Has bought nothing lately. What all of these hand in without evidence is limited together.
    Stranger,
    Known,
}

/// Why a token is not taken. Apart from `Spent`, it is as good as it was before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a token, damaged, oversized, of several mints, of a keyset that the mint does not have.
    #[error("{0}")]
    Token(#[from] TokenError),
    #[error("this mint is not accepted here")]
    MintNotAccepted,
    #[error("only tokens in sat are accepted")]
    Unit,
    /// A spending condition (NUT-10): another person's key, or a secret, is needed to spend it.
    #[error("the token is locked to somebody else")]
    Locked,
    /// To another venue of this router.
    #[error("the token is locked to another place than this")]
    OtherVenue,
    /// Its issuer may take it back by now.
    #[error("the token is locked, and its time is over")]
    LockOver,
    #[error("the token contains the same ecash twice")]
    Duplicate,
    /// The mint has no key for one of its amounts.
    #[error("the token has an amount that its mint does not issue")]
    Amount,
    /// Its DLEQ evidence (NUT-12) does not hold.
    #[error("the token was not made by its mint")]
    Forged,
    /// Nothing would be left of it.
    #[error("the mint's fee for this token is as much as the token")]
    FeeTooHigh,
    #[error("the token has been spent already")]
    Spent,
    /// Somebody else spends it at this moment; it may become free again.
    #[error("the token is being spent at this moment")]
    BeingSpent,
    /// The mint has changed its fee since the offer was made: assess again.
    #[error("the mint has changed its fee; try again")]
    TermsChanged,
    /// The mint has not seen the token.
    #[error("the mint cannot be reached; the token was not taken")]
    MintAway,
    #[error("the mint limits our requests; the token was not taken, try again in a minute")]
    MintBusy,
    /// The mint lacks something without which its ecash could be lost.
    #[error("the mint cannot be used: {0}")]
    MintUnsuitable(&'static str),
    #[error("the mint refuses the token")]
    MintRefuses,
    /// Of tokens without evidence too many were refused lately. The mint has not seen this one; one with evidence
    /// (NUT-12) would be taken now.
    #[error("many tokens of this mint were refused lately; this one was not taken, try again in {} s", .0.as_secs_ceil())]
    Later(Millis),
    /// More receipts are open than can be kept track of.
    #[error("too many payments are being received; the token was not taken")]
    TooMany,
    /// The store's code: nothing can be received now.
    #[error("this router cannot receive at the moment ({0})")]
    Closed(&'static str),
}

impl Refusal {
    /// The same where ecash of ours was to be sent, not a token taken.
    pub fn of_sending(&self) -> String {
        match self {
            Refusal::MintAway => "the mint cannot be reached; nothing was sent".to_owned(),
            Refusal::MintBusy => {
                "the mint limits our requests; nothing was sent, try again in a minute".to_owned()
            }
            Refusal::TooMany => "too many payments are under way; nothing was sent".to_owned(),
            Refusal::Spent => {
                "some of the proofs were spent elsewhere; nothing was sent, try again without them".to_owned()
            }
            Refusal::BeingSpent => "the proofs are being spent at this moment; nothing was sent".to_owned(),
            Refusal::MintRefuses => "the mint refuses the proofs; nothing was sent".to_owned(),
            other => format!("{other}; nothing was sent"),
        }
    }

    /// Whether the same token may be taken later without any change by the guest or the operator.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Refusal::BeingSpent
                | Refusal::TermsChanged
                | Refusal::MintAway
                | Refusal::MintBusy
                | Refusal::MintUnsuitable(_)
                | Refusal::Later(_)
                | Refusal::TooMany
                | Refusal::Closed(_)
        )
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        log::error!("wallet: {error}");
        Refusal::Closed(error.code())
    }
}

/// What a mint's failure to tell its terms, or its refusal of a first swap, means for the token.
impl From<EcashError> for Refusal {
    fn from(error: EcashError) -> Refusal {
        match error {
            EcashError::RateLimited | EcashError::BackingOff(_) => Refusal::MintBusy,
            EcashError::LoginNeeded => Refusal::MintUnsuitable("it needs a login"),
            EcashError::Unsuitable(why) => Refusal::MintUnsuitable(why),
            EcashError::TokenSpent => Refusal::Spent,
            EcashError::TokenPending => Refusal::BeingSpent,
            EcashError::Unbalanced => Refusal::TermsChanged,
            EcashError::Unreachable(_)
            | EcashError::NoAnswer(_)
            | EcashError::Busy
            | EcashError::Malformed(_)
            | EcashError::Lied(_) => Refusal::MintAway,
            _ => Refusal::MintRefuses,
        }
    }
}

impl Wallet {
    /// What a token is known by ([`TokenOffer::reference`]); refuses what can be refused without a call.
    pub fn reference(text: &str) -> Result<Reference, Refusal> {
        shape(&Token::parse(text)?)
    }

    /// A guest has waited in vain for the mint of this token.
    pub fn kept_a_guest_waiting(&self, text: &str) {
        let mint = Token::parse(text).ok().and_then(|token| MintUrl::parse(&token.mint).ok());
        if let Some(mint) = mint {
            self.0.mints.kept_a_guest_waiting(&mint);
        }
    }

    /// Looks whether a token of one of these mints can be taken, and what would arrive. No money moves, and a token
    /// that was received before is known without asking its mint.
    pub async fn assess(&self, text: &str, accepted: &[MintUrl]) -> Result<TokenOffer, Refusal> {
        self.assess_from(text, accepted, TokenFrom { payer: Payer::Known, venue: None, offline: None }).await
    }

    /// As `assess`, for a token that may be a stranger's.
    pub async fn assess_from(
        &self,
        text: &str,
        accepted: &[MintUrl],
        from: TokenFrom<'_>,
    ) -> Result<TokenOffer, Refusal> {
        let token = Token::parse(text)?;
        let reference = shape(&token)?;
        let mint = MintUrl::parse(&token.mint).map_err(|_| Refusal::MintNotAccepted)?;
        let amount = token.total().ok_or(TokenError::Damaged)?;
        let known = self.0.store.op_known(reference.clone()).await?;
        if let Some(known) = known {
            let net = match known {
                Known::Open(op) => op.amount,
                Known::Done { amount, .. } => amount,
                Known::Failed { .. } => Sats(0),
            };
            let fee = Sats(amount.0.saturating_sub(net.0));
            let (unit, proofs) = (token.unit, Vec::new());
            let is_suspect = false;
            return Ok(TokenOffer {
                mint,
                unit,
                amount,
                fee,
                net,
                reference,
                is_known: true,
                is_suspect,
                proofs,
                credits: None,
                locked: None,
            });
        }
        let now = self.0.store.now();
        if let Some(refusal) = self.0.suspects.known_refusal(&reference, &token.proofs, now) {
            return Err(refusal);
        }
        if token.unit != UNIT {
            return Err(Refusal::Unit);
        }
        if !accepted.contains(&mint) {
            return Err(Refusal::MintNotAccepted);
        }
        // Evidence is looked at below, and false evidence refused.
        let is_suspect =
            from.payer == Payer::Stranger && token.proofs.iter().any(|proof| proof.dleq.is_none());
        if is_suspect {
            self.0.suspects.check(&mint, now)?;
        }
        let mut locked = self.locked_to_us(&token, &from).await?;
        let at = self.0.mints.get(&mint);
        let weighed = match &mut locked {
            Some(locked) if locked.limits.is_some() => {
                let is_proven = locked.is_proven(&token);
                let asked = tokio::time::timeout(MINT_FIRST, weigh(&at, token.clone()));
                match asked.await.unwrap_or(Err(Refusal::MintAway)) {
                    Err(Refusal::MintAway | Refusal::MintBusy) => {
                        self.weigh_offline(&at, token, locked).await?
                    }
                    weighed => {
                        // The mint's terms may come from memory: without evidence only the mint knows a forgery.
                        locked.limits = locked.limits.filter(|_| is_proven);
                        weighed?
                    }
                }
            }
            _ => weigh(&at, token).await?,
        };
        let Weighed { proofs, fee } = weighed;
        let net = amount.0.checked_sub(fee.0).filter(|net| *net > 0).map(Sats);
        let net = net.ok_or(Refusal::FeeTooHigh)?;
        let unit = UNIT.to_owned();
        let is_known = false;
        let credits = None;
        Ok(TokenOffer {
            mint,
            unit,
            amount,
            fee,
            net,
            reference,
            is_known,
            is_suspect,
            proofs,
            credits,
            locked,
        })
    }
}

/// What its mint says of a token.
async fn weigh(at: &Mint, token: Token) -> Result<Weighed, Refusal> {
    if let Some(why) = at.info(Urgency::Guest).await?.unsafe_to_take() {
        return Err(Refusal::MintUnsuitable(why));
    }
    let (proofs, listed) = resolve(at, token).await?;
    let fee = fee_of(&proofs, &listed).ok_or(TokenError::Damaged)?;
    Ok(Weighed { proofs: check_evidence(at, proofs).await?, fee })
}

/// The powers of two that an amount is the sum of.
pub(super) fn powers(amount: Sats) -> Vec<u64> {
    (0..u64::BITS).map(|bit| amount.0 & (1 << bit)).filter(|part| *part > 0).collect()
}

/// What can be refused by looking at the token alone; answers its reference.
fn shape(token: &Token) -> Result<Reference, Refusal> {
    if token.proofs.len() > MAX_PROOFS {
        return Err(TokenError::TooLarge.into());
    }
    let secrets: SortedSet<&str> = token.proofs.iter().map(|proof| proof.secret.as_str()).collect();
    if secrets.len() != token.proofs.len() {
        return Err(Refusal::Duplicate);
    }
    if secrets.iter().any(|secret| is_condition(secret) && Lock::of(secret).is_none()) {
        return Err(Refusal::Locked);
    }
    Ok(reference_of(secrets.into_iter()))
}

/// What the same ecash is known by however it is written: a hash of its secrets.
pub(super) fn reference_of<'a>(secrets: impl Iterator<Item = &'a str>) -> Reference {
    let sorted: SortedSet<&str> = secrets.collect();
    let hash = sorted.iter().fold(Sha256::new(), |hash, secret| hash.chain_update(Sha256::digest(secret)));
    Reference::Token(hash.finalize().into())
}

/// The proofs with their keysets in full, and the mint's keysets; those are read anew for a keyset that we have not
/// heard of.
async fn resolve(mint: &Mint, token: Token) -> Result<(Vec<Proof>, Arc<Vec<KeysetInfo>>), Refusal> {
    let ids = |listed: &[KeysetInfo]| -> Vec<KeysetId> { listed.iter().map(|keyset| keyset.id).collect() };
    let mut listed = mint.keysets(Urgency::Guest).await?;
    let proofs = match token.clone().resolve(&ids(&listed)) {
        Ok(proofs) => proofs,
        Err(_) => {
            listed = mint.keysets_anew(Urgency::Guest).await?;
            token.resolve(&ids(&listed))?
        }
    };
    let is_sat = |proof: &Proof| listed.iter().any(|k| k.id == proof.keyset && k.terms.unit == UNIT);
    match proofs.iter().all(is_sat) {
        true => Ok((proofs, listed)),
        false => Err(Refusal::Unit),
    }
}

/// The mint's fee for spending these proofs together (NUT-02). Nothing for a keyset that is not listed, and beyond
/// 64 bits.
pub(super) fn fee_of(proofs: &[Proof], listed: &[KeysetInfo]) -> Option<Sats> {
    let ppk = |proof: &Proof| listed.iter().find(|k| k.id == proof.keyset).map(|k| k.terms.input_fee_ppk);
    let sum = proofs.iter().try_fold(0u64, |sum, proof| sum.checked_add(ppk(proof)?))?;
    Some(Sats(sum.div_ceil(1000)))
}

/// Every amount must be one that the mint issues, and evidence, if there is any, must hold. Returns the proofs
/// without their evidence, which is not needed any more.
async fn check_evidence(mint: &Mint, mut proofs: Vec<Proof>) -> Result<Vec<Proof>, Refusal> {
    let mut keysets: LiteMap<KeysetId, Arc<Keyset>> = LiteMap::new();
    for proof in &proofs {
        if let Entry::Vacant(new) = keysets.entry(proof.keyset) {
            new.insert(mint.keyset(proof.keyset, Urgency::Guest).await?);
        }
    }
    if proofs.iter().any(|proof| keysets.get(&proof.keyset).and_then(|keys| keys.key(proof.amount)).is_none())
    {
        return Err(Refusal::Amount);
    }
    if proofs.iter().any(|proof| proof.dleq.is_some()) {
        let checked = task::blocking(move || {
            let holds = |proof: &Proof| {
                keysets.get(&proof.keyset).and_then(|keys| proof.dleq_holds(keys)) != Some(false)
            };
            proofs.iter().all(holds).then_some(proofs)
        });
        proofs = checked.await.map_err(|_| Refusal::TooMany)?.ok_or(Refusal::Forged)?;
    }
    proofs.iter_mut().for_each(|proof| proof.dleq = None);
    Ok(proofs)
}

impl TokenOffer {
    /// Only we, or its issuer, can spend it.
    pub fn is_locked(&self) -> bool {
        self.locked.is_some()
    }

    /// What the journal keeps to send the request again.
    pub(super) fn text(&self) -> String {
        token::encode(&self.mint, UNIT, &self.proofs)
    }
}
