//! The operator's commands: the one list of them, and what each does.
//!
//! A command is a row in its group's file. The command line, the control socket and `/admin` find it here and call what it
//! names; help, the operators' table, completion and the man page are made from it. A row says how far it reaches, and
//! cannot be called from farther away: what only the shell may do has a handler that the daemon has no use for.

mod amounts;
mod audit;
mod auth;
mod cards;
mod completion;
mod daemon;
mod error;
mod fiat;
mod given;
mod guests;
mod invites;
mod keys;
mod lightning;
pub mod manual;
mod operator;
mod operators;
mod place;
mod quotes;
mod router;
mod shell;
mod takings;
mod terminal;
mod text;
mod vouchers;
mod wallet;

#[cfg(test)]
pub(crate) use amounts::fuzz_amount;
pub use audit::BEGUN;
pub use error::CommandError;
pub use given::{expected, is_option, Arg, Given};
pub use operator::Operator;
pub use operators::write_down;
pub use shell::{carry_out, envelope, wrong_usage, Above, Ended, Printout, Shell, Told};
pub use takings::Takings;
pub use vouchers::make_agreed;

use crate::auth::AuditLog;
use crate::config::Role;
use crate::shop::Site;
use serde_json::Value;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Every command, in the order of the help.
pub static GROUPS: [&[Command]; 15] = [
    daemon::COMMANDS,
    guests::COMMANDS,
    invites::COMMANDS,
    vouchers::COMMANDS,
    wallet::COMMANDS,
    keys::COMMANDS,
    fiat::COMMANDS,
    quotes::COMMANDS,
    cards::COMMANDS,
    lightning::COMMANDS,
    operators::COMMANDS,
    auth::COMMANDS,
    audit::COMMANDS,
    router::COMMANDS,
    completion::COMMANDS,
];

/// How long the command line waits for an answer of the daemon alone,
pub const MOMENT: Duration = Duration::from_secs(20);
/// and of one that asks a mint or a node, perhaps more than once.
pub const OTHERS: Duration = Duration::from_secs(60);

/// One command.
pub struct Command {
    /// The words that call it: `card create`.
    pub name: &'static str,
    /// What it takes, as [`Given`] reads it: `MAC AMOUNT [--venue NAME]`.
    pub args: &'static str,
    /// The least role that may call it.
    pub role: Role,
    /// Whether a call is written to the audit log, because it changes something or shows a secret. A refused call always
    /// is; a command that needs neither daemon nor store never is.
    pub audited: bool,
    /// Whether it moves money, or makes or ends what is worth some: not while the key files are sealed.
    pub moves_money: bool,
    pub whose: Whose,
    pub reach: Reach,
    /// How its answer is printed for people.
    pub shows: Shows,
    /// What it does and how it is told, for the help.
    pub summary: &'static str,
}

/// What an operator of a tenant may do with a command, where several tenants share the router. There is no default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Nothing: it is about the whole router.
    Platform,
    /// What it does at the tenant's own venues. For who belongs to no tenant it is about all venues.
    Venues,
    /// What it does with the tenant's own rows. Who belongs to no tenant has to name one.
    Tenant,
}

/// From where a command can be called, and what is called then. There is no default.
pub enum Reach {
    /// The router's shell, which needs no daemon.
    Shell(InShell),
    /// The router's shell, which asks the daemon to do a part of it, within this time. A program that passes commands
    /// on to the socket for others cannot ask for that part: on the socket it is an errand, not a command.
    Errand(InShell, Duration, InDaemon),
    /// The shell, and every process that may open the control socket.
    Socket(Duration, InDaemon),
    /// Those, and the operator's HTTP interface at these methods and paths: it moves money or shows a key, which needs more
    /// than having logged in: a signature of this minute, or the token of `token_file`.
    Signed(&'static [&'static str], Duration, InDaemon),
    /// Those, and the operator's HTTP interface at these methods and paths, whose parts in capitals are arguments.
    Http(&'static [&'static str], Duration, InDaemon),
    /// As `Http`, where paths are named, and as `Socket` otherwise, for what needs the router's own wallet only: where
    /// no daemon runs, the shell itself opens the store and does the same.
    Takings(&'static [&'static str], Duration, OnTakings),
    /// As `Takings`, for what needs the audit log only.
    AuditLog(&'static [&'static str], Duration, OnAuditLog),
}

pub type InShell = fn(&mut Shell, &Given) -> Result<Ended, CommandError>;
pub type InDaemon = for<'a> fn(&'a Desk, &'a Given) -> Doing<'a>;
pub type OnTakings = for<'a> fn(&'a Takings, &'a Given) -> Doing<'a>;
pub type OnAuditLog = for<'a> fn(&'a AuditLog, &'a Given) -> Doing<'a>;
pub type Doing<'a> = Pin<Box<dyn Future<Output = Result<Value, CommandError>> + Send + 'a>>;

/// How an answer is printed without `--json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// A line for each row; the name of the rows if there are none.
    Rows(&'static str),
    /// Names and values.
    Facts,
    /// The token alone, to be copied.
    Token,
    /// Names and values, and on a terminal the code that an app reads.
    Code,
    /// The page alone, to be printed.
    Page,
    /// What the command itself has made of it.
    Own,
}

/// What the daemon's commands reach.
pub struct Desk {
    pub site: Arc<Site>,
    pub reload: Reload,
    /// The configuration's file; the router's other files are beside it.
    pub file: PathBuf,
    pub started: Instant,
}

/// Asks the app to read its configuration again; answered with what is wrong with it, if anything.
pub type Reload = mpsc::Sender<oneshot::Sender<Result<Vec<String>, Vec<String>>>>;

impl Desk {
    /// `None` if the store cannot be used: then nothing is written down.
    fn audit_log(&self) -> Option<&AuditLog> {
        self.site.shop.as_ref().ok().map(|shop| &shop.audit)
    }
}

impl Command {
    /// `card show ID`
    pub fn line(&self) -> String {
        format!("{} {}", self.name, self.args).trim_end().to_owned()
    }

    pub fn usage(&self) -> String {
        format!("usage: {}", self.line())
    }

    /// Where it is on the operator's HTTP interface.
    pub fn paths(&self) -> &'static [&'static str] {
        match self.reach {
            Reach::Signed(paths, ..)
            | Reach::Http(paths, ..)
            | Reach::Takings(paths, ..)
            | Reach::AuditLog(paths, ..) => paths,
            Reach::Shell(_) | Reach::Errand(..) | Reach::Socket(..) => &[],
        }
    }

    /// Whether there is something to be said besides what the path names.
    pub fn takes_more_than(&self, named: &[(String, String)]) -> bool {
        expected(self.args).iter().any(|arg| named.iter().all(|(name, _)| *name != arg.member()))
    }

    /// The words behind the command's name, if the line begins with that.
    fn rest<'w, 'l>(&self, words: &'l [&'w str]) -> Option<&'l [&'w str]> {
        let name: Vec<&str> = self.name.split(' ').collect();
        words.strip_prefix(name.as_slice())
    }
}

/// Every command.
pub fn all() -> impl Iterator<Item = &'static Command> {
    GROUPS.iter().copied().flatten()
}

/// The command that a line calls, and what it is given. `None`: there is no such command.
pub fn find<'w, 'l>(words: &'l [&'w str]) -> Option<(&'static Command, &'l [&'w str])> {
    all().find_map(|command| Some((command, command.rest(words)?)))
}

/// The usages of the commands that begin with the line's first word; `None` if there are none.
pub fn usages_of(words: &[&str]) -> Option<String> {
    let first = words.first()?;
    let meant = all().filter(|command| command.name.split(' ').next() == Some(first));
    let lines: Vec<String> = meant.map(Command::line).collect();
    (!lines.is_empty()).then(|| format!("usage: {}", lines.join("\n       ")))
}

/// Carries out a command that came over the control socket.
pub async fn by_socket(desk: &Desk, words: &[&str]) -> Result<Value, CommandError> {
    let Some((command, rest)) = find(words) else {
        return Err(CommandError::Usage(usages_of(words).unwrap_or_else(unknown)));
    };
    if matches!(command.reach, Reach::Shell(_) | Reach::Errand(..)) {
        return Err(CommandError::Usage(format!("'{}' is for the router's own shell", command.name)));
    }
    let given = Given::from_words(command, rest)?;
    audit::noted(desk.audit_log(), &given, Box::pin(in_daemon(desk, &given))).await
}

/// Refuses what moves money while the key files are sealed.
fn may_be_done(desk: &Desk, command: &Command) -> Result<(), CommandError> {
    match command.moves_money && desk.site.is_sealed() {
        true => Err(CommandError::sealed()),
        false => Ok(()),
    }
}

/// Calls a command's handler, if the daemon has one.
async fn in_daemon(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    may_be_done(desk, given.command())?;
    match &given.command().reach {
        Reach::Socket(_, handler) | Reach::Signed(_, _, handler) | Reach::Http(_, _, handler) => {
            handler(desk, given).await
        }
        Reach::Takings(_, _, handler) => handler(&Takings::of(desk)?, given).await,
        Reach::AuditLog(_, _, handler) => handler(&desk.site.shop.as_ref()?.audit, given).await,
        Reach::Shell(_) | Reach::Errand(..) => Err(given.wrong()),
    }
}

/// The command at a path of the operator's HTTP interface, and its arguments that the path names.
pub fn at_path(method: &str, path: &str) -> Option<(&'static Command, Vec<(String, String)>)> {
    let parts = || path.split('/').filter(|part| !part.is_empty());
    all().find_map(|command| {
        let named = command.paths().iter().find_map(|known| {
            let (takes, known) = known.split_once(' ')?;
            let known: Vec<&str> = known.split('/').filter(|part| !part.is_empty()).collect();
            if takes != method || known.len() != parts().count() {
                return None;
            }
            let is_arg = |part: &str| part.bytes().all(|byte| byte.is_ascii_uppercase());
            let pairs = || known.iter().zip(parts());
            pairs().all(|(known, part)| is_arg(known) || *known == part).then(|| {
                let args = pairs().filter(|(known, _)| is_arg(known));
                args.map(|(known, part)| (known.to_ascii_lowercase(), part.to_owned())).collect()
            })
        });
        Some((command, named?))
    })
}

/// Carries out a command that its operator calls over HTTP.
pub async fn by_http(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let (command, caller) = (given.command(), given.operator());
    let doing = match &command.reach {
        _ if command.paths().is_empty() => {
            let message = format!("'{}' is not for this interface", command.name);
            refused(CommandError::Missing("not_found", message))
        }
        _ if caller.role < command.role => {
            let message = format!("'{}' needs the role {}", command.name, command.role.as_str());
            refused(CommandError::Forbidden("forbidden", message))
        }
        _ if command.whose == Whose::Platform && given.tenant().is_some() => {
            let message =
                format!("'{}' is for the whole router, and not for a tenant's operators", command.name);
            refused(CommandError::Forbidden("forbidden", message))
        }
        Reach::Signed(..) if !caller.may_sign => {
            let message = "this needs a signature that is not older than a minute";
            refused(CommandError::Forbidden("fresh_signature_needed", message.to_owned()))
        }
        _ => Box::pin(in_daemon(desk, given)),
    };
    audit::noted(desk.audit_log(), given, doing).await
}

fn refused<'a>(why: CommandError) -> Doing<'a> {
    Box::pin(std::future::ready(Err(why)))
}

/// Does the daemon's part of a command of the shell.
pub async fn errand(desk: &Desk, words: &[&str]) -> Result<Value, CommandError> {
    match find(words) {
        Some((command, rest)) => match &command.reach {
            Reach::Errand(_, _, handler) => {
                let given = Given::from_words(command, rest)?;
                let doing = match may_be_done(desk, command) {
                    Ok(()) => handler(desk, &given),
                    Err(sealed) => refused(sealed),
                };
                audit::noted(desk.audit_log(), &given, doing).await
            }
            _ => Err(CommandError::Usage(format!("'{}' is no errand", command.name))),
        },
        None => Err(CommandError::Usage("there is no such errand".to_owned())),
    }
}

fn unknown() -> String {
    let mut names: Vec<&str> = Vec::new();
    let for_others = all().filter(|command| !matches!(command.reach, Reach::Shell(..) | Reach::Errand(..)));
    for name in for_others.filter_map(|command| command.name.split(' ').next()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    format!("unknown command; try {}", names.join(", "))
}

#[cfg(test)]
mod tests;
