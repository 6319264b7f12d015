//! Options that every command about a project shares, and the project they name.

use std::path::PathBuf;

use super::failure::{Exit, Failure};
use super::{printer, problems, standing};
use crate::base::source::{Level, Problem, any_error};
use crate::base::text::one_line;
use crate::config::StartOn;
use crate::config::load::{Environment, Loaded, Options, Target, load};
use crate::plan::next::Facts;
use crate::plan::{Plan, Rules};
use crate::spec::lint::{self, lint};
use crate::spec::load::{Form, Read};
use crate::spec::{Spec, load as stories, story_file};

#[derive(Debug, Default, clap::Args)]
pub struct ProjectArgs {
    /// Read this file in place of the target branch's cofferdam.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one value of the configuration, such as run.parallel=4
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// The configuration, and options about the stories.
#[derive(Debug, Default, clap::Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub project: ProjectArgs,
    /// Take this text as the only story, in place of the project's
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Read the stories from this folder or file of the project
    #[arg(long, value_name = "PATH")]
    stories: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// A project whose stories make a plan.
#[derive(Debug)]
pub struct Project {
    pub loaded: Loaded,
    pub place: String,
    pub spec: Spec,
    pub plan: Plan,
    pub rules: Rules,
    /// Where every story stands.
    pub facts: Facts,
}

/// A project as far as it can be read, with everything that is wrong.
#[derive(Debug)]
pub struct Checked {
    pub loaded: Option<Loaded>,
    pub place: String,
    pub form: Option<Form>,
    pub spec: Spec,
    pub problems: Vec<Problem>,
}

impl ProjectArgs {
    /// The file that was named in place of the target branch's.
    pub fn file(&self) -> Option<&std::path::Path> {
        self.config.as_deref()
    }

    fn try_load(&self) -> Result<Result<Loaded, Vec<Problem>>, Failure> {
        let cwd = std::env::current_dir().map_err(|error| {
            Failure::new(Exit::Failure, "the current folder cannot be used").because(&error).next("change to a folder that exists")
        })?;
        let options = Options { file: self.config.clone(), set: self.set.clone() };
        Ok(load(&cwd, &Environment::of_process(), &options))
    }

    /// The same for commands that need no project: `None` when none was named, and the worktree has no configuration that could be wrong.
    pub fn load_if_any(&self, worktree: Option<&std::path::Path>) -> Result<Option<Loaded>, Failure> {
        let named = self.config.is_some() || !self.set.is_empty();
        if named || worktree.is_some_and(|tree| tree.join("cofferdam.toml").exists()) {
            return self.load().map(Some);
        }
        // Without a project there may be no target branch either, and nothing to say about it.
        Ok(self.try_load()?.ok())
    }

    /// The project, and the branch that proven work lands on.
    ///
    /// # Errors
    /// When there is none yet.
    pub fn load_with_target(&self) -> Result<(Loaded, String), Failure> {
        let loaded = self.load()?;
        match &loaded.target {
            Target::At { branch, .. } => {
                let branch = branch.clone();
                Ok((loaded, branch))
            }
            Target::Unborn => Err(Failure::usage("there is no target yet").next("make the first commit on the target branch")),
            Target::NoRepository => {
                let here = std::env::current_dir().unwrap_or_default();
                Err(Failure::usage(format!("there is no git repository at {} or above it", one_line(&here.to_string_lossy())))
                    .next("go into one, or make one: git init"))
            }
        }
    }

    /// The project around the current folder and its configuration. Warnings are printed.
    pub fn load(&self) -> Result<Loaded, Failure> {
        let loaded = self.load_silently()?;
        problems::print(&loaded.warnings);
        Ok(loaded)
    }

    /// The same for who goes on to [`PlanArgs::check`], which finds the warnings again.
    pub fn load_silently(&self) -> Result<Loaded, Failure> {
        match self.try_load()? {
            Ok(loaded) => {
                printer::detail(|| format!("the configuration is that of {}", origin(&loaded, self.file())));
                Ok(loaded)
            }
            Err(found) => Err(problems::failure("the configuration cannot be used", &found)),
        }
    }
}

impl PlanArgs {
    /// Reads everything and collects what is wrong.
    pub fn check(&self) -> Result<Checked, Failure> {
        let mut checked = Checked { loaded: None, place: String::new(), form: None, spec: Spec::default(), problems: Vec::new() };
        let loaded = match self.project.try_load()? {
            Ok(loaded) => loaded,
            Err(found) => {
                checked.problems = found;
                return Ok(checked);
            }
        };
        checked.problems.extend(loaded.warnings.iter().cloned());
        let config = &loaded.config;
        // The configuration knows nothing of events: whoever misspells one would wait for a word that never comes.
        checked.problems.extend(config.notify.on.iter().filter_map(|on| super::log::unknown_kind(on)).map(|what| Problem {
            level: Level::Warning,
            ..Problem::anywhere("unknown-kind", what, "look at notify.on; docs/event-catalog.md has all kinds")
        }));
        match self.read(&loaded) {
            Ok(read) => {
                let rules = lint::Rules {
                    require: config.invariants.require.clone(),
                    streams: config.streams.keys().cloned().collect(),
                    stacked: config.run.start_on == StartOn::ReadyForReview,
                };
                checked.problems.extend(read.problems);
                // A reference to a story that could not be read would be reported as unknown: what was not read comes first.
                if !any_error(&checked.problems) {
                    checked.problems.extend(lint(&read.spec, &rules));
                }
                (checked.place, checked.form, checked.spec) = (read.place, Some(read.form), read.spec);
            }
            Err(problem) => checked.problems.push(problem),
        }
        checked.loaded = Some(loaded);
        Ok(checked)
    }

    fn read(&self, loaded: &Loaded) -> Result<Read, Problem> {
        if let Some(prompt) = &self.prompt {
            let (story, problems) = story_file::from_prompt_text(prompt);
            let spec = Spec { stories: story.into_iter().collect(), overview: None };
            return Ok(Read { place: "--prompt".into(), form: Form::Prompt, spec, problems });
        }
        match &self.stories {
            Some(place) if crate::base::path::flaw(place).is_none() => stories::read(&loaded.root, place),
            Some(place) => {
                let why = crate::base::path::flaw(place).unwrap_or_default();
                Err(Problem::anywhere(
                    "outside-tree",
                    format!("--stories {} {why}", one_line(place)),
                    "name a folder or file of the project",
                ))
            }
            None => stories::load(&loaded.root, &loaded.config.project.stories, loaded.config.project.stories_by_default),
        }
    }

    /// A project without errors. Its warnings are printed; its errors end the command.
    pub fn project(&self) -> Result<Project, Failure> {
        let Checked { loaded, place, spec, problems: found, .. } = self.check()?;
        let Some(loaded) = loaded.filter(|_| !any_error(&found)) else {
            return Err(problems::failure("there is no plan yet", &found)
                .next("mend these and run it again; cofferdam lint checks without doing anything"));
        };
        problems::print(&found);
        let rules = Rules::of(&loaded.config);
        let plan = Plan::build(&spec, &loaded.config.streams)
            .map_err(|error| Failure::usage("there is no plan yet").because(&error).next("see cofferdam lint"))?;
        let facts = standing::facts(&loaded, &plan)?;
        Ok(Project { loaded, place, spec, plan, rules, facts })
    }
}

/// Where the project's own layer was read from, for a person.
fn origin(loaded: &Loaded, named: Option<&std::path::Path>) -> String {
    let root = one_line(&loaded.root.to_string_lossy()).into_owned();
    match (named, &loaded.target) {
        (Some(file), _) => format!("{} in {root}", one_line(&file.to_string_lossy())),
        (None, Target::At { branch, commit }) => format!("{} at {} in {root}", one_line(branch), commit.get(..12).unwrap_or(commit)),
        (None, Target::Unborn | Target::NoRepository) => format!("{root}, without a commit"),
    }
}

/// Prints what a pipe or a person reads, without a second line end.
pub fn out(text: &str) {
    printer::out(text.trim_end_matches('\n'));
}
