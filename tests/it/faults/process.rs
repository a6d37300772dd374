//! An operator of a test's own, as a process that can be killed.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use super::proxy::url;

/// The namespace of the installed operator, and the lease for which its role holds.
pub const SYSTEM: &str = "flywheel-system";
pub const LEASE: &str = "flywheel";

/// A port for who asks it for nothing.
const ANY: u16 = 0;

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"))
}

/// The kubeconfig with the rights of the installed operator.
fn kubeconfig() -> PathBuf {
    PathBuf::from(variable("FLYWHEEL_TEST_OPERATOR_KUBECONFIG"))
}

/// How the API server is reached without a proxy.
pub async fn config() -> Config {
    let file = Kubeconfig::read_from(kubeconfig()).expect("the operator's kubeconfig");
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .expect("the kubeconfig is whole")
}

/// An operator; it dies without warning when it is dropped.
pub struct Process(Child);

impl Process {
    /// An operator for this namespace alone, which acts at once and finds the API server at that address.
    pub fn start(namespace: &str, api: SocketAddr) -> Self {
        Self::launch(
            namespace,
            &by_way_of(namespace, api),
            ANY,
            &["--leader-elect=false"],
            None,
        )
    }

    /// An operator for this namespace alone that acts while it holds the lease. The lease is one for all of these.
    /// It finds the API server by itself, or at that address.
    pub fn elected(namespace: &str, identity: &str, api: Option<SocketAddr>) -> Self {
        let own = api.map_or_else(kubeconfig, |api| by_way_of(namespace, api));
        Self::candidate(namespace, identity, &own, ANY, None)
    }

    /// One that finds the API server by itself, and says at that port of this machine how it is.
    pub fn listening(namespace: &str, identity: &str, port: u16) -> Self {
        Self::candidate(namespace, identity, &kubeconfig(), port, None)
    }

    /// One on a machine whose clock is ahead by so many seconds.
    pub fn ahead(namespace: &str, identity: &str, seconds: u32) -> Self {
        Self::candidate(namespace, identity, &kubeconfig(), ANY, Some(seconds))
    }

    fn candidate(namespace: &str, identity: &str, own: &Path, port: u16, ahead: Option<u32>) -> Self {
        let args = ["--leader-elect=true", "--lease-name", LEASE, "--identity", identity];
        Self::launch(namespace, own, port, &args, ahead)
    }

    fn launch(namespace: &str, own: &Path, port: u16, args: &[&str], ahead: Option<u32>) -> Self {
        let log = File::options()
            .create(true)
            .append(true)
            .open(log(namespace))
            .expect("a log");
        let mut command = Command::new(variable("FLYWHEEL_TEST_OPERATOR_PROGRAM"));
        // With this mark `cargo xtask cluster down` finds it, should the test itself be killed.
        let state = kubeconfig().parent().map(Path::to_owned).expect("a cluster's folder");
        xtask::cluster::mark(&mut command, &state, "operator");
        if let Some(seconds) = ahead {
            command
                .env("LD_PRELOAD", variable("FLYWHEEL_TEST_CLOCK_LIBRARY"))
                .env("FAKETIME", format!("+{seconds}"))
                // What is timed, such as a pause, takes as long as it does.
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let child = command
            .args(["--namespace", SYSTEM, "--watch-namespaces", namespace])
            .args(args)
            .args(["--log-format", "text", "--listen", &format!("127.0.0.1:{port}")])
            .env("KUBECONFIG", own)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the operator starts");
        Self(child)
    }

    /// Keeps it from doing anything, as a machine that is out of breath does.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on where it was.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Asks it to end, as a kubelet does.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(sent.is_ok_and(|s| s.success()), "{signal} is sent");
    }

    /// Whether it has ended by itself.
    pub fn ended(&mut self) -> bool {
        self.0.try_wait().expect("a process of ours").is_some()
    }

    /// Whether it has, and says that all was well.
    pub fn ended_well(&mut self) -> bool {
        let status = self.0.try_wait().expect("a process of ours");
        status.is_some_and(|status| status.success())
    }
}

/// A file with the operator's kubeconfig for that address.
fn by_way_of(namespace: &str, api: SocketAddr) -> PathBuf {
    let own = folder().join(format!("{namespace}-{}.kubeconfig", api.port()));
    std::fs::write(&own, proxied(api).to_string()).expect("a kubeconfig");
    own
}

/// What the operators of a namespace say.
pub fn log(namespace: &str) -> PathBuf {
    folder().join(format!("{namespace}.log"))
}

fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join("flywheel-test");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// The operator's kubeconfig, by way of the proxy.
fn proxied(api: SocketAddr) -> Value {
    let text = std::fs::read_to_string(kubeconfig()).expect("the operator's kubeconfig");
    let mut config: Value = serde_saphyr::from_str(&text).expect("the kubeconfig is YAML");
    for cluster in config["clusters"].as_array_mut().into_iter().flatten() {
        cluster["cluster"] = json!({ "server": url(api) });
    }
    config
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
