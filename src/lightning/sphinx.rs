//! The Sphinx V2 bot, by its admin token. It cannot be told a fee limit, shows no preimage, and knows a
//! payment only by the tag that it gives it: one whose first answer was lost stays unknown, and its money
//! counts as spent.

use super::call::{CallBody, Peer, LOOK_TIMEOUT, PAY_TIMEOUT};
use super::proof::{is_hash, never_looked_at, plain, settled};
use super::{Account, BackendAnswer, Call, Kind, Lightning, Outcome, PaymentOrder, PaymentRef, Report};
use crate::calls::{NoAnswer, Tls};
use crate::config::Config;
use crate::json::json;
use crate::units::Msats;
use hyper::Method;
use serde_json::Value;

const MAX_TAG: usize = 128;
const MAX_INVITE: usize = 1024;

pub struct Sphinx {
    peer: Peer,
}

impl Sphinx {
    /// The secret of the account is the admin token.
    pub fn new(account: &Account, tls: &Tls) -> Option<Sphinx> {
        let token = std::str::from_utf8(account.secret.expose()).ok()?;
        Some(Sphinx { peer: Peer::new(account, tls, "x-admin-token", token)? })
    }
}

impl Lightning for Sphinx {
    fn pay<'a>(&'a self, order: &'a PaymentOrder) -> Call<'a, BackendAnswer> {
        Box::pin(async move {
            let body = CallBody::Json(json!({"bolt11": order.invoice, "wait": true}));
            let (status, sent) = match self.peer.ask(Method::POST, "/pay_invoice", body, PAY_TIMEOUT).await {
                Err(NoAnswer::NotSent(cause)) => return BackendAnswer::refused(cause),
                Err(NoAnswer::Lost(cause)) => return BackendAnswer::unknown(cause),
                Ok((status, _)) if never_looked_at(status) => {
                    return BackendAnswer::refused(format!("HTTP {status}"))
                }
                Ok(answer) => answer,
            };
            let ours = sent["payment_hash"].is_null() || is_hash(&sent["payment_hash"], &order.payment_hash);
            let reference = tag(&sent).filter(|_| ours);
            let outcome = match ours && status == 200 && sent["status"] == "COMPLETE" {
                true => settled("Sphinx", &order.payment_hash, &sent["preimage"], false, None),
                false => Outcome::Unknown(format!("HTTP {status}: {}", status_of(&sent))),
            };
            BackendAnswer { outcome, reference }
        })
    }

    fn lookup<'a>(&'a self, payment: &'a PaymentRef) -> Call<'a, BackendAnswer> {
        Box::pin(async move {
            let Some(tag) = payment.reference.as_deref().filter(|tag| is_tag(tag)) else {
                return BackendAnswer::unknown("the bot's tag for it was never received");
            };
            let path = format!("/sends/{tag}");
            let (status, answer) = match self.peer.ask(Method::GET, &path, CallBody::None, LOOK_TIMEOUT).await
            {
                Err(none) => return BackendAnswer::unknown(none.cause()),
                Ok(answer) => answer,
            };
            // A list, or the entry by itself.
            let entries = answer.as_array().map_or(std::slice::from_ref(&answer), Vec::as_slice);
            let Some(entry) = entries.iter().find(|entry| entry["tag"] == tag).filter(|_| status == 200)
            else {
                return BackendAnswer::unknown(format!("HTTP {status} without the payment"));
            };
            let outcome = match entry["status"].as_str() {
                Some("COMPLETE") => settled("Sphinx", &payment.payment_hash, &entry["preimage"], false, None),
                Some("FAILED") => Outcome::Failed(plain(entry["error"].as_str().unwrap_or("FAILED"))),
                _ => Outcome::Unknown(status_of(entry)),
            };
            outcome.into()
        })
    }

    fn test(&self) -> Call<'_, Report> {
        Box::pin(async move {
            let account = match self.peer.ask(Method::GET, "/account", CallBody::None, LOOK_TIMEOUT).await {
                Ok((200, account)) if account.is_object() => account,
                Ok((401 | 403, _)) => return Report::silent("the token is refused"),
                Ok((status, _)) => return Report::silent(format!("HTTP {status}: this is not the bot")),
                Err(none) => return Report::silent(none.cause()),
            };
            let told = |name: &str| plain(account[name].as_str().unwrap_or("-"));
            Report {
                notes: vec![
                    format!(
                        "the account: contact_info {}, alias {}, img {}, network {}",
                        told("contact_info"),
                        told("alias"),
                        told("img"),
                        told("network")
                    ),
                    "the token is accepted; whether the bot pays cannot be tried without paying".to_owned(),
                    "fee_limit_msat has no effect: the bot takes none".to_owned(),
                    "a payment whose first answer is lost cannot be looked up, and counts as spent"
                        .to_owned(),
                ],
                ..Report::default()
            }
        })
    }
}

/// What an invite of the bot's is to be.
pub struct BotsInvite {
    /// What the bot pays its new user.
    pub amount: Msats,
    /// Whom the new user is a contact of: a key, and the hint of a route to it.
    pub inviter: Option<(String, String)>,
}

impl Sphinx {
    /// Asks the bot of the configuration for an invite. The error is for the operator. Not asked twice: the bot pays for each.
    pub async fn invite(config: &Config, tls: &Tls, order: &BotsInvite) -> Result<String, String> {
        let section = config.lightning.iter().find(|section| section.kind == Kind::Sphinx);
        let section = section.ok_or("no Sphinx bot is configured")?;
        let account = Account::load(section).map_err(|err| err.to_string())?;
        let bot = Sphinx::new(&account, tls).ok_or("the bot's address or token cannot be used")?;
        let mut body = json!({"amt_msat": order.amount.0, "alias": "new_user"});
        if let Some((key, hint)) = &order.inviter {
            body["inviter_pubkey"] = key.as_str().into();
            body["inviter_route_hint"] = hint.as_str().into();
        }
        match bot.peer.ask(Method::POST, "/invite", CallBody::Json(body), LOOK_TIMEOUT).await {
            Ok((200, answer)) => {
                let invite = answer["invite"].as_str().filter(|text| is_invite(text));
                invite.map(str::to_owned).ok_or_else(|| "the bot's answer has no invite".to_owned())
            }
            Ok((401 | 403, _)) => Err("the bot refuses the token".to_owned()),
            Ok((status, _)) => Err(format!("the bot answers HTTP {status}")),
            Err(none) => Err(format!("the bot does not answer: {}", none.cause())),
        }
    }
}

/// One word that can be shown.
fn is_invite(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_INVITE && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn tag(answer: &Value) -> Option<String> {
    answer["tag"].as_str().filter(|tag| is_tag(tag)).map(str::to_owned)
}

/// Means nothing in a path.
fn is_tag(tag: &str) -> bool {
    let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'=' | b'~');
    !tag.is_empty() && tag.len() <= MAX_TAG && tag.bytes().all(safe)
}

fn status_of(answer: &Value) -> String {
    plain(answer["status"].as_str().unwrap_or("no status"))
}
