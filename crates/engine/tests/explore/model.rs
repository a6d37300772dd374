//! The model: two operators at once, and the world around them.
//!
//! An operator looks at any object at any time, so events that are lost, repeated or out of order need no actions of
//! their own: a lost one is a look that does not happen, a repeated one is a look that happens twice. As the operator
//! does, it reads the acting object first and everything else afterwards, and writes only if the acting object is still
//! what it was. A slow reader therefore decides on an older version of some other object. An answer that is lost is no
//! action either, because the operator keeps nothing of an answer: it looks again. A look that leads to no write, and a
//! write whose precondition failed meanwhile, change nothing and are not visited.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use flywheel_engine::testing::{Content, DECIDED, Key, World};
use stateright::{Model, Property};

use crate::rules::{INVARIANTS, Violation};
use crate::scenes::Scene;
use crate::space::{Print, Space, Step, read_before};

/// What one operator is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operator {
    /// Nothing.
    Idle,
    /// It read this object (its place in the world) of that world, and is slow with the others.
    Reads { actor: usize, since: Print, age: u8 },
    /// It decided on a write, which is on its way.
    Writes(Print),
}

/// A state of the exploration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub world: Print,
    pub operators: [Operator; 2],
    /// A write of an operator that is no more.
    pub late: Option<Print>,
    /// How often each kind of thing may still happen.
    pub left: [u8; GROUPS],
    pub broken: Option<Violation>,
}

/// Kinds of things that happen only so often.
pub const GROUPS: usize = 7;
pub const CRASH: usize = 0;
pub const SLOW: usize = 1;
/// A slow reader sees versions that are at most that many changes old.
const OLDEST: u8 = 2;

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// An operator looks at an object and decides on a write.
    Look(usize, Key),
    /// An operator begins to read for a decision on that object.
    Begin(usize, Key),
    /// The slow reader decides; that object is as it was when it began.
    Decide(usize, Key, Key),
    /// The write of an operator arrives.
    Arrive(usize),
    /// The write of an operator that is no more arrives.
    ArriveLate,
    /// An operator is killed, and what it was sending never leaves.
    Crash(usize),
    /// An operator is killed, and what it sent is still on its way.
    CrashSent(usize),
    /// One of the scene's own moves.
    Happens(usize),
}

/// Names of the kinds of actions, for the count.
pub const KINDS: [&str; 8] = [
    "look",
    "slow read",
    "stale decision",
    "write arrives",
    "late write arrives",
    "crash before sending",
    "crash after sending",
    "world",
];

/// What a property asks of a state.
type Asks = fn(&Loop, &State) -> bool;

/// One scene and what is known of it.
pub struct Loop {
    pub scene: Scene,
    pub space: Space,
    pub kinds: [AtomicU64; 8],
    pub moves: Vec<AtomicU64>,
    /// States of which it was asked what can happen next: of all that were reached, once a scene is exhausted.
    pub visited: AtomicUsize,
    pub started: Instant,
}

impl Loop {
    pub fn new(scene: Scene) -> Self {
        let moves = scene.moves.iter().map(|_| AtomicU64::new(0)).collect();
        Self {
            scene,
            space: Space::default(),
            kinds: Default::default(),
            moves,
            visited: AtomicUsize::new(0),
            started: Instant::now(),
        }
    }

    pub fn key(&self, world: Print, place: usize) -> Key {
        self.space.world(world).world.keys().nth(place).unwrap().clone()
    }

    fn of_operator(&self, state: &State, who: usize, actions: &mut Vec<Act>) {
        let known = self.space.world(state.world);
        match state.operators[who] {
            Operator::Idle => {
                let decided = known.world.keys().filter(|(kind, _)| DECIDED.contains(kind));
                for key in decided.filter(|(kind, _)| self.scene.actors.contains(kind)) {
                    if self.space.decide(state.world, key).is_some() {
                        actions.push(Act::Look(who, key.clone()));
                    }
                    if state.left[SLOW] > 0 {
                        actions.push(Act::Begin(who, key.clone()));
                    }
                }
            }
            Operator::Reads { actor, since, .. } => {
                let before = self.space.world(since);
                let actor = self.key(since, actor);
                for stale in differing(&before.world, &known.world) {
                    let view = self.space.view(state.world, since, &stale);
                    // A write on the very object that is outdated is refused.
                    let decided = self.space.decide(view, &actor);
                    let earlier =
                        read_before(&stale).filter(|key| before.world.content(key) != known.world.content(key));
                    let refused = |write| {
                        let mut outdated = std::iter::once(&stale).chain(&earlier);
                        outdated.any(|key| self.space.guards(write, key))
                    };
                    if decided.is_some_and(|write| !refused(write)) {
                        actions.push(Act::Decide(who, actor.clone(), stale));
                    }
                }
            }
            Operator::Writes(_) => {
                actions.push(Act::Arrive(who));
                if state.left[CRASH] > 0 {
                    actions.push(Act::Crash(who));
                    if state.late.is_none() {
                        actions.push(Act::CrashSent(who));
                    }
                }
            }
        }
    }

    fn advance(&self, state: &mut State, step: Step) {
        state.world = step.world;
        state.broken = step.broken;
        let outdated = |write| self.space.outdated(write, &step.changed, step.world);
        for operator in &mut state.operators {
            match operator {
                Operator::Reads { actor, since, age } => {
                    *age += 1;
                    if *age > OLDEST || step.changed.contains(&self.key(*since, *actor)) {
                        *operator = Operator::Idle;
                    }
                }
                Operator::Writes(write) if outdated(*write) => *operator = Operator::Idle,
                _ => {}
            }
        }
        state.late = state.late.filter(|write| !outdated(*write));
        if state.broken.is_none() {
            state.broken = self.escape(state);
        }
    }

    /// Whether every Rollout can go back from here, whatever of the effects on their way arrives when.
    fn escape(&self, state: &State) -> Option<Violation> {
        if self.scene.escapes == 0 || !state.world.is_multiple_of(self.scene.escapes) {
            return None;
        }
        let effect = |write: &Print| matches!(self.space.write(*write).held.content, Content::Effect(_));
        let sent = state.operators.iter().filter_map(|o| match o {
            Operator::Writes(write) => Some(*write),
            _ => None,
        });
        let mut late = sent.chain(state.late).filter(effect);
        let quiet = self.space.escape(state.world, None);
        quiet.or_else(|| late.find_map(|write| self.space.escape(state.world, Some(write))))
    }

    fn plan(&self, state: &mut State, who: usize, write: Print) {
        state.operators[who] = Operator::Writes(write);
        state.broken = self.space.write(write).broken.clone();
        if state.broken.is_none() {
            state.broken = self.escape(state);
        }
    }

    fn count(&self, action: &Act) {
        let kind = match action {
            Act::Look(..) => 0,
            Act::Begin(..) => 1,
            Act::Decide(..) => 2,
            Act::Arrive(_) => 3,
            Act::ArriveLate => 4,
            Act::Crash(_) => 5,
            Act::CrashSent(_) => 6,
            Act::Happens(index) => {
                self.moves[*index].fetch_add(1, Ordering::Relaxed);
                7
            }
        };
        self.kinds[kind].fetch_add(1, Ordering::Relaxed);
    }
}

fn differing(before: &World, now: &World) -> Vec<Key> {
    let differs = |key: &&Key| before.content(key) != now.content(key);
    let gone = now.keys().filter(|key| before.content(key).is_none());
    before.keys().filter(differs).chain(gone).cloned().collect()
}

impl Model for Loop {
    type State = State;
    type Action = Act;

    fn init_states(&self) -> Vec<State> {
        let late = self
            .scene
            .late
            .clone()
            .map(|held| self.space.seed(&self.scene.world, held));
        let begin = |world: &World| {
            let world = self.space.keep(world.clone());
            let mut state = State {
                world,
                operators: [Operator::Idle; 2],
                late,
                left: self.scene.left,
                broken: self.space.world(world).broken.clone(),
            };
            if state.broken.is_none() {
                state.broken = self.escape(&state);
            }
            state
        };
        self.scene.beginnings().iter().map(begin).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Act>) {
        self.visited.fetch_add(1, Ordering::Relaxed);
        if state.broken.is_some() {
            return;
        }
        self.of_operator(state, 0, actions);
        // Two operators that do the same are one.
        if state.operators[0] != state.operators[1] {
            self.of_operator(state, 1, actions);
        }
        if state.late.is_some() {
            actions.push(Act::ArriveLate);
        }
        for (index, (group, what)) in self.scene.moves.iter().enumerate() {
            let may = group.is_none_or(|g| state.left[g] > 0);
            if may && self.space.happens(state.world, index, what).is_some() {
                actions.push(Act::Happens(index));
            }
        }
    }

    fn next_state(&self, last: &State, action: Act) -> Option<State> {
        self.count(&action);
        let mut state = last.clone();
        match action {
            Act::Look(who, key) => self.plan(&mut state, who, self.space.decide(last.world, &key)?),
            Act::Begin(who, key) => {
                state.left[SLOW] -= 1;
                let actor = self.space.world(last.world).world.keys().position(|k| *k == key)?;
                let since = last.world;
                state.operators[who] = Operator::Reads { actor, since, age: 0 };
            }
            Act::Decide(who, actor, stale) => {
                let Operator::Reads { since, .. } = last.operators[who] else {
                    return None;
                };
                let view = self.space.view(last.world, since, &stale);
                self.plan(&mut state, who, self.space.decide(view, &actor)?);
            }
            Act::Arrive(who) => {
                let Operator::Writes(write) = last.operators[who] else {
                    return None;
                };
                state.operators[who] = Operator::Idle;
                self.advance(&mut state, self.space.arrive(last.world, write));
            }
            Act::ArriveLate => {
                let write = state.late.take()?;
                self.advance(&mut state, self.space.arrive(last.world, write));
            }
            Act::Crash(who) => {
                state.left[CRASH] -= 1;
                state.operators[who] = Operator::Idle;
            }
            Act::CrashSent(who) => {
                let Operator::Writes(write) = last.operators[who] else {
                    return None;
                };
                state.left[CRASH] -= 1;
                state.operators[who] = Operator::Idle;
                state.late = Some(write);
            }
            Act::Happens(index) => {
                let (group, what) = &self.scene.moves[index];
                if let Some(group) = group {
                    state.left[*group] -= 1;
                }
                self.advance(&mut state, self.space.happens(last.world, index, what)?);
            }
        }
        // Which of the two does what makes no difference.
        state.operators.sort_unstable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn keeps<const I: usize>(_: &Loop, state: &State) -> bool {
            state.broken.as_ref().is_none_or(|b| b.invariant != INVARIANTS[I].0)
        }
        let always: [Asks; INVARIANTS.len()] = [
            keeps::<0>, keeps::<1>, keeps::<2>, keeps::<3>, keeps::<4>, keeps::<5>, keeps::<6>, keeps::<7>, keeps::<8>,
            keeps::<9>,
        ];
        let always = INVARIANTS
            .iter()
            .zip(always)
            .map(|((name, _), p)| Property::always(name, p));
        let sometimes: [(&'static str, Asks); 4] = [
            ("promoted", |m, s| m.space.world(s.world).ends.promoted),
            ("rolled back", |m, s| m.space.world(s.world).ends.rolled_back),
            ("approved", |m, s| m.space.world(s.world).ends.approved),
            ("rejected", |m, s| m.space.world(s.world).ends.rejected),
        ];
        let expected = sometimes
            .into_iter()
            .filter(|(name, _)| self.scene.sometimes.contains(name));
        always
            .chain(expected.map(|(name, p)| Property::sometimes(name, p)))
            .collect()
    }
}
