//! The operator's interface over HTTP: everything under `/api` and `/admin` of the admin listener, for whoever
//! has the bearer token of `token_file`.

use super::answer::{self, Answer};
use super::route::Answering;
use super::sent::Sent;
use super::Edge;
use crate::card::{CardError, Cards};
use crate::hex;
use crate::json::json;
use crate::shop::Site;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::StatusCode;
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The longest token file that is read, and the shortest token that is taken (bytes).
const LONGEST: u64 = 4096;
const SHORTEST: usize = 16;

/// `POST /admin/cards`, and as other card servers call it, `POST /api/createboltcard`.
pub fn create(edge: Arc<Edge>, sent: Sent) -> Answering {
    Box::pin(async move {
        let cards = match cards(&edge.site) {
            Ok(cards) => cards,
            Err(closed) => return *closed,
        };
        match json_body(sent).await {
            Ok(order) => told(cards.create(&order).await),
            Err(answer) => answer,
        }
    })
}

pub fn list(edge: Arc<Edge>, _: Sent) -> Answering {
    Box::pin(async move {
        match cards(&edge.site) {
            Ok(cards) => told(cards.list().await),
            Err(closed) => *closed,
        }
    })
}

pub fn show(edge: Arc<Edge>, sent: Sent) -> Answering {
    with_card(edge, sent, |cards, id| async move { cards.show(id).await })
}

pub fn history(edge: Arc<Edge>, sent: Sent) -> Answering {
    with_card(edge, sent, |cards, id| async move { cards.history(id).await })
}

pub fn enable(edge: Arc<Edge>, sent: Sent) -> Answering {
    with_card(edge, sent, |cards, id| async move { cards.enable(id, true).await })
}

pub fn disable(edge: Arc<Edge>, sent: Sent) -> Answering {
    with_card(edge, sent, |cards, id| async move { cards.enable(id, false).await })
}

pub fn wipe(edge: Arc<Edge>, sent: Sent) -> Answering {
    with_card(edge, sent, |cards, id| async move { cards.wipe(id).await })
}

pub fn reprogram(edge: Arc<Edge>, sent: Sent) -> Answering {
    with_card(edge, sent, |cards, id| async move { cards.reprogram(id).await })
}

pub fn limits(edge: Arc<Edge>, sent: Sent) -> Answering {
    Box::pin(async move {
        let (cards, id) = match card(&edge.site, &sent) {
            Ok(found) => found,
            Err(answer) => return *answer,
        };
        match json_body(sent).await {
            Ok(order) => told(cards.limit(id, &order).await),
            Err(answer) => answer,
        }
    })
}

/// Does something with the card that the path names.
fn with_card<F>(edge: Arc<Edge>, sent: Sent, act: impl FnOnce(Cards, i64) -> F + Send + 'static) -> Answering
where
    F: Future<Output = Result<Value, CardError>> + Send,
{
    Box::pin(async move {
        match card(&edge.site, &sent) {
            Ok((cards, id)) => told(act(cards.clone(), id).await),
            Err(answer) => *answer,
        }
    })
}

/// Whatever else is asked for among the operator's paths.
pub fn nothing(_: Arc<Edge>, _: Sent) -> Answering {
    let message = "there is nothing here, or it takes another method";
    Box::pin(std::future::ready(error(StatusCode::NOT_FOUND, "not_found", message)))
}

fn cards(site: &Site) -> Result<&Cards, Box<Answer>> {
    let cards = site.shop.as_ref().and_then(|shop| shop.cards.as_ref());
    cards.map_err(|closed| Box::new(error(StatusCode::SERVICE_UNAVAILABLE, closed.code, &closed.cause)))
}

/// The cards, and the number of the one that the path names.
fn card<'a>(site: &'a Site, sent: &Sent) -> Result<(&'a Cards, i64), Box<Answer>> {
    let cards = cards(site)?;
    let id = sent.rest.parse().map_err(|_| Box::new(told(Err(CardError::NoSuchCard))))?;
    Ok((cards, id))
}

fn told(done: Result<Value, CardError>) -> Answer {
    match done {
        Ok(value) => answer::json(StatusCode::OK, &value),
        Err(err) => error(status_of(&err), err.code(), &err.to_string()),
    }
}

async fn json_body(sent: Sent) -> Result<Value, Answer> {
    let text = sent.text().await.map_err(|answer| {
        error(answer.status(), "invalid_input", "the body is too large, no text, or does not come")
    })?;
    let value: Option<Value> = serde_json::from_str(&text).ok();
    value
        .filter(Value::is_object)
        .ok_or_else(|| error(StatusCode::BAD_REQUEST, "invalid_input", "the body is no JSON object"))
}

fn status_of(err: &CardError) -> StatusCode {
    match err {
        CardError::Input(_) => StatusCode::BAD_REQUEST,
        CardError::NoSuchCard => StatusCode::NOT_FOUND,
        CardError::NoCards => StatusCode::CONFLICT,
        CardError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// `status` and `reason` are what the tools of other card servers read.
fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    answer::json(status, &json!({"status": "ERROR", "reason": message, "code": code}))
}

/// The answer to a caller that does not have the token.
pub fn refused(file: &Path, headers: &HeaderMap) -> Option<Answer> {
    let token = match load_token(file) {
        Ok(token) => token,
        Err(err) => {
            log::error!("{}: {err}", file.display());
            let message = "the token file cannot be read";
            return Some(error(StatusCode::SERVICE_UNAVAILABLE, "no_token", message));
        }
    };
    let shown = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let shown = shown.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "));
    if shown.is_some_and(|(_, shown)| bool::from(shown.trim_ascii().ct_eq(token.as_slice()))) {
        return None;
    }
    let mut answer = error(StatusCode::UNAUTHORIZED, "unauthorized", "a bearer token is needed");
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    Some(answer)
}

/// The token as it is in the file now, so that a new one counts at once.
fn load_token(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    // The operator may have made it; others have no business with it.
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(LONGEST).read_to_end(&mut bytes)?;
    let token = Zeroizing::new(bytes.trim_ascii().to_vec());
    if token.len() < SHORTEST {
        return Err(std::io::Error::new(ErrorKind::InvalidData, "the token is shorter than 16 characters"));
    }
    Ok(token)
}

/// Makes the token file where there is none: 256 random bits in hex.
pub fn make_token(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = match options.write(true).create_new(true).mode(0o600).open(path) {
        Err(err) if err.kind() == ErrorKind::AlreadyExists => return Ok(()),
        file => file?,
    };
    let mut bytes = Zeroizing::new([0u8; 32]);
    let filled = getrandom::fill(&mut *bytes).map_err(std::io::Error::other);
    let written = filled.and_then(|()| file.write_all(format!("{}\n", hex::encode(&*bytes)).as_bytes()));
    if let Err(err) = written.and_then(|()| file.sync_all()) {
        // Half a token is none.
        let _ = std::fs::remove_file(path);
        return Err(err);
    }
    log::info!("{}: made, the token of the admin interface", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, token.parse().unwrap());
        headers
    }

    #[test]
    fn only_the_tokens_bearer_is_let_in() {
        let dir = crate::folder::fresh_folder();
        let path = dir.join("admin.token");
        make_token(&path).unwrap();
        let token = std::fs::read_to_string(&path).unwrap();
        assert_eq!(token.trim().len(), 64);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        make_token(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), token, "an existing one stays");
        let token = token.trim();
        assert!(refused(&path, &with(&format!("Bearer {token}"))).is_none());
        assert!(refused(&path, &with(&format!("bearer  {token}"))).is_none());
        for bad in [
            "",
            "Bearer ",
            "Bearer",
            &format!("Basic {token}"),
            &format!("Bearer {token}x"),
            token,
            "Bearer 0",
        ] {
            let answer = refused(&path, &with(bad)).unwrap();
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{bad}");
        }
        assert!(refused(&path, &HeaderMap::new()).is_some());
        std::fs::write(&path, "short\n").unwrap();
        assert_eq!(refused(&path, &with("Bearer short")).unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::write(&path, "the operator's own token\n").unwrap();
        assert!(refused(&path, &with("Bearer the operator's own token")).is_none());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
