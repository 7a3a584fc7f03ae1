//! tollgated: sells internet access on a router.
//!
//! The modules are rooms in dependency order: each may use the ones above it, never one below
//! (`make lint` checks it). `app` ties them together; `main.rs` is the command line.
#![forbid(unsafe_code)]

pub mod bech32;
pub mod clock;
#[cfg(test)]
mod folder;
pub mod form;
pub mod hex;
pub mod correlation;
pub mod json;
pub mod mac;
pub mod pace;
pub mod set;
pub mod stream;
pub mod task;
pub mod units;
pub mod url;

pub mod bolt11;
pub mod config;
pub mod store;
pub mod network;
pub mod calls;
pub mod ecash;
pub mod lightning;
pub mod card;
pub mod access;
pub mod sale;
pub mod mint_proxy;
pub mod tollgate;
pub mod shop;
pub mod setup;
pub mod commands;
pub mod portal;
pub mod http;
pub mod control;
pub mod ops;

pub mod app;

#[cfg(test)]
#[path = "../tests/fuzz/mod.rs"]
mod fuzz;
