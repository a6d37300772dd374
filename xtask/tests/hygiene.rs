//! What clusters leave on a machine: nothing, however they end. `cargo xtask test` runs these one after the other; they
//! need root and are ignored otherwise, because they bring up real clusters.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use xtask::cluster::{self, Audit, Cluster, Options, Profile};

const PATIENCE: Duration = Duration::from_secs(240);

fn options(name: &str, profile: Profile) -> Options {
    Options {
        name: format!("{name}-{}", std::process::id()),
        profile,
        audit: Audit::Writes,
    }
}

/// What tells that something belongs to a cluster, as other programs of this machine show it.
struct Marks {
    state: String,
    cgroup: String,
    /// The beginnings of its addresses; none for a cluster without a network of its own.
    addresses: Vec<String>,
}

impl Marks {
    fn of(cluster: &Cluster) -> Self {
        let [_, _, slot, _] = cluster.host_address.octets();
        let has_network = cluster.profile == Profile::Full;
        let addresses = ["10.96", "10.97", "10.244"].map(|range| format!("{range}.{slot}."));
        Self {
            state: cluster.state.display().to_string(),
            cgroup: format!("flywheel-{}-", cluster.name),
            addresses: addresses.into_iter().filter(|_| has_network).collect(),
        }
    }

    fn named_in(&self, line: &str) -> bool {
        let words = || line.split(|c: char| c.is_whitespace() || c == '/');
        line.contains(&self.state)
            || line.contains(&self.cgroup)
            || self
                .addresses
                .iter()
                .any(|a| words().any(|word| word.starts_with(a.as_str())))
    }

    /// Everything on this machine that belongs to the cluster, each with the kind of thing that it is.
    fn found(&self) -> Result<Vec<(&'static str, String)>> {
        let mut found = Vec::new();
        let mut add = |kind, lines: String| {
            let ours = lines.lines().filter(|line| self.named_in(line));
            found.extend(ours.map(|line| (kind, line.to_owned())));
        };
        add("mount", fs::read_to_string("/proc/self/mounts")?);
        add("address", said(Command::new("ip").args(["-oneline", "address"]))?);
        add(
            "route",
            said(Command::new("ip").args(["route", "show", "table", "all"]))?,
        );
        add("network namespace", names(Path::new("/run/netns")));
        for hierarchy in fs::read_dir("/sys/fs/cgroup")?.flatten() {
            add("control group", names(&hierarchy.path()));
        }
        add("control group", names(Path::new("/sys/fs/cgroup")));
        for process in names(Path::new("/proc"))
            .lines()
            .filter(|name| name.parse::<u32>().is_ok())
        {
            let read = |file: &str| fs::read(format!("/proc/{process}/{file}")).unwrap_or_default();
            let text = String::from_utf8_lossy(&[read("environ"), read("cgroup")].concat()).replace('\0', "\n");
            let marker = format!("FLYWHEEL_CLUSTER={}", self.state);
            if text
                .lines()
                .any(|line| line == marker || line.contains(&format!("/{}", self.cgroup)))
            {
                let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
                found.push(("process", format!("{process} {command}")));
            }
        }
        if Path::new(&self.state).exists() {
            found.push(("folder", self.state.clone()));
        }
        Ok(found)
    }

    fn expect_nothing(&self) -> Result<()> {
        let found = self.found()?;
        ensure!(found.is_empty(), "the cluster is down, and this is left: {found:#?}");
        Ok(())
    }

    /// Without this a search that finds nothing ever would prove nothing.
    fn expect(&self, kinds: &[&str]) -> Result<()> {
        let found = self.found()?;
        for kind in kinds {
            ensure!(
                found.iter().any(|(k, _)| k == kind),
                "the cluster is up, and no {kind} is found: {found:#?}"
            );
        }
        Ok(())
    }
}

fn said(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8(command.output()?.stdout)?)
}

fn names(folder: &Path) -> String {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.join("\n")
}

/// Kills the parts of a cluster that have these names, without warning.
fn kill(cluster: &Path, components: &[&str]) -> Result<()> {
    for component in components {
        let pid = part(cluster, component).with_context(|| format!("{component} does not run"))?;
        ensure!(
            Command::new("kill").args(["-KILL", &pid]).status()?.success(),
            "cannot kill {component}"
        );
    }
    Ok(())
}

/// The number of the process that is this part of a cluster.
fn part(state: &Path, component: &str) -> Option<String> {
    let all = names(Path::new("/proc"));
    let is_part = |pid: &&str| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let has = |wanted: String| {
            environment
                .split(|byte| *byte == 0)
                .any(|found| found == wanted.as_bytes())
        };
        has(format!("FLYWHEEL_CLUSTER={}", state.display())) && has(format!("FLYWHEEL_COMPONENT={component}"))
    };
    all.lines()
        .filter(|name| name.parse::<u32>().is_ok())
        .find(is_part)
        .map(str::to_owned)
}

/// A pod that runs, and with it a network namespace, mounts and control groups.
fn run_a_pod(cluster: &Cluster) -> Result<()> {
    let security = r#""securityContext":{"runAsUser":65532}"#;
    let pod = format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"idle"}},"spec":{{"containers":[{{"name":"idle","image":"localhost/pause:1","imagePullPolicy":"Never",{security}}}]}}}}"#
    );
    cluster.kubectl_with_input(&["apply", "--filename", "-"], &pod)?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/idle", "--timeout=240s"])?;
    Ok(())
}

#[test]
#[ignore = "brings up a cluster: run `cargo xtask test`"]
fn a_cluster_that_crashed_is_replaced_and_leaves_nothing_behind() -> Result<()> {
    let options = options("crash", Profile::Full);
    let first = cluster::up(&options)?;
    run_a_pod(&first)?;
    let marks = Marks::of(&first);
    marks.expect(&["address", "route", "control group", "process", "folder"])?;
    kill(&first.state, &["etcd", "kubelet", "containerd"])?;

    let second = cluster::up(&options)?;
    let pods = second.kubectl(&["get", "pods", "--output", "name"])?;
    ensure!(
        pods.trim().is_empty(),
        "the new cluster has pods of the one that it replaced: {pods}"
    );
    run_a_pod(&second)?;
    let (old, marks) = (marks, Marks::of(&second));
    kill(&second.state, &["kube-apiserver", "namespaces"])?;
    cluster::down(&options.name)?;
    old.expect_nothing()?;
    marks.expect_nothing()
}

#[test]
#[ignore = "brings up a cluster: run `cargo xtask test`"]
fn a_cluster_without_nodes_that_crashed_is_replaced_and_leaves_nothing_behind() -> Result<()> {
    let options = options("crash-api", Profile::Api);
    let first = cluster::up(&options)?;
    let marks = Marks::of(&first);
    marks.expect(&["process", "folder"])?;
    first.kubectl(&["create", "namespace", "before"])?;
    kill(&first.state, &["kube-apiserver"])?;
    let second = cluster::up(&options)?;
    let found = second.kubectl(&["get", "namespaces", "before", "--ignore-not-found"])?;
    ensure!(
        found.is_empty(),
        "the new cluster has objects of the one that it replaced: {found}"
    );
    kill(&second.state, &["etcd"])?;
    cluster::down(&options.name)?;
    marks.expect_nothing()
}

#[test]
#[ignore = "brings up a cluster: run `cargo xtask test`"]
fn a_cluster_whose_start_was_killed_in_the_middle_leaves_nothing_behind() -> Result<()> {
    for component in ["namespaces", "etcd", "kubelet"] {
        let options = options(&format!("cut-{component}"), Profile::Full);
        let mut starter = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(["cluster", "up", "--name", &options.name])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let deadline = Instant::now() + PATIENCE;
        let half = loop {
            let found = cluster::find(&options.name)?;
            if let Some(half) = found.filter(|half| part(&half.state, component).is_some()) {
                break half;
            }
            if starter.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("{component} was not seen while the cluster came up");
            }
            sleep(Duration::from_millis(10));
        };
        starter.kill()?;
        starter.wait()?;
        let marks = Marks::of(&half);
        marks.expect(&["process", "folder"])?;
        cluster::down(&options.name)?;
        marks
            .expect_nothing()
            .with_context(|| format!("killed when {component} ran"))?;
    }
    Ok(())
}

#[test]
#[ignore = "brings up a cluster: run `cargo xtask test`"]
fn a_cluster_that_is_well_is_found_again_and_one_that_does_not_exist_is_down() -> Result<()> {
    let options = options("again", Profile::Api);
    cluster::down(&options.name)?;
    let first = cluster::up(&options)?;
    let api_server = part(&first.state, "kube-apiserver");
    let again = cluster::up(&options)?;
    ensure!(
        part(&again.state, "kube-apiserver") == api_server,
        "a well cluster was started anew"
    );
    let other = Options {
        audit: Audit::Reads,
        ..options.clone()
    };
    let refused = cluster::up(&other).map_err(|error| error.to_string());
    ensure!(
        refused.is_err_and(|why| why.contains("cluster down --name")),
        "another kind must not replace a well one"
    );
    let marks = Marks::of(&first);
    cluster::down(&options.name)?;
    cluster::down(&options.name)?;
    marks.expect_nothing()
}
