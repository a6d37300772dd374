//! etcd behind a cluster that is up, for tests in which it is away for a while.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::bring_up;
use super::control_plane;
use super::network::Network;
use super::processes::{self, Place};
use super::{Cluster, Home};
use crate::operator::free_port;
use crate::tools::Tool;

/// How long etcd may take to end or to begin.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// A key that no object has.
const NO_KEY: &str = "AA==";

/// How etcd ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is asked to, and finishes what it does.
    Asked,
    /// Without warning.
    Killed,
}

/// etcd behind a cluster, whose data outlive its process.
#[derive(Debug)]
pub struct Store {
    place: Place,
    network: Network,
    kubeconfig: std::path::PathBuf,
}

impl Cluster {
    /// The store behind the API server.
    ///
    /// # Errors
    /// If the cluster is gone.
    pub fn store(&self) -> Result<Store> {
        let record = Home::of(&self.name)?.record();
        let record = record.with_context(|| format!("there is no cluster {}", self.name))?;
        Ok(Store {
            place: self.place(),
            network: record.network,
            kubeconfig: self.kubeconfig.clone(),
        })
    }
}

impl Store {
    /// Ends etcd, and returns when it has ended.
    ///
    /// # Errors
    /// If it does not run, or does not end.
    pub fn end(&self, end: End) -> Result<()> {
        let all = processes::of(&self.place.state);
        let etcd = all.iter().find(|process| process.component == Tool::Etcd.name());
        let etcd = etcd.context("etcd does not run")?;
        let signal = match end {
            End::Asked => Signal::TERM,
            End::Killed => Signal::KILL,
        };
        processes::signal(etcd.pid, &self.place.state, signal);
        let gone = || !processes::of(&self.place.state).contains(etcd);
        until("etcd has ended", gone)
    }

    /// Starts etcd with the data that it had, and returns when the API server is ready again.
    ///
    /// # Errors
    /// If either does not come up.
    pub fn start(&self) -> Result<()> {
        control_plane::start_etcd(&self.place, &self.network, self.network.etcd_port)?;
        until("the API server is ready", || bring_up::is_ready(&self.kubeconfig))
    }

    /// Compacts the data up to now while etcd runs; what is older can be read and watched no more.
    ///
    /// # Errors
    /// If etcd refuses it.
    pub fn compact(&self) -> Result<u64> {
        compact(self.network.etcd_port)
    }

    /// Compacts the data up to now while etcd has ended, as seen by the API server: none of its watches can go on where
    /// it was.
    ///
    /// # Errors
    /// If etcd cannot be started for this, or refuses it.
    pub fn compact_apart(&self) -> Result<u64> {
        let port = free_port()?;
        control_plane::start_etcd(&self.place, &self.network, port)?;
        until("etcd listens", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        })?;
        let compacted = compact(port);
        self.end(End::Asked)?;
        compacted
    }
}

fn compact(port: u16) -> Result<u64> {
    let now = post(port, "/v3/kv/range", &json!({ "key": NO_KEY }))?;
    let revision = now.pointer("/header/revision").and_then(Value::as_str);
    let revision: u64 = revision.context("etcd does not say its revision")?.parse()?;
    post(
        port,
        "/v3/kv/compaction",
        &json!({ "revision": revision.to_string(), "physical": true }),
    )?;
    Ok(revision)
}

/// A request to etcd's gateway, which speaks JSON.
fn post(port: u16, path: &str, body: &Value) -> Result<Value> {
    let context = || format!("etcd does not answer to {path}");
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).with_context(context)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let body = body.to_string();
    let length = body.len();
    let request =
        format!("POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).with_context(context)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(context)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let first = head.lines().next().unwrap_or_default();
    ensure!(
        first.split(' ').nth(1) == Some("200"),
        "etcd answers to {path}: {first}: {body}"
    );
    serde_json::from_str(body).with_context(|| format!("etcd answers to {path} with no JSON: {body}"))
}

fn until(what: &str, holds: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > deadline {
            bail!("not after {} s: {what}", PATIENCE.as_secs());
        }
        sleep(POLL);
    }
    Ok(())
}
