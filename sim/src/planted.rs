//! Known faults, each of which the simulation has to find: the proof that its checks bite.
//!
//! Most are put where the simulation itself stands in for the store or for the loop around the
//! dispatcher; the others are in the rules and the dispatcher, behind the feature `planted-bugs`.
//! `main.rs` runs seeds with one fault at a time until a check fails.

use harkara_core::planted::Bug;

/// A fault, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The publisher is told before the flush.
    AckBeforeFlush,
    /// The disk flushes once in a while and always says that it did.
    SkippedFlush,
    /// A flush that failed is answered like any other, and the process goes on.
    FlushErrorIgnored,
    /// A settle counts whoever holds the claim.
    SettleIgnoresFence,
    /// A 200 that comes after its claim was taken over is thrown away.
    LateSuccessDropped,
    /// A settle leaves those that wait for it waiting.
    WaitingForgotten,
    /// A claim takes what somebody else has.
    ClaimIgnoresLease,
    /// A claim does not count its fence.
    ClaimKeepsFence,
    /// A place in line looks past those that wait themselves.
    PlaceIgnoresWaiting,
    /// A claim is made for the endpoint of that name, whoever its merchant is.
    ClaimIgnoresMerchant,
    /// Fresh deliveries are born claimed and handed to nobody.
    BornLost,
    /// Claims that are given back are not written.
    ReleaseForgotten,
    /// Far due times are left where they are.
    PullInForgotten,
    /// A ladder ends after a time, not by its attempts.
    EndsByTheClock,
    /// The body is rendered anew for each attempt.
    BodyRenderedAnew,
    /// A paused endpoint is called.
    PausedIsCalled,
    /// One in the rules or the dispatcher.
    Real(Bug),
}

impl Fault {
    pub(crate) const ALL: &[Self] = &[
        Self::AckBeforeFlush,
        Self::SkippedFlush,
        Self::FlushErrorIgnored,
        Self::SettleIgnoresFence,
        Self::LateSuccessDropped,
        Self::WaitingForgotten,
        Self::ClaimIgnoresLease,
        Self::ClaimKeepsFence,
        Self::PlaceIgnoresWaiting,
        Self::ClaimIgnoresMerchant,
        Self::BornLost,
        Self::ReleaseForgotten,
        Self::PullInForgotten,
        Self::EndsByTheClock,
        Self::BodyRenderedAnew,
        Self::PausedIsCalled,
        Self::Real(Bug::NoContentCounts),
        Self::Real(Bug::LastStepSkipped),
        Self::Real(Bug::DueTimeStays),
        Self::Real(Bug::TwoOfOneSubject),
        Self::Real(Bug::PermitsIgnored),
        Self::Real(Bug::PermitKept),
    ];

    /// Switches it on in this thread where it is in the rules or the dispatcher.
    pub(crate) fn plant(fault: Option<Self>) {
        let bug = match fault {
            Some(Self::Real(bug)) => Some(bug),
            _ => None,
        };
        #[cfg(feature = "planted-bugs")]
        harkara_core::planted::plant(bug);
        #[cfg(not(feature = "planted-bugs"))]
        assert!(
            bug.is_none(),
            "build with --features planted-bugs for {bug:?}"
        );
    }
}
