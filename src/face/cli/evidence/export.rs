//! A story's evidence taken along, and an export checked where there is nothing else: no repository, no store.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use fs_err as fs;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::super::failure::{Exit, Failure};
use super::super::printer;
use super::super::state::{self, VERSION};
use super::{damaged, uses};
use crate::base::id::EvidenceId;
use crate::base::size::Size;
use crate::base::text::{cut, one_line, plural};
use crate::event::Kind;
use crate::store::audit::{Audit, audit};
use crate::store::{Filter, Store, Stored};

const EVENTS: &str = "events.jsonl";
const SUMS: &str = "SHA256SUMS";
const INDEX: &str = "index.json";
/// The object of the commit that landed, without its header: `git hash-object -t commit` gives its name.
const LANDED: &str = "landed.commit";
/// A line of events is not longer: what is larger is evidence.
const LONGEST_LINE: u64 = 1 << 20;
/// Lists of ours; who makes them longer made them.
const LONGEST_LIST: u64 = 64 << 20;
/// A commit with its message.
const LONGEST_COMMIT: u64 = 4 << 20;
/// A manifest.
const LONGEST_MANIFEST: u64 = 16 << 20;
const MOST_SHOWN: usize = 20;

/// Copies everything that a story's events name, with the events and a list that anybody can check.
pub(super) fn export(store: &Store, typed: &str, folder: &Path) -> Result<ExitCode, Failure> {
    let story = state::story(Some(store), typed)?;
    let io = |error: std::io::Error| {
        Failure::new(Exit::Failure, "the evidence could not be exported")
            .because(&error)
            .next("choose a folder that does not exist yet, on a disk with space")
    };
    fs::create_dir(folder).map_err(io)?;
    let mut sums = String::new();
    let mut files: BTreeMap<EvidenceId, (u64, BTreeSet<String>)> = BTreeMap::new();
    for used in uses(store, Some(&story.id))? {
        if let Some((_, what)) = files.get_mut(&used.id) {
            what.insert(used.what);
            continue;
        }
        let bytes = store.evidence().read(&used.id).map_err(|error| damaged(&error))?;
        fs::write(folder.join(used.id.as_str()), &bytes).map_err(io)?;
        sums.extend([used.id.as_str(), "  ", used.id.as_str(), "\n"]);
        files.insert(used.id, (bytes.len() as u64, BTreeSet::from([used.what])));
    }
    let mut lines = String::new();
    let read = store.events(&Filter { story: Some(story.id.clone()), ..Filter::default() }, |stored| {
        lines.extend([stored.json().as_str(), "\n"]);
        ControlFlow::Continue(())
    });
    read.map_err(state::failure)?;
    let audit = audit(&exported(&lines), &|id| store.evidence().read(id).ok());
    // Whoever has the target compares one name; what stands behind it is all here.
    if let Some(raw) = audit.landed.as_ref().and_then(|landed| super::landed_object(super::repository().as_ref(), landed)) {
        fs::write(folder.join(LANDED), &raw).map_err(io)?;
        sums.extend([EvidenceId::of(&raw).as_str(), "  ", LANDED, "\n"]);
    }
    let manifests: Vec<_> =
        story.attempts.iter().filter_map(|a| Some(json!({"attempt": a.no, "manifest": a.manifest.as_ref()?}))).collect();
    let listed: Vec<_> = files.iter().map(|(id, (bytes, what))| json!({"id": id, "bytes": bytes, "what": what})).collect();
    let index = json!({
        "version": VERSION, "cofferdam": env!("CARGO_PKG_VERSION"), "story": story.id, "title": story.spec.title,
        "state": crate::story::phase(&story).name(), "manifests": manifests, "files": listed,
    });
    let index = format!("{}\n", serde_json::to_string_pretty(&index).unwrap_or_default());
    for (name, content) in [(EVENTS, &lines), (INDEX, &index)] {
        fs::write(folder.join(name), content).map_err(io)?;
        sums.extend([EvidenceId::of(content.as_bytes()).as_str(), "  ", name, "\n"]);
    }
    fs::write(folder.join(SUMS), sums).map_err(io)?;
    printer::out(&format!(
        "{} of {} and its events are in {2}; check with: cofferdam evidence verify --from {2}, or cd {2} && sha256sum -c {SUMS}",
        plural(files.len() as u64, "piece of evidence", "pieces of evidence"),
        one_line(story.id.as_str()),
        folder.display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn exported(lines: &str) -> Vec<Stored> {
    lines.lines().filter_map(|line| Stored::parse(line).ok()).collect()
}

/// What an export shows, and what is wrong with it.
#[derive(Debug, Default)]
struct Checked {
    pieces: u64,
    bytes: u64,
    story: Option<String>,
    audit: Audit,
    wrong: Vec<String>,
}

/// Checks an export by itself.
pub(super) fn verify_from(folder: &Path, as_json: bool) -> Result<ExitCode, Failure> {
    let checked = check(folder).map_err(|why| {
        Failure::new(Exit::Failure, format!("{} is no export that can be checked", folder.display()))
            .why(one_line(&why))
            .next("name the folder that `cofferdam evidence export` made")
    })?;
    let landed = checked.audit.landed.as_ref();
    if as_json {
        printer::json(&json!({
            "version": VERSION, "story": checked.story, "checked": checked.pieces, "bytes": checked.bytes, "manifests": checked.audit.manifests,
            "landed": landed.map(|l| json!({"commit": l.commit, "tree": l.tree, "story_commit": l.story_commit, "manifest": l.manifest})),
            "bad": checked.wrong, "notes": checked.audit.notes,
        }));
    }
    if !checked.wrong.is_empty() {
        let mut failure =
            Failure::new(Exit::Failure, format!("the export breaks in {}", plural(checked.wrong.len() as u64, "place", "places")));
        for why in checked.wrong.iter().take(MOST_SHOWN) {
            failure = failure.why(one_line(why).into_owned());
        }
        return Err(failure.next("export it again from the store that it came from, and compare"));
    }
    if !as_json {
        printer::out(&format!(
            "The export holds: {}, {}, {} that say what the events say.",
            plural(checked.pieces, "file", "files"),
            Size(checked.bytes),
            plural(checked.audit.manifests, "manifest", "manifests")
        ));
        match landed {
            Some(landed) => printer::out(&format!(
                "It proves that commit {} (tree {}) landed with green gates, as the merge of {}, which every evaluator passed.",
                landed.commit, landed.tree, landed.story_commit
            )),
            None => printer::out("Nothing of it has landed."),
        }
        checked.audit.notes.iter().for_each(|note| printer::out(&format!("Note: {}", one_line(note))));
    }
    Ok(ExitCode::SUCCESS)
}

fn check(folder: &Path) -> Result<Checked, String> {
    let mut checked = Checked::default();
    let sums = sums(folder)?;
    for name in [EVENTS, INDEX] {
        if !sums.contains_key(name) {
            checked.wrong.push(format!("{name} is not in {SUMS}"));
        }
    }
    for (name, recorded) in &sums {
        match digest(&folder.join(name)) {
            Ok((found, bytes)) if found == *recorded => {
                checked.pieces += 1;
                checked.bytes += bytes;
            }
            Ok((found, _)) => {
                checked.wrong.push(format!("{name} was changed: its content has the hash {}…", cut(&found, 13).trim_end_matches('…')));
            }
            Err(why) => checked.wrong.push(format!("{name}: {why}")),
        }
    }
    for entry in fs::read_dir(folder).map_err(|e| e.to_string())?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != SUMS && !sums.contains_key(&name) {
            checked.wrong.push(format!("{name} is there, and is not in {SUMS}"));
        }
    }
    let events = events(folder, &mut checked.wrong)?;
    let mut stories: BTreeSet<&str> = events.iter().map(|stored| stored.story.as_deref().unwrap_or_default()).collect();
    checked.story = stories.pop_first().map(str::to_owned);
    if let Some(other) = stories.first() {
        checked.wrong.push(format!("the events are of more than one story: also of `{other}`"));
    }
    for stored in &events {
        let Ok(event) = stored.event() else { continue };
        for (id, what) in event.kind.evidence() {
            if sums.get(id.as_str()).is_none_or(|recorded| recorded != id.as_str()) {
                checked.wrong.push(format!("event {} rests on evidence {} ({what}), which is not there", stored.seq, id.short()));
            }
        }
    }
    let read = |id: &EvidenceId| {
        let bytes = small(&folder.join(id.as_str()), LONGEST_MANIFEST).ok()?;
        (EvidenceId::of(&bytes) == *id).then_some(bytes)
    };
    checked.audit = audit(&events, &read);
    checked.wrong.extend(checked.audit.breaks.iter().map(ToString::to_string));
    if let Some(landed) = &checked.audit.landed {
        match small(&folder.join(LANDED), LONGEST_COMMIT) {
            Err(_) => checked.audit.notes.push(format!("the commit {} itself is not in this export, and was not looked at", landed.commit)),
            Ok(raw) => {
                let id = git2::Oid::hash_object(git2::ObjectType::Commit, &raw).map(|id| id.to_string()).unwrap_or_default();
                let fits = if id == landed.commit.as_str() {
                    landed.is_named_by(&raw)
                } else {
                    Err(format!("{LANDED} is the commit {}, and {} landed", cut(&id, 12), landed.commit.short()))
                };
                checked.wrong.extend(fits.err());
            }
        }
    }
    let sealed = events.iter().any(|stored| matches!(stored.event().map(|e| e.kind), Ok(Kind::EvidenceSealed { .. })));
    if let Some(landed) = checked.audit.landed.as_ref().filter(|landed| landed.manifest.is_none() && sealed) {
        let why = format!("commit {} landed, and no manifest is about the work that it merged", landed.commit.short());
        checked.audit.notes.push(why);
    }
    Ok(checked)
}

/// The list: hash and plain name, one a line.
fn sums(folder: &Path) -> Result<BTreeMap<String, String>, String> {
    let bytes = small(&folder.join(SUMS), LONGEST_LIST)?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{SUMS} is no text"))?;
    let line = |line: &str| {
        let (hash, name) =
            line.split_once("  ").ok_or_else(|| format!("{SUMS} has a line that is no hash and name: {}", cut(line, 100)))?;
        let is_hash = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        let is_plain = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
        if is_hash && is_plain { Ok((name.to_owned(), hash.to_owned())) } else { Err(format!("{SUMS} names `{}`", cut(name, 100))) }
    };
    text.lines().map(line).collect()
}

fn events(folder: &Path, wrong: &mut Vec<String>) -> Result<Vec<Stored>, String> {
    let file = regular(&folder.join(EVENTS))?;
    let (mut reader, mut events, mut number) = (BufReader::new(file), Vec::new(), 0);
    loop {
        let mut line = String::new();
        let count = reader.by_ref().take(LONGEST_LINE).read_line(&mut line).map_err(|e| format!("{EVENTS} cannot be read: {e}"))?;
        if count == 0 {
            return Ok(events);
        }
        number += 1;
        match Stored::parse(&line) {
            Ok(stored) if stored.story.is_some() => events.push(stored),
            Ok(_) => wrong.push(format!("line {number} of {EVENTS} is about no story")),
            Err(why) => wrong.push(format!("line {number} of {EVENTS} is no event: {why}")),
        }
    }
}

/// Nothing is followed, and nothing is waited for: a pipe or a device in an export is no file.
fn regular(path: &Path) -> Result<fs::File, String> {
    use std::os::unix::fs::OpenOptionsExt;
    let status = fs::symlink_metadata(path)
        .map_err(|e| if e.kind() == std::io::ErrorKind::NotFound { "it is not there".to_owned() } else { e.to_string() })?;
    if !status.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let mut options = std::fs::OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options.open(path).map(|file| fs::File::from_parts(file, path)).map_err(|e| e.to_string())
}

fn small(path: &Path, longest: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    regular(path).map_err(|why| format!("{name}: {why}"))?.take(longest + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > longest { Err(format!("{name} is larger than {}", Size(longest))) } else { Ok(bytes) }
}

fn digest(path: &Path) -> Result<(String, u64), String> {
    let (mut file, mut digest, mut bytes, mut buffer) = (regular(path)?, Sha256::new(), 0, vec![0; 64 << 10]);
    loop {
        let count = file.read(&mut buffer).map_err(|e| e.to_string())?;
        if count == 0 {
            return Ok((crate::base::id::hex_text(&digest.finalize()), bytes));
        }
        digest.update(&buffer[..count]);
        bytes += count as u64;
    }
}
