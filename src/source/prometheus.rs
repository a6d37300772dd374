//! Queries of a Prometheus HTTP API: one query, one number.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use tokio::sync::Semaphore;

/// Longest time for one query.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Longest wait until others have their answers.
const TURN: Duration = Duration::from_secs(20);
/// Queries of one provider at the same time.
const AT_ONCE: usize = 64;

/// A client for metric providers.
#[derive(Clone)]
pub struct Prometheus {
    http: Option<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>>,
    /// By URL: one that is silent keeps nobody from asking another one.
    slots: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

impl Default for Prometheus {
    fn default() -> Self {
        let connector = hyper_rustls::HttpsConnectorBuilder::new().with_native_roots();
        let http = connector
            .ok()
            .map(|c| Client::builder(TokioExecutor::new()).build(c.https_or_http().enable_http1().build()));
        Self {
            http,
            slots: Arc::default(),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: serde_json::Value,
}

impl Prometheus {
    /// The one number that a query gives; nothing if it gives none or NaN.
    ///
    /// # Errors
    /// A sentence: the provider did not answer in ten seconds, left too many others unanswered for twenty, refused the
    /// query, or gave more than one number.
    pub async fn query(&self, url: &str, query: &str) -> Result<Option<f64>, String> {
        let slots = self.slots(url);
        let _slot = tokio::time::timeout(TURN, slots.acquire()).await.map_err(|_| {
            let seconds = TURN.as_secs();
            format!("{AT_ONCE} other queries of this provider have not been answered for {seconds} s")
        })?;
        let body = tokio::time::timeout(TIMEOUT, self.get(url, query))
            .await
            .map_err(|_| format!("no answer within {} s", TIMEOUT.as_secs()))??;
        read(&body)
    }

    fn slots(&self, url: &str) -> Arc<Semaphore> {
        let mut all = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Semaphore::new(AT_ONCE));
        all.entry(url.to_owned()).or_insert_with(new).clone()
    }

    async fn get(&self, url: &str, query: &str) -> Result<Bytes, String> {
        let http = self.http.as_ref().ok_or("this process has no CA certificates")?;
        let target = format!("{}/api/v1/query?query={}", url.trim_end_matches('/'), encode(query));
        let target: http::Uri = target
            .parse()
            .map_err(|e| format!("the provider's URL cannot be read: {e}"))?;
        let response = http
            .get(target)
            .await
            .map_err(|e| format!("the provider cannot be reached: {e}"))?;
        let body = Limited::new(response.into_body(), MAX_ANSWER);
        let bytes = body.collect().await.map_err(|e| format!("the answer broke off: {e}"))?;
        Ok(bytes.to_bytes())
    }
}

/// Percent-encoding of a query parameter (RFC 3986, unreserved characters stay).
fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            all.push(char::from(byte));
        } else {
            all.push_str(&format!("%{byte:02X}"));
        }
        all
    })
}

fn read(body: &[u8]) -> Result<Option<f64>, String> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| "the answer is not that of a Prometheus API".to_owned())?;
    if answer.status != "success" {
        return Err(format!("the provider refused the query: {}", answer.error));
    }
    let data = answer.data.ok_or("the answer has no data")?;
    let samples: Vec<serde_json::Value> = match data.result_type.as_str() {
        "scalar" => vec![serde_json::json!({ "value": data.result })],
        "vector" => serde_json::from_value(data.result).map_err(|e| format!("the answer has no vector: {e}"))?,
        other => return Err(format!("the query gives a {other}: write one that gives one number")),
    };
    match samples.as_slice() {
        [] => Ok(None),
        [one] => {
            let text = one.pointer("/value/1").and_then(|v| v.as_str()).unwrap_or_default();
            let number: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
            Ok(number.is_finite().then_some(number))
        }
        many => Err(format!(
            "the query gives {} series: aggregate them to one, such as with sum()",
            many.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_is_read_and_no_number_is_none() {
        let vector =
            br#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0.25"]}]}}"#;
        assert_eq!(read(vector), Ok(Some(0.25)));
        let empty = br#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
        assert_eq!(read(empty), Ok(None));
        let nan = br#"{"status":"success","data":{"resultType":"scalar","result":[1,"NaN"]}}"#;
        assert_eq!(read(nan), Ok(None));
    }

    #[test]
    fn two_series_and_foreign_answers_are_errors_with_a_remedy() {
        let two =
            br#"{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"1"]},{"value":[1,"2"]}]}}"#;
        assert!(read(two).unwrap_err().contains("aggregate"));
        assert!(read(b"<html>").is_err());
        let refused = br#"{"status":"error","error":"parse error"}"#;
        assert!(read(refused).unwrap_err().contains("parse error"));
    }

    #[test]
    fn queries_are_percent_encoded() {
        assert_eq!(encode("sum(x{a=\"b\"})"), "sum%28x%7Ba%3D%22b%22%7D%29");
    }
}
