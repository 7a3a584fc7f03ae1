//! From sections to `Config`: each section by itself first, then what holds between them.

use super::fields::position_of;
use super::operators::{OperatorConfig, Role};
use super::problem::{shown, ConfigPosition, Problem, Problems, Severity};
use super::schema::{
    self, ADMIN, AIRTIME, APPROVAL, AUTH, CARD, FIAT, GRPC, HMAC_KEY, KEYS, LIMIT, MAIN, MINT, MPESA,
    OPERATOR, PRICE, PRODUCT, RATE, RELAY, TENANT, TLS, VENUE, VOUCHER, WALLET, WEBHOOK,
};
use super::uci::{Section, UciFile};
use super::{
    airtime, auth, fiat, grpc, keys, main, mint, operators, payments, portals, ports, rate, relay, services,
    tenant, tls, values, venue, vouchers, wallet, Config, MintConfig, PriceConfig, ProductConfig,
    TenantConfig, Venue, MAX_VENUES,
};
use crate::units::ALL_SATS;
use litemap::LiteMap;
use std::path::PathBuf;

const MAX_MINTS: usize = 32;
const MAX_PRICES: usize = 32;

/// Something read, and the section it comes from.
struct Found<'a, T> {
    section: &'a Section,
    value: T,
}

pub fn config(file: &UciFile) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    let mut problems = Problems::default();
    surprises(file, &mut problems);
    unknown(file, &mut problems);
    let main = main::read(only(file, MAIN, &mut problems), &mut problems);
    let venues = found(file, VENUE, MAX_VENUES, &mut problems, venue::read);
    let mints = found(file, MINT, MAX_MINTS, &mut problems, mint::read);
    let card = payments::card(only(file, CARD, &mut problems), &mut problems);
    if main.as_ref().is_some_and(|main| main.enabled) {
        let has_prices = file.of_kind(MPESA).next().is_some() && file.of_kind(PRICE).next().is_some();
        let sells_else = if has_prices { Some(Elsewhere::Mpesa) } else { None };
        let sells_else = sells_else.or((!matches!(card, Some(None))).then_some(Elsewhere::Cards));
        something_to_sell(file, &venues, &mints, sells_else, &mut problems);
    }
    venues_share_nothing(&venues, &mut problems);
    mints_differ(&mints, &mut problems);
    for mint in &mints {
        mint_fits_its_venues(mint, file, &venues, &mut problems);
    }
    for venue in &venues {
        let sells = |mint: &&Found<'_, MintConfig>| mint.value.sells_in(&venue.value.id);
        let here: Vec<_> = mints.iter().filter(sells).map(|mint| (mint.section, &mint.value)).collect();
        portals::warn((venue.section, &venue.value), &here, &mut problems);
    }
    let state_dir = main.as_ref().map(|main| main.state_dir.as_path());
    let admin = payments::admin(only(file, ADMIN, &mut problems), state_dir, &mut problems);
    let operators = found(file, OPERATOR, operators::MOST, &mut problems, operators::read);
    operators_differ(&operators, &mut problems);
    let tls = tls::read(only(file, TLS, &mut problems), &mut problems);
    let tls_read = tls.as_ref().and_then(Option::as_ref);
    let grpc = grpc::read(only(file, GRPC, &mut problems), state_dir, tls_read, &mut problems);
    if let (Some(main), Some(card), Some(tls), Some(grpc)) = (&main, &card, &tls, &grpc) {
        ports::differ(file, main, card.as_ref(), (tls.as_ref(), grpc.as_ref()), &mut problems);
    }
    let lightning = payments::lightning(file, &mut problems);
    let auth = auth::read(only(file, AUTH, &mut problems), state_dir, tls.as_ref(), &mut problems);
    let mpesa = fiat::mpesa(only(file, MPESA, &mut problems), &mut problems);
    let prices = found(file, PRICE, MAX_PRICES, &mut problems, fiat::price);
    prices_fit(&prices, file, &venues, &mut problems);
    let mpesa_read = mpesa.as_ref().and_then(Option::as_ref);
    let rate = rate::read(only(file, RATE, &mut problems), &mut problems);
    relay::section(only(file, RELAY, &mut problems), &mut problems);
    let airtime = airtime::read(only(file, AIRTIME, &mut problems), &mut problems);
    let around = fiat::Around {
        mode: mpesa_read.map(|mpesa| mpesa.mode),
        has_airtime: !matches!(airtime, Some(None)),
        has_rate: !matches!(rate, Some(None)),
    };
    let fiat = fiat::fiat(only(file, FIAT, &mut problems), around, &mut problems);
    if admin.as_ref().is_some_and(|admin| !admin.token) {
        let is_owner = |one: &Found<'_, OperatorConfig>| one.value.role == Role::Owner;
        let position = || position_of(file.of_kind(ADMIN).next(), "token");
        let lets_nobody_in = "would let nobody in as owner";
        if !operators.iter().any(is_owner) {
            let add = "add a section config operator with role 'owner' first";
            problems.error(position(), format!("{lets_nobody_in}: {add}"));
        } else if matches!(auth, Some(None)) {
            let add = "operators sign in only where there is a section config auth";
            problems.warn(position(), format!("{lets_nobody_in} but the shell: {add}"));
        }
    }
    let hmac_keys = found(file, HMAC_KEY, services::MOST, &mut problems, services::hmac_key);
    differ(&hmac_keys, "id", |key| &key.id, &mut problems);
    let webhooks = found(file, WEBHOOK, services::MOST, &mut problems, services::webhook);
    let limits = found(file, LIMIT, services::MOST, &mut problems, services::limit);
    differ(&limits, "operator", |limit| &limit.operator, &mut problems);
    let approval = services::approval(only(file, APPROVAL, &mut problems), &mut problems);
    let voucher = vouchers::read(only(file, VOUCHER, &mut problems), &mut problems);
    let wallet = wallet::read(only(file, WALLET, &mut problems), &mut problems);
    let mut products = found(file, PRODUCT, vouchers::MOST_PRODUCTS, &mut problems, vouchers::product);
    let keys = keys::read(only(file, KEYS, &mut problems), &mut problems);
    let tenants = found(file, TENANT, tenant::MOST, &mut problems, tenant::read);
    tenants_share_nothing(&tenants, &venues, &operators, &mut problems);
    products_fit(&mut products, file, &tenants, &mut problems);
    let notes = problems.finish()?;
    let (
        Some(main),
        Some(admin),
        Some(card),
        Some(lightning),
        Some(tls),
        Some(auth),
        Some(voucher),
        Some(approval),
        Some(keys),
    ) = (main, admin, card, lightning, tls, auth, voucher, approval, keys)
    else {
        return Err(notes);
    };
    let (Some(mpesa), Some(fiat), Some(airtime), Some(rate), Some(wallet), Some(grpc)) =
        (mpesa, fiat, airtime, rate, wallet, grpc)
    else {
        return Err(notes);
    };
    let venues = venues.into_iter().map(|venue| venue.value).collect();
    let mints = mints.into_iter().map(|mint| mint.value).collect();
    let operators = operators.into_iter().map(|one| one.value).collect();
    let (hmac_keys, webhooks, limits) = (values_of(hmac_keys), values_of(webhooks), values_of(limits));
    let (products, tenants) = (values_of(products), values_of(tenants));
    let prices = values_of(prices);
    let config = Config {
        main,
        venues,
        mints,
        admin,
        operators,
        card,
        lightning,
        tls,
        auth,
        hmac_keys,
        webhooks,
        limits,
        approval,
        voucher,
        wallet,
        products,
        tenants,
        mpesa,
        prices,
        fiat,
        airtime,
        rate,
        grpc,
        keys,
    };
    Ok((config, notes))
}

/// The `run_dir` of the main section, if it is usable.
pub fn run_dir(file: &UciFile) -> Option<PathBuf> {
    let item = file.of_kind(MAIN).next()?.option("run_dir")?.items().first()?;
    values::run_dir(&item.text).ok()
}

pub(super) fn surprises(file: &UciFile, problems: &mut Problems) {
    for surprise in &file.surprises {
        problems.add(Problem {
            line: Some(surprise.line),
            severity: Severity::Warning,
            ..Problem::of_file(surprise.what)
        });
    }
}

pub(super) fn unknown(file: &UciFile, problems: &mut Problems) {
    for section in &file.sections {
        if !schema::is_section(&section.kind) {
            let kind = shown(&section.kind);
            let message =
                format!("type {kind} is not known and has no effect: check its spelling, or remove it");
            problems.warn(ConfigPosition::section(section), message);
            continue;
        }
        for option in &section.options {
            if schema::find(&section.kind, &option.name).is_none() {
                let message = "is not known here and has no effect: check its spelling, or remove it";
                problems.warn(position_of(Some(section), &option.name), message);
            }
        }
    }
}

pub(super) fn only<'a>(file: &'a UciFile, kind: &'a str, problems: &mut Problems) -> Option<&'a Section> {
    let mut sections = file.of_kind(kind);
    let first = sections.next()?;
    for more in sections {
        let message = format!("there is one already in line {}: put all its options there", first.line);
        problems.error(ConfigPosition::section(more), message);
    }
    Some(first)
}

fn found<'a, T>(
    file: &'a UciFile,
    kind: &'static str,
    most: usize,
    problems: &mut Problems,
    read: impl Fn(&'a Section, &mut Problems) -> Option<T>,
) -> Vec<Found<'a, T>> {
    if let Some(section) = file.of_kind(kind).nth(most) {
        problems.error(
            ConfigPosition::section(section),
            format!("more than {most} sections {kind}: remove some"),
        );
    }
    file.of_kind(kind)
        .take(most)
        .filter_map(|section| read(section, problems).map(|value| Found { section, value }))
        .collect()
}

/// What is sold without a mint.
enum Elsewhere {
    /// Access, for shillings.
    Mpesa,
    /// Nothing here, but cards are served.
    Cards,
}

fn something_to_sell(
    file: &UciFile,
    venues: &[Found<'_, Venue>],
    mints: &[Found<'_, MintConfig>],
    elsewhere: Option<Elsewhere>,
    problems: &mut Problems,
) {
    let enabled = position_of(file.of_kind(MAIN).next(), "enabled");
    if file.of_kind(VENUE).next().is_none() {
        problems.error(
            enabled,
            "no venue to sell in: add a section config venue 'guest' with list device, or write enabled '0'",
        );
    }
    if file.of_kind(MINT).next().is_none() {
        if let Some(Elsewhere::Mpesa) = elsewhere {
            return;
        }
        if elsewhere.is_some() {
            let message = "no mint says what a step costs, so guests cannot buy; cards are served: add a section config mint to sell too";
            problems.warn(enabled, message);
            return;
        }
        if file.of_kind(VENUE).next().is_some() {
            let message = "no mint says what a step costs, so guests cannot buy; vouchers are redeemed: add a section config mint to sell too";
            problems.warn(enabled, message);
            return;
        }
        problems.error(enabled, "no mint to sell for: add a section config mint with option url and option price_per_step, or write enabled '0'");
        return;
    }
    let all_read = mints.len() == file.of_kind(MINT).count();
    for venue in venues.iter().filter(|_| all_read) {
        let has_price = matches!(elsewhere, Some(Elsewhere::Mpesa));
        if !has_price && !mints.iter().any(|mint| mint.value.sells_in(&venue.value.id)) {
            let message = format!("no mint sells here: add list venue {} to a mint", shown(&venue.value.id));
            problems.warn(ConfigPosition::section(venue.section), message);
        }
    }
}

fn venues_share_nothing(venues: &[Found<'_, Venue>], problems: &mut Problems) {
    let mut owners: LiteMap<(&str, &str), &str> = LiteMap::new();
    for venue in venues {
        let devices = venue.value.devices.iter().map(|device| ("device", device.as_str()));
        let network = venue.value.network.iter().map(|network| ("network", network.as_str()));
        for (option, name) in devices.chain(network) {
            if let Some(owner) = owners.insert((option, name), &venue.value.id) {
                let message =
                    format!("{} belongs to venue {} already: remove it from one", shown(name), shown(owner));
                problems.error(position_of(Some(venue.section), option), message);
            }
        }
    }
}

fn mints_differ(mints: &[Found<'_, MintConfig>], problems: &mut Problems) {
    let mut first_lines: LiteMap<&str, usize> = LiteMap::new();
    for mint in mints {
        let url = mint.value.url.as_str();
        match first_lines.get(url) {
            Some(line) => {
                let message = format!("is the mint of line {line} once more: remove one of the two sections");
                problems.error(position_of(Some(mint.section), "url"), message);
            }
            None => {
                first_lines.insert(url, mint.section.line);
            }
        }
    }
}

fn values_of<T>(found: Vec<Found<'_, T>>) -> Vec<T> {
    found.into_iter().map(|one| one.value).collect()
}

/// No two sections of a type are the same by `key`, which is in this option.
fn differ<'f, T, K: PartialEq>(
    found: &'f [Found<'_, T>],
    option: &'static str,
    key: impl Fn(&'f T) -> K,
    problems: &mut Problems,
) {
    for (at, one) in found.iter().enumerate() {
        let same = |other: &&'f Found<'_, T>| key(&other.value) == key(&one.value);
        if let Some(other) = found.iter().take(at).find(same) {
            let message = format!("is that of line {} once more: remove one of the two", other.section.line);
            problems.error(position_of(Some(one.section), option), message);
        }
    }
}

/// No two operators have the same name or key; otherwise a role would depend on the order of the file.
fn operators_differ(operators: &[Found<'_, OperatorConfig>], problems: &mut Problems) {
    for (at, Found { section, value }) in operators.iter().enumerate() {
        let earlier = || operators.iter().take(at).map(|one| &one.value);
        if earlier().any(|other| other.name == value.name) {
            let message = format!("{} is another operator already: choose another name", shown(&value.name));
            problems.error(position_of(Some(section), "name"), message);
        }
        if let Some(other) = earlier().find(|other| other.key == value.key) {
            let message = format!("is the key of {} already: remove one of the two", shown(&other.name));
            problems.error(position_of(Some(section), "pubkey"), message);
        }
    }
}

/// No venue or operator belongs to two tenants; it would show one of them what is the other's.
fn tenants_share_nothing(
    tenants: &[Found<'_, TenantConfig>],
    venues: &[Found<'_, Venue>],
    operators: &[Found<'_, OperatorConfig>],
    problems: &mut Problems,
) {
    let mut owners: LiteMap<(&str, &str), &str> = LiteMap::new();
    for Found { section, value } in tenants {
        let name = value.tenant.as_str();
        let members = std::iter::once(("name", name))
            .chain(value.venues.iter().map(|venue| ("venue", venue.as_str())))
            .chain(value.operators.iter().map(|operator| ("operator", operator.as_str())));
        for (option, member) in members {
            let known = match option {
                "venue" => venues.iter().any(|venue| venue.value.id == member),
                "operator" => operators.iter().any(|one| one.value.name == member),
                _ => true,
            };
            if !known {
                let message = format!("{} is no {option} of this file: check its spelling", shown(member));
                problems.error(position_of(Some(section), option), message);
            }
            if let Some(owner) = owners.insert((option, member), name) {
                let message = format!(
                    "{} belongs to tenant {} already: remove it from one",
                    shown(member),
                    shown(owner)
                );
                problems.error(position_of(Some(section), option), message);
            }
        }
    }
}

/// Each product has an id of its own, a venue of the file, and the tenant of that venue.
fn products_fit(
    products: &mut [Found<'_, ProductConfig>],
    file: &UciFile,
    tenants: &[Found<'_, TenantConfig>],
    problems: &mut Problems,
) {
    let mut ids = Vec::new();
    for Found { section, value } in products {
        if ids.contains(&value.id) {
            problems.error(position_of(Some(section), "id"), "is the id of another product: choose another");
        }
        ids.push(value.id.clone());
        if !file.of_kind(VENUE).any(|venue| venue.name == value.venue) {
            let message = format!("{} is no venue of this file: check its spelling", shown(&value.venue));
            problems.error(position_of(Some(section), "venue"), message);
        }
        let owner = tenants.iter().find(|one| one.value.venues.contains(&value.venue));
        let owner = owner.map_or_else(super::Tenant::main, |one| one.value.tenant.clone());
        if value.named_tenant.as_ref().is_some_and(|named| named != owner.as_str()) {
            let message = format!("is not the tenant of its venue, which is {}", shown(owner.as_str()));
            problems.error(position_of(Some(section), "tenant"), message);
        }
        value.tenant = owner;
    }
}

/// Each price has an id of its own, names venues of the file, and is for no more steps than one purchase there may
/// have.
fn prices_fit(
    prices: &[Found<'_, PriceConfig>],
    file: &UciFile,
    venues: &[Found<'_, Venue>],
    problems: &mut Problems,
) {
    for (at, Found { section, value }) in prices.iter().enumerate() {
        if prices.iter().take(at).any(|earlier| earlier.value.id == value.id) {
            let message = format!("{} is another price already: choose another id", shown(&value.id));
            problems.error(position_of(Some(section), "id"), message);
        }
        for item in section.option("venue").map_or(&[][..], |value| value.items()) {
            if !file.of_kind(VENUE).any(|venue| venue.name == item.text) {
                let message = format!(
                    "{} is no venue of this file: write the name of a section config venue",
                    shown(&item.text)
                );
                problems.error(ConfigPosition::section(section).option("venue", item.line), message);
            }
        }
        for venue in venues.iter().map(|venue| &venue.value).filter(|venue| value.sells_in(&venue.id)) {
            if value.steps > venue.max_steps {
                let id = shown(&venue.id);
                let message =
                    format!("is above max_steps {} of venue {id}: lower it, or raise that", venue.max_steps);
                problems.error(position_of(Some(section), "steps"), message);
            }
        }
    }
    if let Some(Found { section, .. }) = prices.first().filter(|_| file.of_kind(MPESA).next().is_none()) {
        let message = "has no effect without a section config mpesa: add one, or remove this";
        problems.warn(ConfigPosition::section(section), message);
    }
}

fn mint_fits_its_venues(
    mint: &Found<'_, MintConfig>,
    file: &UciFile,
    venues: &[Found<'_, Venue>],
    problems: &mut Problems,
) {
    let items = mint.section.option("venue").map_or(&[][..], |value| value.items());
    for item in items {
        if !file.of_kind(VENUE).any(|venue| venue.name == item.text) {
            let message = format!(
                "{} is no venue of this file: write the name of a section config venue",
                shown(&item.text)
            );
            problems.error(ConfigPosition::section(mint.section).option("venue", item.line), message);
        }
    }
    for venue in venues.iter().map(|venue| &venue.value).filter(|venue| mint.value.sells_in(&venue.id)) {
        let id = shown(&venue.id);
        if mint.value.min_steps > venue.max_steps {
            let message =
                format!("is above max_steps {} of venue {id}: lower it, or raise that", venue.max_steps);
            problems.error(position_of(Some(mint.section), "min_steps"), message);
        }
        let most = mint.value.price_per_step.checked_mul(venue.max_steps);
        if most.is_none_or(|most| most.0 > ALL_SATS) {
            let message =
                format!("times max_steps of venue {id} is more than all bitcoin: lower one of the two");
            problems.error(position_of(Some(mint.section), "price_per_step"), message);
        }
    }
}
