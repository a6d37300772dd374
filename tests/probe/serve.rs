//! A model server for tests: the model that it loads says how it behaves.
//!
//! The variable MODEL_URI names the model. A `pvc://` URI is read from the claim mounted at `/models`; of any other
//! the last segment is the model itself. Words in the model change what happens: `unready` never becomes ready,
//! `broken` answers with errors, `slow` answers late.

use std::time::Duration;
use std::{env, fs, io};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

const PORT: u16 = 8080;
const SLOW: Duration = Duration::from_millis(400);

/// Serves until SIGTERM, and then until the requests that are under way have their answers.
pub fn run() -> io::Result<()> {
    let model = load(&env::var("MODEL_URI").unwrap_or_default())?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(model))
}

fn load(uri: &str) -> io::Result<String> {
    if uri.is_empty() {
        return Ok("none".to_owned());
    }
    match uri.strip_prefix("pvc://").and_then(|rest| rest.split_once('/')) {
        Some((_, path)) => fs::read_to_string(format!("/models/{path}")),
        None => Ok(uri.rsplit('/').next().unwrap_or_default().to_owned()),
    }
}

async fn serve(model: String) -> io::Result<()> {
    let ready = if model.contains("unready") {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    let routes = Router::new()
        .route("/", get(move || answer(model.clone())))
        .route("/ready", get(move || async move { ready }));
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    axum::serve(listener, routes)
        .with_graceful_shutdown(async move {
            terminate.recv().await;
        })
        .await
}

async fn answer(model: String) -> (StatusCode, String) {
    if model.contains("slow") {
        tokio::time::sleep(SLOW).await;
    }
    if model.contains("broken") {
        return (StatusCode::INTERNAL_SERVER_ERROR, model);
    }
    (StatusCode::OK, model)
}
