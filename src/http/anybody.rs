//! Answers that are the same for every caller: files of the portal, the way to it, and what monitoring asks.

use super::answer::{self, Answer};
use super::entrance::{own_address, with_host, Entrance};
use super::refusals::error;
use super::route::Answering;
use super::sent::Sent;
use super::Edge;
use crate::json::json;
use crate::portal::{self, Asset};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::StatusCode;
use std::sync::Arc;

pub fn style(_: Arc<Edge>, sent: Sent) -> Answering {
    Box::pin(async move { asset(&portal::STYLE, &sent) })
}

pub fn script(_: Arc<Edge>, sent: Sent) -> Answering {
    Box::pin(async move { asset(&portal::SCRIPT, &sent) })
}

/// Kept by browsers for ever where the address names the content.
fn asset(asset: &Asset, sent: &Sent) -> Answer {
    let is_named = sent.query() == asset.digest;
    if takes_gzip(sent.headers()) {
        return answer::gzipped(asset.content_type, asset.gzipped, is_named);
    }
    match asset.unpacked() {
        Some(content) => answer::file(asset.content_type, content, is_named),
        None => error(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the file cannot be read"),
    }
}

/// Whether `Accept-Encoding` names gzip (RFC 9110, section 12.5.3).
fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    accepts.unwrap_or_default().split(',').any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        let quality = quality.trim().trim_start_matches("q=");
        let is_refused = quality.starts_with('0') && quality.bytes().all(|b| matches!(b, b'0' | b'.'));
        name.trim().eq_ignore_ascii_case("gzip") && !is_refused
    })
}

/// At the address that a refused form leaves in the browser.
pub fn form_again(_: &Edge, _: &Entrance) -> Answer {
    answer::redirect(StatusCode::SEE_OTHER, "/")
}

/// The whole answer to what nft has redirected from port 80: a way to the portal under our own address.
/// An OS that probes for a captive portal sees by it that there is one.
pub fn to_the_portal(edge: &Edge, at: &Entrance) -> Answer {
    let Some(own) = own_address(at.device(), at.local, at.peer) else {
        return error(StatusCode::SERVICE_UNAVAILABLE, "no_address", "the router has no address here yet");
    };
    let mut answer = answer::redirect(StatusCode::FOUND, &with_host(own, edge.site.config().main.port));
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

pub fn health(_: &Edge, _: &Entrance) -> Answer {
    answer::text(StatusCode::OK, "OK")
}

pub fn stats(edge: &Edge, _: &Entrance) -> Answer {
    let site = &edge.site;
    let stats = match &site.shop {
        Ok(shop) => {
            let (requests, unpaid) = shop.invoices.counts();
            json!({
                "sockets": shop.mint_proxy.sockets().count(),
                "connections": site.connections(),
                "requests": requests,
                "unpaid": unpaid,
                "sessions": shop.access.running().len(),
            })
        }
        Err(closed) => json!({"connections": site.connections(), "closed": closed.code}),
    };
    answer::json(StatusCode::OK, &stats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_only_to_what_names_it() {
        for (accepts, takes) in [
            ("gzip, deflate", true),
            ("br;q=1.0, GZIP ;q=0.001", true),
            ("gzip;q=1", true),
            ("", false),
            ("identity", false),
            ("deflate, gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("xgzip", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, accepts.parse().unwrap());
            assert_eq!(takes_gzip(&headers), takes, "{accepts}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
