//! What `tollgated check` tells: one line for each problem, as compilers do, and the same as JSON.

use super::schema::{AIRTIME, AUTH, FIAT, KEYS, MPESA, RELAY};
use super::{Config, MpesaMode, Problem, RelayConfig, Severity};
use crate::json::json;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What was looked at, and what was found.
pub struct Verdict {
    /// For people.
    pub text: String,
    /// For scripts.
    pub data: Value,
    /// The last line of the text.
    pub summary: String,
    /// Whether there is no error.
    pub is_good: bool,
}

/// What is wrong with the configuration at `path`, as it was read. `missing`: what it names and the router does not have.
pub fn report(
    path: &Path,
    result: &Result<(Config, Vec<Problem>), Vec<Problem>>,
    missing: &[Problem],
) -> Verdict {
    let (config, problems) = match result {
        Ok((config, warnings)) => (Some(config), warnings),
        Err(problems) => (None, problems),
    };
    let mut around: Vec<Problem> = exposed(path).into_iter().collect();
    around.extend(config.into_iter().flat_map(files));
    around.extend(config.into_iter().flat_map(credentials));
    around.extend(config.and_then(plain_balances));
    let problems: Vec<&Problem> = problems.iter().chain(missing).chain(&around).collect();
    let summary = summary(path, config, &problems);
    told(path, &problems, summary, config.map(|config| config.main.enabled), config.is_some())
}

/// The same for a relay's.
pub fn report_relay(path: &Path, result: &Result<(RelayConfig, Vec<Problem>), Vec<Problem>>) -> Verdict {
    let (config, problems) = match result {
        Ok((config, warnings)) => (Some(config), warnings),
        Err(problems) => (None, problems),
    };
    let mut around: Vec<Problem> = exposed(path).into_iter().collect();
    around.extend(config.into_iter().flat_map(relays_files));
    let problems: Vec<&Problem> = problems.iter().chain(&around).collect();
    let count = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
    let warnings = plural(count(Severity::Warning), "warning");
    let shown = path.display();
    let summary = match config {
        Some(config) if count(Severity::Error) == 0 => {
            format!(
                "{shown}: can be used: a relay for {}, {warnings}",
                plural(config.routers.len(), "router")
            )
        }
        _ => format!("{shown}: cannot be used: {}, {warnings}", plural(count(Severity::Error), "error")),
    };
    told(path, &problems, summary, config.map(|_| true), config.is_some())
}

fn told(
    path: &Path,
    problems: &[&Problem],
    summary: String,
    enabled: Option<bool>,
    is_good: bool,
) -> Verdict {
    let mut text = String::new();
    for problem in problems {
        match problem.line {
            Some(line) => text.push_str(&format!("{}:{line}: {problem}\n", path.display())),
            None => text.push_str(&format!("{}: {problem}\n", path.display())),
        }
    }
    text.push_str(&format!("{summary}\n"));
    let has_error = problems.iter().any(|problem| problem.severity == Severity::Error);
    let data = json!({
        "enabled": enabled,
        "problems": problems.iter().map(|problem| as_json(problem)).collect::<Value>(),
    });
    Verdict { text, data, summary, is_good: is_good && !has_error }
}

fn summary(path: &Path, config: Option<&Config>, problems: &[&Problem]) -> String {
    let path = path.display();
    let count = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
    let warnings = plural(count(Severity::Warning), "warning");
    match config {
        Some(config) if count(Severity::Error) == 0 => {
            let venues = plural(config.venues.len(), "venue");
            let mints = plural(config.mints.len(), "mint");
            let state = if config.main.enabled { "enabled" } else { "not enabled" };
            format!("{path}: can be used: {venues}, {mints}, {state}, {warnings}")
        }
        _ => format!("{path}: cannot be used: {}, {warnings}", plural(count(Severity::Error), "error")),
    }
}

fn as_json(problem: &Problem) -> Value {
    json!({
        "line": problem.line,
        "section": problem.section,
        "option": problem.option,
        "severity": problem.severity.to_string(),
        "message": problem.message,
    })
}

/// The longest file of a credential (bytes).
const LONGEST_SECRET: u64 = 4096;

/// The file holds what is worth money: keys and addresses of wallets and nodes.
fn exposed(path: &Path) -> Option<Problem> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    let path = path.display();
    let message = format!("others than its owner may read it (mode {mode:04o}): chmod 600 {path}");
    (mode & 0o077 != 0).then(|| Problem { severity: Severity::Warning, ..Problem::of_file(message) })
}

/// What apps show to spend a balance can be read by everybody on a network without https.
fn plain_balances(config: &Config) -> Option<Problem> {
    (config.auth.is_some() && config.tls.is_none()).then(|| {
        let message = "apps log in and spend their balances over plain http here, where anybody on the network can read what \
                       they show: add a section config tls";
        let section = Some(AUTH.to_owned());
        Problem { severity: Severity::Warning, section, ..Problem::of_file(message) }
    })
}

/// What is wrong with the files that the configuration names.
fn files(config: &Config) -> Vec<Problem> {
    let secrets = || config.lightning_files().map(PathBuf::as_path);
    let named = config.main.ca_file.as_deref().into_iter().chain(secrets());
    let unreadable = named.filter_map(|file| {
        let error = std::fs::File::open(file).err()?;
        let message = format!("{} cannot be read ({error})", file.display());
        Some(Problem { severity: Severity::Warning, ..Problem::of_file(message) })
    });
    let keys = secrets().chain(config.tls.as_ref().map(|tls| tls.key_file.as_path()));
    unreadable.chain(keys.filter_map(exposed)).collect()
}

/// Without what these files hold, every guest's order would fail, or the keys stay sealed.
fn credentials(config: &Config) -> Vec<Problem> {
    let mpesa = config.mpesa.iter().flat_map(|mpesa| {
        let relay = mpesa.relay_key_file.as_ref().filter(|_| mpesa.mode == MpesaMode::Relay);
        let files = mpesa.credential_files().into_iter().chain(relay.map(|file| ("relay_key_file", file)));
        files.map(|(option, file)| (MPESA, option, file))
    });
    let pays_out = config.fiat.iter().filter(|fiat| fiat.sell || fiat.bills);
    let fiat =
        pays_out.flat_map(|fiat| fiat.credential_file.as_ref().map(|file| (FIAT, "credential_file", file)));
    let sells_airtime = config.fiat.as_ref().is_some_and(|fiat| fiat.airtime);
    let airtime = config.airtime.iter().filter(|_| sells_airtime);
    let airtime = airtime.map(|airtime| (AIRTIME, "key_file", &airtime.key_file));
    let vault = config.keys.iter().flat_map(|vault| vault.files());
    let vault = vault.map(|(option, file)| (KEYS, option, file));
    mpesa.chain(fiat).chain(airtime).chain(vault).filter_map(fault_of).collect()
}

fn relays_files(config: &RelayConfig) -> Vec<Problem> {
    let account = &config.account;
    let account = [("consumer_key_file", &account.key_file), ("consumer_secret_file", &account.secret_file)];
    let account = account.into_iter().map(|(option, file)| (MPESA, option, file));
    let routers = config.routers.iter().map(|router| (RELAY, "router", &router.key_file));
    account.chain(routers).filter_map(fault_of).collect()
}

/// Why the file that an option names gives no secret.
fn fault_of((section, option, file): (&str, &str, &PathBuf)) -> Option<Problem> {
    let name = file.display();
    let message = match std::fs::metadata(file) {
        Err(error) => {
            format!("{name} cannot be read ({error}): write the secret there, and chmod 600 {name}")
        }
        Ok(about) if about.permissions().mode() & 0o077 != 0 => {
            format!("others than its owner may read {name}: chmod 600 {name}")
        }
        Ok(about) if !about.is_file() || about.len() == 0 => {
            format!("{name} is empty: write the secret there")
        }
        Ok(about) => match (about.len() <= LONGEST_SECRET).then(|| std::fs::read(file)) {
            Some(Ok(bytes)) if bytes.iter().all(u8::is_ascii_whitespace) => {
                format!("{name} is empty: write the secret there")
            }
            Some(Ok(bytes))
                if bytes.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) =>
            {
                return None;
            }
            _ => format!("{name} is no secret: a line of text is expected there"),
        },
    };
    let (section, option) = (Some(section.to_owned()), Some(option.to_owned()));
    Some(Problem { line: None, section, option, message, severity: Severity::Error })
}

/// `1 error`, `2 errors`.
pub fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const BROKEN: &str =
        "config tollgate 'main'\n\toption port 'http'\n\toption colour 'red'\n\toption enabled '0'\n";

    fn sample() -> String {
        include_str!("../../tests/vectors/tollgate.uci").replace("/etc/ssl/local-ca.pem", "/dev/null")
    }

    #[test]
    fn a_named_file_that_cannot_be_read_or_that_others_can_read_is_warned_of() {
        let node = "\nconfig lightning\n\toption type 'lnd'\n\toption url 'https://127.0.0.1:8080'\n";
        for (file, wrong) in
            [("/nonexistent/macaroon", "cannot be read ("), ("/dev/null", "chmod 600 /dev/null")]
        {
            let text = format!("{}{node}\toption macaroon_file '{file}'\n", sample());
            let said = report(Path::new("f"), &Config::from_uci(&text), &[]);
            assert!(
                said.text.contains(wrong) && said.summary.ends_with(", 1 warning") && said.is_good,
                "{}",
                said.text
            );
        }
    }

    #[test]
    fn logins_over_plain_http_are_warned_of() {
        let auth = "\nconfig auth\n\toption domain 'wifi.example.net'\n";
        let warned = |text: &str| plain_balances(&Config::from_uci(text).unwrap().0).is_some();
        assert!(warned(&format!("{}{auth}", sample())) && !warned(&sample()));
    }

    #[test]
    fn each_problem_is_a_line_with_file_line_section_and_option() {
        let said = report(Path::new("/etc/config/tollgate"), &Config::from_uci(BROKEN), &[]);
        assert!(!said.is_good);
        assert_eq!(
            said.text,
            "/etc/config/tollgate:2: error: section 'main': option 'port': 'http' is not a whole number from 1 to 65535: write one\n\
             /etc/config/tollgate:3: warning: section 'main': option 'colour': is not known here and has no effect: check its spelling, or remove it\n\
             /etc/config/tollgate: cannot be used: 1 error, 1 warning\n"
        );
    }

    #[test]
    fn a_good_file_is_told_what_it_holds() {
        let said = report(Path::new("f"), &Config::from_uci(&sample()), &[]);
        let summary = "f: can be used: 1 venue, 1 mint, enabled, 0 warnings";
        assert_eq!((said.summary.as_str(), said.is_good), (summary, true));
        assert_eq!(said.text, format!("{summary}\n"));
    }

    #[test]
    fn a_file_that_others_may_read_is_warned_of_with_the_command_that_mends_it() {
        let dir = crate::folder::fresh_folder();
        let path = dir.join("tollgate");
        std::fs::write(&path, sample()).unwrap();
        let mut said = Vec::new();
        for mode in [0o600, 0o640] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            said.push(report(&path, &Config::load(&path), &[]));
        }
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(said[0].summary.ends_with(", 0 warnings") && said[0].is_good, "{}", said[0].text);
        let mend = format!("may read it (mode 0640): chmod 600 {}\n", path.display());
        let warned = &said[1];
        assert!(warned.text.contains(&mend) && warned.is_good, "{}", warned.text);
        assert!(warned.summary.ends_with(", 1 warning"), "{}", warned.summary);
    }

    #[test]
    fn json_has_the_same_problems() {
        let json = report(Path::new("f"), &Config::from_uci(BROKEN), &[]).data;
        assert_eq!(json["problems"][0]["line"], json!(2));
        assert_eq!(json["problems"][0]["section"], json!("main"));
        assert_eq!(json["problems"][0]["option"], json!("port"));
        assert_eq!(json["problems"][1]["severity"], json!("warning"));
    }

    #[test]
    fn a_file_that_is_not_there_is_a_problem_without_a_line() {
        let path = Path::new("/nonexistent/tollgate");
        let said = report(path, &Config::load(path), &[]);
        assert!(!said.is_good);
        assert!(said.text.starts_with("/nonexistent/tollgate: error: cannot be read ("), "{}", said.text);
    }
}
