//! `config auth`: how wallets reach this router to log in, and how long that lasts.

use super::fields::Fields;
use super::problem::{Problem, Problems};
use super::schema::AUTH;
use super::tls::TlsConfig;
use super::uci::Section;
use super::values;
use super::Config;
use crate::units::Millis;
use crate::url::Url;
use std::io::Read;
use std::path::{Path, PathBuf};

/// `config auth`, where it is there.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthConfig {
    /// The host that wallets derive their keys from (LUD-05); lower case.
    pub domain: String,
    /// Where wallets reach this router; its host is the domain.
    pub url: Url,
    /// How long a challenge may be answered.
    pub challenge_ttl: Millis,
    /// How long a guest stays logged in.
    pub jwt_ttl: Millis,
    /// Devices that an account may have at a time.
    pub max_devices: usize,
    /// How long an account stays where it has moved to.
    pub move_cooldown: Millis,
    /// The domain that may be given up, with the wallets' keys that were linked under it.
    pub former_domain: Option<String>,
    /// Where apps that are pages of other places come from, as browsers say it.
    pub origins: Vec<String>,
    /// Sphinx Tribes' interface; none, where it is off.
    pub sphinx: Option<SphinxConfig>,
}

/// What programs that know Sphinx Tribes' interface are served.
#[derive(Clone, Debug, PartialEq)]
pub struct SphinxConfig {
    /// Holds the token for which unused codes are given out; made if absent.
    pub connection_token_file: PathBuf,
}

/// In `state_dir`: the domain and the address that wallets sign for, once there are accounts.
pub const DOMAIN_NOTE: &str = "auth.domain";
/// Origins of apps that are listed.
const MOST_ORIGINS: usize = 16;
/// The longest note that is read (bytes).
const LONGEST_NOTE: u64 = 1024;

impl AuthConfig {
    /// What is noted once there are accounts.
    pub fn note(&self) -> String {
        format!("{} {}\n", self.domain, self.url)
    }
}

impl Config {
    /// As [`Config::load`]; another domain than the accounts are under, without saying so, is an error.
    pub fn load_keeping(path: &Path) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
        let (mut config, mut problems) = Config::load(path)?;
        match config.keep_domain() {
            None => Ok((config, problems)),
            Some(problem) => {
                problems.push(problem);
                Err(problems)
            }
        }
    }

    /// Keeps the domain and the address that the accounts are under, where the file has others without saying that they are
    /// given up; tells of it.
    pub fn keep_domain(&mut self) -> Option<Problem> {
        let auth = self.auth.as_mut()?;
        let mut note = String::new();
        let file = std::fs::File::open(self.main.state_dir.join(DOMAIN_NOTE)).ok()?;
        file.take(LONGEST_NOTE).read_to_string(&mut note).ok()?;
        let (domain, url) = note.trim().split_once(' ')?;
        if [Some(&auth.domain), auth.former_domain.as_ref()].contains(&Some(&domain.to_owned())) {
            return None;
        }
        let message = format!(
            "'{}' is another name than '{domain}', which the accounts here are under: wallets that are linked to them would \
             sign with other keys; if you mean it, add option former_domain '{domain}'",
            auth.domain
        );
        (auth.domain, auth.url) = (domain.to_owned(), Url::parse(url).ok()?);
        let (section, option) = (Some(AUTH.to_owned()), Some("domain".to_owned()));
        Some(Problem { section, option, ..Problem::of_file(message) })
    }
}

pub(super) fn read(
    section: Option<&Section>,
    state_dir: Option<&Path>,
    tls: Option<&Option<TlsConfig>>,
    problems: &mut Problems,
) -> Option<Option<AuthConfig>> {
    let Some(section) = section else { return Some(None) };
    let mut fields = Fields::new(AUTH, Some(section), problems);
    let domain = fields.one("domain", values::host_name);
    let url = fields.optional("url", values::wallet_url);
    let challenge_ttl = fields.one("challenge_ttl", |text| values::number(text, 5..=600));
    let jwt_ttl = fields.one("jwt_ttl", |text| values::number(text, 60..=31_536_000));
    let max_devices = fields.one("max_devices", |text| values::number(text, 1..=16));
    let move_cooldown = fields.one("move_cooldown", |text| values::number(text, 0..=86_400));
    let former_domain = fields.optional("former_domain", values::host_name);
    let origins = fields.many("origin", MOST_ORIGINS, values::origin);
    let sphinx_compat = fields.one("sphinx_compat", values::boolean);
    let connection_token_file = fields.optional("connection_token_file", values::plain_path);
    let domain = domain?;
    let url = match url? {
        Some(url) => url,
        None => {
            let own = tls.and_then(Option::as_ref).filter(|tls| tls.name == domain).map(TlsConfig::origin);
            Url::parse(&own.unwrap_or_else(|| format!("https://{domain}"))).ok()?
        }
    };
    if url.host() != domain {
        fields.error("url", format!("has another host than the domain, which wallets sign for: '{domain}'"));
        return None;
    }
    Some(Some(AuthConfig {
        domain,
        url,
        challenge_ttl: Millis::from_secs(challenge_ttl?),
        jwt_ttl: Millis::from_secs(jwt_ttl?),
        max_devices: usize::try_from(max_devices?).ok()?,
        move_cooldown: Millis::from_secs(move_cooldown?),
        former_domain: former_domain?,
        origins: origins?,
        sphinx: match sphinx_compat? {
            true => Some(SphinxConfig {
                connection_token_file: match connection_token_file? {
                    Some(file) => file,
                    None => state_dir?.join("connection.token"),
                },
            }),
            false => None,
        },
    }))
}
