//! What a process uses, as the kernel counts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// A program under measurement.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    /// Its number.
    pub pid: u32,
}

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Everything that is in memory now, the program's own file included.
    pub resident: u64,
    /// The most that was in memory at once.
    pub peak: u64,
}

impl Process {
    /// Its memory now.
    ///
    /// # Errors
    /// If it has ended.
    pub fn memory(self) -> Result<Memory> {
        memory(&self.read("status")?)
    }

    /// Processor time that it has used since its start, over all its threads.
    ///
    /// # Errors
    /// If it has ended.
    pub fn cpu(self) -> Result<Duration> {
        let ticks = ticks(&self.read("stat")?)?;
        let rate = u32::try_from(rustix::param::clock_ticks_per_second()).context("a clock without ticks")?;
        Ok(Duration::from_secs(ticks) / rate)
    }

    fn read(self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.pid);
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}: the process has ended"))
    }
}

fn memory(status: &str) -> Result<Memory> {
    let bytes = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|line| line.trim_end_matches("kB").trim().parse::<u64>().ok());
        Ok(kibibytes.with_context(|| format!("the status of the process has no {name}"))? << 10)
    };
    Ok(Memory {
        resident: bytes("VmRSS:")?,
        peak: bytes("VmHWM:")?,
    })
}

/// User and system time. The name of the program stands in parentheses before, and may contain anything.
fn ticks(stat: &str) -> Result<u64> {
    let (_, after) = stat.rsplit_once(')').context("the process has no name")?;
    let fields = after.split_whitespace().skip(11).take(2);
    fields
        .map(|field| field.parse::<u64>().context("no number of ticks"))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::{Memory, Process, memory, ticks};

    #[test]
    fn memory_is_read_in_bytes() -> anyhow::Result<()> {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let expected = Memory {
            resident: 1 << 20,
            peak: 2 << 20,
        };
        assert_eq!(memory(status)?, expected);
        assert!(memory("Name:\tx\n").is_err(), "no data is not zero");
        Ok(())
    }

    #[test]
    fn time_is_read_behind_a_name_with_parentheses() -> anyhow::Result<()> {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20";
        assert_eq!(ticks(stat)?, 42);
        Ok(())
    }

    #[test]
    fn this_process_has_memory() -> anyhow::Result<()> {
        let this = Process {
            pid: std::process::id(),
        };
        assert!(this.memory()?.resident > 1 << 20 && this.cpu().is_ok());
        Ok(())
    }
}
