//! What a profile's text becomes, what is refused in it, and that narrowing only takes away.

use std::path::Path;

use proptest::collection::{btree_map, btree_set};
use proptest::option::of as maybe;
use proptest::prelude::*;

use super::load::{Source, chain, find};
use super::*;

fn refusal(text: &str) -> String {
    read::layer("mine.toml", text).expect_err(text).to_string()
}

fn loaded(name: &str) -> Profile {
    load::load(name, None).expect(name)
}

#[test]
fn every_built_in_profile_is_read_and_is_what_its_role_needs() {
    for (name, _) in BUILT_IN {
        let profile = loaded(name);
        assert!(!profile.description.is_empty(), "{name}");
        assert_ne!(profile.network.mode, NetworkMode::Host, "{name}: the host's network is never a default");
        assert!(profile.network.allow.is_empty(), "{name}: no host is allowed by default");
        assert_eq!(profile.require, Tier::Full, "{name}: nothing asks for less by itself");
        assert!(profile.files.write.is_empty(), "{name}");
        let limits = profile.limits;
        assert!(limits.memory.is_some() && limits.pids.is_some() && limits.wall.is_some() && limits.output.is_some(), "{name}: {limits:?}");
        assert!(limits.disk.is_some() && limits.files.is_some() && limits.open_files.is_some(), "{name}: {limits:?}");
    }
    for name in ["reviewer", "verifier", "strict"] {
        assert_eq!(loaded(name).files.workspace, WorkspaceMode::Read, "{name}");
    }
    for name in ["default", "verifier", "gate", "offline", "strict"] {
        assert_eq!(loaded(name).network.mode, NetworkMode::None, "{name}");
    }
    assert_eq!(loaded("reviewer").extends, ["default"]);
}

#[test]
fn every_line_of_a_built_in_profile_says_why() {
    for (name, text) in BUILT_IN {
        let mut table_says = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                table_says = line.contains('#');
            }
            // The opening of a list says nothing itself; its entries do.
            let content = line.starts_with('"') || (line.contains(" = ") && !line.starts_with('#') && !line.ends_with('['));
            let about_itself = line.starts_with("description") || line.starts_with("extends");
            assert!(!content || about_itself || table_says || line.contains('#'), "{name}: no reason on `{line}`");
        }
    }
}

#[test]
fn a_wrong_line_is_shown_with_its_number_and_the_nearest_key() {
    insta::assert_snapshot!(refusal("extends = \"default\"\n\n[limits]\nmemroy = \"4GiB\"\n"), @r#"
    unknown key `memroy` in [limits]
      --> mine.toml:4:1
       |
     4 | memroy = "4GiB"
       | ^^^^^^
      help: did you mean `memory`?
    "#);
}

#[test]
fn every_kind_of_mistake_is_refused_by_name() {
    for (text, words) in [
        ("[limit]\nmemory = 1", "unknown key `limit`;did you mean `limits`"),
        ("memory = \"1GiB\"", "unknown key `memory`;it belongs in [limits]"),
        ("[limits]\nmemory = \"4GB \"", "`limits.memory`;a space"),
        ("[limits]\nmemory = -1", "`limits.memory`;negative"),
        ("[limits]\nmemory = true", "a size such as;this is true or false"),
        ("[limits]\npids = 0", "`limits.pids`;above zero"),
        ("[limits]\npids = \"many\"", "a whole number;this is a text"),
        ("[limits]\ncpus = nan", "NaN is not a number of processors"),
        ("[limits]\ncpus = -2", "-2 is not a number of processors"),
        ("[limits]\nwall = \"5\"", "has no unit"),
        ("[limits]\nwall = 5", "a length of time"),
        ("[files]\nworkspace = \"wirte\"", "one of read, discard, write;did you mean \"write\""),
        ("[files]\nsystem = \"yes\"", "true or false"),
        ("[files]\nread = \"/x\"", "a list in brackets"),
        ("[files]\nread = [\"x\"]", "neither absolute nor below ~/"),
        ("[files]\nread = [\"/a/../b\"]", "contains `..`"),
        ("[files]\nread = [\"~\"]", "a whole home folder"),
        ("[files]\nread = [1]", "a text in quotes"),
        ("[network]\nmode = \"all\"", "one of none, gateway, host"),
        ("[network]\nallow = [\"https://x.org\"]", "a scheme"),
        ("[environment]\npass = [\"A-B\"]", "not a variable's name"),
        ("[environment.set]\nA = 1", "a text in quotes"),
        ("[environment.set]\n\"A B\" = \"1\"", "not a variable's name"),
        ("[sandbox]\nrequire = \"best-effort\"", "one of full, no-userns"),
        ("files = 1", "`files` is a table"),
        ("[files\n", "not TOML"),
        ("a = 1\na = 2", "not TOML;duplicate key"),
    ] {
        let error = refusal(text);
        for word in words.split(';') {
            assert!(error.contains(word), "{text:?} says\n{error}\nand not {word:?}");
        }
        assert!(error.contains("mine.toml:"), "{error}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let error = refusal("nmae = 1\n[files]\nsystem = 1\n[limits]\npids = -1\n");
    let lines: Vec<_> = error.match_indices("mine.toml:").map(|(at, _)| &error[at + 10..=at + 10]).collect();
    assert_eq!(lines, ["1", "3", "5"]);
}

fn source(name: &str, text: &str) -> Source {
    Source { name: name.into(), origin: name.into(), folder: None, text: text.into() }
}

#[test]
fn extends_lays_the_nearest_on_top_and_lists_add_up() {
    let files = [
        ("a", "description = \"a\"\nextends = \"b\"\n[files]\nread = [\"/a\"]\n[limits]\nmemory = \"none\"\npids = 7"),
        ("b", "extends = \"c\"\n[files]\nread = [\"/b\"]\n[environment.set]\nX = \"b\"\n[network]\nmode = \"gateway\""),
        ("c", "[files]\nread = [\"/c\"]\nsystem = true\n[limits]\nmemory = \"1GiB\"\npids = 3\n[environment.set]\nX = \"c\"\nY = \"c\""),
    ];
    let find = |name: &str, _: Option<&Path>| Ok(files.iter().find(|f| f.0 == name).map(|f| source(f.0, f.1)).expect("known"));
    let profile = chain(source("a", files[0].1), &find).expect("is right");
    assert_eq!(profile.extends, ["b", "c"]);
    assert_eq!(profile.files.read, ["/a", "/b", "/c"].map(PathBuf::from).into());
    assert_eq!((profile.limits.memory, profile.limits.pids), (None, Some(7)));
    assert_eq!(profile.environment.set, [("X", "b"), ("Y", "c")].map(|(n, v)| (n.to_owned(), v.to_owned())).into());
    assert_eq!((profile.files.system, profile.network.mode), (true, NetworkMode::Gateway));
}

#[test]
fn a_circle_is_named_exactly() {
    let find = |name: &str, _: Option<&Path>| Ok(source(name, if name == "b" { "extends = \"c\"" } else { "extends = \"b\"" }));
    let error = chain(source("a", "extends = \"b\""), &find).expect_err("a circle").to_string();
    assert_eq!(error, "the profiles extend each other in a circle: b → c → b");
}

#[test]
fn own_profiles_are_found_by_name_and_path_and_cannot_pose_as_built_in() {
    let own = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs_err::write(own.path().join(name), text).expect("written");
    write("mine.toml", "extends = \"strict\"\n[limits]\npids = 5");
    write("near.toml", "extends = \"./mine.toml\"");
    let profile = load::load("near", Some(own.path())).expect("is found");
    assert_eq!((profile.limits.pids, profile.extends.as_slice()), (Some(5), ["mine".to_owned(), "strict".to_owned()].as_slice()));
    let by_path = load::load(own.path().join("mine.toml").to_str().expect("text"), None).expect("is found");
    assert_eq!(by_path.limits.pids, Some(5));

    let unknown = load::load("mien", Some(own.path())).expect_err("unknown").to_string();
    assert!(unknown.contains("did you mean `mine`"), "{unknown}");
    write("default.toml", "[network]\nmode = \"host\"");
    let shadow = load::load("default", Some(own.path())).expect_err("shadows").to_string();
    assert!(shadow.contains("the name of a built-in profile"), "{shadow}");
    assert!(load::load("offline", Some(own.path())).is_err(), "what extends it does not get it either");
    let folder = find(own.path().to_str().expect("text"), None, None).expect_err("a folder").to_string();
    assert!(folder.contains("not a regular file"), "{folder}");
    write("self.toml", "extends = \"self\"");
    assert!(load::load("self", Some(own.path())).expect_err("itself").to_string().contains("in a circle"));
}

/// Does `narrow` grant nothing that `wide` does not?
fn exceeds(narrow: &Profile, wide: &Profile) -> Option<String> {
    let under = |path: &PathBuf, of: &BTreeSet<PathBuf>| of.iter().any(|w| path.starts_with(w));
    let (n, w) = (&narrow.files, &wide.files);
    let readable: BTreeSet<PathBuf> = w.read.union(&w.write).cloned().collect();
    let lower = |a: Option<u128>, b: Option<u128>| b.is_none_or(|b| a.is_some_and(|a| a <= b));
    let size = |s: Option<Size>| s.map(|s| u128::from(s.bytes()));
    let time = |t: Option<Duration>| t.map(|t| t.as_millis());
    let (nl, wl) = (&narrow.limits, &wide.limits);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small positive numbers, compared to a thousandth")]
    let cpus = |c: Option<f64>| c.map(|c| (c * 1000.0) as u128);
    [
        ("switches", n.system <= w.system && n.toolchains <= w.toolchains && n.caches <= w.caches),
        ("workspace", n.workspace <= w.workspace),
        ("read", n.read.iter().all(|path| under(path, &readable))),
        ("write", n.write.iter().all(|path| under(path, &w.write))),
        ("deny", w.deny.is_subset(&n.deny)),
        ("mode", narrow.network.mode <= wide.network.mode && narrow.network.loopback <= wide.network.loopback),
        ("allow", narrow.network.allow.iter().all(|rule| wide.network.allow.iter().any(|of| allow::covers(of, rule)))),
        ("pass", narrow.environment.pass.is_subset(&wide.environment.pass)),
        ("set", narrow.environment.set.iter().all(|(name, value)| wide.environment.set.get(name) == Some(value))),
        ("memory", lower(size(nl.memory), size(wl.memory)) && lower(size(nl.output), size(wl.output))),
        ("disk", lower(size(nl.disk), size(wl.disk)) && lower(size(nl.file_size), size(wl.file_size))),
        ("pids", lower(nl.pids.map(u128::from), wl.pids.map(u128::from)) && lower(nl.files.map(u128::from), wl.files.map(u128::from))),
        ("wall", lower(time(nl.wall), time(wl.wall)) && lower(time(nl.cpu_time), time(wl.cpu_time))),
        ("cpus", lower(cpus(nl.cpus), cpus(wl.cpus)) && lower(nl.open_files.map(u128::from), wl.open_files.map(u128::from))),
        ("require", narrow.require == wide.require || narrow.require == Tier::Full),
    ]
    .into_iter()
    .find(|(_, holds)| !holds)
    .map(|(what, _)| what.to_owned())
}

fn paths() -> impl Strategy<Value = BTreeSet<PathBuf>> {
    btree_set(prop::sample::select(vec!["/a", "/a/b", "/a/b/c", "/ab", "/d", "~/x", "~/x/y", "~/z"]).prop_map(PathBuf::from), 0..4)
}

fn bound<T: std::fmt::Debug + Clone>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Option<Bound<T>>> {
    maybe(prop_oneof![1 => Just(None), 4 => value.prop_map(Some)].prop_map(|v| v.map_or(Bound::Lifted, Bound::At)))
}

prop_compose! {
    fn limits()(
        memory in bound((1_u64..9).prop_map(Size::gib)), pids in bound(1_u64..99), cpus in bound((1_u32..80).prop_map(|n| f64::from(n) / 8.0)),
        wall in bound((1_u64..999).prop_map(Duration::from_secs)), cpu_time in bound((1_u64..999).prop_map(Duration::from_millis)),
        output in bound((1_u64..9).prop_map(Size::mib)), disk in bound((1_u64..9).prop_map(Size)), files in bound(1_u64..99),
        open_files in bound(1_u64..99), file_size in bound((1_u64..9).prop_map(Size::kib)),
    ) -> LayerLimits {
        LayerLimits { memory, pids, cpus, wall, cpu_time, output, disk, files, open_files, file_size }
    }
}

prop_compose! {
    /// Any file at all.
    pub(crate) fn layer()(
        switches in (maybe(any::<bool>()), maybe(any::<bool>()), maybe(any::<bool>()), maybe(any::<bool>())),
        workspace in maybe(prop::sample::select(vec![WorkspaceMode::Read, WorkspaceMode::Discard, WorkspaceMode::Write])),
        (read, write, deny) in (maybe(paths()), maybe(paths()), maybe(paths())),
        mode in maybe(prop::sample::select(vec![NetworkMode::None, NetworkMode::Gateway, NetworkMode::Host])),
        allow in maybe(btree_set(prop::sample::select(vec!["a.b", "*.b", "x.a.b:443", "*.a.b", "c:1"]).prop_map(str::to_owned), 0..4)),
        pass in maybe(btree_set("[A-C]", 0..3)),
        set in maybe(btree_map("[A-C]", "[xy]", 0..3)),
        limits in limits(),
        require in maybe(prop::sample::select(vec![Tier::Full, Tier::NoUserns])),
    ) -> Layer {
        let (system, toolchains, caches, loopback) = switches;
        Layer { description: None, extends: None, system, toolchains, caches, workspace, read, write, deny, mode, loopback, allow, pass, set, limits, require }
    }
}

proptest! {
    #[test]
    fn a_narrower_profile_never_grants_more(base in layer(), first in layer(), second in layer()) {
        let base = base.widen("base", Profile::nothing("nothing"));
        let narrow = first.narrow(&base);
        prop_assert_eq!(exceeds(&narrow, &base), None);
        let narrower = second.narrow(&narrow);
        prop_assert_eq!(exceeds(&narrower, &base), None);
        prop_assert_eq!(exceeds(&narrower, &narrow), None);
        // The same file again changes nothing, and silence changes nothing.
        prop_assert_eq!(&first.narrow(&narrow), &narrow);
        prop_assert_eq!(&Layer::default().narrow(&base), &base);
    }

    #[test]
    fn the_order_of_narrowing_makes_no_difference_to_switches_and_limits(base in layer(), first in layer(), second in layer()) {
        let base = base.widen("base", Profile::nothing("nothing"));
        let (one, other) = (second.narrow(&first.narrow(&base)), first.narrow(&second.narrow(&base)));
        prop_assert_eq!(one.limits, other.limits);
        prop_assert_eq!(one.network.mode, other.network.mode);
        prop_assert_eq!(one.files.workspace, other.files.workspace);
        prop_assert_eq!(one.files.deny, other.files.deny);
    }

    #[test]
    fn what_is_written_is_read_back(base in layer()) {
        let profile = base.widen("x", Profile::nothing("nothing"));
        let text = write::toml(&profile);
        let back = read::layer("x", &text).map(|layer| layer.widen("x", Profile::nothing("nothing")));
        prop_assert_eq!(back, Ok(profile), "{}", text);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(\\PC|\n|[\\[\\]=\"a-z_.{}0-9 ]){0,80}") {
        if let Err(error) = read::layer("x", &text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn no_value_makes_the_reader_panic(table in 0_usize..6, key in 0_usize..10, value in "(\"[^\"\n\\\\]{0,8}\"|-?[0-9]{1,25}|[0-9]\\.[0-9]e[0-9]{1,3}|inf|nan|0x[0-9a-f]{1,9}|\\[[0-9,\"a]{0,4}\\]|\\{a=1\\})") {
        let (table, keys) = read::KEYS[table];
        let key = keys[key % keys.len()];
        let header = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
        drop(read::layer("x", &format!("{header}{key} = {value}\n")));
    }
}
