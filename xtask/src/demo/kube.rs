//! The cluster as its users see it: kubectl, the plugin, and other people's names.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::story::REVIEWER;
use crate::cluster::Cluster;
use crate::tools::{self, Tool};
use crate::{cache, quickship, shell};

/// One namespace of a cluster.
#[derive(Debug, Clone)]
pub struct Kube {
    /// The cluster; of one that existed before only the kubeconfig means something.
    pub cluster: Cluster,
    /// Whether the demo brought it up.
    pub ours: bool,
    /// The namespace of this demo.
    pub namespace: String,
    /// The plugin.
    pub plugin: PathBuf,
    /// References of the images that the example's manifests name.
    pub images: Vec<(String, String)>,
}

impl Kube {
    /// Runs kubectl in the namespace.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.cluster
            .kubectl(&[&["--namespace", &self.namespace], args].concat())
    }

    /// Applies a manifest of the example with the images of this demo.
    pub fn apply(&self, file: &str) -> Result<()> {
        let text = self.manifest(file)?;
        self.apply_text(&text)
    }

    /// Applies a manifest.
    pub fn apply_text(&self, text: &str) -> Result<()> {
        let args = ["--namespace", &self.namespace, "apply", "--server-side", "--filename=-"];
        self.cluster.kubectl_with_input(&args, text).map(drop)
    }

    /// A manifest of the example with the images of this demo.
    pub fn manifest(&self, file: &str) -> Result<String> {
        let path = quickship::folder().join("deploy").join(file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(with_images(&text, &self.images))
    }

    /// All objects of these kinds in the namespace.
    pub fn list(&self, kinds: &str) -> Result<Vec<Value>> {
        let text = self.kubectl(&["get", kinds, "--output=json"])?;
        let list: Value = serde_json::from_str(&text).context("kubectl printed no JSON")?;
        Ok(list.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// Follows the log of a Job's pod into a file, until the Job ends or the child is killed.
    pub fn follow(&self, job: &str, into: &std::path::Path) -> Result<Child> {
        let file = std::fs::File::create(into).with_context(|| format!("cannot create {}", into.display()))?;
        let mut command = Command::new(tools::path(Tool::Kubectl)?);
        command
            .arg("--kubeconfig")
            .arg(&self.cluster.kubeconfig)
            .args([
                "--namespace",
                &self.namespace,
                "logs",
                "--follow",
                &format!("job/{job}"),
            ])
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(Stdio::null());
        command.spawn().context("cannot start kubectl")
    }

    /// Runs the plugin as the reviewer: with her own context, or impersonated where there is none.
    pub fn as_reviewer(&self, args: &[&str]) -> Result<String> {
        let who: &[&str] = if self.ours {
            &["--context", REVIEWER]
        } else {
            &["--as", REVIEWER]
        };
        let mut command = Command::new(&self.plugin);
        command
            .args(args)
            .args(who)
            .args(["--namespace", &self.namespace, "--kubeconfig"])
            .arg(&self.cluster.kubeconfig);
        shell::run(&mut command)
    }
}

/// The manifest with the references of these images in the place of their short names.
fn with_images(text: &str, images: &[(String, String)]) -> String {
    images.iter().fold(text.to_owned(), |text, (name, reference)| {
        text.replace(&format!("image: {name}\n"), &format!("image: {reference}\n"))
            .replace(&format!("image: {name},"), &format!("image: \"{reference}\","))
    })
}

/// The first text at one of these places of an object.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Name of an object.
pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// Compiles programs of this repository for the demo, as the tests do, and returns their folder.
pub fn compile(what: &[&str]) -> Result<PathBuf> {
    let output = shell::output(shell::cargo().current_dir(cache::workspace()).arg("build").args(what))?;
    if !output.status.success() {
        bail!("`cargo build {}` failed: {}", what.join(" "), shell::said(&output));
    }
    Ok(cache::target().join("debug"))
}

#[cfg(test)]
mod tests {
    use super::with_images;

    #[test]
    fn short_names_of_images_become_references() {
        let images = [("quickship".to_owned(), "localhost/quickship@sha256:1".to_owned())];
        let text = "image: quickship\n{ image: quickship, args }\nimage: quickship-other\n";
        let expected = "image: localhost/quickship@sha256:1\n{ image: \"localhost/quickship@sha256:1\", args }\nimage: quickship-other\n";
        assert_eq!(with_images(text, &images), expected);
    }
}
