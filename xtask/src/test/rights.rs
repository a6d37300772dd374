//! What the operator asked the API servers for, compared with what the chart's roles grant: nothing may be missing, and
//! what nothing uses is a permission too many.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead as _, BufReader};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::chart;
use crate::cluster::Cluster;

/// The roles of the operator among the chart's.
const ROLES: [&str; 2] = ["objects", "own"];

/// Granted, though no request of the tests shows them.
const NOT_SHOWN: [(&str, &str); 7] = [
    // An object that cannot be read is marked so, with the same code for every kind; the tests break a BiasPolicy.
    ("flywheelpipelines/status", "patch"),
    ("flywheelruns/status", "patch"),
    ("modelversions/status", "patch"),
    ("rollouts/status", "patch"),
    // The others are asked for by the API server while it admits another request.
    // The chart's policy on runs; what it refuses is tested with it.
    ("flywheelruns", "trigger"),
    // The plugin OwnerReferencesPermissionEnforcement of some clusters.
    ("flywheelpipelines/finalizers", "update"),
    ("flywheelruns/finalizers", "update"),
];

/// One verb on one resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    group: String,
    resource: String,
    verb: String,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        write!(f, "{} {}{dot}{}", self.verb, self.resource, self.group)
    }
}

/// What was used, over all clusters of a run.
#[derive(Debug, Default)]
pub struct Rights {
    used: BTreeSet<Right>,
}

impl Rights {
    /// Adds what the operator asked of this cluster, and says whether the chart's roles let it do all of that.
    ///
    /// # Errors
    /// If something was refused, or if the audit log cannot be read.
    pub fn read(&mut self, cluster: &Cluster) -> Result<String> {
        let refused = self.collect(cluster)?;
        if !refused.is_empty() {
            bail!("{}: refused to the operator:\n{}", cluster.name, refused.join("\n"));
        }
        Ok(format!("{}: the operator was refused nothing", cluster.name))
    }

    /// Adds what the operator asked of this cluster; says what it was refused.
    ///
    /// # Errors
    /// If the audit log cannot be read.
    pub fn collect(&mut self, cluster: &Cluster) -> Result<Vec<String>> {
        let user = chart::operator();
        let log = std::fs::File::open(&cluster.audit_log)
            .with_context(|| format!("cannot read {}", cluster.audit_log.display()))?;
        let mut refused = BTreeSet::new();
        for line in BufReader::new(log).lines() {
            let line = line.with_context(|| format!("cannot read {}", cluster.audit_log.display()))?;
            if !line.contains(&user) {
                continue;
            }
            match asked(&line, &user) {
                Some((right, None)) => drop(self.used.insert(right)),
                Some((right, Some(why))) => drop(refused.insert(format!("{right}: {why}"))),
                None => {}
            }
        }
        Ok(refused.into_iter().collect())
    }

    /// Whether all that the chart grants was used.
    ///
    /// # Errors
    /// If something is granted that no test needed, or if the chart's rules cannot be read.
    pub fn judge(&self) -> Result<String> {
        let granted = granted()?;
        let unused: Vec<String> = granted.difference(&self.used).map(ToString::to_string).collect();
        if !unused.is_empty() {
            bail!(
                "rights: granted to the operator by charts/flywheel/files/rbac and used by no test; take it away, or \
                 test what needs it:\n{}",
                unused.join("\n")
            );
        }
        let more = NOT_SHOWN.len();
        Ok(format!(
            "rights: each of the {} that the chart grants was used ({more} more cannot be shown)",
            granted.len()
        ))
    }
}

/// What a line of the audit log says that this user asked for, and why it was refused if it was.
fn asked(line: &str, user: &str) -> Option<(Right, Option<String>)> {
    let event: Value = serde_json::from_str(line).ok()?;
    let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
    if text("/user/username") != user || text("/objectRef/resource").is_empty() {
        return None;
    }
    let slash = if text("/objectRef/subresource").is_empty() {
        ""
    } else {
        "/"
    };
    let right = Right {
        group: text("/objectRef/apiGroup").to_owned(),
        resource: format!(
            "{}{slash}{}",
            text("/objectRef/resource"),
            text("/objectRef/subresource")
        ),
        verb: text("/verb").to_owned(),
    };
    let message = text("/responseStatus/message");
    let refused = event.pointer("/responseStatus/code").and_then(Value::as_i64) == Some(403);
    // In a namespace that ends nothing can be made, whoever asks.
    let ending = message.contains("because it is being terminated");
    Some((right, (refused && !ending).then(|| message.to_owned())))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
}

/// What the chart grants to the operator and requests can show.
fn granted() -> Result<BTreeSet<Right>> {
    let mut all = BTreeSet::new();
    for role in ROLES {
        let path = chart::file(&format!("files/rbac/{role}.yaml"));
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let rules: Vec<Rule> = serde_saphyr::from_str(&text).with_context(|| format!("{}", path.display()))?;
        for rule in rules {
            for group in &rule.api_groups {
                for resource in &rule.resources {
                    let right = |verb: &String| Right {
                        group: group.clone(),
                        resource: resource.clone(),
                        verb: verb.clone(),
                    };
                    let shown = |verb: &&String| !NOT_SHOWN.contains(&(resource.as_str(), verb.as_str()));
                    all.extend(rule.verbs.iter().filter(shown).map(right));
                }
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::{Rights, asked, granted};

    fn line(user: &str, code: u32, message: &str) -> String {
        format!(
            r#"{{"verb":"patch","user":{{"username":"{user}"}},"objectRef":{{"resource":"jobs","apiGroup":"batch","subresource":"status"}},"responseStatus":{{"code":{code},"message":"{message}"}}}}"#
        )
    }

    fn said(line: &str) -> Option<(String, Option<String>)> {
        asked(line, "me").map(|(right, why)| (right.to_string(), why))
    }

    #[test]
    fn only_what_the_operator_asked_for_counts() {
        let right = "patch jobs/status.batch".to_owned();
        assert_eq!(said(&line("me", 200, "")), Some((right.clone(), None)));
        assert_eq!(said(&line("me", 403, "no")), Some((right, Some("no".to_owned()))));
        assert_eq!(said(&line("you", 403, "no")), None);
        assert_eq!(said("not JSON"), None);
    }

    #[test]
    fn nothing_is_refused_by_a_namespace_that_ends() {
        let ending = line("me", 403, "x is forbidden because it is being terminated");
        assert!(said(&ending).is_some_and(|(_, why)| why.is_none()));
    }

    #[test]
    fn a_right_that_nothing_used_is_named() -> anyhow::Result<()> {
        let mut rights = Rights { used: granted()? };
        assert!(rights.judge()?.starts_with("rights: each of the "));
        let lost = rights
            .used
            .pop_last()
            .map(|right| right.to_string())
            .unwrap_or_default();
        assert!(rights.judge().is_err_and(|e| e.to_string().ends_with(&lost)));
        Ok(())
    }
}
