//! Where a request comes in, and what is found out about a guest who sends one.

use super::origin::AskedAt;
use crate::config::{Config, Venue};
use crate::form::pairs;
use crate::network::devices;
use crate::network::neighbours::Caller;
use crate::pasted::after;
use crate::portal::Lang;
use hyper::header::{self, HeaderMap};
use std::net::IpAddr;
use std::sync::Arc;

/// The audience of a socket, which decides its routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audience {
    /// A guest on a gated device: the portal and everything below it.
    Guest,
    /// Programs that speak the TollGate protocol: those of guests at the guests' port, and those on the router that
    /// ask for guests, at the same port of loopback.
    TollGate,
    /// A guest at the mint proxy's own port.
    MintProxy,
    /// What nft has redirected from port 80: it is shown the way to the portal.
    Redirected,
    /// What is asked from anywhere, through a tunnel, a proxy or an onion service: tills, programmer apps.
    Public,
    /// The operator's machine.
    Admin,
}

#[cfg(test)]
impl Audience {
    /// As the tables call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Audience::Guest => "guest",
            Audience::TollGate => "tollgate",
            Audience::MintProxy => "mint_proxy",
            Audience::Redirected => "redirected",
            Audience::Public => "public",
            Audience::Admin => "admin",
        }
    }
}

/// The socket that a request came to, and the addresses at the two ends of its connection.
#[derive(Clone, Debug)]
pub struct Entrance {
    pub audience: Audience,
    pub is_tls: bool,
    /// The device that the socket is bound to.
    pub device: Option<Arc<str>>,
    pub peer: IpAddr,
    /// The address that was asked.
    pub local: Option<IpAddr>,
}

/// A guest's request with everything that was found out about it.
pub struct Visit {
    pub config: Arc<Config>,
    pub venue: Venue,
    pub caller: Caller,
    pub is_tls: bool,
    /// The address that was asked.
    pub local: Option<IpAddr>,
    pub headers: HeaderMap,
    pub query: Vec<(String, String)>,
    /// The language that the guest has chosen earlier.
    pub remembered: Option<Lang>,
}

impl Entrance {
    /// The device; if it is not known, an empty name, which no device has.
    pub fn device(&self) -> &str {
        self.device.as_deref().unwrap_or_default()
    }

    pub fn asked_at<'a>(&'a self, config: &'a Config) -> AskedAt<'a> {
        let names = config.names_at(config.venue_of_device(self.device()));
        AskedAt { device: self.device(), local: self.local, names }
    }
}

impl Visit {
    pub fn asked_at(&self) -> AskedAt<'_> {
        let names = self.config.names_at(Some(&self.venue));
        AskedAt { device: &self.caller.device, local: self.local, names }
    }

    /// The address of the portal for this guest: over https by the certificate's name, else the router's address.
    /// `local`: the one that was asked, if that is best.
    pub fn home(&self, local: Option<IpAddr>) -> Option<String> {
        match self.config.tls.as_ref().filter(|_| self.is_tls) {
            Some(tls) => Some(format!("{}/", tls.origin())),
            None => own_address(&self.caller.device, local, self.caller.address)
                .map(|own| with_host(own, self.config.main.port)),
        }
    }

    /// The same request, asked by the fields of a form.
    pub fn with_form(self, form: &str) -> Visit {
        Visit { query: pairs(form), ..self }
    }

    /// The first field of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        field(&self.query, name)
    }

    /// The first field of that name that is not empty.
    pub fn filled(&self, name: &str) -> Option<&str> {
        let is_it = |(n, value): &&(String, String)| n == name && !value.is_empty();
        self.query.iter().find(is_it).map(|(_, value)| value.as_str())
    }

    /// The language that this request asks for.
    pub fn lang(&self) -> Option<Lang> {
        self.filled("lang").and_then(Lang::from_tag)
    }
}

/// The first field of that name.
pub fn field<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// Whether the body is what a browser makes of a form.
pub fn is_form(headers: &HeaderMap) -> bool {
    is_of_type(headers, "application/x-www-form-urlencoded")
}

/// Whether the body says that it is JSON.
pub fn is_json(headers: &HeaderMap) -> bool {
    is_of_type(headers, "application/json")
}

fn is_of_type(headers: &HeaderMap, name: &str) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    after(kind, name).is_some()
}

/// Whether a page is asked for.
pub fn accepts_page(headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accepts.is_some_and(|accept| accept.contains("text/html"))
}

/// The address that a guest best reaches us by: the one it has used, or one of its family.
pub fn own_address(device: &str, local: Option<IpAddr>, peer: IpAddr) -> Option<IpAddr> {
    let own = devices::addresses(device).unwrap_or_default();
    // A link-local address would need the zone that only the guest's own system knows.
    let usable = |address: &&IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => !devices::is_link_local(v6),
    };
    local
        .filter(|local| own.contains(local))
        .filter(|local| usable(&local))
        .or_else(|| own.iter().filter(usable).find(|address| address.is_ipv4() == peer.is_ipv4()).copied())
        .or_else(|| own.iter().find(usable).copied())
}

/// The portal under this address.
pub fn with_host(address: IpAddr, port: u16) -> String {
    match address {
        IpAddr::V4(v4) => format!("http://{v4}:{port}/"),
        IpAddr::V6(v6) => format!("http://[{v6}]:{port}/"),
    }
}
