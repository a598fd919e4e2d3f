//! Harkara's body: the API, the store, the dispatcher and the command line.
//!
//! What may happen and what follows from it is decided in `harkara-core`; this crate parses,
//! commits, sends and shows. `main.rs` is its only caller besides the tests.

pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dashboard;
pub mod deliver;
pub mod error;
pub mod files;
pub mod gateway;
pub mod keys;
pub mod receiver;
pub mod replay;
pub mod retention;
pub mod store;
pub mod submit;
#[cfg(test)]
mod testing;
pub mod vault;
