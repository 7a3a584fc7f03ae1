//! The listening sockets: one per gated device and port, bound to the device, v4 and v6 in one.
//!
//! A socket bound to its device hears only that device, with any address and after every change of address. A device
//! that is not there yet is tried again; one that was made anew is bound anew.

use super::connections;
use super::entrance::Audience;
use super::listening::wanted;
use super::Edge;
use crate::config::Config;
use crate::network::devices;
use crate::task;
use litemap::LiteMap;
use nix::sys::socket::{self, sockopt, AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6};
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One socket that should be there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WantedListener {
    audience: Audience,
    is_tls: bool,
    device: Option<Arc<str>>,
    address: SocketAddr,
}

impl WantedListener {
    /// Bound to a device, at every address of it.
    pub fn on_device(audience: Audience, is_tls: bool, device: &str, port: u16) -> WantedListener {
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        WantedListener { audience, is_tls, device: Some(device.into()), address }
    }

    pub fn at_address(audience: Audience, is_tls: bool, address: SocketAddr) -> WantedListener {
        WantedListener { audience, is_tls, device: None, address }
    }
}

/// The sockets that are there.
#[derive(Default)]
pub struct Listeners {
    running: LiteMap<WantedListener, Running>,
    complaints: LiteMap<WantedListener, String>,
}

struct Running {
    /// Changes when a device of the same name is made anew.
    device_index: Option<u32>,
    task: JoinHandle<()>,
}

impl Listeners {
    /// Opens what is missing and closes what is no longer wanted. Answers what could not be opened.
    pub fn reconcile(&mut self, edge: &Arc<Edge>, config: &Config) -> Vec<String> {
        let wanted = wanted(config, edge.site.certificate.server().is_some());
        self.running.retain(|spec, running| {
            let keep = wanted.contains(spec)
                && running.device_index == device_index(spec)
                && !running.task.is_finished();
            if !keep {
                running.task.abort();
            }
            keep
        });
        self.complaints.retain(|spec, _| wanted.contains(spec));
        for spec in &wanted {
            if self.running.contains_key(spec) {
                continue;
            }
            match open(spec) {
                Ok(listener) => {
                    let task = task::spawn(accept(listener, edge.clone(), spec.clone()));
                    self.running.insert(spec.clone(), Running { device_index: device_index(spec), task });
                    if self.complaints.remove(spec).is_some() {
                        log::info!("listening on {} now", describe(spec));
                    }
                }
                Err(err) => {
                    let complaint = format!("cannot listen on {}: {err}", describe(spec));
                    if self.complaints.insert(spec.clone(), complaint.clone()) != Some(complaint.clone()) {
                        log::warn!("{complaint}; trying again");
                    }
                }
            }
        }
        self.complaints.values().cloned().collect()
    }

    pub fn stop(&mut self) {
        for running in self.running.values() {
            running.task.abort();
        }
        self.running.clear();
    }
}

fn describe(spec: &WantedListener) -> String {
    match &spec.device {
        Some(device) => format!("port {} of {device}", spec.address.port()),
        None => spec.address.to_string(),
    }
}

fn device_index(spec: &WantedListener) -> Option<u32> {
    devices::find(spec.device.as_deref()?).ok().flatten().map(|device| device.index)
}

fn open(spec: &WantedListener) -> io::Result<TcpListener> {
    let device = spec.device.as_deref();
    match bind(spec.address, device) {
        // A kernel without IPv6 serves IPv4 guests only.
        Err(err)
            if device.is_some()
                && matches!(
                    err.raw_os_error(),
                    Some(libc_codes::EAFNOSUPPORT | libc_codes::EADDRNOTAVAIL)
                ) =>
        {
            bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, spec.address.port())), device)
        }
        result => result,
    }
}

/// The two error numbers that a kernel without IPv6 answers.
mod libc_codes {
    pub const EAFNOSUPPORT: i32 = nix::errno::Errno::EAFNOSUPPORT as i32;
    pub const EADDRNOTAVAIL: i32 = nix::errno::Errno::EADDRNOTAVAIL as i32;
}

pub fn bind(address: SocketAddr, device: Option<&str>) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd: OwnedFd = socket::socket(family, SockType::Stream, flags, None)?;
    socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if let Some(device) = device {
        socket::setsockopt(&fd, sockopt::BindToDevice, &OsString::from(device))?;
    }
    match address {
        SocketAddr::V6(v6) => {
            socket::setsockopt(&fd, sockopt::Ipv6V6Only, &device.is_none())?;
            socket::bind(fd.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(*v6.ip(), v6.port(), 0, 0)))?;
        }
        SocketAddr::V4(v4) => {
            socket::bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(*v4.ip(), v4.port())))?;
        }
    }
    // As many as the system allows: guests wait there among those who only knock.
    socket::listen(&fd, Backlog::MAXALLOWABLE)?;
    TcpListener::from_std(std::net::TcpListener::from(fd))
}

async fn accept(listener: TcpListener, edge: Arc<Edge>, spec: WantedListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                connections::serve(stream, peer, &edge, (spec.audience, spec.is_tls), spec.device.clone())
            }
            Err(err) => {
                // Out of descriptors or memory, most likely: others have to end first.
                log::debug!("accept: {err}");
                edge.crowd.close_one();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
