use super::schema::{Default, OPTIONS};
use super::*;
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
            guest_sockets: 16,
            guest_connections: 64,
            log_level: log::LevelFilter::Info,
            log_target: LogTarget::Syslog,
            ca_file: Some("/etc/ssl/local-ca.pem".into()),
            invoice_grace: Millis::from_secs(86_400),
            mint_proxy_auth: MintProxyAuth::Nothing,
            garden: Vec::new(),
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
        section => format!("{}\nconfig {section}\n{line}\n", main_with("")),
    }
}

#[test]
fn every_default_in_the_schema_is_one_that_the_option_accepts() {
    for option in OPTIONS {
        let Default::Text(text) = option.default else { continue };
        let line = format!("option {} '{text}'", option.name);
        assert_eq!(good(&with(option.section, &line)), good(&with(option.section, "")), "{line}");
    }
}

#[test]
fn the_table_of_options_is_the_schema() {
    let table: Vec<Vec<&str>> = include_str!("../../README.md")
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
fn an_enabled_daemon_needs_a_venue_and_a_mint() {
    assert_problem("", "- error enabled: no venue to sell in: add a section config venue 'guest'");
    assert_problem("", "- error enabled: no mint to sell for: add a section config mint");
    assert_problem(
        &format!("config tollgate main\n\toption enabled yes\n{VENUE}"),
        "2 error enabled: no mint",
    );
    assert_problem(MINT, "no venue to sell in");
}

#[test]
fn booleans_are_those_of_openwrt_and_nothing_else() {
    for (text, value) in [("1", true), ("on", true), ("true", true), ("yes", true), ("enabled", true)] {
        assert_eq!(good(&main_with(&format!("option enabled '{text}'"))).main.enabled, value);
    }
    for text in ["0", "off", "false", "no", "disabled"] {
        assert!(!good(&main_with(&format!("option enabled '{text}'"))).main.enabled);
    }
    for text in ["2", "True", "ON", " 1", "y", "01"] {
        assert_problem(&main_with(&format!("option enabled '{text}'")), "2 error enabled: ");
    }
}

#[test]
fn numbers_are_decimal_and_in_their_range() {
    for text in ["0", "65536", "-1", "+1", "1.0", "0x10", " 1", "1 ", "1e3", "18446744073709551616", "٣"] {
        assert_problem(&main_with(&format!("option port '{text}'")), "is not a whole number from 1 to 65535");
    }
    assert_eq!(good(&main_with("option port '65535'")).main.port, 65535);
    assert_problem(&main_with("option guest_sockets '0'"), "from 1 to 1024");
    assert_problem(&venue_with("option max_steps '0'"), "from 1 to");
    assert_problem(&venue_with("option step_size '0'"), "from 1 to");
    assert_problem(&mint_with("option price_per_step '0'"), "from 1 to");
    assert_eq!(good(&main_with("option invoice_grace '0'")).main.invoice_grace.as_duration(), Duration::ZERO);
}

#[test]
fn min_steps_of_nothing_counts_as_one() {
    assert_eq!(good(&mint_with("option min_steps '0'")).mints[0].min_steps, 1);
}

#[test]
fn products_that_are_too_large_are_refused() {
    assert_problem(&venue_with("option step_size '315360000000'"), "times step_size is more than ten years");
    let text = format!("{VENUE}\toption max_steps '300000000'\n\toption step_size 1000\n{MINT}");
    good(&text);
    assert_problem(&text.replace("step '2'", "step '7000001'"), "more than all bitcoin");
}

#[test]
fn the_four_ports_differ() {
    assert_problem(&main_with("option port '2122'"), "2 error port: has the same port as 'mint_proxy_port'");
    assert_problem(&main_with("option redirect_port '2121'"), "2 error redirect_port: has the same port");
    assert_problem(
        &main_with("option admin_listen '127.0.0.1:2123'"),
        "2 error admin_listen: has the same port",
    );
}

#[test]
fn more_sockets_than_connections_are_warned_about() {
    assert_problem(
        &main_with("option guest_connections '8'"),
        "warning guest_sockets: is more than guest_connections",
    );
}

#[test]
fn the_admin_listener_cannot_be_reached_from_outside() {
    for text in ["[::1]:2120", "192.168.1.1:80", "10.1.2.3:9", "172.31.0.1:9", "169.254.1.1:9", "[fd00::1]:9"]
    {
        good(&main_with(&format!("option admin_listen '{text}'")));
    }
    for text in
        ["0.0.0.0:2120", "[::]:2120", "8.8.8.8:1", "172.32.0.1:1", "[2001:db8::1]:1", "[::ffff:8.8.8.8]:1"]
    {
        assert_problem(&main_with(&format!("option admin_listen '{text}'")), "can be reached from outside");
    }
    for text in ["2120", "localhost:2120", "127.0.0.1", "127.0.0.1:70000", "127.0.0.1:0", "::1:2120x"] {
        assert_problem(&main_with(&format!("option admin_listen '{text}'")), "2 error admin_listen");
    }
}

#[test]
fn paths_are_full_and_plain() {
    for text in ["tollgate", "/", "/etc/../tollgate", "./x", "/a\u{1}b"] {
        assert_problem(&main_with(&format!("option state_dir '{text}'")), "2 error state_dir");
    }
    assert_problem(&main_with(&format!("option run_dir '/{}'", "r".repeat(90))), "longer than 90 bytes");
    assert_problem(&main_with("option state_dir '/tmp/tollgate'"), "2 warning state_dir");
}

#[test]
fn device_names_are_those_of_linux_and_safe_for_nft() {
    for text in ["br-guest", "eth0.3", "wlan0-1", "veth@a", "a:1", "abcdefghijklmno"] {
        let config = good(&format!("config venue 'v'\n\tlist device '{text}'\n{MINT}"));
        assert_eq!(config.venues[0].devices, [text]);
    }
    for text in
        ["", "abcdefghijklmnop", "a b", "a/b", "a;b", "a\"b", "a{b", "é", ".", "..", "lo", "a\nb", "*"]
    {
        assert_problem(&format!("config venue 'v'\n\tlist device '{text}'\n{MINT}"), "error device");
    }
}

#[test]
fn a_single_device_may_be_an_option() {
    let config = good(&format!("config venue 'v'\n\toption device 'br-guest'\n{MINT}"));
    assert_eq!(config.venues[0].devices, ["br-guest"]);
}

#[test]
fn a_venue_has_either_devices_or_a_network() {
    let config = good(&format!("config venue 'v'\n\toption network 'guest'\n{MINT}"));
    assert_eq!((config.venues[0].network.as_deref(), config.venues[0].devices.len()), (Some("guest"), 0));
    assert_problem(&format!("config venue 'v'\n{MINT}"), "1 error device: is missing");
    assert_problem(&venue_with("option network 'guest'"), "3 error network: stands beside 'device'");
    assert_problem(&format!("config venue 'v'\n\toption network 'a b'\n{MINT}"), "is no network");
}

#[test]
fn a_device_or_network_of_two_venues_is_refused() {
    let text = format!("{VENUE}config venue 'b'\n\tlist device 'eth1'\n\tlist device 'br-guest'\n{MINT}");
    assert_problem(&text, "error device: 'br-guest' belongs to venue 'guest' already");
    let text = "config venue 'a'\n\toption network 'n'\nconfig venue 'b'\n\toption network 'n'\n";
    assert_problem(text, "4 error network: 'n' belongs to venue 'a' already");
}

#[test]
fn a_venue_without_a_name_of_its_own_is_warned_about() {
    let text = format!("config venue\n\tlist device 'br-guest'\n{MINT}");
    assert_problem(&text, "1 warning -: this venue has no name that stays");
}

#[test]
fn a_venues_name_is_one_line_for_people() {
    assert_eq!(good(&venue_with("option name ' Kahawa ☕ '")).venues[0].name, "Kahawa ☕");
    for text in ["   ", "a\tb", "a\nb", "a\u{85}b", &"x".repeat(65)] {
        assert_problem(&venue_with(&format!("option name '{text}'")), "error name: ");
    }
}

#[test]
fn bytes_are_sold_in_steps_that_portals_can_show() {
    for size in ["1048576", "22020096"] {
        let text = format!("option metric 'bytes'\n\toption step_size '{size}'");
        assert_eq!(good(&venue_with(&text)).venues[0].metric, Metric::Bytes, "{size}");
    }
    for size in ["1", "1023"] {
        let text = format!("option metric 'bytes'\n\toption step_size '{size}'");
        assert_problem(&venue_with(&text), "4 warning step_size: is less than a kilobyte");
    }
    for size in ["1024", "60000", "1048575"] {
        let text = format!("option metric 'bytes'\n\toption step_size '{size}'");
        assert_problem(&venue_with(&text), "white page");
    }
    let text = "option metric 'bytes'\n\toption step_size '1000000000000'\n\toption max_steps '1001'";
    assert_problem(&venue_with(text), "more than a million gigabytes");
    assert_problem(&venue_with("option metric 'hours'"), "'hours' is no metric");
}

#[test]
fn a_step_of_less_than_a_second_is_warned_about() {
    assert_problem(&venue_with("option step_size '999'"), "3 warning step_size: is less than a second");
    assert_eq!(good(&venue_with("option step_size '1000'")).venues[0].step_size, 1000);
}

#[test]
fn trusted_macs_are_stations() {
    for text in ["ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "2:0:0:0:0:1", "x"] {
        assert_problem(&venue_with(&format!("list trusted_mac '{text}'")), "3 error trusted_mac");
    }
}

#[test]
fn a_garden_is_public_and_in_order() {
    let garden =
        ["2001:db8:1::/48", "198.51.100.80", "198.51.100.0/24"].map(|text| format!("\tlist garden '{text}'"));
    let ranges = good(&main_with(&garden.join("\n"))).main.garden;
    assert_eq!(
        ranges.iter().map(|range| range.first.to_string()).collect::<Vec<_>>(),
        ["198.51.100.0", "2001:db8:1::"]
    );
    for (text, reason) in
        [("0.0.0.0/0", "too large"), ("192.168.77.0/24", "not public"), ("mint.example", "neither")]
    {
        assert_problem(&main_with(&format!("list garden '{text}'")), reason);
    }
    let many: Vec<String> = (0..65).map(|n| format!("\tlist garden '198.51.100.{n}'")).collect();
    assert_problem(&main_with(&many.join("\n")), "error garden: has more than 64 entries");
}

#[test]
fn a_grace_to_pay_in_is_a_quarter_of_an_hour_at_most() {
    assert_eq!(good(&format!("{VENUE}{MINT}")).venues[0].pay_grace, Millis::ZERO);
    assert_eq!(good(&venue_with("option pay_grace '900'")).venues[0].pay_grace, Millis::from_secs(900));
    for text in ["901", "-1", "5m"] {
        assert_problem(&venue_with(&format!("option pay_grace '{text}'")), "error pay_grace: ");
    }
}

#[test]
fn a_list_entry_given_twice_is_warned_about_and_counts_once() {
    let text = venue_with("list trusted_mac '02:00:00:00:00:0a'\n\tlist trusted_mac '02-00-00-00-00-0A'");
    assert_problem(&text, "4 warning trusted_mac: '02-00-00-00-00-0A' is in the list twice");
    assert_eq!(Config::from_uci(&text).unwrap().0.venues[0].trusted_macs.len(), 1);
}

#[test]
fn plain_http_needs_leave() {
    let http = mint_with("option url 'http://10.0.0.1:3338'");
    assert_problem(&http, "6 error url: is plain http://");
    let (config, _) = Config::from_uci(&format!("{http}\toption allow_http '1'\n")).unwrap();
    assert!(config.mints[0].allow_http);
}

#[test]
fn a_bad_mint_url_is_refused_without_repeating_it() {
    let found = problems(&mint_with("option url 'https://me:secret@mint.example.com'"));
    assert!(found[0].contains("holds a user name or password"), "{found:?}");
    assert!(!found.join("").contains("secret"));
    assert_problem(&format!("{VENUE}config mint\n\toption price_per_step 1\n"), "3 error url: is missing");
}

#[test]
fn the_same_mint_twice_is_refused_however_it_is_spelled() {
    let again = MINT.replace("mint.example.com", "Mint.Example.com:443/");
    assert_problem(&format!("{VENUE}{MINT}{again}"), "7 error url: is the mint of line 3 once more");
    good(&format!("{VENUE}{MINT}{}", MINT.replace(".com", ".com/Bitcoin")));
}

#[test]
fn a_mint_in_a_venue_that_is_not_there_is_refused() {
    assert_problem(&mint_with("list venue 'gest'"), "6 error venue: 'gest' is no venue of this file");
}

#[test]
fn a_minimum_above_the_venues_maximum_is_refused() {
    let text = format!("{VENUE}\toption max_steps 5\n{MINT}\toption min_steps 6\n");
    assert_problem(&text, "7 error min_steps: is above max_steps 5 of venue 'guest'");
    good(&text.replace("steps 6", "steps 5"));
}

#[test]
fn a_venue_where_no_mint_sells_is_warned_about() {
    let text = format!("{}config venue 'b'\n\tlist device 'eth1'\n", mint_with("list venue 'guest'"));
    assert_problem(&text, "7 warning -: no mint sells here: add list venue 'b' to a mint");
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
    let dir = crate::store::tests::fresh_folder();
    let path = dir.join("tollgate");
    std::fs::write(&path, SAMPLE).unwrap();
    assert_eq!(Config::load(&path).unwrap().0, good(SAMPLE));
    std::fs::write(&path, b"# caf\xc3\xa9\n# caf\xe9\n").unwrap();
    assert_eq!(Config::load(&path).unwrap_err()[0].line, Some(2));
    std::fs::write(&path, vec![b'\n'; uci::MAX_BYTES + 1]).unwrap();
    assert!(Config::load(&path).unwrap_err()[0].message.contains("file too large"));
    assert!(Config::load(&dir).unwrap_err()[0].message.contains("not a regular file"));
    std::fs::write(&path, "config tollgate\n\toption run_dir '/run/t'\n\toption port 'x'\n").unwrap();
    assert_eq!(run_dir_of(&path), Path::new("/run/t"));
    std::fs::write(&path, "x").unwrap();
    assert_eq!(run_dir_of(&path), Path::new(DEFAULT_RUN_DIR));
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
            let _ = check::report(path, &Config::from_uci(&text), at % 2 == 0);
        }
    }
}

fn card(lines: &str) -> String {
    format!("{}\nconfig card\n{lines}\n", main_with(""))
}

fn lightning(lines: &str) -> String {
    format!("{}\nconfig lightning\n{lines}\n", main_with(""))
}

#[test]
fn without_their_sections_there_are_no_cards_and_the_routers_own_ecash_pays() {
    let config = good(&main_with(""));
    assert_eq!(config.card, None);
    assert_eq!((config.lightning.kind, config.lightning.url), (LightningKind::Melt, None));
    assert_eq!(config.admin.token_file, PathBuf::from("/etc/tollgate/admin.token"));
    assert_eq!(good(&card("option enabled '0'")).card, None);
}

#[test]
fn the_domain_of_cards_is_a_host_that_fits_on_a_card() {
    for (text, read) in [
        ("Cards.Example.com", Some("cards.example.com")),
        ("abc.onion", Some("abc.onion")),
        ("10.0.0.1:8443", Some("10.0.0.1:8443")),
        ("https://cards.example.com", None),
        ("cards.example.com/", None),
        ("cards.example.com/x", None),
        ("a@b.example", None),
        ("a b", None),
        ("[::1]", None),
    ] {
        let result = Config::from_uci(&card(&format!("option domain '{text}'")));
        let domain = result.ok().and_then(|(config, _)| config.card).map(|card| card.domain);
        assert_eq!(domain.as_deref(), read, "{text}");
    }
    let long = format!("{}.example", "abcdefgh.".repeat(16));
    assert!(Config::from_uci(&card(&format!("option domain '{long}'"))).is_err());
    let taken = card("option domain 'c.example'\noption listen '127.0.0.1:2121'");
    assert!(Config::from_uci(&taken).is_err());
}

#[test]
fn a_node_has_an_address_and_a_file_with_its_credentials() {
    let lnd = "option type 'lnd'\noption url 'https://127.0.0.1:8080'\noption macaroon_file '/etc/m'\n";
    let read = good(&lightning(&format!("{lnd}option cert_sha256 '{}'", "aB:".repeat(31) + "00"))).lightning;
    assert_eq!((read.kind, read.secret_file), (LightningKind::Lnd, Some("/etc/m".into())));
    assert_eq!(read.cert_sha256.map(|pin| (pin[0], pin[31])), Some((0xab, 0)));
    for bad in [
        "option type 'lnd'\noption macaroon_file '/etc/m'",
        "option type 'lnd'\noption url 'https://n.example'",
        "option type 'lnd'\noption url 'https://n.example'\noption rune_file '/etc/m'",
        "option type 'cln'\noption url 'http://10.0.0.1'\noption rune_file '/etc/m'",
        "option type 'eclair'",
        "option cert_sha256 'abcd'",
    ] {
        assert!(Config::from_uci(&lightning(bad)).is_err(), "{bad}");
    }
    for unused in ["option url 'https://n.example'", "option password_file '/etc/p'"] {
        assert_problem(&lightning(unused), "has no effect with this type: change option type");
    }
    for here in ["http://127.0.0.1:9740", "http://[::1]:9740", "http://localhost:9740"] {
        let text = format!("option type 'phoenixd'\noption password_file '/etc/p'\noption url '{here}'");
        assert!(Config::from_uci(&lightning(&text)).is_ok(), "{here}");
    }
}
