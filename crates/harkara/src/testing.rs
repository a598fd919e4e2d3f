//! A whole API over a store of its own, for tests that ask as callers do: with a key and a path.
//!
//! Nothing is sent and no clock runs: the inbox has no dispatcher behind it, and time is moved by
//! hand. Tests of the API's rooms use it; no product code does.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use harkara_core::id::MerchantId;
use harkara_core::merchant::Merchant;
use harkara_core::time::Timestamp;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::api::{Api, Parts, answer, router};
use crate::clock::Clock;
use crate::config::Config;
use crate::dashboard::Peer;
use crate::deliver::guard::Policy;
use crate::deliver::inbox::{Inbox, InboxBound};
use crate::keys::ApiKey;
use crate::store::{ApiKeyRow, MerchantRow, Store};
use crate::submit::Submit;
use crate::vault::Vault;

#[path = "../tests/shared/schema.rs"]
mod schema;
#[path = "../tests/shared/wire.rs"]
pub(crate) mod wire;

/// A server with one merchant, `ms`, and the keys of both callers.
pub(crate) struct World {
    pub(crate) api: Api,
    router: Router,
    platform_key: String,
    merchant_key: String,
    /// Says that the server stops.
    pub(crate) stop: watch::Sender<bool>,
    _place: Place,
}

/// Where a test has its store: in a folder of its own, or in a schema of its own when the tests are
/// run on Postgres.
pub(crate) struct Place {
    folder: TempDir,
    url: Option<String>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let file = Self::file();
        Self {
            url: schema::store_url(file.folder()),
            ..file
        }
    }

    /// In a folder, whatever the tests are run on.
    pub(crate) fn file() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            url: None,
        }
    }

    pub(crate) fn is_file(&self) -> bool {
        self.url.is_none()
    }

    /// Of the store in Postgres that is here.
    pub(crate) fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Opens the store that is here.
    pub(crate) async fn open(&self) -> Store {
        let Some(url) = self.url.clone() else {
            return Store::open(self.folder()).unwrap();
        };
        let open = move || {
            Store::migrate(&url, false)?;
            Store::connect(&url)
        };
        tokio::task::spawn_blocking(open).await.unwrap().unwrap()
    }
}

/// What came back.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    /// The status and the error's code, in a line.
    pub(crate) fn refusal(&self) -> String {
        let json = self.json();
        format!(
            "{} {}: {}",
            self.status.as_u16(),
            json["error_code"],
            json["error_message"]
        )
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        Self::made(config, "https://pay.example").await
    }

    /// A server that is reached at this URL.
    pub(crate) async fn at_url(public_url: &str) -> Self {
        Self::made(Config::default(), public_url).await
    }

    async fn made(config: Config, public_url: &str) -> Self {
        let place = Place::new();
        let clock = Clock::manual(Timestamp::parse_iso("2023-08-10T07:00:48Z").unwrap());
        let store = place.open().await;
        let bound = InboxBound {
            deliveries: 100,
            bytes: 1 << 20,
            lease: Duration::from_secs(60),
        };
        let (inbox, _) = Inbox::new(bound);
        let public_url = public_url.to_owned();
        let pending = Some(Duration::from_secs(5));
        let submit = Submit::new(
            store.clone(),
            clock.clone(),
            inbox,
            public_url.clone(),
            pending,
        );
        let merchant = Merchant {
            merchant_id: MerchantId::new("ms"),
            settings: Default::default(),
        };
        let row = MerchantRow {
            merchant_id: merchant.merchant_id.clone(),
            doc: serde_json::to_string(&merchant).unwrap(),
            version: 1,
            created_at: clock.now(),
        };
        store.put_merchant(row).await.unwrap();
        let platform_key = key(&store, "", clock.now()).await;
        let merchant_key = key(&store, "ms", clock.now()).await;
        let (stop, stopping) = watch::channel(false);
        let api = Api::new(Parts {
            vault: Arc::new(Vault::open_or_create(&place.folder().join("keys")).unwrap()),
            store,
            clock,
            submit: Arc::new(submit),
            config: Arc::new(config),
            policy: Arc::new(Policy::production()),
            public_url,
            replays: Arc::default(),
            stopping,
            requests: AtomicU64::new(0),
        });
        let router = router(api.clone());
        Self {
            api,
            router,
            platform_key,
            merchant_key,
            stop,
            _place: place,
        }
    }

    /// Asks as the platform, about merchant `ms`.
    pub(crate) async fn platform(&self, request: &str, body: &str) -> Reply {
        self.ask(
            request,
            body,
            &[("authorization", &format!("Bearer {}", self.platform_key))],
        )
        .await
    }

    /// Asks as the merchant.
    pub(crate) async fn merchant(&self, request: &str, body: &str) -> Reply {
        self.ask(
            request,
            body,
            &[("authorization", &format!("Bearer {}", self.merchant_key))],
        )
        .await
    }

    /// Asks as the platform, with a key against repetition.
    pub(crate) async fn platform_once(&self, request: &str, body: &str, key: &str) -> Reply {
        let bearer = format!("Bearer {}", self.platform_key);
        self.ask(
            request,
            body,
            &[("authorization", &bearer), ("idempotency-key", key)],
        )
        .await
    }

    /// Asks as whoever holds this key.
    pub(crate) async fn with_key(&self, request: &str, key: &str) -> Reply {
        self.ask(request, "", &[("authorization", &format!("Bearer {key}"))])
            .await
    }

    /// Asks as a browser: `POST /path` with a form, or `GET /path`.
    pub(crate) async fn browser(&self, request: &str, form: &str) -> Reply {
        self.ask(request, form, &[]).await
    }

    /// Asks as a browser that sends these headers.
    pub(crate) async fn with_headers(
        &self,
        request: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Reply {
        self.ask(request, body, headers).await
    }

    /// Sends a form from this address, as a page of ours would.
    pub(crate) async fn sent_from(&self, address: &str, path: &str, form: &str) -> Reply {
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("sec-fetch-site", "same-origin"),
        ];
        let mut request = Self::request(&format!("POST {path}"), form, &headers);
        request
            .extensions_mut()
            .insert(Peer(address.parse().unwrap()));
        self.reply(request).await
    }

    async fn ask(&self, request: &str, body: &str, headers: &[(&str, &str)]) -> Reply {
        self.reply(Self::request(request, body, headers)).await
    }

    fn request(request: &str, body: &str, headers: &[(&str, &str)]) -> Request<Body> {
        let (method, path) = request.split_once(' ').expect("METHOD /path");
        let mut builder = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(Body::from(body.to_owned())).unwrap()
    }

    /// Asks as a browser for what goes on and on, of which this is the first part.
    pub(crate) async fn beginning(&self, request: &str, headers: &[(&str, &str)]) -> Reply {
        let request = Self::request(request, "", headers);
        let response = answer(self.api.clone(), self.router.clone(), request).await;
        let (head, mut body) = response.into_parts();
        let first = body.frame().await.expect("there is a first part");
        Self::read(head, first.unwrap().into_data().unwrap())
    }

    async fn reply(&self, request: Request<Body>) -> Reply {
        let response = answer(self.api.clone(), self.router.clone(), request).await;
        let (head, body) = response.into_parts();
        Self::read(head, body.collect().await.unwrap().to_bytes())
    }

    fn read(head: http::response::Parts, bytes: Bytes) -> Reply {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Reply {
            status: head.status,
            headers: head.headers,
            text,
        }
    }
}

async fn key(store: &Store, merchant_id: &str, now: Timestamp) -> String {
    let (presented, stored) = ApiKey::generate();
    let row = ApiKeyRow {
        hash: stored.hash_hex(),
        key_id: stored.key_id,
        merchant_id: MerchantId::new(merchant_id),
        doc: "{}".to_owned(),
        created_at: now,
        revoked_at: None,
    };
    store.insert_api_key(row).await.unwrap();
    presented.expose().to_owned()
}
