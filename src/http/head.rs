//! What is wrong with a request before anybody reads what it asks for: the `Host` that every request of HTTP/1.1 has
//! once (RFC 9112, 3.2). Which host it names does not matter here.

use super::answer::{self, Answer};
use super::cards::LNURL_PATHS;
use super::entrance::Audience;
use super::error_body::ErrorBody;
use super::refusals::error;
use crate::json::json;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{StatusCode, Version};

/// The answer to a request without a `Host`, with several, or with one that cannot be one; in the body of its path. What
/// such a peer sends next may not be what it means.
pub fn malformed(audience: Audience, path: &str, version: Version, headers: &HeaderMap) -> Option<Answer> {
    let why = fault(version, headers)?;
    let status = StatusCode::BAD_REQUEST;
    let mut answer = match audience {
        Audience::Admin => ErrorBody { code: "invalid_request", message: why, details: &[] }.answer(status),
        Audience::Public => answer::json(status, &json!({"status": "ERROR", "reason": why})),
        _ if LNURL_PATHS.contains(&path) || path.starts_with("/lnauth_login") => {
            answer::json(status, &json!({"status": "ERROR", "reason": why}))
        }
        _ => error(status, "invalid_message", why),
    };
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Some(answer)
}

fn fault(version: Version, headers: &HeaderMap) -> Option<&'static str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_11 => Some("the request has no Host"),
        (_, Some(_)) => Some("the request has more than one Host"),
        (Some(host), None) if !host.as_bytes().iter().all(may_be_in_host) => {
            Some("the Host is no name or address")
        }
        _ => None,
    }
}

/// Names, addresses with brackets and zones, ports. `Host` is empty where a target has no authority.
fn may_be_in_host(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(hosts: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn a_request_has_one_host_and_before_1_1_may_have_none() {
        let of = |version, hosts: &[&str]| fault(version, &headers(hosts));
        for host in ["192.168.77.1:2121", "[fd77::1]:2121", "my_router.lan", "[fe80::1%25eth0]", ""] {
            assert_eq!(
                (of(Version::HTTP_11, &[host]), of(Version::HTTP_10, &[host])),
                (None, None),
                "{host}"
            );
        }
        assert_eq!(of(Version::HTTP_10, &[]), None);
        assert!(of(Version::HTTP_11, &[]).is_some());
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert!(of(version, &["a", "a"]).is_some() && of(version, &["a", "b"]).is_some());
            for host in ["a b", "a,b", "user@a", "a/b", "http://a", "a\u{e9}", "a\"b", "a?b"] {
                assert!(of(version, &[host]).is_some(), "{host}");
            }
        }
    }

    #[test]
    fn the_refusal_has_the_body_of_its_path() {
        let status = |audience, path| {
            let refused = malformed(audience, path, Version::HTTP_11, &headers(&[])).unwrap();
            (refused.status().as_u16(), refused.headers()[header::CONNECTION].to_str().unwrap().to_owned())
        };
        for audience in [Audience::Guest, Audience::TollGate, Audience::Public, Audience::Admin] {
            assert_eq!(status(audience, "/ln"), (400, "close".to_owned()));
        }
        assert!(malformed(Audience::Guest, "/", Version::HTTP_11, &headers(&["x"])).is_none());
    }
}
