//! The only loop: an event is stored, the stories fold it, and what they want then is performed, which gives the next events.
//!
//! ```text
//! store ─▶ view ─▶ turn (decides) ─▶ perform (acts, side by side) ─▶ events ─▶ store …
//! ```
//!
//! - [`sync`]: the plan's files to `story.created`, `story.changed`, `story.removed`. Pure.
//! - [`turn`]: what to do now: pure.
//! - [`perform`]: one function per effect.
//! - [`around`]: what a run needs from outside, and what it tells.
//! - [`recover`]: what a dead runner left; [`notify`]: who wants to hear of it outside.
//! - [`run`]: the loop itself: the one owner of the store; [`stack`]: what a story starts from when it builds on what has not landed.
//!
//! What is to be done is not a queue that could be lost: it is derived from the facts, less what is being done at this moment. A crash
//! therefore loses nothing but the work at hand.

pub mod around;
pub mod crash;
pub mod notify;
pub mod perform;
pub mod recover;
pub mod run;
pub mod stack;
pub mod sync;
pub mod turn;
pub mod view;
