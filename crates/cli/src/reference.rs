//! The reference page of the plugin, made of its own command line: what `--help` says, in Markdown.

use clap::{Arg, Command};

/// How kubectl finds the plugin and its completion.
const INSTALL: &str = "\
kubectl runs a program named `kubectl-flywheel` that it finds on the PATH when you type `kubectl flywheel`.
For completion in your shell, put a program named `kubectl_complete-flywheel` beside it:

```sh
#!/bin/sh
exec kubectl flywheel __complete \"$@\"
```
";

/// What a role needs, verb by verb.
const RIGHTS: &str = "\
The plugin acts with your own credentials and asks for nothing more than the verb needs.

| Verbs | Rights in the namespace |
| --- | --- |
| `get`, `explain`, `lineage`, `status` | `list` (with `-w` and `--wait` also `watch`) on `flywheelpipelines`, `flywheelruns`, `modelversions` and `rollouts` of `flywheel.dev`; what else you may list is shown too: `biaspolicies`, `approvals`, `deployments`, `pods` |
| `approve`, `reject` | `get` on what waits, `create` and `list` on `approvals`; the chart's admission policy also asks for the verb `approve` on what is decided |
| `lineage verify` | `list` on `modelversions` and `rollouts`; with `-f` nothing: it needs no cluster |
| `run` | `get` on `flywheelpipelines`, `list` and `create` on `flywheelruns` |
| `abort` | `get` and `patch` on `flywheelruns` or `rollouts` |
| `rollback` | `get`, `list` and `patch` on `rollouts`; with `--to` also `create`, and `get` on `modelversions` and `deployments` |
| `adopt` | `get` and `patch` on `rollouts`, `get` on `deployments` |
| `logs` | `get` on the run or rollout, `list` on `pods`, `get` on `pods/log` |
";

/// The whole page.
#[must_use]
pub fn markdown(root: &Command) -> String {
    let mut root = root.clone();
    root.build();
    let mut text = String::from(
        "# kubectl flywheel\n\nGenerated from the plugin's own command line by `cargo xtask generate`.\n\n",
    );
    text.push_str(&format!(
        "{}\n\n## Install\n\n{INSTALL}\n## Rights\n\n{RIGHTS}\n",
        about(&root)
    ));
    text.push_str("## Exit codes\n\n| Code | Meaning |\n| --- | --- |\n");
    for (code, meaning) in CODES {
        text.push_str(&format!("| {code} | {meaning} |\n"));
    }
    text.push_str("\n## Flags of every verb\n\n");
    let global = root
        .get_arguments()
        .filter(|a| a.is_global_set() || a.get_id() == "help");
    text.push_str(&table(global));
    for verb in shown(&root) {
        section(&mut text, verb, verb.get_name());
        for inner in shown(verb) {
            section(&mut text, inner, &format!("{} {}", verb.get_name(), inner.get_name()));
        }
    }
    text
}

fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command
        .get_subcommands()
        .filter(|c| !c.is_hide_set() && c.get_name() != "help")
}

fn section(text: &mut String, verb: &Command, name: &str) {
    let usage = verb.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
    let usage: Vec<&str> = usage.lines().map(str::trim).collect();
    let usage = usage.join("\n");
    text.push_str(&format!("\n## {name}\n\n{}\n\n```\n{usage}\n```\n\n", about(verb)));
    let own = verb
        .get_arguments()
        .filter(|a| !a.is_global_set() && !matches!(a.get_id().as_str(), "help" | "version"));
    text.push_str(&table(own));
}

/// Every exit code.
const CODES: [(u8, &str); 5] = [
    (0, "Done as asked; for `status`: ended well, or nothing is left to do."),
    (
        1,
        "Failed or refused, and the standard error says why and what would help; or `lineage verify` found something.",
    ),
    (2, "The arguments were not understood."),
    (
        3,
        "`status` only: ended badly (rejected, rolled back, failed) or stalled.",
    ),
    (4, "`status` only: not ended, or waits; with `--wait` the time is over."),
];

fn about(command: &Command) -> String {
    let about = command.get_long_about().or(command.get_about());
    sentence(&about.map(ToString::to_string).unwrap_or_default())
}

/// clap takes the full stop from short helps; here they are sentences again.
fn sentence(text: &str) -> String {
    if text.is_empty() || text.ends_with(['.', ':']) {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}

fn table<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let rows: Vec<String> = arguments
        .filter(|a| !a.is_hide_set())
        .map(|a| format!("| `{}` | {} |\n", shape(a), help(a)))
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("| Argument | Meaning |\n| --- | --- |\n{}", rows.concat())
}

/// `-n, --namespace NAME`.
fn shape(argument: &Arg) -> String {
    let value = argument
        .get_value_names()
        .into_iter()
        .flatten()
        .map(clap::builder::Str::as_str)
        .collect::<Vec<_>>()
        .join(" ");
    let takes = argument.get_action().takes_values();
    let flags: Vec<String> = argument
        .get_short()
        .map(|s| format!("-{s}"))
        .into_iter()
        .chain(argument.get_long().map(|l| format!("--{l}")))
        .collect();
    match (flags.is_empty(), takes) {
        (true, _) => value,
        (false, true) => format!("{} {value}", flags.join(", ")),
        (false, false) => flags.join(", "),
    }
}

fn help(argument: &Arg) -> String {
    let text = argument.get_long_help().or(argument.get_help());
    let mut text = sentence(&text.map(ToString::to_string).unwrap_or_default().replace('\n', " "));
    let values: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|v| !v.is_hide_set())
        .map(|v| format!("`{}`", v.get_name()))
        .collect();
    if argument.get_action().takes_values() && !values.is_empty() {
        text.push_str(&format!(" One of {}.", values.join(", ")));
    }
    let default: Vec<_> = argument
        .get_default_values()
        .iter()
        .map(|d| d.to_string_lossy())
        .collect();
    if argument.get_action().takes_values() && default.iter().any(|d| !d.is_empty()) {
        text.push_str(&format!(" Default: `{}`.", default.join(", ")));
    }
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_and_every_argument_is_explained() {
        let page = markdown(&crate::command_line());
        for verb in [
            "get", "explain", "approve", "reject", "run", "abort", "rollback", "adopt", "lineage", "logs", "status",
        ] {
            assert!(page.contains(&format!("\n## {verb}\n")), "{verb} is missing");
        }
        let unexplained: Vec<&str> = page
            .lines()
            .filter(|l| l.starts_with("| `") && l.ends_with("|  |"))
            .collect();
        assert_eq!(unexplained, Vec::<&str>::new());
        assert!(!page.contains("__complete |"));
    }

    #[test]
    fn the_page_in_the_repository_is_the_one_that_would_be_made() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/plugin.md");
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            stored == markdown(&crate::command_line()),
            "stale: run `cargo xtask generate`"
        );
    }
}
