//! The thin reader: finds the layers on this host and hands their text to the pure part.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use git2::{ErrorCode, ObjectType, Repository};

pub use super::FILE;
use super::layer::{self, Origin, Settings};
use super::{Config, Gate, build};
use crate::base::source::{Problem, Source, any_error};
use crate::base::text::list;
use crate::base::tree::shown;

/// What of the environment decides.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub project_dir: Option<OsString>,
    pub config_home: Option<OsString>,
    pub home: Option<OsString>,
}

/// What the command line says about configuration.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Read in place of the target branch's file.
    pub file: Option<PathBuf>,
    /// `KEY=VALUE` settings.
    pub set: Vec<String>,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The project's folder: the one that was named, else the top of the repository, else the current folder.
    pub root: PathBuf,
    pub target: Target,
    pub settings: Settings,
    pub config: Config,
    pub warnings: Vec<Problem>,
}

/// The branch that proven work lands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    At {
        branch: String,
        commit: String,
    },
    /// The repository has no commit yet.
    Unborn,
    NoRepository,
}

/// Nobody writes more by hand.
const LONGEST: u64 = 256 * 1024;

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        let var = |name| std::env::var_os(name).filter(|v| !v.is_empty());
        Self { project_dir: var("COFFERDAM_PROJECT_DIR"), config_home: var("XDG_CONFIG_HOME"), home: var("HOME") }
    }

    /// Where the user's own layer lies.
    pub fn user_file(&self) -> Option<PathBuf> {
        // The standard says that a relative value is to be ignored.
        let config_home = self.config_home.as_ref().map(PathBuf::from).filter(|p| p.is_absolute());
        let home = config_home.or_else(|| self.home.as_ref().map(|h| Path::new(h).join(".config")))?;
        Some(home.join("cofferdam").join("config.toml"))
    }
}

/// Reads every layer for the project around `cwd`.
pub fn load(cwd: &Path, environment: &Environment, options: &Options) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let start = environment.project_dir.as_ref().map_or_else(|| cwd.to_owned(), |dir| cwd.join(dir));
    if !start.is_dir() {
        let what = format!("{} is no folder", shown(&start.to_string_lossy()));
        return Err(vec![Problem::anywhere("project", what, "set COFFERDAM_PROJECT_DIR to the project's folder, or unset it")]);
    }
    let repository = open(&start).map_err(|p| vec![p])?;
    let top = match &repository {
        Some(repository) => repository.workdir().map(Path::to_owned).ok_or_else(|| vec![bare(repository)])?,
        None => start.clone(),
    };
    // Whoever names the project's folder means that one, also when it lies inside a larger repository.
    let root = if environment.project_dir.is_some() { start } else { top.clone() };

    let mut settings = Settings::new();
    let add = |settings: &mut Settings, problems: &mut Vec<Problem>, (layer, more): (Vec<layer::Setting>, Vec<Problem>)| {
        problems.extend(more);
        layer::put(settings, layer);
    };
    add(&mut settings, &mut problems, layer::read(&Source::new("built-in default.toml", include_str!("default.toml")), &Origin::BuiltIn));
    if let Some(path) = environment.user_file()
        && let Some(source) = file(&path, &path.to_string_lossy()).map_err(|p| vec![p])?
    {
        add(&mut settings, &mut problems, layer::read(&source, &Origin::User));
    }
    let flags: Vec<_> = options.set.iter().map(|flag| layer::read_flag(flag)).collect();

    // The target is named by the layers that do not depend on it; only then can its own layer be read.
    let mut before = settings.clone();
    for (flag, _) in &flags {
        layer::put(&mut before, flag.clone());
    }
    let target = match &repository {
        Some(repository) => find_target(repository, &before).map_err(|p| vec![p])?,
        None => Target::NoRepository,
    };
    let mut target = target;
    if let Some(path) = &options.file {
        let name = path.to_string_lossy();
        let missing =
            || vec![Problem::anywhere("config-file", format!("{} does not exist", shown(&name)), "name a file that exists after --config")];
        let source = file(&cwd.join(path), &name).map_err(|p| vec![p])?.ok_or_else(missing)?;
        add(&mut settings, &mut problems, layer::read(&source, &Origin::File));
    } else if let Some(repository) = &repository {
        let (found, source) = follow(repository, target.clone(), &flags).map_err(|p| vec![p])?;
        target = found;
        if let (Some(source), Target::At { branch, commit }) = (&source, &target) {
            add(&mut settings, &mut problems, layer::read(source, &Origin::Target { branch: branch.clone(), commit: commit.clone() }));
        }
        problems.extend(uncommitted(&top, &target, source.as_ref()));
    }
    for flag in flags {
        add(&mut settings, &mut problems, flag);
    }
    if options.file.is_some()
        && let Some(repository) = &repository
    {
        target = find_target(repository, &settings).map_err(|p| vec![p])?;
    }

    if any_error(&problems) {
        return Err(problems);
    }
    let (config, more) = build::build(&settings);
    problems.extend(more);
    let Some(mut config) = config else { return Err(problems) };
    if let Target::At { branch, .. } = &target {
        config.project.target.clone_from(branch);
    }
    Ok(Loaded { root, target, settings, config, warnings: problems })
}

fn open(start: &Path) -> Result<Option<Repository>, Problem> {
    let shown_start = shown(&start.to_string_lossy());
    match Repository::discover(start) {
        Ok(repository) => Ok(Some(repository)),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        Err(error) if error.code() == ErrorCode::Owner => Err(Problem::anywhere(
            "git",
            format!("the repository around {shown_start} belongs to another user, and git does not trust it"),
            format!("if you trust it: git config --global --add safe.directory {shown_start}"),
        )),
        Err(error) => Err(git_problem(&format!("the repository around {shown_start} cannot be opened"), &error)),
    }
}

fn git_problem(what: &str, error: &git2::Error) -> Problem {
    Problem::anywhere("git", format!("{what}: {}", shown(error.message())), "see what `git status` and `git fsck` say there")
}

fn bare(repository: &Repository) -> Problem {
    let what = format!("{} is a bare repository, which has no folder with stories", shown(&repository.path().to_string_lossy()));
    Problem::anywhere("git", what, "run this in a clone of it with a working tree, or set COFFERDAM_PROJECT_DIR to one")
}

fn commit_of(repository: &Repository, branch: &str) -> Result<Option<String>, Problem> {
    match repository.find_reference(&format!("refs/heads/{branch}")) {
        Ok(reference) => {
            let commit =
                reference.peel_to_commit().map_err(|e| git_problem(&format!("the branch {} cannot be read", shown(branch)), &e))?;
            Ok(Some(commit.id().to_string()))
        }
        Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::InvalidSpec) => Ok(None),
        Err(error) => Err(git_problem(&format!("the branch {} cannot be read", shown(branch)), &error)),
    }
}

/// The branch that the given settings name, or `master` where nobody named one and there is no `main`.
fn find_target(repository: &Repository, settings: &Settings) -> Result<Target, Problem> {
    let setting = settings.get("project.target");
    let named = setting
        .map_or_else(|| "main".to_owned(), |s| if let super::value::Value::Text(t) = &s.value { t.clone() } else { "main".to_owned() });
    let by_default = setting.is_none_or(|s| s.origin == Origin::BuiltIn);
    let mut names = vec![named.as_str()];
    if by_default {
        names.push("master");
    }
    for name in names {
        if let Some(commit) = commit_of(repository, name)? {
            return Ok(Target::At { branch: name.to_owned(), commit });
        }
    }
    let branches = repository.branches(Some(git2::BranchType::Local)).map_err(|e| git_problem("the branches cannot be listed", &e))?;
    let branches: Vec<String> = branches.filter_map(|b| Some(b.ok()?.0.name().ok()??.to_owned())).take(10).collect();
    if branches.is_empty() {
        return Ok(Target::Unborn);
    }
    let what = format!("there is no branch `{}` to land work on", shown(&named));
    let next = format!("the branches here are {}; choose one with --set project.target=BRANCH or in your own config.toml", list(&branches));
    Err(match setting.filter(|_| !by_default) {
        Some(setting) => setting.source.error("no-target", &setting.span, what, next),
        None => Problem::anywhere("no-target", what, next),
    })
}

/// Reads the target's own file. When it names another branch as the target, that branch's file decides, and must agree.
fn follow(
    repository: &Repository,
    target: Target,
    flags: &[(Vec<layer::Setting>, Vec<Problem>)],
) -> Result<(Target, Option<Source>), Problem> {
    let flagged = flags.iter().flat_map(|(settings, _)| settings).any(|s| s.path == "project.target");
    if target == Target::Unborn {
        return Ok((target, None));
    }
    let mut target = target;
    let mut last = None;
    for hop in 0..3 {
        let Target::At { branch, commit } = &target else { return Ok((target, None)) };
        let source = committed(repository, branch, commit)?;
        let Some(source) = source else { return Ok((target, None)) };
        let (settings, _) = layer::read(&source, &Origin::File);
        let Some(setting) = settings.into_iter().find(|s| s.path == "project.target").filter(|_| !flagged) else {
            return Ok((target, Some(source)));
        };
        let super::value::Value::Text(named) = &setting.value else { return Ok((target, Some(source))) };
        if named == branch {
            return Ok((target, Some(source)));
        }
        let Some(commit) = commit_of(repository, named)? else {
            let what = format!("there is no branch `{}` to land work on", shown(named));
            return Err(setting.source.error(
                "no-target",
                &setting.span,
                what,
                format!("name an existing branch, or make it: git branch {}", shown(named)),
            ));
        };
        if hop == 1 {
            last = Some(setting);
            break;
        }
        target = Target::At { branch: named.clone(), commit };
    }
    let next = "let the file on the target branch name its own branch";
    Err(match last {
        Some(setting) => setting.source.error("no-target", &setting.span, "the branches name each other as the target", next),
        None => Problem::anywhere("no-target", "the branches name each other as the target", next),
    })
}

/// The gates that the file of a commit names.
///
/// # Errors
/// The first thing that is wrong with them, or with how the file is written.
pub fn gates_at(root: &Path, commit: &str) -> Result<Vec<Gate>, Problem> {
    let nothing = || Problem::anywhere("git", "there is no repository", "run this in a repository");
    let repository = open(root)?.ok_or_else(nothing)?;
    committed(&repository, commit, commit)?.map_or_else(|| Ok(Vec::new()), |source| gates_of(&source))
}

/// A list is of one layer, so the gates are all here. What else the file says may be completed by layers that are not read here, such as a
/// command that a repository must not name: whether that fits together is not asked.
fn gates_of(source: &Source) -> Result<Vec<Gate>, Problem> {
    let mut settings = Settings::new();
    let (built_in, _) = layer::read(&Source::new("built-in default.toml", include_str!("default.toml")), &Origin::BuiltIn);
    layer::put(&mut settings, built_in);
    let (mut own, mut problems) = layer::read(source, &Origin::File);
    own.retain(|setting| setting.path.starts_with("gate["));
    layer::put(&mut settings, own);
    let (config, more) = build::build(&settings);
    problems.extend(more);
    let wrong = problems.into_iter().find(|problem| problem.level == crate::base::source::Level::Error);
    match (wrong, config) {
        (Some(problem), _) => Err(problem),
        (None, config) => Ok(config.map(|config| config.gates).unwrap_or_default()),
    }
}

/// The file as it is in the commit; `None` when it is not there.
fn committed(repository: &Repository, branch: &str, commit: &str) -> Result<Option<Source>, Problem> {
    let fail = |e: git2::Error| git_problem(&format!("{FILE} on {} cannot be read", shown(branch)), &e);
    let tree = repository.find_commit(commit.parse().map_err(fail)?).and_then(|c| c.tree()).map_err(fail)?;
    let entry = match tree.get_path(Path::new(FILE)) {
        Ok(entry) => entry,
        Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let name = format!("{branch}:{FILE}");
    if entry.kind() != Some(ObjectType::Blob) || entry.filemode() == 0o120_000 {
        return Err(Problem::anywhere("config-file", format!("{} is no regular file", shown(&name)), "commit it as a regular file"));
    }
    let blob = repository.find_blob(entry.id()).map_err(fail)?;
    text(&name, blob.content()).map(Some)
}

/// A warning when the file in the user's folder is not the one that holds.
fn uncommitted(root: &Path, target: &Target, committed: Option<&Source>) -> Option<Problem> {
    let branch = match target {
        Target::At { branch, .. } => branch.as_str(),
        Target::Unborn => "the target branch",
        Target::NoRepository => return None,
    };
    let here = fs_err::read(root.join(FILE)).ok()?;
    if committed.is_some_and(|c| c.text.as_bytes() == here) {
        return None;
    }
    let what = format!("{FILE} in your folder is not the one on {}, and only that one holds", shown(branch));
    let problem = Problem::anywhere("uncommitted", what, format!("commit it on {}, or name it with --config {FILE}", shown(branch)));
    Some(Problem { level: crate::base::source::Level::Warning, ..problem })
}

/// A file of the host; `None` when it is not there.
fn file(path: &Path, name: &str) -> Result<Option<Source>, Problem> {
    let fail = |error: std::io::Error| {
        Problem::anywhere("config-file", format!("the configuration cannot be read: {error}"), "make it a readable file")
    };
    match fs_err::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
        Ok(metadata) if !metadata.is_file() => {
            return Err(Problem::anywhere("config-file", format!("{} is no regular file", shown(name)), "make it a regular file"));
        }
        Ok(metadata) if metadata.len() > LONGEST => return Err(too_long(name)),
        Ok(_) => {}
    }
    text(name, &fs_err::read(path).map_err(fail)?).map(Some)
}

fn too_long(name: &str) -> Problem {
    Problem::anywhere("too-large", format!("{} is larger than {} KiB", shown(name), LONGEST / 1024), "shorten it")
}

fn text(name: &str, bytes: &[u8]) -> Result<Source, Problem> {
    if bytes.len() as u64 > LONGEST {
        return Err(too_long(name));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Source::new(name, text)),
        Err(error) => {
            let before = Source::new(name, &String::from_utf8_lossy(&bytes[..error.valid_up_to()]));
            let end = before.text.len();
            Err(before.error("encoding", &(end..end), "this is no UTF-8 text from here on", "save the file as UTF-8"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_read_whatever_other_layers_have_to_complete() {
        let gates = |rest: &str| gates_of(&Source::new(FILE, &format!("[[gate]]\nname = \"test\"\nrun = \"make\"\n{rest}")));
        // What a repository must not name, or leaves to whoever runs it, stands in a person's own file.
        for rest in
            ["[ci]\nprovider = \"command\"\n", "[agents.implementer]\nmodel = \"m\"\n", "[agents.implementer]\nadapter = \"command\"\n"]
        {
            let names: Vec<String> = gates(rest).expect("gates").into_iter().map(|gate| gate.name).collect();
            assert_eq!(names, ["test"], "{rest}");
        }
        for wrong in ["[[gate]]\nname = \"test\"\nrun = \"true\"\n", "[[gate]]\nname = \"x\"\n", "[run]\nno_such = 1\n", "[["] {
            assert!(gates(wrong).is_err(), "{wrong}");
        }
    }
}
