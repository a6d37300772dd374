//! What must hold of every object once it has settled, whatever its spec.

use serde_json::{Value, json};

use super::scenery::Subject;
use crate::rollout::scene::{is, message};

/// Kinds whose objects nobody reports on.
fn silent(object: &Value) -> bool {
    object["kind"] == "Approval"
}

fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object["status"]["conditions"].as_array().into_iter().flatten()
}

/// The spec as it is now was looked at.
pub fn observed(subject: Subject, object: &Value) -> Result<(), String> {
    if silent(object) {
        return Ok(());
    }
    let generation = &object["metadata"]["generation"];
    let Subject { kind, name } = subject;
    if object["status"]["observedGeneration"] != *generation {
        let seen = &object["status"]["observedGeneration"];
        return Err(format!(
            "consistency: {kind} {name} is at generation {generation} and observed {seen}"
        ));
    }
    if conditions(object).next().is_none() {
        return Err(format!("consistency: {kind} {name} has no conditions"));
    }
    match conditions(object).find(|c| c["observedGeneration"] != *generation) {
        None => Ok(()),
        Some(old) => Err(format!("consistency: {kind} {name}, generation {generation}: {old}")),
    }
}

/// The object is well, or says what is wrong so that a person can act.
pub fn healthy(subject: Subject, object: &Value) -> Result<(), String> {
    let Subject { kind, name } = subject;
    // A check that was not asked, or had no answer, is neither passed nor failed.
    let open = |c: &&Value| c["status"] == "Unknown" && c["type"] != "ChecksPassing";
    if let Some(unknown) = conditions(object).find(open) {
        return Err(format!("health: {kind} {name} rests and does not know: {unknown}"));
    }
    let both = is(object, "Stalled", "True") && is(object, "Reconciling", "True");
    let well = is(object, "Ready", "True");
    let ill = is(object, "Stalled", "True") || is(object, "Reconciling", "True") || is(object, "Complete", "True");
    if both || (!silent(object) && !well && !ill) {
        return Err(format!(
            "health: {kind} {name} neither stands nor goes: {}",
            object["status"]["conditions"]
        ));
    }
    // While the machine works at something it is not at rest, unless it waits for what is missing.
    for type_ in ["Stalled", "Reconciling"] {
        let said = message(object, type_);
        if is(object, type_, "True") && !["spec.", "plan."].iter().any(|field| said.contains(field)) {
            return Err(format!("health: {kind} {name} is {type_} and names no field: {said}"));
        }
    }
    Ok(())
}

/// What a person would have to mend.
pub fn in_error(object: &Value) -> bool {
    is(object, "Stalled", "True") || is(object, "Reconciling", "True")
}

/// What two ways to the same spec must have in common: everything but names, times and counters.
pub fn picture(object: &Value) -> Value {
    let mut all: Vec<String> = conditions(object)
        .map(|c| format!("{}={} {}", c["type"], c["status"], c["reason"]).replace('"', ""))
        .collect();
    all.sort();
    let status = &object["status"];
    let same = [
        "effectiveLevel",
        "phase",
        "outcome",
        "state",
        "pipelines",
        "worst",
        "stage",
        "nextScheduleTime",
    ];
    let facts = same.iter().filter_map(|key| Some((*key, status.get(key)?)));
    // What nobody can see stays as it was seen last, and was never seen on a way that begins with it.
    let unseen = is(object, "LiveVersionUnknown", "True");
    let live = if unseen {
        Value::Null
    } else {
        status["liveVersion"]["name"].clone()
    };
    let waits = &status["waitingFor"];
    let waits = json!([waits["gate"], waits["approvedBy"], waits["stale"]]);
    json!({ "conditions": all, "live": live, "waits": waits,
        "facts": facts.map(|(k, v)| json!({ k: v })).collect::<Vec<_>>() })
}
