//! etcd, the API server, the controllers and the scheduler.

use std::path::Path;

use anyhow::Result;

use super::Audit;
use super::identities::Identities;
use super::network::Network;
use super::processes::Place;
use crate::tools::{self, Tool};
use crate::{cache, chart};

/// What the control plane is started with.
#[derive(Debug)]
pub struct ControlPlane<'a> {
    /// Where it runs.
    pub place: &'a Place,
    /// Its addresses.
    pub network: &'a Network,
    /// Its certificates.
    pub identities: &'a Identities,
    /// What the audit log holds.
    pub audit: Audit,
}

impl ControlPlane<'_> {
    /// Starts the API server with its audit log.
    pub fn start_api_server(&self) -> Result<()> {
        let policy = self.place.state.join("audit-policy.yaml");
        let rules = match self.audit {
            Audit::Writes => include_str!("audit-policy.yaml").replace("READS", "None"),
            Audit::Reads => include_str!("audit-policy.yaml").replace("READS", "Metadata"),
            Audit::Bench => include_str!("audit-policy-bench.yaml").to_owned(),
        };
        cache::write(&policy, rules.replace("OPERATOR", &chart::operator()))?;
        let mut flags = self.serving();
        flags.extend(self.authentication());
        flags.extend([
            flag("etcd-servers", &format!("http://127.0.0.1:{}", self.network.etcd_port)),
            flag("service-cluster-ip-range", &self.network.service_range()),
            flag("authorization-mode", "Node,RBAC"),
            flag("enable-admission-plugins", "NodeRestriction"),
            flag("allow-privileged", "true"),
            flag("profiling", "false"),
            path_flag("audit-log-path", &self.place.state.join("audit.log")),
            path_flag("audit-policy-file", &policy),
            // In megabytes; 0 would mean 100, and a log that is cut in mid-test loses its beginning.
            flag("audit-log-maxsize", "1000000"),
        ]);
        self.start(Tool::KubeApiserver, flags)
    }

    fn serving(&self) -> Vec<String> {
        let mut flags = vec![
            flag("secure-port", &self.network.api_port.to_string()),
            flag("advertise-address", &self.network.node.to_string()),
            path_flag("tls-cert-file", &self.identities.file("api.crt")),
            path_flag("tls-private-key-file", &self.identities.file("api.key")),
        ];
        if self.network.node.is_loopback() {
            // Endpoints may not be loopback addresses, and there is no pod that would look for them.
            flags.extend([
                flag("bind-address", "127.0.0.1"),
                flag("endpoint-reconciler-type", "none"),
            ]);
        } else {
            flags.push(flag("bind-address", "0.0.0.0"));
        }
        flags
    }

    fn authentication(&self) -> Vec<String> {
        let files = self.identities;
        vec![
            path_flag("client-ca-file", &files.authority()),
            flag("service-account-issuer", "https://kubernetes.default.svc"),
            path_flag("service-account-key-file", &files.file("accounts.pub")),
            path_flag("service-account-signing-key-file", &files.file("accounts.key")),
            // Logs and exec go from the API server to the node, which asks who is calling.
            flag("kubelet-preferred-address-types", "InternalIP"),
            path_flag("kubelet-certificate-authority", &files.authority()),
            path_flag("kubelet-client-certificate", &files.file("api-to-kubelet.crt")),
            path_flag("kubelet-client-key", &files.file("api-to-kubelet.key")),
        ]
    }

    /// Starts the controllers; they need an API server that answers.
    pub fn start_controller_manager(&self) -> Result<()> {
        let files = self.identities;
        self.start(
            Tool::KubeControllerManager,
            [
                path_flag("kubeconfig", &files.kubeconfig_of("controller-manager")),
                path_flag("service-account-private-key-file", &files.file("accounts.key")),
                path_flag("root-ca-file", &files.authority()),
                path_flag("cluster-signing-cert-file", &files.authority()),
                path_flag("cluster-signing-key-file", &files.file("ca.key")),
                flag("use-service-account-credentials", "true"),
                flag("allocate-node-cidrs", "false"),
                flag("leader-elect", "false"),
                flag("secure-port", "0"),
                // With the limits for production, controllers would still be starting seconds later.
                flag("kube-api-qps", "200"),
                flag("kube-api-burst", "400"),
            ],
        )
    }

    fn start(&self, tool: Tool, flags: impl IntoIterator<Item = String>) -> Result<()> {
        self.place.start(tool.name(), &tools::path(tool)?, flags)
    }
}

/// Starts etcd without waiting for the disk: the data of a test cluster need not survive the machine.
pub fn start_etcd(place: &Place, network: &Network, port: u16) -> Result<()> {
    let client = format!("http://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{}", network.peer_port);
    let flags = [
        path_flag("data-dir", &place.state.join("etcd")),
        flag("listen-client-urls", &client),
        flag("advertise-client-urls", &client),
        flag("listen-peer-urls", &peer),
        flag("initial-advertise-peer-urls", &peer),
        flag("initial-cluster", &format!("default={peer}")),
        flag("log-level", "warn"),
        "--unsafe-no-fsync".to_owned(),
    ];
    place.start(Tool::Etcd.name(), &tools::path(Tool::Etcd)?, flags)
}

/// Starts the scheduler; it needs an API server that answers.
pub fn start_scheduler(place: &Place, identities: &Identities) -> Result<()> {
    let flags = [
        path_flag("kubeconfig", &identities.kubeconfig_of("scheduler")),
        flag("leader-elect", "false"),
        flag("secure-port", "0"),
        // As for the controllers: many pods at once are what is tried here.
        flag("kube-api-qps", "200"),
        flag("kube-api-burst", "400"),
    ];
    let scheduler = Tool::KubeScheduler;
    place.start(scheduler.name(), &tools::path(scheduler)?, flags)
}

/// A flag as Kubernetes' programs and etcd read it.
pub fn flag(name: &str, value: &str) -> String {
    format!("--{name}={value}")
}

/// A flag that names a file or a folder.
pub fn path_flag(name: &str, value: &Path) -> String {
    flag(name, &value.to_string_lossy())
}
