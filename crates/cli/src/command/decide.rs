//! `approve` and `reject`: an Approval, bound to the evidence that is shown.

use flywheel_api::approval::ApprovalDecision;
use flywheel_api::reference::WaitingFor;
use flywheel_api::{Approval, FlywheelRun, ModelVersion, Rollout};
use jiff::SignedDuration;
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
    let expires_at = match &args.expires_in {
        Some(text) => {
            let seconds = length("expires-in", text)?;
            now().checked_add(SignedDuration::from_secs(seconds)).ok().map(Time)
        }
        None => None,
    };
    let waits = waiting(cluster, &subject).await?;
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

/// The decision that waits on the subject.
async fn waiting(cluster: &Cluster, subject: &Subject) -> Result<WaitingFor, Error> {
    let name = &subject.name;
    match subject.kind {
        Kind::Rollout => {
            let rollout: Rollout = cluster.get(name).await?;
            let status = rollout.status.clone().unwrap_or_default();
            let stands = words::standing(&rollout.metadata, status.observed_generation, &status.conditions);
            found(status.waiting_for, "Rollout", name, &stands, cluster)
        }
        Kind::Run => {
            let run: FlywheelRun = cluster.get(name).await?;
            of_run(&run, "FlywheelRun", name, cluster)
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
            Ok(waits)
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
