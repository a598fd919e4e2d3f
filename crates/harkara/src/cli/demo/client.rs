//! An HTTP client of a few lines: a base address, a key, forms and JSON out, JSON back.
//!
//! The demo speaks to its server with it, exactly as the platform and a merchant would. It takes a
//! connection per call, so that there is none to be kept alive or closed.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::deliver::transport::basic_header;

/// Somebody with an API key.
pub(super) struct Client {
    address: SocketAddr,
    authorization: HeaderValue,
}

/// A body with its media type.
struct Payload {
    content_type: &'static str,
    text: String,
}

impl Client {
    /// A caller of the server at `address`, with this key.
    pub(super) fn new(address: SocketAddr, key: &str) -> Self {
        Self {
            address,
            authorization: basic_header(key, ""),
        }
    }

    /// Reads.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, path, None).await
    }

    /// Posts a form, as the public SDKs do.
    pub(super) async fn form(&self, path: &str, fields: &[(&str, &str)]) -> anyhow::Result<Value> {
        let text = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let content_type = "application/x-www-form-urlencoded";
        self.call(Method::POST, path, Some(Payload { content_type, text }))
            .await
    }

    /// Posts JSON.
    pub(super) async fn json(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let payload = Payload {
            content_type: "application/json",
            text: body.to_string(),
        };
        self.call(Method::POST, path, Some(payload)).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        payload: Option<Payload>,
    ) -> anyhow::Result<Value> {
        let called = format!("call {method} {path}");
        self.exchange(method, path, payload).await.context(called)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        payload: Option<Payload>,
    ) -> anyhow::Result<Value> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.to_string())
            .header(AUTHORIZATION, &self.authorization);
        if let Some(payload) = &payload {
            request = request.header(CONTENT_TYPE, payload.content_type);
        }
        let body = payload.map_or_else(Bytes::new, |payload| payload.text.into());
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let exchange = async {
            let response = sender.send_request(request.body(Full::new(body))?).await?;
            let status = response.status();
            let answer = response.into_body().collect().await?.to_bytes();
            drop(sender);
            anyhow::Ok((status, answer))
        };
        // The connection does its work while the exchange is waited for, and ends with it.
        let (exchanged, _) = tokio::join!(exchange, connection);
        let (status, answer) = exchanged?;
        if !status.is_success() {
            bail!(
                "the server answered {status}: {}",
                String::from_utf8_lossy(&answer)
            );
        }
        serde_json::from_slice(&answer).context("read the server's answer as JSON")
    }
}
