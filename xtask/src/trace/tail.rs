//! Waiting until an audit log holds a write that is known to be the last one that counts.
//!
//! The API server writes a line when it has answered: a moment after the client has seen the answer. Whoever judges a
//! log first makes a write of its own, the marker, and waits for its line.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// The part of a log that is written from now on.
#[derive(Debug)]
pub struct Tail {
    log: PathBuf,
    from: u64,
}

impl Tail {
    /// Begins at the present end of the log.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn new(log: &Path) -> Result<Self> {
        let context = || format!("cannot read the audit log {}", log.display());
        let from = std::fs::metadata(log).with_context(context)?.len();
        Ok(Self {
            log: log.to_owned(),
            from,
        })
    }

    /// Bytes that the log had when the tail began.
    #[must_use]
    pub const fn from(&self) -> u64 {
        self.from
    }

    /// Waits until a whole line contains this text, which must be unique: the name of the marker.
    ///
    /// # Errors
    /// If the log cannot be read, or the line does not come in time.
    pub fn wait_for(&self, marker: &str, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            let mut file = File::open(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
            file.seek(SeekFrom::Start(self.from))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let text = String::from_utf8_lossy(&bytes);
            if text
                .split_inclusive('\n')
                .any(|l| l.ends_with('\n') && l.contains(marker))
            {
                return Ok(());
            }
            if Instant::now() >= end {
                bail!(
                    "{} does not tell of the write {marker} within {} s",
                    self.log.display(),
                    patience.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
