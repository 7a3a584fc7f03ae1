//! Writing elements and quotas of our tables over nfnetlink. A batch is taken as a whole or not at all, and
//! takes some microseconds.
//!
//! The socket stays open between batches: the kernel lets go of what was deleted behind our back, but makes a process
//! that closes such a socket wait for it, 10 ms and more.

use super::{
    table, Home, Nftables, DELETE_ELEMENTS, DELETE_OBJECT, NESTED, NEW_ELEMENTS, NEW_OBJECT, OBJECT_QUOTA,
    SUBSYSTEM,
};
use crate::network::netlink::{self, KernelRefusal, NetlinkRequest, NLM_F_CREATE, NLM_F_EXCL};
use crate::units::Millis;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// What is beyond the limit matches.
const QUOTA_OVER: u32 = 1;

/// Changes in their order; see [`Nftables::commit`].
#[derive(Default)]
pub(crate) struct Batch(Vec<NetlinkRequest>);

impl Batch {
    /// Adds an element to a set, for ever without a timeout; in a map it gives `object`. One that is there
    /// already is left as it is, and with `is_new` refuses the batch.
    pub fn add(
        &mut self,
        home: Home,
        set: &str,
        key: &[u8],
        timeout: Option<Millis>,
        object: Option<&str>,
        is_new: bool,
    ) {
        let exclusive = if is_new { NLM_F_EXCL } else { 0 };
        let body = element(home, set, key, timeout, object);
        self.0.push(NetlinkRequest { kind: NEW_ELEMENTS, flags: NLM_F_CREATE | exclusive, body });
    }

    /// Deletes an element; one that is not there refuses the batch.
    pub fn delete(&mut self, home: Home, set: &str, key: &[u8]) {
        self.0.push(NetlinkRequest {
            kind: DELETE_ELEMENTS,
            flags: 0,
            body: element(home, set, key, None, None),
        });
    }

    /// Makes a quota of `limit` bytes of which `used` are gone. In one that is there only the limit changes.
    pub fn put_quota(&mut self, home: Home, name: &str, limit: u64, used: u64) {
        let mut data = Vec::new();
        netlink::push_attribute(&mut data, 1, &limit.to_be_bytes());
        netlink::push_attribute(&mut data, 2, &QUOTA_OVER.to_be_bytes());
        netlink::push_attribute(&mut data, 4, &used.to_be_bytes());
        let mut body = quota(home, name);
        netlink::push_attribute(&mut body, NESTED | 4, &data);
        self.0.push(NetlinkRequest { kind: NEW_OBJECT, flags: NLM_F_CREATE, body });
    }

    /// Deletes a quota; one that is not there, or that a map still gives, refuses the batch.
    pub fn delete_quota(&mut self, home: Home, name: &str) {
        self.0.push(NetlinkRequest { kind: DELETE_OBJECT, flags: 0, body: quota(home, name) });
    }
}

impl Nftables {
    /// Carries out all of it, or nothing: then the refusal says which change was to blame, by its number.
    pub fn commit(&mut self, batch: Batch) -> Result<(), KernelRefusal> {
        if batch.0.is_empty() {
            return Ok(());
        }
        let [subsystem, _] = SUBSYSTEM.to_be_bytes();
        let bracket =
            |kind| NetlinkRequest { kind, flags: 0, body: vec![netlink::AF_UNSPEC, 0, 0, subsystem] };
        let mut requests = vec![bracket(BATCH_BEGIN)];
        requests.extend(batch.0);
        requests.push(bracket(BATCH_END));
        self.0.transact(&requests).map_err(|refusal| {
            let request = refusal.request.and_then(|number| number.checked_sub(1));
            KernelRefusal { request, ..refusal }
        })
    }
}

/// A list of one element, as it is written and asked for.
pub(super) fn element(
    home: Home,
    set: &str,
    key: &[u8],
    timeout: Option<Millis>,
    object: Option<&str>,
) -> Vec<u8> {
    let (mut value, mut item, mut list) = (Vec::new(), Vec::new(), Vec::new());
    netlink::push_attribute(&mut value, 1, key);
    netlink::push_attribute(&mut item, NESTED | 1, &value);
    if let Some(Millis(timeout)) = timeout {
        netlink::push_attribute(&mut item, 4, &timeout.to_be_bytes());
    }
    if let Some(object) = object {
        netlink::push_name(&mut item, 9, object);
    }
    netlink::push_attribute(&mut list, NESTED | 1, &item);
    let mut body = table(home);
    netlink::push_name(&mut body, 2, set);
    netlink::push_attribute(&mut body, NESTED | 3, &list);
    body
}

/// A quota by its name.
pub(super) fn quota(home: Home, name: &str) -> Vec<u8> {
    let mut body = table(home);
    netlink::push_name(&mut body, 2, name);
    netlink::push_attribute(&mut body, 3, &OBJECT_QUOTA.to_be_bytes());
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8; 24] = b"br-guest\0\0\0\0\0\0\0\0\x02\0\0\0\0\x11\0\0";

    /// An attribute's header as `nft --debug=mnl` shows it, with flag and value.
    fn attribute(length: u16, kind: u16, value: &[u8]) -> Vec<u8> {
        [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
    }

    fn bodies(batch: Batch) -> Vec<Vec<u8>> {
        batch.0.into_iter().map(|request| request.body).collect()
    }

    #[test]
    fn elements_are_written_as_nft_writes_them() {
        let mut batch = Batch::default();
        batch.add(Home::Inet, "paid_at", KEY, Some(Millis(61_500)), None, true);
        batch.add(Home::Inet, "qm_at", KEY, None, Some("q1"), false);
        batch.delete(Home::Inet, "paid_at", KEY);
        let flags: Vec<_> = batch.0.iter().map(|request| (request.kind, request.flags)).collect();
        assert_eq!(flags, [(2572, 0x600), (2572, 0x400), (2574, 0)]);
        let table = [&[1, 0, 0, 0][..], &attribute(13, 1, b"tollgate\0\0\0\0")].concat();
        let paid = attribute(12, 2, b"paid_at\0");
        let key = attribute(32, NESTED | 1, &attribute(28, 1, KEY));
        let timeout = attribute(12, 4, &[0, 0, 0, 0, 0, 0, 0xf0, 0x3c]);
        let object = attribute(7, 9, b"q1\0\0");
        let list =
            |length, item: &[u8]| attribute(length, NESTED | 3, &attribute(length - 4, NESTED | 1, item));
        let wanted = [
            [&table[..], &paid, &list(52, &[&key[..], &timeout].concat())].concat(),
            [&table[..], &attribute(10, 2, b"qm_at\0\0\0"), &list(48, &[&key[..], &object].concat())]
                .concat(),
            [&table[..], &paid, &list(40, &key)].concat(),
        ];
        assert_eq!(bodies(batch), wanted);
    }

    #[test]
    fn a_quota_is_written_with_what_is_gone_of_it() {
        let mut batch = Batch::default();
        batch.put_quota(Home::Inet, "q1", 1000, 7);
        batch.delete_quota(Home::Inet, "q1");
        let flags: Vec<_> = batch.0.iter().map(|request| (request.kind, request.flags)).collect();
        assert_eq!(flags, [(2578, 0x400), (2580, 0)]);
        let name = [
            &[1, 0, 0, 0][..],
            &attribute(13, 1, b"tollgate\0\0\0\0"),
            &attribute(7, 2, b"q1\0\0"),
            &attribute(8, 3, &[0, 0, 0, 2]),
        ]
        .concat();
        let data = [
            attribute(12, 1, &[0, 0, 0, 0, 0, 0, 3, 0xe8]),
            attribute(8, 2, &[0, 0, 0, 1]),
            attribute(12, 4, &[0, 0, 0, 0, 0, 0, 0, 7]),
        ]
        .concat();
        assert_eq!(bodies(batch), [[&name[..], &attribute(36, NESTED | 4, &data)].concat(), name]);
    }
}
