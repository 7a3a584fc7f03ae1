//! What other programs' firewall rules do to guests' packets: who overwrites the mark that paid packets carry, and
//! who takes port 80. Read as the kernel has it, following jumps as far as guests' devices go.
//!
//! A rule that cannot be understood is not named.

use super::netlink::{self, Socket};
use super::nftables::TABLE;
use crate::set::SortedSet;
use litemap::LiteMap;
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use std::fmt;
use std::io;
use std::time::Duration;

/// A chain of another program, and what one of its rules does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForeignRule {
    /// With its family, as nft writes it.
    pub table: String,
    pub chain: String,
    pub does: ForeignAct,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ForeignAct {
    OverwritesMark,
    TakesPort80,
}

const PATIENCE: Duration = Duration::from_secs(2);
/// Jumps within jumps; the kernel allows as many.
const DEEPEST: usize = 16;
const NFGENMSG: usize = 4;
const GET_CHAIN: u16 = 10 << 8 | 4;
const GET_RULE: u16 = 10 << 8 | 7;
const GET_ELEMENTS: u16 = 10 << 8 | 13;
const PREROUTING: u32 = 0;
const FORWARD: u32 = 2;
const HTTP: u16 = 80;
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;

impl fmt::Display for ForeignRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let does = match self.does {
            ForeignAct::OverwritesMark => "overwrites the mark of paid packets",
            ForeignAct::TakesPort80 => "redirects port 80 of guests",
        };
        write!(f, "chain {} of table {} {does}", self.chain, self.table)
    }
}

/// The rules of others that packets from these devices meet and that do one of these things. `bit` is our mark's.
pub fn rules(devices: &[String], bit: u32) -> io::Result<Vec<ForeignRule>> {
    let mut ruleset = Ruleset::read(Socket::open(SockProtocol::NetlinkNetFilter, PATIENCE)?)?;
    let bases: Vec<(Place, u32)> = ruleset.bases.clone();
    let mut walk = Walk { devices, bit, found: SortedSet::new(), seen: SortedSet::new() };
    for (place, hook) in bases {
        walk.follow(&mut ruleset, &place, hook, 0)?;
    }
    Ok(walk.found.iter().cloned().collect())
}

/// Family, table and chain.
type Place = (u8, String, String);

struct Ruleset {
    socket: Socket,
    bases: Vec<(Place, u32)>,
    /// The expressions of each chain's rules.
    rules: LiteMap<Place, Vec<Vec<u8>>>,
}

impl Ruleset {
    fn read(mut socket: Socket) -> io::Result<Ruleset> {
        let everything = netlink::netfilter_header(netlink::AF_UNSPEC);
        let chains = socket.dump(GET_CHAIN, &everything, |_, payload| {
            let (family, attributes) = (netlink::u8_at(payload, 0)?, netlink::after(payload, NFGENMSG)?);
            let Some(hook) = netlink::attribute(attributes, 4)? else { return Ok(None) };
            let number = netlink::attribute(hook, 1)?.map(netlink::be32).transpose()?.unwrap_or(u32::MAX);
            let place = (family, named(attributes, 1)?, named(attributes, 3)?);
            Ok((place.1 != TABLE && is_ip(family)).then_some((place, number)))
        });
        let bases = nothing_if_absent(chains)?;
        let found = socket.dump(GET_RULE, &everything, |_, payload| {
            let (family, attributes) = (netlink::u8_at(payload, 0)?, netlink::after(payload, NFGENMSG)?);
            let place = (family, named(attributes, 1)?, named(attributes, 2)?);
            let expressions = netlink::attribute(attributes, 4)?.unwrap_or_default().to_vec();
            Ok((place.1 != TABLE && is_ip(family)).then_some((place, expressions)))
        });
        let mut rules: LiteMap<Place, Vec<Vec<u8>>> = LiteMap::new();
        for (place, expressions) in nothing_if_absent(found)? {
            rules.entry(place).or_default().push(expressions);
        }
        let bases = bases.into_iter().filter(|(_, hook)| [PREROUTING, FORWARD].contains(hook)).collect();
        Ok(Ruleset { socket, bases, rules })
    }

    /// The elements of another program's set or map, with where a verdict leads.
    fn elements(&mut self, place: &Place, set: &str) -> io::Result<Vec<(Vec<u8>, Option<String>)>> {
        let mut body = netlink::netfilter_header(place.0);
        netlink::push_name(&mut body, 1, &place.1);
        netlink::push_name(&mut body, 2, set);
        let lists = self.socket.dump(GET_ELEMENTS, &body, |_, payload| {
            let mut found = Vec::new();
            let list = netlink::attribute(netlink::after(payload, NFGENMSG)?, 3)?.unwrap_or_default();
            for item in netlink::attributes(list) {
                let element = item?.1;
                let Some(key) = netlink::attribute(element, 1)? else { continue };
                let target = match netlink::attribute(element, 2)? {
                    Some(data) => leads_to(data)?,
                    None => None,
                };
                found.push((netlink::attribute(key, 1)?.unwrap_or_default().to_vec(), target));
            }
            Ok(Some(found))
        });
        Ok(nothing_if_absent(lists)?.into_iter().flatten().collect())
    }
}

struct Walk<'a> {
    devices: &'a [String],
    bit: u32,
    found: SortedSet<ForeignRule>,
    seen: SortedSet<(Place, u32)>,
}

/// What a register holds.
#[derive(Clone)]
enum Held {
    DeviceName,
    Port,
    Destination,
    /// The packet's own mark, of which this much is left, and what was added.
    Mark {
        kept: u32,
        added: u32,
    },
    Value,
    Other,
}

impl Walk<'_> {
    fn follow(&mut self, ruleset: &mut Ruleset, place: &Place, hook: u32, depth: usize) -> io::Result<()> {
        if depth > DEEPEST || !self.seen.insert((place.clone(), hook)) {
            return Ok(());
        }
        for rule in ruleset.rules.get(place).cloned().unwrap_or_default() {
            let Ok((acts, targets)) = self.read_rule(ruleset, place, &rule) else { continue };
            for does in acts {
                if does == ForeignAct::OverwritesMark || hook == PREROUTING {
                    let table = format!("{} {}", family_name(place.0), place.1);
                    self.found.insert(ForeignRule { table, chain: place.2.clone(), does });
                }
            }
            for chain in targets {
                self.follow(ruleset, &(place.0, place.1.clone(), chain), hook, depth.saturating_add(1))?;
            }
        }
        Ok(())
    }

    /// What a rule does to guests' packets, and where they go from it.
    fn read_rule(
        &self,
        ruleset: &mut Ruleset,
        place: &Place,
        rule: &[u8],
    ) -> io::Result<(Vec<ForeignAct>, Vec<String>)> {
        let nothing = || Ok((Vec::new(), Vec::new()));
        let (mut acts, mut targets) = (Vec::new(), Vec::new());
        let mut held: LiteMap<u32, Held> = LiteMap::new();
        let mut takes_http = true;
        for item in netlink::attributes(rule) {
            let expression = item?.1;
            let name = named(expression, 1)?;
            let data = netlink::attribute(expression, 2)?.unwrap_or_default();
            let number = |kind| {
                netlink::attribute(data, kind)?.map(netlink::be32).transpose().map(Option::unwrap_or_default)
            };
            match name.as_str() {
                "meta" => match netlink::attribute(data, 3)? {
                    Some(source) if number(2)? == META_MARK => {
                        let survives = match held.get(&netlink::be32(source)?) {
                            Some(Held::Mark { kept, added }) => kept & self.bit != 0 && added & self.bit == 0,
                            _ => false,
                        };
                        if !survives {
                            acts.push(ForeignAct::OverwritesMark);
                        }
                    }
                    Some(_) => {}
                    None => {
                        let holds = match number(2)? {
                            META_MARK => Held::Mark { kept: u32::MAX, added: 0 },
                            META_IIFNAME => Held::DeviceName,
                            _ => Held::Other,
                        };
                        held.insert(number(1)?, holds);
                    }
                },
                "payload" => {
                    let holds = match (number(2)?, number(3)?, number(4)?) {
                        (2, 2, 2) => Held::Port,
                        (1, 16, 4) | (1, 24, 16) => Held::Destination,
                        _ => Held::Other,
                    };
                    held.insert(number(1)?, holds);
                }
                "bitwise" => {
                    let holds = match held.get(&number(1)?) {
                        Some(Held::Mark { kept, added }) => {
                            let mask =
                                value(data, 4)?.map_or(Ok(u32::MAX), |mask| netlink::u32_at(mask, 0))?;
                            let with = value(data, 5)?.map_or(Ok(0), |with| netlink::u32_at(with, 0))?;
                            Held::Mark { kept: kept & mask, added: added & mask | with }
                        }
                        Some(Held::Destination) => Held::Destination,
                        _ => Held::Other,
                    };
                    held.insert(number(2)?, holds);
                }
                "immediate" => {
                    let content = netlink::attribute(data, 2)?.unwrap_or_default();
                    targets.extend(leads_to(content)?);
                    held.insert(number(1)?, Held::Value);
                }
                "cmp" => {
                    let (compared, is_equal) = (value(data, 3)?.unwrap_or_default(), number(2)? == 0);
                    let is_unequal = number(2)? == 1;
                    match held.get(&number(1)?) {
                        Some(Held::DeviceName) => {
                            let is_ours = self.devices.iter().any(|device| is_named(compared, device));
                            if is_equal && !is_ours || is_unequal && is_ours && self.devices.len() == 1 {
                                return nothing();
                            }
                        }
                        Some(Held::Port) => {
                            let port = compared.first_chunk().map(|port| u16::from_be_bytes(*port));
                            takes_http &=
                                !(is_equal && port != Some(HTTP) || is_unequal && port == Some(HTTP));
                        }
                        // Addressed to one host in particular.
                        Some(Held::Destination) => takes_http &= !is_equal,
                        _ => {}
                    }
                }
                "range" => {
                    if let Some(Held::Port) = held.get(&number(1)?) {
                        let end = |kind| {
                            Ok::<_, io::Error>(value(data, kind)?.and_then(|end| end.first_chunk().copied()))
                        };
                        let (from, to) = (end(3)?.map(u16::from_be_bytes), end(4)?.map(u16::from_be_bytes));
                        takes_http &=
                            from.is_some_and(|from| from <= HTTP) && to.is_some_and(|to| to >= HTTP);
                    }
                }
                "lookup" => {
                    let set = named(data, 1)?;
                    let is_map = netlink::attribute(data, 3)?.is_some();
                    let is_inverted = number(5)? & 1 != 0;
                    match held.get(&number(2)?) {
                        Some(Held::DeviceName) => {
                            let elements = ruleset.elements(place, &set)?;
                            let of_ours = |(key, _): &&(Vec<u8>, Option<String>)| {
                                self.devices.iter().any(|device| is_named(key, device))
                            };
                            let mut ours = elements.iter().filter(of_ours).peekable();
                            if is_map {
                                targets.extend(ours.filter_map(|(_, target)| target.clone()));
                            } else if ours.peek().is_none() != is_inverted {
                                return nothing();
                            }
                        }
                        Some(Held::Port) if !is_map => {
                            let elements = ruleset.elements(place, &set)?;
                            let has_http =
                                elements.iter().any(|(key, _)| key.starts_with(&HTTP.to_be_bytes()));
                            takes_http &= has_http != is_inverted;
                        }
                        Some(Held::Destination) => takes_http &= is_inverted,
                        _ => {
                            if is_map {
                                let elements = ruleset.elements(place, &set)?;
                                targets.extend(elements.into_iter().filter_map(|(_, target)| target));
                            }
                        }
                    }
                    if is_map {
                        held.insert(number(3)?, Held::Other);
                    }
                }
                // A source address is translated for packets that leave.
                "nat" if number(1)? == 1 => acts.push(ForeignAct::TakesPort80),
                "redir" | "tproxy" => acts.push(ForeignAct::TakesPort80),
                "target" => acts.extend(self.read_target(data)?),
                "match" if named(data, 1)? == "tcp" => {
                    let info = netlink::attribute(data, 3)?.unwrap_or_default();
                    let (from, to) = (netlink::u16_at(info, 4)?, netlink::u16_at(info, 6)?);
                    takes_http &= from <= HTTP && to >= HTTP;
                }
                other if loads(other) => {
                    held.insert(number(1)?, Held::Other);
                }
                _ => {}
            }
        }
        acts.retain(|act| *act != ForeignAct::TakesPort80 || takes_http);
        Ok((acts, targets))
    }

    /// One of iptables.
    fn read_target(&self, data: &[u8]) -> io::Result<Option<ForeignAct>> {
        let info = netlink::attribute(data, 3)?.unwrap_or_default();
        Ok(match named(data, 1)?.as_str() {
            "MARK" if netlink::u32_at(info, 4)? & self.bit != 0 => Some(ForeignAct::OverwritesMark),
            // Restored from the connection.
            "CONNMARK" if netlink::u8_at(info, 12)? == 2 && netlink::u32_at(info, 8)? & self.bit != 0 => {
                Some(ForeignAct::OverwritesMark)
            }
            "REDIRECT" | "DNAT" | "TPROXY" => Some(ForeignAct::TakesPort80),
            _ => None,
        })
    }
}

/// Expressions whose first attribute is the register that they fill.
fn loads(name: &str) -> bool {
    ["fib", "rt", "numgen", "exthdr", "osf"].contains(&name)
}

/// Whether a comparison with these octets, of which a wildcard has less, holds for the device.
fn is_named(octets: &[u8], device: &str) -> bool {
    match octets.iter().position(|octet| *octet == 0) {
        Some(end) => octets.get(..end) == Some(device.as_bytes()),
        None => device.as_bytes().starts_with(octets),
    }
}

fn value(data: &[u8], kind: u16) -> io::Result<Option<&[u8]>> {
    match netlink::attribute(data, kind)? {
        Some(nested) => netlink::attribute(nested, 1),
        None => Ok(None),
    }
}

/// The chain that a verdict jumps to.
fn leads_to(data: &[u8]) -> io::Result<Option<String>> {
    let Some(verdict) = netlink::attribute(data, 2)? else { return Ok(None) };
    let code = netlink::attribute(verdict, 1)?.map(netlink::be32).transpose()?.unwrap_or_default();
    let jumps = [JUMP, GOTO].into_iter().any(|jump| code.to_ne_bytes() == jump.to_ne_bytes());
    match netlink::attribute(verdict, 2)? {
        Some(chain) if jumps => netlink::name(chain).map(Some),
        _ => Ok(None),
    }
}

fn named(attributes: &[u8], kind: u16) -> io::Result<String> {
    netlink::attribute(attributes, kind)?.map_or_else(|| Ok(String::new()), netlink::name)
}

fn is_ip(family: u8) -> bool {
    [1, netlink::AF_INET, netlink::AF_INET6].contains(&family)
}

fn family_name(family: u8) -> &'static str {
    match family {
        netlink::AF_INET => "ip",
        netlink::AF_INET6 => "ip6",
        _ => "inet",
    }
}

fn nothing_if_absent<T>(found: io::Result<Vec<T>>) -> io::Result<Vec<T>> {
    match found {
        Err(error) if netlink::is_errno(&error, Errno::ENOENT) => Ok(Vec::new()),
        found => found,
    }
}
