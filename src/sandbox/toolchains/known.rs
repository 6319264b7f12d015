//! Tables: where tools keep their programs and their caches. Data, and why it is that way.

/// The entries of `/etc` that programs need, and never the folder itself: it holds password hashes and host keys.
///
/// A name that ends in `*` stands for every entry that starts with it. Left out on purpose: `profile` and `profile.d` (a login shell,
/// which some agents use for every command, would replace PATH with the system's), `passwd`, `group`, `hosts` and `hostname` (made
/// fresh for every sandbox), `resolv.conf` (there is no resolver), `machine-id` (it identifies the machine).
pub(super) const ETC: [(&str, &str); 22] = [
    ("alternatives", "the links behind programs such as java and cc"),
    ("chromium*", "the browser's system settings; its starter reads them"),
    ("fonts", "programs that render text look up fonts"),
    ("java*", "the JDK's settings and its trust store are links to here"),
    ("ld.so.cache", "where shared libraries are"),
    ("ld.so.conf*", "the linker looks up libraries of libraries here"),
    ("localtime", "the caller's time zone"),
    ("mime.types", "which suffix means which type"),
    ("nsswitch.conf", "libc asks it how to look up users and names"),
    ("os-release", "installers ask which system this is"),
    ("perl", "perl's system settings"),
    // /etc/pki/tls/private and the machine's own certificates lie beside these.
    ("pki/ca-trust/extracted", "certificates of authorities"),
    ("pki/java", "Java's certificates of authorities"),
    ("pki/tls/certs", "certificates of authorities"),
    ("pki/tls/openssl.cnf", "openssl's settings"),
    ("protocols", "names of network protocols"),
    ("python3*", "the interpreter's site settings are links to here"),
    ("services", "names of network ports"),
    // /etc/ssl/private lies beside these.
    ("ssl/certs", "certificates of authorities"),
    ("ssl/openssl.cnf", "openssl's settings"),
    ("ssl/cert.pem", "certificates of authorities"),
    ("terminfo", "what terminals can show"),
];

/// Entries of `/etc` that are useful and may hold a password; each is looked into before it is granted.
pub(super) const ETC_SCREENED: [(&str, &str); 3] = [
    ("gitconfig", "git's system-wide settings"),
    ("npmrc", "npm's system-wide settings, such as its registry"),
    ("pip.conf", "pip's system-wide settings, such as its index"),
];

/// Below granted system folders, files that may hold a password and are covered when they do.
pub(super) const SYSTEM_SCREENED: [&str; 3] = ["/usr/etc/npmrc", "/usr/local/etc/npmrc", "/usr/local/etc/gitconfig"];

/// A family of tools that keeps itself below one folder.
pub(super) struct Family {
    /// The variable that moves the folder.
    pub variable: Option<&'static str>,
    /// The folder below HOME without it.
    pub home: &'static str,
    /// What is granted of it when PATH (or the variable) points there; `.` is the whole folder.
    pub parts: &'static [&'static str],
    pub reason: &'static str,
    /// Should the variable be set inside?
    pub keep: bool,
}

/// Families by the folder that a PATH entry lies in. The first match decides, so nested folders come before those around them.
pub(super) const FAMILIES: [Family; 35] = [
    // credentials.toml lies beside bin; only bin is granted. CARGO_HOME itself is set to the private home.
    Family { variable: Some("CARGO_HOME"), home: ".cargo", parts: &["bin"], reason: "Rust programs", keep: false },
    Family { variable: Some("RUSTUP_HOME"), home: ".rustup", parts: &["."], reason: "Rust toolchains", keep: true },
    Family { variable: Some("PYENV_ROOT"), home: ".pyenv", parts: &["."], reason: "Python versions of pyenv", keep: true },
    Family { variable: Some("NVM_DIR"), home: ".nvm", parts: &["."], reason: "Node versions of nvm", keep: true },
    Family { variable: Some("NVM_DIR"), home: ".config/nvm", parts: &["."], reason: "Node versions of nvm", keep: true },
    Family { variable: Some("VOLTA_HOME"), home: ".volta", parts: &["."], reason: "Node versions of volta", keep: true },
    Family { variable: Some("FNM_DIR"), home: ".local/share/fnm", parts: &["."], reason: "Node versions of fnm", keep: false },
    Family { variable: Some("PNPM_HOME"), home: ".local/share/pnpm", parts: &["."], reason: "pnpm and its global programs", keep: true },
    Family {
        variable: Some("BUN_INSTALL"),
        home: ".bun",
        parts: &["bin", "install/global"],
        reason: "bun and its global programs",
        keep: true,
    },
    Family { variable: Some("DENO_INSTALL"), home: ".deno", parts: &["bin"], reason: "deno", keep: false },
    Family { variable: None, home: ".yarn", parts: &["bin"], reason: "yarn's global programs", keep: false },
    Family { variable: None, home: ".config/yarn/global", parts: &["."], reason: "yarn's global programs", keep: false },
    Family { variable: None, home: ".npm-global", parts: &["bin", "lib"], reason: "npm's global programs", keep: false },
    Family { variable: None, home: ".npm-packages", parts: &["bin", "lib"], reason: "npm's global programs", keep: false },
    Family { variable: Some("ASDF_DATA_DIR"), home: ".asdf", parts: &["."], reason: "versions of asdf", keep: true },
    Family { variable: Some("MISE_DATA_DIR"), home: ".local/share/mise", parts: &["."], reason: "versions of mise", keep: true },
    Family { variable: Some("RBENV_ROOT"), home: ".rbenv", parts: &["."], reason: "Ruby versions of rbenv", keep: true },
    Family { variable: None, home: ".rvm", parts: &["."], reason: "Ruby versions of rvm", keep: false },
    // ~/.gem/credentials lies beside ruby.
    Family { variable: None, home: ".gem", parts: &["ruby"], reason: "Ruby gems", keep: false },
    Family { variable: Some("SDKMAN_DIR"), home: ".sdkman", parts: &["candidates"], reason: "SDKs of sdkman", keep: false },
    Family { variable: None, home: ".jenv", parts: &["."], reason: "Java versions of jenv", keep: false },
    Family { variable: Some("DOTNET_ROOT"), home: ".dotnet", parts: &["."], reason: ".NET", keep: true },
    Family { variable: None, home: ".ghcup", parts: &["bin", "ghc", "lib"], reason: "Haskell compilers of ghcup", keep: false },
    Family { variable: None, home: ".cabal", parts: &["bin"], reason: "Haskell programs", keep: false },
    Family { variable: Some("OPAMROOT"), home: ".opam", parts: &["."], reason: "OCaml switches of opam", keep: true },
    Family { variable: None, home: ".elan", parts: &["."], reason: "Lean versions of elan", keep: false },
    Family { variable: None, home: ".juliaup", parts: &["."], reason: "Julia versions of juliaup", keep: false },
    Family { variable: None, home: ".nix-profile", parts: &["."], reason: "programs of a Nix profile", keep: false },
    Family { variable: None, home: ".local/share/pipx", parts: &["."], reason: "Python programs of pipx", keep: false },
    // ~/.local/share/uv/credentials lies beside these two.
    Family {
        variable: None,
        home: ".local/share/uv",
        parts: &["tools", "python"],
        reason: "Python versions and programs of uv",
        keep: false,
    },
    // GOPATH/pkg/mod is a cache, and GOPATH/src is somebody's work.
    Family { variable: Some("GOPATH"), home: "go", parts: &["bin"], reason: "Go programs", keep: false },
    Family { variable: None, home: "miniconda3", parts: &["."], reason: "conda environments", keep: false },
    Family { variable: None, home: "anaconda3", parts: &["."], reason: "conda environments", keep: false },
    Family { variable: None, home: "miniforge3", parts: &["."], reason: "conda environments", keep: false },
    Family { variable: None, home: ".opencode", parts: &["bin"], reason: "opencode", keep: false },
];

/// A cache that may be read, and is written to a layer that is thrown away.
pub(super) struct Store {
    /// The variable that moves it, and what is appended to its value.
    pub variable: Option<(&'static str, &'static str)>,
    /// Below HOME without it.
    pub home: &'static str,
    /// Below the private HOME; the tool finds it there because its variable is not set, or set to this.
    pub inside: &'static str,
    pub reason: &'static str,
}

pub(super) const STORES: [Store; 19] = [
    Store {
        variable: Some(("CARGO_HOME", "registry")),
        home: ".cargo/registry",
        inside: ".cargo/registry",
        reason: "crates that cargo has downloaded",
    },
    Store {
        variable: Some(("CARGO_HOME", "git")),
        home: ".cargo/git",
        inside: ".cargo/git",
        reason: "git dependencies that cargo has downloaded",
    },
    Store {
        variable: Some(("npm_config_cache", "_cacache")),
        home: ".npm/_cacache",
        inside: ".npm/_cacache",
        reason: "packages that npm has downloaded",
    },
    Store { variable: Some(("PIP_CACHE_DIR", "")), home: ".cache/pip", inside: ".cache/pip", reason: "packages that pip has downloaded" },
    Store { variable: Some(("UV_CACHE_DIR", "")), home: ".cache/uv", inside: ".cache/uv", reason: "packages that uv has downloaded" },
    Store {
        variable: Some(("POETRY_CACHE_DIR", "")),
        home: ".cache/pypoetry",
        inside: ".cache/pypoetry",
        reason: "packages that poetry has downloaded",
    },
    Store { variable: Some(("GOMODCACHE", "")), home: "go/pkg/mod", inside: "go/pkg/mod", reason: "modules that go has downloaded" },
    Store { variable: Some(("GOPATH", "pkg/mod")), home: "go/pkg/mod", inside: "go/pkg/mod", reason: "modules that go has downloaded" },
    Store { variable: Some(("GOCACHE", "")), home: ".cache/go-build", inside: ".cache/go-build", reason: "packages that go has compiled" },
    Store { variable: None, home: ".m2/repository", inside: ".m2/repository", reason: "artifacts that maven has downloaded" },
    Store {
        variable: Some(("GRADLE_USER_HOME", "caches")),
        home: ".gradle/caches",
        inside: ".gradle/caches",
        reason: "artifacts that gradle has downloaded",
    },
    Store {
        variable: Some(("GRADLE_USER_HOME", "wrapper")),
        home: ".gradle/wrapper",
        inside: ".gradle/wrapper",
        reason: "gradle versions of its wrapper",
    },
    // ~/.m2/settings.xml lies beside these two.
    Store {
        variable: Some(("MAVEN_USER_HOME", "wrapper")),
        home: ".m2/wrapper",
        inside: ".m2/wrapper",
        reason: "maven versions of its wrapper",
    },
    Store {
        variable: Some(("YARN_CACHE_FOLDER", "")),
        home: ".cache/yarn",
        inside: ".cache/yarn",
        reason: "packages that yarn has downloaded",
    },
    // Of yarn 2 and later; ~/.yarnrc.yml lies outside.
    Store {
        variable: Some(("YARN_GLOBAL_FOLDER", "")),
        home: ".yarn/berry",
        inside: ".yarn/berry",
        reason: "packages that yarn has downloaded",
    },
    Store { variable: None, home: ".cache/pnpm", inside: ".cache/pnpm", reason: "what pnpm knows about packages" },
    Store {
        variable: Some(("COREPACK_HOME", "")),
        home: ".cache/node/corepack",
        inside: ".cache/node/corepack",
        reason: "versions of pnpm and yarn that corepack has downloaded",
    },
    Store { variable: None, home: ".cache/composer", inside: ".cache/composer", reason: "packages that composer has downloaded" },
    Store { variable: None, home: ".nuget/packages", inside: ".nuget/packages", reason: "packages that NuGet has downloaded" },
];

/// Where pnpm keeps packages, below its own folder: that of the variable, or of the user's data.
pub(super) const PNPM: (&str, &str, &str) = ("PNPM_HOME", ".local/share/pnpm", "store");

/// Programs that tools have downloaded into the cache folder; read-only is enough for them.
pub(super) const DOWNLOADED: [(&str, &str); 2] =
    [(".cache/ms-playwright", "browsers that playwright has downloaded"), (".cache/puppeteer", "browsers that puppeteer has downloaded")];

/// Variables that choose a version or point to a trust store; taken over when they are set, and, for paths, when the path is visible inside.
pub(super) const CHOICES: [&str; 5] = ["RUSTUP_TOOLCHAIN", "PYENV_VERSION", "NODE_VERSION", "GOTOOLCHAIN", "GOFLAGS"];
pub(super) const TRUST: [&str; 6] =
    ["SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"];

/// Variables that name one installation; granted as they are when they are tools by their looks.
pub(super) const INSTALLATIONS: [(&str, &str); 6] = [
    ("GOROOT", "the Go installation of GOROOT"),
    ("JAVA_HOME", "the Java installation of JAVA_HOME"),
    ("VIRTUAL_ENV", "the Python environment of VIRTUAL_ENV"),
    ("CONDA_PREFIX", "the environment of CONDA_PREFIX"),
    ("ANDROID_HOME", "the Android SDK of ANDROID_HOME"),
    ("MAVEN_HOME", "the Maven installation of MAVEN_HOME"),
];
