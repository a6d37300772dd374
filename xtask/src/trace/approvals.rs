//! I3: training, the delivery and every step have the approvals that the level and the plan demand. An approval counts
//! if it names the object by UID and the very evidence, if it is neither expired nor taken back nor outweighed by a
//! rejection, and if a person other than the requester gave it where the rule asks for that. The evidence must be what
//! the run or the Rollout itself once showed to people. The candidate gets traffic only after its delivery was decided in
//! this way.
//!
//! What was shown before the log began, or by a write of which nobody was told whether it was made, the log does not show:
//! of such an object it is not said that it never showed what counts.

use std::collections::{BTreeSet, HashMap, HashSet};

use flywheel_api::names;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::gates::{delivers, leaves};
use super::json::{int, label, list, named, text, uid};
use super::tables::{PERSON_DELIVERS, PERSON_STEPS, PERSON_TRAINS};
use super::{Finding, Kind, Rule, Step, World, binding};

const I3: &str = "I3";

/// Times in a status are whole seconds of the moment when the operator looked: a decision may be that old when it is
/// written.
const LAG: SignedDuration = SignedDuration::from_secs(5);

/// Evidence that was shown, and deliveries that were decided.
#[derive(Debug, Default)]
pub struct Approvals {
    /// By UID of the object that showed it, and by its digest.
    evidence: HashMap<(String, String), Value>,
    delivered: HashSet<String>,
    /// UIDs of objects that may have shown what the log does not tell.
    unsure: HashSet<String>,
}

impl Rule for Approvals {
    fn step(&mut self, world: &World, step: &Step) -> Vec<Finding> {
        if !step.operator {
            return Vec::new();
        }
        let mut problems = Vec::new();
        if step.subresource == "status" {
            problems.extend(self.shown(step));
        }
        match (&step.key.kind, step.subresource.as_str()) {
            (Kind::Run, "status") => {
                problems.extend(self.training(world, step));
                problems.extend(self.delivery(world, step));
            }
            (Kind::Rollout, "status") => problems.extend(self.leaving(world, step)),
            (Kind::Deployment, "") => problems.extend(self.traffic(world, step)),
            _ => {}
        }
        problems.into_iter().map(|message| Finding::new(I3, message)).collect()
    }

    fn refused(&mut self, step: &Step) -> Vec<Finding> {
        if step.operator && step.subresource == "status" && step.is_lost() {
            self.unsure.insert(uid(step.object()).to_owned());
        }
        Vec::new()
    }
}

/// What a decision demands of people.
struct Demand<'a> {
    kind: &'static str,
    subject: &'a str,
    gate: &'static str,
    digest: &'a str,
    needed: i64,
    excluded: &'a str,
}

impl Approvals {
    /// Evidence is what its digest says.
    fn shown(&mut self, step: &Step) -> Option<String> {
        let waiting = step.later().pointer("/status/waitingFor").filter(|w| !w.is_null())?;
        let (json, digest) = (text(waiting, "/evidence"), text(waiting, "/evidenceDigest"));
        let hash = Sha256::digest(json.as_bytes());
        let real = hash
            .iter()
            .fold("sha256:".to_owned(), |hex, byte| format!("{hex}{byte:02x}"));
        if real != digest {
            return Some(format!("{} shows evidence {digest} whose digest is {real}", step.key));
        }
        let shown = (uid(step.later()).to_owned(), real);
        self.evidence
            .insert(shown, serde_json::from_str(json).unwrap_or_default());
        None
    }

    /// The evidence with that digest, if the object with that UID showed it.
    fn seen(&self, object: &str, digest: &str) -> Option<&Value> {
        self.evidence.get(&(object.to_owned(), digest.to_owned()))
    }

    /// Why people's decision does not meet the demand, or was about what nobody was shown.
    fn unmet(&self, world: &World, step: &Step, demand: &Demand<'_>) -> Option<String> {
        let (object, Demand { gate, digest, .. }) = (uid(step.later()), demand);
        let is_told = world.is_whole(object) && !self.unsure.contains(object);
        let unseen = || {
            let is_unseen = is_told && self.seen(object, digest).is_none();
            is_unseen.then(|| {
                format!(
                    "{} passes gate {gate} on evidence {digest}, which it never showed",
                    step.key
                )
            })
        };
        enough(world, step, demand).or_else(unseen)
    }

    fn training(&self, world: &World, step: &Step) -> Option<String> {
        let (old, run) = (step.earlier(), step.later());
        let starts = |s: &&Value| {
            let before = named(old, "/status/stages", "name", text(s, "/name"));
            let running = |s: &Value| text(s, "/state") == "Running";
            text(s, "/type") == "Train" && running(s) && !before.is_some_and(running)
        };
        list(run, "/status/stages").iter().find(starts)?;
        let pipeline = world.named(Kind::Pipeline, &step.key.namespace, text(run, "/spec/pipelineRef/name"))?;
        let level = match level(step, "StartStage") {
            Ok(level) => level,
            Err(problem) => return Some(problem),
        };
        let asked = text(run, "/spec/trigger/type") == "Request";
        if level == "Manual" && !asked {
            return Some(format!(
                "{} trains at level Manual, but no user asked for the run",
                step.key
            ));
        }
        if !PERSON_TRAINS.contains(&level.as_str()) {
            return None;
        }
        self.approved_run(world, step, pipeline, "Train")
    }

    fn delivery(&mut self, world: &World, step: &Step) -> Option<String> {
        let run = step.later();
        if !delivers(step.earlier(), run) {
            return None;
        }
        // Who finds its Rollout again after a lost status decides nothing anew.
        if !self.delivered.insert(uid(run).to_owned()) {
            return None;
        }
        let pipeline = world.named(Kind::Pipeline, &step.key.namespace, text(run, "/spec/pipelineRef/name"))?;
        let decision = if run.pointer("/status/rollout").is_some() {
            "Deliver"
        } else {
            "Registered"
        };
        let level = match level(step, decision) {
            Ok(level) => level,
            Err(problem) => return Some(problem),
        };
        // Where a gate itself asks for a person, I2 demands it.
        if !PERSON_DELIVERS.contains(&level.as_str()) {
            return None;
        }
        let problem = self.approved_run(world, step, pipeline, "Promote");
        problem.or_else(|| self.outdated(step, run, &level))
    }

    /// The approvals that a run recorded for a gate are real and enough.
    fn approved_run(&self, world: &World, step: &Step, pipeline: &Value, gate: &'static str) -> Option<String> {
        let run = step.later();
        let Some(digest) = record(run, gate) else {
            return Some(format!("{} passes gate {gate} without any approval", step.key));
        };
        let rule = named(pipeline, "/spec/approvals", "gate", gate);
        let separate = rule.and_then(|r| r.get("separationOfDuties")).and_then(Value::as_bool) == Some(true);
        let version = text(run, "/status/modelVersion/uid");
        let demand = Demand {
            kind: if gate == "Train" { "FlywheelRun" } else { "ModelVersion" },
            subject: if gate == "Train" { uid(run) } else { version },
            gate,
            digest,
            needed: rule.and_then(|r| int(r, "/minApprovals")).unwrap_or(1),
            excluded: if separate { text(run, "/spec/requestedBy") } else { "" },
        };
        self.unmet(world, step, &demand)
    }

    /// The evidence that people approved is not what the run says now.
    fn outdated(&self, step: &Step, run: &Value, level: &str) -> Option<String> {
        let digest = record(run, "Promote")?;
        let evidence = self.seen(uid(run), digest)?;
        let same = [
            (
                evidence.pointer("/verdicts"),
                run.pointer("/status/gates"),
                "verdicts of gates",
            ),
            (
                evidence.pointer("/subject/uid"),
                run.pointer("/status/modelVersion/uid"),
                "version",
            ),
        ];
        let other = same.iter().find(|(seen, is, _)| seen != is).map(|(.., what)| *what);
        let other = other.or((text(evidence, "/level") != level).then_some("level"));
        other.map(|what| {
            format!(
                "{} delivers on approved evidence {digest} with another {what}",
                step.key
            )
        })
    }

    fn leaving(&self, world: &World, step: &Step) -> Option<String> {
        let (old, rollout) = (step.earlier(), step.later());
        if !leaves(old, rollout) {
            return None;
        }
        let decision = if text(rollout, "/status/phase") == "Promoting" {
            "Promote"
        } else {
            "NextStep"
        };
        let level = match level(step, decision) {
            Err(problem) if !text(rollout, "/spec/pipelineRef/uid").is_empty() => return Some(problem),
            level => level.unwrap_or_default(),
        };
        let name = text(old, "/status/step/name");
        let plan = named(rollout, "/spec/plan/strategy/steps", "name", name);
        let asked = plan
            .and_then(|s| s.pointer("/approval"))
            .map(|a| int(a, "/minApprovals").unwrap_or(1));
        let person = PERSON_STEPS.contains(&level.as_str()).then_some(1);
        let needed = asked.or(person)?;
        let all = list(rollout, "/status/decisions");
        let digest = all.last().map_or("", |d| text(d, "/evidenceDigest"));
        let demand = Demand {
            kind: "Rollout",
            subject: uid(rollout),
            gate: "RolloutStep",
            digest,
            needed,
            excluded: "",
        };
        let seen = self.seen(uid(rollout), digest).and_then(|e| int(e, "/step/index"));
        let left = int(old, "/status/step/index");
        if seen.is_some() && seen != left {
            return Some(format!(
                "{} leaves step {name} on the evidence of another step",
                step.key
            ));
        }
        self.unmet(world, step, &demand)
    }

    /// A candidate gets traffic only after a run decided to deliver it, or for a Rollout that a user made.
    fn traffic(&self, world: &World, step: &Step) -> Option<String> {
        let object = step.later();
        let made = label(object, names::LABEL_ROLLOUT_UID);
        let rollout = if made.is_empty() {
            bound(world, step)?
        } else {
            let replicas = |o| int(o, "/spec/replicas").unwrap_or(0);
            let more = replicas(object) > step.before.as_deref().map_or(0, replicas);
            &world.known(made).filter(|_| more)?.object
        };
        let run = world.asked_by(rollout);
        if run.is_empty() || self.delivered.contains(run) {
            return None;
        }
        let name = text(rollout, "/metadata/name");
        Some(format!(
            "{} gives traffic for Rollout {name}, whose run never decided to deliver",
            step.key
        ))
    }
}

/// The level that the operator recorded with this decision. I18 says whether it was in force.
fn level(step: &Step, decision: &str) -> Result<String, String> {
    let all = list(step.later(), "/status/decisions");
    let record = all.iter().rfind(|d| text(d, "/decision") == decision);
    let used = record.map_or("", |d| text(d, "/level"));
    let message = || format!("{} decides {decision} and records no level", step.key);
    (!used.is_empty()).then(|| used.to_owned()).ok_or_else(message)
}

/// The Rollout whose candidate the target is bound to by this write.
fn bound<'a>(world: &'a World, step: &Step) -> Option<&'a Value> {
    let object = step.later();
    let mut all = world
        .all(Kind::Rollout, &step.key.namespace)
        .map(|(_, rollout)| rollout);
    let binds = |rollout: &Value| {
        let plan = rollout.pointer("/spec/plan").unwrap_or(&Value::Null);
        let [was, is] = [step.earlier(), object].map(|o| binding::value(o, plan));
        let candidate = text(rollout, "/status/candidate/value");
        let aims = text(plan, "/targetRef/name") == step.key.name && !candidate.is_empty();
        aims && text(rollout, "/status/phase") == "Promoting" && is == Some(candidate) && was != is
    };
    all.find(|r| binds(r)).map(AsRef::as_ref)
}

/// Digest of the evidence that the newest recorded approval of a gate names.
pub(super) fn record<'a>(run: &'a Value, gate: &str) -> Option<&'a str> {
    let mut all = list(run, "/status/approvals").iter();
    let last = all.rfind(|a| text(a, "/gate") == gate && text(a, "/decision") == "Approve");
    last.map(|a| text(a, "/evidenceDigest"))
}

/// Why the Approvals that exist do not meet the demand.
fn enough(world: &World, step: &Step, demand: &Demand<'_>) -> Option<String> {
    let Demand { gate, digest, .. } = demand;
    let all: Vec<&Value> = world
        .all(Kind::Approval, &step.key.namespace)
        .map(|(_, a)| a.as_ref())
        .collect();
    let concerns = |a: &&&Value| {
        text(a, "/spec/subjectRef/uid") == demand.subject
            && text(a, "/spec/subjectRef/kind") == demand.kind
            && text(a, "/spec/gate") == *gate
            && text(a, "/spec/evidenceDigest") == *digest
    };
    let valid: Vec<&Value> = all
        .iter()
        .filter(concerns)
        .copied()
        .filter(|a| stands(a, &all, &step.at))
        .collect();
    if let Some(rejection) = valid.iter().find(|a| text(a, "/spec/decision") == "Reject") {
        let who = text(rejection, "/spec/approver");
        return Some(format!("{} passes gate {gate} although {who} rejected it", step.key));
    }
    let approvers: BTreeSet<&str> = valid
        .iter()
        .filter(|a| text(a, "/spec/decision") == "Approve")
        .map(|a| text(a, "/spec/approver"))
        .filter(|who| demand.excluded.is_empty() || *who != demand.excluded)
        .collect();
    let found = i64::try_from(approvers.len()).unwrap_or(i64::MAX);
    let message = || {
        format!(
            "{} passes gate {gate} with {found} of {} valid approvals of evidence {digest}",
            step.key, demand.needed
        )
    };
    (found < demand.needed.max(1)).then(message)
}

/// Neither expired nor taken back by its own approver.
fn stands(approval: &Value, all: &[&Value], at: &str) -> bool {
    let expires: Option<Timestamp> = text(approval, "/spec/expiresAt").parse().ok();
    let seen = at.parse::<Timestamp>().ok().and_then(|t| t.checked_sub(LAG).ok());
    let expired = expires.zip(seen).is_some_and(|(end, now)| end <= now);
    let same = |pointer: &str, other: &Value| text(approval, pointer) == text(other, pointer);
    let revoked = all.iter().any(|r| {
        text(r, "/spec/decision") == "Revoke"
            && text(r, "/spec/revokes/name") == text(approval, "/metadata/name")
            && same("/spec/approver", r)
            && same("/spec/subjectRef/uid", r)
    });
    !expired && !revoked
}
