//! What every measurement stands on: an API server of its own, the chart, the operator as users run it, and a client.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, TryStreamExt as _};
use http::HeaderValue;
use http::header::USER_AGENT;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Config, Resource, ResourceExt as _};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::audit::{self, Log, Write};
use super::process::Process;
use crate::chart;
use crate::cluster::{self, Audit, Cluster, Options, Profile};
use crate::operator::{Operator, free_port};

/// Objects that are made at the same time.
const AT_ONCE: usize = 48;
/// The operator is at rest after so long without a write; on a busy machine the next one may be long in coming.
const REST: Duration = Duration::from_secs(30);
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(1800);

/// A cluster for measurements. It is taken down when this is dropped, unless it is to be kept.
pub struct Bed {
    /// The cluster.
    pub cluster: Cluster,
    /// The client that makes the load.
    pub client: Client,
    runtime: Runtime,
    program: PathBuf,
    keep: bool,
}

impl Bed {
    /// Brings a new cluster up and installs the chart on it, for this operator.
    ///
    /// # Errors
    /// If any of that fails.
    pub fn prepare(program: &Path, name: &str, keep: bool, settings: &[&str]) -> Result<Self> {
        // What an earlier measurement left would be measured too.
        cluster::down(name)?;
        let cluster = cluster::up(&Options {
            name: name.to_owned(),
            profile: Profile::Api,
            audit: Audit::Bench,
        })?;
        chart::install(&cluster, None, settings)?;
        let runtime = Runtime::new().context("cannot start the runtime")?;
        let kubeconfig = Kubeconfig::read_from(&cluster.kubeconfig)?;
        let client = runtime.block_on(async {
            let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            // The audit log tells the load by this name from what it causes.
            let name = HeaderValue::from_static(audit::LOAD);
            config.headers.push((USER_AGENT, name));
            anyhow::Ok(Client::try_from(config)?)
        })?;
        Ok(Self {
            cluster,
            client,
            runtime,
            program: program.to_owned(),
            keep,
        })
    }

    /// Starts the operator.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn operate(&self) -> Result<Operating> {
        let port = free_port()?;
        let started = Instant::now();
        let operator = Operator::start(&self.cluster, &self.program, port)?;
        let process = Process { pid: operator.pid() };
        Ok(Operating {
            process,
            started,
            port,
            _operator: operator,
        })
    }

    /// Makes namespaces.
    ///
    /// # Errors
    /// If one is refused.
    pub fn namespaces(&self, names: &[String]) -> Result<()> {
        let made = names.iter().map(|name| json!({ "metadata": { "name": name } }));
        let api: Api<Namespace> = Api::all(self.client.clone());
        self.wait(async {
            for namespace in made {
                api.create(&PostParams::default(), &serde_json::from_value(namespace)?)
                    .await?;
            }
            Ok(())
        })
    }

    /// Makes objects of one kind, many at a time; each must name itself and its namespace.
    ///
    /// # Errors
    /// If one is refused.
    pub fn make<K: Resource<DynamicType = ()>>(&self, objects: impl Iterator<Item = Value>) -> Result<()> {
        self.make_of(&ApiResource::erase::<K>(&()), objects)
    }

    /// Makes objects of a kind that this program does not know.
    ///
    /// # Errors
    /// If one is refused.
    pub fn make_of(&self, kind: &ApiResource, objects: impl Iterator<Item = Value>) -> Result<()> {
        let one = |object: Value| {
            let (client, kind) = (self.client.clone(), kind.clone());
            async move {
                let object: DynamicObject = serde_json::from_value(object).context("an object without a kind")?;
                let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
                let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &kind);
                let made = api.create(&PostParams::default(), &object).await;
                made.map(drop)
                    .with_context(|| format!("cannot make {} {namespace}/{name}", kind.kind))
            }
        };
        self.at_once(objects.map(one))
    }

    /// Does much of the same, many at a time.
    ///
    /// # Errors
    /// With the first that fails.
    pub fn at_once<W: Future<Output = Result<()>>>(&self, work: impl Iterator<Item = W>) -> Result<()> {
        let all = futures::stream::iter(work).buffer_unordered(AT_ONCE);
        self.wait(all.try_for_each(|()| async { Ok(()) }))
    }

    /// Waits until the fact holds for that many objects of a kind in a namespace; watched, because asking again and
    /// again would be a good part of the API server's work.
    ///
    /// # Errors
    /// If it does not after a long time.
    pub fn all(
        &self,
        kind: &ApiResource,
        namespace: &str,
        count: usize,
        fact: impl Fn(&DynamicObject) -> bool,
    ) -> Result<()> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, kind);
        let mut so = BTreeSet::new();
        let holds = async {
            let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
            while so.len() < count {
                match events.next().await {
                    Some(Ok(Event::Apply(object) | Event::InitApply(object))) if fact(&object) => {
                        so.insert(object.name_any());
                    }
                    Some(Ok(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object))) => {
                        so.remove(&object.name_any());
                    }
                    Some(_) => {}
                    None => return,
                }
            }
        };
        let ended = self.wait(async { Ok(tokio::time::timeout(PATIENCE, holds).await.is_ok()) })?;
        if !ended || so.len() < count {
            bail!(
                "{} of {count} {} in {namespace} are not so far after {} s",
                count.saturating_sub(so.len()),
                kind.plural,
                PATIENCE.as_secs()
            );
        }
        Ok(())
    }

    /// Lets something run beside; it ends when the handle is aborted.
    pub fn beside(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.runtime.spawn(work)
    }

    /// Waits for what a client does.
    ///
    /// # Errors
    /// If it fails.
    pub fn wait<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(work)
    }

    /// Waits until the controller of that name has made at least `least` writes and no further one for a while; returns
    /// what everybody wrote.
    ///
    /// # Errors
    /// If that takes too long.
    pub fn rest(&self, log: &mut Log, agent: &str, least: usize) -> Result<Vec<Write>> {
        let (mut all, begun) = (Vec::new(), Instant::now());
        let mut last = Instant::now();
        loop {
            let new = log.read()?;
            if audit::count(&new, agent) > 0 {
                last = Instant::now();
            }
            all.extend(new);
            let made = audit::count(&all, agent);
            if made >= least && last.elapsed() > REST {
                return Ok(all);
            }
            if begun.elapsed() > PATIENCE {
                bail!(
                    "{agent} has made {made} of {least} writes after {} s and is not at rest",
                    PATIENCE.as_secs()
                );
            }
            sleep(Duration::from_millis(500));
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = cluster::down(&self.cluster.name)
        {
            eprintln!("{error:#}");
        }
    }
}

/// An operator under measurement.
pub struct Operating {
    /// Its process.
    pub process: Process,
    started: Instant,
    port: u16,
    _operator: Operator,
}

impl Operating {
    /// How long it took from the start to the first time that it said to be ready.
    ///
    /// # Errors
    /// If it ends before, or takes too long.
    pub fn ready(&self) -> Result<Duration> {
        self.until(Duration::from_millis(5), || self.ask("/readyz").is_ok())
    }

    /// How long it took from the start until each of these kinds had so many reconciles.
    ///
    /// # Errors
    /// If it ends before, or takes too long.
    pub fn reconciled(&self, least: &[(&str, u64)]) -> Result<Duration> {
        self.until(Duration::from_millis(500), || {
            let done = self.reconciles().unwrap_or_default();
            least.iter().all(|(kind, count)| done.get(*kind) >= Some(count))
        })
    }

    fn until(&self, pause: Duration, fact: impl Fn() -> bool) -> Result<Duration> {
        loop {
            self.process.memory()?;
            if fact() {
                return Ok(self.started.elapsed());
            }
            if self.started.elapsed() > PATIENCE {
                bail!("the operator is not so far after {} s", PATIENCE.as_secs());
            }
            sleep(pause);
        }
    }

    /// Reconciles since the start, by kind.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn reconciles(&self) -> Result<BTreeMap<String, u64>> {
        Ok(sums(
            &self.ask("/metrics")?,
            "flywheel_reconcile_duration_seconds_count",
            "kind",
        ))
    }

    /// Requests to the API server since the start.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn requests(&self) -> Result<u64> {
        let by_code = sums(&self.ask("/metrics")?, "flywheel_api_requests_total", "code");
        Ok(by_code.values().sum())
    }

    fn ask(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
            _ => bail!("the operator answered {path} with {answer}"),
        }
    }
}

/// The sums of a metric over all other labels, by the values of one label.
fn sums(text: &str, metric: &str, label: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let series = text
        .lines()
        .filter_map(|line| line.strip_prefix(metric)?.strip_prefix('{'));
    for line in series {
        let quoted = line.split_once(&format!("{label}=\"")).map(|(_, rest)| rest);
        let value = quoted.and_then(|rest| rest.split('"').next());
        let number = line.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok());
        if let (Some(value), Some(number)) = (value, number) {
            *found.entry(value.to_owned()).or_default() += number;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::sums;

    #[test]
    fn a_metric_is_summed_over_its_other_labels() {
        let text = "# HELP m text\nm{kind=\"run\",result=\"Error\"} 2\nm{kind=\"run\",result=\"Success\"} 40\n\
                    m{kind=\"rollout\",result=\"Success\"} 1\nm_other{kind=\"run\"} 7\n";
        let found = sums(text, "m", "kind");
        assert_eq!((found["run"], found["rollout"], found.len()), (42, 1, 2));
    }
}
