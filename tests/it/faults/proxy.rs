//! What stands between an operator and the API server, and lets a chosen write go wrong.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

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
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::process::Process;

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
    /// The write is made, and the answer is that there was no answer in time.
    AppliedButLate,
    /// The write is not made; the answer has this code.
    Refused(u16),
}

/// Writes are small; anything larger than this is no write of the operator.
const LARGEST: usize = 4 << 20;

type Upstream = Client<HttpsConnector<HttpConnector>, Body>;

/// The proxy; it stops, and its operator with it, when it is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    upstream: Upstream,
    server: Uri,
    deaths: UnboundedSender<()>,
    book: Mutex<Book>,
}

/// What went through.
#[derive(Default)]
struct Book {
    writes: usize,
    plan: Vec<(usize, Fault)>,
    committed: usize,
    made: Vec<String>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Proxy {
    /// An operator for this namespace whose n-th writes go wrong as planned; it is started again whenever it dies.
    pub async fn start(namespace: &str, plan: Vec<(usize, Fault)>) -> Self {
        let config = super::process::config().await;
        let https = config
            .rustls_https_connector()
            .expect("the API server's certificate is known");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (deaths, mut died) = unbounded_channel();
        let shared = Arc::new(Shared {
            upstream: Client::builder(TokioExecutor::new()).build(https),
            server: config.cluster_url,
            deaths,
            book: Mutex::new(Book {
                plan,
                ..Book::default()
            }),
        });
        let routes = Router::new().fallback(serve).with_state(shared.clone());
        let namespace = namespace.to_owned();
        let task = tokio::spawn(async move {
            let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
            let _stop = Stop(serving);
            let mut operator = Process::start(&namespace, address);
            while died.recv().await.is_some() {
                drop(operator);
                operator = Process::start(&namespace, address);
            }
        });
        Self { shared, task }
    }

    /// How many writes were tried.
    pub fn writes(&self) -> usize {
        lock(&self.shared.book).writes
    }

    /// How many faults were committed.
    pub fn committed(&self) -> usize {
        lock(&self.shared.book).committed
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
struct Stop<T>(JoinHandle<T>);

impl<T> Drop for Stop<T> {
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
    let write = is_write(&parts.method, &path);
    let body = to_bytes(body, LARGEST).await.unwrap_or_default();
    let fault = write.then(|| lock(&shared.book).next()).flatten();
    let forward = {
        let shared = shared.clone();
        async move {
            shared
                .forward(parts.method, parts.uri, parts.headers, body, write)
                .await
        }
    };
    match fault {
        None => forward.await,
        Some(Fault::KilledBefore) => shared.kill().await,
        Some(Fault::KilledDuring) => {
            tokio::spawn(forward);
            shared.kill().await
        }
        Some(Fault::KilledAfter) => {
            forward.await;
            shared.kill().await
        }
        Some(Fault::Lost) => {
            forward.await;
            // An answer that breaks off is what a cut connection looks like.
            let broken = futures::stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut")) });
            Response::new(Body::from_stream(broken))
        }
        Some(Fault::AppliedButLate) => {
            forward.await;
            refusal(504)
        }
        Some(Fault::Refused(code)) => refusal(code),
    }
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
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    response
}

impl Book {
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

    async fn forward(&self, method: Method, uri: Uri, mut headers: HeaderMap, body: Bytes, write: bool) -> Response {
        headers.remove(header::HOST);
        let mut to = self.server.clone().into_parts();
        to.path_and_query = uri.path_and_query().cloned();
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = method.clone();
        *request.uri_mut() = Uri::from_parts(to).expect("a URI");
        *request.headers_mut() = headers;
        let Ok(answer) = self.upstream.request(request).await else {
            return refusal(503);
        };
        let (mut parts, body) = answer.into_parts();
        // How the body was cut into pieces is between the API server and us.
        parts.headers.remove(header::TRANSFER_ENCODING);
        if !write {
            return Response::from_parts(parts, Body::new(body));
        }
        let body = to_bytes(Body::new(body), LARGEST).await.unwrap_or_default();
        self.note(&method, uri.path(), parts.status, &body);
        Response::from_parts(parts, Body::from(body))
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

/// Where an operator finds the API server.
pub fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}
