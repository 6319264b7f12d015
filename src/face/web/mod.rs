//! The page: what `status`, `show`, `why` and `evidence` say, for a browser on this machine, and anew whenever something happens.
//!
//! ```text
//! bytes ─▶ egress::http1 ─▶ route (whose name? which path?) ─▶ page ─▶ bytes
//! ```
//!
//! It reads and changes nothing. It listens on the loopback address alone, answers one question a connection, and bounds everything: heads, time,
//! connections, followers.

mod page;
mod route;

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use self::route::{Refused, Route, route};
use super::cli::failure::Failure;
use super::cli::show::Shown;
use super::cli::state::{self, State};
use super::cli::why;
use crate::base::id::StoryId;
use crate::egress::http1;
use crate::store::{Filter, Stored};
use crate::workspace::git::Repository;

/// A browser's question is far shorter.
const LONGEST_HEAD: usize = 16 << 10;
/// A question that is not asked by then is none; neither is a reader who does not read.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at once, those that follow among them.
const MOST: usize = 64;
/// How often the store is looked at for those who follow.
const LOOK: Duration = Duration::from_millis(300);
/// A follower who went away is noticed when this cannot be written.
const PULSE: Duration = Duration::from_secs(15);
/// What of one piece of evidence, or of one change, a page shows.
const LONGEST: usize = 2 << 20;
const NEWS: u64 = 60;

/// Nothing but this server's own style and script; a page that strangers wrote into can neither run, load, send nor embed anything.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Evidence is a text, and nothing in it is anything else.
const POLICY_OF_EVIDENCE: &str = "default-src 'none'; sandbox; frame-ancestors 'none'";

/// What all questions share.
pub(super) struct Site {
    state: State,
    project: PathBuf,
    port: u16,
    secret: String,
    /// How many events there are.
    events: watch::Receiver<u64>,
}

struct Answer {
    status: u16,
    kind: &'static str,
    policy: &'static str,
    body: Vec<u8>,
}

impl Answer {
    fn html(text: String) -> Self {
        Self { status: 200, kind: "text/html; charset=utf-8", policy: POLICY, body: text.into_bytes() }
    }

    /// Bytes of strangers.
    fn plain(mut body: Vec<u8>) -> Self {
        let whole = body.len();
        if whole > LONGEST {
            body.truncate(LONGEST);
            body.extend_from_slice(
                format!("\n… cut here; it is {whole} bytes long, and cofferdam evidence show prints all of it\n").as_bytes(),
            );
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        Self { status: 200, kind: "text/plain; charset=utf-8", policy: POLICY_OF_EVIDENCE, body: text.into_bytes() }
    }

    fn own(kind: &'static str, text: &str) -> Self {
        Self { status: 200, kind, policy: POLICY, body: text.as_bytes().to_vec() }
    }

    fn refused(Refused(status, why): Refused) -> Self {
        Self { status, policy: POLICY_OF_EVIDENCE, ..Self::plain(format!("{why}\n").into_bytes()) }
    }

    fn head(&self, length: Option<usize>) -> String {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            421 => "Misdirected Request",
            _ => "Internal Server Error",
        };
        let allow = if self.status == 405 { "Allow: GET\r\n" } else { "" };
        let length = length.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
        format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\n{length}{allow}Connection: close\r\nCache-Control: no-store\r\n\
             Content-Security-Policy: {}\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
             Cross-Origin-Resource-Policy: same-origin\r\nCross-Origin-Opener-Policy: same-origin\r\nX-Frame-Options: DENY\r\n\r\n",
            self.status, self.kind, self.policy
        )
    }
}

/// Serves until `over` comes. The address is told before the first question is taken.
///
/// # Errors
/// When nobody can listen on that port.
pub(super) async fn serve(
    state: State,
    project: PathBuf,
    port: u16,
    told: impl FnOnce(&str),
    over: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)).await?;
    let port = listener.local_addr()?.port();
    let secret = secret()?;
    let (sender, events) = watch::channel(0);
    let site = Arc::new(Site { state: state.clone(), project, port, secret, events });
    told(&format!("http://127.0.0.1:{port}/{}/", site.secret));
    let looker = tokio::spawn(look(state, sender));
    let slots = Arc::new(Semaphore::new(MOST));
    let mut connections = tokio::task::JoinSet::new();
    tokio::pin!(over);
    loop {
        tokio::select! {
            () = &mut over => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Whoever comes when all places are taken is sent away, and not left waiting.
                    if let Ok(slot) = slots.clone().try_acquire_owned() {
                        let site = site.clone();
                        connections.spawn(async move {
                            drop(answer(&site, stream).await);
                            drop(slot);
                        });
                    }
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
    looker.abort();
    connections.shutdown().await;
    Ok(())
}

/// 128 bits that no other page and no other user of this machine knows.
fn secret() -> io::Result<String> {
    use std::io::Read;
    let mut bytes = [0; 16];
    fs_err::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(crate::base::id::hex_text(&bytes))
}

/// Looks whether something happened, for everybody who follows.
async fn look(state: State, sender: watch::Sender<u64>) {
    loop {
        tokio::time::sleep(LOOK).await;
        if sender.receiver_count() < 2 {
            continue;
        }
        let state = state.clone();
        let count = tokio::task::spawn_blocking(move || Some(state.store().ok()??.overview().ok()?.events)).await;
        if let Ok(Some(count)) = count {
            sender.send_if_modified(|known| std::mem::replace(known, count) != count);
        }
    }
}

/// One connection: one question, one answer.
async fn answer(site: &Arc<Site>, mut stream: TcpStream) -> io::Result<()> {
    let asked = match timeout(PATIENCE, question(site, &mut stream)).await {
        Ok(asked) => asked?,
        Err(_) => return Ok(()),
    };
    let answer = match asked {
        Ok(Route::News) => return follow(site, stream).await,
        Ok(route) => {
            let site = site.clone();
            tokio::task::spawn_blocking(move || shown(&site, &route)).await.unwrap_or(Answer::refused(Refused(500, "it broke")))
        }
        Err(refused) => Answer::refused(refused),
    };
    let mut bytes = answer.head(Some(answer.body.len())).into_bytes();
    bytes.extend_from_slice(&answer.body);
    match timeout(PATIENCE, stream.write_all(&bytes)).await {
        Ok(written) => written?,
        Err(_) => return Ok(()),
    }
    // What they still say is read and dropped, so that the answer is not lost with a reset.
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    let end = async { while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {} };
    drop(timeout(Duration::from_secs(1), end).await);
    Ok(())
}

async fn question(site: &Site, stream: &mut TcpStream) -> io::Result<Result<Route, Refused>> {
    let mut bytes = Vec::new();
    let mut looked = 0;
    let bad = Refused(400, "this is no question");
    loop {
        match http1::head_end(&bytes, looked) {
            Ok(Some(end)) => {
                let head = bytes.get(..end).unwrap_or_default();
                return Ok(http1::request(head).map_err(|_| bad).and_then(|head| route(&head, site.port, &site.secret)));
            }
            Ok(None) if bytes.len() < LONGEST_HEAD => {}
            _ => return Ok(Err(bad)),
        }
        looked = bytes.len();
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
    }
}

/// Server-sent events: a line with the number of events whenever it changed.
async fn follow(site: &Site, mut stream: TcpStream) -> io::Result<()> {
    let head = Answer::own("text/event-stream", "").head(None);
    stream.write_all(head.as_bytes()).await?;
    let mut events = site.events.clone();
    events.mark_unchanged();
    let mut nothing = [0; 256];
    loop {
        let line = tokio::select! {
            changed = events.changed() => match changed {
                Ok(()) => format!("data: {}\n\n", *events.borrow_and_update()),
                Err(_) => return Ok(()),
            },
            () = tokio::time::sleep(PULSE) => ":\n\n".to_owned(),
            // They have nothing more to say; what they say is not kept.
            read = stream.read(&mut nothing) => match read {
                Ok(0) | Err(_) => return Ok(()),
                Ok(_) => continue,
            },
        };
        match timeout(PATIENCE, stream.write_all(line.as_bytes())).await {
            Ok(written) => written?,
            Err(_) => return Ok(()),
        }
    }
}

fn shown(site: &Site, route: &Route) -> Answer {
    let root = format!("/{}/", site.secret);
    let shown = match route {
        Route::Overview => overview(site, &root).map(Some),
        Route::Story(id) => of_story(site, &root, id),
        Route::Diff(id) => diff(site, id),
        Route::Evidence(id) => {
            let store = site.state.store();
            store.map(|store| Some(Answer::plain(store?.evidence().read(id).ok()?)))
        }
        Route::Style => Ok(Some(Answer::own("text/css; charset=utf-8", include_str!("style.css")))),
        Route::Script => Ok(Some(Answer::own("text/javascript; charset=utf-8", include_str!("follow.js")))),
        Route::News => Ok(None),
    };
    match shown {
        Ok(Some(answer)) => answer,
        Ok(None) => Answer::refused(Refused(404, "there is nothing here")),
        // What is wrong is for the person at the terminal, and may name paths.
        Err(_) => Answer::refused(Refused(500, "it cannot be read; cofferdam status says why")),
    }
}

fn news(site: &Site, story: Option<&StoryId>) -> Result<Vec<Stored>, Failure> {
    let mut news = Vec::new();
    if let Some(store) = site.state.store()? {
        let filter = Filter { since: 0, story: story.cloned(), last: Some(NEWS) };
        let read = store.events(&filter, |stored| {
            news.push(stored);
            ControlFlow::Continue(())
        });
        read.map_err(state::failure)?;
    }
    Ok(news)
}

fn overview(site: &Site, root: &str) -> Result<Answer, Failure> {
    let runner = site.state.runner()?;
    let (overview, rows) = match site.state.store()? {
        Some(store) => (store.overview().map_err(state::failure)?, store.stories().map_err(state::failure)?),
        None => Default::default(),
    };
    let project = site.project.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let news = news(site, None)?;
    let seen = page::Seen { project: &project, runner: &runner, overview: &overview, rows: &rows, news: &news, now: state::now() };
    Ok(Answer::html(page::overview(root, &seen)))
}

fn of_story(site: &Site, root: &str, id: &StoryId) -> Result<Option<Answer>, Failure> {
    let Some(store) = site.state.store()? else { return Ok(None) };
    let Some(story) = store.story(id).map_err(state::failure)? else { return Ok(None) };
    let because = why::of(&store, &story, &site.state.runner()?)?;
    let shown = Shown::of(Some(&store), story)?;
    Ok(Some(Answer::html(page::story(root, &shown, &because, &news(site, Some(id))?))))
}

fn diff(site: &Site, id: &StoryId) -> Result<Option<Answer>, Failure> {
    let Some(store) = site.state.store()? else { return Ok(None) };
    let Some(story) = store.story(id).map_err(state::failure)? else { return Ok(None) };
    let patch = || {
        let change = story.change()?;
        let repository = Repository::discover(&site.project).ok()?;
        repository.patch_between(change.base.as_str().parse().ok()?, change.commit.as_str().parse().ok()?).ok()
    };
    Ok(patch().map(Answer::plain))
}
