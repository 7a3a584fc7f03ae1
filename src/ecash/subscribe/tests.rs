use super::*;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

fn quote(name: &str) -> QuoteId {
    QuoteId::parse(name).unwrap()
}

async fn listen() -> (TcpListener, MintUrl) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = MintUrl::parse(&format!("http://{}/mint", listener.local_addr().unwrap())).unwrap();
    (listener, url)
}

async fn accept(listener: &TcpListener) -> WebSocketStream<TcpStream> {
    let (tcp, _) = within(listener.accept()).await.unwrap();
    tokio_tungstenite::accept_async(tcp).await.unwrap()
}

async fn within<T>(future: impl std::future::Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), future).await.expect("in time")
}

/// The next subscription: its id and the quotes it names.
async fn subscription_of(socket: &mut WebSocketStream<TcpStream>) -> (u64, Vec<String>) {
    loop {
        if let Message::Text(text) = within(socket.next()).await.unwrap().unwrap() {
            let json: Value = serde_json::from_str(text.as_str()).unwrap();
            assert_eq!(json["params"]["kind"], "bolt11_mint_quote");
            let filters = json["params"]["filters"].as_array().unwrap();
            let filters = filters.iter().map(|f| f.as_str().unwrap().to_owned()).collect();
            return (json["id"].as_u64().unwrap(), filters);
        }
    }
}

async fn answer(socket: &mut WebSocketStream<TcpStream>, id: u64) {
    let ok = json!({"jsonrpc": "2.0", "result": {"status": "OK", "subId": "x"}, "id": id});
    socket.send(Message::text(ok.to_string())).await.unwrap();
}

fn event(quote: &str, state: &str) -> Message {
    let payload = json!({"quote": quote, "state": state});
    let params = json!({"subId": "x", "payload": payload});
    Message::text(json!({"jsonrpc": "2.0", "method": "subscribe", "params": params}).to_string())
}

#[tokio::test]
async fn events_of_watched_quotes_are_told_and_others_are_not() {
    let (listener, url) = listen().await;
    let (watch, mut events) = QuoteWatch::start(url, &Tls::new(None).unwrap());
    watch.watch(quote("a"));
    let mut socket = accept(&listener).await;
    let (id, quotes) = subscription_of(&mut socket).await;
    assert_eq!(quotes, ["a"]);
    answer(&mut socket, id).await;
    assert_eq!(within(events.recv()).await, Some(MintEvent::Resubscribed));
    socket.send(event("stranger", "PAID")).await.unwrap();
    socket.send(Message::text("not json")).await.unwrap();
    socket.send(event("a", "PAID")).await.unwrap();
    assert_eq!(within(events.recv()).await, Some(MintEvent::Quote(quote("a"), QuoteState::Paid)));
}

#[tokio::test]
async fn quotes_that_come_together_share_a_message_on_the_same_socket() {
    let (listener, url) = listen().await;
    let (watch, mut events) = QuoteWatch::start(url, &Tls::new(None).unwrap());
    watch.watch(quote("a"));
    let mut socket = accept(&listener).await;
    let (id, _) = subscription_of(&mut socket).await;
    answer(&mut socket, id).await;
    within(events.recv()).await;
    for name in ["b", "c", "d"] {
        watch.watch(quote(name));
    }
    assert_eq!(subscription_of(&mut socket).await.1, ["b", "c", "d"]);
}

#[tokio::test]
async fn a_lost_socket_comes_back_with_what_is_still_watched() {
    let (listener, url) = listen().await;
    let (watch, mut events) = QuoteWatch::start(url, &Tls::new(None).unwrap());
    watch.watch(quote("a"));
    watch.watch(quote("b"));
    let mut socket = accept(&listener).await;
    subscription_of(&mut socket).await;
    watch.forget(quote("a"));
    drop(socket);
    let mut socket = accept(&listener).await;
    let (id, quotes) = subscription_of(&mut socket).await;
    assert_eq!(quotes, ["b"]);
    answer(&mut socket, id).await;
    assert_eq!(within(events.recv()).await, Some(MintEvent::Resubscribed));
}

#[tokio::test]
async fn a_mint_without_websocket_is_told_as_such() {
    let (listener, url) = listen().await;
    let (watch, mut events) = QuoteWatch::start(url, &Tls::new(None).unwrap());
    watch.watch(quote("a"));
    let (tcp, _) = within(listener.accept()).await.unwrap();
    let forbidden = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    within(tcp.readable()).await.unwrap();
    tcp.try_write(forbidden).unwrap();
    assert_eq!(within(events.recv()).await, Some(MintEvent::Unsupported));
}

#[tokio::test]
async fn an_oversized_frame_ends_the_connection_only() {
    let (listener, url) = listen().await;
    let (watch, _events) = QuoteWatch::start(url, &Tls::new(None).unwrap());
    watch.watch(quote("a"));
    let mut socket = accept(&listener).await;
    subscription_of(&mut socket).await;
    let _ = socket.send(Message::text("x".repeat(MAX_FRAME + 1))).await;
    let mut socket = accept(&listener).await;
    assert_eq!(subscription_of(&mut socket).await.1, ["a"]);
}

#[tokio::test]
async fn nothing_is_opened_before_there_is_something_to_watch() {
    let (listener, url) = listen().await;
    let (_watch, _events) = QuoteWatch::start(url, &Tls::new(None).unwrap());
    assert!(timeout(Duration::from_millis(100), listener.accept()).await.is_err());
}

#[tokio::test]
async fn a_mint_that_refused_a_message_gets_few_of_them_for_an_hour() {
    let (_commands, commands) = mpsc::unbounded_channel();
    let mint = MintUrl::parse("http://127.0.0.1:1").unwrap();
    let mut task = Task {
        to: Destination::new(mint.clone(), Tls::new(None).unwrap()),
        mint,
        commands,
        events: mpsc::channel(1).0,
        watched: SortedSet::new(),
        sent: VecDeque::new(),
        paced_until: None,
        next_id: 0,
    };
    let start = Instant::now();
    for _ in 0..2 * MESSAGES_PER_MINUTE {
        task.note_message();
    }
    assert!(task.next_slot() < start + MINUTE, "a mint that refuses nothing is not held back from");
    task.paced_until = Some(start + PACED_FOR);
    assert!(task.next_slot() >= start + MINUTE);
    assert_eq!(task.sent.len(), MESSAGES_PER_MINUTE);
    if let Some(oldest) = task.sent.front_mut() {
        *oldest = start - MINUTE;
    }
    assert!(task.next_slot() < start + MINUTE, "what is older than a minute does not count");
}

#[test]
fn messages_are_told_apart() {
    for (text, heard) in [
        ("", Heard::Nothing),
        ("[]", Heard::Nothing),
        ("{}", Heard::Nothing),
        (r#"{"id":3,"result":{"status":"OK"}}"#, Heard::Subscribed(3)),
        (r#"{"id":-3,"result":{}}"#, Heard::Nothing),
        (r#"{"id":0,"error":{"code":-32000}}"#, Heard::Refused(Some(-32000))),
        (r#"{"id":0,"error":"x"}"#, Heard::Refused(None)),
        (r#"{"method":"subscribe","params":{"payload":{"quote":"../x","state":"PAID"}}}"#, Heard::Nothing),
        (r#"{"method":"subscribe","params":{"payload":{"quote":"x","state":"DONE"}}}"#, Heard::Nothing),
        (r#"{"method":"subscribe","params":{"payload":[]}}"#, Heard::Nothing),
    ] {
        assert_eq!(read(text), heard, "{text}");
    }
}
