//! A merchant's server in small: HTTPS, the sender checked, repeats dropped, every call remembered.
//!
//! It receives with `harkara-webhook` as any merchant would; a script can make it answer otherwise,
//! late or not at all. The demo and the integration tests call it; nothing that serves real
//! merchants does. Nothing of the platform's insides is known here.

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use harkara_core::time::Timestamp;
use harkara_webhook::{
    Content, Event, EventName, MemorySeen, ReceiveError, Received, Receiver, Seen as _,
};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::clock::Clock;

#[cfg(test)]
mod tests;

/// More than any event has.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Repeats come within the days of a ladder, so a few thousand ids reach far enough back here.
const REMEMBERED_EVENTS: usize = 10_000;

/// A running server. Dropping it closes its connections.
pub struct MerchantServer {
    name: String,
    address: SocketAddr,
    ca_pem: String,
    shop: Arc<Shop>,
    server: JoinHandle<()>,
}

/// One call to the server, with what it was answered.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub at: Timestamp,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Absent when the sender was not who they should be, or the body was no event.
    pub event: Option<Event>,
    /// The event had been handled before, so nothing was done this time.
    pub repeat: bool,
    pub reply: Reply,
}

/// How a call is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    end: End,
    after: Duration,
    headers: Vec<(&'static str, HeaderValue)>,
    body: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Answer(StatusCode),
    HangUp,
    Silence,
}

/// The webhooks that were waited for did not come.
#[derive(Debug, thiserror::Error)]
#[error(
    "receive the webhooks that were waited for: {arrived} came within {patience:?}, and not those"
)]
pub struct TooFew {
    pub arrived: usize,
    pub patience: Duration,
}

/// What the script says to a call; `None` leaves the answer that a good merchant gives.
type Script = dyn Fn(&Arrival) -> Option<Reply> + Send + Sync;

/// What all connections share.
struct Shop {
    receiver: Receiver,
    seen: MemorySeen,
    clock: Clock,
    script: Box<Script>,
    arrivals: watch::Sender<Vec<Arrival>>,
}

/// The call ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the merchant hung up")]
struct HungUp;

impl MerchantServer {
    /// Starts a server for `https://{name}` on a free port of this machine, with a certificate from
    /// a CA of its own.
    pub async fn start(
        name: &str,
        receiver: Receiver,
        clock: Clock,
        script: impl Fn(&Arrival) -> Option<Reply> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let (ca_pem, tls) = certificate(name).context("make the merchant's certificate")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("listen on 127.0.0.1 for the merchant")?;
        let address = listener.local_addr()?;
        let shop = Arc::new(Shop {
            receiver,
            seen: MemorySeen::new(REMEMBERED_EVENTS),
            clock,
            script: Box::new(script),
            arrivals: watch::Sender::default(),
        });
        let server = tokio::spawn(serve(
            listener,
            TlsAcceptor::from(Arc::new(tls)),
            shop.clone(),
        ));
        Ok(Self {
            name: name.to_owned(),
            address,
            ca_pem,
            shop,
            server,
        })
    }

    /// The URL of a path, to be set as an endpoint's.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}:{}{path}", self.name, self.address.port())
    }

    /// The certificate to trust, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Everything that has arrived, oldest first.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.shop.arrivals.borrow().clone()
    }

    /// How many events came again after they had been handled.
    pub fn repeats(&self) -> usize {
        self.shop
            .arrivals
            .borrow()
            .iter()
            .filter(|arrival| arrival.repeat)
            .count()
    }

    /// The arrival at this place in the list, counted from 0, as soon as there is one.
    pub async fn arrival(&self, at: usize) -> Arrival {
        self.wait(|arrivals| arrivals.len() > at)
            .await
            .swap_remove(at)
    }

    /// Everything that has arrived, as soon as it is `enough`.
    pub async fn until(
        &self,
        enough: impl FnMut(&[Arrival]) -> bool,
        patience: Duration,
    ) -> Result<Vec<Arrival>, TooFew> {
        tokio::time::timeout(patience, self.wait(enough))
            .await
            .map_err(|_| TooFew {
                arrived: self.shop.arrivals.borrow().len(),
                patience,
            })
    }

    async fn wait(&self, mut enough: impl FnMut(&[Arrival]) -> bool) -> Vec<Arrival> {
        let mut arrivals = self.shop.arrivals.subscribe();
        let arrived = arrivals.wait_for(|arrivals| enough(arrivals)).await;
        arrived
            .expect("the sender lives as long as the server does")
            .clone()
    }
}

impl Drop for MerchantServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Arrival {
    /// Whether it brought an event of this name.
    pub fn is(&self, name: EventName) -> bool {
        self.event
            .as_ref()
            .is_some_and(|event| event.event_name == name)
    }

    /// The merchant's own name for what the event is about: an order, a mandate, a notification.
    /// Empty when the event does not say.
    pub fn about(&self) -> &str {
        let id = self.event.as_ref().and_then(|event| match &event.content {
            Content::Order(order) => order.order_id(),
            Content::Txn(txn) => txn.order_id(),
            Content::Mandate(mandate) => mandate.mandate_id(),
            Content::Notification(notification) => notification.object_reference_id(),
            Content::Other(_) => None,
        });
        id.unwrap_or_default()
    }

    /// Which attempt of its delivery this was, as the sender counts; 0 when it does not say.
    pub fn attempt(&self) -> u32 {
        let header = self
            .headers
            .get("harkara-attempt")
            .and_then(|value| value.to_str().ok());
        header.and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

impl Reply {
    /// An answer with this status.
    pub fn status(status: StatusCode) -> Self {
        Self::ending(End::Answer(status))
    }

    /// No answer: the connection is closed.
    pub fn hang_up() -> Self {
        Self::ending(End::HangUp)
    }

    /// No answer, ever: the connection stays open.
    pub fn silence() -> Self {
        Self::ending(End::Silence)
    }

    /// The same, this much later.
    #[must_use]
    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    /// The same with one more header, whose value may have any bytes that can stand in one.
    ///
    /// # Panics
    /// If one of them cannot, such as the end of a line.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        let value = HeaderValue::from_bytes(value.as_ref()).expect("it can stand in a header");
        self.headers.push((name, value));
        self
    }

    /// The same with a body.
    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            ..self
        }
    }

    /// The status of the answer, if there is one.
    pub fn code(&self) -> Option<u16> {
        match self.end {
            End::Answer(status) => Some(status.as_u16()),
            End::HangUp | End::Silence => None,
        }
    }

    fn ending(end: End) -> Self {
        Self {
            end,
            after: Duration::ZERO,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// Whether the event was handled, even if the platform does not hear of it. A merchant whose
    /// answer is lost has done its work, and will see the event again.
    fn handles(&self) -> bool {
        match self.end {
            End::Answer(status) => status == StatusCode::OK,
            End::HangUp | End::Silence => true,
        }
    }

    async fn carry_out(self) -> Result<Response<Full<Bytes>>, HungUp> {
        tokio::time::sleep(self.after).await;
        let status = match self.end {
            End::Answer(status) => status,
            End::HangUp => return Err(HungUp),
            End::Silence => pending().await,
        };
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = status;
        for (name, value) in self.headers {
            let name = HeaderName::from_static(name);
            response.headers_mut().append(name, value);
        }
        Ok(response)
    }
}

impl Shop {
    /// Takes one call: check the sender, read the event, drop a repeat, answer.
    async fn receive(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, HungUp> {
        let at = self.clock.now();
        let (head, body) = request.into_parts();
        let body = Limited::new(body, MAX_BODY_BYTES)
            .collect()
            .await
            .map_err(|_| HungUp)?;
        let body = body.to_bytes();
        let (event, status) = match self.read(&head, &body) {
            Ok(event) => (Some(event), StatusCode::OK),
            Err(status) => (None, status),
        };
        let (path, headers) = (head.uri.path().to_owned(), head.headers);
        let reply = Reply::status(status);
        let mut arrival = Arrival {
            at,
            path,
            headers,
            body,
            event,
            repeat: false,
            reply,
        };
        if let Some(reply) = (self.script)(&arrival) {
            arrival.reply = reply;
        }
        if let Some(event) = &arrival.event
            && arrival.reply.handles()
        {
            let Ok(first_time) = self.seen.first_time(&event.id);
            // Whatever an event sets going, such as shipping the order, belongs behind this.
            arrival.repeat = !first_time;
        }
        let reply = arrival.reply.clone();
        self.arrivals.send_modify(|arrivals| arrivals.push(arrival));
        reply.carry_out().await
    }

    fn read(&self, head: &http::request::Parts, body: &[u8]) -> Result<Event, StatusCode> {
        if head.method != Method::POST {
            return Err(StatusCode::METHOD_NOT_ALLOWED);
        }
        let authorization = head
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        match self.receiver.receive(authorization, body) {
            Ok(Received(event)) => Ok(event),
            Err(ReceiveError::Unauthorized) => Err(StatusCode::UNAUTHORIZED),
            Err(_) => Err(StatusCode::BAD_REQUEST),
        }
    }
}

/// Accepts connections until it is aborted, and takes them along.
async fn serve(listener: TcpListener, tls: TlsAcceptor, shop: Arc<Shop>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(talk(stream, tls.clone(), shop.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection. However it ends, the platform notices by itself.
async fn talk(stream: TcpStream, tls: TlsAcceptor, shop: Arc<Shop>) {
    // Otherwise an answer may wait for the acknowledgement of the one before it.
    drop(stream.set_nodelay(true));
    let Ok(stream) = tls.accept(stream).await else {
        return;
    };
    let service = service_fn(|request| shop.receive(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    drop(connection.await);
}

/// A CA, and a certificate of it for the name.
fn certificate(name: &str) -> anyhow::Result<(String, ServerConfig)> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params
        .distinguished_name
        .push(DnType::CommonName, "the merchant's CA");
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.signed_by(&key, &ca)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )?;
    Ok((ca.pem(), config))
}
