//! GitHub's checks of one commit, asked for through its API.

use super::Polled;
use super::checks::{self, Nonsense, Said};
use super::http::{Answer, Client, HttpError};

/// More pages of a hundred checks than this are a mistake of the server.
const MOST_PAGES: u64 = 20;

/// The checks of one commit.
#[derive(Debug)]
pub struct GitHub<'a> {
    pub client: Client,
    /// OWNER/NAME.
    pub repository: &'a str,
    /// The branch whose protection says what is required, when nothing else does.
    pub branch: &'a str,
    pub required: Vec<String>,
}

enum Bad {
    /// Asked again later.
    Later(Polled),
    Never(String),
}

impl From<HttpError> for Bad {
    fn from(error: HttpError) -> Self {
        Self::Later(Polled::Later { why: error.to_string(), wait: None })
    }
}

impl From<Nonsense> for Bad {
    fn from(error: Nonsense) -> Self {
        Self::Later(Polled::Later { why: error.to_string(), wait: None })
    }
}

impl GitHub<'_> {
    /// Asks once.
    pub fn poll(&mut self, commit: &str) -> Polled {
        match self.look(commit) {
            Ok(said) => Polled::Said(said),
            Err(Bad::Later(later)) => later,
            Err(Bad::Never(why)) => Polled::Never(why),
        }
    }

    fn look(&mut self, commit: &str) -> Result<Said, Bad> {
        if self.required.is_empty() {
            self.required = self.protected()?;
        }
        let mut seen = Vec::new();
        for page in 1..=MOST_PAGES {
            let path = format!("/repos/{}/commits/{commit}/check-runs?filter=latest&per_page=100&page={page}", self.repository);
            let (some, count) = checks::check_runs(&self.page(&path)?, commit)?;
            let is_last = some.is_empty();
            seen.extend(some);
            if is_last || seen.len() as u64 >= count {
                break;
            }
        }
        let path = format!("/repos/{}/commits/{commit}/status?per_page=100", self.repository);
        seen.extend(checks::statuses(&self.page(&path)?, commit)?);
        Ok(checks::judge(&self.required, &seen))
    }

    /// What the branch's protection and its rule sets ask for.
    fn protected(&mut self) -> Result<Vec<String>, Bad> {
        // A name of a branch holds no character that an address must not, but for these.
        let branch = self.branch.replace('%', "%25").replace('#', "%23").replace('?', "%3F");
        let mut required = Vec::new();
        for (path, read) in [
            (format!("/repos/{}/rules/branches/{branch}", self.repository), checks::rules as fn(&[u8]) -> _),
            (format!("/repos/{}/branches/{branch}/protection/required_status_checks", self.repository), checks::protection),
        ] {
            let answer = self.client.get(&path)?;
            match answer.status {
                // None there, or none that this token may see.
                403 | 404 if answer.wait.is_none() => {}
                _ => required.extend(read(&good(answer)?)?),
            }
        }
        required.sort();
        required.dedup();
        Ok(required)
    }

    fn page(&mut self, path: &str) -> Result<Vec<u8>, Bad> {
        good(self.client.get(path)?)
    }
}

fn good(answer: Answer) -> Result<Vec<u8>, Bad> {
    let later = |why: &str| Err(Bad::Later(Polled::Later { why: format!("GitHub answered {}: {why}", answer.status), wait: answer.wait }));
    match answer.status {
        200 => Ok(answer.body),
        429 => later("too many requests"),
        403 if answer.wait.is_some() => later("too many requests"),
        401 => Err(Bad::Never("GitHub does not accept the token; look at ci.token".to_owned())),
        403 => {
            Err(Bad::Never("GitHub does not let this token read checks; it needs `checks: read` and `commit statuses: read`".to_owned()))
        }
        // A commit that was pushed a moment ago is not known everywhere yet.
        404 | 422 => later("it does not know the commit, or the token may not see the repository"),
        301..=308 => Err(Bad::Never("the repository has moved; look at ci.repository and ci.api".to_owned())),
        _ => later("it is not well"),
    }
}
