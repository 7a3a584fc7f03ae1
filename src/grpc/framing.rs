//! Messages on a stream of HTTP/2: five bytes before each, and the status behind the last in the stream's trailers.

use super::status::{GrpcCode, Status};
use futures_util::stream::{self, Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue, CONTENT_TYPE};
use hyper::Response;
use prost::Message;
use std::convert::Infallible;

/// The longest message that is read (bytes): an invoice and a description.
const MAX_MESSAGE: usize = 16 * 1024;
/// Whether it is compressed, and its length.
const PREFIX: usize = 5;
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The one message of a call.
pub async fn read<Q: Message + Default>(mut body: Incoming) -> Result<Q, Status> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut length = None;
    while let Some(frame) = body.frame().await {
        let cut = |_| Status::new(GrpcCode::Internal, "the call was cut");
        let Ok(data) = frame.map_err(cut)?.into_data() else { break };
        if bytes.len().saturating_add(data.len()) > PREFIX.saturating_add(MAX_MESSAGE) {
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
        if length.is_none() {
            length = length_of(&bytes)?;
        }
    }
    let wrong = || Status::invalid_argument("a call has one message, as its prefix says");
    let message = bytes.get(PREFIX..).filter(|message| Some(message.len()) == length).ok_or_else(wrong)?;
    Q::decode(message).map_err(|_| Status::invalid_argument("the message cannot be read"))
}

/// How long the message is going to be, once that is known.
fn length_of(bytes: &[u8]) -> Result<Option<usize>, Status> {
    let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX>() else { return Ok(None) };
    let [is_compressed, length @ ..] = *prefix;
    if is_compressed != 0 {
        return Err(Status::new(GrpcCode::Unimplemented, "no compression is known here"));
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_MESSAGE {
        return Err(too_large());
    }
    Ok(Some(length))
}

fn too_large() -> Status {
    Status::resource_exhausted(format!("a message is at most {MAX_MESSAGE} bytes"))
}

/// An answer of one message, or of none.
pub fn one<A: Message + 'static>(answer: Result<A, Status>) -> Response<Body> {
    match answer {
        Ok(message) => many(stream::iter([Ok(message)])),
        Err(status) => refused(&status),
    }
}

/// An answer of messages that follow each other, until the first error.
pub fn many<A: Message + 'static>(
    messages: impl Stream<Item = Result<A, Status>> + Send + 'static,
) -> Response<Body> {
    let told = messages.map(Some).chain(stream::iter([None]));
    let frames = told.scan(false, |is_over, told| {
        let frame = match told {
            _ if *is_over => None,
            Some(Ok(message)) => Some(Frame::data(framed(&message))),
            Some(Err(status)) => {
                *is_over = true;
                Some(trailers(&status))
            }
            None => Some(trailers(&Status::new(GrpcCode::Ok, ""))),
        };
        std::future::ready(frame.map(Ok::<_, Infallible>))
    });
    answer(StreamBody::new(frames).boxed_unsync())
}

/// An answer that ends with its headers.
pub fn refused(status: &Status) -> Response<Body> {
    let mut refused = answer(Empty::new().boxed_unsync());
    status.write_to(refused.headers_mut());
    refused
}

fn answer(body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    answer.headers_mut().insert(CONTENT_TYPE, GRPC);
    answer
}

fn trailers(status: &Status) -> Frame<Bytes> {
    let mut headers = HeaderMap::new();
    status.write_to(&mut headers);
    Frame::trailers(headers)
}

fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = Vec::with_capacity(PREFIX.saturating_add(length));
    bytes.push(0);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(&message.encode_to_vec());
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_known_from_the_fifth_byte_on_and_bounded() {
        assert_eq!(length_of(&[0, 0, 0, 1]), Ok(None));
        assert_eq!(length_of(&[0, 0, 0, 1, 2, 9, 9]), Ok(Some(258)));
        assert_eq!(length_of(&[0, 0, 0, 0x40, 0]), Ok(Some(MAX_MESSAGE)));
        assert_eq!(length_of(&[0, 0, 0, 0x40, 1]).unwrap_err().code, GrpcCode::ResourceExhausted);
        assert_eq!(length_of(&[0, 255, 255, 255, 255]).unwrap_err().code, GrpcCode::ResourceExhausted);
        assert_eq!(length_of(&[1, 0, 0, 0, 1]).unwrap_err().code, GrpcCode::Unimplemented);
    }
}
