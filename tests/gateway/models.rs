//! Models: the key stays outside, calls are counted and end, answers stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::common::{Ran, World, everybody};
use super::support::{NameServer, Site};

const KEY: &str = "sk-real-0123456789-never-inside";

/// What a provider that streams says.
const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn start() -> String {
    chunk(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":20,\"output_tokens\":1}}}\n\n",
    )
}

fn end() -> String {
    chunk("event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":55}}\n\n") + "0\r\n\r\n"
}

/// A provider that wants the real key.
fn provider() -> Site {
    Site::model("model.test", |request, _, out| {
        let answer = if request.to_ascii_lowercase().contains(&format!("x-api-key: {KEY}")) {
            [STREAM, &start(), &end()].concat()
        } else {
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned()
        };
        out.write_all(answer.as_bytes()).ok();
    })
}

fn names() -> NameServer {
    NameServer::start(&[("model.test", &[&["127.0.0.1"]]), ("other.test", &[&["127.0.0.1"]])])
}

/// `exec --model anthropic=model.test`, with the key where cofferdam is started.
fn run(world: &World, site: &Site, names: &NameServer, more: &[&str], script: &str, key: Option<&str>) -> Ran {
    let roots = world.write("home/roots.pem", &site.certificate);
    let outcome = world.path().join("home/outcome.json");
    let mut command = world.command();
    command.env("SSL_CERT_FILE", roots);
    if let Some(key) = key {
        command.env("ANTHROPIC_API_KEY", key);
    }
    command.args(["exec", "--outcome"]).arg(&outcome);
    command.args(["--model", &format!("anthropic=model.test:{}", site.port()), "--resolver", &names.address.to_string()]);
    command.args(["--allow", &format!("127.0.0.1/32:{}", site.port())]).args(more).args(["--", "sh", "-c", script]);
    let start = std::time::Instant::now();
    let output = command.output().expect("runs");
    let outcome = fs_err::read(&outcome).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    Ran { output, outcome, took: start.elapsed() }
}

const CALL: &str = "curl -sS --max-time 20 -H \"x-api-key: $ANTHROPIC_API_KEY\" -d '{}' $ANTHROPIC_BASE_URL/v1/messages";

#[test]
fn the_key_is_put_in_outside_and_is_nowhere_inside() {
    for world in everybody() {
        let (site, names) = (provider(), names());
        // A search that would find it: the placeholder is found by the same one.
        let search = "for what in \"$1\" cofferdam-; do { env; cat /proc/*/environ /proc/*/cmdline; grep -rs . /home /tmp /etc /run $PWD; } 2>/dev/null | grep -ac -- \"$what\"; done";
        let script = format!("{CALL} > answer; set -- 0123456789-never; {search}");
        let ran = run(&world, &site, &names, &[], &script, Some(KEY));
        ran.expect(0, "exited");
        let found: Vec<usize> = ran.out().lines().filter_map(|line| line.parse().ok()).collect();
        // The search itself is on a command line: its own words are all that may be found.
        assert!(found.len() == 2 && found[1] > 0, "{}", ran.out());
        let answer = fs_err::read_to_string(world.workspace().join("answer")).expect("an answer");
        assert!(answer.contains("message_delta"), "{answer} {}", ran.err());
        let seen = site.seen().concat();
        assert!(seen.contains(KEY) && !seen.contains("cofferdam-"), "{seen}");
        assert!(seen.starts_with("POST /v1/messages HTTP/1.1\r\nHost: model.test"), "{seen}");
        for place in [ran.out(), ran.err(), ran.outcome.to_string(), answer] {
            assert!(!place.contains(KEY), "{place}");
        }
        assert!(ran.err().contains("1 model call, 20 tokens read, 55 written"), "{}", ran.err());
    }
}

#[test]
fn the_real_key_is_not_in_any_byte_of_the_sandbox() {
    let world = World::new(super::common::Who::Caller);
    let (site, names) = (provider(), names());
    // Without a word of the key in the script, so that every hit would be one.
    let script = format!(
        "{CALL} > answer; {{ env; cat /proc/*/environ /proc/*/cmdline /proc/self/maps; find / $PWD -xdev -type f -size -200k -user $(id -u) -exec cat {{}} +; }} 2>/dev/null | base64 -w0"
    );
    let ran = run(&world, &site, &names, &[], &script, Some(KEY));
    let all = decode(&ran.out());
    let has = |what: &str| all.windows(what.len()).any(|w| w == what.as_bytes());
    assert!(has("cofferdam-") && has("message_delta"), "{} bytes", all.len());
    assert!(!has(KEY) && !has("never-inside"));
}

fn decode(text: &str) -> Vec<u8> {
    let value = |b: u8| b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".iter().position(|c| *c == b);
    let digits: Vec<u32> = text.bytes().filter_map(value).map(|n| u32::try_from(n).unwrap_or(0)).collect();
    digits.chunks(4).flat_map(|c| c.iter().fold(0, |n, d| n << 6 | d).to_be_bytes()[1..].to_vec().into_iter().take(3)).collect()
}

#[test]
fn the_fourth_call_of_three_is_refused() {
    for world in everybody() {
        let (site, names) = (provider(), names());
        let script = format!("for n in 1 2 3 4 5; do {CALL} -o answer -w '%{{http_code}} '; done; cat answer");
        let ran = run(&world, &site, &names, &["--model-calls", "3"], &script, Some(KEY));
        assert!(ran.out().starts_with("200 200 200 400 400 "), "{} {}", ran.out(), ran.err());
        assert!(ran.out().contains("\"type\":\"error\"") && ran.out().contains("the budget of 3 model calls is spent"), "{}", ran.out());
        assert_eq!(site.seen().len(), 3);
        assert!(ran.err().contains("denied: reach anthropic (the budget of 3 model calls is spent), 2 times"), "{}", ran.err());
    }
}

#[test]
fn an_answer_streams_and_is_not_held_back() {
    let world = World::new(super::common::Who::Caller);
    let released = Arc::new(AtomicBool::new(false));
    let seen = released.clone();
    // The end comes only when the beginning has been read inside.
    let site = Site::model("model.test", move |request, _, out| {
        if request.starts_with("GET /release") {
            seen.store(true, Ordering::SeqCst);
            out.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok();
            return;
        }
        out.write_all([STREAM, &start()].concat().as_bytes()).and_then(|()| out.flush()).ok();
        let waited = std::time::Instant::now();
        while !seen.load(Ordering::SeqCst) && waited.elapsed() < std::time::Duration::from_secs(20) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        out.write_all(end().as_bytes()).ok();
    });
    let names = names();
    let script = format!("{CALL} -N | {{ read -r first; echo got $first; curl -sS --max-time 20 $ANTHROPIC_BASE_URL/release; cat; }}");
    let ran = run(&world, &site, &names, &[], &script, Some(KEY));
    assert!(ran.out().starts_with("got event: message_start") && ran.out().contains("message_delta"), "{} {}", ran.out(), ran.err());
    assert!(released.load(Ordering::SeqCst) && ran.took < std::time::Duration::from_secs(20), "{:?}", ran.took);
}

#[test]
fn a_missing_key_a_refused_key_and_a_provider_that_wants_a_pause_are_told() {
    let world = World::new(super::common::Who::Caller);
    let (site, names) = (provider(), names());
    let status = format!("{CALL} -o answer -w '%{{http_code}}\n'; cat answer");
    let ran = run(&world, &site, &names, &[], &status, None);
    assert!(ran.out().starts_with("401\n") && ran.out().contains("the variable ANTHROPIC_API_KEY is not set"), "{}", ran.out());
    assert_eq!(site.dialled(), 0);
    let ran = run(&world, &site, &names, &[], &status, Some("sk-wrong"));
    assert!(ran.out().starts_with("401\n") && ran.err().contains("it refused the key"), "{} {}", ran.out(), ran.err());
    assert!(!ran.err().contains("sk-wrong"), "{}", ran.err());
    let busy = Site::model("model.test", |_, _, out| {
        out.write_all(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n").ok();
    });
    let ran = run(&world, &busy, &names, &["--model-calls", "1"], &format!("{status}; {status}"), Some(KEY));
    assert_eq!(ran.out(), "429\n429\n", "a call that was not served is not counted: {}", ran.err());
    assert!(ran.err().contains("the provider wants no further call for 7 s"), "{}", ran.err());
}

#[test]
fn a_provider_that_is_not_who_it_must_be_gets_no_key() {
    let world = World::new(super::common::Who::Caller);
    let names = names();
    let real = provider();
    let other = Site::model("other.test", |_, _, out| drop(out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")));
    // The name of one and the certificate of another; and one that nobody vouches for.
    let mut wrong_name = provider();
    wrong_name.certificate = other.certificate.clone();
    wrong_name.address = other.address;
    let mut unknown = provider();
    unknown.certificate = real.certificate.clone();
    for site in [&wrong_name, &unknown] {
        let ran = run(&world, site, &names, &[], &format!("{CALL} -o answer -w '%{{http_code}}\n'; cat answer"), Some(KEY));
        assert!(ran.out().starts_with("502\n") && ran.out().contains("TLS: "), "{} {}", ran.out(), ran.err());
        assert_eq!(site.seen(), Vec::<String>::new());
    }
    assert_eq!(other.seen(), Vec::<String>::new());
}

#[test]
fn a_placeholder_on_its_way_elsewhere_is_stopped_and_told() {
    let world = World::new(super::common::Who::Caller);
    let (site, names, elsewhere) = (provider(), names(), Site::http());
    let target = format!("127.0.0.1:{}", elsewhere.port());
    let script = format!(
        "for with in \"-H x:$ANTHROPIC_API_KEY\" \"-d a=$ANTHROPIC_API_KEY\" \"-d harmless\"; do
           curl -sS --max-time 20 --noproxy '' -o /dev/null -w '%{{http_code}} ' $with http://{target}/; done"
    );
    let ran = run(&world, &site, &names, &["--allow", &target], &script, Some(KEY));
    assert_eq!(ran.out(), "403 403 200 ", "{}", ran.err());
    assert!(ran.err().contains("the placeholder of a key that belongs to another host"), "{}", ran.err());
    assert!(!elsewhere.seen().concat().contains("cofferdam-"));
}
