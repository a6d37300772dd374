//! The scenes: each is small, and together they cover a turn of the loop.

use std::collections::BTreeSet;
use std::time::Duration;

use flywheel_api::approval::ApprovalDecision::{Approve, Reject};
use flywheel_api::reference::AutomationLevel;
use flywheel_engine::testing::{self, Held, Kind, World};
use serde_json::{Value, json};

use crate::model::{CRASH, GROUPS, SLOW};
use crate::moves::{Forgery, Move};
use crate::rules::Ends;

const TIME: usize = 2;
const PEOPLE: usize = 3;
const ADVERSARY: usize = 4;
const PROVIDER: usize = 5;
const SPEC: usize = 6;

/// A beginning, what may happen, and how much of it is visited.
pub struct Scene {
    pub name: &'static str,
    pub world: World,
    /// Ways without faults: what happens again and again on each.
    pub roads: Vec<Vec<Move>>,
    /// Kinds that the operators look at.
    pub actors: &'static [Kind],
    /// What happens besides, and which kind of it is counted; what is not counted may happen always.
    pub moves: Vec<(Option<usize>, Move)>,
    /// A write that is on its way from the beginning; for tests of the rules, as a bug would have sent it.
    pub late: Option<Held>,
    /// How often each counted kind may happen.
    pub left: [u8; GROUPS],
    /// From one world in so many the way back is tried; from none if it is zero.
    pub escapes: u64,
    /// What must be reached.
    pub sometimes: &'static [&'static str],
    /// Transitions at most: a state counts as often as it is reached.
    pub transitions: usize,
    /// Time at most.
    pub time: Duration,
}

/// Transitions of a scene in a long run: what is remembered of so many fits into 3 GiB.
const TRANSITIONS: usize = 10_000_000;
/// Time for a scene in a long run, so that all six take less than five minutes.
const TIME_EACH: Duration = Duration::from_secs(45);
/// Times that a road is walked: enough to come to its end.
const ROUNDS: usize = 8;
/// Times that an operator looks at everything before it must wait.
const LOOKS: usize = 40;

impl Scene {
    /// What the scenes of a plain test run share: no write on its way, and so much of everything that is visited.
    pub fn plain(name: &'static str, world: World) -> Self {
        Self {
            name,
            world: quiet(world),
            roads: Vec::new(),
            actors: &[Kind::Rollout],
            moves: Vec::new(),
            late: None,
            left: [0; GROUPS],
            escapes: 16,
            sometimes: &[],
            transitions: 40_000,
            time: Duration::from_secs(60),
        }
    }

    /// The worlds on the ways without faults, from the beginning until a delivery or a run ends: everything that is
    /// visited begins there, so that each phase is met with all its faults still to come.
    pub fn beginnings(&self) -> Vec<World> {
        let mut worlds = vec![self.world.clone()];
        for road in &self.roads {
            let (mut world, mut met) = (self.world.clone(), vec![self.world.clone()]);
            for step in (0..ROUNDS).flat_map(|_| road) {
                self.follow(&mut world, &mut met);
                step.make(&mut world);
                pass(&mut world, &mut met);
            }
            worlds.append(&mut met);
        }
        let mut met = BTreeSet::new();
        worlds.retain(|w| met.insert(w.fingerprint()));
        worlds.retain(|w| {
            let ends = Ends::of(w);
            !(ends.promoted || ends.rolled_back || ends.rejected)
        });
        worlds
    }

    /// One operator works until it waits.
    fn follow(&self, world: &mut World, worlds: &mut Vec<World>) {
        for _ in 0..LOOKS {
            let keys: Vec<_> = world
                .keys()
                .filter(|(kind, _)| self.actors.contains(kind))
                .cloned()
                .collect();
            let mut wrote = false;
            for (kind, name) in keys {
                if world.look(kind, &name) {
                    pass(world, worlds);
                    wrote = true;
                }
            }
            if !wrote {
                return;
            }
        }
    }
}

fn pass(world: &mut World, met: &mut Vec<World>) {
    let before = &met[met.len() - 1];
    world.forget_history(before);
    if world.fingerprint() != before.fingerprint() {
        met.push(world.clone());
    }
}

/// A plan with one step that lasts no time.
pub fn brief() -> Value {
    let mut plan = testing::plan();
    plan["strategy"]["steps"] = json!([{ "name": "only", "weight": 50 }]);
    plan
}

/// A plan with a step for one pod and one for two.
fn two_steps() -> Value {
    let mut plan = testing::plan();
    plan["strategy"]["steps"] = json!([
        { "name": "tenth", "weight": 10, "minDuration": "1m" },
        { "name": "half", "weight": 50, "minDuration": "1m" },
    ]);
    plan
}

pub fn one_step(weight: i64) -> Value {
    let mut plan = testing::plan();
    plan["strategy"]["steps"] = json!([{ "name": "only", "weight": weight, "minDuration": "1m" }]);
    plan
}

/// Version 1 serves with two pods; versions 2 and 3 are there.
pub fn served() -> World {
    let mut world = World::default();
    world.add(Kind::Deployment, &testing::target(2, Some(&testing::uri(1))));
    world.run_deployments();
    for number in 1..=3 {
        world.add(Kind::ModelVersion, &testing::version(number));
    }
    world.settle();
    world
}

fn quiet(mut world: World) -> World {
    let before = world.clone();
    world.forget_history(&before);
    world
}

fn budget(pairs: &[(usize, u8)]) -> [u8; GROUPS] {
    let mut left = [0; GROUPS];
    pairs.iter().for_each(|(group, count)| left[*group] = *count);
    left
}

/// All scenes; the long ones as far as time and memory allow, with the faults of the bounds in full.
pub fn all(long: bool) -> Vec<Scene> {
    let mut scenes = vec![delivery(), shrink(), rivals(), successor(), approval(), turn()];
    for scene in &mut scenes {
        if long {
            scene.left[CRASH] = 2;
            scene.left[SLOW] = 2;
            scene.escapes = scene.escapes.min(1);
            scene.transitions = TRANSITIONS;
            scene.time = TIME_EACH;
        }
    }
    scenes
}

/// One delivery in two steps, with a check.
pub fn delivery() -> Scene {
    let mut plan = two_steps();
    plan["checks"] = json!([testing::check()]);
    let mut world = served();
    world.add(Kind::Rollout, &testing::rollout("second", 2, &plan));
    Scene {
        roads: vec![
            vec![
                Move::Answer(Some(0.001)),
                Move::Pods("eta-candidate"),
                Move::Pods("eta"),
                Move::Minute,
            ],
            vec![
                Move::Pods("eta-candidate"),
                Move::Pods("eta"),
                Move::Minute,
                Move::Answer(Some(0.5)),
            ],
            vec![
                Move::Pods("eta-candidate"),
                Move::Pods("eta"),
                Move::Minute,
                Move::GoBack("second"),
            ],
        ],
        moves: happens_to_delivery(),
        left: budget(&[
            (CRASH, 1),
            (SLOW, 1),
            (TIME, 2),
            (PEOPLE, 1),
            (ADVERSARY, 1),
            (PROVIDER, 1),
        ]),
        sometimes: &["promoted", "rolled back"],
        ..Scene::plain("a delivery with a check", world)
    }
}

fn happens_to_delivery() -> Vec<(Option<usize>, Move)> {
    vec![
        (None, Move::Pods("eta")),
        (None, Move::Pods("eta-candidate")),
        (Some(TIME), Move::Minute),
        (Some(PROVIDER), Move::Answer(Some(0.001))),
        (Some(PROVIDER), Move::Answer(Some(0.5))),
        (Some(PROVIDER), Move::Answer(None)),
        (Some(PEOPLE), Move::GoBack("second")),
        (Some(ADVERSARY), Move::Bind),
        (Some(ADVERSARY), Move::Delete(Kind::Deployment, "eta-candidate")),
        (Some(ADVERSARY), Move::Unlabel(Kind::Deployment, "eta-candidate")),
        (Some(ADVERSARY), Move::Delete(Kind::Rollout, "second")),
        (Some(ADVERSARY), Move::Delete(Kind::ModelVersion, "eta-2")),
    ]
}

/// A delivery that takes pods from the baseline and waits for a person.
pub fn shrink() -> Scene {
    let mut plan = one_step(50);
    plan["capacity"] = json!({ "baseline": "ShrinkWithWeight" });
    plan["strategy"]["steps"][0]["approval"] = json!({ "minApprovals": 1 });
    let mut world = served();
    world.add(Kind::Rollout, &testing::rollout("second", 2, &plan));
    Scene {
        roads: vec![
            vec![
                Move::Pods("eta-candidate"),
                Move::Pods("eta"),
                Move::Minute,
                Move::Person("jane", Approve),
            ],
            vec![
                Move::Pods("eta-candidate"),
                Move::Pods("eta"),
                Move::Minute,
                Move::Person("bob", Reject),
            ],
        ],
        moves: vec![
            (None, Move::Pods("eta")),
            (None, Move::Pods("eta-candidate")),
            (Some(TIME), Move::Minute),
            (Some(PEOPLE), Move::Person("jane", Approve)),
            (Some(PEOPLE), Move::Person("bob", Reject)),
            (Some(ADVERSARY), Move::Forge(Forgery::Digest)),
            (Some(ADVERSARY), Move::Forge(Forgery::Subject)),
            (Some(ADVERSARY), Move::Template),
            (Some(ADVERSARY), Move::Delete(Kind::Deployment, "eta-candidate")),
            (Some(ADVERSARY), Move::Delete(Kind::Rollout, "second")),
        ],
        left: budget(&[(CRASH, 1), (SLOW, 1), (TIME, 2), (PEOPLE, 1), (ADVERSARY, 1)]),
        sometimes: &["promoted", "rolled back", "approved"],
        ..Scene::plain("a delivery that shrinks the baseline and asks", world)
    }
}

/// Two Rollouts to one target.
pub fn rivals() -> Scene {
    let mut world = served();
    world.add(Kind::Rollout, &testing::rollout("second", 2, &brief()));
    Scene {
        roads: vec![vec![
            Move::Deliver("third", 3),
            Move::Pods("eta-candidate"),
            Move::Pods("eta"),
            Move::Minute,
        ]],
        moves: vec![
            (None, Move::Pods("eta")),
            (None, Move::Pods("eta-candidate")),
            (Some(SPEC), Move::Deliver("third", 3)),
            (Some(PEOPLE), Move::GoBack("second")),
            (Some(PEOPLE), Move::GoBack("third")),
            (Some(ADVERSARY), Move::Delete(Kind::Rollout, "second")),
            (Some(ADVERSARY), Move::Unlabel(Kind::Deployment, "eta-candidate")),
        ],
        left: budget(&[(CRASH, 1), (SLOW, 1), (PEOPLE, 1), (ADVERSARY, 1), (SPEC, 1)]),
        sometimes: &["promoted"],
        ..Scene::plain("two Rollouts to one target", world)
    }
}

/// A Rollout to a target whose last one is promoted and may still go back.
fn successor() -> Scene {
    let mut at_once = testing::plan();
    at_once["strategy"]["steps"] = json!([]);
    let mut world = served();
    world.add(Kind::Rollout, &testing::rollout("second", 2, &at_once));
    Scene {
        roads: vec![vec![
            Move::Deliver("third", 3),
            Move::Pods("eta-candidate"),
            Move::Pods("eta"),
        ]],
        moves: vec![
            (None, Move::Pods("eta")),
            (None, Move::Pods("eta-candidate")),
            (Some(SPEC), Move::Deliver("third", 3)),
            (Some(PEOPLE), Move::GoBack("second")),
            (Some(PEOPLE), Move::GoBack("third")),
        ],
        left: budget(&[(CRASH, 1), (SLOW, 1), (PEOPLE, 1), (SPEC, 1)]),
        sometimes: &["rolled back"],
        ..Scene::plain("a Rollout after one that may still go back", world)
    }
}

pub fn shop() -> World {
    let mut world = World::default();
    world.add(Kind::Deployment, &testing::target(2, Some(&testing::uri(1))));
    world.run_deployments();
    world.add(Kind::ModelVersion, &testing::version(1));
    world.add(Kind::BiasPolicy, &testing::policy("airports"));
    let mut pipeline = testing::pipeline();
    pipeline.spec.bias_policies = testing::object(json!([{ "name": "airports" }]));
    pipeline.spec.rollout = testing::object(one_step(50));
    pipeline.spec.approvals = testing::object(json!([{ "gate": "Promote", "separationOfDuties": true }]));
    world.add(Kind::Pipeline, &pipeline);
    world.turn();
    world.add(Kind::Run, &testing::run("eta-request", "joe"));
    world
}

fn changes() -> Vec<(Option<usize>, Move)> {
    vec![
        (Some(SPEC), Move::Gates),
        (Some(SPEC), Move::Policy),
        (Some(SPEC), Move::Level(AutomationLevel::Manual)),
        (Some(ADVERSARY), Move::Bind),
        (Some(ADVERSARY), Move::Delete(Kind::Pipeline, "eta")),
        (Some(ADVERSARY), Move::Delete(Kind::BiasPolicy, "airports")),
        (Some(ADVERSARY), Move::Delete(Kind::ModelVersion, "eta-2")),
    ]
}

/// A run waits for a person.
pub fn approval() -> Scene {
    let mut world = shop();
    world.turn();
    assert!(world.waiting().is_some(), "the scene begins where a person is needed");
    let mut moves = vec![
        (Some(PEOPLE), Move::Person("jane", Approve)),
        (Some(PEOPLE), Move::Person("bob", Reject)),
        (Some(ADVERSARY), Move::Forge(Forgery::Digest)),
        (Some(ADVERSARY), Move::Forge(Forgery::Subject)),
        (Some(ADVERSARY), Move::Forge(Forgery::Own)),
    ];
    moves.extend(changes());
    Scene {
        roads: vec![vec![Move::Person("jane", Approve)], vec![Move::Person("bob", Reject)]],
        actors: &[Kind::Pipeline, Kind::Run, Kind::ModelVersion, Kind::Rollout],
        moves,
        left: budget(&[(CRASH, 1), (SLOW, 1), (PEOPLE, 1), (ADVERSARY, 1), (SPEC, 1)]),
        escapes: 0,
        sometimes: &["approved", "rejected"],
        ..Scene::plain("a run that waits for a person", world)
    }
}

/// A run from its request to its end.
pub fn turn() -> Scene {
    let mut moves = vec![
        (None, Move::Jobs),
        (None, Move::Pods("eta")),
        (None, Move::Pods("eta-candidate")),
        (Some(TIME), Move::Minute),
        (Some(PEOPLE), Move::Person("jane", Approve)),
    ];
    moves.extend(changes());
    Scene {
        roads: vec![
            vec![
                Move::Jobs,
                Move::Person("jane", Approve),
                Move::Pods("eta-candidate"),
                Move::Pods("eta"),
                Move::Minute,
            ],
            vec![Move::Jobs, Move::Person("bob", Reject)],
        ],
        actors: &[Kind::Pipeline, Kind::Run, Kind::ModelVersion, Kind::Rollout],
        moves,
        left: budget(&[(CRASH, 1), (SLOW, 0), (TIME, 1), (PEOPLE, 1), (ADVERSARY, 1), (SPEC, 1)]),
        sometimes: &["promoted", "approved", "rejected"],
        ..Scene::plain("a run from its request on", shop())
    }
}
