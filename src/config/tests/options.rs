//! One option or section at a time: what it takes, and what is said of the rest.

use super::*;

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
fn the_ports_of_listeners_differ() {
    assert_problem(&main_with("option port '2122'"), "2 error port: has the same port as 'mint_proxy_port'");
    assert_problem(&main_with("option redirect_port '2121'"), "2 error redirect_port: has the same port");
    assert_problem(
        &main_with("option admin_listen '127.0.0.1:2123'"),
        "2 error admin_listen: has the same port",
    );
    assert_problem(
        &with(schema::TLS, "option port '2122'"),
        "has the same port as 'mint_proxy_port' of tollgate",
    );
    assert_problem(
        &with(schema::TLS, "option listen '127.0.0.1:2127'"),
        "has the same port as 'admin_listen': ",
    );
    assert_problem(&main_with("option port '2124'"), "2 error port: has the same port as 'public_listen'");
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
fn wallets_reach_the_router_at_the_domain_that_they_sign_for() {
    let auth = |lines: &str| format!("{}\nconfig auth\n{lines}\n", main_with(""));
    let read = |lines: &str| good(&auth(lines)).auth.unwrap();
    let plain = read("option domain 'Wifi.Example.net'");
    assert_eq!((plain.domain.as_str(), plain.url.as_str()), ("wifi.example.net", "https://wifi.example.net"));
    let port = read("option domain 'wifi.example.net'\noption url 'https://WIFI.example.net:2125/'");
    assert_eq!(port.url.as_str(), "https://wifi.example.net:2125");
    let tls = "config tls\noption name 'w.example'\noption cert_file '/c'\noption key_file '/k'\n";
    let with_tls = |domain: &str| read(&format!("option domain '{domain}'\n{tls}")).url.to_string();
    assert_eq!(with_tls("w.example"), "https://w.example:2125");
    assert_eq!(with_tls("other.example"), "https://other.example");
    read("option domain 'abc.onion'\noption url 'http://abc.onion'");
    assert_problem(&auth("option domain 'a.example'\noption url 'https://b.example'"), "has another host");
    assert_problem(&auth("option domain 'a.example'\noption url 'http://a.example'"), "is plain http://");
    assert_problem(&auth("option url 'https://a.example'"), "domain: is missing");
    for domain in ["192.0.2.1", "localhost", "a_b.example", "wifi.example.net:2125", "wifi.local"] {
        assert_problem(&auth(&format!("option domain '{domain}'")), "error domain");
    }
    assert_problem(&auth("option domain 'a.example'\noption challenge_ttl '601'"), "from 5 to 600");
    assert_problem(&auth("option domain 'a.example'\noption jwt_ttl '59'"), "from 60 to 31536000");
    assert_problem(&auth("option domain 'a.example'\noption max_devices '17'"), "from 1 to 16");
    assert_problem(&auth("option domain 'a.example'\noption move_cooldown '86401'"), "from 0 to 86400");
    assert_eq!(good(&main_with("")).auth, None);
}

#[test]
fn https_has_a_name_of_its_own_and_the_files_of_its_certificate() {
    let tls = |line: &str| good(&with(schema::TLS, line)).tls.unwrap();
    assert_eq!(tls("option name 'WiFi.Example.NET'").origin(), "https://wifi.example.net:2125");
    assert_eq!(tls("option port '443'").origin(), "https://w.example");
    assert_eq!(good(&main_with("")).tls, None);
    assert_problem(&with(schema::TLS, "option name '192.168.1.1'"), "error name: ");
    assert_problem(&with(schema::TLS, "option key_file 'key.pem'"), "error key_file: ");
    assert_problem(&with(schema::TLS, "option listen '0.0.0.0:2126'"), "can be reached from outside");
    assert_problem(&with(schema::TLS, "option admin_listen '8.8.8.8:1'"), "can be reached from outside");
    for missing in ["name", "cert_file", "key_file"] {
        let text = with(schema::TLS, "").replace(&format!("option {missing} "), "option nothing ");
        assert_problem(&text, &format!("error {missing}: is missing"));
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
    // What is short is a device's name, not a section's.
    let long = good(&format!("config venue 'v'\n\toption network 'cafe_on_the_hill_guests'\n{MINT}"));
    assert_eq!(long.venues[0].network.as_deref(), Some("cafe_on_the_hill_guests"));
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
        assert_problem(
            &venue_with(&text),
            "4 warning step_size: is below 1 MiB, which existing portals answer",
        );
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
fn the_portals_name_is_a_host_name_that_phones_ask_the_router_for() {
    let name =
        |text: &str| good(&venue_with(&format!("option portal_name '{text}'"))).venues[0].portal_name.clone();
    assert_eq!(good(&format!("{VENUE}{MINT}")).venues[0].portal_name, None);
    for text in ["wifi.home", "WiFi.Home", "a-1.tollgate.lan", "1.xn--p1ai"] {
        assert_eq!(name(text), Some(text.to_ascii_lowercase()));
    }
    let long = format!("{}.lan", "a".repeat(64));
    for text in [
        "wifi",
        "wifi.",
        ".lan",
        "a..b",
        "-a.lan",
        "a-.lan",
        "a b.lan",
        "ä.lan",
        "192.168.1.1",
        "a.1",
        "a:80.lan",
        "a.lan/",
        &long,
    ] {
        assert_problem(&venue_with(&format!("option portal_name '{text}'")), "error portal_name: ");
    }
    assert_problem(&venue_with("option portal_name 'wifi.local'"), "phones do not ask the router");
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
    assert_problem(
        &text.replace("steps 6", "steps 5"),
        "7 warning min_steps: is above 1, which existing portals",
    );
}

#[test]
fn a_venue_where_no_mint_sells_is_warned_about() {
    let text = format!("{}config venue 'b'\n\tlist device 'eth1'\n", mint_with("list venue 'guest'"));
    assert_problem(&text, "7 warning -: no mint sells here: add list venue 'b' to a mint");
}

#[test]
fn a_venue_opens_at_most_32_machines_of_either_family() {
    let config =
        good(&venue_with("list reach '192.168.1.9'\n\tlist reach 'fd00::9'\n\tlist reach '192.168.1.8'"));
    let reach: Vec<String> = config.venues[0].reach.iter().map(ToString::to_string).collect();
    assert_eq!(reach, ["192.168.1.8-192.168.1.9", "fd00::9"]);
    let lines = |count| (0..count).map(|n| format!("list reach '10.1.{n}.1'\n\t")).collect::<String>();
    assert_eq!(good(&venue_with(&lines(32))).venues[0].reach.len(), 32);
    assert_problem(&venue_with(&lines(33)), "error reach: has more than 32 entries");
    assert_problem(
        &venue_with("list reach 'printer.lan'"),
        "error reach: 'printer.lan' is neither an address",
    );
}

#[test]
fn a_venues_own_uplinks_replace_the_others() {
    let text = format!(
        "{}\tlist uplink 'vpn'\n{MINT}",
        main_with("list uplink 'wan'\n\tlist uplink 'wwan'").replace(MINT, "")
    );
    let config = good(&text);
    assert_eq!(config.main.uplinks, ["wan", "wwan"]);
    assert_eq!(config.uplinks_of(&config.venues[0]), ["vpn"]);
    let config = good(&main_with("list uplink 'wan'"));
    assert_eq!(config.uplinks_of(&config.venues[0]), ["wan"]);
    for wrong in ["", "a b", "wan;reboot", "*", "@wan[0]"] {
        assert_problem(&main_with(&format!("list uplink '{wrong}'")), "2 error uplink: ");
    }
}
