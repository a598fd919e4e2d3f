mod poison;
mod walls;
mod zoo;

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::task::Poll;

use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Resolver, TokioResolver};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// What a receiver does with the next request, on whichever connection it comes.
#[derive(Clone, Copy)]
enum Act {
    Say(&'static str),
    /// Answers and closes.
    SayAndClose(&'static str),
    /// Says one thing once and another for ever.
    Drip(&'static str, &'static str),
    /// Reads the request and nothing follows.
    Silence,
    Close,
}

use Act::{Close, Drip, Say, SayAndClose, Silence};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    closed: AtomicUsize,
    resumed: AtomicUsize,
    requests: Mutex<Vec<String>>,
}

/// A receiver on a port of its own, with a script.
struct Receiver {
    port: u16,
    seen: Arc<Seen>,
}

impl Receiver {
    async fn plain(script: &[Act]) -> Self {
        Self::start(script, None).await
    }

    async fn tls(script: &[Act], config: ServerConfig) -> Self {
        Self::start(script, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start(script: &[Act], tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self::serve(listener, script, tls)
    }

    fn listening(listener: TcpListener, script: &[Act]) -> Self {
        Self::serve(listener, script, None)
    }

    fn serve(listener: TcpListener, script: &[Act], tls: Option<TlsAcceptor>) -> Self {
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Seen::default());
        let script = Arc::new(Mutex::new(script.iter().copied().collect::<VecDeque<_>>()));
        let watched = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                watched.connections.fetch_add(1, Ordering::SeqCst);
                let (script, watched, tls) =
                    (Arc::clone(&script), Arc::clone(&watched), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => play(socket, &script, &watched).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                let kind = socket.get_ref().1.handshake_kind();
                                if kind == Some(rustls::HandshakeKind::Resumed) {
                                    watched.resumed.fetch_add(1, Ordering::SeqCst);
                                }
                                play(socket, &script, &watched).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, seen }
    }

    fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }

    fn url(&self) -> String {
        format!("http://shop.test:{}/hook?order=1", self.port)
    }
}

/// Acts until the script or the connection ends; then keeps the connection open.
async fn play(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    script: &Mutex<VecDeque<Act>>,
    seen: &Seen,
) {
    if matches!(script.lock().unwrap().front(), Some(Close)) {
        script.lock().unwrap().pop_front();
        return;
    }
    while let Some(request) = read_request(&mut socket).await {
        seen.requests.lock().unwrap().push(request);
        let act = script.lock().unwrap().pop_front();
        match act {
            Some(Say(text)) => socket.write_all(text.as_bytes()).await.unwrap(),
            Some(SayAndClose(text)) => {
                socket.write_all(text.as_bytes()).await.unwrap();
                socket.shutdown().await.unwrap();
                seen.closed.fetch_add(1, Ordering::SeqCst);
                return;
            }
            Some(Drip(first, then)) => {
                socket.write_all(first.as_bytes()).await.unwrap();
                while socket.write_all(then.as_bytes()).await.is_ok() {
                    tokio::task::yield_now().await;
                }
                return;
            }
            Some(Close) => return,
            Some(Silence) | None => {}
        }
    }
}

/// One request with its body, or `None` at the connection's end.
async fn read_request(socket: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut text = String::new();
    while !text.ends_with("{\"id\":1}") {
        text.push(char::from(socket.read_u8().await.ok()?));
    }
    Some(text)
}

static CA: LazyLock<CertifiedIssuer<'static, KeyPair>> = LazyLock::new(|| {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
});

static ROOTS: LazyLock<Roots> = LazyLock::new(|| {
    Roots::load(Some(
        AsRef::<rcgen::Certificate>::as_ref(&*CA).pem().as_bytes(),
    ))
    .unwrap()
});

/// A certificate for a name, valid or not.
fn certificate(name: &str, change: impl FnOnce(&mut CertificateParams)) -> ServerConfig {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    change(&mut params);
    let certificate = params.signed_by(&key, &*CA).unwrap();
    server_config(certificate.der().clone(), &key)
}

fn server_config(certificate: CertificateDer<'static>, key: &KeyPair) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap()
}

/// Limits short enough to wait for.
fn limits() -> Limits {
    Limits {
        write: Duration::from_secs(1),
        head: Duration::from_secs(1),
        body: Duration::from_millis(300),
        body_idle: Duration::from_millis(150),
        ..Limits::default()
    }
}

/// A sandbox in which 127.0.0.1 may be called, and two names are known without asking anybody.
fn policy() -> Policy {
    Policy {
        allow_http: true,
        allow_private: vec!["127.0.0.1/32".parse().unwrap()],
        static_names: BTreeMap::from([
            ("shop.test".to_owned(), Ipv4Addr::LOCALHOST.into()),
            (
                "elsewhere.test".to_owned(),
                Ipv4Addr::new(127, 0, 0, 2).into(),
            ),
        ]),
        ..Policy::production()
    }
}

fn transport() -> HttpTransport {
    transport_with(limits())
}

fn transport_with(limits: Limits) -> HttpTransport {
    let resolver =
        Resolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
            .build()
            .unwrap();
    transport_over(Arc::new(policy()), limits, resolver)
}

fn transport_over(policy: Arc<Policy>, limits: Limits, resolver: TokioResolver) -> HttpTransport {
    let connect = limits.connect.clone();
    let connector = Connector::with_resolver(policy, &ROOTS, Dialler::default(), connect, resolver);
    HttpTransport::with(connector, limits)
}

fn request(url: impl Into<String>) -> Request {
    Request {
        endpoint_id: EndpointId::new("ep_1"),
        url: url.into(),
        authorization: basic_header("user", "pass"),
        headers: vec![
            (
                HeaderName::from_static("webhook-id"),
                HeaderValue::from_static("evt_1"),
            ),
            (
                HeaderName::from_static("x-shop"),
                HeaderValue::from_static("blue"),
            ),
        ],
        body: Bytes::from_static(b"{\"id\":1}"),
        ca_pem: None,
        timeout: Duration::from_secs(10),
    }
}

/// Sends, where nobody else does.
async fn send(transport: &HttpTransport, request: Request) -> Answer {
    match transport.send(request).await {
        Sent::Answer(answer) => answer,
        Sent::Crowded => panic!("there were permits"),
    }
}

/// Plays one act to one request and gives the outcome's code.
async fn code(act: Act) -> String {
    let receiver = Receiver::plain(&[act]).await;
    send(&transport(), request(receiver.url()))
        .await
        .outcome
        .code()
}

#[test]
fn credentials_are_encoded_as_receivers_compare_them_and_never_print() {
    let value = basic_header("Aladdin", "open sesame");
    assert_eq!(
        value.to_str().unwrap(),
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    );
    assert_eq!(format!("{value:?}"), "Sensitive");
    assert!(!format!("{:?}", request("https://shop.test/")).contains("Basic"));
    assert_eq!(
        basic_header("u", "pä?>").to_str().unwrap(),
        "Basic dTpww6Q/Pg=="
    );
}

#[tokio::test]
async fn the_request_on_the_wire() {
    let receiver = Receiver::plain(&[Say(OK)]).await;
    let answer = send(&transport(), request(receiver.url())).await;
    assert_eq!(answer.outcome.code(), "HTTP_200");
    let wire = receiver
        .requests()
        .remove(0)
        .replace(&receiver.port.to_string(), "PORT");
    let wire = wire
        .replace(env!("CARGO_PKG_VERSION"), "VERSION")
        .replace('\r', "");
    insta::assert_snapshot!(wire, @r#"
    POST /hook?order=1 HTTP/1.1
    Host: shop.test:PORT
    Content-Type: application/json
    User-Agent: Harkara/VERSION
    Content-Length: 8
    Authorization: Basic dXNlcjpwYXNz
    Webhook-Id: evt_1
    X-Shop: blue

    {"id":1}
    "#);
}

#[tokio::test]
async fn an_answer_in_all_its_parts() {
    let receiver = Receiver::plain(&[Say(
        "HTTP/1.1 503 Busy\r\nRetry-After: 120\r\nX-Odd: \u{e9}\r\nContent-Length: 4\r\n\r\nbusy",
    )])
    .await;
    let answer = send(&transport(), request(receiver.url())).await;
    let retry_after = Some(Duration::from_secs(120));
    assert_eq!(
        answer.outcome,
        Outcome::Answered {
            status: 503,
            retry_after
        }
    );
    assert_eq!(&answer.body[..], b"busy");
    insta::assert_snapshot!(
        format!("{:?}", answer.headers),
        @r#"[("retry-after", "120"), ("x-odd", "é"), ("content-length", "4")]"#
    );
    let Timings {
        dns_us,
        connect_us,
        tls_us,
        write_us,
        first_byte_us,
        total_us,
    } = answer.timings;
    let parts = [dns_us, connect_us, tls_us, write_us, first_byte_us].map(Option::unwrap);
    assert!(parts.iter().sum::<u64>() <= total_us);
}

#[tokio::test]
async fn a_date_in_retry_after_is_read_by_the_receivers_clock() {
    async fn wait(headers: &'static str) -> Option<u64> {
        let text = format!("HTTP/1.1 429 Slow\r\n{headers}Content-Length: 0\r\n\r\n");
        let receiver = Receiver::plain(&[Say(text.leak())]).await;
        match send(&transport(), request(receiver.url())).await.outcome {
            Outcome::Answered { retry_after, .. } => retry_after.map(|wait| wait.as_secs()),
            Outcome::Failed(failure) => panic!("{failure}"),
        }
    }
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    assert_eq!(wait("Retry-After: 30\r\n").await, Some(30));
    let retry = format!("{date}Retry-After: Sun, 06 Nov 1994 08:50:37 GMT\r\n");
    assert_eq!(wait(retry.leak()).await, Some(60));
    assert_eq!(
        wait("Retry-After: Sun, 06 Nov 1994 08:50:37 GMT\r\n").await,
        None
    );
}

#[tokio::test]
async fn every_final_head_is_an_answer() {
    for (text, expected) in [
        (OK, "HTTP_200"),
        ("HTTP/1.1 204 No Content\r\n\r\n", "HTTP_204"),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "HTTP_404",
        ),
        ("HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", "HTTP_999"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP_200"),
        (
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP_200",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP_200",
        ),
    ] {
        assert_eq!(code(Say(text)).await, expected, "{text:?}");
    }
    assert_eq!(
        code(SayAndClose("HTTP/1.1 200 OK\r\n\r\nuntil the end")).await,
        "HTTP_200"
    );
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let other = Receiver::plain(&[Say(OK)]).await;
    let text = format!(
        "HTTP/1.1 301 Moved\r\nLocation: http://shop.test:{}/\r\nContent-Length: 0\r\n\r\n",
        other.port
    );
    assert_eq!(code(Say(text.leak())).await, "HTTP_301");
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn a_200_stands_whatever_its_body_does() {
    // Announced and missing, cut off, malformed, endless, and never ending while nothing comes.
    for act in [
        SayAndClose("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"),
        SayAndClose("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nok"),
        Say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"),
        Drip("HTTP/1.1 200 OK\r\n\r\n", "endless"),
        Say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"),
    ] {
        assert_eq!(code(act).await, "HTTP_200");
    }
}

#[tokio::test]
async fn a_long_body_is_cut_and_its_connection_closed() {
    let long = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n{}",
        "a".repeat(20_000)
    );
    let receiver = Receiver::plain(&[Say(long.leak()), Say(OK)]).await;
    let transport = transport();
    let answer = send(&transport, request(receiver.url())).await;
    assert_eq!(answer.body.len(), MAX_KEPT_BODY_BYTES);
    assert_eq!(
        send(&transport, request(receiver.url()))
            .await
            .outcome
            .code(),
        "HTTP_200"
    );
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn what_is_no_answer() {
    for (text, expected) in [
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            "BAD_RESPONSE",
        ),
        ("SSH-2.0-OpenSSH_9.6\r\n\r\n", "BAD_RESPONSE"),
        ("HTTP/2.0 200 OK\r\n\r\n", "BAD_RESPONSE"),
        ("HTTP/1.1 20 OK\r\n\r\n", "BAD_RESPONSE"),
        ("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "BAD_RESPONSE"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "BAD_RESPONSE",
        ),
        ("HTTP/1.1 200 OK\r\n", "HEAD_TIMEOUT"),
    ] {
        assert_eq!(code(Say(text)).await, expected, "{text:?}");
    }
    assert_eq!(code(SayAndClose("HTTP/1.1 200")).await, "CONNECTION_CLOSED");
    assert_eq!(code(Close).await, "CONNECTION_CLOSED");
    assert_eq!(code(Silence).await, "HEAD_TIMEOUT");
}

#[tokio::test]
async fn heads_have_bounds() {
    let fields = |count: usize| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{}\r\n",
            "X: y\r\n".repeat(count - 1)
        )
    };
    assert_eq!(code(Say(fields(64).leak())).await, "HTTP_200");
    assert_eq!(code(Say(fields(65).leak())).await, "BAD_RESPONSE");

    let long = |bytes: usize| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: {}\r\n\r\n",
            "y".repeat(bytes)
        )
    };
    assert_eq!(code(Say(long(15_000).leak())).await, "HTTP_200");
    assert_eq!(code(Say(long(17_000).leak())).await, "BAD_RESPONSE");
    assert_eq!(
        code(Drip("HTTP/1.1 200 OK\r\nX: ", "endless")).await,
        "BAD_RESPONSE"
    );

    let interim = |count: usize| {
        let final_head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        format!(
            "{}{final_head}",
            "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(count)
        )
    };
    assert_eq!(code(Say(interim(4).leak())).await, "HTTP_200");
    assert_eq!(code(Say(interim(5).leak())).await, "BAD_RESPONSE");
    assert_eq!(
        code(Drip("", "HTTP/1.1 100 Continue\r\n\r\n")).await,
        "BAD_RESPONSE"
    );
}

#[tokio::test]
async fn the_whole_attempt_has_a_deadline() {
    let receiver = Receiver::plain(&[Silence]).await;
    let hasty = Request {
        timeout: Duration::from_millis(100),
        ..request(receiver.url())
    };
    let answer = send(&transport(), hasty.clone()).await;
    assert_eq!(answer.outcome.code(), "ATTEMPT_TIMEOUT");
    assert!(answer.timings.write_us.is_some());
    assert_eq!(answer.timings.first_byte_us, None);
    assert!(answer.timings.total_us >= 100_000);

    // It runs out while a connection is made as well.
    let speechless = Request {
        url: receiver.url().replace("http:", "https:"),
        ..hasty
    };
    let answer = send(&transport(), speechless).await;
    assert_eq!(answer.outcome.code(), "ATTEMPT_TIMEOUT");
    assert_eq!(answer.timings.write_us, None);
}

#[tokio::test]
async fn a_receiver_that_does_not_read() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!(
        "http://shop.test:{}/",
        listener.local_addr().unwrap().port()
    );
    // More than the kernel's buffers take.
    let large = Request {
        body: Bytes::from(vec![b'a'; 32 << 20]),
        ..request(url)
    };
    let answer = send(&transport(), large).await;
    assert_eq!(answer.outcome.code(), "WRITE_TIMEOUT");
    drop(listener);
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!(
        "http://shop.test:{}/",
        listener.local_addr().unwrap().port()
    );
    drop(listener);
    let answer = send(&transport(), request(url)).await;
    assert_eq!(answer.outcome.code(), "CONNECT_REFUSED");
    assert_eq!(answer.timings.write_us, None);
}

#[tokio::test]
async fn forbidden_places_are_not_dialled() {
    // It listens on every address of the loopback network, so that a call would be seen.
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for url in [
        format!("http://elsewhere.test:{port}/"),
        format!("http://127.0.0.2:{port}/"),
        format!("http://localhost:{port}/"),
        format!("ftp://shop.test:{port}/"),
    ] {
        let answer = send(&transport(), request(url)).await;
        assert_eq!(answer.outcome, Outcome::Failed(Failure::BlockedDestination));
        assert_eq!(answer.timings.connect_us, None);
    }
    let dialled = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(dialled.is_err());
}

#[tokio::test]
async fn a_clean_connection_is_used_again_by_its_endpoint_alone() {
    let receiver = Receiver::plain(&[Say(OK); 4]).await;
    let transport = transport();
    let first = send(&transport, request(receiver.url())).await;
    let second = send(&transport, request(receiver.url())).await;
    assert_eq!(receiver.connections(), 1);
    assert!(first.timings.connect_us.is_some());
    assert_eq!(second.timings.connect_us, None);
    assert!(second.timings.first_byte_us.is_some());

    let other = Request {
        endpoint_id: EndpointId::new("ep_2"),
        ..request(receiver.url())
    };
    send(&transport, other).await;
    assert_eq!(receiver.connections(), 2);

    // Another origin of the same endpoint.
    send(
        &transport,
        request(format!("http://127.0.0.1:{}/", receiver.port)),
    )
    .await;
    assert_eq!(receiver.connections(), 3);
}

fn with_pool(change: impl FnOnce(&mut PoolBounds)) -> HttpTransport {
    let mut limits = limits();
    change(&mut limits.pool);
    transport_with(limits)
}

#[tokio::test]
async fn a_connection_is_kept_no_longer_than_the_limit() {
    let receiver = Receiver::plain(&[Say(OK); 3]).await;
    let mut transport = transport();
    send(&transport, request(receiver.url())).await;
    // What was young enough to be kept is old now.
    transport.pool.bounds.age = Duration::ZERO;
    send(&transport, request(receiver.url())).await;
    assert_eq!(receiver.connections(), 2);
    // And this one was old before it could be kept.
    transport.pool.bounds.age = Duration::from_secs(30);
    send(&transport, request(receiver.url())).await;
    assert_eq!(receiver.connections(), 3);
}

/// Sends this many at once.
async fn burst(transport: &HttpTransport, count: usize, request: &Request) -> Vec<Sent> {
    let mut sends: Vec<_> = (0..count)
        .map(|_| transport.send(request.clone()))
        .collect();
    let mut sent = Vec::new();
    std::future::poll_fn(|cx| {
        sends.retain_mut(|send| match send.as_mut().poll(cx) {
            Poll::Ready(done) => {
                sent.push(done);
                false
            }
            Poll::Pending => true,
        });
        match sends.is_empty() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    sent
}

#[tokio::test]
async fn as_many_connections_are_kept_as_an_endpoint_has_permits() {
    assert_eq!(PoolBounds::default().per_endpoint, 64);
    let receiver = Receiver::plain(&[Say(OK); 140]).await;
    let transport = with_pool(|_| {});
    burst(&transport, 70, &request(receiver.url())).await;
    assert_eq!(receiver.connections(), 70);
    burst(&transport, 70, &request(receiver.url())).await;
    assert_eq!(receiver.connections(), 76);
}

#[tokio::test]
async fn of_all_endpoints_the_oldest_connection_goes_first() {
    let receiver = Receiver::plain(&[Say(OK); 6]).await;
    let transport = with_pool(|pool| pool.in_all = 2);
    let of = |endpoint| Request {
        endpoint_id: EndpointId::new(endpoint),
        ..request(receiver.url())
    };
    for endpoint in ["ep_1", "ep_2", "ep_3"] {
        send(&transport, of(endpoint)).await;
    }
    assert_eq!(receiver.connections(), 3);
    send(&transport, of("ep_3")).await;
    send(&transport, of("ep_2")).await;
    assert_eq!(receiver.connections(), 3);
    send(&transport, of("ep_1")).await;
    assert_eq!(receiver.connections(), 4);
}

#[tokio::test]
async fn a_dirty_connection_is_not_used_again() {
    for first in [
        // Two answers to one request: the second would be taken for the next request's.
        Say(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
        Say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more"),
        Say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"),
    ] {
        let receiver =
            Receiver::plain(&[first, Say("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")]).await;
        let transport = transport();
        assert_eq!(
            send(&transport, request(receiver.url()))
                .await
                .outcome
                .code(),
            "HTTP_200"
        );
        assert_eq!(
            send(&transport, request(receiver.url()))
                .await
                .outcome
                .code(),
            "HTTP_404"
        );
        assert_eq!(receiver.connections(), 2);
    }
}

#[tokio::test]
async fn a_connection_that_its_receiver_closed_costs_no_attempt() {
    let receiver = Receiver::plain(&[SayAndClose(OK), Say(OK)]).await;
    let transport = transport();
    send(&transport, request(receiver.url())).await;
    while receiver.seen.closed.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    // Each yield lets the runtime see what has happened on its sockets.
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        send(&transport, request(receiver.url()))
            .await
            .outcome
            .code(),
        "HTTP_200"
    );
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn a_kept_connection_that_ends_under_a_request_costs_no_attempt() {
    let receiver = Receiver::plain(&[Say(OK), Close, Say(OK)]).await;
    let transport = transport();
    send(&transport, request(receiver.url())).await;
    let second = send(&transport, request(receiver.url())).await;
    assert_eq!(second.outcome.code(), "HTTP_200");
    assert_eq!(receiver.connections(), 2);

    // A new connection that ends so is a failed attempt.
    let receiver = Receiver::plain(&[Say(OK), Close, Close]).await;
    send(&transport, request(receiver.url())).await;
    let second = send(&transport, request(receiver.url())).await;
    assert_eq!(second.outcome.code(), "CONNECTION_CLOSED");
}

mod tls {
    use super::*;

    async fn outcome(config: ServerConfig) -> String {
        let receiver = Receiver::tls(&[Say(OK)], config).await;
        let url = format!("https://shop.test:{}/", receiver.port);
        let answer = send(&transport(), request(url)).await;
        let seen = if receiver.requests().is_empty() {
            "nothing sent"
        } else {
            "sent"
        };
        format!("{}, {seen}", answer.outcome.code())
    }

    #[tokio::test]
    async fn a_good_certificate() {
        assert_eq!(
            outcome(certificate("shop.test", |_| {})).await,
            "HTTP_200, sent"
        );
    }

    #[tokio::test]
    async fn another_hosts_certificate() {
        let config = certificate("other.test", |_| {});
        assert_eq!(outcome(config).await, "TLS_FAILED, nothing sent");
    }

    #[tokio::test]
    async fn an_expired_certificate() {
        let config = certificate("shop.test", |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        });
        assert_eq!(outcome(config).await, "TLS_FAILED, nothing sent");
    }

    #[tokio::test]
    async fn a_certificate_of_nobody() {
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["shop.test".to_owned()]).unwrap();
        let config = server_config(own.self_signed(&key).unwrap().der().clone(), &key);
        assert_eq!(outcome(config).await, "TLS_FAILED, nothing sent");
    }

    #[tokio::test]
    async fn no_session_is_resumed() {
        let script = [Say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"); 3];
        let receiver = Receiver::tls(&script, certificate("shop.test", |_| {})).await;
        let url = format!("https://shop.test:{}/", receiver.port);
        let transport = transport();
        for connections in 1..=3 {
            let answer = send(&transport, request(url.as_str())).await;
            assert_eq!(answer.outcome.code(), "HTTP_200");
            assert_eq!(receiver.connections(), connections);
        }
        assert_eq!(receiver.seen.resumed.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_large_body_and_a_second_request_on_the_same_connection() {
        let receiver = Receiver::tls(&[Say(OK), Say(OK)], certificate("shop.test", |_| {})).await;
        let url = format!("https://shop.test:{}/", receiver.port);
        let transport = transport_with(Limits::default());
        let mut body = vec![b' '; 250_000];
        body.extend_from_slice(b"{\"id\":1}");
        for _ in 0..2 {
            let large = Request {
                body: Bytes::from(body.clone()),
                ..request(url.clone())
            };
            let answer = send(&transport, large).await;
            assert_eq!(answer.outcome.code(), "HTTP_200");
            assert!(answer.timings.write_us.is_some());
        }
        assert_eq!(receiver.connections(), 1);
    }
}
