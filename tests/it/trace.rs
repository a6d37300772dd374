//! The end of every cluster test: what the operator did in the test's namespace is judged by the API server's audit log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;
use xtask::trace::tail::Tail;
use xtask::trace::{self, History, Scope};

/// How long the API server may take to log a write that it has answered.
const PATIENCE: Duration = Duration::from_secs(20);

/// Judges the history of a namespace when it is dropped: a test that passed so far fails if an invariant was violated.
pub struct Trace {
    log: PathBuf,
    from: u64,
    kubeconfig: String,
    namespace: String,
}

impl Trace {
    /// Begins with the writes from now on. The variable names the audit log; without it the log is looked for where
    /// `cargo xtask cluster up` writes it, beside the kubeconfig. Of a cluster that is not ours there is none, and the
    /// variable is empty.
    pub fn begin(variable: &str, kubeconfig: &str, namespace: &str) -> Option<Self> {
        let beside = || Path::new(kubeconfig).with_file_name("audit.log");
        let log = std::env::var(variable).map_or_else(|_| beside(), PathBuf::from);
        if log.as_os_str().is_empty() {
            return None;
        }
        let tail = Tail::new(&log).expect("the audit log can be read: run `cargo xtask test`");
        Some(Self {
            log,
            from: tail.from(),
            kubeconfig: kubeconfig.to_owned(),
            namespace: namespace.to_owned(),
        })
    }

    fn judge(&self) -> anyhow::Result<()> {
        let tail = Tail::new(&self.log)?;
        let marker = format!("trace-of-{}", self.namespace);
        // The test's own runtime is blocked while it ends.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(mark(&self.kubeconfig, &marker))?;
        tail.wait_for(&marker, PATIENCE)?;
        let scope = Scope {
            namespace: Some(self.namespace.clone()),
            from: self.from,
        };
        let history = History::read(&self.log, &scope)?;
        trace::judge(&history, &self.log, None).map(drop)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let judged = std::thread::scope(|threads| threads.spawn(|| self.judge()).join());
        match judged {
            Ok(Ok(())) => {}
            Ok(Err(violated)) => panic!("{violated:#}"),
            Err(panicked) => std::panic::resume_unwind(panicked),
        }
    }
}

/// The last write that is known: the log is complete when it holds this one. The test may have deleted its namespace.
async fn mark(kubeconfig: &str, name: &str) -> anyhow::Result<()> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let marker: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": name } }))?;
    let api = Api::<ConfigMap>::namespaced(Client::try_from(config)?, "default");
    api.create(&PostParams::default(), &marker).await?;
    Ok(())
}
