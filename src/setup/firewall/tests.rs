use super::*;

#[test]
fn a_zone_may_name_devices_by_their_beginning() {
    let files = files("", "config zone\n\toption name 'visitors'\n\tlist device 'br-gu+'\n");
    assert_eq!(files.zone_of("br-guest").map(zone_name), Some("visitors"));
    assert_eq!(files.zone_of("br-lan"), None);
}

#[test]
fn a_zone_may_name_a_subnet_and_a_device_may_be_in_two() {
    let network = "config interface 'guest'\n\toption device 'br-guest'\n\toption ipaddr '192.168.77.1/24'\n";
    let zones = "config zone\n\toption name 'by_subnet'\n\tlist subnet '192.168.0.0/16'
config zone\n\toption name 'off'\n\toption enabled 'no'\n\tlist network 'guest'
config zone\n\toption name 'by_network'\n\tlist network 'guest'
config zone\n\toption name 'other'\n\tlist subnet '10.0.0.0/8'\n";
    let files = files(network, zones);
    let names: Vec<&str> = files.zones_of("br-guest").into_iter().map(zone_name).collect();
    assert_eq!(names, ["by_subnet", "by_network"]);
}

#[test]
fn what_a_zone_may_send_to_the_router_is_its_word_or_a_rule() {
    let zone = "config zone\n\toption name 'visitors'\n\toption input 'REJECT'\n";
    let accepts = |more: &str, protocol: &str, port: u16| {
        let files = files("", &format!("{zone}{more}\n"));
        let zone = files.zone("visitors").unwrap();
        files.accepts_input(zone, protocol, port)
    };
    let rule = "config rule\n\toption src 'visitors'\n\toption target 'accept'\n\toption proto 'udp'\n\toption dest_port '53 60-70'";
    assert!(accepts(rule, "udp", 67) && accepts(rule, "udp", 53));
    assert!(!accepts(rule, "tcp", 53) && !accepts(rule, "udp", 123) && !accepts("", "udp", 67));
    for other in [
        format!("{rule}\n\toption dest 'wan'"),
        format!("{rule}\n\toption enabled '0'"),
        rule.replace("visitors", "lan"),
        rule.replace("accept", "DROP"),
    ] {
        assert!(!accepts(&other, "udp", 67), "{other}");
    }
    let open = files("", &zone.replace("REJECT", "accept"));
    assert!(open.accepts_all_input(open.zone("visitors").unwrap()));
}

#[test]
fn a_rule_that_opens_the_whole_router_is_told_from_one_for_a_service() {
    let open = "config rule\n\toption src 'visitors'\n\toption target 'ACCEPT'\n";
    for (more, count) in [
        ("", 1),
        ("\toption proto 'all'\n", 1),
        ("\toption proto 'icmp'\n", 0),
        ("\toption dest_port '53'\n", 0),
        ("\toption dest 'wan'\n", 0),
        ("\toption enabled '0'\n", 0),
    ] {
        assert_eq!(files("", &format!("{open}{more}")).rules_in("visitors").len(), count, "{more}");
    }
}

#[test]
fn a_policy_that_a_zone_does_not_say_is_that_of_all_zones_in_any_case() {
    for (defaults, zone, accepts) in [
        ("", "", false),
        ("\toption forward 'accept'\n", "", true),
        ("\toption forward 'ACCEPT'\n", "\toption forward 'REJECT'\n", false),
        ("", "\toption forward 'Accept'\n", true),
    ] {
        let files =
            files("", &format!("config defaults\n{defaults}config zone\n\toption name 'visitors'\n{zone}"));
        assert_eq!(files.accepts(files.zone("visitors").unwrap(), "forward"), accepts, "{defaults}{zone}");
    }
}

#[test]
fn rules_into_any_other_zone_are_ways_out() {
    let rule = |more: &str| {
        let text = format!("config rule\n\toption src 'visitors'\n\toption target 'accept'\n{more}");
        files("", &text).rules_out("visitors").len()
    };
    for dest in ["wan", "lan", "*"] {
        assert_eq!(rule(&format!("\toption dest '{dest}'\n")), 1, "{dest}");
    }
    assert_eq!(rule(""), 0);
    assert_eq!(rule("\toption dest 'lan'\n\toption dest_ip '192.168.1.9'\n"), 0);
    assert_eq!(rule("\toption dest 'wan'\n\toption enabled 'disabled'\n"), 0, "fw4 leaves it out");
}

#[test]
fn a_network_without_a_device_has_the_one_that_netifd_gave_it() {
    let network = "config interface 'guest'\n\toption proto 'static'\n";
    let mut files = files(network, "config zone\n\toption name 'visitors'\n\tlist network 'guest'\n");
    assert_eq!(files.zone_of("phy0-ap0"), None);
    files.up = networks_up(
        br#"{"interface":[{"interface":"guest","up":true,"l3_device":"phy0-ap0"},{"interface":"off"}]}"#,
    );
    assert_eq!(files.zone_of("phy0-ap0").map(zone_name), Some("visitors"));
}

#[test]
fn a_default_route_is_seen_in_the_dump_and_nonsense_is_no_dump() {
    let dump = br#"{"interface":[
        {"interface":"wan","l3_device":"pppoe-wan","device":"eth1","route":[{"target":"0.0.0.0","mask":0}]},
        {"interface":"lan","l3_device":"br-lan","device":"br-lan","route":[{"target":"10.1.0.0","mask":16}]}]}"#;
    let up = networks_up(dump);
    assert_eq!((up[0].device.as_str(), up[0].has_default_route), ("pppoe-wan", true));
    assert!(!up[1].has_default_route);
    for nonsense in [&b""[..], b"{}", b"[]", b"{\"interface\":[5,{}]}"] {
        assert_eq!(networks_up(nonsense), []);
    }
}

#[test]
fn only_rules_that_decide_over_what_a_zone_forwards_count() {
    let rule = |more: &str| format!("config rule\n\toption src 'visitors'\n{more}\n");
    let text = [
        rule("\toption dest 'wan'\n\toption dest_port '25'\n\toption target 'REJECT'"),
        rule("\toption dest '*'\n\toption target 'drop'"),
        rule("\toption target 'REJECT'"),
        rule("\toption dest 'wan'\n\toption target 'MARK'"),
        rule("\toption dest 'wan'\n\toption target 'DROP'\n\toption enabled '0'"),
        rule("\toption dest 'wan'\n\toption target 'DROP'").replace("visitors", "lan"),
    ];
    assert_eq!(files("", &text.concat()).deciding_rules("visitors").count(), 2);
}
