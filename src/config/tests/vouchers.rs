//! Vouchers and tenants.

use super::*;

#[test]
fn a_venue_and_an_operator_belong_to_one_tenant() {
    let text = format!("{}\nconfig tenant 'hotel'\n\tlist venue 'guest'\n", main_with(""));
    let config = good(&text);
    assert_eq!(config.tenant_of_venue("guest").as_str(), "hotel");
    assert_eq!((config.tenant_of_operator("anybody"), config.tenant_named("nobody")), (None, None));
    assert_eq!(config.all_tenants().len(), 2);
    assert_problem(
        &format!("{text}config tenant 'cafe'\n\tlist venue 'guest'\n"),
        "belongs to tenant 'hotel' already",
    );
    assert_problem(&format!("{text}config tenant 'cafe'\n\tlist venue 'hall'\n"), "is no venue of this file");
    assert_problem(
        &format!("{text}config tenant 'cafe'\n\tlist operator 'bob'\n"),
        "is no operator of this file",
    );
    assert_eq!(good(&main_with("")).tenant_of_operator("anybody"), Some(Tenant::main()));
}

#[test]
fn what_is_told_elsewhere_is_signed_and_encrypted() {
    let with = |lines: &str| format!("{}\nconfig voucher\n{lines}", main_with(""));
    let secret = "\toption notify_secret_file '/etc/tollgate/notify'\n";
    assert_problem(&with("\toption notify_url 'https://shop.example/hook'\n"), "is missing: name the file");
    let plain = "\toption notify_url 'http://shop.example/hook'\n";
    assert_problem(&with(&format!("{plain}{secret}")), "is plain http://");
    good(&with(&format!("{plain}{secret}\toption allow_http '1'\n")));
    assert_problem(&with("\toption code_life '365'\n"), "is no length of time");
    assert_eq!(good(&with("")).voucher.code_life, Millis::from_secs(365 * 86_400));
}

#[test]
fn a_vault_that_keeps_keys_is_named_whole() {
    let with = |lines: &str| format!("{}\nconfig keys\n{lines}", main_with(""));
    let line = |name: &str, value: &str| format!("\toption {name} '{value}'\n");
    assert_eq!(good(&with("")).keys, None);
    assert_problem(&with(&line("provider", "awskms")), "is no keeper of keys");
    assert_problem(&with(&line("address", "http://vault.example:8200")), "is plain http://");
    assert_problem(&with(&line("transit_key", "../sys/seal")), "is no name of a key");
    let whole = [
        line("provider", "vault"),
        line("address", "https://vault.example:8200"),
        line("role_id_file", "/etc/tollgate/role"),
        line("secret_id_file", "/etc/tollgate/secret"),
        line("transit_key", "router-7"),
    ];
    if !cfg!(feature = "vault") {
        return assert_problem(&with(&whole.concat()), "is not in this build");
    }
    let vault = good(&with(&whole.concat())).keys.unwrap();
    assert_eq!(
        (vault.address.as_str(), vault.transit_key.as_str()),
        ("https://vault.example:8200", "router-7")
    );
    for missing in 1..whole.len() {
        let rest: Vec<&str> = whole
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != missing)
            .map(|(_, line)| line.as_str())
            .collect();
        assert_problem(&with(&rest.concat()), "is missing: provider 'vault' needs it");
    }
}
