//! Keeps the usual filter ready-made, and tells when what is kept is no longer what the table says.

use seccompiler::sock_filter;

use super::{Spec, made, program};

/// `COFFERDAM_UPDATE_FILTER=1` keeps it anew.
#[test]
fn the_kept_program_is_the_one_that_is_made() {
    let made = made(Spec::USUAL).expect("a program");
    if std::env::var_os("COFFERDAM_UPDATE_FILTER").is_some() {
        fs_err::write("src/sandbox/filter/usual.rs", text(&made)).expect("kept");
    } else {
        let kept = program(Spec::USUAL).expect("a program");
        assert!(kept == made, "run COFFERDAM_UPDATE_FILTER=1 cargo test --lib the_kept_program");
    }
}

/// The text of `usual.rs`.
fn text(program: &[sock_filter]) -> String {
    let word = |i: &sock_filter| u64::from(i.code) | u64::from(i.jt) << 16 | u64::from(i.jf) << 24 | u64::from(i.k) << 32;
    let lines = program.chunks(6).map(|some| {
        let words: Vec<String> = some.iter().map(|i| format!("{:#018x},", word(i))).collect();
        format!("    {}\n", words.join(" "))
    });
    let head = "//! The usual filter as it is made from the table, an instruction a number: making it would take as long as ten mounts.\n//!\n\
                //! Written by a test (`the_kept_program_is_the_one_that_is_made`), which also tells when it is no longer right.\n\n";
    format!("{head}#[rustfmt::skip]\npub(super) const WORDS: &[u64] = &[\n{}];\n", lines.collect::<String>())
}
