//! What is never dialled, whoever asks and however it is written.

use std::net::SocketAddr;

use tokio::time::timeout;

use super::*;
use crate::deliver::guard::Scheme;
use crate::deliver::tests::{NameServer, Zone, ips};

const PATIENCE: Duration = Duration::from_secs(20);

/// A transport that asks this name server, each time anew, and may call two addresses of this machine.
fn asking(names: &NameServer, change: impl FnOnce(&mut Policy, &mut Limits)) -> HttpTransport {
    let mut policy = Policy {
        allow_http: true,
        allow_private: ["127.0.0.1/32", "127.0.0.2/32"]
            .map(|net| net.parse().unwrap())
            .to_vec(),
        ..Policy::production()
    };
    let mut limits = limits();
    change(&mut policy, &mut limits);
    let resolver = names.resolver(|options| options.cache_size = 0);
    transport_over(Arc::new(policy), limits, resolver)
}

async fn code_of(transport: &HttpTransport, url: &str) -> String {
    send(transport, request(url)).await.outcome.code()
}

/// Loopback and the metadata service, in the spellings that some parser or other takes for them.
const LITERALS: [&str; 38] = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "017700000001",
    "0177.0.0.1",
    "0177.1",
    "00000177.0.0.1",
    "0",
    "0.0.0.0",
    "１２７.０.０.１",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "127｡0｡0｡1",
    "%31%32%37.0.0.1",
    "127.0.0.1%00.example.com",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::1]",
    "[fe80::1%25lo]",
    "[fe80::1%lo]",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "[::ffff:a9fe:a9fe]",
];

#[tokio::test]
async fn no_spelling_of_an_address_is_dialled_or_asked_for() {
    let names = NameServer::start(ips(&["127.0.0.1"])).await;
    let production = asking(&names, |policy, _| *policy = Policy::production());
    // A sandbox that opens one address does not open another spelling of a second one.
    let sandbox = asking(&names, |policy, _| {
        policy.allow_private = vec!["10.1.2.3/32".parse().unwrap()];
    });
    for transport in [production, sandbox] {
        for literal in LITERALS {
            for scheme in ["https", "http"] {
                let url = format!("{scheme}://{literal}/");
                assert_eq!(
                    code_of(&transport, &url).await,
                    "BLOCKED_DESTINATION",
                    "{url}"
                );
            }
        }
        assert_eq!(transport.connector.dialled(), []);
        assert_eq!(names.questions(), 0);
    }
}

#[tokio::test]
async fn a_name_is_not_dialled_when_one_of_its_addresses_is_forbidden() {
    for forbidden in [
        "10.0.0.7",
        "127.0.0.3",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::a00:1",
        "fd00:ec2::254",
        "2002:a00:1::",
    ] {
        for addresses in [
            &[forbidden][..],
            &["127.0.0.1", forbidden],
            &[forbidden, "127.0.0.1"],
        ] {
            let names = NameServer::start(ips(addresses)).await;
            let transport = asking(&names, |_, _| {});
            let code = code_of(&transport, "https://shop.example.com/").await;
            assert_eq!(code, "BLOCKED_DESTINATION", "{addresses:?}");
            assert_eq!(transport.connector.dialled(), []);
        }
    }
}

/// Saved while it led to a good place, and moved before the attempt.
#[tokio::test]
async fn a_name_that_moves_after_it_was_saved() {
    let receiver = Receiver::plain(&[Say("HTTP/1.1 500 No\r\nConnection: close\r\n\r\n")]).await;
    let names = NameServer::start(ips(&["127.0.0.1"])).await;
    let transport = asking(&names, |policy, _| policy.ports = vec![receiver.port]);
    let url = format!("http://shop.example.com:{}/", receiver.port);
    let saved = admit(&url, transport.connector.policy()).unwrap().url;
    assert_eq!(code_of(&transport, &saved).await, "HTTP_500");
    names.set(ips(&["192.168.0.1"]));
    assert_eq!(code_of(&transport, &saved).await, "BLOCKED_DESTINATION");
    names.set(Zone::Silent);
    assert_eq!(code_of(&transport, &saved).await, "DNS_TIMEOUT");
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, receiver.port));
    assert_eq!(transport.connector.dialled(), [here]);
}

/// A connection that is kept leads where its name led when it was opened, but not for long.
#[tokio::test]
async fn a_name_that_moves_is_followed_when_its_connection_is_old() {
    let old = Receiver::plain(&[Say(OK); 10_000]).await;
    let moved = Receiver::listening(
        TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), old.port))
            .await
            .unwrap(),
        &[Say(OK)],
    );
    let names = NameServer::start(ips(&["127.0.0.1"])).await;
    let age = Duration::from_millis(50);
    let transport = asking(&names, |policy, limits| {
        policy.ports = vec![old.port];
        limits.pool.age = age;
    });
    let url = format!("http://shop.example.com:{}/", old.port);
    let started_at = Instant::now();
    assert_eq!(code_of(&transport, &url).await, "HTTP_200");
    let opened_within = started_at.elapsed();
    names.set(ips(&["127.0.0.2"]));

    let mut last_use = Duration::ZERO;
    let followed = async {
        while moved.connections() == 0 {
            let before = started_at.elapsed();
            assert_eq!(code_of(&transport, &url).await, "HTTP_200");
            if moved.connections() == 0 {
                last_use = before;
            }
        }
    };
    timeout(PATIENCE, followed).await.unwrap();
    assert_eq!(old.connections(), 1);
    assert!(last_use < opened_within + age, "{last_use:?}");
    assert_eq!(PoolBounds::default().age, Duration::from_secs(30));
}

#[tokio::test]
async fn a_kept_connection_to_an_address_that_is_forbidden_now_is_closed() {
    let receiver = Receiver::plain(&[Say(OK); 2]).await;
    let transport = transport();
    send(&transport, request(receiver.url())).await;
    let origin = Origin {
        scheme: Scheme::Http,
        authority: format!("shop.test:{}", receiver.port),
        authorities: None,
    };
    let endpoint_id = EndpointId::new("ep_1");
    let stricter = Policy {
        allow_private: Vec::new(),
        ..policy()
    };
    assert!(
        transport
            .pool
            .take(&endpoint_id, &origin, &stricter)
            .is_none()
    );
    assert!(
        transport
            .pool
            .take(&endpoint_id, &origin, &policy())
            .is_none()
    );
    send(&transport, request(receiver.url())).await;
    assert_eq!(receiver.connections(), 2);
}

fn crowded(sent: &[Sent]) -> usize {
    let crowded = |sent: &&Sent| matches!(sent, Sent::Crowded);
    sent.iter().filter(crowded).count()
}

#[tokio::test]
async fn an_address_gets_so_many_requests_at_once_over_all_endpoints() {
    let receiver = Receiver::plain(&[Say(OK); 20]).await;
    let mut limits = limits();
    limits.connect.permits_per_address = 3;
    let transport = transport_with(limits);
    let of = |endpoint: &str| Request {
        endpoint_id: EndpointId::new(endpoint),
        ..request(receiver.url())
    };
    // On new connections, then on those that were kept.
    for _ in 0..2 {
        let sent = burst(&transport, 5, &of("ep_1")).await;
        assert_eq!((sent.len(), crowded(&sent)), (5, 2));
    }
    assert_eq!(receiver.connections(), 3);
    assert_eq!(receiver.requests().len(), 6);

    // One that is under way counts against every endpoint; dropped, it does not.
    let mut held: Vec<_> = (0..3).map(|_| transport.send(of("ep_2"))).collect();
    std::future::poll_fn(|cx| {
        for send in &mut held {
            assert!(send.as_mut().poll(cx).is_pending());
        }
        Poll::Ready(())
    })
    .await;
    let sent = burst(&transport, 1, &of("ep_3")).await;
    assert_eq!(crowded(&sent), 1);
    drop(held);
    assert_eq!(crowded(&burst(&transport, 3, &of("ep_3")).await), 0);
}

#[tokio::test]
async fn an_endpoints_own_authorities_are_for_it_alone() {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["shop.test".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &own).unwrap();
    let strange = Receiver::tls(&[Say(OK); 9], server_config(leaf.der().clone(), &key)).await;
    let usual = Receiver::tls(&[Say(OK)], certificate("shop.test", |_| {})).await;
    let transport = transport();
    let call = async |receiver: &Receiver, endpoint: &str, ca_pem: Option<String>| {
        let request = Request {
            endpoint_id: EndpointId::new(endpoint),
            ca_pem,
            ..request(format!("https://shop.test:{}/", receiver.port))
        };
        send(&transport, request).await.outcome.code()
    };
    let pem = Some(AsRef::<rcgen::Certificate>::as_ref(&own).pem());
    assert_eq!(call(&strange, "ep_1", None).await, "TLS_FAILED");
    assert_eq!(call(&strange, "ep_1", pem.clone()).await, "HTTP_200");
    assert_eq!(call(&strange, "ep_2", None).await, "TLS_FAILED");
    // Taken away, it is gone from the connections that were kept as well.
    assert_eq!(call(&strange, "ep_1", None).await, "TLS_FAILED");
    // The platform's are trusted besides.
    assert_eq!(call(&usual, "ep_1", pem).await, "HTTP_200");
}
