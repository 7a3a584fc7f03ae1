//! `tollgated setup` without flags: the questions. An empty answer is what the configuration says already, else the usual.

use super::answers::{self, Flags, Step};
use super::changes::{is_ours, option_text, option_words, NETWORK};
use super::place::RouterFacts;
use super::plan::{names, package, taken, GRACE};
use super::uci::Uci;
use super::{guest, SetupError};
use crate::config::uci::{Section, UciFile};
use std::io::{BufRead, Write};

/// What a step is where nothing was said.
const SECONDS: u64 = 60;
const MEGABYTES: u64 = 10;

pub fn ask(
    flags: &mut Flags,
    uci: &Uci,
    around: &RouterFacts,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
) -> Result<(), SetupError> {
    let own = package(uci, "tollgate")?;
    let known = Known::of(&own);
    let mut question = |text: &str, default: &str, take: Take| question(input, out, text, default, take);
    let answers = &mut flags.answers;
    question("Name that guests see", known.venue("name").unwrap_or("Wi-Fi"), &mut |text| {
        answers.name = new(text, known.venue("name")).map(answers::name).transpose()?;
        Ok(())
    })?;
    question("Mint (https://...)", known.mint("url").unwrap_or_default(), &mut |text| {
        let url = new(text, known.mint("url"));
        answers.mint = url.map(|url| answers::mint(url, answers.allows_http)).transpose()?;
        Ok(())
    })?;
    question("Sell time or data? t/d", if known.sells_data() { "d" } else { "t" }, &mut |text| {
        answers.step = match (text.chars().next(), known.sells_data()) {
            (Some('t' | 'T'), true) => Some(Step::Seconds(SECONDS)),
            (Some('d' | 'D'), false) => Some(Step::Megabytes(MEGABYTES)),
            (Some('t' | 'T' | 'd' | 'D'), _) => None,
            _ => return Err(SetupError::Usage("t or d".to_owned())),
        };
        Ok(())
    })?;
    let sold = known.step(answers.step);
    question(&format!("Price of {sold} in sat"), known.mint("price_per_step").unwrap_or("1"), &mut |text| {
        let price = new(text, known.mint("price_per_step"));
        answers.price = price.map(|price| answers::amount("price", price)).transpose()?;
        Ok(())
    })?;
    question(
        "Seconds that a guest with an open invoice is online to pay it (0 for none)",
        known.grace(),
        &mut |text| {
            let grace = answers::grace(text)?;
            answers.grace = (known.venue.is_none() || text != known.grace()).then_some(grace);
            Ok(())
        },
    )?;
    let is_elsewhere = known.venue.is_some() && known.venue("network") != Some(NETWORK);
    question("Make a guest network for it? y/n", if is_elsewhere { "n" } else { "y" }, &mut |text| {
        flags.make_network = match text.chars().next() {
            Some('y' | 'Y') => true,
            Some('n' | 'N') => false,
            _ => return Err(SetupError::Usage("y or n".to_owned())),
        };
        Ok(())
    })?;
    if flags.make_network {
        let network = package(uci, "network")?;
        let taken = taken(uci, &names(uci, &network, around)?, around)?;
        let before = guest::subnet_before(&network);
        let offered = before.or_else(|| taken.free()).map(|net| format!("{}/{}", net.router, net.prefix));
        question("Its address", &offered.unwrap_or_default(), &mut |text| {
            let subnet = answers::subnet(text)?;
            if let Some(other) = taken.clash(subnet).filter(|_| before != Some(subnet)) {
                return Err(SetupError::Usage(format!("{text} overlaps {other}")));
            }
            flags.subnet = Some(subnet);
            Ok(())
        })?;
        question("Name of an open Wi-Fi network into it (- for none)", "-", &mut |text| {
            flags.ssid = if text == "-" { None } else { Some(answers::ssid(text)?) };
            Ok(())
        })
    } else {
        let device = known.device(around).unwrap_or_else(|| "br-guest".to_owned());
        question("Device the guests come in by (as in 'ip link')", &device, &mut |text| {
            let place = Flags::parse(&["--device", text])?.answers.place;
            if let Some(why) = around.objection(&place) {
                return Err(SetupError::Usage(why));
            }
            flags.answers.place = place;
            Ok(())
        })
    }
}

/// What the configuration says now: of the venue and the mint that setup made, else of the first ones.
struct Known<'a> {
    venue: Option<&'a Section>,
    mint: Option<&'a Section>,
}

impl<'a> Known<'a> {
    fn of(own: &'a UciFile) -> Known<'a> {
        let first = |kind| {
            let made = own.of_kind(kind).find(|section| is_ours("tollgate", section));
            made.or_else(|| own.of_kind(kind).next())
        };
        Known { venue: first("venue"), mint: first("mint") }
    }

    fn venue(&self, option: &str) -> Option<&'a str> {
        option_text(self.venue?, option)
    }

    fn mint(&self, option: &str) -> Option<&'a str> {
        option_text(self.mint?, option)
    }

    fn sells_data(&self) -> bool {
        self.venue("metric") == Some("bytes")
    }

    /// A venue that is there and does not say gives none.
    fn grace(&self) -> &'a str {
        self.venue("pay_grace").unwrap_or(if self.venue.is_some() { "0" } else { GRACE })
    }

    /// The step that was answered, or the one that stays, in words.
    fn step(&self, answered: Option<Step>) -> String {
        let size = self.venue("step_size").and_then(|size| size.parse::<u64>().ok());
        match (answered, size) {
            (Some(Step::Megabytes(megabytes)), _) => format!("{megabytes} MB"),
            (None, Some(bytes)) if self.sells_data() => format!("{bytes} bytes"),
            (None, None) if self.sells_data() => "a step".to_owned(),
            (None, Some(millis)) if millis != SECONDS.saturating_mul(1000) => format!("{} s", millis / 1000),
            _ => "a minute".to_owned(),
        }
    }

    fn device(&self, around: &RouterFacts) -> Option<String> {
        let venue = self.venue?;
        let named = option_words(venue, "device").first().map(|device| (*device).to_owned());
        let of_network = || {
            let network = option_text(venue, "network")?;
            around.files.devices_of_network(network).into_iter().next()
        };
        named.or_else(of_network)
    }
}

/// An answer that is not what there is already.
fn new<'a>(text: &'a str, known: Option<&str>) -> Option<&'a str> {
    Some(text).filter(|text| Some(*text) != known)
}

/// What becomes of an answer. `SetupError::Usage` asks for another one.
type Take<'a> = &'a mut dyn FnMut(&str) -> Result<(), SetupError>;

/// Asks until the answer can be used; an empty one is `default`.
fn question(
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    text: &str,
    default: &str,
    take: Take,
) -> Result<(), SetupError> {
    loop {
        match default {
            "" => write!(out, "{text}: ")?,
            default => write!(out, "{text} [{default}]: ")?,
        }
        out.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Err(SetupError::Refused("no answer: nothing was changed".to_owned()));
        }
        let line = line.trim();
        match take(if line.is_empty() { default } else { line }) {
            Err(SetupError::Usage(why)) => writeln!(out, "{why}")?,
            done => return done,
        }
    }
}
