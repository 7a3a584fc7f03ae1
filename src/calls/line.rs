//! The line to a peer that is asked often: connections are kept for the next request.
//!
//! A peer may close a kept connection at the moment in which a request leaves on it. So a request whose connection
//! is closed before one byte of an answer came is sent a second time, once, on a new connection, and the caller is
//! told: one that is not safe to repeat may have been carried out by the first.

use super::{in_time, CallRequest, Connection, Destination, Failed, NoAnswer};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Many servers close a connection that was idle for longer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_CONNECTIONS: usize = 2;

#[derive(Debug)]
pub struct PeerLine {
    to: Destination,
    timeout: Duration,
    most: usize,
    idle: Mutex<Vec<(Instant, Connection)>>,
}

/// A whole answer.
#[derive(Debug)]
pub struct WholeAnswer {
    pub status: u16,
    pub body: Vec<u8>,
    /// The request was sent a second time, and the peer may have carried it out twice.
    pub sent_twice: bool,
}

impl PeerLine {
    /// Each call ends within `timeout`, and reads at most `most` bytes of an answer's body.
    pub fn new(to: Destination, timeout: Duration, most: usize) -> PeerLine {
        PeerLine { to, timeout, most, idle: Mutex::default() }
    }

    pub fn destination(&self) -> &Destination {
        &self.to
    }

    pub async fn ask(&self, request: CallRequest) -> Result<WholeAnswer, NoAnswer> {
        in_time(self.timeout, self.ask_twice(request)).await
    }

    async fn ask_twice(&self, request: CallRequest) -> Result<WholeAnswer, NoAnswer> {
        match self.ask_once(request.clone()).await {
            Err(Failed::Cut(cause)) => {
                log::debug!("{}: sent again: {cause}", self.to.url());
                // The other kept connections are as old.
                self.kept().clear();
                match self.ask_once(request).await.map_err(NoAnswer::from) {
                    Ok(answer) => Ok(WholeAnswer { sent_twice: true, ..answer }),
                    Err(NoAnswer::NotSent(again) | NoAnswer::Lost(again)) => {
                        Err(NoAnswer::Lost(format!("{cause}, then {again}")))
                    }
                }
            }
            outcome => Ok(outcome?),
        }
    }

    async fn ask_once(&self, request: CallRequest) -> Result<WholeAnswer, Failed> {
        let mut reply = match self.idle() {
            Some(connection) => match connection.try_send(request.clone(), self.most).await {
                // It had been closed already.
                Err(Failed::Other(NoAnswer::NotSent(_))) => self.send_anew(request).await?,
                outcome => outcome?,
            },
            None => self.send_anew(request).await?,
        };
        let (status, body) = (reply.status, reply.all().await);
        // If the body of an error cannot be read, its status is enough.
        let body = if (200..400).contains(&status) { body? } else { body.unwrap_or_default() };
        self.keep(reply.into_connection());
        Ok(WholeAnswer { status, body, sent_twice: false })
    }

    async fn send_anew(&self, request: CallRequest) -> Result<super::OpenAnswer, Failed> {
        Connection::over(self.to.open().await?).await?.try_send(request, self.most).await
    }

    fn idle(&self) -> Option<Connection> {
        let mut idle = self.kept();
        idle.retain(|(since, connection)| since.elapsed() < IDLE_TIMEOUT && connection.is_open());
        idle.pop().map(|(_, connection)| connection)
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.kept();
        if idle.len() < IDLE_CONNECTIONS {
            idle.push((Instant::now(), connection));
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<(Instant, Connection)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::{request, Tls};
    use crate::url::Url;
    use http_body_util::Full;
    use std::collections::VecDeque;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::Arc;

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    /// The connection is closed where an answer should be.
    const CUT: &str = "";

    /// A peer that answers one request after the other with these words, on as many connections as it is given; after
    /// an answer that is not whole it closes. Counts its connections.
    fn peer(answers: &[&'static str]) -> (PeerLine, Arc<Mutex<usize>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let mut answers: VecDeque<&str> = answers.iter().copied().collect();
        let connections = Arc::new(Mutex::new(0));
        let counted = connections.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                *counted.lock().unwrap() += 1;
                while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
                    let Some(answer) = answers.pop_front() else { return };
                    if stream.write_all(answer.as_bytes()).is_err() || answer != OK {
                        break;
                    }
                }
            }
        });
        let to = Destination::new(url, Tls::new(None).unwrap());
        (PeerLine::new(to, Duration::from_secs(60), 1024), connections)
    }

    async fn ask(line: &PeerLine) -> Result<bool, NoAnswer> {
        let asked = request(line.destination().url(), "/").body(Full::default()).unwrap();
        line.ask(asked).await.map(|answer| answer.sent_twice)
    }

    #[tokio::test]
    async fn a_connection_is_kept_for_the_next_request() {
        let (line, connections) = peer(&[OK, OK, OK]);
        for _ in 0..3 {
            assert_eq!(ask(&line).await, Ok(false));
        }
        assert_eq!(*connections.lock().unwrap(), 1);
    }

    #[tokio::test]
    async fn a_request_on_a_connection_that_is_closed_under_it_is_sent_again_once_and_told() {
        let (line, connections) = peer(&[OK, CUT, OK, OK]);
        assert_eq!(ask(&line).await, Ok(false));
        assert_eq!(ask(&line).await, Ok(true));
        assert_eq!((ask(&line).await, *connections.lock().unwrap()), (Ok(false), 2));
    }

    #[tokio::test]
    async fn the_first_request_of_all_is_sent_again_too_and_no_request_a_third_time() {
        let (line, _) = peer(&[CUT, OK]);
        assert_eq!(ask(&line).await, Ok(true));
        let (line, connections) = peer(&[CUT, CUT, OK]);
        assert!(matches!(ask(&line).await, Err(NoAnswer::Lost(_))));
        assert_eq!(*connections.lock().unwrap(), 2);
    }

    #[tokio::test]
    async fn a_request_with_one_byte_of_an_answer_is_not_sent_again() {
        for begun in ["H", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegun"] {
            let (line, connections) = peer(&[OK, begun, OK]);
            assert_eq!(ask(&line).await, Ok(false));
            assert!(matches!(ask(&line).await, Err(NoAnswer::Lost(_))), "{begun}");
            assert_eq!(*connections.lock().unwrap(), 1);
        }
    }
}
