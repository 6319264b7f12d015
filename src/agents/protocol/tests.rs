//! Streams of real agents, recorded; and streams of no agent at all.

use proptest::prelude::*;

use super::*;

/// A recorded stream, read in parts of the given size.
fn session(format: Format, name: &str, part: usize) -> Session {
    let bytes = fs_err::read(format!("{}/fixtures/streams/{name}.jsonl", env!("CARGO_MANIFEST_DIR"))).expect("a recording");
    let mut reader = Reader::new(format);
    let mut session = Session::default();
    for part in bytes.chunks(part) {
        reader.push(part).into_iter().for_each(|event| drop(session.take(event)));
    }
    reader.finish().into_iter().for_each(|event| drop(session.take(event)));
    session
}

#[test]
fn a_story_of_each_agent_is_read_whole() {
    for (format, name, amount, last) in [
        (Format::Claude, "claude-story", (4, 89_860, 115, 271_305), "The story is implemented and committed."),
        (Format::Codex, "codex-story", (4, 41_517, 130, 0), "The story is implemented and committed."),
        (Format::Opencode, "opencode-story", (2, 18_400, 49, 13_000), "Done."),
        (Format::Gemini, "gemini-story", (0, 51_331, 115, 0), "Done."),
    ] {
        for part in [1, 7, 4096] {
            let session = session(format, name, part);
            let spent = session.spent;
            assert_eq!((spent.model_calls, spent.tokens_in, spent.tokens_out, spent.cost_microusd), amount, "{name}");
            assert_eq!((session.last_message.as_deref(), session.ended, session.odd), (Some(last), Some(true), 0), "{name}");
            assert!(session.tools > 0 && session.limited.is_none() && session.failure.is_none(), "{name}: {session:?}");
        }
    }
}

#[test]
fn a_refusal_for_now_is_told_from_a_wrong_key() {
    for (format, name) in [(Format::Claude, "claude-rate"), (Format::Codex, "codex-rate")] {
        let session = session(format, name, 100);
        assert!(session.stopped_by_limit().is_some(), "{name}: {session:?}");
    }
    for (format, name) in [(Format::Claude, "claude-auth"), (Format::Codex, "codex-auth")] {
        let session = session(format, name, 100);
        assert_eq!(session.stopped_by_limit(), None, "{name}");
        assert!(session.failure.as_deref().is_some_and(|text| text.contains("401")), "{name}: {session:?}");
        assert_eq!(session.ended, Some(false), "{name}");
    }
}

#[test]
fn what_is_no_stream_is_counted_and_bounded() {
    let mut reader = Reader::new(Format::Claude);
    let mut session = Session::default();
    let flood = vec![b'x'; 3 * LONGEST_LINE];
    let deep = format!("{}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    for bytes in [flood.as_slice(), b"\n\xff\xfe\0\n", b"{\"type\":\"result\"\n", deep.as_bytes(), b"{\"type\":7}\n[]\n\"x\"\n"] {
        reader.push(bytes).into_iter().for_each(|event| drop(session.take(event)));
    }
    assert_eq!((session.odd, session.ended), (4, None));
}

proptest! {
    #[test]
    fn nothing_breaks_a_reader(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        kind in "(system|assistant|user|result|error|turn\\.failed|item\\.completed|step_finish|text|message|tool_use|init)",
        value in "(1e400|-1|18446744073709551615|null|\"x\"|\\[\\]|\\{\\}|true)",
    ) {
        let line = format!("{{\"type\":\"{kind}\",\"usage\":{value},\"total_cost_usd\":{value},\"item\":{value},\"part\":{{\"cost\":{value}}},\"message\":{{\"content\":[{value}]}}}}\n");
        for format in [Format::Claude, Format::Codex, Format::Opencode, Format::Gemini, Format::Text] {
            let mut reader = Reader::new(format);
            let mut session = Session::default();
            for bytes in [line.as_bytes(), &bytes, b"\n", line.as_bytes()] {
                reader.push(bytes).into_iter().for_each(|event| drop(session.take(event)));
            }
            reader.finish().into_iter().for_each(|event| drop(session.take(event)));
        }
    }
}
