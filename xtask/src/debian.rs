//! Folders made of Debian packages, without installing anything on this machine.
//!
//! What a container of an example needs is downloaded by apt and unpacked into the cache. A folder is named by the
//! digest of what was asked for, and appears only when it is whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::{cache, shell};

/// Below these folders a package holds only what people read.
const FOR_PEOPLE: [&str; 4] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/lintian",
    "usr/share/locale",
];

/// The folder with the files of these packages; downloads them the first time.
///
/// # Errors
/// If apt does not know a package, or there is no apt: the message names the packages.
pub fn root_of(packages: &[&str]) -> Result<PathBuf> {
    once("debian", &[&packages.join(" ")], |folder| {
        let downloads = folder.with_extension("packages");
        cache::create(&downloads)?;
        download(packages, &downloads)?;
        for package in files(&downloads)? {
            let mut command = Command::new("dpkg-deb");
            shell::run(command.arg("--extract").arg(&package).arg(folder))?;
        }
        for unwanted in FOR_PEOPLE {
            remove(&folder.join(unwanted))?;
        }
        remove(&downloads)
    })
}

/// A folder of the cache that is made once for the same inputs; `make` gets an empty folder.
pub fn once(kind: &str, inputs: &[&str], make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = cache::dir()?.join(kind).join(digest(inputs));
    if folder.is_dir() {
        return Ok(folder);
    }
    let _lock = cache::lock(&folder.with_extension("lock"))?;
    if !folder.is_dir() {
        let unfinished = folder.with_extension("unfinished");
        remove(&unfinished)?;
        cache::create(&unfinished)?;
        make(&unfinished)?;
        fs::rename(&unfinished, &folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    Ok(folder)
}

/// Short name of some inputs: the same for the same inputs on the same kind of machine.
pub fn digest(inputs: &[&str]) -> String {
    let mut hash = Sha256::new();
    for input in [std::env::consts::ARCH].iter().chain(inputs) {
        hash.update(input.len().to_le_bytes());
        hash.update(input.as_bytes());
    }
    hash.finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Removes a folder or file, if there is one.
pub fn remove(path: &Path) -> Result<()> {
    let gone = if path.is_dir() {
        fs::remove_dir_all(path)
    } else if path.symlink_metadata().is_ok() {
        fs::remove_file(path)
    } else {
        Ok(())
    };
    gone.with_context(|| format!("cannot remove {}", path.display()))
}

/// What a symbolic link inside such a folder points to, as a program that has the folder as its root sees it.
pub fn inside(root: &Path, link: &Path) -> Result<Option<PathBuf>> {
    if !link.is_symlink() {
        return Ok(None);
    }
    let target = fs::read_link(link).with_context(|| format!("cannot read {}", link.display()))?;
    Ok(target.strip_prefix("/").ok().map(|target| root.join(target)))
}

fn download(packages: &[&str], into: &Path) -> Result<()> {
    let Some(apt) = shell::find("apt-get") else {
        bail!(
            "these Debian packages are needed, and there is no apt-get to download them: {}",
            packages.join(" ")
        );
    };
    let get = || {
        let mut command = Command::new(&apt);
        // Everything lies in our own folder, so there is no need for the account that apt downloads with.
        command
            .current_dir(into)
            .args(["-qq", "-o", "APT::Sandbox::User=root", "download"]);
        shell::run(command.args(packages))
    };
    if get().is_err() {
        // The package lists of a fresh machine are empty or out of date.
        shell::run(Command::new(&apt).args(["update", "-qq"]))?;
        get()?;
    }
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut all: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    all.sort();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::digest;

    #[test]
    fn inputs_that_differ_only_in_their_borders_have_different_names() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_eq!(digest(&["ab"]), digest(&["ab"]));
    }
}
