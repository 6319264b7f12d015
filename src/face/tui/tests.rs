//! The screen, from a store that was filled through its own door to the cells that a person sees.

use jiff::Timestamp;
use proptest::prelude::*;
use ratatui_core::backend::TestBackend;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier};
use ratatui_core::terminal::Terminal;
use ratatui_crossterm::CrosstermBackend;

use super::draw::render;
use super::feed::Feed;
use super::model::{Key, Message, Order, Screen, VIEWS, View, Wish};
use super::theme::Look;
use crate::base::id::StoryId;
use crate::event::{
    Actor, Amount, AttemptEnd, Criterion, CriterionVerdict, Event, Finding, GateResult, Kind, Landing, StorySpec, Task, Verdict,
};
use crate::face::cli::state::State;
use crate::store::health::{Health, Progress, Status};
use crate::store::lock::RunnerLock;
use crate::store::{Store, live};
use crate::story::harness::{at, built, collected, commit, ended, gated, judged, landed, no, spec};

const LOOK: Look = Look { color: true, unicode: true };

/// A state folder with a store, and a runner that holds its lock.
struct World {
    dir: tempfile::TempDir,
    store: Store,
    second: i64,
    _lock: RunnerLock,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let lock = RunnerLock::take(dir.path(), Timestamp::now()).expect("free");
        let store = Store::open(dir.path()).expect("a store");
        let pid = std::process::id();
        let health = Health {
            version: 1,
            status: Status::Running,
            pid,
            heartbeat: Timestamp::now(),
            run: None,
            progress: Progress::default(),
            detail: None,
            stale_after_s: 120,
        };
        health.write(dir.path()).expect("written");
        let mut world = Self { dir, store, second: 0, _lock: lock };
        let target = "refs/heads/main".to_owned();
        world.say("", Kind::RunStarted { pid: 7, version: "0.1.0".to_owned(), parallel: 4, target, commit: commit(0) });
        world.say("", Kind::TargetChecked { commit: commit(0), green: true, detail: None, evidence: None });
        world
    }

    fn say(&mut self, story: &str, kind: Kind) -> &mut Self {
        self.second += 1;
        let story: Option<StoryId> = (!story.is_empty()).then(|| story.parse().expect("an id"));
        let event = Event { at: at(self.second), run: None, story, actor: Actor::Runner, kind };
        self.store.append_one(event).expect("accepted");
        self
    }

    fn story(&mut self, id: &str, title: &str, change: impl FnOnce(&mut StorySpec)) -> &mut Self {
        let mut spec = spec();
        spec.title = title.to_owned();
        spec.ordinal = u32::try_from(self.second).expect("few");
        spec.criteria = vec![
            Criterion {
                id: "AC-1".to_owned(),
                text: "a value that was set with a time to live is gone when that time has passed".to_owned(),
            },
            Criterion { id: "AC-2".to_owned(), text: "keys without one behave as before".to_owned() },
        ];
        change(&mut spec);
        self.say(id, Kind::StoryCreated { spec })
    }

    fn start(&mut self, id: &str, attempt: u32, task: Task) -> &mut Self {
        self.say(id, Kind::StoryStarted { attempt: no(attempt), base: commit(0) });
        self.say(id, Kind::AttemptStarted { attempt: no(attempt), task, agent: "claude/sonnet".to_owned() })
    }

    /// An attempt that everybody is content with.
    fn good(&mut self, id: &str, n: u32) -> &mut Self {
        self.start(id, 1, Task::Implement);
        self.say(id, ended(1, AttemptEnd::Finished, None)).say(id, collected(1, n, id, 3));
        self.say(id, judged(n, "checks", Verdict::Pass, 0)).say(id, judged(n, "review", Verdict::Pass, 0));
        self.say(id, gated(n, GateResult::Pass))
    }

    /// A plan in which there is one story in each of the states that people look for.
    fn filled() -> Self {
        let mut world = Self::new();
        let after =
            |ids: &'static [&'static str]| move |spec: &mut StorySpec| spec.after = ids.iter().map(|id| id.parse().expect("id")).collect();
        world.story("US-1", "A store of keys and values", |_| {}).story("US-2", "Keys can expire", after(&["US-1"]));
        world.story("US-3", "A listing that says what expires next", after(&["US-1"])).story(
            "US-4",
            "Take snapshots while writing",
            after(&["US-1"]),
        );
        world.story("US-5", "Restore from a snapshot", after(&["US-4"])).story(
            "US-6",
            "Restore over the network",
            after(&["US-3", "US-5"]),
        );
        world.story("US-7", "Command line", |_| {}).story("US-8", "Configuration file", |_| {});
        world.story("US-9", "Choose the licence", |spec| spec.automatable = false);
        world.story("US-10", "Fuzz the parser of the wire protocol", |spec| spec.rules.limits.cost_microusd = Some(2_000_000));
        world.story("US-11", "Windows service", |_| {}).story("US-12", "Metrics", |spec| spec.rules.landing = Landing::Approval);
        world
            .good("US-1", 1)
            .say("US-1", Kind::StoryQueued { commit: commit(1) })
            .say("US-1", built(101, 1))
            .say("US-1", gated(101, GateResult::Pass));
        world.say("US-1", landed(101, 1));
        world.say("", Kind::TargetChecked { commit: commit(101), green: true, detail: None, evidence: None });
        world.start("US-2", 1, Task::Implement).say("US-2", ended(1, AttemptEnd::Finished, None)).say("US-2", collected(1, 2, "two", 2));
        world.say("US-2", judged(2, "checks", Verdict::Pass, 0)).say("US-2", review(2, false));
        world.say("US-2", Kind::AttemptStarted { attempt: no(2), task: Task::Repair, agent: "claude/sonnet".to_owned() });
        world.say(
            "US-2",
            Kind::ApproachDeclared { attempt: no(2), summary: "compare with the clock at reading, not at writing".to_owned() },
        );
        world.say("US-2", ended(2, AttemptEnd::Finished, None)).say("US-2", collected(2, 22, "two again", 2)).say("US-2", review(22, true));
        world.start("US-3", 1, Task::Implement);
        let question = "Is it fine when a snapshot stops all writers for some milliseconds, or must writing go on at any price?";
        world.start("US-4", 1, Task::Implement).say("US-4", ended(1, AttemptEnd::Finished, Some(question)));
        for (id, n) in [("US-7", 7), ("US-8", 8)] {
            world.good(id, n).say(id, Kind::StoryQueued { commit: commit(n) });
        }
        world.say("US-7", built(107, 7)).say("US-7", gated(107, GateResult::Pass));
        let on = Kind::CandidateBuilt {
            candidate: commit(108),
            tree: crate::story::harness::tree(108),
            base: commit(107),
            story_commit: commit(8),
            behind: vec!["US-7".parse().expect("id")],
        };
        world.say("US-8", on);
        let spent = |usd: u64| Kind::BudgetSpent {
            role: "implementer".to_owned(),
            model: Some("sonnet".to_owned()),
            amount: Amount { model_calls: 12, tokens_in: 45_000, tokens_out: 3_100, cost_microusd: usd, wall_ms: 190_000 },
        };
        world.say("US-2", spent(640_000)).start("US-10", 1, Task::Implement).say("US-10", spent(2_100_000));
        world.say("US-10", ended(1, AttemptEnd::Finished, None));
        world.say("US-11", Kind::StoryCancelled { reason: "nobody asked for it".to_owned() });
        world.good("US-12", 12);
        let words = [
            "Let me look at how keys are listed.",
            "Read: src/list.rs",
            "The order must be by the time that is left.",
            "Edit: src/list.rs",
        ];
        live::write(world.dir.path(), &"US-3".parse().expect("id"), &words.map(str::to_owned).into()).expect("written");
        world
    }

    fn screen(&self) -> Screen {
        let mut screen = Screen::new(at(self.second + 200), LOOK, false);
        let mut feed = Feed::new(State::of_folder(self.dir.path()));
        // Twice: the first tells which story is chosen, the second brings its words.
        for _ in 0..2 {
            let chosen = screen.chosen_id();
            if let Some(data) = feed.poll(chosen.as_deref()) {
                screen.update(Message::News(Box::new(data)));
            }
        }
        screen
    }

    /// The screen with this story chosen.
    fn looking_at(&self, story: &str) -> Screen {
        let mut screen = self.screen();
        screen.selected = Some(story.to_owned());
        let mut feed = Feed::new(State::of_folder(self.dir.path()));
        let data = feed.poll(None).into_iter().chain(feed.poll(Some(story))).last().expect("news");
        screen.update(Message::News(Box::new(data)));
        screen
    }
}

fn review(n: u32, pass: bool) -> Kind {
    let verdict = if pass { Verdict::Pass } else { Verdict::Fail };
    let Kind::EvaluatorFinished { evaluator, commit, tree, proof, problems, cached, wall_ms, .. } =
        judged(n, "review", verdict, u32::from(!pass))
    else {
        panic!("another kind");
    };
    let said = |id: &str, pass| CriterionVerdict { id: id.to_owned(), pass, evidence: "src/store.rs:41".to_owned() };
    let finding = Finding {
        text: "the time is compared when the value is written, so it never expires".to_owned(),
        path: Some("src/store.rs".to_owned()),
        line: Some(41),
        ..Finding::default()
    };
    let findings = if pass { Vec::new() } else { vec![finding] };
    let criteria = vec![said("AC-1", pass), said("AC-2", true)];
    Kind::EvaluatorFinished { evaluator, commit, tree, proof, verdict, problems, criteria, findings, evidence: Vec::new(), cached, wall_ms }
}

fn press(screen: &mut Screen, keys: &str) -> Vec<Wish> {
    keys.chars()
        .filter_map(|c| {
            let key = match c {
                '\n' => Key::Enter,
                '\u{1b}' => Key::Escape,
                '↑' => Key::Up,
                '↓' => Key::Down,
                '←' => Key::Left,
                '→' => Key::Right,
                c => Key::Char(c),
            };
            screen.update(Message::Key(key))
        })
        .collect()
}

fn drawn(screen: &mut Screen, width: u16, height: u16) -> Buffer {
    screen.size = (width, height);
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| screen.reach = render(screen, frame.buffer_mut()).reach).expect("drawn");
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width).max(1);
    let lines = buffer
        .content
        .chunks(width)
        .map(|row| row.iter().map(ratatui_core::buffer::Cell::symbol).collect::<String>().trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// The attributes of each cell as a letter: what a person sees beside the words.
fn tones(buffer: &Buffer) -> String {
    let letter = |cell: &ratatui_core::buffer::Cell| match (cell.modifier, cell.fg) {
        (modifier, _) if modifier.contains(Modifier::REVERSED) => '#',
        (_, Color::Green) => 'g',
        (_, Color::Red) => 'r',
        (_, Color::Magenta) => 'm',
        (modifier, _) if modifier.contains(Modifier::BOLD) => 'b',
        (modifier, _) if modifier.contains(Modifier::DIM) => 'd',
        _ => '.',
    };
    let width = usize::from(buffer.area.width).max(1);
    let lines = buffer.content.chunks(width).map(|row| row.iter().map(letter).collect::<String>().trim_end_matches('.').to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// Every view of the filled store, and what can lie over it.
fn scenes() -> Vec<(&'static str, Screen)> {
    let world = World::filled();
    let with = |story: &str, keys: &str| {
        let mut screen = world.looking_at(story);
        press(&mut screen, keys);
        screen
    };
    let mut refused = with("US-3", "");
    let refusal = "cofferdam: story.answered of US-3 was refused\n  because: the story is implementing: it asks nothing\n  next: cofferdam note US-3 TEXT";
    refused.update(Message::Told(Err(refusal.to_owned())));
    vec![
        ("board", with("US-2", "")),
        ("graph", with("US-4", "2")),
        ("story-repair", with("US-2", "3")),
        ("story-live", with("US-3", "3")),
        ("story-words", with("US-3", "3t")),
        ("queue", with("US-7", "4")),
        ("problems", with("US-4", "5")),
        ("events", with("US-2", "6")),
        ("budget", with("US-10", "7")),
        ("help", with("US-2", "?")),
        ("answer", with("US-4", "aIt may stop them")),
        ("approve", with("US-12", "y")),
        ("refused", refused),
    ]
}

#[test]
fn every_view_is_what_it_was() {
    for (name, mut screen) in scenes() {
        for (width, height) in [(80, 24), (200, 50)] {
            let buffer = drawn(&mut screen, width, height);
            insta::assert_snapshot!(format!("{name}-{width}x{height}"), format!("{}\n=== tones ===\n{}", text(&buffer), tones(&buffer)));
        }
    }
}

#[test]
fn without_colour_the_words_are_the_same_and_no_cell_has_one() {
    for (name, mut screen) in scenes() {
        let with = text(&drawn(&mut screen, 80, 24));
        screen.look.color = false;
        let without = drawn(&mut screen, 80, 24);
        assert_eq!(text(&without), with, "{name}");
        assert!(without.content.iter().all(|cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset)), "{name}");
        screen.look.unicode = false;
        assert!(text(&drawn(&mut screen, 80, 24)).is_ascii(), "{name}");
    }
}

/// What hostile titles, questions, notes and transcripts would do to a terminal that believed them.
const ATTACKS: [&str; 8] = [
    "\u{1b}]0;PWNED\u{7}",
    "\u{1b}[2J\u{1b}[1;1Hroot@host:~# ",
    "\u{1b}]52;c;cm0gLXJmIC8K\u{7}",
    "\u{9b}31mred\u{90}q\u{9c}",
    "txt.\u{202e}gnp\u{2066}\u{2069}",
    "\r\n\u{8}\u{8}\u{8}approved\u{0}",
    "\u{1b}Pq#0;2;0;0;0\u{1b}\\\u{1b}[?1049l\u{1b}c",
    "in\u{200b}vis\u{e0041}ible\u{feff}z\u{335}\u{335}\u{335}\u{335}\u{335}\u{335}",
];

#[test]
fn no_word_of_a_stranger_is_obeyed_by_the_terminal() {
    let mut world = World::new();
    let all = ATTACKS.concat();
    for (n, attack) in ATTACKS.iter().enumerate() {
        let id = format!("US-{n}");
        world.story(&id, &format!("title {attack}"), |spec| {
            spec.epic = Some(all.clone());
            spec.criteria = vec![Criterion { id: format!("AC-{attack}"), text: all.clone() }];
            spec.rules.gates = vec![format!("gate {attack}")];
        });
        world.start(&id, 1, Task::Implement).say(&id, Kind::ApproachDeclared { attempt: no(1), summary: all.clone() });
        world.say(&id, Kind::StoryNoted { text: all.clone() });
        let failed = AttemptEnd::Failed { cause: all.clone() };
        world.say(&id, ended(1, if n % 2 == 0 { AttemptEnd::Finished } else { failed }, (n % 2 == 0).then_some(all.as_str())));
        live::write(world.dir.path(), &id.parse().expect("id"), &vec![all.clone()].into()).expect("written");
    }
    world.say("", Kind::RunPaused { reason: Some(all.clone()) });
    for story in 0..ATTACKS.len() {
        for (view, name) in VIEWS {
            for keys in ["", "a", "x", "t"] {
                let mut screen = world.looking_at(&format!("US-{story}"));
                screen.view = view;
                press(&mut screen, keys);
                screen.update(Message::Paste(all.clone()));
                if keys.is_empty() {
                    screen.update(Message::Told(Err(all.clone())));
                }
                is_harmless(name, &mut screen);
            }
        }
    }
}

/// What goes to the terminal is what this program itself says to it, and cells that only show something.
fn is_harmless(name: &str, screen: &mut Screen) {
    let buffer = drawn(screen, 100, 40);
    for cell in &buffer.content {
        let is_harmful = |c: char| {
            c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
        };
        assert!(!cell.symbol().chars().any(is_harmful), "{name}: {:?}", cell.symbol());
        assert!(cell.symbol().chars().count() <= 4, "{name}: {:?}", cell.symbol());
    }
    let mut bytes = Vec::new();
    let mut terminal = Terminal::with_options(
        CrosstermBackend::new(&mut bytes),
        ratatui_core::terminal::TerminalOptions { viewport: ratatui_core::terminal::Viewport::Fixed(Rect::new(0, 0, 100, 40)) },
    )
    .expect("a terminal");
    terminal.draw(|frame| _ = render(screen, frame.buffer_mut())).expect("drawn");
    drop(terminal);
    let sent = String::from_utf8(bytes).expect("text");
    // Moving the cursor, attributes, showing and hiding the cursor: nothing else begins with an escape character.
    for sequence in sent.split('\u{1b}').skip(1) {
        let body = sequence.strip_prefix('[').unwrap_or_else(|| panic!("{name}: {sequence:?}"));
        let last = body.find(|c: char| !matches!(c, '0'..='9' | ';' | '?')).and_then(|at| body[at..].chars().next());
        assert!(matches!(last, Some('H' | 'm' | 'h' | 'l')), "{name}: {sequence:?}");
    }
}

#[test]
fn a_small_terminal_gets_a_plain_sentence_and_q_still_leaves() {
    let mut screen = World::filled().screen();
    let shown = text(&drawn(&mut screen, 39, 9));
    assert!(shown.replace('\n', " ").contains("This terminal is 39x9; the screen needs 40x10"), "{shown}");
    assert_eq!(press(&mut screen, "q"), [Wish::Leave]);
    assert!(text(&drawn(&mut screen, 40, 10)).contains("Needs you") || text(&drawn(&mut screen, 40, 10)).contains("At work"));
}

#[test]
fn keys_that_act_ask_first_and_then_wish_what_the_commands_do() {
    let world = World::filled();
    let tell = |story: &str, order| Wish::Tell { story: story.to_owned(), order };
    let mut screen = world.looking_at("US-4");
    assert_eq!(press(&mut screen, "a  \n"), [], "an answer without a word is none");
    assert_eq!(press(&mut screen, "some ms are fine\n"), [tell("US-4", Order::Answer("some ms are fine".to_owned()))]);
    assert_eq!(press(&mut screen, "nq\n"), [tell("US-4", Order::Note("q".to_owned()))], "what is typed is no key");
    assert_eq!(press(&mut screen, "rn"), [], "anything but y is a no");
    assert_eq!(press(&mut screen, "ry"), [tell("US-4", Order::Retry)]);
    assert_eq!(press(&mut screen, "xwhy\u{1b}"), []);
    assert_eq!(press(&mut screen, "x\n"), [tell("US-4", Order::Cancel(String::new()))]);
    assert_eq!(press(&mut screen, "y"), []);
    assert!(
        screen.told.as_ref().is_some_and(|told| told.as_ref().is_err_and(|why| why.contains("nothing to approve"))),
        "{:?}",
        screen.told
    );
    let mut screen = world.looking_at("US-12");
    assert_eq!(press(&mut screen, "yy"), [tell("US-12", Order::Approve { commit: commit(12).to_string() })]);
    assert_eq!(screen.update(Message::Key(Key::Control('c'))), Some(Wish::Interrupt));
}

#[test]
fn a_revert_that_waits_for_a_word_is_a_problem_until_it_has_one() {
    let mut world = World::filled();
    let why = "the gate test is red".to_owned();
    let (base, landed) = (commit(101), commit(101));
    world.say(
        "US-1",
        Kind::RevertPrepared { candidate: commit(12), tree: crate::story::harness::tree(12), base, landed, why, evidence: None },
    );
    let asked = |world: &World| {
        let screen = world.screen();
        let next: Vec<_> = screen.problems.iter().filter_map(|problem| problem.next.clone()).collect();
        next.contains(&"cofferdam approve US-1".to_owned())
    };
    assert!(!asked(&world), "its gates run");
    world.say("US-1", Kind::RevertReady { candidate: commit(12) });
    assert!(asked(&world));
    world.say("US-1", Kind::StoryApproved { commit: commit(12), without_gates: Vec::new() });
    assert!(!asked(&world));
}

#[test]
fn the_root_that_holds_the_most_comes_first_among_the_problems() {
    let screen = World::filled().screen();
    let names: Vec<(&str, usize)> = screen
        .problems
        .iter()
        .map(|problem| (problem.story.map_or("", |story| screen.data.stories[story].row.id.as_str()), problem.holds.len()))
        .collect();
    assert_eq!(names, [("US-4", 2), ("US-9", 0), ("US-10", 0), ("US-12", 0)]);
}

#[test]
fn news_are_read_when_there_are_any_and_a_choice_stays() {
    let mut world = World::filled();
    let mut screen = world.looking_at("US-3");
    let mut feed = Feed::new(State::of_folder(world.dir.path()));
    let data = feed.poll(Some("US-3"));
    assert!(data.is_some_and(|data| data.words.lines.len() == 4), "the words come with the choice");
    assert!(feed.poll(Some("US-3")).is_none(), "nothing changed");
    world.say("US-3", ended(1, AttemptEnd::Finished, Some("which?")));
    let data = feed.poll(Some("US-3")).expect("news");
    assert_eq!(data.item("US-3").map(|item| item.row.phase.as_str()), Some("blocked"));
    assert!(data.words.lines.is_empty(), "nobody speaks any more");
    screen.update(Message::News(Box::new(data)));
    assert_eq!(screen.chosen_id().as_deref(), Some("US-3"));
    assert_eq!(screen.data.events.back().map(|event| event.kind.as_str()), Some("story.blocked"));
    drop(world.dir);
    let data = feed.poll(Some("US-3"));
    assert!(data.is_some_and(|data| !data.is_known && data.stories.is_empty()), "a state that was removed is not shown any more");
}

fn any_key() -> impl Strategy<Value = Key> {
    prop_oneof![
        8 => prop::char::range(' ', '~').prop_map(Key::Char),
        4 => prop::sample::select(vec![
            Key::Up, Key::Down, Key::Left, Key::Right, Key::Enter, Key::Escape, Key::Tab, Key::BackTab, Key::Backspace, Key::PageUp,
            Key::PageDown, Key::Home, Key::End, Key::Control('u'), Key::Control('w'), Key::Char('漢'),
        ]),
        4 => prop::sample::select("1234567tfaynrx?jk".chars().map(Key::Char).collect::<Vec<_>>()),
    ]
}

#[test]
fn no_keys_break_it_at_any_size() {
    let world = World::filled();
    let (full, empty) = (world.screen(), Screen::new(at(0), LOOK, true));
    let strategy = (prop::collection::vec((any_key(), 1_u16..220, 1_u16..60), 1..40), any::<bool>(), any::<bool>());
    proptest!(ProptestConfig::with_cases(150), |((steps, is_empty, is_ascii) in strategy)| {
        let mut screen = if is_empty { empty.clone() } else { full.clone() };
        screen.look.unicode = !is_ascii;
        for (key, width, height) in steps {
            // Small ones more often: there is where room runs out.
            let (width, height) = if width % 2 == 0 { (width, height) } else { (width % 90 + 1, height % 30 + 1) };
            screen.update(Message::Key(key));
            let buffer = drawn(&mut screen, width, height);
            if width >= 40 && height >= 10 {
                let last = text(&buffer).lines().last().unwrap_or_default().to_owned();
                prop_assert!(!last.trim().is_empty(), "the keys are always shown");
            }
        }
    });
}

#[test]
fn the_last_line_names_the_way_out_in_every_view() {
    for (name, mut screen) in scenes() {
        for width in [40, 60, 80, 200] {
            let shown = text(&drawn(&mut screen, width, 24));
            let last = shown.lines().last().unwrap_or_default();
            let way_out = ["q leave", "Esc leave it", "any other key"];
            assert!(way_out.iter().any(|words| last.contains(words)), "{name} at {width}: {last}");
        }
    }
    assert_eq!(World::filled().screen().view, View::Board);
}
