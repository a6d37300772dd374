//! Real Kubernetes on this machine, without a container engine.
//!
//! A cluster is a name, a state folder and processes marked with that folder. The profile `full`
//! has a node and lives in namespaces of its own; `api` is an API server with its controllers on
//! loopback ports. Taking a cluster down needs nothing but its name, also after a crash.

mod beside;
mod bring_up;
mod cgroups;
mod control_plane;
mod identities;
mod network;
mod node;
mod processes;
mod store;

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use self::beside::Beside;
use self::network::Network;
pub use self::processes::mark;
pub use self::store::{End, Store};
use crate::tools::{self, Tool};
use crate::{cache, shell};

/// What a cluster consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Profile {
    /// Everything, with a node that runs pods; needs root.
    Full,
    /// The API server and its controllers: objects, but no pods.
    Api,
}

/// What to bring up.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name of the cluster: lower case letters, digits and dashes, at most 30.
    pub name: String,
    /// What it consists of.
    pub profile: Profile,
    /// What its audit log holds.
    pub audit: Audit,
}

/// What an audit log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audit {
    /// Every write in full, and what the operator reads.
    Writes,
    /// Also who else reads what.
    Reads,
    /// Who wrote, for measurements: little, and the same for all who are compared.
    Bench,
}

/// A cluster that has been brought up.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// What it consists of.
    pub profile: Profile,
    /// The file with the contexts `admin`, `jane` and `bob`; `admin` is the current one.
    pub kubeconfig: PathBuf,
    /// One JSON line for each request that wrote something.
    pub audit_log: PathBuf,
    /// The folder with everything that belongs to it, logs among them.
    pub state: PathBuf,
    /// The address at which pods reach programs on this machine.
    pub host_address: std::net::Ipv4Addr,
}

/// Kubernetes on this machine.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Brings a cluster up, or finds it up and well.
    Up {
        #[command(flatten)]
        which: Which,
        /// What it consists of.
        #[arg(long, value_enum, default_value = "full")]
        profile: Profile,
        /// Also log who read what.
        #[arg(long)]
        audit_reads: bool,
    },
    /// Takes a cluster down and removes all that belongs to it.
    Down {
        #[command(flatten)]
        which: Which,
    },
    /// Prints what a shell needs: `eval "$(cargo xtask cluster env)"`.
    Env {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The name of the cluster.
    #[arg(long, default_value = "flywheel")]
    name: String,
}

/// Runs `cargo xtask cluster`.
pub fn run(args: Args) -> Result<()> {
    match args.action {
        Action::Up {
            which,
            profile,
            audit_reads,
        } => {
            let cluster = up(&Options {
                name: which.name,
                profile,
                audit: if audit_reads { Audit::Reads } else { Audit::Writes },
            })?;
            println!("KUBECONFIG={}", cluster.kubeconfig.display());
        }
        Action::Down { which } => {
            down(&which.name)?;
            // Those of `cargo xtask test` have names that nobody gave them.
            let others: Vec<String> = Home::of(&which.name)?.recorded()?.into_keys().collect();
            if !others.is_empty() {
                eprintln!("not taken down yet: {}", others.join(", "));
            }
        }
        Action::Env { which } => {
            let cluster = find(&which.name)?.with_context(|| {
                let name = &which.name;
                format!("there is no cluster {name}: bring it up with `cargo xtask cluster up --name {name}`")
            })?;
            let folders = std::env::join_paths(tools::folders()?).context("a folder of the tools has a colon")?;
            println!("export KUBECONFIG='{}'", cluster.kubeconfig.display());
            println!("export PATH='{}':\"$PATH\"", folders.to_string_lossy());
        }
    }
    Ok(())
}

/// Brings a cluster up, replaces a broken one of that name, and returns when it is ready.
///
/// A cluster that is up and well is returned as it is; a well one of another kind is an error.
pub fn up(options: &Options) -> Result<Cluster> {
    let home = Home::of(&options.name)?;
    let asked = Instant::now();
    let cold = bring_up::require(options.profile)?;
    let _lock = home.lock()?;
    if let Some(record) = home.record()
        && bring_up::is_well(&home, &record)
    {
        if record.profile != options.profile || record.audit != options.audit {
            bail!(
                "the cluster {name} is up with other settings ({:?}, in the audit log: {:?}): take another name, \
                 or take it down with `cargo xtask cluster down --name {name}`",
                record.profile,
                record.audit,
                name = home.name,
            );
        }
        eprintln!("the cluster {} is up", home.name);
        return Ok(home.cluster(&record));
    }
    home.clear()?;
    let record = home.reserve(options)?;
    let started = Instant::now();
    if let Err(error) = bring_up::all(&home, &record) {
        home.end()?;
        let logs = home.state.join("log");
        return Err(error.context(format!(
            "the cluster {} did not come up; its logs are in {}",
            home.name,
            logs.display()
        )));
    }
    let (warm, all) = (started.elapsed().as_secs_f32(), asked.elapsed().as_secs_f32());
    let kind = if cold {
        format!("cold start: {all:.1} s with all that had to be built")
    } else {
        "warm start".to_owned()
    };
    eprintln!("the cluster {} is ready after {warm:.1} s ({kind})", home.name);
    Ok(home.cluster(&record))
}

/// Takes a cluster down, whatever is left of it; one that does not exist is down already.
pub fn down(name: &str) -> Result<()> {
    let home = Home::of(name)?;
    let _lock = home.lock()?;
    home.clear()?;
    eprintln!("the cluster {name} is down");
    Ok(())
}

/// The cluster of that name, if one was brought up and not taken down; it may have crashed since.
pub fn find(name: &str) -> Result<Option<Cluster>> {
    let home = Home::of(name)?;
    Ok(home.record().map(|record| home.cluster(&record)))
}

impl Cluster {
    /// Runs kubectl as `admin` and returns what it printed; `--context` in the arguments names another person.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        shell::run(kubectl(&self.kubeconfig)?.args(args))
    }

    /// Runs kubectl with a manifest or another text as its input, as in `kubectl apply -f -`.
    pub fn kubectl_with_input(&self, args: &[&str], input: &str) -> Result<String> {
        let mut command = kubectl(&self.kubeconfig)?;
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start kubectl")?;
        let mut stdin = child.stdin.take().context("kubectl has no input")?;
        // kubectl may end before it has read everything; what it says then matters more.
        let written = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().context("cannot wait for kubectl")?;
        if !output.status.success() {
            bail!(
                "`kubectl {}` failed ({}): {}",
                args.join(" "),
                output.status,
                shell::said(&output)
            );
        }
        written.context("kubectl did not read its input")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The socket of the containerd that runs its pods.
    pub fn containerd(&self) -> Result<PathBuf> {
        match self.profile {
            Profile::Full => Ok(node::socket_in(&self.state)),
            Profile::Api => bail!(
                "the cluster {} has the profile api and runs no pods: use the profile full",
                self.name
            ),
        }
    }
}

fn kubectl(kubeconfig: &Path) -> Result<Command> {
    let mut command = Command::new(tools::path(Tool::Kubectl)?);
    command.arg("--kubeconfig").arg(kubeconfig);
    Ok(command)
}

/// What is recorded of a cluster before anything is started.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    profile: Profile,
    audit: Audit,
    network: Network,
}

/// The places of a cluster, all of which follow from its name and the cache folder.
#[derive(Debug)]
struct Home {
    name: String,
    all: PathBuf,
    state: PathBuf,
    link: String,
    cgroup: String,
}

impl Home {
    fn of(name: &str) -> Result<Self> {
        let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        if name.is_empty() || name.len() > 30 || name.starts_with('-') || !name.chars().all(fits) {
            bail!("`{name}` cannot name a cluster: take at most 30 lower case letters, digits and dashes");
        }
        let all = cache::dir()?.join("clusters");
        let state = all.join(name);
        // Clusters of the same name in different caches must not meet.
        let digest = Sha256::digest(state.as_os_str().as_encoded_bytes());
        let id: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            name: name.to_owned(),
            all,
            state,
            link: format!("fw{id}"),
            cgroup: format!("/flywheel-{name}-{id}"),
        })
    }

    fn lock(&self) -> Result<fs::File> {
        cache::lock(&self.all.join(format!(".{}.lock", self.name)))
    }

    /// None also when the record was written by another version of this program: then it is of no use.
    fn record(&self) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.state.join("cluster.json")).ok()?).ok()
    }

    /// Chooses addresses and records them, while no other cluster does.
    fn reserve(&self, options: &Options) -> Result<Record> {
        let _lock = cache::lock(&self.all.join(".addresses.lock"))?;
        cache::create(&self.state.join("log"))?;
        let network = match options.profile {
            Profile::Api => Network::on_loopback()?,
            Profile::Full => Network::of_its_own(&self.taken()?)?,
        };
        let record = Record {
            profile: options.profile,
            audit: options.audit,
            network,
        };
        let text = serde_json::to_vec_pretty(&record).context("cannot write the record of a cluster")?;
        cache::write(&self.state.join("cluster.json"), text)?;
        Ok(record)
    }

    fn taken(&self) -> Result<Vec<u8>> {
        let all = self.recorded()?.into_values();
        Ok(all.filter_map(|record| record.network.slot).collect())
    }

    /// The clusters that were brought up and not taken down, by name.
    fn recorded(&self) -> Result<BTreeMap<String, Record>> {
        let entries = fs::read_dir(&self.all).with_context(|| format!("cannot read {}", self.all.display()))?;
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let record = |name: String| Self::of(&name).ok()?.record().map(|record| (name, record));
        Ok(names.filter_map(record).collect())
    }

    fn cluster(&self, record: &Record) -> Cluster {
        Cluster {
            name: self.name.clone(),
            profile: record.profile,
            kubeconfig: self.state.join("kubeconfig"),
            audit_log: self.state.join("audit.log"),
            state: self.state.clone(),
            host_address: record.network.host,
        }
    }

    /// Ends everything that runs and removes what it held from the kernel; the files stay.
    fn end(&self) -> Result<()> {
        processes::stop(&self.state)?;
        network::disconnect(&self.link)?;
        cgroups::remove(&self.cgroup)
    }

    /// Ends the cluster and removes its files.
    fn clear(&self) -> Result<()> {
        self.end()?;
        match fs::remove_dir_all(&self.state) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.state.display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Home;

    #[test]
    fn names_that_do_not_fit_a_device_or_a_folder_are_refused() {
        for name in ["", "../etc", "Upper", "-x", "a.lock", &"x".repeat(31)] {
            assert!(Home::of(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_network_device_has_at_most_15_characters() -> anyhow::Result<()> {
        assert!(Home::of("a-cluster-with-a-long-name")?.link.len() <= 15);
        Ok(())
    }
}
