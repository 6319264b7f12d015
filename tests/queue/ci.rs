//! External CI as a gate: nothing lands before it said green of that very commit.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::support::{Project, Ran, World, gate};

/// Runs with a program of this host as CI.
fn run_with(project: &Project, script: &str) -> Ran {
    let path = project.world.path("ci.sh");
    fs_err::write(&path, format!("#!/bin/bash\n{script}\n")).expect("a script");
    project.world.sh("chmod +x ../ci.sh");
    let command = format!("ci.command=[\"{}\"]", path.display());
    project.world.run(&[
        "run",
        "--plain",
        "--set",
        "ci.provider=command",
        "--set",
        &command,
        "--set",
        "ci.poll=50ms",
        "--set",
        "ci.timeout=20s",
    ])
}

#[test]
fn a_program_of_the_host_decides_and_what_it_calls_red_is_mended() {
    let b = "if test -e ../out/nothing; then :; fi; echo b > b; test -e tried && echo mended > mended; echo x > tried";
    let project = Project::new(World::new(None), &gate("test", "true", ""), &[("A", "echo a > a"), ("B", b)]);
    let log = project.world.path("asked");
    // It says pending first, and calls B red until it is mended.
    let script = format!(
        "echo $COFFERDAM_CI_COMMIT >> {0}; cd {1}; test \"$COFFERDAM_CI_TARGET\" = main || exit 1
         test $(grep -c $COFFERDAM_CI_COMMIT {0}) = 1 && {{ echo '{{\"state\":\"pending\"}}'; exit; }}
         if git cat-file -e $COFFERDAM_CI_COMMIT:b && ! git cat-file -e $COFFERDAM_CI_COMMIT:mended; then echo '{{\"state\":\"red\",\"detail\":\"b is not good\"}}'; exit; fi
         echo '{{\"state\":\"green\"}}'",
        log.display(),
        project.world.repo().display()
    );
    let ran = run_with(&project, &script);
    assert_eq!(ran.code(), 0, "{}\n{}", ran.out(), ran.err());
    let refused = project.events("candidate.refused");
    assert_eq!(refused.len(), 1, "{refused:#?}");
    assert!(refused[0]["data"]["findings"][0]["text"].as_str().expect("text").contains("gate ci is red: b is not good"), "{refused:#?}");
    let asked = fs_err::read_to_string(&log).expect("asked");
    let landed = project.events("story.landed");
    assert_eq!(landed.len(), 2);
    for event in landed {
        let commit = event["data"]["commit"].as_str().expect("a commit").to_owned();
        assert!(asked.matches(&commit).count() >= 2, "{commit} landed, and CI was not asked to its end");
        let said = project.events("gate.finished").into_iter().find(|run| run["data"]["gate"] == "ci" && run["data"]["commit"] == *commit);
        let said = said.expect("its verdict is in the log");
        assert_eq!(said["data"]["result"], "pass");
        let shown = project.world.run(&["evidence", "show", said["data"]["evidence"][0].as_str().expect("evidence")]);
        assert!(shown.out().contains("waiting for") && shown.out().contains("green"), "{shown:?}");
    }
    assert_eq!(project.world.sh("git show main:mended"), "mended");
}

#[test]
fn what_ci_does_not_say_in_so_many_words_lands_nothing() {
    for script in ["echo green", "exit 1", "echo '{\"state\":\"green\"}'; exit 2", "echo '{\"state\":\"skipped\"}'"] {
        let project = Project::new(World::new(None), &gate("test", "true", ""), &[("A", "echo a > a")]);
        let first = project.world.sh("git rev-parse main");
        let ran = run_with(&project, script);
        assert_eq!(ran.code(), 3, "{script}: {}", ran.err());
        assert_eq!(project.world.sh("git rev-parse main"), first);
        let why = project.world.run(&["why", "A"]);
        assert!((why.out() + &why.err()).contains("ci: "), "{why:?}");
        // With a CI that answers, it goes on from there.
        assert_eq!(project.world.run(&["retry", "A"]).code(), 0);
        assert_eq!(run_with(&project, "echo '{\"state\":\"green\"}'").code(), 0);
        assert_eq!(project.world.sh("git show main:a"), "a");
    }
}

#[test]
fn a_repository_cannot_have_a_program_run_on_the_host() {
    let config = gate("test", "true", "") + "[ci]\nprovider = \"command\"\ncommand = [\"./own.sh\"]\n";
    let project = Project::new(World::new(None), &config, &[("A", "echo a > a")]);
    project.world.sh("printf '#!/bin/sh\\ntouch ../ran\\n' > own.sh; chmod +x own.sh; git add own.sh; git commit -q -m own");
    let ran = project.world.run(&["run", "--plain"]);
    assert_eq!(ran.code(), 2, "{}", ran.err());
    assert!(ran.err().contains("outside of every sandbox") && !project.world.path("ran").exists(), "{}", ran.err());
}

/// A stand-in for GitHub's API. It knows a commit once it was pushed to the remote, and has its bad moments.
struct GitHub {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl GitHub {
    fn start(project: &Project) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (remote, seen) = (project.world.path("remote.git"), asked.clone());
        std::thread::spawn(move || {
            for (turn, stream) in listener.incoming().enumerate() {
                let Ok(mut stream) = stream else { return };
                let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
                while !bytes.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut chunk) {
                        Ok(count) if count > 0 => bytes.extend_from_slice(&chunk[..count]),
                        _ => break,
                    }
                }
                let request = String::from_utf8_lossy(&bytes).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                seen.lock().expect("asked").push(request);
                let git = |args: &[&str]| {
                    let output = Command::new("git").arg("--git-dir").arg(&remote).args(args).output().expect("git");
                    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
                };
                let commit = path.split("/commits/").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default().to_owned();
                let pushed = git(&["for-each-ref", "--contains", &commit, "refs/heads"]).1;
                let (status, body) = match turn % 5 {
                    1 => ("500 Internal Server Error", "<html>".to_owned()),
                    3 => ("429 Too Many Requests", "{}".to_owned()),
                    _ if pushed.trim().is_empty() => ("422 Unprocessable Entity", "{}".to_owned()),
                    _ if path.contains("/check-runs") => {
                        let bad =
                            git(&["cat-file", "-e", &format!("{commit}:b")]).0 && !git(&["cat-file", "-e", &format!("{commit}:mended")]).0;
                        let conclusion = if bad { "failure" } else { "success" };
                        let run = json!({"name": "unit (linux)", "head_sha": commit, "status": "completed", "conclusion": conclusion});
                        ("200 OK", json!({"total_count": 1, "check_runs": [run]}).to_string())
                    }
                    _ => ("200 OK", json!({"sha": commit, "statuses": []}).to_string()),
                };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                drop(stream.write_all(answer.as_bytes()));
            }
        });
        Self { port, asked }
    }
}

#[test]
fn candidates_are_pushed_for_github_to_see_and_land_when_its_checks_are_green() {
    let config = gate("test", "true", "")
        + "[merge]\npush = \"origin\"\n[ci]\nprovider = \"github\"\nrepository = \"o/r\"\npush = \"origin\"\nrequired = [\"unit (linux)\"]\npoll = \"50ms\"\ntoken = \"env:CI_TOKEN\"\n";
    let b = "echo b > b; test -e tried && echo mended > mended; echo x > tried";
    let project = Project::new(World::new(None), &config, &[("A", "echo a > a"), ("B", b)]);
    project.world.sh("git clone -q --bare . ../remote.git; git remote add origin ../remote.git; git fetch -q origin");
    let github = GitHub::start(&project);
    let api = format!("ci.api=http://127.0.0.1:{}", github.port);
    let run = || {
        let mut command = project.world.command(&["run", "--plain", "--set", &api]);
        Ran(command.env("CI_TOKEN", "t0ken-of-ci").output().expect("it runs"))
    };
    let ran = run();
    assert_eq!(ran.code(), 0, "{}\n{}", ran.out(), ran.err());
    let landed = project.events("story.landed");
    assert_eq!((landed.len(), project.events("candidate.refused").len()), (2, 1));
    let asked = github.asked.lock().expect("asked").clone();
    for event in &landed {
        let commit = event["data"]["commit"].as_str().expect("a commit");
        assert!(
            asked.iter().any(|request| request.contains(&format!("/repos/o/r/commits/{commit}/check-runs"))),
            "{commit} was not asked about"
        );
    }
    assert!(asked.iter().all(|request| request.contains("Authorization: Bearer t0ken-of-ci")));
    // What was pushed for the CI is gone, and what landed is there.
    assert_eq!(project.world.sh("git -C ../remote.git for-each-ref --format='%(refname)'"), "refs/heads/main");
    assert_eq!(project.world.sh("git -C ../remote.git rev-parse main"), project.world.sh("git rev-parse main"));
    // The token is nowhere: neither in the log nor in the evidence.
    let found = project.world.sh("grep -rl t0ken-of-ci ../home . || true");
    assert_eq!(found, "");
}

#[test]
fn without_a_token_that_may_look_nothing_lands() {
    let config = gate("test", "true", "")
        + "[ci]\nprovider = \"github\"\nrepository = \"o/r\"\npush = \"origin\"\nrequired = [\"unit (linux)\"]\ntoken = \"env:NO_SUCH_TOKEN\"\n";
    let project = Project::new(World::new(None), &config, &[("A", "echo a > a")]);
    project.world.sh("git clone -q --bare . ../remote.git; git remote add origin ../remote.git; git fetch -q origin");
    let first = project.world.sh("git rev-parse main");
    let ran = project.world.run(&["run", "--plain"]);
    assert_eq!(ran.code(), 3, "{}", ran.err());
    let why = project.world.run(&["why", "A"]);
    assert!((why.out() + &why.err()).contains("NO_SUCH_TOKEN"), "{why:?}");
    assert_eq!(
        project.world.sh("git rev-parse main; git -C ../remote.git for-each-ref --format='%(refname)'"),
        format!("{first}\nrefs/heads/main")
    );
}

#[test]
fn a_target_that_is_red_after_a_landing_takes_nothing_more() {
    let project = Project::new(World::new(None), &gate("test", "true", ""), &[("A", "echo a > a"), ("B", "echo b > b")]);
    // Green on every candidate, and red on what has landed as long as somebody says so.
    let script = format!(
        "case $COFFERDAM_CI_REF in
         refs/heads/main) test -e {0} && echo '{{\"state\":\"red\",\"detail\":\"the smoke test failed\"}}' || echo '{{\"state\":\"green\"}}';;
         *) echo '{{\"state\":\"green\"}}';; esac",
        project.world.path("smoke").display()
    );
    project.world.sh("touch ../smoke");
    let path = project.world.path("ci.sh");
    fs_err::write(&path, format!("#!/bin/bash\n{script}\n")).expect("a script");
    project.world.sh("chmod +x ../ci.sh");
    let command = format!("ci.command=[\"{}\"]", path.display());
    let sets = ["ci.provider=command", command.as_str(), "ci.poll=50ms", "ci.after=[\"smoke\"]", "run.parallel=1"];
    let args: Vec<&str> = ["run", "--plain"].into_iter().chain(sets.iter().flat_map(|set| ["--set", set])).collect();
    for _ in 0..2 {
        // The second run finds it as red as the first one left it.
        let ran = project.world.run(&args);
        assert_eq!(ran.code(), 5, "{}\n{}", ran.out(), ran.err());
        assert!(ran.err().contains("the smoke test failed"), "{}", ran.err());
        assert_eq!(project.events("story.landed").len(), 1);
        assert_eq!(project.json(&["status", "--json"])["target"]["green"], false);
    }
    project.world.sh("rm ../smoke");
    let ran = project.world.run(&args);
    assert_eq!(ran.code(), 0, "{}", ran.err());
    assert_eq!(project.events("story.landed").len(), 2);
}
