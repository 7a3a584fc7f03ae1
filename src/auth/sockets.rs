//! The open WebSockets of pages that log in, each by a name that we make: what a client says of itself is not heard.
//!
//! A socket hears what concerns its own page, and nothing that another one has sent.

use super::challenge::{LoginStation, SocketKey};
use super::jwt::TokenId;
use super::signature::WalletKey;
use crate::config::OperatorKey;
use crate::hex;
use crate::json::json;
use crate::store::LoginAudience;
use litemap::LiteMap;
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Messages that may wait for a socket to read them. One that has more is closed.
const BACKLOG: usize = 8;

/// All of them. The table holds the only lasting sender of each: taking it out ends the socket.
#[derive(Clone, Default)]
pub struct LoginSockets(Arc<Mutex<LiteMap<SocketKey, Seat>>>);

struct Seat {
    station: LoginStation,
    outbox: mpsc::Sender<Arc<str>>,
    /// Of the page's token, if it has one.
    user: Option<SocketUser>,
}

/// Whose key and token, and what for.
pub type SocketUser = (WalletKey, TokenId, LoginAudience);

/// One socket's place, for as long as it is kept.
pub struct LoginSocket {
    pub outbox: mpsc::Receiver<Arc<str>>,
    key: SocketKey,
    sockets: LoginSockets,
}

impl LoginSockets {
    /// A place for one more socket of a station, if it has fewer than `limit`. The first message says its name.
    pub fn join(
        &self,
        key: SocketKey,
        station: LoginStation,
        limit: usize,
        user: Option<SocketUser>,
    ) -> Option<LoginSocket> {
        let (outbox, inbox) = mpsc::channel(BACKLOG);
        let greeting = json!({"type": 1, "msg": "user_connect", "body": hex::encode(&key)});
        outbox.try_send(greeting.to_string().into()).ok()?;
        let mut table = self.table();
        if table.values().filter(|seat| seat.station == station).count() >= limit {
            return None;
        }
        table.insert(key, Seat { station, outbox, user });
        drop(table);
        Some(LoginSocket { outbox: inbox, key, sockets: self.clone() })
    }

    /// Whether a station has a socket of this name.
    pub fn has(&self, key: &SocketKey, station: LoginStation) -> bool {
        self.table().get(key).is_some_and(|seat| seat.station == station && !seat.outbox.is_closed())
    }

    /// False where it is gone, or does not read.
    pub fn tell(&self, key: &SocketKey, message: &Value) -> bool {
        let mut table = self.table();
        let told =
            table.get(key).is_some_and(|seat| seat.outbox.try_send(message.to_string().into()).is_ok());
        if !told {
            table.remove(key);
        }
        told
    }

    /// Tells every socket of a station.
    pub fn tell_station(&self, station: LoginStation, message: &Value) {
        let text: Arc<str> = message.to_string().into();
        self.table().retain(|_, seat| seat.station != station || seat.outbox.try_send(text.clone()).is_ok());
    }

    /// Closes those of a token that was logged out, or of all tokens of a key.
    pub fn close(&self, key: &WalletKey, token: Option<&TokenId>) {
        let is_meant = |user: &SocketUser| user.0 == *key && token.is_none_or(|id| user.1 == *id);
        self.table().retain(|_, seat| !seat.user.as_ref().is_some_and(is_meant));
    }

    /// Closes operators' sockets of all keys but these.
    pub fn close_operators_but(&self, kept: &[OperatorKey]) {
        let goes = |(key, _, audience): &SocketUser| {
            *audience == LoginAudience::Admin && !kept.contains(&key.to_bytes())
        };
        self.table().retain(|_, seat| !seat.user.as_ref().is_some_and(goes));
    }

    fn table(&self) -> MutexGuard<'_, LiteMap<SocketKey, Seat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LoginSocket {
    fn drop(&mut self) {
        self.sockets.table().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn station(last: u8) -> LoginStation {
        LoginStation::Address([127, 0, 0, last].into())
    }

    #[test]
    fn a_socket_is_known_by_our_name_to_its_own_station_while_it_is_open() {
        let sockets = LoginSockets::default();
        let mut socket = sockets.join([1; 16], station(1), 2, None).unwrap();
        let greeting: Value = serde_json::from_str(&socket.outbox.try_recv().unwrap()).unwrap();
        assert_eq!(greeting, serde_json::json!({"type": 1, "msg": "user_connect", "body": "01".repeat(16)}));
        assert!(sockets.has(&[1; 16], station(1)));
        assert!(!sockets.has(&[1; 16], station(2)) && !sockets.has(&[2; 16], station(1)));
        assert!(sockets.tell(&[1; 16], &json!({"msg": "x"})));
        assert_eq!(&*socket.outbox.try_recv().unwrap(), "{\"msg\":\"x\"}");
        sockets.tell_station(station(2), &json!({"msg": "theirs"}));
        sockets.tell_station(station(1), &json!({"msg": "own"}));
        assert_eq!(&*socket.outbox.try_recv().unwrap(), "{\"msg\":\"own\"}");
        assert!(socket.outbox.try_recv().is_err());
        drop(socket);
        assert!(!sockets.has(&[1; 16], station(1)) && !sockets.tell(&[1; 16], &json!({})));
    }

    #[test]
    fn a_station_has_a_limit_and_who_does_not_read_is_closed() {
        let sockets = LoginSockets::default();
        let mut one = sockets.join([1; 16], station(1), 1, None).unwrap();
        assert!(sockets.join([2; 16], station(1), 1, None).is_none());
        assert!(sockets.join([2; 16], station(2), 1, None).is_some());
        assert_eq!((0..20).filter(|_| sockets.tell(&[1; 16], &json!({}))).count(), BACKLOG - 1);
        let mut read = 0;
        while one.outbox.try_recv().is_ok() {
            read += 1;
        }
        assert_eq!(read, BACKLOG);
        assert!(one.outbox.is_closed());
    }

    #[test]
    fn logging_out_closes_the_sockets_of_the_token_or_of_the_key() {
        let sockets = LoginSockets::default();
        let key = WalletKey::from_bytes([2; 33]).unwrap();
        let joined: Vec<LoginSocket> = (1..=3u8)
            .map(|number| {
                sockets
                    .join([number; 16], station(1), 9, Some((key, [number; 16], LoginAudience::Client)))
                    .unwrap()
            })
            .collect();
        sockets.close_operators_but(&[]);
        sockets.close(&key, Some(&[1; 16]));
        assert!(!sockets.has(&[1; 16], station(1)) && sockets.has(&[2; 16], station(1)));
        sockets.close(&key, None);
        assert!(joined.iter().all(|socket| !sockets.has(&socket.key, station(1))));
        let user = Some((key, [4; 16], LoginAudience::Admin));
        let operators = sockets.join([4; 16], station(1), 9, user).unwrap();
        sockets.close_operators_but(&[key.to_bytes()]);
        assert!(sockets.has(&operators.key, station(1)));
        sockets.close_operators_but(&[]);
        assert!(!sockets.has(&operators.key, station(1)));
    }
}
