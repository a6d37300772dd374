//! Entry point: client, settings, election, controllers, and an orderly end.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use flywheel::args::Args;
use flywheel::clock::Clock;
use flywheel::context::Context;
use flywheel::controller::bias_policy::BiasPolicies;
use flywheel::controller::model_version::ModelVersions;
use flywheel::controller::pipeline::Pipelines;
use flywheel::controller::rollout::Rollouts;
use flywheel::controller::run::Runs;
use flywheel::health::Health;
use flywheel::leader::{self, Election};
use flywheel::metrics::Metrics;
use flywheel::throttle::Throttle;
use flywheel::watch::Watches;
use flywheel::{server, settings, telemetry, wiring};
use http::HeaderValue;
use http::header::USER_AGENT;
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::util::MapResponseLayer;

/// The platform's allocator keeps what is free between objects that stay: after a start in front of thousands of objects, or
/// when many of them changed, that is half of all.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    telemetry::start(args.log_format);
    match operate(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the operator ends");
            ExitCode::FAILURE
        }
    }
}

async fn operate(args: Args) -> anyhow::Result<()> {
    // First of all: the first process of a container does not end by a signal that it does not listen for.
    let mut signals = Signals::new()?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let clock = Arc::<Clock>::default();
    let (metrics, health) = (Arc::new(Metrics::new(clock.clone())?), Arc::new(Health::default()));
    let web = tokio::spawn(server::serve(args.listen, metrics.clone(), health.clone()));
    let (context, election) = tokio::select! {
        () = signals.end() => return Ok(()),
        prepared = prepare(&args, metrics.clone(), health.clone(), clock) => prepared?,
    };
    let mut leads = election.leads.clone();
    health.ready();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        identity = args.identity,
        "waits for the lease"
    );
    tokio::select! {
        () = signals.end() => { election.resign().await; return Ok(()); }
        led = leads.wait_for(|leads| *leads) => { led?; }
        ended = web => anyhow::bail!("the web server at {} ended: {ended:?}", args.listen),
    }
    metrics.leader(true);
    lead(&context, &args.watch_namespaces, election, signals).await
}

/// Reads the settings, and stands for election.
async fn prepare(
    args: &Args,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    clock: Arc<Clock>,
) -> anyhow::Result<(Context, Election)> {
    let throttle = Arc::<Throttle>::default();
    let client = heard(config().await?, metrics.clone(), throttle.clone(), clock.clone())?;
    let named = args.config_map.as_deref();
    let settings = settings::follow(client.clone(), &args.namespace, named, health.clone()).await;
    let context = Context::new(
        client.clone(),
        &args.identity,
        settings,
        metrics,
        health,
        throttle,
        clock,
    );
    // Last, and not given up once it stands: a lease that is taken is given back.
    let election = leader::elect(client, args).await?;
    Ok((context, election))
}

/// So long running reconciles have to finish: a pod is killed 30 s after it is asked to end.
const GRACE: Duration = Duration::from_secs(20);

/// Acts until the operator is asked to end or another replica has to go on.
async fn lead(
    context: &Context,
    namespaces: &[String],
    election: Election,
    mut signals: Signals,
) -> anyhow::Result<()> {
    tracing::info!("leads");
    let mut leads = election.leads.clone();
    let (stop, stopped) = watch::channel(false);
    // They end with this function, after the last reconcile.
    let mut watches = JoinSet::new();
    let mut controllers = start(context, namespaces, &stopped, &mut watches);
    let lost = tokio::select! {
        () = signals.end() => false,
        _ = leads.wait_for(|leads| !*leads) => true,
        _ = controllers.join_next() => { context.health.ended("controllers"); true }
        _ = watches.join_next() => { context.health.ended("watches"); true }
    };
    tracing::info!(lost, "ends: running reconciles are finished while the lease is held");
    let _ = stop.send(true);
    let finished = async { while controllers.join_next().await.is_some() {} };
    election.resign_after(finished, GRACE).await;
    anyhow::ensure!(
        !lost,
        "the lease was lost, or a controller ended: another replica goes on"
    );
    Ok(())
}

/// The signals that ask the operator to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the first of them.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// No answer takes so long, and no watch says nothing for so long.
const SILENCE: Duration = Duration::from_secs(65);
const _: () = assert!(SILENCE.as_secs() > flywheel::watch::LASTS as u64);

/// How to reach the cluster.
async fn config() -> anyhow::Result<Config> {
    let mut config = Config::infer().await?;
    // A write that is sent twice by the client would not be the one that was decided.
    config.default_retry = false;
    // Of a connection that is dead without a word nothing else tells: a watch whose opening is never answered would never be
    // begun anew.
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    // The audit log of a cluster tells by this name which requests are the operator's, whoever it runs as.
    let name = HeaderValue::from_static(concat!("flywheel-operator/", env!("CARGO_PKG_VERSION")));
    config.headers.push((USER_AGENT, name));
    Ok(config)
}

/// A client whose answers are counted, and of which it is heard what time it is, and whether the API server wants to be left
/// alone.
fn heard(
    config: Config,
    metrics: Arc<Metrics>,
    throttle: Arc<Throttle>,
    clock: Arc<Clock>,
) -> Result<Client, kube::Error> {
    let hear = MapResponseLayer::new(move |response: http::Response<_>| {
        metrics.answered(response.status());
        throttle.answered(response.status(), response.headers());
        clock.answered(response.headers());
        response
    });
    Ok(ClientBuilder::try_from(config)?.with_layer(&hear).build())
}

/// One task per controller and watched namespace.
fn start(
    context: &Context,
    namespaces: &[String],
    stop: &watch::Receiver<bool>,
    watches: &mut JoinSet<()>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let all: Vec<Option<String>> = if namespaces.is_empty() {
        vec![None]
    } else {
        namespaces.iter().cloned().map(Some).collect()
    };
    for namespace in all {
        let context = context.watching(Arc::new(Watches::default()));
        let stop = || stop.clone();
        tasks.spawn(wiring::run::<Pipelines>(&context, stop()));
        tasks.spawn(wiring::run::<Runs>(&context, stop()));
        tasks.spawn(wiring::run::<ModelVersions>(&context, stop()));
        tasks.spawn(wiring::run::<Rollouts>(&context, stop()));
        tasks.spawn(wiring::run::<BiasPolicies>(&context, stop()));
        let health = &context.health;
        context
            .watches
            .begin(&context.client, namespace.as_deref(), health, watches);
    }
    tasks
}
