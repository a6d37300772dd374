//! What happens in a scene besides the operators: time, pods, Jobs, people, and an adversary who may edit.

use flywheel_api::approval::ApprovalDecision;
use flywheel_api::reference::{AutomationLevel, WaitingFor};
use flywheel_api::schema::Digest;
use flywheel_api::{Approval, Rollout};
use flywheel_engine::rollout::Reading;
use flywheel_engine::testing::{self, Kind, World};
use serde_json::json;

/// The query of the check in [`testing::check`].
const QUERY: &str = "errors($candidate)";

/// One of them.
#[derive(Clone, Debug)]
pub enum Move {
    /// A minute passes.
    Minute,
    /// The pods of a Deployment become what its spec asks for.
    Pods(&'static str),
    /// Jobs go on.
    Jobs,
    /// The metric provider answers this from now on.
    Answer(Option<f64>),
    /// Somebody who may decides on what waits.
    Person(&'static str, ApprovalDecision),
    /// An Approval that must not count.
    Forge(Forgery),
    /// A user asks a Rollout to go back.
    GoBack(&'static str),
    /// Somebody writes another value into the binding.
    Bind,
    /// Somebody changes the target's pod template.
    Template,
    /// Somebody deletes an object.
    Delete(Kind, &'static str),
    /// Somebody takes all labels away from an object.
    Unlabel(Kind, &'static str),
    /// A user changes the gates of the pipeline.
    Gates,
    /// The bias policy becomes stricter.
    Policy,
    /// A user lowers the level of the pipeline.
    Level(AutomationLevel),
    /// A user applies a Rollout that is not there yet.
    Deliver(&'static str, i64),
}

/// Why an Approval must not count.
#[derive(Clone, Copy, Debug)]
pub enum Forgery {
    /// It names evidence that nobody saw.
    Digest,
    /// It names another object of that name.
    Subject,
    /// Who asked for the run approves it.
    Own,
}

/// Approvals that must not count have names that begin so.
pub const FORGED: &str = "forged";

impl Move {
    /// Makes it happen; where it cannot, nothing happens.
    pub fn make(&self, world: &mut World) {
        match self {
            Self::Minute => world.pass(60),
            Self::Pods(name) => world.run_deployment(name),
            Self::Jobs => world.run_jobs(),
            Self::Answer(value) => {
                let reading = value.map_or(Reading::Empty, Reading::Value);
                world.answers.insert(QUERY.to_owned(), reading);
            }
            Self::Person(who, decision) => person(world, who, *decision),
            Self::Forge(how) => forge(world, *how),
            Self::GoBack(name) => go_back(world, name),
            Self::Bind => world.write_binding("eta", "s3://somewhere/else"),
            Self::Template => {
                world.set(
                    Kind::Deployment,
                    "eta",
                    "template/spec/terminationGracePeriodSeconds",
                    45,
                );
            }
            Self::Delete(kind, name) => world.delete(*kind, name),
            Self::Unlabel(kind, name) => world.edit(*kind, name, |o| {
                if let Some(metadata) = o["metadata"].as_object_mut() {
                    metadata.remove("labels");
                }
            }),
            Self::Gates => world.set(Kind::Pipeline, "eta", "gates/1/max", "5"),
            Self::Policy => world.set(Kind::BiasPolicy, "airports", "objectives/0/limit/max", "1"),
            Self::Level(level) => world.set(Kind::Pipeline, "eta", "automationLevel", level),
            Self::Deliver(name, number) => {
                if world.find::<Rollout>(Kind::Rollout, name).is_none() {
                    world.add(Kind::Rollout, &testing::rollout(name, *number, &crate::scenes::brief()));
                }
            }
        }
    }
}

fn person(world: &mut World, who: &str, decision: ApprovalDecision) {
    let Some(waiting) = world.waiting() else { return };
    let all: Vec<Approval> = world.all(Kind::Approval);
    let mine = |a: &Approval| a.spec.approver == who && a.spec.evidence_digest == waiting.evidence_digest;
    if !all.iter().any(mine) {
        let name = format!("{who}-{}", all.len());
        world.add(Kind::Approval, &testing::approval(&name, who, decision, &waiting));
    }
}

fn forge(world: &mut World, how: Forgery) {
    let Some(waiting) = world.waiting() else { return };
    let name = format!("{FORGED}-{how:?}").to_lowercase();
    if world.find::<Approval>(Kind::Approval, &name).is_some() {
        return;
    }
    let (mut named, mut who): (WaitingFor, _) = (waiting, "mallory");
    match how {
        Forgery::Digest => named.evidence_digest = Digest(format!("sha256:{}", "0".repeat(64))),
        Forgery::Subject => named.subject.uid = "another".to_owned(),
        Forgery::Own => who = "joe",
    }
    world.add(
        Kind::Approval,
        &testing::approval(&name, who, ApprovalDecision::Approve, &named),
    );
}

/// What goes back stays so: the API server refuses anything else.
fn go_back(world: &mut World, name: &str) {
    world.edit(Kind::Rollout, name, |o| o["spec"]["desiredState"] = json!("RollBack"));
}
