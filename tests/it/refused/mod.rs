//! Wrong specs are refused at apply time, with a message that names the field and says what would be right.
#![expect(clippy::too_many_lines, reason = "lists of mistakes read as tables")]

mod later;
mod others;
mod pipelines;
mod rollouts;
mod stages;

use std::fmt::Debug;

use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::world::World;

/// One mistake in an object that is otherwise good.
struct Wrong {
    /// JSON pointer to what is replaced or added.
    at: &'static str,
    /// The wrong value.
    value: Value,
    /// How the message names the field.
    field: &'static str,
    /// What the message says would be right.
    remedy: &'static str,
}

fn wrong(at: &'static str, value: Value, field: &'static str, remedy: &'static str) -> Wrong {
    Wrong {
        at,
        value,
        field,
        remedy,
    }
}

/// Replaces or adds one value.
fn set(object: &mut Value, at: &str, value: &Value) {
    let (parent, key) = at.rsplit_once('/').expect("a pointer begins with a slash");
    let parent = object
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("{parent} is not in the example"));
    match key.parse::<usize>() {
        Ok(index) if parent.is_array() => parent[index] = value.clone(),
        _ => parent[key] = value.clone(),
    }
}

/// Applies the good object, then each mistake, and reads what the API server says.
async fn refuse<K>(world: &World, good: &Value, mistakes: &[Wrong])
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug
        + Serialize,
{
    world
        .apply::<K>("good", good.clone())
        .await
        .unwrap_or_else(|e| panic!("the example is good: {e}"));
    let mut problems = Vec::new();
    for mistake in mistakes {
        let mut object = good.clone();
        set(&mut object, mistake.at, &mistake.value);
        let case = format!("{} = {}", mistake.at, mistake.value);
        match world.apply::<K>("wrong", object).await {
            Ok(_) => problems.push(format!("{case}: was accepted")),
            Err(error) => {
                let said = error.to_string();
                for words in [mistake.field, mistake.remedy] {
                    if !said.contains(words) {
                        problems.push(format!("{case}: does not say {words:?}: {said}"));
                    }
                }
            }
        }
        // What was accepted by mistake must not hide the next case behind a rule of immutability.
        let _ = world
            .api::<K>()
            .delete("wrong", &kube::api::DeleteParams::default())
            .await;
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Every mistake of every table, by kind.
fn all() -> Vec<(&'static str, usize)> {
    vec![
        ("FlywheelPipeline", pipelines::mistakes().len()),
        ("FlywheelPipeline: stages", stages::mistakes().len()),
        ("FlywheelPipeline: gates", pipelines::gates().len()),
        ("Rollout", rollouts::mistakes().len()),
        ("Rollout: checks", rollouts::checks().len()),
        ("Approval", others::approvals().len()),
        ("BiasPolicy", others::policies().len()),
        ("FlywheelRun", others::runs().len()),
        ("ModelVersion", others::versions().len()),
        ("refused later, in the status", later::COUNT),
    ]
}

#[test]
fn cluster_at_least_a_hundred_and_fifty_wrong_specs_are_known() {
    let table = all();
    let sum: usize = table.iter().map(|(_, count)| count).sum();
    for (kind, count) in table {
        println!("{count:4} {kind}");
    }
    println!("covered: {sum} wrong specs");
    assert!(sum >= 150, "{sum}");
}

#[test]
fn cluster_mistakes_are_set_and_added() {
    let mut object = json!({ "a": [{ "b": 1 }] });
    set(&mut object, "/a/0/b", &json!(2));
    set(&mut object, "/a/0/c", &json!(3));
    assert_eq!(object, json!({ "a": [{ "b": 2, "c": 3 }] }));
}
