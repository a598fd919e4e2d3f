//! HTTP out: what is due is claimed, sent, judged and settled.
//!
//! `inbox` takes fresh deliveries in, `dispatcher` decides what is sent next (`lane` for each endpoint,
//! `permits` over all of them), `run` carries that out, `attempt` makes one call, which `sign` signs.
//! `guard` judges URLs and addresses, `authorities` reads an endpoint's own CA certificates, `connect`
//! dials, `transport` sends one request and says how it ended. Orders, refunds and their JSON are
//! unknown here.

pub mod attempt;
pub mod authorities;
pub mod connect;
pub mod dispatcher;
pub mod guard;
pub mod inbox;
mod lane;
mod permits;
pub mod run;
pub(crate) mod shown;
pub mod sign;
#[cfg(test)]
mod tests;
pub mod transport;
