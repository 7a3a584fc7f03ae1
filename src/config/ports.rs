//! Every listener has a port of its own.

use super::fields::position_of;
use super::problem::Problems;
use super::schema::{CARD, GRPC, MAIN, TLS};
use super::uci::UciFile;
use super::{Card, GrpcConfig, Main, TlsConfig};

/// A listener's port, and the option that it is from.
struct Port {
    section: &'static str,
    option: &'static str,
    number: u16,
}

pub fn differ(
    file: &UciFile,
    main: &Main,
    card: Option<&Card>,
    (tls, grpc): (Option<&TlsConfig>, Option<&GrpcConfig>),
    problems: &mut Problems,
) {
    let mut ports = ports(main, card, tls);
    let of_grpc = |grpc: &GrpcConfig| Port { section: GRPC, option: "listen", number: grpc.listen.port() };
    ports.extend(grpc.map(of_grpc));
    let is_set = |port: &Port| {
        file.of_kind(port.section).next().is_some_and(|found| found.option(port.option).is_some())
    };
    for (number, port) in ports.iter().enumerate() {
        let Some(earlier) = ports.iter().take(number).find(|other| other.number == port.number) else {
            continue;
        };
        // The option that is in the file is the one to change.
        let (culprit, other) = if is_set(port) { (port, earlier) } else { (earlier, port) };
        let of = match culprit.section == other.section {
            true => String::new(),
            false => format!(" of {}", other.section),
        };
        let position = position_of(file.of_kind(culprit.section).next(), culprit.option);
        problems.error(position, format!("has the same port as '{}'{of}: choose another", other.option));
    }
}

fn ports(main: &Main, card: Option<&Card>, tls: Option<&TlsConfig>) -> Vec<Port> {
    let of_main = |option, number| Port { section: MAIN, option, number };
    let mut ports = vec![
        of_main("port", main.port),
        of_main("mint_proxy_port", main.mint_proxy_port),
        of_main("redirect_port", main.redirect_port),
        of_main("admin_listen", main.admin_listen.port()),
    ];
    ports.push(match card.and_then(|card| card.listen) {
        Some(listen) => Port { section: CARD, option: "listen", number: listen.port() },
        None => of_main("public_listen", main.public_listen.port()),
    });
    if let Some(tls) = tls {
        let of_tls = |option, number| Port { section: TLS, option, number };
        ports.extend([
            of_tls("port", tls.port),
            of_tls("listen", tls.listen.port()),
            of_tls("admin_listen", tls.admin_listen.port()),
        ]);
    }
    ports
}
