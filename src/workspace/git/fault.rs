//! What tests break: a crash at the next ref update, and mistakes that the property test of the queue must notice. Nothing of it is in a
//! build that is not a test.

/// A mistake that merge queues have made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "only tests make mistakes on purpose"))]
pub(crate) enum Mutant {
    /// The target is moved from wherever it is.
    NoCompareAndSwap,
    /// The target moved, and the tested tree is put on top of it.
    StaleReparent,
    /// The target moved, and what lands is merged anew and not tested.
    UntestedRemerge,
    /// A verdict is remembered by its tree alone.
    MemoryWithoutGate,
    /// Refs go before the target contains what they keep.
    RefsDeletedEarly,
    /// The first half of a red batch counts as green.
    HalfIsTakenForGreen,
    /// A batch is built without its last story.
    BatchForgetsOne,
    /// Something green stands on a suspect, so the suspect counts as green before its second run is.
    SuspectIsTakenForGreen,
    /// A suspect was red again, and what was built on it lands all the same.
    BuiltOnWhatIsRed,
}

#[cfg(test)]
pub(crate) use armed::{Crash, crash_after, is, mutate, point};

/// Before and after every ref update.
#[cfg(not(test))]
#[inline]
pub(crate) fn point() {}

#[cfg(not(test))]
#[inline]
pub(crate) fn is(_: Mutant) -> bool {
    false
}

#[cfg(test)]
mod armed {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
        static MUTANT: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// What a crash leaves on the stack.
    #[derive(Debug)]
    pub(crate) struct Crash;

    /// The n-th point from now on is the last thing that happens.
    pub(crate) fn crash_after(points: Option<u32>) {
        LEFT.set(points);
    }

    pub(crate) fn mutate(mutant: Option<Mutant>) {
        MUTANT.set(mutant);
    }

    pub(crate) fn point() {
        let Some(left) = LEFT.get() else { return };
        if left == 0 {
            LEFT.set(None);
            std::panic::resume_unwind(Box::new(Crash));
        }
        LEFT.set(Some(left - 1));
    }

    pub(crate) fn is(mutant: Mutant) -> bool {
        MUTANT.get() == Some(mutant)
    }
}
