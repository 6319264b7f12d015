//! The tools people use, unchanged, through the proxy's variables and where they ignore them.

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use super::common::{Who, World};
use super::support::{NameServer, Site};

/// A host with a git repository, a page, and one package for each package manager; behind TLS when it is `secure`.
fn host(world: &World, secure: bool) -> (Site, NameServer) {
    let folder = world.path().join("host");
    fs_err::create_dir_all(&folder).expect("a folder");
    let sh = |script: &str| {
        let output = Command::new("/bin/sh")
            .args(["-c", script])
            .current_dir(&folder)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .expect("a shell");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    };
    sh("set -e; git init -q -b main work; cd work; echo content > file; git add file
        git -c user.name=a -c user.email=a@b.c commit -qm one; cd ..; git clone -q --bare work repo.git; git -C repo.git update-server-info
        mkdir package; echo '{\"name\":\"pkg\",\"version\":\"1.0.0\"}' > package/package.json; tar czf npm.tgz package
        mkdir -p pkg-1.0.0/src; printf '[package]\\nname = \"pkg\"\\nversion = \"1.0.0\"\\nedition = \"2021\"\\n' > pkg-1.0.0/Cargo.toml
        echo 'pub fn f() {}' > pkg-1.0.0/src/lib.rs; tar czf pkg.crate pkg-1.0.0
        mkdir -p wheel/pkg wheel/pkg-1.0.0.dist-info; echo 'x = 1' > wheel/pkg/__init__.py
        printf 'Metadata-Version: 2.1\\nName: pkg\\nVersion: 1.0.0\\n' > wheel/pkg-1.0.0.dist-info/METADATA
        printf 'Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n' > wheel/pkg-1.0.0.dist-info/WHEEL; : > wheel/pkg-1.0.0.dist-info/RECORD
        /usr/bin/python3 - <<'P'
import zipfile, os
z = zipfile.ZipFile('m.zip', 'w'); z.writestr('example.test/m@v1.0.0/go.mod', 'module example.test/m\\n'); z.close()
z = zipfile.ZipFile('pkg-1.0.0-py3-none-any.whl', 'w')
for top, _, names in os.walk('wheel'):
    for name in names: z.write(os.path.join(top, name), os.path.relpath(os.path.join(top, name), 'wheel'))
z.close()
P
");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let crate_file = fs_err::read(folder.join("pkg.crate")).expect("a crate");
    let sum: String = Sha256::digest(&crate_file).iter().map(|b| format!("{b:02x}")).collect();
    let at = format!("{}://reg.test:{port}", if secure { "https" } else { "http" });
    let mut pages: HashMap<String, Vec<u8>> = HashMap::new();
    let mut page = |path: &str, content: String| drop(pages.insert(path.to_owned(), content.into_bytes()));
    page("/page", "the page\n".to_owned());
    page(
        "/npm/pkg",
        format!(
            "{{\"name\":\"pkg\",\"dist-tags\":{{\"latest\":\"1.0.0\"}},\"versions\":{{\"1.0.0\":{{\"name\":\"pkg\",\"version\":\"1.0.0\",\"dist\":{{\"tarball\":\"{at}/npm.tgz\"}}}}}}}}"
        ),
    );
    page("/index/config.json", format!("{{\"dl\":\"{at}/dl\"}}"));
    page(
        "/index/3/p/pkg",
        format!("{{\"name\":\"pkg\",\"vers\":\"1.0.0\",\"deps\":[],\"cksum\":\"{sum}\",\"features\":{{}},\"yanked\":false}}\n"),
    );
    page("/go/example.test/m/@v/v1.0.0.info", "{\"Version\":\"v1.0.0\",\"Time\":\"2024-01-01T00:00:00Z\"}".to_owned());
    page("/go/example.test/m/@v/v1.0.0.mod", "module example.test/m\n".to_owned());
    page("/simple/pkg/", "<a href=\"/pkg-1.0.0-py3-none-any.whl\">pkg-1.0.0-py3-none-any.whl</a>".to_owned());
    pages.insert("/dl/pkg/1.0.0/download".to_owned(), crate_file);
    for (path, file) in [
        ("/npm.tgz", "npm.tgz"),
        ("/go/example.test/m/@v/v1.0.0.zip", "m.zip"),
        ("/pkg-1.0.0-py3-none-any.whl", "pkg-1.0.0-py3-none-any.whl"),
    ] {
        pages.insert(path.to_owned(), fs_err::read(folder.join(file)).expect("a file"));
    }
    let site = Site::pages(&format!("127.0.0.1:{port}"), secure.then_some("reg.test"), move |path| match path.strip_prefix("/repo.git/") {
        Some(rest) if !rest.contains("..") => fs_err::read(folder.join("repo.git").join(rest)).ok(),
        _ => pages.get(path).cloned(),
    });
    (site, NameServer::start(&[("reg.test", &[&["127.0.0.1"]])]))
}

/// The tool, what shows that it is there, and a script that says `done` when it could fetch.
const TOOLS: &[(&str, &str, &str)] = &[
    ("curl", "curl --version", "curl -sS --max-time 60 $AT/page | grep -q 'the page' && echo done"),
    ("git", "git --version", "rm -rf out; git clone -q $AT/repo.git out && grep -q content out/file && echo done"),
    ("python", "/usr/bin/python3 --version", "/usr/bin/python3 -c \"import urllib.request as u; print('done' if b'the page' in u.urlopen('$AT/page').read() else '')\""),
    ("requests", "/usr/bin/python3 -c 'from pip._vendor import requests'", "/usr/bin/python3 -c \"from pip._vendor import requests as r; print('done' if 'the page' in r.get('$AT/page', timeout=60).text else '')\""),
    ("pip", "/usr/bin/python3 -m pip --version", "/usr/bin/python3 -m pip download -q --no-deps --no-cache-dir --disable-pip-version-check --index-url $AT/simple/ --trusted-host reg.test -d wheels pkg && ls wheels | grep -q pkg && echo done"),
    ("node", "node --version", "node -e \"fetch('$AT/page').then(r => r.text()).then(t => console.log(t.includes('the page') ? 'done' : t))\""),
    ("npm", "npm --version", "rm -rf node_modules package*.json; npm install --silent --no-audit --no-fund --registry $AT/npm pkg >/dev/null && test -f node_modules/pkg/package.json && echo done"),
    ("go", "go version", "cd /tmp && GOFLAGS=-modcacherw GOPROXY=$AT/go GOSUMDB=off GONOSUMDB=* GOTOOLCHAIN=local GOMODCACHE=/tmp/go-mod go mod download example.test/m@v1.0.0 && test -d /tmp/go-mod/example.test/m@v1.0.0 && echo done"),
    (
        "cargo",
        "cargo --version",
        "mkdir -p /tmp/c/src /tmp/c/.cargo && cd /tmp/c && : > src/lib.rs
         printf '[package]\\nname = \"c\"\\nversion = \"0.1.0\"\\nedition = \"2021\"\\n[dependencies]\\npkg = { version = \"1\", registry = \"t\" }\\n' > Cargo.toml
         printf '[registries.t]\\nindex = \"sparse+%s/index/\"\\n' $AT > .cargo/config.toml
         cargo fetch -q && ls ~/.cargo/registry/src/*/ | grep -q pkg-1.0.0 && echo done",
    ),
    (
        "java",
        "java --version",
        "cat > F.java <<'J'
import java.net.URI; import java.net.http.*;
public class F { public static void main(String[] a) throws Exception {
  var page = HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(a[0])).build(), HttpResponse.BodyHandlers.ofString()).body();
  System.out.println(page.contains(\"the page\") ? \"done\" : page); } }
J
         java F.java $AT/page",
    ),
];

/// As they find it, and where they ignore the proxy's variables.
const WAYS: [&[&str]; 2] = [&[], &["NO_PROXY=*", "no_proxy=*", "NODE_USE_ENV_PROXY=0"]];
/// Package managers try again for minutes what is refused; here once is enough.
const ONCE: [&str; 3] = ["npm_config_fetch_retries=0", "PIP_RETRIES=0", "CARGO_NET_RETRY=0"];

fn run(world: &World, site: &Site, names: &NameServer, rule: Option<&str>, environment: &[&str], script: &str) -> (i32, String, String) {
    let mut command = world.command();
    let scheme = if site.certificate.is_empty() { "http" } else { "https" };
    if !site.certificate.is_empty() {
        command.env("SSL_CERT_FILE", world.write("home/roots.pem", &site.certificate));
    }
    command.env("PATH", std::env::var_os("PATH").expect("PATH"));
    for name in ["RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if let Some(home) = std::env::var_os("HOME") {
        command.env("RUSTUP_HOME", std::path::Path::new(&home).join(".rustup"));
    }
    command.args(["exec", "--resolver", &names.address.to_string(), "--allow", &format!("127.0.0.1/32:{}", site.port())]);
    command.args(["--env", &format!("AT={scheme}://reg.test:{}", site.port())]);
    if let Some(rule) = rule {
        command.args(["--allow", rule]);
    }
    for variable in environment {
        command.args(["--env", variable]);
    }
    let output = command.args(["--", "sh", "-c", script]).stdin(Stdio::null()).output().expect("runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_tools_fetch_from_an_allowed_host_and_from_no_other() {
    let world = World::new(Who::Caller);
    let (site, names) = host(&world, false);
    let rule = format!("reg.test:{}", site.port());
    let mut tried = 0;
    for (tool, there, script) in TOOLS {
        if run(&world, &site, &names, None, &[], there).0 != 0 {
            // Past the test harness, which swallows what a passing test prints.
            drop(writeln!(std::io::stderr(), "SKIPPED {tool} through the gateway: it is not here"));
            continue;
        }
        tried += 1;
        for way in WAYS {
            let before = site.dialled();
            let (_, out, err) = run(&world, &site, &names, None, &[way, &ONCE].concat(), script);
            assert!(!out.contains("done") && site.dialled() == before, "{tool} without leave {way:?}: {out} {err}");
        }
        for environment in WAYS {
            let (_, out, err) = run(&world, &site, &names, Some(&rule), environment, script);
            assert!(out.trim_end().ends_with("done"), "{tool} {environment:?}: {out}\n{err}");
        }
    }
    assert!(tried >= 3, "curl, git and python are everywhere");
}

/// A rule about single requests ends their TLS at the gateway: they trust the sandbox's own authority without a setting of theirs.
#[test]
fn the_tools_trust_the_gateway_where_tls_ends_there() {
    let world = World::new(Who::Caller);
    let (site, names) = host(&world, true);
    let (rule, narrow) = (format!("GET,HEAD,POST reg.test:{}/", site.port()), format!("GET,HEAD,POST reg.test:{}/elsewhere/", site.port()));
    let mut tried = 0;
    for (tool, there, script) in TOOLS {
        let script = script.replace("--trusted-host reg.test ", "");
        if run(&world, &site, &names, None, &[], there).0 != 0 {
            drop(writeln!(std::io::stderr(), "SKIPPED {tool} through TLS that ends at the gateway: it is not here"));
            continue;
        }
        tried += 1;
        for way in WAYS {
            let before = site.seen().len();
            let (_, out, err) = run(&world, &site, &names, Some(&narrow), &[way, &ONCE].concat(), &script);
            assert!(!out.contains("done") && site.seen().len() == before, "{tool} elsewhere {way:?}: {out} {err}");
        }
        for environment in WAYS {
            let (_, out, err) = run(&world, &site, &names, Some(&rule), environment, &script);
            assert!(out.trim_end().ends_with("done"), "{tool} {environment:?}: {out}\n{err}");
        }
    }
    assert!(tried >= 3, "curl, git and python are everywhere");
}

/// Java reads a store of its own kind: the sandbox's authority is in it, with everybody whom the host trusts, and nothing else makes it trusted.
#[test]
fn java_trusts_the_gateway_by_its_own_store_and_by_nothing_else() {
    let world = World::new(Who::Caller);
    let (site, names) = host(&world, true);
    let rule = format!("GET reg.test:{}/", site.port());
    let (_, there, script) = TOOLS.iter().find(|(tool, ..)| *tool == "java").expect("it is a tool");
    if run(&world, &site, &names, None, &[], there).0 != 0 {
        drop(writeln!(std::io::stderr(), "SKIPPED java through TLS that ends at the gateway: it is not here"));
        return;
    }
    let (_, out, err) = run(&world, &site, &names, Some(&rule), &[], script);
    assert!(out.trim_end().ends_with("done"), "{out}\n{err}");
    // Control: without the option it trusts nobody there, and the server sees nothing.
    let before = site.seen().len();
    let (_, out, err) = run(&world, &site, &names, Some(&rule), &[], &format!("unset JAVA_TOOL_OPTIONS; {script}"));
    assert!(!out.contains("done") && err.contains("unable to find valid certification path"), "{out}\n{err}");
    assert_eq!(site.seen().len(), before);
    // Every entry is one that Java trusts: ours first, and those of the host.
    let list = "keytool -list -keystore /etc/cofferdam/authorities.p12 -storepass any-at-all 2>/dev/null | grep -c trustedCertEntry";
    let (_, out, err) = run(&world, &site, &names, Some(&rule), &[], list);
    assert_eq!(out.trim(), "2", "the host's roots are one certificate here: {err}");
    // Options of the person's own stay, and come last.
    let (_, out, err) = run(&world, &site, &names, Some(&rule), &["JAVA_TOOL_OPTIONS=-Dmine=1"], "echo $JAVA_TOOL_OPTIONS");
    assert!(out.contains("authorities.p12") && out.trim_end().ends_with("-Dmine=1"), "{out}\n{err}");
    // Where nothing ends at the gateway, Java is left alone.
    let (_, out, err) = run(&world, &site, &names, Some(&format!("reg.test:{}", site.port())), &[], "echo \"[$JAVA_TOOL_OPTIONS]\"");
    assert_eq!(out.trim(), "[]", "{err}");
}
