//! What the operator wants, from flags or from questions.

use super::SetupError;
use crate::config::MintUrl;
use std::net::Ipv4Addr;

pub const USAGE: &str = "\
tollgated setup - makes this router ready to sell

    tollgated setup --usage              this text
    tollgated setup                      asks, shows the uci commands, asks again, makes the changes
    tollgated setup --yes FLAG...        does not ask
    tollgated setup --dry-run FLAG...    shows the uci commands, changes nothing
    tollgated setup --undo [--yes]       takes back what setup made

    --name TEXT          what guests see
    --mint URL           the mint whose ecash is taken
    --allow-http         a mint whose URL is plain http, which anybody on the way can change
    --price SAT          price of a step (default 1)
    --step SECONDS       sells time: what a step is (default 60)
    --megabytes MB       sells data: what a step is, in millions of bytes
    --grace SECONDS      how long a guest with an open invoice is online to pay it (default 120, 0 for never)
    --guest-network      make a network for guests: bridge, DHCP, firewall zone
    --subnet ADDR/LEN    its address, e.g. 192.168.77.1/24; implies --guest-network
    --ssid TEXT          an open Wi-Fi network into it; implies --guest-network
    --radio NAME         on this radio only (default: all)
    --device NAME        gate this device, which is there already
    --network NAME       gate this network of /etc/config/network, which is there already
    --force              gate it though it is an uplink, the owner's own network or not there
";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    pub name: Option<String>,
    pub mint: Option<MintUrl>,
    /// The mint's URL may be plain http.
    pub allows_http: bool,
    pub price: Option<u64>,
    pub step: Option<Step>,
    /// Seconds.
    pub grace: Option<u64>,
    pub place: GuestPlace,
    pub wifi: Option<Wifi>,
}

/// What is sold at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Seconds(u64),
    Megabytes(u64),
}

/// Where the guests are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GuestPlace {
    /// As the configuration says now.
    #[default]
    AsItIs,
    Device(String),
    Network(String),
    Make(Subnet),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wifi {
    pub ssid: String,
    /// `None`: every radio.
    pub radio: Option<String>,
}

/// The router's address in a network, and the network's prefix length (16 to 29).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub router: Ipv4Addr,
    pub prefix: u32,
}

/// What is to be done with the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    pub yes: bool,
    pub dry_run: bool,
    pub undo: bool,
    /// Gates also what setup would refuse to gate.
    pub force: bool,
    /// Only the list of flags.
    pub usage: bool,
}

/// The flags as they were given; subnet and Wi-Fi are put together by [`Flags::answers`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub mode: Mode,
    pub answers: Answers,
    pub make_network: bool,
    pub subnet: Option<Subnet>,
    pub ssid: Option<String>,
    pub radio: Option<String>,
}

impl Flags {
    pub fn parse(arguments: &[&str]) -> Result<Flags, SetupError> {
        let mut flags = Flags::default();
        flags.answers.allows_http = arguments.contains(&"--allow-http");
        let mut rest = arguments.iter();
        while let Some(flag) = rest.next() {
            let mut value = || {
                let value = rest.next().ok_or_else(|| usage(&format!("{flag} needs a value")))?;
                Ok::<String, SetupError>((*value).to_owned())
            };
            match *flag {
                "--yes" => flags.mode.yes = true,
                "--dry-run" => flags.mode.dry_run = true,
                "--undo" => flags.mode.undo = true,
                "--force" => flags.mode.force = true,
                "--usage" => flags.mode.usage = true,
                "--name" => flags.answers.name = Some(name(&value()?)?),
                "--mint" => flags.answers.mint = Some(mint(&value()?, flags.answers.allows_http)?),
                "--allow-http" => {}
                "--price" => flags.answers.price = Some(amount(flag, &value()?)?),
                "--step" => flags.step(Step::Seconds(amount(flag, &value()?)?))?,
                "--megabytes" => flags.step(Step::Megabytes(amount(flag, &value()?)?))?,
                "--grace" => flags.answers.grace = Some(grace(&value()?)?),
                "--guest-network" => flags.make_network = true,
                "--subnet" => flags.subnet = Some(subnet(&value()?)?),
                "--ssid" => flags.ssid = Some(ssid(&value()?)?),
                "--radio" => flags.radio = Some(section_name(&value()?)?),
                "--device" => flags.place(GuestPlace::Device(value()?))?,
                "--network" => flags.place(GuestPlace::Network(section_name(&value()?)?))?,
                other => return Err(usage(&format!("there is no flag {other}"))),
            }
        }
        if flags.radio.is_some() && flags.ssid.is_none() {
            return Err(usage("--radio needs --ssid"));
        }
        flags.make_network |= flags.subnet.is_some() || flags.ssid.is_some();
        if flags.mode.undo && flags.say_something() {
            return Err(usage("--undo takes back all that setup made, and nothing else is done with it"));
        }
        if flags.make_network && flags.answers.place != GuestPlace::AsItIs {
            return Err(usage(
                "a network is made (--guest-network, --subnet, --ssid) or there is one (--device, --network)",
            ));
        }
        Ok(flags)
    }

    /// Whether anything was said beside the mode, and beside which answers may be given.
    pub fn say_something(&self) -> bool {
        let nothing = Answers { allows_http: self.answers.allows_http, ..Answers::default() };
        self.answers != nothing || self.make_network
    }

    fn step(&mut self, step: Step) -> Result<(), SetupError> {
        match self.answers.step.replace(step) {
            None => Ok(()),
            Some(_) => Err(usage("time is sold (--step) or data (--megabytes)")),
        }
    }

    fn place(&mut self, place: GuestPlace) -> Result<(), SetupError> {
        if self.answers.place != GuestPlace::AsItIs {
            return Err(usage("--device and --network exclude each other"));
        }
        self.answers.place = match place {
            GuestPlace::Device(device) => GuestPlace::Device(device_name(&device)?),
            other => other,
        };
        Ok(())
    }
}

/// `ip link` shows `eth0.20@eth0`: what stands behind the @ is no part of the name.
fn device_name(text: &str) -> Result<String, SetupError> {
    let name = text.split('@').next().unwrap_or_default();
    match crate::network::devices::is_valid_name(name) && !name.contains('+') {
        true => Ok(name.to_owned()),
        false => Err(usage(&format!("{text:?} is no device's name"))),
    }
}

pub fn name(text: &str) -> Result<String, SetupError> {
    let length = text.chars().count();
    match (1..=64).contains(&length) && !text.chars().any(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err(usage("a name has 1 to 64 characters")),
    }
}

pub fn mint(text: &str, allows_http: bool) -> Result<MintUrl, SetupError> {
    let url = MintUrl::parse(text).map_err(|error| usage(&format!("mint {text}: {error}")))?;
    match url.is_https() || allows_http {
        true => Ok(url),
        false => Err(usage(&format!(
            "mint {text}: anybody on the way can change plain http; --allow-http takes it"
        ))),
    }
}

/// Seconds, 0 for none.
pub fn grace(text: &str) -> Result<u64, SetupError> {
    match text.parse() {
        Ok(seconds @ 0..=900) => Ok(seconds),
        _ => Err(usage("a grace is 0 to 900 seconds")),
    }
}

pub fn amount(what: &str, text: &str) -> Result<u64, SetupError> {
    match text.parse() {
        Ok(amount @ 1..=1_000_000_000) => Ok(amount),
        _ => Err(usage(&format!("{what}: {text:?} is no whole number above 0"))),
    }
}

pub fn subnet(text: &str) -> Result<Subnet, SetupError> {
    let wrong = || {
        usage(&format!(
            "subnet {text}: write the router's address and a length from 16 to 29, as 192.168.77.1/24"
        ))
    };
    let (router, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let subnet =
        Subnet { router: router.parse().map_err(|_| wrong())?, prefix: prefix.parse().map_err(|_| wrong())? };
    let host = u32::from(subnet.router) & !subnet.mask();
    let usable = (16..=29).contains(&subnet.prefix) && host != 0 && host != !subnet.mask();
    match usable && (subnet.router.is_private() || is_shared(subnet.router)) {
        true => Ok(subnet),
        false => Err(wrong()),
    }
}

pub fn ssid(text: &str) -> Result<String, SetupError> {
    match (1..=32).contains(&text.len()) && !text.chars().any(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err(usage("a Wi-Fi name has 1 to 32 bytes")),
    }
}

fn section_name(text: &str) -> Result<String, SetupError> {
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        true => Ok(text.to_owned()),
        false => Err(usage(&format!("{text:?} is no section's name"))),
    }
}

/// 100.64.0.0/10 (RFC 6598).
fn is_shared(address: Ipv4Addr) -> bool {
    u32::from(address) >> 22 == u32::from(Ipv4Addr::new(100, 64, 0, 0)) >> 22
}

fn usage(text: &str) -> SetupError {
    SetupError::Usage(text.to_owned())
}

impl Subnet {
    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32_u32.saturating_sub(self.prefix)).unwrap_or(0)
    }

    pub fn netmask(self) -> Ipv4Addr {
        self.mask().into()
    }

    pub fn overlaps(self, other: Subnet) -> bool {
        let mask = self.mask() & other.mask();
        u32::from(self.router) & mask == u32::from(other.router) & mask
    }

    pub fn is_in(self, other: Subnet) -> bool {
        self.prefix >= other.prefix && self.overlaps(other)
    }

    /// First host number and count for DHCP, most of the network; dnsmasq leaves the router's own out.
    pub fn dhcp(self) -> (u32, u32) {
        let hosts = (!self.mask()).saturating_sub(1);
        let start = if hosts > 60 { 10 } else { 2 };
        (start, hosts.saturating_sub(start).min(4000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        for wrong in [
            &["--device", "br-lan", "--ssid", "x"][..],
            &["--device", "a", "--network", "b"],
            &["--radio", "radio0"],
            &["--price"],
            &["--price", "0"],
            &["--mint", "ftp://mint"],
            &["--mint", "http://mint.example.com"],
            &["--step", "60", "--megabytes", "10"],
            &["--grace", "901"],
            &["--undo", "--yes", "--price", "3"],
            &["--subnet", "192.168.77.0/24"],
            &["--subnet", "192.168.77.255/24"],
            &["--subnet", "8.8.8.8/24"],
            &["--subnet", "192.168.77.1/33"],
            &["--device", "br lan"],
            &["--device", "@lan"],
            &["--device", "wlan+"],
            &["--network", "a.b"],
            &["--ssid", "123456789012345678901234567890123"],
            &["--frobnicate"],
        ] {
            assert!(matches!(Flags::parse(wrong), Err(SetupError::Usage(_))), "{wrong:?}");
        }
    }

    #[test]
    fn plain_http_is_taken_where_it_is_allowed() {
        let flags = Flags::parse(&["--mint", "http://mint.example.com", "--allow-http"]).unwrap();
        assert!(flags.answers.allows_http && flags.answers.mint.is_some());
    }

    #[test]
    fn a_device_as_ip_link_shows_it_is_what_stands_before_the_at() {
        let flags = Flags::parse(&["--device", "eth0.20@eth0"]).unwrap();
        assert_eq!(flags.answers.place, GuestPlace::Device("eth0.20".to_owned()));
    }

    #[test]
    fn a_wifi_network_implies_a_guest_network() {
        let flags = Flags::parse(&["--yes", "--ssid", "Kibanda"]).unwrap();
        assert!(flags.make_network && flags.mode.yes);
    }

    #[test]
    fn dhcp_stays_inside_the_network() {
        for prefix in 16..=29 {
            let net = Subnet { router: Ipv4Addr::new(10, 0, 0, 1), prefix };
            let (start, limit) = net.dhcp();
            assert!(limit > 0 && start + limit <= !net.mask(), "{prefix}: {start} {limit}");
        }
    }

    #[test]
    fn networks_overlap_when_one_holds_the_other() {
        let net = |text| subnet(text).unwrap();
        assert!(net("192.168.77.1/24").overlaps(net("192.168.0.1/16")));
        assert!(net("192.168.0.1/16").overlaps(net("192.168.77.1/24")));
        assert!(!net("192.168.77.1/24").overlaps(net("192.168.78.1/24")));
    }
}
