use std::collections::BTreeMap;

use harkara_core::delivery::Outcome;
use harkara_core::id::EndpointId;
use harkara_webhook::BasicCredentials;

use super::*;
use crate::deliver::connect::{Dialler, Roots};
use crate::deliver::guard::Policy;
use crate::deliver::transport::{
    Answer, HttpTransport, Limits, Request, Sent, Transport as _, basic_header,
};

const NAME: &str = "shop.merchant.example";
const PATIENCE: Duration = Duration::from_secs(30);

async fn merchant(
    script: impl Fn(&Arrival) -> Option<Reply> + Send + Sync + 'static,
) -> MerchantServer {
    let receiver = Receiver::new(BasicCredentials::new("shop", "secret"));
    let clock = Clock::manual(Timestamp::from_seconds(1_700_000_000));
    MerchantServer::start(NAME, receiver, clock, script)
        .await
        .unwrap()
}

/// Calls the merchant as the product does.
async fn call(merchant: &MerchantServer, password: &str, body: &str) -> Answer {
    let policy = Policy {
        allow_private: vec!["127.0.0.0/8".parse().unwrap()],
        static_names: BTreeMap::from([(NAME.to_owned(), Ipv4Addr::LOCALHOST.into())]),
        ..Policy::production()
    };
    let roots = Roots::load(Some(merchant.ca_pem().as_bytes())).unwrap();
    let transport = HttpTransport::new(
        Arc::new(policy),
        &roots,
        Dialler::default(),
        Limits::default(),
    )
    .unwrap();
    let request = Request {
        endpoint_id: EndpointId::new("ep_1"),
        url: merchant.url("/webhooks"),
        authorization: basic_header("shop", password),
        headers: vec![(HeaderName::from_static("harkara-attempt"), 3.into())],
        body: body.to_owned().into(),
        ca_pem: None,
        timeout: PATIENCE,
    };
    match transport.send(request).await {
        Sent::Answer(answer) => answer,
        Sent::Crowded => panic!("nobody else calls"),
    }
}

fn event(id: &str) -> String {
    format!(
        r#"{{"id":"{id}","event_name":"ORDER_SUCCEEDED","content":{{"order":{{"order_id":"o-1"}}}}}}"#
    )
}

#[tokio::test]
async fn a_good_merchant_checks_reads_and_handles_once() {
    let merchant = merchant(|_| None).await;
    let mut table = String::new();
    for (password, body) in [
        ("wrong", event("evt_1").as_str()),
        ("secret", "no event"),
        ("secret", &event("evt_1")),
        ("secret", &event("evt_1")),
        ("secret", &event("evt_2")),
    ] {
        let answer = call(&merchant, password, body).await;
        let arrival = merchant.arrivals().pop().unwrap();
        assert_eq!((arrival.path.as_str(), arrival.attempt()), ("/webhooks", 3));
        let id = arrival.event.as_ref().map_or("nothing", |event| &event.id);
        let repeat = if arrival.repeat { "again" } else { "" };
        let line = format!("{} {id} {repeat}", answer.outcome.code());
        table.push_str(line.trim_end());
        table.push('\n');
    }
    insta::assert_snapshot!(table, @r"
    HTTP_401 nothing
    HTTP_400 nothing
    HTTP_200 evt_1
    HTTP_200 evt_1 again
    HTTP_200 evt_2
    ");
    assert_eq!(merchant.repeats(), 1);
}

#[tokio::test]
async fn a_failed_event_is_not_handled_and_a_lost_answer_is() {
    let merchant = merchant(|arrival| match arrival.event.as_ref()?.id.as_str() {
        "evt_fails" => Some(
            Reply::status(StatusCode::SERVICE_UNAVAILABLE)
                .header("retry-after", "7")
                .body("later"),
        ),
        "evt_lost" => Some(Reply::hang_up()),
        _ => None,
    })
    .await;

    let failed = call(&merchant, "secret", &event("evt_fails")).await;
    let retry_after = Some(Duration::from_secs(7));
    assert_eq!(
        failed.outcome,
        Outcome::Answered {
            status: 503,
            retry_after
        }
    );
    assert_eq!(&failed.body[..], b"later");
    call(&merchant, "secret", &event("evt_fails")).await;
    assert_eq!(merchant.repeats(), 0);

    let lost = call(&merchant, "secret", &event("evt_lost")).await;
    assert_eq!(lost.outcome.code(), "CONNECTION_CLOSED");
    call(&merchant, "secret", &event("evt_lost")).await;
    assert_eq!(merchant.repeats(), 1);
}

#[tokio::test]
async fn what_arrives_can_be_waited_for() {
    let merchant = merchant(|_| None).await;
    let body = event("evt_1");
    let (arrived, _) = tokio::join!(
        merchant.until(
            |arrivals| arrivals.iter().any(|arrival| arrival.about() == "o-1"),
            PATIENCE
        ),
        call(&merchant, "secret", &body),
    );
    assert_eq!(arrived.unwrap().len(), 1);
    assert!(merchant.arrival(0).await.is(EventName::OrderSucceeded));
    let none = merchant
        .until(|arrivals| arrivals.len() > 1, Duration::ZERO)
        .await;
    insta::assert_snapshot!(none.unwrap_err(), @"receive the webhooks that were waited for: 1 came within 0ns, and not those");
}
