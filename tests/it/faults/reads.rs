//! What an operator reads through the proxy: what it was told in which order, and the one thing that goes wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::{StreamExt, TryStreamExt, stream};
use http::{Method, Uri};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;

use super::journal::{Entry, Journal, Look, Moment};

/// What the operator watches.
pub const WATCHED: [&str; 9] = [
    "flywheelpipelines",
    "flywheelruns",
    "modelversions",
    "rollouts",
    "biaspolicies",
    "approvals",
    "jobs",
    "deployments",
    "pods",
];

/// So long a frozen watch says nothing: longer than a few steps of a story take.
const FROZEN: Duration = Duration::from_secs(10);
/// The API server forgets old versions at the next event, or after so long without one.
const FORGETS: Duration = Duration::from_secs(2);

/// What happens to an event of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It and all that follow are held back for a while; the connection stays open.
    Late,
    /// It and all that follow are never told; the connection stays open.
    Never,
    /// The watch ends in order before it is told, and when the operator asks for it again there is no answer.
    Unanswered,
    /// It alone is not told.
    Not,
    /// It is not told, and instead of the next one the watch is refused as too old.
    NotAndGone,
    /// It is told twice.
    Twice,
    /// The connection is cut in the middle of it.
    Half,
    /// All watches end in order before it is told, and so do all connections, as when an API server goes away. The client
    /// speaks HTTP/1.1, where this is what GOAWAY is for HTTP/2.
    GoneAway,
    /// The operator dies, and its successor's first list of this kind is that of just before it; what came since is told
    /// late.
    LaterThanBefore,
    /// The same with the list of the very beginning.
    LaterThanBegun,
}

/// What happens to a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It is refused with this code.
    With(u16),
    /// It is never answered.
    Never,
    /// What was so when it was asked is told late.
    Late,
    /// Its answer is cut off.
    Half,
}

/// The one thing that goes wrong in a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Twist {
    /// With an event.
    Event(Moment, Told),
    /// With a read.
    Read(Look, Answered),
}

/// What is asked for.
pub enum Asked {
    /// All that changes.
    Watch(String),
    /// All that exists, before it is watched.
    First(String),
    /// What is so now.
    Live(String),
    /// What is no object of a story.
    Other,
}

/// What went through, and what is to go wrong.
pub struct Reads {
    state: Mutex<State>,
    /// How all watches have to end.
    end: watch::Sender<End>,
    /// Held once more by each request that hangs.
    hanging: Arc<()>,
}

/// How a watch has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// When its time is over.
    Late,
    /// Now, in order, and with it the connection.
    Away,
    /// Now, because the API server does not know what came before.
    Forgotten,
}

#[derive(Default)]
struct State {
    twist: Option<Twist>,
    committed: bool,
    writes: usize,
    journal: Vec<Entry>,
    told: BTreeMap<(String, String), usize>,
    /// The first and the last version of each kind that were told.
    versions: BTreeMap<String, (String, String)>,
    /// The kind of which the next first list is an old one, and its version.
    past: Option<(String, String)>,
    /// The kind whose next watch tells late.
    late: Option<String>,
    watched: BTreeSet<String>,
    /// The kind whose next watch is not answered.
    silent: Option<String>,
}

/// The kind in a path, and the name, if it has one.
fn object(path: &str) -> Option<(&str, Option<&str>)> {
    let mut rest = path.split('/').skip_while(|part| *part != "namespaces").skip(2);
    Some((rest.next()?, rest.next()))
}

/// The kind in a path.
pub fn kind(path: &str) -> Option<&str> {
    object(path).map(|(kind, _)| kind)
}

/// What a request asks for.
pub fn asked(method: &Method, uri: &Uri) -> Asked {
    let query = uri.query().unwrap_or_default();
    let kind = kind(uri.path()).filter(|kind| *kind == "controllerrevisions" || WATCHED.contains(kind));
    match kind.map(str::to_owned) {
        Some(kind) if *method == Method::GET => {
            let has = |field: &str| query.split('&').any(|part| part.starts_with(field));
            if has("watch=true") {
                Asked::Watch(kind)
            } else if has("limit=") {
                // Those who watch ask for pages, those who decide for everything.
                Asked::First(kind)
            } else {
                Asked::Live(kind)
            }
        }
        _ => Asked::Other,
    }
}

/// What an event that is too old is told as.
fn gone() -> Bytes {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 410,
        "reason": "Expired", "message": "too old resource version: a fault of the test" });
    Bytes::from(format!("{}\n", json!({ "type": "ERROR", "object": status })))
}

fn cut() -> std::io::Error {
    std::io::Error::other("cut")
}

/// A body that is cut off after the first bytes.
pub fn half(body: Bytes) -> Body {
    let first = body.slice(..body.len() / 2);
    Body::from_stream(stream::iter([Ok(first), Err(cut())]))
}

impl Reads {
    /// Nothing has been read yet.
    pub fn new(twist: Option<Twist>) -> Self {
        let state = State {
            twist,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            end: watch::Sender::new(End::Late),
            hanging: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether everything is watched.
    pub fn all_watched(&self) -> bool {
        let watched = &self.state().watched;
        WATCHED.iter().all(|kind| watched.contains(*kind))
    }

    /// What happened in which order.
    pub fn journal(&self) -> Journal {
        Journal(self.state().journal.clone())
    }

    /// Whether something went wrong as planned.
    pub fn committed(&self) -> bool {
        self.state().committed
    }

    /// A write comes.
    pub fn wrote(&self, path: &str) {
        let mut state = self.state();
        state.writes += 1;
        let kind = kind(path).unwrap_or_default().to_owned();
        state.journal.push(Entry::Write(kind));
    }

    /// Whether connections are closed after their answers.
    pub fn closes(&self) -> bool {
        *self.end.borrow() == End::Away
    }

    /// Whether it does not know what has happened, without that anybody told it so.
    pub fn is_ignorant(&self) -> bool {
        let state = self.state();
        state.committed && matches!(state.twist, Some(Twist::Event(_, Told::Not)))
    }

    /// A request that hangs for as long as this is held.
    pub fn hang(&self) -> Arc<()> {
        Arc::clone(&self.hanging)
    }

    /// Whether somebody still waits for an answer that comes late or never.
    pub fn hangs(&self) -> bool {
        Arc::strong_count(&self.hanging) > 1
    }

    /// From now on all is told anew.
    pub fn forget(&self) {
        self.end.send_replace(End::Forgotten);
    }

    /// A live read comes; says what goes wrong with it.
    pub fn looked(&self, kind: &str) -> Option<Answered> {
        let mut state = self.state();
        let look = Look {
            after: state.writes,
            kind: kind.to_owned(),
        };
        let fault = match &state.twist {
            // Of two that are woken at once only one reads: then the next read of that kind is hit.
            Some(Twist::Read(at, fault)) if at.is_reached_by(&look) && !state.committed => Some(*fault),
            _ => None,
        };
        state.committed |= fault.is_some();
        state.journal.push(Entry::Read(look));
        fault
    }

    /// Whence a first list comes, if from the past.
    pub fn first(&self, uri: &Uri, kind: &str) -> Option<Uri> {
        let mut state = self.state();
        let (_, version) = state.past.take_if(|(of, _)| of == kind)?;
        state.late = Some(kind.to_owned());
        let query = uri.query().unwrap_or_default();
        let old = format!(
            "{}?{query}&resourceVersion={version}&resourceVersionMatch=Exact",
            uri.path()
        );
        Some(old.parse().expect("a URI"))
    }

    /// A first list was answered.
    pub fn listed(&self, kind: &str, body: &[u8]) {
        let list: Value = serde_json::from_slice(body).unwrap_or_default();
        if let Some(version) = list["metadata"]["resourceVersion"].as_str() {
            self.state().version(kind, version);
        }
    }

    /// Whether a watch is not answered.
    pub fn is_silent(&self, kind: &str) -> bool {
        self.state().silent.take_if(|of| of == kind).is_some()
    }

    /// The events of a watch, as far and as early as they are told.
    pub fn watch(self: &Arc<Self>, kind: String, body: Body, die: impl FnOnce() + Send + 'static) -> Body {
        let (sender, receiver) = channel(1);
        let late = self.state().late.take_if(|of| *of == kind).is_some();
        self.state().watched.insert(kind.clone());
        let tell = Tell {
            reads: self.clone(),
            end: self.end.subscribe(),
            kind,
            to: sender,
        };
        tokio::spawn(async move {
            if late {
                tokio::time::sleep(FROZEN).await;
            }
            tell.all(lines(body), die).await;
        });
        let told = |mut receiver: Receiver<_>| async { receiver.recv().await.map(|item| (item, receiver)) };
        Body::from_stream(stream::unfold(receiver, told))
    }

    /// An event comes; says what goes wrong with it.
    fn event(&self, kind: &str, line: &[u8]) -> Option<Told> {
        let event: Value = serde_json::from_slice(line).unwrap_or_default();
        let metadata = &event["object"]["metadata"];
        let version = metadata["resourceVersion"].as_str().unwrap_or_default();
        let mut state = self.state();
        if event["type"] == "BOOKMARK" || event["type"] == "ERROR" {
            return None;
        }
        let name = masked(kind, metadata["name"].as_str().unwrap_or_default());
        let count = state.told.entry((kind.to_owned(), name.clone())).or_default();
        *count += 1;
        let moment = Moment {
            kind: kind.to_owned(),
            name,
            nth: *count,
        };
        let fault = match &state.twist {
            Some(Twist::Event(at, fault)) if *at == moment && !state.committed => Some(*fault),
            _ => None,
        };
        if let Some(fault) = fault {
            state.committed = true;
            state.silent = (fault == Told::Unanswered).then(|| kind.to_owned());
            let versions = state.versions.get(kind).cloned();
            state.past = versions.and_then(|(first, last)| match fault {
                Told::LaterThanBefore => Some((kind.to_owned(), last)),
                Told::LaterThanBegun => Some((kind.to_owned(), first)),
                _ => None,
            });
        }
        state.version(kind, version);
        state.journal.push(Entry::Event(moment));
        fault
    }
}

impl State {
    fn version(&mut self, kind: &str, version: &str) {
        let both = (version.to_owned(), version.to_owned());
        let (_, last) = self.versions.entry(kind.to_owned()).or_insert(both);
        version.clone_into(last);
    }
}

/// The name of an object without what differs from history to history: hashes of UIDs, and chance.
fn masked(kind: &str, name: &str) -> String {
    let parts = match kind {
        "jobs" => 1,
        "pods" => 2,
        _ => 0,
    };
    let mut name = name;
    for _ in 0..parts {
        name = name.rsplit_once('-').map_or(name, |(before, _)| before);
    }
    name.to_owned()
}

type Lines = stream::BoxStream<'static, Bytes>;

/// A body line by line, up to its end or until it breaks off.
fn lines(body: Body) -> Lines {
    let pieces = body.into_data_stream().map_err(drop).boxed();
    let line = |(mut pieces, mut rest): (stream::BoxStream<'static, Result<Bytes, ()>>, Vec<u8>)| async move {
        loop {
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let after = rest.split_off(end + 1);
                return Some((Bytes::from(rest), (pieces, after)));
            }
            rest.extend_from_slice(&pieces.next().await?.ok()?);
        }
    };
    stream::unfold((pieces, Vec::new()), line).boxed()
}

/// Tells the events of one watch.
struct Tell {
    reads: Arc<Reads>,
    end: watch::Receiver<End>,
    kind: String,
    to: Sender<Result<Bytes, std::io::Error>>,
}

impl Tell {
    async fn say(&self, line: Bytes) -> Option<()> {
        self.to.send(Ok(line)).await.ok()
    }

    /// Tells them until nobody listens, they end, or they have to.
    async fn all(mut self, mut lines: Lines, die: impl FnOnce()) -> Option<()> {
        loop {
            let line = tokio::select! {
                line = lines.next() => line?,
                _ = self.end.changed() => {
                    let forgotten = *self.end.borrow() == End::Forgotten;
                    return if forgotten { self.say(gone()).await } else { None };
                }
                () = self.to.closed() => return None,
            };
            match self.reads.event(&self.kind, &line) {
                None => self.say(line).await?,
                Some(Told::Late) => {
                    tokio::time::sleep(FROZEN).await;
                    self.say(line).await?;
                }
                Some(Told::Never) => {
                    self.to.closed().await;
                    return None;
                }
                Some(Told::Not) => {}
                Some(Told::Unanswered) => return None,
                Some(Told::NotAndGone) => {
                    let _ = tokio::time::timeout(FORGETS, lines.next()).await;
                    return self.say(gone()).await;
                }
                Some(Told::Twice) => {
                    self.say(line.clone()).await?;
                    self.say(line).await?;
                }
                Some(Told::Half) => {
                    self.say(line.slice(..line.len() / 2)).await?;
                    return self.to.send(Err(cut())).await.ok();
                }
                Some(Told::GoneAway) => {
                    self.reads.end.send_replace(End::Away);
                    return None;
                }
                Some(Told::LaterThanBefore | Told::LaterThanBegun) => {
                    die();
                    self.to.closed().await;
                    return None;
                }
            }
        }
    }
}
