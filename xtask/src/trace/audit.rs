//! One line of an API server's audit log: a request that wrote something, or tried to.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use flywheel_api::names;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::world::{Key, Kind};

/// What the operator's user agent begins with.
const OPERATOR_AGENT: &str = "flywheel-operator/";

/// A request as the audit log has it.
#[derive(Debug, Clone)]
pub struct Request {
    /// When the request had been answered.
    pub at: String,
    /// Who asked; the impersonated user where there is one.
    pub user: String,
    /// What proved who asked; every process of an operator has its own, as a rule.
    pub credential: String,
    /// Who wrote by the rules of [`is_operator`].
    pub operator: bool,
    /// `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// Object that was written.
    pub key: Key,
    /// `status`, `scale` or another part of the object; empty for the object itself.
    pub subresource: String,
    /// HTTP status of the answer.
    pub code: u16,
    /// What was sent.
    pub body: Value,
    /// What was answered: the object after the write, or a Status.
    pub answer: Value,
}

/// The operator is known by its user agent, whoever it runs as; writes of an operator that sends none are known by the
/// field manager that each of its writes but deletions names. People who want to be taken for the operator can be: the
/// trace judges tests, it does not authenticate.
#[must_use]
pub fn is_operator(agent: &str, uri: &str) -> bool {
    let manager = uri
        .split_once('?')
        .map(|(_, query)| query)
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("fieldManager="))
        .unwrap_or_default();
    agent.starts_with(OPERATOR_AGENT) || manager == names::FIELD_MANAGER
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<Object> {
    stage: String,
    #[serde(rename = "requestURI")]
    uri: String,
    verb: String,
    user: User,
    #[serde(default)]
    impersonated_user: Option<User>,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: Option<ObjectRef>,
    #[serde(default)]
    response_status: Option<Status>,
    #[serde(default)]
    stage_timestamp: String,
    #[serde(default)]
    request_object: Option<Object>,
    #[serde(default)]
    response_object: Option<Object>,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
    #[serde(default)]
    extra: BTreeMap<String, Vec<String>>,
}

/// Where the API server says by which credential it knows somebody.
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    namespace: String,
    name: String,
    api_group: String,
    subresource: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

/// Verbs that write.
const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

/// The write that a line tells of; nothing if it tells of none that the trace needs.
///
/// # Errors
/// If the line is no audit event.
pub fn read(line: &str) -> Result<Option<Request>> {
    // Most lines of a cluster are about objects that nobody asks for: their contents are skipped, not parsed.
    let brief: Line<IgnoredAny> = serde_json::from_str(line).context("the line is no audit event")?;
    let reference = brief.object_ref.unwrap_or_default();
    let kind = Kind::of(&reference.api_group, &reference.resource);
    let operator = is_operator(&brief.user_agent, &brief.uri);
    let needed = operator || !matches!(kind, Kind::Other(_));
    let wrote = brief.stage == "ResponseComplete" && WRITES.contains(&brief.verb.as_str());
    if !needed || !wrote || brief.uri.contains("dryRun=") {
        return Ok(None);
    }
    let full: Line<Value> = serde_json::from_str(line).context("the line is no audit event")?;
    let answer = cleaned(full.response_object);
    let name = match reference.name.as_str() {
        "" => super::json::text(&answer, "/metadata/name").to_owned(),
        name => name.to_owned(),
    };
    let credential = full.user.extra.get(CREDENTIAL).and_then(|all| all.first()).cloned();
    Ok(Some(Request {
        at: full.stage_timestamp,
        credential: credential.unwrap_or_default(),
        user: full.impersonated_user.unwrap_or(full.user).username,
        operator,
        verb: full.verb,
        key: Key {
            kind,
            namespace: reference.namespace,
            name,
        },
        subresource: reference.subresource,
        code: full.response_status.map_or(0, |s| s.code),
        body: cleaned(full.request_object),
        answer,
    }))
}

/// Managed fields are half of every object and no invariant is about them.
fn cleaned(object: Option<Value>) -> Value {
    let mut object = object.unwrap_or_default();
    if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(change: impl FnOnce(&mut Value)) -> String {
        let mut event = json!({ "stage": "ResponseComplete", "verb": "create", "user": { "username": "admin" },
            "requestURI": "/apis/batch/v1/namespaces/a/jobs?&fieldManager=flywheel", "userAgent": "",
            "objectRef": { "resource": "jobs", "namespace": "a", "apiGroup": "batch", "name": "j" },
            "responseStatus": { "code": 201 },
            "responseObject": { "metadata": { "name": "j", "managedFields": [{}] } } });
        change(&mut event);
        event.to_string()
    }

    #[test]
    fn a_write_is_read_without_its_managed_fields() {
        let request = read(&line(|_| {})).expect("valid").expect("a write");
        assert!(request.operator);
        assert_eq!((request.code, request.key.kind), (201, Kind::Job));
        assert_eq!(request.answer, json!({ "metadata": { "name": "j" } }));
    }

    #[test]
    fn reads_dry_runs_and_foreign_kinds_of_others_are_left_out() {
        let cases: [fn(&mut Value); 4] = [
            |e| e["verb"] = json!("get"),
            |e| e["requestURI"] = json!("/apis/batch/v1/namespaces/a/jobs?dryRun=All&fieldManager=flywheel"),
            |e| e["stage"] = json!("ResponseStarted"),
            |e| {
                e["objectRef"] = json!({ "resource": "pods", "namespace": "a", "name": "p" });
                e["requestURI"] = json!("/api/v1/namespaces/a/pods");
            },
        ];
        for (index, case) in cases.into_iter().enumerate() {
            assert!(read(&line(case)).expect("valid").is_none(), "case {index}");
        }
    }

    #[test]
    fn whatever_the_operator_writes_is_read_also_secrets() {
        let request = read(&line(|e| {
            e["objectRef"] = json!({ "resource": "secrets", "namespace": "a", "name": "s" });
            e["userAgent"] = json!("flywheel-operator/0.1.0");
            e["requestURI"] = json!("/api/v1/namespaces/a/secrets/s");
            e["verb"] = json!("delete");
        }));
        let kind = request.expect("valid").expect("a write").key.kind;
        assert_eq!(kind, Kind::Other("secrets".to_owned()));
    }

    #[test]
    fn the_field_manager_must_be_exactly_the_operators() {
        assert!(is_operator("", "/x?fieldManager=flywheel&force=true"));
        assert!(!is_operator("kubectl/v1.34", "/x?fieldManager=flywheel-cli"));
        assert!(!is_operator("kubectl/v1.34", "/x?name=fieldManager=flywheel"));
    }

    #[test]
    fn a_broken_line_is_an_error() {
        assert!(read("{").is_err());
    }
}
