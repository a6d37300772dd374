//! The one node: containerd, the kubelet, kube-proxy and the name server.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::control_plane::{flag, path_flag};
use super::identities::{Identities, NODE};
use super::network::Network;
use super::processes::Place;
use crate::tools::{self, Tool};
use crate::{cache, image, packages, shell};

const PAUSE: &str = "localhost/pause:1";

/// What the node is started with.
#[derive(Debug)]
pub struct Node<'a> {
    /// Where it runs.
    pub place: &'a Place,
    /// Its addresses.
    pub network: &'a Network,
    /// Its certificates.
    pub identities: &'a Identities,
    /// The control group below which its pods are kept.
    pub cgroup: &'a str,
}

impl Node<'_> {
    /// Starts containerd.
    pub fn start_containerd(&self) -> Result<()> {
        let dir = self.dir("containerd")?;
        let plugins = packages::path(packages::Packaged {
            program: "ptp",
            package: "containernetworking-plugins",
        })?;
        let plugins = plugins.parent().context("the CNI plugin ptp is in no folder")?;
        let networks = self.dir("cni")?;
        cache::write(&networks.join("10-flywheel.conflist"), self.pod_network()?)?;
        let config = include_str!("containerd.toml")
            .replace("{dir}", &dir.to_string_lossy())
            .replace("{pause}", PAUSE)
            .replace("{cni-plugins}", &plugins.to_string_lossy())
            .replace("{cni-networks}", &networks.to_string_lossy());
        let file = dir.join("config.toml");
        cache::write(&file, config)?;
        let containerd = packages::path(packages::Packaged {
            program: "containerd",
            package: "containerd",
        })?;
        self.place.start(
            "containerd",
            &containerd,
            ["--config".to_owned(), file.to_string_lossy().into_owned()],
        )
    }

    /// Routes every packet of a pod through the node, so that service addresses also work between pods of one node
    /// where the kernel does not show bridged packets to its firewall.
    fn pod_network(&self) -> Result<String> {
        let ranges = json!([[{ "subnet": self.network.pod_range() }]]);
        let addresses = json!({ "type": "host-local", "ranges": ranges, "routes": [{ "dst": "0.0.0.0/0" }] });
        let network = json!({
            "cniVersion": "0.4.0",
            "name": "flywheel",
            "plugins": [
                { "type": "ptp", "ipMasq": false, "ipam": addresses },
                { "type": "portmap", "capabilities": { "portMappings": true } },
            ],
        });
        serde_json::to_string_pretty(&network).context("cannot write the pod network")
    }

    /// Whether containerd answers.
    pub fn containerd_answers(&self) -> bool {
        let Some(ctr) = shell::find("ctr") else {
            return false;
        };
        let mut version = Command::new(ctr);
        version
            .arg("--address")
            .arg(socket_in(&self.place.state))
            .arg("version");
        shell::output(&mut version).is_ok_and(|output| output.status.success())
    }

    /// Gives containerd the image of the process that holds a pod's namespaces.
    pub fn load_pause(&self) -> Result<()> {
        let sleep = shell::find("sleep").context("there is no `sleep`: install the package coreutils")?;
        let recipe = image::Recipe {
            args: vec!["infinity".to_owned()],
            ..image::Recipe::default()
        };
        let pause = image::build_with(&sleep, PAUSE, &recipe)?;
        image::import(&socket_in(&self.place.state), &pause)
    }

    /// Starts the kubelet; it registers the node.
    pub fn start_kubelet(&self) -> Result<()> {
        let dir = self.dir("kubelet")?;
        let config = dir.join("config.json");
        let content = serde_json::to_string_pretty(&self.kubelet_config()).context("cannot write its configuration")?;
        cache::write(&config, content)?;
        self.start(
            Tool::Kubelet,
            [
                path_flag("config", &config),
                path_flag("kubeconfig", &self.identities.kubeconfig_of("kubelet")),
                flag("hostname-override", NODE),
                flag("node-ip", &self.network.node.to_string()),
            ],
        )
    }

    /// The settings for control groups work with version 1 and 2; without CAP_SYS_RESOURCE the node must not ask for
    /// a better score than it has.
    fn kubelet_config(&self) -> Value {
        let files = self.identities;
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": { "enabled": false },
                "webhook": { "enabled": true },
                "x509": { "clientCAFile": files.authority() },
            },
            "authorization": { "mode": "Webhook" },
            "tlsCertFile": files.file("node.crt"),
            "tlsPrivateKeyFile": files.file("node.key"),
            "containerRuntimeEndpoint": format!("unix://{}", socket_in(&self.place.state).display()),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self.cgroup,
            "failCgroupV1": false,
            "failSwapOn": false,
            "enforceNodeAllocatable": [],
            "oomScoreAdj": 0,
            "clusterDNS": [self.network.node],
            "clusterDomain": "cluster.local",
            "resolvConf": "",
            "maxPods": 200,
            // The disk is shared with everything else on this machine: only an almost full one matters.
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "1%",
                "imagefs.available": "1%",
                "nodefs.inodesFree": "1%",
            },
            // Images are loaded by hand and could not be fetched again.
            "imageGCHighThresholdPercent": 100,
            "volumePluginDir": self.place.state.join("kubelet/plugins"),
        })
    }

    /// Starts kube-proxy, which makes service addresses work.
    pub fn start_proxy(&self) -> Result<()> {
        self.drop_unknown_services()?;
        self.start(
            Tool::KubeProxy,
            [
                path_flag("kubeconfig", &self.identities.kubeconfig_of("proxy")),
                flag("hostname-override", NODE),
                flag("proxy-mode", "iptables"),
                flag("cluster-cidr", &self.network.pod_range()),
                flag("metrics-bind-address", "127.0.0.1:10249"),
                flag("oom-score-adj", "0"),
                // These belong to the machine and cannot be set from a network of one's own.
                flag("conntrack-max-per-core", "0"),
                flag("conntrack-min", "0"),
                flag("conntrack-tcp-timeout-established", "0"),
                flag("conntrack-tcp-timeout-close-wait", "0"),
            ],
        )
    }

    /// Drops the packets that kube-proxy sent nowhere because it does not know their Service yet. Without this they leave
    /// the node, it remembers their connection as one without a Service, and sends the client's further tries nowhere too,
    /// and those of later connections from the same port, for two minutes.
    fn drop_unknown_services(&self) -> Result<()> {
        let iptables = packages::path(packages::IPTABLES)?;
        for chain in ["FORWARD", "OUTPUT"] {
            let range = self.network.service_range();
            let to_services = ["--append", chain, "--destination", &range];
            let new = ["--match", "conntrack", "--ctstate", "NEW", "--jump", "DROP"];
            shell::run(self.place.command(&iptables).args(to_services).args(new))?;
        }
        Ok(())
    }

    /// Starts the name server on the node's address.
    pub fn start_dns(&self) -> Result<()> {
        let file = self.dir("dns")?.join("Corefile");
        let kubeconfig = self.identities.kubeconfig_of("dns");
        let config = include_str!("Corefile")
            .replace("NODE", &self.network.node.to_string())
            .replace("KUBECONFIG", &kubeconfig.to_string_lossy());
        cache::write(&file, config)?;
        self.start(Tool::Coredns, ["-conf".to_owned(), file.to_string_lossy().into_owned()])
    }

    /// Whether the name server knows the address of the API server.
    pub fn dns_answers(&self) -> bool {
        resolve(self.network.node, &["kubernetes", "default", "svc", "cluster", "local"])
            .is_ok_and(|answer| answer.ends_with(&self.network.service(1).octets()))
    }

    fn start(&self, tool: Tool, flags: impl IntoIterator<Item = String>) -> Result<()> {
        self.place.start(tool.name(), &tools::path(tool)?, flags)
    }

    fn dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.place.state.join(name);
        cache::create(&dir)?;
        Ok(dir)
    }
}

/// The socket of the containerd of the cluster with that state folder.
pub fn socket_in(state: &Path) -> PathBuf {
    state.join("containerd/containerd.sock")
}

/// Asks a name server for the address of a name; the answer is the raw message, which ends with the address.
fn resolve(server: Ipv4Addr, labels: &[&str]) -> std::io::Result<Vec<u8>> {
    // A number, "recursion desired", one question.
    let mut question = vec![0x0f, 0x17, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in labels {
        question.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        question.extend(label.as_bytes());
    }
    // The end of the name, type A, class Internet.
    question.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    socket.connect((server, 53))?;
    socket.send(&question)?;
    let mut answer = vec![0; 512];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}
