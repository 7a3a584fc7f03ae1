//! The operator's interface over HTTP: the commands of the list whose reach includes HTTP, under `/api` and `/admin`
//! of the admin listener, for the bearer of the token in `token_file` and for operators who have logged in with their wallet.

use super::answer::{self, Answer};
use super::entrance::Entrance;
use super::error_body::{body_of, no_such_path, other_method, refused, ErrorBody};
use super::keyed::{self, fresh, KeyedWork};
use super::minting::caller::{place, shop, tenant_of};
use super::refusals;
use super::route::Answering;
use super::sent::Sent;
use super::{login, Edge};
use crate::auth::{secret, AuthError};
use crate::commands::{at_path, by_http, Command, CommandError, Given, Operator, Whose};
use crate::config::{Config, Role, Tenant};
use crate::form::pairs;
use crate::hex;
use crate::json::{self, json};
use crate::store::{LoginAudience, NewAuditRow, StoreError};
use crate::task;
use crate::vouchers::{RunningRequest, VoucherRefusal, WorkRequest};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The shortest token that is taken (bytes).
const SHORTEST: usize = 16;

/// A command of the operator's list, at its path.
pub fn command(edge: Arc<Edge>, mut sent: Sent) -> Answering {
    Box::pin(async move {
        let Some(operator) = sent.operator.take() else { return NoToken::Needed.answer(false) };
        let method = match *sent.method() == Method::HEAD {
            true => Method::GET,
            false => sent.method().clone(),
        };
        let Some((command, named)) = at_path(method.as_str(), sent.path()) else {
            if is_of_vouchers(sent.path()) {
                return nothing_at(sent.path());
            }
            let message = "there is nothing here, or it takes another method";
            return error_at(sent.path(), StatusCode::NOT_FOUND, "not_found", message);
        };
        if command.whose == Whose::Tenant && method == Method::POST {
            let done = asked_once(&edge, command, named, operator, sent).await;
            return done.unwrap_or_else(|refusal| refused(&refusal));
        }
        match carried_out(&edge, command, named, operator, sent).await {
            Ok(value) => answer::json(done(command), &value),
            // The commands of cards are older than the one body of errors.
            Err(Refusal { status, code, message }) if command.name.starts_with("card ") => {
                error(status, &code, &message)
            }
            Err(Refusal { status, code, message }) => {
                ErrorBody { code: &code, message: &message, details: &[] }.answer(status)
            }
        }
    })
}

/// The commands of cards are older than the status for what is made.
fn done(command: &Command) -> StatusCode {
    match command.name {
        "invite create" => StatusCode::CREATED,
        _ => StatusCode::OK,
    }
}

/// Paths of commands that are newer than the one body of errors.
pub fn is_of_vouchers(path: &str) -> bool {
    let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).take(2).collect();
    path == ["admin", "vouchers"]
}

/// To a path of no command, or of one that takes another method.
fn nothing_at(path: &str) -> Answer {
    let methods = ["GET", "POST"].into_iter().filter(|method| at_path(method, path).is_some());
    let methods: Vec<&str> = methods.collect();
    match methods.is_empty() {
        true => no_such_path(),
        false => other_method(&refusals::method_not_allowed(path, methods.into_iter())),
    }
}

/// A command that makes or ends vouchers: with an `Idempotency-Key` it is carried out once.
async fn asked_once(
    edge: &Arc<Edge>,
    command: &'static Command,
    named: Vec<(String, String)>,
    operator: Operator,
    sent: Sent,
) -> Result<Answer, VoucherRefusal> {
    let (shop, config) = (shop(edge)?.clone(), edge.site.config());
    let tenant = tenant_of(&config, &operator, sent.query())?;
    let key = keyed::key(sent.headers(), false)?.filter(|_| operator.role >= command.role);
    let place = key.map(|name| place(&operator.name, &sent, name));
    let text = keyed::text(sent).await?;
    let (desk, owner, sent_text) = (edge.desk.clone(), tenant.clone(), text.clone());
    let minting = shop.minting.clone();
    let work: KeyedWork = Box::new(move |running| {
        Box::pin(async move {
            let body = match command.takes_more_than(&named) {
                true => Some(json::read::<Value>(sent_text.as_bytes()).unwrap_or_default()),
                false => None,
            };
            if body.as_ref().is_some_and(|body| !body.is_object()) {
                return Err(VoucherRefusal::new(400, "invalid_input", "the body is no JSON object"));
            }
            let mark = running.as_ref().map(RunningRequest::mark);
            let work = mark.as_ref().map(|mark| mark.work);
            let request = WorkRequest { text: sent_text, work, mark: mark.clone(), ..WorkRequest::default() };
            let given = Given::from_members(command, &named, body.unwrap_or_else(|| json!({})));
            let given = given.map_err(of_command)?.by(operator).of(Some(owner.clone()));
            let done = by_http(&desk, &given.asked_by(Some(request))).await.map_err(of_command);
            let answer = match &done {
                Ok(told) if told["status"] == "pending_approval" => return Ok(fresh(202, told)),
                Ok(told) => fresh(200, told),
                Err(refusal) => fresh(refusal.status, &body_of(refusal)),
            };
            if let Some(mark) = mark.filter(|_| answer.status < 500) {
                let (rows, now, is_done) = (shop.minting.book.of(&owner), shop.store.wall().0, done.is_ok());
                let begun = mark.clone();
                // A refusal does not use up the key, unless the work has done so already.
                rows.write(move |door| if is_done { begun.begin(door, now) } else { Ok(()) }).await?;
                shop.minting.keep(&rows, mark.place, &answer).await?;
            }
            done.map(|_| answer)
        })
    });
    keyed::once(&minting, &tenant, place, &text, work).await
}

pub fn of_command(error: CommandError) -> VoucherRefusal {
    if error.code() == StoreError::Sealed.code() {
        return StoreError::Sealed.into();
    }
    let (status, message) = (status_of(&error).as_u16(), error.to_string());
    let code = match error {
        CommandError::Usage(_) => "usage",
        CommandError::Input(code, _)
        | CommandError::Forbidden(code, _)
        | CommandError::Missing(code, _)
        | CommandError::Refused(code, _)
        | CommandError::Closed(code, _) => code,
        CommandError::Answered(..) => "refused",
    };
    let status = if code == "too_many_approvals" { 429 } else { status };
    VoucherRefusal::new(status, code, message)
}

struct Refusal {
    status: StatusCode,
    code: String,
    message: String,
}

async fn carried_out(
    edge: &Edge,
    command: &'static Command,
    mut named: Vec<(String, String)>,
    operator: Operator,
    sent: Sent,
) -> Result<Value, Refusal> {
    let tenant =
        limited_to(&edge.site.config(), command, &operator, sent.query()).map_err(|refusal| Refusal {
            status: StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::FORBIDDEN),
            code: refusal.code.to_owned(),
            message: refusal.message.clone(),
        })?;
    let body = match *sent.method() == Method::POST && command.takes_more_than(&named) {
        true => json_body(sent).await?,
        false => {
            named.extend(pairs(sent.query()));
            json!({})
        }
    };
    let done = match Given::from_members(command, &named, body) {
        Ok(given) => {
            let (desk, given) = (edge.desk.clone(), given.by(operator).of(tenant));
            // What has begun comes to its end, and into the audit log, if the caller goes away, too.
            let doing = task::start(async move { by_http(&desk, &given).await });
            let stopped = |_| CommandError::Closed("stopping", "the daemon is stopping".to_owned());
            doing.await.map_err(stopped).and_then(|done| done)
        }
        Err(error) => Err(error),
    };
    done.map_err(|error| Refusal {
        status: status_of(&error),
        code: error.code().to_owned(),
        message: error.to_string(),
    })
}

/// The tenant that the call is limited to. `None`: the operator belongs to none, and the command needs none.
fn limited_to(
    config: &Config,
    command: &Command,
    operator: &Operator,
    query: &str,
) -> Result<Option<Tenant>, VoucherRefusal> {
    let is_tenants = !config.tenants.is_empty() && config.tenant_of_operator(&operator.name).is_some();
    match is_tenants || command.whose == Whose::Tenant {
        true => tenant_of(config, operator, query).map(Some),
        false => Ok(None),
    }
}

async fn json_body(sent: Sent) -> Result<Value, Refusal> {
    let refusal = |status, message: &str| Refusal {
        status,
        code: "invalid_input".to_owned(),
        message: message.to_owned(),
    };
    let text = sent.text().await;
    let text =
        text.map_err(|answer| refusal(answer.status(), "the body is too large, no text, or does not come"))?;
    let value: Option<Value> = serde_json::from_str(&text).ok();
    value
        .filter(Value::is_object)
        .ok_or_else(|| refusal(StatusCode::BAD_REQUEST, "the body is no JSON object"))
}

fn status_of(error: &CommandError) -> StatusCode {
    match error {
        CommandError::Usage(_) | CommandError::Input(..) => StatusCode::BAD_REQUEST,
        CommandError::Forbidden(..) => StatusCode::FORBIDDEN,
        CommandError::Missing(..) => StatusCode::NOT_FOUND,
        CommandError::Refused(..) | CommandError::Answered(..) => StatusCode::CONFLICT,
        CommandError::Closed("bot_unavailable", _) => StatusCode::BAD_GATEWAY,
        CommandError::Closed(..) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// As the tools of other card servers read it.
fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    answer::json(status, &told(code, message))
}

/// The same at a path; where that is of no cards, with the one body of errors besides.
fn error_at(path: &str, status: StatusCode, code: &str, message: &str) -> Answer {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let mut body = told(code, message);
    if parts.next() == Some("admin") && parts.next() != Some("cards") {
        ErrorBody { code, message, details: &[] }.add_to(&mut body);
    }
    answer::json(status, &body)
}

fn told(code: &str, message: &str) -> Value {
    json!({"status": "ERROR", "reason": message, "code": code})
}

/// The answer to an operator whose role is not enough.
pub fn role_needed(edge: &Edge, operator: &Operator, what: &str, role: Role) -> Answer {
    if let Ok(shop) = &edge.site.shop {
        let row = NewAuditRow::new(&operator.name, operator.role.as_str(), what, "", "forbidden");
        shop.audit.refused(row);
    }
    let message = format!("this needs the role {}", role.as_str());
    ErrorBody { code: "forbidden", message: &message, details: &[] }.answer(StatusCode::FORBIDDEN)
}

/// The operator who has signed in, or the answer to a caller who has not. `newer`: the path has the one body of errors.
pub async fn signed_in(
    edge: &Edge,
    at: &Entrance,
    sent: &Sent,
    newer: bool,
) -> Result<Operator, Box<Answer>> {
    let config = edge.site.config();
    let is_sphinx = config.auth.as_ref().is_some_and(|auth| auth.sphinx.is_some());
    let without_token = match config.admin.token {
        true => without_token(&config.admin.token_file, shown(sent.headers(), is_sphinx)),
        false => Some(NoToken::Needed),
    };
    let Some(without_token) = without_token else { return Ok(Operator::with_token()) };
    let refused = match logged_in(edge, sent.headers()).await {
        Some(Ok(operator)) => return Ok(operator),
        Some(Err(AuthError::Token(_))) | None => {
            Box::new(without_token.answer(newer || sent.path().starts_with("/connectioncodes")))
        }
        Some(Err(error)) => login::refused(&error),
    };
    let code = match refused.status() {
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::FORBIDDEN => "forbidden",
        _ => return Err(refused),
    };
    if let Ok(shop) = &edge.site.shop {
        // Of the path only what we know ourselves: it may hold anything.
        let command = at_path(sent.method().as_str(), sent.path()).map(|(command, _)| command.name);
        let what = command.unwrap_or("an unknown path");
        shop.audit.refused(NewAuditRow::of_stranger(what, at.peer, code));
    }
    Err(refused)
}

/// The operator who has logged in with a wallet. `None`: there is no token of a login, or nobody logs in here.
async fn logged_in(edge: &Edge, headers: &HeaderMap) -> Option<Result<Operator, AuthError>> {
    let token = login::token(headers).filter(|token| token.split('.').count() == 3)?;
    let shop = edge.site.shop.as_ref().ok()?;
    let (claims, may_sign) = match shop.auth.signer(token, LoginAudience::Admin).await {
        Ok(signer) => signer,
        Err(AuthError::Off) => return None,
        Err(error) => return Some(Err(error)),
    };
    let config = edge.site.config();
    // Taken off the list at this moment.
    let operator = config.operator(&claims.key.to_bytes())?;
    Some(Ok(Operator { name: operator.name.clone(), role: operator.role, may_sign }))
}

/// Why a caller is not let in by the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoToken {
    /// It was not shown, or is not the one.
    Needed,
    /// The router itself cannot read it.
    Unreadable,
}

impl NoToken {
    /// Paths that are newer than the one body of errors have that.
    fn answer(self, newer: bool) -> Answer {
        let (status, code, message) = match self {
            NoToken::Needed => (StatusCode::UNAUTHORIZED, "unauthorized", "a bearer token is needed"),
            NoToken::Unreadable => {
                (StatusCode::SERVICE_UNAVAILABLE, "no_token", "the token file cannot be read")
            }
        };
        let mut answer = match newer {
            true => ErrorBody { code, message, details: &[] }.answer(status),
            false => error(status, code, message),
        };
        if self == NoToken::Needed {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

/// The token that the caller shows: as a bearer does or, where programs of Sphinx Tribes ask, as those do.
fn shown(headers: &HeaderMap, is_sphinx: bool) -> &[u8] {
    let of_sphinx = || headers.get("x-api-token").filter(|_| is_sphinx).map(HeaderValue::as_bytes);
    borne(headers).or_else(of_sphinx).unwrap_or_default()
}

/// What stands behind `Authorization: Bearer`.
pub fn borne(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// Whether this is the token in a file.
pub fn is_token(file: &Path, shown: &[u8]) -> bool {
    without_token(file, shown).is_none()
}

/// Why the caller is not the bearer of the token in the file, if it is not.
fn without_token(file: &Path, shown: &[u8]) -> Option<NoToken> {
    let token = match secret(file, SHORTEST) {
        Ok(token) => token,
        Err(err) => {
            log::error!("{}: {err}", file.display());
            return Some(NoToken::Unreadable);
        }
    };
    let is_it = bool::from(shown.trim_ascii().ct_eq(token.as_slice()));
    (!is_it).then_some(NoToken::Needed)
}

/// Makes the token file if it is missing: 256 random bits in hex. `what`, in the log: what the token is for.
pub fn make_token(path: &Path, what: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = match options.write(true).create_new(true).mode(0o600).open(path) {
        Err(err) if err.kind() == ErrorKind::AlreadyExists => return Ok(()),
        file => file?,
    };
    let mut bytes = Zeroizing::new([0u8; 32]);
    let filled = getrandom::fill(&mut *bytes).map_err(std::io::Error::other);
    let written = filled.and_then(|()| file.write_all(format!("{}\n", hex::encode(&*bytes)).as_bytes()));
    if let Err(err) = written.and_then(|()| file.sync_all()) {
        // Half a token must not stay.
        let _ = std::fs::remove_file(path);
        return Err(err);
    }
    log::info!("{}: made, {what}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn with(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, token.parse().unwrap());
        headers
    }

    #[test]
    fn only_the_tokens_bearer_is_let_in() {
        let dir = crate::folder::fresh_folder();
        let path = dir.join("admin.token");
        make_token(&path, "a token").unwrap();
        let token = std::fs::read_to_string(&path).unwrap();
        assert_eq!(token.trim().len(), 64);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        make_token(&path, "a token").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), token, "an existing one stays");
        let token = token.trim();
        let without_token = |path: &Path, headers: &HeaderMap| without_token(path, shown(headers, false));
        assert!(without_token(&path, &with(&format!("Bearer {token}"))).is_none());
        assert!(without_token(&path, &with(&format!("bearer  {token}"))).is_none());
        for bad in [
            "",
            "Bearer ",
            "Bearer",
            &format!("Basic {token}"),
            &format!("Bearer {token}x"),
            token,
            "Bearer 0",
        ] {
            let answer = without_token(&path, &with(bad)).unwrap().answer(false);
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{bad}");
        }
        assert!(without_token(&path, &HeaderMap::new()).is_some());
        std::fs::write(&path, "short\n").unwrap();
        assert_eq!(
            without_token(&path, &with("Bearer short")).unwrap().answer(false).status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::write(&path, "the operator's own token\n").unwrap();
        assert!(without_token(&path, &with("Bearer the operator's own token")).is_none());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
