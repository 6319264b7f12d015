//! Makes a filter program shorter without changing any of its answers: what is known already is not asked again, a way that only leads on is
//! not taken, and what ends alike stands once. The kernel translates every instruction of it for every sandbox. Pure.

use std::collections::HashMap;

use seccompiler::{BpfProgram, sock_filter};

use super::{AND_K, JMP_JA, JMP_JEQ_K, JMP_JGE_K, JMP_JGT_K, LD_W_ABS, OFFSET_ARCH, OFFSET_NR, RET_K, jump, statement};

/// An instruction that does something, and where it goes on: places in the list of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Node {
    Load { offset: u32, next: usize },
    Mask { bits: u32, next: usize },
    Branch { code: u16, k: u32, yes: usize, no: usize },
    Return { answer: u32 },
}

/// What is known at one place on one way there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Known {
    /// The least and the greatest number that the architecture and the call can have.
    arch: (u32, u32),
    call: (u32, u32),
    /// Which word of the call was loaded last, when nothing was done with it.
    held: Option<u32>,
}

impl Known {
    fn held_range(&mut self) -> Option<&mut (u32, u32)> {
        match self.held? {
            OFFSET_ARCH => Some(&mut self.arch),
            OFFSET_NR => Some(&mut self.call),
            _ => None,
        }
    }

    /// What is known on either side of a comparison; `None` for a side that nothing can reach.
    fn divide(mut self, code: u16, k: u32) -> [Option<Self>; 2] {
        let Some((low, high)) = self.held_range().copied() else { return [Some(self); 2] };
        let (yes, no) = match code {
            JMP_JEQ_K if (low, high) == (k, k) => (Some((k, k)), None),
            JMP_JEQ_K if k < low || k > high => (None, Some((low, high))),
            JMP_JEQ_K => (Some((k, k)), Some((if k == low { low + 1 } else { low }, if k == high { high - 1 } else { high }))),
            JMP_JGE_K => (range(low.max(k), high), k.checked_sub(1).and_then(|last| range(low, high.min(last)))),
            _ => (k.checked_add(1).and_then(|first| range(low.max(first), high)), range(low, high.min(k))),
        };
        [yes, no].map(|side| {
            side.map(|side| {
                let mut known = self;
                known.held_range().into_iter().for_each(|range| *range = side);
                known
            })
        })
    }
}

fn range(low: u32, high: u32) -> Option<(u32, u32)> {
    (low <= high).then_some((low, high))
}

/// The same answers in fewer instructions; as it is when it holds an instruction that no filter of ours has.
pub(super) fn shorten(program: BpfProgram) -> BpfProgram {
    let usual = [LD_W_ABS, AND_K, JMP_JA, JMP_JEQ_K, JMP_JGE_K, JMP_JGT_K, RET_K];
    if program.iter().any(|i| !usual.contains(&i.code)) {
        return program;
    }
    let mut graph = Graph { program: &program, nodes: Vec::new(), same: HashMap::new(), built: HashMap::new() };
    let everything = (0, u32::MAX);
    let first = graph.build(0, Known { arch: everything, call: everything, held: None });
    let mut layout = Layout { nodes: &graph.nodes, reversed: Vec::new(), places: HashMap::new() };
    layout.next_to(first);
    layout.program()
}

struct Graph<'a> {
    program: &'a [sock_filter],
    nodes: Vec<Node>,
    same: HashMap<Node, usize>,
    built: HashMap<(usize, Known), usize>,
}

impl Graph<'_> {
    /// The node that answers as the program from `at` on does. Programs jump forward only, so this ends.
    fn build(&mut self, at: usize, known: Known) -> usize {
        if let Some(node) = self.built.get(&(at, known)) {
            return *node;
        }
        let sock_filter { code, jt, jf, k } = self.program[at];
        let after = |distance: u32| at + 1 + distance as usize;
        let node = match code {
            JMP_JA => self.build(after(k), known),
            RET_K => self.node(Node::Return { answer: k }),
            LD_W_ABS if known.held == Some(k) => self.build(after(0), known),
            LD_W_ABS => {
                let next = self.build(after(0), Known { held: Some(k), ..known });
                // Nobody looks at what was loaded.
                match self.nodes[next] {
                    Node::Load { .. } | Node::Return { .. } => next,
                    _ => self.node(Node::Load { offset: k, next }),
                }
            }
            AND_K => {
                let next = self.build(after(0), Known { held: None, ..known });
                self.node(Node::Mask { bits: k, next })
            }
            _ => match known.divide(code, k) {
                [Some(yes), Some(no)] => {
                    let (yes, no) = (self.build(after(jt.into()), yes), self.build(after(jf.into()), no));
                    if yes == no { yes } else { self.node(Node::Branch { code, k, yes, no }) }
                }
                [Some(yes), None] => self.build(after(jt.into()), yes),
                [None, no] => self.build(after(jf.into()), no.unwrap_or(known)),
            },
        };
        self.built.insert((at, known), node);
        node
    }

    fn node(&mut self, node: Node) -> usize {
        *self.same.entry(node).or_insert_with(|| {
            self.nodes.push(node);
            self.nodes.len() - 1
        })
    }
}

/// Written from the end, because every jump goes forward: whatever an instruction leads to has its place before it.
struct Layout<'a> {
    nodes: &'a [Node],
    reversed: Vec<Placed>,
    /// Where a node stands, counted from the end; of several copies the nearest.
    places: HashMap<usize, usize>,
}

#[derive(Clone, Copy)]
enum Placed {
    Statement(u16, u32),
    /// To places counted from the end.
    Jump(usize),
    Branch {
        code: u16,
        k: u32,
        yes: usize,
        no: usize,
    },
}

impl Layout<'_> {
    /// Writes what `node` does, and whatever it leads to, if it stands nowhere yet.
    fn place(&mut self, node: usize) {
        if self.places.contains_key(&node) {
            return;
        }
        let placed = match self.nodes[node] {
            Node::Return { answer } => Placed::Statement(RET_K, answer),
            Node::Load { offset, next } => {
                self.next_to(next);
                Placed::Statement(LD_W_ABS, offset)
            }
            Node::Mask { bits, next } => {
                self.next_to(next);
                Placed::Statement(AND_K, bits)
            }
            Node::Branch { code, k, yes, no } => {
                self.place(no);
                self.place(yes);
                // One step of room for the other one's jump.
                self.within_reach(no, 1);
                self.within_reach(yes, 0);
                Placed::Branch { code, k, yes: self.places[&yes], no: self.places[&no] }
            }
        };
        self.push(node, placed);
    }

    fn push(&mut self, node: usize, placed: Placed) {
        self.places.insert(node, self.reversed.len());
        self.reversed.push(placed);
    }

    /// Has `node` stand right where the next instruction is written, itself or a jump to it.
    fn next_to(&mut self, node: usize) {
        self.place(node);
        if self.places[&node] + 1 != self.reversed.len() {
            self.again(node);
        }
    }

    /// A conditional jump reaches 255 instructions.
    fn within_reach(&mut self, node: usize, room: usize) {
        if self.reversed.len() - self.places[&node] - 1 + room > usize::from(u8::MAX) {
            self.again(node);
        }
    }

    fn again(&mut self, node: usize) {
        let again = match self.nodes[node] {
            Node::Return { answer } => Placed::Statement(RET_K, answer),
            _ => Placed::Jump(self.places[&node]),
        };
        self.push(node, again);
    }

    fn program(self) -> BpfProgram {
        let distance = |from: usize, to: usize| from - to - 1;
        let short = |from, to| u8::try_from(distance(from, to)).unwrap_or(u8::MAX);
        let instruction = |(at, placed): (usize, &Placed)| match *placed {
            Placed::Statement(code, k) => statement(code, k),
            Placed::Jump(to) => statement(JMP_JA, u32::try_from(distance(at, to)).unwrap_or(u32::MAX)),
            Placed::Branch { code, k, yes, no } => jump(code, k, short(at, yes), short(at, no)),
        };
        self.reversed.iter().enumerate().rev().map(instruction).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::run;
    use super::*;

    /// Programs of every shape: jumps forward to anywhere, comparisons of whatever was loaded last, dead ends and detours.
    fn programs() -> impl Strategy<Value = BpfProgram> {
        let number = prop_oneof![0_u32..6, Just(0xffff_ffff), Just(0xc000_003e)];
        let one = (0_u8..9, any::<u8>(), any::<u8>(), number, 0_u32..4);
        proptest::collection::vec(one, 1..60).prop_map(|list| {
            let last = list.len();
            let instruction = |(at, (kind, yes, no, k, word)): (usize, (u8, u8, u8, u32, u32))| {
                let forward = |distance: u8| u8::try_from(usize::from(distance) % (last - at)).expect("a short program");
                match kind {
                    0 | 1 => statement(LD_W_ABS, word * 4),
                    2 => statement(AND_K, k),
                    3 => statement(JMP_JA, forward(yes).into()),
                    4 | 5 => jump(JMP_JEQ_K, k, forward(yes), forward(no)),
                    6 => jump(JMP_JGE_K, k, forward(yes), forward(no)),
                    7 => jump(JMP_JGT_K, k, forward(yes), forward(no)),
                    _ => statement(RET_K, k),
                }
            };
            list.into_iter().enumerate().map(instruction).chain([statement(RET_K, 7)]).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]
        #[test]
        fn a_shorter_program_answers_alike(program in programs(), calls in proptest::collection::vec((0_u32..7, 0_u32..7, any::<[u8; 2]>()), 20)) {
            let shorter = shorten(program.clone());
            prop_assert!(shorter.len() <= program.len() * 2, "{} of {}", shorter.len(), program.len());
            for (arch, call, args) in calls {
                for (arch, call) in [(arch, call), (0xc000_003e, call), (arch, u32::MAX)] {
                    let args = [args[0].into(), args[1].into(), 0, 0, 0, 0];
                    prop_assert_eq!(run(&shorter, arch, call, args), run(&program, arch, call, args));
                }
            }
        }
    }

    /// A way longer than a conditional jump reaches.
    #[test]
    fn what_is_far_away_is_reached() {
        let mut program = vec![statement(LD_W_ABS, OFFSET_NR)];
        for number in 0..400_u32 {
            program.push(jump(JMP_JEQ_K, number * 2, 0, 1));
            program.push(statement(RET_K, number % 3));
        }
        program.push(statement(RET_K, 9));
        let shorter = shorten(program.clone());
        for call in 0..900 {
            assert_eq!(run(&shorter, 0, call, [0; 6]), run(&program, 0, call, [0; 6]), "{call}");
        }
        assert!(shorter.len() < program.len() * 3 / 4, "{} of {}", shorter.len(), program.len());
    }

    #[test]
    fn an_unknown_instruction_is_left_alone() {
        let program = vec![statement(LD_W_ABS, 0), statement(0x04, 1), statement(RET_K, 0)];
        assert!(shorten(program.clone()) == program);
    }
}
