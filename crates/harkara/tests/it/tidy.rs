//! The walls of the building, held up by reading the source as text.
//!
//! ARCHITECTURE.md says which room may know what; the compiler does not mind, so these tests do.
//! Each complaint names the file and what to write instead. Lints that clippy has are not repeated
//! here. `source.rs` has the small reader of Rust that this needs.

mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use self::source::{Source, root, sources};

/// A room of the body, what it must not know, and where that belongs.
struct Wall {
    room: &'static str,
    never: &'static [&'static str],
    instead: &'static str,
}

const WALLS: &[Wall] = &[
    Wall {
        room: "api",
        never: &[
            "crate::deliver::attempt",
            "crate::deliver::connect",
            "crate::deliver::dispatcher",
            "crate::deliver::inbox",
            "crate::deliver::run",
            "crate::deliver::transport",
            "rusqlite",
        ],
        instead: "change state through submit.rs and read through Store; the commit wakes the \
                  dispatcher",
    },
    Wall {
        room: "dashboard",
        never: &[
            "crate::deliver::attempt",
            "crate::deliver::connect",
            "crate::deliver::dispatcher",
            "crate::deliver::inbox",
            "crate::deliver::run",
            "crate::deliver::transport",
            "harkara_core::command",
            "rusqlite",
        ],
        instead: "read through Store, and change things as api/ does, through the same functions",
    },
    Wall {
        room: "submit",
        never: &["axum", "hyper", "rusqlite"],
        instead: "take parsed commands and return values; api/ speaks HTTP, store/ SQL",
    },
    Wall {
        room: "deliver",
        never: &[
            "harkara_core::order",
            "harkara_core::refund",
            "harkara_core::mandate",
            "harkara_core::notification",
        ],
        instead: "send the event's bytes as they are; what they say was decided before the commit",
    },
    Wall {
        room: "store",
        never: &["crate::api", "crate::submit"],
        instead: "take the value to be written as an argument; the store does not ask why",
    },
];

/// What the crates outside the body may depend on. A new line here needs a reason.
const DEPENDENCIES: &[(&str, &[&str])] = &[
    (
        "harkara-core",
        &[
            "bytes",
            "harkara-webhook",
            "jiff",
            "serde",
            "serde_json",
            "sha2",
            "thiserror",
        ],
    ),
    (
        "harkara-webhook",
        &[
            "axum",
            "base64",
            "serde",
            "serde_json",
            "subtle",
            "thiserror",
        ],
    ),
];

#[test]
fn tidy_every_module_has_a_header() {
    // What a tests.rs is about, the module beside it says.
    let modules = sources()
        .into_iter()
        .filter(|source| !source.path.ends_with("/tests.rs"));
    let headless = modules.filter(|source| !source.text.starts_with("//!"));
    none(headless.map(|source| {
        format!("{source}: begin with `//!`: what lives here, what never does, who calls it")
    }));
}

#[test]
fn tidy_lines_fit_a_screen() {
    let mut complaints = Vec::new();
    for source in sources() {
        for (index, line) in source.text.lines().enumerate() {
            if line.chars().count() > 120 && !source.in_snapshot(index) {
                complaints.push(format!(
                    "{source}:{}: break this line before column 120",
                    index + 1
                ));
            }
        }
    }
    none(complaints);
}

#[test]
fn tidy_every_file_is_part_of_a_crate() {
    let sources = sources();
    let mut reached: BTreeSet<String> = BTreeSet::new();
    let mut next: Vec<&Source> = sources.iter().filter(|source| source.is_root()).collect();
    while let Some(source) = next.pop() {
        if reached.insert(source.path.clone()) {
            let children = source.children();
            next.extend(
                sources
                    .iter()
                    .filter(|other| children.contains(&other.path)),
            );
        }
    }
    let dead = sources
        .iter()
        .filter(|source| !reached.contains(&source.path));
    none(dead.map(|source| {
        format!("{source}: no `mod` line leads here, so it is not compiled; add one or delete it")
    }));
}

#[test]
fn tidy_statement_files_are_used() {
    let all: String = sources().into_iter().map(|source| source.text).collect();
    let statements = source::files("crates/harkara/src", &["sql"]);
    let unused = statements.into_iter().filter(|path| {
        let name = path.rsplit('/').next().expect("a path has a last part");
        !all.contains(&format!("{name}\""))
    });
    none(unused.map(|path| format!("{path}: nothing includes this statement; delete it")));
}

#[test]
fn tidy_walls_stand() {
    let mut complaints = Vec::new();
    for source in sources() {
        for wall in WALLS.iter().filter(|wall| source.in_room(wall.room)) {
            for name in wall.never.iter().filter(|name| source.mentions(name)) {
                complaints.push(format!("{source}: uses {name}; {}", wall.instead));
            }
        }
    }
    none(complaints);
}

#[test]
fn tidy_sql_stays_in_the_store() {
    let mut complaints = Vec::new();
    for source in product().filter(|source| !source.in_room("store")) {
        if source.mentions("rusqlite") {
            complaints.push(format!(
                "{source}: uses rusqlite; ask a method of Store instead"
            ));
        }
        for literal in source.literals().iter().filter(|literal| is_sql(literal)) {
            let start: String = literal.chars().take(40).collect();
            complaints.push(format!(
                "{source}: holds the SQL `{start}…`; make it a method of Store"
            ));
        }
    }
    none(complaints);
}

#[test]
fn tidy_settings_come_from_config() {
    let readers = product().filter(|source| !source.in_room("config"));
    none(readers.filter(|source| source.code().contains("env::var")).map(|source| {
        format!("{source}: reads the environment; make it a setting in config.rs and pass it down")
    }));
}

#[test]
fn tidy_receivers_are_dialled_in_one_place() {
    let others = product().filter(|source| {
        source.in_room("deliver") && !source.path.ends_with("/deliver/connect/dial.rs")
    });
    let dials = |source: &Source| {
        let code = source.code();
        code.contains("TcpSocket") || code.contains("TcpStream::connect")
    };
    none(others.filter(dials).map(|source| {
        format!("{source}: opens a socket; ask the Connector, which dials what was judged alone")
    }));
}

#[test]
fn tidy_crates_depend_on_what_they_may() {
    let mut complaints = Vec::new();
    for (name, allowed) in DEPENDENCIES {
        let manifest = source::read(&format!("crates/{name}/Cargo.toml"));
        let manifest: toml::Table = manifest.parse().expect("cargo has read it before us");
        let dependencies = manifest["dependencies"]
            .as_table()
            .expect("a table of dependencies");
        for dependency in dependencies
            .keys()
            .filter(|key| !allowed.contains(&key.as_str()))
        {
            complaints.push(format!(
                "crates/{name}/Cargo.toml: depends on {dependency}; do in the body (crates/harkara) \
                 what needs it, and hand this crate the value"
            ));
        }
    }
    none(complaints);
}

#[test]
fn tidy_the_map_names_every_room() {
    let map = source::read("ARCHITECTURE.md");
    let body = Source::read("crates/harkara/src/lib.rs");
    let missing = body.modules().into_iter().filter(|module| {
        !map.contains(&format!("{module}.rs")) && !map.contains(&format!("{module}/"))
    });
    none(missing.map(|module| {
        format!("ARCHITECTURE.md: say what {module} is for, as `{module}.rs` or `{module}/`")
    }));
}

#[test]
fn tidy_nothing_names_somebodys_machine() {
    let homes = ["home", "Users", "root", "work"].map(|name| format!("/{name}/"));
    let mut complaints = Vec::new();
    for path in source::files(
        "",
        &["rs", "toml", "md", "sql", "sh", "yml", "html", "css", "js"],
    ) {
        let text = source::read(&path);
        for home in homes.iter().filter(|home| text.contains(*home)) {
            complaints.push(format!(
                "{path}: names a path under {home}; make it relative"
            ));
        }
    }
    none(complaints);
}

#[test]
fn tidy_numbers_behind_flatten_parse() {
    #[derive(Deserialize)]
    struct Outer {
        #[serde(flatten)]
        inner: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        amount: f64,
    }
    let outer: Outer = serde_json::from_str(r#"{"amount": 1.0}"#).expect(
        "some dependency has switched on serde_json's arbitrary_precision; find it with \
         `cargo tree --invert serde_json --edges features` and switch it off",
    );
    assert_eq!(outer.inner.amount, 1.0);
}

#[test]
fn tidy_one_tls_one_sqlite() {
    let lock = source::read("Cargo.lock");
    let locked = ["openssl-sys", "sqlx", "sqlx-sqlite"].into_iter();
    let locked = locked.filter(|name| lock.contains(&format!("name = \"{name}\"")));
    // The lock file also lists ring, for optional features that nobody has switched on.
    let linked = ["ring"].into_iter().filter(|name| is_linked(name));
    none(locked.chain(linked).map(|name| {
        format!(
            "Cargo.lock: {name} came in; find who asks for it with `cargo tree --invert {name}`"
        )
    }));
}

/// Whether a package is compiled for this machine with all features on.
fn is_linked(package: &str) -> bool {
    let arguments = [
        "tree",
        "--workspace",
        "--all-features",
        "--offline",
        "--prefix",
        "none",
    ];
    let tree = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo runs this test, so it can be run");
    let stdout = String::from_utf8_lossy(&tree.stdout);
    assert!(
        stdout.contains("harkara"),
        "{}",
        String::from_utf8_lossy(&tree.stderr)
    );
    stdout
        .lines()
        .any(|line| line.split(' ').next() == Some(package))
}

/// Whether a string is an SQL statement, and not a sentence that begins like one.
fn is_sql(literal: &str) -> bool {
    let text = literal
        .to_lowercase()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let both = |start: &str, later: &str| text.starts_with(start) && text.contains(later);
    let starts = [
        "insert into ",
        "insert or ",
        "delete from ",
        "create table ",
        "create index ",
    ];
    starts.iter().any(|start| text.starts_with(start))
        || both("select ", " from ")
        || both("update ", " set ")
        || both("with ", " as (")
        || both("with ", " as materialized (")
        || both("pragma ", "=")
}

/// The code that is shipped, without the integration tests and the project's own commands.
fn product() -> impl Iterator<Item = Source> {
    let shipped = |source: &Source| source.path.starts_with("crates/") && !source.is_test();
    sources().into_iter().filter(shipped)
}

/// Fails with all complaints at once.
fn none(complaints: impl IntoIterator<Item = String>) {
    let complaints: Vec<String> = complaints.into_iter().collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn tidy_tells_sql_from_prose() {
    let table = [
        ("select id from orders", true),
        ("\n    UPDATE deliveries\n    SET state = ?1", true),
        ("with due as materialized (select 1)", true),
        ("pragma synchronous = full", true),
        ("delete the endpoint", false),
        ("update the order", false),
        ("select a merchant", false),
        ("with all features on", false),
    ];
    for (literal, expected) in table {
        assert_eq!(is_sql(literal), expected, "{literal}");
    }
}

#[test]
fn tidy_is_run_from_the_tree_it_reads() {
    assert!(Path::new(&root()).join("harkara.default.toml").exists());
    assert!(fs::metadata(root().join(".ci/run")).is_ok());
}
