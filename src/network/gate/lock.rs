//! The second lock: per gated device and family one policy routing rule,
//! `pref 90 iif DEVICE fwmark 0/0x08000000 prohibit`. It knows nothing of nftables: with the table gone,
//! every packet is unmarked and goes nowhere. Traffic to the router itself is looked up before it.

use super::{Family, MARK};
use crate::network::netlink::{self, Socket, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use std::io;
use std::path::Path;
use std::time::Duration;

const PREFERENCE: u32 = 90;
const PATIENCE: Duration = Duration::from_secs(1);
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;
const RULE_HEADER: usize = 12;
const FR_ACT_PROHIBIT: u8 = 8;
const FIB_RULE_INVERT: u32 = 0x2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_FWMASK: u16 = 16;
/// Everything else a rule can select by (FRA_DST, SRC, FLOW, TUN_ID, OIFNAME, L3MDEV, UID_RANGE, IP_PROTO,
/// SPORT_RANGE, DPORT_RANGE, DSCP, FLOWLABEL, FLOWLABEL_MASK, SPORT_MASK, DPORT_MASK, DSCP_MASK): a rule
/// with one of these stops less than ours.
const OTHER_SELECTORS: [u16; 16] = [1, 2, 11, 12, 17, 19, 20, 22, 23, 24, 25, 26, 27, 28, 29, 30];

/// One lock of ours, as found in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lock {
    device: String,
    family: Family,
}

/// Puts the locks of `devices` up, once each, and takes those of other devices away.
pub(super) fn ensure(devices: &[String]) -> io::Result<()> {
    let mut socket = Socket::open(SockProtocol::NetlinkRoute, PATIENCE)?;
    let found = list(&mut socket)?;
    for lock in wanted(devices) {
        if !found.contains(&lock) {
            match socket.request(RTM_NEWRULE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &lock.message()) {
                Err(error) if !netlink::is_errno(&error, Errno::EEXIST) => return Err(error),
                _ => {}
            }
        }
    }
    let mut kept: Vec<&Lock> = Vec::new();
    for lock in &found {
        if devices.contains(&lock.device) && !kept.contains(&lock) {
            kept.push(lock);
            continue;
        }
        match socket.request(RTM_DELRULE, NLM_F_ACK, &lock.message()) {
            Err(error) if !netlink::is_errno(&error, Errno::ENOENT) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The locks of `devices` that are not there.
pub(super) fn missing(devices: &[String]) -> io::Result<Vec<(String, Family)>> {
    let mut socket = Socket::open(SockProtocol::NetlinkRoute, PATIENCE)?;
    let found = list(&mut socket)?;
    let absent = wanted(devices).into_iter().filter(|lock| !found.contains(lock));
    Ok(absent.map(|lock| (lock.device, lock.family)).collect())
}

/// A kernel without IPv6 forwards none and takes no rule for it.
fn wanted(devices: &[String]) -> Vec<Lock> {
    let families: &[Family] =
        if Path::new("/proc/net/if_inet6").exists() { &[Family::V4, Family::V6] } else { &[Family::V4] };
    let mut locks = Vec::new();
    for device in devices {
        locks.extend(families.iter().map(|family| Lock { device: device.clone(), family: *family }));
    }
    locks
}

fn list(socket: &mut Socket) -> io::Result<Vec<Lock>> {
    socket.dump(RTM_GETRULE, &[0u8; RULE_HEADER], |kind, payload| match kind {
        RTM_NEWRULE => parse(payload),
        _ => Ok(None),
    })
}

impl Lock {
    fn message(&self) -> Vec<u8> {
        let family = match self.family {
            Family::V4 => netlink::AF_INET,
            Family::V6 => netlink::AF_INET6,
        };
        let mut body = vec![family, 0, 0, 0, 0, 0, 0, FR_ACT_PROHIBIT, 0, 0, 0, 0];
        netlink::push_name(&mut body, FRA_IIFNAME, &self.device);
        netlink::push_attribute(&mut body, FRA_PRIORITY, &PREFERENCE.to_ne_bytes());
        netlink::push_attribute(&mut body, FRA_FWMARK, &0u32.to_ne_bytes());
        netlink::push_attribute(&mut body, FRA_FWMASK, &MARK.to_ne_bytes());
        body
    }
}

/// `None` for a rule that is not exactly one of ours.
fn parse(payload: &[u8]) -> io::Result<Option<Lock>> {
    let family = match netlink::u8_at(payload, 0)? {
        netlink::AF_INET => Family::V4,
        netlink::AF_INET6 => Family::V6,
        _ => return Ok(None),
    };
    let prefixes = netlink::u8_at(payload, 1)? | netlink::u8_at(payload, 2)? | netlink::u8_at(payload, 3)?;
    let (action, flags) = (netlink::u8_at(payload, 7)?, netlink::u32_at(payload, 8)?);
    let (mut device, mut preference, mut mark, mut mask, mut narrower) = (None, 0, 0, 0, false);
    for item in netlink::attributes(netlink::after(payload, RULE_HEADER)?) {
        let (kind, value) = item?;
        match kind {
            FRA_IIFNAME => device = Some(netlink::name(value)?),
            FRA_PRIORITY => preference = netlink::u32_at(value, 0)?,
            FRA_FWMARK => mark = netlink::u32_at(value, 0)?,
            FRA_FWMASK => mask = netlink::u32_at(value, 0)?,
            kind => narrower |= OTHER_SELECTORS.contains(&kind),
        }
    }
    let is_ours = action == FR_ACT_PROHIBIT
        && preference == PREFERENCE
        && mark == 0
        && mask == MARK
        && prefixes == 0
        && flags & FIB_RULE_INVERT == 0
        && !narrower;
    Ok(device.filter(|_| is_ours).map(|device| Lock { device, family }))
}

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_lock(payload: &[u8]) -> String {
    format!("{:?}", parse(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> Lock {
        Lock { device: "br-guest".to_owned(), family: Family::V6 }
    }

    #[test]
    fn a_lock_is_recognised_as_it_was_written() {
        assert_eq!(parse(&lock().message()).unwrap(), Some(lock()));
    }

    #[test]
    fn a_rule_that_differs_in_anything_is_not_ours() {
        for (at, value) in [(0, 128), (1, 24), (2, 24), (3, 1), (7, 1)] {
            let mut message = lock().message();
            message[at] = value;
            assert_eq!(parse(&message).unwrap(), None, "byte {at}");
        }
        let mut inverted = lock().message();
        inverted[8..12].copy_from_slice(&FIB_RULE_INVERT.to_ne_bytes());
        assert_eq!(parse(&inverted).unwrap(), None);
        for (kind, value) in [(FRA_PRIORITY, 91u32), (FRA_FWMARK, 1), (FRA_FWMASK, 0xff), (22, 6)] {
            let mut message = lock().message();
            netlink::push_attribute(&mut message, kind, &value.to_ne_bytes());
            assert_eq!(parse(&message).unwrap(), None, "attribute {kind}");
        }
    }

    #[test]
    fn a_cut_rule_is_no_panic() {
        let message = lock().message();
        for end in 0..message.len() {
            let _ = parse(&message[..end]);
        }
    }
}
