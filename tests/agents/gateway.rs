//! Real agents and a provider behind TLS: they reach it through the gateway, which has the key. Inside there is a placeholder.

use std::process::Command;

use super::common::{Who, World};
use super::{Model, Project, all_there, through};

const KEY: &str = "sk-real-0123456789-never-inside";

/// The model behind TLS, and the file with the certificate that a client of it must trust.
fn provider(world: &World, secret: &str) -> (Model, std::path::PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let roots = world.write("home/roots.pem", &made.cert.pem());
    // Not below the project, whose processes are counted.
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, private) = (folder.path().join("certificate.pem"), folder.path().join("private.pem"));
    fs_err::write(&certificate, made.cert.pem()).expect("written");
    fs_err::write(&private, made.signing_key.serialize_pem()).expect("written");
    let model = Model::start(&[certificate.as_os_str(), private.as_os_str(), secret.as_ref()]);
    (model, roots)
}

/// A project whose agents have no network but the gateway's door to their model.
fn behind_tls(test: &str, implementer: &str, reviewer: &str, text: &str) -> Option<(Project, std::path::PathBuf)> {
    all_there(test, &[implementer, reviewer]).then_some(())?;
    let world = World::new(Who::Caller);
    let (model, roots) = provider(&world, KEY);
    let agent = |role: &str, adapter: &str| format!("[agents.{role}]\nadapter = \"{adapter}\"\nmodel = \"the-model\"\n");
    let credential = |api: &str, header: &str| {
        format!("[[credential]]\nhost = \"127.0.0.1:{}\"\nheader = \"{header}\"\nfrom = \"env:REAL_KEY\"\napi = \"{api}\"\n", model.port)
    };
    let config = agent("implementer", implementer)
        + &agent("reviewer", reviewer)
        + "[run]\niterations = 1\nretry_delay = \"1ms\"\n"
        + &credential("anthropic", "x-api-key")
        + &credential("openai", "authorization");
    Some((Project::begin(world, model, text, &config), roots))
}

fn run(project: &Project, roots: &std::path::Path, key: &str) -> String {
    let output = project.command(&["run"]).env("SSL_CERT_FILE", roots).env("REAL_KEY", key).output().expect("it runs");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Neither the state, nor the evidence, nor the repository, nor what was printed holds it.
fn is_nowhere(project: &Project, printed: &str, key: &str) {
    assert!(!printed.contains(key), "{printed}");
    let kept = Command::new("grep").args(["-rlF", key]).arg(project.world.home()).output().expect("grep");
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "");
}

#[test]
fn real_agents_work_through_the_gateway_and_never_hold_the_key() {
    for (implementer, reviewer) in [("claude", "codex"), ("codex", "claude")] {
        let test = format!("{implementer} and {reviewer} behind the gateway");
        let Some((project, roots)) = behind_tls(&test, implementer, reviewer, "FAULT env") else { return };
        let printed = run(&project, &roots, KEY);
        assert!(through(&project.story()["state"]), "{test}: {}\n{printed}", project.story());
        let requests = project.model.requests();
        assert!(requests.len() >= 4 && requests.iter().all(|request| request["key"] == KEY), "control: the provider got it: {requests:?}");
        is_nowhere(&project, &printed, KEY);
        // The agent's own shell saw a placeholder, and no way out but the gateway's.
        let commit = project.story()["commit"].as_str().expect("a commit").to_owned();
        let seen = project.git(&["show", &format!("{commit}:environment.txt")]);
        let name = if implementer == "claude" { "ANTHROPIC_API_KEY" } else { "OPENAI_API_KEY" };
        assert!(seen.contains(&format!("{name} is a placeholder\n")) && !seen.contains('='), "{seen}");
        // What was counted is what the provider said, counted outside.
        let spent: u64 = project.events("budget.spent").iter().filter_map(|e| e["amount"]["model_calls"].as_u64()).sum();
        assert_eq!(spent, requests.iter().filter(|r| !r["path"].as_str().unwrap_or_default().contains("count_tokens")).count() as u64);
        project.is_clean();
    }
}

#[test]
fn a_wrong_key_outside_is_said_and_stays_outside() {
    const WRONG: &str = "sk-wrong-9876543210-never-inside";
    for agent in ["claude", "codex"] {
        let Some((project, roots)) = behind_tls("a wrong key outside", agent, agent, "Say hello.") else { return };
        let printed = run(&project, &roots, WRONG);
        let ended = project.events("attempt.ended");
        let cause = ended[0]["end"]["cause"].as_str().unwrap_or_default();
        assert!(cause.contains("it gave up") && cause.contains("401"), "{agent}: {ended:?}\n{printed}");
        assert_eq!(project.story()["state"], "escalated", "{agent}: {}", project.story());
        is_nowhere(&project, &printed, WRONG);
        project.is_clean();
    }
}

/// Real agents stop at the budget: the call behind the last one is refused by the gateway, and the attempt ends as that.
#[test]
fn the_fourth_call_of_a_real_agent_is_refused_when_it_may_make_three() {
    for agent in ["claude", "codex"] {
        let Some((project, roots)) = behind_tls("a budget of three calls", agent, agent, "FAULT long") else { return };
        let config = project.world.workspace().join("cofferdam.toml");
        let text = fs_err::read_to_string(&config).expect("the configuration");
        fs_err::write(&config, format!("[budget]\nmodel_calls = 3\n{text}")).expect("written");
        project.git(&["commit", "-qam", "three calls"]);
        let printed = run(&project, &roots, KEY);
        let calls = project.model.requests().iter().filter(|r| !r["path"].as_str().unwrap_or_default().contains("count_tokens")).count();
        assert_eq!(calls, 3, "{agent}: {:?}\n{printed}", project.model.requests());
        let story = project.story();
        let said = format!("{} {:?}", story, project.events("attempt.ended"));
        assert!(!through(&story["state"]) && said.contains("budget: the budget of 3 model calls is spent"), "{agent}: {said}\n{printed}");
        is_nowhere(&project, &printed, KEY);
        project.is_clean();
    }
}

/// What the programs leave when a person logs in.
const TOKEN: &str = "tok-real-0123456789-abcdefghijklmnopqrstuvwxyz-never-inside";
const LOGINS: [&str; 3] = [".claude/.credentials.json", ".codex/auth.json", ".gemini/oauth_creds.json"];

/// The same project, paid by logins: its provider stands where the adapters say that their logins are for.
fn with_logins(test: &str, implementer: &str, reviewer: &str, text: &str, ends: &str) -> Option<(Project, std::path::PathBuf)> {
    all_there(test, &[implementer, reviewer]).then_some(())?;
    let world = World::new(Who::Caller);
    let (model, roots) = provider(&world, TOKEN);
    for name in [implementer, reviewer] {
        let built_in = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/agents/adapters/{name}.toml"));
        let text = fs_err::read_to_string(built_in).expect("an adapter");
        // The login's own host: `[provider]` comes behind it.
        let (before, after) = text.split_once("\nhost = \"").expect("a host");
        let (_, after) = after.split_once('"').expect("its end");
        world.write(
            &format!("home/.config/cofferdam/adapters/{name}.toml"),
            &format!("{before}\nhost = \"127.0.0.1:{}\"{after}", model.port),
        );
    }
    world.write(
        &format!("home/{}", LOGINS[0]),
        &format!("{{\"claudeAiOauth\":{{\"accessToken\":\"{TOKEN}\",\"refreshToken\":\"{TOKEN}-again\",\"expiresAt\":{ends},\"scopes\":[\"user:inference\"]}}}}"),
    );
    world.write(
        &format!("home/{}", LOGINS[1]),
        &format!(
            "{{\"OPENAI_API_KEY\":null,\"tokens\":{{\"id_token\":\"x.y.z\",\"access_token\":\"{TOKEN}\",\"refresh_token\":\"{TOKEN}-again\",\"account_id\":\"acc-real\"}}}}"
        ),
    );
    world.write(
        &format!("home/{}", LOGINS[2]),
        &format!("{{\"access_token\":\"{TOKEN}\",\"refresh_token\":\"{TOKEN}-again\",\"expiry_date\":{ends}.5}}"),
    );
    let agent = |role: &str, adapter: &str| format!("[agents.{role}]\nadapter = \"{adapter}\"\nmodel = \"{}\"\n", model_of(adapter));
    let config = agent("implementer", implementer) + &agent("reviewer", reviewer) + "[run]\niterations = 1\nretry_delay = \"1ms\"\n";
    Some((Project::begin(world, model, text, &config), roots))
}

/// One that its program takes for a model.
fn model_of(adapter: &str) -> &'static str {
    if adapter == "gemini" { "gemini-2.5-pro" } else { "the-model" }
}

const LATE: &str = "4000000000000";

#[test]
fn real_agents_work_by_a_person_s_login_and_never_hold_it() {
    // gemini is large: a build machine has it only when it wants to.
    for (implementer, reviewer) in [("claude", "codex"), ("codex", "claude"), ("gemini", "codex")] {
        let test = format!("{implementer} and {reviewer} by their logins");
        let Some((project, roots)) = with_logins(&test, implementer, reviewer, "FAULT find", LATE) else { return };
        let printed = run(&project, &roots, "no key");
        let requests = project.model.requests();
        assert!(through(&project.story()["state"]), "{test}: {}\n{printed}\n{requests:?}", project.story());
        assert!(
            requests.len() >= 4 && requests.iter().all(|request| request["key"] == TOKEN),
            "control: the provider got it: {requests:?}"
        );
        for request in &requests {
            let path = request["path"].as_str().unwrap_or_default();
            let (header, wanted) = match path {
                path if path.starts_with("/v1/messages") => ("anthropic-beta", "oauth-2025-04-20"),
                path if path.starts_with("/backend-api/codex/") => ("chatgpt-account-id", "acc-real"),
                _ => continue,
            };
            assert!(request[header].as_str().is_some_and(|more| more.contains(wanted)), "{request}");
        }
        // Its shell looked everywhere, and found what lies there in its place.
        let commit = project.story()["commit"].as_str().expect("a commit").to_owned();
        let found = project.git(&["show", &format!("{commit}:found.txt")]);
        assert!(found.contains("real 0, ") && !found.contains("placeholder 0"), "{found}");
        // Nothing that is kept or was printed holds it: only the files of the logins do.
        assert!(!printed.contains(TOKEN), "{printed}");
        let kept = Command::new("grep").args(["-rlF", TOKEN]).arg(project.world.home()).output().expect("grep");
        let mut kept: Vec<String> = String::from_utf8_lossy(&kept.stdout).lines().map(str::to_owned).collect();
        kept.sort();
        assert_eq!(kept, LOGINS.map(|path| project.world.home().join(path).display().to_string()));
        let spent: u64 = project.events("budget.spent").iter().filter_map(|e| e["amount"]["model_calls"].as_u64()).sum();
        assert_eq!(spent, requests.iter().filter(|r| is_call(r["path"].as_str().unwrap_or_default())).count() as u64);
        project.is_clean();
    }
}

fn is_call(path: &str) -> bool {
    // The service of gemini's login is asked for more than that.
    !path.ends_with("count_tokens") && (!path.contains("/v1internal:") || path.contains("enerateContent"))
}

#[test]
fn a_login_that_has_expired_is_never_sent_and_says_what_renews_it() {
    let Some((project, roots)) = with_logins("an expired login", "claude", "claude", "Say hello.", "1000000000000") else { return };
    let printed = run(&project, &roots, "no key");
    assert_eq!(project.model.requests(), Vec::<serde_json::Value>::new(), "{printed}");
    let ended = format!("{:?}", project.events("attempt.ended"));
    assert!(ended.contains("expired") && ended.contains("run `claude` on the host"), "{ended}\n{printed}");
    project.is_clean();
}

/// Whoever writes it into their own configuration gives the file itself away; a repository cannot.
#[test]
fn a_login_is_shared_only_by_the_person_themselves() {
    let world = World::new(Who::Caller);
    world.write(&format!("home/{}", LOGINS[0]), &format!("{{\"claudeAiOauth\":{{\"accessToken\":\"{TOKEN}\"}}}}"));
    let login = "[[login]]\npath = \".claude/.credentials.json\"\ntoken = \"claudeAiOauth.accessToken\"\nrenew = \"x\"\nhost = \"127.0.0.1\"\n\
        api = \"anthropic\"\npaths = [\"/v1/\"]\n[[login.file]]\npath = \".claude/.credentials.json\"\ncontent = \"{mark}\"\n";
    let script = "grep -c real ~/.claude/.credentials.json >found.txt; grep -c login ~/.claude/.credentials.json >>found.txt; echo \"$0\" >/dev/null";
    world.write(
        "home/.config/cofferdam/adapters/mine.toml",
        &format!("description = \"Mine\"\nprogram = \"sh\"\narguments = [\"-c\", '{script}', \"{{prompt}}\"]\nstream = \"text\"\ncontract = \"off\"\n{login}"),
    );
    let agents =
        "[agents.implementer]\nadapter = \"mine\"\n[agents.reviewer]\nadapter = \"command\"\ncommand = [\"true\"]\n[run]\niterations = 1\n";
    let project = Project::begin(world, Model::start(&[]), "Say hello.", agents);
    let found = |project: &Project, attempt: u32| {
        let printed = project.run();
        assert!(printed.contains("change.collected") || printed.contains("commit"), "{printed}");
        project.git(&["show", &format!("refs/cofferdam/stories/GREET/{attempt}:found.txt")])
    };
    // By default it is not inside.
    assert_eq!(found(&project, 1), "0\n1\n");
    let here = project.world.workspace().join("cofferdam.toml");
    fs_err::write(&here, agents.replace("adapter = \"mine\"", "adapter = \"mine\"\nlogin = \"share\"")).expect("written");
    project.git(&["commit", "-qam", "share"]);
    let refused = project.run();
    assert!(refused.contains("copies your own login into a sandbox") && refused.contains("your own config.toml"), "{refused}");
    fs_err::write(&here, agents).expect("written");
    project.git(&["commit", "-qam", "do not share"]);
    project.world.write("home/.config/cofferdam/config.toml", "[agents.implementer]\nlogin = \"share\"\n");
    drop(project.command(&["reset", "GREET"]).output().expect("it runs"));
    assert_eq!(found(&project, 2), "1\n0\n");
    project.is_clean();
}

/// Its program renews a login whenever it likes; what is given away then must not be kept either.
#[test]
fn a_login_that_is_renewed_during_a_run_is_not_kept() {
    const RENEWED: &str = "the-renewed-one-0123456789-abcdefghijklmnop";
    let world = World::new(Who::Caller);
    let login = |token: &str| format!("{{\"claudeAiOauth\":{{\"accessToken\":\"{token}\"}}}}");
    world.write(&format!("home/{}", LOGINS[0]), &login(TOKEN));
    let script = "cat ~/.claude/.credentials.json; grep -c the-renewed-one ~/.claude/.credentials.json >found.txt && exit 0; exit 1";
    world.write(
        "home/.config/cofferdam/adapters/mine.toml",
        &format!(
            "description = \"Mine\"\nprogram = \"sh\"\narguments = [\"-c\", '{script}', \"{{prompt}}\"]\nstream = \"text\"\ncontract = \"off\"\n\
             [[login]]\npath = \".claude/.credentials.json\"\ntoken = \"claudeAiOauth.accessToken\"\nrenew = \"x\"\nhost = \"127.0.0.1\"\n\
             api = \"anthropic\"\npaths = [\"/v1/\"]\n[[login.file]]\npath = \".claude/.credentials.json\"\ncontent = \"{{mark}}\"\n"
        ),
    );
    world.write("home/.config/cofferdam/config.toml", "[agents.implementer]\nlogin = \"share\"\n");
    let agents = "[agents.implementer]\nadapter = \"mine\"\n[agents.reviewer]\nadapter = \"command\"\ncommand = [\"true\"]\n\
        [run]\niterations = 2\nretry_delay = \"3s\"\n";
    let project = Project::begin(world, Model::start(&[]), "Say hello.", agents);
    let printed = std::thread::scope(|scope| {
        let run = scope.spawn(|| project.run());
        crate::common::soon("the first attempt", || !project.events("attempt.ended").is_empty());
        project.world.write(&format!("home/{}", LOGINS[0]), &login(RENEWED));
        run.join().expect("no panic")
    });
    assert_eq!(project.git(&["show", "refs/cofferdam/stories/GREET/2:found.txt"]), "1\n", "control: the second one had it\n{printed}");
    assert!(!printed.contains(RENEWED), "{printed}");
    let kept = Command::new("grep").args(["-rlF", RENEWED]).arg(project.world.home()).output().expect("grep");
    assert_eq!(String::from_utf8_lossy(&kept.stdout).trim(), project.world.home().join(LOGINS[0]).display().to_string());
    let words = Command::new("grep").args(["-rlF", "[redacted: the login in"]).arg(project.world.home()).output().expect("grep");
    assert!(!words.stdout.is_empty(), "control: it was printed, and taken out");
    project.is_clean();
}
