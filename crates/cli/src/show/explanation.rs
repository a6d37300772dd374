//! An explanation: where an object stands, and in sections everything that led there.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;

use crate::paper::{Paper, Tone, columns, pad};
use crate::words::{self, Standing};

/// Why an object stands where it stands.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Kind of the object.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// Namespace of the object.
    pub namespace: String,
    #[serde(skip)]
    tone: Tone,
    /// One word: where it stands.
    pub state: String,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// One sentence: why.
    pub message: String,
    /// What led there.
    pub sections: Vec<Section>,
}

/// Things of one sort.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Section {
    /// What they are.
    pub title: String,
    /// The things.
    pub items: Vec<Item>,
}

/// One gate, verdict, check, approval or decision.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Item {
    #[serde(skip)]
    tone: Tone,
    /// Name.
    pub name: String,
    /// One word.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// Numbers with their names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub numbers: Vec<Number>,
    /// What there is to say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sentences: Vec<String>,
    /// What can be done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
}

/// A number with its name.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Number {
    /// What it is.
    pub name: String,
    /// The number.
    pub value: String,
}

impl Explanation {
    /// The beginning: the object and where it stands.
    #[must_use]
    pub fn new(kind: &str, name: String, namespace: Option<String>, stands: Standing) -> Self {
        Self {
            kind: kind.to_owned(),
            name,
            namespace: namespace.unwrap_or_default(),
            tone: stands.tone,
            state: stands.reason,
            since: stands.since,
            message: stands.message,
            sections: Vec::new(),
        }
    }

    /// Adds a section, unless it is empty.
    pub fn add(&mut self, title: &str, items: Vec<Item>) {
        if !items.is_empty() {
            self.sections.push(Section {
                title: title.to_owned(),
                items,
            });
        }
    }

    /// The explanation for people.
    #[must_use]
    pub fn draw(&self, paper: Paper, now: Timestamp) -> String {
        let head = format!("{} {} in namespace {}", self.kind, self.name, self.namespace);
        let mut text = format!("{}\n", paper.paint(Tone::Strong, &head));
        let since = self
            .since
            .as_ref()
            .map_or_else(String::new, |at| format!(" since {} ({})", words::since(at, now), at.0));
        let state = paper.paint(self.tone, &format!("{} {}", self.tone.sign(), self.state));
        text.push_str(&format!("{state}{since}\n"));
        paragraph(&mut text, paper, 2, &self.message);
        for section in &self.sections {
            text.push_str(&format!("\n{}\n", paper.paint(Tone::Strong, &section.title)));
            section.draw(&mut text, paper);
        }
        text
    }
}

impl Section {
    fn draw(&self, text: &mut String, paper: Paper) {
        let name = self.items.iter().map(|i| columns(&i.name)).max().unwrap_or(0);
        let state = self.items.iter().map(|i| columns(&i.state)).max().unwrap_or(0);
        for item in &self.items {
            let sign = paper.paint(item.tone, item.tone.sign());
            let word = paper.paint(item.tone, &pad(&item.state, state));
            let head = format!("  {sign} {}  {word}", pad(&item.name, name));
            let numbers: Vec<String> = item.numbers.iter().map(|n| format!("{} {}", n.name, n.value)).collect();
            let numbers = numbers.join(", ");
            let beside = 6 + name + state + 2 + columns(&numbers) <= paper.width;
            let line = if beside { format!("{head}  {numbers}") } else { head };
            text.push_str(line.trim_end());
            text.push('\n');
            if !beside {
                paragraph(text, paper, 4, &numbers);
            }
            for sentence in &item.sentences {
                paragraph(text, paper, 4, sentence);
            }
            for command in &item.commands {
                text.push_str(&format!("    {}\n", paper.paint(Tone::Strong, command)));
            }
        }
    }
}

impl Item {
    /// An item with its state.
    #[must_use]
    pub fn new(name: impl Into<String>, tone: Tone, state: impl Into<String>) -> Self {
        Self {
            tone,
            name: name.into(),
            state: state.into(),
            ..Self::default()
        }
    }

    /// With a number, if there is one.
    #[must_use]
    pub fn number(mut self, name: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.numbers.push(Number {
                name: name.to_owned(),
                value: value.to_string(),
            });
        }
        self
    }

    /// With a sentence, unless it is empty.
    #[must_use]
    pub fn saying(mut self, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        if !sentence.is_empty() {
            self.sentences.push(sentence);
        }
        self
    }

    /// With a command.
    #[must_use]
    pub fn commanding(mut self, command: impl Into<String>) -> Self {
        self.commands.push(command.into());
        self
    }
}

fn paragraph(text: &mut String, paper: Paper, indent: usize, said: &str) {
    if said.is_empty() {
        return;
    }
    for line in Paper::wrap(said, paper.width.saturating_sub(indent)) {
        text.push_str(&format!("{}{line}\n", " ".repeat(indent)));
    }
}
