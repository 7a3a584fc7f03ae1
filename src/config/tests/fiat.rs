//! What is sold for shillings.

use super::*;

fn mpesa(line: &str) -> String {
    with(schema::MPESA, line)
}

#[test]
fn daraja_is_reached_as_the_file_says() {
    let config = good(&mpesa(
        "option type 'till'\noption till '890000'\noption mode 'direct'\noption utc_offset '-60'",
    ));
    let read = config.mpesa.clone().unwrap();
    assert_eq!(read.account.base_url.as_str(), "https://api.safaricom.co.ke");
    assert_eq!((read.till.as_deref(), read.mode, read.utc_offset), (Some("890000"), MpesaMode::Direct, -60));
    assert!(read.knows_receipts());
    let [price] = &config.prices[..] else { panic!() };
    assert_eq!((price.id.as_str(), price.name.as_str(), price.amount.0, price.steps), ("1h", "1h", 20, 60));
    assert_eq!(config.prices_of(&config.venues[0]).count(), 1);
    assert!(!good(&mpesa("option mode 'poll'")).mpesa.unwrap().knows_receipts());
}

#[test]
fn what_daraja_would_refuse_is_refused_with_the_options_name() {
    for url in [
        "https://Mpesa.example/cb",
        "https://x.example/cb/QUERY",
        "https://x.example/exec",
        "http://x.example/cb",
    ] {
        assert_problem(&mpesa(&format!("option callback_url '{url}'")), "error callback_url: ");
    }
    for url in ["https://", "https:///cb", "relay.example.net", "https://x.example/?a=1"] {
        assert_problem(&mpesa(&format!("option callback_url '{url}'")), "error callback_url: ");
    }
    for code in ["", "1234", "12345678", "17437x"] {
        assert_problem(&mpesa(&format!("option shortcode '{code}'")), "error shortcode: ");
    }
    assert_problem(&mpesa("option type 'till'"), "error till: is missing");
    assert_problem(&mpesa("option type 'pochi'"), "error type: ");
    assert_problem(&mpesa("option mode 'relay'"), "error relay_url: is missing");
    assert_problem(&mpesa("option mode 'relay'"), "error relay_key_file: is missing");
    assert_problem(&mpesa("option utc_offset '900'"), "error utc_offset: ");
    for number in ["0712345678", "+254712345678", "254212345678", "25471234567x"] {
        assert_problem(&mpesa(&format!("option pull_number '{number}'")), "error pull_number: ");
    }
    let known = good(&mpesa("option pull_number '254712345678'")).mpesa.unwrap().pull_number;
    assert_eq!(known.as_deref(), Some("254712345678"));
    assert_problem(&with(schema::PRICE, "option amount '0'"), "error amount: ");
    assert_problem(&with(schema::PRICE, "option amount '1.5'"), "error amount: ");
    assert_problem(&with(schema::PRICE, "option steps '1441'"), "error steps: is above max_steps");
    assert_problem(&with(schema::PRICE, "list venue 'nowhere'"), "error venue: 'nowhere' is no venue");
    let twice = format!("{}\nconfig price\noption id '1h'\noption amount 1\noption steps 1\n", mpesa(""));
    assert_problem(&twice, "error id: '1h' is another price already");
}

#[test]
fn plain_http_is_for_loopback_and_private_addresses_where_it_is_allowed() {
    let url = |url: &str, more: &str| mpesa(&format!("option base_url '{url}'\n{more}"));
    let allowed = "option allow_http '1'";
    for near in ["http://127.0.0.1:8600", "http://192.168.1.9:80", "http://[::1]:8600"] {
        good(&url(near, allowed));
        assert_problem(&url(near, ""), "error base_url: is plain http://, which anybody");
    }
    for far in ["http://196.201.214.200", "http://api.safaricom.co.ke", "http://localhost:1"] {
        assert_problem(&url(far, allowed), "error base_url: is plain http:// to a public");
    }
    assert_problem(
        &url("http://127.0.0.1:8600", "option allow_http '1'\noption pace '10'"),
        "warning pace: is 10",
    );
    assert_problem(&mpesa("option pace '10'"), "error pace: is for tests only");
    assert_problem(&mpesa("option pace '101'"), "error pace: ");
}

#[test]
fn trade_needs_a_licence_and_paying_out_a_way_to_be_called() {
    let fiat = |line: &str| with(schema::FIAT, line);
    for switch in ["buy", "sell", "airtime", "bills"] {
        assert_problem(&fiat(&format!("option {switch} '1'")), &format!("error {switch}: needs a licence"));
        let text = fiat(&format!("option operator_licensed '1'\noption {switch} '1'"));
        assert_problem(&text, &format!("warning {switch}: needs a section config rate"));
    }
    assert_problem(
        &fiat("option operator_licensed '1'\noption airtime '1'"),
        "error airtime: needs a section",
    );
    for switch in ["sell", "bills"] {
        let text = fiat(&format!("option operator_licensed '1'\noption {switch} '1'"));
        for wrong in [
            format!("error {switch}: pays out"),
            "error shortcode: is missing".to_owned(),
            "error initiator: is missing".to_owned(),
            "error credential_file: is missing".to_owned(),
        ] {
            assert_problem(&text, &wrong);
        }
    }
    let who = "option shortcode '600992'\noption initiator 'testapi'\noption credential_file '/c'";
    let sells = fiat(&format!("option operator_licensed '1'\noption sell '1'\n{who}"));
    let direct = sells.replace("config mpesa", "config mpesa\noption mode 'direct'");
    let read = good(&format!("{direct}\nconfig rate\noption kes_per_btc '13000000'\n")).fiat.unwrap();
    assert!(read.sell && !read.bills && read.shortcode == "600992" && read.initiator == "testapi");
}

#[test]
fn airtime_is_bought_as_the_file_says() {
    let airtime = |line: &str| with(schema::AIRTIME, line);
    let read = good(&airtime("")).airtime.unwrap();
    assert_eq!(read.base_url.as_str(), "https://api.africastalking.com");
    assert_eq!((read.min.0, read.max.0, read.username.as_str()), (10, 10_000, "sandbox"));
    assert_problem(&airtime("option min '4'"), "error min: ");
    assert_problem(&airtime("option max '10001'"), "error max: ");
    assert_problem(&airtime("option min '50'\noption max '40'"), "error min: is above max");
    assert_problem(&airtime("option username ''"), "error username: ");
    assert_problem(&airtime("option status_path 'x y'"), "error status_path: ");
    let near = "option base_url 'http://127.0.0.1:8600'";
    assert_problem(&airtime(near), "error base_url: is plain http://, which anybody");
    good(&airtime(&format!("{near}\noption allow_http '1'")));
    let far = "option base_url 'http://api.africastalking.com'\noption allow_http '1'";
    assert_problem(&airtime(far), "error base_url: is plain http:// to a public");
}

#[test]
fn shillings_alone_are_something_to_sell() {
    let config = good(&mpesa("").replace(MINT, ""));
    assert!(config.mints.is_empty() && config.prices_of(&config.venues[0]).count() == 1);
    let price = "config price\noption id '1h'\noption amount 1\noption steps 1\n";
    assert_problem(
        &format!("{VENUE}{MINT}{price}"),
        "warning -: has no effect without a section config mpesa",
    );
}
