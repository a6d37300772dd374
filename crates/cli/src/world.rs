//! What a verb knows: the objects of one namespace, read once, with the questions that are asked of them.

use flywheel_api::flywheel_run::FlywheelRunStatus;
use flywheel_api::reference::WaitingFor;
use flywheel_api::rollout::RolloutStatus;
use flywheel_api::{Approval, BiasPolicy, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout, names};
use flywheel_engine::binding;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::api::ListParams;

use crate::cluster::{Cluster, Kind, named, resource};
use crate::error::{Error, refused};

/// The objects of one namespace.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Namespace; empty for all.
    pub namespace: String,
    /// Now, in whole seconds.
    pub now: Timestamp,
    /// Pipelines.
    pub pipelines: Vec<FlywheelPipeline>,
    /// Runs.
    pub runs: Vec<FlywheelRun>,
    /// Versions.
    pub versions: Vec<ModelVersion>,
    /// Rollouts.
    pub rollouts: Vec<Rollout>,
    /// Bias policies.
    pub policies: Vec<BiasPolicy>,
    /// Approvals.
    pub approvals: Vec<Approval>,
    /// Deployments.
    pub deployments: Vec<Deployment>,
    /// Pods.
    pub pods: Vec<Pod>,
    /// Resources that the user may not list, and that are therefore missing.
    pub hidden: Vec<String>,
    /// Objects that cannot be read, and that are therefore missing.
    pub unreadable: Vec<String>,
}

impl World {
    /// Reads everything; what the user may not list is left out and named, except for the loop itself.
    pub async fn fetch(cluster: &Cluster) -> Result<Self, Error> {
        let all = ListParams::default();
        let mut hidden = Vec::new();
        let (pipelines, runs, versions, rollouts) = futures::try_join!(
            cluster.list(&all),
            cluster.list(&all),
            cluster.list(&all),
            cluster.list(&all),
        )?;
        let (policies, approvals, deployments, pods) = futures::join!(
            cluster.list(&all),
            cluster.list(&all),
            cluster.list(&all),
            cluster.list(&all),
        );
        Ok(Self {
            namespace: cluster.namespace.clone(),
            now: now(),
            pipelines,
            runs,
            versions,
            rollouts,
            policies: allowed(policies, &mut hidden)?,
            approvals: allowed(approvals, &mut hidden)?,
            deployments: allowed(deployments, &mut hidden)?,
            pods: allowed(pods, &mut hidden)?,
            hidden,
            unreadable: cluster.unreadable(),
        })
    }

    /// The part of the world that lies in one namespace.
    #[must_use]
    pub fn within(&self, namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            now: self.now,
            pipelines: lying_in(&self.pipelines, namespace),
            runs: lying_in(&self.runs, namespace),
            versions: lying_in(&self.versions, namespace),
            rollouts: lying_in(&self.rollouts, namespace),
            policies: lying_in(&self.policies, namespace),
            approvals: lying_in(&self.approvals, namespace),
            deployments: lying_in(&self.deployments, namespace),
            pods: lying_in(&self.pods, namespace),
            hidden: self.hidden.clone(),
            unreadable: self.unreadable.clone(),
        }
    }

    /// Namespaces in which something of the loop lies, in order.
    #[must_use]
    pub fn namespaces(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .pipelines
            .iter()
            .filter_map(|o| o.metadata.namespace.clone())
            .chain(self.runs.iter().filter_map(|o| o.metadata.namespace.clone()))
            .chain(self.versions.iter().filter_map(|o| o.metadata.namespace.clone()))
            .chain(self.rollouts.iter().filter_map(|o| o.metadata.namespace.clone()))
            .collect();
        all.sort();
        all.dedup();
        all
    }

    /// The pipeline of that name.
    pub fn pipeline(&self, name: &str) -> Result<&FlywheelPipeline, Error> {
        self.named(&self.pipelines, name)
    }

    /// The run of that name.
    pub fn run(&self, name: &str) -> Result<&FlywheelRun, Error> {
        self.named(&self.runs, name)
    }

    /// The version of that name.
    pub fn version(&self, name: &str) -> Result<&ModelVersion, Error> {
        self.named(&self.versions, name)
    }

    /// The rollout of that name.
    pub fn rollout(&self, name: &str) -> Result<&Rollout, Error> {
        self.named(&self.rollouts, name)
    }

    /// The policy of that name.
    pub fn policy(&self, name: &str) -> Result<&BiasPolicy, Error> {
        self.named(&self.policies, name)
    }

    /// The Deployment of that name.
    pub fn deployment(&self, name: &str) -> Result<&Deployment, Error> {
        self.named(&self.deployments, name)
    }

    fn named<'a, K: Kind>(&self, all: &'a [K], name: &str) -> Result<&'a K, Error> {
        if let Some(found) = all.iter().find(|o| o.name_any() == name) {
            return Ok(found);
        }
        let (kind, resource) = (K::kind(&()), resource::<K>());
        if self.hidden.contains(&resource) {
            return refused(format!(
                "{kind} {name} cannot be looked up: you may not list {resource} in namespace {}",
                self.namespace
            ));
        }
        let wanted = ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.clone()),
            ..ObjectMeta::default()
        };
        if self.unreadable.contains(&named::<K>(&wanted)) {
            return refused(format!(
                "{kind} {name} in namespace {} cannot be read: use a plugin that is at least as new as the operator",
                self.namespace
            ));
        }
        let there: Vec<String> = all.iter().map(ResourceExt::name_any).take(10).collect();
        let there = if there.is_empty() {
            "there is none".to_owned()
        } else {
            format!("there are {}", there.join(", "))
        };
        refused(format!(
            "{kind} {name} does not exist in namespace {} ({there}): correct the name, or choose the namespace with -n",
            self.namespace
        ))
    }

    /// Runs of a pipeline, the newest first.
    #[must_use]
    pub fn runs_of(&self, pipeline: &str) -> Vec<&FlywheelRun> {
        let mut all: Vec<&FlywheelRun> = self
            .runs
            .iter()
            .filter(|r| r.spec.pipeline_ref.name == pipeline)
            .collect();
        all.sort_by(|a, b| newest_first(&a.metadata, &b.metadata));
        all
    }

    /// The version that a run made.
    #[must_use]
    pub fn version_of(&self, run: &FlywheelRun) -> Option<&ModelVersion> {
        let intent = status(run).model_version?;
        self.versions
            .iter()
            .find(|v| v.name_any() == intent.name && (intent.uid.is_none() || v.metadata.uid == intent.uid))
    }

    /// The run that made a version.
    #[must_use]
    pub fn run_of(&self, version: &ModelVersion) -> Option<&FlywheelRun> {
        let uid = &version.spec.provenance.as_ref()?.run.uid;
        self.runs.iter().find(|r| r.metadata.uid.as_ref() == Some(uid))
    }

    /// Rollouts of a version, the newest first.
    #[must_use]
    pub fn rollouts_of(&self, version: &str) -> Vec<&Rollout> {
        let mut all: Vec<&Rollout> = self
            .rollouts
            .iter()
            .filter(|r| r.spec.model_version_ref.name == version)
            .collect();
        all.sort_by(|a, b| newest_first(&a.metadata, &b.metadata));
        all
    }

    /// Rollouts to a Deployment, the newest first.
    #[must_use]
    pub fn rollouts_to(&self, target: &str) -> Vec<&Rollout> {
        let mut all: Vec<&Rollout> = self
            .rollouts
            .iter()
            .filter(|r| r.spec.plan.target_ref.name == target)
            .collect();
        all.sort_by(|a, b| newest_first(&a.metadata, &b.metadata));
        all
    }

    /// The version whose artifact a target carries: its binding decides, as the newest rollout to it declares it.
    #[must_use]
    pub fn serves(&self, target: &str) -> Option<&ModelVersion> {
        let rollout = self.rollouts_to(target).into_iter().next()?;
        let deployment = self.deployments.iter().find(|d| d.name_any() == target)?;
        let bound = &rollout.spec.plan.binding;
        let value = binding::value(deployment, bound).ok().flatten()?;
        self.versions.iter().find(|v| binding::wanted(bound, &v.spec) == value)
    }

    /// Pods that a Deployment selects, candidates and others told apart by `candidate`.
    #[must_use]
    pub fn pods_of(&self, deployment: &Deployment, candidate: bool) -> Vec<&Pod> {
        let selector = deployment.spec.as_ref().and_then(|s| s.selector.match_labels.clone());
        let Some(selector) = selector.filter(|s| !s.is_empty()) else {
            return Vec::new();
        };
        let mut pods: Vec<&Pod> = self
            .pods
            .iter()
            .filter(|p| {
                let labels = p.labels();
                let role = labels.get(names::LABEL_ROLE).map(String::as_str) == Some(names::ROLE_CANDIDATE);
                role == candidate && selector.iter().all(|(k, v)| labels.get(k) == Some(v))
            })
            .collect();
        pods.sort_by_key(|p| p.name_any());
        pods
    }

    /// Pods of one attempt of a stage.
    #[must_use]
    pub fn pods_of_stage(&self, run: &FlywheelRun, stage: &str, attempt: i32) -> Vec<&Pod> {
        let uid = run.metadata.uid.as_deref().unwrap_or_default();
        let attempt = attempt.to_string();
        let wanted = [
            (names::LABEL_RUN_UID, uid),
            (names::LABEL_STAGE, stage),
            (names::LABEL_ATTEMPT, attempt.as_str()),
        ];
        self.pods
            .iter()
            .filter(|p| {
                wanted
                    .iter()
                    .all(|(k, v)| p.labels().get(*k).map(String::as_str) == Some(*v))
            })
            .collect()
    }

    /// The decision that waits on a version, at its run.
    #[must_use]
    pub fn waits_on(&self, version: &ModelVersion) -> Option<(&FlywheelRun, WaitingFor)> {
        let uid = version.metadata.uid.as_deref().unwrap_or_default();
        self.runs.iter().find_map(|run| {
            let waits = status(run).waiting_for.filter(|w| w.subject.uid == uid)?;
            Some((run, waits))
        })
    }
}

/// The status of a run.
#[must_use]
pub fn status(run: &FlywheelRun) -> FlywheelRunStatus {
    run.status.clone().unwrap_or_default()
}

/// The status of a rollout.
#[must_use]
pub fn rollout_status(rollout: &Rollout) -> RolloutStatus {
    rollout.status.clone().unwrap_or_default()
}

/// Now, in whole seconds as the API server keeps times.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default()
}

/// Later objects first; equal ones by name.
pub fn newest_first(a: &ObjectMeta, b: &ObjectMeta) -> std::cmp::Ordering {
    let key = |m: &ObjectMeta| m.creation_timestamp.as_ref().map(|t| t.0);
    key(b).cmp(&key(a)).then_with(|| b.name.cmp(&a.name))
}

fn lying_in<K: Kind>(all: &[K], namespace: &str) -> Vec<K> {
    let here = |o: &&K| o.meta().namespace.as_deref() == Some(namespace);
    all.iter().filter(here).cloned().collect()
}

fn allowed<K>(found: Result<Vec<K>, Error>, hidden: &mut Vec<String>) -> Result<Vec<K>, Error> {
    match found {
        Err(Error::Forbidden { resource, .. }) => {
            hidden.push(resource);
            Ok(Vec::new())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use crate::scenes;

    #[test]
    fn what_cannot_be_read_is_not_said_to_be_missing() {
        let mut world = scenes::quiet();
        world.unreadable = vec!["rollouts.flywheel.dev/newer in namespace ml".to_owned()];
        let said = world.rollout("newer").unwrap_err().to_string();
        assert!(
            said.starts_with("Rollout newer in namespace ml cannot be read"),
            "{said}"
        );
    }
}
