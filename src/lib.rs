//! tollgated: sells internet access on a router.
//!
//! The modules are rooms in dependency order: each may use the ones above it, never one below
//! (`make lint` reads the order here and checks it). `app` ties them together; `main.rs` is the command line.
#![forbid(unsafe_code)]

// Ground.
#[cfg(test)]
mod folder;
pub mod units;
pub mod bech32;
pub mod clock;
pub mod form;
pub mod hex;
pub mod correlation;
pub mod json;
pub mod mac;
pub mod pace;
pub mod set;
pub mod stream;
pub mod task;
pub mod url;
pub mod bolt11;
pub mod config;

// The machine: what survives a power cut, the kernel, others over the network.
pub mod store;
pub mod network;
pub mod calls;

// Money, which knows neither router nor gate.
pub mod ecash;
pub mod lightning;
pub mod card;

// What was paid, and the open gate; the engines that turn the one into the other.
pub mod access;
pub mod sale;

// Protocols: words and sockets. They never use each other.
pub mod mint_proxy;
pub mod tollgate;

// The shop as a whole, and its edges.
pub mod shop;
pub mod setup;
pub mod commands;
pub mod portal;
pub mod http;
pub mod control;
pub mod ops;

pub mod app;
