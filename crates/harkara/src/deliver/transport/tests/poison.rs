//! Receivers that do what none should, each in one way, on real sockets.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::*;

/// What a receiver does to whoever calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Poison {
    ClosesAtAccept,
    NeverAnswers,
    DripsHead,
    DripsBody,
    EndlessBody,
    EndlessHeaders,
    HugeStatusLine,
    Garbage,
    SpeaksHttp2,
    Upgrades,
    RedirectLoop,
    HundredThousandContinues,
    TwoAnswers,
    GzipBomb,
    AbsurdChunk,
    PromisesMore,
    SendsMore,
    NegativeLength,
    TlsExpired,
    TlsOtherName,
    TlsUnknownAuthority,
    TlsGarbage,
    TlsStops,
    TlsTooOld,
}

use Poison::*;

impl Poison {
    pub(super) const ALL: [Self; 24] = [
        ClosesAtAccept,
        NeverAnswers,
        DripsHead,
        DripsBody,
        EndlessBody,
        EndlessHeaders,
        HugeStatusLine,
        Garbage,
        SpeaksHttp2,
        Upgrades,
        RedirectLoop,
        HundredThousandContinues,
        TwoAnswers,
        GzipBomb,
        AbsurdChunk,
        PromisesMore,
        SendsMore,
        NegativeLength,
        TlsExpired,
        TlsOtherName,
        TlsUnknownAuthority,
        TlsGarbage,
        TlsStops,
        TlsTooOld,
    ];
}

/// What that is in bytes.
#[derive(Clone)]
enum Behaviour {
    Close,
    /// Speaks before it is asked, and that is all.
    Greet(&'static [u8]),
    /// Encrypts, or would.
    Secure(TlsAcceptor),
    /// Reads the request, says one thing once and another again and again.
    Answer(Vec<u8>, Vec<u8>, Pace),
}

#[derive(Clone, Copy)]
enum Pace {
    Flood,
    Drip,
}

/// A poisoned receiver on a port of its own.
pub(super) struct Sink {
    pub(super) url: String,
    pub(super) connections: watch::Receiver<usize>,
    /// Connections whose other end is gone.
    pub(super) ended: watch::Receiver<usize>,
}

impl Sink {
    pub(super) async fn start(poison: Poison) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let scheme = match format!("{poison:?}").starts_with("Tls") {
            true => "https",
            false => "http",
        };
        let url = format!("{scheme}://shop.test:{port}/hook");
        let behaviour = behaviour(poison, &url);
        let (count, connections) = watch::channel(0);
        let (end, ended) = watch::channel(0);
        let end = Arc::new(end);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                count.send_modify(|count| *count += 1);
                let (end, behaviour) = (end.clone(), behaviour.clone());
                tokio::spawn(async move {
                    act(behaviour, socket).await;
                    end.send_modify(|ended| *ended += 1);
                });
            }
        });
        Self {
            url,
            connections,
            ended,
        }
    }
}

/// Does its worst to one connection, then waits for the other end to go.
async fn act(behaviour: Behaviour, mut socket: TcpStream) {
    match behaviour {
        Behaviour::Close => {}
        Behaviour::Secure(tls) => drop(tls.accept(socket).await),
        Behaviour::Greet(greeting) => {
            if socket.write_all(greeting).await.is_ok() {
                until_gone(&mut socket).await;
            }
        }
        Behaviour::Answer(once, again, pace) => {
            if read_request(&mut socket).await.is_some() && socket.write_all(&once).await.is_ok() {
                keep_on(socket, &again, pace).await;
            }
        }
    }
}

async fn keep_on(mut socket: TcpStream, again: &[u8], pace: Pace) {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let (mut theirs, mut ours) = socket.split();
    let speak = async {
        while !again.is_empty() && ours.write_all(again).await.is_ok() {
            match pace {
                Pace::Flood => {}
                Pace::Drip => drop(ticks.tick().await),
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = speak => {}
        () = until_gone(&mut theirs) => {}
    }
}

async fn until_gone(socket: &mut (impl AsyncRead + Unpin)) {
    let mut ignored = [0; 4096];
    while matches!(socket.read(&mut ignored).await, Ok(1..)) {}
}

fn behaviour(poison: Poison, url: &str) -> Behaviour {
    let once = |text: &str| Behaviour::Answer(text.into(), Vec::new(), Pace::Flood);
    let flood = |text: &str, again: &str| Behaviour::Answer(text.into(), again.into(), Pace::Flood);
    let drip = |text: &str, again: &str| Behaviour::Answer(text.into(), again.into(), Pace::Drip);
    let secure = |config| Behaviour::Secure(TlsAcceptor::from(Arc::new(config)));
    match poison {
        ClosesAtAccept => Behaviour::Close,
        NeverAnswers => once(""),
        DripsHead => drip("HTTP/1.1 200 OK\r\nX: ", "y"),
        DripsBody => drip("HTTP/1.1 200 OK\r\n\r\n", "y"),
        EndlessBody => flood("HTTP/1.1 200 OK\r\n\r\n", &"y".repeat(65_536)),
        EndlessHeaders => flood("HTTP/1.1 200 OK\r\n", "X-More: of the same\r\n"),
        HugeStatusLine => flood("HTTP/1.1 200 ", "OK "),
        Garbage => once("SSH-2.0-OpenSSH_9.6\r\n\0\u{1}\u{2}\r\n\r\n"),
        SpeaksHttp2 => once("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        Upgrades => once(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        ),
        RedirectLoop => once(&format!(
            "HTTP/1.1 302 Found\r\nLocation: {url}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )),
        HundredThousandContinues => once(&"HTTP/1.1 100 Continue\r\n\r\n".repeat(100_000)),
        TwoAnswers => once(&OK.repeat(2)),
        // A gzip member that goes on and on.
        GzipBomb => flood(
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\u{1f}\u{8}",
            &"\0".repeat(1024),
        ),
        AbsurdChunk => {
            once("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nok\r\n")
        }
        PromisesMore => once("HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\nok"),
        SendsMore => once("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and so much more"),
        NegativeLength => once("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok"),
        TlsExpired => secure(certificate("shop.test", |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })),
        TlsOtherName => secure(certificate("other.test", |_| {})),
        TlsUnknownAuthority => {
            let key = KeyPair::generate().unwrap();
            let own = CertificateParams::new(vec!["shop.test".to_owned()]).unwrap();
            secure(server_config(
                own.self_signed(&key).unwrap().der().clone(),
                &key,
            ))
        }
        TlsGarbage => Behaviour::Greet(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        // The beginning of a handshake record of 512 bytes.
        TlsStops => Behaviour::Greet(&[22, 3, 3, 2, 0, 2, 0]),
        // A fatal alert: protocol version.
        TlsTooOld => Behaviour::Greet(&[21, 3, 1, 0, 2, 2, 70]),
    }
}
