//! A whole server in the test's own process: real store, real HTTP, a port and a folder of its own.
//!
//! The tests talk to it as a merchant, a platform or a gateway would. Its configuration is the
//! sandbox's, with one name that leads to the test's own merchant server.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use harkara::app::App;
use harkara::clock::Clock;
use harkara::config::{Config, DestinationsConfig, StoreUrl};
use harkara::receiver::{Arrival, MerchantServer, Reply as Answer};
use harkara::store::Store;
use harkara_webhook::{BasicCredentials, Receiver};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::schema::store_url;

/// The name under which endpoints of the tests are known; it leads to this machine.
pub const SHOP: &str = "shop.merchant.example";

pub struct TestApp {
    pub app: App,
    pub server: Server,
    _folder: TempDir,
}

impl std::ops::Deref for TestApp {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// A merchant's HTTPS server that answers as scripted, or as a good one does.
pub async fn receiver(
    script: impl Fn(&Arrival) -> Option<Answer> + Send + Sync + 'static,
) -> MerchantServer {
    let receiver = Receiver::new(BasicCredentials::new("shop", "pass"));
    MerchantServer::start(SHOP, receiver, Clock::system(), script)
        .await
        .unwrap()
}

/// An answer, whole.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// The JSON of an answer that has to be good.
    pub fn ok(&self) -> Value {
        assert!(
            self.status.is_success(),
            "{}: {}",
            self.status,
            String::from_utf8_lossy(&self.body)
        );
        self.json()
    }

    /// Where a browser is sent.
    pub fn location(&self) -> &str {
        self.headers["location"].to_str().unwrap()
    }

    /// Status and code of an error, as tables of refusals print them.
    pub fn refusal(&self) -> String {
        let body = self.json();
        for key in ["status", "error_code", "error_message", "error_info"] {
            assert!(!body[key].is_null(), "{key} is missing in {body}");
        }
        format!(
            "{} {}: {}",
            self.status.as_u16(),
            body["error_code"].as_str().unwrap(),
            body["error_message"].as_str().unwrap()
        )
    }
}

/// Settings for tests, around a folder.
pub fn config(folder: &TempDir) -> Config {
    let here: IpAddr = [127, 0, 0, 1].into();
    let sandbox = Config::default();
    let destinations = DestinationsConfig {
        allow_private: vec!["127.0.0.0/8".parse().unwrap()],
        static_names: [(SHOP.to_owned(), here)].into(),
        ..sandbox.destinations
    };
    Config {
        store: store_at(folder.path()),
        data_dir: folder.path().join("data"),
        listen: "127.0.0.1:0".parse().unwrap(),
        destinations,
        ..sandbox
    }
}

/// The store of a test with this folder, ready to be used, if it is to be in Postgres.
pub fn store_at(folder: &Path) -> Option<StoreUrl> {
    let url = store_url(folder)?;
    let migrating = url.clone();
    let migrate = move || Store::migrate(&migrating, false).unwrap();
    std::thread::spawn(migrate).join().unwrap();
    StoreUrl::parse(&url)
}

/// A server and who may talk to it; the same whether it runs in the test's process or its own.
#[derive(Clone)]
pub struct Server {
    pub address: String,
    pub platform_key: String,
}

impl TestApp {
    pub async fn start() -> Self {
        Self::start_with(|_, _| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config, &TempDir)) -> Self {
        Self::start_at(Clock::system(), change).await
    }

    /// Starts a server that trusts the certificate of a merchant's own.
    pub async fn start_calling(receiver: &MerchantServer) -> Self {
        Self::start_calling_at(Clock::system(), receiver).await
    }

    pub async fn start_calling_at(clock: Clock, receiver: &MerchantServer) -> Self {
        Self::start_at(clock, |config, folder| {
            let ca_file = folder.path().join("ca.pem");
            std::fs::write(&ca_file, receiver.ca_pem()).unwrap();
            config.destinations.ca_file = Some(ca_file);
        })
        .await
    }

    pub async fn start_at(clock: Clock, change: impl FnOnce(&mut Config, &TempDir)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&folder);
        change(&mut config, &folder);
        let app = App::start(config, clock).await.unwrap();
        let first = app.first_start.as_ref().unwrap();
        let platform_key = first.platform_key.expose().to_owned();
        let server = Server {
            address: app.address.to_string(),
            platform_key,
        };
        Self {
            app,
            server,
            _folder: folder,
        }
    }
}

impl Server {
    /// Sends one request on a connection of its own.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Reply {
        send(&self.address, request).await
    }

    /// A JSON request with the platform's key.
    pub async fn platform(&self, method: Method, path: &str, body: Value) -> Reply {
        let bearer = format!("Bearer {}", self.platform_key);
        self.send(json_request(method, path, &bearer, &body.to_string()))
            .await
    }

    /// Makes a merchant and gives its key.
    pub async fn merchant(&self, merchant_id: &str, settings: Value) -> Merchant {
        let body = serde_json::json!({ "merchant_id": merchant_id, "settings": settings });
        let created = self.platform(Method::POST, "/merchants", body).await.ok();
        let key = created["api_key"].as_str().unwrap().to_owned();
        Merchant {
            server: self.clone(),
            merchant_id: merchant_id.to_owned(),
            key,
        }
    }
}

/// Somebody who talks to the server with a merchant's key.
pub struct Merchant {
    pub server: Server,
    pub merchant_id: String,
    pub key: String,
}

impl Merchant {
    /// The header that every call of this merchant carries.
    pub fn authorization(&self) -> String {
        use base64::Engine as _;
        let text = format!("{}:", self.key);
        format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(text)
        )
    }

    pub async fn get(&self, path: &str) -> Reply {
        let request = Request::get(path).header(AUTHORIZATION, self.authorization());
        self.server
            .send(request.body(Full::default()).unwrap())
            .await
    }

    /// Posts a form, as the public SDKs do.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        self.post_with(path, fields, &[]).await
    }

    /// The same with further headers.
    pub async fn post_with(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Reply {
        let mut request = Request::post(path)
            .header(AUTHORIZATION, self.authorization())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.server
            .send(request.body(Full::from(form(fields))).unwrap())
            .await
    }

    /// The order once it has this status: the DUMMY gateway answers a moment after it is asked.
    pub async fn order_becomes(&self, order_id: &str, status: &str) -> Value {
        let mut last = Value::Null;
        for _ in 0..500 {
            last = self.get(&format!("/orders/{order_id}")).await.ok();
            if last["status"] == status {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{order_id} never became {status}: {last:#}");
    }

    pub async fn json(&self, method: Method, path: &str, body: &str) -> Reply {
        self.server
            .send(json_request(method, path, &self.authorization(), body))
            .await
    }

    /// Has its webhooks sent to a server that `receiver()` made.
    pub async fn listen(&self, receiver: &MerchantServer) {
        let endpoint = serde_json::json!({
            "url": receiver.url("/hooks"),
            "username": "shop",
            "password": "pass",
        });
        self.json(Method::POST, "/endpoints", &endpoint.to_string())
            .await
            .ok();
    }

    /// Reports an outcome as the merchant's gateway would.
    pub async fn outcome(&self, path: &str, mut body: Value) -> Value {
        body["merchant_id"] = self.merchant_id.as_str().into();
        self.server
            .platform(Method::POST, &format!("/outcomes/{path}"), body)
            .await
            .ok()
    }

    /// The exact bodies of this merchant's events, oldest first.
    pub async fn events(&self) -> Vec<Value> {
        let feed = self.get("/events?bodies=true&limit=100").await.ok();
        feed["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["body"].clone())
            .collect()
    }

    /// The newest event of this name, once there is one. What the DUMMY gateway plays comes a moment
    /// after the call that asked for it.
    pub async fn event(&self, name: &str) -> Value {
        for _ in 0..200 {
            let events = self.events().await;
            if let Some(event) = events
                .into_iter()
                .rev()
                .find(|event| event["event_name"] == name)
            {
                return event;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no {name} came");
    }
}

/// Fields as a form carries them.
pub fn form(fields: &[(&str, &str)]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields);
    form.finish()
}

/// The keys of an answer, those of objects within it included.
pub fn keys(answer: &Value) -> String {
    let Some(object) = answer.as_object() else {
        return String::new();
    };
    let named = object.iter().map(|(key, value)| match keys(value) {
        inner if inner.is_empty() => key.clone(),
        inner => format!("{key}{{{inner}}}"),
    });
    named.collect::<Vec<_>>().join(" ")
}

pub fn json_request(
    method: Method,
    path: &str,
    authorization: &str,
    body: &str,
) -> Request<Full<Bytes>> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(AUTHORIZATION, authorization)
        .header(CONTENT_TYPE, "application/json");
    request.body(Full::from(body.to_owned())).unwrap()
}

/// Sends one request to a server that listens on loopback.
pub async fn send(address: &str, request: Request<Full<Bytes>>) -> Reply {
    try_send(address, request)
        .await
        .expect("the server answers")
}

/// The same, where the server may be gone before it has answered.
pub async fn try_send(address: &str, mut request: Request<Full<Bytes>>) -> Option<Reply> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let driver = tokio::spawn(connection);
    request
        .headers_mut()
        .insert(http::header::HOST, address.parse().unwrap());
    let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    driver.abort();
    Some(Reply {
        status: parts.status,
        headers: parts.headers,
        body,
    })
}
