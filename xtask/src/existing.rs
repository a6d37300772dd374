//! A cluster that exists already, and how images get to where it finds them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cluster::{Cluster, Profile};
use crate::image::Image;
use crate::{packages, shell};

/// Options of commands that can use a cluster which exists already.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Existing {
    /// Use the cluster of this kubeconfig instead of bringing one up.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Push the images below this name, where the cluster of the kubeconfig can pull them.
    #[arg(long, value_name = "HOST/PATH", requires = "kubeconfig")]
    registry: Option<String>,
    /// An image that the cluster of the kubeconfig can pull, by its digest.
    #[arg(long, value_name = "NAME=REFERENCE", value_parser = named, requires = "kubeconfig")]
    image: Vec<(String, String)>,
}

fn named(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, reference)) if !name.is_empty() && reference.contains("@sha256:") => {
            Ok((name.to_owned(), reference.to_owned()))
        }
        _ => {
            Err("write NAME=REFERENCE, with a reference that names its digest, as in example/probe@sha256:…".to_owned())
        }
    }
}

impl Existing {
    /// Whether a cluster is named.
    #[must_use]
    pub const fn is_given(&self) -> bool {
        self.kubeconfig.is_some()
    }

    /// Says before anything is built, because building takes minutes, whether the cluster can get these images.
    ///
    /// # Errors
    /// If the cluster exists and an image can come neither from a registry nor by its name, or if a name is unknown.
    pub fn check(&self, wanted: &[&str]) -> Result<()> {
        if let Some((name, _)) = self.image.iter().find(|(name, _)| !wanted.contains(&name.as_str())) {
            bail!(
                "--image {name}=… names no image that is needed: the images are {}",
                wanted.join(", ")
            );
        }
        let missing: Vec<&str> = wanted
            .iter()
            .copied()
            .filter(|name| self.image(name).is_none())
            .collect();
        if self.kubeconfig.is_some() && self.registry.is_none() && !missing.is_empty() {
            bail!(
                "the cluster of --kubeconfig must be able to pull the images: give --registry HOST/PATH to push them, \
                 or name those that are there with --image {}=REFERENCE",
                missing.join("=REFERENCE --image ")
            );
        }
        Ok(())
    }

    /// The cluster, if there is one; only its kubeconfig means something.
    ///
    /// # Errors
    /// If the file is not there.
    pub fn cluster(&self) -> Result<Option<Cluster>> {
        let Some(file) = &self.kubeconfig else {
            return Ok(None);
        };
        let kubeconfig = file
            .canonicalize()
            .with_context(|| format!("--kubeconfig: cannot find {}", file.display()))?;
        Ok(Some(Cluster {
            name: "the cluster of the kubeconfig".to_owned(),
            profile: Profile::Full,
            audit_log: PathBuf::new(),
            state: PathBuf::new(),
            host_address: std::net::Ipv4Addr::LOCALHOST,
            kubeconfig,
        }))
    }

    /// The reference of an image that is there already.
    #[must_use]
    pub fn image(&self, name: &str) -> Option<&str> {
        let found = self.image.iter().find(|(known, _)| known == name);
        found.map(|(_, reference)| reference.as_str())
    }

    /// Pushes an image and says under which reference the cluster finds it.
    ///
    /// # Errors
    /// If there is no registry, or it refuses the image.
    pub fn push(&self, image: &Image) -> Result<String> {
        let registry = self.registry.as_deref().context("there is no --registry to push to")?;
        let name = image.name.trim_start_matches("localhost/");
        let target = format!("{}/{name}", registry.trim_end_matches('/'));
        let skopeo = packages::path(packages::SKOPEO)?;
        shell::run(
            Command::new(skopeo)
                .args(["copy", "--quiet", "--preserve-digests"])
                .arg(format!("oci-archive:{}:{}", image.archive.display(), image.name))
                .arg(format!("docker://{target}")),
        )?;
        let repository = target.rsplit_once(':').map_or(target.as_str(), |(before, _)| before);
        Ok(format!("{repository}@{}", image.digest))
    }
}

#[cfg(test)]
mod tests {
    use super::{Existing, named};

    fn there(image: &[&str]) -> Existing {
        Existing {
            kubeconfig: Some("x".into()),
            image: image.iter().filter_map(|text| named(text).ok()).collect(),
            ..Existing::default()
        }
    }

    #[test]
    fn images_that_the_cluster_cannot_get_are_named_before_anything_is_built() {
        let wanted = ["operator", "probe"];
        let said = there(&["operator=a@sha256:1"])
            .check(&wanted)
            .map_err(|e| e.to_string());
        let said = said.err().unwrap_or_default();
        assert!(
            said.contains("--registry") && said.contains("--image probe=REFERENCE"),
            "{said}"
        );
        assert!(!said.contains("operator="), "{said}");
        let registry = Existing {
            registry: Some("localhost:5000/x".to_owned()),
            ..there(&[])
        };
        assert!(registry.check(&wanted).is_ok());
        assert!(
            Existing::default().check(&wanted).is_ok(),
            "a cluster of ours is given the images"
        );
    }

    #[test]
    fn an_image_needs_a_digest_and_a_known_name() {
        assert!(named("probe=example/probe:latest").is_err());
        let said = there(&["other=a@sha256:1"])
            .check(&["probe"])
            .map_err(|e| e.to_string());
        assert!(said.is_err_and(|why| why.contains("--image other=…")));
    }
}
