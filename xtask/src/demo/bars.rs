//! What is seen while something takes time: bars on a terminal, lines elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// All bars of a demo, and its clock.
#[derive(Debug, Clone)]
pub struct Bars {
    all: MultiProgress,
    started: Instant,
    terminal: bool,
}

impl Bars {
    /// Starts the clock.
    pub fn start() -> Self {
        Self {
            all: MultiProgress::new(),
            started: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// Minutes and seconds since the start.
    pub fn clock(&self) -> String {
        clock(self.started.elapsed())
    }

    /// Says something that stays.
    pub fn say(&self, line: &str) {
        let line = format!("{:>5}  {line}", self.clock());
        if self.terminal {
            // A terminal that is gone hears nothing, and that is no reason to stop.
            let _ = self.all.println(line);
        } else {
            println!("{line}");
        }
    }

    /// Something that begins now and says how long it took.
    pub fn begin(&self, what: &str) -> Bar {
        let bar = self.all.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("       {spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Bar {
            bar,
            bars: self.clone(),
            what: what.to_owned(),
            since: Instant::now(),
            shown: String::new(),
        }
    }
}

/// One bar.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    bars: Bars,
    what: String,
    since: Instant,
    shown: String,
}

impl Bar {
    /// Shows a table below what is going on; without a terminal, only the lines that are new.
    pub fn table(&mut self, lines: &[String]) {
        let text = lines.join("\n           ");
        self.bar.set_message(format!("{}\n           {text}", self.what));
        if !self.bars.terminal {
            // Columns move when a cell grows; that is no news.
            let bare = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            for line in lines {
                if !self.shown.lines().any(|old| bare(old) == bare(line)) {
                    println!("         {line}");
                }
            }
            self.shown = lines.join("\n");
        }
    }

    /// Ends well.
    pub fn done(self, said: &str) {
        self.bar.finish_and_clear();
        let seconds = self.since.elapsed().as_secs_f32();
        self.bars.say(&format!("{said} ({seconds:.0} s)"));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Minutes and seconds.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::clock;
    use std::time::Duration;

    #[test]
    fn the_clock_shows_minutes_and_seconds() {
        assert_eq!(clock(Duration::from_secs(65)), "1:05");
    }
}
