//! Cashu: tokens, keysets, blind signatures, the mint client.

mod curve;
mod error;
mod hex;
mod invoice;
mod keyset;
mod outputs;
mod seed;
