//! From answers to `uci` commands: which sections are made, which venue is meant, and what the operator should know.

use super::answers::{Answers, Flags, GuestPlace, Step, Subnet, Wifi};
use super::changes::{option_text, option_words, WantedSection, NETWORK};
use super::firewall::{zone_name, Files};
use super::guest::{self, Names};
use super::place::RouterFacts;
use super::subnets::Taken;
use super::uci::{Uci, UciChange};
use super::{dhcp, uplinks, SetupError};
use crate::config::uci::{parse_large, Section, UciFile};
use crate::network::routes;

const VENUE: &str = "tollgate_guest";
/// Most guests pay from another app, which needs the internet for it.
pub const GRACE: &str = "120";
pub const MINT: &str = "tollgate_mint";

/// What will be done, and what the operator should know of it.
#[derive(Debug, Default)]
pub struct SetupPlan {
    pub summary: Vec<String>,
    pub notes: Vec<String>,
    pub changes: Vec<UciChange>,
}

/// Works out what the flags would do; writes nothing.
pub fn plan(flags: &Flags, uci: &Uci, around: &RouterFacts) -> Result<SetupPlan, SetupError> {
    let mut plan = SetupPlan::default();
    let mut answers = flags.answers.clone();
    let network = package(uci, "network")?;
    let before = guest::subnet_before(&network);
    let names = names(uci, &network, around)?;
    if flags.make_network {
        let subnet = subnet(flags.subnet, before, &taken(uci, &names, around)?)?;
        answers.place = GuestPlace::Make(subnet);
        plan.notes.extend(no_way_back(around));
        plan.notes.extend(unserved(uci, around)?);
    }
    plan.notes.extend(around.checked(&answers.place, flags.mode.force)?);
    let wireless = uci.package("wireless")?;
    if let Some(ssid) = &flags.ssid {
        answers.wifi = Some(Wifi { ssid: ssid.clone(), radio: flags.radio.clone() });
        let notes = wireless.as_ref().map(|wireless| guest::radio_notes(wireless, flags.radio.as_deref()));
        plan.notes.extend(notes.unwrap_or_default());
    }
    plan.summary = summary(&answers, &names);
    for wanted in guest::sections(&answers, &names, before, wireless.as_ref())? {
        plan.changes.extend(wanted.changes(&package(uci, wanted.package)?)?);
    }
    let own = package(uci, "tollgate")?;
    venue(&answers, &own, &around.files, &mut plan)?;
    mint(&answers, &own, &mut plan)?;
    let has_mint = answers.mint.is_some() || own.of_kind("mint").next().is_some();
    plan.changes.extend(has_mint.then(|| enabled(&own, "1")).flatten());
    Ok(plan)
}

/// What will be there, in words.
fn summary(answers: &Answers, names: &Names) -> Vec<String> {
    let mut lines = Vec::new();
    match &answers.place {
        GuestPlace::AsItIs => {}
        GuestPlace::Device(device) => lines.push(format!("guests of the device {device} are asked to pay")),
        GuestPlace::Network(network) => lines.push(format!("guests of the network {network} are asked to pay")),
        GuestPlace::Make(subnet) => lines.push(format!(
            "guests get a network of their own, {}/{} on the bridge {} in the firewall zone {}, and are asked to pay",
            subnet.router, subnet.prefix, names.bridge, names.zone
        )),
    }
    if let Some(wifi) = &answers.wifi {
        let radio = wifi.radio.as_deref().unwrap_or("every radio that can have one");
        lines.push(format!("an open Wi-Fi network '{}' on {radio} leads there", wifi.ssid));
    }
    if let Some(mint) = &answers.mint {
        lines.push(format!("ecash of {} is taken", mint.as_str()));
    }
    match answers.step {
        Some(Step::Seconds(seconds)) => lines.push(format!("time is sold, {seconds} s at a step")),
        Some(Step::Megabytes(megabytes)) => lines.push(format!("data is sold, {megabytes} MB at a step")),
        None => {}
    }
    if let Some(price) = answers.price {
        lines.push(format!("a step costs {price} sat"));
    }
    match answers.grace {
        Some(0) => lines.push("guests need another way to the internet to pay an invoice".to_owned()),
        Some(seconds) => lines.push(format!("who has an open invoice is online for {seconds} s to pay it")),
        None => {}
    }
    lines
}

/// The names of the guest network's zone and bridge, whether it is there or would be made.
pub fn names(uci: &Uci, network: &UciFile, around: &RouterFacts) -> Result<Names, SetupError> {
    let firewall = uci.package("firewall")?.unwrap_or_default();
    Ok(Names::choose(network, &firewall, around.up.as_deref().unwrap_or_default()))
}

/// What a guest network must not overlap.
pub fn taken(uci: &Uci, names: &Names, around: &RouterFacts) -> Result<Taken, SetupError> {
    let mut taken = Taken::default();
    for name in ["network", "openvpn"] {
        if let Some(file) = uci.package(name)? {
            taken.add_file(&file, NETWORK);
        }
    }
    taken.add_zones(&uci.package("firewall")?.unwrap_or_default());
    if around.up.is_some() {
        taken.add_up(&routes::destinations().unwrap_or_default(), &names.bridge);
    }
    Ok(taken)
}

/// The one that is wanted, the one that there is, or a free one.
fn subnet(wanted: Option<Subnet>, before: Option<Subnet>, taken: &Taken) -> Result<Subnet, SetupError> {
    let subnet = match (wanted, before) {
        (Some(wanted), before) if Some(wanted) != before => wanted,
        (_, Some(before)) => return Ok(before),
        (_, None) => taken
            .free()
            .ok_or_else(|| SetupError::Refused("no free subnet found: name one with --subnet".to_owned()))?,
    };
    match taken.clash(subnet) {
        Some(other) => {
            Err(SetupError::Refused(format!("{}/{} overlaps {other}", subnet.router, subnet.prefix)))
        }
        None => Ok(subnet),
    }
}

/// What keeps the DHCP and DNS servers from the guest network once its sections are made.
fn unserved(uci: &Uci, around: &RouterFacts) -> Result<Vec<String>, SetupError> {
    let mut dhcp = package(uci, "dhcp")?;
    if !dhcp.sections.iter().any(|section| section.name == NETWORK) {
        let made =
            format!("config dhcp '{0}'\n\toption interface '{0}'\n\toption dhcpv4 'server'\n", NETWORK);
        dhcp.sections.extend(parse_large(made.as_bytes()).unwrap_or_default().sections);
    }
    let names_elsewhere = around.up.is_some() && dhcp::answers_at_53();
    let lacks = dhcp::lacks(&dhcp, NETWORK, &[], names_elsewhere);
    Ok(lacks.into_iter().map(|lack| format!("{}; to mend it: {}", lack.what, lack.mend)).collect())
}

/// What the operator should know where guests' packets would leave with addresses that the next router does not know,
/// as on an access point behind the router.
fn no_way_back(around: &RouterFacts) -> Option<String> {
    let zones = uplinks::zones_unsaid(&around.files, &around.routes);
    let why = match uplinks::unmasked(&zones, &around.files, &around.routes) {
        Some(zone) => format!("zone {} leads to the internet and does not masquerade", zone_name(zone)),
        None if zones.is_empty() => "no firewall zone leads to the internet and masquerades".to_owned(),
        None => return None,
    };
    Some(format!("{why}: no answers will come back to guests; 'tollgated check --system' says what mends it"))
}

/// The venue of a place. Another venue is added where there are others; none is ever moved.
fn venue(answers: &Answers, own: &UciFile, files: &Files, plan: &mut SetupPlan) -> Result<(), SetupError> {
    let venues: Vec<&Section> = own.of_kind("venue").collect();
    let there = match &answers.place {
        GuestPlace::AsItIs => {
            match venues.iter().filter(|venue| is_made(venue)).collect::<Vec<_>>().as_slice() {
                [only] => Some(**only),
                _ => None,
            }
        }
        place => venues.iter().find(|venue| is_at(venue, place, files)).copied(),
    };
    let says_something = answers.name.is_some() || answers.step.is_some() || answers.grace.is_some();
    if answers.place == GuestPlace::AsItIs {
        if venues.is_empty() {
            let message = "where are the guests? --guest-network, --device or --network says it";
            return Err(SetupError::Usage(message.to_owned()));
        }
        if !says_something {
            return Ok(());
        }
    }
    let id = match there {
        Some(venue) if is_made(venue) => venue.name.clone(),
        Some(_) if !says_something => return Ok(()),
        None if answers.place != GuestPlace::AsItIs => free_id(&answers.place, own),
        Some(venue) => {
            return Err(SetupError::Refused(format!(
                "the venue {} was added by hand: change it in /etc/config/tollgate",
                venue.name
            )))
        }
        None => {
            return Err(SetupError::Refused(
                "which venue is meant? name its --device or --network".to_owned(),
            ))
        }
    };
    let mut wanted = WantedSection::new("tollgate", &id, "venue");
    match (&answers.name, there) {
        (Some(name), _) => wanted = wanted.with("name", name),
        (None, None) => wanted = wanted.with("name", "Wi-Fi"),
        (None, Some(_)) => {}
    }
    wanted = match answers.step {
        Some(Step::Seconds(seconds)) => {
            let time = wanted.with("step_size", seconds.saturating_mul(1000).to_string());
            // The default need not be written.
            let sells_data = there.is_some_and(|venue| option_text(venue, "metric") == Some("bytes"));
            if sells_data {
                time.with("metric", "milliseconds")
            } else {
                time
            }
        }
        Some(Step::Megabytes(megabytes)) => {
            wanted.with("metric", "bytes").with("step_size", megabytes.saturating_mul(1_000_000).to_string())
        }
        None => wanted,
    };
    wanted = match answers.grace {
        Some(seconds) => wanted.with("pay_grace", seconds.to_string()),
        None if there.is_none() => wanted.with("pay_grace", GRACE),
        None => wanted,
    };
    wanted = match &answers.place {
        _ if there.is_some() => wanted,
        GuestPlace::AsItIs => wanted,
        GuestPlace::Device(device) => wanted.with_list("device", device),
        GuestPlace::Network(network) => wanted.with("network", network),
        GuestPlace::Make(_) => wanted.with("network", NETWORK),
    };
    plan.changes.extend(wanted.changes(own)?);
    if there.is_none() {
        let others: Vec<&str> = venues.iter().map(|venue| venue.name.as_str()).collect();
        if !others.is_empty() {
            plan.notes.push(format!("the venue {id} is added; {} stays as it is", others.join(", ")));
        }
        for mint in own.of_kind("mint").filter(|mint| mint.option("venue").is_some()) {
            let name = option_text(mint, "url").unwrap_or(&mint.name);
            plan.notes.push(format!("the mint {name} names its venues (list venue): {id} does not take it"));
        }
    }
    Ok(())
}

/// Whether setup made this venue.
fn is_made(venue: &Section) -> bool {
    super::changes::is_ours("tollgate", venue)
}

/// Whether a venue is there already, by this name or as the device of that network.
fn is_at(venue: &Section, place: &GuestPlace, files: &Files) -> bool {
    let network = option_text(venue, "network");
    let has_device = |device: &str| {
        option_words(venue, "device").contains(&device)
            || network
                .is_some_and(|network| files.devices_of_network(network).iter().any(|own| own == device))
    };
    match place {
        GuestPlace::AsItIs => false,
        GuestPlace::Device(device) => has_device(device),
        GuestPlace::Network(named) => {
            network == Some(named) || files.devices_of_network(named).iter().any(|device| has_device(device))
        }
        GuestPlace::Make(_) => network == Some(NETWORK),
    }
}

/// A section's name that is not taken: the usual one, or one made of the place's name.
fn free_id(place: &GuestPlace, own: &UciFile) -> String {
    let is_free = |id: &str| !own.sections.iter().any(|section| section.name == id);
    if is_free(VENUE) {
        return VENUE.to_owned();
    }
    let place = match place {
        GuestPlace::Device(name) | GuestPlace::Network(name) => name.as_str(),
        GuestPlace::AsItIs | GuestPlace::Make(_) => "network",
    };
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    let first = format!("tollgate_{}", place.chars().map(plain).collect::<String>());
    let numbered = (2..u32::MAX).map(|number| format!("{first}_{number}"));
    let mut choices = std::iter::once(first.clone()).chain(numbered);
    choices.find(|id| is_free(id)).unwrap_or(first)
}

fn mint(answers: &Answers, own: &UciFile, plan: &mut SetupPlan) -> Result<(), SetupError> {
    let known = own.sections.iter().find(|section| section.name == MINT);
    let price = answers.price.map(|price| price.to_string());
    let wanted = WantedSection::new("tollgate", MINT, "mint");
    let wanted = match &answers.mint {
        Some(mint) => {
            let is_foreign = |section: &Section| {
                section.name != MINT && option_text(section, "url") == Some(mint.as_str())
            };
            if let Some(by_hand) = own.of_kind("mint").find(|section| is_foreign(section)) {
                let stays = price.is_none() || price.as_deref() == option_text(by_hand, "price_per_step");
                return if stays { Ok(()) } else { Err(by_hand_refused(mint.as_str())) };
            }
            let before = known.and_then(|section| option_text(section, "url"));
            if let Some(before) = before.filter(|before| *before != mint.as_str()) {
                plan.notes.push(format!("the mint {before} is replaced: what it holds of the takings stays"));
            }
            let wanted = match mint.is_https() {
                true => wanted,
                false => wanted.with("allow_http", "1"),
            };
            match &price {
                Some(price) => wanted.with("url", mint.as_str()).with("price_per_step", price),
                None => wanted.with("url", mint.as_str()).with_unless("price_per_step", "1"),
            }
        }
        None => match price {
            Some(_) if known.is_none() => {
                return match own.of_kind("mint").next().and_then(|section| option_text(section, "url")) {
                    Some(url) => Err(by_hand_refused(url)),
                    None => Err(SetupError::Usage("--price needs --mint".to_owned())),
                }
            }
            Some(price) => wanted.with("price_per_step", price),
            None => return Ok(()),
        },
    };
    plan.changes.extend(wanted.changes(own)?);
    Ok(())
}

fn by_hand_refused(url: &str) -> SetupError {
    SetupError::Refused(format!(
        "the mint {url} was added by hand: change its price_per_step in /etc/config/tollgate"
    ))
}

/// Switches selling on or off.
pub fn enabled(own: &UciFile, value: &str) -> Option<UciChange> {
    let main = own.of_kind("tollgate").next();
    let path = match main {
        Some(section) if section.anonymous => "tollgate.@tollgate[0].enabled".to_owned(),
        Some(section) => format!("tollgate.{}.enabled", section.name),
        None => return None,
    };
    let now = main.and_then(|section| option_text(section, "enabled"));
    (now != Some(value)).then(|| UciChange::Set(path, value.to_owned()))
}

/// A package that setup cannot do without.
pub fn package(uci: &Uci, name: &str) -> Result<UciFile, SetupError> {
    uci.package(name)?
        .ok_or_else(|| SetupError::Refused(format!("there is no configuration '{name}' on this router")))
}

#[cfg(test)]
mod tests {
    use super::super::firewall;
    use super::*;
    use crate::config::uci::parse;

    const OWN: &str = "config tollgate 'main'\n\toption enabled '1'\n";
    const GUEST: &str =
        "config venue 'tollgate_guest'\n\toption name 'Kibanda'\n\toption network 'tollgate_guest'\n";

    fn made(arguments: &[&str], own: &str) -> Result<SetupPlan, SetupError> {
        let mut answers = Flags::parse(arguments).unwrap().answers;
        if arguments.contains(&"--guest-network") {
            answers.place = GuestPlace::Make(super::super::answers::subnet("192.168.77.1/24").unwrap());
        }
        let own = parse(own.as_bytes()).unwrap();
        let files = firewall::files("config interface 'hall'\n\toption device 'br-hall'\n", "");
        let mut plan = SetupPlan::default();
        venue(&answers, &own, &files, &mut plan)?;
        mint(&answers, &own, &mut plan)?;
        Ok(plan)
    }

    fn lines(plan: &SetupPlan) -> Vec<String> {
        plan.changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_second_place_is_a_second_venue() {
        let own = format!("{OWN}{GUEST}");
        let second = made(&["--device", "br-lan.20", "--name", "VLAN 20"], &own).unwrap();
        assert_eq!(
            lines(&second),
            [
                "uci set tollgate.tollgate_br_lan_20='venue'",
                "uci set tollgate.tollgate_br_lan_20.name='VLAN 20'",
                "uci set tollgate.tollgate_br_lan_20.pay_grace='120'",
                "uci add_list tollgate.tollgate_br_lan_20.device='br-lan.20'",
            ]
        );
        assert!(second.notes[0].contains("tollgate_guest stays as it is"), "{:?}", second.notes);
        let third = made(&["--network", "yard"], &own).unwrap();
        assert_eq!(lines(&third)[0], "uci set tollgate.tollgate_yard='venue'");
        let first = made(&["--device", "br-lan.20"], OWN).unwrap();
        assert_eq!(
            (lines(&first)[0].as_str(), first.notes.len()),
            ("uci set tollgate.tollgate_guest='venue'", 0)
        );
    }

    #[test]
    fn a_guest_network_beside_a_device_that_is_gated_is_a_venue_of_its_own() {
        let own = format!("{OWN}config venue 'tollgate_guest'\n\tlist device 'br-lan.20'\n");
        let plan = made(&["--guest-network"], &own).unwrap();
        assert_eq!(lines(&plan)[0], "uci set tollgate.tollgate_network='venue'");
        assert!(!lines(&plan).iter().any(|line| line.contains("delete")));
    }

    #[test]
    fn the_same_place_again_is_the_same_venue() {
        let own = format!("{OWN}{GUEST}config venue 'mine'\n\tlist device 'br-hall'\n");
        assert_eq!(lines(&made(&["--guest-network"], &own).unwrap()), Vec::<String>::new());
        assert_eq!(lines(&made(&["--device", "br-hall"], &own).unwrap()), Vec::<String>::new());
        let renamed = made(&["--guest-network", "--name", "Mama"], &own).unwrap();
        assert_eq!(lines(&renamed), ["uci set tollgate.tollgate_guest.name='Mama'"]);
        assert_eq!(lines(&made(&["--name", "Mama"], &own).unwrap()), lines(&renamed));
    }

    #[test]
    fn a_network_and_its_device_are_the_same_place() {
        let by_network =
            format!("{OWN}config venue 'tollgate_guest'\n\toption name 'A'\n\toption network 'hall'\n");
        let by_device =
            format!("{OWN}config venue 'tollgate_guest'\n\toption name 'A'\n\tlist device 'br-hall'\n");
        for (own, place) in [(&by_network, ["--device", "br-hall"]), (&by_device, ["--network", "hall"])] {
            assert_eq!(lines(&made(&place, own).unwrap()), Vec::<String>::new(), "{own}");
            let renamed = made(&[&place[..], &["--name", "B"]].concat(), own).unwrap();
            assert_eq!(lines(&renamed), ["uci set tollgate.tollgate_guest.name='B'"]);
        }
    }

    #[test]
    fn a_venue_that_setup_did_not_make_is_not_changed() {
        let own = format!("{OWN}config venue 'mine'\n\tlist device 'br-hall'\n");
        for arguments in [&["--device", "br-hall", "--name", "Mama"][..], &["--name", "Mama"]] {
            assert!(matches!(made(arguments, &own), Err(SetupError::Refused(_))), "{arguments:?}");
        }
        assert!(matches!(made(&["--name", "Mama"], OWN), Err(SetupError::Usage(_))));
    }

    #[test]
    fn time_or_data_is_sold_and_a_grace_is_given_as_said() {
        let first = made(&["--device", "br-hall", "--megabytes", "10", "--grace", "0"], OWN).unwrap();
        let lines = lines(&first);
        for (option, value) in [("metric", "bytes"), ("step_size", "10000000"), ("pay_grace", "0")] {
            let line = format!("uci set tollgate.tollgate_guest.{option}='{value}'");
            assert!(lines.contains(&line), "{lines:?}");
        }
        let own = format!("{OWN}{GUEST}\toption metric 'bytes'\n");
        let time = made(&["--step", "60"], &own).unwrap();
        let lines = self::lines(&time);
        assert_eq!(
            lines,
            [
                "uci set tollgate.tollgate_guest.step_size='60000'",
                "uci set tollgate.tollgate_guest.metric='milliseconds'"
            ]
        );
        let http = made(&["--mint", "http://10.0.0.5:3338", "--allow-http"], &own).unwrap();
        assert!(self::lines(&http).contains(&"uci set tollgate.tollgate_mint.allow_http='1'".to_owned()));
    }

    #[test]
    fn a_price_that_the_operator_wrote_stays() {
        let own = format!(
            "{OWN}{GUEST}config mint 'tollgate_mint'\n\toption url 'https://a.example'\n\toption price_per_step '7'\n"
        );
        assert_eq!(lines(&made(&["--mint", "https://a.example"], &own).unwrap()), Vec::<String>::new());
        let other = made(&["--mint", "https://b.example"], &own).unwrap();
        assert_eq!(lines(&other), ["uci set tollgate.tollgate_mint.url='https://b.example'"]);
        assert!(other.notes[0].contains("https://a.example is replaced"));
        let by_hand = own.replace("'tollgate_mint'", "").replace("price_per_step '7'", "price_per_step '1'");
        assert_eq!(
            lines(&made(&["--mint", "https://a.example", "--price", "1"], &by_hand).unwrap()).len(),
            0
        );
        for priced in [&["--mint", "https://a.example", "--price", "9"][..], &["--price", "9"]] {
            let refused = made(priced, &by_hand).unwrap_err().to_string();
            assert!(refused.contains("https://a.example was added by hand"), "{refused}");
        }
    }
}
