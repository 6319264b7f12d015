//! The rules of the house, as a test: who may import whom, where `unsafe` stands, what pure files may not touch, what must not be left.

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, by its path from the project's root.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root()).expect("inside").to_string_lossy().into_owned();
                found.push((name, fs_err::read_to_string(path).expect("text")));
            }
        }
    }
    found.sort();
    found
}

/// Code without comments and without the tests at its end, which may use anything.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text);
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// What each module may import of the others. `base` is for everybody.
const IMPORTS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("event", &[]),
    ("config", &["spec"]),
    ("spec", &["config"]),
    ("plan", &["spec", "config"]),
    ("story", &["event", "spec"]),
    ("store", &["event", "story", "plan", "spec"]),
    ("sandbox", &["event"]),
    // The sandbox for its one home of system calls: an overlay's marks are extended attributes.
    ("workspace", &["event", "store", "sandbox"]),
    // The sandbox for its policy, as data: what a sandbox with a gateway must have inside.
    ("egress", &["event", "sandbox"]),
    ("report", &["config"]),
    // The gateway for its strict reader of HTTP, and for what may be trusted outside.
    ("queue", &["event", "config", "story", "store", "workspace", "sandbox", "egress", "report"]),
    ("probe", &["sandbox"]),
    ("role", &["event", "config", "egress", "sandbox", "workspace", "store"]),
    // The gateway for how a login is described, and read outside.
    ("agents", &["event", "config", "spec", "story", "sandbox", "workspace", "role", "egress"]),
    ("verify", &["event", "config", "spec", "story", "sandbox", "workspace", "role", "agents", "report"]),
    ("survey", &["config", "spec", "workspace", "agents"]),
    ("engine", &["event", "config", "spec", "plan", "story", "sandbox", "workspace", "store", "role", "agents", "verify", "queue"]),
];

fn module(path: &str) -> &str {
    let rest = path.strip_prefix("src/").unwrap_or(path);
    rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs")
}

#[test]
fn modules_import_only_what_they_may() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == module(&path)) else { continue };
        for part in code(&text).split("crate::").skip(1) {
            let target: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if target != module(&path) && target != "base" && !target.is_empty() && !allowed.contains(&target.as_str()) {
                wrong.push(format!("{path} imports {target}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn unsafe_has_one_home_and_reasons() {
    for (path, text) in sources("src") {
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let is_unsafe = code(line).contains("unsafe {") || code(line).contains("unsafe fn") || code(line).contains("unsafe impl");
            if !is_unsafe {
                continue;
            }
            assert!(path.starts_with("src/sandbox/sys"), "{path}:{} is unsafe outside its home", i + 1);
            let above = &lines[i.saturating_sub(4)..i];
            assert!(above.iter().any(|l| l.contains("SAFETY:")), "{path}:{} does not say why it is sound", i + 1);
        }
    }
}

/// Files that decide: no files, processes, network, clock, environment.
const PURE: &[&str] = &[
    "src/base/",
    "src/event.rs",
    "src/event/payload.rs",
    "src/plan/",
    "src/story/",
    "src/store/fold.rs",
    "src/store/chain.rs",
    "src/agents/ask.rs",
    "src/agents/task.rs",
    "src/agents/protocol/claude.rs",
    "src/agents/protocol/codex.rs",
    "src/agents/protocol/gemini.rs",
    "src/agents/protocol/limit.rs",
    "src/agents/protocol/lines.rs",
    "src/agents/protocol/mod.rs",
    "src/agents/protocol/opencode.rs",
    "src/agents/protocol/session.rs",
    "src/verify/code/",
    "src/verify/artifacts.rs",
    "src/verify/integrity.rs",
    "src/verify/paths.rs",
    "src/verify/ratchet.rs",
    "src/verify/request.rs",
    "src/verify/secrets.rs",
    "src/verify/size.rs",
    "src/verify/verdict.rs",
    "src/agents/prompt.rs",
    "src/agents/command.rs",
    "src/agents/answers.rs",
    "src/engine/sync.rs",
    "src/engine/turn.rs",
    "src/engine/view.rs",
    "src/base/redact.rs",
    "src/egress/rule.rs",
    "src/egress/address.rs",
    "src/egress/http1.rs",
    "src/egress/socks5.rs",
    "src/egress/dns.rs",
    "src/egress/client_hello.rs",
    "src/egress/inside.rs",
    "src/egress/java.rs",
    "src/egress/meter.rs",
    "src/egress/price.rs",
    "src/egress/provider.rs",
    "src/egress/names.rs",
    "src/egress/notice.rs",
    "src/egress/request.rs",
    "src/egress/tally.rs",
    "src/survey/agents.rs",
    "src/survey/ci.rs",
    "src/survey/kinds/",
    "src/survey/mod.rs",
    "src/survey/story.rs",
    "src/survey/write.rs",
    "src/queue/order.rs",
    "src/queue/chain.rs",
    "src/queue/ci/checks.rs",
    "src/queue/gate.rs",
    "src/report.rs",
    "src/sandbox/policy.rs",
    "src/sandbox/plan.rs",
    "src/sandbox/filter.rs",
    "src/sandbox/outcome.rs",
    "src/sandbox/receipt.rs",
    "src/sandbox/denial.rs",
    "src/face/tui/data.rs",
    "src/face/tui/draw/",
    "src/face/tui/keys.rs",
    "src/face/tui/model.rs",
    "src/face/tui/problems.rs",
    "src/face/tui/text.rs",
    "src/face/tui/theme.rs",
    "src/face/web/page.rs",
    "src/face/web/route.rs",
    "src/face/mcp/rpc.rs",
    "src/face/mcp/tools.rs",
];

#[test]
fn files_that_decide_do_not_touch_the_world() {
    let world = [
        "std::fs",
        "fs_err::",
        "std::process",
        "std::env::",
        "std::net::Tcp",
        "std::net::Udp",
        "SystemTime::now",
        "Instant::now",
        "std::thread",
    ];
    for (path, text) in sources("src") {
        if PURE.iter().any(|pure| path.starts_with(pure)) {
            let found = world.iter().find(|word| code(&text).contains(*word));
            assert_eq!(found, None, "{path} decides, and must not touch the world");
        }
    }
}

#[test]
fn nothing_unfinished_is_left() {
    let words = ["todo!", "unimplemented!", "dbg!", concat!("FIX", "ME"), concat!("XX", "X")];
    for (path, text) in sources("src").into_iter().chain(sources("tests")) {
        if path == "tests/tidy.rs" {
            continue;
        }
        let found = words.iter().find(|word| text.contains(*word));
        assert_eq!(found, None, "{path}");
        assert!(!text.contains("#[ignore"), "{path}: a test that is never run proves nothing");
    }
}

#[test]
fn every_profile_is_shipped_and_every_link_in_the_documents_resolves() {
    let embedded = fs_err::read_to_string(root().join("src/sandbox/profile.rs")).expect("profiles");
    for entry in fs_err::read_dir(root().join("sandbox-profiles")).expect("profiles").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(embedded.contains(&name), "{name} is not embedded");
    }
    let documents = ["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(PathBuf::from);
    let more = fs_err::read_dir(root().join("docs")).expect("docs").flatten().map(|e| PathBuf::from("docs").join(e.file_name()));
    for document in documents.into_iter().chain(more).filter(|d| d.extension().is_some_and(|e| e == "md")) {
        let text = fs_err::read_to_string(root().join(&document)).expect("a document");
        for part in text.split("](").skip(1) {
            let link = part.split(')').next().unwrap_or_default().split('#').next().unwrap_or_default();
            if link.is_empty() || link.contains("://") || link.contains(' ') {
                continue;
            }
            let target = root().join(document.parent().expect("a folder")).join(link);
            assert!(target.exists(), "{}: {link}", document.display());
        }
    }
}
