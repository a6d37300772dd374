//! A metric provider with the HTTP API of Prometheus: every test dictates the answers to its own queries.
//!
//! It serves on loopback, in a thread of its own, because each test has its own runtime.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::{LazyLock, Mutex};

use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};

/// What the provider answers.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Number(f64),
    NotANumber,
    Nothing,
    TwoSeries,
    Refusal,
    /// The status 503 with a body that is no answer.
    Down,
    /// None: the connection stays open.
    Silence,
}

#[derive(Default)]
struct Book {
    answers: HashMap<String, Answer>,
    asked: Vec<String>,
}

static BOOK: LazyLock<Mutex<Book>> = LazyLock::new(Mutex::default);
static URL: LazyLock<String> = LazyLock::new(serve);

/// Where the provider listens.
pub fn url() -> String {
    URL.clone()
}

/// The text of a query; the operator fills in `$candidate`, `$baseline` and `$since` behind it.
pub fn name(namespace: &str, metric: &str) -> String {
    format!("{namespace}:{metric}")
}

/// From now on this query gets this answer.
pub fn say(query: &str, answer: Answer) {
    let mut book = BOOK.lock().expect("no test panics with the book open");
    book.answers.insert(query.to_owned(), answer);
}

/// All queries that were asked and begin so.
pub fn queries(start: &str) -> Vec<String> {
    let book = BOOK.lock().expect("no test panics with the book open");
    book.asked.iter().filter(|q| q.starts_with(start)).cloned().collect()
}

fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("a listener for the runtime");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let router = axum::Router::new().route("/api/v1/query", get(answer));
            axum::serve(listener, router).await.expect("the provider serves");
        });
    });
    format!("http://{address}")
}

async fn answer(RawQuery(raw): RawQuery) -> (StatusCode, String) {
    let query = decode(raw.unwrap_or_default().trim_start_matches("query="));
    let answer = {
        let mut book = BOOK.lock().expect("no test panics with the book open");
        book.asked.push(query.clone());
        // What follows the first blank is what the operator filled in.
        let known = query.split(' ').next().unwrap_or_default();
        book.answers.get(known).copied().unwrap_or(Answer::Nothing)
    };
    let series = |values: &[&str]| -> Value {
        let all: Vec<Value> = values
            .iter()
            .map(|v| json!({ "metric": {}, "value": [0, v] }))
            .collect();
        json!({ "status": "success", "data": { "resultType": "vector", "result": all } })
    };
    match answer {
        Answer::Number(value) => (StatusCode::OK, series(&[&value.to_string()]).to_string()),
        Answer::NotANumber => (StatusCode::OK, series(&["NaN"]).to_string()),
        Answer::Nothing => (StatusCode::OK, series(&[]).to_string()),
        Answer::TwoSeries => (StatusCode::OK, series(&["0", "0"]).to_string()),
        Answer::Refusal => {
            let body = json!({ "status": "error", "errorType": "bad_data", "error": "parse error" });
            (StatusCode::BAD_REQUEST, body.to_string())
        }
        Answer::Down => (StatusCode::SERVICE_UNAVAILABLE, "<html>busy</html>".to_owned()),
        Answer::Silence => std::future::pending().await,
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits: String = rest.by_ref().take(2).map(char::from).collect();
            bytes.push(u8::from_str_radix(&digits, 16).expect("percent-encoding"));
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}
