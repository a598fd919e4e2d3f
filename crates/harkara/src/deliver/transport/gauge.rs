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

/// More than the longest answer that is taken: the final head, those before it, a body, and what was
/// read along with them.
pub(super) const MAX_READ_BYTES: usize = 128 * 1024;

/// The readings of one connection, shared by its stream, its request's body and the transport.
#[derive(Clone)]
pub(super) struct Gauge(Arc<Mutex<Readings>>);

struct Readings {
    started_at: Instant,
    moved_at: Instant,
    written: bool,
    body_taken: bool,
    sent_at: Option<Instant>,
    first_byte_at: Option<Instant>,
    read_bytes: usize,
    refuses_more: bool,
}

impl Readings {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            started_at: now,
            moved_at: now,
            written: false,
            body_taken: false,
            sent_at: None,
            first_byte_at: None,
            read_bytes: 0,
            refuses_more: false,
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

    /// Ends when the request stopped moving for `write`, its answer's head is not there `head` after the
    /// request was out, or the attempt's `deadline` has come.
    pub(super) async fn stalled(
        &self,
        write: Duration,
        head: Duration,
        deadline: Instant,
    ) -> Failure {
        loop {
            let (ends_at, failure) = {
                let readings = self.readings();
                match readings.sent_at {
                    None => (readings.moved_at + write, Failure::WriteTimeout),
                    Some(sent_at) => (sent_at + head, Failure::HeadTimeout),
                }
            };
            // One timer for both limits, for each attempt pays for those that it sets.
            let (ends_at, failure) = match deadline < ends_at {
                true => (deadline, Failure::AttemptTimeout),
                false => (ends_at, failure),
            };
            if ends_at <= Instant::now() {
                return failure;
            }
            sleep_until(ends_at).await;
        }
    }

    /// Whatever comes next is too much.
    pub(super) fn refuse_more(&self) {
        self.readings().refuses_more = true;
    }

    fn readings(&self) -> MutexGuard<'_, Readings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moved(&self) {
        let mut readings = self.readings();
        readings.moved_at = Instant::now();
        readings.written = true;
    }

    /// Everything that was written so far has left. It is the whole request if its body was taken.
    fn flushed(&self) {
        let mut readings = self.readings();
        if readings.body_taken && readings.sent_at.is_none() {
            readings.sent_at = Some(Instant::now());
        }
    }

    /// Takes note of bytes that came. What comes before a byte of the request went out answers
    /// something else; and more than any answer has is not read.
    fn received(&self, bytes: usize) -> io::Result<()> {
        let mut readings = self.readings();
        if bytes > 0 && readings.first_byte_at.is_none() {
            readings.first_byte_at = Some(Instant::now());
        }
        readings.read_bytes += bytes;
        let is_early = bytes > 0 && !readings.written;
        let is_too_much = readings.refuses_more || readings.read_bytes > MAX_READ_BYTES;
        if is_early || is_too_much {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn read_bytes(&self) -> usize {
        self.readings().read_bytes
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
        let bytes = buffer.filled().len() - before;
        Poll::Ready(self.gauge.received(bytes))
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn read(gauged: &mut Gauged<tokio::io::DuplexStream>) -> io::Result<u8> {
        gauged.read_u8().await
    }

    #[tokio::test]
    async fn an_answer_before_the_request_is_none() {
        let (stream, mut receiver) = tokio::io::duplex(64);
        let gauge = Gauge::new();
        let mut gauged = Gauged {
            stream,
            gauge: gauge.clone(),
        };
        gauged.write_all(b"1").await.unwrap();
        receiver.write_all(b"ab").await.unwrap();
        assert_eq!(read(&mut gauged).await.unwrap(), b'a');
        gauge.restart();
        let early = read(&mut gauged).await.unwrap_err();
        assert_eq!(early.kind(), io::ErrorKind::InvalidData);
    }
}
