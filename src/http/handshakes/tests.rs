use super::*;
use crate::calls::Tls;
use crate::certificate::OwnCertificate;
use crate::clock::Clock;
use crate::config::TlsConfig;
use crate::http::crowd::Budget;
use rustls::pki_types::ServerName;
use std::net::IpAddr;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;

const KIB: usize = 1024;

fn vector(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/tls").join(name)
}

fn server() -> Arc<ServerConfig> {
    let tls = TlsConfig {
        name: "wifi.example.net".to_owned(),
        cert_file: vector("p256.crt"),
        key_file: vector("p256.key"),
        port: 2125,
        listen: "127.0.0.1:2126".parse().unwrap(),
        admin_listen: "127.0.0.1:2127".parse().unwrap(),
    };
    let certificate = OwnCertificate::default();
    certificate.tend(Some(&tls), &Clock::machine());
    certificate.server().unwrap()
}

/// The two ends of a connection.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ours, theirs) = tokio::join!(
        async { listener.accept().await.unwrap().0 },
        TcpStream::connect(listener.local_addr().unwrap())
    );
    (ours, theirs.unwrap())
}

fn crowd(kib: usize) -> Crowd {
    Crowd::new(Budget { bytes: kib * KIB, connections: 100 }, Arc::default(), Vec::new)
}

fn place(crowd: &Crowd) -> Arc<ConnectionPlace> {
    Arc::new(crowd.admit(ConnectionHolder::Address(IpAddr::from([192, 0, 2, 1])), 100, KIB).unwrap())
}

/// Both ends after the handshake, with this much room for all connections.
async fn shaken(kib: usize) -> (Wire, tokio_rustls::client::TlsStream<TcpStream>) {
    let (ours, theirs) = connection().await;
    let (crowd, handshakes) = (crowd(kib), Handshakes::default());
    let place = place(&crowd);
    let ca = std::fs::read(vector("ca.crt")).unwrap();
    let client = TlsConnector::from(Tls::new(Some(&ca)).unwrap().config());
    let name = ServerName::try_from("wifi.example.net").unwrap();
    let (wire, stream) =
        tokio::join!(handshakes.shake(ours, server(), &crowd, &place, KIB), client.connect(name, theirs));
    assert_eq!(handshakes.under_way().len(), 0, "it is over");
    (wire.unwrap(), stream.unwrap())
}

#[tokio::test]
async fn what_comes_is_what_was_sent_in_both_directions() {
    let (mut wire, mut client) = shaken(1024).await;
    let sent: Vec<u8> = (0..100_000u32).map(|number| (number % 251) as u8).collect();
    let echo = tokio::spawn(async move {
        let mut came = vec![0; 100_000];
        wire.read_exact(&mut came).await.unwrap();
        wire.write_all(&came).await.unwrap();
        wire.shutdown().await.unwrap();
    });
    let mut back = Vec::new();
    let (mut reading, mut writing) = tokio::io::split(&mut client);
    let (read, written) = tokio::join!(reading.read_to_end(&mut back), writing.write_all(&sent));
    read.unwrap();
    written.unwrap();
    assert!(back == sent);
    echo.await.unwrap();
}

#[tokio::test]
async fn a_record_that_is_not_whole_needs_room() {
    for (kib, has_room) in [(32, false), (64, true)] {
        let (mut wire, client) = shaken(kib).await;
        let (mut tcp, mut session) = client.into_inner();
        std::io::Write::write_all(&mut session.writer(), &[7; 16 * KIB]).unwrap();
        let mut record = Vec::new();
        session.write_tls(&mut record).unwrap();
        tcp.write_all(&record[..12 * KIB]).await.unwrap();
        let mut first = [0; 1];
        let waited = tokio::time::timeout(Duration::from_millis(200), wire.read(&mut first)).await;
        assert_eq!(waited.is_err(), has_room, "{kib} KiB");
        if has_room {
            tcp.write_all(&record[12 * KIB..]).await.unwrap();
            assert_eq!((wire.read(&mut first).await.unwrap(), first), (1, [7]));
        }
    }
}

#[tokio::test]
async fn what_is_no_handshake_is_let_go() {
    // The beginning of a message that would take 64 kB.
    let mut long = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0];
    long.resize(24 * KIB, 0);
    for sent in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        &[0; 64],
        &[0xff; 2 * KIB],
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        &long,
    ] {
        let (ours, mut theirs) = connection().await;
        let crowd = crowd(1024);
        let place = place(&crowd);
        theirs.write_all(sent).await.unwrap();
        let handshakes = Handshakes::default();
        let shake = handshakes.shake(ours, server(), &crowd, &place, KIB);
        let shaken = tokio::time::timeout(Duration::from_secs(5), shake).await;
        assert!(matches!(shaken, Ok(None)), "{:?}", &sent[..5]);
    }
}

#[tokio::test]
async fn a_station_has_a_few_handshakes_under_way_and_others_have_theirs() {
    let handshakes = Handshakes::default();
    let [one, other] = [1, 2].map(|number| ConnectionHolder::Address(IpAddr::from([192, 0, 2, number])));
    let mut under_way: Vec<_> = (0..AT_ONCE).map(|_| handshakes.begin(one).unwrap()).collect();
    assert!(handshakes.begin(one).is_none() && handshakes.begin(other).is_some());
    under_way.pop();
    assert!(handshakes.begin(one).is_some());
}

#[tokio::test]
async fn a_lane_works_at_once_what_comes_at_once_and_then_its_share_of_the_time() {
    let piece = Duration::from_millis(10);
    let mut fews = Vec::new();
    // A busy machine may stretch the pieces themselves.
    while fews.last().is_none_or(|few| *few >= AHEAD) {
        assert!(fews.len() < 20, "{fews:?}");
        let lane = Lane::default();
        let begun = Instant::now();
        for _ in 0..3 {
            lane.take_turn(async { tokio::time::sleep(piece).await }).await;
        }
        fews.push(begun.elapsed());
        for _ in 0..22 {
            lane.take_turn(async { tokio::time::sleep(piece).await }).await;
        }
        let all = begun.elapsed();
        assert!(all >= 24 * piece * SHARE - AHEAD, "{all:?}");
    }
}
