//! Logins as a whole, with a store and wallets that sign.

use super::jwt::JwtFault;
use super::*;
use crate::clock::Clock;
use crate::ecdsa::tests::sign_der;
use crate::folder::fresh_folder;
use crate::hex;
use crate::mac::MacAddr;
use crate::store::LoginAudience::{self, Admin, Client};
use crate::units::UnixSeconds;
use k256::elliptic_curve::sec1::ToSec1Point;
use k256::SecretKey;
use serde_json::Value;
use std::path::PathBuf;

const CONFIG: &str =
    "config tollgate 'main'\noption enabled '0'\nconfig auth\noption domain 'wifi.example.net'\n";
const NOW: u64 = 1_800_000_000;

/// It goes away with the test.
struct Folder(PathBuf);

struct Place {
    dir: Folder,
    clock: Clock,
    store: Store,
    auth: Auth,
    config: watch::Sender<Arc<Config>>,
}

impl Place {
    fn new() -> Place {
        let dir = Folder(fresh_folder());
        let clock = Clock::manual("boot", Millis::from_secs(10_000), UnixSeconds(NOW));
        Place::at(dir, clock)
    }

    fn at(dir: Folder, clock: Clock) -> Place {
        let store = Store::open(&dir.0, &clock).unwrap();
        let (config, receiver) = watch::channel(Arc::new(read(CONFIG)));
        let auth = Auth::new(store.clone(), receiver);
        Place { dir, clock, store, auth, config }
    }

    async fn restarted(self) -> Place {
        let Place { dir, clock, store, auth, .. } = self;
        drop(auth);
        store.close().await;
        Place::at(dir, clock)
    }

    fn ask(&self, last: u8) -> NewChallenge {
        self.auth.challenge((station(last), &[]), (Client, Action::Login), None).ok().unwrap()
    }

    /// A wallet answers from this device.
    async fn answer(
        &self,
        challenge: &NewChallenge,
        wallet: u8,
        from: Option<u8>,
    ) -> Result<Answered, LoginRefusal> {
        self.send(&challenge.k1, &signed(wallet, &challenge.k1), from).await
    }

    async fn send(
        &self,
        k1: &str,
        (key, sig): &(String, String),
        from: Option<u8>,
    ) -> Result<Answered, LoginRefusal> {
        let address = [192, 0, 2, from.unwrap_or(200)].into();
        let sent = Callback { k1: Some(k1), sig: Some(sig), key: Some(key), mac: from.map(mac), address };
        self.auth.callback(sent).await
    }

    fn standing(&self, challenge: &NewChallenge, last: u8) -> Standing {
        let k1 = hex::decode(&challenge.k1).unwrap();
        self.auth.standing(&k1, (station(last), &[challenge.cookie]))
    }

    /// A token for this wallet, on the device 1.
    async fn token(&self, wallet: u8) -> String {
        let challenge = self.ask(1);
        assert_eq!(self.answer(&challenge, wallet, Some(1)).await.unwrap(), Answered::LoggedIn);
        let Standing::Ok(Some(delivery)) = self.standing(&challenge, 1) else { panic!("no token") };
        delivery.token
    }

    async fn fault(&self, token: &str) -> Option<JwtFault> {
        match self.auth.identify(token, Client).await {
            Ok(_) => None,
            Err(AuthError::Token(fault)) => Some(fault),
            Err(error) => panic!("{error}"),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn read(text: &str) -> Config {
    Config::from_uci(text).unwrap().0
}

fn mac(last: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0, last]).unwrap()
}

fn station(last: u8) -> LoginStation {
    LoginStation::Mac(mac(last))
}

fn wallet(number: u8) -> SecretKey {
    SecretKey::from_slice(&[number; 32]).unwrap()
}

fn public(number: u8) -> String {
    hex::encode(wallet(number).public_key().to_sec1_point(true).as_bytes())
}

/// A wallet's key and its signature over a k1.
fn signed(number: u8, k1: &str) -> (String, String) {
    (public(number), hex::encode(&sign_der(&wallet(number), &hex::decode(k1).unwrap())))
}

#[tokio::test]
async fn a_wallet_on_the_same_device_logs_in_at_once_and_its_token_comes_once() {
    let place = Place::new();
    let challenge = place.ask(1);
    assert!(!challenge.confirm && place.standing(&challenge, 1) == Standing::Pending);
    assert_eq!(place.answer(&challenge, 5, Some(1)).await.unwrap(), Answered::LoggedIn);
    let Standing::Ok(Some(delivery)) = place.standing(&challenge, 1) else { panic!() };
    assert_eq!((delivery.key.to_string(), delivery.role.as_str()), (public(5), "client"));
    assert!(place.standing(&challenge, 1) == Standing::Ok(None));
    let claims = place.auth.identify(&delivery.token, Client).await.unwrap();
    assert_eq!((claims.key.to_string(), claims.issued.0, claims.expires.0), (public(5), NOW, NOW + 604_800));
    assert_eq!(place.store.commits(), 1, "a login is one write, a challenge none");
}

#[tokio::test]
async fn a_k1_counts_once_and_in_either_case() {
    let place = Place::new();
    let challenge = place.ask(1);
    let signature = signed(5, &challenge.k1);
    let upper = (signature.0.to_uppercase(), signature.1.to_uppercase());
    let k1 = challenge.k1.to_uppercase();
    assert_eq!(place.send(&k1, &upper, Some(1)).await.unwrap(), Answered::LoggedIn);
    for k1 in [&challenge.k1, &k1] {
        assert!(matches!(place.send(k1, &signature, Some(1)).await, Err(LoginRefusal::K1)), "replayed");
    }
}

#[tokio::test]
async fn of_fifty_parallel_callbacks_one_logs_in() {
    let place = Place::new();
    let challenge = place.ask(1);
    let signature = signed(5, &challenge.k1);
    let all = (0..50).map(|_| place.send(&challenge.k1, &signature, Some(1)));
    let answers = futures_util::future::join_all(all).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    let refused = answers.iter().filter(|answer| matches!(answer, Err(LoginRefusal::K1))).count();
    assert_eq!((refused, place.store.commits()), (49, 1));
}

#[tokio::test]
async fn a_signature_that_is_right_by_itself_is_worth_nothing_without_our_k1() {
    let place = Place::new();
    let vectors = include_str!("../../tests/vectors/lnauth/signatures.txt").lines();
    let forged: Vec<&str> = vectors.last().unwrap().split(' ').collect();
    let [_, _, k1, sig, key] = forged[..] else { panic!() };
    let sent = (key.to_owned(), sig.to_owned());
    assert!(matches!(place.send(k1, &sent, Some(1)).await, Err(LoginRefusal::K1)));
    let own = "00".repeat(32);
    assert!(matches!(place.send(&own, &signed(5, &own), Some(1)).await, Err(LoginRefusal::K1)));
    let challenge = place.ask(1);
    place.clock.advance(Millis::from_secs(120));
    assert!(matches!(place.answer(&challenge, 5, Some(1)).await, Err(LoginRefusal::K1)), "expired");
}

#[tokio::test]
async fn what_is_no_signature_costs_nothing_and_a_wrong_one_leaves_four_more() {
    let place = Place::new();
    let challenge = place.ask(1);
    let (key, sig) = signed(5, &challenge.k1);
    for (bad_key, bad_sig, which) in [
        (String::new(), sig.clone(), "key"),
        (format!("04{}", &key[2..]), sig.clone(), "key"),
        (key.clone(), String::new(), "sig"),
        (key.clone(), format!("{sig}00"), "sig"),
    ] {
        let refused = place.send(&challenge.k1, &(bad_key, bad_sig), Some(1)).await;
        assert!(matches!(refused, Err(LoginRefusal::Parameter(named)) if named == which), "{which}");
    }
    let other = signed(6, &challenge.k1).1;
    for _ in 0..4 {
        let refused = place.send(&challenge.k1, &(key.clone(), other.clone()), Some(1)).await;
        assert!(matches!(refused, Err(LoginRefusal::Signature)));
    }
    assert!(place.answer(&challenge, 5, Some(1)).await.is_ok());
}

#[tokio::test]
async fn another_device_needs_the_two_digits_that_only_the_wallets_side_was_told() {
    let place = Place::new();
    for from in [Some(2), None] {
        let challenge = place.ask(1);
        let Answered::Code(code) = place.answer(&challenge, 5, from).await.unwrap() else { panic!() };
        assert!(place.standing(&challenge, 1) == Standing::Confirm);
        assert_eq!(
            (place.auth.code_for(mac(2)).is_some(), place.auth.code_for(mac(1))),
            (from.is_some(), None)
        );
        let (k1, cookies) = (hex::decode(&challenge.k1).unwrap(), [challenge.cookie]);
        let confirm = |last, code| place.auth.confirm(&k1, (station(last), &cookies), code);
        assert!(matches!(confirm(2, code).await, Err(ConfirmRefusal::Foreign)));
        assert!(matches!(confirm(1, (code + 1) % 100).await, Err(ConfirmRefusal::Wrong)));
        confirm(1, code).await.unwrap();
        assert!(matches!(confirm(1, code).await, Err(ConfirmRefusal::Unasked)));
        assert!(matches!(place.standing(&challenge, 1), Standing::Ok(Some(_))));
        assert_eq!(place.auth.code_for(mac(2)), None);
    }
}

#[tokio::test]
async fn without_operators_nobody_is_one() {
    let place = Place::new();
    let here = LoginStation::Address("127.0.0.1".parse().unwrap());
    let ask = || place.auth.challenge((here, &[]), (Admin, Action::Login), None);
    let challenge = ask().ok().unwrap();
    assert!(challenge.confirm);
    assert!(matches!(place.answer(&challenge, 5, None).await, Err(LoginRefusal::NotAllowed)));
    assert!(matches!(place.answer(&challenge, 5, None).await, Err(LoginRefusal::K1)), "it has ended");
    assert!(matches!(place.auth.identify(&place.token(5).await, Admin).await, Err(AuthError::OtherAudience)));
    place.clock.set_wall(UnixSeconds(0));
    assert!(matches!(ask(), Err(AuthError::NoClock)));
}

#[tokio::test]
async fn a_guest_goes_on_without_a_clock_and_ends_by_time_that_has_passed() {
    let place = Place::new();
    place.clock.set_wall(UnixSeconds(0));
    let token = place.token(5).await;
    assert_eq!(place.fault(&token).await, None);
    let early = place.token(6).await;
    for wall in [NOW, NOW + 400 * 86_400, 0] {
        place.clock.set_wall(UnixSeconds(wall));
        assert_eq!(place.fault(&token).await, None, "set later, to {wall}");
    }
    let place = place.restarted().await;
    place.clock.set_wall(UnixSeconds(NOW));
    let renewed = place.auth.refresh(&early, Client).await.unwrap();
    assert_eq!(renewed.claims.expires, UnixSeconds(NOW + 604_800), "now its end can be told");
    place.clock.set_wall(UnixSeconds(0));
    place.clock.advance(Millis::from_secs(604_800 + 61));
    assert_eq!(place.fault(&token).await, Some(JwtFault::LoggedOut));
    let place = Place::new();
    let token = place.token(5).await;
    place.clock.set_wall(UnixSeconds(NOW + 604_800 + 60));
    assert_eq!(place.fault(&token).await, None);
    place.clock.set_wall(UnixSeconds(NOW + 604_800 + 61));
    assert_eq!(place.fault(&token).await, Some(JwtFault::Expired));
}

#[tokio::test]
async fn a_signature_is_fresh_for_a_minute_and_no_clock_makes_it_younger() {
    let place = Place::new();
    let token = place.token(5).await;
    let is_fresh = || async { place.auth.signer(&token, Client).await.unwrap().1 };
    place.clock.set_wall(UnixSeconds(NOW + 61));
    assert!(!is_fresh().await, "the router may have been without power");
    place.clock.set_wall(UnixSeconds(NOW));
    place.clock.advance(Millis::from_secs(60));
    assert!(is_fresh().await);
    place.clock.advance(Millis::from_secs(1));
    for wall in [NOW + 61, NOW, 30] {
        place.clock.set_wall(UnixSeconds(wall));
        assert!(!is_fresh().await, "{wall}");
    }
    place.clock.set_wall(UnixSeconds(30));
    let renewed = place.auth.refresh(&token, Client).await.unwrap();
    assert!(!place.auth.signer(&renewed.token, Client).await.unwrap().1, "another token is no signature");
}

#[tokio::test]
async fn what_was_logged_out_stays_so_after_a_restart() {
    let place = Place::new();
    let (one, two, three) = (place.token(5).await, place.token(5).await, place.token(6).await);
    let claims = place.auth.identify(&one, Client).await.unwrap();
    place.auth.log_out(&claims).await.unwrap();
    let place = place.restarted().await;
    assert_eq!(place.fault(&one).await, Some(JwtFault::LoggedOut));
    assert_eq!((place.fault(&two).await, place.fault(&three).await), (None, None));
    let claims = place.auth.identify(&two, Client).await.unwrap();
    place.auth.log_out_all(&claims).await.unwrap();
    assert_eq!(place.fault(&two).await, Some(JwtFault::LoggedOut));
    assert_eq!(place.fault(&three).await, None, "of another key");
}

#[tokio::test]
async fn a_new_token_takes_the_place_of_the_old_one_and_nobody_gets_two() {
    let place = Place::new();
    let old = place.token(5).await;
    place.clock.advance(Millis::from_secs(3600));
    let all = (0..10).map(|_| place.auth.refresh(&old, Client));
    let renewed: Vec<Issued> =
        futures_util::future::join_all(all).await.into_iter().filter_map(Result::ok).collect();
    let [new] = &renewed[..] else { panic!("{} new tokens", renewed.len()) };
    assert_eq!(place.fault(&old).await, Some(JwtFault::LoggedOut));
    assert_eq!((new.claims.auth_time.0, new.claims.issued.0), (NOW, NOW + 3600));
    assert_eq!(place.fault(&new.token).await, None);
}

#[tokio::test]
async fn keys_are_changed_without_ending_what_they_signed() {
    let place = Place::new();
    let old = place.token(5).await;
    let file = place.dir.0.join("jwt.key");
    let kids = || {
        let text = std::fs::read_to_string(&file).unwrap();
        text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = kids();
    let rotated = place.auth.rotate().await.unwrap();
    assert_eq!((rotated.earlier, kids()), (1, vec![before[0].clone(), rotated.kid.clone()]));
    let new = place.token(6).await;
    let place = place.restarted().await;
    assert_eq!((place.fault(&old).await, place.fault(&new).await), (None, None));
    let claims = place.auth.identify(&old, Client).await.unwrap();
    place.auth.log_out(&claims).await.unwrap();
    assert_eq!(place.auth.rotate().await.unwrap().earlier, 1, "the first key has signed nothing that counts");
    assert_eq!(place.fault(&new).await, None);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_stolen_signing_key_alone_makes_no_token() {
    let place = Place::new();
    let token = place.token(5).await;
    let ring = place.auth.0.ring.lock().await.clone().unwrap();
    let ours = place.auth.identify(&token, Client).await.unwrap();
    let forge = |key: u8, audience: LoginAudience, id: TokenId| {
        let key = WalletKey::parse(&public(key)).unwrap();
        Claims { key, audience, id, ..ours.clone() }.sign("https://wifi.example.net", &ring)
    };
    assert_eq!(place.fault(&forge(5, Client, ours.id)).await, None);
    for forged in [forge(6, Client, ours.id), forge(5, Admin, ours.id), forge(5, Client, [0; 16])] {
        assert_eq!(place.fault(&forged).await, Some(JwtFault::LoggedOut));
    }
}

#[tokio::test]
async fn a_socket_hears_its_own_login_and_the_page_asks_in_vain_then() {
    let place = Place::new();
    let mut socket = place.auth.sockets().join([3; 16], station(1), 4, None).unwrap();
    let heard = |socket: &mut LoginSocket| -> Value {
        serde_json::from_str(&socket.outbox.try_recv().unwrap()).unwrap()
    };
    heard(&mut socket);
    let ask = |last, key| place.auth.challenge((station(last), &[]), (Client, Action::Login), Some(key));
    assert!(matches!(ask(2, [3; 16]), Err(AuthError::NoSocket)), "of another device");
    assert!(matches!(ask(1, [4; 16]), Err(AuthError::NoSocket)));
    let challenge = ask(1, [3; 16]).ok().unwrap();
    let Answered::Code(code) = place.answer(&challenge, 5, None).await.unwrap() else { panic!() };
    assert_eq!(heard(&mut socket)["msg"], "lnauth_confirm");
    let (k1, cookies) = (hex::decode(&challenge.k1).unwrap(), [challenge.cookie]);
    place.auth.confirm(&k1, (station(1), &cookies), code).await.unwrap();
    let success = heard(&mut socket);
    assert_eq!((&success["msg"], &success["k1"]), (&"lnauth_success".into(), &challenge.k1.as_str().into()));
    assert_eq!(success["user"], serde_json::json!({"pubkey": public(5), "role": "client", "account": null}));
    assert_eq!(place.fault(success["jwt"].as_str().unwrap()).await, None);
    assert!(place.standing(&challenge, 1) == Standing::Ok(None));
    let challenge = ask(1, [3; 16]).ok().unwrap();
    drop(socket);
    assert!(place.answer(&challenge, 5, Some(1)).await.is_ok());
    assert!(matches!(place.standing(&challenge, 1), Standing::Ok(Some(_))), "the socket is gone");
}

#[tokio::test]
async fn many_challenges_of_one_device_wait_and_do_not_keep_another_out() {
    let place = Place::new();
    let ask = |last| place.auth.challenge((station(last), &[]), (Client, Action::Login), None);
    let other = place.ask(2);
    assert_eq!((0..300).filter(|_| ask(1).is_ok()).count(), 60);
    assert!(matches!(ask(1), Err(AuthError::TooMany(_))));
    assert!(place.answer(&other, 5, Some(2)).await.is_ok());
    assert!(ask(2).is_ok());
    let first = place.ask(3);
    let again = place.auth.challenge((station(3), &[first.cookie]), (Client, Action::Login), None);
    assert!(again.ok().unwrap().cookie == first.cookie, "a browser keeps its cookie");
    let planted = place.auth.challenge((station(3), &[[9; 16]]), (Client, Action::Login), None);
    assert!(planted.ok().unwrap().cookie != [9; 16], "but none that it did not get here");
}

#[tokio::test]
async fn without_the_section_nobody_logs_in() {
    let place = Place::new();
    let token = place.token(5).await;
    place.config.send_replace(Arc::new(read("config tollgate 'main'\noption enabled '0'\n")));
    assert!(matches!(place.auth.identify(&token, Client).await, Err(AuthError::Off)));
    assert!(matches!(
        place.auth.challenge((station(1), &[]), (Client, Action::Login), None),
        Err(AuthError::Off)
    ));
}
