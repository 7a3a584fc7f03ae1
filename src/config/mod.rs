//! UCI text -> typed `Config`.
