//! What the screen shows, read from the store when it has changed. Reading never waits for a runner, and no runner waits for it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::data::{Data, Graph, Happened, Item, Words};
use crate::agents::adapter;
use crate::agents::protocol::{Format, Reader, Session};
use crate::base::id::{EvidenceId, StoryId};
use crate::config::DEFAULT_PRIORITY;
use crate::event::Kind;
use crate::face::cli::failure::Failure;
use crate::face::cli::log::summary;
use crate::face::cli::project::{PlanArgs, ProjectArgs};
use crate::face::cli::queue;
use crate::face::cli::state::{self, State};
use crate::store::{Evidence, Filter, Store, StoreError, Stored, live};
use crate::story::{Phase, Story, phase};

/// Events that are kept at hand. What is older, `cofferdam log` tells.
const EVENTS: usize = 2_000;
/// The end of a transcript that is read.
const TRANSCRIPT: u64 = 64 << 10;
/// Lines of it that are shown.
const LINES: usize = 400;
/// The lock and the heartbeat are looked at this often.
const RUNNER: Duration = Duration::from_secs(1);

/// Where the words at hand came from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum From {
    Nowhere,
    Live(live::Mark),
    Transcript(EvidenceId),
}

pub(super) struct Feed {
    state: State,
    store: Option<Store>,
    /// What SQLite says of changes by others, when it was last read.
    version: Option<i64>,
    data: Data,
    /// The last event that was read.
    seen: u64,
    took: queue::Took,
    /// Whether the files of the project around are read for what only they know.
    reads_files: bool,
    streams: Streams,
    looked: Option<Instant>,
    words: (String, From),
}

/// What the queue's order needs beside the store, as it was for one plan.
#[derive(Debug, Default)]
struct Streams {
    /// The hash of that plan. The outer None was never read.
    plan: Option<Option<String>>,
    /// Of the stories that are in a stream.
    priorities: HashMap<String, u64>,
    slots: usize,
}

impl Streams {
    fn are_of(&self, plan: &Option<String>) -> bool {
        self.plan.as_ref() == Some(plan)
    }

    /// Reads the configuration, and the stories where it names streams. What cannot be read leaves the order of arrival.
    fn read(plan: Option<String>) -> Self {
        let mut streams = Self { plan: Some(plan), priorities: HashMap::new(), slots: 1 };
        let Some(config) = ProjectArgs::default().load_if_any(None).ok().flatten().map(|loaded| loaded.config) else { return streams };
        streams.slots = usize::try_from(config.queue.slots).unwrap_or(1);
        if config.streams.is_empty() {
            return streams;
        }
        let stories = PlanArgs::default().check().map(|checked| checked.spec.stories).unwrap_or_default();
        let priority = |story: &crate::spec::Story| Some((story.id.to_string(), config.streams.get(story.stream.as_ref()?)?.priority));
        streams.priorities = stories.iter().filter_map(priority).collect();
        streams
    }
}

impl Feed {
    /// Of the project around the current folder.
    pub(super) fn of_project(state: State) -> Self {
        Self { reads_files: true, ..Self::new(state) }
    }

    pub(super) fn new(state: State) -> Self {
        Self {
            reads_files: false,
            streams: Streams { slots: 1, ..Streams::default() },
            state,
            store: None,
            version: None,
            data: Data::default(),
            seen: 0,
            took: queue::Took::default(),
            looked: None,
            words: (String::new(), From::Nowhere),
        }
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Everything as it is now, when it is not what it was. The words are those of the chosen story.
    pub(super) fn poll(&mut self, chosen: Option<&str>) -> Option<Data> {
        let changed = match self.read() {
            Ok(changed) => changed | self.data.trouble.take().is_some(),
            Err(failure) => {
                // What cannot be read now may be read in a moment: the screen stays, and says so.
                let trouble = Some(failure.what);
                let changed = self.data.trouble != trouble;
                self.data.trouble = trouble;
                self.version = None;
                changed
            }
        };
        let ran = self.look_at_runner();
        let said = self.listen(chosen);
        (changed | ran | said).then(|| self.data.clone())
    }

    fn read(&mut self) -> Result<bool, Failure> {
        if self.store.is_none() {
            self.store = self.state.store()?;
        }
        let Some(store) = &self.store else { return Ok(false) };
        let version = match store.version() {
            Ok(version) => version,
            // The state was removed, or replaced: whatever is there now is another store.
            Err(StoreError::Vanished { .. }) => {
                *self = Self { reads_files: self.reads_files, ..Self::new(self.state.clone()) };
                return Ok(true);
            }
            Err(error) => return Err(state::failure(error)),
        };
        if self.version == Some(version) {
            return Ok(false);
        }
        refresh(store, &mut self.data, &mut self.seen, &mut self.took).map_err(state::failure)?;
        if self.reads_files && !self.streams.are_of(&self.data.overview.plan) {
            self.streams = Streams::read(self.data.overview.plan.clone());
        }
        let waiting = self.data.stories.iter().filter(|item| matches!(item.phase, Phase::Queued { .. } | Phase::Merging { .. }));
        let waiting: Vec<_> = waiting.map(|item| &item.story).collect();
        let priority = |story: &Story| self.streams.priorities.get(story.id.as_str()).copied().unwrap_or(DEFAULT_PRIORITY);
        let queue = queue::in_order(store, &waiting, &priority, self.streams.slots, &self.took).map_err(state::failure)?;
        self.data.queue = Rc::new(queue);
        self.version = Some(version);
        self.looked = None;
        Ok(true)
    }

    fn look_at_runner(&mut self) -> bool {
        if self.looked.is_some_and(|looked| looked.elapsed() < RUNNER) {
            return false;
        }
        self.looked = Some(Instant::now());
        let runner = self.state.runner().ok();
        let changed = runner != self.data.runner;
        self.data.runner = runner;
        changed
    }

    /// The words of the chosen story: of what runs, else of what ran last.
    fn listen(&mut self, chosen: Option<&str>) -> bool {
        let Some(item) = chosen.and_then(|id| self.data.item(id)).cloned() else { return false };
        let (from, title) = self.source(&item);
        let now = (item.row.id.clone(), from);
        if now == self.words {
            return false;
        }
        let lines = match &now.1 {
            From::Nowhere => Vec::new(),
            From::Live(_) => live::read(&self.state.folder, &item.story.id),
            From::Transcript(id) => {
                let agent = item.story.attempts.iter().rev().find(|a| a.transcript.as_ref() == Some(id)).and_then(|a| a.agent.as_deref());
                self.store.as_ref().map(|store| transcript(&store.evidence(), id, agent)).unwrap_or_default()
            }
        };
        self.data.words = Rc::new(Words { story: item.row.id.clone(), title, lines });
        self.words = now;
        true
    }

    fn source(&self, item: &Item) -> (From, String) {
        let live = live::mark(&self.state.folder, &item.story.id).filter(|_| self.data.is_running() && item.phase.holds_slot());
        if let Some(mark) = live {
            return (From::Live(mark), format!("said now, {}", item.phase.name()));
        }
        let ended = item.story.attempts.iter().rev().find_map(|attempt| Some((attempt.no, attempt.transcript.clone()?)));
        match ended {
            Some((no, id)) => {
                let title = format!("end of what attempt {no} said (cofferdam evidence show {})", id.short());
                (From::Transcript(id), title)
            }
            None => (From::Nowhere, String::new()),
        }
    }
}

/// Reads what changed since it was last read.
fn refresh(store: &Store, data: &mut Data, seen: &mut u64, took: &mut queue::Took) -> Result<(), StoreError> {
    let rows = store.stories()?;
    let known: HashMap<&str, &Rc<Item>> = data.stories.iter().map(|item| (item.row.id.as_str(), item)).collect();
    // At the beginning, all of them in one go.
    let all = if known.is_empty() { store.all_facts()? } else { Vec::new() };
    let mut all: HashMap<String, Story> = all.into_iter().map(|story| (story.id.to_string(), story)).collect();
    let mut stories = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(same) = known.get(row.id.as_str()).filter(|item| item.row == row) {
            stories.push(Rc::clone(same));
            continue;
        }
        let story = match (all.remove(&row.id), row.id.parse::<StoryId>()) {
            (Some(story), _) => Some(story),
            (None, Ok(id)) => store.story(&id)?,
            (None, Err(_)) => None,
        };
        // A story that went away between two statements is seen the next time.
        let Some(story) = story else { continue };
        let phase = phase(&story);
        let moves =
            phase.holds_slot() || phase.is_halted() || matches!(phase, Phase::Ready { .. } | Phase::Queued { .. } | Phase::Merging { .. });
        let since = if moves { store.transitions(&story.id)?.last().and_then(|last| last.at.parse().ok()) } else { None };
        stories.push(Rc::new(Item { row, story, phase, since }));
    }
    drop(known);
    data.graph = Rc::new(Graph::of(&stories));
    data.phases = Rc::new(stories.iter().map(|item| (item.row.id.clone(), item.row.phase.clone())).collect::<BTreeMap<_, _>>());
    data.stories = Rc::new(stories);
    data.overview = Rc::new(store.overview()?);
    data.spend = Rc::new(store.spend()?);
    data.is_known = true;
    read_events(store, data, seen, took)
}

fn read_events(store: &Store, data: &mut Data, seen: &mut u64, took: &mut queue::Took) -> Result<(), StoreError> {
    let filter = Filter { since: *seen, last: Some(EVENTS as u64), ..Filter::default() };
    let mut new: Vec<Stored> = Vec::new();
    store.events(&filter, |stored| {
        new.push(stored);
        ControlFlow::Continue(())
    })?;
    let Some(last) = new.last() else { return Ok(()) };
    *seen = last.seq;
    let mut events: VecDeque<Happened> = std::mem::take(Rc::make_mut(&mut data.events));
    for stored in new {
        let event = stored.event();
        if let Ok(event) = &event
            && let Kind::GateFinished { gate, wall_ms, cached: false, .. } = &event.kind
        {
            took.add(gate, *wall_ms);
        }
        let said = event.map_or_else(|error| format!("(unreadable: {error})"), |event| summary(&event.kind));
        let moved = stored.story.as_deref().map(|story| store.moved(story, stored.seq)).transpose()?.flatten();
        let Stored { seq, at, story, kind, actor, .. } = stored;
        events.push_back(Happened { seq, at, story: story.unwrap_or_default(), kind, said, moved, actor });
    }
    events.drain(..events.len().saturating_sub(EVENTS));
    data.events = Rc::new(events);
    Ok(())
}

/// The end of a transcript, as its agent would show it.
fn transcript(evidence: &Evidence, id: &EvidenceId, agent: Option<&str>) -> Vec<String> {
    let read = || -> std::io::Result<(Vec<u8>, bool)> {
        let mut file = fs_err::File::open(evidence.path(id))?;
        let length = file.metadata()?.len();
        let start = length.saturating_sub(TRANSCRIPT);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TRANSCRIPT).read_to_end(&mut bytes)?;
        Ok((bytes, start > 0))
    };
    let (bytes, is_cut) = match read() {
        Ok(read) => read,
        Err(error) => return vec![format!("(it cannot be read: {error})")],
    };
    // The first line of a piece is the end of one.
    let start = if is_cut { bytes.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1) } else { 0 };
    let name = agent.and_then(|agent| agent.split('/').next()).unwrap_or_default();
    let format = adapter::load(name, None).map_or(Format::Text, |adapter| adapter.stream);
    shown(&bytes[start..], format)
}

/// The lines of a transcript: those of a stream as its reader tells them, others as they are.
fn shown(bytes: &[u8], format: Format) -> Vec<String> {
    let mut lines: Vec<String> = if format == Format::Text {
        String::from_utf8_lossy(bytes).lines().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
    } else {
        let (mut reader, mut session) = (Reader::new(format), Session::default());
        let mut events = reader.push(bytes);
        events.extend(reader.finish());
        events.into_iter().filter_map(|event| session.take(event)).collect()
    };
    lines.drain(..lines.len().saturating_sub(LINES));
    lines
}
