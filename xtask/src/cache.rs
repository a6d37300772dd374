//! The folder that holds what is built or running but not part of the repository.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// The cache folder: `$FLYWHEEL_CACHE`, or `~/.cache/flywheel`.
pub fn dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("FLYWHEEL_CACHE").filter(|dir| !dir.is_empty()) {
        let dir = PathBuf::from(dir);
        if dir.is_relative() {
            bail!(
                "FLYWHEEL_CACHE is {}, which is relative: set it to an absolute path",
                dir.display()
            );
        }
        return Ok(dir);
    }
    let home = std::env::var_os("HOME").context("neither FLYWHEEL_CACHE nor HOME is set: set one of them")?;
    Ok(Path::new(&home).join(".cache/flywheel"))
}

/// The root folder of this repository.
pub fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Creates a folder with its parents.
pub fn create(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create the folder {}", dir.display()))
}

/// Writes a file whose folder exists.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// Waits for an exclusive lock that ends with the returned file, or with this process.
pub fn lock(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        create(folder)?;
    }
    let file = File::create(path).with_context(|| format!("cannot create the lock {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// The folder that cargo builds into.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}
