//! A tree of objects with aligned columns: name, state, age, and sentences beside or below.

use crate::paper::{Paper, Tone, columns, pad};

/// One object of the tree.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Kind and name.
    pub name: String,
    /// What the state means.
    pub tone: Tone,
    /// One word.
    pub state: String,
    /// How old it is or how long it took.
    pub age: String,
    /// What there is to say.
    pub says: Vec<Line>,
    /// Objects below.
    pub children: Vec<Node>,
}

/// Something that is said of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A sentence, wrapped where it is too long.
    Sentence(String),
    /// A command, never wrapped: it is meant to be copied.
    Command(String),
}

impl Node {
    /// A node with its state.
    #[must_use]
    pub fn new(name: impl Into<String>, tone: Tone, state: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            tone,
            state: state.into(),
            ..Self::default()
        }
    }

    /// With an age or a duration.
    #[must_use]
    pub fn aged(mut self, age: impl Into<String>) -> Self {
        self.age = age.into();
        self
    }

    /// With a sentence, unless it is empty.
    #[must_use]
    pub fn saying(mut self, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        if !sentence.is_empty() {
            self.says.push(Line::Sentence(sentence));
        }
        self
    }

    /// With a command.
    #[must_use]
    pub fn commanding(mut self, command: impl Into<String>) -> Self {
        self.says.push(Line::Command(command.into()));
        self
    }
}

struct Row<'a> {
    guide: String,
    below: String,
    node: &'a Node,
}

/// Least columns for a sentence beside its object; where there are fewer, it stands below.
const BESIDE: usize = 36;

/// The trees as text, each line with a line feed.
#[must_use]
pub fn draw(paper: Paper, roots: &[Node]) -> String {
    let mut rows = Vec::new();
    for root in roots {
        flatten(root, "", "", &mut rows);
    }
    let width = |of: &dyn Fn(&Row<'_>) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let name = width(&|r| columns(&r.guide) + 2 + columns(&r.node.name));
    let state = width(&|r| columns(&r.node.state));
    let age = width(&|r| columns(&r.node.age));
    let indent = name + state + age + 6;
    let beside = paper.width.checked_sub(indent).filter(|rest| *rest >= BESIDE);
    let mut text = String::new();
    for row in &rows {
        let sign = paper.paint(row.node.tone, row.node.tone.sign());
        let used = columns(&row.guide) + 2 + columns(&row.node.name);
        let head = format!(
            "{}{sign} {}{}  {}  {}",
            paper.paint(Tone::Quiet, &row.guide),
            row.node.name,
            " ".repeat(name.saturating_sub(used)),
            paper.paint(row.node.tone, &pad(&row.node.state, state)),
            pad(&row.node.age, age),
        );
        let lines = said(paper, row, beside);
        let (mut first, mut rest) = (String::new(), lines.as_slice());
        if beside.is_some()
            && let Some((line, others)) = lines.split_first()
        {
            first = format!("  {line}");
            rest = others;
        }
        text.push_str(format!("{head}{first}").trim_end());
        text.push('\n');
        for line in rest {
            let lead = if beside.is_some() {
                pad(&row.below, indent)
            } else {
                format!("{}  ", row.below)
            };
            text.push_str(paper.paint(Tone::Quiet, &lead).as_str());
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn said(paper: Paper, row: &Row<'_>, beside: Option<usize>) -> Vec<String> {
    let width = beside.unwrap_or_else(|| paper.width.saturating_sub(columns(&row.below) + 2));
    let lines = row.node.says.iter().flat_map(|line| match line {
        Line::Sentence(text) => Paper::wrap(text, width),
        Line::Command(text) => vec![paper.paint(Tone::Strong, text)],
    });
    lines.collect()
}

fn flatten<'a>(node: &'a Node, guide: &str, below: &str, rows: &mut Vec<Row<'a>>) {
    let trunk = if node.children.is_empty() { "  " } else { "│ " };
    rows.push(Row {
        guide: guide.to_owned(),
        below: format!("{below}{trunk}"),
        node,
    });
    let last = node.children.len().saturating_sub(1);
    for (index, child) in node.children.iter().enumerate() {
        let (branch, trunk) = if index == last {
            ("└─", "  ")
        } else {
            ("├─", "│ ")
        };
        flatten(child, &format!("{below}{branch}"), &format!("{below}{trunk}"), rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Vec<Node> {
        let mut root = Node::new("FlywheelRun eta-7", Tone::Waits, "AwaitingApproval").aged("2m");
        root = root
            .saying("Three gates passed; at level HumanOversight a person decides on the delivery.")
            .commanding("kubectl flywheel approve modelversion eta-7 -n ml");
        root.children = vec![
            Node::new("stage train", Tone::Good, "Succeeded").aged("41s"),
            Node::new("ModelVersion eta-7", Tone::Plain, "Candidate"),
        ];
        vec![root]
    }

    #[test]
    fn sentences_stand_beside_where_there_is_room_and_below_where_there_is_none() {
        let wide = draw(
            Paper {
                width: 120,
                color: false,
            },
            &tree(),
        );
        insta::assert_snapshot!(wide);
        let narrow = draw(
            Paper {
                width: 80,
                color: false,
            },
            &tree(),
        );
        insta::assert_snapshot!(narrow);
    }
}
