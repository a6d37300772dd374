//! Requests to a Service while something happens to its pods, bounded in number and time.
//!
//! Each request has a connection of its own, so that the Service chooses a pod for each of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::world::PATIENCE;

/// What was answered.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub requests: u32,
    /// Seconds since the beginning, and what went wrong.
    pub failures: Vec<(f32, String)>,
    /// Answers by model.
    pub answers: BTreeMap<String, u32>,
}

/// Requests that go on until they are stopped.
pub struct Traffic {
    tally: Arc<Mutex<Tally>>,
    users: JoinSet<()>,
    url: String,
}

/// Number of users, and how long each rests between two requests.
const BUSY: (usize, Duration) = (2, Duration::from_millis(60));
const GENTLE: (usize, Duration) = (1, Duration::from_millis(200));
/// A user who waits that long has left; the machine may be busy with everything else.
const LONGEST: Duration = Duration::from_secs(15);
/// A connection that was begun before the Service had a pod may never be answered: the first one is tried anew soon.
const FIRST: Duration = Duration::from_secs(2);
const MOST_SECONDS: u64 = 600;

impl Traffic {
    /// Waits for the first good answer and goes on from there.
    pub async fn start(url: &str) -> Self {
        Self::of(BUSY, url).await
    }

    /// The same with few requests, for tests of many Services.
    pub async fn gentle(url: &str) -> Self {
        Self::of(GENTLE, url).await
    }

    async fn of((count, pause): (usize, Duration), url: &str) -> Self {
        let end = Instant::now() + Duration::from_secs(400);
        while let Err(why) = ask(url, FIRST).await {
            assert!(Instant::now() < end, "{url} does not answer: {why}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let tally = Arc::new(Mutex::new(Tally::default()));
        let mut users = JoinSet::new();
        for _ in 0..count {
            users.spawn(user(url.to_owned(), pause, tally.clone()));
        }
        let url = url.to_owned();
        Self { tally, users, url }
    }

    /// Waits until this model answers.
    pub async fn until_answered_by(&self, model: &str, seconds: u64) {
        let seconds = seconds * PATIENCE;
        let before = self.seen(model);
        let end = Instant::now() + Duration::from_secs(seconds);
        while self.seen(model) == before {
            assert!(
                Instant::now() < end,
                "{}: no answer of {model} within {seconds} s: {:?}",
                self.url,
                self.so_far()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn seen(&self, model: &str) -> u32 {
        self.so_far().answers.get(model).copied().unwrap_or(0)
    }

    /// What was answered so far.
    pub fn so_far(&self) -> Tally {
        self.tally.lock().expect("no user panics").clone()
    }

    /// Stops and says what was answered.
    pub async fn stop(mut self) -> Tally {
        self.users.shutdown().await;
        self.so_far()
    }

    /// Stops; fails if a request failed, or if another model than these answered, or one of these did not.
    pub async fn expect_only(self, models: &[&str]) -> Tally {
        let url = self.url.clone();
        let tally = self.stop().await;
        assert!(tally.failures.is_empty(), "{url}: requests failed: {tally:?}");
        let found: Vec<&str> = tally.answers.keys().map(String::as_str).collect();
        let mut expected = models.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected, "{url}: {tally:?}");
        tally
    }
}

async fn user(url: String, pause: Duration, tally: Arc<Mutex<Tally>>) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(MOST_SECONDS) {
        let answer = ask(&url, LONGEST).await;
        {
            let mut tally = tally.lock().expect("no user panics");
            tally.requests += 1;
            match answer {
                Ok(model) => *tally.answers.entry(model).or_default() += 1,
                Err(why) => tally.failures.push((begun.elapsed().as_secs_f32(), why)),
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// The model that answers, or what went wrong, and on which connection.
async fn ask(url: &str, longest: Duration) -> Result<String, String> {
    let end = tokio::time::Instant::now() + longest;
    let uri: http::Uri = url.parse().expect("a URL");
    let host = uri.host().expect("an address");
    let to = SocketAddr::new(host.parse().expect("an address"), uri.port_u16().unwrap_or(80));
    let late = |what: &str| format!("no {what} within {} s", longest.as_secs());

    let stream = timeout_at(end, TcpStream::connect(to))
        .await
        .map_err(|_| format!("{}; the node: {:?}", late("connection"), unanswered(to)))?
        .map_err(|error| format!("no connection: {error}"))?;
    let from = stream.local_addr().map_err(|error| error.to_string())?;
    let asked = async {
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        let answered = async move {
            let ask = Request::get("/").header(http::header::HOST, host);
            let answer = sender
                .send_request(ask.body(Empty::<hyper::body::Bytes>::new()).expect("a request"))
                .await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            drop(sender);
            Ok::<_, hyper::Error>((status, String::from_utf8_lossy(&body).into_owned()))
        };
        // The connection lives as long as its one request.
        let (answer, _) = tokio::join!(answered, connection);
        answer
    };
    match timeout_at(end, asked).await {
        Ok(Ok((status, model))) if status.is_success() => Ok(model),
        Ok(Ok((status, model))) => Err(format!("{status} from {model}")),
        Ok(Err(error)) => Err(format!("from {from}: {error}")),
        Err(_) => Err(format!("from {from}: {}", late("answer"))),
    }
}

/// What a node on this machine made of connections to that address that nobody answered: where it sent them.
fn unanswered(to: SocketAddr) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let of_a_node = |path: &std::path::Path| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim_end() == "kube-proxy")
    };
    let tables = processes.map(|entry| entry.path()).filter(|path| of_a_node(path));
    let table = |path: std::path::PathBuf| std::fs::read_to_string(path.join("net/nf_conntrack")).unwrap_or_default();
    let wanted = format!("dst={} ", to.ip());
    let lost = |line: &&str| line.contains(&wanted) && line.contains("[UNREPLIED]");
    tables
        .map(table)
        .flat_map(|text| text.lines().filter(lost).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}
