//! Every path of the program, one row for each method: audience, method, path, guard, limit, handler, and whether it moves money.
//! The first row that fits counts; the operator's commands have their paths in their own list. `README.md` beside this file says
//! the same to those who write clients, and a test compares the two.

use super::entrance::Audience;
use super::minting::{approvals, notices, office, orders, reconcile};
use super::route::Guard::{Account, Anyone, Bearer, Operator, Origin, OwnPage, Signature, TrustedPage};
use super::route::Handler::{Anonymous, At, Client, Page, PageOrClient, Same, Socket, TollGate};
use super::route::Verb::{Any, Connect, Delete, Get, Options, Post, Put};
use super::route::{Guard, Handler, MoneyPath, Needs, Route, Verb};
use super::{
    admin, anybody, attach, cards, ecash, health, invites, login, login_socket, mint_requests, mpesa, pages,
    sphinx, till, tollgate, vouchers, wallet_api, wallets, ways, websocket,
};
use crate::config::Role::{Cashier, Manager, Owner, Viewer};
use crate::mint_proxy::MAX_MESSAGE;

const GUEST: &[Audience] = &[Audience::Guest];
const GUEST_OR_MINT_PROXY: &[Audience] = &[Audience::Guest, Audience::MintProxy];
const PUBLIC: &[Audience] = &[Audience::Public];
const GUEST_OR_PUBLIC: &[Audience] = &[Audience::Guest, Audience::Public];
const SHOPS: &[Audience] = &[Audience::Public, Audience::Admin];
const TICKET: &[Audience] = &[Audience::Guest, Audience::Public, Audience::Admin];
const TOLLGATE: &[Audience] = &[Audience::TollGate];
const REDIRECTED: &[Audience] = &[Audience::Redirected];
const ADMIN: &[Audience] = &[Audience::Admin];

/// The body is not read.
const NO_BODY: usize = 0;
/// Forms and messages: nothing that a guest sends is longer, but for tokens.
const MESSAGE: usize = MAX_MESSAGE;
/// Twice the longest token that is read: a form escapes some of its letters.
const TOKEN_FORM: usize = 128 * 1024;
/// Orders of vouchers and what goes with them; what is longer is read and not kept.
const ORDER: usize = 256 * 1024;
/// Nothing longer is a payment; what is longer than any token is read and not kept.
const PAYMENT: usize = 1 << 20;
/// Nothing that Daraja calls with is longer.
const CALLBACK: usize = 64 * 1024;

pub const ROUTES: &[Route] = &[
    row(GUEST, Get, "/", Anyone, NO_BODY, Page(pages::portal)),
    buys(row(GUEST, Post, "/pay", Origin, MESSAGE, Page(pages::pay))),
    row(GUEST, Get, "/pay", Anyone, NO_BODY, Same(anybody::form_again)),
    buys(row(GUEST, Post, "/card", Origin, MESSAGE, Page(till::pay))),
    row(GUEST, Get, "/card", Anyone, NO_BODY, Same(anybody::form_again)),
    buys(row(GUEST, Post, "/ecash", Origin, TOKEN_FORM, Page(ecash::pay))),
    row(GUEST, Get, "/ecash", Anyone, NO_BODY, Same(anybody::form_again)),
    row(GUEST, Get, "/portal.css", Anyone, NO_BODY, Anonymous(anybody::style)),
    row(GUEST, Get, "/portal.js", Anyone, NO_BODY, Anonymous(anybody::script)),
    buys(row(GUEST_OR_MINT_PROXY, Get, "/mint-proxy", Origin, NO_BODY, Socket(websocket::upgrade))),
    buys(row(GUEST_OR_MINT_PROXY, Post, "/mint-requests", Origin, MESSAGE, Client(mint_requests::open))),
    row(GUEST_OR_MINT_PROXY, Get, "/mint-requests/**", Anyone, NO_BODY, Client(mint_requests::look)),
    row(GUEST_OR_MINT_PROXY, Post, "/ticket", OwnPage, MESSAGE, PageOrClient(ways::ticket)),
    row(GUEST, Get, "/ticket", Anyone, NO_BODY, Same(anybody::form_again)),
    buys(row(GUEST, Post, "/voucher", Origin, MESSAGE, PageOrClient(vouchers::redeem))),
    row(GUEST, Get, "/voucher", Anyone, NO_BODY, Same(anybody::form_again)),
    row(GUEST, Post, "/connectioncodes/redeem", Origin, MESSAGE, Client(invites::redeem)),
    row(GUEST, Post, "/session/attach", OwnPage, MESSAGE, Client(attach::attach)),
    row(GUEST, Post, "/session/detach", OwnPage, MESSAGE, Client(attach::detach)),
    row(GUEST, Post, "/session/link", OwnPage, MESSAGE, Client(attach::link)),
    // M-Pesa.
    buys(only(Needs::Mpesa, GUEST, Post, "/mpesa", Origin, MESSAGE, PageOrClient(mpesa::order))),
    only(Needs::Mpesa, GUEST, Get, "/mpesa", Anyone, NO_BODY, Same(anybody::form_again)),
    only(Needs::Mpesa, GUEST, Post, "/mpesa/claim", Origin, MESSAGE, PageOrClient(mpesa::claim)),
    only(Needs::Mpesa, GUEST, Get, "/mpesa/claim", Anyone, NO_BODY, Same(anybody::form_again)),
    only(Needs::Mpesa, GUEST, Get, "/mpesa/**", Anyone, NO_BODY, Client(mpesa::look)),
    Route {
        needs: Needs::MpesaCallbacks,
        ..row(PUBLIC, Post, "/cb/**", Anyone, CALLBACK, Anonymous(mpesa::called_back))
    },
    row(GUEST_OR_PUBLIC, Get, "/ln", Anyone, NO_BODY, Anonymous(cards::tap)),
    row(GUEST_OR_PUBLIC, Options, "/ln", Anyone, NO_BODY, Same(cards::preflight)),
    buys(row(GUEST_OR_PUBLIC, Get, "/ln/callback", Anyone, NO_BODY, Anonymous(cards::callback))),
    row(GUEST_OR_PUBLIC, Options, "/ln/callback", Anyone, NO_BODY, Same(cards::preflight)),
    row(GUEST_OR_PUBLIC, Get, "/new", Anyone, NO_BODY, Anonymous(cards::keys)),
    row(GUEST_OR_PUBLIC, Post, "/new", Anyone, MESSAGE, Anonymous(cards::keys_of)),
    row(TICKET, Get, "/tickets/TICKET/status", Anyone, NO_BODY, At(notices::ticket_status)),
    moves(row(SHOPS, Post, "/webhook/payment-completed", Signature, ORDER, At(notices::paid))),
    moves(row(SHOPS, Post, "/webhook/payment-complete", Signature, ORDER, At(notices::paid))),
    row(GUEST_OR_MINT_PROXY, Get, "/health", Anyone, NO_BODY, Same(anybody::health)),
    row(GUEST_OR_MINT_PROXY, Get, "/stats", Anyone, NO_BODY, Same(anybody::stats)),
    // Logging in with a wallet.
    only(Needs::Auth, GUEST, Get, "/lnauth", OwnPage, NO_BODY, At(login::challenge)),
    only(Needs::Auth, GUEST, Get, "/lnauth_status", OwnPage, NO_BODY, At(login::status)),
    only(Needs::Auth, GUEST, Post, "/lnauth_confirm", OwnPage, MESSAGE, At(login::confirm)),
    only(Needs::Auth, GUEST_OR_PUBLIC, Options, "/lnauth_login", Anyone, NO_BODY, Same(cards::preflight)),
    only(Needs::Auth, GUEST_OR_PUBLIC, Options, "/lnauth_login/**", Anyone, NO_BODY, Same(cards::preflight)),
    // Wallets read the refusal of another method, too.
    only(Needs::Auth, GUEST_OR_PUBLIC, Any, "/lnauth_login", Anyone, NO_BODY, At(login::callback)),
    only(Needs::Auth, GUEST_OR_PUBLIC, Any, "/lnauth_login/**", Anyone, NO_BODY, At(login::callback)),
    only(Needs::Auth, GUEST, Get, "/websocket", OwnPage, NO_BODY, At(login_socket::upgrade)),
    only(Needs::Auth, GUEST, Get, "/ws", OwnPage, NO_BODY, At(login_socket::upgrade)),
    only(Needs::Auth, GUEST, Get, "/me", OwnPage, NO_BODY, At(login::me)),
    only(Needs::Auth, GUEST, Get, "/refresh_jwt", OwnPage, NO_BODY, At(login::refresh)),
    only(Needs::Auth, GUEST, Post, "/logout", OwnPage, NO_BODY, At(login::log_out)),
    only(Needs::Auth, GUEST, Post, "/logout_all", OwnPage, NO_BODY, At(login::log_out_all)),
    only(Needs::Auth, GUEST, Post, "/wallet", OwnPage, MESSAGE, Page(wallets::digits)),
    only(Needs::Auth, GUEST, Get, "/wallet", Anyone, NO_BODY, Same(anybody::form_again)),
    // Of apps.
    only(Needs::Auth, GUEST_OR_PUBLIC, Options, "/api/**", Origin, NO_BODY, Same(wallet_api::preflight)),
    only(Needs::Auth, GUEST_OR_PUBLIC, Post, "/api/auth/login", Origin, MESSAGE, At(wallet_api::log_in)),
    only(Needs::Auth, GUEST_OR_PUBLIC, Post, "/api/auth/refresh", Origin, NO_BODY, At(wallet_api::refresh)),
    only(Needs::Auth, GUEST_OR_PUBLIC, Post, "/api/auth/logout", Origin, NO_BODY, At(wallet_api::log_out)),
    moves(only(Needs::Auth, GUEST_OR_PUBLIC, Any, "/api/fiat/**", Account, TOKEN_FORM, At(wallet_api::fiat))),
    moves(only(
        Needs::Auth,
        GUEST_OR_PUBLIC,
        Any,
        "/api/wallet/**",
        Account,
        TOKEN_FORM,
        At(wallet_api::wallet),
    )),
    moves(only(
        Needs::Auth,
        GUEST_OR_PUBLIC,
        Any,
        "/api/payments/**",
        Account,
        MESSAGE,
        At(wallet_api::wallet),
    )),
    moves(only(
        Needs::Auth,
        GUEST_OR_PUBLIC,
        Any,
        "/api/bitcoin/**",
        Account,
        MESSAGE,
        At(wallet_api::wallet),
    )),
    only(Needs::Sphinx, GUEST, Get, "/ask", OwnPage, NO_BODY, At(sphinx::ask)),
    only(Needs::Sphinx, GUEST_OR_PUBLIC, Post, "/verify/**", Anyone, MESSAGE, At(sphinx::verify)),
    only(Needs::Sphinx, GUEST, Get, "/poll/**", OwnPage, NO_BODY, At(sphinx::poll)),
    // The TollGate protocol.
    row(TOLLGATE, Options, "**", Anyone, NO_BODY, Same(tollgate::preflight)),
    buys(row(TOLLGATE, Post, "/", Anyone, PAYMENT, TollGate(tollgate::pay))),
    row(TOLLGATE, Any, "/", Anyone, NO_BODY, TollGate(tollgate::advertisement)),
    row(TOLLGATE, Get, "/whoami", Anyone, NO_BODY, TollGate(tollgate::whoami)),
    row(TOLLGATE, Any, "/usage", Anyone, NO_BODY, TollGate(tollgate::usage)),
    row(TOLLGATE, Get, "/balance", Anyone, NO_BODY, TollGate(tollgate::balance)),
    row(TOLLGATE, Get, "/session-state", Anyone, NO_BODY, TollGate(tollgate::session_state)),
    row(TOLLGATE, Get, "/identity", Anyone, NO_BODY, TollGate(tollgate::identity)),
    buys(row(TOLLGATE, Post, "/ln-invoice", TrustedPage, MESSAGE, TollGate(tollgate::new_invoice))),
    row(TOLLGATE, Get, "/ln-invoice", Anyone, NO_BODY, TollGate(tollgate::invoice)),
    // Existing clients ask in many ways; what no path is meant for gets the offer, as from other TollGates.
    row(TOLLGATE, Post, "*", Anyone, NO_BODY, Same(tollgate::nothing)),
    row(TOLLGATE, Connect, "*", Anyone, NO_BODY, Same(tollgate::no_tunnel)),
    row(TOLLGATE, Any, "*", Anyone, NO_BODY, TollGate(tollgate::advertisement)),
    // What was asked of others.
    row(REDIRECTED, Any, "**", Anyone, NO_BODY, Same(anybody::to_the_portal)),
    // The operator's.
    row(ADMIN, Get, "/health", Anyone, NO_BODY, Same(health::health)),
    row(ADMIN, Get, "/health/live", Anyone, NO_BODY, Anonymous(health::live)),
    row(ADMIN, Get, "/health/ready", Anyone, NO_BODY, Anonymous(health::ready)),
    row(ADMIN, Get, "/health/startup", Anyone, NO_BODY, Anonymous(health::startup)),
    row(ADMIN, Get, "/health/full", Operator(Viewer), NO_BODY, Anonymous(health::full)),
    only(Needs::Auth, ADMIN, Get, "/lnauth", Origin, NO_BODY, At(login::challenge)),
    only(Needs::Auth, ADMIN, Get, "/lnauth_status", Origin, NO_BODY, At(login::status)),
    only(Needs::Auth, ADMIN, Post, "/lnauth_confirm", Origin, MESSAGE, At(login::confirm)),
    only(Needs::Auth, ADMIN, Get, "/websocket", Origin, NO_BODY, At(login_socket::upgrade)),
    only(Needs::Auth, ADMIN, Get, "/ws", Origin, NO_BODY, At(login_socket::upgrade)),
    only(Needs::Auth, ADMIN, Get, "/me", Origin, NO_BODY, At(login::me)),
    only(Needs::Auth, ADMIN, Get, "/refresh_jwt", Origin, NO_BODY, At(login::refresh)),
    only(Needs::Auth, ADMIN, Post, "/logout", Origin, NO_BODY, At(login::log_out)),
    only(Needs::Auth, ADMIN, Post, "/logout_all", Origin, NO_BODY, At(login::log_out_all)),
    only(Needs::Sphinx, ADMIN, Get, "/connectioncodes", Anyone, NO_BODY, At(sphinx::code)),
    // Vouchers.
    moves(row(ADMIN, Post, "/admin/batch-mint", Operator(Cashier), ORDER, Anonymous(orders::batch_mint))),
    row(ADMIN, Get, "/admin/batch-mint/estimate", Operator(Viewer), NO_BODY, Anonymous(office::estimate)),
    row(ADMIN, Get, "/admin/dashboard", Operator(Viewer), NO_BODY, Anonymous(office::dashboard)),
    row(ADMIN, Get, "/admin/mints", Operator(Viewer), NO_BODY, Anonymous(office::mints)),
    row(ADMIN, Get, "/admin/mints/TICKET", Operator(Viewer), NO_BODY, Anonymous(office::mint)),
    moves(row(ADMIN, Post, "/admin/reconcile/VENUE", Operator(Cashier), ORDER, Anonymous(reconcile::run))),
    moves(row(
        ADMIN,
        Post,
        "/admin/reconcile/VENUE/fix",
        Operator(Manager),
        ORDER,
        Anonymous(reconcile::fix),
    )),
    row(
        ADMIN,
        Get,
        "/admin/reconcile/VENUE/history",
        Operator(Viewer),
        NO_BODY,
        Anonymous(reconcile::history),
    ),
    row(ADMIN, Get, "/admin/stats/VENUE", Operator(Viewer), NO_BODY, Anonymous(office::stats)),
    row(ADMIN, Get, "/admin/system/status", Operator(Viewer), NO_BODY, Anonymous(office::system_status)),
    row(ADMIN, Get, "/admin/cache/stats", Operator(Viewer), NO_BODY, Anonymous(office::cache_stats)),
    row(ADMIN, Delete, "/admin/cache/clear", Operator(Manager), NO_BODY, Anonymous(office::cache_clear)),
    row(ADMIN, Delete, "/admin/cache/TICKET", Operator(Manager), NO_BODY, Anonymous(office::cache_forget)),
    row(ADMIN, Put, "/admin/limits", Operator(Owner), ORDER, Anonymous(approvals::put_limits)),
    row(ADMIN, Get, "/admin/approvals", Operator(Viewer), NO_BODY, Anonymous(approvals::waiting)),
    moves(row(
        ADMIN,
        Post,
        "/admin/approvals/ID/approve",
        Operator(Manager),
        ORDER,
        Anonymous(approvals::approve),
    )),
    moves(row(
        ADMIN,
        Post,
        "/admin/approvals/ID/reject",
        Operator(Manager),
        ORDER,
        Anonymous(approvals::reject),
    )),
    moves(row(ADMIN, Post, "/internal/mint-tickets", Signature, ORDER, At(orders::mint_tickets))),
    moves(row(ADMIN, Post, "/internal/mint", Signature, ORDER, At(orders::mint_tickets))),
    row(ADMIN, Get, "/internal/mint/status/TICKET", Signature, NO_BODY, At(notices::service_status)),
    moves(row(ADMIN, Post, "/internal/mint/batch", Signature, ORDER, At(orders::mint_tickets))),
    // The paths behind these are in the list of commands.
    row(ADMIN, Any, "/admin", Bearer, NO_BODY, Anonymous(admin::command)),
    row(ADMIN, Any, "/admin/**", Bearer, MESSAGE, Anonymous(admin::command)),
    row(ADMIN, Any, "/api", Bearer, NO_BODY, Anonymous(admin::command)),
    row(ADMIN, Any, "/api/**", Bearer, MESSAGE, Anonymous(admin::command)),
    row(ADMIN, Any, "/connectioncodes", Bearer, MESSAGE, Anonymous(admin::command)),
    row(ADMIN, Any, "/connectioncodes/**", Bearer, NO_BODY, Anonymous(admin::command)),
];

const fn row(
    audience: &'static [Audience],
    method: Verb,
    path: &'static str,
    guard: Guard,
    limit: usize,
    handler: Handler,
) -> Route {
    Route { audience, method, path, guard, limit, handler, needs: Needs::Nothing, money: MoneyPath::Rests }
}

/// A row that moves money.
const fn moves(row: Route) -> Route {
    Route { money: MoneyPath::Moves, ..row }
}

/// A row by which a guest pays.
const fn buys(row: Route) -> Route {
    Route { money: MoneyPath::Buys, ..row }
}

/// A row that is there only where what it needs is configured.
const fn only(
    needs: Needs,
    audience: &'static [Audience],
    method: Verb,
    path: &'static str,
    guard: Guard,
    limit: usize,
    handler: Handler,
) -> Route {
    Route { needs, ..row(audience, method, path, guard, limit, handler) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{all, at_path};

    fn cells(route: &Route) -> String {
        let guard = match route.guard {
            Anyone => "anyone",
            Origin => "origin",
            Account => "account",
            OwnPage => "own page",
            TrustedPage => "trusted page",
            Bearer => "bearer",
            Operator(role) => role.as_str(),
            Signature => "signature",
        };
        let audience: Vec<&str> = route.audience.iter().map(|audience| audience.as_str()).collect();
        let (method, path, limit) = (route.method.as_str(), route.path, route.limit);
        let money = match route.money {
            MoneyPath::Rests => "",
            MoneyPath::Moves => "moves",
            MoneyPath::Buys => "buys",
        };
        format!("| {} | {method} | `{path}` | {guard} | {limit} | {money}", audience.join(", "))
    }

    /// What is behind the operator's rows.
    fn commands() -> impl Iterator<Item = String> {
        all().flat_map(|command| {
            command.paths().iter().map(|path| {
                let (method, path) = path.split_once(' ').unwrap();
                let (_, named) = at_path(method, path).unwrap();
                let limit =
                    if method == "GET" || !command.takes_more_than(&named) { NO_BODY } else { MESSAGE };
                let money = if command.moves_money { "moves" } else { "" };
                format!("| admin | {method} | `{path}` | bearer | {limit} | {money}")
            })
        })
    }

    #[test]
    fn the_readme_has_every_path_in_the_same_order() {
        let rows = include_str!("README.md").lines().skip_while(|line| !line.starts_with("| ")).skip(2);
        let rows = rows.take_while(|line| line.starts_with("| "));
        // Where no money moves the cell is empty.
        let filled = |cells: &str| cells.trim_end_matches([' ', '|']).to_owned();
        let rows: Vec<String> = rows.map(|line| filled(line.rsplitn(3, '|').last().unwrap())).collect();
        let mut table: Vec<String> = ROUTES.iter().map(cells).collect();
        let before_operators = ROUTES.iter().position(|route| route.path == "/admin").unwrap();
        table.splice(before_operators..before_operators, commands());
        assert_eq!(rows, table.iter().map(|row| filled(row)).collect::<Vec<_>>());
    }

    /// What changes something and moves no money. A new row has to be thought of: it is here, or it moves some.
    #[test]
    fn what_is_sent_moves_money_or_is_known_to_move_none() {
        const RESTS: [&str; 30] = [
            "/ticket",
            "/connectioncodes/redeem",
            "/session/attach",
            "/session/detach",
            "/session/link",
            // Of what is paid already.
            "/mpesa/claim",
            "/cb/**",
            "/new",
            "/lnauth_confirm",
            "/lnauth_login",
            "/lnauth_login/**",
            "/logout",
            "/logout_all",
            "/wallet",
            "/api/auth/login",
            "/api/auth/refresh",
            "/api/auth/logout",
            "/verify/**",
            "/usage",
            "*",
            "**",
            // Others have to agree to more, and their votes count as money.
            "/admin/limits",
            "/admin/cache/clear",
            "/admin/cache/TICKET",
            // The commands behind these say it in their own list.
            "/admin",
            "/admin/**",
            "/api",
            "/api/**",
            "/connectioncodes",
            "/connectioncodes/**",
        ];
        for route in ROUTES.iter().filter(|route| !matches!(route.method, Get | Options | Connect)) {
            let is_offer = route.path == "/" && route.method == Any;
            let rests = is_offer || RESTS.contains(&route.path);
            assert_eq!(route.money == MoneyPath::Rests, rests, "{} {}", route.method.as_str(), route.path);
        }
        // The table answers these itself, in the body of programs.
        for route in ROUTES.iter().filter(|route| route.money == MoneyPath::Moves) {
            assert!(matches!(route.handler, At(_) | Anonymous(_)), "{}", route.path);
        }
    }

    #[test]
    fn no_path_of_an_audience_stands_there_twice() {
        for (number, route) in ROUTES.iter().enumerate() {
            let same = |earlier: &&Route| (earlier.method, earlier.path) == (route.method, route.path);
            let shares = |earlier: &Route| earlier.audience.iter().any(|one| route.audience.contains(one));
            assert!(!ROUTES.iter().take(number).filter(same).any(shares), "{}", route.path);
        }
    }
}
