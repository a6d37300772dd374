//! I14, as far as it concerns what is left: what a run or a pipeline owned goes with it.
//!
//! The garbage collector removes it, if the owner's references are right and nothing holds it; what was created for an
//! owner that had gone by then, because its request hung, goes too. Judged are Jobs, snapshots and runs whose controller
//! is gone and which nobody deletes, at the next write of the garbage collector that comes late enough: a log without
//! one says nothing. An owner that is deleted with `--cascade=orphan` gives up what it owned first.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::json::{list, text, uid};
use super::{Finding, Key, Kind, Rule, Step, World};

const I14: &str = "I14";

/// Who removes what has no owner any more.
const COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";
/// How long it may take: it deletes one by one, and everything that a namespace had may go at once.
const MOST: SignedDuration = SignedDuration::from_secs(60);

/// Kinds that own something, and kinds that are owned.
const OWNERS: [Kind; 2] = [Kind::Pipeline, Kind::Run];
const OWNED: [Kind; 3] = [Kind::Run, Kind::Job, Kind::Revision];

/// What is left of owners that are gone.
#[derive(Debug, Default)]
pub struct Orphans {
    left: BTreeMap<Key, Left>,
}

#[derive(Debug)]
struct Left {
    uid: String,
    owner: Key,
    owner_uid: String,
    since: Timestamp,
}

impl Rule for Orphans {
    fn step(&mut self, world: &World, step: &Step) -> Vec<Finding> {
        let Ok(at) = step.at.parse::<Timestamp>() else {
            return Vec::new();
        };
        if OWNERS.contains(&step.key.kind) && step.before.is_some() && step.after.is_none() {
            let owner = uid(step.earlier());
            for kind in OWNED {
                let all = world.all(kind, &step.key.namespace);
                for (key, object) in all.filter(|(_, o)| controller(o) == owner) {
                    self.note(key, object, (&step.key, owner), at);
                }
            }
        }
        if OWNED.contains(&step.key.kind) && step.created() {
            let owner = controller(step.later());
            let known = world.known(owner).filter(|k| OWNERS.contains(&k.key.kind));
            if let Some(known) = known.filter(|k| world.by_uid(&k.key.kind, owner).is_none()) {
                self.note(&step.key, step.later(), (&known.key, owner), at);
            }
        }
        if step.user != COLLECTOR {
            return Vec::new();
        }
        self.left.retain(|key, left| left.is_there(world, key));
        let late = self.left.extract_if(.., |_, left| at.duration_since(left.since) > MOST);
        late.map(|(key, left)| left.finding(&key)).collect()
    }
}

impl Orphans {
    fn note(&mut self, key: &Key, object: &Value, (owner, owner_uid): (&Key, &str), since: Timestamp) {
        let left = Left {
            uid: uid(object).to_owned(),
            owner: owner.clone(),
            owner_uid: owner_uid.to_owned(),
            since,
        };
        self.left.insert(key.clone(), left);
    }
}

impl Left {
    /// Whether it is still there as it was: nobody deletes it, and the same owner is named.
    fn is_there(&self, world: &World, key: &Key) -> bool {
        world.get(key).is_some_and(|object| {
            let same = uid(object) == self.uid && controller(object) == self.owner_uid;
            same && text(object, "/metadata/deletionTimestamp").is_empty()
        })
    }

    fn finding(self, key: &Key) -> Finding {
        let seconds = MOST.as_secs();
        let message = format!(
            "{key} is left and nobody deletes it, though {}, which owned it, is gone for more than {seconds} s",
            self.owner
        );
        Finding::new(I14, message).about(key).about(&self.owner)
    }
}

/// UID of the controller that an object names; empty if it names none.
fn controller(object: &Value) -> &str {
    let mut owners = list(object, "/metadata/ownerReferences").iter();
    let found = owners.find(|o| o.get("controller").and_then(Value::as_bool) == Some(true));
    found.map(|o| text(o, "/uid")).unwrap_or_default()
}
