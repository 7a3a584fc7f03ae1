//! Our table in the kernel over nfnetlink: exact, in a binary form that does not change with the version of
//! `nft`, and without starting a process. What is here only reads; `batch` writes elements.

pub(crate) mod batch;

use super::netlink::{self, Socket};
use crate::set::SortedSet;
use crate::units::Millis;
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::time::Duration;

/// The name of both our tables.
pub(crate) const TABLE: &str = "tollgate";

/// Where a table of ours is at home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Home {
    /// In the path of IPv4 and IPv6 packets: the gate.
    #[default]
    Inet,
    /// At the devices: the count of bytes.
    Netdev,
}

/// As nft names it.
impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Home::Inet => "inet",
            Home::Netdev => "netdev",
        })
    }
}

const PATIENCE: Duration = Duration::from_secs(2);
const NFPROTO_INET: u8 = 1;
const NFPROTO_NETDEV: u8 = 5;
const SUBSYSTEM: u16 = 10 << 8;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const GET_RULE: u16 = SUBSYSTEM | 7;
const NEW_SET: u16 = SUBSYSTEM | 9;
const GET_SET: u16 = SUBSYSTEM | 10;
const NEW_ELEMENTS: u16 = SUBSYSTEM | 12;
const GET_ELEMENTS: u16 = SUBSYSTEM | 13;
const DELETE_ELEMENTS: u16 = SUBSYSTEM | 14;
const NEW_OBJECT: u16 = SUBSYSTEM | 18;
const GET_OBJECT: u16 = SUBSYSTEM | 19;
const DELETE_OBJECT: u16 = SUBSYSTEM | 20;
const GET_GENERATION: u16 = SUBSYSTEM | 16;
const NEW_FLOWTABLE: u16 = SUBSYSTEM | 22;
const GET_FLOWTABLE: u16 = SUBSYSTEM | 23;
const OBJECT_QUOTA: u32 = 2;
const INTERVAL_END: u32 = 1;
const NFGENMSG: usize = 4;
/// Of an attribute that holds attributes.
const NESTED: u16 = 0x8000;
/// The first attribute of chains, rules, sets and element lists alike: the table they belong to.
const TABLE_ATTRIBUTE: u16 = 1;
/// The comment's type in the user data that nft stores with a rule.
const USERDATA_COMMENT: u8 = 0;

/// A base chain.
#[derive(Debug, PartialEq)]
pub(crate) struct KernelChain {
    pub name: String,
    /// Its hook (`NF_INET_*`) and priority; `None` for a chain that is no base chain.
    pub hook: Option<(u32, i32)>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Rule {
    pub chain: String,
    pub comment: String,
    /// A digest of what the rule does, comparable within one run of the program.
    pub digest: u64,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Set {
    pub name: String,
    pub flags: u32,
    pub key_type: u32,
    pub key_length: u32,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Element {
    /// The parts of a concatenation are each padded to four bytes.
    pub key: Vec<u8>,
    /// Until it ends by itself; `None` for one that stays.
    pub remaining: Option<Millis>,
    /// What its counter says; zero without one.
    pub packets: u64,
    /// The object that a map gives for it; empty in a set.
    pub object: String,
    /// The first key behind an interval.
    pub is_end: bool,
}

/// A named quota, in bytes.
#[derive(Debug, PartialEq)]
pub(crate) struct NamedQuota {
    pub name: String,
    pub limit: u64,
    /// At most the limit.
    pub used: u64,
}

/// A line to the kernel's nftables.
pub(crate) struct Nftables(Socket);

impl Nftables {
    pub fn open() -> io::Result<Nftables> {
        Socket::open(SockProtocol::NetlinkNetFilter, PATIENCE).map(Nftables)
    }

    /// The number of the last transaction that any program committed, in any table.
    pub fn generation(&mut self) -> io::Result<u32> {
        let answer = self.0.request(GET_GENERATION, 0, &netlink::netfilter_header(netlink::AF_UNSPEC))?;
        let id = netlink::attribute(netlink::after(&answer, NFGENMSG)?, 1)?;
        netlink::be32(id.ok_or_else(netlink::malformed)?)
    }

    pub fn chains(&mut self) -> io::Result<Vec<KernelChain>> {
        self.list(GET_CHAIN, NEW_CHAIN, table(Home::Inet), parse_chain)
    }

    /// The rules of our table, in their order within each chain.
    pub fn rules(&mut self) -> io::Result<Vec<Rule>> {
        self.rules_of(Home::Inet)
    }

    /// The same for either of our tables.
    pub fn rules_of(&mut self, home: Home) -> io::Result<Vec<Rule>> {
        self.list(GET_RULE, NEW_RULE, table(home), parse_rule)
    }

    pub fn sets(&mut self) -> io::Result<Vec<Set>> {
        self.list(GET_SET, NEW_SET, table(Home::Inet), parse_set)
    }

    /// The elements of one of our sets; empty where the set or the table does not exist.
    pub fn elements(&mut self, set: &str) -> io::Result<Vec<Element>> {
        self.elements_of(Home::Inet, set)
    }

    /// The same for a set of either of our tables.
    pub fn elements_of(&mut self, home: Home, set: &str) -> io::Result<Vec<Element>> {
        let mut body = table(home);
        netlink::push_name(&mut body, 2, set);
        let lists =
            self.list(GET_ELEMENTS, NEW_ELEMENTS, body, |payload| parse_elements(payload).map(Some))?;
        Ok(lists.into_iter().flatten().collect())
    }

    /// One element of a set of ours.
    pub fn element(&mut self, home: Home, set: &str, key: &[u8]) -> io::Result<Option<Element>> {
        let body = batch::element(home, set, key, None, None);
        Ok(self.one(GET_ELEMENTS, &body, parse_elements)?.into_iter().flatten().next())
    }

    /// The quotas in one of our tables.
    pub fn quotas(&mut self, home: Home) -> io::Result<Vec<NamedQuota>> {
        let mut body = table(home);
        netlink::push_attribute(&mut body, 3, &OBJECT_QUOTA.to_be_bytes());
        self.list(GET_OBJECT, NEW_OBJECT, body, parse_quota)
    }

    /// One quota in one of our tables.
    pub fn quota(&mut self, home: Home, name: &str) -> io::Result<Option<NamedQuota>> {
        self.one(GET_OBJECT, &batch::quota(home, name), parse_quota).map(Option::flatten)
    }

    /// The devices of every flowtable on the machine: what passes between them may skip our chains.
    pub fn offloaded_devices(&mut self) -> io::Result<SortedSet<String>> {
        let header = netlink::netfilter_header(netlink::AF_UNSPEC);
        let lists =
            self.list(GET_FLOWTABLE, NEW_FLOWTABLE, header, |payload| parse_flowtable(payload).map(Some))?;
        Ok(lists.into_iter().flatten().collect())
    }

    /// The answer to a question about one thing; `None` where that is not there.
    fn one<T>(
        &mut self,
        ask: u16,
        body: &[u8],
        parse: impl Fn(&[u8]) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        match self.0.request(ask, 0, body) {
            Ok(answer) => parse(netlink::after(&answer, NFGENMSG)?).map(Some),
            Err(error) if netlink::is_errno(&error, Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list<T>(
        &mut self,
        ask: u16,
        answer: u16,
        body: Vec<u8>,
        parse: impl Fn(&[u8]) -> io::Result<Option<T>>,
    ) -> io::Result<Vec<T>> {
        let found = self.0.dump(ask, &body, |kind, payload| match kind == answer {
            true => parse(netlink::after(payload, NFGENMSG)?),
            false => Ok(None),
        });
        match found {
            Err(error) if netlink::is_errno(&error, Errno::ENOENT) => Ok(Vec::new()),
            found => found,
        }
    }
}

fn table(home: Home) -> Vec<u8> {
    let mut body = netlink::netfilter_header(match home {
        Home::Inet => NFPROTO_INET,
        Home::Netdev => NFPROTO_NETDEV,
    });
    netlink::push_name(&mut body, TABLE_ATTRIBUTE, TABLE);
    body
}

/// Kernels may answer with other tables' objects as well.
fn is_ours(attributes: &[u8]) -> io::Result<bool> {
    match netlink::attribute(attributes, TABLE_ATTRIBUTE)? {
        Some(value) => Ok(netlink::name(value)? == TABLE),
        None => Ok(false),
    }
}

fn required(attributes: &[u8], kind: u16) -> io::Result<&[u8]> {
    netlink::attribute(attributes, kind)?.ok_or_else(netlink::malformed)
}

fn parse_chain(attributes: &[u8]) -> io::Result<Option<KernelChain>> {
    if !is_ours(attributes)? {
        return Ok(None);
    }
    let hook = match netlink::attribute(attributes, 4)? {
        Some(hook) => {
            let priority = netlink::be32(required(hook, 2)?)?;
            Some((netlink::be32(required(hook, 1)?)?, i32::from_ne_bytes(priority.to_ne_bytes())))
        }
        None => None,
    };
    Ok(Some(KernelChain { name: netlink::name(required(attributes, 3)?)?, hook }))
}

fn parse_rule(attributes: &[u8]) -> io::Result<Option<Rule>> {
    if !is_ours(attributes)? {
        return Ok(None);
    }
    let mut hasher = DefaultHasher::new();
    netlink::attribute(attributes, 4)?.unwrap_or_default().hash(&mut hasher);
    let comment = comment(netlink::attribute(attributes, 7)?.unwrap_or_default());
    Ok(Some(Rule { chain: netlink::name(required(attributes, 2)?)?, comment, digest: hasher.finish() }))
}

/// nft's user data: one byte of type, one of length, the value; a comment ends in NUL.
fn comment(mut userdata: &[u8]) -> String {
    while let [kind, length, rest @ ..] = userdata {
        let Some((value, after)) = rest.split_at_checked(usize::from(*length)) else { break };
        if *kind == USERDATA_COMMENT {
            return netlink::name(value).unwrap_or_default();
        }
        userdata = after;
    }
    String::new()
}

fn parse_set(attributes: &[u8]) -> io::Result<Option<Set>> {
    if !is_ours(attributes)? {
        return Ok(None);
    }
    let number = |kind| match netlink::attribute(attributes, kind)? {
        Some(value) => netlink::be32(value),
        None => Ok(0),
    };
    Ok(Some(Set {
        name: netlink::name(required(attributes, 2)?)?,
        flags: number(3)?,
        key_type: number(4)?,
        key_length: number(5)?,
    }))
}

fn parse_elements(attributes: &[u8]) -> io::Result<Vec<Element>> {
    let mut found = Vec::new();
    let Some(list) = netlink::attribute(attributes, 3)? else { return Ok(found) };
    for item in netlink::attributes(list) {
        let (_, element) = item?;
        let Some(key) = netlink::attribute(element, 1)? else { continue };
        let key = required(key, 1)?.to_vec();
        let time =
            |kind| netlink::attribute(element, kind).and_then(|value| value.map(netlink::be64).transpose());
        // An element with a timeout is always sent with what is left of it, unless that is nothing.
        let remaining = match (time(4)?, time(5)?) {
            (None, None) => None,
            (_, left) => Some(Millis(left.unwrap_or(0))),
        };
        if remaining != Some(Millis::ZERO) {
            let object = netlink::attribute(element, 9)?.map(netlink::name).transpose()?.unwrap_or_default();
            let flags = netlink::attribute(element, 3)?.map(netlink::be32).transpose()?.unwrap_or_default();
            let is_end = flags & INTERVAL_END != 0;
            found.push(Element { key, remaining, packets: counted(element)?, object, is_end });
        }
    }
    Ok(found)
}

/// The packets of an element's counter.
fn counted(element: &[u8]) -> io::Result<u64> {
    let Some(expression) = netlink::attribute(element, 7)? else { return Ok(0) };
    if netlink::name(required(expression, 1)?)? != "counter" {
        return Ok(0);
    }
    netlink::be64(required(required(expression, 2)?, 2)?)
}

fn parse_quota(attributes: &[u8]) -> io::Result<Option<NamedQuota>> {
    let is_quota = netlink::attribute(attributes, 3)?.map(netlink::be32).transpose()? == Some(OBJECT_QUOTA);
    if !is_ours(attributes)? || !is_quota {
        return Ok(None);
    }
    let data = required(attributes, 4)?;
    Ok(Some(NamedQuota {
        name: netlink::name(required(attributes, 2)?)?,
        limit: netlink::be64(required(data, 1)?)?,
        used: netlink::be64(required(data, 4)?)?,
    }))
}

fn parse_flowtable(attributes: &[u8]) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let Some(hook) = netlink::attribute(attributes, 3)? else { return Ok(found) };
    for item in netlink::attributes(netlink::attribute(hook, 3)?.unwrap_or_default()) {
        found.push(netlink::name(item?.1)?);
    }
    Ok(found)
}

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_nftables(attributes: &[u8]) -> String {
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?}",
        parse_chain(attributes),
        parse_rule(attributes).map(|rule| rule.map(|rule| rule.comment)),
        parse_set(attributes),
        parse_elements(attributes),
        parse_quota(attributes),
        parse_flowtable(attributes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(key: &[u8], times: Option<(u64, u64)>) -> Vec<u8> {
        let mut value = Vec::new();
        netlink::push_attribute(&mut value, 1, key);
        let mut body = Vec::new();
        netlink::push_attribute(&mut body, 0x8000 | 1, &value);
        if let Some((timeout, left)) = times {
            netlink::push_attribute(&mut body, 4, &timeout.to_be_bytes());
            netlink::push_attribute(&mut body, 5, &left.to_be_bytes());
        }
        body
    }

    fn plain(key: u8) -> Element {
        Element { key: vec![key; 6], remaining: None, packets: 0, object: String::new(), is_end: false }
    }

    #[test]
    fn elements_are_read_with_what_is_left_of_them() {
        let mut list = Vec::new();
        for body in
            [element(&[1; 6], Some((60_000, 1_500))), element(&[2; 6], None), element(&[3; 6], Some((9, 0)))]
        {
            netlink::push_attribute(&mut list, 0x8000 | 1, &body);
        }
        let mut attributes = Vec::new();
        netlink::push_name(&mut attributes, 1, TABLE);
        netlink::push_attribute(&mut attributes, 0x8000 | 3, &list);
        let found = parse_elements(&attributes).unwrap();
        assert_eq!(found, [Element { remaining: Some(Millis(1_500)), ..plain(1) }, plain(2),]);
        for end in 0..attributes.len() {
            let _ = parse_elements(&attributes[..end]);
        }
    }

    #[test]
    fn a_rules_comment_is_found_in_the_user_data() {
        assert_eq!(comment(&[0, 4, b't', b'g', b'1', 0]), "tg1");
        assert_eq!(comment(&[1, 1, 9, 0, 2, b'x', 0]), "x");
        for broken in [&[][..], &[0], &[0, 9, b'x'], &[7, 0], &[0, 2, 0xff, 0]] {
            assert_eq!(comment(broken), "");
        }
    }

    #[test]
    fn another_tables_objects_are_not_ours() {
        let mut attributes = Vec::new();
        netlink::push_name(&mut attributes, 1, "fw4");
        netlink::push_name(&mut attributes, 2, "paid");
        assert_eq!(parse_set(&attributes).unwrap(), None);
        assert_eq!(parse_chain(&attributes).unwrap(), None);
        assert_eq!(parse_rule(&attributes).unwrap(), None);
    }
}
