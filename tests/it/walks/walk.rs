//! One walk: its steps, what it remembers, and how each step is judged.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::compile::{Chance, put, set, values};
use super::ground::{Ground, Stand};
use super::metrics::Metrics;
use super::oracle::{in_error, picture};
use super::scenery::{Course, Subject};
use super::schema::{Path, Property, properties, spec};
use super::wrong::wrongs;

/// One step in so many is also taken from nothing, in another namespace.
const COMPARED: usize = 4;
/// At the end nothing is written for so long.
const REST: Duration = Duration::from_secs(6);

/// What a walk did.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub steps: usize,
    pub accepted: usize,
    pub refused: usize,
    pub wrong: usize,
    pub reverts: usize,
    pub recoveries: usize,
    pub anew: usize,
    pub compared: usize,
}

/// A spec to which a walk can go back, and how the objects looked there.
struct Stop {
    index: usize,
    spec: Value,
    pictures: Vec<Value>,
}

pub struct Walk {
    course: Course,
    subjects: Vec<Subject>,
    schemas: Vec<(Value, Vec<Property>)>,
    chance: Chance,
    ground: Ground,
    twin: Ground,
    specs: Vec<Value>,
    stand: Stand,
    past: Vec<Stop>,
    touched: BTreeSet<(usize, Path)>,
    begun: Metrics,
    pub tally: Tally,
    pub log: Vec<String>,
}

impl Walk {
    /// A walk at its beginning.
    pub async fn begin(course: Course, name: &str, seed: u64) -> Result<Self, String> {
        let subjects = course.subjects();
        let schemas = subjects.iter().map(|s| spec(s.kind));
        let mut walk = Self {
            schemas: schemas.map(|schema| (schema.clone(), properties(&schema))).collect(),
            chance: Chance::new(seed),
            ground: Ground::new(course, name).await,
            twin: Ground::new(course, &format!("{name}-twin")).await,
            specs: course.seeds(),
            stand: Stand::default(),
            past: Vec::new(),
            touched: BTreeSet::new(),
            begun: Metrics::read().await?,
            tally: Tally::default(),
            log: Vec::new(),
            course,
            subjects,
        };
        for (place, spec) in walk.ground.places.iter().zip(&walk.specs) {
            place
                .apply(spec)
                .await
                .map_err(|e| format!("the seed is refused: {e}"))?;
        }
        walk.settle().await?;
        Ok(walk)
    }

    /// Goes so many steps.
    pub async fn go(&mut self, steps: usize) -> Result<(), String> {
        for _ in 0..steps {
            self.tally.steps += 1;
            self.step().await?;
            Metrics::read().await?.since(&self.begun)?;
        }
        self.rest().await
    }

    /// How many properties were changed, and of how many.
    pub fn reach(&self) -> (usize, usize) {
        let all: usize = self.schemas.iter().map(|(_, properties)| properties.len()).sum();
        (self.touched.len(), all)
    }

    async fn step(&mut self) -> Result<(), String> {
        // What is in error is brought back at once: that it recovers is what the error is good for.
        let ill = self.stand.objects.values().any(in_error);
        let dice = self.chance.below(100);
        match dice {
            _ if ill && !self.past.is_empty() => self.revert().await,
            0..50 => self.change().await,
            50..62 => self.stumble().await,
            62..72 if !self.past.is_empty() => self.revert().await,
            62..80 => self.anew().await,
            _ => self.mistake().await,
        }
    }

    fn note(&mut self, text: String) {
        self.log.push(format!("{:3}. {text}", self.tally.steps));
    }

    /// The object that changes: those with many properties more often.
    fn subject(&mut self) -> usize {
        let sizes: Vec<usize> = self.schemas.iter().map(|(_, p)| p.len().min(60)).collect();
        let mut at = self.chance.below(sizes.iter().sum());
        for (index, size) in sizes.iter().enumerate() {
            if at < *size {
                return index;
            }
            at -= size;
        }
        0
    }

    /// A property of that object: rather one that was not touched yet.
    fn property(&mut self, index: usize) -> Property {
        let all = self.schemas[index].1.clone();
        let fresh: Vec<&Property> = all
            .iter()
            .filter(|p| !self.touched.contains(&(index, p.path.clone())))
            .collect();
        if fresh.is_empty() || self.chance.below(10) < 3 {
            return self.chance.choose(&all).clone();
        }
        (*self.chance.choose(&fresh)).clone()
    }

    async fn change(&mut self) -> Result<(), String> {
        let index = self.subject();
        let property = self.property(index);
        let old = self.specs[index].clone();
        let mut wanted = (old.clone(), Value::Null);
        for _ in 0..8 {
            let value = self.chance.draw(&values(&property.path, &property.schema));
            let schema = &self.schemas[index].0;
            wanted = (set(&mut self.chance, schema, &old, &property.path, &value), value);
            if wanted.0 != old {
                break;
            }
        }
        self.ask(index, &property.path, wanted).await
    }

    /// A value that is accepted, and that nobody can follow.
    async fn stumble(&mut self) -> Result<(), String> {
        let all = self.course.stumbles();
        let (kind, path, value) = self.chance.choose(&all).clone();
        let index = self
            .subjects
            .iter()
            .position(|s| s.kind == kind)
            .expect("a kind of the course");
        let mut properties = self.schemas[index].1.iter();
        let property = properties
            .find(|p| p.path.to_string() == path)
            .expect("a property")
            .path
            .clone();
        let schema = &self.schemas[index].0;
        let spec = set(&mut self.chance, schema, &self.specs[index], &property, &value);
        self.ask(index, &property, (spec, value)).await
    }

    /// Asks for that spec because of that value.
    async fn ask(&mut self, index: usize, path: &Path, (spec, value): (Value, Value)) -> Result<(), String> {
        let old = self.specs[index].clone();
        let what = format!("{} {path}: {}", self.subjects[index].kind, short(&value));
        // As it looks now: on its way to the spec it may come to look otherwise.
        let pictures = self.pictures(&self.stand);
        match self.put(index, &spec).await? {
            Ok(how) => {
                self.note(format!("{how} {what}"));
                self.touched.insert((index, path.clone()));
                self.tally.accepted += 1;
                self.past.push(Stop {
                    index,
                    spec: old,
                    pictures,
                });
                self.settle().await?;
                self.compare().await
            }
            Err(why) => {
                self.tally.refused += 1;
                self.note(format!("refused {what}: {why}"));
                self.unchanged(index).await
            }
        }
    }

    /// Back to before the last change: what was well before must be well again, in the same words.
    async fn revert(&mut self) -> Result<(), String> {
        let Some(stop) = self.past.pop() else { return Ok(()) };
        let subject = self.subjects[stop.index];
        let ill = self.stand.objects.values().any(in_error);
        let how = self.put(stop.index, &stop.spec).await?;
        let how = how.map_err(|why| format!("recovery: {} cannot be reverted: {why}", subject.kind))?;
        self.note(format!(
            "reverted ({how}) {}{}",
            subject.kind,
            if ill { ", which was in error" } else { "" }
        ));
        self.tally.reverts += 1;
        self.tally.recoveries += usize::from(ill);
        self.settle().await?;
        if self.pictures(&self.stand) != stop.pictures {
            // A busy machine may pause for longer than a step is watched.
            tokio::time::sleep(REST).await;
            self.settle().await?;
        }
        let now = self.pictures(&self.stand);
        if now != stop.pictures {
            let (now, then) = (json!(now), json!(stop.pictures));
            return Err(format!("recovery: reverted and different: {now:#} instead of {then:#}"));
        }
        self.compare().await
    }

    async fn anew(&mut self) -> Result<(), String> {
        let index = self.chance.below(self.subjects.len());
        self.note(format!("deleted {} and made it again", self.subjects[index].kind));
        self.tally.anew += 1;
        let spec = self.specs[index].clone();
        self.again(index, &spec).await?;
        self.settle().await?;
        self.compare().await
    }

    /// A wrong value: refused with the name of the field, and nothing has happened.
    async fn mistake(&mut self) -> Result<(), String> {
        let index = self.subject();
        let property = self.chance.choose(&self.schemas[index].1.clone()).clone();
        let all = wrongs(&property);
        let wrong = self.chance.choose(&all).clone();
        let schema = &self.schemas[index].0;
        let spec = put(
            &mut self.chance,
            schema,
            &self.specs[index],
            &property.path,
            &wrong.value,
        );
        let kind = self.subjects[index].kind;
        self.note(format!(
            "tried {kind} {}, {}: {}",
            property.path,
            wrong.what,
            short(&wrong.value)
        ));
        self.tally.wrong += 1;
        let place = &self.ground.places[index];
        for tried in [place.try_anew(&spec).await, place.apply(&spec).await] {
            let said = refusal(tried)?.ok_or("a wrong value was taken")?;
            if !said.contains(property.path.field()) {
                return Err(format!("the refusal does not name {}: {said}", property.path.field()));
            }
        }
        self.unchanged(index).await
    }

    /// After a refusal the object is the one that it was.
    async fn unchanged(&self, index: usize) -> Result<(), String> {
        let Subject { kind, name } = self.subjects[index];
        let before = self
            .ground
            .sight
            .object(kind, name)
            .map(|o| o["metadata"]["generation"].clone());
        let now = self.ground.places[index]
            .get()
            .await
            .map(|o| o["metadata"]["generation"].clone());
        if before == now {
            Ok(())
        } else {
            Err(format!("refused, and yet {kind} {name} changed"))
        }
    }

    /// Applies a spec. Where only its way there is forbidden, as by an immutable field, the object is made anew.
    async fn put(&mut self, index: usize, spec: &Value) -> Result<Result<&'static str, String>, String> {
        let kind = self.subjects[index].kind;
        let Some(refused) = refusal(self.ground.places[index].apply(spec).await)? else {
            self.specs[index] = spec.clone();
            if !is_one_shot(kind) {
                return Ok(Ok("set"));
            }
            // What has begun goes on from where it is: that is judged, and then it begins once more.
            self.settle().await?;
            self.again(index, spec).await?;
            return Ok(Ok("set, and then made anew with"));
        };
        if self.ground.places[index].try_anew(spec).await.is_err() {
            return Ok(Err(refused));
        }
        self.again(index, spec).await?;
        self.specs[index] = spec.clone();
        Ok(Ok("made anew with"))
    }

    /// Makes an object anew, and with it those that mean it.
    async fn again(&self, index: usize, spec: &Value) -> Result<(), String> {
        let whole = self.course.is_bound();
        let indices: Vec<usize> = (0..self.subjects.len()).filter(|i| whole || *i == index).collect();
        for index in indices.iter().rev() {
            self.ground.remove(*index).await?;
        }
        for i in indices {
            self.course.reset(&self.ground.scene, self.subjects[i]).await;
            let spec = if i == index { spec } else { &self.specs[i] };
            let made = self.ground.places[i].apply(spec).await;
            made.map_err(|e| format!("it was accepted when tried: {e}"))?;
        }
        Ok(())
    }

    /// Waits for the end of what the step set off, and judges it.
    async fn settle(&mut self) -> Result<(), String> {
        self.stand = self.ground.settled(self.course, &self.subjects).await?;
        Ok(())
    }

    /// How everything looks: the objects, and the Deployments that follow from them.
    fn pictures(&self, stand: &Stand) -> Vec<Value> {
        let of = |subject: &Subject| stand.find(*subject).map(picture).unwrap_or_default();
        let objects = self.subjects.iter().map(of);
        objects.chain(stand.deployments.iter().cloned()).collect()
    }

    /// Now and then the same specs are applied where there was nothing before: nobody may see the difference.
    async fn compare(&mut self) -> Result<(), String> {
        if !self.tally.steps.is_multiple_of(COMPARED) {
            return Ok(());
        }
        self.tally.compared += 1;
        for index in (0..self.subjects.len()).rev() {
            self.twin.remove(index).await?;
        }
        for (index, subject) in self.subjects.iter().enumerate() {
            self.course.reset(&self.twin.scene, *subject).await;
            let made = self.twin.places[index].apply(&self.specs[index]).await;
            made.map_err(|e| format!("differential: refused from nothing: {e}"))?;
        }
        let mut fresh = self.twin.settled(self.course, &self.subjects).await?;
        if self.pictures(&self.stand) != self.pictures(&fresh) {
            tokio::time::sleep(REST).await;
            self.settle().await?;
            fresh = self.twin.settled(self.course, &self.subjects).await?;
        }
        let (walked, fresh) = (self.pictures(&self.stand), self.pictures(&fresh));
        if walked != fresh {
            let (walked, fresh) = (json!(walked), json!(fresh));
            return Err(format!("differential: on this way {walked:#}, from nothing {fresh:#}"));
        }
        Ok(())
    }

    /// For what writes too seldom to be seen after a step.
    async fn rest(&mut self) -> Result<(), String> {
        let version = |o: &Value| o["metadata"]["resourceVersion"].to_string();
        let versions = |stand: &Stand| stand.objects.values().map(version).collect::<HashSet<_>>();
        let before = self.ground.settled(self.course, &self.subjects).await?;
        tokio::time::sleep(REST).await;
        let after = self.ground.settled(self.course, &self.subjects).await?;
        if versions(&before) == versions(&after) {
            Ok(())
        } else {
            Err("quiescence: written at rest".to_owned())
        }
    }

    /// The steps as a person reads them, and where the objects stand.
    pub fn story(&self) -> String {
        let mut text = self.log.join("\n");
        for (subject, spec) in self.subjects.iter().zip(&self.specs) {
            let now = self.ground.sight.object(subject.kind, subject.name).unwrap_or_default();
            let _ = write!(
                text,
                "\n{} {}: spec {spec:#}\nstatus {:#}",
                subject.kind, subject.name, now["status"]
            );
        }
        text
    }
}

/// What the API server said against it, if it did.
fn refusal(tried: Result<Value, kube::Error>) -> Result<Option<String>, String> {
    match tried {
        Ok(_) => Ok(None),
        // A value of another type does not even become an object: that is an error of the server by its code.
        Err(kube::Error::Api(status)) if status.code < 500 || status.message.contains("typed patch") => {
            Ok(Some(status.message))
        }
        Err(error) => Err(format!("neither accepted nor refused: {error}")),
    }
}

/// Whether objects of that kind begin once and end: how they look depends on when they were told what.
fn is_one_shot(kind: &str) -> bool {
    ["Rollout", "FlywheelRun"].contains(&kind)
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.len() > 80 {
        text.chars().take(80).chain(['…']).collect()
    } else {
        text
    }
}
