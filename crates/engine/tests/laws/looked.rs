//! What a decision did not look at does not count for it: whoever decides again on live reads need not read it.

use flywheel_api::{FlywheelPipeline, FlywheelRun, ModelVersion, Rollout, RolloutStatus};
use flywheel_engine::decision::{Action, Child, ChildKind, Decision};
use flywheel_engine::part::Ledger;
use flywheel_engine::run::{self, Peer};
use flywheel_engine::testing::{self, Kind, World};
use flywheel_engine::view::LiveView;
use flywheel_engine::{model_version, pipeline, rollout};
use jiff::Timestamp;

/// Decides on everything in the world, with and without what was not looked at.
pub fn what_was_not_looked_at_does_not_count(world: &World) {
    peers_count_only_where_they_are_asked_for(world);
    what_serves_counts_only_where_it_is_asked_for(world);
    only_what_was_looked_at_counts(world);
}

/// Who does not ask for its peers decides the same whatever they do: nobody need read them.
fn peers_count_only_where_they_are_asked_for(world: &World) {
    let runs: Vec<FlywheelRun> = world.all(Kind::Run);
    for run in runs.iter().filter(|run| !run::asks_for_peers(run)) {
        let mut seen = world.run_observation(run.metadata.name.as_ref().unwrap()).unwrap();
        let alone = run::decide(&seen);
        let busy = |n| Peer {
            name: format!("another-{n}"),
            pipeline: run.spec.pipeline_ref.name.clone(),
            created: Timestamp::default(),
            begun: true,
            running_stage: true,
            ..Peer::default()
        };
        *seen.peers = (0..100).map(busy).collect();
        assert_eq!(run::decide(&seen), alone, "{:?}", run.metadata.name);
    }
}

/// Who does not ask for what serves decides the same whatever that is.
fn what_serves_counts_only_where_it_is_asked_for(world: &World) {
    let runs: Vec<FlywheelRun> = world.all(Kind::Run);
    for run in runs.iter().filter(|run| !run::asks_for_live(run)) {
        let mut seen = world.run_observation(run.metadata.name.as_ref().unwrap()).unwrap();
        let without = run::decide(&seen);
        *seen.live = Some(LiveView::of(&testing::version(9)));
        assert_eq!(run::decide(&seen), without, "{:?}", run.metadata.name);
    }
}

/// Decides once on all parts, and once without those that were not looked at; says what was looked at, a bit for each.
macro_rules! decided_alike_without_what_was_not_looked_at {
    ($observation:expr, $decide:path, $($part:ident),+) => {{
        let (mut seen, ledger) = ($observation, Ledger::default());
        let bits = (0..).map(|n| 1_u32 << n);
        let mut each = bits.clone();
        $(seen.$part = ledger.part(each.next().unwrap(), seen.$part.peek().clone());)+
        let decision = $decide(&seen);
        let (looked, mut each) = (ledger.noted(), bits);
        $(if looked & each.next().unwrap() == 0 {
            seen.$part = Default::default();
        })+
        assert_eq!($decide(&seen), decision, "{looked:b}");
        (decision, looked)
    }};
}

/// What a decision did not look at does not change it: nobody need read that live.
fn only_what_was_looked_at_counts(world: &World) {
    for run in world.all::<FlywheelRun>(Kind::Run) {
        let seen = world.run_observation(run.metadata.name.as_ref().unwrap()).unwrap();
        decided_alike_without_what_was_not_looked_at!(
            seen,
            run::decide,
            jobs,
            peers,
            live,
            untold,
            versions,
            version,
            rollout,
            policies,
            approvals
        );
    }
    for pipeline in world.all::<FlywheelPipeline>(Kind::Pipeline) {
        let seen = world
            .pipeline_observation(pipeline.metadata.name.as_ref().unwrap())
            .unwrap();
        decided_alike_without_what_was_not_looked_at!(
            seen,
            pipeline::decide,
            siblings,
            runs,
            versions,
            rollouts,
            unreadable,
            unreadable_runs,
            snapshots,
            live,
            untold
        );
    }
    for version in world.all::<ModelVersion>(Kind::ModelVersion) {
        let seen = world
            .version_observation(version.metadata.name.as_ref().unwrap())
            .unwrap();
        decided_alike_without_what_was_not_looked_at!(seen, model_version::decide, run, rollouts, serves, untold, told);
    }
    for rollout in world.all::<Rollout>(Kind::Rollout) {
        delivery_looked_at(world, rollout.metadata.name.as_ref().unwrap());
        an_effect_is_refused_if_its_deployment_changed(world, rollout.metadata.name.as_ref().unwrap());
    }
}

/// So that nobody need read it before: a patch bears the version that was seen, and what is created was not there.
fn an_effect_is_refused_if_its_deployment_changed(world: &World, name: &str) {
    let seen = world.rollout_observation(name).unwrap();
    let Decision::Do(effect) = rollout::decide(&seen) else {
        return;
    };
    let sides = [&seen.target, &seen.candidate];
    match &effect.action {
        Action::Create(child) if matches!(**child, Child::Deployment(_)) => assert!(seen.candidate.is_none()),
        Action::Patch(patch) if patch.object.kind == ChildKind::Deployment => {
            let changed = sides.iter().filter_map(|side| side.as_ref()).any(|side| {
                side.metadata.name.as_deref() == Some(&patch.object.name)
                    && side.metadata.uid.as_deref() == Some(&patch.object.uid)
                    && side.metadata.resource_version == patch.object.resource_version
            });
            assert!(changed && patch.object.resource_version.is_some(), "{name}: {patch:?}");
        }
        Action::Create(_) | Action::Patch(_) | Action::Delete(_) => {}
    }
}

/// The bits of the Deployments in what [`delivery_looked_at`] says.
pub const DEPLOYMENTS: u32 = 0b11;

/// What is decided on a Rollout, and whether it looked at its two Deployments, the others, the versions and the Approvals, a
/// bit for each.
pub fn delivery_looked_at(world: &World, name: &str) -> (Decision<RolloutStatus>, u32) {
    let seen = world.rollout_observation(name).unwrap();
    decided_alike_without_what_was_not_looked_at!(seen, rollout::decide, target, candidate, others, versions, approvals)
}
