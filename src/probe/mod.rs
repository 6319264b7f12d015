//! The shipped self-test: the attacks of the threat model, really tried from inside the sandbox, on canaries that the harness made.
//!
//! ```text
//! ATTACKS (a table: id, title, a function that tries, the errors that prove the protection, the control)
//!    ├─▶ inside:  exec … -- cofferdam __attack ID…   ─▶ Attempt ─┐
//!    ├─▶ outside: cofferdam __attack ID…  (control)  ─▶ Attempt ─┼─▶ judge ─▶ Line ─▶ Report
//!    └─▶ the scene, looked at afterwards             ─▶ Finding ─┘
//! ```
//!
//! An attack counts as held only for an error that proves the protection: "could not even try" is a failure of the test.

pub mod attack;
pub mod attacker;
mod calls;
pub mod drive;
mod files;
pub mod judge;
mod kernel;
mod listeners;
mod network;
mod processes;
pub mod report;
mod resources;
pub mod run;
pub mod scene;
mod special;

pub use attack::{Attack, Section};
pub use report::Report;
pub use run::{ProbeError, Request, run};

/// Every attack, in the order of the sections.
pub fn attacks() -> impl Iterator<Item = &'static Attack> {
    [files::ATTACKS, special::ATTACKS, processes::ATTACKS, kernel::ATTACKS, network::ATTACKS, resources::ATTACKS].into_iter().flatten()
}

/// The attack of that name.
pub fn find(id: &str) -> Option<&'static Attack> {
    attacks().find(|attack| attack.id == id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::attack::How;
    use super::*;

    #[test]
    fn every_attack_has_its_own_name_and_a_section() {
        let mut seen = BTreeSet::new();
        for attack in attacks() {
            assert!(seen.insert(attack.id), "{} twice", attack.id);
            assert!(Section::of(attack.id).is_some(), "{}", attack.id);
            assert!(attack.title.chars().count() <= 44, "{} is too long for a line", attack.title);
        }
        assert!(seen.len() > 200);
    }

    #[test]
    fn no_attack_accepts_an_error_that_proves_nothing() {
        for attack in attacks() {
            for errno in [libc::EFAULT, libc::EBADF, libc::ETXTBSY, libc::ENOTTY, libc::EINTR, libc::ETIMEDOUT, libc::ENOMEM] {
                assert!(!attack.proof.contains(&errno), "{} accepts {errno}", attack.id);
            }
            // Judged from outside, or by what it finds: such an attack has no error that counts.
            if matches!(attack.how, How::Driven { .. }) {
                assert!(attack.proof.is_empty(), "{}", attack.id);
            }
        }
    }
}
