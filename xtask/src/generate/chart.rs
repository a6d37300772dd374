//! What the chart takes over from the code, and what is written about it: CRDs, its README, the table of permissions.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::cache;

/// Where the chart lies in the repository.
pub const CHART: &str = "charts/flywheel";

/// A CRD as the chart's template reads it.
pub fn crd(name: &str) -> PathBuf {
    Path::new(CHART).join("files/crds").join(name)
}

fn read(path: &str) -> Result<String> {
    let path = cache::workspace().join(path);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The chart's README: a text, and a table of all values with their comments.
///
/// # Errors
/// If a value has no comment.
pub fn readme() -> Result<(PathBuf, String)> {
    let values = read(&format!("{CHART}/values.yaml"))?;
    let table: Vec<String> = documented(&values)?.iter().map(Documented::row).collect();
    let text = include_str!("chart-readme.md").replace("VALUES\n", &table.concat());
    Ok((Path::new(CHART).join("README.md"), text))
}

/// A value of the chart with its comment.
struct Documented {
    path: String,
    default: Value,
    comment: String,
}

impl Documented {
    fn row(&self) -> String {
        let default = self.default.to_string().replace('|', "\\|");
        format!("| `{}` | `{default}` | {} |\n", self.path, self.comment)
    }
}

/// Every key with a comment, and what lies below it as its default; every other key must have such keys below it.
fn documented(text: &str) -> Result<Vec<Documented>> {
    let all: Value = serde_saphyr::from_str(text).context("values.yaml is not YAML")?;
    let mut found = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    let mut open: Vec<(usize, &str)> = Vec::new();
    let mut inside: Option<usize> = None;
    for line in text.lines() {
        let words = line.trim_start();
        let depth = line.len() - words.len();
        if inside.is_some_and(|outer| depth > outer || words.starts_with('-')) && !words.is_empty() {
            continue;
        }
        inside = None;
        if words.is_empty() {
            // What ends with an empty line is about all that follows.
            comment.clear();
        }
        if let Some(words) = words.strip_prefix("# ") {
            comment.push(words);
            continue;
        }
        let Some((key, rest)) = words.split_once(':') else {
            continue;
        };
        open.retain(|(outer, _)| *outer < depth);
        open.push((depth, key));
        let path: Vec<&str> = open.iter().map(|(_, key)| *key).collect();
        if !comment.is_empty() {
            found.push(Documented {
                default: all
                    .pointer(&format!("/{}", path.join("/")))
                    .cloned()
                    .unwrap_or_default(),
                path: path.join("."),
                comment: std::mem::take(&mut comment).join(" "),
            });
            inside = Some(depth);
        } else if !rest.trim().is_empty() {
            bail!(
                "values.yaml: {} has no comment: write above it what it does",
                path.join(".")
            );
        }
    }
    Ok(found)
}

/// Who may do what, and why.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

const ROLES: [(&str, &str); 5] = [
    (
        "objects",
        "The operator, in all namespaces, or in those of `watchNamespaces`",
    ),
    ("own", "The operator, in its own namespace"),
    ("view", "People with the cluster's role `view`"),
    ("edit", "People with the cluster's role `edit`, in addition"),
    (
        "approver",
        "People to whom you bind the ClusterRole `<release>-approver`",
    ),
];

/// The page with the permissions of everybody, from the rules that the chart installs.
///
/// # Errors
/// If a rule has no comment that gives its reason.
pub fn permissions() -> Result<(PathBuf, String)> {
    let mut page = include_str!("permissions.md").to_owned();
    for (file, title) in ROLES {
        page.push_str(&format!(
            "\n## {title}\n\n| API group | Resources | Verbs | Why |\n| --- | --- | --- | --- |\n"
        ));
        let path = format!("{CHART}/files/rbac/{file}.yaml");
        let text = read(&path)?;
        for block in text.split("# ").skip(1) {
            let (why, rule) = block.split_once('\n').unwrap_or((block, ""));
            let rules: Vec<Rule> = serde_saphyr::from_str(rule).with_context(|| format!("{path}: `{why}`"))?;
            let [rule] = rules.as_slice() else {
                bail!("{path}: write one rule, and only one, below `{why}`");
            };
            page.push_str(&row(rule, why));
        }
    }
    Ok((PathBuf::from("docs/reference/rbac.md"), page))
}

fn row(rule: &Rule, why: &str) -> String {
    let code = |words: &[String]| {
        let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        quoted.join(", ")
    };
    let group = rule.api_groups.iter().map(|g| if g.is_empty() { "core" } else { g });
    let mut resources = code(&rule.resources);
    if !rule.resource_names.is_empty() {
        // The names are templates of the chart, such as that of the release with a suffix.
        resources.push_str(" (only its own by name)");
    }
    format!(
        "| {} | {resources} | {} | {why} |\n",
        group.collect::<Vec<_>>().join(", "),
        code(&rule.verbs)
    )
}

#[cfg(test)]
mod tests {
    use super::{documented, permissions, readme};

    #[test]
    fn a_value_without_a_comment_is_named() {
        let error = documented("# File.\n\nimage:\n  # Tag.\n  tag: a\n  digest: b\n").map(|_| ());
        assert!(error.is_err_and(|e| e.to_string().contains("image.digest")));
    }

    #[test]
    fn a_commented_value_has_all_below_it_as_its_default() -> anyhow::Result<()> {
        let found = documented("# File.\n\n# Two\n# lines.\na:\n  b: 1\n  c:\n    - x\n# Next.\nd: 2\n")?;
        let rows: Vec<String> = found.iter().map(super::Documented::row).collect();
        assert_eq!(
            rows,
            [
                "| `a` | `{\"b\":1,\"c\":[\"x\"]}` | Two lines. |\n",
                "| `d` | `2` | Next. |\n"
            ]
        );
        Ok(())
    }

    #[test]
    fn every_value_and_every_permission_is_described() -> anyhow::Result<()> {
        assert!(readme()?.1.contains("| `config.brake.engaged` | `false` |"));
        let page = permissions()?.1;
        assert!(page.contains("`approvals` | `list`, `watch` |"), "{page}");
        Ok(())
    }

    #[test]
    fn no_role_has_a_wildcard_reads_secrets_or_makes_roles() -> anyhow::Result<()> {
        let page = permissions()?.1;
        for word in [
            "`*`",
            "`secrets`",
            "`escalate`",
            "`bind`",
            "`impersonate`",
            "`pods/exec`",
        ] {
            assert!(!page.contains(word), "{word}");
        }
        Ok(())
    }
}
