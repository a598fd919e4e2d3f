//! A part of a page that comes again whenever it has changed, as server-sent events.
//!
//! A stream lasts a minute and its page asks for the next, so that whoever was signed out meanwhile gets
//! none. It ends at once when the server stops, or when nobody listens; and for good when what it shows
//! will not change any more. With scripts off, nobody asks.

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

/// What a page says of which event ends its asking (`hx-sse:close`).
pub(super) const OVER: &str = "over";

/// Something that is drawn again and again.
pub(super) trait Scene: Send + Sync + 'static {
    /// As it is now.
    fn draw(&self) -> impl Future<Output = Result<Markup, ApiError>> + Send;

    /// As it is now, and whether it stays so.
    fn picture(&self) -> impl Future<Output = Result<Picture, ApiError>> + Send {
        async {
            let (shown, is_last) = (self.draw().await?, false);
            Ok(Picture { shown, is_last })
        }
    }
}

/// A scene at one moment.
pub(super) struct Picture {
    pub(super) shown: Markup,
    /// It will not change any more.
    pub(super) is_last: bool,
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

/// Draws a scene again and again, for as long as a stream lasts, somebody listens and the server goes on,
/// whatever it waits for meanwhile: who does not read holds a place no longer than others.
async fn play(
    scene: impl Scene,
    turns: &Semaphore,
    sender: mpsc::Sender<Bytes>,
    mut stop: watch::Receiver<bool>,
    pace: Pace,
) {
    tokio::select! {
        () = draw_on(scene, turns, &sender, pace.look) => {}
        () = sender.closed() => {}
        _ = stop.wait_for(|stop| *stop) => {}
        () = tokio::time::sleep(pace.life) => {}
    }
}

/// Draws a scene again and again, until it will not change any more, or cannot be drawn.
async fn draw_on(
    scene: impl Scene,
    turns: &Semaphore,
    sender: &mpsc::Sender<Bytes>,
    look: Duration,
) {
    let mut last = String::new();
    loop {
        let turn = turns.acquire().await;
        let drawn = scene.picture().await;
        drop(turn);
        match drawn {
            Ok(Picture { shown, is_last }) => {
                let mut news = String::new();
                if shown.0 != last {
                    last = shown.0;
                    news += &event(&last);
                }
                if is_last {
                    news += &format!("event: {OVER}\ndata:\n\n");
                }
                if !news.is_empty() && sender.send(news.into()).await.is_err() {
                    return;
                }
                if is_last {
                    return;
                }
            }
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
        tokio::time::sleep(look).await;
    }
}

/// A text as an event: each of its lines behind `data: `.
fn event(text: &str) -> String {
    let lines = text.lines().map(|line| format!("data: {line}\n"));
    let mut event: String = lines.collect();
    event.push('\n');
    event
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

    /// Never done with its first picture.
    struct Slow;

    impl Scene for Slow {
        async fn draw(&self) -> Result<Markup, ApiError> {
            std::future::pending().await
        }
    }

    /// Longer than any test waits.
    const LONG: Pace = Pace {
        look: Duration::from_secs(1_000),
        life: Duration::from_secs(1_000),
    };

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_stream_ends_with_the_server_or_its_listener_whatever_it_waits_for() {
        let (no_turns, turns) = (Semaphore::new(0), Semaphore::new(1));
        for turns in [&no_turns, &turns] {
            for server_stops in [true, false] {
                let (stop, stopping) = watch::channel(false);
                let (sender, receiver) = mpsc::channel(1);
                let ends = async {
                    // Polled after the stream, which waits by then.
                    match server_stops {
                        true => stop.send_replace(true),
                        false => {
                            drop(receiver);
                            false
                        }
                    }
                };
                let both =
                    async { tokio::join!(biased; play(Slow, turns, sender, stopping, LONG), ends) };
                let ended = tokio::time::timeout(PATIENCE, both).await;
                assert!(ended.is_ok(), "stops: {server_stops}");
            }
        }
    }

    /// Counts to three, and stays there.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Scene for Counting {
        async fn draw(&self) -> Result<Markup, ApiError> {
            Ok(self.picture().await?.shown)
        }

        async fn picture(&self) -> Result<Picture, ApiError> {
            let drawn = self.0.fetch_add(1, Relaxed) + 1;
            Ok(Picture {
                shown: maud::html! { (drawn.min(3)) },
                is_last: drawn == 4,
            })
        }
    }

    #[tokio::test]
    async fn what_does_not_change_any_more_is_over() {
        let pace = Pace {
            look: Duration::from_millis(1),
            ..LONG
        };
        let (_stop, stopping) = watch::channel(false);
        let (sender, mut receiver) = mpsc::channel(8);
        let turns = Semaphore::new(1);
        let playing = play(Counting::default(), &turns, sender, stopping, pace);
        assert!(tokio::time::timeout(PATIENCE, playing).await.is_ok());
        let mut told = String::new();
        while let Some(event) = receiver.recv().await {
            told += std::str::from_utf8(&event).unwrap();
        }
        assert_eq!(
            told,
            "data: 1\n\ndata: 2\n\ndata: 3\n\nevent: over\ndata:\n\n"
        );
    }

    #[test]
    fn what_has_several_lines_is_one_event() {
        assert_eq!(event("<p>\n</p>"), "data: <p>\ndata: </p>\n\n");
    }
}
