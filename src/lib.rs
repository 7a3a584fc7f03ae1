//! tollgated: sells internet access on a router. This is its architecture; how to change it is in `README.md` beside this
//! file, what the product does in the one at the top.
//!
//! # Rooms
//!
//! A module below is a room: one owner, one sentence of purpose at its top, and what it refuses. They stand in the order of
//! dependency: each may use those above it and none below (`make lint` reads the order here and checks it).
//!
//! | rooms | what they are |
//! | --- | --- |
//! | `units` to `shared_secret` | the ground: types, texts and clocks that know nothing of a shop |
//! | `config` | UCI text to a typed `Config`: parsed once, never checked again |
//! | `store`, `network`, `calls`, `certificate`, `kms` | the machine: what survives a power cut; who is calling and who may pass; requests to others; our own certificate; what opens key files |
//! | `ecash`, `lightning`, `card`, `vouchers`, `fiat` | money: it knows neither router nor gate |
//! | `access` | the centre: accounts, sessions, tickets, and the gatekeeper that makes the gate follow them |
//! | `auth` | who somebody is (wallets' signatures, tokens), who may do what, and who did (the audit log) |
//! | `sale` | the engines, one for each way to pay, with one set of terms and one error: the rules of money |
//! | `mint_proxy`, `tollgate` | protocols: words and sockets, no rule of money; they do not know each other |
//! | `relay` | on a server: what Daraja calls for routers that nobody can call, and the token that they share |
//! | `shop`, `setup` | what is open, and why not; the router around the daemon |
//! | `commands` | every operator's command, once; the command line, the socket and `/admin` read the one list |
//! | `portal`, `http`, `control`, `grpc`, `ops` | edges: facts to a page; TCP; the control socket; the operator's programs; the log |
//! | `app` | `Config` to a running program, until a signal |
//!
//! # Promises
//!
//! | # | what is promised | where it is kept | where it is tested |
//! | --- | --- | --- | --- |
//! | P1 | What was acknowledged is there after a power cut at any instant. | `store/database.rs`: an answer comes after COMMIT | `store/tests/power_cut.rs`, `tests/system/test_crash.py` |
//! | P2 | No token, quote, hash or link grants or pays out twice. | unique rows: `store/grants.rs`, `store/operations.rs`, `store/taps.rs` | `store/tests/sales.rs`, `tests/system/test_money.py`, `tests/system/test_card_races.py` |
//! | P3 | A payment that was made reaches its end by itself; its secrets are stored before an invoice is shown. | `sale/invoice/watch.rs`, `ecash/wallet/mod.rs`, `card/payment.rs` | `tests/system/test_fault_mint.py`, `tests/system/test_fault_proxy.py` |
//! | P4 | Nobody passes without paying, whatever becomes of the daemon; paying opens the internet only. | `network/gate/chains.rs`, `network/gate/lock.rs` | `tests/gate/main.rs`, `tests/system/test_gate.py`, `tests/system/test_uplinks.py` |
//! | P5 | A guest who has paid keeps what was paid for, through restarts, reloads, outages, and a changed MAC address. | `access/gatekeeper.rs`, `access/moves.rs`, `store/time.rs` | `tests/system/test_ticket.py`, `tests/system/test_accounts.py`, `tests/system/test_service.py` |
//! | P6 | A damaged or newer store is never replaced: nothing is sold, and guests who have paid go on. | `store/wal.rs`, `store/files.rs` | `store/tests/damage.rs`, `tests/system/test_store.py` |
//! | P7 | Bad input gets one clear error, costs little memory, and is no panic. | types that parse; `http/crowd.rs`, `json.rs`; `tests/lab/lint_rooms.py` | `tests/fuzz/mod.rs`, `tests/system/test_hostile_peers.py`, `tests/system/test_crowd.py` |
//!
//! # The life of a payment
//!
//! A guest asks the portal, or a program the mint proxy, for an hour. `http` finds out who is calling by the kernel's
//! neighbour table, never by a header, and gives a typed question to an engine of `sale`.
//!
//! 1. **Terms.** May this be sold here, for that much, to this guest? Space for it, a gate that closes, an address that is the
//!    guest's alone, a price. What is refused is refused now, while the money is still the guest's.
//! 2. **Journal.** What the payment's secrets and blinding factors are derived from goes into the store, in one commit,
//!    before a mint hears of it. From here on a power cut loses nothing: a start finds the row and goes on.
//! 3. **Invoice.** The mint makes it, `bolt11` reads whether it is what was asked for, the guest sees it. The engine watches
//!    the quote: the mint's WebSocket tells it at once, looks at growing intervals find it otherwise.
//! 4. **Take.** Paid: the outputs are signed by the mint, checked (DLEQ), and stored. The call has three ends: done, proven
//!    not done, unknown. Unknown is looked up, and never treated as failed.
//! 5. **Grant.** One row, unique by the payment's reference, in the same commit as the money's end: what it bought, where.
//! 6. **Gate.** `access` turns grants into a session, and tells the kernel: a MAC address, and how long or how many bytes. The
//!    kernel ends it; the daemon may be dead by then.
//! 7. **Answer.** Only now is anybody told. Engines emit a `SaleEvent`; protocols say it in their words.
//!
//! Journal, take, grant, gate, answer: without exception in this order. A token and a card differ in the middle only: a token
//! is swapped at its mint, a card's issuer pays the invoice. Gate and meter are derived from the store, and are brought in
//! line with it every two seconds.
//!
//! # Words
//!
//! | word | what it means |
//! | --- | --- |
//! | account | what paid time belongs to; devices attach to it, each by its MAC address |
//! | attach | to let a device have what an account has; a ticket, a card or a login stands for the account |
//! | allotment | what a session may have in all: milliseconds or bytes |
//! | balance | what an account of the wallet API has here, in ecash; that account is its wallet's key, and no device's |
//! | caller | a guest as the router itself knows it: MAC, address, device |
//! | card | an NFC card that pays Lightning invoices by a link; ours, or another's |
//! | challenge | what a wallet is asked to sign, to log in |
//! | claim | to have the outputs of a paid quote signed |
//! | counter | how many outputs were derived of a keyset; also the number in a card's tap |
//! | desk | what commands work with in the daemon |
//! | DLEQ | a mint's proof that it signed with the key it publishes (NUT-12) |
//! | errand | the daemon's part of a command that begins in the shell |
//! | garden | what guests reach without paying |
//! | gate | the kernel's table and rules that let paid guests through |
//! | grace | a little slow internet to pay with, once an hour |
//! | grant | a row that says what one payment bought |
//! | house | the router's own side, in contrast to the guest's: its seed, its requests |
//! | invoice | a BOLT 11 text that asks for a Lightning payment |
//! | keyset | a mint's keys, one for each amount |
//! | lease | a guest's right to pass, as the gate is told it |
//! | lock | the routing rule that keeps out who is not paid, without the table |
//! | login | a wallet's key that has signed a challenge, and the JWT that shows it; a token is ecash elsewhere |
//! | melt | to have a mint pay an invoice for ecash |
//! | mint | who issues ecash; the bank |
//! | operation | one exchange of the wallet's with a mint, journalled |
//! | part | one mint's share of a request |
//! | preimage | what proves that an invoice was paid |
//! | proof | one piece of ecash |
//! | purse | ecash of one seed: the takings, or what all balances are |
//! | quote | a mint's offer: an invoice to be paid, or to pay |
//! | reach | what paid guests reach beside the internet; of a command, from where it may be called |
//! | request | what a guest has asked an invoice for |
//! | service time | the store's clock: goes on after a reboot where it was last noted |
//! | session | what runs for a guest at a venue |
//! | step | the unit that a venue sells |
//! | takings | the router's own ecash |
//! | tap | one reading of a card |
//! | ticket | what moves a session to another device |
//! | tenant | an operator of the router, who sees only vouchers of its own; there is one if the configuration names none |
//! | token | ecash as text, for somebody |
//! | venue | a guest network with its own price |
//! | voucher | a code that is worth time, bytes or sats at one venue, once |
//! | witness | another way than the neighbour table to know who holds an address |
//!
//! # Decisions
//!
//! - **Own calls on hyper, no ureq.** A call that blocks holds a thread, and a mint that hangs would hold all of them. `calls`
//!   is asynchronous, bounded in time and size, and its error says whether the request may have left, which decides what
//!   becomes of money. ureq stays in the tests, as a second opinion.
//! - **`litemap` and [`set::SortedSet`], no hash maps.** Our maps hold hundreds of rows. A sorted vector is the same code for
//!   every type: dozens of kB less than `HashMap` and `BTreeMap` on MIPS, and its order is the same in every run.
//! - **Own BOLT 11.** The crate that everybody uses brings `secp256k1` in C (1.2 MB). We read what is checked before somebody
//!   pays, on `k256`, and a test compares it with that crate over thousands of damaged invoices.
//! - **Boxed tasks.** [`task::spawn`] boxes every future, because tokio's machinery is compiled again for each type that is
//!   spawned. For the same reason a handler of a route and of a command is a function that returns a boxed future.
//! - **One thread for I/O, one for SQLite.** With musl's allocator a runtime of several threads is four times slower.
//!   `synchronous=FULL` and WAL, because everything less loses commits that were acknowledged.
//! - **The kernel ends sessions.** Elements with a timeout and quotas, and two locks that hold without us, so that no crash
//!   lets somebody stay or pass.
//! - **JSON written by [`json`], errors by hand-made tables, no regex, no clap.** Each is a feature's worth of flash.
//! - **Markup as markup, by maud.** A page's elements stand in the source as they nest, and what is data is escaped by its place.
//!   Tried on the tickets' pages: they read better (3.3 kB of source for 3.8), for 0.8 kB of code in the release profile and four
//!   crates at build time. What is written anew in `portal` is written so; the other pages still add up strings (`portal/html.rs`).
//! - **Unit tests hold the fuzz targets** (`tests/fuzz`): they reach what is private, and run on every processor.
#![forbid(unsafe_code)]
// Return an error; write with `writeln!` or the log, which survive a closed pipe.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable,
        clippy::print_stdout,
        clippy::print_stderr,
        clippy::dbg_macro
    )
)]

// Ground.
#[cfg(test)]
mod folder;
pub mod units;
pub mod bech32;
pub mod clock;
pub mod zone;
pub mod form;
pub mod pasted;
pub mod hex;
pub mod correlation;
pub mod json;
pub mod mac;
pub mod pace;
pub mod set;
pub mod stream;
pub mod task;
pub mod url;
pub mod uuid;
pub mod qr;
pub mod ecdsa;
pub mod bolt11;
pub mod shared_secret;
pub mod config;

// The machine: what survives a power cut, the kernel, others over the network, and what we show them.
pub mod store;
pub mod network;
pub mod calls;
pub mod certificate;
pub mod kms;

// Money, which knows neither router nor gate.
pub mod ecash;
pub mod lightning;
pub mod card;
pub mod vouchers;
pub mod fiat;

// What was paid, and the open gate; the engines that turn the one into the other.
pub mod access;
pub mod auth;
pub mod sale;

// Protocols: words and sockets. They never use each other.
pub mod mint_proxy;
pub mod tollgate;
pub mod relay;

// The shop as a whole, and its edges.
pub mod shop;
pub mod setup;
pub mod commands;
pub mod portal;
pub mod http;
pub mod control;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod ops;

pub mod app;

#[cfg(test)]
#[path = "../tests/fuzz/mod.rs"]
mod fuzz;
