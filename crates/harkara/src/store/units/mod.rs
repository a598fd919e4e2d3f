//! What units do, statement by statement: the hot four (commit, claim, settle, sweep), what they share,
//! and what goes on slowly beside them.
//!
//! A unit runs in a transaction that `batch.rs` has begun, perhaps beside others, and knows nothing of
//! it. The statements are the same for both engines. `Store` hands units to the committer.

mod aggregates;
pub(super) mod ahead;
pub(super) mod claim;
pub(super) mod commit;
pub(super) mod forget;
pub(super) mod place;
pub(super) mod pull_in;
pub(super) mod settle;
pub(super) mod sweep;
