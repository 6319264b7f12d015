//! The state of the screen, and how keys, news and time change it. Pure: what it wishes for is done by the loop.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::data::{Data, Item};
use super::draw::{self, board, graph};
use super::problems::{Problem, problems};
use super::theme::Look;
use crate::story::Phase;

/// The longest text that a person types here. Longer ones belong into the story's file.
const LONGEST_ENTRY: usize = 4 << 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum View {
    #[default]
    Board,
    Graph,
    Story,
    Queue,
    Problems,
    Events,
    Budget,
}

pub(super) const VIEWS: [(View, &str); 7] = [
    (View::Board, "Board"),
    (View::Graph, "Graph"),
    (View::Story, "Story"),
    (View::Queue, "Queue"),
    (View::Problems, "Problems"),
    (View::Events, "Events"),
    (View::Budget, "Budget"),
];

/// A key, as far as this program knows any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Up,
    Down,
    Left,
    Right,
    Enter,
    Escape,
    Tab,
    BackTab,
    Backspace,
    PageUp,
    PageDown,
    Home,
    End,
    /// With the control key held.
    Control(char),
}

/// What comes in.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Key(Key),
    Paste(String),
    News(Box<Data>),
    /// What came of something that was told to the controller: a sentence, or a refusal.
    Told(Result<String, String>),
    Tick(Timestamp),
}

/// What a person tells the controller from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Approve { commit: String },
    Answer(String),
    Note(String),
    Retry,
    Cancel(String),
}

/// What the loop is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Leave,
    /// Ctrl-C: what it means depends on whose screen this is.
    Interrupt,
    Suspend,
    Repaint,
    Tell {
        story: String,
        order: Order,
    },
}

/// A question at the bottom, and the line that is typed to answer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) story: String,
    pub(super) asks: Asks,
    pub(super) text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    Answer,
    Note,
    Cancel,
    Approve { commit: String },
    Retry,
}

impl Asks {
    /// A `y` is enough; no text is wanted.
    pub(super) fn is_confirmation(&self) -> bool {
        matches!(self, Self::Approve { .. } | Self::Retry)
    }
}

/// Which part of a story is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Part {
    #[default]
    Both,
    Words,
    Facts,
}

#[derive(Clone, Debug)]
pub(super) struct Screen {
    pub(super) data: Data,
    pub(super) now: Timestamp,
    pub(super) look: Look,
    pub(super) size: (u16, u16),
    /// It belongs to a run in the same terminal.
    pub(super) of_run: bool,
    pub(super) view: View,
    /// The story that keys act on. None picks one that is of interest.
    pub(super) selected: Option<String>,
    pub(super) column: usize,
    pub(super) part: Part,
    /// Lines above the window, in the view that is shown.
    pub(super) scroll: usize,
    /// Lines above the window of the help.
    pub(super) help: Option<usize>,
    /// The event that is looked at. None follows the newest.
    pub(super) event: Option<u64>,
    pub(super) only_story: bool,
    pub(super) problem: usize,
    pub(super) problems: Vec<Problem>,
    pub(super) entry: Option<Entry>,
    pub(super) told: Option<Result<String, String>>,
    /// How far one can scroll, as the last drawing found.
    pub(super) reach: usize,
}

impl Screen {
    pub(super) fn new(now: Timestamp, look: Look, of_run: bool) -> Self {
        Self {
            data: Data::default(),
            now,
            look,
            size: (80, 24),
            of_run,
            view: View::default(),
            selected: None,
            column: 0,
            part: Part::default(),
            scroll: 0,
            help: None,
            event: None,
            only_story: false,
            problem: 0,
            problems: Vec::new(),
            entry: None,
            told: None,
            reach: 0,
        }
    }

    /// The story that keys act on: the one that was chosen, else one that asks, else one that works, else the first.
    pub(super) fn chosen(&self) -> Option<&Item> {
        if self.view == View::Problems {
            return self.problems.get(self.problem).and_then(|problem| self.data.stories.get(problem.story?)).map(|item| &**item);
        }
        let chosen = self.selected.as_deref().and_then(|id| self.data.item(id));
        let of_interest = || {
            let stories = &self.data.stories;
            let find = |is: fn(&Phase) -> bool| stories.iter().find(|item| is(&item.phase));
            find(Phase::is_halted).or_else(|| find(Phase::holds_slot)).or_else(|| stories.first())
        };
        chosen.or_else(of_interest).map(|item| &**item)
    }

    pub(super) fn chosen_id(&self) -> Option<String> {
        self.chosen().map(|item| item.row.id.clone())
    }

    /// The events that are shown: all, or those of the chosen story.
    pub(super) fn events(&self) -> Vec<usize> {
        let of = self.chosen_id().filter(|_| self.only_story);
        let events: &VecDeque<_> = &self.data.events;
        (0..events.len()).filter(|at| of.as_ref().is_none_or(|of| events[*at].story == *of)).collect()
    }

    /// Takes what happened. The answer is what the loop is asked to do.
    pub(super) fn update(&mut self, message: Message) -> Option<Wish> {
        match message {
            Message::Key(key) => self.key(key),
            Message::Paste(text) => {
                if let Some(entry) = self.entry.as_mut().filter(|entry| !entry.asks.is_confirmation()) {
                    text.chars().for_each(|c| entry.push(c));
                }
                None
            }
            Message::News(data) => {
                self.data = *data;
                // A choice that came by itself stays: nothing jumps under a person's hands.
                self.selected = self.selected.take().filter(|id| self.data.item(id).is_some()).or_else(|| self.chosen_id());
                self.find_problems();
                None
            }
            Message::Told(told) => {
                self.told = Some(told);
                None
            }
            Message::Tick(now) => {
                self.now = now;
                None
            }
        }
    }

    fn find_problems(&mut self) {
        let story = self.problems.get(self.problem).and_then(|problem| problem.story);
        self.problems = problems(&self.data, self.now);
        // The mark stays on the story it was on, where that is still one.
        let same = self.problems.iter().position(|problem| story.is_some() && problem.story == story);
        self.problem = same.unwrap_or(self.problem).min(self.problems.len().saturating_sub(1));
    }

    fn key(&mut self, key: Key) -> Option<Wish> {
        match key {
            Key::Control('c') => return Some(Wish::Interrupt),
            Key::Control('z') => return Some(Wish::Suspend),
            Key::Control('l') => return Some(Wish::Repaint),
            _ => {}
        }
        if draw::is_too_small(self.size) {
            return (key == Key::Char('q')).then_some(Wish::Leave);
        }
        if self.entry.is_some() {
            return self.key_of_entry(key);
        }
        if let Some(scroll) = self.help {
            self.help = match key {
                Key::Up | Key::Char('k') => Some(scroll.saturating_sub(1)),
                Key::Down | Key::Char('j') => Some((scroll + 1).min(self.reach)),
                Key::PageUp => Some(scroll.saturating_sub(self.page())),
                Key::PageDown | Key::Char(' ') => Some((scroll + self.page()).min(self.reach)),
                _ => None,
            };
            return None;
        }
        if self.told.take().is_some() && key == Key::Escape {
            return None;
        }
        match key {
            Key::Char('q') => return Some(Wish::Leave),
            Key::Char('?' | 'h') => (self.help, self.reach) = (Some(0), 0),
            Key::Char(digit @ '1'..='7') => {
                let at = usize::try_from(u32::from(digit) - u32::from('1')).unwrap_or(0);
                self.show(VIEWS[at].0);
            }
            Key::Tab | Key::BackTab => {
                let at = VIEWS.iter().position(|(view, _)| *view == self.view).unwrap_or(0);
                let step = if key == Key::Tab { 1 } else { VIEWS.len() - 1 };
                self.show(VIEWS[(at + step) % VIEWS.len()].0);
            }
            Key::Char('a') => self.ask(Asks::Answer),
            Key::Char('n') => self.ask(Asks::Note),
            Key::Char('r') => self.ask(Asks::Retry),
            Key::Char('x') => self.ask(Asks::Cancel),
            Key::Char('y') => self.ask_approval(),
            Key::Enter if self.view != View::Story && self.chosen().is_some() => {
                self.selected = self.chosen_id();
                self.show(View::Story);
            }
            Key::Escape if self.view != View::Board => self.show(View::Board),
            other => self.move_about(other),
        }
        None
    }

    fn show(&mut self, view: View) {
        if view != self.view {
            // The story that was chosen among the problems stays chosen elsewhere.
            self.selected = self.chosen_id().or(self.selected.take());
            (self.view, self.scroll, self.reach) = (view, 0, 0);
            // What is wrong with that story, else with any, before what concerns the run.
            let of = |wanted: &dyn Fn(usize) -> bool| self.problems.iter().position(|problem| problem.story.is_some_and(wanted));
            let chosen = self.selected.as_ref().and_then(|id| self.data.graph.index.get(id)).copied();
            self.problem = of(&|story| Some(story) == chosen).or_else(|| of(&|_| true)).unwrap_or(0);
        }
    }

    fn ask(&mut self, asks: Asks) {
        match self.chosen_id() {
            Some(story) => self.entry = Some(Entry { story, asks, text: String::new() }),
            None => self.told = Some(Err("no story is chosen".to_owned())),
        }
    }

    fn ask_approval(&mut self) {
        let Some(item) = self.chosen() else { return self.ask(Asks::Retry) };
        match item.story.change() {
            Some(change) => self.ask(Asks::Approve { commit: change.commit.to_string() }),
            None => self.told = Some(Err(format!("there is nothing to approve: nothing was collected from {} yet", item.row.id))),
        }
    }

    fn key_of_entry(&mut self, key: Key) -> Option<Wish> {
        let entry = self.entry.as_mut()?;
        if entry.asks.is_confirmation() {
            return match (key, self.entry.take()) {
                (Key::Char('y' | 'Y'), Some(entry)) => Some(entry.wish()),
                _ => None,
            };
        }
        match key {
            Key::Escape => self.entry = None,
            // An answer or a note without a word says nothing; a reason may be left out.
            Key::Enter if entry.text.trim().is_empty() && entry.asks != Asks::Cancel => {}
            Key::Enter => return self.entry.take().map(Entry::wish),
            Key::Backspace => drop(entry.text.pop()),
            Key::Control('u') => entry.text.clear(),
            Key::Control('w') => {
                let kept = entry.text.trim_end().rfind(' ').map_or(0, |at| at + 1);
                entry.text.truncate(kept);
            }
            Key::Char(c) => entry.push(c),
            _ => {}
        }
        None
    }

    /// Lines of the body, which is what one page is.
    pub(super) fn page(&self) -> usize {
        usize::from(self.size.1).saturating_sub(4).max(1)
    }

    fn move_about(&mut self, key: Key) {
        let page = self.page();
        let (step, far) = match key {
            Key::Up | Key::Char('k') => (-1, false),
            Key::Down | Key::Char('j') => (1, false),
            Key::PageUp => (-(page as isize), false),
            Key::PageDown | Key::Char(' ') => (page as isize, false),
            Key::Home | Key::Char('g') => (-1, true),
            Key::End | Key::Char('G') => (1, true),
            _ => return self.key_of_view(key),
        };
        let step = if far { step * (isize::MAX / 2) } else { step };
        match self.view {
            View::Story => self.scroll = moved(self.scroll, step, self.reach + 1),
            View::Problems => self.problem = moved(self.problem, step, self.problems.len()),
            View::Events => {
                let shown = self.events();
                let at = self.event.and_then(|seq| shown.iter().position(|at| self.data.events[*at].seq >= seq));
                let at = moved(at.unwrap_or(shown.len().saturating_sub(1)), step, shown.len());
                // At the end, one follows what comes.
                self.event = shown.get(at).filter(|_| at + 1 < shown.len()).map(|at| self.data.events[*at].seq);
            }
            View::Board => {
                let columns = board::columns(&self.data);
                let (column, at) = board::place(&columns, self.chosen().map(|item| item.row.id.as_str()), &self.data, self.column);
                if let Some(column) = columns.get(column).filter(|column| !column.is_empty()) {
                    self.choose(column[moved(at, step, column.len())]);
                }
            }
            View::Graph => self.choose_in(&graph::order(&self.data), step),
            View::Queue => {
                let order: Vec<usize> = self.data.queue.iter().filter_map(|line| self.data.graph.index.get(&line.story).copied()).collect();
                self.choose_in(&order, step);
            }
            View::Budget => self.choose_in(&(0..self.data.stories.len()).collect::<Vec<_>>(), step),
        }
    }

    fn choose_in(&mut self, order: &[usize], step: isize) {
        let now = self.chosen().and_then(|item| self.data.graph.index.get(&item.row.id)).copied();
        let at = now.and_then(|now| order.iter().position(|story| *story == now));
        // What was chosen elsewhere is not in this list: its first line is where one begins.
        let at = at.map_or(0, |at| moved(at, step, order.len()));
        if let Some(story) = order.get(at) {
            self.choose(*story);
        }
    }

    fn choose(&mut self, story: usize) {
        if let Some(item) = self.data.stories.get(story) {
            self.selected = Some(item.row.id.clone());
        }
    }

    fn key_of_view(&mut self, key: Key) {
        match (self.view, key) {
            (View::Board, Key::Left | Key::Right) => {
                let columns = board::columns(&self.data);
                let (column, at) = board::place(&columns, self.chosen().map(|item| item.row.id.as_str()), &self.data, self.column);
                let others: Vec<usize> = match key {
                    Key::Left => (0..column).rev().collect(),
                    _ => (column + 1..columns.len()).collect(),
                };
                // Columns without a story have nothing to choose.
                if let Some(next) = others.into_iter().find(|column| !columns[*column].is_empty()) {
                    self.column = next;
                    self.choose(columns[next][at.min(columns[next].len() - 1)]);
                }
            }
            (View::Story, Key::Left | Key::Right) => {
                let step = if key == Key::Left { -1 } else { 1 };
                self.choose_in(&(0..self.data.stories.len()).collect::<Vec<_>>(), step);
                (self.scroll, self.reach) = (0, 0);
            }
            (View::Story, Key::Char('t')) => {
                self.part = match self.part {
                    Part::Both => Part::Words,
                    Part::Words => Part::Facts,
                    Part::Facts => Part::Both,
                };
                (self.scroll, self.reach) = (0, 0);
            }
            (View::Events, Key::Char('f')) => {
                self.only_story = !self.only_story;
                self.event = None;
            }
            _ => {}
        }
    }
}

/// A place in a list of `count`, so many steps further, as far as there is one.
fn moved(at: usize, step: isize, count: usize) -> usize {
    at.saturating_add_signed(step).min(count.saturating_sub(1))
}

impl Entry {
    /// What is typed or pasted is one line of text: a line end in it is a space.
    fn push(&mut self, c: char) {
        let c = if matches!(c, '\n' | '\r' | '\t') { ' ' } else { c };
        if !c.is_control() && self.text.len() + c.len_utf8() <= LONGEST_ENTRY {
            self.text.push(c);
        }
    }

    fn wish(self) -> Wish {
        let text = self.text.trim().to_owned();
        let order = match self.asks {
            Asks::Answer => Order::Answer(text),
            Asks::Note => Order::Note(text),
            Asks::Cancel => Order::Cancel(text),
            Asks::Approve { commit } => Order::Approve { commit },
            Asks::Retry => Order::Retry,
        };
        Wish::Tell { story: self.story, order }
    }
}
