//! Gates, bias policies and people: whether the version may be delivered.

use flywheel_api::flywheel_run::RunOutcome;
use flywheel_api::reference::{
    ApprovalGate, ApprovalRecord, BiasVerdict, Enforcement, GateVerdict, SubjectKind, SubjectRef, Verdict, WaitingFor,
};
use flywheel_api::schema::Digest;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::turn::{Next, Turn};
use crate::approval::{Demand, tally};
use crate::evidence::freeze;
use crate::promotion::{Assessment, assess};
use crate::standing::{Kind, Standing};
use crate::view::Absent;
use crate::{bias, gate};

/// Bias verdicts that a status keeps.
const KEPT_VERDICTS: usize = 256;
/// Approvals that a status keeps.
const KEPT_APPROVALS: usize = 32;
/// Longest evidence that a status keeps, in bytes.
const MAX_EVIDENCE: usize = 32_768;

/// Stands for the live version where the run compared with one and none that is known serves now.
const UNKNOWN: &str = "no known version";

/// Judged anew at every look until the Rollout exists: a worse verdict blocks whatever was approved.
pub fn promotion(turn: &mut Turn<'_>) -> Option<Next> {
    let intended = turn.status.rollout.as_ref();
    let exists = turn
        .o
        .rollout
        .as_ref()
        .is_some_and(|r| r.run_uid.as_deref() == Some(turn.uid()));
    if exists || intended.is_some_and(|r| r.uid.is_some()) {
        return None;
    }
    "Gates".clone_into(&mut turn.status.stage);
    if let Some(next) = untold(turn) {
        return Some(next);
    }
    let plan = turn.plan.as_ref()?;
    let compared = turn.status.compared_with.as_ref().map(|c| c.name.as_str());
    let live = turn.o.live.as_ref().map(|l| l.name.as_str());
    let gates = gate::judge_all(&plan.gates, &turn.status.stages, live.or(compared.map(|_| UNKNOWN)));
    let mut verdicts = bias::judge_all(
        &turn.o.policies.found,
        &turn.status.stages,
        bias::Live::of(compared, live),
    );
    verdicts.extend(turn.o.policies.absent().map(|absent| unheard(&absent)));
    verdicts.extend(withdrawn(turn));
    let verdicts = worst(verdicts);
    let assessment = assess(&plan.gates, &gates, &verdicts, turn.level(), live.is_none());
    if turn.status.gates != gates || turn.status.bias != verdicts {
        let message = summary(&gates, &verdicts);
        turn.status.gates = gates;
        turn.status.bias = verdicts;
        turn.decided("Judge", "GatesEvaluated", &message, None, false);
    }
    match assessment {
        Assessment::Refuse(sentence) => Some(turn.finish(RunOutcome::Rejected, &sentence.reason, &sentence.message)),
        Assessment::Proceed(_) => {
            let braked = turn.braked();
            if braked.is_none() && turn.status.waiting_for.take().is_some() {
                turn.decided(
                    "Promote",
                    "LevelAllows",
                    "The level does not ask for an approval any more.",
                    None,
                    false,
                );
            }
            braked
        }
        Assessment::AskPerson(sentence) => ask_for_promotion(turn, &sentence.message),
    }
}

/// While nobody can say what serves, nothing is held against it, and no version counts as the first one.
fn untold(turn: &Turn<'_>) -> Option<Next> {
    let why = turn.o.untold.as_ref()?;
    let message = format!("The version is judged once it can be told what serves, unless the run is cancelled. {why}");
    let standing = Standing::new(Kind::Stalled, "LiveVersionUnknown", message);
    Some(Next::Rest(standing, None))
}

/// Policies that judged this version before and apply no more: what they said is no pass.
fn withdrawn(turn: &Turn<'_>) -> Vec<BiasVerdict> {
    let policies = &turn.o.policies;
    let applies =
        |name: &str| policies.found.iter().any(|p| p.name == name) || policies.absent().any(|a| a.name == name);
    let mut names: Vec<&str> = turn.status.bias.iter().map(|v| v.policy.as_str()).collect();
    names.dedup();
    let gone = names.into_iter().filter(|name| !applies(name));
    gone.map(|name| {
        let message = format!("BiasPolicy {name} judged this version and then was withdrawn: request a new run.");
        unheard(&Absent::new(name, "PolicyWithdrawn", message))
    })
    .collect()
}

/// As many verdicts as a status keeps; the ones that matter most stay.
fn worst(mut verdicts: Vec<BiasVerdict>) -> Vec<BiasVerdict> {
    if verdicts.len() > KEPT_VERDICTS {
        verdicts.sort_by_key(|v| std::cmp::Reverse((v.enforcement == Enforcement::Block, v.verdict)));
        verdicts.truncate(KEPT_VERDICTS);
    }
    verdicts
}

/// The verdict of a policy whose word is not known: never a pass.
fn unheard(absent: &Absent<'_>) -> BiasVerdict {
    BiasVerdict {
        policy: absent.name.to_owned(),
        policy_uid: String::new(),
        policy_generation: 0,
        objective: "policy".to_owned(),
        attribute: String::new(),
        group: String::new(),
        verdict: Verdict::Error,
        enforcement: Enforcement::Block,
        reason: absent.reason.to_owned(),
        message: absent.message.clone(),
        value: None,
        bound: None,
        limit: None,
        samples: None,
    }
}

fn summary(gates: &[GateVerdict], bias: &[BiasVerdict]) -> String {
    let gates = gates.iter().map(|g| format!("{} {}", g.gate, g.verdict.name()));
    let bias = bias
        .iter()
        .map(|b| format!("{}/{} {}", b.policy, b.objective, b.verdict.name()));
    let all: Vec<_> = gates.chain(bias).collect();
    if all.is_empty() {
        "There are no gates and no bias policies.".to_owned()
    } else {
        format!("Judged: {}.", all.join(", "))
    }
}

fn ask_for_promotion(turn: &mut Turn<'_>, message: &str) -> Option<Next> {
    let version = turn.status.model_version.clone()?;
    let subject = SubjectRef {
        kind: SubjectKind::ModelVersion,
        name: version.name,
        uid: version.uid.unwrap_or_default(),
    };
    let object = turn.o.version.as_ref()?;
    let plan = turn.plan.as_ref()?;
    let verdict = |v: &BiasVerdict| {
        serde_json::json!({ "policy": v.policy, "uid": v.policy_uid, "generation": v.policy_generation,
            "objective": v.objective, "attribute": v.attribute, "verdict": v.verdict, "bound": v.bound, "limit": v.limit })
    };
    let evidence = serde_json::json!({
        "subject": subject,
        "gate": ApprovalGate::Promote,
        "artifact": object.spec.artifact,
        "datasets": object.spec.datasets.iter().map(|d| &d.digest).collect::<Vec<_>>(),
        "gates": plan.gates,
        "verdicts": turn.status.gates,
        "bias": turn.status.bias.iter().map(verdict).collect::<Vec<_>>(),
        "plan": plan.rollout.as_ref().and_then(|r| freeze(r).ok()).map(|f| f.digest),
        "live": turn.o.live.as_ref().map(|l| &l.name),
        "level": turn.level(),
    });
    "Approval".clone_into(&mut turn.status.stage);
    ask(
        turn,
        Ask {
            subject,
            gate: ApprovalGate::Promote,
            evidence,
            message: message.to_owned(),
        },
    )
}

/// A question to a person.
pub struct Ask {
    /// What is decided on.
    pub subject: SubjectRef,
    /// Gate.
    pub gate: ApprovalGate,
    /// What the person sees.
    pub evidence: serde_json::Value,
    /// Why it is asked.
    pub message: String,
}

/// Nothing if enough people approved this very evidence.
pub fn ask(turn: &mut Turn<'_>, ask: Ask) -> Option<Next> {
    let frozen = match freeze(&ask.evidence) {
        Ok(frozen) if frozen.json.len() <= MAX_EVIDENCE => frozen,
        _ => {
            return Some(turn.finish(
                RunOutcome::Failed,
                "EvidenceTooLarge",
                "The evidence does not fit into the status: let the evaluation report fewer metrics or groups, and request a new run.",
            ));
        }
    };
    let pipeline = turn.o.pipeline.as_ref()?;
    let rule = pipeline.spec.approvals.iter().find(|r| r.gate == ask.gate);
    // The quorum is live, but what a person was told once is not made easier afterwards.
    let told = turn.status.waiting_for.as_ref().filter(|w| w.gate == ask.gate);
    let needed = rule.map_or(1, |r| r.min_approvals).max(told.map_or(1, |w| w.needed));
    let requested_by = turn.o.run.spec.requested_by.as_str();
    let excluded = rule
        .filter(|r| r.separation_of_duties && !requested_by.is_empty())
        .map(|_| requested_by);
    let demand = Demand {
        subject: &ask.subject,
        gate: ask.gate,
        digest: &frozen.digest,
        needed,
        excluded,
    };
    let tally = tally(&turn.o.approvals, &demand, turn.now());
    if let Some(rejection) = &tally.rejected {
        keep(turn, vec![rejection.clone()]);
        let message = format!("{} rejected it with Approval {}.", rejection.approver, rejection.name);
        return Some(turn.finish(RunOutcome::Rejected, "RejectedByPerson", &message));
    }
    if tally.satisfied {
        return approved(turn, &ask, &frozen.digest, tally.approved);
    }
    let waiting = WaitingFor {
        gate: ask.gate,
        resolve: resolve(
            &ask.subject,
            turn.o.run.metadata.namespace.as_deref().unwrap_or_default(),
        ),
        subject: ask.subject,
        evidence_digest: frozen.digest,
        evidence: frozen.json,
        since: Time(turn.now()),
        needed,
        approved_by: tally.approved.iter().take(10).map(|a| a.name.clone()).collect(),
        stale: tally.stale.into_iter().take(10).collect(),
    };
    Some(turn.wait_for(waiting, &ask.message))
}

/// The command that resolves a wait.
fn resolve(subject: &SubjectRef, namespace: &str) -> String {
    format!(
        "kubectl flywheel approve {} {} -n {namespace}",
        subject.kind.name().to_lowercase(),
        subject.name
    )
}

/// The brake holds what people allowed as well. Who approved is recorded anew whenever it is somebody else than before.
fn approved(turn: &mut Turn<'_>, ask: &Ask, digest: &Digest, records: Vec<ApprovalRecord>) -> Option<Next> {
    if let Some(braked) = turn.braked() {
        return Some(braked);
    }
    let kept = &turn.status.approvals;
    if bounded(&records).iter().all(|record| kept.contains(record)) {
        return None;
    }
    let people = records
        .iter()
        .map(|a| a.approver.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    let message = format!("{} was approved by {people}.", ask.gate.name());
    keep(turn, records);
    turn.status.waiting_for = None;
    turn.decided("Approved", ask.gate.name(), &message, Some(digest.clone()), false);
    Some(Next::Rest(Standing::new(Kind::Working, "Approved", message), None))
}

/// As many Approvals as a status keeps.
fn bounded(records: &[ApprovalRecord]) -> &[ApprovalRecord] {
    let surplus = records.len().saturating_sub(KEPT_APPROVALS);
    records.get(surplus..).unwrap_or_default()
}

/// Adds Approvals that were used; the last ones stay, each of them once.
pub fn keep(turn: &mut Turn<'_>, records: Vec<ApprovalRecord>) {
    let kept = &mut turn.status.approvals;
    kept.retain(|old| !records.contains(old));
    kept.extend(records);
    let surplus = kept.len().saturating_sub(KEPT_APPROVALS);
    kept.drain(..surplus);
}
