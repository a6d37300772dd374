//! What is written on: its width, whether it shows colours, and what the colours mean.

use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};

/// What a piece of text says about its object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing is said.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Failed, refused or rolled back.
    Bad,
    /// A person, time or data is waited for.
    Waits,
    /// The machine works.
    Busy,
    /// Past or unimportant.
    Quiet,
    /// A heading.
    Strong,
}

impl Tone {
    /// A sign that says the same without colours.
    #[must_use]
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Plain | Self::Strong => "•",
            Self::Good => "✔",
            Self::Bad => "✘",
            Self::Waits => "‖",
            Self::Busy => "◌",
            Self::Quiet => "·",
        }
    }

    const fn style(self) -> Style {
        let color = match self {
            Self::Plain => return Style::new(),
            Self::Strong => return Style::new().bold(),
            Self::Quiet => return Style::new().dimmed(),
            Self::Good => AnsiColor::Green,
            Self::Bad => AnsiColor::Red,
            Self::Waits => AnsiColor::Yellow,
            Self::Busy => AnsiColor::Cyan,
        };
        color.on_default()
    }
}

/// Width and colours of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paper {
    /// Columns.
    pub width: usize,
    /// Whether colours are shown.
    pub color: bool,
}

/// Columns of an output that is no terminal.
const PIPE_WIDTH: usize = 120;
/// Narrower than this nothing can be laid out.
const MIN_WIDTH: usize = 40;

impl Paper {
    /// The standard output: no colours in pipes, with `--no-color` or where NO_COLOR is set (no-color.org).
    #[must_use]
    pub fn of_output(no_color: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let wished = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let columns = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
        let measured = terminal_size::terminal_size().map(|(w, _)| usize::from(w.0));
        let width = columns.or(measured.filter(|_| terminal)).unwrap_or(PIPE_WIDTH);
        Self {
            width: width.max(MIN_WIDTH),
            color: terminal && wished && !no_color,
        }
    }

    /// The text in the colour of the tone.
    #[must_use]
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        if !self.color || text.is_empty() || tone == Tone::Plain {
            return text.to_owned();
        }
        let style = tone.style();
        format!("{style}{text}{style:#}")
    }

    /// The text in lines of at most `width` columns; a word that is longer stands whole on a line of its own.
    #[must_use]
    pub fn wrap(text: &str, width: usize) -> Vec<String> {
        let options = textwrap::Options::new(width.max(20))
            .break_words(false)
            .word_separator(textwrap::WordSeparator::AsciiSpace)
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        textwrap::wrap(text, options)
            .into_iter()
            .map(std::borrow::Cow::into_owned)
            .collect()
    }
}

/// Columns that a text takes.
#[must_use]
pub fn columns(text: &str) -> usize {
    textwrap::core::display_width(text)
}

/// The text, filled up with blanks.
#[must_use]
pub fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_nothing_but_the_text_is_written() {
        let plain = Paper {
            width: 80,
            color: false,
        };
        assert_eq!(plain.paint(Tone::Bad, "Failed"), "Failed");
        let colored = Paper { color: true, ..plain };
        assert_eq!(colored.paint(Tone::Bad, "Failed"), "\u{1b}[31mFailed\u{1b}[0m");
    }

    #[test]
    fn commands_are_not_torn_inside_of_a_word() {
        let lines = Paper::wrap("run kubectl-flywheel-with-a-very-long-word now", 20);
        assert_eq!(lines, ["run", "kubectl-flywheel-with-a-very-long-word", "now"]);
    }
}
