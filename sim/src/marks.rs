//! Rare states that a run has to reach: a simulation that never gets there proves nothing about them.
//!
//! Counted over all seeds of a run. `world.rs`, `carry.rs` and `check.rs` mark, `main.rs` prints.

macro_rules! marks {
    ($($(#[$doc:meta])* $name:ident = $words:literal,)*) => {
        /// A state that is easily missed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Mark {
            $($(#[$doc])* $name,)*
        }

        impl Mark {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];

            pub(crate) const fn words(self) -> &'static str {
                match self {
                    $(Self::$name => $words,)*
                }
            }
        }
    };
}

marks! {
    CrashLostWritten = "crash between write and flush, written lost",
    CrashKeptWritten = "crash between write and flush, written kept",
    CrashKeptTheFirst = "crash between write and flush, first of two batches kept",
    CrashLostQueued = "crash with units still queued",
    CrashInFlight = "crash with attempts in flight",
    CrashWhileStopping = "crash while stopping",
    CrashTwice = "crash within 10 s of a start",
    FlushFailed = "flush failed, process ended",
    DiskFull = "transaction refused by a full disk",
    FlushOfHalfASecond = "flush of more than half a second",
    WrittenAhead = "batch written while another was flushed",
    SharedFlush = "flush shared by ten units or more",
    QueueFull = "publish refused, queue full",
    StoredUnanswered = "publish retried after it had been stored",
    PlanOutdated = "endpoint deleted between plan and commit",
    NoRoom = "born unclaimed, inbox full",
    BornWaiting = "born waiting on its predecessor",
    BornOvertaking = "hold: overtook one that had failed",
    StrictReleased = "strict: released the next of a longer line",
    Withheld = "withheld below the version",
    AnswerLost = "200 sent, answer lost, sent again",
    AnswerLostByCrash = "200 received, process died before the settle, sent again",
    AnsweredTooLate = "200 sent after the attempt had timed out",
    TaskDied = "an attempt's task died",
    Unsent = "claimed, not sent: endpoint paused or gone",
    Crowded = "not sent, for the address had no room",
    BreakerOpened = "breaker opened",
    RampBegun = "probe succeeded, ramp begun",
    Disabled = "disabled after nothing but failures",
    TakenOver = "claim taken over after its lease ran out",
    LateFailure = "late failure of a claim taken over, refused",
    LateSuccess = "late 200 of a claim taken over, kept",
    LateAfterDeath = "settle of a process given up for dead",
    Gone = "410 paused an endpoint with others in flight",
    Withdrawn = "endpoint deleted with attempts in flight",
    SuccessWhenWithdrawn = "200 for a delivery withdrawn meanwhile",
    RetryAfter = "Retry-After beyond the ladder's step",
    Exhausted = "ladder used up",
    Resent = "resend delivered",
    TestSent = "test sent to a paused endpoint",
    FlowTold = "flow: a test sent after the one before it",
    PermitsOut = "every permit taken",
    EndpointPermitsOut = "every permit of an endpoint taken",
    BackOverDue = "clock back over a due time",
    BackAYear = "clock back a year",
    ForthAYear = "clock forth a year",
    ForthWithWaiting = "clock forth with a delivery due far ahead",
    PulledIn = "far due times pulled in",
    ReturnedByDrain = "drain gave claims back",
    StoppedGently = "stopped with nothing in flight",
    StoppedByForce = "stopped with attempts still in flight",
}

/// How often each was reached.
#[derive(Clone)]
pub(crate) struct Marks([u64; Mark::ALL.len()]);

impl Marks {
    pub(crate) fn new() -> Self {
        Self([0; Mark::ALL.len()])
    }

    pub(crate) fn mark(&mut self, mark: Mark) {
        self.0[mark as usize] += 1;
    }

    pub(crate) fn count(&self, mark: Mark) -> u64 {
        self.0[mark as usize]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }
}
