//! Bytes of a terminal to keys. Pure, incremental, bounded: what is no key is passed over.

use super::model::Key;

/// The longest text that is taken from the clipboard.
const LONGEST_PASTE: usize = 64 << 10;
/// No sequence of a key is longer.
const LONGEST_SEQUENCE: usize = 32;

/// What came from the keyboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Key(Key),
    Paste(String),
}

#[derive(Debug, Default)]
pub(super) struct Keys {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Ground,
    /// The Escape key, or the beginning of another one.
    Escape,
    /// After `ESC [` or `ESC O`.
    Sequence(Vec<u8>),
    /// The beginning of a character of more than one byte.
    Character(Vec<u8>),
    Paste(Vec<u8>),
}

impl Keys {
    /// Something has begun, and only time tells whether it is whole.
    pub(super) fn is_waiting(&self) -> bool {
        !matches!(self.state, State::Ground | State::Paste(_))
    }

    /// Nothing came for a while: an escape character alone was the key of this name.
    pub(super) fn settle(&mut self) -> Option<Typed> {
        match std::mem::take(&mut self.state) {
            State::Escape => Some(Typed::Key(Key::Escape)),
            State::Paste(text) => {
                self.state = State::Paste(text);
                None
            }
            State::Ground | State::Sequence(_) | State::Character(_) => None,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Typed> {
        let mut typed = Vec::new();
        for byte in bytes {
            self.take(*byte, &mut typed);
        }
        typed
    }

    fn take(&mut self, byte: u8, typed: &mut Vec<Typed>) {
        match std::mem::take(&mut self.state) {
            State::Ground => self.begin(byte, typed),
            State::Escape => match byte {
                b'[' | b'O' => self.state = State::Sequence(Vec::new()),
                // The key, and another one after it: a slow line brings them together.
                _ => {
                    typed.push(Typed::Key(Key::Escape));
                    self.begin(byte, typed);
                }
            },
            State::Sequence(mut sequence) => match byte {
                0x40..=0x7e => self.end(&sequence, byte, typed),
                0x20..=0x3f if sequence.len() < LONGEST_SEQUENCE => {
                    sequence.push(byte);
                    self.state = State::Sequence(sequence);
                }
                0x1b => self.state = State::Escape,
                _ => {}
            },
            State::Character(mut bytes) => {
                if byte & 0xc0 != 0x80 {
                    return self.begin(byte, typed);
                }
                bytes.push(byte);
                match std::str::from_utf8(&bytes) {
                    Ok(text) => typed.extend(text.chars().filter(|c| !c.is_control()).map(|c| Typed::Key(Key::Char(c)))),
                    Err(error) if error.error_len().is_none() => self.state = State::Character(bytes),
                    Err(_) => {}
                }
            }
            State::Paste(mut text) => {
                const END: &[u8] = b"\x1b[201~";
                text.push(byte);
                if text.ends_with(END) {
                    text.truncate(text.len() - END.len());
                    text.truncate(LONGEST_PASTE);
                    typed.push(Typed::Paste(String::from_utf8_lossy(&text).into_owned()));
                } else {
                    // What is too much is dropped, and its end is still looked for.
                    if text.len() > LONGEST_PASTE + 2 * END.len() {
                        text.drain(LONGEST_PASTE..text.len() - END.len());
                    }
                    self.state = State::Paste(text);
                }
            }
        }
    }

    fn begin(&mut self, byte: u8, typed: &mut Vec<Typed>) {
        let key = match byte {
            0x1b => {
                self.state = State::Escape;
                return;
            }
            b'\r' | b'\n' => Key::Enter,
            b'\t' => Key::Tab,
            0x08 | 0x7f => Key::Backspace,
            0x01..=0x1a => Key::Control(char::from(byte - 1 + b'a')),
            0x20..=0x7e => Key::Char(char::from(byte)),
            0xc2..=0xf4 => {
                self.state = State::Character(vec![byte]);
                return;
            }
            _ => return,
        };
        typed.push(Typed::Key(key));
    }

    fn end(&mut self, sequence: &[u8], last: u8, typed: &mut Vec<Typed>) {
        // `1;5A` is an arrow with the control key: the arrow is what counts.
        let number = sequence.split(|b| *b == b';').next().unwrap_or_default();
        let key = match (last, number) {
            (b'A', _) => Key::Up,
            (b'B', _) => Key::Down,
            (b'C', _) => Key::Right,
            (b'D', _) => Key::Left,
            (b'H', _) | (b'~', b"1" | b"7") => Key::Home,
            (b'F', _) | (b'~', b"4" | b"8") => Key::End,
            (b'~', b"5") => Key::PageUp,
            (b'~', b"6") => Key::PageDown,
            (b'Z', _) => Key::BackTab,
            (b'M', b"") => Key::Enter,
            (b'~', b"200") => {
                self.state = State::Paste(Vec::new());
                return;
            }
            _ => return,
        };
        typed.push(Typed::Key(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(bytes: &[u8]) -> Vec<Typed> {
        let mut keys = Keys::default();
        let mut typed = keys.push(bytes);
        typed.extend(keys.settle());
        typed
    }

    #[test]
    fn keys_are_read_as_terminals_send_them() {
        let key = |bytes: &[u8]| match &keys(bytes)[..] {
            [Typed::Key(key)] => *key,
            other => panic!("{bytes:?}: {other:?}"),
        };
        for (bytes, wanted) in [
            (&b"\x1b[A"[..], Key::Up),
            (b"\x1bOB", Key::Down),
            (b"\x1b[1;5C", Key::Right),
            (b"\x1b[5~", Key::PageUp),
            (b"\x1b[6~", Key::PageDown),
            (b"\x1b[H", Key::Home),
            (b"\x1b[4~", Key::End),
            (b"\x1b[Z", Key::BackTab),
            (b"\x1b", Key::Escape),
            (b"\x03", Key::Control('c')),
            (b"\x7f", Key::Backspace),
            (b"\r", Key::Enter),
            ("é".as_bytes(), Key::Char('é')),
            ("漢".as_bytes(), Key::Char('漢')),
        ] {
            assert_eq!(key(bytes), wanted, "{bytes:?}");
        }
        assert_eq!(keys(b"\x1bx"), [Typed::Key(Key::Escape), Typed::Key(Key::Char('x'))]);
        assert_eq!(keys(b"\x1b[99;1X\x1b[<0;1;1Mq"), [Typed::Key(Key::Char('q'))]);
    }

    #[test]
    fn a_paste_is_text_whatever_is_in_it_and_bounded() {
        assert_eq!(keys(b"\x1b[200~q\x1b[A\nx\x1b[201~y"), [Typed::Paste("q\x1b[A\nx".to_owned()), Typed::Key(Key::Char('y'))]);
        let mut keys = Keys::default();
        keys.push(b"\x1b[200~");
        for _ in 0..100 {
            keys.push(&[b'a'; 10_000]);
        }
        assert!(matches!(&keys.state, State::Paste(text) if text.len() < LONGEST_PASTE + 100));
        let typed = keys.push(b"\x1b[201~");
        assert!(matches!(&typed[..], [Typed::Paste(text)] if text.len() == LONGEST_PASTE), "it ends all the same");
    }

    proptest! {
        #[test]
        fn how_bytes_arrive_changes_nothing(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0x1b), Just(b'['), Just(b'~')], 0..60), cut in 0_usize..60) {
            let cut = cut.min(bytes.len());
            let mut parts = Keys::default();
            let mut typed = parts.push(&bytes[..cut]);
            typed.extend(parts.push(&bytes[cut..]));
            typed.extend(parts.settle());
            prop_assert_eq!(typed, keys(&bytes));
        }
    }
}
