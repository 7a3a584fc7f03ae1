//! Enrolment: the shell is shown a link, and the wallet that signs it becomes an operator. The link is good for ten
//! minutes and once.

use super::challenge::{AskedLogin, Browser, Challenges, K1};
use super::lnurl::LoginLinks;
use super::login::Answered;
use super::signature::SignedBy;
use super::{lock, random, section, Action, Auth, AuthError, LoginRefusal, LoginStation, WalletKey};
use crate::config::{OperatorConfig, Role};
use crate::store::LoginAudience;
use crate::units::Millis;
use litemap::LiteMap;
use std::net::{IpAddr, Ipv4Addr};

/// How long a link is good.
const LIFE: Millis = Millis::from_secs(600);
/// Links at a time.
const MOST: usize = 8;

/// Who is to become an operator, until a wallet has signed.
#[derive(Default)]
pub struct Enrolments {
    challenges: Challenges,
    wanted: LiteMap<K1, (String, Role)>,
}

/// What the shell shows.
pub struct NewEnrolment {
    pub links: LoginLinks,
    pub expires_in: Millis,
}

impl Auth {
    /// A link for the wallet of an operator to be. It replaces an older link for the same name.
    pub fn enroll(&self, name: &str, role: Role) -> Result<NewEnrolment, AuthError> {
        let config = self.config();
        let auth = section(&config)?;
        let (k1, now): (K1, _) = (random()?, self.0.store.now());
        // No browser asks what became of it: the shell has no cookie.
        let station = LoginStation::Address(IpAddr::from(Ipv4Addr::LOCALHOST));
        let browser = Browser { station, cookie: random()? };
        let asked =
            AskedLogin { browser, audience: LoginAudience::Admin, action: Action::Auth, socket: None };
        let mut enrolments = lock(&self.0.enrolments);
        enrolments.add(k1, asked, (name.to_owned(), role), now)?;
        Ok(NewEnrolment { links: LoginLinks::of(&auth.url, &k1, Action::Auth), expires_in: LIFE })
    }

    /// A wallet's answer to such a link.
    pub(super) async fn enrolled(&self, signed: SignedBy, k1: &K1) -> Result<Answered, LoginRefusal> {
        let enrolments = || lock(&self.0.enrolments);
        let (key, now) = (signed.key, self.0.store.now());
        enrolments().challenges.begin(k1, now).map_err(|_| LoginRefusal::K1)?;
        if let Err(why) = self.must_be_signed(signed, *k1).await {
            enrolments().challenges.wrong(k1);
            return Err(why);
        }
        let operator = enrolments().take(k1, key, self.0.store.now()).ok_or(LoginRefusal::K1)?;
        // A key belongs to one operator only.
        match self.config().operator(&operator.key) {
            Some(_) => Err(LoginRefusal::NotAllowed),
            None => Ok(Answered::Enrols(operator)),
        }
    }
}

impl Enrolments {
    fn add(&mut self, k1: K1, asked: AskedLogin, who: (String, Role), now: Millis) -> Result<(), AuthError> {
        let (challenges, wanted) = (&self.challenges, &mut self.wanted);
        wanted.retain(|k1, (name, _)| *name != who.0 && challenges.pending(k1, false, now).is_some());
        if wanted.len() >= MOST {
            return Err(AuthError::TooMany(LIFE));
        }
        self.challenges.add(k1, asked, now, LIFE);
        self.wanted.insert(k1, who);
        Ok(())
    }

    /// Whether a signature over this k1 makes an operator.
    pub fn is_wanted(&self, k1: &K1, now: Millis) -> bool {
        self.wanted.contains_key(k1) && self.challenges.pending(k1, false, now).is_some()
    }

    /// The operator that a right signature over this k1 makes. The k1 is used up.
    pub fn take(&mut self, k1: &K1, key: WalletKey, now: Millis) -> Option<OperatorConfig> {
        self.challenges.take(k1, now).ok()?;
        let (name, role) = self.wanted.remove(k1)?;
        Some(OperatorConfig { name, key: key.to_bytes(), role })
    }
}
