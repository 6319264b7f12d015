//! Disks that fill in the middle, and a state folder that goes away: no panic, nothing half done, no commit lost, and the next try works.

use std::process::{Command, Output};

use super::commands::{Form, World};
use super::support::{ORDINARY, is_root};

/// Runs a script of the user's where one folder of its world is a small disk of its own, seen by nobody else. `cofferdam` is the program.
fn on_a_small_disk(world: &World, folder: &str, size: &str, script: &str) -> Output {
    let place = world.path(folder);
    fs_err::create_dir_all(&place).unwrap();
    std::os::unix::fs::chown(&place, world.user, world.user).unwrap();
    let owner = world.user.map_or_else(String::new, |user| format!(",uid={user},gid={user}"));
    let keep = world.scratch.path().join("kept");
    // What the folder holds is on the small disk too.
    let setup = format!(
        "set -e; cp -a {0}/. {1} 2>/dev/null || mkdir {1}; mount -t tmpfs -o size={size},mode=0755{owner} tmpfs {0}; cp -a {1}/. {0}/; rm -rf {1}; exec \"$@\"",
        place.display(),
        keep.display()
    );
    let inner = world.as_user(world.command(&[]));
    let mut command = Command::new("unshare");
    command.args(["-m", "bash", "-c", &setup, "-"]);
    if let Some(user) = world.user {
        command.args(["setpriv", &format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "--"]);
    }
    // The folder we stand in may be covered now.
    let functions = format!("cd {}; cofferdam() {{ {} \"$@\"; }}; ", world.main().display(), world.program.display());
    command.args(["bash", "-c", &(functions + script)]).current_dir(world.main()).env_clear();
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.output().unwrap()
}

/// Every user and the forms that differ in what they write; mounting needs root.
fn everywhere(forms: &[Form], test: fn(&World)) {
    if !is_root() {
        drop(std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED disks that fill: the tests do not run as root\n"));
        return;
    }
    for user in [None, Some(ORDINARY)] {
        for form in forms {
            test(&World::with(user, *form));
        }
    }
}

#[track_caller]
fn said(output: &Output, expected: &[&str]) {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for one in expected {
        assert!(text.contains(one), "`{one}` is not in:\n{text}");
    }
    assert!(!text.contains("panicked") && output.status.success(), "{text}");
}

#[test]
fn a_disk_that_fills_in_the_middle_of_a_layer_leaves_none() {
    everywhere(&[Form::Disk, Form::Checkout], |world| {
        world.bash("mkdir data; for i in 1 2 3 4 5 6; do head -c 1M /dev/urandom > data/$i; done; git add -A; git commit -q -m data");
        let form = world.form.options().join(" ");
        let script = format!(
            "set -e; s=$XDG_STATE_HOME; head -c 13M /dev/zero > $s/ballast; \
             ! cofferdam workspace new S {form} 2> $HOME/told; cat $HOME/told; \
             find $s/cofferdam/*/layers $s/cofferdam/*/stories $s/cofferdam/*/trash -mindepth 1 | sed 's/^/left: /'; git for-each-ref refs/cofferdam; git worktree list | grep -c . ; \
             rm $s/ballast; cofferdam workspace new S {form}; cofferdam workspace exec S -- sh -c 'cat data/* | wc -c; git status --porcelain; git fsck'; echo DONE"
        );
        let output = on_a_small_disk(world, "state", "16M", &script);
        said(&output, &["full", "6291456", "DONE"]);
        assert!(!String::from_utf8_lossy(&output.stdout).contains("left: "), "{}", String::from_utf8_lossy(&output.stdout));
    });
}

#[test]
fn a_disk_that_fills_in_the_middle_of_a_collection_loses_nothing() {
    everywhere(&[Form::Disk, Form::Checkout], |world| {
        let form = world.form.options().join(" ");
        let script = format!(
            "set -e; s=$XDG_STATE_HOME; cofferdam workspace new S {form}; cofferdam workspace exec S -- sh -c 'echo one > one'; cofferdam workspace collect S; \
             cofferdam workspace exec S -- sh -c 'for i in 1 2 3 4 5; do head -c 1M /dev/urandom > f$i; done'; head -c 1G /dev/zero > $s/ballast || true; truncate -s -1M $s/ballast; \
             ! cofferdam workspace collect S 2> $HOME/told; cat $HOME/told; git for-each-ref refs/cofferdam/stories/S/; git fsck --strict; \
             rm $s/ballast; cofferdam workspace collect S --json > $HOME/collected; git cat-file -s refs/cofferdam/stories/S/2:f5; ls $s/cofferdam/*/stories/S; echo DONE"
        );
        let output = on_a_small_disk(world, "state", "24M", &script);
        said(&output, &["No space left", "refs/cofferdam/stories/S/1", "1048576", "DONE"]);
        assert!(!String::from_utf8_lossy(&output.stdout).contains("\nquarantine"), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(world.git(&["for-each-ref", "refs/cofferdam/stories/S/2"]).contains("S/2"));
        assert_eq!(world.git(&["fsck", "--strict"]), "");
    });
}

#[test]
fn a_repository_on_a_disk_that_fills_gets_all_of_a_commit_or_nothing() {
    everywhere(&[Form::Disk], |world| {
        let script = "set -e; cofferdam workspace new S --set workspace.backend=overlay; cofferdam workspace exec S -- sh -c 'for i in 1 2 3 4 5; do head -c 1M /dev/urandom > f$i; done'; \
            head -c 1G /dev/zero > ballast || true; truncate -s -2M ballast; ! cofferdam workspace collect S 2> $HOME/told; cat $HOME/told; git for-each-ref refs/cofferdam/stories/S/1; git fsck --strict; \
            find .git/objects -name 'tmp*' -o -name '.tmp*'; rm ballast; cofferdam workspace collect S; git cat-file -s refs/cofferdam/stories/S/1:f5; git fsck --strict; echo DONE";
        let output = on_a_small_disk(world, "main", "16M", script);
        said(&output, &["No space left", "1048576", "DONE"]);
        assert!(!String::from_utf8_lossy(&output.stdout).contains("\n.git/objects"), "{}", String::from_utf8_lossy(&output.stdout));
    });
}

#[test]
fn what_memory_holds_and_a_full_disk_cannot_take_is_said_and_leaves_what_was_there() {
    everywhere(&[Form::Memory], |world| {
        let script = "set -e; s=$XDG_STATE_HOME; cofferdam workspace new S --set workspace.upper=tmpfs; cofferdam workspace exec S -- sh -c 'echo one > one'; \
            head -c 1G /dev/zero > $s/ballast || true; truncate -s -1M $s/ballast; ! cofferdam workspace exec S -- sh -c 'echo changed > one; for i in 1 2 3 4 5; do head -c 1M /dev/urandom > f$i; done' 2> $HOME/told; cat $HOME/told; \
            ls $s/cofferdam/*/stories/S; rm $s/ballast; cofferdam workspace collect S; git show refs/cofferdam/stories/S/1:one; git ls-tree refs/cofferdam/stories/S/1 | grep -c f5 || true; echo DONE";
        let output = on_a_small_disk(world, "state", "16M", script);
        said(&output, &["No space left", "could not be taken", "one\n0\nDONE"]);
        assert!(!String::from_utf8_lossy(&output.stdout).contains("\ntaking"), "{}", String::from_utf8_lossy(&output.stdout));
    });
}

#[test]
fn a_state_folder_that_goes_away_in_the_middle_is_said_and_nothing_else_is_lost() {
    let users: &[Option<u32>] = if is_root() { &[None, Some(ORDINARY)] } else { &[None] };
    for (user, form) in users.iter().flat_map(|user| [Form::Disk, Form::Memory, Form::Checkout].map(|form| (*user, form))) {
        let world = World::with(user, form);
        world.ok(&["workspace", "new", "S"]);
        world.ok(&["workspace", "exec", "S", "--", "sh", "-c", "echo one > one"]);
        world.ok(&["workspace", "collect", "S"]);
        let mut child = world.command(&["workspace", "exec", "S", "--", "sh", "-c", "echo ready; sleep 1; echo two > two; true"]);
        let mut child = child.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut ready).unwrap();
        world.take_away("state");
        let output = child.wait_with_output().unwrap();
        assert!(output.status.code().is_some() && !String::from_utf8_lossy(&output.stderr).contains("panicked"), "{output:?}");
        for args in
            [&["workspace", "collect", "S"][..], &["workspace", "exec", "S", "--", "true"], &["diff", "S"], &["workspace", "remove", "S"]]
        {
            let output = world.run(args);
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && told.contains("there is no workspace") && told.contains("next:"), "{args:?}: {told}");
        }
        world.ok(&["clean"]);
        assert_eq!(world.git(&["show", "refs/cofferdam/stories/S/1:one"]), "one");
        assert_eq!(world.git(&["fsck", "--strict"]), "");
        world.ok(&["workspace", "new", "S"]);
    }
}
