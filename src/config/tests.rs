mod fiat;
mod operators;
mod options;
mod payments;
mod vouchers;

use super::schema::{Default, OPTIONS};
use super::*;
use crate::set::SortedSet;
use crate::units::{Millis, Sats, Unit};
use std::time::Duration;

const SAMPLE: &str = include_str!("../../tests/vectors/tollgate.uci");
const VENUE: &str = "config venue 'guest'\n\tlist device 'br-guest'\n";
const MINT: &str = "config mint\n\toption url 'https://mint.example.com'\n\toption price_per_step '2'\n";

fn good(text: &str) -> Config {
    let (config, warnings) = Config::from_uci(text).unwrap();
    assert_eq!(warnings, [], "{text}");
    config
}

/// The errors and warnings as `line option: message`.
fn problems(text: &str) -> Vec<String> {
    let found = match Config::from_uci(text) {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems,
    };
    found
        .iter()
        .map(|problem| {
            let line = problem.line.map_or("-".to_owned(), |line| line.to_string());
            let option = problem.option.as_deref().unwrap_or("-");
            format!("{line} {} {option}: {}", problem.severity, problem.message)
        })
        .collect()
}

#[track_caller]
fn assert_problem(text: &str, wanted: &str) {
    let found = problems(text);
    assert!(found.iter().any(|problem| problem.contains(wanted)), "{wanted:?} not in {found:#?}");
}

fn main_with(line: &str) -> String {
    format!("config tollgate 'main'\n\t{line}\n{VENUE}{MINT}")
}

fn venue_with(line: &str) -> String {
    format!("{VENUE}\t{line}\n{MINT}")
}

fn mint_with(line: &str) -> String {
    format!("{VENUE}{MINT}\t{line}\n")
}

#[test]
fn the_file_that_says_everything_reads_as_it_says() {
    let config = good(SAMPLE);
    assert_eq!(
        config.main,
        Main {
            enabled: true,
            state_dir: "/etc/tollgate".into(),
            run_dir: "/var/run/tollgate".into(),
            port: 2121,
            mint_proxy_port: 2122,
            redirect_port: 2123,
            admin_listen: "127.0.0.1:2120".parse().unwrap(),
            public_listen: "127.0.0.1:2124".parse().unwrap(),
            guest_sockets: 16,
            guest_connections: 64,
            log_level: log::LevelFilter::Info,
            log_target: LogTarget::Syslog,
            log_format: LogFormat::Text,
            ca_file: Some("/etc/ssl/local-ca.pem".into()),
            invoice_grace: Millis::from_secs(86_400),
            mint_proxy_auth: MintProxyAuth::Nothing,
            garden: Vec::new(),
            uplinks: Vec::new(),
        }
    );
    let [venue] = &config.venues[..] else { panic!() };
    assert_eq!((venue.id.as_str(), venue.name.as_str()), ("guest", "Kibanda Wi-Fi"));
    assert_eq!(venue.devices, ["br-guest"]);
    assert_eq!((venue.metric, venue.step_size, venue.max_steps), (Metric::Milliseconds, 60_000, 1440));
    assert_eq!(venue.trusted_macs, SortedSet::from(["02:00:00:00:00:01".parse().unwrap()]));
    let [mint] = &config.mints[..] else { panic!() };
    assert_eq!(mint.url.as_str(), "https://mint.example.com");
    assert_eq!((mint.unit, mint.price_per_step, mint.min_steps), (Unit::Sat, Sats(1), 1));
    assert_eq!((mint.allow_http, &mint.venues[..]), (false, &["guest".to_owned()][..]));
}

#[test]
fn what_the_file_does_not_say_has_the_default() {
    let short = good(&format!("{VENUE}{MINT}"));
    let mut long = good(SAMPLE).main;
    long.ca_file = None;
    assert_eq!(short.main, long);
    assert_eq!(short.venues[0].name, "guest");
    assert_eq!((short.venues[0].step_size, short.venues[0].max_steps), (60_000, 1440));
    assert_eq!((short.mints[0].min_steps, short.mints[0].allow_http), (1, false));
    assert!(short.mints[0].venues.is_empty());
}

/// A good file with one more line in a section.
fn with(section: &str, line: &str) -> String {
    match section {
        schema::MAIN => main_with(line),
        schema::VENUE => venue_with(line),
        schema::MINT => mint_with(line),
        schema::CARD if !line.contains("domain") => {
            format!("{}\nconfig card\noption domain 'c.example'\n{line}\n", main_with(""))
        }
        schema::TLS => {
            let all = [("name", "w.example"), ("cert_file", "/c"), ("key_file", "/k")];
            let others = all.iter().filter(|(name, _)| !line.contains(&format!("option {name} ")));
            let others: String = others.map(|(name, value)| format!("option {name} '{value}'\n")).collect();
            format!("{}\nconfig tls\n{others}{line}\n", main_with(""))
        }
        schema::MPESA | schema::PRICE | schema::FIAT => {
            let of = |kind: &str, all: &[(&str, &str)]| {
                let others = all
                    .iter()
                    .filter(|(name, _)| kind != section || !line.contains(&format!("option {name} ")));
                let others: String =
                    others.map(|(name, value)| format!("option {name} '{value}'\n")).collect();
                format!("config {kind}\n{others}{}\n", if kind == section { line } else { "" })
            };
            let daraja = [("shortcode", "174379"), ("callback_url", "https://relay.example.net/cb/r1")];
            let price = [("id", "1h"), ("amount", "20"), ("steps", "60")];
            let fiat = if section == schema::FIAT { of(schema::FIAT, &[]) } else { String::new() };
            format!("{}\n{}{}{fiat}", main_with(""), of(schema::MPESA, &daraja), of(schema::PRICE, &price))
        }
        schema::RATE if !line.contains("kes_per_btc") => {
            format!("{}\nconfig rate\noption kes_per_btc '13000000'\n{line}\n", main_with(""))
        }
        schema::AIRTIME if !line.contains("username") => {
            format!("{}\nconfig airtime\noption username 'sandbox'\n{line}\n", main_with(""))
        }
        schema::RELAY if !line.contains("router") => {
            format!("{}\nconfig relay\nlist router 'r1 /etc/tollgate/r1.key'\n{line}\n", main_with(""))
        }
        schema::AUTH if !line.contains("domain") => {
            format!("{}\nconfig auth\noption domain 'wifi.example.net'\n{line}\n", main_with(""))
        }
        schema::HMAC_KEY | schema::WEBHOOK | schema::PRODUCT | schema::APPROVAL => {
            let all: &[(&str, &str)] = match section {
                schema::HMAC_KEY => &[("id", "shop"), ("secret_file", "/s")],
                schema::WEBHOOK => &[("secret_file", "/s")],
                schema::APPROVAL => &[("above", "100")],
                _ => &[("id", "hour"), ("venue", "guest"), ("time", "1h")],
            };
            let others = all.iter().filter(|(name, _)| !line.contains(&format!("option {name} ")));
            let others: String = others.map(|(name, value)| format!("option {name} '{value}'\n")).collect();
            format!("{}\nconfig {section}\n{others}{line}\n", main_with(""))
        }
        section => format!("{}\nconfig {section}\n{line}\n", main_with("")),
    }
}

#[test]
fn every_default_in_the_schema_is_one_that_the_option_accepts() {
    for option in OPTIONS {
        let Default::Text(text) = option.default else { continue };
        // Warned of where it has no effect.
        if option.section == "grpc" && cfg!(not(feature = "grpc")) {
            continue;
        }
        let line = format!("option {} '{text}'", option.name);
        assert_eq!(good(&with(option.section, &line)), good(&with(option.section, "")), "{line}");
    }
}

#[test]
fn the_table_of_options_is_the_schema() {
    let table: Vec<Vec<&str>> = include_str!("../../openwrt/README.md")
        .lines()
        .skip_while(|line| !line.starts_with("| section | option |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let schema: Vec<[String; 3]> = OPTIONS
        .iter()
        .map(|option| {
            let name = format!("{}`{}`", if option.list { "list " } else { "" }, option.name);
            let default = match option.default {
                Default::Required => "required".to_owned(),
                Default::Nothing => "none".to_owned(),
                Default::Derived(words) => words.to_owned(),
                Default::Text(text) => format!("`{text}`"),
            };
            [format!("`{}`", option.section), name, default]
        })
        .collect();
    assert_eq!(table.len(), schema.len());
    for (row, option) in table.iter().zip(&schema) {
        assert_eq!(row.len(), 5, "{row:?}");
        assert_eq!(&row[..3], &option[..], "{row:?}");
    }
}

#[test]
fn an_option_in_the_schema_is_known_to_the_reader() {
    for option in OPTIONS {
        let line = format!("option {} '\u{7f}'", option.name);
        let found = Config::from_uci(&with(option.section, &line)).unwrap_err();
        assert!(found.iter().any(|problem| problem.option.as_deref() == Some(option.name)), "{option:?}");
    }
}

#[test]
fn all_problems_of_a_file_are_reported_in_the_order_of_its_lines() {
    let text = "config tollgate 'main'
	option port '70000'
	option colour 'red'
	option log_level 'loud'
config venue 'guest'
	list device 'a/b'
	option step_size '-1'
config mint
	option url 'mint.example.com'
	option unit 'usd'
config volcano
";
    let found = problems(text);
    let places: Vec<_> = found.iter().map(|problem| problem.split(':').next().unwrap()).collect();
    assert_eq!(
        places,
        [
            "2 error port",
            "3 warning colour",
            "4 error log_level",
            "6 error device",
            "7 error step_size",
            "8 error price_per_step",
            "9 error url",
            "10 error unit",
            "11 warning -",
        ]
    );
}

#[test]
fn text_that_is_no_uci_is_reported_with_libucis_words_line_and_advice() {
    let found = Config::from_uci("config tollgate 'main'\n\toption port 1 2\n\tcolour 'red'\n").unwrap_err();
    let lines: Vec<_> = found.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [Some(2), Some(3)]);
    assert_eq!(
        found[0].message,
        "Parse error (too many arguments) at line 2, byte 17: put a value that holds blanks in quotes"
    );
    let open = Config::from_uci("config venue 'a\n\toption name 'b'\n").unwrap_err();
    assert_eq!(open[0].line, Some(1));
}

#[test]
fn a_disabled_daemon_needs_nothing_to_sell() {
    assert!(!good("config tollgate 'main'\n\toption enabled '0'\n").main.enabled);
    assert!(!good(&format!("config tollgate 'main'\n\toption enabled 'off'\n{VENUE}")).main.enabled);
}

#[test]
fn an_enabled_daemon_needs_a_venue_and_is_told_to_want_a_mint() {
    assert_problem("", "- error enabled: no venue to sell in: add a section config venue 'guest'");
    let without = format!("config tollgate main\n\toption enabled yes\n{VENUE}");
    assert_problem(&without, "2 warning enabled: no mint says what a step costs");
    assert_problem(MINT, "no venue to sell in");
}

#[test]
fn a_second_main_section_is_refused() {
    assert_problem(&format!("{SAMPLE}config tollgate\n"), "error -: there is one already in line 3");
}

#[test]
fn a_list_where_one_value_belongs_is_refused() {
    assert_problem(&main_with("list port '2121'"), "2 error port: takes one value");
}

#[test]
fn what_libuci_reads_unexpectedly_is_warned_about() {
    assert_problem(
        &main_with("option port 2121; option enabled 0"),
        "2 warning -: nothing behind this ';' is read",
    );
}

#[test]
fn an_option_that_is_there_twice_is_warned_about() {
    let price = mint_with("option price_per_step '3'");
    assert_problem(&price, "6 warning -: this section has the option already");
    assert_eq!(Config::from_uci(&price).unwrap().0.mints[0].price_per_step, Sats(3));
    let named = |host: &str| {
        format!("config mint 'm'\n\toption url 'https://{host}.example'\n\toption price_per_step 1\n")
    };
    let text = format!("{VENUE}{}{}", named("a"), named("b"));
    assert_eq!(problems(&text).len(), 1, "{:?}", problems(&text));
    assert_problem(&text, "7 warning -: this section has the option already");
}

#[test]
fn a_message_is_one_line_and_short_whatever_the_file_holds() {
    let text =
        main_with(&format!("option port 'a\nb\u{1b}{}'\n\toption {} 1", "x".repeat(5000), "y".repeat(5000)));
    for problem in Config::from_uci(&text).unwrap_err() {
        let text = problem.to_string();
        assert!(text.len() < 400 && !text.contains(char::is_control), "{text}");
    }
}

#[test]
fn mints_belong_to_the_venues_they_name_or_to_all() {
    let other =
        "config mint\n\toption url 'https://b.example'\n\toption price_per_step 1\n\tlist venue 'b'\n";
    let config = good(&format!("{VENUE}config venue 'b'\n\tlist device 'eth1'\n{MINT}{other}"));
    let (guest, b) = (config.venue_of_device("br-guest").unwrap(), config.venue_of_device("eth1").unwrap());
    assert_eq!((guest.id.as_str(), b.id.as_str()), ("guest", "b"));
    assert!(config.venue_of_device("eth2").is_none());
    let urls = |venue| config.mints_of(venue).map(|mint| mint.url.as_str()).collect::<Vec<_>>();
    assert_eq!(urls(guest), ["https://mint.example.com"]);
    assert_eq!(urls(b), ["https://mint.example.com", "https://b.example"]);
    let url = MintUrl::parse("https://B.example/").unwrap();
    assert!(config.mint_for(guest, &url).is_none());
    assert_eq!(config.mint_for(b, &url).unwrap().price_per_step, Sats(1));
}

#[test]
fn a_file_is_read_from_disk_and_refused_where_it_is_no_text_file() {
    let dir = crate::folder::fresh_folder();
    let path = dir.join("tollgate");
    std::fs::write(&path, SAMPLE).unwrap();
    assert_eq!(Config::load(&path).unwrap().0, good(SAMPLE));
    std::fs::write(&path, b"# caf\xc3\xa9\n# caf\xe9\n").unwrap();
    assert_eq!(Config::load(&path).unwrap_err()[0].line, Some(2));
    std::fs::write(&path, vec![b'\n'; uci::MAX_BYTES + 1]).unwrap();
    assert!(Config::load(&path).unwrap_err()[0].message.contains("file too large"));
    assert!(Config::load(&dir).unwrap_err()[0].message.contains("not a regular file"));
    std::fs::write(&path, "config tollgate\n\toption run_dir '/run/t'\n\toption port 'x'\n").unwrap();
    assert_eq!(run_dir_of(&path), Some("/run/t".into()));
    std::fs::write(&path, "config tollgate\n").unwrap();
    assert_eq!(run_dir_of(&path), Some(DEFAULT_RUN_DIR.into()));
    std::fs::write(&path, "x").unwrap();
    assert_eq!(run_dir_of(&path), None, "that of another daemon is not taken for it");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn every_prefix_and_every_changed_byte_gives_a_configuration_or_problems() {
    for end in (0..=SAMPLE.len()).filter(|&end| SAMPLE.is_char_boundary(end)) {
        let _ = Config::from_uci(&SAMPLE[..end]);
    }
    for at in 0..SAMPLE.len() {
        for byte in *b"\0'\"\\;#\n 09-/x" {
            let mut changed = SAMPLE.as_bytes().to_vec();
            changed[at] = byte;
            let text = String::from_utf8_lossy(&changed).into_owned();
            let path = Path::new("f");
            let _ = check::report(path, &Config::from_uci(&text), &[]);
        }
    }
}
