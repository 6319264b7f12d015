//! How a run is told: lines for a pipe, lines of JSON for a script, one line a story for a person at a terminal, or the screen.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use wait_timeout::ChildExt;

use super::failure::{Exit, Failure};
use super::log::{line, summary};
use super::printer;
use crate::base::columns::hang;
use crate::base::id::StoryId;
use crate::base::text::{cut, one_line};
use crate::engine::run::{Glance, Watcher};
use crate::event::{Kind, Verdict};
use crate::store::Stored;
use crate::story::{Phase, Story};

/// One line for each event.
#[derive(Debug)]
pub(super) struct Lines {
    json: bool,
    columns: Option<usize>,
}

impl Lines {
    pub(super) fn plain() -> Self {
        Self { json: false, columns: printer::columns() }
    }

    pub(super) fn json() -> Self {
        Self { json: true, columns: None }
    }
}

impl Watcher for Lines {
    fn stored(&mut self, event: &Stored, moved: Option<(&str, &Phase)>, _: Option<&Story>) {
        if self.json {
            return printer::out(&event.json());
        }
        if moved.is_some() || event.event().map_or(true, |event| is_news(&event.kind)) {
            printer::out(&line(event, moved.map(|(to, _)| to), self.columns));
        }
    }

    fn look(&mut self, _: &Glance<'_>) {}

    fn say(&mut self, text: &str) {
        printer::err(&format!("cofferdam: {text}"));
    }
}

/// Events that only confirm what was expected are for `log`, not for somebody who reads along: a story that goes well is ten lines.
fn is_news(kind: &Kind) -> bool {
    match kind {
        Kind::BudgetSpent { amount, .. } => amount.cost_microusd > 0 || amount.model_calls > 0,
        Kind::SandboxReceipt { missing, .. } => !missing.is_empty(),
        Kind::EvaluatorFinished { verdict, .. } => *verdict != Verdict::Pass,
        Kind::StoryReady { .. } | Kind::LandingStarted { .. } => false,
        _ => true,
    }
}

/// One line a story that is worked on, a bar for the whole, and what came to an end above them.
#[derive(Debug)]
pub(super) struct Live {
    screen: MultiProgress,
    bar: ProgressBar,
    lines: BTreeMap<StoryId, ProgressBar>,
}

impl Live {
    /// Whether somebody looks at a terminal that can be drawn on.
    pub(super) fn is_possible() -> bool {
        std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    pub(super) fn new() -> Self {
        let screen = MultiProgress::new();
        let bar = screen.add(ProgressBar::new(0).with_style(style("{bar:20} {pos}/{len} {wide_msg}")));
        Self { screen, bar, lines: BTreeMap::new() }
    }

    fn print(&self, text: &str) {
        let text = printer::columns_of_errors().map_or_else(|| text.to_owned(), |columns| hang(text, columns));
        // A terminal that went away cannot be told.
        drop(self.screen.println(text));
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.lines.values().for_each(ProgressBar::finish_and_clear);
        self.bar.finish_and_clear();
    }
}

impl Watcher for Live {
    fn stored(&mut self, event: &Stored, moved: Option<(&str, &Phase)>, story: Option<&Story>) {
        let Some((to, phase)) = moved else {
            if event.story.is_none() {
                let said = event.event().map(|event| summary(&event.kind)).unwrap_or_default();
                self.print(&format!("{:<18} {}", one_line(&event.kind), cut(&one_line(&said), 160)));
            }
            return;
        };
        let (Some(story), false) = (story, phase.holds_slot()) else { return };
        // What is pending or waits in the queue goes on by itself: only what came to an end, or needs somebody, stays on the screen.
        let (word, rest) = match phase.reason() {
            Some((word, sentence)) => (word, format!("{}: {}", one_line(word), cut(&one_line(sentence), 160))),
            None => ("", story.change().map(|change| format!("commit {}", change.commit.short())).unwrap_or_default()),
        };
        if matches!(phase, Phase::Pending { .. } | Phase::Queued { .. } | Phase::Merging { .. }) || phase.name() != to {
            return;
        }
        self.print(&format!("{:<10} {:<17} {rest}", one_line(story.id.as_str()), one_line(to)));
        let next = super::show::next(story, phase).filter(|_| !word.is_empty());
        if let Some(next) = next {
            self.print(&format!("{:<10} next: {}", "", one_line(&next)));
        }
    }

    fn look(&mut self, glance: &Glance<'_>) {
        let at_work: BTreeSet<&StoryId> = glance.view.all().filter(|known| known.phase.holds_slot()).map(|known| &known.story.id).collect();
        self.lines.retain(|id, line| {
            let stays = at_work.contains(id);
            if !stays {
                line.finish_and_clear();
                self.screen.remove(line);
            }
            stays
        });
        for id in at_work {
            let Some(known) = glance.view.get(id) else { continue };
            let line = self.lines.entry(id.clone()).or_insert_with(|| {
                self.screen.insert_before(&self.bar, ProgressBar::new_spinner().with_style(style("{prefix:10} {wide_msg}")))
            });
            let since = glance.since.get(id).map_or(Duration::ZERO, std::time::Instant::elapsed);
            let attempt = known.story.attempt().map(|attempt| format!("attempt {}", attempt.no)).unwrap_or_default();
            let said = glance.words.of(id).unwrap_or_default();
            line.set_prefix(one_line(id.as_str()).into_owned());
            line.set_message(format!("{:<13} {attempt:<11} {:>7}  {said}", known.phase.name(), seconds(since)));
        }
        self.whole(glance);
    }

    fn say(&mut self, text: &str) {
        self.print(&format!("cofferdam: {text}"));
    }
}

impl Live {
    fn whole(&self, glance: &Glance<'_>) {
        let ours = (0..glance.plan.stories.len()).filter(|at| glance.only.is_none_or(|only| only.contains(at)));
        let phases: Vec<&Phase> = ours.clone().filter_map(|at| Some(&glance.view.get(glance.plan.id(at))?.phase)).collect();
        let count = |is: fn(&Phase) -> bool| phases.iter().filter(|phase| is(phase)).count() as u64;
        let done =
            count(|phase| phase.is_terminal() || matches!(phase, Phase::Ready { .. } | Phase::Queued { .. } | Phase::Merging { .. }));
        let (working, stopped) = (count(Phase::holds_slot), count(Phase::is_halted));
        self.bar.set_length(ours.count() as u64);
        self.bar.set_position(done);
        let mut parts = vec![format!("done, {working} at work")];
        parts.extend((stopped > 0).then(|| format!("{stopped} {} a human", if stopped == 1 { "needs" } else { "need" })));
        parts.extend(glance.paused.map(|_| "paused: cofferdam resume goes on".to_owned()));
        parts.extend(glance.stopping.then(|| "stopping".to_owned()));
        self.bar.set_message(parts.join(", "));
    }
}

/// The screen, as a process of its own beside the run: whatever befalls it, the run goes on. When it is left, lines take over.
#[derive(Debug)]
pub(super) struct Watched {
    screen: Option<Child>,
    /// Sentences that had no place on the screen.
    said: Vec<String>,
    lines: Option<Live>,
}

/// A screen that does not end on request within this time is ended.
const PATIENCE: Duration = Duration::from_secs(2);

impl Watched {
    /// # Errors
    /// When no process can be started.
    pub(super) fn open(program: &Path) -> Result<Self, Failure> {
        let screen = Command::new(program).args(["watch", super::watch::OF_RUN]).spawn();
        let screen = screen.map_err(|error| {
            Failure::new(Exit::Failure, "the screen cannot be opened; nothing was begun").because(&error).next("cofferdam run --plain")
        })?;
        Ok(Self { screen: Some(screen), said: Vec::new(), lines: None })
    }

    /// Closes the screen, when it is open, and gives back the terminal.
    fn close(&mut self) {
        let Some(mut screen) = self.screen.take() else { return };
        let pid = i32::try_from(screen.id()).map(nix::unistd::Pid::from_raw);
        if let (Ok(pid), Ok(None)) = (pid, screen.try_wait()) {
            // It gives the terminal back before it ends.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
        if !matches!(screen.wait_timeout(PATIENCE), Ok(Some(_))) {
            drop(screen.kill());
            drop(screen.wait());
        }
    }

    /// Lines take over once the screen was left.
    fn take_over(&mut self) -> Option<&mut Live> {
        if self.lines.is_none() {
            let left = self.screen.as_mut().is_none_or(|screen| !matches!(screen.try_wait(), Ok(None)));
            if !left {
                return None;
            }
            self.screen = None;
            let mut lines = Live::new();
            lines.say("the screen is closed; the run goes on. Ctrl-C stops it in order; cofferdam watch opens the screen again, here or elsewhere.");
            self.said.drain(..).for_each(|text| lines.say(&text));
            self.lines = Some(lines);
        }
        self.lines.as_mut()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.close();
        // What was said meanwhile is still worth reading.
        self.said.drain(..).for_each(|text| printer::err(&format!("cofferdam: {text}")));
    }
}

impl Watcher for Watched {
    fn stored(&mut self, event: &Stored, moved: Option<(&str, &Phase)>, story: Option<&Story>) {
        if let Some(lines) = &mut self.lines {
            lines.stored(event, moved, story);
        }
    }

    fn look(&mut self, glance: &Glance<'_>) {
        if let Some(lines) = self.take_over() {
            lines.look(glance);
        }
    }

    fn say(&mut self, text: &str) {
        match &mut self.lines {
            Some(lines) => lines.say(text),
            None => self.said.push(text.to_owned()),
        }
    }
}

/// Without a template there is still a bar.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// `7 s`, `3:05 min`.
fn seconds(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 { format!("{seconds} s") } else { format!("{}:{:02} min", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Amount;

    #[test]
    fn only_what_was_not_expected_is_news() {
        let spent = |model_calls| Kind::BudgetSpent {
            role: "checks".to_owned(),
            model: None,
            amount: Amount { model_calls, wall_ms: 5, ..Amount::default() },
        };
        assert!(is_news(&spent(1)) && !is_news(&spent(0)));
        let receipt = |missing: &[&str]| Kind::SandboxReceipt {
            role: "gate".to_owned(),
            attempt: None,
            tier: "full".to_owned(),
            missing: missing.iter().map(|layer| (*layer).to_owned()).collect(),
            evidence: crate::base::id::EvidenceId::of(b"a receipt"),
        };
        assert!(is_news(&receipt(&["landlock"])) && !is_news(&receipt(&[])));
    }
}
