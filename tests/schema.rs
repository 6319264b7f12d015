//! `cofferdam schema`: every schema there is, as the program prints it.

use std::process::Command;

fn print(args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cofferdam")).arg("schema").args(args).output().expect("it runs");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn every_schema_is_listed_printed_and_says_what_it_is() {
    let (ok, list) = print(&[]);
    assert!(ok && list.lines().count() >= 3, "{list}");
    for name in list.lines() {
        let (ok, text) = print(&[name]);
        let schema: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(ok && schema["$schema"].is_string() && schema["title"].is_string() && schema["type"].is_string(), "{name}: {schema}");
    }
    assert!(!print(&["nothing"]).0);
}
