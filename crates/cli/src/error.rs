//! What can go wrong, in sentences that name the object, what was found and what would help.

use kube::core::Status;

/// Why a verb did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The objects are not such that the verb could act.
    #[error("{0}")]
    Refused(String),
    /// The kubeconfig names no cluster that can be talked to.
    #[error("{what}: {why}")]
    Connection {
        /// What was tried.
        what: String,
        /// What came of it.
        why: String,
    },
    /// The user lacks a right.
    #[error(
        "you may not {verb} {resource} in {place}: ask for a role with verb {verb} on {resource} (the API server says: {said})"
    )]
    Forbidden {
        /// Verb that is missing.
        verb: &'static str,
        /// Resource and group.
        resource: String,
        /// Namespace or cluster.
        place: String,
        /// The API server's message.
        said: String,
    },
    /// The API server refused or could not be asked.
    #[error("cannot {verb} {what}: {said}")]
    Api {
        /// What was tried.
        verb: &'static str,
        /// The object.
        what: String,
        /// The API server's message.
        said: String,
    },
    /// Something could not be written.
    #[error("cannot write the output: {0}")]
    Output(String),
}

/// A refusal in one sentence.
pub fn refused<T>(sentence: impl Into<String>) -> Result<T, Error> {
    Err(Error::Refused(sentence.into()))
}

/// A request, to say what failed.
#[derive(Clone, Debug)]
pub struct Request {
    /// Verb of the API server.
    pub verb: &'static str,
    /// Plural and group, such as `rollouts.flywheel.dev`.
    pub resource: String,
    /// Name of the object, empty for a list.
    pub name: String,
    /// Namespace, empty for all.
    pub namespace: String,
}

impl Request {
    fn place(&self) -> String {
        if self.namespace.is_empty() {
            "all namespaces".to_owned()
        } else {
            format!("namespace {}", self.namespace)
        }
    }

    fn what(&self) -> String {
        let object = if self.name.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.name)
        };
        format!("{object} in {}", self.place())
    }

    /// What the failed request means to the user.
    #[must_use]
    pub fn failed(&self, error: &kube::Error) -> Error {
        let said = match error {
            kube::Error::Api(status) => return self.refused(status),
            other => chain(other),
        };
        Error::Api {
            verb: self.verb,
            what: self.what(),
            said,
        }
    }

    fn refused(&self, status: &Status) -> Error {
        if status.is_forbidden() && !status.message.contains("ValidatingAdmissionPolicy") {
            return Error::Forbidden {
                verb: self.verb,
                resource: self.resource.clone(),
                place: self.place(),
                said: status.message.clone(),
            };
        }
        if status.is_not_found() && self.name.is_empty() {
            return Error::Refused(format!(
                "the cluster does not know {}: install Flywheel's CustomResourceDefinitions (helm install, or kubectl apply -k crds)",
                self.resource
            ));
        }
        if status.is_not_found() {
            return Error::Refused(format!(
                "{} does not exist: `kubectl get {} -n {}` lists those that do",
                self.what(),
                self.resource,
                self.namespace
            ));
        }
        Error::Api {
            verb: self.verb,
            what: self.what(),
            said: status.message.clone(),
        }
    }
}

/// The error with its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str) -> Request {
        Request {
            verb: "create",
            resource: "approvals.flywheel.dev".to_owned(),
            name: name.to_owned(),
            namespace: "ml".to_owned(),
        }
    }

    fn status(code: u16, reason: &str, message: &str) -> kube::Error {
        kube::Error::Api(Box::new(Status::failure(message, reason).with_code(code)))
    }

    #[test]
    fn a_missing_right_names_verb_and_resource() {
        let said = r#"approvals.flywheel.dev is forbidden: User "bob" cannot create resource"#;
        let error = request("a").failed(&status(403, "Forbidden", said)).to_string();
        assert!(
            error.starts_with(
                "you may not create approvals.flywheel.dev in namespace ml: ask for a role with verb create"
            ),
            "{error}"
        );
        assert!(error.contains(said), "{error}");
    }

    #[test]
    fn a_refusal_of_an_admission_policy_is_no_missing_right() {
        let said = "ValidatingAdmissionPolicy 'flywheel-approver' denied request: approver must be you";
        let error = request("a").failed(&status(403, "Forbidden", said)).to_string();
        assert_eq!(
            error,
            format!("cannot create approvals.flywheel.dev/a in namespace ml: {said}")
        );
    }

    #[test]
    fn missing_kinds_and_missing_objects_are_told_apart() {
        let kinds = request("").failed(&status(
            404,
            "NotFound",
            "the server could not find the requested resource",
        ));
        assert!(
            kinds
                .to_string()
                .contains("install Flywheel's CustomResourceDefinitions")
        );
        let object = request("a").failed(&status(404, "NotFound", "not found"));
        assert!(
            object
                .to_string()
                .starts_with("approvals.flywheel.dev/a in namespace ml does not exist")
        );
    }
}
