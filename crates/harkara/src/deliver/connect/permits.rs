//! How many requests may be under way to one address, over all merchants.
//!
//! Anybody can point an endpoint at somebody else's server; together they must not become a flood
//! there. A permit lives as long as its request, and dropping it gives it back.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;

/// The permits of every address.
#[derive(Debug)]
pub(super) struct Permits {
    max: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// The right to one request to an address.
#[derive(Debug)]
pub struct Permit {
    address: IpAddr,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Permits {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            taken: Arc::default(),
        }
    }

    /// A permit for the address, unless all of them are taken.
    pub(super) fn take(&self, address: IpAddr) -> Option<Permit> {
        let mut taken = lock(&self.taken);
        let count = taken.entry(address).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Permit {
            address,
            taken: Arc::clone(&self.taken),
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        let count = taken
            .get_mut(&self.address)
            .expect("a permit is counted until it is dropped");
        *count -= 1;
        if *count == 0 {
            taken.remove(&self.address);
        }
    }
}

fn lock(taken: &Mutex<HashMap<IpAddr, usize>>) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_address_has_so_many_permits_and_forgets_those_given_back() {
        let permits = Permits::new(2);
        let [here, there] = [1, 2].map(|last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)));
        let first = permits.take(here).unwrap();
        let second = permits.take(here).unwrap();
        assert!(permits.take(here).is_none());
        let elsewhere = permits.take(there).unwrap();
        drop(first);
        drop((permits.take(here).unwrap(), second, elsewhere));
        assert!(lock(&permits.taken).is_empty());
    }
}
