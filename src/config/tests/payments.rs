use super::*;

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
    assert_eq!((config.lightning[0].kind, config.lightning[0].url.as_ref()), (LightningKind::Melt, None));
    assert_eq!(config.admin.token_file, PathBuf::from("/etc/tollgate/admin.token"));
    assert_eq!(good(&card("option enabled '0'")).card, None);
}

#[test]
fn where_cards_are_served_there_need_be_no_mint() {
    let venue = "config venue 'guest'\n\tlist device 'br-guest'\n";
    let file = format!("config tollgate 'main'\n{venue}config card\n\toption domain 'cards.example'\n");
    let (config, warnings) = Config::from_uci(&file).unwrap();
    assert!(config.main.enabled && config.mints.is_empty() && config.card.is_some());
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let without = Config::from_uci(&format!("{file}\toption enabled '0'\n")).unwrap();
    assert_eq!((without.0.card, without.1.len()), (None, 1), "vouchers are redeemed there");
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
    let read = good(&lightning(&format!("{lnd}option cert_sha256 '{}'", "aB:".repeat(31) + "00")))
        .lightning
        .remove(0);
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

#[test]
fn several_nodes_stand_in_the_order_in_which_they_are_tried() {
    let node = |port: usize| {
        format!("config lightning\noption type 'phoenixd'\noption password_file '/etc/p'\noption url 'http://127.0.0.1:{port}'\n")
    };
    let all = |count: usize| (1..=count).map(node).collect::<String>();
    let read = good(&format!("{}\n{}config lightning\n", main_with(""), all(2))).lightning;
    let urls: Vec<_> = read.iter().map(|node| node.url.as_ref().map(|url| url.as_str())).collect();
    assert_eq!(urls, [Some("http://127.0.0.1:1"), Some("http://127.0.0.1:2"), None]);
    assert_eq!(good(&format!("{}\n{}", main_with(""), all(8))).lightning.len(), 8);
    assert_problem(&format!("{}\n{}", main_with(""), all(9)), "more than 8 sections lightning: remove some");
    let bad =
        format!("{}\nconfig lightning\noption type 'a'\nconfig lightning\noption type 'b'\n", main_with(""));
    assert_problem(&bad, "'a' is no backend");
    assert_problem(&bad, "'b' is no backend");
}

#[cfg(feature = "grpc")]
#[test]
fn programs_are_served_on_loopback_or_over_tls_and_never_everywhere() {
    const TLS: &str = "\nconfig tls\noption name 'w.example'\noption cert_file '/c'\noption key_file '/k'\n";
    let grpc =
        |listen: &str, tls: &str| format!("{}{tls}\nconfig grpc\noption listen '{listen}'\n", main_with(""));
    let read = good(&format!("{}\nconfig grpc\n", main_with(""))).grpc.unwrap();
    assert_eq!((read.listen.to_string().as_str(), read.is_tls()), ("127.0.0.1:50051", false));
    assert_eq!(read.token_file, PathBuf::from("/etc/tollgate/grpc.token"));
    assert_eq!(good(&main_with("")).grpc, None);
    for vpn in ["10.8.0.1:50051", "100.64.1.2:50051", "[fd00::1]:50051"] {
        assert!(good(&grpc(vpn, TLS)).grpc.unwrap().is_tls(), "{vpn}");
        assert_problem(&grpc(vpn, ""), "needs a section config tls");
    }
    for everywhere in ["0.0.0.0:50051", "[::]:50051", "[::ffff:0.0.0.0]:50051"] {
        assert_problem(&grpc(everywhere, TLS), "is every address");
    }
    for outside in ["203.0.113.7:50051", "100.128.0.1:50051", "10.8.0.1:0", "10.8.0.1"] {
        assert!(Config::from_uci(&grpc(outside, TLS)).is_err(), "{outside}");
    }
    assert_problem(&grpc("127.0.0.1:2121", ""), "has the same port as");
}
