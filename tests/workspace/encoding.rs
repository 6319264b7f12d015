//! `working-tree-encoding`, with git as the oracle: the same bytes in the worktree, and the same tree.

use super::commands::World;
use super::support::{bash, git, scratch};

/// Names as git and its C library know them, and how their files are written.
const ENCODINGS: [(&str, &str); 12] = [
    ("UTF-16", "UTF-16"),
    ("utf16", "UTF-16"),
    ("UTF-16LE", "UTF-16LE"),
    ("utf-16be", "UTF-16BE"),
    ("UTF-16LE-BOM", "UTF-16"),
    ("UTF-32", "UTF-32"),
    ("UTF-32LE", "UTF-32LE"),
    ("UTF32BE", "UTF-32BE"),
    ("ISO-8859-1", "ISO-8859-1"),
    ("latin1", "ISO-8859-1"),
    ("CP1252", "CP1252"),
    ("UTF-8", "UTF-8"),
];

/// Text that the encoding can hold: line ends of both kinds, letters beyond ASCII, and beyond the first plane where there is room.
fn write(prefix: &str, text: &str) -> String {
    let each = ENCODINGS.iter().enumerate().map(|(at, (_, iconv))| {
        let more = match *iconv {
            "ISO-8859-1" => "ÄÿÀ",
            "CP1252" => "„Œ€“Ä",
            _ => "„€“𝄞漢字",
        };
        format!("printf '%b' '{text} {more}\\n$Id$\\nend\\r\\n' | iconv -f UTF-8 -t {iconv} > {prefix}.e{at}; : > empty-{prefix}.e{at}")
    });
    each.collect::<Vec<_>>().join("\n")
}

fn attributes() -> String {
    let each = ENCODINGS.iter().enumerate().map(|(at, (name, _))| {
        let more = ["", " text eol=crlf", " ident", " text=auto"][at % 4];
        format!("*.e{at} working-tree-encoding={name}{more}\n")
    });
    each.collect()
}

const SUMS: &str = "sha256sum *";

#[test]
fn files_have_gits_bytes_and_the_collected_tree_is_gits() {
    let world = World::new(None);
    fs_err::write(world.main().join(".gitattributes"), attributes()).unwrap();
    let made = bash(&world.main(), &format!("rm -r src a; {}; git add -A && git commit -q -m encoded", write("base", "first")));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // Git's own checkout of the same commit.
    git(world.scratch.path(), &["clone", "-q", "main", "oracle"]);
    let oracle = world.path("oracle");
    let expected = String::from_utf8(bash(&oracle, SUMS).stdout).unwrap();
    for backend in ["overlay", "checkout"] {
        world.ok(&["workspace", "new", backend, "--set", &format!("workspace.backend={backend}")]);
        assert_eq!(world.inside(backend, SUMS), expected, "{backend}");
        // The agent's git converts them back itself.
        assert_eq!(world.inside(backend, "touch *; git status --porcelain; git diff --stat"), "", "{backend}");
    }
    let change = format!("{}; echo 'plain' > plain; rm base.e3", write("new", "second"));
    assert!(bash(&oracle, &change).status.success());
    let expected = bash(&oracle, "git add -A && git write-tree");
    assert!(expected.status.success(), "{}", String::from_utf8_lossy(&expected.stderr));
    for backend in ["overlay", "checkout"] {
        world.inside(backend, &change);
        let collected = world.collect(backend);
        assert_eq!(collected["tree"].as_str().unwrap(), String::from_utf8_lossy(&expected.stdout).trim_end(), "{backend}: {collected}");
        assert_eq!(collected["findings"].as_array().map(Vec::len), Some(0), "{collected}");
    }
}

#[test]
fn what_is_no_text_in_its_encoding_is_a_finding_and_unknown_ones_are_said() {
    let world = World::new(None);
    bash(
        &world.main(),
        "printf '*.w working-tree-encoding=UTF-16\n*.j working-tree-encoding=SHIFT-JIS\n' > .gitattributes; printf '\\x83\\x65' > t.j; git add -A; git commit -q -m odd",
    );
    let made = world.run(&["workspace", "new", "S"]);
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success() && said.contains("1 file whose attribute names an encoding that is not known here"), "{said}");
    world.inside("S", "printf 'no mark' > bad.w; printf x > new.j");
    let collected = world.collect("S");
    let findings: Vec<_> = collected["findings"].as_array().unwrap().iter().map(|f| (f["path"].as_str(), f["rule"].as_str())).collect();
    assert_eq!(findings, [(Some("bad.w"), Some("encoding")), (Some("new.j"), Some("encoding"))], "{collected}");
    assert_eq!(git(&world.main(), &["show", "refs/cofferdam/stories/S/1:bad.w"]), "no mark");
    // The control: git's own `add` stops there.
    let scratch = scratch();
    let alone = "git init -q; printf '*.w working-tree-encoding=UTF-16\n' > .gitattributes; printf 'no mark' > bad.w; git add bad.w";
    assert!(!bash(scratch.path(), alone).status.success());
}
