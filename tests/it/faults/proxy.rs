//! What stands between an operator and the API server, and lets a chosen write or read go wrong.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::late::Held;
use super::process::Process;
use super::reads::{Answered, Asked, Reads, Twist, asked, half};

/// What happens to one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operator dies, and the API server never sees the write.
    KilledBefore,
    /// The operator dies while the write is on its way.
    KilledDuring,
    /// The operator dies after the write, before it has the answer.
    KilledAfter,
    /// The write is made, and its answer is lost.
    Lost,
    /// The write is not made, and the connection is cut: to the operator it looks as the one before.
    Cut,
    /// The write is made, and the answer is that there was no answer in time.
    AppliedButLate,
    /// The write is not made; the answer has this code.
    Refused(u16),
    /// The write is made after a while, and then answered.
    Delayed,
    /// The write is not made, and there is never an answer: the operator has to give it up.
    Hangs,
}

/// What goes wrong in a history.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The n-th writes.
    pub writes: Vec<(usize, Fault)>,
    /// One thing that is read.
    pub read: Option<Twist>,
    /// Writes that are kept on their way until the test lets them go.
    pub held: Vec<Arc<Held>>,
}

impl Plan {
    /// How many things go wrong in it.
    pub fn faults(&self) -> usize {
        self.writes.len() + usize::from(self.read.is_some())
    }
}

/// So late comes an answer that is late.
const LATE: Duration = Duration::from_secs(5);
/// So late comes a write that is late: others look at the same objects meanwhile.
const DELAY: Duration = Duration::from_secs(2);
/// So many seconds the API server wants to be left alone by whose request it throttled.
const THROTTLED: u64 = 3;
/// Objects are small; anything larger than this is no write of the operator and no list that it asks for.
const LARGEST: usize = 4 << 20;

type Upstream = Client<HttpsConnector<HttpConnector>, Body>;

/// The proxy; it stops, and its operator with it, when it is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    _tasks: Vec<Stop>,
}

struct Shared {
    upstream: Upstream,
    server: Uri,
    deaths: UnboundedSender<()>,
    book: Mutex<Book>,
    reads: Arc<Reads>,
    held: Vec<Arc<Held>>,
    /// While this is true no write of a lease reaches the API server.
    holds_leases: watch::Sender<bool>,
}

/// What went through.
#[derive(Default)]
struct Book {
    writes: usize,
    plan: Vec<(usize, Fault)>,
    committed: usize,
    made: Vec<String>,
    /// What the API server said to writes of a lease that were held.
    held: Vec<StatusCode>,
    /// Until when statuses are not to be written, which only the controller of their kind does.
    throttled: HashMap<String, Instant>,
    /// Those that were written before.
    hasty: Vec<String>,
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Proxy {
    /// An operator for this namespace for which things go wrong as planned; it is started again whenever it dies.
    pub async fn start(namespace: &str, plan: Plan) -> Self {
        let (mut proxy, address, mut died) = Self::listen(plan).await;
        let namespace = namespace.to_owned();
        let task = tokio::spawn(async move {
            let mut operator = Process::start(&namespace, address);
            while died.recv().await.is_some() {
                drop(operator);
                operator = Process::start(&namespace, address);
            }
        });
        proxy._tasks.push(Stop(task));
        proxy
    }

    /// A proxy alone: its address, and who is told that the operator behind it has to die.
    pub async fn listen(plan: Plan) -> (Self, SocketAddr, UnboundedReceiver<()>) {
        let config = super::process::config().await;
        let https = config
            .rustls_https_connector()
            .expect("the API server's certificate is known");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (deaths, died) = unbounded_channel();
        let shared = Arc::new(Shared {
            upstream: Client::builder(TokioExecutor::new()).build(https),
            server: config.cluster_url,
            deaths,
            book: Mutex::new(Book {
                plan: plan.writes,
                ..Book::default()
            }),
            reads: Arc::new(Reads::new(plan.read)),
            held: plan.held,
            holds_leases: watch::Sender::new(false),
        });
        let routes = Router::new().fallback(serve).with_state(shared.clone());
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, routes).await;
        });
        let tasks = vec![Stop(serving)];
        (Self { shared, _tasks: tasks }, address, died)
    }

    /// What is read through it.
    pub fn reads(&self) -> &Reads {
        &self.shared.reads
    }

    /// Waits until the operator watches everything.
    pub async fn begun(&self) {
        let watched = || async { self.shared.reads.all_watched().then_some(()) };
        crate::world::until("everything is watched", 60 * crate::world::PATIENCE, watched).await;
    }

    /// Keeps writes of leases from the API server, or lets them go, those that hang included.
    pub fn hold_leases(&self, hold: bool) {
        self.shared.holds_leases.send_replace(hold);
    }

    /// What the API server said to the writes of leases that were held.
    pub fn held(&self) -> Vec<StatusCode> {
        lock(&self.shared.book).held.clone()
    }

    /// How many writes were tried.
    pub fn writes(&self) -> usize {
        lock(&self.shared.book).writes
    }

    /// Statuses that were written before the API server wanted it.
    pub fn hasty(&self) -> Vec<String> {
        lock(&self.shared.book).hasty.clone()
    }

    /// How many faults were committed.
    pub fn committed(&self) -> usize {
        lock(&self.shared.book).committed + usize::from(self.shared.reads.committed())
    }

    /// What was created and deleted, as method and path with the names of those that were created, in alphabetical
    /// order. A snapshot is named by its content: should its pipeline's deletion take it away while its run still works,
    /// it is made again, and goes the same way.
    pub fn made(&self) -> Vec<String> {
        let mut made = lock(&self.shared.book).made.clone();
        made.sort();
        made.dedup_by(|a, b| a == b && a.contains("/controllerrevisions"));
        made
    }
}

/// Ends a task with its owner.
struct Stop(JoinHandle<()>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Events say what happened and leases are not used: neither counts as a write.
fn is_write(method: &Method, path: &str) -> bool {
    let writes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let silent = ["/events", "/leases", "reviews"];
    writes.contains(method) && !silent.iter().any(|word| path.contains(word))
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let sent = Sent {
        body: to_bytes(body, LARGEST).await.unwrap_or_default(),
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
    };
    let mut response = if is_write(&sent.method, &path) {
        shared.write(sent).await
    } else if sent.method == Method::PATCH && path.contains("/leases") {
        shared.lease(sent).await
    } else {
        shared.read(sent).await
    };
    if shared.reads.closes() {
        let close = header::HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// A request on its way.
struct Sent {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

/// What the API server says with such a code.
fn refusal(code: u16) -> Response {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": "Injected", "message": "a fault of the test" });
    let mut response = Response::new(Body::from(status.to_string()));
    *response.status_mut() = StatusCode::from_u16(code).expect("a code");
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    if code == 429 {
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from(THROTTLED));
    }
    response
}

impl Book {
    /// The operator is told to wait before it writes there again.
    fn throttle(&mut self, path: &str) {
        if path.ends_with("/status") {
            let until = Instant::now() + Duration::from_secs(THROTTLED);
            self.throttled.insert(path.to_owned(), until);
        }
    }

    /// A write comes.
    fn comes(&mut self, path: &str) {
        let until = self.throttled.remove(path);
        if let Some(left) = until.and_then(|until| until.checked_duration_since(Instant::now())) {
            self.hasty.push(format!("{path}, {left:?} too early"));
        }
    }

    /// Counts a write; says what is to happen to it.
    fn next(&mut self) -> Option<Fault> {
        self.writes += 1;
        let now = self.writes;
        let fault = self.plan.iter().find(|(at, _)| *at == now).map(|(_, fault)| *fault);
        self.committed += usize::from(fault.is_some());
        fault
    }
}

impl Shared {
    /// The operator dies now; nobody is left who could read an answer.
    async fn kill(&self) -> Response {
        let _ = self.deaths.send(());
        std::future::pending().await
    }

    async fn write(self: &Arc<Self>, sent: Sent) -> Response {
        if let Some(held) = self.held.iter().find(|held| held.is(&sent.method, sent.uri.path())) {
            return self.keep(held.clone(), sent).await;
        }
        self.reads.wrote(sent.uri.path());
        let fault = {
            let mut book = lock(&self.book);
            book.comes(sent.uri.path());
            let fault = book.next();
            if fault == Some(Fault::Refused(429)) {
                book.throttle(sent.uri.path());
            }
            fault
        };
        match fault {
            None => self.carry(sent).await.unwrap_or_else(|_| refusal(503)),
            Some(Fault::KilledBefore) => self.kill().await,
            Some(Fault::KilledDuring) => {
                self.carry(sent);
                self.kill().await
            }
            Some(Fault::KilledAfter) => {
                let _ = self.carry(sent).await;
                self.kill().await
            }
            Some(lost @ (Fault::Lost | Fault::Cut)) => {
                if lost == Fault::Lost {
                    let _ = self.carry(sent).await;
                }
                // An answer that breaks off is what a cut connection looks like.
                Response::new(half(Bytes::new()))
            }
            Some(Fault::AppliedButLate) => {
                let _ = self.carry(sent).await;
                refusal(504)
            }
            Some(Fault::Refused(code)) => refusal(code),
            Some(Fault::Delayed) => {
                let _pending = self.reads.hang();
                tokio::time::sleep(DELAY).await;
                self.carry(sent).await.unwrap_or_else(|_| refusal(503))
            }
            Some(Fault::Hangs) => {
                // Until the operator hangs up, which ends this.
                let _pending = self.reads.hang();
                std::future::pending().await
            }
        }
    }

    /// Passes a write on and notes what came of it. Once it is on its way it goes on, also if who sent it dies meanwhile,
    /// by the fault of another write.
    fn carry(self: &Arc<Self>, sent: Sent) -> JoinHandle<Response> {
        let shared = self.clone();
        tokio::spawn(async move {
            let (method, path) = (sent.method.clone(), sent.uri.path().to_owned());
            let (parts, body) = shared.forward(sent).await.into_parts();
            let body = whole(body).await;
            shared.note(&method, &path, parts.status, &body);
            Response::from_parts(parts, Body::from(body))
        })
    }

    /// A write that is kept on its way. It arrives also if nobody waits for its answer any more.
    async fn keep(self: &Arc<Self>, held: Arc<Held>, sent: Sent) -> Response {
        let shared = self.clone();
        let late = tokio::spawn(async move {
            held.freed().await;
            let answer = shared.forward(sent).await;
            held.answered(answer.status());
            answer
        });
        late.await.unwrap_or_else(|_| refusal(503))
    }

    /// A write of a lease, which may have to wait. It goes its way also if nobody waits for its answer any more.
    async fn lease(self: &Arc<Self>, sent: Sent) -> Response {
        let mut holds = self.holds_leases.subscribe();
        if !*holds.borrow() {
            return self.forward(sent).await;
        }
        let shared = self.clone();
        let late = tokio::spawn(async move {
            let _ = holds.wait_for(|holds| !holds).await;
            let answer = shared.forward(sent).await;
            lock(&shared.book).held.push(answer.status());
            answer
        });
        late.await.unwrap_or_else(|_| refusal(503))
    }

    async fn read(self: &Arc<Self>, mut sent: Sent) -> Response {
        match asked(&sent.method, &sent.uri) {
            Asked::Other => self.forward(sent).await,
            Asked::Watch(kind) if self.reads.is_silent(&kind) => std::future::pending().await,
            Asked::Watch(kind) => {
                let deaths = self.deaths.clone();
                let die = move || {
                    let _ = deaths.send(());
                };
                let (parts, body) = self.forward(sent).await.into_parts();
                if parts.status != StatusCode::OK {
                    return Response::from_parts(parts, body);
                }
                Response::from_parts(parts, self.reads.watch(kind, body, die))
            }
            Asked::First(kind) => {
                if let Some(past) = self.reads.first(&sent.uri, &kind) {
                    sent.uri = past;
                }
                let (parts, body) = self.forward(sent).await.into_parts();
                let body = whole(body).await;
                self.reads.listed(&kind, &body);
                Response::from_parts(parts, Body::from(body))
            }
            Asked::Live(kind) => match self.reads.looked(&kind) {
                None => self.forward(sent).await,
                Some(Answered::With(code)) => refusal(code),
                Some(Answered::Never) => {
                    let _asked = self.reads.hang();
                    std::future::pending().await
                }
                Some(Answered::Late) => {
                    let (parts, body) = self.forward(sent).await.into_parts();
                    let body = whole(body).await;
                    tokio::time::sleep(LATE).await;
                    Response::from_parts(parts, Body::from(body))
                }
                Some(Answered::Half) => {
                    let (_, body) = self.forward(sent).await.into_parts();
                    Response::new(half(whole(body).await))
                }
            },
        }
    }

    async fn forward(&self, sent: Sent) -> Response {
        let mut to = self.server.clone().into_parts();
        to.path_and_query = sent.uri.path_and_query().cloned();
        let mut request = Request::new(Body::from(sent.body));
        *request.method_mut() = sent.method;
        *request.uri_mut() = Uri::from_parts(to).expect("a URI");
        *request.headers_mut() = sent.headers;
        request.headers_mut().remove(header::HOST);
        let Ok(answer) = self.upstream.request(request).await else {
            return refusal(503);
        };
        let (mut parts, body) = answer.into_parts();
        // How the body was cut into pieces is between the API server and us.
        parts.headers.remove(header::TRANSFER_ENCODING);
        Response::from_parts(parts, Body::new(body))
    }

    /// Remembers what came into being and what went.
    fn note(&self, method: &Method, path: &str, status: StatusCode, body: &[u8]) {
        if !status.is_success() || !(method == Method::POST || method == Method::DELETE) {
            return;
        }
        let object: Value = serde_json::from_slice(body).unwrap_or_default();
        let name = object["metadata"]["name"].as_str().filter(|_| method == Method::POST);
        let path = path.trim_start_matches("/apis/");
        lock(&self.book)
            .made
            .push(format!("{method} {path} {}", name.unwrap_or_default()));
    }
}

async fn whole(body: Body) -> Bytes {
    to_bytes(body, LARGEST).await.unwrap_or_default()
}

/// Where an operator finds the API server.
pub fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}
