//! Through real sandboxes: `cofferdam exec --allow`, as root and as an ordinary user.

use std::process::Stdio;

use super::common::{Who, World, everybody, is_root, processes_with, soon};
use super::support::{NameServer, Site, name};

/// The options that make `good.test` and friends resolve, and the canary's port reachable.
fn options(names: &NameServer, rules: &[String]) -> Vec<String> {
    let mut options = vec!["--resolver".to_owned(), names.address.to_string()];
    for rule in rules {
        options.extend(["--allow".to_owned(), rule.clone()]);
    }
    options
}

fn strs(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

#[test]
fn an_allowed_host_is_reached_by_name_with_a_proxy_and_without() {
    let (plain, secure) = (Site::http(), Site::https("good.test"));
    let names = NameServer::start(&[("good.test", &[&["127.0.0.1"]])]);
    let rules = [
        format!("good.test:{}", plain.port()),
        format!("good.test:{}", secure.port()),
        format!("127.0.0.1/32:{}", plain.port()),
        format!("127.0.0.1/32:{}", secure.port()),
    ];
    let options = options(&names, &rules);
    for world in everybody() {
        world.write("home/project/ca.pem", &secure.certificate);
        let (http, https) = (format!("http://good.test:{}/x", plain.port()), format!("https://good.test:{}/x", secure.port()));
        for way in ["", "--noproxy '*'", "--noproxy '' --proxy socks5h://198.18.0.1:1080"] {
            for url in [&http, &https] {
                let ran = world.sh(&strs(&options), &format!("curl -sS --max-time 20 --cacert ca.pem {way} {url}"));
                ran.expect(0, "exited");
                assert!(ran.out().starts_with("you sent: GET /x HTTP/1.1\r\nHost: good.test"), "{way} {url}: {}", ran.out());
            }
        }
        // A certificate that is not trusted inside is the client's to refuse: the gateway does not stand between.
        let ran = world.sh(&strs(&options), &format!("curl -sS --max-time 20 {https}"));
        // 60: not trusted. 77: a system that trusts nobody, because it has no certificates at all.
        assert!(matches!(ran.code(), 60 | 77), "{}: {}", ran.code(), ran.err());
    }
}

#[test]
fn the_usual_ports_are_captured() {
    if !is_root() {
        // Servers on ports 80 and 443 need root to start.
        return;
    }
    let (plain, secure) = (Site::http_at("127.55.3.1:80"), Site::https_at("127.55.3.1:443", "good.test"));
    let names =
        NameServer::start(&[("good.test", &[&["127.55.3.1"]]), ("www.good.test", &[&["127.55.3.1"]]), ("evil.test", &[&["127.55.3.1"]])]);
    let options = options(&names, &["good.test".to_owned(), "*.good.test".to_owned(), "127.55.3.1/32".to_owned()]);
    for world in everybody() {
        world.write("home/project/ca.pem", &secure.certificate);
        for url in ["http://good.test/x", "https://good.test/x", "http://www.good.test/x"] {
            for way in ["", "--noproxy '*'"] {
                let ran = world.sh(&strs(&options), &format!("curl -sS --max-time 20 --cacert ca.pem {way} {url}"));
                ran.expect(0, "exited");
                assert!(ran.out().starts_with("you sent: GET /x"), "{way} {url}: {}", ran.out());
            }
        }
        let before = (plain.dialled(), secure.dialled());
        // The name of one host and the Host of another; a hello for another; an address that was never given out; our own loopback.
        let script = "curl -sS --max-time 20 --noproxy '*' -H 'Host: evil.test' http://good.test/ -o a -w '%{http_code}\n'
            curl -sS --max-time 20 --noproxy '*' --connect-to evil.test:443:good.test:443 https://evil.test/; echo tls $?
            curl -sS --max-time 20 --noproxy '*' http://198.18.77.77/ || echo stranger
            curl -sS --max-time 20 --noproxy '*' http://127.0.0.1/ || echo own
            curl -sS --max-time 20 --noproxy '*' http://evil.test/; echo unknown $?";
        let ran = world.sh(&strs(&options), script);
        assert_eq!(ran.out(), "400\ntls 35\nstranger\nown\nunknown 6\n", "{}", ran.err());
        assert_eq!((plain.dialled(), secure.dialled()), before, "{}", ran.err());
        assert!(ran.err().contains("the TLS hello is for evil.test"), "{}", ran.err());
    }
    assert!(!names.asked().iter().any(|asked| asked.contains("evil")), "{:?}", names.asked());
}

#[test]
fn what_is_refused_is_told_at_the_end_and_never_dialled() {
    let canary = Site::canary();
    let names = NameServer::start(&[("inner.test", &[&["127.0.0.1"]]), ("evil.test", &[&["127.0.0.1"]])]);
    let port = canary.port();
    let options = options(&names, &[format!("inner.test:{port}")]);
    for world in everybody() {
        let script = format!(
            "curl -sS --max-time 20 http://evil.test:{port}/ -o page; cat page
             curl -sS --max-time 20 --noproxy '*' http://evil.test:{port}/
             curl -sS --max-time 20 http://inner.test:{port}/ -o page; cat page
             curl -sS --max-time 20 --noproxy '' http://127.0.0.1:{port}/ -o page; cat page
             exit 0"
        );
        let ran = world.sh(&strs(&options), &script);
        ran.expect(0, "exited");
        for page in [
            format!("cofferdam: evil.test:{port} is refused"),
            format!("cofferdam: inner.test:{port} is refused: it leads to 127.0.0.1, which is loopback"),
        ] {
            assert!(ran.out().contains(&page), "{page}: {}", ran.out());
        }
        for line in [
            format!("denied: reach evil.test:{port} (it is not on this sandbox's list) — allow it with --allow evil.test:{port}"),
            format!("allow it with --allow 127.0.0.1/32:{port}"),
            format!("denied: reach 127.0.0.1:{port} "),
        ] {
            assert!(ran.err().contains(&line), "{line}: {}", ran.err());
        }
        let denials = ran.outcome["denials"].as_array().expect("denials").clone();
        assert!(denials.iter().any(|d| d["operation"] == "reach" && d["target"] == format!("evil.test:{port}")), "{denials:?}");
        assert!(world.sh(&[&strs(&options)[..], &["--quiet"]].concat(), "curl -s http://evil.test/; true").err().is_empty());
    }
    assert_eq!(canary.dialled(), 0);
}

#[test]
fn nothing_but_the_gateway_is_there() {
    let canary = Site::canary();
    let names = NameServer::start(&[]);
    let options = options(&names, &[]);
    for world in everybody() {
        // The host's loopback, its name server, an address of the internet: no way, with a gateway as without.
        let script = format!(
            "for to in 127.0.0.1/{port} {server} 192.0.2.7/443; do (exec 3<>/dev/tcp/$to) 2>/dev/null && echo reached $to; done; exit 3",
            port = canary.port(),
            server = names.address.to_string().replace(':', "/")
        );
        let ran = world.exec(&[&strs(&options)[..], &["--net", "gateway"]].concat(), &["bash", "-c", &script]);
        ran.expect(3, "exited");
        assert!(ran.out().is_empty() && ran.err().contains("denied: connect 192.0.2.7:443"), "{} {}", ran.out(), ran.err());
        let ran = world.sh(&["--net", "gateway", "-v"], "true");
        for layer in ["network namespace", "landlock", "seccomp"] {
            assert!(ran.err().contains(layer), "{layer}: {}", ran.err());
        }
    }
    assert_eq!((canary.dialled(), names.asked().len()), (0, 0));
}

#[test]
fn observing_allows_nothing_and_proposes_rules() {
    let canary = Site::canary();
    let names = NameServer::start(&[("wanted.test", &[&["127.0.0.1"]])]);
    for world in everybody() {
        let options = ["--observe", "--resolver", &names.address.to_string()];
        let script = format!(
            "curl -sS --max-time 20 --noproxy '*' https://wanted.test/; curl -sS --max-time 20 http://other.test:{}/; exit 0",
            canary.port()
        );
        let ran = world.sh(&options, &script);
        ran.expect(0, "exited");
        let proposal = format!("allow = [\"other.test:{}\", \"wanted.test:443\"]", canary.port());
        assert!(ran.err().contains(&proposal), "{}", ran.err());
    }
    assert_eq!((canary.dialled(), names.asked().len()), (0, 0));
}

#[test]
fn two_sandboxes_have_two_doors() {
    let (one, two) = (Site::http(), Site::http());
    let names = NameServer::start(&[("one.test", &[&["127.0.0.1"]]), ("two.test", &[&["127.0.0.1"]])]);
    let of = |host: &str, site: &Site| options(&names, &[format!("{host}:{}", site.port()), format!("127.0.0.1/32:{}", site.port())]);
    let worlds = [(World::new(Who::Caller), of("one.test", &one)), (World::new(Who::Caller), of("two.test", &two))];
    let script = format!(
        "for n in 1 2 3 4 5; do curl -sS --max-time 20 -o /dev/null -w '%{{http_code}} ' http://one.test:{}/; curl -sS --max-time 20 -o /dev/null -w '%{{http_code}} ' http://two.test:{}/; done",
        one.port(),
        two.port()
    );
    let outs: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> = worlds.iter().map(|(world, options)| scope.spawn(|| world.sh(&strs(options), &script).out())).collect();
        runs.into_iter().map(|run| run.join().expect("no panic")).collect()
    });
    assert_eq!(outs, ["200 403 ".repeat(5), "403 200 ".repeat(5)]);
    assert_eq!((one.seen().len(), two.seen().len()), (5, 5));
}

#[test]
fn a_supervisor_that_is_killed_takes_the_network_along() {
    for world in everybody() {
        let site = Site::http();
        let names = NameServer::start(&[]);
        let mark = format!("6{}.{}", std::process::id(), site.port());
        let target = format!("http://127.0.0.1:{}/", site.port());
        let script = format!("while true; do curl -s --max-time 2 --noproxy '' {target} > /dev/null; done & sleep {mark}");
        let mut command = world.command();
        command.arg("exec").args(strs(&options(&names, &[format!("127.0.0.1:{}", site.port())]))).args(["--", "sh", "-c", &script]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("runs");
        soon("a request", || site.dialled() > 2);
        child.kill().expect("killed");
        child.wait().expect("ended");
        soon("the end of the sandbox", || processes_with(&mark).is_empty());
        let after = site.dialled();
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(site.dialled(), after);
    }
}

#[test]
fn what_the_gateway_cannot_do_is_refused_before_anything_runs() {
    let world = World::new(Who::Caller);
    for (options, says) in [
        (vec!["--allow", "https://a.b/"], "with a scheme"),
        (vec!["--allow", "*"], "--net host"),
        (vec!["--allow", "a.b", "--net", "none"], "contradict"),
        (vec!["--allow", "a.b", "--require", "no-userns"], "needs the tier full"),
        (vec!["--observe", "--net", "none"], "need the gateway"),
        (vec!["--resolver", "dns.example"], "must be an address"),
        (vec!["--allow", "a.b opaqe"], "opaque, up=SIZE and down=SIZE"),
    ] {
        let output = world.command().arg("exec").args(&options).args(["--", "touch", "ran"]).output().expect("runs");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{options:?}: {err}");
        assert!(err.contains(says), "{options:?}: {err}");
        assert!(!world.workspace().join("ran").exists());
    }
}

#[test]
fn a_profile_s_denial_wins_over_an_option() {
    let site = Site::http();
    let names = NameServer::start(&[("good.test", &[&["127.0.0.1"]])]);
    let world = World::new(Who::Caller);
    let profile = world.write("home/p.toml", "extends = \"default\"\n[network]\nmode = \"gateway\"\nallow = [\"!good.test\"]\n");
    let options = options(&names, &[format!("good.test:{}", site.port()), format!("127.0.0.1/32:{}", site.port())]);
    let profile = profile.to_string_lossy().into_owned();
    let ran = world.sh(
        &[&strs(&options)[..], &["--profile", &profile]].concat(),
        &format!("curl -sS --max-time 20 http://good.test:{}/", site.port()),
    );
    assert!(ran.out().contains("the rule !good.test forbids it"), "{}", ran.out());
    assert_eq!(site.dialled(), 0);
}

#[test]
fn a_profile_without_loopback_still_reaches_its_gateway_and_nothing_else() {
    let site = Site::http();
    let names = NameServer::start(&[]);
    for world in everybody() {
        let profile = world
            .write("home/p.toml", "extends = \"default\"\n[network]\nmode = \"gateway\"\nloopback = false\n")
            .to_string_lossy()
            .into_owned();
        let target = format!("127.0.0.1:{}", site.port());
        let options = options(&names, std::slice::from_ref(&target));
        let script = format!(
            "curl -sS --max-time 20 --noproxy '' -o /dev/null -w '%{{http_code}}\n' http://{target}/
             python3 -c 'import socket; s = socket.create_server((\"127.0.0.1\", 4242))' 2>/dev/null && echo listens"
        );
        let ran = world.sh(&[&strs(&options)[..], &["--profile", &profile]].concat(), &script);
        assert_eq!(ran.out(), "200\n", "{}", ran.err());
    }
}

#[test]
fn no_question_of_the_sandbox_reaches_a_name_server() {
    let names = NameServer::start(&[]);
    let world = World::new(Who::Caller);
    let secret = name("secret-in-a-name.evil.test");
    let script = format!("getent hosts {secret}; curl -s --max-time 5 --noproxy '*' {secret}; curl -s --max-time 5 {secret}; exit 0");
    world.sh(&strs(&options(&names, &["good.test".to_owned()])), &script).expect(0, "exited");
    assert_eq!(names.asked(), Vec::<String>::new());
}
