//! The processes of a cluster: started away from the terminal, found by a marker in their environment.
//!
//! The marker is the cluster's state folder, so a process is known as ours after any crash, and no
//! number that the kernel has given to somebody else is ever signalled.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::shell;

const CLUSTER: &str = "FLYWHEEL_CLUSTER";
const COMPONENT: &str = "FLYWHEEL_COMPONENT";
/// How often a process without environment is looked at, a millisecond apart.
const LOOKS: u32 = 100;
/// Longest environment in which the marker is found, in bytes.
const LARGEST: usize = 256 << 10;
const STOP_DEADLINE: Duration = Duration::from_secs(15);

/// Puts a program into the background of its own session, whoever waits for the terminal.
const DETACH: &str = r#"log=$1; shift; exec setsid "$@" >>"$log" 2>&1 </dev/null &"#;

/// A running process of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The number by which this machine knows it.
    pub pid: Pid,
    /// The part of the cluster that it belongs to.
    pub component: String,
}

/// Where programs run: on this machine, or inside the cluster's namespaces.
#[derive(Debug, Clone)]
pub struct Place {
    /// The state folder of the cluster, which is also the marker of its processes.
    pub state: PathBuf,
    /// The first process of the cluster's namespaces, for programs that run inside.
    pub inside: Option<Pid>,
}

impl Place {
    /// A command that runs a program at this place.
    pub fn command(&self, program: &Path) -> Command {
        let Some(pid) = self.inside else {
            return Command::new(program);
        };
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid.as_raw_nonzero().to_string()]);
        command.args(["--mount", "--net", "--pid", "--"]).arg(program);
        command
    }

    /// Starts a part of the cluster, which outlives this process and writes to its own log.
    pub fn start<A: AsRef<std::ffi::OsStr>>(
        &self,
        component: &str,
        program: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> Result<()> {
        let mut command = self.command(Path::new("/bin/sh"));
        mark(&mut command, &self.state, component);
        // A fifth of the API server's work would be collecting garbage; memory is what a small machine has more of.
        command.envs([("GOGC", "400"), ("GOMEMLIMIT", "2GiB")]);
        command
            .args(["-c", DETACH, "sh"])
            .arg(self.log(component))
            .arg(program)
            .args(args);
        shell::run(&mut command)?;
        Ok(())
    }

    /// The log of a part of the cluster.
    pub fn log(&self, component: &str) -> PathBuf {
        self.state.join("log").join(format!("{component}.log"))
    }

    /// Fails with the end of its log when a part of the cluster has died.
    pub fn expect_alive(&self, component: &str) -> Result<()> {
        if of(&self.state).iter().any(|process| process.component == component) {
            return Ok(());
        }
        let log = self.log(component);
        bail!(
            "{component} has ended; the end of {} is:\n{}",
            log.display(),
            shell::tail(&log, 15)
        );
    }
}

/// Makes a program, once it runs, a part of the cluster with that state folder, which ends with it.
pub fn mark(command: &mut Command, state: &Path, component: &str) {
    command.env(CLUSTER, state).env(COMPONENT, component);
}

/// All running processes of the cluster with that state folder.
pub fn of(state: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Pid::from_raw)
        .filter_map(|pid| process(pid, state))
        .collect()
}

/// The process that is the first one of the cluster's namespaces.
pub fn first_inside(state: &Path) -> Option<Pid> {
    of(state).into_iter().map(|process| process.pid).find(|pid| {
        let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap_or_default();
        let numbers = status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:"))
            .unwrap_or_default();
        // One number for each namespace, ours first.
        numbers.split_whitespace().nth(1) == Some("1")
    })
}

/// Kills all processes of a cluster and waits until they are gone.
pub fn stop(state: &Path) -> Result<()> {
    let deadline = Instant::now() + STOP_DEADLINE;
    loop {
        let processes = of(state);
        if processes.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "these processes of {} do not end after SIGKILL: {processes:?}",
                state.display()
            );
        }
        // With the first process the kernel ends everything inside, pods included.
        let first = first_inside(state);
        for process in processes
            .iter()
            .filter(|process| first.is_none_or(|first| first == process.pid))
        {
            signal(process.pid, state, Signal::KILL);
        }
        sleep(Duration::from_millis(50));
    }
}

/// Sends a signal to a process of the cluster. Holds on to the process before it looks at it, so that the number cannot
/// change hands between.
pub fn signal(pid: Pid, state: &Path, signal: Signal) {
    if let Ok(handle) = pidfd_open(pid, PidfdFlags::empty())
        && process(pid, state).is_some()
    {
        // It may have ended by itself, which whoever waits for its end sees.
        let _ = pidfd_send_signal(handle, signal);
    }
}

fn process(pid: Pid, state: &Path) -> Option<Process> {
    let environment = environment(pid)?;
    let value = |name: &str| {
        let mut variables = environment.split(|byte| *byte == 0);
        variables.find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    };
    if value(CLUSTER)? != state.as_os_str().as_encoded_bytes() {
        return None;
    }
    let component = String::from_utf8_lossy(value(COMPONENT).unwrap_or_default()).into_owned();
    Some(Process { pid, component })
}

/// The environment of a process; for a moment, while it begins to run another program, it has none, and it is looked at
/// again, because otherwise it would be taken for one that has ended.
fn environment(pid: Pid) -> Option<Vec<u8>> {
    let file = |name: &str| PathBuf::from(format!("/proc/{}/{name}", pid.as_raw_nonzero()));
    for _ in 0..LOOKS {
        let mut found = vec![0; LARGEST];
        // In one piece: a second read may find another program's memory, or none.
        match fs::File::open(file("environ")).and_then(|mut environment| environment.read(&mut found)) {
            Ok(length) if length > 0 => {
                found.truncate(length);
                return Some(found);
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => return None,
            // Neither threads of the kernel nor ended processes have a program.
            _ if fs::read_link(file("exe")).is_err() => return None,
            _ => sleep(Duration::from_millis(1)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{Place, of, stop};

    #[test]
    fn a_process_is_found_by_its_marker_and_stopped() -> anyhow::Result<()> {
        let state = std::env::temp_dir().join(format!("flywheel-processes-{}", std::process::id()));
        std::fs::create_dir_all(state.join("log"))?;
        let place = Place {
            state: state.clone(),
            inside: None,
        };
        place.start("sleeper", Path::new("sleep"), ["600"])?;
        place.expect_alive("sleeper")?;
        assert!(of(&PathBuf::from("/another/cluster")).is_empty());
        stop(&state)?;
        assert!(of(&state).is_empty());
        let report = place.expect_alive("sleeper").map_err(|error| error.to_string());
        assert!(report.is_err_and(|text| text.contains("sleeper has ended")));
        Ok(std::fs::remove_dir_all(&state)?)
    }

    #[test]
    fn a_process_that_begins_to_run_another_program_is_not_taken_for_ended() -> anyhow::Result<()> {
        let state = std::env::temp_dir().join(format!("flywheel-execs-{}", std::process::id()));
        std::fs::create_dir_all(state.join("log"))?;
        let script = state.join("again.sh");
        std::fs::write(&script, "exec /bin/sh \"$0\"\n")?;
        let place = Place {
            state: state.clone(),
            inside: None,
        };
        place.start("restless", Path::new("/bin/sh"), [&script])?;
        let looks = (0..200).try_for_each(|_| place.expect_alive("restless"));
        stop(&state)?;
        std::fs::remove_dir_all(&state)?;
        looks
    }
}
