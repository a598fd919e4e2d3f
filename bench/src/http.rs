//! A small HTTP/1.1 client: one connection that is kept, and reopened when it breaks.
//!
//! Plain HTTP alone; only the sink speaks TLS. `limit`, `load` and `pages` call it.

use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// One connection to one server.
pub(crate) struct Client {
    authority: String,
    conn: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// A client for the server that `url` names; it connects on first use.
    pub(crate) fn new(url: &Uri) -> Result<Self> {
        if url.scheme_str() != Some("http") {
            bail!("{url} is not a plain http URL");
        }
        let authority = url.authority().context("URL without a host")?;
        let port = authority.port_u16().unwrap_or(80);
        let authority = format!("{}:{port}", authority.host());
        Ok(Self {
            authority,
            conn: None,
        })
    }

    /// Sends one request and reads the answer whole.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        url: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes)> {
        let (status, _, body) = self.ask(method, url, headers, body).await?;
        Ok((status, body))
    }

    /// The same with the headers of the answer.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        url: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(StatusCode, HeaderMap, Bytes)> {
        let mut conn = match self.conn.take() {
            Some(conn) if !conn.is_closed() => conn,
            Some(_) | None => self.connect().await?,
        };
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::builder().method(method).uri(path);
        let mut request = request.body(Full::new(body))?;
        *request.headers_mut() = headers;
        let host = HeaderValue::from_str(&self.authority)?;
        request.headers_mut().insert(HOST, host);
        conn.ready().await?;
        let response = conn.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        self.conn = Some(conn);
        Ok((parts.status, parts.headers, body))
    }

    /// Posts JSON and gives the answer's, which has to be a good one.
    pub(crate) async fn post_json(
        &mut self,
        url: &Uri,
        mut headers: HeaderMap,
        body: &Value,
    ) -> Result<Value> {
        headers.extend(json_headers());
        let body = body.to_string().into();
        let (status, reply) = self.send(Method::POST, url, headers, body).await?;
        let text = String::from_utf8_lossy(&reply);
        ensure!(status.is_success(), "{url}: {status} {text}");
        serde_json::from_str(&text).with_context(|| format!("{url} answered {text}"))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(&self.authority)
            .await
            .with_context(|| format!("cannot connect to {}", self.authority))?;
        stream.set_nodelay(true)?;
        let (send, conn) = handshake(TokioIo::new(stream)).await?;
        // It ends with the connection; errors surface in `send`.
        tokio::spawn(conn);
        Ok(send)
    }
}

/// What a request with a JSON body says of it.
pub(crate) fn json_headers() -> HeaderMap {
    let json = HeaderValue::from_static("application/json");
    HeaderMap::from_iter([(CONTENT_TYPE, json)])
}

/// Parses `Name: value`.
pub(crate) fn header(text: &str) -> Result<(HeaderName, HeaderValue)> {
    let (name, value) = text
        .split_once(':')
        .context("a header must look like 'Name: value'")?;
    Ok((name.trim().parse()?, value.trim().parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_name_and_a_value() {
        let (name, value) = header("Authorization: Bearer a:b").unwrap();
        assert_eq!(
            (name.as_str(), value.as_bytes()),
            ("authorization", &b"Bearer a:b"[..])
        );
        assert!(header("no colon").is_err());
    }

    #[test]
    fn only_plain_http_is_spoken() {
        assert!(Client::new(&"https://127.0.0.1:1/".parse().unwrap()).is_err());
        let client = Client::new(&"http://127.0.0.1/x".parse().unwrap()).unwrap();
        assert_eq!(client.authority, "127.0.0.1:80");
    }
}
