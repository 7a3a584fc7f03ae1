//! The Vault as we ask it: signing in with AppRole, and its transit engine. Each session signs out at its end: no token
//! is kept.

use super::KeeperError;
use crate::calls::{in_time, request, CallRequest, Connection, Destination, NoAnswer, Tls};
use crate::config::VaultConfig;
use crate::json::{self, json};
use crate::store::Secret;
use base64::prelude::{Engine, BASE64_STANDARD};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{HeaderValue, CONTENT_TYPE};
use hyper::Method;
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;
use zeroize::Zeroizing;

const TIMEOUT: Duration = Duration::from_secs(8);
const MAX_ANSWER: usize = 64 * 1024;
const LONGEST_CREDENTIAL: u64 = 4096;
const LONGEST_TOKEN: usize = 2048;
const LONGEST_WRAPPED: usize = 512;
/// Bytes of a data key.
const KEY: usize = 32;

/// A session that has signed in.
pub struct VaultSession {
    to: Destination,
    key: String,
    token: Zeroizing<String>,
}

/// A data key as the Vault has wrapped it: `vault:v1:...`. No secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped(String);

impl Wrapped {
    pub fn parse(text: &str) -> Option<Wrapped> {
        let wrapped = Wrapped(text.to_owned());
        let is_plain = text.len() <= LONGEST_WRAPPED && text.bytes().all(|b| b.is_ascii_graphic());
        (is_plain && wrapped.version().is_some()).then_some(wrapped)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Of the Vault's key.
    pub fn version(&self) -> Option<u32> {
        let (version, rest) = self.0.strip_prefix("vault:v")?.split_once(':')?;
        version.parse().ok().filter(|_| !rest.is_empty())
    }
}

impl VaultSession {
    /// Signs in; the files are read as they are now.
    pub async fn sign_in(vault: &VaultConfig, tls: &Tls) -> Result<VaultSession, KeeperError> {
        let body = json!({
            "role_id": credential(&vault.role_id_file)?.as_str(),
            "secret_id": credential(&vault.secret_id_file)?.as_str(),
        });
        let to = Destination::new(vault.address.clone(), tls.clone());
        let mut session =
            VaultSession { to, key: vault.transit_key.clone(), token: Zeroizing::new(String::new()) };
        let answer = session.ask("sign in", "/v1/auth/approle/login", &body).await?;
        let token = answer["auth"]["client_token"].as_str().unwrap_or_default();
        let is_one =
            (1..=LONGEST_TOKEN).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
        if !is_one {
            return Err(KeeperError::Unreadable("sign in"));
        }
        session.token = Zeroizing::new(token.to_owned());
        Ok(session)
    }

    /// A new data key, which was unwrapped again for a trial: what cannot be opened seals nothing.
    pub async fn data_key(&self) -> Result<(Secret, Wrapped), KeeperError> {
        let what = "make a data key";
        let answer = self.transit(what, "datakey/plaintext", &json!({"bits": KEY * 8})).await?;
        let (key, wrapped) = (plaintext(what, &answer)?, wrapped(what, &answer)?);
        match self.decrypt(&wrapped).await? == key {
            true => Ok((key, wrapped)),
            false => Err(KeeperError::Unreadable(what)),
        }
    }

    pub async fn decrypt(&self, wrapped: &Wrapped) -> Result<Secret, KeeperError> {
        let what = "unwrap the data key";
        let answer = self.transit(what, "decrypt", &json!({"ciphertext": wrapped.as_str()})).await?;
        plaintext(what, &answer)
    }

    /// The same data key, wrapped with the newest version of the Vault's key.
    pub async fn rewrap(&self, old: &Wrapped) -> Result<Wrapped, KeeperError> {
        let what = "rewrap the data key";
        let answer = self.transit(what, "rewrap", &json!({"ciphertext": old.as_str()})).await?;
        let new = wrapped(what, &answer)?;
        match self.decrypt(&new).await? == self.decrypt(old).await? {
            true => Ok(new),
            false => Err(KeeperError::Unreadable(what)),
        }
    }

    /// Signs out. Where that fails the token ends by itself.
    pub async fn end(self) {
        if let Err(error) = self.ask("sign out", "/v1/auth/token/revoke-self", &json!({})).await {
            log::debug!("keys: {error}");
        }
    }

    async fn transit(&self, what: &'static str, verb: &str, body: &Value) -> Result<Value, KeeperError> {
        let answer = self.ask(what, &format!("/v1/transit/{verb}/{}", self.key), body).await?;
        Ok(answer["data"].clone())
    }

    async fn ask(&self, what: &'static str, path: &str, body: &Value) -> Result<Value, KeeperError> {
        let made = self.made(path, body).ok_or(KeeperError::Unreadable(what))?;
        let asked = async {
            let mut answer = Connection::over(self.to.open().await?).await?.send(made, MAX_ANSWER).await?;
            Ok((answer.status, Zeroizing::new(answer.all().await?)))
        };
        let away = |none: NoAnswer| KeeperError::Away(none.cause().to_owned());
        let (status, body) = in_time(TIMEOUT, asked).await.map_err(away)?;
        match status {
            200 => json::read(&body).ok_or(KeeperError::Unreadable(what)),
            204 => Ok(Value::Null),
            status => Err(KeeperError::Refused(what, status)),
        }
    }

    fn made(&self, path: &str, body: &Value) -> Option<CallRequest> {
        let request = request(self.to.url(), path).method(Method::POST);
        let mut request = request.header(CONTENT_TYPE, "application/json");
        if !self.token.is_empty() {
            let mut token = HeaderValue::from_str(&self.token).ok()?;
            token.set_sensitive(true);
            request = request.header("x-vault-token", token);
        }
        request.body(Full::new(Bytes::from(body.to_string()))).ok()
    }
}

fn plaintext(what: &'static str, data: &Value) -> Result<Secret, KeeperError> {
    let key = data["plaintext"].as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
    key.filter(|key| key.len() == KEY).map(Secret::new).ok_or(KeeperError::Unreadable(what))
}

fn wrapped(what: &'static str, data: &Value) -> Result<Wrapped, KeeperError> {
    data["ciphertext"].as_str().and_then(Wrapped::parse).ok_or(KeeperError::Unreadable(what))
}

/// What a file holds, without blanks at its ends.
fn credential(path: &Path) -> Result<Zeroizing<String>, KeeperError> {
    let none = || KeeperError::NoCredentials(path.display().to_string());
    let mut text = Zeroizing::new(String::with_capacity(2 * 4096));
    let file = File::open(path).map_err(|_| none())?;
    file.take(LONGEST_CREDENTIAL).read_to_string(&mut text).map_err(|_| none())?;
    match text.trim() {
        "" => Err(none()),
        text => Ok(Zeroizing::new(text.to_owned())),
    }
}
