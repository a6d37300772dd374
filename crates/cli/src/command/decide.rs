//! `approve` and `reject`: an Approval, bound to the evidence that is shown.

use flywheel_api::approval::ApprovalDecision;
use flywheel_api::reference::{ApprovalGate, WaitingFor};
use flywheel_api::{Approval, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::ListParams;

use super::{DONE, document, length, print, typed, written};
use crate::args::{Decide, Form};
use crate::cluster::Cluster;
use crate::error::{Error, refused};
use crate::paper::Paper;
use crate::show::decision::{self, Decided};
use crate::subject::{Kind, Subject};
use crate::words;
use crate::world::now;

/// What can wait for a person.
const ACCEPTED: [Kind; 3] = [Kind::Version, Kind::Run, Kind::Rollout];
/// Decisions that a person may take anew after earlier ones expired or were revoked.
const MOST_AGAIN: u32 = 16;

/// Lets the gate open.
pub async fn approve(cluster: &Cluster, paper: Paper, args: &Decide) -> Result<u8, Error> {
    decide(cluster, paper, args, ApprovalDecision::Approve).await
}

/// Keeps the gate shut for good.
pub async fn reject(cluster: &Cluster, paper: Paper, args: &Decide) -> Result<u8, Error> {
    decide(cluster, paper, args, ApprovalDecision::Reject).await
}

async fn decide(cluster: &Cluster, paper: Paper, args: &Decide, what: ApprovalDecision) -> Result<u8, Error> {
    let subject = Subject::parse(&args.subject, &ACCEPTED, None)?;
    let expires_at = args.expires_in.as_deref().map(|text| expiry(text, now())).transpose()?;
    let (waits, run) = waiting(cluster, &subject).await?;
    let evidence = decision::evidence(&waits, paper)?;
    if let Some(wanted) = args.evidence_digest.as_ref().filter(|w| **w != waits.evidence_digest.0) {
        return refused(format!(
            "the evidence of {} {} is {}, not {wanted}: it changed since you looked; look at it again with `kubectl flywheel explain {} {} -n {}`",
            waits.subject.kind.name(),
            waits.subject.name,
            waits.evidence_digest,
            subject.kind.word(),
            subject.name,
            cluster.namespace
        ));
    }
    let decided = Decided {
        decision: what,
        approver: cluster.me().await?,
        reason: args.reason.clone(),
        expires_at,
    };
    if let Some(run) = run.filter(|_| what == ApprovalDecision::Approve) {
        may_approve(cluster, &run, waits.gate, &decided.approver).await?;
    }
    if args.dry_run {
        return dry_run(cluster, args, &waits, &decided, &evidence);
    }
    if args.output.form == Form::Table {
        print(&format!("{evidence}{}\n", asks(&waits)))?;
    }
    let created = create(cluster, &waits, &decided).await?;
    written(&created, args.output.form, &sentence(&created))?;
    Ok(DONE)
}

/// When a decision that is taken now ends to count.
fn expiry(text: &str, now: Timestamp) -> Result<Time, Error> {
    let seconds = length("expires-in", text)?;
    match now.checked_add(SignedDuration::from_secs(seconds)) {
        Ok(at) => Ok(Time(at)),
        Err(_) => refused(format!(
            "--expires-in {text} is too long: at most {}d, or leave it out for a decision that never expires",
            now.duration_until(Timestamp::MAX).as_hours() / 24
        )),
    }
}

/// Says so before an approval that would not count. Whoever may not read the pipeline hears it of the operator.
async fn may_approve(cluster: &Cluster, run: &FlywheelRun, gate: ApprovalGate, user: &str) -> Result<(), Error> {
    if run.spec.requested_by != user {
        return Ok(());
    }
    match cluster.get::<FlywheelPipeline>(&run.spec.pipeline_ref.name).await {
        Ok(pipeline) => another_must(&pipeline, run, gate, user),
        Err(_) => Ok(()),
    }
}

/// Refuses the user who asked for the run, where the pipeline separates duties. A step has no such rule.
fn another_must(pipeline: &FlywheelPipeline, run: &FlywheelRun, gate: ApprovalGate, user: &str) -> Result<(), Error> {
    let mut rules = pipeline.spec.approvals.iter().filter(|r| r.gate == gate);
    if run.spec.requested_by != user || !rules.any(|r| r.separation_of_duties) {
        return Ok(());
    }
    refused(format!(
        "{user} asked for FlywheelRun {}, so that an approval by {user} does not count: FlywheelPipeline {} has separationOfDuties at gate {}, and another person must approve",
        run.name_any(),
        pipeline.name_any(),
        gate.name()
    ))
}

/// `ModelVersion eta-7 approved by jane: Approval eta-7-4edc154c60 is bound to sha256:287410313523.`
fn sentence(created: &Approval) -> String {
    let spec = &created.spec;
    let verb = match spec.decision {
        ApprovalDecision::Approve => "approved",
        ApprovalDecision::Reject => "rejected",
        ApprovalDecision::Revoke => "revoked",
    };
    let until = spec.expires_at.as_ref();
    let until = until.map_or_else(String::new, |at| format!(" until {}", at.0));
    format!(
        "{} {} {verb} by {}{until}: Approval {} is bound to {}.",
        spec.subject_ref.kind.name(),
        spec.subject_ref.name,
        spec.approver,
        created.name_any(),
        words::short(spec.evidence_digest.as_str())
    )
}

fn asks(waits: &WaitingFor) -> String {
    format!(
        "{} {} {}.",
        waits.subject.kind.name(),
        waits.subject.name,
        words::waiting(waits, now())
    )
}

/// The evidence goes to the standard error, so that the Approval alone can be put into a file.
fn dry_run(
    cluster: &Cluster,
    args: &Decide,
    waits: &WaitingFor,
    decided: &Decided,
    evidence: &str,
) -> Result<u8, Error> {
    eprintln!("{evidence}{}", asks(waits));
    let approval = decision::approval(waits, decided, &cluster.namespace, 0);
    let form = if args.output.form == Form::Json {
        Form::Json
    } else {
        Form::Yaml
    };
    print(&document(&typed(&approval)?, form)?)?;
    Ok(DONE)
}

/// The decision that waits on the subject, and the run that waits; a Rollout waits by itself.
async fn waiting(cluster: &Cluster, subject: &Subject) -> Result<(WaitingFor, Option<FlywheelRun>), Error> {
    let name = &subject.name;
    match subject.kind {
        Kind::Rollout => {
            let rollout: Rollout = cluster.get(name).await?;
            let status = rollout.status.clone().unwrap_or_default();
            let stands = words::standing(&rollout.metadata, status.observed_generation, &status.conditions);
            let waits = found(status.waiting_for, "Rollout", name, &stands, cluster)?;
            Ok((waits, None))
        }
        Kind::Run => {
            let run: FlywheelRun = cluster.get(name).await?;
            let waits = of_run(&run, "FlywheelRun", name, cluster)?;
            Ok((waits, Some(run)))
        }
        _ => {
            let version: ModelVersion = cluster.get(name).await?;
            let maker = version.spec.provenance.as_ref().map(|p| p.run.name.clone());
            let Some(maker) = maker else {
                return refused(format!(
                    "ModelVersion {name} was imported, so no run waits for a decision on it: deliver it with a Rollout"
                ));
            };
            let run: FlywheelRun = cluster.get(&maker).await?;
            let waits = of_run(&run, "ModelVersion", name, cluster)?;
            if version.metadata.uid.as_ref() != Some(&waits.subject.uid) {
                return refused(format!(
                    "FlywheelRun {maker} waits for {} of {} {}, not for ModelVersion {name}: decide on that one",
                    waits.gate.name(),
                    waits.subject.kind.name(),
                    waits.subject.name
                ));
            }
            Ok((waits, Some(run)))
        }
    }
}

fn of_run(run: &FlywheelRun, kind: &str, name: &str, cluster: &Cluster) -> Result<WaitingFor, Error> {
    let status = crate::world::status(run);
    let stands = words::standing(&run.metadata, status.observed_generation, &status.conditions);
    found(status.waiting_for, kind, name, &stands, cluster)
}

fn found(
    waits: Option<WaitingFor>,
    kind: &str,
    name: &str,
    stands: &words::Standing,
    cluster: &Cluster,
) -> Result<WaitingFor, Error> {
    match waits {
        Some(waits) => Ok(waits),
        None => refused(format!(
            "nothing waits for a decision on {kind} {name} in namespace {}: it is {} ({})",
            cluster.namespace,
            stands.reason,
            stands.message.trim_end_matches('.')
        )),
    }
}

/// Creates the Approval; the same decision twice is refused, unless the earlier one does not count any more.
async fn create(cluster: &Cluster, waits: &WaitingFor, decided: &Decided) -> Result<Approval, Error> {
    for again in 0..MOST_AGAIN {
        let approval = decision::approval(waits, decided, &cluster.namespace, again);
        if let Some(created) = cluster.create(&approval).await? {
            return Ok(created);
        }
        let subject = &waits.subject.name;
        let params = ListParams::default().fields(&format!("spec.subjectRef.name={subject}"));
        let all: Vec<Approval> = cluster.list(&params).await?;
        let earlier = all.iter().find(|a| a.metadata.name == approval.metadata.name);
        if let Some(earlier) = earlier.filter(|e| decision::stands(e, &all, now())) {
            return refused(format!(
                "{} decided so already: Approval {} names the same evidence",
                decided.approver,
                earlier.name_any()
            ));
        }
    }
    refused(format!(
        "{} decided on this evidence {MOST_AGAIN} times and took it back each time: delete old Approvals first",
        decided.approver
    ))
}

#[cfg(test)]
mod tests {
    use flywheel_api::flywheel_pipeline::ApprovalRule;

    use super::*;
    use crate::scenes;

    #[test]
    fn who_asked_for_the_run_is_told_that_another_person_must_approve() {
        let mut world = scenes::waiting();
        let mut run = world.run("eta-7").unwrap().clone();
        run.spec.requested_by = "jane".to_owned();
        let mut pipeline = world.pipelines.remove(0);
        let may = |pipeline: &FlywheelPipeline, user: &str| another_must(pipeline, &run, ApprovalGate::Promote, user);
        assert!(may(&pipeline, "jane").is_ok());
        pipeline.spec.approvals = vec![ApprovalRule {
            gate: ApprovalGate::Promote,
            min_approvals: 1,
            separation_of_duties: true,
        }];
        assert!(may(&pipeline, "bob").is_ok());
        let said = may(&pipeline, "jane").unwrap_err().to_string();
        assert!(said.contains("another person must approve"), "{said}");
        assert!(another_must(&pipeline, &run, ApprovalGate::Train, "jane").is_ok());
    }

    #[test]
    fn a_decision_that_would_end_after_all_time_is_refused_and_not_kept_for_ever() {
        let now: Timestamp = scenes::NOW.parse().unwrap();
        assert_eq!(expiry("24h", now).unwrap().0.to_string(), "2026-03-03T12:00:00Z");
        let said = expiry("4000000d", now).unwrap_err().to_string();
        assert!(
            said.starts_with("--expires-in 4000000d is too long: at most "),
            "{said}"
        );
        let most = said
            .split_whitespace()
            .find_map(|word| word.strip_suffix("d,"))
            .unwrap();
        assert!(expiry(&format!("{most}d"), now).is_ok(), "{said}");
    }
}
