//! Lineage in both directions, from labels, specs and statuses alone: what a version comes from, and what came of a
//! dataset, a run, a rollout or a Deployment.

use std::collections::BTreeSet;

use flywheel_api::model_version::{Dataset, StageProvenance};
use flywheel_api::{FlywheelRun, ModelVersion, Rollout};
use kube::ResourceExt;
use serde::Serialize;

use crate::error::{Error, refused};
use crate::paper::Tone;
use crate::subject::{Kind, Subject};
use crate::tree::Node;
use crate::words;
use crate::world::{World, newest_first, rollout_status, status};

/// Fewest digits that tell a digest from others.
const MIN_DIGITS: usize = 8;

/// What is known of the ways that lead to something and from it.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lineage {
    /// What was asked about.
    pub subject: Fact,
    /// What it comes from.
    pub comes_from: Vec<Fact>,
    /// What came of it.
    pub leads_to: Vec<Fact>,
}

/// An object, or something recorded on one, with what lies behind it.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fact {
    /// Kind, such as ModelVersion, Dataset or Job.
    pub kind: String,
    /// Name.
    pub name: String,
    /// UID, where it is one particular object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Where it stands.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// What is recorded of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Detail>,
    /// What lies behind it in the same direction.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<Fact>,
}

/// Something that is recorded of a fact.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Detail {
    /// What it is.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Fact {
    fn new(kind: &str, name: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            name: name.into(),
            ..Self::default()
        }
    }

    fn detail(mut self, name: &str, value: &impl std::fmt::Display) -> Self {
        let value = value.to_string();
        if !value.is_empty() {
            self.details.push(Detail {
                name: name.to_owned(),
                value,
            });
        }
        self
    }

    fn node(&self) -> Node {
        let tone = match self.state.as_str() {
            "Live" | "Approved" | "Promoted" | "Observing" | "Registered" | "Pass" | "Approve" | "serves" => Tone::Good,
            "Rejected" | "RolledBack" | "Failed" | "Aborted" | "Fail" | "Error" | "Reject" => Tone::Bad,
            _ => Tone::Plain,
        };
        let details: Vec<String> = self.details.iter().map(|d| format!("{} {}", d.name, d.value)).collect();
        let mut node = Node::new(format!("{} {}", self.kind, self.name), tone, &*self.state).saying(details.join(", "));
        node.children = self.next.iter().map(Self::node).collect();
        node
    }
}

impl Lineage {
    /// The lineage as one tree with two branches.
    #[must_use]
    pub fn tree(&self) -> Node {
        let mut root = self.subject.node();
        let branch = |name: &str, facts: &[Fact]| {
            let mut node = Node::new(name, Tone::Strong, "");
            node.children = facts.iter().map(Fact::node).collect();
            if facts.is_empty() {
                node = node.saying("nothing that is recorded");
            }
            node
        };
        root.children = vec![
            branch("comes from", &self.comes_from),
            branch("leads to", &self.leads_to),
        ];
        root
    }
}

/// Everything that is recorded about the ways to and from the subject.
pub fn lineage(world: &World, subject: &Subject) -> Result<Lineage, Error> {
    let name = &subject.name;
    match subject.kind {
        Kind::Version => Ok(of_version(world, world.version(name)?)),
        Kind::Run => Ok(of_run(world, world.run(name)?)),
        Kind::Rollout => Ok(of_rollout(world, world.rollout(name)?)),
        Kind::Deployment => of_deployment(world, name),
        Kind::Dataset => of_dataset(world, name),
        Kind::Pipeline => {
            let pipeline = world.pipeline(name)?;
            let uid = pipeline.metadata.uid.clone().unwrap_or_default();
            let made = sorted(
                world
                    .versions
                    .iter()
                    .filter(|v| v.spec.provenance.as_ref().is_some_and(|p| p.pipeline.uid == uid)),
            );
            let mut subject = Fact::new("FlywheelPipeline", name).detail("model", &pipeline.spec.model.name);
            subject.uid = uid;
            Ok(Lineage {
                subject,
                comes_from: Vec::new(),
                leads_to: made
                    .into_iter()
                    .map(|v| forward(world, v, &mut BTreeSet::new()))
                    .collect(),
            })
        }
        Kind::Policy | Kind::Approval => refused(format!(
            "lineage is recorded for versions, runs, rollouts, pipelines, deployments and datasets, not for a {}",
            subject.kind.word()
        )),
    }
}

fn sorted<'a>(versions: impl Iterator<Item = &'a ModelVersion>) -> Vec<&'a ModelVersion> {
    let mut all: Vec<&ModelVersion> = versions.collect();
    all.sort_by(|a, b| newest_first(&b.metadata, &a.metadata));
    all
}

fn of_version(world: &World, version: &ModelVersion) -> Lineage {
    Lineage {
        subject: brief(version),
        comes_from: backward(world, version),
        leads_to: forward(world, version, &mut BTreeSet::new()).next,
    }
}

fn brief(version: &ModelVersion) -> Fact {
    let state = version.status.as_ref().map(|s| s.state).unwrap_or_default();
    let mut fact = Fact::new("ModelVersion", version.name_any())
        .detail("artifact", &version.spec.artifact.uri)
        .detail("digest", &version.spec.artifact.digest);
    fact.uid = version.metadata.uid.clone().unwrap_or_default();
    words::of_state(state).1.clone_into(&mut fact.state);
    fact
}

/// Data, code, decisions and ancestors.
fn backward(world: &World, version: &ModelVersion) -> Vec<Fact> {
    let mut facts: Vec<Fact> = version.spec.datasets.iter().map(dataset).collect();
    if let Some(made) = &version.spec.provenance {
        let mut pipeline =
            Fact::new("FlywheelPipeline", &*made.pipeline.name).detail("snapshot", &made.snapshot_digest);
        pipeline.uid.clone_from(&made.pipeline.uid);
        facts.push(pipeline);
        let known = world
            .runs
            .iter()
            .any(|r| r.metadata.uid.as_ref() == Some(&made.run.uid));
        let mut run = Fact::new("FlywheelRun", &*made.run.name)
            .detail("asked for by", &made.requested_by)
            .detail("level", &made.level.name())
            .detail("seed", &made.seed);
        run.uid.clone_from(&made.run.uid);
        run.state = if known { String::new() } else { "pruned".to_owned() };
        run.next = made.stages.iter().map(stage).collect();
        facts.push(run);
    }
    let parameters = version.spec.parameters.iter();
    facts.extend(parameters.map(|p| Fact::new("parameter", &*p.name).detail("is", &p.value)));
    facts.extend(judged(version));
    facts.extend(parent(world, version, &mut BTreeSet::new()));
    facts
}

/// What gates, bias policies and people said of it.
fn judged(version: &ModelVersion) -> Vec<Fact> {
    let own = version.status.clone().unwrap_or_default();
    let gates = own.evaluations.iter().map(|g| {
        let mut fact = Fact::new("gate", &*g.gate)
            .detail(
                &g.metric,
                &g.value.as_ref().map(ToString::to_string).unwrap_or_default(),
            )
            .detail(
                "live",
                &g.baseline.as_ref().map(ToString::to_string).unwrap_or_default(),
            );
        g.verdict.name().clone_into(&mut fact.state);
        fact
    });
    let bias = own.bias.iter().map(|b| {
        let mut fact = Fact::new("bias", format!("{}/{}", b.policy, b.objective))
            .detail(&b.attribute, &b.group)
            .detail("bound", &b.bound.as_ref().map(ToString::to_string).unwrap_or_default());
        fact.uid.clone_from(&b.policy_uid);
        b.verdict.name().clone_into(&mut fact.state);
        fact
    });
    let approvals = own.approvals.iter().map(|a| {
        let mut fact = Fact::new("Approval", &*a.name)
            .detail("by", &a.approver)
            .detail("gate", &a.gate.name())
            .detail("at", &a.at.0)
            .detail("evidence", &a.evidence_digest);
        fact.uid.clone_from(&a.uid);
        fact.state = format!("{:?}", a.decision);
        fact
    });
    gates.chain(bias).chain(approvals).collect()
}

/// The version that it was compared with, and those before.
fn parent(world: &World, version: &ModelVersion, seen: &mut BTreeSet<String>) -> Option<Fact> {
    let name = version.spec.parent.as_ref()?.name.clone();
    if !seen.insert(name.clone()) {
        return None;
    }
    let Some(found) = world.versions.iter().find(|v| v.name_any() == name) else {
        let mut fact = Fact::new("parent", name);
        "gone".clone_into(&mut fact.state);
        return Some(fact);
    };
    let mut fact = brief(found);
    "parent".clone_into(&mut fact.kind);
    fact.next = parent(world, found, seen).into_iter().collect();
    Some(fact)
}

fn dataset(data: &Dataset) -> Fact {
    let records = data.records.map(|r| r.to_string()).unwrap_or_default();
    let window = data
        .window
        .as_ref()
        .map(|w| format!("{} to {}", w.start.0, w.end.0))
        .unwrap_or_default();
    Fact::new("Dataset", &*data.name)
        .detail("digest", &data.digest)
        .detail("uri", &data.uri)
        .detail("records", &records)
        .detail("window", &window)
}

fn stage(stage: &StageProvenance) -> Fact {
    let mut fact = Fact::new("Job", &*stage.job.name)
        .detail("stage", &stage.name)
        .detail("attempt", &stage.attempt)
        .detail("image", &stage.image)
        .detail("ran", &stage.image_id.clone().unwrap_or_default())
        .detail("from", &stage.started_at.0)
        .detail("to", &stage.finished_at.0);
    fact.uid.clone_from(&stage.job.uid);
    fact
}

/// The version with its deliveries and the versions that name it as parent.
fn forward(world: &World, version: &ModelVersion, seen: &mut BTreeSet<String>) -> Fact {
    let name = version.name_any();
    let mut fact = brief(version);
    if !seen.insert(name.clone()) {
        return fact;
    }
    fact.next = world
        .rollouts_of(&name)
        .into_iter()
        .rev()
        .map(|r| delivery(world, r))
        .collect();
    let lost = version.status.iter().flat_map(|s| &s.deployments);
    let known = |uid: &str| world.rollouts.iter().any(|r| r.metadata.uid.as_deref() == Some(uid));
    fact.next.extend(lost.filter(|d| !known(&d.rollout.uid)).map(|d| {
        let mut fact = Fact::new("Rollout", &*d.rollout.name)
            .detail("to", &d.target)
            .detail("since", &d.since.0);
        fact.uid.clone_from(&d.rollout.uid);
        fact.state.clone_from(&d.phase);
        fact
    }));
    let of_parent = |v: &&ModelVersion| v.spec.parent.as_ref().is_some_and(|p| p.name == name);
    let children = sorted(world.versions.iter().filter(of_parent));
    fact.next.extend(children.into_iter().map(|child| {
        let mut fact = forward(world, child, seen);
        "child".clone_into(&mut fact.kind);
        fact
    }));
    fact
}

fn delivery(world: &World, rollout: &Rollout) -> Fact {
    let status = rollout_status(rollout);
    let target = &rollout.spec.plan.target_ref.name;
    let version = &rollout.spec.model_version_ref.name;
    let weight = status.weights.map(|w| format!("{} %", w.actual)).unwrap_or_default();
    let created = rollout.metadata.creation_timestamp.as_ref().map(|t| t.0.to_string());
    let mut fact = Fact::new("Rollout", rollout.name_any())
        .detail("to", &format!("Deployment/{target}"))
        .detail("weight", &weight)
        .detail("since", &created.unwrap_or_default());
    fact.uid = rollout.metadata.uid.clone().unwrap_or_default();
    status.phase.name().clone_into(&mut fact.state);
    let serves = world.serves(target).is_some_and(|v| v.name_any() == *version);
    let newest = world
        .rollouts_of(version)
        .into_iter()
        .find(|r| r.spec.plan.target_ref.name == *target);
    if serves && newest.map(|r| &r.metadata.uid) == Some(&rollout.metadata.uid) {
        let mut target = Fact::new("Deployment", target);
        "serves".clone_into(&mut target.state);
        fact.next = vec![target];
    }
    fact
}

fn of_run(world: &World, run: &FlywheelRun) -> Lineage {
    let own = status(run);
    let mut subject = Fact::new("FlywheelRun", run.name_any())
        .detail("trigger", &run.spec.trigger.name)
        .detail("asked for by", &run.spec.requested_by);
    subject.uid = run.metadata.uid.clone().unwrap_or_default();
    subject.state = own.outcome.map(|o| o.name().to_owned()).unwrap_or_default();
    let mut pipeline = Fact::new("FlywheelPipeline", &*run.spec.pipeline_ref.name);
    pipeline.uid = own.pipeline_uid.unwrap_or_default();
    if let Some(snapshot) = &own.snapshot {
        pipeline = pipeline.detail("snapshot", &snapshot.digest);
    }
    let compared = own.compared_with.map(|v| Fact::new("compared with", v.name));
    let made = sorted(world.versions.iter().filter(|v| {
        let run = v.spec.provenance.as_ref().map(|p| p.run.uid.as_str());
        run.is_some() && run == subject_uid(&subject)
    }));
    Lineage {
        comes_from: std::iter::once(pipeline).chain(compared).collect(),
        leads_to: made
            .into_iter()
            .map(|v| forward(world, v, &mut BTreeSet::new()))
            .collect(),
        subject,
    }
}

fn subject_uid(fact: &Fact) -> Option<&str> {
    Some(fact.uid.as_str()).filter(|uid| !uid.is_empty())
}

fn of_rollout(world: &World, rollout: &Rollout) -> Lineage {
    let name = &rollout.spec.model_version_ref.name;
    let mut facts = Vec::new();
    if let Some(version) = world.versions.iter().find(|v| v.name_any() == *name) {
        let mut fact = brief(version);
        fact.next = backward(world, version);
        facts.push(fact);
    }
    if let Some(before) = rollout_status(rollout).baseline {
        let what = before.version.unwrap_or_else(|| "of no version".to_owned());
        facts.push(Fact::new("baseline", what).detail("value", &before.value.unwrap_or_default()));
    }
    let mut subject = delivery(world, rollout);
    Lineage {
        comes_from: facts,
        leads_to: std::mem::take(&mut subject.next),
        subject,
    }
}

/// What serves, where it comes from, and what served before.
fn of_deployment(world: &World, name: &str) -> Result<Lineage, Error> {
    world.deployment(name)?;
    let rollouts = world.rollouts_to(name);
    if rollouts.is_empty() {
        return refused(format!(
            "no Rollout names Deployment {name} in namespace {} as its target: nothing is recorded about what it serves",
            world.namespace
        ));
    }
    let mut subject = Fact::new("Deployment", name);
    let mut comes_from = Vec::new();
    match world.serves(name) {
        Some(version) => {
            subject = subject.detail("serves", &version.name_any());
            let mut fact = brief(version);
            fact.next = backward(world, version);
            comes_from.push(fact);
        }
        None => subject = subject.detail("serves", &"a value of no known version"),
    }
    comes_from.extend(rollouts.into_iter().map(|r| {
        let mut fact = delivery(world, r).detail("version", &r.spec.model_version_ref.name);
        fact.next.clear();
        fact
    }));
    Ok(Lineage {
        subject,
        comes_from,
        leads_to: Vec::new(),
    })
}

/// Every version that was made of the data, and what came of them.
fn of_dataset(world: &World, digest: &str) -> Result<Lineage, Error> {
    let digits = digest.strip_prefix("sha256:").unwrap_or(digest).to_lowercase();
    let hex = digits.len() >= MIN_DIGITS && digits.chars().all(|c| c.is_ascii_hexdigit());
    if !hex {
        return refused(format!(
            "{digest} is no digest: write sha256: and at least {MIN_DIGITS} hexadecimal digits"
        ));
    }
    let wanted = |d: &&Dataset| d.digest.as_str().trim_start_matches("sha256:").starts_with(&digits);
    let of = |v: &ModelVersion| v.spec.datasets.iter().find(wanted).cloned();
    let made = sorted(world.versions.iter().filter(|v| of(v).is_some()));
    let Some(data) = made.first().and_then(|v| of(v)) else {
        return refused(format!(
            "no ModelVersion in namespace {} names a dataset with digest sha256:{digits}: `kubectl flywheel lineage modelversion NAME` shows the digests",
            world.namespace
        ));
    };
    let mut seen = BTreeSet::new();
    Ok(Lineage {
        subject: dataset(&data),
        comes_from: Vec::new(),
        leads_to: made.into_iter().map(|v| forward(world, v, &mut seen)).collect(),
    })
}
