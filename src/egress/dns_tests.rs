use super::*;
use proptest::prelude::*;

fn n(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

/// An answer as a server would write it: records of (owner, kind, data).
fn server(id: u16, asked: &Name, kind: u16, flags: u16, records: &[(&str, u16, Vec<u8>)]) -> Vec<u8> {
    let mut out = ask(id, asked, kind);
    out[2..4].copy_from_slice(&(0x8180 | flags).to_be_bytes());
    out[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
    for (owner, kind, data) in records {
        out.extend(wire(owner));
        out.extend([kind.to_be_bytes(), [0, 1], [0, 0], [0, 30]].concat());
        out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        out.extend(data);
    }
    out
}

fn wire(text: &str) -> Vec<u8> {
    let labels = text.split('.').flat_map(|l| [&[u8::try_from(l.len()).unwrap()], l.as_bytes()].concat());
    labels.chain([0]).collect()
}

/// A server that says "for ever" is asked again.
#[test]
fn an_answer_s_time_of_32_bits_is_none() {
    let name = Name::parse("good.test").expect("a name");
    let of = |ttl: u32| {
        let mut answer = ask(7, &name, A);
        (answer[2], answer[7]) = (0x81, 1);
        answer.extend([&[0xc0, 12, 0, 1, 0, 1][..], &ttl.to_be_bytes(), &[0, 4, 93, 184, 216, 34]].concat());
        reply(&answer, 7, &name, A)
    };
    let found = |ttl| Ok(Reply::Addresses(vec!["93.184.216.34".parse().expect("an address")], ttl));
    assert_eq!((of(300), of(0x7fff_ffff)), (found(300), found(0x7fff_ffff)));
    assert_eq!((of(0x8000_0000), of(u32::MAX)), (found(0), found(0)));
}

/// Nothing stands before a question that its name could point to.
#[test]
fn a_question_that_points_elsewhere_is_none() {
    let asked =
        |name: &[u8]| question(&[&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], name, &[0, 1, 0, 1]].concat()).map(|q| q.name.is_some());
    assert_eq!(asked(b"\x04good\x04test\0"), Ok(true));
    for name in [&b"\x04good\xc0\x04"[..], b"\xc0\x04", b"\x04good\xc0\x00"] {
        assert!(asked(name).is_err(), "{name:?}");
    }
}

#[test]
fn a_question_is_read_and_answered() {
    let asked = ask(7, &n("Some.Example"), A);
    let question = question(&asked).expect("a question");
    assert_eq!((question.id, question.kind, question.name.clone()), (7, A, Some(n("some.example"))));
    let ours = answer(&question, Answer::Address(Ipv4Addr::new(198, 18, 0, 9)));
    assert_eq!(reply(&ours, 7, &n("some.example"), A), Ok(Reply::Addresses(vec!["198.18.0.9".parse().unwrap()], OUR_TTL)));
    assert_eq!(reply(&answer(&question, Answer::NoSuchName), 7, &n("some.example"), A), Ok(Reply::NoSuchName));
    assert_eq!(
        reply(&answer(&question, Answer::Nothing), 7, &n("some.example"), A).map(|r| r == Reply::Addresses(vec![], u32::MAX)),
        Ok(true)
    );
    assert_eq!(reply(&answer(&question, Answer::Failure), 7, &n("some.example"), A), Ok(Reply::Failed));
}

#[test]
fn only_the_answer_to_our_question_counts() {
    let wanted = n("a.example");
    let good = server(5, &wanted, A, 0, &[("a.example", A, vec![1, 2, 3, 4])]);
    assert_eq!(reply(&good, 5, &wanted, A), Ok(Reply::Addresses(vec!["1.2.3.4".parse().unwrap()], 30)));
    assert!(reply(&good, 6, &wanted, A).is_err(), "another number");
    assert!(reply(&good, 5, &n("b.example"), A).is_err(), "another name");
    assert!(reply(&good, 5, &wanted, AAAA).is_err(), "another kind");
    assert!(reply(&ask(5, &wanted, A), 5, &wanted, A).is_err(), "a question");
    assert_eq!(reply(&server(5, &wanted, A, 0x200, &[]), 5, &wanted, A), Ok(Reply::Cut));
    assert_eq!(reply(&server(5, &wanted, A, 3, &[]), 5, &wanted, A), Ok(Reply::NoSuchName));
    assert_eq!(reply(&server(5, &wanted, A, 2, &[]), 5, &wanted, A), Ok(Reply::Failed));
}

#[test]
fn addresses_of_other_names_are_not_ours_and_aliases_are_followed() {
    let wanted = n("a.example");
    let chain = [("a.example", 5, wire("b.example")), ("evil.example", A, vec![9; 4]), ("b.example", A, vec![1, 1, 1, 1])];
    assert_eq!(reply(&server(1, &wanted, A, 0, &chain), 1, &wanted, A), Ok(Reply::Addresses(vec!["1.1.1.1".parse().unwrap()], 30)));
    let stray = [("evil.example", A, vec![9; 4])];
    assert_eq!(reply(&server(1, &wanted, A, 0, &stray), 1, &wanted, A), Ok(Reply::Addresses(vec![], u32::MAX)));
    let circle = [("a.example", 5, wire("b.example")), ("b.example", 5, wire("a.example"))];
    assert_eq!(reply(&server(1, &wanted, A, 0, &circle), 1, &wanted, A), Ok(Reply::Addresses(vec![], 30)));
    assert!(reply(&server(1, &wanted, A, 0, &[("a.example", A, vec![1, 2, 3])]), 1, &wanted, A).is_err());
}

#[test]
fn names_are_bounded_and_have_no_circles() {
    let mut circle = ask(1, &n("a.b"), A)[..12].to_vec();
    circle.extend([0xc0, 12, 0, 1, 0, 1]);
    assert!(question(&circle).is_err());
    let mut cut = ask(1, &n("a.b"), A);
    cut.truncate(15);
    assert!(question(&cut).is_err());
    let mut odd = ask(1, &n("aa.b"), A);
    odd[13] = b'/';
    assert_eq!(question(&odd).expect("a question").name, None, "no host name");
    let mut many = ask(1, &n("a.b"), A);
    many[5] = 2;
    assert!(question(&many).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), flip in any::<prop::sample::Index>(), value in any::<u8>()) {
        let wanted = n("a.example");
        let _ = question(&bytes).map(|q| answer(&q, Answer::Nothing)).is_ok();
        let _ = reply(&bytes, 1, &wanted, A).is_ok();
        let chain = [("a.example", 5, wire("b.example")), ("b.example", A, vec![1, 1, 1, 1])];
        let mut mutated = server(1, &wanted, A, 0, &chain);
        let at = flip.index(mutated.len());
        mutated[at] = value;
        let _ = reply(&mutated, 1, &wanted, A).is_ok();
        let _ = question(&mutated).is_ok();
    }

    #[test]
    fn every_name_comes_back(text in "([a-z0-9]{1,10}\\.){0,4}[a-z]{1,10}", id in any::<u16>()) {
        let asked = ask(id, &n(&text), AAAA);
        let read = question(&asked).expect("a question");
        prop_assert_eq!((read.id, read.name, read.kind), (id, Some(n(&text)), AAAA));
    }
}
