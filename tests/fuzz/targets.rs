//! What is read, by name; each says in one number what came of an input.

use super::corpus;
use crate::bolt11::Invoice;
use crate::config::{garden, netifd, range, reach, uci, Config};
use crate::ecash::{KeysetRef, PublicKey, Seed, Token};
use crate::folder::fresh_folder;
use crate::mac::MacAddr;
use crate::network::{conntrack, devices, gate, neighbours, netlink, nftables, routes};
use crate::portal::Lang;
use crate::store::{KeyFile, RequestId, Ticket};
use crate::url::Url;
use crate::{
    auth, bech32, certificate, commands, ecash, ecdsa, form, hex, http, mint_proxy, pasted, sale, setup,
    store, tollgate,
};
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use serde_json::Value;
use std::fmt::Debug;

pub struct Target {
    pub name: &'static str,
    pub corpus: &'static str,
    pub read: fn(&[u8]) -> u64,
}

macro_rules! targets {
    ($($name:literal $read:ident),* $(,)?) => {
        &[$(Target {
            name: $name,
            corpus: include_str!(concat!("../vectors/fuzz/", $name, ".txt")),
            read: $read,
        }),*]
    };
}

pub static TARGETS: &[Target] = targets![
    "uci" uci_text,
    "config" configuration,
    "bolt11" invoice,
    "bech32" bech32_text,
    "token" token,
    "token-v3" token_v3,
    "token-v4" token_v4,
    "pasted" pasted_text,
    "lnurl" card_link,
    "url" url,
    "form" fields,
    "head" http_head,
    "message" proxy_message,
    "payment" payment,
    "mint-answer" mint_answer,
    "addresses" addresses,
    "short-text" short_text,
    "command" command_line,
    "netlink" datagram,
    "arp-table" arp_table,
    "wal" write_ahead_log,
    "keyfile" key_file,
    "certificate" certificate_dates,
    "jwt" login_token,
    "der" signature,
];

fn uci_text(input: &[u8]) -> u64 {
    outcome(&(uci::parse(input), netifd::device_in(input, "guest")))
}

/// No venue sells steps of nothing.
fn configuration(input: &[u8]) -> u64 {
    let read = Config::from_uci(&text(input));
    if let Ok((config, _)) = &read {
        assert!(config.venues.iter().all(|venue| venue.step_size > 0));
    }
    outcome(&read)
}

/// As it is, and with a checksum that holds.
fn invoice(input: &[u8]) -> u64 {
    let written = text(input);
    let mended = written.to_ascii_lowercase().rsplit_once('1').and_then(|(hrp, data)| {
        let place = |letter| bech32::CHARSET.iter().position(|known| *known == letter);
        let words: Option<Vec<u8>> = data.bytes().map(|b| u8::try_from(place(b)?).ok()).collect();
        let words = words.filter(|words| words.len() > bech32::CHECKSUM_WORDS)?;
        let words = &words[..words.len() - bech32::CHECKSUM_WORDS];
        let sum = bech32::checksum(hrp, &[words, &[0; bech32::CHECKSUM_WORDS]].concat()) ^ 1;
        let sum = (0..6u32).rev().map(|at| u8::try_from(sum >> (5 * at) & 31).unwrap());
        let letters =
            words.iter().copied().chain(sum).map(|word| char::from(bech32::CHARSET[usize::from(word)]));
        Some(format!("{hrp}1{}", letters.collect::<String>()))
    });
    let look = |text: &str| {
        Invoice::parse(text).map(|invoice| {
            let known = (invoice.network(), invoice.unknown_feature(), invoice.payee().is_some());
            (known, invoice.amount().is_some(), invoice.expires_at() >= invoice.timestamp())
        })
    };
    outcome(&(look(&written), mended.as_deref().map(look)))
}

/// Signed, and as a token of Sphinx Tribes.
fn login_token(input: &[u8]) -> u64 {
    let text = text(input);
    let read = auth::fuzz_jwt(&text).map(|claims| (claims.audience, claims.role.len().min(8)));
    outcome(&(read, auth::SphinxToken::parse(&text).is_some()))
}

fn signature(input: &[u8]) -> u64 {
    u64::from(ecdsa::tests::fuzz_der(input))
}

fn bech32_text(input: &[u8]) -> u64 {
    let (written, coded) = (text(input), bech32::encode("lnurl", input));
    assert_eq!(bech32::decode(&coded), Some(("lnurl".to_owned(), input.to_vec())));
    assert_eq!(bech32::decode(&coded.to_uppercase()), bech32::decode(&coded));
    let read = bech32::decode(&written);
    if let Some((hrp, bytes)) = &read {
        assert_eq!(bech32::encode(hrp, bytes).len(), written.len());
    }
    outcome(&read.map(|(_, bytes)| bytes.len().min(64)))
}

fn token(input: &[u8]) -> u64 {
    token_text(&text(input))
}

/// The input is a token's JSON.
fn token_v3(input: &[u8]) -> u64 {
    token_text(&format!("cashuA{}", URL_SAFE_NO_PAD.encode(input)))
}

/// The input is a token's CBOR.
fn token_v4(input: &[u8]) -> u64 {
    token_text(&format!("cashu:cashuB{}", URL_SAFE_NO_PAD.encode(input)))
}

/// A token that is read has a value, and is the same when it is written by us.
fn token_text(text: &str) -> u64 {
    let read = Token::parse(text);
    if let Ok(token) = &read {
        let total = token.total().expect("a value");
        let full = |keyset: &KeysetRef| match keyset {
            KeysetRef::Full(id) => Some(*id),
            KeysetRef::Short(_) => None,
        };
        let known: Vec<_> = token.proofs.iter().filter_map(|proof| full(&proof.keyset)).collect();
        if let (Ok(mint), Ok(proofs)) = (Url::parse(&token.mint), token.clone().resolve(&known)) {
            for written in [
                ecash::token::encode(&mint, &token.unit, &proofs),
                ecash::token::encode_v3(&mint, &token.unit, &proofs),
            ] {
                let again = Token::parse(&written);
                assert!(again.is_ok_and(|again| again.total() == Some(total)), "{written}");
            }
        }
    }
    outcome(&read.map(|token| (token.proofs.len().min(4), token.memo.is_some())))
}

/// What is found in a text is found again in itself.
fn pasted_text(input: &[u8]) -> u64 {
    let written = text(input);
    let token = ecash::token::found_in(&written);
    if let Some(token) = &token {
        assert_eq!(ecash::token::found_in(token).as_ref(), Some(token));
    }
    let is_token = token.map(|token| Token::parse(&token).is_ok());
    let (invoice, link) =
        (Invoice::parse(&pasted::one(&written)).is_ok(), sale::till::fuzz_link(&written).is_empty());
    outcome(&format_args!(
        "{} {is_token:?} {invoice} {link} {}",
        pasted::fuzz_pasted(&written),
        written.parse::<Ticket>().is_ok()
    ))
}

fn card_link(input: &[u8]) -> u64 {
    let coded = bech32::encode("lnurl", input);
    outcome(&format_args!("{} {}", sale::till::fuzz_link(&text(input)), sale::till::fuzz_link(&coded)))
}

fn url(input: &[u8]) -> u64 {
    let read = Url::parse(&text(input));
    if let Ok(url) = &read {
        assert_eq!(Url::parse(url.as_str()).as_ref(), Ok(url));
    }
    outcome(&read.map(|url| (url.is_https(), url.host().len().min(20))))
}

fn fields(input: &[u8]) -> u64 {
    let written = text(input);
    let escaped = form::query_value(&written);
    if !written.is_empty() {
        assert_eq!(form::pairs(&format!("x={escaped}")), [("x".to_owned(), written.clone())]);
    }
    let pairs = form::pairs(&written);
    let lengths: Vec<_> = pairs.iter().map(|(name, value)| (name.len().min(9), value.len().min(9))).collect();
    outcome(&lengths)
}

/// What is read has a date for each end.
fn certificate_dates(input: &[u8]) -> u64 {
    outcome(&certificate::fuzz_dates(input).map(|(begins, ends)| ends >= begins))
}

/// A head that is whole stays so, whatever comes behind it; its lines are given to those who read headers.
fn http_head(input: &[u8]) -> u64 {
    let whole = (0..=input.len().min(600)).map(|end| http::fuzz_head(&input[..end]));
    let changes = whole.clone().zip(whole.skip(1)).filter(|(before, after)| before != after).count();
    assert!(changes <= 1);
    let written = text(input);
    let values = written.lines().filter_map(|line| line.split_once(':')).map(|(_, value)| value.trim());
    let read: Vec<_> = values
        .take(20)
        .map(|value| (Lang::from_accept_language(value), http::host_of(value).len().min(9)))
        .collect();
    outcome(&(changes, read))
}

fn proxy_message(input: &[u8]) -> u64 {
    outcome(&format_args!("{}", mint_proxy::fuzz_message(&text(input))))
}

/// What is posted to TollGate's paths: a token, a Nostr event, a wallet's answer to a payment request, a question.
fn payment(input: &[u8]) -> u64 {
    let written = text(input);
    let token = tollgate::fuzz_body(&written);
    let token = token.map(|token| Token::parse(&token).err());
    outcome(&format_args!("{token:?} {}", tollgate::ln_invoice::fuzz_ask(&written)))
}

/// What mints and cards' issuers answer.
fn mint_answer(input: &[u8]) -> u64 {
    let json: Value = crate::json::read(input).unwrap_or_default();
    let event = ecash::fuzz_event(&text(input));
    let (answers, refusal) = (ecash::fuzz_answers(input), ecash::fuzz_refusal(input));
    let withdrawal = sale::till::fuzz_withdrawal(&json);
    let is_paid = ecash::payment_request::paid_with(&json).is_some();
    outcome(&format_args!("{answers} {refusal} {event} {withdrawal} {is_paid}"))
}

/// MAC addresses, addresses and networks; they are read as they are written.
fn addresses(input: &[u8]) -> u64 {
    let written = text(input);
    let mac = written.parse::<MacAddr>();
    if let Ok(mac) = mac {
        assert_eq!(mac.to_string().parse(), Ok(mac));
    }
    let ranges = written.split([' ', '\n']).take(50).filter_map(|word| range::parse(word).ok());
    let merged = range::merged(ranges.map(|(range, _)| range).collect());
    assert!(merged.windows(2).all(|two| !two[0].overlaps(two[1])));
    let ends = merged.first().map(|range| (range.is_v4(), range.end().is_some()));
    outcome(&(mac, reach::parse(&written), garden::parse(&written), setup::answers::subnet(&written), ends))
}

/// Amounts, durations, ids, tickets, seeds, keys: one line, read by all of them.
fn short_text(input: &[u8]) -> u64 {
    let written = text(input);
    let (amount, price) =
        (commands::fuzz_amount(&written), setup::answers::amount("price", &written).is_ok());
    let ids = (written.parse::<RequestId>().is_ok(), KeysetRef::parse(&written).is_some());
    let ticket = written.parse::<Ticket>();
    if let Ok(ticket) = &ticket {
        assert!(ticket
            .to_string()
            .parse::<Ticket>()
            .is_ok_and(|again| again.to_string() == ticket.to_string()));
    }
    if let Some(bytes) = hex::decode::<16>(&written) {
        assert_eq!(hex::encode(&bytes), written.to_ascii_lowercase());
    }
    let key = PublicKey::parse(&written);
    if let Some(key) = &key {
        assert_eq!(PublicKey::parse(&key.to_string()).as_ref(), Some(key));
    }
    let (is_key, words) = (key.is_some(), Seed::from_words(&written).map(drop));
    outcome(&format_args!("{amount} {price} {ids:?} {} {is_key} {words:?}", ticket.is_ok()))
}

/// The words of a command line or of a line on the control socket.
fn command_line(input: &[u8]) -> u64 {
    let written = text(input);
    let order: Value = crate::json::read(input).unwrap_or_default();
    let words: Vec<&str> = match &order["args"] {
        Value::Array(args) => args.iter().filter_map(Value::as_str).collect(),
        _ => written.split_whitespace().collect(),
    };
    let given = commands::find(&words).map(|(command, rest)| {
        let read = commands::Given::from_words(command, rest);
        if let Ok(given) = &read {
            let again = commands::Given::from_words(command, &given.words());
            assert!(again.is_ok_and(|again| again.words() == given.words()));
        }
        (command.name, read.is_ok())
    });
    outcome(&(given.map(|(name, is_ok)| (name.len(), is_ok)), setup::answers::Flags::parse(&words).is_ok()))
}

/// Everything that the kernel answers, each message read by everybody who reads any.
fn datagram(input: &[u8]) -> u64 {
    let mut said = String::new();
    let is_whole = netlink::fuzz_datagram(input, |_, payload| {
        said.push_str(&neighbours::fuzz_neighbour(payload));
        said.push_str(&devices::fuzz_device(payload));
        said.push_str(&routes::fuzz_route(payload));
        said.push_str(&gate::fuzz_lock(payload));
        said.push_str(&conntrack::fuzz_connection(payload));
        said.push_str(&payload.get(4..).map(nftables::fuzz_nftables).unwrap_or_default());
    });
    outcome(&format_args!("{is_whole} {said}"))
}

fn arp_table(input: &[u8]) -> u64 {
    outcome(&format_args!("{}", neighbours::fuzz_arp_table(&text(input))))
}

/// As it is, and with checksums that hold, so that what stands behind a frame is looked at too.
fn write_ahead_log(input: &[u8]) -> u64 {
    let mended = store::with_good_checksums(input.to_vec());
    outcome(&format_args!("{} {}", store::fuzz_wal(input), store::fuzz_wal(&mended)))
}

/// A key file is its bytes, and nothing where it is empty.
fn key_file(input: &[u8]) -> u64 {
    let dir = fresh_folder();
    std::fs::write(dir.join("fuzz.key"), input).unwrap();
    let read = KeyFile("fuzz").stored(&dir);
    std::fs::remove_dir_all(&dir).unwrap();
    match &read {
        Ok(secret) => assert_eq!(secret.as_ref().map(|secret| secret.expose()).unwrap_or_default(), input),
        Err(_) => assert!(input.len() > 4096),
    }
    outcome(&read.map(|secret| secret.is_some()))
}

fn text(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

/// Inputs of one shape have one outcome: numbers and what stands in quotes do not count.
fn outcome(what: &dyn Debug) -> u64 {
    let written = format!("{what:?}");
    let (mut digest, mut is_quoted, mut last) = (0xcbf2_9ce4_8422_2325u64, false, 0u8);
    for byte in written.bytes().take(2000) {
        is_quoted ^= byte == b'"';
        if is_quoted || byte.is_ascii_digit() || byte == last {
            continue;
        }
        last = byte;
        digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    digest
}

#[test]
fn outcomes_tell_shapes_apart_and_not_contents() {
    assert_eq!(outcome(&Some((1, "a"))), outcome(&Some((23, "bc"))));
    assert_ne!(outcome(&Some(1)), outcome(&Option::<u8>::None));
}

#[test]
fn corpora_are_known_by_their_targets() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/fuzz");
    let Ok(folder) = std::fs::read_dir(folder) else { return };
    for file in folder {
        let name = file.unwrap().file_name().into_string().unwrap();
        let name = name.strip_suffix(".txt").unwrap_or(&name);
        assert!(TARGETS.iter().any(|target| target.name == name), "{name} has no target");
    }
    for target in TARGETS {
        assert!(target.corpus.starts_with("# "), "{}: the first line says where it is from", target.name);
        assert!(!corpus::read(target.corpus).is_empty());
    }
}
