//! Cashu: tokens, keysets, blind signatures, the mint client.

mod curve;
mod hex;
mod keyset;
mod seed;
