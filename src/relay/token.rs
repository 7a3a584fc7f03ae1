//! The one OAuth token of a consumer key: fetched when there is none, when it runs out, or when Daraja has refused the one
//! that is held, and never because somebody only asks.

use crate::calls::{Destination, Tls};
use crate::config::DarajaAccount;
use crate::fiat::{basic_of, fresh_token};
use crate::store::Secret;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// A token that ends sooner is as good as dead: it has to get to a router, and from there to Daraja.
const MARGIN: Duration = Duration::from_secs(30);
/// After a fetch, whatever came of it, the next one waits: a router that calls every token dead kills only its own time.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST_LIFE: u64 = 86_400;

/// A token, and how long it lives yet.
#[derive(Clone)]
pub struct LiveToken {
    pub token: Zeroizing<String>,
    pub lives: Duration,
}

/// Why there is none. No text of it holds a credential.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no token: {0}")]
pub struct NoToken(String);

pub struct TokenHolder {
    to: Destination,
    basic: Secret,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    token: Option<(Zeroizing<String>, Instant)>,
    fetched: Option<Instant>,
    trouble: Option<NoToken>,
}

impl TokenHolder {
    pub fn read(account: &DarajaAccount, tls: &Tls) -> Result<TokenHolder, String> {
        let basic = basic_of(account).map_err(|err| err.to_string())?;
        let to = Destination::new(account.base_url.clone(), tls.clone());
        Ok(TokenHolder { to, basic, held: Mutex::default() })
    }

    /// The token; another one than `dead`. Of those who ask at once, one fetches it.
    pub async fn token(&self, dead: Option<&str>) -> Result<LiveToken, NoToken> {
        let mut held = self.held.lock().await;
        if let Some(live) = held.live(dead) {
            return Ok(live);
        }
        if held.fetched.is_some_and(|fetched| fetched.elapsed() < AGAIN) {
            let just_now = || NoToken("one was fetched a moment ago; ask again".to_owned());
            return Err(held.trouble.clone().unwrap_or_else(just_now));
        }
        let fetched = fresh_token(&self.to, &self.basic).await;
        held.fetched = Some(Instant::now());
        match fetched {
            Ok((token, lives)) => {
                let lives = Duration::from_secs(lives.min(LONGEST_LIFE));
                held.token = Some((token, Instant::now() + lives));
                held.trouble = None;
                // However short it lives, it is what there is.
                held.live(None).ok_or_else(|| NoToken("Daraja's lives too short".to_owned()))
            }
            Err(refused) => {
                let trouble = NoToken(format!("Daraja gives none ({})", refused.code));
                log::warn!("{trouble}");
                held.token = None;
                held.trouble = Some(trouble.clone());
                Err(trouble)
            }
        }
    }
}

impl Held {
    fn live(&self, dead: Option<&str>) -> Option<LiveToken> {
        let (token, ends) = self.token.as_ref()?;
        let lives = ends.saturating_duration_since(Instant::now());
        let is_good = lives > MARGIN && dead != Some(token.as_str());
        is_good.then(|| LiveToken { token: token.clone(), lives })
    }
}
