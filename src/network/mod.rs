//! The router: who is calling, who may pass.
