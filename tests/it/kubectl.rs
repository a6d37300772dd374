//! The way of a user: kubectl, in a namespace of its own.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// kubectl on the cluster without nodes, in one namespace.
pub struct Desk {
    namespace: String,
    kubeconfig: String,
    kubectl: String,
}

static FILES: AtomicU32 = AtomicU32::new(0);

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"))
}

impl Desk {
    /// A new namespace.
    pub fn new(name: &str) -> Self {
        let desk = Self {
            namespace: format!("{name}-{}", std::process::id()),
            kubeconfig: variable("FLYWHEEL_TEST_API_KUBECONFIG"),
            kubectl: variable("FLYWHEEL_TEST_KUBECTL"),
        };
        desk.run(&["create", "namespace", &desk.namespace]);
        desk
    }

    /// What kubectl prints; fails with what it complains about.
    pub fn run(&self, args: &[&str]) -> String {
        self.try_run(args)
            .unwrap_or_else(|complaint| panic!("kubectl {}: {complaint}", args.join(" ")))
    }

    /// What kubectl prints, or what it printed when it failed.
    ///
    /// # Errors
    /// Both outputs, if kubectl ends with another code than 0.
    pub fn try_run(&self, args: &[&str]) -> Result<String, String> {
        let output = Command::new(&self.kubectl)
            .args(["--kubeconfig", &self.kubeconfig, "--namespace", &self.namespace])
            .args(args)
            .output()
            .expect("kubectl can be started");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// A file with this text.
    pub fn file(&self, text: &str) -> String {
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("{}-{number}.yaml", self.namespace));
        fs::write(&path, text).expect("a file");
        path.to_string_lossy().into_owned()
    }
}
