//! What the operator asked the API servers for, compared with what the chart's roles grant: nothing may be missing, and
//! what nothing uses is a permission too many.

use std::collections::{BTreeMap, BTreeSet};
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
const NOT_SHOWN: [(&str, &str); 3] = [
    // They are asked for by the API server while it admits another request.
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
        let context = || format!("cannot read {}", cluster.audit_log.display());
        let log = std::fs::File::open(&cluster.audit_log).with_context(context)?;
        let (user, mut heard) = (chart::operator(), Heard::default());
        for line in BufReader::new(log).lines() {
            heard.line(&line.with_context(context)?, &user);
        }
        self.used.append(&mut heard.used);
        let (name, (refused, robbed)) = (&cluster.name, heard.refused());
        if !refused.is_empty() {
            let refused: Vec<&str> = refused.into_iter().collect();
            bail!("{name}: refused to the operator:\n{}", refused.join("\n"));
        }
        let taken = match robbed {
            0 => String::new(),
            times => format!(", but for {times} requests of pods whose rights had been taken away"),
        };
        Ok(format!("{name}: the operator was refused nothing{taken}"))
    }

    /// Whether all that the chart grants was used.
    ///
    /// # Errors
    /// If something is granted that no test needed, or if the chart's rules cannot be read.
    pub fn judge(&self) -> Result<String> {
        let granted = granted()?;
        let not_shown = |used: &&Right| NOT_SHOWN.contains(&(used.resource.as_str(), used.verb.as_str()));
        if let Some(shown) = self.used.iter().find(not_shown) {
            bail!("rights: `{shown}` was used, so it is to be shown: take it out of NOT_SHOWN");
        }
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

/// Where an event of the audit log says which credential was used, and when it was asked and answered. Times are of one
/// form: as texts they are in their order.
const CREDENTIAL: &str = "/user/extra/authentication.kubernetes.io~1credential-id/0";
const ASKED: &str = "/requestReceivedTimestamp";
const ANSWERED: &str = "/stageTimestamp";

const RBAC: &str = "rbac.authorization.k8s.io";

/// What an audit log tells of the operator.
#[derive(Debug, Default)]
struct Heard {
    used: BTreeSet<Right>,
    refusals: Vec<Refusal>,
    /// When each credential was first used: every pod of the operator has its own.
    first: BTreeMap<String, String>,
    /// When a role or a binding of the operator was deleted.
    taken: Vec<String>,
}

#[derive(Debug)]
struct Refusal {
    what: String,
    credential: String,
    at: String,
}

impl Heard {
    fn line(&mut self, line: &str, user: &str) {
        if !line.contains(user) && !line.contains(RBAC) {
            return;
        }
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            return;
        };
        let said = |path: &str| text(&event, path).to_owned();
        if takes(&event) {
            self.taken.push(said(ASKED));
        }
        let Some((right, why)) = asked(&event, user) else {
            return;
        };
        let (credential, at) = (said(CREDENTIAL), said(ASKED));
        let first = self.first.entry(credential.clone()).or_insert_with(|| at.clone());
        if at < *first {
            *first = at;
        }
        match why {
            None => drop(self.used.insert(right)),
            Some(why) => self.refusals.push(Refusal {
                what: format!("{right}: {why}"),
                credential,
                at: said(ANSWERED),
            }),
        }
    }

    /// What was refused, and how many refusals say nothing. An upgrade that changes where the operator works, and an
    /// uninstall, take roles away while the pods that had them still end: what is refused to those says nothing.
    fn refused(&self) -> (BTreeSet<&str>, usize) {
        let robbed = |refusal: &&Refusal| {
            let first = self.first.get(&refusal.credential).map(String::as_str);
            let before = |taken: &str| first.is_some_and(|first| first < taken) && taken < refusal.at.as_str();
            !refusal.credential.is_empty() && self.taken.iter().any(|taken| before(taken))
        };
        let (robbed, refused): (Vec<&Refusal>, Vec<&Refusal>) = self.refusals.iter().partition(robbed);
        (refused.into_iter().map(|r| r.what.as_str()).collect(), robbed.len())
    }
}

fn text<'a>(event: &'a Value, path: &str) -> &'a str {
    event.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// Whether an event of the audit log says that a role or a binding of the operator was deleted.
fn takes(event: &Value) -> bool {
    let name = text(event, "/objectRef/name").strip_prefix(chart::RELEASE);
    text(event, "/verb") == "delete"
        && text(event, "/objectRef/apiGroup") == RBAC
        && name.is_some_and(|rest| matches!(rest, "" | "-own"))
}

/// What an event of the audit log says that this user asked for, and why it was refused if it was.
fn asked(event: &Value, user: &str) -> Option<(Right, Option<String>)> {
    let text = |path: &str| text(event, path);
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
    // In a namespace that ends nothing can be made, and beyond a quota no more, whoever asks.
    let whoever = [
        "because it is being terminated",
        "exceeded quota",
        "status unknown for quota",
    ];
    let refused = refused && !whoever.iter().any(|why| message.contains(why));
    Some((right, refused.then(|| message.to_owned())))
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
    use serde_json::{Value, json};

    use super::{Heard, Rights, asked, granted};
    use crate::chart;

    fn line(user: &str, code: u32, message: &str) -> String {
        format!(
            r#"{{"verb":"patch","user":{{"username":"{user}"}},"objectRef":{{"resource":"jobs","apiGroup":"batch","subresource":"status"}},"responseStatus":{{"code":{code},"message":"{message}"}}}}"#
        )
    }

    fn said(line: &str) -> Option<(String, Option<String>)> {
        let event: Value = serde_json::from_str(line).ok()?;
        asked(&event, "me").map(|(right, why)| (right.to_string(), why))
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
    fn nothing_is_refused_to_the_operator_alone_by_a_namespace_that_ends_or_a_quota() {
        for why in [
            "because it is being terminated",
            "exceeded quota: small",
            "status unknown for quota: small",
        ] {
            let refused = line("me", 403, &format!("x is forbidden: {why}"));
            assert!(said(&refused).is_some_and(|(_, why)| why.is_none()), "{why}");
        }
    }

    /// What a pod asks with its credential at that second, and whether it gets it.
    fn asks(credential: &str, second: u32, code: u32) -> String {
        let at = format!("2026-11-30T12:00:{second:02}.000000Z");
        json!({ "verb": "list", "objectRef": { "resource": "jobs", "apiGroup": "batch" },
            "user": { "username": "me", "extra": { "authentication.kubernetes.io/credential-id": [credential] } },
            "responseStatus": { "code": code, "message": credential },
            "requestReceivedTimestamp": at, "stageTimestamp": at })
        .to_string()
    }

    fn deletes(name: &str, second: u32) -> String {
        let at = format!("2026-11-30T12:00:{second:02}.000000Z");
        json!({ "verb": "delete", "user": { "username": "admin" }, "requestReceivedTimestamp": at,
            "objectRef": { "resource": "clusterrolebindings", "apiGroup": "rbac.authorization.k8s.io", "name": name } })
        .to_string()
    }

    #[test]
    fn what_is_refused_says_nothing_of_a_pod_whose_rights_were_taken_away_and_much_of_any_other() {
        let refused = |lines: &[String]| {
            let mut heard = Heard::default();
            lines.iter().for_each(|line| heard.line(line, "me"));
            let (refused, robbed) = heard.refused();
            (refused.into_iter().map(str::to_owned).collect::<Vec<_>>(), robbed)
        };
        let (old, gone, late) = (asks("old", 1, 200), deletes(chart::RELEASE, 5), asks("old", 6, 403));
        assert_eq!(refused(&[old.clone(), gone.clone(), late.clone()]), (vec![], 1));
        // The log may have the refusal first.
        assert_eq!(refused(&[old.clone(), late.clone(), gone.clone()]), (vec![], 1));
        let new = vec!["list jobs.batch: new".to_owned()];
        assert_eq!(refused(&[old.clone(), gone.clone(), asks("new", 7, 403)]), (new, 0));
        let was = || vec!["list jobs.batch: old".to_owned()];
        assert_eq!(refused(&[old.clone(), asks("old", 4, 403), gone]), (was(), 0));
        let other = deletes("flywheel-approver", 5);
        assert_eq!(refused(&[old, other, late]), (was(), 0));
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
