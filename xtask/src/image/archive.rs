//! The archive of an image in the layout of the Open Container Initiative, and the names of images.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// How the program of an image is started.
#[derive(Debug)]
pub struct Config {
    /// The program and its arguments.
    pub entrypoint: Vec<String>,
    /// Variables of its environment.
    pub env: BTreeMap<String, String>,
}

/// The name as containerd and the kubelet complete it: with a registry and a tag.
pub fn full_name(name: &str) -> Result<String> {
    let allowed = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "._-/:".contains(letter);
    if name.is_empty() || !name.chars().all(allowed) {
        bail!("`{name}` cannot name an image: write something like `localhost/flywheel-operator:dev`");
    }
    let registry = match name.split_once('/') {
        Some((first, _)) if first == "localhost" || first.contains(['.', ':']) => "",
        Some(_) => "docker.io/",
        None => "docker.io/library/",
    };
    let tag = if repository(name) == name { ":latest" } else { "" };
    Ok(format!("{registry}{name}{tag}"))
}

/// The name without its tag.
pub fn repository(name: &str) -> &str {
    // A colon before the last slash is that of a port.
    name.rsplit_once(':')
        .map_or(name, |(before, tag)| if tag.contains('/') { name } else { before })
}

/// The archive with one layer, and the digest of the image.
pub fn write(name: &str, layer: &[u8], config: &Config, account: u32) -> Result<(Vec<u8>, String)> {
    let mut blobs = Blobs::default();
    let layer = blobs.add("application/vnd.oci.image.layer.v1.tar", layer.to_vec());
    let variables: Vec<String> = config
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let content = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "User": format!("{account}:{account}"),
            "Entrypoint": config.entrypoint,
            "Env": variables,
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [layer.get("digest")] },
    });
    let config = blobs.add("application/vnd.oci.image.config.v1+json", bytes(&content)?);
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let content = json!({ "schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [layer] });
    let manifest = blobs.add(manifest_type, bytes(&content)?);
    let digest = manifest
        .get("digest")
        .and_then(Value::as_str)
        .context("the manifest has no digest")?
        .to_owned();

    // The kubelet asks by whatever the pod names: a tag, or a digest.
    let names = [name.to_owned(), format!("{}@{digest}", repository(name))];
    let manifests = names.map(|name| {
        let mut entry = manifest.clone();
        if let Some(fields) = entry.as_object_mut() {
            fields.insert(
                "annotations".to_owned(),
                json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name }),
            );
        }
        entry
    });
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut archive, "index.json", &bytes(&index)?)?;
    for (digest, content) in &blobs.content {
        append(&mut archive, &format!("blobs/sha256/{digest}"), content)?;
    }
    Ok((archive.into_inner().context("cannot finish the archive")?, digest))
}

/// Contents by their digest.
#[derive(Default)]
struct Blobs {
    content: BTreeMap<String, Vec<u8>>,
}

impl Blobs {
    /// Adds a content and returns how others refer to it.
    fn add(&mut self, media_type: &str, content: Vec<u8>) -> Value {
        let digest: String = Sha256::digest(&content)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let entry = json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len() });
        self.content.insert(digest, content);
        entry
    }
}

fn bytes(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).context("cannot write the description of an image")
}

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    archive
        .append_data(&mut header, name, content)
        .with_context(|| format!("cannot put {name} into the archive"))
}

/// The name that images use for the processor of this machine.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::{full_name, repository};

    #[test]
    fn names_are_completed_as_containerd_does() -> anyhow::Result<()> {
        assert_eq!(full_name("eta")?, "docker.io/library/eta:latest");
        assert_eq!(full_name("example/eta:1")?, "docker.io/example/eta:1");
        assert_eq!(full_name("localhost/eta:1")?, "localhost/eta:1");
        assert_eq!(full_name("localhost:5000/eta")?, "localhost:5000/eta:latest");
        assert!(full_name("No Name").is_err());
        Ok(())
    }

    #[test]
    fn the_port_of_a_registry_is_not_a_tag() {
        assert_eq!(repository("localhost:5000/eta"), "localhost:5000/eta");
        assert_eq!(repository("localhost:5000/eta:1"), "localhost:5000/eta");
    }
}
