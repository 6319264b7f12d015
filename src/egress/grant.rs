//! What a sandbox's gateway knows of single hosts beyond its rules: keys that are put in outside, and whose TLS must end here for it.

use std::io;
use std::sync::Arc;

use super::credential::{Credential, Source};
use super::endpoint::mark;
use super::issuer::Issuer;
use super::rule::{Request, Rules, ambiguous};
use crate::base::host::Authority;
use crate::base::reach::begins_with;

/// A key for requests to one host, over TLS and in no other way.
#[derive(Clone, Debug)]
pub struct Grant {
    pub to: Authority,
    /// Empty is every method.
    pub methods: Vec<String>,
    /// Begins with a slash; ends a whole segment.
    pub path: Option<String>,
    pub credential: Arc<Credential>,
    /// The variable that holds the placeholder inside, for programs that want to see a key.
    pub variable: Option<String>,
    pub placeholder: String,
}

impl Grant {
    /// For every request to that host. Inside, the variable that the key comes from holds a placeholder.
    pub fn new(to: Authority, header: &str, source: Source) -> Self {
        let variable = if let Source::Env(name) = &source { Some(name.clone()) } else { None };
        let like = source.begins();
        let credential = Arc::new(Credential::new(header, source));
        Self { to, methods: Vec::new(), path: None, credential, variable, placeholder: format!("{like}cofferdam{}", mark()) }
    }

    /// Is the key for this request? Not where a server may read the path differently than we do.
    pub(super) fn is_for(&self, request: Request<'_>) -> bool {
        let method = self.methods.is_empty() || self.methods.iter().any(|m| m == request.method);
        let path = self.path.as_deref().is_none_or(|prefix| begins_with(request.path, prefix) && !ambiguous(request.path));
        method && path
    }
}

/// The keys of a sandbox, and the authority that lets its TLS end here, when there is a host that needs it.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    pub grants: Vec<Grant>,
    pub issuer: Option<Arc<Issuer>>,
}

impl Opened {
    /// Of these grants, those for hosts that the rules could allow.
    ///
    /// # Errors
    /// When no authority can be made.
    pub fn new(rules: &Rules, grants: Vec<Grant>) -> io::Result<Self> {
        let grants: Vec<Grant> = grants.into_iter().filter(|grant| rules.may_mean(&grant.to.host)).collect();
        let needed = !grants.is_empty() || rules.see_requests();
        let issuer = if needed { Some(Arc::new(Issuer::new()?)) } else { None };
        Ok(Self { grants, issuer })
    }

    pub(super) fn to<'a>(&'a self, target: &'a Authority) -> impl Iterator<Item = &'a Grant> {
        self.grants.iter().filter(move |grant| grant.to == *target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(methods: &[&str], path: Option<&str>) -> Grant {
        let to = Authority::parse("a.test:443", None).expect("a target");
        let plain = Grant::new(to, "authorization", Source::File("/nowhere".into()));
        Grant { methods: methods.iter().map(|m| (*m).to_owned()).collect(), path: path.map(str::to_owned), ..plain }
    }

    #[test]
    fn a_key_is_for_what_it_names() {
        let is = |grant: &Grant, method, path| grant.is_for(Request { method, path });
        assert!(is(&grant(&[], None), "POST", "/a/../b"));
        let narrow = grant(&["GET"], Some("/repos/"));
        assert!(is(&narrow, "GET", "/repos/x?y"));
        for (method, path) in [
            ("POST", "/repos/x"),
            ("GET", "/repos"),
            ("GET", "/user"),
            ("GET", "/repos/../user"),
            ("GET", "/repos/%2e%2e/user"),
            ("get", "/repos/x"),
        ] {
            assert!(!is(&narrow, method, path), "{method} {path}");
        }
        assert!(is(&grant(&[], Some("/api")), "GET", "/api?x") && !is(&grant(&[], Some("/api")), "GET", "/apix"));
    }

    #[test]
    fn nothing_is_opened_that_nobody_named() {
        let rules = |texts: &[&str]| Rules::parse(texts).expect("rules");
        let opens = |texts: &[&str], grants| Opened::new(&rules(texts), grants).expect("an authority");
        assert!(opens(&["a.test", "!b.test"], Vec::new()).issuer.is_none());
        assert!(opens(&["b.test"], vec![grant(&[], None)]).issuer.is_none());
        assert_eq!(opens(&["b.test"], vec![grant(&[], None)]).grants.len(), 0);
        for (texts, grants) in [(["a.test"], vec![grant(&[], None)]), (["GET b.test"], Vec::new()), (["b.test/x"], Vec::new())] {
            assert!(opens(&texts, grants).issuer.is_some(), "{texts:?}");
        }
    }
}
