//! The files that pages link to: one of style, two of htmx, one of ours.
//!
//! They are part of the program, and each URL names the hash of its content, so a browser keeps a file
//! for ever and asks for another when it changes. htmx is 0BSD, its licence is beside it, and a test
//! pins the bytes.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use harkara_core::id::hex;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::gate::{Answer, Visit};
use crate::error::ApiError;

/// A file that browsers are handed.
struct Asset {
    stem: &'static str,
    extension: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

const ASSETS: [Asset; 4] = [
    Asset {
        stem: "harkara",
        extension: "css",
        content_type: "text/css; charset=utf-8",
        bytes: include_bytes!("static/harkara.css"),
    },
    script("htmx", include_bytes!("static/htmx.js")),
    script("htmx-sse", include_bytes!("static/htmx-sse.js")),
    script("harkara", include_bytes!("static/harkara.js")),
];

const fn script(stem: &'static str, bytes: &'static [u8]) -> Asset {
    Asset {
        stem,
        extension: "js",
        content_type: "text/javascript; charset=utf-8",
        bytes,
    }
}

/// The names of the files, with their hashes, in the order of the list.
static NAMES: LazyLock<[String; 4]> = LazyLock::new(|| ASSETS.map(|asset| asset.name()));

impl Asset {
    fn name(&self) -> String {
        let hash = hex(&digest(&SHA256, self.bytes).as_ref()[..8]);
        format!("{}.{hash}.{}", self.stem, self.extension)
    }
}

/// Where the style is.
pub(super) fn style() -> String {
    url(&NAMES[0])
}

/// Where the scripts are, in the order in which they run.
pub(super) fn scripts() -> [String; 3] {
    let [_, htmx, sse, ours] = &*NAMES;
    [url(htmx), url(sse), url(ours)]
}

fn url(name: &str) -> String {
    format!("{}/static/{name}", super::ROOT)
}

/// `GET /dashboard/static/{file}`.
pub(super) async fn file(visit: Visit) -> Answer {
    let wanted = visit.param("file");
    let found = NAMES.iter().zip(&ASSETS).find(|(name, _)| *name == wanted);
    let (_, asset) =
        found.ok_or_else(|| ApiError::not_found("route.not_found", "there is no such file"))?;
    let headers = [
        (CONTENT_TYPE, asset.content_type),
        (CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    Ok((headers, Body::from(asset.bytes)).into_response() as Response)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::SHA384;

    use super::*;

    /// What npm's htmx.org 4.0.1 has as `dist/htmx.min.js` and `dist/ext/hx-sse.min.js`. Another
    /// version is a change that somebody reads.
    #[test]
    fn htmx_is_the_one_that_was_read() {
        let [_, htmx, sse, _] = &ASSETS;
        let pinned = [
            (
                htmx,
                "429f6b742f07ec4a8ea17fa74743f744f1b63688e2faa7702651a97f3c1026c7\
                 cea69dec1b021d48ff713b7f94944867",
            ),
            (
                sse,
                "bfc1efb9c43ea21421320d1aadba17739d38f72351e3a40a323a61b3b603721f\
                 969bbce97cae57552d357f6ea6403255",
            ),
        ];
        for (asset, hash) in pinned {
            let found = hex(digest(&SHA384, asset.bytes).as_ref());
            assert_eq!(found, hash, "{}", asset.stem);
        }
    }
}
