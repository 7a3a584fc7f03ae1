//! Netlink, as much of it as this room needs: one request and its answer, or several that are taken together.
//!
//! Every wait is bounded by the patience the socket was opened with. What arrives is parsed with bounds
//! checks only: a message that does not add up is an `InvalidData` error. Headers and rtnetlink attributes
//! are in the machine's own byte order, netfilter's attributes in network order.

use nix::errno::Errno;
use nix::sys::socket::{
    bind, recvmsg, send, setsockopt, socket, sockopt, AddressFamily, MsgFlags, NetlinkAddr, SockFlag,
    SockProtocol, SockType,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

pub(crate) const AF_UNSPEC: u8 = 0;
pub(crate) const AF_INET: u8 = 2;
pub(crate) const AF_INET6: u8 = 10;

/// Flags of a request beside `NLM_F_REQUEST`, which every one carries.
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const FIRST_TYPE: u16 = 16;

const HEADER: usize = 16;
/// The kernel never builds a larger dump message than this, even for a larger buffer.
const BUFFER: usize = 32 * 1024;
const DUMP_TRIES: u32 = 4;

/// One of several requests that are sent together.
pub(crate) struct NetlinkRequest {
    pub kind: u16,
    pub flags: u16,
    pub body: Vec<u8>,
}

/// Which of several requests the kernel refused; `None` where it was none of them in particular.
#[derive(Debug)]
pub(crate) struct KernelRefusal {
    pub request: Option<usize>,
    pub error: io::Error,
}

/// A netlink socket.
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    patience: Duration,
    buffer: Vec<u8>,
}

impl Socket {
    /// `patience` bounds each request, and each attempt at a dump.
    pub fn open(protocol: SockProtocol, patience: Duration) -> io::Result<Socket> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let millis = i64::try_from(patience.as_millis()).unwrap_or(1000).max(1);
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::milliseconds(millis))?;
        setsockopt(&fd, sockopt::SendTimeout, &TimeVal::milliseconds(millis))?;
        Ok(Socket { fd, sequence: 0, patience, buffer: vec![0; BUFFER] })
    }

    /// Sends one request and waits for its acknowledgement (with `NLM_F_ACK`) or its answer.
    /// The answer's payload; empty where there was only an acknowledgement.
    pub fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<u8>> {
        let sequence = self.send(kind, flags, body)?;
        let deadline = Instant::now() + self.patience;
        let mut answer = Vec::new();
        loop {
            let length = self.receive(deadline)?;
            for message in messages(self.buffer.get(..length).unwrap_or_default()) {
                let message = message?;
                if message.sequence != sequence {
                    continue;
                }
                match message.kind {
                    NLMSG_ERROR => return acknowledgement(message.payload).map(|()| answer),
                    NLMSG_DONE => return Ok(answer),
                    NLMSG_OVERRUN => return Err(Errno::ENOBUFS.into()),
                    kind if kind < FIRST_TYPE => {}
                    _ => {
                        answer = message.payload.to_vec();
                        if flags & NLM_F_ACK == 0 {
                            return Ok(answer);
                        }
                    }
                }
            }
        }
    }

    /// Lists what the kernel has of one kind; `pick` keeps what it wants of each message (type, payload).
    /// A listing that was disturbed while it ran, or overran the socket, is started again.
    pub fn dump<T>(
        &mut self,
        kind: u16,
        body: &[u8],
        mut pick: impl FnMut(u16, &[u8]) -> io::Result<Option<T>>,
    ) -> io::Result<Vec<T>> {
        let mut last = io::Error::from(Errno::EINTR);
        for _ in 0..DUMP_TRIES {
            let mut found = Vec::new();
            let outcome = self.dump_once(kind, body, &mut |kind, payload| {
                if let Some(item) = pick(kind, payload)? {
                    found.push(item);
                }
                Ok(())
            });
            match outcome {
                Ok(()) => return Ok(found),
                Err(error) if is_disturbance(&error) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    fn dump_once(
        &mut self,
        kind: u16,
        body: &[u8],
        each: &mut dyn FnMut(u16, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let sequence = self.send(kind, NLM_F_DUMP, body)?;
        let deadline = Instant::now() + self.patience;
        let mut disturbed = false;
        loop {
            let length = self.receive(deadline)?;
            for message in messages(self.buffer.get(..length).unwrap_or_default()) {
                let message = message?;
                if message.sequence != sequence {
                    continue;
                }
                disturbed |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_ERROR => return acknowledgement(message.payload),
                    NLMSG_DONE => {
                        done(message.payload)?;
                        return if disturbed { Err(Errno::EINTR.into()) } else { Ok(()) };
                    }
                    NLMSG_OVERRUN => return Err(Errno::ENOBUFS.into()),
                    kind if kind < FIRST_TYPE => {}
                    kind => each(kind, message.payload)?,
                }
            }
        }
    }

    /// Sends all of these as one message, the first and the last of which only hold the others together, and waits
    /// for the outcome. Netfilter carries such a batch out within the system call, as a whole or not at all.
    pub fn transact(&mut self, requests: &[NetlinkRequest]) -> Result<(), KernelRefusal> {
        let of_all = |error: io::Error| KernelRefusal { request: None, error };
        let first = self.sequence.wrapping_add(1);
        // The last one's acknowledgement comes when the kernel is done, also where it refused another.
        let witness = requests.len().saturating_sub(2);
        let mut datagram = Vec::new();
        for (number, request) in requests.iter().enumerate() {
            let acknowledged = if number == witness { NLM_F_ACK } else { 0 };
            self.append(&mut datagram, request.kind, request.flags | acknowledged, &request.body)
                .map_err(of_all)?;
        }
        self.make_room(datagram.len());
        send(self.fd.as_raw_fd(), &datagram, MsgFlags::empty()).map_err(|errno| of_all(errno.into()))?;
        let deadline = Instant::now() + self.patience;
        let mut refusal = None;
        loop {
            let length = self.receive(deadline).map_err(of_all)?;
            for message in messages(self.buffer.get(..length).unwrap_or_default()) {
                let message = message.map_err(of_all)?;
                let number = usize::try_from(message.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
                if message.kind != NLMSG_ERROR || number > witness {
                    continue;
                }
                if let Err(error) = acknowledgement(message.payload) {
                    let request = (number != 0).then_some(number);
                    refusal.get_or_insert(KernelRefusal { request, error });
                }
                if number == witness || number == 0 {
                    return refusal.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// The kernel takes no message that is larger than what may wait in the socket.
    fn make_room(&self, length: usize) {
        const USUAL: usize = 64 * 1024;
        let room = length.saturating_mul(2);
        if length > USUAL && setsockopt(&self.fd, sockopt::SndBufForce, &room).is_err() {
            // Then up to the limit for unprivileged processes; a larger message is refused by the kernel.
            let _ = setsockopt(&self.fd, sockopt::SndBuf, &room);
        }
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<u32> {
        let mut message = Vec::with_capacity(HEADER + body.len());
        self.append(&mut message, kind, flags, body)?;
        send(self.fd.as_raw_fd(), &message, MsgFlags::empty())?;
        Ok(self.sequence)
    }

    /// Appends one request with the next number.
    fn append(&mut self, message: &mut Vec<u8>, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADER + body.len()).map_err(|_| malformed())?;
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        message.extend(body);
        message.resize(aligned(message.len()), 0);
        Ok(())
    }

    /// One datagram of the kernel's own into the buffer; its length.
    fn receive(&mut self, deadline: Instant) -> io::Result<usize> {
        loop {
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut parts = [IoSliceMut::new(&mut self.buffer)];
            match recvmsg::<NetlinkAddr>(self.fd.as_raw_fd(), &mut parts, None, MsgFlags::empty()) {
                Ok(received) if received.address.is_some_and(|sender| sender.pid() != 0) => {}
                Ok(received) if received.flags.contains(MsgFlags::MSG_TRUNC) => {
                    return Err(Errno::EMSGSIZE.into())
                }
                Ok(received) => return Ok(received.bytes),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether `error` carries this errno.
pub(crate) fn is_errno(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

fn is_disturbance(error: &io::Error) -> bool {
    is_errno(error, Errno::EINTR) || is_errno(error, Errno::ENOBUFS)
}

pub(crate) fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed netlink message")
}

fn acknowledgement(payload: &[u8]) -> io::Result<()> {
    match i32_at(payload, 0)? {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.checked_neg().ok_or_else(malformed)?)),
    }
}

/// A dump that failed half-way says so in its last message, where it says anything at all.
fn done(payload: &[u8]) -> io::Result<()> {
    match i32_at(payload, 0) {
        Ok(code) if code < 0 => acknowledgement(payload),
        _ => Ok(()),
    }
}

#[derive(Debug, PartialEq)]
pub(crate) struct NetlinkMessage<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

/// The messages of one datagram.
pub(crate) fn messages(mut rest: &[u8]) -> impl Iterator<Item = io::Result<NetlinkMessage<'_>>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let item = first_message(rest);
        rest = match &item {
            Ok((_, after)) => after,
            Err(_) => &[],
        };
        Some(item.map(|(message, _)| message))
    })
}

fn first_message(bytes: &[u8]) -> io::Result<(NetlinkMessage<'_>, &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).map_err(|_| malformed())?;
    let payload = bytes.get(HEADER..length).ok_or_else(malformed)?;
    let message = NetlinkMessage {
        kind: u16_at(bytes, 4)?,
        flags: u16_at(bytes, 6)?,
        sequence: u32_at(bytes, 8)?,
        payload,
    };
    Ok((message, bytes.get(aligned(length)..).unwrap_or_default()))
}

/// The attributes in `bytes`: (type without its flag bits, value).
pub(crate) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = io::Result<(u16, &[u8])>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let item = first_attribute(rest);
        rest = match &item {
            Ok((_, _, after)) => after,
            Err(_) => &[],
        };
        Some(item.map(|(kind, value, _)| (kind, value)))
    })
}

fn first_attribute(bytes: &[u8]) -> io::Result<(u16, &[u8], &[u8])> {
    const TYPE_MASK: u16 = 0x3fff;
    let length = usize::from(u16_at(bytes, 0)?);
    let value = bytes.get(4..length).ok_or_else(malformed)?;
    Ok((u16_at(bytes, 2)? & TYPE_MASK, value, bytes.get(aligned(length)..).unwrap_or_default()))
}

/// The value of the first attribute of type `kind`.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> io::Result<Option<&[u8]>> {
    for item in attributes(bytes) {
        let (found, value) = item?;
        if found == kind {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// What follows a message's fixed part of `length` bytes.
pub(crate) fn after(payload: &[u8], length: usize) -> io::Result<&[u8]> {
    payload.get(length..).ok_or_else(malformed)
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().ok_or_else(malformed)
}

pub(crate) fn u8_at(bytes: &[u8], at: usize) -> io::Result<u8> {
    bytes_at::<1>(bytes, at).map(|[byte]| byte)
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    bytes_at(bytes, at).map(u16::from_ne_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
    bytes_at(bytes, at).map(u32::from_ne_bytes)
}

pub(crate) fn i32_at(bytes: &[u8], at: usize) -> io::Result<i32> {
    bytes_at(bytes, at).map(i32::from_ne_bytes)
}

/// Netfilter's integers are big-endian.
pub(crate) fn be32(bytes: &[u8]) -> io::Result<u32> {
    bytes_at(bytes, 0).map(u32::from_be_bytes)
}

pub(crate) fn be64(bytes: &[u8]) -> io::Result<u64> {
    bytes_at(bytes, 0).map(u64::from_be_bytes)
}

pub(crate) fn octets6(bytes: &[u8]) -> io::Result<[u8; 6]> {
    bytes_at(bytes, 0)
}

/// An address by its length: 4 or 16 octets.
pub(crate) fn ip(bytes: &[u8]) -> io::Result<IpAddr> {
    match bytes.len() {
        4 => bytes_at::<4>(bytes, 0).map(|octets| IpAddr::from(Ipv4Addr::from(octets))),
        16 => bytes_at::<16>(bytes, 0).map(|octets| IpAddr::from(Ipv6Addr::from(octets))),
        _ => Err(malformed()),
    }
}

/// A NUL-terminated name.
pub(crate) fn name(bytes: &[u8]) -> io::Result<String> {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8(text.to_vec()).map_err(|_| malformed())
}

pub(crate) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() {
        AF_INET
    } else {
        AF_INET6
    }
}

pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Appends one attribute, padded to four bytes. Values are names, addresses and numbers of ours, and
/// attributes the kernel sent itself: all far below the 64 KiB an attribute can hold; a longer one is left out.
pub(crate) fn push_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let Ok(length) = u16::try_from(value.len().saturating_add(4)) else { return };
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(aligned(body.len()), 0);
}

/// Appends a NUL-terminated name.
pub(crate) fn push_name(body: &mut Vec<u8>, kind: u16, name: &str) {
    let mut value = name.as_bytes().to_vec();
    value.push(0);
    push_attribute(body, kind, &value);
}

/// The fixed part of every netfilter message.
pub(crate) fn netfilter_header(family: u8) -> Vec<u8> {
    vec![family, 0, 0, 0]
}

fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_datagram(datagram: &[u8], mut each: impl FnMut(u16, &[u8])) -> bool {
    messages(datagram).all(|message| {
        message.is_ok_and(|message| {
            each(message.kind, message.payload);
            true
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut attributes = vec![0u8; 4];
        push_attribute(&mut attributes, 3, &[1, 2, 3, 4, 5]);
        push_name(&mut attributes, 0x8000 | 7, "br-guest");
        let mut datagram = Vec::new();
        for sequence in [9u32, 10] {
            let length = u32::try_from(HEADER + attributes.len()).unwrap();
            datagram.extend(length.to_ne_bytes());
            datagram.extend(28u16.to_ne_bytes());
            datagram.extend(2u16.to_ne_bytes());
            datagram.extend(sequence.to_ne_bytes());
            datagram.extend(0u32.to_ne_bytes());
            datagram.extend(&attributes);
        }
        datagram
    }

    #[test]
    fn messages_and_attributes_are_read_back() {
        let datagram = sample();
        let found: Vec<_> = messages(&datagram).map(|m| m.unwrap()).collect();
        assert_eq!(found.iter().map(|m| m.sequence).collect::<Vec<_>>(), [9, 10]);
        let rest = after(found[1].payload, 4).unwrap();
        assert_eq!(attribute(rest, 3).unwrap(), Some(&[1, 2, 3, 4, 5][..]));
        assert_eq!(name(attribute(rest, 7).unwrap().unwrap()).unwrap(), "br-guest");
        assert_eq!(attribute(rest, 1).unwrap(), None);
    }

    #[test]
    fn a_message_cut_anywhere_is_an_error_and_never_a_panic() {
        let datagram = sample();
        for end in 1..datagram.len() {
            for message in messages(&datagram[..end]).flatten() {
                for item in attributes(after(message.payload, 4).unwrap()) {
                    item.unwrap();
                }
            }
            let whole = end == datagram.len() / 2;
            assert_eq!(messages(&datagram[..end]).all(|m| m.is_ok()), whole, "cut at {end}");
        }
    }

    #[test]
    fn lengths_that_lie_are_errors() {
        for length in [0u32, 1, 15, 17_000, u32::MAX] {
            let mut datagram = sample();
            datagram[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(messages(&datagram).next().unwrap().is_err(), "{length}");
        }
        for length in [0u16, 1, 3, 9, u16::MAX] {
            let mut bytes = vec![0, 0, 1, 0, 5, 5, 5, 5];
            bytes[..2].copy_from_slice(&length.to_ne_bytes());
            assert!(attributes(&bytes).any(|a| a.is_err()), "{length}");
        }
    }

    #[test]
    fn the_kernels_errno_is_passed_on() {
        let refusal = acknowledgement(&(-17i32).to_ne_bytes()).unwrap_err();
        assert!(is_errno(&refusal, Errno::EEXIST));
        assert!(acknowledgement(&0i32.to_ne_bytes()).is_ok());
        assert!(acknowledgement(&i32::MIN.to_ne_bytes()).is_err());
        assert!(acknowledgement(&[1, 2]).is_err());
    }
}
