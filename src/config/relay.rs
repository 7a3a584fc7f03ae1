//! `config relay`: what `tollgated relay` takes callbacks for. Its file has `config tollgate`, for the state and the log, and
//! of `config mpesa` the account whose token the routers share. It needs no venue.

use super::fields::Fields;
use super::problem::{shown, Problem, Problems};
use super::schema::{MAIN, MPESA, RELAY};
use super::uci::{self, Section, UciFile};
use super::values::{self, Parsed};
use super::{fiat, main, read, read_file, DarajaAccount, Main};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

const MAX_ROUTERS: usize = 256;

/// What `tollgated relay` runs by.
#[derive(Clone, Debug, PartialEq)]
pub struct RelayConfig {
    pub main: Main,
    pub account: DarajaAccount,
    pub listen: SocketAddr,
    /// No two have the same name.
    pub routers: Vec<RelayRouter>,
}

/// `list router 'NAME KEYFILE'`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayRouter {
    /// In the path of its callbacks.
    pub name: String,
    /// What it shows to collect them.
    pub key_file: PathBuf,
}

impl RelayConfig {
    /// The configuration and its warnings, or all that is wrong.
    pub fn load(path: &Path) -> Result<(RelayConfig, Vec<Problem>), Vec<Problem>> {
        let bytes = read_file(path).map_err(|error| {
            vec![Problem::of_file(format!("cannot be read ({error}): check the path and its permissions"))]
        })?;
        let file = uci::parse(&bytes);
        config(&file.map_err(|errors| errors.into_iter().map(Problem::from).collect::<Vec<_>>())?)
    }

    /// Whether the file is one of a relay, as far as it can be read.
    pub fn is_in(path: &Path) -> bool {
        let file = read_file(path).ok().and_then(|bytes| uci::parse(&bytes).ok());
        file.is_some_and(|file| file.of_kind(RELAY).next().is_some())
    }
}

fn config(file: &UciFile) -> Result<(RelayConfig, Vec<Problem>), Vec<Problem>> {
    let mut problems = Problems::default();
    read::surprises(file, &mut problems);
    read::unknown(file, &mut problems);
    let main = main::read(read::only(file, MAIN, &mut problems), &mut problems);
    let account = match read::only(file, MPESA, &mut problems) {
        Some(section) => fiat::account(section, &mut problems),
        None => missing("mpesa", "whose token the routers share", &mut problems),
    };
    let relay = match read::only(file, RELAY, &mut problems) {
        section @ Some(_) => self::section(section, &mut problems),
        None => missing("relay", "with listen and list router", &mut problems),
    };
    let notes = problems.finish()?;
    match (main, account, relay) {
        (Some(main), Some(account), Some((listen, routers))) => {
            Ok((RelayConfig { main, account, listen, routers }, notes))
        }
        _ => Err(notes),
    }
}

/// The section's own options.
pub(super) fn section(
    section: Option<&Section>,
    problems: &mut Problems,
) -> Option<(SocketAddr, Vec<RelayRouter>)> {
    let mut fields = Fields::new(RELAY, Some(section?), problems);
    let listen = fields.one("listen", values::local_address);
    let routers = fields.many("router", MAX_ROUTERS, router)?;
    let names = || routers.iter().map(|router| &router.name);
    let twice = names().enumerate().find(|(at, name)| names().take(*at).any(|one| one == *name));
    if let Some((_, name)) = twice {
        fields.error("router", format!("{} is there twice: each has a name of its own", shown(name)));
    }
    if routers.is_empty() {
        fields.error("router", "is missing: add a line like list router 'r1 /etc/tollgate/r1.key'");
    }
    Some((listen?, routers))
}

fn missing<T>(kind: &str, what: &str, problems: &mut Problems) -> Option<T> {
    problems.add(Problem::of_file(format!("there is no section config {kind}, {what}: add it")));
    None
}

/// `NAME KEYFILE`
fn router(text: &str) -> Parsed<RelayRouter> {
    let (name, file) = text.trim().split_once([' ', '\t']).unwrap_or((text, ""));
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if !(1..=32).contains(&name.len()) || !name.bytes().all(is_plain) || file.trim().is_empty() {
        let advice = "write a name of letters, digits, '-' or '_' and the file of its key, like 'r1 /etc/tollgate/r1.key'";
        return Err(format!("{} is no router: {advice}", shown(text)));
    }
    Ok(RelayRouter { name: name.to_owned(), key_file: values::plain_path(file.trim())? })
}
