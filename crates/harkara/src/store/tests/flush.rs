//! Nobody hears of anything that is not on the disk, and the writer does not wait for the disk.

use std::io;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Waker};

use super::*;

/// A store whose every flush waits until the test says how it ends, until the test drops that.
fn with_gate() -> (World, mpsc::Sender<io::Result<()>>) {
    let place = Place::file();
    let (gate, ends) = mpsc::channel::<io::Result<()>>();
    let ends = std::sync::Mutex::new(ends);
    let store = Store::open_with(place.folder(), &|session| session, |folder| {
        let flush = sqlite::flush(folder)?;
        Ok(Arc::new(move || {
            ends.lock().unwrap().recv().unwrap_or(Ok(()))?;
            flush()
        }))
    });
    let store = store.unwrap();
    (World { store, place }, gate)
}

type Writing = Pin<Box<dyn Future<Output = Result<(), DbError>>>>;

/// A write that is under way by itself, and goes on when the test says so.
async fn under_way(store: &Store) -> (Writing, mpsc::Sender<()>) {
    let (go_on, may_go_on) = mpsc::channel();
    let (begin, begun) = tokio::sync::oneshot::channel();
    let mut begin = Some(begin);
    let mut first = put(store, "first", move || {
        begin.take().unwrap().send(()).unwrap();
        may_go_on.recv().unwrap();
    });
    assert!(is_pending(&mut first));
    begun.await.unwrap();
    (first, go_on)
}

/// Two writes: the first is being flushed, and the second was written after it.
async fn one_flushed_and_one_written(store: &Store) -> (Writing, Writing) {
    let (first, go_on) = under_way(store).await;
    let (written, second_is_written) = tokio::sync::oneshot::channel();
    let mut written = Some(written);
    let mut second = put(store, "second", move || {
        written.take().unwrap().send(()).unwrap();
    });
    assert!(is_pending(&mut second));
    go_on.send(()).unwrap();
    second_is_written.await.unwrap();
    (first, second)
}

/// Stores a counter and says so, on the writer's thread. Polled once, it is in the queue.
fn put(store: &Store, name: &'static str, mut done: impl FnMut() + Send + 'static) -> Writing {
    let store = store.clone();
    Box::pin(async move {
        let work = move |pen: &mut Pen| {
            let sql = "insert into counters (name, value) values (?1, 1)";
            pen.execute(sql, params![name])?;
            done();
            Ok(())
        };
        store.write(work).await
    })
}

fn is_pending<T>(future: &mut Pin<Box<impl Future<Output = T> + ?Sized>>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    future.as_mut().poll(&mut context).is_pending()
}

const COUNT: &str = "select cast(count(*) as text) from counters where name <> 'node'";

#[tokio::test]
async fn the_next_batch_is_written_while_one_is_flushed_and_no_caller_is_told_too_early() {
    let (world, gate) = with_gate();
    let (mut first, mut second) = one_flushed_and_one_written(&world.store).await;
    assert!(is_pending(&mut first) && is_pending(&mut second));
    // They may share a flush after all, if the thread that flushes was slow to begin.
    drop(gate);
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(world.text(COUNT).await, "2");
}

#[tokio::test]
async fn what_is_read_is_told_once_it_is_on_the_disk() {
    let (world, gate) = with_gate();
    let (_first, _second) = one_flushed_and_one_written(&world.store).await;
    // The snapshot is taken on a thread that nobody waits for here, so it may be of either moment.
    let mut read = Box::pin(world.text(COUNT));
    assert!(is_pending(&mut read));
    drop(gate);
    let seen = read.await;
    assert!(seen == "1" || seen == "2", "{seen}");
}

#[tokio::test]
async fn when_a_flush_fails_all_that_builds_on_it_is_lost_and_nothing_more_is_taken() {
    let (world, gate) = with_gate();
    let (first, second) = one_flushed_and_one_written(&world.store).await;
    let read = world
        .store
        .read(|conn| conn.first(COUNT, params![], |row| row.get::<_, String>(0)));
    gate.send(Err(io::ErrorKind::Other.into())).unwrap();
    for lost in [first.await, second.await, read.await.map(drop)] {
        assert_eq!(lost.unwrap_err().kind, DbErrorKind::Down);
    }
    world.store.failed().await;
    let late = put(&world.store, "late", || ()).await;
    assert_eq!(late.unwrap_err().kind, DbErrorKind::Down);
}

#[tokio::test]
async fn when_the_writer_breaks_what_it_wrote_is_flushed_and_nothing_is_read_any_more() {
    let (world, gate) = with_gate();
    let (first, go_on) = under_way(&world.store).await;
    let mut second = put(&world.store, "second", || panic!("as the test wishes"));
    assert!(is_pending(&mut second));
    go_on.send(()).unwrap();
    assert_eq!(second.await.unwrap_err().kind, DbErrorKind::Down);
    world.store.failed().await;
    drop(gate);
    first.await.unwrap();
    let read = world.store.read(|_| Ok(())).await;
    assert_eq!(read.unwrap_err().kind, DbErrorKind::Down);
}
