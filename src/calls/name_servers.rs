//! Asking name servers ourselves (RFC 1035, over UDP), where the system's resolver has no answer: in its jail it keeps
//! the list of servers that was there when the jail was made, and it fails as a whole where a server refuses one of
//! its two questions.

use futures_util::future::{join, join_all};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// What lists the servers; netifd puts a new file in the place of the second whenever an uplink changes.
const LISTS: [&str; 2] = ["/etc/resolv.conf", "/tmp/resolv.conf.d/resolv.conf.auto"];
/// The router's own, if it is not listed.
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PORT: u16 = 53;
const MAX_SERVERS: usize = 6;
/// Of one host; more are not tried.
pub(super) const MAX_ADDRESSES: usize = 32;
const TRIES: usize = 2;
const PATIENCE: Duration = Duration::from_millis(1200);
const MAX_ANSWER: usize = 1500;
const HEAD: usize = 12;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;

/// The addresses of a host, of all servers that are listed now; empty where none knows it within 3 s.
pub async fn ask(host: &str) -> Vec<IpAddr> {
    let lists = LISTS.iter().filter_map(|list| std::fs::read_to_string(list).ok()).collect::<String>();
    ask_at(&servers(&lists), host).await
}

/// The addresses of a host as one server tells them; empty where it does not within 3 s.
pub async fn ask_one(server: IpAddr, host: &str) -> Vec<IpAddr> {
    ask_at(&[SocketAddr::new(server, PORT)], host).await
}

async fn ask_at(servers: &[SocketAddr], host: &str) -> Vec<IpAddr> {
    let answers = join_all(servers.iter().map(|server| async {
        let (v4, v6) = join(one(*server, host, TYPE_A), one(*server, host, TYPE_AAAA)).await;
        [v4.unwrap_or_default(), v6.unwrap_or_default()].concat()
    }));
    let mut found: Vec<IpAddr> = Vec::new();
    for address in answers.await.into_iter().flatten() {
        if !found.contains(&address) && found.len() < MAX_ADDRESSES {
            found.push(address);
        }
    }
    found
}

/// The servers of `nameserver` lines, and the router's own.
fn servers(lists: &str) -> Vec<SocketAddr> {
    let listed = lists.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok());
    let mut servers: Vec<IpAddr> = Vec::new();
    for server in listed.take(MAX_SERVERS).chain([OWN]) {
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers.into_iter().map(|server| SocketAddr::new(server, PORT)).collect()
}

/// One question to one server.
async fn one(server: SocketAddr, host: &str, kind: u16) -> io::Result<Vec<IpAddr>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let question = question(id, host, kind).ok_or(io::ErrorKind::InvalidInput)?;
    for _ in 0..TRIES {
        socket.send(&question).await?;
        let answered = timeout(PATIENCE, async {
            let mut buffer = [0; MAX_ANSWER];
            loop {
                let length = socket.recv(&mut buffer).await?;
                // What answers another question is passed over.
                if let Some(found) = buffer.get(..length).and_then(|answer| addresses(answer, id, kind)) {
                    return Ok(found);
                }
            }
        });
        if let Ok(answer) = answered.await {
            return answer;
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// `None` if the name cannot be one.
fn question(id: [u8; 2], host: &str, kind: u16) -> Option<Vec<u8>> {
    let mut message = id.to_vec();
    // A standard query that wants recursion, with one question.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let host = host.strip_suffix('.').unwrap_or(host);
    for label in host.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        message.push(length);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    (host.len() <= 253).then_some(message)
}

/// The addresses in an answer to this question; `None` if it answers another one or cannot be read. A refusal has no
/// addresses.
fn addresses(answer: &[u8], id: [u8; 2], kind: u16) -> Option<Vec<IpAddr>> {
    let is_answer = answer.get(2)? & 0x80 != 0;
    if answer.get(..2)? != id || !is_answer {
        return None;
    }
    let mut rest = answer.get(HEAD..)?;
    for _ in 0..number(answer, 4)? {
        rest = after_name(rest)?.get(4..)?;
    }
    let mut found = Vec::new();
    for _ in 0..number(answer, 6)? {
        let record = after_name(rest)?;
        let data = record.get(10..)?.get(..usize::from(number(record, 8)?))?;
        if number(record, 0)? == kind && number(record, 2)? == CLASS_IN {
            if let Ok(octets) = <[u8; 4]>::try_from(data) {
                found.push(IpAddr::from(octets));
            } else if let Ok(octets) = <[u8; 16]>::try_from(data) {
                found.push(IpAddr::from(octets));
            }
        }
        rest = record.get(10_usize.saturating_add(data.len())..)?;
    }
    Some(found)
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at.saturating_add(1))?]))
}

/// What follows a name, which may end in a pointer.
fn after_name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let length = *bytes.first()?;
        match length {
            0 => return bytes.get(1..),
            1..=63 => bytes = bytes.get(usize::from(length).saturating_add(1)..)?,
            192.. => return bytes.get(2..),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_those_of_all_lists_once_and_the_routers_own() {
        let lists = "# Interface wan\nnameserver 203.0.113.53\nsearch lan\nnameserver fe80::1%eth1\n\
                     nameserver 203.0.113.53\nnameserver 2001:db8::53\nnonsense\n";
        let expected: Vec<SocketAddr> = ["203.0.113.53:53", "[2001:db8::53]:53", "127.0.0.1:53"]
            .iter()
            .map(|s| s.parse().unwrap())
            .collect();
        assert_eq!(servers(lists), expected);
        assert_eq!(servers("nameserver 127.0.0.1\n").len(), 1);
    }

    #[test]
    fn names_that_cannot_be_are_not_asked_for() {
        for host in ["", "a..b", &"a".repeat(64), &"abc.".repeat(80)] {
            assert_eq!(question([0; 2], host, TYPE_A), None, "{host}");
        }
        assert_eq!(question([1, 2], "a.b.", TYPE_A).unwrap()[HEAD..], *b"\x01a\x01b\0\0\x01\0\x01");
    }

    #[test]
    fn no_cut_answer_is_read_past_its_end() {
        let whole = answer(&question([1, 2], "mint.example.com", TYPE_A).unwrap(), &[&[10, 0, 0, 1]]);
        assert_eq!(addresses(&whole, [1, 2], TYPE_A), Some(vec!["10.0.0.1".parse().unwrap()]));
        assert_eq!(addresses(&whole, [1, 3], TYPE_A), None, "to another question");
        for end in 0..whole.len() {
            assert_eq!(addresses(&whole[..end], [1, 2], TYPE_A), None, "{end}");
        }
    }

    /// An answer with records of the type that was asked for, behind an alias.
    fn answer(question: &[u8], found: &[&[u8]]) -> Vec<u8> {
        let mut message = question.to_vec();
        message[2] = 0x81;
        message[7] = u8::try_from(found.len()).unwrap() + 1;
        let kind = question[question.len() - 4..].to_vec();
        message.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x02\xc0\x0c");
        for data in found {
            message.extend(b"\xc0\x0c");
            message.extend(&kind);
            message.extend([0, 0, 0, 60, 0, u8::try_from(data.len()).unwrap()]);
            message.extend(*data);
        }
        message
    }

    #[tokio::test]
    async fn a_server_that_refuses_to_speak_of_ipv6_does_not_hide_ipv4() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = server.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 512];
            for _ in 0..2 {
                let (length, from) = server.recv_from(&mut buffer).await.unwrap();
                let question = &buffer[..length];
                let reply = match question[length - 3] {
                    1 => answer(question, &[&[192, 0, 2, 7]]),
                    _ => {
                        let mut refused = question.to_vec();
                        (refused[2], refused[3]) = (0x81, 5);
                        refused
                    }
                };
                server.send_to(&reply, from).await.unwrap();
            }
        });
        assert_eq!(ask_at(&[at], "mint.example.com").await, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        serving.await.unwrap();
    }
}
