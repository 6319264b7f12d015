//! What becomes of options and profiles on made-up hosts, and that no combination shows a secret.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::sandbox::profile::{Layer, load, tests::layer};
use crate::sandbox::toolchains::fake::{Fake, around};

const PROJECT: &str = "/home/u/work/project";
const SECRETS: [&str; 12] = [
    "/home/u/.ssh/id_ed25519",
    "/home/u/.aws/credentials",
    "/home/u/.netrc",
    "/home/u/.npmrc",
    "/home/u/.git-credentials",
    "/home/u/.kube/config",
    "/home/u/.docker/config.json",
    "/home/u/.config/gh/hosts.yml",
    "/home/u/.cargo/credentials.toml",
    "/home/u/.local/state/cofferdam/store.db",
    "/etc/shadow",
    "/etc/ssl/private/host.key",
];

fn profile(name: &str) -> Profile {
    load::load(name, None).expect(name)
}

fn options() -> ExecOptions {
    ExecOptions { cwd: PROJECT.into(), ..ExecOptions::default() }
}

fn here(view: &Fake, profile: &Profile, options: &ExecOptions) -> Result<Resolved, ResolveError> {
    resolve(view, profile, options, &around("/usr/bin", &[]))
}

fn default(options: &ExecOptions) -> Result<Resolved, ResolveError> {
    here(&Fake::host(), &profile("default"), options)
}

/// How a host path can be reached inside.
fn access(policy: &Policy, path: &Path) -> Option<Access> {
    let workspace = &policy.workspace.inside;
    let workspace = match &policy.workspace.source {
        // What is written to an overlay is not written to the host.
        WorkspaceSource::Overlay { .. } => (workspace, workspace, Access::Read),
        WorkspaceSource::Folder(_) => (workspace, workspace, policy.workspace.access),
    };
    let grants = policy.grants.iter().map(|g| (&g.host, &g.inside, g.access));
    let caches = policy.caches.iter().flat_map(|c| c.lower.iter().map(|host| (host, &c.inside, Access::Read)));
    let routes = grants.chain(caches).chain([workspace]).filter_map(|(host, inside, access)| {
        let inside = inside.join(path.strip_prefix(host).ok()?);
        let masked = policy.masks.iter().any(|mask| inside.starts_with(&mask.inside));
        (!masked).then_some(access)
    });
    routes.max()
}

#[test]
fn without_options_the_project_is_writable_and_nothing_of_the_person_is_there() {
    let resolved = default(&options()).expect("resolves");
    let policy = resolved.policy;
    assert_eq!(policy.workspace.source, WorkspaceSource::Folder(PROJECT.into()));
    assert_eq!(access(&policy, Path::new("/home/u/work/project/src/main.rs")), Some(Access::Write));
    assert_eq!(access(&policy, Path::new("/usr/bin/sh")), Some(Access::Read));
    for secret in SECRETS.into_iter().chain(["/home/u/.bashrc", "/home/other/secret", "/home/u"]) {
        assert_eq!(access(&policy, Path::new(secret)), None, "{secret}");
    }
    let variable = |name: &str| policy.environment.iter().find(|(n, _)| n == name).map(|(_, v)| v.to_string_lossy().into_owned());
    assert_eq!(variable("HOME").as_deref(), Some("/home/agent"));
    assert_eq!(variable("LANG").as_deref(), Some("de_DE.UTF-8"));
    assert_eq!(variable("AWS_SECRET_ACCESS_KEY"), None, "the caller's environment is not inherited");
    assert_eq!((policy.network.mode, policy.network.origin.as_str()), (NetworkMode::None, "profile default"));
    assert_eq!(resolved.notices, Vec::<String>::new());
}

#[test]
fn folders_that_are_no_workspace_are_refused_with_the_reason() {
    let view = Fake::host().with(&[
        "/home/u/.config/x/y",
        "/var/lib/x/",
        "/usr/src/app/",
        "/run/user/1000/",
        "/home/u/.rustup/x",
        "/root/",
        "/dev/shm/",
    ]);
    for (folder, words) in [
        ("/", "a whole home folder"),
        ("/home", "a whole home folder"),
        ("/home/u", "a whole home folder"),
        ("/home/other", "a whole home folder"),
        ("/root", "a whole home folder"),
        ("/usr", "folder of the system"),
        ("/usr/bin", "folder of the system"),
        ("/etc/ssl/certs", "folder of the system"),
        ("/bin", "folder of the system"),
        ("/tmp", "folder of the system"),
        ("/dev/shm", "folder of the system"),
        ("/opt", "folder of the system"),
        ("/var/lib", "folder of the system"),
        ("/run/user/1000", "folder of the system"),
        ("/home/u/.ssh", "holds secrets"),
        ("/home/u/.config/gh", "holds secrets"),
        ("/home/u/.config", "it contains"),
        ("/home/u/.cargo", "it contains"),
        ("/home/u/.local", "it contains"),
        ("/home/u/.local/state", "keeps its evidence"),
        ("/home/u/.local/state/cofferdam", "keeps its evidence"),
        ("/nowhere", "does not exist"),
        ("/home/u/.bashrc", "is not a folder"),
        ("../../../..", "a whole home folder"),
    ] {
        let asked = ExecOptions { workspace: Some(folder.into()), ..options() };
        let error = here(&view, &profile("default"), &asked).expect_err(folder);
        assert!(error.to_string().contains(words), "{folder}: {error}");
        assert!(!error.next().is_empty());
    }
    for folder in ["/var/lib/x", "/usr/src/app", "/home/u/.config/x", "/home/u/.rustup", "src"] {
        let asked = ExecOptions { workspace: Some(folder.into()), ..options() };
        assert!(here(&view, &profile("default"), &asked).is_ok(), "{folder}");
    }
}

#[test]
fn a_link_as_workspace_is_followed_checked_and_said() {
    let view = Fake::host().with(&["/home/u/w -> work/project", "/home/u/trap -> .ssh", "/home/u/dangling -> nowhere"]);
    let asked = |folder: &str| here(&view, &profile("default"), &ExecOptions { workspace: Some(folder.into()), ..options() });
    let resolved = asked("/home/u/w").expect("resolves");
    assert_eq!(resolved.policy.workspace.inside, Path::new(PROJECT));
    assert!(resolved.notices[0].contains("is a link to /home/u/work/project"), "{:?}", resolved.notices);
    assert!(matches!(asked("/home/u/trap"), Err(ResolveError::Refused { .. })));
    assert!(matches!(asked("/home/u/dangling"), Err(ResolveError::Missing { .. })));
}

#[test]
fn the_folder_behind_a_linked_secret_is_a_secret_too() {
    let view = Fake::host().with(&["/home/u/cloud/keys/id", "/home/u/.gnupg -> cloud/keys", "/home/u/cloud/notes.txt"]);
    let asked = |read: &str| here(&view, &profile("default"), &ExecOptions { read: vec![read.into()], ..options() });
    assert!(matches!(asked("/home/u/cloud/keys"), Err(ResolveError::Refused { .. })));
    let policy = asked("/home/u/cloud").expect("the rest is readable").policy;
    assert_eq!(access(&policy, Path::new("/home/u/cloud/notes.txt")), Some(Access::Read));
    assert_eq!(access(&policy, Path::new("/home/u/cloud/keys/id")), None);
    let workspace = ExecOptions { workspace: Some("/home/u/cloud".into()), ..options() };
    assert!(matches!(here(&view, &profile("default"), &workspace), Err(ResolveError::Refused { .. })));
}

#[test]
fn read_and_write_take_what_exists_and_is_no_secret() {
    let view =
        Fake::host().with(&["/data/a/file", "/data/link -> a", "/data/pipe |", "/home/u/.config/x", "/home/u/.local/bin/", "/mnt/out/"]);
    let asked = |read: &[&str], write: &[&str]| {
        let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect();
        here(&view, &profile("default"), &ExecOptions { read: paths(read), write: paths(write), ..options() })
    };
    let resolved = asked(&["/data/link", "../../.ssh/id_ed25519"], &["/mnt/out"]).expect("resolves");
    let grants = &resolved.policy.grants;
    let grant = |inside: &str| grants.iter().find(|g| g.inside == Path::new(inside));
    assert_eq!(grant("/data/a").map(|g| (g.access, g.reason.as_str())), Some((Access::Read, "--read")));
    assert!(resolved.policy.links.contains(&Link { inside: "/data/link".into(), target: "/data/a".into() }));
    assert_eq!(grant("/mnt/out").map(|g| g.access), Some(Access::Write));
    assert_eq!(grant("/home/u/.ssh/id_ed25519").map(|g| g.access), Some(Access::Read));
    assert!(resolved.notices.iter().any(|n| n.contains("holds secrets")), "{:?}", resolved.notices);
    for (read, write, words) in [
        (&["/nowhere"][..], &[][..], "does not exist"),
        (&["/data/pipe"], &[], "neither a file nor a folder"),
        (&["/home/u"], &[], "a whole home folder"),
        (&["/etc"], &[], "a folder of the system"),
        (&["/proc/1/root"], &[], "does not exist"),
        (&["/home/u/.ssh"], &[], "holds secrets"),
        (&["/home/u/.local/state/cofferdam"], &[], "its evidence"),
        (&[], &["/home/u/.ssh/id_ed25519"], "holds secrets"),
        (&[], &["/home/u/.bashrc"], "run on this machine later"),
        (&[], &["/home/u/.local/bin"], "run on this machine later"),
        (&[], &["/usr/bin"], "a folder of the system"),
        (&["/home/u/.config", "/home/u/.config/gh/hosts.yml"], &[], "must stay hidden"),
    ] {
        let error = asked(read, write).expect_err(words).to_string();
        assert!(error.contains(words), "{read:?} {write:?}: {error}");
    }
    let policy = asked(&["/home/u/.config"], &[]).expect("resolves").policy;
    assert_eq!(access(&policy, Path::new("/home/u/.config/gh/hosts.yml")), None, "masked: {:?}", policy.masks);
}

#[test]
fn grants_are_few_and_parents_come_first() {
    let view = Fake::host().with(&["/d/a/b/c", "/d/x"]);
    let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect();
    let asked = ExecOptions { read: paths(&["/d/a/b", "/d/a", "/d/x", PROJECT]), write: paths(&["/d/a/b/c"]), ..options() };
    let grants = here(&view, &profile("strict"), &asked).expect("resolves").policy.grants;
    let own: Vec<_> = grants
        .iter()
        .filter(|g| g.inside.starts_with("/d") || g.inside.starts_with("/home"))
        .map(|g| (g.inside.to_str(), g.access))
        .collect();
    assert_eq!(own, [(Some("/d/a"), Access::Read), (Some("/d/a/b/c"), Access::Write), (Some("/d/x"), Access::Read)]);
}

#[test]
fn a_part_of_a_read_only_workspace_can_be_writable() {
    let asked = ExecOptions { write: vec![format!("{PROJECT}/src").into()], ..options() };
    let policy = here(&Fake::host(), &profile("reviewer"), &asked).expect("resolves").policy;
    assert_eq!(policy.workspace.access, Access::Read);
    assert!(policy.grants.iter().any(|g| g.inside == Path::new("/home/u/work/project/src") && g.access == Access::Write));
}

#[test]
fn discard_is_an_overlay_that_the_host_never_sees() {
    let policy = default(&ExecOptions { discard: true, ..options() }).expect("resolves").policy;
    assert_eq!(policy.workspace.source, WorkspaceSource::Overlay { lower: vec![PROJECT.into()], upper: Upper::Private });
    assert_eq!(policy.workspace.access, Access::Write);
    let both = ExecOptions { discard: true, require: Some(Tier::NoUserns), ..options() };
    assert_eq!(default(&both), Err(ResolveError::DiscardWithoutUserns));
}

#[test]
fn a_host_that_is_named_takes_the_gateway_and_contradictions_are_told() {
    let allow = |net, rule: &str| default(&ExecOptions { net, allow: vec![rule.into()], ..options() });
    let network = allow(None, "x.org:443").expect("resolves").policy.network;
    assert_eq!((network.mode, network.allow, network.origin), (NetworkMode::Gateway, vec!["x.org:443".to_owned()], "--allow".to_owned()));
    for mode in [NetworkMode::None, NetworkMode::Host] {
        assert_eq!(allow(Some(mode), "x.org").err(), Some(ResolveError::Contradiction(mode)));
    }
    assert!(matches!(allow(None, "https://x.org"), Err(ResolveError::Allow { .. })));
    let host = default(&ExecOptions { net: Some(NetworkMode::Host), ..options() }).expect("resolves").policy.network;
    assert_eq!((host.mode, host.origin.as_str()), (NetworkMode::Host, "--net"));
}

#[test]
fn variables_are_taken_or_set_by_name_only() {
    let env = |given: &[&str]| default(&ExecOptions { env: given.iter().map(OsString::from).collect(), ..options() });
    let resolved = env(&["AWS_SECRET_ACCESS_KEY", "A=b=c", "EMPTY=", "NOT_SET"]).expect("resolves");
    let variable = |name: &str| resolved.policy.environment.iter().find(|(n, _)| n == name).and_then(|(_, v)| v.to_str());
    assert_eq!(variable("AWS_SECRET_ACCESS_KEY"), Some("hunter2"), "a human named it");
    assert_eq!((variable("A"), variable("EMPTY"), variable("NOT_SET")), (Some("b=c"), Some(""), None));
    assert!(resolved.notices.iter().any(|n| n.contains("NOT_SET")));
    for bad in ["=x", "A B=1", "1A=x", "A=\0"] {
        assert!(matches!(env(&[bad]), Err(ResolveError::Variable { .. })), "{bad:?}");
    }
}

#[test]
fn a_limit_of_the_options_replaces_the_profiles() {
    let asked = ExecOptions { limits: Limits { pids: Some(7), ..Limits::default() }, ..options() };
    let limits = default(&asked).expect("resolves").policy.limits;
    assert_eq!((limits.pids, limits.memory), (Some(7), profile("default").limits.memory));
}

#[test]
fn what_a_profile_denies_is_covered_in_the_workspace_too() {
    let view = Fake::host().with(&["/home/u/work/project/.env", "/usr/share/private/x"]);
    let mut profile = profile("default");
    profile.files.deny = ["~/work/project/.env", "/usr/share/private"].map(PathBuf::from).into();
    let policy = here(&view, &profile, &options()).expect("resolves").policy;
    assert_eq!(access(&policy, Path::new("/home/u/work/project/.env")), None);
    assert_eq!(access(&policy, Path::new("/usr/share/private/x")), None);
    let lower = ExecOptions { require: Some(Tier::NoUserns), ..options() };
    assert!(matches!(here(&view, &profile, &lower), Err(ResolveError::CannotHide(_))), "a promise that cannot be kept is refused");
}

#[test]
fn secrets_are_known_without_a_home_and_in_homes_of_others() {
    let view =
        Fake::host().with(&["/root/.ssh/key", "/root/.config/gh/hosts.yml", "/root/p/", "/home/other/.aws/credentials", "/home/other/w/"]);
    for variables in [vec![], vec![("HOME", "/root")], vec![("HOME", "/nowhere")]] {
        let around = Surroundings::of(variables.into_iter().map(|(n, v)| (n.to_owned(), OsString::from(v))).collect());
        let ask = |cwd: &str, read: &[&str]| {
            let read = read.iter().map(PathBuf::from).collect();
            resolve(&view, &profile("default"), &ExecOptions { cwd: cwd.into(), read, ..ExecOptions::default() }, &around)
        };
        for secret in ["/root/.ssh", "/home/other/.aws", "/home/u/.kube"] {
            let error = ask("/root/p", &[secret]).expect_err(secret).to_string();
            assert!(error.contains("holds secrets"), "{error}");
        }
        assert!(ask("/home/other/.aws", &[]).is_err() && ask("/root", &[]).is_err());
        let policy = ask("/home/other/w", &["/root/.config"]).expect("resolves").policy;
        assert_eq!(access(&policy, Path::new("/root/.config/gh/hosts.yml")), None);
    }
}

#[test]
fn folders_full_of_sockets_are_not_readable_as_a_whole() {
    let view = Fake::host().with(&["/run/user/1000/bus |", "/tmp/ssh-x/agent.1 |", "/tmp/data/x"]);
    let ask = |read: &str| here(&view, &profile("default"), &ExecOptions { read: vec![read.into()], ..options() });
    for folder in ["/tmp", "/run", "/run/user/1000", "/run/user/1000/bus", "/tmp/ssh-x/agent.1"] {
        assert!(ask(folder).is_err(), "{folder}");
    }
    assert!(ask("/tmp/data").is_ok());
}

#[test]
fn a_cargo_home_in_the_workspace_is_fine_and_its_credentials_are_covered() {
    let view = Fake::host().with(&["/home/u/work/project/.cargo-ci/credentials.toml", "/home/u/work/project/.cargo-ci/registry/"]);
    let around = around("/usr/bin", &[("CARGO_HOME", "/home/u/work/project/.cargo-ci")]);
    let policy = resolve(&view, &profile("default"), &options(), &around).expect("resolves").policy;
    assert_eq!(access(&policy, Path::new("/home/u/work/project/.cargo-ci/credentials.toml")), None);
    assert_eq!(access(&policy, Path::new("/home/u/work/project/.cargo-ci/registry")), Some(Access::Write));
}

#[test]
fn a_command_given_by_its_path_is_granted_with_its_tool() {
    let view = Fake::host().with(&["/opt/tool/bin/x", "/home/u/.ssh/run.sh"]);
    let run =
        |program: &str| here(&view, &profile("default"), &ExecOptions { program: Some(program.into()), ..options() }).expect("resolves");
    assert_eq!(access(&run("/opt/tool/bin/x").policy, Path::new("/opt/tool/bin/x")), Some(Access::Read));
    let secret = run("/home/u/.ssh/run.sh");
    assert_eq!(access(&secret.policy, Path::new("/home/u/.ssh/run.sh")), None);
    assert!(secret.findings.iter().any(|f| f.why.contains("holds secrets")));
}

/// A host full of tools and of secrets, and a PATH of anything that is on it.
fn cluttered() -> Fake {
    Fake::host().with(&[
        "/home/u/.cargo/bin/cargo",
        "/home/u/.rustup/toolchains/x -> /home/u",
        "/home/u/.local/bin/a -> /home/u/.ssh/id_ed25519",
        "/home/u/.local/bin/b -> /home/u/.netrc",
        "/home/u/.local/bin/c -> /home/u/.config/gh/hosts.yml",
        "/home/u/.local/lib/python3.11/",
        "/home/u/bin/python -> ../.aws/credentials",
        "/home/u/venv/bin/python -> /home/u/.ssh/id_ed25519",
        "/home/u/venv/pyvenv.cfg",
        "/home/u/link/bin -> /home/u",
        "/home/u/.npm/_cacache -> /home/u/.aws",
        "/home/u/.cache/pip -> /home/u",
        "/opt/x/bin/x",
        "/usr/local/bin/y -> /home/other",
        "/home/u/.local/bin/d -> /home/u/work",
        "/d/e/f",
        "/a/b/c/d",
        "/ab/x",
    ])
}

fn some_paths(view: &Fake) -> impl Strategy<Value = Vec<String>> + use<> {
    let all: Vec<String> = view.paths().map(|path| path.display().to_string()).collect();
    prop::collection::vec(prop::sample::select(all), 0..6)
}

fn readable(policy: &Policy, view: &Fake) -> BTreeSet<(PathBuf, Access)> {
    view.paths().filter_map(|path| Some((path.to_path_buf(), access(policy, path)?))).collect()
}

fn within(narrow: &BTreeSet<(PathBuf, Access)>, wide: &BTreeSet<(PathBuf, Access)>) -> Option<(PathBuf, Access)> {
    narrow.iter().find(|(path, access)| !wide.iter().any(|(p, a)| p == path && a >= access)).cloned()
}

proptest! {
    #[test]
    fn no_path_and_no_variable_shows_a_secret(
        path in some_paths(&cluttered()), values in prop::collection::vec((0_usize..14, some_paths(&cluttered())), 0..4), name in 0_usize..8,
    ) {
        let view = cluttered();
        let names = ["GOPATH", "JAVA_HOME", "VIRTUAL_ENV", "PYENV_ROOT", "NVM_DIR", "CARGO_HOME", "RUSTUP_HOME", "GOROOT", "PNPM_HOME",
            "npm_config_cache", "PIP_CACHE_DIR", "XDG_CACHE_HOME", "GOCACHE", "SSL_CERT_FILE"];
        let variables: Vec<(&str, &str)> = values.iter().filter_map(|(n, v)| Some((names[*n], v.first()?.as_str()))).collect();
        let (profile_name, _) = crate::sandbox::profile::BUILT_IN[name];
        let around = around(&path.join(":"), &variables);
        let resolved = resolve(&view, &profile(profile_name), &options(), &around).expect("nothing here is an error");
        for secret in SECRETS.into_iter().chain(["/home/other/secret", "/home/u/.bashrc"]) {
            prop_assert_eq!(access(&resolved.policy, Path::new(secret)), None, "{} in {:#?}", secret, resolved.policy);
        }
        // Parents before what lies in them, and nothing twice.
        for (at, grant) in resolved.policy.grants.iter().enumerate() {
            prop_assert!(!resolved.policy.grants[at + 1..].iter().any(|later| grant.inside.starts_with(&later.inside)), "{:?}", grant);
        }
        for entry in std::env::split_paths(&resolved.policy.environment.iter().find(|(n, _)| n == "PATH").expect("has a PATH").1) {
            prop_assert!(entry.is_absolute());
            let real = view.real(&entry).expect("exists");
            prop_assert!(access(&resolved.policy, &real).is_some(), "{:?} is on PATH and not there", entry);
        }
    }

    #[test]
    fn no_option_shows_a_secret_that_it_does_not_name(read in some_paths(&cluttered()), write in some_paths(&cluttered()), workspace in some_paths(&cluttered())) {
        let view = cluttered();
        let paths = |list: &[String]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
        let asked = ExecOptions { read: paths(&read), write: paths(&write), workspace: workspace.first().map(PathBuf::from), ..options() };
        if let Ok(resolved) = here(&view, &profile("default"), &asked) {
            for secret in SECRETS {
                let named = read.iter().any(|path| view.real(Path::new(path)).is_some_and(|real| real == Path::new(secret)));
                let expected = if named { Some(Access::Read) } else { None };
                prop_assert!(access(&resolved.policy, Path::new(secret)) <= expected, "{} in {:#?}", secret, resolved.policy);
            }
        }
    }

    #[test]
    fn a_narrower_policy_reaches_nothing_more(base in layer(), narrow in layer()) {
        let view = cluttered();
        let base = base.widen("base", Profile::nothing("nothing"));
        let tier = Some(Tier::Full);
        let asked = ExecOptions { require: tier, ..options() };
        let wide = here(&view, &base, &asked).expect("resolves").policy;
        let narrow = here(&view, &narrow.narrow(&base), &asked).expect("resolves").policy;
        prop_assert_eq!(within(&readable(&narrow, &view), &readable(&wide, &view)), None);
        prop_assert!(narrow.network.mode <= wide.network.mode);
    }

    #[test]
    fn a_deny_takes_away_and_never_adds(base in layer(), denied in some_paths(&cluttered())) {
        let view = cluttered();
        let base = base.widen("base", Profile::nothing("nothing"));
        let deny = Layer { deny: Some(denied.iter().map(PathBuf::from).collect()), ..Layer::default() };
        let asked = ExecOptions { require: Some(Tier::Full), ..options() };
        let wide = here(&view, &base, &asked).expect("resolves").policy;
        // A workspace within what is denied is refused, which grants nothing at all.
        if let Ok(resolved) = here(&view, &deny.widen("deny", base), &asked) {
            prop_assert_eq!(within(&readable(&resolved.policy, &view), &readable(&wide, &view)), None);
            for path in denied.iter().filter(|path| *path != "/") {
                let real = view.real(Path::new(path));
                let reached = real.and_then(|real| access(&resolved.policy, &real));
                let system = ["/bin", "/usr", "/lib", "/sbin", "/etc"].iter().any(|s| path.starts_with(s));
                prop_assert!(reached.is_none() || system, "{} is denied and reached in {:#?}", path, resolved.policy);
            }
        }
    }
}

/// Counts what is asked of the file system.
struct Counting(Fake, std::cell::Cell<usize>);

impl Counting {
    fn asked(&self) -> &Fake {
        self.1.set(self.1.get() + 1);
        &self.0
    }
}

impl View for Counting {
    fn entry(&self, path: &Path) -> Option<toolchains::Entry> {
        self.asked().entry(path)
    }
    fn link(&self, path: &Path) -> Option<PathBuf> {
        self.asked().link(path)
    }
    fn real(&self, path: &Path) -> Option<PathBuf> {
        self.asked().real(path)
    }
    fn list(&self, path: &Path) -> Vec<(OsString, Kind)> {
        self.asked().list(path)
    }
    fn text(&self, path: &Path, limit: u64) -> Option<String> {
        self.asked().text(path, limit)
    }
}

/// The start of every sandbox waits for this, so it must not grow with the host: a home with every tool is looked at some 150 times.
#[test]
fn a_host_full_of_tools_costs_a_bounded_number_of_looks() {
    let mut view = cluttered().with(&["/home/u/.pyenv/shims/python", "/home/u/.nvm/versions/node/v22/bin/node", "/home/u/go/bin/gopls"]);
    for n in 0..500 {
        view.add(&format!("/usr/bin/program{n} -> ../lib/program{n}"));
        view.add(&format!("/home/u/.rustup/toolchains/stable/lib/{n}"));
        view.add(&format!("/home/u/.pyenv/versions/3.12/lib/{n} -> x"));
    }
    let path = "/home/u/.cargo/bin:/home/u/.pyenv/shims:/home/u/.nvm/versions/node/v22/bin:/home/u/go/bin:/home/u/.local/bin:/home/u/venv/bin:\
        /opt/x/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let counting = Counting(view, 0.into());
    resolve(&counting, &profile("default"), &options(), &around(path, &[])).expect("resolves");
    let looks = counting.1.get();
    assert!((20..200).contains(&looks), "{looks}");
}
