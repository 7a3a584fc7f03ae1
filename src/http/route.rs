//! What a route is: its audience, its guard, its body limit and its handler.

use super::answer::Answer;
use super::asker::Asker;
use super::entrance::{Audience, Entrance, Visit};
use super::sent::Sent;
use super::Edge;
use crate::config::{Config, MpesaMode, Role};
use hyper::Method;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// One path for one method. Every column is written: a guard or a limit that is forgotten does not compile.
pub struct Route {
    pub audience: &'static [Audience],
    pub method: Verb,
    pub path: &'static str,
    pub guard: Guard,
    /// At most this many bytes of the body are read; zero: the body is not read.
    pub limit: usize,
    pub handler: Handler,
    pub needs: Needs,
    pub money: MoneyPath,
}

/// What a path does with money, which decides what it answers while the key files are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoneyPath {
    /// None is moved, or only what was paid before: it goes on.
    Rests,
    /// Every method but GET moves some, or makes what is worth some: 503 `SEALED`, from the table itself where it is not an
    /// account's or a service's.
    Moves,
    /// A guest pays: the engine says it, in the words of the page or the protocol.
    Buys,
}

/// What the configuration must say for a path to be there. Without it, it is as a path that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// A section `auth`.
    Auth,
    /// Its `sphinx_compat`.
    Sphinx,
    /// A section `mpesa`.
    Mpesa,
    /// One whose callbacks come to this router.
    MpesaCallbacks,
}

impl Needs {
    pub fn are_met(self, config: &Config) -> bool {
        match self {
            Needs::Nothing => true,
            Needs::Auth => config.auth.is_some(),
            Needs::Sphinx => config.auth.as_ref().is_some_and(|auth| auth.sphinx.is_some()),
            Needs::Mpesa => config.mpesa.is_some(),
            Needs::MpesaCallbacks => {
                config.mpesa.as_ref().is_some_and(|mpesa| mpesa.mode == MpesaMode::Direct)
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `HEAD` too.
    Get,
    Post,
    Put,
    Delete,
    Options,
    Connect,
    Any,
}

/// What is checked before a handler is called. A refusal has the body of the path that is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nothing: the answer is worth nothing to a stranger, or the request carries its own proof.
    Anyone,
    /// No page of another host: [`origin_allowed`](super::origin::origin_allowed); of guests' apps, none but those listed.
    Origin,
    /// An account's token, which the handler asks for before all else; and no page of another host.
    Account,
    /// No page but one under the router's own address: [`may_see_ticket`](super::origin::may_see_ticket).
    OwnPage,
    /// No page but one that may read the TollGate protocol: [`trusted_origin`](super::cors::trusted_origin).
    TrustedPage,
    /// The operator's token.
    Bearer,
    /// The same, of somebody who has this role or a higher one.
    Operator(Role),
    /// A service's signature of the body, which the handler checks before all else.
    Signature,
}

pub type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// The handler, by what it has to know of the caller.
#[derive(Clone, Copy)]
pub enum Handler {
    /// Nothing: every caller gets the same.
    Same(fn(&Edge, &Entrance) -> Answer),
    /// Nothing: what is sent says enough.
    Anonymous(fn(Arc<Edge>, Sent) -> Answering),
    /// At which socket it is asked, and from where.
    At(fn(Arc<Edge>, Entrance, Sent) -> Answering),
    /// Which guest asks; one that is not known is told so by a page.
    Page(fn(Arc<Edge>, Visit, Sent) -> Answering),
    /// Which guest asks; one that is not known is told so by JSON.
    Client(fn(Arc<Edge>, Visit, Sent) -> Answering),
    /// As `Page` for the form of a page, else as `Client`.
    PageOrClient(fn(Arc<Edge>, Visit, Sent) -> Answering),
    /// As `Client`; the answer is a connection that stays.
    Socket(fn(Arc<Edge>, Visit, Sent) -> Answering),
    /// Which guest asks, if that is known, in the words of the TollGate protocol.
    TollGate(fn(Arc<Edge>, Asker, Sent) -> Answering),
}

impl Verb {
    pub fn takes(self, method: &Method) -> bool {
        match self {
            Verb::Get => matches!(*method, Method::GET | Method::HEAD),
            Verb::Post => *method == Method::POST,
            Verb::Put => *method == Method::PUT,
            Verb::Delete => *method == Method::DELETE,
            Verb::Options => *method == Method::OPTIONS,
            Verb::Connect => *method == Method::CONNECT,
            Verb::Any => true,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Post => "POST",
            Verb::Put => "PUT",
            Verb::Delete => "DELETE",
            Verb::Options => "OPTIONS",
            Verb::Connect => "CONNECT",
            Verb::Any => "any",
        }
    }
}

/// The path of a route for all that no other route of its audience names.
const ALL_OTHERS: &str = "*";

/// Whether a part of a route's path stands for any other.
fn is_argument(part: &str) -> bool {
    let part = part.trim_end_matches('/');
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_uppercase())
}

impl Route {
    /// Whether this is the route's path, and what stands in it for the route's `**` (all the rest), or from its first
    /// argument on.
    pub fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.path == ALL_OTHERS {
            return Some(path);
        }
        if let Some(before) = self.path.strip_suffix("**") {
            return path.strip_prefix(before);
        }
        let Some(at) = self.path.split_inclusive('/').position(is_argument) else {
            return (self.path == path).then_some("");
        };
        let same_length = self.path.split('/').count() == path.split('/').count();
        let mut pairs = self.path.split('/').zip(path.split('/'));
        let is_it = same_length
            && pairs.all(|(known, part)| known == part || (is_argument(known) && !part.is_empty()));
        let before: usize = path.split_inclusive('/').take(at).map(str::len).sum();
        path.get(before..).filter(|_| is_it)
    }

    /// Whether a request of this method moves money, and is refused by the table while the key files are sealed. An account's
    /// handler and a service's do that themselves: whoever has no token, or has not signed, does not hear it.
    pub fn needs_keys(&self, method: &Method) -> bool {
        let asks_itself = matches!(self.guard, Guard::Account | Guard::Signature);
        self.money == MoneyPath::Moves && !asks_itself && !Verb::Get.takes(method)
    }

    pub fn is_for_all_others(&self) -> bool {
        self.path == ALL_OTHERS
            || (self.method == Verb::Any && self.path.starts_with("/") && self.path.ends_with("/**"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::routes::ROUTES;
    use super::*;

    fn rest(route: &str, path: &'static str) -> Option<&'static str> {
        ROUTES.iter().find(|known| known.path == route).unwrap().rest(path)
    }

    #[test]
    fn two_stars_are_the_end_of_the_path() {
        assert_eq!(rest("/mint-requests/**", "/mint-requests/abc"), Some("abc"));
        assert_eq!(rest("/mint-requests/**", "/mint-requests/a/b"), Some("a/b"));
        assert_eq!(rest("/mint-requests/**", "/mint-requests"), None);
        assert_eq!(rest("/admin", "/admin/cards"), None);
        assert_eq!(rest("/admin/**", "/administer"), None);
        assert_eq!(rest("/pay", "/pay/"), None);
    }

    #[test]
    fn capitals_stand_for_one_part() {
        let route = Route { path: "/admin/reconcile/VENUE/fix", ..copy(&ROUTES[0]) };
        assert_eq!(route.rest("/admin/reconcile/lobby/fix"), Some("lobby/fix"));
        for other in
            ["/admin/reconcile//fix", "/admin/reconcile/fix", "/admin/reconcile/a/b/fix", "/admin/x/a/fix"]
        {
            assert_eq!(route.rest(other), None, "{other}");
        }
    }

    fn copy(route: &Route) -> Route {
        let Route { audience, method, path, guard, limit, handler, needs, money } = *route;
        Route { audience, method, path, guard, limit, handler, needs, money }
    }
}
