//! What was computed before: worlds by their fingerprint, decisions by what was seen, and what each write makes of each
//! world. States of the exploration are a few numbers, and every decision is taken once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use flywheel_engine::decision::Action;
use flywheel_engine::testing::{Content, Held, Key, Kind, World};

use crate::escape;
use crate::moves::Move;
use crate::rules::{self, Ends, Violation};

/// A fingerprint.
pub type Print = u64;

/// A world that was met.
pub struct Known {
    pub world: World,
    pub ends: Ends,
    pub broken: Option<Violation>,
}

/// A write that was decided.
pub struct Planned {
    pub held: Held,
    /// The object whose resource version is the precondition; of a status that is the actor.
    guard: Option<Key>,
    /// What the decision broke, in the light of what was seen.
    pub broken: Option<Violation>,
}

/// What became of a world.
#[derive(Clone)]
pub struct Step {
    pub world: Print,
    pub changed: Arc<Vec<Key>>,
    pub broken: Option<Violation>,
}

type Table<K, V> = Mutex<HashMap<K, V>>;

/// Everything that was computed.
#[derive(Default)]
pub struct Space {
    worlds: Table<Print, Arc<Known>>,
    writes: Table<Print, Arc<Planned>>,
    decisions: Table<(Print, Key), Option<Print>>,
    views: Table<(Print, Print, Key), Print>,
    arrivals: Table<(Print, Print), Step>,
    moves: Table<(Print, usize), Option<Step>>,
    escapes: Table<(Print, Print), Option<Violation>>,
}

fn known<K: Hash + Eq, V: Clone>(table: &Table<K, V>, key: K, make: impl FnOnce() -> V) -> V {
    if let Some(found) = table.lock().unwrap().get(&key) {
        return found.clone();
    }
    let made = make();
    table.lock().unwrap().entry(key).or_insert(made).clone()
}

impl Space {
    /// Keeps a world without its history, and says by which number it is found.
    pub fn keep(&self, world: World) -> Print {
        let print = world.fingerprint();
        known(&self.worlds, print, || {
            Arc::new(Known {
                ends: Ends::of(&world),
                broken: rules::of_world(&world),
                world,
            })
        });
        print
    }

    pub fn world(&self, print: Print) -> Arc<Known> {
        Arc::clone(&self.worlds.lock().unwrap()[&print])
    }

    pub fn write(&self, print: Print) -> Arc<Planned> {
        Arc::clone(&self.writes.lock().unwrap()[&print])
    }

    /// What the operator decides to write on one object, seeing that world.
    pub fn decide(&self, view: Print, actor: &Key) -> Option<Print> {
        known(&self.decisions, (view, actor.clone()), || {
            let seen = self.world(view);
            let held = seen.world.clone().hold(actor.0, &actor.1)?;
            let broken = rules::of_decision(&seen.world, &held);
            // The same write is judged by what was seen.
            let print = held.content() ^ broken.as_ref().map_or(0, |_| view);
            let guard = guard(&held).filter(|_| !seen.world.ignores_precondition(&held.content));
            known(&self.writes, print, || Arc::new(Planned { held, guard, broken }));
            Some(print)
        })
    }

    /// Keeps a write that no operator decided, judged as if one had.
    pub fn seed(&self, world: &World, held: Held) -> Print {
        let (print, broken, guard) = (held.content(), rules::of_decision(world, &held), guard(&held));
        known(&self.writes, print, || Arc::new(Planned { held, guard, broken }));
        print
    }

    /// The world as a slow reader sees it: one object, what is read before it, the answers and the time are of an earlier
    /// world.
    pub fn view(&self, now: Print, since: Print, stale: &Key) -> Print {
        known(&self.views, (now, since, stale.clone()), || {
            let before = self.world(since);
            let mut mixed = self.world(now).world.with_object_of(&before.world, stale);
            if let Some(earlier) = read_before(stale) {
                mixed = mixed.with_object_of(&before.world, &earlier);
            }
            mixed.now = before.world.now;
            mixed.answers.clone_from(&before.world.answers);
            let print = mixed.fingerprint();
            // Nobody lives in it, so nothing is judged there.
            known(&self.worlds, print, || {
                Arc::new(Known {
                    ends: Ends::default(),
                    broken: None,
                    world: mixed,
                })
            });
            print
        })
    }

    /// A write arrives. That its precondition holds is known: it is dropped as soon as it does not.
    pub fn arrive(&self, now: Print, write: Print) -> Step {
        known(&self.arrivals, (now, write), || {
            let before = self.world(now);
            let planned = self.write(write);
            let mut world = before.world.clone();
            world.arrive(&planned.held);
            let broken = planned
                .broken
                .clone()
                .or_else(|| rules::of_write(&before.world, &world));
            self.step(&before.world, world, broken)
        })
    }

    /// Something happens that is none of the operator's doing; nothing if it cannot happen now.
    pub fn happens(&self, now: Print, index: usize, what: &Move) -> Option<Step> {
        known(&self.moves, (now, index), || {
            let before = self.world(now);
            let mut world = before.world.clone();
            what.make(&mut world);
            let step = self.step(&before.world, world, None);
            (step.world != now).then_some(step)
        })
    }

    fn step(&self, before: &World, mut world: World, broken: Option<Violation>) -> Step {
        let changed = world.changed(before);
        world.forget_history(before);
        let print = self.keep(world);
        Step {
            world: print,
            changed: Arc::new(changed),
            broken: broken.or_else(|| self.world(print).broken.clone()),
        }
    }

    /// Whether every Rollout can go back from here, also if that write arrives afterwards; nothing if all can.
    pub fn escape(&self, now: Print, late: Option<Print>) -> Option<Violation> {
        known(&self.escapes, (now, late.unwrap_or(0)), || {
            let late = late.map(|w| self.write(w));
            escape::blocked(&self.world(now).world, late.as_ref().map(|w| &w.held))
        })
    }

    /// Whether the resource version of that object is the precondition of the write.
    pub fn guards(&self, write: Print, key: &Key) -> bool {
        self.write(write).guard.as_ref() == Some(key)
    }

    /// Whether a write cannot take effect any more, after these objects changed.
    pub fn outdated(&self, write: Print, changed: &[Key], now: Print) -> bool {
        let planned = self.write(write);
        let Some(guard) = &planned.guard else { return false };
        if let Content::Effect(action) = &planned.held.content
            && let Action::Delete(key) = &**action
            && key.resource_version.is_none()
        {
            let world = &self.world(now).world;
            return world.raw(guard).is_none_or(|o| o["metadata"]["uid"] != key.uid);
        }
        changed.contains(guard)
    }

    /// Numbers of distinct worlds, views among them, and of distinct writes.
    pub fn sizes(&self) -> (usize, usize) {
        (self.worlds.lock().unwrap().len(), self.writes.lock().unwrap().len())
    }
}

fn guard(held: &Held) -> Option<Key> {
    match &held.content {
        Content::Status(..) => Some(held.actor.clone()),
        Content::Effect(action) => match &**action {
            Action::Create(_) => None,
            Action::Patch(patch) => Some((patch.object.kind.into(), patch.object.name.clone())),
            Action::Delete(key) => Some((key.kind.into(), key.name.clone())),
        },
    }
}

/// A target is read before its candidate: who saw an old candidate saw a target that was as old.
pub fn read_before(key: &Key) -> Option<Key> {
    let target = key.1.strip_suffix("-candidate").filter(|_| key.0 == Kind::Deployment)?;
    Some((Kind::Deployment, target.to_owned()))
}
