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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Report, mib, time};

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
    fn times_below_a_second_are_in_milliseconds() {
        assert_eq!(time(Duration::from_millis(999)), "999 ms");
        assert_eq!(time(Duration::from_millis(1250)), "1.2 s");
    }
}
