//! Harkara's rules: what may happen to a payment, which events follow, who hears of them, and what
//! an answer means.
//!
//! No I/O, no clock, no dice: everything is a function of its arguments, `now` among them. The body
//! (`harkara`) calls these functions and carries out what they decide; this crate calls nobody.

pub mod access;
pub mod command;
pub mod delivery;
pub mod derive;
pub mod dummy;
pub mod endpoint;
pub mod health;
pub mod id;
pub mod json;
pub mod mandate;
pub mod merchant;
pub mod money;
pub mod notification;
pub mod order;
pub mod pace;
pub mod planted;
pub mod refund;
pub mod refusal;
pub mod render;
pub mod replay;
pub mod retention;
pub mod retry;
pub mod time;
pub mod transition;
pub mod txn;
