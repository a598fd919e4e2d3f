//! Tests of an endpoint: made-up events that go to it alone, one or a whole flow in its order.
//!
//! A single one asks nothing of the endpoint: the question is whether its URL and credentials work. A
//! flow is what a real payment would send it, so that its version and switches are heeded. What the
//! events hold is `samples.rs`; the dashboard calls what the handler calls.

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use harkara_core::delivery::{self, Event};
use harkara_core::endpoint::{Endpoint, EndpointState, OrderMode};
use harkara_core::id::{
    DeliveryId, EndpointId, EventId, OrderId, Subject, digest, hex, time_ordered,
};
use harkara_core::merchant::Merchant;
use harkara_core::time::Timestamp;
use harkara_webhook::{EventName, catalog, event};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{find, unique};
use crate::api::Api;
use crate::api::auth::ForMerchant;
use crate::api::body::{JsonBody, answer};
use crate::api::parameters::Path;
use crate::api::samples::{self, Flow};
use crate::error::ApiError;
use crate::store::{Commit, NewEvent};

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::api) struct Test {
    event_name: Option<EventName>,
    flow: Option<Flow>,
}

/// `POST /endpoints/{endpoint_id}/test`: sends a made-up event to it alone, paused or not, or those of
/// a flow, one after the other. The deliveries' attempts tell how it went.
pub(in crate::api) async fn test(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Path(endpoint_id): Path<String>,
    JsonBody(test): JsonBody<Test>,
) -> Result<Response, ApiError> {
    let endpoint_id = EndpointId::new(endpoint_id);
    let shown = match (test.flow, test.event_name) {
        (None, name) => show(&api, &try_out(&api, &merchant, &endpoint_id, name).await?),
        (Some(flow), None) => {
            let told = tell_flow(&api, &merchant, &endpoint_id, flow).await?;
            let tests: Vec<Value> = told.tests.iter().map(|test| show(&api, test)).collect();
            let withheld = told
                .withheld
                .iter()
                .map(|(name, reason)| json!({ "event_name": name, "reason": reason }));
            json!({
                "flow": flow,
                "order_id": told.order_id,
                "tests": tests,
                "withheld": withheld.collect::<Vec<_>>(),
            })
        }
        (Some(_), Some(_)) => {
            let reason = "is told by its own events; leave event_name out";
            return Err(ApiError::field("flow", reason));
        }
    };
    Ok(answer(StatusCode::ACCEPTED, &shown))
}

fn show(api: &Api, test: &Tested) -> Value {
    json!({
        "event_id": test.event_id,
        "event_name": test.event_name,
        "delivery_id": test.delivery_id,
        "attempts": format!("{}/deliveries/{}/attempts", api.public_url, test.delivery_id),
    })
}

/// A test that is on its way.
pub(crate) struct Tested {
    pub(crate) event_id: EventId,
    event_name: EventName,
    delivery_id: DeliveryId,
}

/// A flow that is on its way.
pub(crate) struct Told {
    /// The order that all of it is about.
    pub(crate) order_id: OrderId,
    pub(crate) tests: Vec<Tested>,
    /// What the endpoint would not hear of, and why.
    pub(crate) withheld: Vec<(EventName, String)>,
}

/// Sends a made-up event to an endpoint alone, paused or not; a paid order's when none is named.
pub(crate) async fn try_out(
    api: &Api,
    merchant: &Merchant,
    endpoint_id: &EndpointId,
    event_name: Option<EventName>,
) -> Result<Tested, ApiError> {
    let endpoint = find(api, &merchant.merchant_id, endpoint_id)
        .await?
        .endpoint;
    let name = event_name.unwrap_or(EventName::OrderSucceeded);
    let mut trial = Trial::of(api, merchant, &endpoint, samples::ORDER_ID.to_owned());
    let tested = trial.add(api, name, OrderMode::None);
    api.submit.store_and_hand_over(trial.commit).await?;
    Ok(tested)
}

/// Sends the events of a flow to an endpoint alone, each after the outcome of the one before: those of
/// them that it would hear of. It has to be active.
pub(crate) async fn tell_flow(
    api: &Api,
    merchant: &Merchant,
    endpoint_id: &EndpointId,
    flow: Flow,
) -> Result<Told, ApiError> {
    let endpoint = find(api, &merchant.merchant_id, endpoint_id)
        .await?
        .endpoint;
    if endpoint.state != EndpointState::Active {
        let message = "the endpoint is not active, so that nothing would follow the first event; \
                       resume it, or send single events, which it is sent all the same";
        return Err(ApiError::unprocessable("endpoint.not_active", message));
    }
    let which = unique(api, api.clock.now());
    let suffix = hex(&digest(&[merchant.merchant_id.as_str(), &which]));
    let order_id = format!("{}-{}", samples::ORDER_ID, &suffix[..8]);
    let mut trial = Trial::of(api, merchant, &endpoint, order_id);
    let (mut tests, mut withheld) = (Vec::new(), Vec::new());
    for name in flow.events() {
        match endpoint.wants(*name) {
            Ok(()) => tests.push(trial.add(api, *name, OrderMode::Strict)),
            Err(why) => withheld.push((*name, why.to_string())),
        }
    }
    if tests.is_empty() {
        let message = format!(
            "the endpoint hears of no event of the flow '{}'; switch one on, or choose a later \
             webhook version",
            flow.as_str()
        );
        return Err(ApiError::unprocessable("endpoint.hears_nothing", message));
    }
    let order_id = OrderId::new(trial.order_id);
    api.submit.store_and_hand_over(trial.commit).await?;
    Ok(Told {
        order_id,
        tests,
        withheld,
    })
}

/// Events that are made up for one endpoint, on their way to one commit.
struct Trial<'a> {
    merchant: &'a Merchant,
    endpoint: &'a Endpoint,
    order_id: String,
    now: Timestamp,
    commit: Commit,
}

impl<'a> Trial<'a> {
    fn of(api: &Api, merchant: &'a Merchant, endpoint: &'a Endpoint, order_id: String) -> Self {
        let now = api.clock.now();
        Self {
            merchant,
            endpoint,
            order_id,
            now,
            commit: Commit::new(merchant.merchant_id.clone(), now),
        }
    }

    /// Adds an event of this name, delivered to the endpoint alone.
    fn add(&mut self, api: &Api, name: EventName, order: OrderMode) -> Tested {
        let (merchant_id, now) = (&self.merchant.merchant_id, self.now);
        let endpoint_id = &self.endpoint.endpoint_id;
        let which = unique(api, now);
        let parts = [merchant_id.as_str(), endpoint_id.as_str(), "test", &which];
        let id = EventId::new(format!("evt_V2_{}", time_ordered(now, &parts)));
        let about = (self.merchant, self.order_id.as_str());
        let content = samples::content(name, about, api.submit.rendering(self.merchant), now);
        let kind = catalog::content_kind(name);
        let body = event::envelope(id.as_str(), &now.iso(), name, kind, &content);
        let event = Event {
            merchant_id: merchant_id.clone(),
            name,
            subject: Subject::Order(OrderId::new(self.order_id.as_str())),
            transition: format!("test of endpoint {endpoint_id}"),
            created_at: now,
            body: Bytes::from(body),
            id,
        };
        let delivery = delivery::test(&event, self.endpoint, (&which, order), now);
        let tested = Tested {
            event_id: event.id.clone(),
            event_name: name,
            delivery_id: delivery.id.clone(),
        };
        self.commit.events.push(NewEvent {
            event,
            deliveries: vec![delivery],
            request_hash: None,
        });
        tested
    }
}

#[cfg(test)]
mod tests;
