//! Where a request stands on its way out: what the time limits of writing and answering go by.
//!
//! A gauge sits between HTTP and the stream and notes when bytes last moved, when the request was
//! out, and when the first byte came back. Each connection has one; the transport reads it.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use harkara_core::delivery::Failure;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

/// The readings of one connection, shared by its stream, its request's body and the transport.
#[derive(Clone)]
pub(super) struct Gauge(Arc<Mutex<Readings>>);

struct Readings {
    started_at: Instant,
    moved_at: Instant,
    body_taken: bool,
    sent_at: Option<Instant>,
    first_byte_at: Option<Instant>,
}

impl Readings {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            started_at: now,
            moved_at: now,
            body_taken: false,
            sent_at: None,
            first_byte_at: None,
        }
    }
}

impl Gauge {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Readings::new())))
    }

    /// Begins again, for the next request on the same connection.
    pub(super) fn restart(&self) {
        *self.readings() = Readings::new();
    }

    /// A body whose departure this gauge notes.
    pub(super) fn body(&self, bytes: Bytes) -> GaugedBody {
        GaugedBody {
            bytes: Some(bytes),
            gauge: self.clone(),
        }
    }

    pub(super) fn is_sent(&self) -> bool {
        self.readings().sent_at.is_some()
    }

    /// How long writing took, once it is done.
    pub(super) fn write_time(&self) -> Option<Duration> {
        let readings = self.readings();
        readings
            .sent_at
            .map(|sent_at| sent_at - readings.started_at)
    }

    /// How long the first byte of the answer took from then on.
    pub(super) fn first_byte_time(&self) -> Option<Duration> {
        let readings = self.readings();
        // An answer may come before the request is out.
        Some(
            readings
                .first_byte_at?
                .saturating_duration_since(readings.sent_at?),
        )
    }

    /// Ends when the request stopped moving for `write`, or its answer's head is not there `head`
    /// after the request was out.
    pub(super) async fn stalled(&self, write: Duration, head: Duration) -> Failure {
        loop {
            let (deadline, failure) = {
                let readings = self.readings();
                match readings.sent_at {
                    None => (readings.moved_at + write, Failure::WriteTimeout),
                    Some(sent_at) => (sent_at + head, Failure::HeadTimeout),
                }
            };
            if deadline <= Instant::now() {
                return failure;
            }
            sleep_until(deadline).await;
        }
    }

    fn readings(&self) -> MutexGuard<'_, Readings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moved(&self) {
        self.readings().moved_at = Instant::now();
    }

    /// Everything that was written so far has left. It is the whole request if its body was taken.
    fn flushed(&self) {
        let mut readings = self.readings();
        if readings.body_taken && readings.sent_at.is_none() {
            readings.sent_at = Some(Instant::now());
        }
    }

    fn received(&self) {
        let mut readings = self.readings();
        if readings.first_byte_at.is_none() {
            readings.first_byte_at = Some(Instant::now());
        }
    }
}

/// A body in one piece.
pub(super) struct GaugedBody {
    bytes: Option<Bytes>,
    gauge: Gauge,
}

impl Body for GaugedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = self.bytes.take();
        self.gauge.readings().body_taken = true;
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// A stream with its gauge.
pub(super) struct Gauged<S> {
    pub(super) stream: S,
    pub(super) gauge: Gauge,
}

impl<S: AsyncRead + Unpin> AsyncRead for Gauged<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.gauge.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gauged<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.gauge.moved();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.gauge.moved();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.gauge.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
