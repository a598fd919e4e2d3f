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
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::gate::Answer;
use crate::api::Api;
use crate::error::ApiError;

/// How often it is looked whether something has changed.
const LOOK: Duration = Duration::from_secs(2);

/// How long a stream lasts.
const LIFE: Duration = Duration::from_secs(60);

/// Streams that are open at once, over all people.
pub(super) const STREAMS: usize = 200;

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
    let stop = api.stopping.clone();
    tokio::spawn(async move {
        let _place = place;
        play(scene, sender, stop).await;
    });
    let kind = [(CONTENT_TYPE, "text/event-stream")];
    Ok((kind, Body::new(Stream(receiver))).into_response() as Response)
}

async fn play(scene: impl Scene, sender: mpsc::Sender<Bytes>, mut stop: watch::Receiver<bool>) {
    let end = Instant::now() + LIFE;
    let mut last = String::new();
    while Instant::now() < end {
        match scene.draw().await {
            Ok(drawn) if drawn.0 != last => {
                last = drawn.0;
                if sender.send(event(&last)).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(error) => {
                // The page keeps what it has, and asks again.
                tracing::debug!(error = %error.message, "a live part could not be drawn");
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
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
    use super::*;

    #[test]
    fn what_has_several_lines_is_one_event() {
        assert_eq!(event("<p>\n</p>"), "data: <p>\ndata: </p>\n\n");
    }
}
