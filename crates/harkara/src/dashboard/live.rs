//! A part of a page that comes again whenever it has changed, as server-sent events.
//!
//! A stream lasts a minute and its page asks for the next, so that whoever was signed out meanwhile gets
//! none. It ends at once when the server stops, or when nobody listens. With scripts off, nobody asks.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_body::Frame;
use maud::Markup;
use tokio::sync::{Semaphore, mpsc, watch};

use super::gate::Answer;
use crate::api::{Api, chain};
use crate::error::ApiError;

/// How often it is looked whether something has changed, and how long a stream lasts.
#[derive(Clone, Copy, Debug)]
struct Pace {
    look: Duration,
    life: Duration,
}

const PACE: Pace = Pace {
    look: Duration::from_secs(2),
    life: Duration::from_secs(60),
};

/// Streams that are open at once, over all people.
pub(super) const STREAMS: usize = 200;

/// Streams that are drawn at once: whatever else is asked of the store finds a reader beside them.
pub(super) const DRAWN: usize = 2;

/// Something that is drawn again and again.
pub(super) trait Scene: Send + Sync + 'static {
    /// As it is now.
    fn draw(&self) -> impl Future<Output = Result<Markup, ApiError>> + Send;
}

/// Answers with a stream of a scene; 204, after which nobody asks again, when there are too many.
pub(super) fn stream(api: &Api, scene: impl Scene) -> Answer {
    let Ok(place) = api.dashboard().streams.clone().try_acquire_owned() else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let (sender, receiver) = mpsc::channel(1);
    let (turns, stop) = (api.dashboard().drawing.clone(), api.stopping.clone());
    tokio::spawn(async move {
        let _place = place;
        play(scene, &turns, sender, stop, PACE).await;
    });
    let kind = [(CONTENT_TYPE, "text/event-stream")];
    Ok((kind, Body::new(Stream(receiver))).into_response() as Response)
}

/// Draws a scene again and again, for as long as a stream lasts, whatever it waits for meanwhile: who does
/// not read holds a place no longer than others.
async fn play(
    scene: impl Scene,
    turns: &Semaphore,
    sender: mpsc::Sender<Bytes>,
    stop: watch::Receiver<bool>,
    pace: Pace,
) {
    let drawing = draw_on(scene, turns, sender, stop, pace.look);
    // Its end is its end, by whichever of the two.
    let _ended = tokio::time::timeout(pace.life, drawing).await;
}

/// Draws a scene again and again, until nobody listens, the server stops or it cannot be drawn.
async fn draw_on(
    scene: impl Scene,
    turns: &Semaphore,
    sender: mpsc::Sender<Bytes>,
    mut stop: watch::Receiver<bool>,
    look: Duration,
) {
    let mut last = String::new();
    loop {
        let turn = turns.acquire().await;
        let drawn = scene.draw().await;
        drop(turn);
        match drawn {
            Ok(drawn) if drawn.0 != last => {
                last = drawn.0;
                tokio::select! {
                    biased;
                    sent = sender.send(event(&last)) => if sent.is_err() { return },
                    _ = stop.wait_for(|stop| *stop) => return,
                }
            }
            Ok(_) => {}
            Err(error) => {
                // The page keeps what it has, and asks again.
                let error_message = &error.message;
                match &error.cause {
                    Some(cause) => {
                        let cause = chain(cause.as_ref());
                        tracing::error!(error_message, cause, "a live part could not be drawn");
                    }
                    None => tracing::debug!(error_message, "a live part is not there any more"),
                }
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(look) => {}
            () = sender.closed() => return,
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// A text as an event: each of its lines behind `data: `.
fn event(text: &str) -> Bytes {
    let lines = text.lines().map(|line| format!("data: {line}\n"));
    let mut event: String = lines.collect();
    event.push('\n');
    Bytes::from(event)
}

struct Stream(mpsc::Receiver<Bytes>);

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.poll_recv(context);
        next.map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    use tokio::task::JoinSet;

    use super::*;

    /// Another picture each time, drawn by so many at once at the most.
    #[derive(Clone, Default)]
    struct Busy {
        drawn: Arc<AtomicUsize>,
        now: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
    }

    impl Scene for Busy {
        async fn draw(&self) -> Result<Markup, ApiError> {
            let now = self.now.fetch_add(1, Relaxed) + 1;
            self.most.fetch_max(now, Relaxed);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            self.now.fetch_sub(1, Relaxed);
            let drawn = self.drawn.fetch_add(1, Relaxed);
            Ok(maud::html! { (drawn) })
        }
    }

    #[tokio::test]
    async fn a_stream_ends_although_nobody_reads_it_and_few_are_drawn_at_once() {
        let pace = Pace {
            look: Duration::from_millis(1),
            life: Duration::from_millis(200),
        };
        let (_stop, stopping) = watch::channel(false);
        let (busy, turns) = (Busy::default(), Arc::new(Semaphore::new(DRAWN)));
        let (mut streams, mut unread) = (JoinSet::new(), Vec::new());
        for _ in 0..10 {
            let (sender, receiver) = mpsc::channel(1);
            unread.push(receiver);
            let (busy, turns, stopping) = (busy.clone(), turns.clone(), stopping.clone());
            streams.spawn(async move { play(busy, &turns, sender, stopping, pace).await });
        }
        let ended = tokio::time::timeout(Duration::from_secs(20), streams.join_all());
        assert!(ended.await.is_ok());
        assert_eq!(busy.most.load(Relaxed), DRAWN);
    }

    #[test]
    fn what_has_several_lines_is_one_event() {
        assert_eq!(event("<p>\n</p>"), "data: <p>\ndata: </p>\n\n");
    }
}
