//! What throws bytes at a parser: examples made to its grammar, bent, and those kept that brought something new out of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Rounds of one parser in a usual run.
const ROUNDS: u64 = 20_000;
const LONGEST: usize = 4096;
/// No more examples are kept for one parser: of a hundred thousand outcomes most differ in nothing that matters.
const MOST_KEPT: usize = 4096;
/// Nor are more written down by a long run.
const MOST_WRITTEN: usize = 64;

/// Random enough, and the same on every machine for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).expect("it is below n")
    }

    /// Once in `n` times.
    pub(crate) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }

    pub(crate) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// One parser, and how to come by input for it.
pub(crate) struct Target<'a> {
    pub(crate) name: &'a str,
    pub(crate) seeds: Vec<Vec<u8>>,
    /// What it treats in a way of its own.
    pub(crate) words: &'a [&'a [u8]],
    /// Something of the right shape, with whatever may be wrong about it.
    pub(crate) make: &'a dyn Fn(&mut Dice) -> Vec<u8>,
}

/// One example, changed a few times.
fn changed(dice: &mut Dice, corpus: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = corpus[dice.below(corpus.len())].clone();
    for _ in 0..=dice.below(5) {
        let (at, to) = (dice.below(bytes.len() + 1), dice.below(bytes.len() + 1));
        let (from, to) = (at.min(to), at.max(to));
        match dice.below(8) {
            0 if !bytes.is_empty() => {
                let at = dice.below(bytes.len());
                bytes[at] ^= 1 << dice.below(8);
            }
            1 if !bytes.is_empty() => {
                let at = dice.below(bytes.len());
                bytes[at] = dice.byte();
            }
            2 => drop(bytes.drain(from..to.min(from + 8))),
            3 => {
                let word = dice.one_of(words);
                bytes.splice(at..at, word.iter().copied());
            }
            4 => {
                let piece: Vec<u8> = bytes[from..to].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let other = &corpus[dice.below(corpus.len())];
                let cut = dice.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend(&other[cut..]);
            }
            6 => bytes.truncate(at),
            _ => {
                let word = dice.one_of(words);
                bytes.splice(from..to.min(from + word.len()), word.iter().copied());
            }
        }
        bytes.truncate(LONGEST);
    }
    bytes
}

/// Every example as it is, those that were kept by earlier runs among them, then new ones until the time or the rounds are over. `check` says
/// what came out, in a word or two: input that brings a new word out of the parser is bent further.
pub(crate) fn fuzz(target: &Target<'_>, check: impl Fn(&[u8]) -> String) {
    let name = target.name;
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/fuzz").join(format!("gateway-{name}"));
    let mut kept: Vec<PathBuf> = fs_err::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    kept.sort();
    let mut corpus = target.seeds.clone();
    corpus.extend(kept.iter().map(|path| fs_err::read(path).expect("an example")));
    let begun = corpus.len();
    let seconds = std::env::var("COFFERDAM_FUZZ").ok().and_then(|text| text.parse::<u64>().ok());
    let deadline = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    // A longer round looks at other bytes each time, and says which.
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| u64::from(since.subsec_nanos()));
    let seed = if deadline.is_some() { (u64::from(std::process::id()) << 32 | now) | 1 } else { 0x2545_F491_4F6C_DD1D };
    let mut dice = Dice(seed);
    let (mut seen, mut new, mut round) = (BTreeSet::new(), Vec::new(), 0_u64);
    loop {
        let given = usize::try_from(round).ok().filter(|n| *n < begun);
        let bytes = match given {
            Some(n) => corpus[n].clone(),
            None if dice.once_in(3) => {
                let mut made = (target.make)(&mut dice);
                made.truncate(LONGEST);
                made
            }
            None => changed(&mut dice, &corpus, target.words),
        };
        let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| check(&bytes))) else {
            let hex = bytes.iter().fold(String::new(), |mut text, b| {
                write!(text, "{b:02x}").expect("a text takes more");
                text
            });
            panic!("{name}: round {round} of seed {seed:#x}: {:?} = {hex}", String::from_utf8_lossy(&bytes));
        };
        if seen.insert(outcome) && given.is_none() && corpus.len() < begun + MOST_KEPT {
            new.push(bytes.clone());
            corpus.push(bytes);
        }
        round += 1;
        match deadline {
            Some(deadline) if round.is_multiple_of(64) && Instant::now() >= deadline => break,
            None if round >= ROUNDS => break,
            _ => {}
        }
    }
    if deadline.is_some() {
        // The shortest ones say the same in fewer bytes.
        new.sort_by_key(Vec::len);
        new.truncate(MOST_WRITTEN);
        fs_err::create_dir_all(&folder).expect("a folder");
        for bytes in &new {
            fs_err::write(folder.join(cofferdam::base::id::EvidenceId::of(bytes).short()), bytes).expect("written");
        }
        let line = format!("{name}: {round} inputs, {} outcomes, {} examples kept, none broke it\n", seen.len(), new.len());
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).expect("standard error is there");
    }
}

/// The words of a result: what a parser says of bytes that it refuses, or what it found.
pub(crate) fn outcome<T, E: std::fmt::Display>(result: &Result<T, E>, found: impl FnOnce(&T) -> String) -> String {
    match result {
        Ok(value) => found(value),
        Err(flaw) => flaw.to_string(),
    }
}
