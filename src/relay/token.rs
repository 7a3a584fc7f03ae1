//! The one OAuth token of a consumer key: fetched when there is none, when it runs out, or when Daraja has refused the one
//! that is held, and never because somebody only asks.

use crate::calls::{Destination, Tls};
use crate::config::DarajaAccount;
use crate::fiat::{basic_of, fresh_token};
use crate::store::Secret;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{sleep_until, Instant};
use zeroize::Zeroizing;

/// A token that ends sooner is as good as dead, because it has to get to a router, and from there to Daraja. One that lives less
/// than twice as long is good for half its life.
const MARGIN: Duration = Duration::from_secs(30);
/// Between two fetches: a router that calls every token dead kills only its own time.
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
    token: Option<HeldToken>,
    fetched: Option<Instant>,
    trouble: Option<NoToken>,
}

struct HeldToken {
    token: Zeroizing<String>,
    ends: Instant,
    /// How long before its end it is given out no more.
    margin: Duration,
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
        if let Some(next) = held.fetched.map(|fetched| fetched + AGAIN).filter(|next| *next > Instant::now())
        {
            match &held.trouble {
                Some(trouble) => return Err(trouble.clone()),
                None => sleep_until(next).await,
            }
        }
        let fetched = fresh_token(&self.to, &self.basic).await;
        held.fetched = Some(Instant::now());
        match fetched {
            Ok((token, lives)) => {
                let lives = Duration::from_secs(lives.min(LONGEST_LIFE));
                let (ends, margin) = (Instant::now() + lives, MARGIN.min(lives / 2));
                held.token = Some(HeldToken { token: token.clone(), ends, margin });
                held.trouble = None;
                // However short it lives, it is what there is.
                Ok(LiveToken { token, lives })
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
        let HeldToken { token, ends, margin } = self.token.as_ref()?;
        let lives = ends.saturating_duration_since(Instant::now());
        let is_good = lives > *margin && dead != Some(token.as_str());
        is_good.then(|| LiveToken { token: token.clone(), lives })
    }
}
