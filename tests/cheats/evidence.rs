//! Evidence that leaves its place: an export proves what landed by itself, and says where it was changed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::Who;
use crate::project::Project;

const CONFIG: &str = "[agents.implementer]\nadapter = \"command\"\ncommand = [\"./agents/implement\", \"{story}\"]\n\
    [run]\niterations = 1\nretry_delay = \"1ms\"\n";

fn verify(project: &Project, folder: &Path) -> (Option<i32>, String) {
    // Nothing of the repository is near.
    let mut command = project.world.command();
    let output = command.args(["evidence", "verify", "--from"]).arg(folder).current_dir("/").output().expect("it runs");
    (output.status.code(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// Writes the list anew, as somebody would who changed a file and knows about it.
fn sign_again(folder: &Path) {
    let script = "rm SHA256SUMS; sha256sum -- * > ../sums; mv ../sums SHA256SUMS";
    assert!(Command::new("sh").args(["-c", script]).current_dir(folder).status().expect("a shell").success());
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = fs_err::read_to_string(path).expect("text");
    assert!(text.contains(from), "{from} is not in {}", path.display());
    fs_err::write(path, text.replacen(from, to, 1)).expect("written");
}

type Change<'a> = &'a dyn Fn(&Path);

#[test]
fn an_export_proves_a_landing_and_tells_where_it_was_changed() {
    let project = Project::new(Who::Caller, CONFIG, &["honest", "weakens-tests"], &[]);
    let printed = project.run("");
    assert_eq!(project.stories()["honest"]["state"], "merged", "{printed}");
    let whole = project.output(&["evidence", "verify", "--json"]);
    let said: serde_json::Value = serde_json::from_slice(&whole.stdout).expect("a document");
    assert_eq!((whole.status.code(), &said["manifests"], &said["breaks"]), (Some(0), &2.into(), &serde_json::json!([])), "{said}");
    let place = project.world.path();
    let export = |name: &str| {
        let folder = place.join(name);
        let output = project.output(&["evidence", "export", "honest", folder.to_str().expect("a path")]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        folder
    };
    let (code, said) = verify(&project, &export("whole"));
    assert!(code == Some(0) && said.contains("landed with green gates") && said.contains("1 manifest"), "{said}");
    // The commit that it names is what is on the target, as far as git knows.
    assert!(said.contains(&project.git(&["rev-parse", "refs/heads/main^{tree}"])), "{said}");
    // The commit names the manifest, and nothing else, as its evidence.
    let index: serde_json::Value = serde_json::from_slice(&fs_err::read(place.join("whole/index.json")).expect("read")).expect("JSON");
    let id = index["manifests"][0]["manifest"].as_str().expect("an id").to_owned();
    let trailers = project.git(&["log", "-1", "--format=%(trailers:key=Evidence,valueonly)", "refs/heads/main"]);
    assert_eq!(trailers.trim(), format!("sha256:{id}"));
    let manifest = |folder: &Path| -> PathBuf {
        let index: serde_json::Value = serde_json::from_slice(&fs_err::read(folder.join("index.json")).expect("read")).expect("JSON");
        folder.join(index["manifests"][0]["manifest"].as_str().expect("an id"))
    };
    let changes: [(&str, Change<'_>, &str); 8] = [
        (
            "another-commit",
            &|f| {
                replace(&f.join("landed.commit"), "Evidence: sha256:", "Evidence: sha256:0");
                sign_again(f);
            },
            "landed.commit is the commit",
        ),
        ("changed", &|f| replace(&manifest(f), "honest", "h0nest"), "was changed"),
        (
            "signed",
            &|f| {
                replace(&manifest(f), "honest", "h0nest");
                sign_again(f);
            },
            "which is not there",
        ),
        (
            "removed",
            &|f| {
                fs_err::remove_file(manifest(f)).expect("removed");
                sign_again(f);
            },
            "which is not there",
        ),
        (
            "log",
            &|f| {
                replace(&f.join("events.jsonl"), "\"verdict\":\"pass\"", "\"verdict\":\"fail\"");
                sign_again(f);
            },
            "it was changed",
        ),
        (
            "shorter",
            &|f| {
                let text = fs_err::read_to_string(f.join("events.jsonl")).expect("text");
                let kept: String =
                    text.lines().filter(|line| !line.contains("\"evaluator.finished\"")).map(|line| format!("{line}\n")).collect();
                fs_err::write(f.join("events.jsonl"), kept).expect("written");
                sign_again(f);
            },
            "the events before it do not prove it",
        ),
        ("more", &|f| fs_err::write(f.join("0more"), "x").expect("written"), "0more is there"),
        (
            "link",
            &|f| {
                fs_err::remove_file(f.join("index.json")).expect("removed");
                std::os::unix::fs::symlink("/etc/passwd", f.join("index.json")).expect("linked");
            },
            "no regular file",
        ),
    ];
    for (name, change, words) in changes {
        let folder = export(name);
        change(&folder);
        let (code, said) = verify(&project, &folder);
        assert!(code == Some(1) && said.contains(words), "{name}: {code:?} {said}");
    }
    // In its own place it breaks as well: a manifest that says something else is none.
    let index: serde_json::Value = serde_json::from_slice(&fs_err::read(place.join("whole/index.json")).expect("read")).expect("JSON");
    let id = index["manifests"][0]["manifest"].as_str().expect("an id").to_owned();
    let shown: serde_json::Value = serde_json::from_slice(&project.output(&["evidence", "show", &id, "--json"]).stdout).expect("JSON");
    fs_err::write(shown["path"].as_str().expect("a path"), "{}").expect("written");
    let output = project.output(&["evidence", "verify", "honest"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("manifest of attempt 1"), "{said}");
}
