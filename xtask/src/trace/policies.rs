//! I22: a bias policy that was changed or deleted takes its older verdicts with it.
//!
//! Judged are the two writes by which a run's version is delivered: the run's decision, and the creation of its Rollout.
//! Every `Pass` of a policy that the run's status then holds carries the UID and the generation that a policy of that
//! name, applying to the pipeline, had in the moments before; and every policy that applied throughout these moments has
//! given its verdicts in its present generation.
//!
//! Whether the verdict follows from the numbers is not judged, nor policies that change after the Rollout was made: what
//! is on its way is judged by its checks.

use std::collections::BTreeMap;

use flywheel_api::names;
use serde_json::Value;

use super::gates::delivers;
use super::json::{int, label, list, text, uid};
use super::pipelines::{OfPipelines, applying};
use super::{Finding, Kind, Rule, Step, World};

const I22: &str = "I22";

/// Verdicts that a status keeps: of a longer list some are left out.
const KEPT: usize = 256;

/// A policy that applies: its UID, its generation, and whether it has anything to judge.
#[derive(Debug, Clone, PartialEq)]
struct Policy {
    uid: String,
    generation: i64,
    judges: bool,
}

/// By name.
type Applying = BTreeMap<String, Policy>;

/// Which policies applied when, by UID of the pipeline.
#[derive(Debug, Default)]
pub struct Policies(OfPipelines<Applying>);

impl Rule for Policies {
    fn step(&mut self, world: &World, step: &Step) -> Vec<Finding> {
        self.0.note(world, step, known);
        if !step.operator {
            return Vec::new();
        }
        let run = match step.key.kind {
            Kind::Run if step.subresource == "status" && delivers(step.earlier(), step.later()) => step.later(),
            Kind::Rollout if step.created() => {
                let Some(run) = world.by_uid(&Kind::Run, text(step.later(), "/spec/runRef/uid")) else {
                    return Vec::new();
                };
                run
            }
            _ => return Vec::new(),
        };
        self.outdated(run, step)
            .map(|message| Finding::new(I22, message))
            .into_iter()
            .collect()
    }
}

impl Policies {
    fn outdated(&self, run: &Value, step: &Step) -> Option<String> {
        let pipeline = match text(run, "/status/pipelineUid") {
            "" => label(run, names::LABEL_PIPELINE_UID),
            known => known,
        };
        let moments = self.0.of(pipeline)?;
        let recent: Vec<&Applying> = moments.recent(&step.at).collect();
        let verdicts = list(run, "/status/bias");
        let run = text(run, "/metadata/name");
        let old = verdicts.iter().find(|v| {
            let given = |applying: &&Applying| applying.get(text(v, "/policy")).is_some_and(|p| is_of(v, p));
            text(v, "/verdict") == "Pass" && !recent.iter().any(given)
        });
        if let Some(old) = old {
            let (policy, generation) = (text(old, "/policy"), int(old, "/policyGeneration").unwrap_or(0));
            return Some(format!(
                "{run} is delivered on a pass of bias policy {policy} in generation {generation}, which did not apply then"
            ));
        }
        let (first, others) = recent.split_first()?;
        let lasting = |(name, policy): &(&String, &Policy)| {
            policy.judges && others.iter().all(|applying| applying.get(*name) == Some(*policy))
        };
        let given = |name: &str, policy: &Policy| {
            let mut said = verdicts.iter().filter(|v| text(v, "/policy") == name);
            said.any(|v| text(v, "/verdict") == "Error" || is_of(v, policy))
        };
        let unheard = first.iter().filter(lasting).find(|(name, policy)| !given(name, policy));
        let whole = verdicts.len() < KEPT && moments.reaches_back(&step.at);
        let (name, policy) = unheard.filter(|_| whole)?;
        Some(format!(
            "{run} is delivered without a verdict of bias policy {name} in generation {}",
            policy.generation
        ))
    }
}

fn is_of(verdict: &Value, policy: &Policy) -> bool {
    text(verdict, "/policyUid") == policy.uid && int(verdict, "/policyGeneration") == Some(policy.generation)
}

/// What is known of the policies that apply to a pipeline.
fn known(world: &World, namespace: &str, pipeline: &Value) -> Applying {
    applying(world, namespace, pipeline)
        .map(|(key, policy)| {
            let known = Policy {
                uid: uid(policy).to_owned(),
                generation: int(policy, "/metadata/generation").unwrap_or(0),
                judges: judges(policy),
            };
            (key.name.clone(), known)
        })
        .collect()
}

/// Whether a policy has an objective for one of its attributes.
fn judges(policy: &Value) -> bool {
    let attributes = list(policy, "/spec/protectedAttributes");
    let of = |objective: &Value| {
        let wanted = text(objective, "/attribute");
        attributes
            .iter()
            .any(|a| wanted.is_empty() || text(a, "/name") == wanted)
    };
    list(policy, "/spec/objectives").iter().any(of)
}
