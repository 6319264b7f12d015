//! A profile with everything it extends, written as one TOML file. Pure; [`super::read`] reads it back to the same.

use std::path::PathBuf;

use toml::{Table, Value};

use super::{Profile, WorkspaceMode};
use crate::base::duration;
use crate::base::size::Size;
use crate::sandbox::policy::Limits;
use crate::sandbox::resolve::mode_name;

/// The text of a file that says all of this by itself.
pub fn toml(profile: &Profile) -> String {
    let files = &profile.files;
    let mut top = Table::new();
    top.insert("description".into(), profile.description.clone().into());
    top.insert(
        "files".into(),
        table([
            ("system", files.system.into()),
            ("toolchains", files.toolchains.into()),
            ("caches", files.caches.into()),
            ("workspace", mode(files.workspace).into()),
            ("read", paths(&files.read)),
            ("write", paths(&files.write)),
            ("deny", paths(&files.deny)),
        ]),
    );
    let network = &profile.network;
    let allow = network.allow.iter().cloned().map(Value::String).collect();
    let rules = [("mode", mode_name(network.mode).into()), ("loopback", network.loopback.into()), ("allow", Value::Array(allow))];
    top.insert("network".into(), table(rules));
    let pass = profile.environment.pass.iter().cloned().map(Value::String).collect();
    let set = profile.environment.set.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
    top.insert("environment".into(), table([("pass", Value::Array(pass)), ("set", Value::Table(set))]));
    let limits = limits(&profile.limits).into_iter().filter_map(|(name, value)| Some((name, value?)));
    top.insert("limits".into(), Value::Table(limits.map(|(name, value)| (name.to_owned(), value)).collect()));
    top.insert("sandbox".into(), table([("require", profile.require.name().into())]));
    top.to_string()
}

pub fn mode(mode: WorkspaceMode) -> &'static str {
    match mode {
        WorkspaceMode::Read => "read",
        WorkspaceMode::Discard => "discard",
        WorkspaceMode::Write => "write",
    }
}

/// Every limit by the name it has in a file. Numbers that TOML cannot hold are larger than any limit can be.
fn limits(limits: &Limits) -> [(&'static str, Option<Value>); 10] {
    // As a person writes it, when that says exactly the same.
    let size = |size: Option<Size>| {
        let exact = |s: Size| s.to_string().parse() == Ok(s);
        size.map(|s| Value::String(if exact(s) { s.to_string() } else { s.bytes().to_string() }))
    };
    let count = |count: Option<u64>| count.map(|n| Value::Integer(i64::try_from(n).unwrap_or(i64::MAX)));
    let time = |time: Option<std::time::Duration>| time.map(|t| Value::String(duration::exact(t)));
    [
        ("memory", size(limits.memory)),
        ("pids", count(limits.pids)),
        ("cpus", limits.cpus.map(Value::Float)),
        ("wall", time(limits.wall)),
        ("cpu_time", time(limits.cpu_time)),
        ("output", size(limits.output)),
        ("disk", size(limits.disk)),
        ("files", count(limits.files)),
        ("open_files", count(limits.open_files)),
        ("file_size", size(limits.file_size)),
    ]
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Table(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn paths<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Value {
    Value::Array(paths.into_iter().map(|path| Value::String(path.to_string_lossy().into_owned())).collect())
}
