//! A reader of Rust that knows just enough: comments, strings, `use` and `mod` lines.
//!
//! It reads text and judges nothing; the rules are in `tidy.rs`. It is no parser: code that hides
//! from it (a `use` inside a macro, say) also hides from the reader.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// A file of Rust.
pub(crate) struct Source {
    /// From the root of the repository, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The text of a file.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file of ours.
pub(crate) fn sources() -> Vec<Source> {
    let crates = files("crates", &["rs"]).into_iter();
    crates
        .chain(files("sim", &["rs"]))
        .chain(files("xtask", &["rs"]))
        .map(|path| Source::read(&path))
        .collect()
}

/// The files below a directory with one of these extensions, in order.
pub(crate) fn files(below: &str, extensions: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut next = vec![PathBuf::from(below)];
    while let Some(directory) = next.pop() {
        let entries = fs::read_dir(root().join(&directory)).expect("a directory of ours");
        for entry in entries {
            let entry = entry.expect("an entry of a directory of ours");
            let name = entry.file_name();
            let path = directory.join(&name);
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if name != "target" && name != ".git" {
                    next.push(path);
                }
            } else if path
                .extension()
                .is_some_and(|it| extensions.iter().any(|ext| it == *ext))
            {
                found.push(path.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    found.sort();
    found
}

impl Source {
    pub(crate) fn read(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: read(path),
        }
    }

    /// Whether this is `crates/harkara/src/{room}.rs` or below the directory of that name.
    pub(crate) fn in_room(&self, room: &str) -> bool {
        let inside = self.path.strip_prefix("crates/harkara/src/");
        inside
            .and_then(|path| path.strip_prefix(room))
            .is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
            && !self.is_test()
    }

    /// Whether the whole file is compiled for tests alone.
    pub(crate) fn is_test(&self) -> bool {
        let path = &self.path;
        path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/examples/")
    }

    /// Whether cargo starts reading a crate here.
    pub(crate) fn is_root(&self) -> bool {
        let parts: Vec<&str> = self.path.split('/').rev().collect();
        match parts[..] {
            ["lib.rs" | "main.rs", "src", ..] | ["main.rs", _, "tests" | "examples", ..] => true,
            ["build.rs", _, "crates"] => true,
            [_, "tests" | "examples" | "benches", package, ..] => package != "src",
            [_, "bin", "src", ..] => true,
            _ => false,
        }
    }

    /// The code without comments and without the tests at its end.
    pub(crate) fn code(&self) -> String {
        let end = self
            .text
            .find("#[cfg(test)]\nmod tests {")
            .unwrap_or(self.text.len());
        let lines = self.text[..end].lines();
        lines
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Whether the code names this path, in full or through `use a::{b, c}`.
    pub(crate) fn mentions(&self, path: &str) -> bool {
        let code = self.code();
        let imports = imports(&code).join("\n");
        [code, imports].iter().any(|text| contains_path(text, path))
    }

    /// The modules that `mod x;` lines declare.
    pub(crate) fn modules(&self) -> Vec<String> {
        let declared = self.text.lines().filter_map(|line| {
            let line = line.trim();
            let line = match line.strip_prefix("pub") {
                Some(rest) => rest.trim_start_matches(|c| c != ' ').trim(),
                None => line,
            };
            line.strip_prefix("mod ")?
                .strip_suffix(';')
                .map(str::to_owned)
        });
        declared.collect()
    }

    /// Where the files of those modules may lie.
    pub(crate) fn children(&self) -> Vec<String> {
        let (directory, file) = self
            .path
            .rsplit_once('/')
            .expect("no source lies in the root");
        let stem = file.trim_end_matches(".rs");
        let below = match stem == "mod" || self.is_root() {
            true => directory.to_owned(),
            false => format!("{directory}/{stem}"),
        };
        let modules = self.modules().into_iter();
        let usual =
            modules.flat_map(|m| [format!("{below}/{m}.rs"), format!("{below}/{m}/mod.rs")]);
        usual.chain(self.elsewhere(directory)).collect()
    }

    /// The files that `#[path = "…"]` names, from this one's directory.
    fn elsewhere(&self, directory: &str) -> impl Iterator<Item = String> {
        self.text.lines().filter_map(|line| {
            let path = line
                .trim()
                .strip_prefix("#[path = \"")?
                .strip_suffix("\"]")?;
            let mut parts: Vec<&str> = directory.split('/').collect();
            for part in path.split('/') {
                match part {
                    ".." => drop(parts.pop()),
                    part => parts.push(part),
                }
            }
            Some(parts.join("/"))
        })
    }

    /// The text of every string in the code.
    pub(crate) fn literals(&self) -> Vec<String> {
        let code = self.code().replace("'\"'", "' '").replace("'\\\"'", "' '");
        let mut literals = Vec::new();
        let mut rest = code.as_str();
        while let Some(quote) = rest.find('"') {
            let before = rest[..quote].trim_end_matches('#');
            let hashes = &rest[before.len()..quote];
            let body = &rest[quote + 1..];
            let end = match before.ends_with('r') {
                true => body.find(&format!("\"{hashes}")),
                false => unescaped_quote(body),
            };
            let end = end.unwrap_or(body.len());
            literals.push(body[..end].to_owned());
            rest = body.get(end + 1..).unwrap_or_default();
        }
        literals
    }

    /// Whether a line, counted from 0, lies in a snapshot, whose text is not ours to break.
    pub(crate) fn in_snapshot(&self, line: usize) -> bool {
        let before: Vec<&str> = self.text.lines().take(line + 1).collect();
        let start = before
            .iter()
            .rposition(|line| line.contains("assert_snapshot!"));
        start.is_some_and(|start| {
            !before[start..line]
                .iter()
                .any(|line| line.trim_end().ends_with(");"))
        })
    }
}

/// Every path that a `use` line brings in, with its braces written out.
fn imports(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let line = code[..at].rsplit('\n').next().unwrap_or_default().trim();
        if line.is_empty() || line.starts_with("pub") {
            let tree = code[at + 4..].split(';').next().unwrap_or_default();
            let tree: String = tree.split_whitespace().collect::<Vec<_>>().join(" ");
            write_out("", &tree, &mut paths);
        }
    }
    paths
}

fn write_out(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let Some((head, inner)) = tree.split_once('{') else {
        paths.push(format!("{prefix}{}", tree.trim()));
        return;
    };
    let inner = inner.trim_end().trim_end_matches('}');
    let prefix = format!("{prefix}{}", head.trim());
    let mut depth = 0;
    let items = inner.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    for item in items.filter(|item| !item.trim().is_empty()) {
        write_out(&prefix, item.trim(), paths);
    }
}

/// Whether a path stands in a text as whole words.
fn contains_path(text: &str, path: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(path).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + path.len()..].chars().next();
        !before.is_some_and(|c| word(c) || c == ':') && !after.is_some_and(word)
    })
}

fn unescaped_quote(body: &str) -> Option<usize> {
    let mut escaped = false;
    body.char_indices().find_map(|(at, c)| match c {
        '"' if !escaped => Some(at),
        _ => {
            escaped = c == '\\' && !escaped;
            None
        }
    })
}

#[test]
fn tidy_reads_imports_and_strings() {
    let source = Source {
        path: "crates/harkara/src/deliver/x.rs".into(),
        text: r##"
            //! use harkara_core::mandate;
            use harkara_core::{delivery::{Event, Outcome}, order, endpoint::OrderMode};
            pub(crate) mod inner;
            fn f(c: char) -> bool { c == '"' && "a \" b" != r#"c " d"# }
            #[cfg(test)]
            mod tests;
        "##
        .into(),
    };
    assert!(source.mentions("harkara_core::order"));
    assert!(source.mentions("harkara_core::delivery::Outcome"));
    assert!(!source.mentions("harkara_core::mandate"));
    assert!(!source.mentions("harkara_core::end"));
    assert_eq!(source.modules(), ["inner", "tests"]);
    assert_eq!(source.literals(), [r#"a \" b"#, r#"c " d"#]);
    assert_eq!(
        source.children()[..2],
        [
            "crates/harkara/src/deliver/x/inner.rs",
            "crates/harkara/src/deliver/x/inner/mod.rs"
        ],
    );
}
