//! A stand-in mint for unit tests: signs for real, and answers as each test tells it.

use crate::config::MintUrl;
use crate::ecash::curve::PublicKey;
use crate::ecash::hex;
use crate::ecash::outputs::tests::Signer;
use crate::units::Sats;
use serde_json::{json, Value};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The invoice that the mint sells: 250,000 sat, 60 s, made at `INVOICE_TIME` (BOLT 11, examples).
pub const INVOICE_SATS: u64 = 250_000;
pub const INVOICE_TIME: u64 = 1_496_314_658;
pub const QUOTE: &str = "01a1fb5d-aa26-74b5-bccd-75c42dcf678c";

#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Method and path, as in `GET /v1/info`.
    pub line: String,
    pub head: String,
    pub body: Value,
}

/// What a test makes of a request instead of the honest answer.
pub enum Answer {
    Json(u16, Value),
    /// Bytes as they are, then the connection is closed.
    Raw(Vec<u8>),
    /// Nothing for this long, then closed.
    Hang(Duration),
}

type Change = Box<dyn Fn(&Request, Value) -> Answer + Send + Sync>;

#[derive(Clone)]
pub struct FakeMint {
    pub url: MintUrl,
    pub requests: Arc<Mutex<Vec<Request>>>,
    pub most_at_once: Arc<Mutex<(u32, u32)>>,
}

impl FakeMint {
    pub fn honest() -> FakeMint {
        FakeMint::start(|_, answer| Answer::Json(200, answer))
    }

    /// `change` gets each request and its honest answer.
    pub fn start(change: impl Fn(&Request, Value) -> Answer + Send + Sync + 'static) -> FakeMint {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = MintUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let mint = FakeMint { url, requests: Arc::default(), most_at_once: Arc::default() };
        let (served, change) = (mint.clone(), Arc::new(Box::new(change) as Change));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (mint, change) = (served.clone(), change.clone());
                std::thread::spawn(move || mint.serve(stream, &change));
            }
        });
        mint
    }

    /// How often a request line that begins like this was seen.
    pub fn seen(&self, line: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|request| request.line.starts_with(line)).count()
    }

    fn serve(&self, stream: TcpStream, change: &Change) {
        let Some(request) = read(&stream) else { return };
        self.requests.lock().unwrap().push(request.clone());
        {
            let mut count = self.most_at_once.lock().unwrap();
            count.0 += 1;
            count.1 = count.1.max(count.0);
        }
        let bytes = match change(&request, honest(&request)) {
            Answer::Json(status, json) => {
                let json = json.to_string();
                format!(
                    "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{json}",
                    json.len()
                )
                .into_bytes()
            }
            Answer::Raw(bytes) => bytes,
            Answer::Hang(time) => {
                std::thread::sleep(time);
                Vec::new()
            }
        };
        self.most_at_once.lock().unwrap().0 -= 1;
        let _ = (&stream).write_all(&bytes);
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let line = head.lines().next()?.trim_end_matches(" http/1.1").to_owned();
    let (method, path) = line.split_once(' ')?;
    let line = format!("{} {path}", method.to_uppercase());
    Some(Request { line, head, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}

fn honest(request: &Request) -> Value {
    let signer = Signer::new();
    let id = signer.keyset.id().to_string();
    let outputs = || request.body["outputs"].as_array().unwrap().iter();
    let signatures = || -> Value { outputs().map(|output| signature(&signer, output)).collect() };
    match request.line.as_str() {
        "GET /v1/info" => json!({
            "name": "fake", "version": "fake/1", "time": INVOICE_TIME,
            "nuts": {
                "4": {"methods": [{"method": "bolt11", "unit": "sat", "max_amount": 500_000}], "disabled": false},
                "9": {"supported": true}, "12": {"supported": true}, "20": {"supported": true},
            },
        }),
        "GET /v1/keysets" => json!({"keysets": [{"id": id, "unit": "sat", "active": true}]}),
        line if line.starts_with("GET /v1/keys/") => {
            let key = |amount| signer.keyset.key(Sats(amount)).unwrap().to_string();
            let keys: HashMap<String, String> = (0..20)
                .map(|bit| (1u64 << bit).to_string())
                .map(|a| (a.clone(), key(a.parse().unwrap())))
                .collect();
            json!({"keysets": [{"id": id, "unit": "sat", "keys": keys}]})
        }
        "POST /v1/mint/quote/bolt11" => json!({
            "quote": QUOTE, "request": invoice(), "amount": request.body["amount"], "unit": "sat",
            "state": "UNPAID", "expiry": INVOICE_TIME + 60, "pubkey": request.body["pubkey"],
        }),
        line if line.starts_with("GET /v1/mint/quote/bolt11/") => {
            json!({"quote": QUOTE, "request": invoice(), "state": "PAID", "expiry": null, "pubkey": ""})
        }
        "POST /v1/mint/bolt11" => json!({"signatures": signatures()}),
        "POST /v1/restore" => {
            json!({"outputs": outputs().collect::<Vec<_>>(), "signatures": signatures()})
        }
        "POST /v1/checkstate" => {
            let state = |y: &Value| json!({"Y": y, "state": "UNSPENT", "witness": null});
            json!({"states": request.body["Ys"].as_array().unwrap().iter().map(state).collect::<Vec<_>>()})
        }
        _ => Value::Null,
    }
}

fn signature(signer: &Signer, output: &Value) -> Value {
    let blinded = PublicKey::parse(output["B_"].as_str().unwrap()).unwrap();
    let amount = Sats(output["amount"].as_u64().unwrap());
    let signed = signer.sign(amount, blinded);
    let dleq = signed.dleq.unwrap();
    let dleq = json!({"e": hex::encode(&dleq.e), "s": hex::encode(&dleq.s)});
    json!({"id": signed.keyset.to_string(), "amount": amount.0, "C_": signed.c_.to_string(), "dleq": dleq})
}

pub fn invoice() -> Value {
    let all: Value =
        serde_json::from_str(include_str!("../../../tests/vectors/bolt11/invoices.json")).unwrap();
    all["good"][1]["invoice"].clone()
}
