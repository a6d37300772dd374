//! Everything before the first turn: programs, images, cluster, operator, metrics, data.

use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::Args;
use super::bars::Bars;
use super::early;
use super::kube::{self, Kube};
use crate::cluster::{self, Audit, Cluster, Options, Profile};
use crate::image::{self, Image, Recipe};
use crate::quickship::Runtime;
use crate::tools::{self, Tool};
use crate::{cache, chart, debian};

/// The demo's cluster.
pub const CLUSTER: &str = "flywheel-demo";
/// Where its Prometheus answers, inside the cluster.
const PROMETHEUS: &str = "http://prometheus.flywheel-demo-metrics.svc:9090";

/// What was built.
pub struct Built {
    runtime: Runtime,
    programs: PathBuf,
    cluster: Cluster,
}

/// Builds and starts what takes long, side by side.
pub fn build(args: &Args, bars: &Bars) -> Result<Built> {
    thread::scope(|scope| {
        let python = scope.spawn(|| python(bars));
        let rust = scope.spawn(|| {
            let bar = bars.begin("compiling the operator and the plugin");
            let programs = kube::compile(&["--workspace", "--bins"])?;
            bar.done("the operator and the plugin are compiled");
            Ok(programs)
        });
        let cluster = scope.spawn(|| cluster(args, bars));
        Ok(Built {
            runtime: joined(python.join())?,
            programs: joined(rust.join())?,
            cluster: joined(cluster.join())?,
        })
    })
}

fn joined<T>(outcome: thread::Result<Result<T>>) -> Result<T> {
    outcome.unwrap_or_else(|_| bail!("a part of the demo broke off: its message is above"))
}

fn python(bars: &Bars) -> Result<Runtime> {
    let bar = bars.begin("Python, LightGBM and the flights; then the first model as plain processes");
    let runtime = Runtime::prepare()?;
    let early = early::first_model(&runtime)?;
    bar.done(&format!(
        "{} real flights ({} dropped as dirt); a first model, made by three plain processes, is {:.2} min off on {} \
         flights it had not seen",
        early.flights, early.dropped, early.error, early.judged
    ));
    Ok(runtime)
}

fn cluster(args: &Args, bars: &Bars) -> Result<Cluster> {
    if let Some(cluster) = args.existing.cluster()? {
        return Ok(cluster);
    }
    let bar = bars.begin("Kubernetes 1.34 on this machine (its programs are built from source the first time)");
    tools::path(Tool::Helm)?;
    let cluster = cluster::up(&Options {
        name: CLUSTER.to_owned(),
        profile: Profile::Full,
        audit: Audit::Writes,
    })?;
    bar.done("Kubernetes is up");
    Ok(cluster)
}

/// Installs operator and metrics, and fills a new namespace with the example.
pub fn install(args: &Args, bars: &Bars, built: &Built) -> Result<Kube> {
    let bar = bars.begin("images, built without a container engine");
    let images = images(args, built)?;
    bar.done("the images are where the cluster finds them");
    let mut kube = Kube {
        cluster: built.cluster.clone(),
        ours: !args.existing.is_given(),
        namespace: String::new(),
        plugin: built.programs.join("kubectl-flywheel"),
        images,
    };
    kube.namespace = free_namespace(&kube)?;
    let bar = bars.begin("the flights, cut into weeks by a Job; the operator from its Helm chart; a Prometheus");
    fill(&kube)?;
    // Its objects name a namespace of their own: one demo after the other uses it.
    let metrics = kube
        .manifest("prometheus.yaml")?
        .replace("eta-pods.default.svc", &format!("eta-pods.{}.svc", kube.namespace))
        .replace(
            "demo-namespace: default",
            &format!("demo-namespace: {}", kube.namespace),
        );
    kube.cluster
        .kubectl_with_input(&["apply", "--server-side", "--filename=-"], &metrics)?;
    operator(&kube)?;
    kube.apply("people.yaml")?;
    kube.apply("pipeline.yaml")?;
    let metrics = [
        "--namespace=flywheel-demo-metrics",
        "rollout",
        "status",
        "deployment/prometheus",
        "--timeout=180s",
    ];
    kube.cluster.kubectl(&metrics)?;
    kube.kubectl(&["rollout", "status", "deployment/eta", "--timeout=300s"])?;
    kube.kubectl(&["wait", "--for=condition=Complete", "job/arrivals", "--timeout=400s"])?;
    let ready = [
        "wait",
        "--for=condition=Ready",
        "flywheelpipelines.flywheel.dev/eta",
        "--timeout=60s",
    ];
    kube.kubectl(&ready)?;
    bar.done(&format!(
        "the operator runs, and namespace {} holds the pipeline eta",
        kube.namespace
    ));
    Ok(kube)
}

/// References of the images, by the names that the manifests use.
fn images(args: &Args, built: &Built) -> Result<Vec<(String, String)>> {
    let mut references = Vec::new();
    for name in Args::IMAGES {
        let reference = match args.existing.image(name) {
            Some(reference) => reference.to_owned(),
            None => publish(args, built, &image(name, built)?)?,
        };
        references.push((name.to_owned(), reference));
    }
    Ok(references)
}

fn image(name: &str, built: &Built) -> Result<Image> {
    let full = format!("localhost/{name}:demo");
    match name {
        "quickship" => built.runtime.image(&full),
        "prometheus" => {
            let root = debian::root_of(&["prometheus"])?;
            image::build_with(&root.join("usr/bin/prometheus"), &full, &Recipe::default())
        }
        _ => image::build(&built.programs.join("flywheel-operator"), &full, &[]),
    }
}

/// Brings an image to where the cluster finds it.
fn publish(args: &Args, built: &Built, image: &Image) -> Result<String> {
    if args.existing.is_given() {
        return args.existing.push(image);
    }
    image::load_once(&built.cluster, image)?;
    Ok(image.reference())
}

/// The first name that no namespace bears, so that a second demo begins anew.
fn free_namespace(kube: &Kube) -> Result<String> {
    let taken = kube.cluster.kubectl(&["get", "namespaces", "--output=name"])?;
    let taken: Vec<&str> = taken
        .lines()
        .map(|line| line.trim_start_matches("namespace/"))
        .collect();
    let mut names = (1..).map(|number| format!("quickship-{number}"));
    names
        .find(|name| !taken.contains(&name.as_str()))
        .context("every namespace is taken")
}

/// A namespace that enforces Pod Security "restricted", a volume where no one provides any, the service and the data.
fn fill(kube: &Kube) -> Result<()> {
    let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": kube.namespace, "labels": labels } });
    kube.apply_text(&namespace.to_string())?;
    if kube.ours {
        let folder = kube.cluster.state.join("volumes").join(&kube.namespace);
        open_folder(&folder)?;
        let volume = json!({ "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": kube.namespace },
            "spec": { "capacity": { "storage": "2Gi" }, "accessModes": ["ReadWriteOnce"],
                "hostPath": { "path": folder },
                "claimRef": { "namespace": kube.namespace, "name": "quickship" } } });
        kube.apply_text(&volume.to_string())?;
    }
    kube.apply("service.yaml")?;
    kube.apply("arrivals.yaml")
}

/// A folder that the accounts of all pods may write to.
fn open_folder(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    cache::create(folder)?;
    let all = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder, all).with_context(|| format!("cannot open {}", folder.display()))
}

fn operator(kube: &Kube) -> Result<()> {
    let reference = kube.images.iter().find(|(name, _)| name == "operator");
    let (_, reference) = reference.context("there is no image of the operator")?;
    let provider = format!("config.metricProviders[0].name=prometheus,config.metricProviders[0].url={PROMETHEUS}");
    chart::install(&kube.cluster, Some(reference), &["replicaCount=1", &provider])
}
