//! Programs that come as Debian packages: the container runtime and what it needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shell;

/// A program and the Debian package that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packaged {
    /// The file name of the program.
    pub program: &'static str,
    /// The package that installs it.
    pub package: &'static str,
}

/// What a node needs beside the programs that are built here.
pub const NODE: [Packaged; 9] = [
    Packaged {
        program: "containerd",
        package: "containerd",
    },
    Packaged {
        program: "ctr",
        package: "containerd",
    },
    Packaged {
        program: "runc",
        package: "runc",
    },
    Packaged {
        program: "ptp",
        package: "containernetworking-plugins",
    },
    IPTABLES,
    Packaged {
        program: "conntrack",
        package: "conntrack",
    },
    Packaged {
        program: "ip",
        package: "iproute2",
    },
    Packaged {
        program: "nsenter",
        package: "util-linux",
    },
    Packaged {
        program: "unshare",
        package: "util-linux",
    },
];

/// Sets the rules of a node's firewall.
pub const IPTABLES: Packaged = Packaged {
    program: "iptables",
    package: "iptables",
};

/// Copies images to a registry.
pub const SKOPEO: Packaged = Packaged {
    program: "skopeo",
    package: "skopeo",
};

/// What checks rules and metrics of Prometheus.
pub const PROMTOOL: Packaged = Packaged {
    program: "promtool",
    package: "prometheus",
};

/// Shows programs another time than it is.
const FAKETIME: Packaged = Packaged {
    program: "faketime",
    package: "faketime",
};

/// The library by which a program sees another time, if it is loaded before it.
pub fn clock_library() -> Result<String> {
    let told = shell::run(Command::new(path(FAKETIME)?).args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"]))?;
    Ok(told.trim().to_owned())
}

/// Forbids the start of services while their packages are installed.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// The path of a packaged program; installs its package when it is missing.
pub fn path(wanted: Packaged) -> Result<PathBuf> {
    ensure(&[wanted])?;
    shell::find(wanted.program).with_context(|| {
        format!(
            "the package {} is installed and has no program {}",
            wanted.package, wanted.program
        )
    })
}

/// Installs the packages of all programs that are missing, without starting their services.
///
/// Without root, or without apt, the error names the packages instead.
pub fn ensure(wanted: &[Packaged]) -> Result<()> {
    let missing = missing(wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    let Some(apt) = shell::find("apt-get") else {
        bail!("programs of these Debian packages are missing, and there is no apt-get to install them: {names}");
    };
    if !rustix::process::geteuid().is_root() {
        bail!("these packages are missing: run `sudo apt-get install --no-install-recommends {names}`");
    }
    eprintln!("installing {names} …");
    let _policy = NoServices::declare()?;
    if install(&apt, &missing).is_err() {
        // The package lists of a fresh machine are empty or out of date.
        shell::run(Command::new(&apt).args(["update", "-qq"]))?;
        install(&apt, &missing)?;
    }
    let left = self::missing(wanted);
    if !left.is_empty() {
        bail!(
            "apt-get installed {names}, and programs of {} are still missing",
            left.join(" ")
        );
    }
    Ok(())
}

fn missing(wanted: &[Packaged]) -> Vec<&'static str> {
    let absent = wanted.iter().filter(|one| shell::find(one.program).is_none());
    let mut packages: Vec<&str> = absent.map(|one| one.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn install(apt: &Path, packages: &[&str]) -> Result<String> {
    let options = ["install", "-y", "-qq", "--no-install-recommends"];
    shell::run(
        Command::new(apt)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(options)
            .args(packages),
    )
}

/// While this lives, installed packages do not start their services; an existing policy is left alone.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn declare() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        use std::os::unix::fs::PermissionsExt as _;
        fs::write(POLICY, "#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {POLICY}"))?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {POLICY} executable"))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            // Without this file services start as usual, so a failure to remove it must be seen.
            if let Err(error) = fs::remove_file(POLICY) {
                eprintln!("remove {POLICY} yourself, or new services will not start: {error}");
            }
        }
    }
}
