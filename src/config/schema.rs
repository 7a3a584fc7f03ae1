//! Every option there is, once: which section has it, whether it is a list, and its default. Reading,
//! the warning about unknown options and the table of options in openwrt/README.md all go by this list.

/// One option of one section type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionSpec {
    /// The section type: the word after `config`.
    pub section: &'static str,
    pub name: &'static str,
    pub list: bool,
    pub default: Default,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// The file must say it.
    Required,
    /// The value is empty without it.
    Nothing,
    /// Something else in the file, in words.
    Derived(&'static str),
    /// As if the file said this.
    Text(&'static str),
}

pub const MAIN: &str = "tollgate";
pub const VENUE: &str = "venue";
pub const MINT: &str = "mint";
pub const ADMIN: &str = "admin";
pub const CARD: &str = "card";
pub const LIGHTNING: &str = "lightning";
pub const TLS: &str = "tls";
pub const OPERATOR: &str = "operator";
pub const AUTH: &str = "auth";
pub const HMAC_KEY: &str = "hmac_key";
pub const WEBHOOK: &str = "webhook";
pub const LIMIT: &str = "limit";
pub const APPROVAL: &str = "approval";
pub const VOUCHER: &str = "voucher";
pub const PRODUCT: &str = "product";
pub const TENANT: &str = "tenant";
pub const KEYS: &str = "keys";
pub const WALLET: &str = "wallet";
pub const RATE: &str = "rate";
pub const RELAY: &str = "relay";
pub const MPESA: &str = "mpesa";
pub const PRICE: &str = "price";
pub const FIAT: &str = "fiat";
pub const AIRTIME: &str = "airtime";
pub const GRPC: &str = "grpc";

pub const OPTIONS: &[OptionSpec] = &[
    one(MAIN, "enabled", Default::Text("1")),
    one(MAIN, "state_dir", Default::Text("/etc/tollgate")),
    one(MAIN, "run_dir", Default::Text("/var/run/tollgate")),
    one(MAIN, "port", Default::Text("2121")),
    one(MAIN, "mint_proxy_port", Default::Text("2122")),
    one(MAIN, "redirect_port", Default::Text("2123")),
    one(MAIN, "admin_listen", Default::Text("127.0.0.1:2120")),
    one(MAIN, "public_listen", Default::Text("127.0.0.1:2124")),
    one(MAIN, "guest_sockets", Default::Text("16")),
    one(MAIN, "guest_connections", Default::Text("64")),
    one(MAIN, "log_level", Default::Text("info")),
    one(MAIN, "log_target", Default::Text("syslog")),
    one(MAIN, "log_format", Default::Text("text")),
    one(MAIN, "ca_file", Default::Nothing),
    one(MAIN, "invoice_grace", Default::Text("86400")),
    one(MAIN, "mint_proxy_auth", Default::Text("none")),
    list(MAIN, "garden", Default::Nothing),
    list(MAIN, "uplink", Default::Derived("what leads to the internet")),
    one(VENUE, "name", Default::Derived("the section's name")),
    list(VENUE, "device", Default::Derived("required, or network")),
    one(VENUE, "network", Default::Derived("required, or device")),
    one(VENUE, "metric", Default::Text("milliseconds")),
    one(VENUE, "step_size", Default::Text("60000")),
    one(VENUE, "max_steps", Default::Text("1440")),
    list(VENUE, "trusted_mac", Default::Nothing),
    list(VENUE, "reach", Default::Nothing),
    list(VENUE, "uplink", Default::Derived("as in tollgate")),
    one(VENUE, "pay_grace", Default::Text("0")),
    one(VENUE, "portal_name", Default::Nothing),
    one(VENUE, "id", Default::Derived("made from the router's identity and the section's name")),
    one(MINT, "url", Default::Required),
    one(MINT, "unit", Default::Text("sat")),
    one(MINT, "price_per_step", Default::Required),
    one(MINT, "min_steps", Default::Text("1")),
    one(MINT, "allow_http", Default::Text("0")),
    list(MINT, "venue", Default::Derived("every venue")),
    one(ADMIN, "token_file", Default::Derived("admin.token in state_dir")),
    one(ADMIN, "token", Default::Text("1")),
    one(OPERATOR, "name", Default::Required),
    one(OPERATOR, "pubkey", Default::Required),
    one(OPERATOR, "role", Default::Required),
    one(CARD, "enabled", Default::Text("1")),
    one(CARD, "domain", Default::Required),
    one(CARD, "network", Default::Text("mainnet")),
    one(CARD, "k1_life", Default::Text("60")),
    one(CARD, "listen", Default::Derived("public_listen of tollgate")),
    one(LIGHTNING, "type", Default::Text("melt")),
    one(LIGHTNING, "url", Default::Derived("required, not for melt")),
    one(LIGHTNING, "macaroon_file", Default::Derived("required for lnd")),
    one(LIGHTNING, "rune_file", Default::Derived("required for cln")),
    one(LIGHTNING, "key_file", Default::Derived("required for lnbits")),
    one(LIGHTNING, "password_file", Default::Derived("required for phoenixd")),
    one(LIGHTNING, "token_file", Default::Derived("required for sphinx")),
    one(LIGHTNING, "cert_sha256", Default::Nothing),
    one(LIGHTNING, "fee_limit_msat", Default::Text("10000")),
    one(TLS, "name", Default::Required),
    one(TLS, "cert_file", Default::Required),
    one(TLS, "key_file", Default::Required),
    one(TLS, "port", Default::Text("2125")),
    one(TLS, "listen", Default::Text("127.0.0.1:2126")),
    one(TLS, "admin_listen", Default::Text("127.0.0.1:2127")),
    one(AUTH, "domain", Default::Required),
    one(AUTH, "url", Default::Derived("https at the domain")),
    one(AUTH, "challenge_ttl", Default::Text("120")),
    one(AUTH, "jwt_ttl", Default::Text("604800")),
    one(AUTH, "max_devices", Default::Text("1")),
    one(AUTH, "move_cooldown", Default::Text("60")),
    one(AUTH, "former_domain", Default::Nothing),
    list(AUTH, "origin", Default::Nothing),
    one(AUTH, "sphinx_compat", Default::Text("0")),
    one(AUTH, "connection_token_file", Default::Derived("connection.token in state_dir")),
    one(HMAC_KEY, "id", Default::Required),
    one(HMAC_KEY, "secret_file", Default::Required),
    one(HMAC_KEY, "tenant", Default::Nothing),
    one(WEBHOOK, "secret_file", Default::Required),
    one(WEBHOOK, "tenant", Default::Nothing),
    one(LIMIT, "tx", Default::Nothing),
    one(LIMIT, "hour", Default::Nothing),
    one(LIMIT, "day", Default::Nothing),
    one(LIMIT, "operator", Default::Derived("everybody together")),
    one(APPROVAL, "above", Default::Required),
    one(APPROVAL, "required", Default::Text("2")),
    one(VOUCHER, "code_life", Default::Text("365d")),
    one(VOUCHER, "offline_max", Default::Text("1000")),
    one(VOUCHER, "offline_total", Default::Text("10000")),
    one(VOUCHER, "notify_url", Default::Nothing),
    one(VOUCHER, "notify_secret_file", Default::Derived("required with notify_url")),
    one(VOUCHER, "allow_http", Default::Text("0")),
    one(PRODUCT, "id", Default::Required),
    one(PRODUCT, "name", Default::Derived("the section's name")),
    one(PRODUCT, "venue", Default::Required),
    one(PRODUCT, "time", Default::Derived("required, or bytes or sat")),
    one(PRODUCT, "bytes", Default::Nothing),
    one(PRODUCT, "sat", Default::Nothing),
    one(PRODUCT, "funding", Default::Text("treasury")),
    one(PRODUCT, "max_supply", Default::Text("0")),
    one(PRODUCT, "tenant", Default::Derived("the one of its venue")),
    one(TENANT, "name", Default::Derived("the section's name")),
    list(TENANT, "venue", Default::Nothing),
    list(TENANT, "operator", Default::Nothing),
    one(KEYS, "provider", Default::Text("file")),
    one(KEYS, "address", Default::Nothing),
    one(KEYS, "role_id_file", Default::Nothing),
    one(KEYS, "secret_id_file", Default::Nothing),
    one(KEYS, "transit_key", Default::Nothing),
    one(KEYS, "allow_http", Default::Text("0")),
    one(MPESA, "base_url", Default::Text("https://api.safaricom.co.ke")),
    one(MPESA, "allow_http", Default::Text("0")),
    one(MPESA, "shortcode", Default::Required),
    one(MPESA, "type", Default::Text("paybill")),
    one(MPESA, "till", Default::Nothing),
    one(MPESA, "consumer_key_file", Default::Text("/etc/tollgate/mpesa.key")),
    one(MPESA, "consumer_secret_file", Default::Text("/etc/tollgate/mpesa.secret")),
    one(MPESA, "passkey_file", Default::Text("/etc/tollgate/mpesa.passkey")),
    one(MPESA, "mode", Default::Text("poll")),
    one(MPESA, "callback_url", Default::Required),
    one(MPESA, "relay_url", Default::Nothing),
    one(MPESA, "relay_key_file", Default::Nothing),
    one(MPESA, "orders_per_phone", Default::Text("10")),
    one(MPESA, "utc_offset", Default::Text("180")),
    one(MPESA, "pull", Default::Text("0")),
    one(MPESA, "pull_number", Default::Nothing),
    one(MPESA, "pace", Default::Text("1")),
    one(PRICE, "id", Default::Required),
    one(PRICE, "name", Default::Derived("the id")),
    one(PRICE, "amount", Default::Required),
    one(PRICE, "steps", Default::Required),
    list(PRICE, "venue", Default::Derived("every venue")),
    one(FIAT, "operator_licensed", Default::Text("0")),
    one(FIAT, "buy", Default::Text("0")),
    one(FIAT, "sell", Default::Text("0")),
    one(FIAT, "airtime", Default::Text("0")),
    one(FIAT, "bills", Default::Text("0")),
    one(FIAT, "day_max_kes", Default::Text("100000")),
    one(FIAT, "shortcode", Default::Nothing),
    one(FIAT, "initiator", Default::Nothing),
    one(FIAT, "credential_file", Default::Nothing),
    one(AIRTIME, "base_url", Default::Text("https://api.africastalking.com")),
    one(AIRTIME, "allow_http", Default::Text("0")),
    one(AIRTIME, "username", Default::Required),
    one(AIRTIME, "key_file", Default::Text("/etc/tollgate/airtime.key")),
    one(AIRTIME, "min", Default::Text("10")),
    one(AIRTIME, "max", Default::Text("10000")),
    one(AIRTIME, "status_path", Default::Text("/query/transaction/find")),
    one(WALLET, "day_max", Default::Text("1000000")),
    one(WALLET, "sign_above", Default::Text("100000")),
    one(RATE, "source", Default::Text("fixed")),
    one(RATE, "kes_per_btc", Default::Nothing),
    one(RATE, "url", Default::Nothing),
    one(RATE, "pointer", Default::Nothing),
    one(RATE, "allow_http", Default::Text("0")),
    one(RATE, "max_age", Default::Text("300")),
    one(RATE, "max_jump_bp", Default::Text("500")),
    one(RATE, "min", Default::Text("1")),
    one(RATE, "max", Default::Text("1000000000000")),
    one(RATE, "spread_buy_bp", Default::Text("0")),
    one(RATE, "spread_sell_bp", Default::Text("0")),
    one(RELAY, "listen", Default::Text("127.0.0.1:8190")),
    list(RELAY, "router", Default::Nothing),
    one(GRPC, "listen", Default::Text("127.0.0.1:50051")),
    one(GRPC, "token_file", Default::Derived("grpc.token in state_dir")),
];

/// Whether sections of this type mean anything.
pub fn is_section(kind: &str) -> bool {
    OPTIONS.iter().any(|option| option.section == kind)
}

pub fn find(section: &str, name: &str) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|option| option.section == section && option.name == name)
}

const fn one(section: &'static str, name: &'static str, default: Default) -> OptionSpec {
    OptionSpec { section, name, list: false, default }
}

const fn list(section: &'static str, name: &'static str, default: Default) -> OptionSpec {
    OptionSpec { section, name, list: true, default }
}
