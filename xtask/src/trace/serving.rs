//! What Deployments carried and which versions there were, and when: what served when something was decided.
//!
//! A decision stands on what was read at some moment before its write takes effect, so all that was so since a request
//! can have been sent counts. Of what was there before the log tells of it nobody knows what it was, nor of what a write
//! made of it whose outcome nobody was told.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::json::{text, uid};
use super::moments::Moments;
use super::{Key, Kind, Step, binding};

/// What is known of an object at a moment.
#[derive(Debug, Clone, PartialEq)]
enum Was<T> {
    Unknown,
    Gone,
    There(T),
}

/// Objects by their names, over time.
type Past<T> = BTreeMap<Key, Moments<Was<T>>>;

/// A Deployment, which is the same as long as its containers are.
#[derive(Debug, Clone)]
struct Target(Arc<Value>);

impl Target {
    fn containers(&self) -> Option<&Value> {
        self.0.pointer("/spec/template/spec/containers")
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        uid(&self.0) == uid(&other.0) && self.containers() == other.containers()
    }
}

/// What a version is of, and where it lies.
#[derive(Debug, Clone, PartialEq)]
struct Version {
    model: String,
    uri: String,
}

impl Version {
    fn of(version: &Value) -> Self {
        let spec = |at| text(version, at).to_owned();
        Self {
            model: spec("/spec/modelName"),
            uri: spec("/spec/artifact/uri"),
        }
    }
}

/// Deployments and versions over time.
#[derive(Debug, Default)]
pub struct Serving {
    targets: Past<Target>,
    versions: Past<Version>,
}

/// What a target told of what serves.
#[derive(Debug, Clone, PartialEq)]
enum Told<'a> {
    /// The log does not tell what it told.
    Unknown,
    /// It was not there, or its binding could not be read.
    Silent,
    /// This value; none if the variable was not set.
    Value(Option<&'a str>),
}

impl Serving {
    /// Notes what a write makes of a Deployment or a version.
    pub fn note(&mut self, step: &Step) {
        match step.key.kind {
            Kind::Deployment => set(&mut self.targets, step, there(step.after.clone().map(Target))),
            Kind::Version => set(&mut self.versions, step, there(step.after.as_deref().map(Version::of))),
            _ => {}
        }
    }

    /// Notes a try that failed: of one that nobody was told of it may have been made.
    pub fn refused(&mut self, step: &Step) {
        match step.key.kind {
            Kind::Deployment if step.is_lost() => set(&mut self.targets, step, Was::Unknown),
            Kind::Version if step.is_lost() => set(&mut self.versions, step, Was::Unknown),
            _ => {}
        }
    }

    /// What served on the target of a plan when something was decided that takes effect at this time. Where there is no
    /// plan, nothing does.
    #[must_use]
    pub fn when<'a>(&'a self, namespace: &'a str, plan: Option<&'a Value>, at: &'a str) -> Then<'a> {
        let told = match plan {
            Some(plan) => self.told(namespace, plan, at),
            None => vec![Told::Value(None)],
        };
        Then {
            serving: self,
            namespace,
            plan: plan.unwrap_or(&Value::Null),
            at,
            told,
        }
    }

    /// Whether the plan's target, which has this UID, may have carried this value when something was decided that takes
    /// effect at this time; also where the log does not tell.
    #[must_use]
    pub fn may_carry(&self, namespace: &str, plan: &Value, (target, value): (&str, &str), at: &str) -> bool {
        let carries = |was: &Was<Target>| match was {
            Was::Unknown => true,
            Was::Gone => false,
            Was::There(found) => uid(&found.0) == target && binding::value(&found.0, plan) == Some(value),
        };
        let known = self.targets.get(&target_of(namespace, plan));
        known.is_none_or(|known| known.when_sent(at).any(carries))
    }

    fn told<'a>(&'a self, namespace: &str, plan: &Value, at: &str) -> Vec<Told<'a>> {
        let Some(known) = self.targets.get(&target_of(namespace, plan)) else {
            return vec![Told::Unknown];
        };
        let tells = |was: &'a Was<Target>| match was {
            Was::Unknown => Told::Unknown,
            Was::There(target) if binding::is_readable(&target.0, plan) => Told::Value(binding::value(&target.0, plan)),
            Was::Gone | Was::There(_) => Told::Silent,
        };
        known.when_sent(at).map(tells).collect()
    }
}

fn target_of(namespace: &str, plan: &Value) -> Key {
    Key {
        kind: Kind::Deployment,
        namespace: namespace.to_owned(),
        name: text(plan, "/targetRef/name").to_owned(),
    }
}

fn there<T>(now: Option<T>) -> Was<T> {
    now.map_or(Was::Gone, Was::There)
}

/// Sets what an object is from now on. What was created was not there before, of anything else that is not known.
fn set<T: PartialEq>(past: &mut Past<T>, step: &Step, now: Was<T>) {
    let known = past.entry(step.key.clone()).or_insert_with(|| {
        let mut always = Moments::default();
        always.note("", if step.created() { Was::Gone } else { Was::Unknown });
        always
    });
    known.note(&step.at, now);
}

/// What served on a target when something was decided.
#[derive(Debug)]
pub struct Then<'a> {
    serving: &'a Serving,
    namespace: &'a str,
    plan: &'a Value,
    at: &'a str,
    told: Vec<Told<'a>>,
}

impl<'a> Then<'a> {
    /// Whether nobody could say what serves: the target was missing, or its binding could not be read.
    #[must_use]
    pub fn is_untold(&self) -> bool {
        self.told.iter().all(|told| *told == Told::Silent)
    }

    /// Whether no version that the log tells of served.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        let mut here = self.serving.versions.iter().filter(|(key, _)| self.is_here(key));
        !self.told.contains(&Told::Unknown) && !here.any(|(_, known)| self.may_serve(known))
    }

    /// Whether the version of this name may have served; also where the log does not tell.
    #[must_use]
    pub fn may_be(&self, name: &str) -> bool {
        let key = Key {
            kind: Kind::Version,
            namespace: self.namespace.to_owned(),
            name: name.to_owned(),
        };
        let known = self.serving.versions.get(&key);
        self.told.contains(&Told::Unknown) || known.is_none_or(|known| self.is_unknown(known) || self.may_serve(known))
    }

    /// The version of this model that served all the time in which something was decided; none if something else may have
    /// served, or nothing.
    #[must_use]
    pub fn throughout(&self, model: &str) -> Option<&'a str> {
        let mut last = None;
        for told in &self.told {
            match told {
                Told::Silent => {}
                Told::Unknown | Told::Value(None) => return None,
                Told::Value(Some(value)) => last = Some(self.lasting(model, value)?),
            }
        }
        last
    }

    fn lasting(&self, model: &str, value: &str) -> Option<&'a str> {
        let is_it = |version: &Version| version.model == model && self.value_of(version) == value;
        let serves = |was: &Was<Version>| matches!(was, Was::There(version) if is_it(version));
        let mut all = self.serving.versions.iter();
        let (key, _) = all.find(|(key, known)| self.is_here(key) && known.when_sent(self.at).all(serves))?;
        Some(&key.name)
    }

    fn is_here(&self, key: &Key) -> bool {
        key.namespace == self.namespace
    }

    fn value_of<'v>(&self, version: &'v Version) -> &'v str {
        binding::wanted(self.plan, &version.uri)
    }

    fn is_unknown(&self, known: &Moments<Was<Version>>) -> bool {
        known.when_sent(self.at).any(|was| *was == Was::Unknown)
    }

    /// Whether the version was there, and the target carried its value.
    fn may_serve(&self, known: &Moments<Was<Version>>) -> bool {
        let carried = |version: &Version| {
            let value = Told::Value(Some(self.value_of(version)));
            self.told.contains(&value)
        };
        known
            .when_sent(self.at)
            .any(|was| matches!(was, Was::There(version) if carried(version)))
    }
}
