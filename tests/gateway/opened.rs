//! TLS that ends at the gateway, where a rule is about single requests or a key is put in, and TLS that passes untouched.

use super::common::{Ran, Who, World, everybody};
use super::support::{NameServer, Site};

const KEY: &str = "ghp_real0123456789neverinside";

/// `exec` with what these sites trust as the host's own authorities, and rules that lead to them.
struct Scene {
    names: NameServer,
    options: Vec<String>,
    roots: String,
}

impl Scene {
    /// The sites' certificates are what the host trusts.
    fn new(names: &[&str], sites: &[&Site]) -> Self {
        const HERE: &[&[&str]] = &[&["127.0.0.1"]];
        let answers: Vec<(&str, &[&[&str]])> = names.iter().map(|name| (*name, HERE)).collect();
        let names = NameServer::start(&answers);
        let mut options = vec!["--resolver".to_owned(), names.address.to_string()];
        for site in sites {
            options.extend(["--allow".to_owned(), format!("127.0.0.1/32:{}", site.port())]);
        }
        Self { names, options, roots: sites.iter().map(|site| site.certificate.as_str()).collect() }
    }

    fn run(&self, world: &World, more: &[&str], script: &str) -> Ran {
        let roots = world.write("home/roots.pem", &self.roots);
        let outcome = world.path().join("home/outcome.json");
        let mut command = world.command();
        command.env("SSL_CERT_FILE", roots).env("REAL_TOKEN", KEY);
        command.args(["exec", "--outcome"]).arg(&outcome).args(&self.options).args(more).args(["--", "sh", "-c", script]);
        let start = std::time::Instant::now();
        let output = command.output().expect("runs");
        let outcome = fs_err::read(&outcome).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Ran { output, outcome, took: start.elapsed() }
    }
}

#[test]
fn requests_over_tls_are_judged_where_a_rule_is_about_them() {
    let (api, other) = (Site::https("api.test"), Site::https("other.test"));
    let scene = Scene::new(&["api.test", "other.test"], &[&api, &other]);
    let (at, beside) = (format!("https://api.test:{}", api.port()), format!("https://other.test:{}", other.port()));
    let rule = format!("GET api.test:{}/v1/", api.port());
    let whole = format!("other.test:{}", other.port());
    for world in everybody() {
        let before = api.seen().len();
        for way in ["", "--noproxy '*'", "--noproxy '' --proxy socks5h://198.18.0.1:1080"] {
            let curl = format!("curl -sS --path-as-is --max-time 20 {way}");
            let script = format!(
                "{curl} {at}/v1/x?y; for what in '-d x {at}/v1/x' '{at}/' '{at}/v1x' '{at}/v1/../x' '{at}/v1/%2e%2e/x' '-X DELETE {at}/v1/x'; do {curl} -o page -w '%{{http_code}} ' $what; done; cat page"
            );
            let ran = scene.run(&world, &["--allow", &rule, "--allow", &whole], &script);
            ran.expect(0, "exited");
            assert!(ran.out().contains("you sent: GET /v1/x?y HTTP/1.1\r\nHost: api.test"), "{way}: {} {}", ran.out(), ran.err());
            assert!(ran.out().contains("403 403 403 403 403 403 cofferdam: api.test"), "{way}: {} {}", ran.out(), ran.err());
            assert!(ran.err().contains("this method or path is not on this sandbox's list"), "{}", ran.err());
        }
        assert_eq!(api.seen().len(), before + 3, "only what is allowed was sent: {:?}", api.seen());
        // Who stands behind TLS: ours where a rule needs it, the server itself elsewhere, and when no rule needs it.
        let issuers = format!(
            "for at in {at}/v1/ {beside}/; do curl -svS --max-time 20 $at 2>&1 | grep -c 'issuer: CN=cofferdam'; done; grep -c BEGIN $SSL_CERT_FILE; ! grep KEY $SSL_CERT_FILE"
        );
        let ran = scene.run(&world, &["--allow", &rule, "--allow", &whole], &issuers);
        assert_eq!(ran.out(), "1\n0\n3\n", "{}", ran.err());
        let ran = scene.run(&world, &["--allow", &whole, "--allow", &format!("api.test:{}", api.port())], &issuers);
        assert!(ran.out().starts_with("0\n0\n"), "control: {} {}", ran.out(), ran.err());
    }
    // Another sandbox, another authority.
    let world = World::new(Who::Caller);
    let bundle = || scene.run(&world, &["--allow", &rule], "cat $SSL_CERT_FILE").out();
    assert_ne!(bundle(), bundle());
    assert!(!scene.names.asked().is_empty());
}

#[test]
fn a_server_that_is_not_who_it_must_be_gets_nothing() {
    let (stranger, expired, named) = (Site::https("api.test"), Site::expired("api.test"), Site::https("another.test"));
    let good = Site::https("api.test");
    let scene = Scene::new(&["api.test"], &[&expired, &named, &good]);
    let world = World::new(Who::Caller);
    for (site, code, why) in [
        (&stranger, "502", "invalid peer certificate"),
        (&expired, "502", "ertificate expired"),
        (&named, "502", "not valid for name"),
        (&good, "200", ""),
    ] {
        let port = site.port();
        let credential = format!("x-api-key@api.test:{port}=env:REAL_TOKEN");
        let (rule, grant) = (format!("api.test:{port}"), format!("127.0.0.1/32:{port}"));
        let script = format!("curl -sS --max-time 20 -o page -w '%{{http_code}}' https://api.test:{port}/");
        let ran = scene.run(&world, &["--allow", &rule, "--allow", &grant, "--credential", &credential], &script);
        assert_eq!(ran.out(), code, "{why}: {}", ran.err());
        assert!(ran.err().contains(why), "{why}: {}", ran.err());
        assert_eq!((site.dialled(), site.seen().len()), (1, usize::from(code == "200")), "{why}");
    }
}

#[test]
fn a_key_is_put_in_for_its_host_and_its_placeholder_stops_elsewhere() {
    let (api, opened, plain) = (Site::https("api.test"), Site::https("opened.test"), Site::http());
    let scene = Scene::new(&["api.test", "opened.test", "plain.test"], &[&api, &opened, &plain]);
    let rules = [
        format!("api.test:{}", api.port()),
        format!("GET,POST opened.test:{}", opened.port()),
        format!("plain.test:{}", plain.port()),
        format!("api.test:{}", plain.port()),
    ];
    let mut more: Vec<&str> = rules.iter().flat_map(|rule| ["--allow", rule.as_str()]).collect();
    let credential = format!("Authorization@api.test:{}=env:REAL_TOKEN", api.port());
    more.extend(["--credential", &credential]);
    for world in everybody() {
        let before = (api.seen().len(), opened.seen().len(), plain.seen().len());
        let (api_at, opened_at) = (format!("https://api.test:{}", api.port()), format!("https://opened.test:{}", opened.port()));
        let (plain_at, wrong_at) = (format!("http://plain.test:{}", plain.port()), format!("http://api.test:{}", plain.port()));
        let script = format!(
            "curl='curl -sS --max-time 20 -o page -w %{{http_code}}, '
            $curl -H \"Authorization: Bearer $REAL_TOKEN\" -H 'authorization: again' {api_at}/mine; $curl {api_at}/none
            $curl -X TRACE {api_at}/trace
            $curl -H \"X-Any: $REAL_TOKEN\" {opened_at}/; $curl -d \"a=1&b=$REAL_TOKEN\" {opened_at}/
            $curl -H \"Authorization: Bearer $REAL_TOKEN\" {plain_at}/; $curl {plain_at}/?$REAL_TOKEN; $curl -H \"Authorization: Bearer $REAL_TOKEN\" {wrong_at}/
            $curl {opened_at}/clean; $curl {plain_at}/clean
            echo; echo $REAL_TOKEN; {{ env; cat /proc/*/environ /proc/*/cmdline; grep -rs . /home /tmp /etc /run $PWD; }} 2>/dev/null | grep -c -e 'real0123456789never[i]nside'"
        );
        let ran = scene.run(&world, &more, &script);
        let out = ran.out();
        let mut lines = out.lines();
        assert_eq!(lines.next(), Some("200,200,400,403,403,403,403,403,200,200,"), "{}", ran.err());
        assert!(lines.next().is_some_and(|mark| mark.starts_with("ghp_cofferdam")), "{out}");
        assert_eq!(lines.next(), Some("0"), "{out}");
        assert!(ran.err().contains("it holds the placeholder of a key that belongs to another host"), "{}", ran.err());
        assert!(!ran.err().contains(KEY) && !ran.outcome.to_string().contains(KEY));
        let seen = api.seen().split_off(before.0);
        assert_eq!(seen.len(), 2);
        for request in &seen {
            let lines: Vec<&str> = request.lines().filter(|line| line.to_ascii_lowercase().starts_with("authorization")).collect();
            assert_eq!(lines, [format!("Authorization: Bearer {KEY}")], "{request}");
        }
        let others = [opened.seen().split_off(before.1), plain.seen().split_off(before.2)];
        assert!(
            others.iter().all(|seen| seen.len() == 1 && seen[0].contains("GET /clean") && !seen[0].contains("uthorization")),
            "{others:?}"
        );
        // A credential of a host that no rule allows is a mistake, and so is one that is written out.
        let refused = scene.run(&world, &["--allow", "b.test", "--credential", &credential], "echo ran");
        assert!(
            refused.code() == 125 && refused.err().contains("no rule allows api.test") && refused.out().is_empty(),
            "{}",
            refused.err()
        );
        let refused = scene.run(&world, &["--allow", "api.test", "--credential", &format!("Authorization@api.test={KEY}")], "echo ran");
        assert!(refused.code() == 125 && refused.out().is_empty(), "{} {}", refused.code(), refused.err());
    }
}

#[test]
fn a_command_s_key_is_kept_and_read_anew_when_it_is_refused() {
    let world = World::new(Who::Caller);
    // The first key is refused, the second one is taken.
    let api = Site::model("api.test", |request, _, out| {
        let status = if request.contains("x-key: key-2") { "200 OK" } else { "401 No" };
        write!(out, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").ok();
    });
    let scene = Scene::new(&["api.test"], &[&api]);
    let count = world.write("home/count", "");
    let print = world.write("home/print.sh", &format!("echo x >> '{0}'; echo key-$(wc -l < '{0}')\n", count.display()));
    let credential = format!("x-key@api.test:{}=command:sh {}", api.port(), print.display());
    let at = format!("https://api.test:{}/", api.port());
    let script = format!(
        "for n in 1 2 3; do curl -sS -o page -w '%{{http_code}} ' {at}; done; sleep 6; for n in 4 5 6; do curl -sS -o page -w '%{{http_code}} ' {at}; done"
    );
    let ran = scene.run(&world, &["--allow", &format!("api.test:{}", api.port()), "--credential", &credential], &script);
    assert_eq!(ran.out(), "401 401 401 200 200 200 ", "{}", ran.err());
    assert_eq!(fs_err::read_to_string(count).expect("a count").lines().count(), 2, "it ran for the first and after the refusal");
    // One that fails is no reason to send the request without a key, and says nothing of what it printed.
    let credential = format!("x-key@api.test:{}=command:echo {KEY}; exit 3", api.port());
    let before = api.seen().len();
    let script = format!("curl -sS -w '%{{http_code}}' {at}");
    let ran = scene.run(&world, &["--allow", &format!("api.test:{}", api.port()), "--credential", &credential], &script);
    assert!(ran.out().contains("502") && ran.out().contains("there is no key for its header x-key"), "{} {}", ran.out(), ran.err());
    assert!(!ran.out().contains(KEY) && !ran.err().contains(KEY) && api.seen().len() == before);
}

/// What a hostile client does with TLS that ends at the gateway: a line for each attack, with what came back.
const CLIENT: &str = r#"
import os, socket, ssl, sys
api, other = int(sys.argv[1]), int(sys.argv[2])
def tunnel(target, sni, alpn=None, trust=True):
    s = socket.create_connection(('198.18.0.1', 3128), 10)
    s.sendall(f'CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n'.encode())
    head = b''
    while not head.endswith(b'\r\n\r\n'):
        byte = s.recv(1)
        if not byte: return head.split(b' ')[1].decode()
        head += byte
    if head.split(b' ')[1] != b'200': return head.split(b' ')[1].decode()
    c = ssl.create_default_context()
    if not trust: c = ssl._create_unverified_context()
    if alpn: c.set_alpn_protocols(alpn)
    try: return c.wrap_socket(s, server_hostname=sni)
    except (ssl.SSLError, OSError) as e: return 'tls'
def say(text, target=f'api.test:{api}', sni='api.test', **more):
    t = tunnel(target, sni, **more)
    if isinstance(t, str): return t
    t.settimeout(10)
    t.sendall(text.replace('\n', '\r\n').encode('latin1'))
    got = b''
    try:
        while True:
            piece = t.recv(65536)
            if not piece: break
            got += piece
    except (ssl.SSLError, OSError): pass
    return ' '.join(line.split(b' ')[1].decode() for line in got.split(b'\r\n') if line.startswith(b'HTTP/1.1 '))
H, C = f'Host: api.test:{api}\n', 'Connection: close\n'
attacks = {
  'control': lambda: say(f'GET /v1/a HTTP/1.1\n{H}{C}\n'),
  'control two': lambda: say(f'GET /v1/a HTTP/1.1\n{H}\nGET /v1/b HTTP/1.1\n{H}{C}\n'),
  'second for another path': lambda: say(f'GET /v1/a HTTP/1.1\n{H}\nGET /secret HTTP/1.1\n{H}{C}\n'),
  'second for another host': lambda: say(f'GET /v1/a HTTP/1.1\n{H}\nGET /v1/evil HTTP/1.1\nHost: other.test:{other}\n{C}\n'),
  'host unlike': lambda: say(f'GET /v1/evil HTTP/1.1\nHost: other.test:{other}\n{C}\n'),
  'host port unlike': lambda: say(f'GET /v1/evil HTTP/1.1\nHost: api.test:{other}\n{C}\n'),
  'two hosts': lambda: say(f'GET /v1/evil HTTP/1.1\n{H}Host: other.test\n{C}\n'),
  'no host': lambda: say(f'GET /v1/evil HTTP/1.1\n{C}\n'),
  'absolute to another': lambda: say(f'GET https://other.test:{other}/v1/evil HTTP/1.1\n{H}{C}\n'),
  'absolute plain': lambda: say(f'GET http://api.test:{api}/secret HTTP/1.1\n{H}{C}\n'),
  'length and chunks': lambda: say(f'GET /v1/evil HTTP/1.1\n{H}Content-Length: 4\nTransfer-Encoding: chunked\n\n0\n\nGET /secret HTTP/1.1\n{H}{C}\n'),
  'chunked hidden': lambda: say(f'GET /v1/evil HTTP/1.1\n{H}Transfer-Encoding: xchunked\n\n0\n\n'),
  'two lengths': lambda: say(f'GET /v1/evil HTTP/1.1\n{H}Content-Length: 0\nContent-Length: 40\n\nGET /secret HTTP/1.1\n{H}{C}\n'),
  'a request as a body': lambda: say(f'GET /v1/body HTTP/1.1\n{H}Content-Length: 27\n{C}\nGET /secret HTTP/1.1\nX: y\n\n'),
  'websocket': lambda: say(f'GET /v1/evil HTTP/1.1\n{H}Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\n\n'),
  'h2c': lambda: say(f'GET /v1/h2c HTTP/1.1\n{H}Connection: Upgrade, HTTP2-Settings, close\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\n\n'),
  'h2 preface': lambda: say('PRI * HTTP/2.0\n\nSM\n\n'),
  'h2 by alpn': lambda: say('x', alpn=['h2']),
  'connect within': lambda: say(f'CONNECT other.test:{other} HTTP/1.1\nHost: other.test:{other}\n\n'),
  'old with a path': lambda: say(f'GET /secret HTTP/1.0\n{H}\n'),
  'encoded path': lambda: say(f'GET /v1/%2e%2e/secret HTTP/1.1\n{H}{C}\n'),
  'lower case method': lambda: say(f'get /v1/evil HTTP/1.1\n{H}{C}\n'),
  'bare line feeds': lambda: say(f'GET /v1/evil HTTP/1.1\r{H}{C}\n'),
  'name unlike the tunnel': lambda: say(f'GET /v1/evil HTTP/1.1\n{H}{C}\n', sni='other.test', trust=False),
  'tunnel unlike the name': lambda: say(f'GET /v1/evil HTTP/1.1\n{H}{C}\n', target=f'other.test:{other}', trust=False),
  'no name': lambda: say(f'GET /v1/evil HTTP/1.1\n{H}{C}\n', sni=None, trust=False),
  'not listed': lambda: say('x', target=f'evil.test:{api}', sni='evil.test', trust=False),
}
for name, attack in attacks.items(): print(name + ':', attack())
# Whoever is not opened shows its own certificate, and ours stands for nobody else.
def issuer(target, sni):
    t = tunnel(target, sni, trust=False)
    return t if isinstance(t, str) else str(b'cofferdam' in t.getpeercert(True))
print('opened:', issuer(f'api.test:{api}', 'api.test'), 'tunnelled:', issuer(f'other.test:{other}', 'other.test'), 'evil:', issuer(f'evil.test:{api}', 'evil.test'))
"#;

#[test]
fn attacks_within_opened_tls_reach_nobody() {
    let (api, other) = (Site::https("api.test"), Site::https("other.test"));
    let scene = Scene::new(&["api.test", "other.test", "evil.test"], &[&api, &other]);
    let world = World::new(Who::Caller);
    world.write("home/project/client.py", CLIENT);
    let (rule, whole) = (format!("GET api.test:{}/v1/", api.port()), format!("other.test:{}", other.port()));
    let script = format!("/usr/bin/python3 client.py {} {}", api.port(), other.port());
    let ran = scene.run(&world, &["--allow", &rule, "--allow", &whole], &script);
    ran.expect(0, "exited");
    let expected = "control: 200
control two: 200 200
second for another path: 200 403
second for another host: 200 400
host unlike: 400
host port unlike: 400
two hosts: 400
no host: 400
absolute to another: 400
absolute plain: 403
length and chunks: 400
chunked hidden: 400
two lengths: 400
a request as a body: 200
websocket: 403
h2c: 200
h2 preface: 400
h2 by alpn: tls
connect within: 400
old with a path: 403
encoded path: 403
lower case method: 403
bare line feeds: 400
name unlike the tunnel: tls
tunnel unlike the name: tls
no name: tls
not listed: 403
opened: True tunnelled: False evil: 403
";
    assert_eq!(ran.out(), expected, "{}", ran.err());
    let paths: Vec<String> = api.seen().iter().map(|request| request.split(' ').nth(1).unwrap_or_default().to_owned()).collect();
    assert_eq!(paths, ["/v1/a", "/v1/a", "/v1/b", "/v1/a", "/v1/a", "/v1/body", "/v1/h2c"], "what the server read");
    assert!(api.seen().iter().all(|request| !request.to_ascii_lowercase().contains("upgrade")), "{:?}", api.seen());
    assert_eq!(other.seen(), Vec::<String>::new());
}
