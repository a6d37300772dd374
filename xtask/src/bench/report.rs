//! What a measurement says, as a table that can be pasted into a document.

use std::fmt::Write as _;
use std::time::Duration;

/// Rows of measured values.
#[derive(Debug, Default)]
pub struct Report {
    title: String,
    rows: Vec<[String; 3]>,
}

impl Report {
    /// A table without rows.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            rows: Vec::new(),
        }
    }

    /// A value that is measured and has no aim.
    pub fn value(&mut self, what: impl Into<String>, measured: impl Into<String>) {
        self.rows.push([what.into(), measured.into(), String::new()]);
    }

    /// A value and what it should be; the row says whether it is. An aim is no test: nothing fails.
    pub fn aim(&mut self, what: impl Into<String>, measured: impl Into<String>, aim: &str, met: bool) {
        let verdict = if met { "met" } else { "missed" };
        self.rows
            .push([what.into(), measured.into(), format!("{aim}: {verdict}")]);
    }

    /// A number of things per other thing, which should be at most `aim`.
    pub fn at_most(&mut self, what: impl Into<String>, things: usize, each: usize, aim: f64) {
        let met = rate(things, each) <= aim;
        self.aim(what, per(things, each), &format!("at most {aim}"), met);
    }

    /// Two values and how many times the second the first is, which should be at most `aim`.
    pub fn against(&mut self, what: impl Into<String>, ours: &(f64, String), theirs: &(f64, String), aim: f64) {
        let ratio = ours.0 / theirs.0;
        let measured = format!("{} / {} = {ratio:.2}", ours.1, theirs.1);
        self.aim(what, measured, &format!("at most {aim:.2}"), ratio <= aim);
    }

    /// The table in Markdown, with columns of equal width so that a terminal shows it too.
    pub fn render(&self) -> String {
        let head = [self.title.clone(), "Measured".to_owned(), "Aim".to_owned()];
        let all = || std::iter::once(&head).chain(&self.rows);
        let width = |column: usize| {
            let cells = all().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths = [width(0), width(1), width(2)];
        let mut text = String::new();
        for (index, [what, measured, aim]) in all().enumerate() {
            let [first, second, third] = widths;
            let _ = writeln!(text, "| {what:first$} | {measured:second$} | {aim:third$} |");
            if index == 0 {
                let [first, second, third] = widths.map(|width| "-".repeat(width));
                let _ = writeln!(text, "| {first} | {second} | {third} |");
            }
        }
        text
    }
}

/// A number of bytes in MiB.
pub fn mib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// A time in seconds, or in milliseconds below one second.
pub fn time(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

/// A number of things per other thing, with one digit after the point.
pub fn per(things: usize, each: usize) -> String {
    format!("{:.1}", rate(things, each))
}

/// The same as a number.
pub fn rate(things: usize, each: usize) -> f64 {
    things as f64 / each as f64
}

/// The time below which so many percent of the times are; zero for none.
pub fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let rank = sorted.len().saturating_mul(percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Report, mib, percentile, time};

    #[test]
    fn a_table_has_columns_of_equal_width_and_says_whether_aims_are_met() {
        let mut report = Report::new("Idle");
        report.value("memory", mib(3 << 19));
        report.aim("writes", "7", "0", false);
        let lines = [
            "| Idle   | Measured | Aim       |",
            "| ------ | -------- | --------- |",
            "| memory | 1.5 MiB  |           |",
            "| writes | 7        | 0: missed |",
        ];
        assert_eq!(report.render().lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn of_two_values_the_ratio_is_held_against_the_aim() {
        let mut report = Report::new("Rollouts");
        report.against("time", &(2.0, "2 s".to_owned()), &(8.0, "8 s".to_owned()), 0.25);
        report.against("writes", &(9.0, "9".to_owned()), &(8.0, "8".to_owned()), 1.0);
        let text = report.render();
        assert!(text.contains("| 2 s / 8 s = 0.25 | at most 0.25: met"), "{text}");
        assert!(text.contains("| 9 / 8 = 1.12     | at most 1.00: missed"), "{text}");
    }

    #[test]
    fn a_percentile_is_one_of_the_times() {
        let times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Duration::from_millis(50));
        assert_eq!(percentile(&times, 99), Duration::from_millis(99));
        assert_eq!(percentile(&times[..1], 99), Duration::from_millis(100));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }

    #[test]
    fn times_below_a_second_are_in_milliseconds() {
        assert_eq!(time(Duration::from_millis(999)), "999 ms");
        assert_eq!(time(Duration::from_millis(1250)), "1.2 s");
    }
}
