//! `cofferdam gate`: green needs a clean tree and everything to say so.

use serde_json::Value;

use super::support::{Project, World, alive, everybody, gate};

fn result<'a>(document: &'a Value, name: &str) -> &'a Value {
    document["gates"].as_array().expect("gates").iter().find(|g| g["gate"] == name).expect("the gate")
}

#[test]
fn green_is_0_red_is_5_and_the_log_is_evidence() {
    for world in everybody() {
        let config =
            gate("good", "grep -q one file && test \"$(pwd)\" = /workspace/repo", "") + &gate("bad", "echo it is broken; exit 3", "");
        world.commit(&config);
        let (code, document) = world.gate(&[]);
        assert_eq!((code, &document["green"]), (5, &Value::Bool(false)), "{document:#}");
        assert_eq!(result(&document, "good")["result"], "pass", "{document:#}");
        let bad = result(&document, "bad");
        assert_eq!((&bad["result"], &bad["log_tail"]), (&"red".into(), &"it is broken".into()), "{document:#}");
        assert_eq!(bad["why"][0], "the command failed with exit code 3");
        let logs = bad["evidence"].as_array().expect("logs");
        assert_eq!(logs.len(), 2, "the run and its one retry are both kept");
        let shown = world.run(&["evidence", "show", logs[0].as_str().expect("an id")]);
        assert!(shown.out().contains("it is broken"), "{shown:?}");
        let ran = world.run(&["gate"]);
        assert_eq!(ran.code(), 5, "{ran:?}");
        assert!(ran.out().contains("RED     bad") && ran.err().contains("it is broken") && ran.err().contains("next:"), "{ran:?}");
        assert_eq!(world.run(&["gate", "good"]).code(), 0);
        let wrong = world.run(&["gate", "god"]);
        assert_eq!(wrong.code(), 2);
        assert!(wrong.err().contains("did you mean good?"), "{wrong:?}");
        // Nothing of the runs is left.
        assert!(!world.state().iter().any(|path| path.to_string_lossy().contains("/gate-runs/")), "{:?}", world.state());
        assert_eq!(world.sh("git status --porcelain"), "");
    }
}

#[test]
fn what_is_not_in_the_commit_takes_no_part() {
    let world = World::new(None);
    // Each passes only with something that the commit does not hold; beside it, the same command where the file is part of the tree.
    let leftovers =
        [("ignored", "test -e made.tmp"), ("untracked", "test -e new"), ("edited", "grep -q two file"), ("home", "test -e ~/left")];
    let config: String = leftovers.iter().map(|(name, run)| gate(name, run, "")).collect();
    world.commit(&config);
    world.sh("touch made.tmp new; echo two > file; touch ../home/left");
    // The definition is edited as well, and not committed.
    world.sh("printf '[[gate]]\\nname = \"ignored\"\\nrun = \"true\"\\n' > cofferdam.toml");
    for (name, run) in leftovers {
        if name != "home" {
            assert!(
                std::process::Command::new("sh").args(["-c", run]).current_dir(world.repo()).status().expect("sh").success(),
                "control: {name}"
            );
        }
        let (code, document) = world.gate(&[name]);
        assert_eq!((code, &result(&document, name)["result"]), (5, &"red".into()), "{document:#}");
    }
    // Definitions are the target's, whatever branch is checked out.
    world.sh(
        "git checkout -q -f main; git clean -fdxq; git checkout -q -b other; touch made.tmp; git add -f made.tmp; git commit -q -m cheat",
    );
    world.commit(&gate("ignored", "true", ""));
    let (_, document) = world.gate(&["untracked"]);
    assert_eq!(result(&document, "untracked")["result"], "red");
    assert_eq!(world.run(&["gate", "ignored"]).code(), 0, "the file is in this commit");
}

/// The agent's own tree is green because of a file that git ignores, and whoever checks there lets it through; what would land is not.
#[test]
fn an_ignored_file_makes_the_agents_tree_green_and_not_what_would_land() {
    // Whoever is done has built something; the one with a file that is ignored, the other with one that is part of the work.
    let check = "for story in A B; do ! test -e $story || test -e $story.tmp || test -e $story.made || exit 1; done";
    let (cheat, honest) = ("echo work > A; echo built > A.tmp", "echo work > B; echo built > B.made");
    let project = Project::new(World::new(None), &gate("test", check, ""), &[("A", cheat), ("B", honest)]);
    // The control: the same agent in a plain worktree, and the same check in what it left. What git would commit of it is red.
    let outside = format!(
        "git worktree add -q --detach ../dirty; cd ../dirty; ./agent.sh A; sh -c '{check}' && echo green; git status --porcelain --ignored; git clean -q -f -d -X; sh -c '{check}' || echo red"
    );
    assert_eq!(project.world.sh(&outside), "green\n?? A\n!! A.tmp\nred");
    project.world.sh("git worktree remove --force ../dirty");

    project.run(3);
    let states = project.states();
    assert!(states["A"] != "merged" && states["B"] == "merged", "{states:?}");
    let results = project.events("gate.finished");
    let of = |story: &str| {
        results.iter().filter(|event| event["story"] == story).map(|event| event["data"]["result"].clone()).collect::<Vec<_>>()
    };
    // However often it is asked, in a workspace where the file still lies.
    assert!(!of("A").is_empty() && of("A").iter().all(|result| result == "red"), "{results:#?}");
    assert!(of("B").iter().any(|result| result == "pass"), "{results:#?}");
    assert_eq!(project.world.sh("git ls-tree --name-only main -- A A.tmp B B.made"), "B\nB.made");
}

#[test]
fn a_gate_cannot_leave_anything_for_the_next() {
    let world = World::new(None);
    let mark = format!("4242{}", std::process::id());
    let leave = format!(
        "(setsid sleep {mark} >/dev/null 2>&1 &) ; touch left.tmp file2 ~/left /tmp/left; echo changed > file; echo two >> .git/HEAD; exit 0"
    );
    let look = "! test -e left.tmp && ! test -e file2 && ! test -e ~/left && ! test -e /tmp/left && grep -q one file && git status --porcelain | (! grep -q .)";
    world.commit(&(gate("leave", &leave, "") + &gate("look", look, "")));
    for _ in 0..2 {
        let (code, document) = world.gate(&["--fresh", "--jobs", "1"]);
        assert_eq!(code, 0, "{document:#}");
        assert!(!alive(&format!("sleep {mark}")), "a process of a gate outlived it");
    }
}

#[test]
fn hangs_floods_forks_and_questions_end_red() {
    let world = World::new(None);
    let limits = "[limits.gate]\nwall = \"20s\"\npids = 64\noutput = \"1MiB\"\nmemory = \"512MiB\"\n";
    let config = gate("hang", "trap '' TERM; sleep 100 & wait; sleep 100", "timeout = \"1s\"")
        + &gate("flood", "while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done", "")
        + &gate("fork", "f() { f | f & }; f; sleep 15", "timeout = \"10s\"")
        + &gate("ask", "read -r answer < /dev/tty", "")
        + &gate("read", "read -r answer", "")
        + limits;
    world.commit(&config);
    let (code, document) = world.gate(&[]);
    assert_eq!(code, 5, "{document:#}");
    for (name, why) in [("hang", "timeout of 1.0 s"), ("flood", "output"), ("ask", "exit code"), ("read", "exit code"), ("fork", "")] {
        let line = result(&document, name);
        assert_eq!(line["result"], "red", "{document:#}");
        assert!(line["why"][0].as_str().expect("why").contains(why), "{name}: {line:#}");
    }
}

#[test]
fn a_report_is_counted_and_skipped_is_not_passed() {
    let world = World::new(None);
    let junit = |body: &str| format!("mkdir -p target; printf '<testsuites><testsuite>{body}</testsuite></testsuites>' > target/junit.xml");
    let case = "<testcase name=\"a\"/>";
    let skipped = "<testcase name=\"b\"><skipped/></testcase>";
    let failed = "<testcase name=\"c\"><failure/></testcase>";
    let report = "report = \"junit:target/junit.xml\"";
    let config = gate("good", &junit(&format!("{case}{skipped}")), report)
        + &gate("skipped", &junit(skipped), report)
        + &gate("nothing", &junit(""), report)
        + &gate("failed", &junit(&format!("{case}{failed}")), report)
        + &gate("missing", "true", report)
        + &gate("link", "mkdir -p target; ln -s /etc/passwd target/junit.xml", report)
        + &gate("committed", "true", "report = \"junit:old.xml\"")
        + &gate("words", "echo 'all 12 tests passed'", "report = \"cargo\"")
        + &gate("output", "echo 'test result: ok. 3 passed; 0 failed; 1 ignored'", "report = \"cargo\"");
    fs_err::write(world.repo().join("old.xml"), format!("<testsuite>{case}</testsuite>")).expect("a report");
    world.commit(&config);
    let (code, document) = world.gate(&[]);
    assert_eq!(code, 5);
    let line = result(&document, "good");
    assert_eq!((&line["result"], &line["executed"], &line["skipped"]), (&"pass".into(), &1.into(), &1.into()), "{line:#}");
    let line = result(&document, "output");
    assert_eq!((&line["result"], &line["executed"], &line["skipped"]), (&"pass".into(), &3.into(), &1.into()), "{line:#}");
    for name in ["skipped", "nothing", "failed", "missing", "link", "committed", "words"] {
        assert_eq!(result(&document, name)["result"], "red", "{name}: {document:#}");
    }
}

#[test]
fn a_flake_is_told_from_a_red_by_one_retry_on_the_same_tree() {
    let world = World::new(None);
    // What changes between two runs of one tree.
    let flaky = "test $(( $(date +%s) / 2 % 2 )) = 0 || { sleep 2.1; exit 1; }";
    world.commit(&gate("flaky", flaky, ""));
    let mut seen = (false, false);
    for _ in 0..12 {
        let (code, document) = world.gate(&["--fresh"]);
        let line = result(&document, "flaky");
        if line["flaky"] == true {
            assert_eq!((code, &line["result"], line["evidence"].as_array().map(Vec::len)), (0, &"pass".into(), Some(2)), "{line:#}");
            seen.0 = true;
        } else {
            seen.1 |= code == 0;
        }
        if seen.0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(700));
    }
    panic!("no run was red first and green then: {seen:?}");
}

#[test]
fn the_same_proof_is_never_paid_for_twice_and_another_definition_is_another_proof() {
    let world = World::new(None);
    world.commit(&gate("test", "date +%s%N", ""));
    let first = world.gate(&[]).1;
    let again = world.gate(&[]).1;
    assert_eq!(result(&first, "test")["cached"], false);
    let line = result(&again, "test");
    assert_eq!((&line["cached"], &line["log_tail"]), (&true.into(), &result(&first, "test")["log_tail"]));
    assert_eq!(result(&world.gate(&["--fresh"]).1, "test")["cached"], false);
    // A commit with the same tree is the same proof; another tree, timeout, command or limit is not.
    world.sh("git commit -q --allow-empty -m empty");
    assert_eq!(result(&world.gate(&[]).1, "test")["cached"], true);
    world.sh("echo more >> file; git commit -q -a -m more");
    assert_eq!(result(&world.gate(&[]).1, "test")["cached"], false);
    let head = world.sh("git rev-parse HEAD~1");
    for set in ["limits.gate.memory=1GiB", "limits.gate.wall=77s"] {
        assert_eq!(result(&world.gate(&["--set", set, "--commit", &head]).1, "test")["cached"], false, "{set}");
    }
}

#[test]
fn no_log_of_a_gate_keeps_a_secret_that_is_said_back() {
    let world = World::new(None);
    world.commit(&gate("say", "printf 'it is hunter2%s\\n' -and-longer", ""));
    let said = |token: &str| {
        let output = world.command(&["gate", "--json", "--fresh"]).env("DEPLOY_TOKEN", token).output().expect("it runs");
        let document = serde_json::from_slice(&output.stdout).expect("JSON");
        result(&document, "say")["log_tail"].as_str().expect("a log").to_owned()
    };
    assert_eq!(said("another-of-them"), "it is hunter2-and-longer", "control: it is said, and nobody calls it a secret");
    fs_err::remove_dir_all(world.path("home/.local/state/cofferdam")).expect("removed");
    assert_eq!(said("hunter2-and-longer"), "it is [redacted: DEPLOY_TOKEN]");
    let kept = world.state().into_iter().filter(|path| path.is_file());
    let holds =
        |path: &std::path::PathBuf| fs_err::read(path).is_ok_and(|bytes| bytes.windows(18).any(|part| part == b"hunter2-and-longer"));
    assert_eq!(kept.filter(holds).collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn an_interrupted_gate_is_neither_red_nor_remembered() {
    let world = World::new(None);
    let mark = format!("3131{}", std::process::id());
    world.commit(&gate("slow", &format!("echo begun; sleep {mark}"), ""));
    let child =
        world.command(&["gate"]).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().expect("spawned");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !alive(&format!("sleep {mark}")) {
        assert!(std::time::Instant::now() < deadline, "the gate never began");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("signalled");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(!alive(&format!("sleep {mark}")));
    assert!(!world.state().iter().any(|path| path.to_string_lossy().contains("/gates/")), "{:?}", world.state());
}

#[test]
fn only_a_landed_tree_warms_a_cache_and_nothing_poisons_it() {
    for world in everybody() {
        let run = "ls cache; mkdir -p cache/deep; touch cache/warm cache/deep/$(cat who)";
        world.sh("echo main > who");
        world.commit(
            &gate("test", run, "cache = [\"cache\"]\nreport = \"junit:cache/report.xml\"")
                .replace("touch", "printf '<testsuite><testcase/></testsuite>' > cache/report.xml; touch"),
        );
        let tail = |args: &[&str]| {
            let (code, document) = world.gate(&[&["--fresh"], args].concat());
            assert_eq!(code, 0, "{document:#}");
            result(&document, "test")["log_tail"].as_str().expect("a log").to_owned()
        };
        assert_eq!(tail(&[]).lines().find(|line| line.contains("warm")), None, "it begins cold");
        assert!(tail(&[]).contains("warm"), "the target's own run warmed it");
        // Another branch reads what is warm, and what it writes is its own.
        world.sh("git checkout -q -b other; echo other > who; git commit -q -a -m other");
        assert!(tail(&["--commit", "other"]).contains("warm"));
        world.sh("git checkout -q main; printf 'ls cache/deep\n' > look; git add look");
        let look = gate("test", "ls cache/deep; ! test -e cache/deep/other", "cache = [\"cache\"]");
        world.commit(&look);
        assert_eq!(tail(&[]), "main", "an untrusted run left something");
        // What lies in the state folder is not what a gate sees as a cache of another gate.
        world.commit(&gate("second", "test -z \"$(ls cache)\"", "cache = [\"cache\"]"));
        assert_eq!(world.run(&["gate"]).code(), 0);
    }
}

/// Make takes a source that is older than what was built for one that is built already. The tree of `other` is laid down before the cache is
/// built from `main`, so its source is the older one, and what make would test is the code of `main`.
#[test]
fn a_warm_cache_never_hides_a_file_that_differs_from_what_was_built() {
    if std::process::Command::new("make").arg("--version").output().is_err() {
        drop(std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED a warm cache and make: make is not installed\n"));
        return;
    }
    for world in everybody() {
        let rule = "cache/out: src deep/part\n\tmkdir -p cache; cat src deep/part > cache/out; echo built\n";
        world.sh(&format!("printf '{rule}' > Makefile; mkdir deep; echo good > src; echo good > deep/part; ln -s src link"));
        let main = world.commit(&gate("test", "make; cat cache/out; ! grep bad cache/out", "cache = [\"cache\"]"));
        world.sh("git checkout -q -b other; echo bad > deep/part; rm link; ln -s deep link; echo new > new; git add -A; git commit -q -m other; git checkout -q main");
        let ask = |commit: &str| {
            let (code, document) = world.gate(&["--fresh", "--commit", commit]);
            (code, result(&document, "test")["log_tail"].as_str().expect("a log").to_owned())
        };
        assert_eq!(ask("other").0, 5, "cold");
        std::thread::sleep(std::time::Duration::from_millis(2100));
        assert_eq!(ask(&main).0, 0);
        std::thread::sleep(std::time::Duration::from_millis(2100));
        // What a run built is dated back to its beginning, which was when its tree was laid down: it is built once more.
        assert_eq!(ask(&main).0, 0);
        // Then the same tree is warm, and nothing is built again.
        let (code, said) = ask(&main);
        assert!(code == 0 && !said.contains("built"), "{said}");
        let (code, said) = ask("other");
        assert!(code == 5 && said.contains("built"), "what was tested is not what would land: {said}");
        // The control: without it, the same make says that all is well.
        let control = world.sh("mkdir ../control; cp -r Makefile src deep ../control; cd ../control; make; echo bad > deep/part; touch -d '1 minute ago' deep/part; make; cat cache/out");
        assert!(control.contains("up to date") && !control.contains("bad"), "{control}");
        // What a cache was built from is not known any more: it is not used.
        let records: Vec<_> = world.state().into_iter().filter(|path| path.ends_with("current.json")).collect();
        assert!(!records.is_empty());
        for record in records {
            let text = fs_err::read_to_string(&record).expect("a record");
            fs_err::write(&record, text.replace(&main, "0000000000000000000000000000000000000001")).expect("written");
        }
        let (code, said) = ask(&main);
        assert!(code == 0 && said.contains("built"), "{said}");
    }
}

#[test]
fn a_report_of_an_earlier_run_in_the_cache_is_none_of_this_run() {
    let world = World::new(None);
    let write = "test -e cache/r.xml || printf '<testsuite><testcase/></testsuite>' > cache/r.xml; true";
    world.commit(&gate("test", write, "cache = [\"cache\"]\nreport = \"junit:cache/r.xml\""));
    assert_eq!(world.gate(&["--fresh"]).0, 0);
    let (code, document) = world.gate(&["--fresh"]);
    assert_eq!(code, 5, "{document:#}");
}

#[test]
fn a_gate_is_never_run_in_a_lower_tier() {
    let world = World::new(None);
    // Another process of the host is not seen, whatever the repository allows.
    world.commit(&(gate("test", &format!("! test -e /proc/{}/cwd", std::process::id()), "") + "[sandbox]\nrequire = \"no-userns\"\n"));
    let (code, document) = world.gate(&[]);
    assert_eq!(code, 0, "{document:#}");
}

/// A server on this host's loopback that answers everything with one word.
fn server() -> (u16, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    use std::io::{Read, Write};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let (port, asked) = (listener.local_addr().expect("an address").port(), Arc::new(AtomicUsize::new(0)));
    let seen = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            seen.fetch_add(1, Ordering::SeqCst);
            let mut request = [0; 4096];
            drop(stream.read(&mut request));
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"));
        }
    });
    (port, asked)
}

#[test]
fn a_gate_reaches_the_hosts_it_names_and_no_others() {
    use std::sync::atomic::Ordering;
    for world in everybody() {
        let ((port, asked), (other, never)) = (server(), server());
        let ask = |port: u16| format!("test \"$(curl -sS --max-time 20 --noproxy '' http://127.0.0.1:{port}/)\" = hello");
        let network = format!("network = [\"127.0.0.1/32:{port}\"]");
        let config = gate("named", &ask(port), &network) + &gate("beside", &ask(other), &network) + &gate("none", &ask(port), "");
        world.commit(&config);
        let (code, document) = world.gate(&[]);
        assert_eq!(code, 5, "{document:#}");
        assert_eq!(result(&document, "named")["result"], "pass", "{document:#}");
        assert_eq!(result(&document, "none")["result"], "red", "control: without the key the same command reaches nothing: {document:#}");
        let beside = result(&document, "beside");
        assert_eq!(beside["result"], "red", "{document:#}");
        let tail = beside["log_tail"].as_str().expect("a log");
        assert!(tail.contains(&format!("cofferdam: denied: 127.0.0.1:{other}")) && tail.contains("`network` of the gate"), "{tail}");
        assert_eq!((asked.load(Ordering::SeqCst), never.load(Ordering::SeqCst)), (1, 0));
        // What it may reach is part of what its result is remembered by.
        assert_eq!(world.gate(&["named"]).1["gates"][0]["cached"], true);
        world.commit(&gate("named", &ask(port), &format!("network = [\"127.0.0.1/32:{port}\", \"127.0.0.1/32:{other}\"]")));
        assert_eq!(world.gate(&["named"]).1["gates"][0]["cached"], false);
        // What every gate may reach is said once, and both are shown before anything runs.
        world.commit(&(gate("named", &ask(port), "") + &format!("[network]\ngate = [\"127.0.0.1/32:{port}\"]\n")));
        let ran = world.run(&["gate"]);
        assert_eq!(ran.code(), 0, "{ran:?}");
    }
}

#[test]
fn what_a_gate_may_reach_is_shown_and_what_is_no_rule_is_refused() {
    let config = gate("test", "true", "network = [\"example.org:443\"]") + "[network]\ngate = [\"example.com\"]\n";
    let Project { world } = Project::new(World::new(None), &config, &[("A", "echo a > a")]);
    let plan = world.run(&["plan"]);
    assert!(plan.out().contains("network: example.com; test also reaches example.org:443"), "{plan:?}");
    let ran = world.run(&["gate"]);
    assert!(ran.out().contains("network: example.org:443"), "{ran:?}");
    world.commit(&gate("test", "true", "network = [\"https://example.org\"]"));
    let ran = world.run(&["gate"]);
    assert_eq!(ran.code(), 2, "{ran:?}");
    assert!(ran.err().contains("gate[0].network") || ran.err().contains("network"), "{ran:?}");
    // A cache is a folder, and no pattern.
    world.commit(&gate("test", "true", "cache = [\"**/node_modules\"]"));
    let ran = world.run(&["gate"]);
    assert_eq!(ran.code(), 2, "{ran:?}");
    assert!(ran.err().contains("is a pattern") && ran.err().contains("name each folder"), "{ran:?}");
}
