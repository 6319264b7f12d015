use super::*;
use proptest::prelude::*;

fn prefixed(prefix: usize, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length[4 - prefix..], bytes].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &prefixed(2, data)].concat()
}

fn sni(name: &str) -> Vec<u8> {
    extension(0, &prefixed(2, &[&[0][..], &prefixed(2, name.as_bytes())].concat()))
}

fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let body = [&[3, 3][..], &[7; 32], &[0], &prefixed(2, &[0x13, 1]), &[1, 0], &prefixed(2, &extensions.concat())].concat();
    [&[1][..], &prefixed(3, &body)].concat()
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|part| [&[22, 3, 1][..], &prefixed(2, part)].concat()).collect()
}

fn named(name: &str) -> Result<Seen, Flaw> {
    look(&records(&message(&[sni(name)]), 16_000))
}

#[test]
fn the_name_is_read_from_a_real_client() {
    let config = rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions");
    let config = config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let mut client =
        rustls::ClientConnection::new(std::sync::Arc::new(config), "Real.example".try_into().expect("a name")).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("a hello");
    let expected = Hello { name: Name::parse("real.example").ok(), hidden: false };
    assert_eq!(look(&bytes), Ok(Seen::Hello(expected)));
    for end in 0..bytes.len() {
        assert_eq!(look(&bytes[..end]), Ok(Seen::More), "{end} bytes");
    }
}

#[test]
fn what_is_not_one_plain_name_is_refused() {
    for bad in ["", "a b", "a\0.b", "a.b.", "evil.test/.example.test", "127.1", "user@a.b", "127.0.0.1", "::1", "bücher.de"] {
        assert!(named(bad).is_err(), "{bad:?}");
    }
    let two = extension(0, &prefixed(2, &[&[0][..], &prefixed(2, b"a.b"), &[0], &prefixed(2, b"c.d")].concat()));
    assert!(look(&records(&message(&[two]), 16_000)).is_err());
    assert!(look(&records(&message(&[sni("a.b"), sni("a.b")]), 16_000)).is_err());
    let other_kind = extension(0, &prefixed(2, &[&[1][..], &prefixed(2, b"a.b")].concat()));
    assert!(look(&records(&message(&[other_kind]), 16_000)).is_err());
    // The second message, a record of another kind, an empty record, a hello that is longer than any.
    assert!(look(&records(&[2, 0, 0, 0], 16_000)).is_err());
    assert!(look(&[&records(&message(&[sni("a.b")]), 20)[..25], &[23, 3, 3, 0, 1, 0]].concat()).is_err());
    assert!(look(&[22, 3, 1, 0, 0, 22, 3, 1]).is_err());
    assert!(look(&records(&[1, 0xff, 0xff, 0xff, 0], 5)).is_err());
}

#[test]
fn no_name_a_hidden_name_and_no_tls_are_told_apart() {
    assert_eq!(look(&records(&message(&[]), 99)), Ok(Seen::Hello(Hello { name: None, hidden: false })));
    let hidden = records(&message(&[sni("a.b"), extension(0xfe0d, &[0; 9])]), 99);
    assert!(matches!(look(&hidden), Ok(Seen::Hello(Hello { hidden: true, .. }))));
    for other in [&b"GET / HTTP/1.1\r\n"[..], b"SSH-2.0", &[22, 2, 0], &[0x80, 0x2e, 1, 0, 2]] {
        assert_eq!(look(other), Ok(Seen::NotTls));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), flip in any::<prop::sample::Index>(), value in any::<u8>()) {
        let _ = look(&bytes).is_ok();
        let tls = [&[22, 3, 1][..], &prefixed(2, &bytes)].concat();
        let _ = look(&tls).is_ok();
        let mut hello = records(&message(&[sni("a.example"), extension(43, &[2, 3, 4])]), 40);
        let at = flip.index(hello.len());
        hello[at] = value;
        let _ = look(&hello).is_ok();
    }

    /// However the message is cut into records, the name is the same.
    #[test]
    fn records_change_nothing(size in 1_usize..200) {
        let expected = Ok(Seen::Hello(Hello { name: Name::parse("a.example").ok(), hidden: false }));
        prop_assert_eq!(look(&records(&message(&[extension(43, &[2, 3, 4]), sni("A.example")]), size)), expected);
    }
}
