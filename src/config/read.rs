//! From sections to `Config`: each section by itself first, then what holds between them.

use super::fields::{position_of, Fields};
use super::problem::{shown, ConfigPosition, Problem, Problems, Severity};
use super::schema::{self, ADMIN, CARD, LIGHTNING, MAIN, MINT, VENUE};
use super::uci::{Section, UciFile};
use super::{
    garden, payments, range, reach, values, Config, Main, Metric, MintConfig, Venue, ALL_SATS, MAX_BYTES,
    MAX_TIME,
};
use litemap::LiteMap;
use std::path::{Path, PathBuf};

const MAX_VENUES: usize = 32;
const MAX_MINTS: usize = 32;
const MAX_DEVICES: usize = 16;
const MAX_TRUSTED: usize = 1024;
const MAX_GARDEN: usize = 64;
const MAX_REACH: usize = 32;
const MAX_UPLINKS: usize = 16;
/// Steps of bytes that the portals of this protocol cannot show.
const NO_PORTAL_SHOWS: std::ops::Range<u64> = 1024..1_048_576;

/// Something read, and the section it comes from.
struct Found<'a, T> {
    section: &'a Section,
    value: T,
}

pub fn config(file: &UciFile) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    let mut problems = Problems::default();
    surprises(file, &mut problems);
    unknown(file, &mut problems);
    let main = main(only(file, MAIN, &mut problems), &mut problems);
    let venues = found(file, VENUE, MAX_VENUES, &mut problems, venue);
    let mints = found(file, MINT, MAX_MINTS, &mut problems, mint);
    let section = only(file, CARD, &mut problems);
    let card = payments::card(section, &mut problems);
    if main.as_ref().is_some_and(|main| main.enabled) {
        let serves_cards = !matches!(card, Some(None));
        something_to_sell(file, &venues, &mints, serves_cards, &mut problems);
    }
    venues_share_nothing(&venues, &mut problems);
    mints_differ(&mints, &mut problems);
    for mint in &mints {
        mint_fits_its_venues(mint, file, &venues, &mut problems);
    }
    let state_dir = main.as_ref().map(|main| main.state_dir.as_path());
    let admin = payments::admin(only(file, ADMIN, &mut problems), state_dir, &mut problems);
    if let (Some(main), Some(Some(card))) = (&main, &card) {
        if main.ports().contains(&card.listen.port()) {
            problems
                .error(position_of(section, "listen"), "has the port of another listener: choose another");
        }
    }
    let lightning = payments::lightning(only(file, LIGHTNING, &mut problems), &mut problems);
    let notes = problems.finish()?;
    let (Some(main), Some(admin), Some(card), Some(lightning)) = (main, admin, card, lightning) else {
        return Err(notes);
    };
    let venues = venues.into_iter().map(|venue| venue.value).collect();
    let mints = mints.into_iter().map(|mint| mint.value).collect();
    Ok((Config { main, venues, mints, admin, card, lightning }, notes))
}

/// The `run_dir` of the main section, if it is usable.
pub fn run_dir(file: &UciFile) -> Option<PathBuf> {
    let item = file.of_kind(MAIN).next()?.option("run_dir")?.items().first()?;
    values::run_dir(&item.text).ok()
}

fn surprises(file: &UciFile, problems: &mut Problems) {
    for surprise in &file.surprises {
        problems.add(Problem {
            line: Some(surprise.line),
            severity: Severity::Warning,
            ..Problem::of_file(surprise.what)
        });
    }
}

fn unknown(file: &UciFile, problems: &mut Problems) {
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

fn only<'a>(file: &'a UciFile, kind: &'a str, problems: &mut Problems) -> Option<&'a Section> {
    let mut sections = file.of_kind(kind);
    let first = sections.next()?;
    for more in sections {
        let message = format!("there is one already in line {}: put all its options there", first.line);
        problems.error(ConfigPosition::section(more), message);
    }
    Some(first)
}

fn main(section: Option<&Section>, problems: &mut Problems) -> Option<Main> {
    let mut fields = Fields::new(MAIN, section, problems);
    let enabled = fields.one("enabled", values::boolean);
    let state_dir = fields.one("state_dir", values::plain_path);
    let run_dir = fields.one("run_dir", values::run_dir);
    let port = fields.one("port", values::port);
    let mint_proxy_port = fields.one("mint_proxy_port", values::port);
    let redirect_port = fields.one("redirect_port", values::port);
    let admin_listen = fields.one("admin_listen", values::admin_listen);
    let guest_sockets = fields.one("guest_sockets", |text| values::count(text, 1024));
    let guest_connections = fields.one("guest_connections", |text| values::count(text, 4096));
    let log_level = fields.one("log_level", values::log_level);
    let log_target = fields.one("log_target", values::log_target);
    let log_format = fields.one("log_format", values::log_format);
    let ca_file = fields.optional("ca_file", values::plain_path);
    let invoice_grace = fields.one("invoice_grace", values::seconds);
    let mint_proxy_auth = fields.one("mint_proxy_auth", values::mint_proxy_auth);
    let garden = fields.many("garden", MAX_GARDEN, garden::parse);
    let uplinks = fields.many("uplink", MAX_UPLINKS, values::uplink);

    let ports = [
        ("port", port),
        ("mint_proxy_port", mint_proxy_port),
        ("redirect_port", redirect_port),
        ("admin_listen", admin_listen.map(|address| address.port())),
    ];
    ports_differ(&ports, &mut fields);
    if guest_sockets > guest_connections {
        fields.warn(
            "guest_sockets",
            "is more than guest_connections, which counts them too: raise that as well",
        );
    }
    if let Some(dir) = state_dir.as_deref().filter(|dir| is_in_ram(dir)) {
        let message = format!(
            "{} is in memory on OpenWrt, all sales are forgotten at a reboot: use a directory on flash, like '/etc/tollgate'",
            shown(&dir.to_string_lossy())
        );
        fields.warn("state_dir", message);
    }
    Some(Main {
        enabled: enabled?,
        state_dir: state_dir?,
        run_dir: run_dir?,
        port: port?,
        mint_proxy_port: mint_proxy_port?,
        redirect_port: redirect_port?,
        admin_listen: admin_listen?,
        guest_sockets: guest_sockets?,
        guest_connections: guest_connections?,
        log_level: log_level?,
        log_target: log_target?,
        log_format: log_format?,
        ca_file: ca_file?,
        invoice_grace: invoice_grace?,
        mint_proxy_auth: mint_proxy_auth?,
        garden: range::merged(garden?),
        uplinks: uplinks?,
    })
}

fn ports_differ(ports: &[(&'static str, Option<u16>)], fields: &mut Fields<'_>) {
    for (number, (name, port)) in ports.iter().enumerate() {
        let earlier = ports.iter().take(number).find(|(_, other)| port.is_some() && other == port);
        if let Some((other, _)) = earlier {
            // The option that is in the file is the one to change.
            let culprit = if fields.is_set(name) { name } else { other };
            fields.error(
                culprit,
                format!(
                    "has the same port as '{}': choose another",
                    if culprit == name { other } else { name }
                ),
            );
        }
    }
}

fn is_in_ram(dir: &Path) -> bool {
    ["/tmp", "/var", "/run", "/dev/shm"].iter().any(|ram| dir.starts_with(ram))
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

fn venue(section: &Section, problems: &mut Problems) -> Option<Venue> {
    if section.anonymous {
        let message = "this venue has no name that stays: write a name behind it, like config venue 'guest'";
        problems.warn(ConfigPosition::section(section), message);
    }
    let mut fields = Fields::new(VENUE, Some(section), problems);
    let name = fields.optional("name", values::venue_name);
    let devices = fields.many("device", MAX_DEVICES, values::device);
    let network = fields.optional("network", values::network);
    match (fields.is_set("device"), fields.is_set("network")) {
        (true, true) => fields.error("network", "stands beside 'device': keep one of the two"),
        (false, false) => {
            fields.error("device", "is missing: add the guests' interface, like list device 'br-guest'");
        }
        _ => {}
    }
    let metric = fields.one("metric", values::metric);
    let step_size = fields.one("step_size", values::step_size);
    let max_steps = fields.one("max_steps", values::max_steps);
    if let (Some(metric), Some(size)) = (metric, step_size) {
        if metric == Metric::Bytes && NO_PORTAL_SHOWS.contains(&size) {
            fields.error("step_size", "is from 1 KiB to below 1 MiB, which existing portals answer with a white page: use 1048576 or more");
        }
        match metric {
            Metric::Milliseconds if size < 1000 => {
                fields.warn("step_size", "is less than a second: it is in milliseconds, a minute is 60000");
            }
            Metric::Bytes if size < NO_PORTAL_SHOWS.start => {
                fields.warn("step_size", "is less than a kilobyte: it is in bytes, 10 MB are 10000000");
            }
            _ => {}
        }
    }
    if let (Some(metric), Some(size), Some(steps)) = (metric, step_size, max_steps) {
        let (most, name) = match metric {
            Metric::Milliseconds => (MAX_TIME, "ten years"),
            Metric::Bytes => (MAX_BYTES, "a million gigabytes"),
        };
        if size.checked_mul(steps).is_none_or(|allotment| allotment > most) {
            let message = format!("times step_size is more than {name}: lower one of the two");
            fields.error("max_steps", message);
        }
    }
    let trusted_macs = fields.many("trusted_mac", MAX_TRUSTED, values::mac);
    let pay_grace = fields.one("pay_grace", values::pay_grace);
    let portal_name = fields.optional("portal_name", values::host_name);
    let reach = fields.many("reach", MAX_REACH, reach::parse);
    let uplinks = fields.many("uplink", MAX_UPLINKS, values::uplink);
    Some(Venue {
        id: section.name.clone(),
        name: name?.unwrap_or_else(|| section.name.clone()),
        devices: devices?,
        network: network?,
        metric: metric?,
        step_size: step_size?,
        max_steps: max_steps?,
        trusted_macs: trusted_macs?.into_iter().collect(),
        reach: range::merged(reach?),
        uplinks: uplinks?,
        pay_grace: pay_grace?,
        portal_name: portal_name?,
    })
}

fn mint(section: &Section, problems: &mut Problems) -> Option<MintConfig> {
    let mut fields = Fields::new(MINT, Some(section), problems);
    let url = fields.one("url", values::mint_url);
    let unit = fields.one("unit", values::unit);
    let price_per_step = fields.one("price_per_step", values::sats);
    let min_steps = fields.one("min_steps", values::min_steps);
    let allow_http = fields.one("allow_http", values::boolean);
    if let (Some(url), Some(false)) = (&url, allow_http) {
        if !url.is_https() {
            fields.error("url", "is plain http://, which anybody on the way can change: use https://, or add option allow_http '1'");
        }
    }
    let venues = fields.many("venue", MAX_VENUES, |text| Ok(text.to_owned()));
    Some(MintConfig {
        url: url?,
        unit: unit?,
        price_per_step: price_per_step?,
        min_steps: min_steps?,
        allow_http: allow_http?,
        venues: venues?,
    })
}

fn something_to_sell(
    file: &UciFile,
    venues: &[Found<'_, Venue>],
    mints: &[Found<'_, MintConfig>],
    serves_cards: bool,
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
        if serves_cards {
            let message = "no mint says what a step costs, so guests cannot buy; cards are served: add a section config mint to sell too";
            problems.warn(enabled, message);
            return;
        }
        problems.error(enabled, "no mint to sell for: add a section config mint with option url and option price_per_step, or write enabled '0'");
        return;
    }
    let all_read = mints.len() == file.of_kind(MINT).count();
    for venue in venues.iter().filter(|_| all_read) {
        if !mints.iter().any(|mint| mint.value.sells_in(&venue.value.id)) {
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
