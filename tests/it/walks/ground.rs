//! A world in which the objects of a course stand, and how it stands once it has settled.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::delivery::delivered;
use super::oracle::{healthy, observed};
use super::scenery::{Course, Place, Subject};
use super::sight::{Objects, Sight};
use crate::rollout::scene::Scene;

/// An object that is deleted goes within so many seconds.
const GONE: Duration = Duration::from_secs(120);

/// A world in which the objects of the course stand.
pub struct Ground {
    pub scene: Scene,
    pub sight: Sight,
    pub places: Vec<Place>,
}

/// How a world stands.
#[derive(Default)]
pub struct Stand {
    /// Our objects.
    pub objects: Objects,
    /// Pictures of the Deployments that follow from them.
    pub deployments: Vec<Value>,
}

impl Stand {
    /// The object, if it is there.
    pub fn find(&self, subject: Subject) -> Result<&Value, String> {
        find(&self.objects, subject)
    }
}

impl Ground {
    pub async fn new(course: Course, name: &str) -> Self {
        let scene = course.open(name).await;
        let sight = Sight::open(&scene.client, &scene.namespace);
        let place = |subject| Place::new(&scene.client, &scene.namespace, subject);
        let places = course.subjects().into_iter().map(place).collect();
        Self { scene, sight, places }
    }

    /// Deletes one object and waits until it is gone.
    pub async fn remove(&self, index: usize) -> Result<(), String> {
        let end = Instant::now() + GONE;
        self.places[index]
            .delete()
            .await
            .map_err(|e| format!("it cannot be deleted: {e}"))?;
        while let Some(left) = self.places[index].get().await {
            if Instant::now() > end {
                return Err(format!("deleted and still there: {left:#}"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Waits until what was written last is seen, everything follows from it, and nothing is written any more.
    pub async fn settled(&self, course: Course, subjects: &[Subject]) -> Result<Stand, String> {
        let mut least = Vec::new();
        for place in &self.places {
            let now = place.get().await.unwrap_or_default();
            least.push((now["metadata"]["uid"].clone(), now["metadata"]["generation"].as_i64()));
        }
        let fact = |objects: &Objects| {
            for (subject, (uid, generation)) in subjects.iter().zip(&least) {
                let object = find(objects, *subject)?;
                let behind = object["metadata"]["generation"].as_i64() < *generation;
                if object["metadata"]["uid"] != *uid || behind {
                    return Err(format!("the watch did not show {} {}", subject.kind, subject.name));
                }
                observed(*subject, object)?;
                healthy(*subject, object)?;
            }
            course.follows(objects)
        };
        let objects = self.sight.settled(fact).await?;
        let rollout = subjects.iter().find(|s| s.kind == "Rollout");
        let deployments = match rollout {
            Some(rollout) => delivered(&self.scene, find(&objects, *rollout)?).await?,
            None => Vec::new(),
        };
        Ok(Stand { objects, deployments })
    }
}

fn find(objects: &Objects, subject: Subject) -> Result<&Value, String> {
    let found = objects.get(&(subject.kind.to_owned(), subject.name.to_owned()));
    found.ok_or_else(|| format!("{} {} is gone", subject.kind, subject.name))
}
