//! What a request asks for, or why it gets nothing. Pure.
//!
//! A page on this machine is within reach of every web page that its owner looks at, and of every other user of the machine. So the name in `Host` is
//! one of ours (a name of somebody else that was made to lead here is not), the path begins with a secret of this process, and nothing
//! but reading can be asked for.

use crate::base::id::{EvidenceId, StoryId};
use crate::egress::http1::{Length, RequestHead, only};

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Overview,
    Story(StoryId),
    /// The change of a story as a patch.
    Diff(StoryId),
    Evidence(EvidenceId),
    /// A line each time something happened.
    News,
    Style,
    Script,
}

/// A status and a few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) u16, pub(super) &'static str);

const NOTHING: Refused = Refused(404, "there is nothing here");

/// Decides on a request. `secret` is the first part of every path.
pub(super) fn route(head: &RequestHead<'_>, port: u16, secret: &str) -> Result<Route, Refused> {
    let host = only(&head.headers, "host").map_err(|_| Refused(400, "the host is named twice"))?;
    let ours = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    if !host.is_some_and(|host| ours.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(host))) {
        return Err(Refused(421, "this server has another name"));
    }
    if head.method != "GET" {
        return Err(Refused(405, "this server can only be read"));
    }
    if head.length() != Ok(Length::Known(0)) || head.upgrades() {
        return Err(Refused(400, "a question has no body here"));
    }
    let path = head.target.split('?').next().unwrap_or_default();
    let mut parts = path.strip_prefix('/').ok_or(NOTHING)?.split('/');
    if !same(parts.next().unwrap_or_default(), secret) {
        return Err(NOTHING);
    }
    let id = |part: &str| StoryId::decode(part).map_err(|_| NOTHING);
    let parts: Vec<&str> = parts.collect();
    match parts[..] {
        [""] => Ok(Route::Overview),
        ["story", story] => Ok(Route::Story(id(story)?)),
        ["diff", story] => Ok(Route::Diff(id(story)?)),
        ["evidence", hash] => hash.parse().map(Route::Evidence).map_err(|_| NOTHING),
        ["news"] => Ok(Route::News),
        ["style.css"] => Ok(Route::Style),
        ["follow.js"] => Ok(Route::Script),
        _ => Err(NOTHING),
    }
}

/// Takes as long whatever differs.
fn same(given: &str, secret: &str) -> bool {
    let pairs = given.bytes().zip(secret.bytes());
    given.len() == secret.len() && pairs.fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::http1::request;
    use proptest::prelude::*;

    const SECRET: &str = "00ff00ff00ff00ff00ff00ff00ff00ff";

    fn asked(head: &str) -> Result<Route, Refused> {
        route(&request(head.as_bytes()).expect("a head"), 4747, SECRET)
    }

    fn get(path: &str) -> Result<Route, Refused> {
        asked(&format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:4747\r\n\r\n"))
    }

    #[test]
    fn what_is_there_is_found_by_its_whole_path() {
        assert_eq!(get(&format!("/{SECRET}/")), Ok(Route::Overview));
        assert_eq!(get(&format!("/{SECRET}/?x=1")), Ok(Route::Overview));
        let id: StoryId = "../a+b/<x>".parse().expect("an id");
        assert_eq!(get(&format!("/{SECRET}/story/{}", id.encoded())), Ok(Route::Story(id)));
        assert_eq!(get(&format!("/{SECRET}/evidence/{}", "ab".repeat(32))).map(|_| ()), Ok(()));
        for path in [
            "/",
            "/0",
            "/00ff00ff00ff00ff00ff00ff00ff00fe/",
            &format!("/{SECRET}"),
            &format!("//{SECRET}/"),
            &format!("/{SECRET}/../{SECRET}/"),
            &format!("/{SECRET}/evidence/../../etc/passwd"),
            &format!("/{SECRET}/evidence/{}", "zz".repeat(32)),
            &format!("/{SECRET}/evidence/..%2f..%2fetc%2fpasswd"),
            &format!("/{SECRET}/story/%"),
            &format!("/{SECRET}/story/a/b"),
            &format!("/{SECRET}/style.css/"),
            &format!("http://127.0.0.1:4747/{SECRET}/"),
        ] {
            assert_eq!(get(path), Err(NOTHING), "{path}");
        }
    }

    #[test]
    fn another_name_another_method_and_a_body_get_nothing() {
        let page = format!("/{SECRET}/");
        for host in
            ["evil.test:4747", "127.0.0.1", "127.0.0.1:4748", "127.0.0.1.evil.test:4747", "[::1]:4747", "evil.test@127.0.0.1:4747", ""]
        {
            assert_eq!(
                asked(&format!("GET {page} HTTP/1.1\r\nHost: {host}\r\n\r\n")),
                Err(Refused(421, "this server has another name")),
                "{host}"
            );
        }
        let code = |head: String| asked(&head).map_err(|Refused(code, _)| code);
        assert_eq!(code(format!("GET {page} HTTP/1.1\r\n\r\n")), Err(421));
        assert_eq!(code(format!("GET {page} HTTP/1.1\r\nHost: localhost:4747\r\nHost: evil.test\r\n\r\n")), Err(400));
        assert_eq!(code(format!("GET {page} HTTP/1.1\r\nHost: LOCALHOST:4747\r\n\r\n")), Ok(Route::Overview));
        for method in ["POST", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "get"] {
            assert_eq!(code(format!("{method} {page} HTTP/1.1\r\nHost: localhost:4747\r\n\r\n")), Err(405), "{method}");
        }
        assert_eq!(code(format!("GET {page} HTTP/1.1\r\nHost: localhost:4747\r\nContent-Length: 3\r\n\r\n")), Err(400));
        assert_eq!(code(format!("GET {page} HTTP/1.1\r\nHost: localhost:4747\r\nTransfer-Encoding: chunked\r\n\r\n")), Err(400));
    }

    proptest! {
        #[test]
        fn without_the_secret_nothing_is_there(path in "/[!-\"$-~]{0,60}") {
            prop_assume!(!path.contains(SECRET));
            prop_assert_eq!(get(&path), Err(NOTHING));
        }
    }
}
