//! The collected tree is the one that git would write: for hundreds of random changes, on a real overlay.

use std::path::Path;

use cofferdam::workspace::checkout::Seen;
use cofferdam::workspace::collect::{self, Layout, Settings};
use cofferdam::workspace::git::{Oid, Quarantine, Repository};
use cofferdam::workspace::rules::Limits;
use cofferdam::workspace::walk::Folder;

use super::support::{Overlay, Random, bash, git, git_command, quote, scratch};

fn settings(repository: &Repository) -> Settings {
    let mut settings = Settings::of(repository, Limits::default());
    // Nobody's own lists: only the repository's.
    settings.ignore_lists[0].clear();
    settings.attribute_lists[0].clear();
    settings
}

const NAMES: [&[u8]; 22] = [
    b"a",
    b"b.txt",
    b"c.o",
    b"keep.o",
    b"d",
    b"e.log",
    b"build",
    b"sub",
    b"deep",
    b"x y",
    b"new\nline",
    b"quo\"te",
    b"back\\slash",
    b"\xff\xfe",
    b"-dash",
    b"*star",
    b"aux",
    b"UPPER",
    b"upper",
    b"win.crlf",
    b"auto.txt",
    b"\xc3\xbc",
];

const IGNORES: [&str; 10] = [
    "*.o\n!keep.o\n",
    "build/\n",
    "/a\n",
    "*.log\n!/e.log\n",
    "d/*\n!d/b.txt\n",
    "**/deep/\n",
    "sub\n!sub/a\n",
    "x\\ y\n",
    "[a-c]*\n!b.txt\n",
    "# nothing\n\n*\n!*.txt\n!*/\n",
];

const ATTRIBUTES: [&str; 4] =
    ["*.crlf eol=crlf\nauto.txt text=auto\n", "*.txt text\n*.o binary\n", "* text=auto\n*.crlf -text\n", "*.txt ident\n"];

const CONTENTS: [&str; 7] = [
    "",
    "one\n",
    "two\r\nlines\r\n",
    "mixed\r\nends\n",
    "nul\\0byte\r\n",
    "$Id: something $\n",
    "long text\nof some lines\nwithout a last end",
];

fn path(random: &mut Random, depth: usize) -> Vec<u8> {
    let mut path = random.one(&NAMES).to_vec();
    for _ in 0..random.below(depth + 1) {
        path.push(b'/');
        path.extend_from_slice(random.one(&NAMES));
    }
    path
}

/// One random change, as bash. It may fail (a file is in the way): then it fails in both places alike.
pub(crate) fn step(random: &mut Random) -> String {
    let here = path(random, 3);
    let (at, folder) = (quote(&here), quote(here.rsplitn(2, |b| *b == b'/').nth(1).unwrap_or(b".")));
    let other = quote(&path(random, 2));
    let content = random.one(&CONTENTS);
    match random.below(22) {
        0..7 => format!("mkdir -p -- {folder}; printf %b {} > {at}", quote(content.as_bytes())),
        7 | 8 => format!("rm -f -- {at}"),
        9 => format!("rm -rf -- {folder}"),
        10 => format!("rm -rf -- {at}; mkdir -p -- {at}; printf new > {at}/a"),
        11 => format!("mv -- {at} {other}"),
        12 => format!("chmod +x -- {at}"),
        // A folder without it could not be copied by an ordinary user.
        13 => format!("test -d {at} || chmod -x -- {at}"),
        14 => format!("rm -rf -- {at}; mkdir -p -- {folder}; ln -s -- {other} {at}"),
        15 => format!("mkdir -p -- {folder}; printf %s {} > {folder}/.gitignore", quote(random.one(&IGNORES).as_bytes())),
        16 => format!("mkdir -p -- {folder}; printf %s {} > {folder}/.gitattributes", quote(random.one(&ATTRIBUTES).as_bytes())),
        17 => format!("touch -- {at}"),
        18 => format!("mkdir -p -- {at}"),
        19 => format!("rm -f -- {folder}/.gitignore"),
        20 => format!("ln -- {at} {other}"),
        _ => format!("mkdir -p -- {folder}; printf %b {} >> {at}", quote(content.as_bytes())),
    }
}

/// A repository with a random first commit, its files an hour old so that git's index trusts them.
fn repository(folder: &Path, random: &mut Random) -> Oid {
    fs_err::create_dir(folder).unwrap();
    git(folder, &["init", "-q"]);
    let steps: Vec<_> = (0..60).map(|_| step(random)).collect();
    bash(folder, &steps.join("\n"));
    // Some of what is tracked is also ignored.
    let mut add = git_command(folder, &["add", "-A", "-f"]);
    assert!(add.output().unwrap().status.success());
    git(folder, &["commit", "-q", "--allow-empty", "-m", "base"]);
    fs_err::write(folder.join(".git/info/exclude"), "excluded-by-info\n*.tmp\n").unwrap();
    // A fresh checkout, so that line ends are as git writes them.
    bash(
        folder,
        "git ls-files -z | xargs -0 rm -f --; git checkout -q -f HEAD -- . ; git clean -q -f -d -x; find . -not -path './.git*' -exec touch -h -d '1 hour ago' {} +; git update-index -q --refresh",
    );
    git(folder, &["rev-parse", "HEAD^{tree}"]).parse().unwrap()
}

fn listing(repository: &Path, tree: &str) -> String {
    String::from_utf8_lossy(&git_command(repository, &["ls-tree", "-r", tree]).output().unwrap().stdout).into_owned()
}

#[test]
fn the_collected_tree_is_the_one_git_writes() {
    let scratch = scratch();
    let mut cases = 0;
    let mut changed = 0;
    for seed in 0..8_u64 {
        let mut random = Random::new(seed + 1);
        let original = scratch.path().join(format!("repository-{seed}"));
        let base = repository(&original, &mut random);
        let lower = scratch.path().join(format!("lower-{seed}"));
        let copied = bash(scratch.path(), &format!("cp -a {0} {1} && rm -rf {1}/.git", original.display(), lower.display()));
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        for case in 0..26 {
            let name = format!("seed {seed} case {case}");
            let script: Vec<_> = (0..1 + random.below(14)).map(|_| step(&mut random)).collect();
            let script = script.join("\n");

            let plain = scratch.path().join("plain");
            bash(scratch.path(), &format!("cp -a {} {}; git -C {1} update-index -q --refresh", original.display(), plain.display()));
            let seen = Seen::of(&plain).unwrap();
            bash(&plain, &script);
            // Named pipes and the like are no part of this test; everything else git takes without a word.
            let added = git_command(&plain, &["-c", "core.safecrlf=false", "add", "-A"]).output().unwrap();
            assert!(added.status.success(), "{name}: {}", String::from_utf8_lossy(&added.stderr));
            let expected = git(&plain, &["write-tree"]);

            let place = scratch.path().join("story");
            let overlay = Overlay::new(&lower, &place);
            overlay.run(&script);
            let opened = Repository::discover(&original).unwrap();
            let quarantine = Quarantine::create(&place.join("quarantine"), &opened).unwrap();
            let upper = Folder::open_root(&overlay.upper).unwrap();
            let collected = collect::collect(&upper, Layout::Upper, base, &quarantine, &settings(&opened)).unwrap();
            let checkout = Settings { seen, ..settings(&opened) };
            let whole = collect::collect(&Folder::open_root(&plain).unwrap(), Layout::Whole, base, &quarantine, &checkout).unwrap();
            let tree = collected.tree;
            quarantine.release().unwrap();
            if tree.to_string() != expected {
                // The plain copy's objects, so that both can be listed.
                bash(&original, &format!("cp -rn {}/.git/objects/. .git/objects/", plain.display()));
                panic!(
                    "{name}\n--- script\n{script}\n--- git\n{}\n--- cofferdam\n{}\n{:#?}",
                    listing(&original, &expected),
                    listing(&original, &tree.to_string()),
                    collected.findings
                );
            }
            assert_eq!(whole.tree.to_string(), expected, "{name}: the plain checkout");
            cases += 1;
            changed += usize::from(tree != base);
            bash(scratch.path(), "rm -rf plain story");
        }
    }
    assert!(cases >= 200 && changed > cases / 2, "{changed} of {cases} changed anything");
}
