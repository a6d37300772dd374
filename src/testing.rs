//! An API server that answers what a test dictates, and keeps what it was sent.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use flywheel_engine::settings::Settings;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::context::Context;
use crate::health::Health;
use crate::metrics::Metrics;

/// A status code for a request that is never answered.
pub const NO_ANSWER: u16 = 0;

/// What was sent: method, path and query, body.
pub type Sent = (Method, String, Value);

/// The last part of the path: the name of the object that was asked for or written.
pub fn name(sent: &Sent) -> &str {
    let path = sent.1.split('?').next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default()
}

/// The requests that arrived.
#[derive(Clone, Default)]
pub struct Server(Arc<Mutex<Vec<Sent>>>);

impl Server {
    /// A client of a server with these answers, as status code and body.
    pub fn client(&self, answer: impl Fn(&Sent) -> (u16, Value) + Clone + Send + Sync + 'static) -> Client {
        let sent = self.0.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (sent, answer) = (sent.clone(), answer.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = body
                    .collect()
                    .await
                    .map(http_body_util::Collected::to_bytes)
                    .unwrap_or_default();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let one = (head.method, head.uri.to_string(), body);
                let (code, text) = answer(&one);
                sent.lock().unwrap().push(one);
                if code == NO_ANSWER {
                    return std::future::pending().await;
                }
                let answer = Response::builder()
                    .status(code)
                    .body(Body::from(text.to_string().into_bytes()));
                Ok::<_, Infallible>(answer.unwrap())
            }
        });
        Client::new(service, "default")
    }

    /// Names of the objects that were asked for or written, in their order.
    pub fn names(&self) -> Vec<String> {
        let all = self.0.lock().unwrap();
        all.iter().map(|sent| name(sent).to_owned()).collect()
    }

    /// Everything that was written.
    pub fn writes(&self) -> Vec<Sent> {
        let all = self.0.lock().unwrap();
        all.iter()
            .filter(|(method, _, _)| *method != Method::GET)
            .cloned()
            .collect()
    }

    /// The one write there was.
    pub fn only_write(&self) -> Sent {
        let mut all = self.writes();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }
}

/// A refusal, as the API server writes it.
pub fn refusal(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": reason, "message": format!("refused: {reason}") });
    (code, status)
}

/// A context with this client and default settings.
pub fn context(client: Client) -> Context {
    let (_, settings) = watch::channel(Arc::new(Settings::default()));
    let clock = Arc::<Clock>::default();
    let metrics = Arc::new(Metrics::new(clock.clone()).unwrap());
    Context::new(
        client,
        "test",
        settings,
        metrics,
        Arc::new(Health::default()),
        Arc::default(),
        clock,
    )
}

/// A Rollout as the API server has it.
pub fn rollout(name: &str) -> Value {
    json!({ "apiVersion": "flywheel.dev/v1alpha1", "kind": "Rollout",
        "metadata": { "name": name, "namespace": "shop", "uid": "u", "resourceVersion": "7" },
        "spec": { "modelVersionRef": { "name": "eta-2" }, "plan": {
            "targetRef": { "kind": "Deployment", "name": "eta" },
            "binding": { "type": "DeploymentEnv", "container": "app", "name": "MODEL_URI" } } } })
}
