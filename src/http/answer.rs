//! The shapes of answers: pages, JSON, redirects, errors.

use crate::correlation::CorrelationId;
use crate::portal;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;

pub type Answer = Response<Full<Bytes>>;

pub fn html(status: StatusCode, page: String) -> Answer {
    let mut answer = plain(status, "text/html; charset=utf-8", page.into_bytes());
    let headers = answer.headers_mut();
    headers
        .insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(portal::CONTENT_SECURITY_POLICY));
    answer
}

pub fn json(status: StatusCode, value: &Value) -> Answer {
    plain(status, "application/json", format!("{value}\n").into_bytes())
}

/// JSON that is written already.
pub fn ready_json(status: StatusCode, json: String) -> Answer {
    plain(status, "application/json", json.into_bytes())
}

pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

pub fn text(status: StatusCode, text: &str) -> Answer {
    plain(status, "text/plain; charset=utf-8", text.as_bytes().to_vec())
}

/// A file that belongs to the program, which browsers may keep for ever where its address names the content.
pub fn file(content_type: &'static str, content: Vec<u8>, is_named: bool) -> Answer {
    let mut answer = plain(StatusCode::OK, content_type, content);
    let headers = answer.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if is_named {
        let for_ever = HeaderValue::from_static("public, max-age=31536000, immutable");
        headers.insert(header::CACHE_CONTROL, for_ever);
    }
    answer
}

/// As `file`, of packed content.
pub fn gzipped(content_type: &'static str, packed: &'static [u8], is_named: bool) -> Answer {
    let mut answer = file(content_type, Vec::new(), is_named);
    *answer.body_mut() = Full::new(Bytes::from_static(packed));
    answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    answer
}

/// `location` must be made of our own parts only.
pub fn redirect(status: StatusCode, location: &str) -> Answer {
    let mut answer = plain(status, "text/html; charset=utf-8", Vec::new());
    if let Ok(value) = HeaderValue::from_str(location) {
        answer.headers_mut().insert(header::LOCATION, value);
    }
    *answer.body_mut() = Full::new(Bytes::from(format!(
        "<!doctype html><title>Wi-Fi</title><p><a href=\"{location}\">Open the Wi-Fi portal</a></p>\n"
    )));
    answer
}

/// What goes with every answer: nothing in it is taken for anything else than it says, no address of a page is told to
/// others, and the request has a name.
pub fn complete(answer: &mut Answer, id: &CorrelationId) {
    let headers = answer.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        headers.insert("x-request-id", id);
    }
}

fn plain(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
