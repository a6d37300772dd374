//! The order in which a cluster comes up, and how one knows that each part is ready.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::control_plane::{self, ControlPlane};
use super::identities::{Identities, NODE};
use super::node::Node;
use super::processes::{self, Place};
use super::{Home, Profile, Record, cgroups, kubectl, network};
use crate::tools::{self, Tool};
use crate::{packages, shell};

/// How long one part may take; a cold disk and a busy machine are allowed for.
const DEADLINE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

/// Fails before anything is touched when this machine cannot hold such a cluster; builds and installs what is missing.
/// Says whether anything was built.
pub fn require(profile: Profile) -> Result<bool> {
    let mut cold = false;
    for tool in components(profile) {
        cold |= !tools::is_built(*tool)?;
    }
    if profile == Profile::Full {
        if !rustix::process::geteuid().is_root() {
            bail!("a node needs root: run this as root, or take `--profile api`");
        }
        packages::ensure(&packages::NODE)?;
    }
    for tool in components(profile) {
        tools::path(*tool)?;
    }
    tools::path(Tool::Kubectl)?;
    Ok(cold)
}

/// The parts that must be alive.
fn components(profile: Profile) -> &'static [Tool] {
    use Tool::{Coredns, Etcd, KubeApiserver, KubeControllerManager, KubeProxy, KubeScheduler, Kubelet};
    match profile {
        Profile::Api => &[Etcd, KubeApiserver, KubeControllerManager],
        Profile::Full => &[
            Etcd,
            KubeApiserver,
            KubeControllerManager,
            KubeScheduler,
            Kubelet,
            KubeProxy,
            Coredns,
        ],
    }
}

/// Whether all parts are alive and the API server, and the node if there is one, say that they are ready.
pub fn is_well(home: &Home, record: &Record) -> bool {
    let running = processes::of(&home.state);
    let alive = |tool: &Tool| running.iter().any(|process| process.component == tool.name());
    let kubeconfig = home.state.join("kubeconfig");
    components(record.profile).iter().all(alive)
        && is_ready(&kubeconfig)
        && (record.profile == Profile::Api || node_is_ready(&kubeconfig))
}

/// Starts everything and waits until it is ready.
pub fn all(home: &Home, record: &Record) -> Result<()> {
    let outside = Place {
        state: home.state.clone(),
        inside: None,
    };
    match record.profile {
        Profile::Api => control_plane(home, record, &outside),
        Profile::Full => full(home, record, &outside),
    }
}

fn full(home: &Home, record: &Record, outside: &Place) -> Result<()> {
    let place = phase("namespaces", || {
        cgroups::create(&home.cgroup)?;
        network::enter(outside, &record.network, &home.link)
    })?;
    control_plane(home, record, &place)?;
    let identities = Identities::at(home.state.join("identities"));
    let node = Node {
        place: &place,
        network: &record.network,
        identities: &identities,
        cgroup: &home.cgroup,
    };
    let kubeconfig = home.state.join("kubeconfig");
    phase("containerd", || {
        node.start_containerd()?;
        wait(&place, &["containerd"], || node.containerd_answers())?;
        node.load_pause()
    })?;
    phase("node", || {
        node.start_kubelet()?;
        node.start_proxy()?;
        wait(&place, &["containerd", "kubelet", "kube-proxy"], || {
            node_is_ready(&kubeconfig)
        })
    })?;
    phase("name server", || {
        let role = home.state.join("dns-role.yaml");
        crate::cache::write(&role, include_str!("rbac.yaml"))?;
        shell::run(kubectl(&kubeconfig)?.args(["apply", "--filename"]).arg(&role))?;
        node.start_dns()?;
        wait(&place, &["coredns"], || node.dns_answers())
    })
}

fn control_plane(home: &Home, record: &Record, place: &Place) -> Result<()> {
    let kubeconfig = home.state.join("kubeconfig");
    let identities = phase("certificates", || {
        let identities = Identities::create(home.state.join("identities"), &record.network)?;
        identities.write_kubeconfig(&kubeconfig, &record.network)?;
        Ok(identities)
    })?;
    let plane = ControlPlane {
        place,
        network: &record.network,
        identities: &identities,
        audit: record.audit,
    };
    phase("API server", || {
        control_plane::start_etcd(place, &record.network, record.network.etcd_port)?;
        plane.start_api_server()?;
        wait(place, &["etcd", "kube-apiserver"], || is_ready(&kubeconfig))
    })?;
    phase("controllers", || {
        plane.start_controller_manager()?;
        if record.profile == Profile::Full {
            control_plane::start_scheduler(place, &identities)?;
        }
        // Without this account the first pod or Job of a test would be refused.
        let account = [
            "get",
            "serviceaccount",
            "default",
            "--namespace=default",
            "--output=name",
        ];
        wait(place, &["kube-controller-manager"], || {
            answers(&kubeconfig, &account, "serviceaccount/default")
        })
    })
}

/// Whether the API server says that it is ready.
pub fn is_ready(kubeconfig: &Path) -> bool {
    answers(kubeconfig, &["get", "--raw", "/readyz"], "ok")
}

fn node_is_ready(kubeconfig: &Path) -> bool {
    let ready = r#"--output=jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
    answers(kubeconfig, &["get", "node", NODE, ready], "True")
}

fn answers(kubeconfig: &Path, args: &[&str], expected: &str) -> bool {
    let output = kubectl(kubeconfig).and_then(|mut kubectl| shell::run(kubectl.args(args).arg("--request-timeout=5s")));
    output.is_ok_and(|text| text.trim() == expected)
}

/// Waits until the check holds, and fails at once when one of the components has ended.
fn wait(place: &Place, components: &[&str], check: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !check() {
        for component in components {
            place.expect_alive(component)?;
        }
        if Instant::now() > deadline {
            let logs: Vec<String> = components
                .iter()
                .map(|name| place.log(name).display().to_string())
                .collect();
            bail!("not ready after {} s; see {}", DEADLINE.as_secs(), logs.join(", "));
        }
        sleep(POLL);
    }
    Ok(())
}

/// Does one thing and prints how long it took.
fn phase<T>(name: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let result = act().with_context(|| format!("the phase `{name}` failed"))?;
    eprintln!("  {name:<14}{:>6.1} s", started.elapsed().as_secs_f32());
    Ok(result)
}
