//! A failure at each statement in turn: nothing is left half written, and who asks again has it.
//!
//! The session is the real one; a statement that is to fail is not given to it. So are the beginning
//! of a transaction, its savepoints and its commit.

use std::sync::Mutex;

use harkara_core::delivery::DeliveryState;

use super::interleavings::ORPHANS;
use super::*;
use crate::store::codec::{pack_id, prefix};
use crate::store::sql::{Datum, Many, Params, See};

/// Counts down the statements until one fails, and those that fail after it.
#[derive(Default)]
struct Faults(Mutex<(u32, u32)>);

impl Faults {
    /// So many statements from now, one fails, and so many after that.
    fn arm(&self, at: u32, more: u32) {
        *self.0.lock().unwrap() = (at, more);
    }

    /// Whether it has come to that.
    fn disarm(&self) -> bool {
        let (left, _) = std::mem::take(&mut *self.0.lock().unwrap());
        left == 0
    }

    fn pass(&self) -> Result<(), DbError> {
        let mut left = self.0.lock().unwrap();
        match *left {
            // Nothing is to fail.
            (0, 0) => return Ok(()),
            (0, more) => *left = (0, more - 1),
            (1, more) => *left = (0, more),
            (at, more) => {
                *left = (at - 1, more);
                return Ok(());
            }
        }
        Err(DbError::new(DbErrorKind::Busy, "as the test wishes"))
    }
}

/// A session whose statements fail as the faults say.
struct Faulty {
    session: Box<dyn Session>,
    faults: Arc<Faults>,
}

impl Sql for Faulty {
    fn execute(&self, sql: &str, params: Params<'_>) -> Result<usize, DbError> {
        self.faults.pass()?;
        self.session.execute(sql, params)
    }

    fn each(&self, sql: &str, params: Params<'_>, see: See<'_>) -> Result<(), DbError> {
        self.faults.pass()?;
        self.session.each(sql, params, see)
    }
}

impl Session for Faulty {
    fn begin(&mut self) -> Result<(), DbError> {
        self.faults.pass()?;
        self.session.begin()
    }

    fn commit(&mut self) -> Result<(), DbError> {
        self.faults.pass()?;
        self.session.commit()
    }

    fn roll_back(&mut self) -> Result<(), DbError> {
        self.session.roll_back()
    }

    fn in_transaction(&self) -> bool {
        self.session.in_transaction()
    }

    fn is_spoiled(&self) -> bool {
        self.session.is_spoiled()
    }

    fn changes(&self) -> u64 {
        self.session.changes()
    }

    fn insert(&self, sql: &str, key: &str, params: Params<'_>) -> Result<i64, DbError> {
        self.faults.pass()?;
        self.session.insert(sql, key, params)
    }

    fn take_position(&mut self) -> Result<i64, DbError> {
        self.faults.pass()?;
        self.session.take_position()
    }

    fn give_back(&mut self, position: i64) {
        self.session.give_back(position);
    }

    fn is_alone(&self) -> bool {
        self.session.is_alone()
    }

    fn is_far(&self) -> bool {
        self.session.is_far()
    }

    fn begin_round(&mut self, puts_off: bool) {
        self.session.begin_round(puts_off);
    }

    fn ask_ahead(&mut self, asks: Vec<Many>, positions: usize) -> Result<(), DbError> {
        self.faults.pass()?;
        self.session.ask_ahead(asks, positions)
    }

    fn execute_many(&self, write: Many) -> Result<(), DbError> {
        self.faults.pass()?;
        self.session.execute_many(write)
    }

    fn execute_soon(&self, sql: &str, params: Params<'_>) -> Result<usize, DbError> {
        self.faults.pass()?;
        self.session.execute_soon(sql, params)
    }

    fn execute_beside(&self, sql: &str, params: Params<'_>) -> Result<usize, DbError> {
        self.faults.pass()?;
        self.session.execute_beside(sql, params)
    }

    fn end_round(&mut self) -> Result<(), DbError> {
        self.faults.pass()?;
        self.session.end_round()
    }

    fn met_another(&self) -> bool {
        self.session.met_another()
    }

    fn announce(&self, changed: &str) -> Result<(), DbError> {
        self.faults.pass()?;
        self.session.announce(changed)
    }

    fn keep_others_out(&self, tables: &[&str]) -> Result<(), DbError> {
        self.session.keep_others_out(tables)
    }

    fn insert_rows(
        &self,
        table: &str,
        columns: &[&str],
        rows: &[Vec<Datum>],
    ) -> Result<(), DbError> {
        self.session.insert_rows(table, columns, rows)
    }

    fn count_on(&self, table: &str, key: &str) -> Result<(), DbError> {
        self.session.count_on(table, key)
    }

    fn close(self: Box<Self>) -> Result<(), DbError> {
        self.session.close()
    }

    fn abandon(self: Box<Self>) {
        self.session.abandon();
    }
}

async fn world(faults: &Arc<Faults>) -> World {
    let place = Place::new();
    let faults = faults.clone();
    let wrap = move |session| {
        Box::new(Faulty {
            session,
            faults: faults.clone(),
        }) as Box<dyn Session>
    };
    let store = match place.url().map(str::to_owned) {
        None => Store::open_with(place.folder(), &wrap, sqlite::flush).unwrap(),
        Some(url) => {
            let open = move || {
                Store::migrate(&url, false)?;
                Store::connect_with(&url, &wrap)
            };
            tokio::task::spawn_blocking(open).await.unwrap().unwrap()
        }
    };
    store.put_endpoint(&endpoint("ep_1"), 0).await.unwrap();
    World { store, place }
}

/// An order with two events and the key of its request.
pub(super) fn order_unit(n: u32) -> Commit {
    let mut unit = Commit::new(ms(), at(0));
    unit.writes.push(Write::Order(order(&format!("o-{n}"), 1)));
    unit.events = ["one", "two"]
        .map(|which| event(&format!("{which}-{n}"), &format!("o-{n}")))
        .into();
    unit.idempotency = Some(NewIdempotencyKey {
        key: format!("key-{n}"),
        request_hash: "h".to_owned(),
        response: "r".to_owned(),
    });
    unit
}

/// How much of such a unit is there: all four of its parts, or none.
pub(super) async fn is_there(store: &Store, n: u32) -> bool {
    let sql = "
        select (select count(*) from orders o join subjects s on s.subject = o.subject
                where s.key = ?1) as orders,
            (select count(*) from idempotency_keys where key = ?2) as keys,
            (select count(*) from events where event_id in (?3, ?4)) as events,
            (select count(*) from deliveries d join events e on e.position = d.delivery / 65536
                where e.event_id in (?3, ?4)) as deliveries";
    let [one, two] = ["one", "two"].map(|which| format!("evt_{which}-{n}"));
    // In one snapshot: what was cut off from its caller may become true between two.
    let found = store.read(move |conn| {
        let ids = [one, two].map(|id| pack_id(prefix::EVENT, &id));
        let about = params![format!("order/o-{n}"), format!("key-{n}"), ids[0], ids[1]];
        conn.first(sql, about, |row| {
            let count = |column| row.get::<_, i64>(column);
            Ok([
                count("orders")?,
                count("keys")?,
                count("events")?,
                count("deliveries")?,
            ])
        })
    });
    match found.await.unwrap().unwrap() {
        [1, 1, 2, 2] => true,
        [0, 0, 0, 0] => false,
        half => panic!("{n}: {half:?}"),
    }
}

/// A settle and what it lets go: both, or neither.
async fn is_settled(world: &World, n: u32) -> bool {
    let held = world.delivery(&format!("held-{n}")).await;
    let next = world.delivery(&format!("next-{n}")).await;
    let calls = world.store.attempts(&ms(), &held.delivery_id).await;
    let state = (held.state, next.state, calls.unwrap().len());
    match state {
        (DeliveryState::Delivered, DeliveryState::Pending, 1) => true,
        (DeliveryState::Pending, DeliveryState::Waiting, 0) => false,
        half => panic!("{n}: {half:?}"),
    }
}

/// As the dispatcher does it.
async fn settle_one(store: &Store, settle: &Settle) -> Result<Settled, DbError> {
    let settled = store.settle_all([settle.clone()].into()).await?;
    settled.into_iter().next().unwrap()
}

/// Lets the statement at each place fail, in a batch of a commit, a settle and a commit that is stale.
async fn check(more: u32) {
    let faults = Arc::new(Faults::default());
    let world = world(&faults).await;
    let mut failed = 0;
    for n in 1.. {
        let (about, held, next) = (
            format!("line-{n}"),
            format!("held-{n}"),
            format!("next-{n}"),
        );
        let mut born = world.born(&held, &about, Some(at(30))).await;
        let held = born.claimed.remove(0);
        world.born(&next, &about, None).await;
        let settle = settle(&held, Verdict::Delivered, at(1));
        let mut stale = Commit::new(ms(), at(0));
        // It changes something before it is refused, so that its batch runs with savepoints.
        stale.writes = vec![
            Write::Order(order(&format!("undone-{n}"), 1)),
            Write::Order(order(&about, 7)),
        ];

        faults.arm(n, more);
        let (made, settled, refused) = tokio::join!(
            world.store.commit(order_unit(n)),
            settle_one(&world.store, &settle),
            world.store.commit(stale)
        );
        let has_failed = faults.disarm();
        let undone = OrderId::new(format!("undone-{n}"));
        assert_eq!(
            world.store.order(&ms(), &undone).await.unwrap(),
            None,
            "{n}"
        );
        assert!(refused.is_err());
        assert_eq!(is_there(&world.store, n).await, made.is_ok(), "{n}");
        assert_eq!(is_settled(&world, n).await, settled.is_ok(), "{n}");
        for error in [made.as_ref().err(), settled.as_ref().err()]
            .into_iter()
            .flatten()
        {
            assert_eq!(error.kind, DbErrorKind::Busy, "{n}: {}", error.source);
            failed += 1;
        }
        if made.is_err() {
            world.store.commit(order_unit(n)).await.unwrap();
        }
        if settled.is_err() {
            settle_one(&world.store, &settle).await.unwrap();
        }
        assert!(is_there(&world.store, n).await && is_settled(&world, n).await);
        if !has_failed {
            assert!(n > 20, "a batch has more statements than {n}");
            break;
        }
    }
    assert!(
        failed > 0,
        "every failure was made good by running the batch again"
    );
    assert_eq!(world.list(ORPHANS).await, "");
}

#[tokio::test]
async fn one_statement_that_fails_leaves_nothing_half_written() {
    check(0).await;
}

/// So that what would undo a half fails as well.
#[tokio::test]
async fn two_that_fail_leave_nothing_half_written() {
    check(1).await;
}

#[tokio::test]
async fn all_that_fail_from_one_on_leave_nothing_half_written() {
    check(1_000).await;
}
