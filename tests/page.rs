//! `cofferdam serve` in a real browser and `cofferdam mcp` with a client that types: the real program, hostile stories, hostile questions.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use cofferdam::base::id::EvidenceId;
use cofferdam::event::{
    Actor, AttemptEnd, ContractMode, Criterion, Event, Finding, Kind, Landing, Limits, Rules, StorySpec, Task, Verdict,
};
use cofferdam::store::{Store, place};
use serde_json::{Value, json};

/// What an agent would like to have run.
const SCRIPT: &str = "<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">'\"><b>\u{202e}\u{1b}[2J";

struct Repository {
    dir: tempfile::TempDir,
    evidence: EvidenceId,
}

fn say(story: &str, kind: Kind) -> Event {
    let story = (!story.is_empty()).then(|| story.parse().expect("id"));
    Event { at: jiff::Timestamp::now(), run: None, story, actor: Actor::Runner, kind }
}

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(n: u32) -> T {
    format!("{n:040x}").parse().expect("id")
}

impl Repository {
    /// One story whose agent is hostile wherever it may write, and which waits for an answer.
    fn hostile() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        git2::Repository::init(dir.path().join("repo")).expect("init");
        let mut repository = Self { dir, evidence: EvidenceId::of(SCRIPT.as_bytes()) };
        let mut store = repository.store();
        repository.evidence = store.evidence().put(SCRIPT.as_bytes()).expect("kept");
        let target = "refs/heads/main".to_owned();
        let start = Kind::RunStarted { pid: 1, version: "0.1.0".to_owned(), parallel: 2, target, commit: id(0) };
        store.append_one(say("", start)).expect("started");
        let spec = StorySpec {
            title: SCRIPT.to_owned(),
            epic: Some(SCRIPT.to_owned()),
            ordinal: 1,
            after: Vec::new(),
            wired_with: Vec::new(),
            criteria: vec![Criterion { id: "AC-1".to_owned(), text: SCRIPT.to_owned() }],
            proof: "p".to_owned(),
            automatable: true,
            rules: Rules {
                contract: ContractMode::Off,
                evaluators: vec!["review".to_owned()],
                gates: Vec::new(),
                candidate_gates: Vec::new(),
                diagnose: false,
                propose: false,
                landing: Landing::Queue,
                limits: Limits::default(),
            },
        };
        let attempt = "1".parse().expect("a number");
        let second = "2".parse().expect("a number");
        let end = |attempt, question: Option<&str>| Kind::AttemptEnded {
            attempt,
            end: AttemptEnd::Finished,
            summary: Some(SCRIPT.to_owned()),
            question: question.map(str::to_owned),
            transcript: Some(repository.evidence.clone()),
            wall_ms: 1,
        };
        let started = |attempt, task| Kind::AttemptStarted { attempt, task, agent: SCRIPT.to_owned() };
        let events = [
            Kind::StoryCreated { spec },
            Kind::StoryStarted { attempt, base: id(0) },
            started(attempt, Task::Implement),
            end(attempt, None),
            Kind::ChangeCollected {
                attempt,
                commit: id(1),
                tree: id(2),
                base: id(0),
                reference: "refs/cofferdam/stories/A/1".to_owned(),
                patch: cofferdam::base::id::PatchId::of(b"x"),
                files: 1,
                findings: vec![Finding { text: SCRIPT.to_owned(), path: Some(SCRIPT.to_owned()), ..Finding::default() }],
            },
            Kind::EvaluatorFinished {
                evaluator: "review".to_owned(),
                commit: id(1),
                tree: id(2),
                proof: "p".to_owned(),
                verdict: Verdict::Fail,
                problems: 1,
                criteria: Vec::new(),
                findings: vec![Finding { text: SCRIPT.to_owned(), path: Some(SCRIPT.to_owned()), ..Finding::default() }],
                evidence: vec![repository.evidence.clone()],
                cached: false,
                wall_ms: 1,
            },
            started(second, Task::Repair),
            end(second, Some(&format!("Which port? {SCRIPT}"))),
        ];
        for kind in events {
            store.append_one(say("A", kind)).expect("stored");
        }
        repository
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    fn store(&self) -> Store {
        let git = place::common_git_dir(&self.path()).expect("a repository");
        let folder = place::locate(&self.dir.path().join("state/cofferdam"), &git).expect("placed");
        place::claim(&folder, &git).expect("claimed");
        Store::open(&folder).expect("opened")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.args(args).current_dir(self.path()).env_clear().env("XDG_STATE_HOME", self.dir.path().join("state"));
        command.env("HOME", self.dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn events(&self) -> usize {
        let output = self.command(&["log", "--json"]).output().expect("it runs");
        String::from_utf8_lossy(&output.stdout).lines().count()
    }
}

/// A process that ends with its test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A process that ends with its test, and everybody whom it started: they write to its folder until they are gone.
struct EndsWithAll(Child);

impl Drop for EndsWithAll {
    fn drop(&mut self) {
        let all = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        _ = nix::sys::signal::killpg(all, nix::sys::signal::Signal::SIGKILL);
        drop(self.0.wait());
        let end = Instant::now() + Duration::from_secs(10);
        while nix::sys::signal::killpg(all, None).is_ok() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A page that is served.
struct Page {
    process: Ends,
    port: u16,
    /// `/SECRET/`
    root: String,
}

impl Page {
    fn of(repository: &Repository) -> Self {
        let mut child = repository.command(&["serve", "--port", "0", "--json"]).spawn().expect("it runs");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut document = String::new();
        let told: Value = loop {
            assert!(out.read_line(&mut document).expect("its address") > 0, "{document}");
            if let Ok(told) = serde_json::from_str(&document) {
                break told;
            }
        };
        let url = told["url"].as_str().expect("an address");
        let (port, root) = url.strip_prefix("http://127.0.0.1:").expect("on loopback").split_once('/').expect("a path");
        Self { process: Ends(child), port: port.parse().expect("a port"), root: format!("/{root}") }
    }

    /// Sends bytes and reads to the end: the status and all of it.
    fn raw(&self, bytes: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        stream.write_all(bytes).expect("written");
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        (status, answer)
    }

    fn ask(&self, method: &str, path: &str, host: &str) -> (u16, String) {
        self.raw(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
    }

    fn get(&self, below: &str) -> (u16, String) {
        self.ask("GET", &format!("{}{below}", self.root), &format!("127.0.0.1:{}", self.port))
    }
}

#[test]
fn the_page_is_for_its_own_name_and_path_and_can_only_be_read() {
    let repository = Repository::hostile();
    let page = Page::of(&repository);
    let own = format!("127.0.0.1:{}", page.port);
    let (status, text) = page.get("");
    assert!(status == 200 && text.contains("Waiting for a human"), "{text}");
    for header in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "nosniff", "no-referrer", "no-store", "same-origin"]
    {
        assert!(text.contains(header), "{header}: {text}");
    }
    // A name of somebody else that leads here, as DNS rebinding has it.
    for host in ["rebound.example.org", &format!("rebound.example.org:{}", page.port), "127.0.0.1", "127.0.0.1:1"] {
        assert_eq!(page.ask("GET", &page.root, host).0, 421, "{host}");
    }
    // Somebody on this machine who does not know the path, and tricks with it.
    for path in ["/", "/status", "/../", "//", "/0123456789abcdef0123456789abcdef/", "/%2e%2e/", "http://127.0.0.1/"] {
        let (status, text) = page.ask("GET", path, &own);
        assert!(status == 404 && !text.contains("Waiting"), "{path}: {text}");
    }
    for below in [
        "story/Z",
        "story/..%2f..%2fA",
        "../",
        "evidence/../../../../etc/passwd",
        "evidence/%2e%2e%2f",
        "diff/A",
        "x",
        "story/",
        "style.css%00",
    ] {
        assert_eq!(page.get(below).0, 404, "{below}");
    }
    for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE"] {
        assert_eq!(page.ask(method, &page.root, &own).0, 405, "{method}");
    }
    let get = format!("GET {} HTTP/1.1\r\nHost: {own}\r\n", page.root);
    for (what, bytes) in [
        ("no host", format!("GET {} HTTP/1.1\r\n\r\n", page.root)),
        ("two hosts", format!("{get}Host: x\r\n\r\n")),
        ("a body", format!("{get}Content-Length: 5\r\n\r\nhello")),
        ("a chunked body", format!("{get}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
        ("bare line ends", format!("GET {} HTTP/1.1\nHost: {own}\n\n", page.root)),
        ("a folded header", format!("{get}X: a\r\n b\r\n\r\n")),
        ("no HTTP", "\u{16}\u{3}\u{1}\r\n\r\n".to_owned()),
        ("a long head", format!("{get}X: {}\r\n\r\n", "a".repeat(100_000))),
    ] {
        let (status, text) = page.raw(bytes.as_bytes());
        assert!(matches!(status, 0 | 400 | 421) && !text.contains("Waiting"), "{what}: {text}");
    }
    // Those who ask nothing take no place for good, and the page is there for others meanwhile.
    let idle: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(("127.0.0.1", page.port)).expect("connected")).collect();
    assert_eq!(page.get("").0, 200);
    drop(idle);
    let before = repository.events();
    let (status, text) = page.get("story/A");
    assert!(status == 200 && text.contains("Attempt 1"), "{text}");
    assert_eq!(repository.events(), before, "it changed something");
    // It listens nowhere else.
    let text = fs_err::read_to_string("/proc/net/tcp").expect("sockets") + &fs_err::read_to_string("/proc/net/tcp6").unwrap_or_default();
    let port = format!(":{:04X}", page.port);
    let listening: Vec<&str> =
        text.lines().filter(|line| line.contains(" 0A ") && line.split_whitespace().nth(1).is_some_and(|at| at.ends_with(&port))).collect();
    assert!(listening.len() == 1 && listening[0].contains("0100007F:"), "{listening:?}");
    let pid = nix::unistd::Pid::from_raw(page.process.0.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("asked to end");
    let mut process = page.process;
    assert!(process.0.wait().expect("ended").success());
}

#[test]
fn nothing_that_an_agent_wrote_is_more_than_text() {
    let repository = Repository::hostile();
    let page = Page::of(&repository);
    for below in ["", "story/A"] {
        let (status, text) = page.get(below);
        let body = text.split("\r\n\r\n").nth(1).expect("a body");
        assert!(status == 200 && body.contains("&lt;script&gt;"), "the hostile text is shown: {body}");
        // One script, ours, by its address.
        assert_eq!((body.matches("<script").count(), body.matches("follow.js").count()), (1, 1));
        assert!(!body.contains("<img") && !body.contains("<b>") && !body.contains(['\u{1b}', '\u{202e}']), "{body}");
    }
    let (status, text) = page.get(&format!("evidence/{}", repository.evidence));
    assert!(status == 200 && text.contains("Content-Type: text/plain; charset=utf-8") && text.contains("sandbox"), "{text}");
    assert!(text.ends_with(SCRIPT), "evidence is shown as it is, and as nothing but text");
}

/// A browser, driven over a pair of pipes.
struct Browser {
    _process: EndsWithAll,
    to: fs_err::File,
    from: BufReader<fs_err::File>,
    next: u64,
    session: Option<String>,
    _folder: tempfile::TempDir,
}

impl Browser {
    /// None, and loudly, when there is none.
    fn begin() -> Option<Self> {
        let program = ["/usr/bin/chromium", "/usr/bin/google-chrome"].into_iter().find(|path| std::path::Path::new(path).exists());
        let Some(program) = program else {
            drop(std::io::stderr().write_all(b"SKIPPED the page in a browser: no chromium\n"));
            return None;
        };
        let folder = tempfile::tempdir().expect("dir");
        let pipes = ["to", "from"].map(|name| folder.path().join(name));
        for pipe in &pipes {
            nix::unistd::mkfifo(pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        }
        let options = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --remote-debugging-pipe";
        let script = format!("exec {program} {options} --user-data-dir={0}/data about:blank 3<{0}/to 4>{0}/from", folder.path().display());
        let mut command = Command::new("sh");
        command.args(["-c", &script]).env("HOME", folder.path()).env("TMPDIR", folder.path()).process_group(0);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let to = fs_err::OpenOptions::new().write(true).open(&pipes[0]).expect("it reads");
        let from = BufReader::new(fs_err::File::open(&pipes[1]).expect("it writes"));
        Some(Self { _process: EndsWithAll(process.expect("it starts")), to, from, next: 0, session: None, _folder: folder })
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = session.clone().into();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).expect("told");
        loop {
            let mut answer = Vec::new();
            self.from.read_until(0, &mut answer).expect("an answer");
            let answer: Value = serde_json::from_slice(answer.strip_suffix(&[0]).expect("whole")).expect("JSON");
            if answer["id"] == self.next {
                return answer["result"].clone();
            }
        }
    }

    fn open(&mut self, url: &str) {
        self.session = None;
        let target = self.ask("Target.createTarget", json!({"url": url}))["targetId"].clone();
        let attached = self.ask("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        self.session = attached["sessionId"].as_str().map(str::to_owned);
    }

    fn value(&mut self, expression: &str) -> Value {
        self.ask("Runtime.evaluate", json!({"expression": expression, "returnByValue": true}))["result"]["value"].clone()
    }

    fn until(&mut self, what: &str, expression: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.value(expression) != true {
            assert!(Instant::now() < end, "{what}: {}", self.value("document.documentElement.outerHTML"));
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn a_browser_shows_it_follows_and_runs_nothing_of_an_agent() {
    let Some(mut browser) = Browser::begin() else { return };
    let repository = Repository::hostile();
    let page = Page::of(&repository);
    let url = format!("http://127.0.0.1:{}{}", page.port, page.root);
    browser.open(&url);
    browser.until("the page", "document.readyState == 'complete' && document.body.innerText.includes('Which port?')");
    assert_eq!(browser.value("document.title"), "0/1 repo");
    assert_eq!(browser.value("document.querySelectorAll('script, img, b').length"), 1, "our own script, and nothing else");
    assert_eq!(browser.value("getComputedStyle(document.querySelector('.asks')).borderLeftStyle"), "solid", "its own style is used");
    // Somebody says something, elsewhere: the page tells it without being asked again.
    browser.value("window.same = true");
    repository.store().append_one(say("A", Kind::StoryAnswered { text: format!("port 8080 {SCRIPT}") })).expect("answered");
    browser.until("the news", "window.same && !document.querySelector('.asks') && document.body.innerText.includes('port 8080')");
    assert_eq!(browser.value("document.title"), "0/1 repo");
    // Even a script that got into the page would not run.
    browser.value("{ const s = document.createElement('script'); s.textContent = 'window.ran = true'; document.body.append(s); }");
    assert_eq!(browser.value("window.ran === undefined"), true, "the policy lets nothing run that stands in the page");
    browser.value("fetch('http://localhost:1/').catch(() => 0); window.went = 'nowhere'");
    browser.open(&format!("{url}story/A"));
    browser.until("the story", "document.readyState == 'complete' && document.body.innerText.includes('Attempt 1')");
    let link = browser.value("document.querySelector('a[href*=evidence]').href").as_str().expect("a link").to_owned();
    browser.open(&link);
    browser.until("the evidence", "document.readyState == 'complete' && document.contentType == 'text/plain'");
    assert_ne!(browser.value("document.title"), "pwned");
    // The control: what is shown as text here would run where it is taken for a page.
    browser.open(&format!("data:text/html,{}", SCRIPT.replace('"', "%22").replace('\u{1b}', "")));
    browser.until("the control", "document.title == 'pwned'");
}

/// A client of the protocol.
struct Client {
    process: Ends,
    out: BufReader<ChildStdout>,
    next: u64,
}

impl Client {
    fn begin(repository: &Repository, args: &[&str]) -> Self {
        let mut all = vec!["mcp"];
        all.extend(args);
        let mut child = repository.command(&all).spawn().expect("it runs");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        Self { process: Ends(child), out, next: 0 }
    }

    fn send(&mut self, bytes: &[u8]) {
        let to = self.process.0.stdin.as_mut().expect("piped");
        to.write_all(bytes).and_then(|()| to.write_all(b"\n")).and_then(|()| to.flush()).expect("sent");
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line}: {e}"))
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        self.send(json!({"jsonrpc": "2.0", "id": self.next, "method": method, "params": params}).to_string().as_bytes());
        let answer = self.hear();
        assert_eq!((&answer["jsonrpc"], &answer["id"]), (&"2.0".into(), &self.next.into()), "{answer}");
        answer
    }

    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.ask("tools/call", json!({"name": tool, "arguments": arguments}));
        answer["result"].clone()
    }
}

#[test]
fn a_model_reads_and_asks_by_the_same_commands_as_a_person() {
    let repository = Repository::hostile();
    let mut client = Client::begin(&repository, &[]);
    assert_eq!(client.ask("tools/list", json!({}))["error"]["code"], -32_600, "it begins with a greeting");
    let hello =
        client.ask("initialize", json!({"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}));
    assert_eq!(hello["result"]["protocolVersion"], "2024-11-05", "{hello}");
    let later = client.ask("initialize", json!({"protocolVersion": "2099-01-01", "capabilities": {}}));
    assert_eq!(later["result"]["protocolVersion"], "2025-06-18", "one that it does not know is answered by its newest");
    client.send(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert_eq!(client.ask("ping", json!({}))["result"], json!({}));
    let tools = client.ask("tools/list", json!({}))["result"]["tools"].clone();
    let names: Vec<&str> = tools.as_array().expect("a list").iter().map(|tool| tool["name"].as_str().expect("a name")).collect();
    let expected = ["status", "show", "why", "next", "blocked", "log", "evidence", "read_evidence", "note", "answer", "replan", "retry"];
    assert_eq!(names, expected);

    let printed = |args: &[&str]| -> Value {
        let output = repository.command(args).output().expect("it runs");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}"))
    };
    let status = client.call("status", json!({}));
    assert_eq!((&status["isError"], &status["structuredContent"]), (&false.into(), &printed(&["status", "--json"])));
    assert_eq!(client.call("show", json!({"story": "A"}))["structuredContent"], printed(&["show", "A", "--json"]));
    assert_eq!(client.call("why", json!({"story": "A"}))["structuredContent"]["state"], "blocked");
    let events = client.call("log", json!({"last": 3}))["structuredContent"]["events"].clone();
    assert_eq!(events.as_array().map(Vec::len), Some(3));
    let papers = client.call("evidence", json!({"story": "A"}))["structuredContent"]["evidence"].clone();
    let paper = client.call("read_evidence", json!({"id": papers[0]["id"]}));
    assert_eq!(paper["content"][0]["text"], SCRIPT);
    let unknown = client.call("show", json!({"story": "AA"}));
    let said = unknown["content"][0]["text"].as_str().unwrap_or_default();
    assert!(unknown["isError"] == true && said.contains("no story") && said.contains("next:"), "{unknown}");

    // It asks as a person does, is refused as a person is, and the log tells that it was a model.
    let answered = client.call("answer", json!({"story": "A", "text": "8080"}));
    assert_eq!((&answered["isError"], &answered["structuredContent"]["state"]), (&false.into(), &"pending".into()), "{answered}");
    let again = client.call("answer", json!({"story": "A", "text": "8080"}));
    assert!(again["isError"] == true && again["content"][0]["text"].as_str().is_some_and(|text| text.contains("because:")), "{again}");
    let last = client.call("log", json!({"last": 1}))["structuredContent"]["events"][0].clone();
    assert!(last["kind"] == "story.answered" && last["actor"].as_str().is_some_and(|actor| actor.ends_with(" by mcp")), "{last}");
    let refused = client.ask("tools/call", json!({"name": "approve", "arguments": {"story": "A"}}));
    assert_eq!(refused["error"]["code"], -32_602, "what decides about work is no tool");

    let mut reader = Client::begin(&repository, &["--read-only"]);
    reader.ask("initialize", json!({"protocolVersion": "2025-06-18"}));
    let tools = reader.ask("tools/list", json!({}))["result"]["tools"].clone();
    assert!(tools.as_array().expect("a list").iter().all(|tool| tool["annotations"]["readOnlyHint"] == true));
    assert_eq!(reader.ask("tools/call", json!({"name": "note", "arguments": {"story": "A", "text": "x"}}))["error"]["code"], -32_602);
}

#[test]
fn a_hostile_client_is_answered_and_ends_nothing() {
    let repository = Repository::hostile();
    let mut client = Client::begin(&repository, &[]);
    client.ask("initialize", json!({"protocolVersion": "2025-06-18"}));
    let before = repository.events();
    for (line, code) in [
        ("{".to_owned(), -32_700),
        ("[".repeat(200_000), -32_700),
        (format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{}\"}}", "x".repeat(2 << 20)), -32_600),
        ("[]".to_owned(), -32_600),
        ("null".to_owned(), -32_600),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#.to_owned(), -32_600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///etc/passwd"}}"#.to_owned(), -32_601),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"status","arguments":[]}}"#.to_owned(), -32_602),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"show","arguments":{"story":"A","json":true}}}"#.to_owned(),
            -32_602,
        ),
    ] {
        client.send(line.as_bytes());
        let answer = client.hear();
        assert_eq!(answer["error"]["code"], code, "{}: {answer}", &line[..line.len().min(80)]);
    }
    client.send(&[0xff, 0x00, 0xfe]);
    assert_eq!(client.hear()["error"]["code"], -32_700);
    // Words that look like options are words.
    for story in ["--config=/etc/passwd", "--help", "-V", "--", "A; rm -rf /", "$(id)"] {
        let said = client.call("show", json!({"story": story}));
        assert!(
            said["isError"] == true && said["content"][0]["text"].as_str().is_some_and(|text| text.contains("no story")),
            "{story}: {said}"
        );
    }
    assert_eq!(client.ask("ping", json!({}))["result"], json!({}), "it is still there");
    assert_eq!(repository.events(), before, "nothing of it changed anything");
    // When its client is gone, so is it.
    drop(client.process.0.stdin.take());
    assert!(client.process.0.wait().expect("ended").success());
}
