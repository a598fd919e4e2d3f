//! Open files: how many this process may have, and how they are shared out.
//!
//! Every connection is one, of clients as of receivers. A process that runs out of them can accept
//! nobody and reach nobody, so both sides are bounded below that. `app.rs` asks at the start.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For the store, the listener, look-ups, and whatever else the process opens.
const KEPT_BACK: usize = 64;

/// How many files may be open, after raising the limit as far as the system lets us.
pub fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // No limit at all is written as none.
    current.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    })
}

/// What is left of the wishes of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    pub permits: usize,
    pub connections: usize,
    /// What whoever runs the process should hear.
    pub note: Option<String>,
}

/// Half of the files at most are for receivers: a permit's connection, and as many idle ones. The
/// rest is for clients.
pub fn share(files: usize, permits: usize, connections: usize) -> Shared {
    let fitting = permits.min(files / 4).max(1);
    let rest = files.saturating_sub(2 * fitting + KEPT_BACK).max(1);
    let note = (fitting < permits).then(|| {
        format!(
            "only {files} files may be open, so at most {fitting} deliveries are in flight and \
             {} clients connected; raise the limit (`ulimit -n`) for delivery.permits = {permits}",
            connections.min(rest)
        )
    });
    Shared {
        permits: fitting,
        connections: connections.min(rest),
        note,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits() {
        let table = [
            (1_048_576, (2_000, 10_000), false),
            (20_000, (2_000, 10_000), false),
            (8_192, (2_000, 4_128), false),
            (1_024, (256, 448), true),
            (64, (16, 1), true),
        ];
        for (files, expected, noted) in table {
            let shared = share(files, 2_000, 10_000);
            assert_eq!((shared.permits, shared.connections), expected, "{files}");
            assert_eq!(shared.note.is_some(), noted, "{files}");
        }
    }

    #[test]
    fn the_limit_is_raised_to_what_is_allowed() {
        let allowed = getrlimit(Resource::Nofile).maximum;
        let files = u64::try_from(raise()).unwrap();
        assert!(allowed.is_none_or(|allowed| files == allowed));
    }
}
