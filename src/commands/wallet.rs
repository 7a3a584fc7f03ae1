//! The operator's `wallet` commands, as the control socket answers them. Tokens and words go through here to the
//! operator and back, never into the log.

use super::cards::usage_of;
use super::Refusal;
use crate::config::{Config, MintUrl};
use crate::ecash::wallet::{Received, Sent, Wallet, WalletError};
use crate::ecash::{KeysetInfo, Urgency};
use crate::json::json;
use crate::shop::Site;
use crate::store::Balance;
use crate::units::Sats;
use serde_json::Value;

pub const USAGE: &str = "wallet balance | info | receive TOKEN | send AMOUNT [--mint URL] [--v3] | sent | reclaim ID | restore | seed";

pub async fn carry_out(site: &Site, args: &[&str]) -> Result<Value, Refusal> {
    let shop = site.shop.as_ref().map_err(|closed| (closed.code, closed.cause.clone()))?;
    let (wallet, config) = (&shop.wallet, site.config());
    match args {
        ["balance"] => balance(wallet).await,
        ["info"] => info(site, wallet).await,
        ["receive", token] => receive(wallet, &config, token).await,
        ["send", amount, options @ ..] => send(wallet, amount, options).await,
        ["sent"] => {
            let now = shop.store.now();
            let age = |sent: &Sent| now.saturating_sub(sent.sent_at).as_secs_ceil();
            let sent = wallet.sent().await.map_err(refused)?;
            Ok(sent.iter().map(|one| described(one, json!({"seconds_ago": age(one)}))).collect())
        }
        ["reclaim", id] => {
            let id = id.parse().map_err(|_| ("usage", "an ID is a number of 'wallet sent'".to_owned()))?;
            let amount = wallet.take_back(id).await.map_err(refused)?;
            log::info!("operator: {amount} sat of a sent token taken back");
            Ok(json!({"reclaimed": amount.0}))
        }
        ["restore"] => restore(wallet, &config, None).await,
        ["restore", words] => restore(wallet, &config, Some((*words).to_owned())).await,
        // The words themselves never come this way.
        ["seed"] => {
            log::warn!("operator: the wallet's twelve words are shown");
            Ok(json!({}))
        }
        _ => Err(usage_of(USAGE, args)),
    }
}

async fn balance(wallet: &Wallet) -> Result<Value, Refusal> {
    let balances = wallet.balances().await.map_err(|err| (err.code(), err.to_string()))?;
    let one = |balance: &Balance| json!({"url": balance.mint.as_str(), "unit": balance.unit, "balance": balance.free.0});
    Ok(json!({"mints": balances.iter().map(one).collect::<Value>()}))
}

async fn info(site: &Site, wallet: &Wallet) -> Result<Value, Refusal> {
    let balances = wallet.balances().await.map_err(|err| (err.code(), err.to_string()))?;
    let mut mints = Vec::new();
    for balance in balances {
        let keyset = |keyset: &KeysetInfo| {
            json!({
                "id": keyset.id.to_string(),
                "unit": keyset.terms.unit,
                "active": keyset.active,
                "input_fee_ppk": keyset.terms.input_fee_ppk,
            })
        };
        let keysets = site.mints.get(&balance.mint).keysets(Urgency::Guest).await;
        mints.push(json!({
            "url": balance.mint.as_str(),
            "unit": balance.unit,
            "balance": balance.free.0,
            "held": balance.held.0,
            "proofs": balance.proofs,
            "keysets": keysets.map(|all| all.iter().map(keyset).collect::<Value>()).unwrap_or_default(),
        }));
    }
    let (receiving, spending) = wallet.open().await.map_err(|err| (err.code(), err.to_string()))?;
    Ok(json!({"mints": mints, "open": json!({"receiving": receiving, "spending": spending})}))
}

async fn receive(wallet: &Wallet, config: &Config, token: &str) -> Result<Value, Refusal> {
    let mints: Vec<MintUrl> = config.mints.iter().map(|mint| mint.url.clone()).collect();
    let offer = wallet.assess(token, &mints).await.map_err(|err| refused(err.into()))?;
    let (mint, fee) = (offer.mint.clone(), offer.fee);
    match wallet.receive(offer, None).await {
        Received::Done { net, .. } => {
            log::info!("operator: {net} sat of {mint} received");
            Ok(json!({"received": net.0, "fee": fee.0, "mint": mint.as_str(), "unit": "sat"}))
        }
        Received::Refused(refusal) => Err(refused(refusal.into())),
        Received::Unknown | Received::InFlight => Err(refused(WalletError::NotKnownYet)),
    }
}

async fn send(wallet: &Wallet, amount: &str, options: &[&str]) -> Result<Value, Refusal> {
    let usage = |message: &str| ("usage", message.to_owned());
    let amount = amount.parse().ok().filter(|amount| *amount > 0);
    let amount = amount.map(Sats).ok_or_else(|| usage("an amount is a number of sat, like 21"))?;
    let (mut mint, mut old_form) = (None, false);
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match *option {
            "--v3" => old_form = true,
            "--mint" => {
                let url = options.next().and_then(|url| MintUrl::parse(url).ok());
                mint = Some(url.ok_or_else(|| usage("--mint needs the URL of a mint"))?);
            }
            _ => return Err(usage_of(USAGE, &["send"])),
        }
    }
    let sent = wallet.send(amount, mint.as_ref(), old_form).await.map_err(refused)?;
    Ok(described(&sent, json!({})))
}

fn described(sent: &Sent, mut more: Value) -> Value {
    more["id"] = sent.id.into();
    more["mint"] = sent.mint.as_str().into();
    more["amount"] = sent.amount.0.into();
    more["token"] = sent.token.as_str().into();
    more
}

async fn restore(wallet: &Wallet, config: &Config, words: Option<String>) -> Result<Value, Refusal> {
    let mints: Vec<MintUrl> = config.mints.iter().map(|mint| mint.url.clone()).collect();
    let restored = wallet.restore(words, &mints).await.map_err(refused)?;
    let trouble = restored.trouble.iter().map(|(mint, why)| format!("{mint}: {why}"));
    Ok(json!({"restored": restored.found.0, "trouble": trouble.collect::<Vec<_>>()}))
}

fn refused(error: WalletError) -> Refusal {
    let code = match &error {
        WalletError::Insufficient(_) => "insufficient",
        WalletError::NotFound => "not_found",
        WalletError::Refused(refusal) if refusal.may_pass() => "try_again",
        WalletError::Refused(_) => "refused",
        WalletError::NotKnownYet => "not_known_yet",
        WalletError::Store(code) => code,
        WalletError::FeeTooHigh(_) | WalletError::Mint(_) => "mint",
    };
    (code, error.to_string())
}
