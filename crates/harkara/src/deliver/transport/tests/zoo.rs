//! What becomes of an attempt at each poisoned receiver: its code, its connection, its permit and how
//! much of its bytes are read.

use tokio::sync::watch;
use tokio::time::timeout;

use super::poison::{Poison, Sink};
use super::*;
use crate::deliver::transport::gauge::MAX_READ_BYTES;

/// Far longer than any limit here.
const PATIENCE: Duration = Duration::from_secs(20);

/// A transport with one permit for each address, so that one which is not given back is missed. Its
/// limits are short where this kind is waited for, and otherwise such that no busy machine meets them.
fn transport_for(poison: Poison) -> HttpTransport {
    let short = Duration::from_millis(60);
    let is_waited_for = matches!(
        poison,
        Poison::NeverAnswers | Poison::DripsHead | Poison::TlsStops
    );
    let patient = if is_waited_for { short } else { PATIENCE / 2 };
    transport_with(Limits {
        connect: ConnectLimits {
            tls: patient,
            permits_per_address: 1,
            ..ConnectLimits::default()
        },
        write: patient,
        head: patient,
        body: short,
        body_idle: short,
        ..Limits::default()
    })
}

async fn reaches(counter: &mut watch::Receiver<usize>, count: usize) {
    timeout(PATIENCE, counter.wait_for(|it| *it >= count))
        .await
        .expect("every socket is closed in time")
        .unwrap();
}

/// The code of an attempt, if the next one, over a connection of its own, ends alike.
async fn outcome(poison: Poison) -> String {
    let mut sink = Sink::start(poison).await;
    let transport = transport_for(poison);
    let mut codes = Vec::new();
    for attempt in 1..=2 {
        let sent = timeout(PATIENCE, send(&transport, request(sink.url.as_str()))).await;
        let answer = sent.unwrap_or_else(|_| panic!("{poison:?} held an attempt"));
        codes.push(answer.outcome.code());
        assert_eq!(*sink.connections.borrow(), attempt, "{poison:?}");
        reaches(&mut sink.ended, attempt).await;
    }
    assert_eq!(codes[0], codes[1], "{poison:?}");
    codes.remove(0)
}

fn is_slow(poison: Poison) -> bool {
    matches!(
        poison,
        Poison::NeverAnswers
            | Poison::DripsHead
            | Poison::DripsBody
            | Poison::PromisesMore
            | Poison::TlsStops
    )
}

#[tokio::test]
async fn each_kind_has_its_code_and_none_is_used_again() {
    let mut table = String::new();
    for poison in Poison::ALL {
        table += &format!("{:<26}{}\n", format!("{poison:?}"), outcome(poison).await);
    }
    insta::assert_snapshot!(table, @r"
    ClosesAtAccept            CONNECTION_CLOSED
    NeverAnswers              HEAD_TIMEOUT
    DripsHead                 HEAD_TIMEOUT
    DripsBody                 HTTP_200
    EndlessBody               HTTP_200
    EndlessHeaders            BAD_RESPONSE
    HugeStatusLine            BAD_RESPONSE
    Garbage                   BAD_RESPONSE
    SpeaksHttp2               BAD_RESPONSE
    Upgrades                  BAD_RESPONSE
    RedirectLoop              HTTP_302
    HundredThousandContinues  BAD_RESPONSE
    TwoAnswers                HTTP_200
    GzipBomb                  HTTP_200
    AbsurdChunk               HTTP_200
    PromisesMore              HTTP_200
    SendsMore                 HTTP_200
    NegativeLength            BAD_RESPONSE
    TlsExpired                TLS_FAILED
    TlsOtherName              TLS_FAILED
    TlsUnknownAuthority       TLS_FAILED
    TlsGarbage                TLS_FAILED
    TlsStops                  TLS_TIMEOUT
    TlsTooOld                 TLS_FAILED
    ");
}

/// Neither a name on the Internet nor a program in memory grows by being called: what one attempt may
/// read has a bound, whatever is sent.
#[tokio::test]
async fn no_kind_makes_an_attempt_read_more_than_the_bound() {
    for poison in Poison::ALL {
        let sink = Sink::start(poison).await;
        let transport = transport_for(poison);
        // Those that are waited for are few, and bring few bytes.
        let times = if is_slow(poison) { 5 } else { 200 };
        for _ in 0..times {
            let answer = send(&transport, request(sink.url.as_str())).await;
            assert!(answer.body.len() <= MAX_KEPT_BODY_BYTES, "{poison:?}");
        }
        let gauges = transport.gauges.lock().unwrap();
        let most = gauges.iter().map(Gauge::read_bytes).max();
        // The read that goes over the bound is the last. Too many interim answers are in the first.
        let allowed = match matches!(poison, Poison::HundredThousandContinues) {
            true => MAX_HEAD_BYTES,
            false => MAX_READ_BYTES,
        };
        let bound = allowed + MAX_HEAD_BYTES;
        assert!(most.unwrap_or_default() <= bound, "{poison:?}: {most:?}");
    }
}

/// Its bytes are shown as they came.
#[tokio::test]
async fn nothing_is_unpacked() {
    let sink = Sink::start(Poison::GzipBomb).await;
    let answer = send(&transport_for(Poison::GzipBomb), request(sink.url.as_str())).await;
    assert_eq!(answer.body[..4], [0x1f, 0x08, 0, 0]);
    assert_eq!(answer.body.len(), MAX_KEPT_BODY_BYTES);
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Close,
    Reset,
}

/// A receiver that sends so many bytes of a good answer, and then ends the connection.
async fn cut_at(length: usize, ending: Ending) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_request(&mut socket).await.unwrap();
        socket.write_all(&OK.as_bytes()[..length]).await.unwrap();
        match ending {
            Ending::Close => {}
            Ending::Reset => socket.set_zero_linger().unwrap(),
        }
    });
    let url = format!("http://shop.test:{port}/");
    let transport = transport_with(Limits::default());
    send(&transport, request(url)).await.outcome.code()
}

#[tokio::test]
async fn an_answer_that_ends_at_any_byte() {
    let head = OK.find("ok").unwrap();
    for ending in [Ending::Close, Ending::Reset] {
        for length in 0..=OK.len() {
            let expected = match length < head {
                true => "CONNECTION_CLOSED",
                false => "HTTP_200",
            };
            let code = cut_at(length, ending).await;
            assert_eq!(code, expected, "{ending:?} after {length} bytes");
        }
    }
}
