//! Permits: how many deliveries may be claimed or in flight, over all and for each merchant.
//!
//! A permit is taken before a delivery is claimed, or before one that was born claimed is sent, and
//! given back when its attempt has ended. Lanes that find none wait here in line, and are called
//! when there is room for them. Plain counting; only the dispatcher calls it. What one endpoint may
//! have is its lane's business, what one address may have the transport's.

use std::collections::{BTreeMap, VecDeque};

use foldhash::HashMap;
use harkara_core::id::MerchantId;
use harkara_core::planted::{Bug, planted};

use super::dispatcher::Key;

/// What an endpoint is known for, which decides what share of the permits it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Its last outcome was a success: any permit.
    Proven,
    /// Not yet, or no more: one permit each, and more from a quarter of all. So a thousand endpoints
    /// that never answer leave room for those that do, before anything is known of them.
    Newcomer,
    /// It answers slowly: a fifth of all.
    Slow,
}

/// Which bound keeps a lane from another permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Process,
    Merchant,
    Newcomers,
    Slow,
}

/// All permits.
pub(super) struct Permits {
    process: usize,
    per_merchant: usize,
    held: usize,
    newcomers: usize,
    slow: usize,
    by_merchant: HashMap<MerchantId, usize>,
    waiting: Waiting,
}

/// Lanes in line, each in one line at most. A map in order, so that the same history has the same
/// course.
#[derive(Default)]
struct Waiting {
    process: VecDeque<Key>,
    newcomers: VecDeque<Key>,
    slow: VecDeque<Key>,
    by_merchant: BTreeMap<MerchantId, VecDeque<Key>>,
}

impl Permits {
    pub(super) fn new(process: usize, per_merchant: usize) -> Self {
        Self {
            process,
            per_merchant,
            held: 0,
            newcomers: 0,
            slow: 0,
            by_merchant: HashMap::default(),
            waiting: Waiting::default(),
        }
    }

    /// Changes how many a merchant may have. Those that it has above that stay until they are given back.
    pub(super) fn set_per_merchant(&mut self, per_merchant: usize) {
        self.per_merchant = per_merchant;
    }

    /// How many more a lane that holds `lane_held` may take, or what keeps it from any.
    pub(super) fn room(
        &self,
        merchant_id: &MerchantId,
        class: Class,
        lane_held: usize,
    ) -> Result<usize, Gate> {
        let room = |bound: usize, held: usize, gate| match bound.saturating_sub(held) {
            0 => Err(gate),
            room => Ok(room),
        };
        let of_merchant = self.by_merchant.get(merchant_id).copied().unwrap_or(0);
        let in_process = room(self.process, self.held, Gate::Process)?;
        let in_merchant = room(self.per_merchant, of_merchant, Gate::Merchant)?;
        let in_class = match class {
            Class::Proven => usize::MAX,
            Class::Newcomer => match room(self.newcomer_share(), self.newcomers, Gate::Newcomers) {
                Err(_) if lane_held == 0 => 1,
                room => room?,
            },
            Class::Slow => room(self.slow_share(), self.slow, Gate::Slow)?,
        };
        Ok(in_process.min(in_merchant).min(in_class))
    }

    pub(super) fn take(&mut self, merchant_id: &MerchantId, class: Class, count: usize) {
        self.held += count;
        match self.by_merchant.get_mut(merchant_id) {
            Some(held) => *held += count,
            None => drop(self.by_merchant.insert(merchant_id.clone(), count)),
        }
        if let Some(of_class) = self.of_class(class) {
            *of_class += count;
        }
    }

    pub(super) fn give(&mut self, merchant_id: &MerchantId, class: Class, count: usize) {
        let less = |held: &mut usize| {
            *held = held
                .checked_sub(count)
                .expect("what is given back was taken");
        };
        less(&mut self.held);
        if let Some(held) = self.by_merchant.get_mut(merchant_id) {
            less(held);
            if *held == 0 {
                self.by_merchant.remove(merchant_id);
            }
        }
        if let Some(of_class) = self.of_class(class) {
            less(of_class);
        }
        if planted(Bug::PermitKept) {
            self.held += count;
        }
    }

    /// Counts what a lane holds in its new class.
    pub(super) fn reclass(&mut self, from: Class, to: Class, count: usize) {
        if let Some(of_class) = self.of_class(from) {
            *of_class -= count;
        }
        if let Some(of_class) = self.of_class(to) {
            *of_class += count;
        }
    }

    /// Puts a lane in line for a permit.
    pub(super) fn wait(&mut self, key: Key, gate: Gate) {
        match gate {
            Gate::Process => self.waiting.process.push_back(key),
            Gate::Newcomers => self.waiting.newcomers.push_back(key),
            Gate::Slow => self.waiting.slow.push_back(key),
            Gate::Merchant => {
                let line = self.waiting.by_merchant.entry(key.0.clone()).or_default();
                line.push_back(key);
            }
        }
    }

    /// The next lane in line at a gate that has room by now.
    pub(super) fn next_waiting(&mut self) -> Option<Key> {
        if self.held >= self.process {
            return None;
        }
        if self.newcomers < self.newcomer_share()
            && let Some(key) = self.waiting.newcomers.pop_front()
        {
            return Some(key);
        }
        if self.slow < self.slow_share()
            && let Some(key) = self.waiting.slow.pop_front()
        {
            return Some(key);
        }
        self.next_of_a_merchant()
            .or_else(|| self.waiting.process.pop_front())
    }

    fn next_of_a_merchant(&mut self) -> Option<Key> {
        let by_merchant = &self.by_merchant;
        let has_room = |merchant_id: &MerchantId| {
            by_merchant.get(merchant_id).copied().unwrap_or(0) < self.per_merchant
        };
        let merchant_id = self
            .waiting
            .by_merchant
            .keys()
            .find(|id| has_room(id))?
            .clone();
        let line = self.waiting.by_merchant.get_mut(&merchant_id)?;
        let key = line.pop_front();
        if line.is_empty() {
            self.waiting.by_merchant.remove(&merchant_id);
        }
        key
    }

    fn newcomer_share(&self) -> usize {
        (self.process / 4).max(1)
    }

    fn slow_share(&self) -> usize {
        (self.process / 5).max(1)
    }

    fn of_class(&mut self, class: Class) -> Option<&mut usize> {
        match class {
            Class::Proven => None,
            Class::Newcomer => Some(&mut self.newcomers),
            Class::Slow => Some(&mut self.slow),
        }
    }
}

#[cfg(test)]
mod tests {
    use harkara_core::id::EndpointId;

    use super::*;

    fn merchant(n: usize) -> MerchantId {
        MerchantId::new(format!("ms_{n}"))
    }

    fn lane(n: usize) -> Key {
        (merchant(n), EndpointId::new("ep"))
    }

    #[test]
    fn the_share_of_each_class() {
        let mut permits = Permits::new(100, 1_000);
        let room = |permits: &Permits, class| permits.room(&merchant(0), class, 1);
        assert_eq!(room(&permits, Class::Proven), Ok(100));
        assert_eq!(room(&permits, Class::Newcomer), Ok(25));
        assert_eq!(room(&permits, Class::Slow), Ok(20));

        permits.take(&merchant(0), Class::Slow, 20);
        permits.take(&merchant(0), Class::Newcomer, 25);
        assert_eq!(room(&permits, Class::Slow), Err(Gate::Slow));
        assert_eq!(room(&permits, Class::Newcomer), Err(Gate::Newcomers));
        assert_eq!(
            permits.room(&merchant(0), Class::Newcomer, 0),
            Ok(1),
            "a newcomer's first"
        );
        assert_eq!(room(&permits, Class::Proven), Ok(55));
    }

    #[test]
    fn a_merchant_has_its_own_bound() {
        let mut permits = Permits::new(100, 10);
        permits.take(&merchant(1), Class::Proven, 10);
        assert_eq!(
            permits.room(&merchant(1), Class::Proven, 0),
            Err(Gate::Merchant)
        );
        assert_eq!(permits.room(&merchant(2), Class::Proven, 0), Ok(10));
        permits.give(&merchant(1), Class::Proven, 3);
        assert_eq!(permits.room(&merchant(1), Class::Proven, 7), Ok(3));
    }

    #[test]
    fn those_in_line_are_called_when_their_gate_has_room() {
        let mut permits = Permits::new(10, 4);
        permits.take(&merchant(1), Class::Slow, 2);
        permits.take(&merchant(2), Class::Proven, 4);
        permits.wait(lane(1), Gate::Slow);
        permits.wait(lane(2), Gate::Merchant);
        assert_eq!(permits.next_waiting(), None);

        permits.give(&merchant(2), Class::Proven, 1);
        assert_eq!(permits.next_waiting(), Some(lane(2)));
        permits.give(&merchant(1), Class::Slow, 1);
        assert_eq!(permits.next_waiting(), Some(lane(1)));
        assert_eq!(permits.next_waiting(), None);
    }

    #[test]
    fn nobody_is_called_while_the_process_has_no_permit() {
        let mut permits = Permits::new(2, 2);
        permits.take(&merchant(1), Class::Proven, 2);
        permits.wait(lane(2), Gate::Process);
        permits.wait(lane(3), Gate::Newcomers);
        assert_eq!(permits.next_waiting(), None);
        permits.give(&merchant(1), Class::Proven, 1);
        assert_eq!(permits.next_waiting(), Some(lane(3)));
        assert_eq!(permits.next_waiting(), Some(lane(2)));
    }
}
