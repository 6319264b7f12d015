//! Against a server on this host that speaks the same API, with its faults; and against real programs.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::*;

const SHA: &str = "0123456789012345678901234567890123456789";

/// A page of the API, or bytes as they are.
type Page = Box<dyn Fn(&str, usize) -> String + Send>;

/// Serves one connection after the other; what was asked is kept.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(page: Page) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let asked = Arc::new(Mutex::new(Vec::<String>::new()));
        let seen = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut bytes = Vec::new();
                let mut chunk = [0; 4096];
                while !bytes.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut chunk) {
                        Ok(count) if count > 0 => bytes.extend_from_slice(&chunk[..count]),
                        _ => break,
                    }
                }
                let request = String::from_utf8_lossy(&bytes).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                let before = {
                    let mut seen = seen.lock().expect("asked");
                    let before = seen.iter().filter(|earlier| earlier.split(' ').nth(1) == Some(&path)).count();
                    seen.push(request);
                    before
                };
                drop(stream.write_all(page(&path, before).as_bytes()));
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("asked").clone()
    }

    fn ci(&self) -> Ci {
        Ci {
            provider: Some(CiProvider::GitHub),
            required: vec!["build".to_owned()],
            after: Vec::new(),
            push: None,
            repository: "o/r".to_owned(),
            api: format!("http://127.0.0.1:{}", self.port),
            token: Some(Secret::Command("echo s3cret".to_owned())),
            command: Vec::new(),
            poll: Duration::from_millis(10),
            timeout: Duration::from_secs(20),
        }
    }
}

fn ok(body: &serde_json::Value) -> String {
    answer("200 OK", "", &body.to_string())
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn runs(of: &[(&str, &str, Option<&str>)]) -> String {
    runs_of(SHA, of)
}

fn runs_of(sha: &str, of: &[(&str, &str, Option<&str>)]) -> String {
    let run = |(name, status, conclusion): &(&str, &str, Option<&str>)| json!({"name": name, "head_sha": sha, "status": status, "conclusion": conclusion});
    ok(&json!({"total_count": of.len(), "check_runs": of.iter().map(run).collect::<Vec<_>>()}))
}

fn no_statuses() -> String {
    ok(&json!({"sha": SHA, "state": "pending", "statuses": []}))
}

/// A server whose check runs are these, one answer after the other, the last one for ever.
fn checks(answers: Vec<String>) -> Server {
    Server::start(Box::new(
        move |path, before| {
            if path.contains("/check-runs") { answers[before.min(answers.len() - 1)].clone() } else { no_statuses() }
        },
    ))
}

fn subject(required: &[String]) -> Subject<'_> {
    Subject { commit: SHA, tree: "t", base: "b", target: "main", reference: None, required }
}

/// The verdict, what was said on the way, and how long was waited between.
fn asked(ci: &Ci) -> (Verdict, Vec<String>, Vec<Duration>) {
    let (slept, mut said) = (RefCell::new(Vec::new()), Vec::new());
    let sleep = |time: Duration| {
        slept.borrow_mut().push(time);
        std::thread::sleep(time.min(Duration::from_millis(20)));
        true
    };
    let verdict = ask(ci, Path::new("/"), &subject(&ci.required), &sleep, &mut |line| said.push(line.to_owned()));
    (verdict, said, slept.into_inner())
}

#[test]
fn it_waits_until_the_check_is_over_and_asks_only_for_what_is_new() {
    let page = |n: usize| match n {
        0 => runs(&[]),
        1 => runs(&[("build", "queued", None)]),
        2 => answer("200 OK", "ETag: \"one\"\r\n", runs(&[("build", "in_progress", None)]).split("\r\n\r\n").nth(1).expect("a body")),
        3 => answer("304 Not Modified", "", ""),
        _ => runs(&[("build", "completed", Some("success"))]),
    };
    let server = Server::start(Box::new(move |path, before| if path.contains("/check-runs") { page(before) } else { no_statuses() }));
    let (verdict, said, _) = asked(&server.ci());
    assert_eq!(verdict, Verdict::Green, "{said:?}");
    assert_eq!(said, ["waiting for build, which has not begun", "waiting for build", "green"]);
    let of_runs: Vec<String> = server.asked().into_iter().filter(|request| request.contains("/check-runs")).collect();
    assert_eq!(of_runs.len(), 5);
    assert!(of_runs[3].contains("If-None-Match: \"one\"") && !of_runs[1].contains("If-None-Match"), "{}", of_runs[3]);
    assert!(of_runs[0].starts_with(&format!("GET /repos/o/r/commits/{SHA}/check-runs?filter=latest&per_page=100&page=1 HTTP/1.1\r\n")));
    assert!(of_runs.iter().all(|request| request.contains("\r\nAuthorization: Bearer s3cret\r\n")));
    assert!(!said.join("\n").contains("s3cret"));
}

#[test]
fn red_is_red_and_neither_skipped_nor_cancelled_is_green() {
    let failed = checks(vec![runs(&[("build", "completed", Some("failure")), ("other", "in_progress", None)])]);
    assert!(matches!(asked(&failed.ci()).0, Verdict::Red(why) if why.contains("build failed")));
    let skipped = checks(vec![runs(&[("build", "completed", Some("skipped"))])]);
    assert!(matches!(asked(&skipped.ci()).0, Verdict::Unknown(why) if why.contains("skipped")));
    let again = checks(vec![runs(&[("build", "completed", Some("cancelled"))]), runs(&[("build", "completed", Some("success"))])]);
    let (verdict, said, _) = asked(&again.ci());
    assert_eq!(verdict, Verdict::Green);
    assert!(said[0].contains("cancelled"), "{said:?}");
    // Never started: nobody says red, and nothing lands.
    let missing = checks(vec![runs(&[("other", "completed", Some("success"))])]);
    let (verdict, ..) = asked(&Ci { timeout: Duration::from_millis(150), ..missing.ci() });
    assert!(matches!(verdict, Verdict::Unknown(why) if why.contains("no verdict within") && why.contains("has not begun")));
}

#[test]
fn a_server_that_is_not_well_is_asked_again_and_left_alone_for_a_while() {
    let green = runs(&[("build", "completed", Some("success"))]);
    let faults = vec![
        answer("500 Internal Server Error", "", "<html>"),
        answer("429 Too Many Requests", "Retry-After: 7\r\n", ""),
        answer("403 Forbidden", "X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: 1\r\n", ""),
        answer("404 Not Found", "", "{}"),
        answer("200 OK", "", "<html>all is green</html>"),
        "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"total_count\":0".to_owned(),
        "garbage".to_owned(),
        String::new(),
        // Of a commit that somebody pushed over ours.
        runs_of(&"1".repeat(40), &[("build", "completed", Some("success"))]),
        green,
    ];
    let count = faults.len();
    let server = checks(faults);
    let (verdict, said, slept) = asked(&server.ci());
    assert_eq!(verdict, Verdict::Green, "{said:#?}");
    assert_eq!(slept.len(), count - 1, "{said:#?}");
    assert_eq!(slept[1], Duration::from_secs(7), "what the server asks for is kept to");
    assert!(slept[0] < slept[4] && slept[4] < slept[8], "each pause is longer than the one before: {slept:?}");
    for what in ["500", "429", "cut off", "among those of"] {
        assert!(said.iter().any(|line| line.contains(what)), "{what}: {said:#?}");
    }
}

#[test]
fn what_waiting_does_not_mend_is_said_at_once() {
    for (status, what) in
        [("401 Unauthorized", "does not accept the token"), ("403 Forbidden", "does not let this token"), ("301 Moved", "has moved")]
    {
        let server = checks(vec![answer(status, "", "{}")]);
        let (verdict, _, slept) = asked(&server.ci());
        assert!(matches!(&verdict, Verdict::Unknown(why) if why.contains(what)), "{verdict:?}");
        assert!(slept.is_empty());
    }
    let server = checks(vec![]);
    let wrong = Ci { api: "http://api.example.org".to_owned(), ..server.ci() };
    assert!(matches!(asked(&wrong).0, Verdict::Unknown(why) if why.contains("without TLS")));
    let none = Ci { token: Some(Secret::Env("COFFERDAM_NO_SUCH_VARIABLE".to_owned())), ..server.ci() };
    assert!(matches!(asked(&none).0, Verdict::Unknown(why) if why.contains("COFFERDAM_NO_SUCH_VARIABLE")));
    assert_eq!(server.asked(), Vec::<String>::new());
}

#[test]
fn nobody_there_is_no_verdict() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let server = checks(vec![]);
    let ci = Ci { api: format!("http://127.0.0.1:{gone}"), timeout: Duration::from_millis(200), ..server.ci() };
    assert!(matches!(asked(&ci).0, Verdict::Unknown(why) if why.contains("cannot be reached")));
}

#[test]
fn what_is_required_is_read_from_the_branch_when_nobody_lists_it() {
    let serve = |protected: bool| {
        Server::start(Box::new(move |path, before| {
            let required = json!([{"type": "required_status_checks", "parameters": {"required_status_checks": [{"context": "unit"}]}}]);
            if path.contains("/rules/branches/main") {
                if protected { ok(&required) } else { ok(&json!([])) }
            } else if path.contains("/branches/main/protection/required_status_checks") {
                if protected { ok(&json!({"strict": true, "contexts": ["lint"], "checks": []})) } else { answer("404 Not Found", "", "{}") }
            } else if path.ends_with("/status?per_page=100") {
                // The older kind of check counts as well.
                let state = if before < 2 { "pending" } else { "success" };
                ok(&json!({"sha": SHA, "state": "success", "statuses": [{"context": "lint", "state": state, "target_url": null}]}))
            } else {
                runs(&[("unit", "completed", Some("success"))])
            }
        }))
    };
    let server = serve(true);
    let (verdict, said, _) = asked(&Ci { required: Vec::new(), ..server.ci() });
    assert_eq!((verdict, said[0].as_str()), (Verdict::Green, "waiting for lint"));
    // Nothing is required, so nothing can be proven.
    let server = serve(false);
    assert!(matches!(asked(&Ci { required: Vec::new(), ..server.ci() }).0, Verdict::Unknown(why) if why.contains("no check is required")));
}

#[test]
fn every_page_is_read() {
    let server = Server::start(Box::new(|path, _| {
        if !path.contains("/check-runs") {
            return no_statuses();
        }
        let page = |names: std::ops::Range<u32>, state: &str| {
            let run = |n: u32| json!({"name": if n == 101 { "build".to_owned() } else { format!("c{n}") }, "head_sha": SHA, "status": "completed", "conclusion": state});
            ok(&json!({"total_count": 102, "check_runs": names.map(run).collect::<Vec<_>>()}))
        };
        if path.ends_with("page=1") { page(0..100, "success") } else { page(100..102, "failure") }
    }));
    assert!(matches!(asked(&server.ci()).0, Verdict::Red(_)));
}

/// A program of this host that says something else each time: the numbered lines of a file.
fn command(script: &str) -> Ci {
    let server = checks(vec![]);
    Ci { provider: Some(CiProvider::Command), command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(), ..server.ci() }
}

#[test]
fn a_program_of_the_host_is_asked_until_it_says_red_or_green() {
    let folder = tempfile::tempdir().expect("a folder");
    let count = folder.path().join("count");
    let script = format!(
        "echo x >> {0}; test $COFFERDAM_CI_COMMIT = {SHA} && test $COFFERDAM_CI_TARGET = main || exit 9
         case $(wc -l < {0}) in 1) echo '{{\"state\":\"pending\",\"detail\":\"in the queue\"}}';; 2) exit 3;; 3) echo nonsense;; *) echo '{{\"state\":\"green\"}}';; esac",
        count.display()
    );
    let (verdict, said, _) = asked(&command(&script));
    assert_eq!(verdict, Verdict::Green, "{said:?}");
    assert_eq!(said[0], "waiting for in the queue");
    assert!(said[1].contains("exit status: 3") && said[2].contains("makes no sense"), "{said:?}");
    assert_eq!(asked(&command("echo '{\"state\":\"red\",\"detail\":\"unit tests\"}'")).0, Verdict::Red("unit tests".to_owned()));
}

#[test]
fn a_program_that_never_makes_sense_is_given_up() {
    for script in ["echo green", "exit 1", "yes | head -c 200000", "echo '{\"state\":\"green\"}'; exit 1", "kill -9 $$", "/no/such/program"]
    {
        let (verdict, said, _) = asked(&command(script));
        assert!(matches!(&verdict, Verdict::Unknown(why) if why.contains("5 times in a row")), "{script}: {verdict:?} {said:?}");
    }
    // One that leaves something behind that holds its output is not waited for, and what it left is ended.
    let mark = format!("7373{}", std::process::id());
    let began = Instant::now();
    assert_eq!(asked(&command(&format!("sleep {mark} & echo '{{\"state\":\"green\"}}'"))).0, Verdict::Green);
    assert!(began.elapsed() < Duration::from_secs(30));
    let left = std::process::Command::new("pgrep").args(["-f", &format!("sleep {mark}")]).status();
    assert!(left.is_ok_and(|status| !status.success()), "it outlived its command");
}

#[test]
fn asking_ends_when_it_is_told_to() {
    let server = checks(vec![runs(&[])]);
    let ci = server.ci();
    assert_eq!(ask(&ci, Path::new("/"), &subject(&ci.required), &|_| false, &mut |_| {}), Verdict::Stopped);
}
