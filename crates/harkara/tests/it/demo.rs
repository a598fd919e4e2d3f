//! `harkara demo` as anyone runs it: one command, and an exit that says whether everything arrived.

use std::process::Command;

use serde_json::Value;

#[test]
fn the_demo_shows_every_kind_of_event_arriving() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_harkara"));
    let ended = demo.args(["demo", "--json"]).env_clear().output().unwrap();
    let (told, log) = (
        String::from_utf8(ended.stdout).unwrap(),
        String::from_utf8_lossy(&ended.stderr),
    );
    assert!(ended.status.success(), "{}\n{told}\n{log}", ended.status);
    let lines: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (summary, arrivals) = lines.split_last().unwrap();
    assert_eq!(summary["kinds_of_event"], 19, "{summary}");
    assert_eq!(summary["missing"], serde_json::json!([]), "{summary}");
    let failed = arrivals.iter().filter(|arrival| arrival["status"] == 500);
    assert_eq!(failed.count(), 2, "the retry that is shown");
}
