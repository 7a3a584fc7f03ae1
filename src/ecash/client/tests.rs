use super::*;
use crate::ecash::outputs::tests::Signer;
use crate::ecash::seed::Seed;
use crate::ecash::tests::fake_mint::{Answer, FakeMint, QUOTE};
use serde_json::json;

fn client(mint: &FakeMint) -> MintClient {
    MintClient::with_timeout(mint.url.clone(), &Tls::new(None).unwrap(), Duration::from_secs(60))
}

/// Gives a mint up that does not answer, but only after its request has gone out, however busy the machine is.
fn hasty(url: MintUrl) -> MintClient {
    MintClient::with_timeout(url, &Tls::new(None).unwrap(), Duration::from_secs(3))
}

fn answering(bytes: impl Into<Vec<u8>>) -> MintClient {
    let bytes = bytes.into();
    client(&FakeMint::start(move |_, _| Answer::Raw(bytes.clone())))
}

async fn claim(client: &MintClient) -> Result<Vec<BlindSignature>, EcashError> {
    let seed = Seed::from_entropy(&[5; 16]).unwrap();
    let outputs = Outputs::prepare(&seed, Signer::new().keyset.id(), 0, &[Sats(1), Sats(4)]).unwrap();
    client.mint(&QuoteId::parse(QUOTE).unwrap(), Arc::new(outputs), seed.lock_key(0).unwrap()).await
}

#[tokio::test]
async fn requests_say_who_we_are_and_take_no_compression() {
    let mint = FakeMint::honest();
    client(&mint).info().await.unwrap();
    let head = mint.requests.lock().unwrap()[0].head.clone();
    assert!(head.contains(&format!("user-agent: {}", calls::AGENT)), "{head}");
    assert!(!head.contains("gzip") && !head.contains("br"), "{head}");
}

#[tokio::test]
async fn a_mint_behind_a_path_is_asked_below_it() {
    let mint = FakeMint::honest();
    let url = MintUrl::parse(&format!("{}/Bitcoin", mint.url)).unwrap();
    let _ = MintClient::new(url, &Tls::new(None).unwrap()).info().await;
    assert_eq!(mint.seen("GET /bitcoin/v1/info"), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = FakeMint::honest();
    let redirect =
        format!("HTTP/1.1 302 Found\r\nLocation: {}/v1/info\r\nContent-Length: 0\r\n\r\n", target.url);
    let refused = answering(redirect).info().await.unwrap_err();
    assert_eq!(refused, EcashError::Malformed("a redirect"));
    assert!(target.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_answer_that_is_cut_missing_or_late_leaves_the_outcome_unknown() {
    for answer in
        ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"signatures\":["]
    {
        let error = claim(&answering(answer)).await.unwrap_err();
        assert!(matches!(error, EcashError::NoAnswer(_)) && error.outcome_unknown(), "{answer:?} {error:?}");
    }
    let hanging = FakeMint::start(|_, _| Answer::Hang(Duration::from_secs(60)));
    let started = std::time::Instant::now();
    let error = claim(&hasty(hanging.url)).await.unwrap_err();
    assert!(error.outcome_unknown(), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(50));
}

#[tokio::test]
async fn an_answer_that_drips_is_given_up_too() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = MintUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Read::read(&mut stream, &mut [0]).unwrap();
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n".iter().chain(std::iter::repeat(&b' '))
        {
            if std::io::Write::write_all(&mut stream, &[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let started = std::time::Instant::now();
    assert!(claim(&hasty(url)).await.unwrap_err().outcome_unknown());
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn an_answer_that_is_no_json_or_too_large_leaves_the_outcome_unknown() {
    let html = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>";
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n{}", " ".repeat(1_048_577));
    let error = claim(&answering(html)).await.unwrap_err();
    assert!(matches!(error, EcashError::Malformed(_)) && error.outcome_unknown(), "{error:?}");
    for answer in [&long, "SSH-2.0-OpenSSH\r\n\r\n"] {
        let error = claim(&answering(answer)).await.unwrap_err();
        assert!(matches!(error, EcashError::NoAnswer(_)) && error.outcome_unknown(), "{error:?}");
    }
}

#[tokio::test]
async fn endless_headers_and_endless_bodies_end() {
    let headers = format!("HTTP/1.1 200 OK\r\n{}", "X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(50_000));
    let body = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "[".repeat(4_000_000));
    for answer in [headers, body] {
        assert!(claim(&answering(answer)).await.unwrap_err().outcome_unknown());
    }
}

#[tokio::test]
async fn a_refused_connection_leaves_nothing_unknown() {
    // Nobody listens at port 1; one that was free a moment ago may be somebody's by now.
    for url in ["http://127.0.0.1:1", "http://mint.invalid"] {
        let client = MintClient::new(MintUrl::parse(url).unwrap(), &Tls::new(None).unwrap());
        let error = claim(&client).await.unwrap_err();
        assert!(matches!(error, EcashError::Unreachable(_)) && !error.outcome_unknown(), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_without_tls_behind_https_leaves_nothing_unknown() {
    let mint = FakeMint::start(|_, _| Answer::Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()));
    let url = MintUrl::parse(&mint.url.as_str().replace("http:", "https:")).unwrap();
    let error = claim(&hasty(url)).await.unwrap_err();
    assert!(!error.outcome_unknown(), "{error:?}");
    assert!(mint.requests.lock().unwrap().is_empty());
}

/// A mint that knows only the legacy signature, as all were until 2026.
fn legacy_mint() -> FakeMint {
    let v1 = std::sync::Mutex::new(None);
    FakeMint::start(move |request, honest| {
        let signature = request.body["signature"].as_str().unwrap().to_owned();
        // The same outputs are signed the same way each time, and the first one seen is v1.
        if *v1.lock().unwrap().get_or_insert_with(|| signature.clone()) == signature {
            return Answer::Json(400, json!({"detail": "no", "code": 20008}));
        }
        Answer::Json(200, honest)
    })
}

#[tokio::test]
async fn a_refused_signature_is_made_anew_in_the_other_form_over_the_same_outputs() {
    let mint = legacy_mint();
    let client = client(&mint);
    assert_eq!(claim(&client).await.unwrap().len(), 2);
    {
        let requests = mint.requests.lock().unwrap();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[0].body["outputs"], requests[1].body["outputs"]);
        assert_ne!(requests[0].body["signature"], requests[1].body["signature"]);
    }
    claim(&client).await.unwrap();
    let requests = mint.requests.lock().unwrap();
    assert_eq!(requests.len(), 3, "the form that worked comes first from then on");
    assert_eq!(requests[1].body, requests[2].body, "the same request is the same bytes");
}

#[tokio::test]
async fn a_signature_refused_in_both_forms_is_told() {
    let refuse = |_: &_, _| Answer::Json(400, json!({"detail": "no", "code": 20008}));
    let mint = FakeMint::start(refuse);
    assert_eq!(claim(&client(&mint)).await.unwrap_err(), EcashError::SignatureRefused);
    assert_eq!(mint.seen("POST /v1/mint/bolt11"), 2);
}

#[tokio::test]
async fn the_state_of_another_quote_is_a_lie() {
    let mint = FakeMint::honest();
    let other = QuoteId::parse("another").unwrap();
    assert_eq!(client(&mint).quote_state(&other).await.unwrap_err(), Lie::OtherQuote.into());
}
