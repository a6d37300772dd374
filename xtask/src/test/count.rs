//! What `cargo test` says, added up over several calls.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, Result};

use crate::shell;

/// How a line begins in which a test says what it covered.
const COVERED: &str = "covered: ";

/// How many tests passed and failed.
#[derive(Debug, Default)]
pub struct Count {
    /// Tests that passed.
    pub passed: u32,
    /// Tests that failed.
    pub failed: u32,
    /// Something ended without saying how many tests failed, such as a compiler.
    pub broken: bool,
    /// What tests say that they covered, as far as their output is shown.
    pub covered: Vec<String>,
}

/// One call of `cargo test`.
#[derive(Debug, Default)]
pub struct Call<'a> {
    /// Arguments of cargo, the word `test` among them.
    pub cargo: &'a [&'a str],
    /// Only tests whose name contains this.
    pub filter: Option<&'a str>,
    /// Arguments of the test program.
    pub program: &'a [&'a str],
    /// Variables of its environment.
    pub env: &'a [(&'a str, String)],
}

impl Count {
    /// Runs `cargo test`, shows what it prints, and adds up what its lines say.
    ///
    /// # Errors
    /// If cargo cannot be started; failed tests are counted instead.
    pub fn cargo(&mut self, call: &Call<'_>) -> Result<()> {
        let mut command = shell::cargo();
        command.args(call.cargo).arg("--no-fail-fast").arg("--");
        command.args(call.filter).args(call.program);
        command
            .envs(call.env.iter().map(|(k, v)| (k, v)))
            .stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start cargo")?;
        let said = child.stdout.take().context("cargo has no output")?;
        for line in BufReader::new(said).split(b'\n') {
            let line = line.context("cannot read what cargo says")?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            self.hear(&line);
        }
        self.broken |= !child.wait().context("cannot wait for cargo")?.success();
        Ok(())
    }

    fn hear(&mut self, line: &str) {
        if line.starts_with("test result:") {
            self.passed += number(line, " passed");
            self.failed += number(line, " failed");
        }
        self.covered.extend(line.strip_prefix(COVERED).map(ToOwned::to_owned));
    }

    /// Counts a judgement that is no test of cargo's as one more test.
    pub fn one(&mut self, judgement: Result<String>) {
        match judgement {
            Ok(sentence) => {
                println!("{sentence}");
                self.passed += 1;
            }
            Err(violated) => {
                println!("{violated:#}");
                self.failed += 1;
            }
        }
    }

    /// Whether nothing failed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.failed == 0 && !self.broken
    }
}

/// The number before this word.
fn number(line: &str, word: &str) -> u32 {
    let before = line.split(word).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn results_and_what_was_covered_are_read_from_the_lines_of_cargo() {
        let mut count = Count::default();
        let lines = [
            "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured",
            "covered: 3 distinct states in 1 scenes",
            "test what_is_covered: ... ok",
            "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured",
        ];
        lines.iter().for_each(|line| count.hear(line));
        assert_eq!((count.passed, count.failed), (13, 3));
        assert_eq!(count.covered, ["3 distinct states in 1 scenes"]);
    }
}
