//! What devices call themselves: the leases that dnsmasq, the router's DHCP server, has given out.
//!
//! A device says what it likes. What is no plain host name is left out.

use crate::config::uci;
use crate::mac::MacAddr;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Where OpenWrt has dnsmasq keep them, unless `/etc/config/dhcp` says otherwise.
const DEFAULT_PATH: &str = "/tmp/dhcp.leases";
/// More than this is not read (bytes).
const MOST: u64 = 1024 * 1024;
const LONGEST_NAME: usize = 63;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhcpLease {
    pub mac: MacAddr,
    pub address: IpAddr,
    pub name: Option<String>,
}

/// The leases of the router whose configuration is in `dir`; none where they cannot be read.
pub fn known(dir: &Path) -> Vec<DhcpLease> {
    text_of(&path(dir)).lines().filter_map(lease).collect()
}

fn path(dir: &Path) -> PathBuf {
    let file = uci::parse_large(text_of(&dir.join("dhcp")).as_bytes()).unwrap_or_default();
    let options = file.sections.iter().filter(|section| section.kind == "dnsmasq").flat_map(|s| &s.options);
    let named = options.filter(|option| option.name == "leasefile").find_map(|option| match &option.value {
        uci::Value::One(item) => Some(PathBuf::from(&item.text)),
        uci::Value::List(_) => None,
    });
    named.unwrap_or_else(|| PathBuf::from(DEFAULT_PATH))
}

fn text_of(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
    read.map(|_| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// `1700000000 02:00:00:00:00:01 192.168.1.20 annas-phone *`; leases of IPv6 begin otherwise.
fn lease(line: &str) -> Option<DhcpLease> {
    let mut words = line.split_whitespace().skip(1);
    let (mac, address) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let is_plain = |name: &&str| {
        name.len() <= LONGEST_NAME
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    Some(DhcpLease { mac, address, name: words.next().filter(is_plain).map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_read_and_a_name_that_is_none_is_left_out() {
        let name = |word: &str| {
            lease(&format!("1700000000 02:00:00:00:00:01 192.168.1.20 {word} 01:02")).unwrap().name
        };
        assert_eq!(name("annas-phone"), Some("annas-phone".to_owned()));
        for bad in ["*", "a\x1b[2J", "a'b", &"x".repeat(64)] {
            assert_eq!(name(bad), None, "{bad:?}");
        }
        for other in
            ["", "duid 00:01:00:01", "1700000000 4660 fd77::b phone 00:01", "1700000000 02:00:00:00:00:01"]
        {
            assert_eq!(lease(other), None, "{other}");
        }
    }

    #[test]
    fn the_file_is_where_the_dhcp_configuration_says() {
        let dir = crate::folder::fresh_folder();
        assert_eq!(path(&dir), Path::new(DEFAULT_PATH));
        let leases = dir.join("leases");
        let config = format!("config dnsmasq\n\toption leasefile '{}'\n", leases.display());
        std::fs::write(dir.join("dhcp"), config).unwrap();
        assert_eq!(known(&dir), []);
        std::fs::write(
            &leases,
            "1 02:00:00:00:00:01 192.168.1.20 a *\n1 02:00:00:00:00:02 192.168.1.21 * *\n",
        )
        .unwrap();
        let found: Vec<_> = known(&dir).into_iter().map(|lease| lease.name).collect();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(found, [Some("a".to_owned()), None]);
    }
}
