//! A stage for stories: a world in which an operator, time and people act, watched by the suites.

use std::panic::{self, AssertUnwindSafe};

use flywheel_api::approval::ApprovalDecision;
use flywheel_engine::decision::Action;
use flywheel_engine::testing::{Content, DECIDED, Held, Key, Kind, Mistake, World};

use xtask::trace::Violation;

use crate::check::Laws;
use crate::recorder::Recorder;
use crate::rules;

/// A story: what happens, and what must have come of it.
pub type Story = fn(&mut Stage);

/// Rounds in which everything must come to rest.
const ROUNDS: usize = 80;
/// Writes in a row after which an object must come to rest.
const WRITES: usize = 40;

/// A world that is watched.
pub struct Stage {
    pub world: World,
    recorder: Recorder,
    laws: Laws,
    /// The operator, or the world with it, did not come to rest.
    restless: bool,
    /// The brake is pulled from now on.
    braked: bool,
}

/// What was found in a story.
pub struct Found {
    /// The law that was broken; that everything comes to rest is one.
    pub laws: Option<rules::Violation>,
    /// Why the story does not end as it should.
    pub end: Option<String>,
    /// What the trace checker says.
    pub trace: Vec<Violation>,
}

/// Plays a story with a mistake, or with none.
pub fn play(story: Story, mistake: Option<Mistake>) -> Found {
    let mut stage = Stage {
        world: World::default(),
        recorder: Recorder::default(),
        laws: Laws::default(),
        restless: false,
        braked: false,
    };
    stage.world.mistake = mistake;
    let end = attempt(|| story(&mut stage));
    let broken = attempt(|| stage.judge()).map(|why| rules::Violation::new(stage.laws.judged, why));
    let restless = end.clone().filter(|_| stage.restless);
    Found {
        laws: broken.or_else(|| restless.map(|why| rules::Violation::new("I11", why))),
        end,
        trace: xtask::trace::check(&stage.recorder.history()),
    }
}

/// What stops the action, if something does.
fn attempt(action: impl FnOnce()) -> Option<String> {
    let why = panic::catch_unwind(AssertUnwindSafe(action)).err()?;
    let text = why.downcast_ref::<String>().cloned();
    Some(text.unwrap_or_else(|| (*why.downcast_ref::<&str>().unwrap_or(&"it stops")).to_owned()))
}

impl Stage {
    /// Begins with that world, in which nothing was decided yet.
    pub fn begin(&mut self, build: impl FnOnce(&mut World)) {
        build(&mut self.world);
        self.recorder.note(&self.world, None);
    }

    /// Something happens that is none of the operator's doing, and the operator sees it a little later.
    pub fn happens(&mut self, what: impl FnOnce(&mut World)) {
        what(&mut self.world);
        self.recorder.note(&self.world, None);
        self.world.pass(15);
    }

    pub fn person(&mut self, who: &str, decision: ApprovalDecision) {
        self.happens(|w| drop(w.person(who, decision)));
    }

    /// The administrator pulls the brake, and leaves it so.
    pub fn brake(&mut self) {
        self.judge();
        self.world.settings.brake.engaged = true;
        self.braked = true;
    }

    /// The laws of what was written since the last time.
    fn judge(&mut self) {
        self.laws.check(&self.world, self.braked);
    }

    /// A write arrives now.
    pub fn arrive(&mut self, held: &Held) -> bool {
        let done = self.world.arrive(held);
        self.recorder.note(&self.world, Some(held));
        done
    }

    /// The operator works on each object until it waits. Returns whether it wrote.
    fn look_around(&mut self) -> bool {
        let decided = |key: &&Key| DECIDED.contains(&key.0);
        let keys: Vec<Key> = self.world.keys().filter(decided).cloned().collect();
        let mut wrote = false;
        for (kind, name) in keys {
            let mut look = || self.world.hold(kind, &name).is_some_and(|held| self.arrive(&held));
            let writes = (0..WRITES).take_while(|_| look()).count();
            wrote |= writes > 0;
            if writes == WRITES {
                self.stop("the operator does not come to rest");
            }
        }
        wrote
    }

    /// The operator works until it waits everywhere.
    pub fn settle(&mut self) {
        for _ in 0..ROUNDS {
            if !self.look_around() {
                return;
            }
        }
        self.stop("the operator does not come to rest");
    }

    fn stop(&mut self, why: &str) -> ! {
        self.restless = true;
        panic!("{why}");
    }

    /// Everything goes on that can go on now.
    pub fn turn(&mut self) {
        for _ in 0..ROUNDS {
            self.settle();
            let before = self.world.writes.len();
            self.world.run_jobs();
            self.world.run_deployments();
            self.recorder.note(&self.world, None);
            self.settle();
            if self.world.writes.len() == before {
                return;
            }
        }
        self.stop("the world does not come to rest");
    }

    /// Time goes by, that many minutes.
    pub fn live(&mut self, minutes: usize) {
        for _ in 0..minutes {
            self.turn();
            self.world.pass(60);
        }
        self.turn();
    }

    /// Goes on until such an effect is decided, and holds it.
    pub fn until(&mut self, wanted: fn(&Action) -> bool) -> Held {
        for _ in 0..100 {
            let keys: Vec<Key> = self.world.keys().cloned().collect();
            let mut wrote = false;
            for (kind, name) in keys {
                let Some(held) = self.world.hold(kind, &name) else {
                    continue;
                };
                if matches!(&held.content, Content::Effect(action) if wanted(action)) {
                    return held;
                }
                wrote |= self.arrive(&held);
            }
            if !wrote {
                self.world.run_jobs();
                self.world.run_deployments();
                self.recorder.note(&self.world, None);
                self.world.pass(30);
            }
        }
        panic!("no such effect is decided");
    }

    pub fn exists(&self, kind: Kind, name: &str) -> bool {
        self.world.raw(&(kind, name.to_owned())).is_some()
    }
}
