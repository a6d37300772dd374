//! The control groups below which the pods of a cluster are kept.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

const REMOVE_DEADLINE: Duration = Duration::from_secs(5);

/// Creates a group in every hierarchy: version 2 has one, version 1 several.
pub fn create(group: &str) -> Result<()> {
    for hierarchy in for_pods(hierarchies()?) {
        let dir = within(&hierarchy, group);
        fs::create_dir_all(&dir).with_context(|| format!("cannot create the control group {}", dir.display()))?;
    }
    Ok(())
}

/// Removes a group, whose processes have ended, with all groups below.
pub fn remove(group: &str) -> Result<()> {
    let deadline = Instant::now() + REMOVE_DEADLINE;
    for hierarchy in hierarchies()? {
        let dir = within(&hierarchy, group);
        // The kernel lets go of an ended process a little later.
        while let Err(error) = remove_below(&dir) {
            if error.kind() == ErrorKind::NotFound {
                break;
            }
            if Instant::now() > deadline {
                bail!("cannot remove the control group {}: {error}", dir.display());
            }
            sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// Groups are folders of files that cannot be removed; only the folders can.
fn remove_below(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_below(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

fn within(hierarchy: &Path, group: &str) -> PathBuf {
    hierarchy.join(group.trim_start_matches('/'))
}

fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    let found = parse(&mounts);
    if found.is_empty() {
        bail!("no control groups are mounted below /sys/fs/cgroup: a node needs them");
    }
    Ok(found)
}

fn parse(mounts: &str) -> Vec<PathBuf> {
    let lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = lines.filter_map(|words| match words[..] {
        [_, dir, "cgroup" | "cgroup2", ..] if dir.starts_with("/sys/fs/cgroup") => Some(PathBuf::from(dir)),
        _ => None,
    });
    found.collect()
}

/// The hierarchies in which a pod is limited: on a machine with both versions, those of the older one.
///
/// The runtime leaves groups in the newer one all the same, which is why all are looked at in the end.
fn for_pods(mut all: Vec<PathBuf>) -> Vec<PathBuf> {
    if all.len() > 1 {
        all.retain(|dir| dir != Path::new("/sys/fs/cgroup/unified"));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{for_pods, parse};

    #[test]
    fn version_2_has_one_hierarchy() {
        let found = parse("proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n");
        assert_eq!(found, [PathBuf::from("/sys/fs/cgroup")]);
    }

    #[test]
    fn version_1_has_one_for_each_controller() {
        let all = parse(
            "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
             cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
        );
        assert_eq!(
            for_pods(all),
            [
                PathBuf::from("/sys/fs/cgroup/cpu"),
                PathBuf::from("/sys/fs/cgroup/memory")
            ]
        );
    }
}
