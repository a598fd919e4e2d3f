//! Work that is finished even when whoever asked for it goes away in the middle.
//!
//! Knows nothing of what the work is. `submit.rs` alone calls it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// Works in the task of whoever waits for it, which costs no hand-over, and goes on in a task of its
/// own once nobody does.
pub(super) fn see_through<F>(work: F) -> SeeThrough<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    SeeThrough(Some(Box::pin(work)))
}

/// What [`see_through`] makes; nothing begins before it is first waited for.
pub(super) struct SeeThrough<F>(Option<Pin<Box<F>>>)
where
    F: Future<Output: Send> + Send + 'static;

impl<F> Future for SeeThrough<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // Out of reach of `drop` meanwhile: work that panics is not to be gone on with.
        let mut work = self.0.take().expect("nobody waits for what is done");
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            self.0 = Some(work);
        }
        polled
    }
}

impl<F> Drop for SeeThrough<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    fn drop(&mut self) {
        // Without a runtime the process is ending, and the next start takes over.
        if let (Some(work), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    /// Work in two steps: it says when it has begun, waits for leave, and says when it is done.
    struct Steps {
        work: Pin<Box<dyn Future<Output = ()> + Send>>,
        begun: oneshot::Receiver<()>,
        leave: oneshot::Sender<()>,
        done: oneshot::Receiver<()>,
    }

    fn steps() -> Steps {
        let (say_begun, begun) = oneshot::channel();
        let (leave, may) = oneshot::channel();
        let (say_done, done) = oneshot::channel();
        let work = async move {
            say_begun.send(()).unwrap();
            may.await.unwrap();
            say_done.send(()).unwrap();
        };
        Steps {
            work: Box::pin(work),
            begun,
            leave,
            done,
        }
    }

    #[tokio::test]
    async fn work_goes_on_when_its_caller_gives_up() {
        let Steps {
            work,
            begun,
            leave,
            done,
        } = steps();
        tokio::select! {
            () = see_through(work) => panic!("it has no leave yet"),
            said = begun => said.unwrap(),
        }
        leave.send(()).unwrap();
        done.await.expect("it went on by itself");
    }

    #[tokio::test]
    async fn its_panic_is_the_callers() {
        let work = see_through(async {
            tokio::task::yield_now().await;
            panic!("a broken promise");
        });
        let waited = tokio::spawn(work).await;
        assert!(waited.unwrap_err().is_panic());
    }
}
