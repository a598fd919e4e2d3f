//! One attempt: send one request, say how it ended. HTTP and its limits, and no policy of retrying.
//!
//! [`Transport::send`] cannot fail: somebody else's server failing is an answer like any other. The
//! dispatcher calls it. Redirects are not followed, proxies not used, bodies not decompressed, and
//! no byte that comes back is trusted to be anything but a byte.

mod gauge;
mod pool;
mod wire;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use harkara_core::delivery::{Failure, Outcome};
use harkara_core::id::{EndpointId, digest};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use self::gauge::{Gauge, Gauged, GaugedBody};
use self::pool::{Connection, Driver, Origin, Pool};
use self::wire::{count_interim_answers, kept_headers, message, retry_after, why_no_head};
use super::connect::{
    ConnectLimits, Connector, Dialler, OwnAuthorities, Permit, Roots, Unconnected,
};
use super::guard::{Destination, Policy, admit};

pub use self::pool::PoolBounds;
pub(crate) use self::wire::ALWAYS_SENT;
pub use self::wire::basic_header;

const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEAD_FIELDS: usize = 64;
/// A longer body is not read to its end; its connection is closed.
const MAX_READ_BODY_BYTES: usize = 16 * 1024;
const MAX_KEPT_BODY_BYTES: usize = 4 * 1024;

/// Sends requests. The server's own is [`HttpTransport`]; simulations bring theirs.
pub trait Transport: Send + Sync {
    /// Makes one attempt. Dropping the future closes its connection.
    fn send(&self, request: Request) -> Sending<'_>;
}

/// An attempt under way.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Sent> + Send + 'a>>;

/// All that one attempt needs to know.
#[derive(Clone, Debug)]
pub struct Request {
    /// Connections are kept for this endpoint alone.
    pub endpoint_id: EndpointId,
    pub url: String,
    /// From [`basic_header`].
    pub authorization: HeaderValue,
    /// Everything beside the fixed ones, in this order.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
    /// Authorities that this endpoint's receiver may have its certificate from, besides the platform's.
    pub ca_pem: Option<String>,
    /// For the whole attempt.
    pub timeout: Duration,
}

impl Request {
    fn own_authorities(&self) -> Option<OwnAuthorities<'_>> {
        self.ca_pem.as_deref().map(|pem| OwnAuthorities {
            endpoint_id: &self.endpoint_id,
            pem,
            digest: digest(&[pem]),
        })
    }
}

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Sent {
    Answer(Answer),
    /// Nothing was sent: too much is on its way to that address already. It says nothing about the
    /// receiver, so it is no attempt.
    Crowded,
}

/// How an attempt ended, and what came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub outcome: Outcome,
    pub timings: Timings,
    /// The beginning of the body; any bytes at all.
    pub body: Bytes,
    /// The beginning of the head; bytes that are no UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
}

impl Answer {
    /// Nothing was sent and nothing came back.
    pub fn failed(failure: Failure) -> Self {
        Self {
            outcome: Outcome::Failed(failure),
            timings: Timings::default(),
            body: Bytes::new(),
            headers: Vec::new(),
        }
    }
}

/// How long each part took, in microseconds. A part that was not reached has none, and a connection
/// that was used before needs no name, dialling or handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    pub dns_us: Option<u64>,
    pub connect_us: Option<u64>,
    pub tls_us: Option<u64>,
    pub write_us: Option<u64>,
    /// From the request's last byte to the answer's first.
    pub first_byte_us: Option<u64>,
    pub total_us: u64,
}

/// How long the parts of an attempt may take; the whole is bounded by the request.
#[derive(Clone, Debug)]
pub struct Limits {
    pub connect: ConnectLimits,
    /// Without a byte moving.
    pub write: Duration,
    /// From the request's end to the end of the answer's head.
    pub head: Duration,
    pub body: Duration,
    /// Without a byte of the body coming in.
    pub body_idle: Duration,
    pub pool: PoolBounds,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: ConnectLimits::default(),
            write: Duration::from_secs(10),
            head: Duration::from_secs(15),
            body: Duration::from_secs(5),
            body_idle: Duration::from_secs(2),
            pool: PoolBounds::default(),
        }
    }
}

/// Sends over connections of its own, which cannot lead where the policy forbids.
pub struct HttpTransport {
    connector: Connector,
    pool: Pool,
    limits: Limits,
    /// Of every connection that was made, so that tests can say what was read from it.
    #[cfg(test)]
    gauges: std::sync::Mutex<Vec<Gauge>>,
}

/// The system's resolver settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("read the system's name resolution settings; check /etc/resolv.conf")]
pub struct ResolverError(#[from] hickory_resolver::net::NetError);

impl HttpTransport {
    /// A transport that looks names up as the system is set up to.
    pub fn new(
        policy: Arc<Policy>,
        roots: &Roots,
        dialler: Dialler,
        limits: Limits,
    ) -> Result<Self, ResolverError> {
        let connector = Connector::new(policy, roots, dialler, limits.connect.clone())?;
        Ok(Self::with(connector, limits))
    }

    /// A transport with a connector of the caller's.
    pub fn with(connector: Connector, limits: Limits) -> Self {
        Self {
            connector,
            pool: Pool::new(limits.pool.clone()),
            limits,
            #[cfg(test)]
            gauges: std::sync::Mutex::default(),
        }
    }

    async fn attempt(&self, request: Request) -> Sent {
        let started_at = Instant::now();
        let deadline = started_at + request.timeout;
        let mut watch = Watch::default();
        let exchanged = self.exchange(&request, deadline, &mut watch).await;
        let mut timings = watch.timings();
        let mut answer = match exchanged {
            Ok(exchange) => self.receive(&request.endpoint_id, exchange, deadline).await,
            Err(Unconnected::Failed(failure)) => Answer::failed(failure),
            Err(Unconnected::Crowded) => return Sent::Crowded,
        };
        timings.total_us = micros(started_at.elapsed());
        answer.timings = timings;
        Sent::Answer(answer)
    }

    /// Sends the request and waits for the head of its answer.
    async fn exchange(
        &self,
        request: &Request,
        deadline: Instant,
        watch: &mut Watch,
    ) -> Result<Exchange, Unconnected> {
        let destination = admit(&request.url, self.connector.policy())
            .map_err(|_| Failure::BlockedDestination)?;
        let own = request.own_authorities();
        let origin = Origin {
            scheme: destination.scheme,
            authority: destination.authority.clone(),
            authorities: own.map(|own| own.digest),
        };
        while let Some(mut connection) =
            self.pool
                .take(&request.endpoint_id, &origin, self.connector.policy())
        {
            let Some(permit) = self.connector.permit(connection.peer) else {
                // The name may have another address, with room.
                self.pool
                    .put(&request.endpoint_id, origin.clone(), connection);
                break;
            };
            watch.gauge = Some(connection.gauge.clone());
            let asked = self.ask(&mut connection, request, &destination, deadline);
            match asked.await {
                // Its receiver had closed it meanwhile. Nothing was sent, so this is no attempt.
                Err(NoHead::Unsent) => {}
                // It was closed while the request was on its way to it, as receivers do with what
                // they think is idle. That says nothing about the receiver, and sending once more is
                // what at-least-once allows: on a new connection, so that it is once.
                Err(NoHead::Failed(Failure::ConnectionClosed | Failure::WriteFailed)) => break,
                Err(NoHead::Failed(failure)) => return Err(failure.into()),
                Ok(response) => {
                    return Ok(Exchange {
                        connection,
                        origin,
                        response,
                        permit,
                    });
                }
            }
        }
        // Boxed, for it is the most of an attempt, and most attempts find a connection.
        let connecting = Box::pin(self.connect(&destination, own, watch));
        let connected = timeout_at(deadline, connecting).await;
        let (mut connection, permit) = connected.unwrap_or(Err(Failure::AttemptTimeout.into()))?;
        let asked = self.ask(&mut connection, request, &destination, deadline);
        match asked.await {
            Err(NoHead::Unsent) => Err(Failure::ConnectionClosed.into()),
            Err(NoHead::Failed(failure)) => Err(failure.into()),
            Ok(response) => Ok(Exchange {
                connection,
                origin,
                response,
                permit,
            }),
        }
    }

    async fn connect(
        &self,
        destination: &Destination,
        own: Option<OwnAuthorities<'_>>,
        watch: &mut Watch,
    ) -> Result<(Connection, Permit), Unconnected> {
        watch.gauge = None;
        let timings = &mut watch.timings;
        let judged = timed(&mut timings.dns_us, self.connector.resolve(destination)).await?;
        let (stream, permit) = timed(&mut timings.connect_us, self.connector.dial(&judged)).await?;
        let peer = stream.peer_addr().map_err(|_| Failure::ConnectFailed)?.ip();
        let stream = timed(
            &mut timings.tls_us,
            self.connector.secure(stream, destination, own),
        )
        .await?;

        let gauge = Gauge::new();
        #[cfg(test)]
        self.gauges.lock().unwrap().push(gauge.clone());
        watch.gauge = Some(gauge.clone());
        let io = TokioIo::new(Gauged {
            stream,
            gauge: gauge.clone(),
        });
        // Names are compared without case, except by the receivers that never heard of it: they get
        // the usual spelling.
        let (sender, driven) = http1::Builder::new()
            .title_case_headers(true)
            .max_headers(MAX_HEAD_FIELDS)
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake::<_, GaugedBody>(io)
            .await
            .map_err(|_| Failure::Internal)?;
        // How the connection ends is told to whoever waits for an answer on it.
        let driver = Driver(tokio::spawn(async move { drop(driven.await) }));
        let connection = Connection {
            sender,
            gauge,
            peer,
            opened_at: Instant::now(),
            _driver: driver,
        };
        Ok((connection, permit))
    }

    /// Sends the request and waits for the final head, within the limits of writing, answering and all.
    async fn ask(
        &self,
        connection: &mut Connection,
        request: &Request,
        destination: &Destination,
        deadline: Instant,
    ) -> Result<Response<Incoming>, NoHead> {
        let gauge = connection.gauge.clone();
        gauge.restart();
        let mut message = message(request, destination, &gauge).map_err(NoHead::Failed)?;
        let too_many = Arc::new(Notify::new());
        count_interim_answers(&mut message, gauge.clone(), Arc::clone(&too_many));
        let answered = tokio::select! {
            biased;
            () = too_many.notified() => return Err(NoHead::Failed(Failure::BadResponse)),
            answered = connection.sender.try_send_request(message) => answered,
            failure = gauge.stalled(self.limits.write, self.limits.head, deadline) => {
                return Err(NoHead::Failed(failure));
            }
        };
        match answered {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Err(NoHead::Failed(Failure::BadResponse))
            }
            Ok(response) => Ok(response),
            Err(mut error) => Err(match error.take_message() {
                Some(_) => NoHead::Unsent,
                None => NoHead::Failed(why_no_head(error.error(), &gauge)),
            }),
        }
    }

    /// Reads what is wanted of the answer; its outcome is known already and stays as it is.
    async fn receive(
        &self,
        endpoint_id: &EndpointId,
        exchange: Exchange,
        deadline: Instant,
    ) -> Answer {
        let Exchange {
            connection,
            origin,
            response,
            permit,
        } = exchange;
        let (head, body) = response.into_parts();
        let deadline = deadline.min(Instant::now() + self.limits.body);
        let (body, end) = self.read_body(body, deadline).await;
        match end {
            BodyEnd::Complete => self.pool.put(endpoint_id, origin, connection),
            BodyEnd::CutOff => drop(connection),
        }
        drop(permit);
        Answer {
            outcome: Outcome::Answered {
                status: head.status.as_u16(),
                retry_after: retry_after(&head.headers),
            },
            timings: Timings::default(),
            body,
            headers: kept_headers(&head.headers),
        }
    }

    async fn read_body(&self, mut body: Incoming, deadline: Instant) -> (Bytes, BodyEnd) {
        let mut kept = BytesMut::new();
        let mut read = 0;
        loop {
            let idle = Instant::now() + self.limits.body_idle;
            let frame = match timeout_at(deadline.min(idle), body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => return (kept.freeze(), BodyEnd::Complete),
                Ok(Some(Err(_))) | Err(_) => return (kept.freeze(), BodyEnd::CutOff),
            };
            let Some(data) = frame.data_ref() else {
                continue;
            };
            let room = MAX_KEPT_BODY_BYTES - kept.len();
            kept.extend_from_slice(&data[..data.len().min(room)]);
            read += data.len();
            if read > MAX_READ_BODY_BYTES {
                return (kept.freeze(), BodyEnd::CutOff);
            }
        }
    }
}

impl Transport for HttpTransport {
    fn send(&self, request: Request) -> Sending<'_> {
        Box::pin(self.attempt(request))
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// A request whose answer has begun.
struct Exchange {
    connection: Connection,
    origin: Origin,
    response: Response<Incoming>,
    permit: Permit,
}

/// Why a connection brought no head.
enum NoHead {
    /// It was closed before a byte of the request was written to it.
    Unsent,
    Failed(Failure),
}

/// Whether a connection can take another request.
enum BodyEnd {
    Complete,
    CutOff,
}

/// The times of an attempt, as far as it came; it outlives an attempt that is cut short.
#[derive(Default)]
struct Watch {
    timings: Timings,
    gauge: Option<Gauge>,
}

impl Watch {
    fn timings(&self) -> Timings {
        Timings {
            write_us: self.gauge.as_ref().and_then(Gauge::write_time).map(micros),
            first_byte_us: self
                .gauge
                .as_ref()
                .and_then(Gauge::first_byte_time)
                .map(micros),
            ..self.timings
        }
    }
}

async fn timed<T>(slot: &mut Option<u64>, step: impl Future<Output = T>) -> T {
    let started_at = Instant::now();
    let done = step.await;
    *slot = Some(micros(started_at.elapsed()));
    done
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
