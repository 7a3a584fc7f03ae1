//! `tollgated wallet ...`: the takings. Tokens and words go through here to the operator and back, never into the log.

use super::Reach::{self, Errand};
use super::Shows::{Facts, Own, Rows, Token};
use super::{
    takings, Command, CommandError, Desk, Ended, Given, OnTakings, Shell, Takings, Told, Whose, MOMENT,
    OTHERS,
};
use crate::config::MintUrl;
use crate::config::Role::Owner;
use crate::ecash::wallet::{self, Received, SentToken, Wallet, WalletError};
use crate::ecash::{token, KeysetInfo, Urgency};
use crate::json::json;
use crate::store::Balance;
use crate::units::Sats;
use serde_json::Value;
use std::io::IsTerminal;
use std::time::Duration;

/// Every keyset of every mint is searched, and some mints limit requests.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(1800);

pub static COMMANDS: &[Command] = &[
    Command {
        name: "wallet balance",
        args: "",
        role: Owner,
        audited: false,
        moves_money: false,
        whose: Whose::Platform,
        reach: Reach::Takings(&["GET /admin/wallet"], OTHERS, |takings, given| Box::pin(balance(takings, given))),
        shows: Facts,
        summary: "what the takings are, per mint",
    },
    Command {
        name: "wallet info",
        args: "",
        role: Owner,
        audited: false,
        moves_money: false,
        whose: Whose::Platform,
        reach: Reach::Takings(&["GET /admin/wallet/info"], OTHERS, |takings, given| Box::pin(info(takings, given))),
        shows: Facts,
        summary: "more of the same: what is held, keysets, fees, what is under way",
    },
    Command {
        name: "wallet receive",
        args: "TOKEN",
        role: Owner,
        audited: true,
        moves_money: true,
        whose: Whose::Platform,
        reach: Reach::Takings(&[], OTHERS, |takings, given| Box::pin(receive(takings, given))),
        shows: Facts,
        summary: "take a token in ('-': from standard input)",
    },
    Command {
        name: "wallet send",
        args: "AMOUNT [--mint URL] [--v3]",
        role: Owner,
        audited: true,
        moves_money: true,
        whose: Whose::Platform,
        reach: Reach::Takings(&[], OTHERS, |takings, given| Box::pin(send(takings, given))),
        shows: Token,
        summary: "print a token over that many sat; --v3 in the older form",
    },
    Command {
        name: "wallet sent",
        args: "",
        role: Owner,
        audited: true,
        moves_money: false,
        whose: Whose::Platform,
        reach: Reach::Takings(&[], OTHERS, |takings, given| Box::pin(sent(takings, given))),
        shows: Rows("sent tokens"),
        summary: "tokens that were printed and not spent by anybody yet",
    },
    Command {
        name: "wallet reclaim",
        args: "ID",
        role: Owner,
        audited: true,
        moves_money: true,
        whose: Whose::Platform,
        reach: Reach::Takings(&[], OTHERS, |takings, given| Box::pin(reclaim(takings, given))),
        shows: Facts,
        summary: "take one of them back",
    },
    Command {
        name: "wallet restore",
        args: "[WORDS]",
        role: Owner,
        audited: true,
        moves_money: true,
        whose: Whose::Platform,
        reach: Errand(restored, RESTORE_TIMEOUT, |desk, given| Box::pin(restore_in_daemon(desk, given))),
        shows: Facts,
        summary: "look for ecash of the wallet's own words, or of others ('-': from standard input), which become the \
                  wallet's",
    },
    Command {
        name: "wallet seed",
        args: "",
        role: Owner,
        audited: true,
        moves_money: false,
        whose: Whose::Platform,
        reach: Errand(seed, MOMENT, |desk, given| Box::pin(seed_is_shown(desk, given))),
        shows: Own,
        summary: "print the twelve words that the takings are made from; to a terminal only",
    },
];

async fn balance(takings: &Takings, _: &Given) -> Result<Value, CommandError> {
    let balances = balances(&takings.wallet).await?;
    let one = |balance: &Balance| json!({"url": balance.mint.as_str(), "unit": balance.free.unit.as_str(), "balance": balance.free.number});
    Ok(json!({"mints": balances.iter().map(one).collect::<Value>()}))
}

async fn balances(wallet: &Wallet) -> Result<Vec<Balance>, CommandError> {
    wallet.balances().await.map_err(|err| CommandError::Closed(err.code(), err.to_string()))
}

async fn info(takings: &Takings, _: &Given) -> Result<Value, CommandError> {
    let wallet = &takings.wallet;
    let mut mints = Vec::new();
    for balance in balances(wallet).await? {
        let keyset = |keyset: &KeysetInfo| {
            json!({
                "id": keyset.id.to_string(),
                "unit": keyset.terms.unit,
                "active": keyset.active,
                "input_fee_ppk": keyset.terms.input_fee_ppk,
            })
        };
        let keysets = takings.mints.get(&balance.mint).keysets(Urgency::Guest).await;
        mints.push(json!({
            "url": balance.mint.as_str(),
            "unit": balance.free.unit.as_str(),
            "balance": balance.free.number,
            "held": balance.held.number,
            "proofs": balance.proofs,
            "keysets": keysets.map(|all| all.iter().map(keyset).collect::<Value>()).unwrap_or_default(),
        }));
    }
    let (receiving, spending) =
        wallet.open().await.map_err(|err| CommandError::Closed(err.code(), err.to_string()))?;
    Ok(json!({"mints": mints, "open": json!({"receiving": receiving, "spending": spending})}))
}

async fn receive(takings: &Takings, given: &Given) -> Result<Value, CommandError> {
    let wallet = &takings.wallet;
    let pasted = given.need("TOKEN")?;
    let token = token::found_in(pasted).unwrap_or_else(|| pasted.to_owned());
    let offer = wallet.assess(&token, &takings.sellers).await.map_err(|err| refused(err.into()))?;
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

async fn send(takings: &Takings, given: &Given) -> Result<Value, CommandError> {
    let amount = given.parsed("AMOUNT")?.map(Sats).ok_or_else(|| given.wrong())?;
    let mint = given.text("--mint").map(MintUrl::parse).transpose();
    let mint = mint.map_err(|_| CommandError::Usage("--mint needs the URL of a mint".to_owned()))?;
    let sent = takings.wallet.send(amount, mint.as_ref(), given.has("--v3")).await;
    let sent = sent.map_err(|error| refused(error.of_sending()))?;
    Ok(described(&sent, json!({})))
}

async fn sent(takings: &Takings, _: &Given) -> Result<Value, CommandError> {
    let now = takings.store.now();
    let age = |sent: &SentToken| now.saturating_sub(sent.sent_at).as_secs_ceil();
    let sent = takings.wallet.sent().await.map_err(refused)?;
    Ok(sent.iter().map(|one| described(one, json!({"seconds_ago": age(one)}))).collect())
}

async fn reclaim(takings: &Takings, given: &Given) -> Result<Value, CommandError> {
    let id = given.need("ID")?.parse();
    let id = id.map_err(|_| CommandError::Usage("an ID is a number of 'wallet sent'".to_owned()))?;
    let amount = takings.wallet.take_back(id).await.map_err(refused)?;
    log::info!("operator: {amount} sat of a sent token taken back");
    Ok(json!({"reclaimed": amount.0}))
}

fn described(sent: &SentToken, mut more: Value) -> Value {
    more["id"] = sent.id.into();
    more["mint"] = sent.mint.as_str().into();
    more["amount"] = sent.amount.0.into();
    more["token"] = sent.token.as_str().into();
    more
}

/// The shell's part of restoring: the wallet is the daemon's, if one runs.
fn restored(shell: &mut Shell, given: &Given) -> Result<Ended, CommandError> {
    let handler: OnTakings = |takings, given| Box::pin(restore(takings, given));
    takings::carry_out(shell, given, || shell.have_done(given), handler, RESTORE_TIMEOUT).map(Ended::Answer)
}

async fn restore_in_daemon(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    restore(&Takings::of(desk)?, given).await
}

async fn restore(takings: &Takings, given: &Given) -> Result<Value, CommandError> {
    let words = given.text("WORDS").map(str::to_owned);
    let restored = takings.wallet.restore(words, &takings.sellers).await.map_err(refused)?;
    let trouble = restored.trouble.iter().map(|(mint, why)| format!("{mint}: {why}"));
    Ok(json!({"restored": restored.found.0, "trouble": trouble.collect::<Vec<_>>()}))
}

/// The words come from the key file, not through the daemon, which may not run; it only notes that they were shown.
fn seed(shell: &mut Shell, given: &Given) -> Result<Ended, CommandError> {
    if !std::io::stdout().is_terminal() {
        let message = "the words are printed to a terminal only: whoever has them has the money";
        return Err(CommandError::Refused("no_terminal", message.to_owned()));
    }
    let main = shell.loaded()?.main;
    takings::must_be_made(&main.state_dir)?;
    let words = wallet::words(&main.state_dir);
    let words = words.map_err(|err| CommandError::Closed(err.code(), err.to_string()))?;
    if shell.have_done(given).is_err() {
        (shell.above.log)(&main);
        note_that_it_is_shown();
        takings::note_done(shell, given);
    }
    let data = json!({"words": words});
    Ok(Told::well(format!("{words}\n"), data))
}

/// The words themselves never come this way.
async fn seed_is_shown(_: &Desk, _: &Given) -> Result<Value, CommandError> {
    note_that_it_is_shown();
    Ok(json!({}))
}

fn note_that_it_is_shown() {
    log::warn!("operator: the wallet's twelve words are shown");
}

fn refused(error: WalletError) -> CommandError {
    let message = error.to_string();
    match error {
        WalletError::Insufficient(_) => CommandError::Refused("insufficient", message),
        WalletError::Promised(_) => CommandError::Refused("promised", message),
        WalletError::NotFound => CommandError::Missing("not_found", message),
        WalletError::Refused(refusal) | WalletError::NotSent(refusal) if refusal.may_pass() => {
            CommandError::Refused("try_again", message)
        }
        WalletError::Refused(_) | WalletError::NotSent(_) => CommandError::Refused("refused", message),
        WalletError::NotKnownYet | WalletError::ChangeNotKnownYet => {
            CommandError::Refused("not_known_yet", message)
        }
        WalletError::Store(code) => CommandError::Closed(code, message),
        WalletError::FeeTooHigh(_) | WalletError::Mint(_) => CommandError::Refused("mint", message),
    }
}
