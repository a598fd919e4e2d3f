//! A store in Postgres for one test, when the tests are run on Postgres.
//!
//! `TEST_POSTGRES` has the URL of a server then: `cargo xtask test` starts one for the tests alone, and
//! sets it. Each test has a schema of its own there, as it has a folder of its own. The library's
//! tests and the integration tests share this file.

use std::path::Path;

use postgres::{Client, NoTls};

/// Where the store of a test with this folder is; `None` when the tests are run on SQLite. The schema
/// is made if need be, and goes with the server.
#[expect(
    clippy::disallowed_methods,
    reason = "which engine is tested is the test command's business, and no setting"
)]
pub(crate) fn store_url(folder: &Path) -> Option<String> {
    let server = std::env::var("TEST_POSTGRES").ok()?;
    let name = folder.file_name().expect("a test's folder has a name");
    let digits = name
        .as_encoded_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"));
    let schema = format!("test_{}", digits.collect::<String>());
    run(&server, &format!("create schema if not exists {schema}"));
    let mark = if server.contains('?') { '&' } else { '?' };
    Some(format!("{server}{mark}options=-c%20search_path%3D{schema}"))
}

/// On a thread of its own, for the client blocks.
fn run(server: &str, sql: &str) {
    let (server, sql) = (server.to_owned(), sql.to_owned());
    let run = move || {
        let mut client = Client::connect(&server, NoTls)
            .expect("TEST_POSTGRES is the URL of a server that can be reached");
        client.batch_execute(&sql).expect("schemas can be made");
    };
    std::thread::spawn(run).join().expect("the server is there");
}
