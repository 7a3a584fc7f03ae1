//! From a challenge to a token: what a browser asks, what a wallet answers, and the two digits between them.

use super::challenge::{
    AskedLogin, Browser, Confirmed, CookieId, Delivery, LoginStation, NotPending, Standing, K1,
};
use super::lnurl::LoginLinks;
use super::signature::{SignedBy, WalletKey};
use super::token::Issued;
use super::{lock, random, section, sphinx, Action, Auth, AuthError, LoginRefusal, SocketKey};
use crate::config::OperatorConfig;
use crate::hex;
use crate::json::json;
use crate::mac::MacAddr;
use crate::store::{with_change, Claim, LoginAudience, NewAuditRow, StoreError};
use crate::task;
use crate::units::Millis;
use serde_json::Value;
use std::net::IpAddr;

/// A challenge for a browser to show.
pub struct NewChallenge {
    pub k1: String,
    pub links: LoginLinks,
    pub expires_in: Millis,
    /// Digits will be asked for in any case.
    pub confirm: bool,
    /// What the browser shows from now on.
    pub cookie: CookieId,
}

/// What a wallet sends. Each is as it came; `None` where it did not.
pub struct Callback<'a> {
    pub k1: Option<&'a str>,
    pub sig: Option<&'a str>,
    pub key: Option<&'a str>,
    /// The wallet's own device, if it is a guest here.
    pub mac: Option<MacAddr>,
    /// The wallet's address. Loopback means a proxy that passes everybody's answers on and does not say whose they are.
    pub address: IpAddr,
}

/// What a wallet is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    LoggedIn,
    /// Its holder types these digits into the browser.
    Code(u8),
    /// Its key is this operator's, once that is written down.
    Enrols(OperatorConfig),
}

/// Why two digits were not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmRefusal {
    #[error("this login was begun elsewhere")]
    Foreign,
    #[error("these are not the two digits that the wallet shows")]
    Wrong,
    #[error("no digits are asked for, or it took too long")]
    Unasked,
    #[error("{0}")]
    Closed(#[from] AuthError),
}

impl Auth {
    /// Asks a wallet for a signature, on behalf of the browser at this station with one of these cookies.
    pub fn challenge(
        &self,
        (station, cookies): (LoginStation, &[CookieId]),
        (audience, action): (LoginAudience, Action),
        socket: Option<SocketKey>,
    ) -> Result<NewChallenge, AuthError> {
        let config = self.config();
        let auth = section(&config)?;
        if audience == LoginAudience::Admin && !self.0.store.wall_is_plausible() {
            return Err(AuthError::NoClock);
        }
        if socket.is_some_and(|key| !self.0.sockets.has(&key, station)) {
            return Err(AuthError::NoSocket);
        }
        let now = self.0.store.now();
        lock(&self.0.asking).admit(station, now).map_err(AuthError::TooMany)?;
        let k1: K1 = random()?;
        let mut challenges = self.challenges();
        let mut known = cookies.iter().map(|cookie| Browser { station, cookie: *cookie });
        let browser = match known.find(|browser| challenges.knows(browser)) {
            Some(browser) => browser,
            None => Browser { station, cookie: random()? },
        };
        challenges.add(k1, AskedLogin { browser, audience, action, socket }, now, auth.challenge_ttl);
        drop(challenges);
        Ok(NewChallenge {
            links: LoginLinks::of(&auth.url, &k1, action),
            k1: hex::encode(&k1),
            expires_in: auth.challenge_ttl,
            confirm: !matches!(station, LoginStation::Mac(_)),
            cookie: browser.cookie,
        })
    }

    /// A wallet's answer. The k1 is looked up first: nothing else may cost arithmetic.
    pub async fn callback(&self, sent: Callback<'_>) -> Result<Answered, LoginRefusal> {
        section(&self.config())?;
        let k1: K1 = sent.k1.and_then(hex::decode).ok_or(LoginRefusal::Parameter("k1"))?;
        let now = self.0.store.now();
        let is_enrolment = lock(&self.0.enrolments).is_wanted(&k1, now);
        let asker = match is_enrolment {
            true => LoginStation::Address(sent.address),
            false => self.challenges().pending(&k1, false, now).ok_or(LoginRefusal::K1)?,
        };
        self.admit_call(sent.address, asker).map_err(LoginRefusal::TooMany)?;
        let signed = SignedBy::parse(sent.key.unwrap_or_default(), sent.sig.unwrap_or_default())
            .map_err(LoginRefusal::Parameter)?;
        let key = signed.key;
        if is_enrolment {
            return self.enrolled(signed, &k1).await;
        }
        let asked = self.taken(&k1, signed).await?;
        let done = self.signed(&k1, &asked, key, sent.mac).await;
        if let Err(error) = &done {
            log::info!("no login by key {}: {error}", key.short());
            self.give_up(&k1, &asked);
        }
        done.map_err(LoginRefusal::from)
    }

    /// An app that is wallet and browser in one: it has asked for a challenge, signs it, and has the token at once. Guests
    /// only; what a wallet signs elsewhere comes to [`Auth::callback`], whose token goes to the browser that asked.
    pub async fn sign_in(&self, sent: Callback<'_>) -> Result<Issued, LoginRefusal> {
        section(&self.config())?;
        let k1: K1 = sent.k1.and_then(hex::decode).ok_or(LoginRefusal::Parameter("k1"))?;
        let asker = self.challenges().pending(&k1, false, self.0.store.now()).ok_or(LoginRefusal::K1)?;
        self.admit_call(sent.address, asker).map_err(LoginRefusal::TooMany)?;
        let signed = SignedBy::parse(sent.key.unwrap_or_default(), sent.sig.unwrap_or_default())
            .map_err(LoginRefusal::Parameter)?;
        let key = signed.key;
        let asked = self.taken(&k1, signed).await?;
        let issued = match asked.audience {
            LoginAudience::Client => self.issue(key, LoginAudience::Client, false).await,
            LoginAudience::Admin => Err(AuthError::OtherAudience),
        };
        match issued {
            Ok(issued) => {
                log::info!("an app logged in by key {}", key.short());
                self.challenges().finish(&k1, None);
                Ok(issued)
            }
            Err(error) => {
                self.give_up(&k1, &asked);
                Err(error.into())
            }
        }
    }

    /// Takes the challenge for the wallet that has signed it. Only the first one to sign gets it.
    async fn taken(&self, k1: &K1, signed: SignedBy) -> Result<AskedLogin, LoginRefusal> {
        let key = signed.key;
        self.challenges().begin(k1, self.0.store.now()).map_err(not_pending)?;
        if let Err(why) = self.must_be_signed(signed, *k1).await {
            let over = self.challenges().wrong(k1);
            log::info!("a wrong signature for a login by key {}", key.short());
            over.inspect(|asked| self.tell(asked, k1, "lnauth_expired"));
            return Err(why);
        }
        self.challenges().take(k1, self.0.store.now()).map_err(not_pending)
    }

    /// Counts an answer to a challenge: of its sender or, where that is not known, of who asked, so that one guest uses up
    /// no other's.
    pub(super) fn admit_call(&self, sender: IpAddr, asker: LoginStation) -> Result<(), Millis> {
        let who = if sender.is_loopback() { asker } else { LoginStation::Address(sender) };
        lock(&self.0.calling).admit(who, self.0.store.now())
    }

    /// Goes on with a key that has signed; nobody else has its challenge now.
    async fn signed(
        &self,
        k1: &K1,
        asked: &AskedLogin,
        key: WalletKey,
        wallet: Option<MacAddr>,
    ) -> Result<Answered, AuthError> {
        self.role(&key, asked.audience)?;
        let is_here = |mac| LoginStation::Mac(mac) == asked.browser.station;
        if wallet.is_some_and(is_here) {
            self.log_in(k1, asked, key).await?;
            return Ok(Answered::LoggedIn);
        }
        let code = two_digits()?;
        self.challenges().ask_code(k1, key, code, wallet, self.0.store.now());
        self.tell(asked, k1, "lnauth_confirm");
        Ok(Answered::Code(code))
    }

    /// What became of a challenge, for the browser at this station with one of these cookies. Its token comes once.
    pub fn standing(&self, k1: &K1, (station, cookies): (LoginStation, &[CookieId])) -> Standing {
        let now = self.0.store.now();
        self.challenges().standing(k1, station, cookies, now)
    }

    /// The two digits that the wallet's holder was shown, typed into the browser.
    pub async fn confirm(
        &self,
        k1: &K1,
        browser: (LoginStation, &[CookieId]),
        code: u8,
    ) -> Result<(), ConfirmRefusal> {
        let now = self.0.store.now();
        let confirmed = self.challenges().confirm(k1, browser, code, now);
        let (confirmed, asked) = confirmed.ok_or(ConfirmRefusal::Unasked)?;
        match confirmed {
            Confirmed::Right(key) => {
                let done = self.log_in(k1, &asked, key).await;
                if done.is_err() {
                    self.give_up(k1, &asked);
                }
                Ok(done?)
            }
            Confirmed::Wrong => {
                if self.challenges().is_over(k1) {
                    self.tell(&asked, k1, "lnauth_expired");
                }
                Err(ConfirmRefusal::Wrong)
            }
            Confirmed::Unasked => Err(ConfirmRefusal::Unasked),
            Confirmed::Foreign => Err(ConfirmRefusal::Foreign),
        }
    }

    /// The digits that the holder of a guest's device is to be shown, whose wallet has signed.
    pub fn code_for(&self, mac: MacAddr) -> Option<u8> {
        self.challenges().code_for(mac, self.0.store.now())
    }

    /// The one place where a proven key becomes a login.
    pub(super) async fn log_in(&self, k1: &K1, asked: &AskedLogin, key: WalletKey) -> Result<(), AuthError> {
        self.link(asked, key).await?;
        let replaces = asked.action == Action::Auth && asked.is_operators();
        let issuing = Box::pin(self.issue(key, asked.audience, replaces));
        let config = self.config();
        let issued = match config.operator(&key.to_bytes()).filter(|_| asked.is_operators()) {
            Some(operator) => {
                let (name, role) = (&operator.name, operator.role.as_str());
                let row = NewAuditRow::new(name, role, "login", asked.action.as_str(), "ok");
                with_change(row, issuing).await.0?
            }
            None => issuing.await?,
        };
        log::info!("{} logged in by key {}", asked.audience.as_str(), key.short());
        let account = self.account_of(&key, asked.audience).await?;
        let delivery = Delivery { token: issued.token, key, role: issued.claims.role, account };
        let told = asked.socket.is_some_and(|socket| {
            let success = json!({
                "msg": "lnauth_success",
                "k1": hex::encode(k1),
                "status": true,
                "jwt": delivery.token,
                "user": self.user(&delivery.key, &delivery.role, delivery.account.as_deref()),
            });
            self.0.sockets.tell(&socket, &success)
        });
        self.challenges().finish(k1, (!told).then_some(delivery));
        Ok(())
    }

    /// If the signature is for `link`: from now on the key stands for what was paid on the device that asked.
    async fn link(&self, asked: &AskedLogin, key: WalletKey) -> Result<(), AuthError> {
        match (asked.action, asked.audience, asked.browser.station, self.0.linker.get()) {
            (Action::Link, LoginAudience::Client, LoginStation::Mac(mac), Some(link)) => {
                let note = section(&self.config())?.note();
                self.0.store.note_domain(note, true).await?;
                link(mac, Claim::Key(key.to_string())).await.map(drop).map_err(AuthError::NotLinked)
            }
            _ => Ok(()),
        }
    }

    /// The name of the account that a guest's key stands for.
    pub async fn account_of(
        &self,
        key: &WalletKey,
        audience: LoginAudience,
    ) -> Result<Option<String>, AuthError> {
        match audience {
            LoginAudience::Client => Ok(self.0.store.claimed_account(&Claim::Key(key.to_string())).await?),
            LoginAudience::Admin => Ok(None),
        }
    }

    /// Who has logged in, as clients read it.
    pub fn user(&self, key: &WalletKey, role: &str, account: Option<&str>) -> Value {
        let mut user = json!({"pubkey": key.to_string(), "role": role, "account": account});
        if self.config().auth.as_ref().is_some_and(|auth| auth.sphinx.is_some()) {
            sphinx::fill_in(&mut user);
        }
        user
    }

    pub(super) fn give_up(&self, k1: &K1, asked: &AskedLogin) {
        self.challenges().end(k1);
        self.tell(asked, k1, "lnauth_expired");
    }

    /// Tells the socket that asked, if one did.
    fn tell(&self, asked: &AskedLogin, k1: &K1, what: &str) {
        if let Some(socket) = asked.socket {
            self.0.sockets.tell(&socket, &json!({"msg": what, "k1": hex::encode(k1)}));
        }
    }

    /// Refuses a signature that is wrong, and a key that is none.
    pub(super) async fn must_be_signed(&self, signed: SignedBy, k1: K1) -> Result<(), LoginRefusal> {
        let _place = self.0.looking.acquire().await;
        let looked = task::blocking(move || signed.has_signed(&k1)).await;
        match looked.map_err(|_| AuthError::Store(StoreError::Closed))? {
            Some(true) => Ok(()),
            Some(false) => Err(LoginRefusal::Signature),
            None => Err(LoginRefusal::Parameter("key")),
        }
    }
}

fn not_pending(_: NotPending) -> LoginRefusal {
    LoginRefusal::K1
}

/// From 0 to 99, each as likely.
fn two_digits() -> Result<u8, AuthError> {
    loop {
        let [byte] = random()?;
        // Of 256 the first 200 are whole hundreds.
        if byte < 200 {
            return Ok(byte % 100);
        }
    }
}
