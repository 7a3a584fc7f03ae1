//! UCI text -> typed `Config`.
pub mod mint_url;
pub mod uci;
