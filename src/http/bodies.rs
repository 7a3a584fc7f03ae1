//! Bodies of requests, read within the room that there is: what has come of one is held against its connection.

use super::crowd::{ConnectionPlace, Hold};
use super::line::GuestLine;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::Request;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
/// A body grows by at least this, so that one that comes byte by byte is not copied for every byte.
const STEP: usize = 512;
/// Where more comes, hyper doubles its buffer.
const LONG: usize = 4 * 1024;
const AT_HYPER: usize = 8 * 1024;

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    TooLong,
    /// It was not sent whole.
    Broken,
    Late,
    /// No room is left for it.
    Crowded,
}

/// A body, and the room that it takes, for as long as its reader keeps it.
pub struct ReadBody {
    bytes: Vec<u8>,
    hold: Option<Hold>,
    place: Option<Arc<ConnectionPlace>>,
}

/// A body that is text.
pub struct Text {
    text: String,
    hold: Option<Hold>,
}

impl Text {
    /// The text, and the room that it takes, for a caller that gives the text away.
    pub fn apart(self) -> (String, Option<Hold>) {
        (self.text, self.hold)
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

/// The body of a request, at most `most` bytes. From its end on the request counts as being answered.
pub async fn read(request: Request<Incoming>, most: usize) -> Result<ReadBody, Unread> {
    read_if(request, most, |_| Ok(true)).await?.ok_or(Unread::TooLong)
}

/// The same, up to `most` bytes; `keep` gets the length that would be reached, and says whether to keep it. Reads a
/// body that is not kept to its end and returns `None`.
pub async fn read_if(
    mut request: Request<Incoming>,
    most: usize,
    mut keep: impl FnMut(usize) -> Result<bool, Unread>,
) -> Result<Option<ReadBody>, Unread> {
    let place = request.extensions_mut().remove::<Arc<GuestLine>>().map(|line| line.place.clone());
    let mut incoming = request.into_body();
    let mut body = ReadBody { bytes: Vec::new(), hold: None, place };
    let mut is_kept = true;
    let mut length = 0usize;
    let reading = async {
        while !incoming.is_end_stream() {
            let Some(frame) = incoming.frame().await else { break };
            let data = frame.map_err(|_| Unread::Broken)?.into_data().unwrap_or_default();
            length = length.saturating_add(data.len());
            if length > most {
                return Err(Unread::TooLong);
            }
            is_kept = is_kept && keep(length)?;
            if is_kept {
                body.extend(&data).await?;
            } else {
                (body.bytes, body.hold) = (Vec::new(), None);
            }
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap_or(Err(Unread::Late))?;
    if let Some(place) = &body.place {
        place.begin();
    }
    Ok(is_kept.then_some(body))
}

impl ReadBody {
    /// As text. Returns the bytes if they are not UTF-8.
    pub fn into_text(self) -> Result<Text, Vec<u8>> {
        let ReadBody { bytes, hold, .. } = self;
        String::from_utf8(bytes).map(|text| Text { text, hold }).map_err(|err| err.into_bytes())
    }

    /// As text; bytes that are not UTF-8 are replaced.
    pub fn into_text_lossy(self) -> Text {
        let hold = self.hold;
        let text = match String::from_utf8(self.bytes) {
            Ok(text) => text,
            Err(err) => String::from_utf8_lossy(err.as_bytes()).into_owned(),
        };
        Text { text, hold }
    }

    async fn extend(&mut self, data: &[u8]) -> Result<(), Unread> {
        let free = self.bytes.capacity().saturating_sub(self.bytes.len());
        if let Some(missing) = data.len().checked_sub(free).filter(|missing| *missing > 0) {
            let more = missing.max(self.bytes.capacity()).max(STEP);
            let capacity = self.bytes.capacity().saturating_add(more);
            let room = if capacity > LONG { capacity.saturating_add(AT_HYPER) } else { capacity };
            let more = room.saturating_sub(self.hold.as_ref().map_or(0, Hold::bytes));
            let may_grow = match (&mut self.hold, &self.place) {
                (Some(hold), _) => hold.grow(more),
                (None, Some(place)) => {
                    self.hold = place.hold(more);
                    self.hold.is_some()
                }
                (None, None) => true,
            };
            if !may_grow {
                return Err(Unread::Crowded);
            }
            // Connections that were closed for it are dropped meanwhile.
            tokio::task::yield_now().await;
            self.bytes.reserve_exact(capacity.saturating_sub(self.bytes.len()));
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }
}
