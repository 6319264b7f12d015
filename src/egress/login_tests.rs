use super::*;
use crate::egress::http1;

const CLAUDE: &str = r#"
path = ".claude/.credentials.json"
folder = "CLAUDE_CONFIG_DIR"
token = "claudeAiOauth.accessToken"
expires = "claudeAiOauth.expiresAt"
renew = "claude"
host = "api.example.org"
api = "anthropic"
paths = ["/v1/messages"]
headers = { anthropic-beta = "oauth-1", chatgpt-account-id = "{account}" }
environment = { BASE = "{endpoint}/x", TOKEN = "t-{mark}" }
[[file]]
path = ".claude/.credentials.json"
content = '{"accessToken":"{mark}","now":"{now}"}'
"#;

fn login() -> Login {
    toml::from_str(CLAUDE).expect("a login")
}

fn kept(home: &Path, text: &str) -> Option<Kept> {
    fs_err::create_dir_all(home.join(".claude")).expect("a folder");
    fs_err::write(home.join(".claude/.credentials.json"), text).expect("written");
    Kept::find(&[login()], home, &|_| None)
}

fn added(kept: &Kept, request: &str, now: &str) -> Result<Vec<(String, String)>, String> {
    let head = http1::request(request.as_bytes()).expect("a request");
    let added = kept.headers(&head, now.parse().expect("a moment"))?;
    Ok(added.into_iter().map(|added| (added.name, added.value)).collect())
}

const NOW: &str = "2026-01-01T00:00:00Z";
const LATER: &str = r#"{"claudeAiOauth":{"accessToken":"s3cret-token","expiresAt":1767229200000},"account":"acc-1"}"#;

#[test]
fn the_token_and_what_belongs_to_it_are_read_for_each_request() {
    let home = tempfile::tempdir().expect("a home");
    let kept = kept(home.path(), LATER).expect("a login");
    let plain = added(&kept, "POST /v1/messages HTTP/1.1\r\nHost: x\r\n\r\n", NOW).expect("headers");
    let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(plain, [of("authorization", "Bearer s3cret-token"), of("anthropic-beta", "oauth-1"), of("chatgpt-account-id", "acc-1")]);
    // What the program says there itself stays, and nothing is there twice.
    for (said, sent) in [("tools-2, OAUTH-1", "tools-2,oauth-1"), ("tools-2", "tools-2,oauth-1")] {
        let request = format!("POST /v1/messages HTTP/1.1\r\nHost: x\r\nAnthropic-Beta: {said}\r\n\r\n");
        assert_eq!(added(&kept, &request, NOW).expect("headers")[1], of("anthropic-beta", sent));
    }
    // Renewed on the host by somebody else: the next request has the new one.
    fs_err::write(&kept.at, LATER.replace("s3cret-token", "another-token")).expect("written");
    let renewed = added(&kept, "GET /v1/messages HTTP/1.1\r\nHost: x\r\n\r\n", NOW).expect("headers");
    assert_eq!(renewed[0].1, "Bearer another-token");
}

#[test]
fn what_has_expired_or_cannot_be_read_is_said_without_the_token() {
    let home = tempfile::tempdir().expect("a home");
    let kept = kept(home.path(), LATER).expect("a login");
    let say = |now: &str| added(&kept, "GET /v1/messages HTTP/1.1\r\nHost: x\r\n\r\n", now).expect_err("a refusal");
    let why = say("2026-01-01T03:30:00Z");
    assert_eq!(why, "the login in ~/.claude/.credentials.json expired 2 h 30 min ago; run `claude` on the host (outside of cofferdam)");
    assert_eq!(kept.state("2026-01-01T03:30:00Z".parse().expect("a moment")), State::Expired("2026-01-01T01:00:00Z".parse().expect("one")));
    for (text, words) in [
        ("s3cret-token", "is not JSON"),
        (r#"{"claudeAiOauth":{"accessToken":"s3cret-token\r\nx: y"}}"#, "no header may hold"),
        ("{}", "nobody is logged in"),
    ] {
        fs_err::write(&kept.at, text).expect("written");
        let why = say(NOW);
        assert!(why.contains(words) && why.contains("run `claude`") && !why.contains("s3cret"), "{why}");
    }
    fs_err::remove_file(&kept.at).expect("removed");
    assert!(say(NOW).contains("nobody is logged in"));
}

#[test]
fn a_login_is_found_where_its_program_keeps_it() {
    let home = tempfile::tempdir().expect("a home");
    assert!(Kept::find(&[login()], home.path(), &|_| None).is_none());
    for nobody in ["{}", r#"{"claudeAiOauth":{"accessToken":""}}"#, r#"{"claudeAiOauth":{"accessToken":7}}"#] {
        assert!(kept(home.path(), nobody).is_none(), "{nobody}");
    }
    // One that cannot be read is no reason to go on without it in silence.
    assert!(kept(home.path(), "{").is_some());
    let other = home.path().join("elsewhere");
    fs_err::create_dir_all(&other).expect("a folder");
    fs_err::write(other.join(".credentials.json"), LATER).expect("written");
    let found = Kept::find(&[login()], Path::new("/nowhere"), &|name| (name == "CLAUDE_CONFIG_DIR").then(|| other.clone()));
    assert_eq!(found.expect("a login").at, other.join(".credentials.json"));
    // A second description of the same file counts where the first finds nothing in it.
    let second = Login { token: "account".to_owned(), ..login() };
    let first = Login { token: "other".to_owned(), ..login() };
    fs_err::write(home.path().join(".claude/.credentials.json"), LATER).expect("written");
    assert_eq!(Kept::find(&[first, second.clone()], home.path(), &|_| None).expect("a login").login, second);
}

#[test]
fn the_token_is_for_the_requests_it_is_named_for() {
    let home = tempfile::tempdir().expect("a home");
    let kept = kept(home.path(), LATER).expect("a login");
    for path in ["/v1/messages", "/v1/messages?beta=true", "/v1/messages/count_tokens"] {
        assert!(kept.is_for(path), "{path}");
    }
    for path in
        ["/v1/messagesx", "/v1/files", "/", "/v1/messages/../files", "/v1/messages/%2e%2e/files", "//v1/messages", "/v1/messages;x", "*"]
    {
        assert!(!kept.is_for(path), "{path}");
    }
}

#[test]
fn what_lies_inside_is_worth_nothing_and_is_told_apart() {
    let home = tempfile::tempdir().expect("a home");
    let kept = Arc::new(kept(home.path(), LATER).expect("a login"));
    let endpoint = kept.endpoint().expect("an endpoint");
    assert_eq!((endpoint.upstream.to_string(), endpoint.provider), ("api.example.org:443".to_owned(), Provider::Anthropic));
    let (files, environment) = (kept.files(), kept.environment());
    assert!(files[0].1.contains(&endpoint.placeholder) && !files[0].1.contains("s3cret") && !files[0].1.contains("{now}"), "{files:?}");
    assert_eq!(environment[0].1, format!("{}/x", Endpoint::address(Provider::Anthropic)));
    assert_eq!(environment[1].1, format!("t-{}", endpoint.placeholder));
    assert_eq!(endpoint.environment(), environment);
    assert!(!format!("{endpoint:?}").contains("s3cret"));
    assert_eq!(kept.secrets(), Vec::<String>::new(), "short texts are names");
    fs_err::write(&kept.at, LATER.replace("s3cret-token", "s3cret-token-of-the-usual-length")).expect("written");
    assert_eq!(kept.secrets(), ["s3cret-token-of-the-usual-length"]);
}

#[test]
fn a_description_that_is_wrong_is_refused() {
    let flawed = |change: &dyn Fn(&mut Login)| {
        let mut login = login();
        change(&mut login);
        login.flaw()
    };
    assert_eq!(flawed(&|_| {}), None);
    for (change, words) in [
        (&(|l: &mut Login| l.path = "../x".to_owned()) as &dyn Fn(&mut Login), "path"),
        (&|l: &mut Login| l.files[0].path = "/etc/x".to_owned(), "file"),
        (&|l: &mut Login| l.host = "a b".to_owned(), "host"),
        (&|l: &mut Login| l.paths = vec!["/a/../b".to_owned()], "plain path"),
        (&|l: &mut Login| l.paths.clear(), "which requests"),
        (&|l: &mut Login| drop(l.headers.insert("a b".to_owned(), String::new())), "header"),
    ] {
        let why = flawed(change).expect("a flaw");
        assert!(why.contains(words), "{why}");
    }
    assert!(toml::from_str::<Login>(&CLAUDE.replace("api = \"anthropic\"", "api = \"claude\"")).is_err());
    assert!(toml::from_str::<Login>(&CLAUDE.replace("renew", "renews")).is_err());
}

#[test]
fn moments_are_seconds_milliseconds_or_in_the_token() {
    let at = |text: &str| moment(&serde_json::from_str(text).expect("JSON")).map(|at| at.to_string());
    assert_eq!(at("1767229200"), Some("2026-01-01T01:00:00Z".to_owned()));
    assert_eq!(at("1767229200000"), at("1767229200"));
    assert_eq!(at("1767229200362.7791"), at("1767229200"));
    for nothing in ["-1", "1e300", "\"soon\"", "null"] {
        assert_eq!(at(nothing), None, "{nothing}");
    }
    assert_eq!(claims("x.eyJleHAiOjE3NjcyMjkyMDB9.y").expect("claims")["exp"], 1_767_229_200);
    for bad in ["", "x", "x.!.y", "x.eyJleHAi.y"] {
        assert_eq!(claims(bad), None, "{bad}");
    }
    let now: Timestamp = NOW.parse().expect("a moment");
    let ago = |seconds: i64| about(now - jiff::SignedDuration::from_secs(seconds), now);
    assert_eq!([ago(20), ago(61), ago(3600), ago(5400), ago(86_400 * 3)], ["less than a minute", "1 min", "1 h", "1 h 30 min", "3 days"]);
}
