//! The certificates of authorities as Java reads them: PKCS #12 (RFC 7292), open to everybody, without a password. Pure.
//!
//! Java takes no file of PEM texts, and no certificate of a store as trusted that is not marked so, by an attribute of its own.

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OBJECT: u8 = 0x06;
const WIDE_TEXT: u8 = 0x1e;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// The first field of a value that says what it is.
const FIRST: u8 = 0xa0;

/// 1.2.840.113549.1.7.1: plain data.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
/// 1.2.840.113549.1.12.10.1.3: a bag with a certificate.
const CERTIFICATE_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 3];
/// 1.2.840.113549.1.9.22.1: an X.509 certificate.
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 22, 1];
/// 1.2.840.113549.1.9.20: the name of an entry.
const FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 20];
/// 2.16.840.1.113894.746875.1.1: what Java trusts a certificate for.
const TRUSTED_FOR: &[u8] = &[0x60, 0x86, 0x48, 1, 0x86, 0xf9, 0x66, 0xad, 0xca, 0x7b, 1, 1];
/// 2.5.29.37.0: anything.
const ANYTHING: &[u8] = &[0x55, 0x1d, 0x25, 0];

/// A store that holds these certificates, each as DER.
pub(super) fn trust_store<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let bags: Vec<u8> = certificates.into_iter().enumerate().flat_map(|(n, certificate)| bag(n, certificate)).collect();
    let contents = value(SEQUENCE, &data(&value(SEQUENCE, &bags)));
    value(SEQUENCE, &[value(INTEGER, &[3]), data(&contents)].concat())
}

/// Something as content that is neither signed nor encrypted.
fn data(content: &[u8]) -> Vec<u8> {
    value(SEQUENCE, &[value(OBJECT, DATA), value(FIRST, &value(OCTETS, content))].concat())
}

fn bag(number: usize, certificate: &[u8]) -> Vec<u8> {
    let certificate = value(SEQUENCE, &[value(OBJECT, X509), value(FIRST, &value(OCTETS, certificate))].concat());
    // Entries of the same name would take each other's place.
    let name: Vec<u8> = number.to_string().encode_utf16().flat_map(u16::to_be_bytes).collect();
    let attribute = |kind: &[u8], content: &[u8]| value(SEQUENCE, &[value(OBJECT, kind), value(SET, content)].concat());
    let attributes = [attribute(FRIENDLY_NAME, &value(WIDE_TEXT, &name)), attribute(TRUSTED_FOR, &value(OBJECT, ANYTHING))].concat();
    value(SEQUENCE, &[value(OBJECT, CERTIFICATE_BAG), value(FIRST, &certificate), value(SET, &attributes)].concat())
}

/// One value of DER: what it is, how long it is, and its content.
fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    out.push(tag);
    let length = content.len().to_be_bytes();
    let digits = &length[length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1)..];
    match digits {
        [short @ 0..=0x7f] => out.push(*short),
        long => {
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            out.extend(long);
        }
    }
    out.extend(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_der_wants_them() {
        assert_eq!(value(4, &[]), [4, 0]);
        assert_eq!(value(4, &[7; 127])[..3], [4, 127, 7]);
        assert_eq!(value(4, &[7; 128])[..4], [4, 0x81, 128, 7]);
        assert_eq!(value(4, &[7; 300])[..5], [4, 0x82, 1, 44, 7]);
    }

    #[test]
    fn every_certificate_is_in_it_whole() {
        let certificates: [&[u8]; 2] = [&[1; 40], &[2; 300]];
        let store = trust_store(certificates);
        for certificate in certificates {
            assert!(store.windows(certificate.len()).any(|part| part == certificate));
        }
        assert_eq!((store[0], trust_store([]).len()), (SEQUENCE, 43));
    }
}
