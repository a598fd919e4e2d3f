//! The receiver: as cheap as it can be while it counts every delivery exactly.
//!
//! One port speaks plain HTTP and, with `--tls-dir`, TLS as well; the first byte of a connection
//! tells which. What it has counted is asked for over HTTP, by `load`. `tally.rs` counts, `tls.rs`
//! makes the certificate. `poison.rs` is another command: receivers that do their worst.

pub(crate) mod poison;
mod tally;
mod tls;

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio_rustls::TlsAcceptor;

use self::tally::Tally;
use crate::clock::now_us;

pub(crate) use self::tally::Stats;

/// The first byte of a connection that begins with TLS.
const TLS_HANDSHAKE: u8 = 22;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to listen; port 0 is a free one, which the first line of the output names
    #[arg(long, default_value = "127.0.0.1:9900")]
    addr: SocketAddr,
    /// Take HTTPS as well, with a certificate made now; its CA is written to DIR/ca.pem
    #[arg(long, value_name = "DIR")]
    tls_dir: Option<PathBuf>,
    /// The name that the certificate is for
    #[arg(long, default_value = "sink.bench.example")]
    tls_name: String,
    /// Share of POSTs answered with 500 instead
    #[arg(long, default_value_t = 0.0)]
    fail_rate: f64,
    /// Wait this long before each answer
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// Status of a successful answer
    #[arg(long, default_value_t = 200)]
    status: u16,
}

/// What all connections share.
struct Sink {
    tally: RefCell<Tally>,
    tls: Option<TlsAcceptor>,
    fail_rate: f64,
    delay: Duration,
    status: StatusCode,
}

/// Receives until the process is ended.
pub(crate) async fn run(args: Args) -> Result<()> {
    let tls = match &args.tls_dir {
        Some(folder) => Some(tls::acceptor(&args.tls_name, folder)?),
        None => None,
    };
    let sink = Rc::new(Sink {
        tally: RefCell::default(),
        tls,
        fail_rate: args.fail_rate,
        delay: Duration::from_millis(args.delay_ms),
        status: StatusCode::from_u16(args.status)?,
    });
    let listener = TcpListener::bind(args.addr)
        .await
        .with_context(|| format!("failed to listen on {}", args.addr))?;
    println!("sink listening on http://{}", listener.local_addr()?);
    LocalSet::new()
        .run_until(async move {
            loop {
                let (stream, _) = listener.accept().await?;
                tokio::task::spawn_local(talk(sink.clone(), stream));
            }
        })
        .await
}

/// One connection. However it ends, the other side notices by itself.
async fn talk(sink: Rc<Sink>, stream: TcpStream) {
    // Otherwise an answer may wait for the acknowledgement of the one before it.
    drop(stream.set_nodelay(true));
    sink.tally.borrow_mut().connected();
    let mut first = [0];
    match &sink.tls {
        Some(tls) if stream.peek(&mut first).await.is_ok() && first[0] == TLS_HANDSHAKE => {
            if let Ok(stream) = tls.accept(stream).await {
                serve(&sink, stream).await;
            }
        }
        Some(_) | None => serve(&sink, stream).await,
    }
}

async fn serve(sink: &Rc<Sink>, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(|request| {
        let sink = sink.clone();
        async move { Ok::<_, Infallible>(sink.answer(request).await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    drop(connection.await);
}

impl Sink {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/stats") => reply(StatusCode::OK, self.tally.borrow_mut().report()),
            (&Method::POST, "/reset") => {
                let query = request.uri().query().unwrap_or_default();
                let run = query.strip_prefix("run=").unwrap_or_default();
                *self.tally.borrow_mut() = Tally::of_run(run);
                reply(StatusCode::OK, String::new())
            }
            (&Method::POST, _) => self.receive(request).await,
            _ => reply(StatusCode::NOT_FOUND, String::new()),
        }
    }

    async fn receive(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            // Cut off on the way, so it has not been received and is not counted.
            return reply(StatusCode::BAD_REQUEST, String::new());
        };
        let fail = self.fail_rate > 0.0 && fastrand::f64() < self.fail_rate;
        let (path, body) = (head.uri.path(), body.to_bytes());
        let accepted = self.tally.borrow_mut().receive(path, &body, fail, now_us());
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        let status = if accepted {
            self.status
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        reply(status, String::new())
    }
}

fn reply(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}
