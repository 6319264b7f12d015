//! A run: a story's agent calls its model with a key that it never sees, as often as its budget allows, and reaches the configured hosts.

use std::process::{Command, Stdio};

use super::common::{Who, World};
use super::support::Site;

/// For a host that is no model's.
const TOKEN: &str = "glpat-real-1234567890-never-inside";
const KEY: &str = "sk-real-9876543210-never-inside";

/// Asks its model five times, then a host that is allowed and one that is not; what it sees is in the story's files.
const AGENT: &str = r#"#!/bin/sh
for n in 1 2 3 4 5; do
    curl -sS --max-time 20 -H "x-api-key: $ANTHROPIC_API_KEY" -d '{}' -o answer -w '%{http_code} ' "$ANTHROPIC_BASE_URL/v1/messages" >> codes
done
tail -c 300 answer
env > environment
curl -sS --max-time 20 --noproxy '' -o /dev/null -w '%{http_code} ' "http://$(cat /run/cofferdam/base/allowed)/" >> codes
curl -sS --max-time 20 -o /dev/null -w '%{http_code} ' http://evil.test/ >> codes
for path in v1/mine v1/other secret; do
    curl -sS --max-time 20 --noproxy '' -H "private-token: $HOST_TOKEN" -o /dev/null -w '%{http_code} ' "https://$(cat /run/cofferdam/base/secured)/$path" >> codes
done
echo good > US-1.txt
echo '{"summary": "done", "message": "US-1: done"}' > /run/cofferdam/out/report.json
"#;

fn git(world: &World, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "safe.directory=*", "-c", "user.name=test", "-c", "user.email=test@localhost"]).args(args);
    let output = command.current_dir(world.workspace()).env("HOME", world.home()).stdin(Stdio::null()).output().expect("git runs");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_story_s_model_calls_end_with_its_budget_and_its_key_stays_outside() {
    let world = World::new(Who::Caller);
    let model = Site::model("127.0.0.1", |request, _, out| {
        let body = "{\"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":100,\"output_tokens\":10}}";
        let status = if request.to_ascii_lowercase().contains(&format!("x-api-key: {KEY}")) { "200 OK" } else { "401 No" };
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        out.write_all(head.as_bytes()).ok();
    });
    let allowed = Site::http();
    let secured = Site::https("127.0.0.1");
    let roots = world.write("home/roots.pem", &format!("{}{}", model.certificate, secured.certificate));
    let at = |site: &Site| format!("127.0.0.1:{}", site.port());
    let (model_at, allowed_at, secured_at) = (at(&model), at(&allowed), at(&secured));
    let agent = world.write("home/project/agent.sh", AGENT);
    fs_err::set_permissions(agent, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("permissions");
    world.write("home/project/allowed", &allowed_at);
    world.write("home/project/secured", &secured_at);
    world.write("home/project/stories/US-1.md", "---\nid: US-1\ntitle: One\nchecks:\n  - grep -q good US-1.txt\n---\n- [ ] AC-1: good\n");
    world.write(
        "home/project/cofferdam.toml",
        &format!(
            "[agents.implementer]\nadapter = \"command\"\ncommand = [\"./agent.sh\"]\n\n[budget]\nmodel_calls = 3\n\n\
             [network]\nimplementer = [\"{allowed_at}\", \"GET {secured_at}/v1/\"]\n\n\
             [[credential]]\nhost = \"{secured_at}\"\nheader = \"private-token\"\nfrom = \"command:printenv REAL_TOKEN\"\n\
             variable = \"HOST_TOKEN\"\nmethods = [\"GET\"]\npath = \"/v1/mine\"\n\n\
             [[credential]]\nhost = \"{model_at}\"\nheader = \"x-api-key\"\nfrom = \"env:REAL_KEY\"\napi = \"anthropic\"\n"
        ),
    );
    git(&world, &["init", "-q", "-b", "main"]);
    git(&world, &["add", "-A"]);
    git(&world, &["commit", "-q", "-m", "base"]);
    let output =
        world.command().arg("run").env("SSL_CERT_FILE", &roots).env("REAL_KEY", KEY).env("REAL_TOKEN", TOKEN).output().expect("runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let log = world.command().args(["log", "--json"]).output().expect("runs");
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    // The budget ended it, the calls that were counted are those that were made.
    assert_eq!(output.status.code(), Some(4), "{said}\n{log}");
    assert_eq!(model.seen().len(), 3, "{said}\n{log}");
    assert!(log.contains("budget: the budget of 3 model calls is spent"), "{log}");
    assert!(log.contains("\"model_calls\":3") && log.contains("\"tokens_in\":300") && log.contains("\"tokens_out\":30"), "{log}");
    assert!(log.contains("network.denied") && log.contains("evil.test"), "{log}");
    // What it left was collected all the same: the codes it got, and its environment, in which there is no key.
    let reference = git(&world, &["for-each-ref", "--format=%(refname)", "refs/cofferdam/stories/"]);
    let file = |name: &str| git(&world, &["show", &format!("{}:{name}", reference.lines().next().expect("a ref"))]);
    assert_eq!(file("codes").trim(), "200 200 200 400 400 200 403 200 200 403");
    assert!(file("environment").contains("ANTHROPIC_API_KEY=sk-ant-api03-cofferdam-"));
    assert!(model.seen().concat().contains(KEY), "control: the provider got it");
    // The other host's token went with the request that it is for, and with no other; what the agent sent in its place went with none.
    let tokens: Vec<bool> = secured.seen().iter().map(|request| request.contains(&format!("private-token: {TOKEN}"))).collect();
    assert_eq!(tokens, [true, false], "{:?}", secured.seen());
    assert!(!secured.seen()[1].contains("private-token") && file("environment").contains("HOST_TOKEN=cofferdam"));
    let kept = Command::new("grep").args(["-rlF", "-e", KEY, "-e", TOKEN]).arg(world.home()).output().expect("grep");
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "", "the key is nowhere in the state, the evidence, or the repository");
    for place in [said, log] {
        assert!(!place.contains(KEY) && !place.contains(TOKEN));
    }
}
