//! What can happen in a history, in any order.

use flywheel_api::approval::ApprovalDecision::{self, Approve, Reject};
use flywheel_api::reference::AutomationLevel;
use flywheel_engine::rollout::Reading;
use flywheel_engine::testing::{Ending, Kind, World};
use proptest::prelude::*;
use serde_json::json;

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Move {
    /// The operator looks at one object once.
    Look(usize),
    /// The operator looks at everything once.
    LookAround,
    Pass(i64),
    Jobs,
    Pods,
    End(&'static str, Ending),
    Broken(bool),
    Answer(Reading),
    Decide(&'static str, ApprovalDecision),
    Revoke(&'static str),
    Wish(&'static str),
    Brake(bool),
    Level(AutomationLevel),
    Ceiling(AutomationLevel),
    Suspend(bool),
    Scale(i32),
    Template(u8),
    Drift,
    Lose(Kind),
    Report(f64),
}

fn ordinary() -> impl Strategy<Value = Move> {
    prop_oneof![
        8 => (0..8_usize).prop_map(Move::Look),
        6 => Just(Move::LookAround),
        4 => prop_oneof![Just(1), Just(30), Just(61), Just(601), Just(3700)].prop_map(Move::Pass),
        3 => Just(Move::Jobs),
        3 => Just(Move::Pods),
    ]
}

fn decisions() -> impl Strategy<Value = Move> {
    let who = || prop_oneof![Just("jane"), Just("bob"), Just("joe")];
    prop_oneof![
        3 => who().prop_map(|p| Move::Decide(p, Approve)),
        1 => who().prop_map(|p| Move::Decide(p, Reject)),
        1 => who().prop_map(Move::Revoke),
    ]
}

fn levels() -> impl Strategy<Value = AutomationLevel> {
    prop_oneof![
        Just(AutomationLevel::Manual),
        Just(AutomationLevel::SemiAutomated),
        Just(AutomationLevel::HumanOversight),
        Just(AutomationLevel::FullyAutomated),
    ]
}

fn readings() -> impl Strategy<Value = Reading> {
    prop_oneof![
        3 => Just(Reading::Value(0.001)),
        1 => Just(Reading::Value(0.5)),
        1 => Just(Reading::Empty),
        1 => Just(Reading::Error("it is down".to_owned())),
    ]
}

/// What can happen to a Rollout without pipeline.
pub fn of_delivery() -> impl Strategy<Value = Move> {
    prop_oneof![
        12 => ordinary(),
        2 => decisions(),
        1 => any::<bool>().prop_map(Move::Broken),
        2 => readings().prop_map(Move::Answer),
        1 => prop_oneof![Just("Hold"), Just("Progress"), Just("Promote"), Just("Abort"), Just("RollBack")]
            .prop_map(Move::Wish),
        1 => any::<bool>().prop_map(Move::Brake),
        1 => (1..6_i32).prop_map(Move::Scale),
        1 => any::<u8>().prop_map(Move::Template),
        1 => Just(Move::Lose(Kind::Rollout)),
    ]
}

/// What can happen to a pipeline and its runs.
pub fn of_turn() -> impl Strategy<Value = Move> {
    let ending = prop_oneof![
        Just(Ending::Success),
        Just(Ending::Runs),
        Just(Ending::Exit(1)),
        Just(Ending::OutOfMemory),
        Just(Ending::Evicted),
        Just(Ending::PodGone),
        Just(Ending::Deadline),
        Just(Ending::NoPod),
        Just(Ending::ImagePull),
        Just(Ending::Says("{}".to_owned())),
        Just(Ending::Says(String::new())),
    ];
    prop_oneof![
        14 => ordinary(),
        3 => decisions(),
        2 => (prop_oneof![Just("train"), Just("evaluate")], ending).prop_map(|(s, e)| Move::End(s, e)),
        1 => any::<bool>().prop_map(Move::Brake),
        1 => levels().prop_map(Move::Level),
        1 => levels().prop_map(Move::Ceiling),
        1 => any::<bool>().prop_map(Move::Suspend),
        1 => Just(Move::Wish("Cancel")),
        1 => prop_oneof![Just(-0.6), Just(0.0), Just(0.9)].prop_map(Move::Report),
        1 => prop_oneof![Just(Kind::Run), Just(Kind::Pipeline), Just(Kind::Rollout), Just(Kind::ModelVersion)]
            .prop_map(Move::Lose),
        1 => Just(Move::Drift),
    ]
}

impl Move {
    /// Whether the move is the operator's own: only its writes may not take pods away.
    pub fn is_operators(&self) -> bool {
        matches!(self, Self::Look(_) | Self::LookAround)
    }

    /// Makes it happen.
    pub fn make(&self, world: &mut World) {
        match self {
            Self::Look(n) => look(world, *n),
            Self::LookAround => drop(world.look_around()),
            Self::Pass(seconds) => world.pass(*seconds),
            Self::Jobs => world.run_jobs(),
            Self::Pods => world.run_deployments(),
            Self::End(stage, ending) => drop(world.endings.insert((*stage).to_owned(), ending.clone())),
            Self::Broken(yes) => {
                world.broken = yes.then(|| flywheel_engine::testing::uri(2)).into_iter().collect();
            }
            Self::Answer(reading) => drop(world.answers.insert("errors($candidate)".to_owned(), reading.clone())),
            Self::Decide(who, decision) => drop(world.person(who, *decision)),
            Self::Revoke(who) => revoke(world, who),
            Self::Wish(state) => wish(world, state),
            Self::Brake(on) => world.settings.brake.engaged = *on,
            Self::Level(level) => world.set(Kind::Pipeline, "eta", "automationLevel", level),
            Self::Ceiling(level) => world.settings.automation_ceiling = *level,
            Self::Suspend(yes) => world.set(Kind::Pipeline, "eta", "suspend", yes),
            Self::Scale(count) => world.set(Kind::Deployment, "eta", "replicas", count),
            Self::Template(n) => {
                world.set(
                    Kind::Deployment,
                    "eta",
                    "template/spec/terminationGracePeriodSeconds",
                    30 + i64::from(*n),
                );
            }
            Self::Drift => world.write_binding("eta", "s3://somewhere/else"),
            Self::Lose(kind) => world.names(*kind).iter().for_each(|n| world.lose_status(*kind, n)),
            Self::Report(change) => world.report.change = *change,
        }
    }
}

fn look(world: &mut World, n: usize) {
    let kinds = [
        Kind::Pipeline,
        Kind::Run,
        Kind::ModelVersion,
        Kind::Rollout,
        Kind::BiasPolicy,
    ];
    let all: Vec<_> = kinds
        .iter()
        .flat_map(|k| world.names(*k).into_iter().map(move |n| (*k, n)))
        .collect();
    if let Some((kind, name)) = all.get(n % all.len().max(1)) {
        world.look(*kind, name);
    }
}

/// A cancelled or aborted object stays so: the API server refuses anything else.
fn wish(world: &mut World, state: &str) {
    if state == "Cancel" {
        for name in world.names(Kind::Run) {
            world.set(Kind::Run, &name, "desiredState", state);
        }
        return;
    }
    for name in world.names(Kind::Rollout) {
        world.edit(Kind::Rollout, &name, |o| {
            let now = o["spec"]["desiredState"].as_str().unwrap_or_default().to_owned();
            if now != "Abort" && now != "RollBack" {
                o["spec"]["desiredState"] = json!(state);
                o["spec"]["holdReason"] = json!("a person wants to look");
            }
        });
    }
}

fn revoke(world: &mut World, who: &str) {
    let all: Vec<flywheel_api::Approval> = world.all(Kind::Approval);
    let Some(own) = all.iter().rfind(|a| a.spec.approver == who && a.spec.revokes.is_none()) else {
        return;
    };
    let name = format!("approval-{}", all.len());
    let mut object = serde_json::to_value(own).unwrap();
    object["metadata"] = json!({ "name": name });
    object["spec"]["decision"] = json!("Revoke");
    object["spec"]["revokes"] = json!({ "name": own.metadata.name });
    world.add(Kind::Approval, &object);
}
