//! A router, two guests and an internet, each in a network namespace of its own. Every test gets its own
//! four, in its own process and PID namespace, so tests run side by side and nothing outlives them. Without
//! root a user namespace does.

use pnet::datalink::{self, Channel, DataLinkSender, NetworkInterface};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tollgated::mac::MacAddr;
use tollgated::network::gate::{Gate, GatedVenue, Lease, NftGate, Plan, Quota, Station};
use tollgated::units::{Allotment, Millis};

const INSIDE: &str = "TOLLGATED_LAB";
const ROLE: &str = "TOLLGATED_LAB_ROLE";
/// Nothing on this machine takes as long, however busy it is.
pub const LONG: Duration = Duration::from_secs(60);
/// A transfer brings more than so many bytes between two looks, or stalls for less than this time, however busy the
/// machine is; what comes after its end is a few packets.
const FEW: u64 = 2_000;
const SILENCE: Duration = Duration::from_millis(1_500);

pub const BRIDGE: &str = "br-guest";
pub const INTERNET: [&str; 2] = ["198.51.100.80", "2001:db8:80::80"];
pub const MAC_1: &str = "02:00:00:00:00:11";
pub const MAC_2: &str = "02:00:00:00:00:12";

/// As the test program knows it.
pub fn test_name(module: &str, name: &str) -> String {
    let within = module.split_once("::").map_or(String::new(), |(_, within)| format!("{within}::"));
    within + name
}

/// Runs `body` as root of a router of its own. `test` is the calling test's name.
pub fn run(test: &str, body: fn(&Lab)) {
    if std::env::var_os(INSIDE).is_some() {
        return body(&Lab::new());
    }
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() || std::env::var_os("TOLLGATED_LAB_USER_NAMESPACE").is_some() {
        command.args(["--user", "--map-root-user"]);
    }
    let output = command
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .expect("unshare (util-linux) must be installed");
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "in the lab: {}\n{text}\n{complaint}",
        output.status
    );
}

pub struct Lab {
    pub internet: Namespace,
    pub guest: Namespace,
    pub other: Namespace,
    _server: Helper,
}

impl Lab {
    fn new() -> Lab {
        let (internet, guest, other) = (Namespace::new(), Namespace::new(), Namespace::new());
        sh("ip link set lo up");
        sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0");
        // As on OpenWrt: what stays within the bridge is no business of the firewall.
        sh("for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 >$f; done");
        sh(&format!("ip link add {BRIDGE} type bridge && ip link set {BRIDGE} address 02:00:00:00:01:01 up"));
        sh(&format!("ip addr add 192.168.77.1/24 dev {BRIDGE} && ip addr add fd77::1/64 dev {BRIDGE} nodad"));
        sh(&format!(
            "ip link add wan type veth peer name eth0 netns {} && ip link set wan up",
            internet.pid()
        ));
        sh("ip addr add 203.0.113.2/24 dev wan && ip addr add 2001:db8::2/64 dev wan nodad");
        internet.sh("sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.eth0.accept_dad=0 && ip link set lo up && ip link set eth0 up");
        internet.sh("ip addr add 203.0.113.1/24 dev eth0 && ip addr add 2001:db8::1/64 dev eth0 nodad");
        internet.sh("ip addr add 198.51.100.80/32 dev lo && ip addr add 2001:db8:80::80/128 dev lo nodad");
        internet.sh("ip -6 route add fd77::/64 via 2001:db8::2");
        sh("ip route add default via 203.0.113.1 && ip -6 route add default via 2001:db8::1");
        for (namespace, number, mac) in [(&guest, 11, MAC_1), (&other, 12, MAC_2)] {
            let pid = namespace.pid();
            sh(&format!("ip link add lan{number} type veth peer name eth0 netns {pid}"));
            sh(&format!("ip link set lan{number} master {BRIDGE} up"));
            namespace.sh("sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.eth0.accept_dad=0 && ip link set lo up");
            namespace.sh(&format!("ip link set eth0 address {mac} && ip link set eth0 up"));
            namespace.sh(&format!(
                "ip addr add 192.168.77.{number}/24 dev eth0 && ip addr add fd77::{number}/64 dev eth0 nodad"
            ));
            namespace.sh("ip route add default via 192.168.77.1 && ip -6 route add default via fd77::1");
        }
        internet.sh(
            "nft 'add table inet watch; add chain inet watch w { type filter hook input priority 0; }; \
             add counter inet watch arrived; add rule inet watch w meta l4proto { tcp, udp } counter name arrived'",
        );
        firewall();
        let server = internet.helper("serve");
        for port in [2121, 2122, 2123] {
            let listener = TcpListener::bind(("::", port)).unwrap();
            std::thread::spawn(move || answer(listener, "portal"));
        }
        let lab = Lab { internet, guest, other, _server: server };
        // The links are up when a guest reaches the router on both families.
        for address in ["192.168.77.1", "fd77::1"] {
            for namespace in [&lab.guest, &lab.other] {
                wait("the guest's link", || namespace.get(address, 2121) == Got::Text("portal".to_owned()));
            }
        }
        lab
    }

    /// TCP and UDP packets that reached the internet so far.
    pub fn arrived(&self) -> u64 {
        let text = self.internet.sh("nft list counter inet watch arrived");
        text.split_whitespace().skip_while(|word| *word != "packets").nth(1).unwrap().parse().unwrap()
    }
}

/// What fw4 does: forward nothing but what carries our mark and its answers; masquerade IPv4.
pub fn firewall() {
    sh("nft 'add table inet fw4; add chain inet fw4 forward { type filter hook forward priority filter; policy drop; }; \
        add rule inet fw4 forward ct state established,related accept; \
        add rule inet fw4 forward meta mark & 0x08000000 == 0x08000000 accept'");
    nat();
}

pub fn nat() {
    sh("nft 'add table inet nat; add chain inet nat post { type nat hook postrouting priority srcnat; }; \
        add rule inet nat post oifname wan meta nfproto ipv4 masquerade'");
}

pub fn plan() -> Plan {
    Plan {
        venues: vec![venue(&[BRIDGE], &[])],
        uplinks: vec!["wan".to_owned()],
        portal_port: 2121,
        mint_proxy_port: 2122,
        redirect_port: 2123,
        tls_port: Some(2125),
        operators_ports: vec![2120],
        gives_grace: true,
        ..Plan::default()
    }
}

pub const VENUE: &str = "guest";

pub fn venue(devices: &[&str], trusted: &[&str]) -> GatedVenue {
    GatedVenue {
        name: VENUE.to_owned(),
        devices: devices.iter().map(|device| (*device).to_owned()).collect(),
        trusted: trusted.iter().map(|mac| mac.parse::<MacAddr>().unwrap()).collect(),
        ..GatedVenue::default()
    }
}

pub fn station(mac: &str) -> Station {
    Station { mac: mac.parse().unwrap(), venue: VENUE.to_owned() }
}

pub fn gate() -> NftGate {
    let mut gate = NftGate::new();
    gate.load(&plan(), &[]).unwrap();
    gate
}

pub fn lease(mac: &str, millis: u64) -> Lease {
    let Station { mac, venue } = station(mac);
    Lease { mac, venue, remaining: Millis(millis), quota: None, is_slow: false }
}

/// For a day, and for so many bytes of the session with this number.
pub fn bytes(mac: &str, session: u64, allotment: u64, used: u64) -> Lease {
    let quota = Quota { session, allotment: Allotment(allotment), used: Allotment(used) };
    Lease { quota: Some(quota), ..lease(mac, 86_400_000) }
}

/// A network namespace, alive as long as the process in it.
pub struct Namespace(Child);

impl Namespace {
    pub fn new() -> Namespace {
        let child = Command::new("unshare").args(["--net", "sleep", "infinity"]).spawn().unwrap();
        let namespace = Namespace(child);
        let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
        let path = format!("/proc/{}/ns/net", namespace.pid());
        wait("a namespace", || std::fs::read_link(&path).is_ok_and(|theirs| theirs != ours));
        namespace
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.pid().to_string(), program]);
        command
    }

    pub fn sh(&self, script: &str) -> String {
        output(self.command("sh").args(["-ec", script]), script)
    }

    pub fn helper(&self, role: &str) -> Helper {
        let exe = std::env::current_exe().unwrap();
        Helper::start(self.command(exe.to_str().unwrap()), role)
    }

    /// Connects and reads one line.
    pub fn get(&self, address: &str, port: u16) -> Got {
        Got::said(&self.helper(&format!("get {address} {port}")).said)
    }

    /// How many of `count` connections at once failed, and how long the slowest took.
    pub fn burst(&self, address: &str, port: u16, count: usize) -> (usize, Duration) {
        let said = self.helper(&format!("burst {address} {port} {count}")).said.clone();
        let (failed, millis) = said.split_once(' ').unwrap();
        (failed.parse().unwrap(), Duration::from_millis(millis.parse().unwrap()))
    }

    /// Sends one datagram and waits for the echo.
    pub fn datagram(&self, address: &str, port: u16) -> Got {
        Got::said(&self.helper(&format!("datagram {address} {port}")).said)
    }

    /// When the transfer to here came to its end: not before the first, not after the second. It is watched at least
    /// until `until`, because it may stall for a moment and go on.
    pub fn end_of_transfer(&self, until: Instant) -> (Instant, Instant) {
        let started = Instant::now();
        let (mut before, mut asked, mut end) = (self.received(), started, (started, started));
        while asked < until || end.1.elapsed() < SILENCE {
            assert!(asked - started < LONG, "the transfer goes on");
            std::thread::sleep(Duration::from_millis(50));
            let (since, now) = (asked, Instant::now());
            let received = self.received();
            if received - before >= FEW {
                end = (since, Instant::now());
            }
            (before, asked) = (received, now);
        }
        end
    }

    /// Bytes that arrived on the guest's link.
    pub fn received(&self) -> u64 {
        let text = self.sh("grep eth0 /proc/net/dev");
        text.split(':').nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Debug, PartialEq)]
pub enum Got {
    Text(String),
    /// An error, after so long.
    Refused(Duration),
    /// No answer at all.
    Silence,
}

impl Got {
    /// The first packet was answered, or on a busy machine that lost it the second, which goes out after a second.
    pub fn is_refused_at_once(&self) -> bool {
        self.is_refused_within(Duration::from_secs(3))
    }

    pub fn is_refused_within(&self, limit: Duration) -> bool {
        matches!(self, Got::Refused(after) if *after < limit)
    }

    fn said(text: &str) -> Got {
        match text.split_once(' ').unwrap() {
            ("text", text) => Got::Text(text.to_owned()),
            ("refused", millis) => Got::Refused(Duration::from_millis(millis.parse().unwrap())),
            _ => Got::Silence,
        }
    }
}

/// The same in the router's own namespace.
pub fn on_the_router(role: &str) -> Helper {
    Helper::start(Command::new(std::env::current_exe().unwrap()), role)
}

/// A process of this same program in another namespace.
pub struct Helper {
    child: Child,
    pub said: String,
}

impl Helper {
    fn start(mut command: Command, role: &str) -> Helper {
        let mut child = command
            .args(["--exact", "helper", "--ignored", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("> ").map(|l| l.1.to_owned()));
        Helper { child, said: said.unwrap_or_else(|| panic!("the helper said nothing: {role}")) }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a helper does; the body of the test `helper`.
pub fn play_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let words: Vec<&str> = role.split(' ').collect();
    let target = || SocketAddr::new(words[1].parse::<IpAddr>().unwrap(), words[2].parse().unwrap());
    match words[0] {
        "serve" => serve(),
        "get" => say(&connect(target())),
        "burst" => {
            let count = words[3].parse().unwrap();
            let started = Instant::now();
            let threads: Vec<_> = (0..count)
                .map(|_| {
                    let t = target();
                    std::thread::spawn(move || connect(t))
                })
                .collect();
            let failed = threads
                .into_iter()
                .map(|t| t.join().unwrap())
                .filter(|said| !said.starts_with("text"))
                .count();
            say(&format!("{failed} {}", started.elapsed().as_millis()));
        }
        "datagram" => say(&datagram(target())),
        // Datagrams of a thousand bytes from an address, true or not, without end.
        "flood" => {
            let socket = UdpSocket::bind((words[3].parse::<IpAddr>().unwrap(), 0)).unwrap();
            say("running");
            loop {
                // What is refused is told to the next call.
                let _ = socket.send_to(&[b'x'; 1000], target());
            }
        }
        // A resolver that answers every question: by UDP with this number of bytes, and by TCP.
        "resolver" => resolver(words[1].parse().unwrap()),
        // Questions by UDP, each from a port of its own; how many were answered.
        "ask" => {
            let count: usize = words[3].parse().unwrap();
            let sockets: Vec<UdpSocket> = (0..count)
                .map(|_| UdpSocket::bind(if target().is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap())
                .collect();
            sockets.iter().for_each(|socket| drop(socket.send_to(&[b'?'; 40], target())));
            let is_answered = |socket: &&UdpSocket| {
                socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                socket.recv(&mut [0; 2000]).is_ok()
            };
            let mut answered = 0;
            for socket in &sockets {
                match is_answered(&socket) {
                    true => answered += 1,
                    false => break,
                }
            }
            say(&answered.to_string());
        }
        // Questions without end, by UDP and by TCP side by side.
        "tunnel" => {
            say("running");
            let socket = UdpSocket::bind(if target().is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
            let by_tcp = || loop {
                let Ok(mut stream) = TcpStream::connect_timeout(&target(), Duration::from_secs(1)) else {
                    continue;
                };
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                let mut buffer = [0; 65536];
                while stream.write_all(&[b'?'; 40]).is_ok()
                    && stream.read(&mut buffer).is_ok_and(|length| length > 0)
                {}
            };
            std::thread::scope(|scope| {
                scope.spawn(by_tcp);
                scope.spawn(by_tcp);
                loop {
                    let _ = socket.send_to(&[b'?'; 200], target());
                    std::thread::sleep(Duration::from_micros(300));
                }
            });
        }
        // An Ethernet frame, so many times.
        "frames" => {
            let octet = |at| u8::from_str_radix(&words[1][at..at + 2], 16).unwrap();
            let frame: Vec<u8> = (0..words[1].len()).step_by(2).map(octet).collect();
            let mut sender = card();
            for _ in 0..words[2].parse().unwrap() {
                sender.send_to(&frame, None).unwrap().unwrap();
            }
            say("sent");
        }
        "answer" => {
            let listener = TcpListener::bind(("::", words[1].parse().unwrap())).unwrap();
            say("ready");
            answer(listener, words[2]);
        }
        "download" => {
            let mut stream = TcpStream::connect_timeout(&target(), LONG).unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            stream.read_exact(&mut [0; 65536]).unwrap();
            say("running");
            let mut buffer = vec![0; 65536];
            while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
        }
        // One datagram asks for a flow of them, which then goes on by itself.
        "listen" => {
            let socket = UdpSocket::bind(if target().is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
            socket.connect(target()).unwrap();
            socket.send(b"flow").unwrap();
            socket.set_read_timeout(Some(LONG)).unwrap();
            socket.recv(&mut [0; 2000]).unwrap();
            say("running");
            std::thread::sleep(Duration::from_secs(600));
        }
        other => panic!("no such role: {other}"),
    }
}

/// Sends through the guest's card, past its network stack.
fn card() -> Box<dyn DataLinkSender> {
    let index = nix::net::if_::if_nametoindex("eth0").unwrap();
    let interface = NetworkInterface {
        name: "eth0".to_owned(),
        description: String::new(),
        index,
        mac: None,
        ips: Vec::new(),
        flags: 0,
    };
    match datalink::channel(&interface, datalink::Config::default()).unwrap() {
        Channel::Ethernet(sender, _) => sender,
        _ => panic!("eth0 is no Ethernet"),
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "> {text}").unwrap();
    out.flush().unwrap();
}

fn connect(target: SocketAddr) -> String {
    let started = Instant::now();
    let mut text = String::new();
    let outcome = TcpStream::connect_timeout(&target, Duration::from_secs(5)).and_then(|stream| {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        BufReader::new(stream).read_line(&mut text)
    });
    match outcome {
        Ok(length) if length > 0 => format!("text {}", text.trim()),
        outcome => nothing(outcome.err(), started),
    }
}

fn nothing(error: Option<std::io::Error>, started: Instant) -> String {
    let is_silence =
        error.is_some_and(|error| matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock));
    format!("{} {}", if is_silence { "silence" } else { "refused" }, started.elapsed().as_millis())
}

fn datagram(target: SocketAddr) -> String {
    let socket = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
    socket.connect(target).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let started = Instant::now();
    let mut buffer = [0; 100];
    match socket.send(b"echo").and_then(|_| socket.recv(&mut buffer)) {
        Ok(length) => format!("text {}", String::from_utf8_lossy(&buffer[..length])),
        Err(error) => nothing(Some(error), started),
    }
}

fn resolver(length: usize) {
    let socket = UdpSocket::bind("[::]:53").unwrap();
    let listener = TcpListener::bind("[::]:53").unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 2000];
                while stream.read(&mut buffer).is_ok_and(|length| length > 0)
                    && stream.write_all(&[b'!'; 60_000]).is_ok()
                {}
            });
        }
    });
    say("ready");
    let mut buffer = [0; 2000];
    loop {
        if let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&vec![b'!'; length], from);
        }
    }
}

fn serve() {
    for port in [80, 443] {
        let listener = TcpListener::bind(("::", port)).unwrap();
        std::thread::spawn(move || answer(listener, "internet"));
    }
    let endless = TcpListener::bind("[::]:9000").unwrap();
    std::thread::spawn(move || {
        for stream in endless.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || while stream.write_all(&[b'x'; 16384]).is_ok() {});
        }
    });
    // Bound to its address: an answer from another one would not be an answer.
    let sockets = INTERNET.map(|address| UdpSocket::bind((address, 443)).unwrap());
    let threads = sockets.map(|socket| std::thread::spawn(move || echo(&socket)));
    say("ready");
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Echoes, and answers `flow` with datagrams without end.
fn echo(socket: &UdpSocket) {
    let mut buffer = [0; 2000];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        if &buffer[..length] != b"flow" {
            let _ = socket.send_to(&buffer[..length], from);
            continue;
        }
        let socket = socket.try_clone().unwrap();
        std::thread::spawn(move || loop {
            let _ = socket.send_to(&[b'x'; 1000], from);
            std::thread::sleep(Duration::from_millis(5));
        });
    }
}

fn answer(listener: TcpListener, text: &str) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.write_all(b"\n"));
    }
}

/// Runs a script in the router.
pub fn sh(script: &str) -> String {
    output(Command::new("sh").args(["-ec", script]), script)
}

fn output(command: &mut Command, script: &str) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{script}: {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {}\n{complaint}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until it is so.
pub fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < LONG, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
