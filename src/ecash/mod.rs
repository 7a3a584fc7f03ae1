//! Cashu: tokens, keysets, blind signatures, the mint client.
