//! What must fit together in a spec, so that one changed property does not make it one that the API server refuses.
//!
//! A user who sets `compareTo: LiveVersion` also takes out `max` and says in which direction. `kept` is what was set: it
//! stays, and its neighbours give way.

use serde_json::{Value, json};

use super::schema::Path;

/// Brings together what lies at that place.
pub fn mend(at: &Path, node: &mut Value, kept: Option<&str>) {
    let kept = kept.unwrap_or_default();
    let text = at.to_string();
    match text.rsplit('.').next().unwrap_or_default() {
        "" => spec(node, kept),
        "stages" if text == "stages" => stages(node),
        "stages[]" if text == "stages[]" => stage(node, kept),
        "triggers[]" => trigger(node, kept),
        "gates[]" => gate(node, kept),
        "checks[]" => check(node, kept),
        "binding" => binding(node, kept),
        "env[]" => one_of(node, kept, &["value", "secretKeyRef", "configMapKeyRef"], &json!("1")),
        "envFrom[]" => one_of(
            node,
            kept,
            &["secretRef", "configMapRef"],
            &json!({ "name": "settings" }),
        ),
        "sources[]" if text.contains("projected") => {
            one_of(node, kept, &["configMap", "secret"], &json!({ "name": "settings" }));
        }
        "volumes[]" => {
            let kinds = ["emptyDir", "persistentVolumeClaim", "configMap", "secret", "projected"];
            one_of(node, kept, &kinds, &json!({}));
        }
        "tolerations[]" => toleration(node, kept),
        "nodeAffinity[]" => affinity(node, kept),
        "steps" => steps(node),
        "rollout" | "plan" => plan(node, kept),
        "objectives[]" => objective(node, kept),
        "limit" if kept == "min" => remove(node, &["max"]),
        "limit" if kept == "max" => remove(node, &["min"]),
        "improvement" => either(node, "perGroup", "gap", &json!({ "maxRegression": "0.1" })),
        _ => {}
    }
}

fn has(node: &Value, name: &str) -> bool {
    node.get(name).is_some_and(|value| !value.is_null())
}

fn remove(node: &mut Value, names: &[&str]) {
    for name in names {
        node.as_object_mut().expect("an object").remove(*name);
    }
}

fn ensure(node: &mut Value, name: &str, value: Value) {
    if !has(node, name) {
        node[name] = value;
    }
}

/// The items under that name, if there are any.
fn list<'a>(node: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> + use<'a> {
    node.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

/// One of them at least.
fn either(node: &mut Value, one: &str, other: &str, value: &Value) {
    if !has(node, one) && !has(node, other) {
        node[one] = value.clone();
    }
}

/// Exactly one of them: what was set, or else the first.
fn one_of(node: &mut Value, kept: &str, names: &[&str], otherwise: &Value) {
    let there = |name: &&&str| has(node, name);
    let winner = names.iter().find(|name| **name == kept && has(node, name));
    let winner = winner.or_else(|| names.iter().find(there)).copied().unwrap_or(names[0]);
    let losers: Vec<&str> = names.iter().copied().filter(|name| *name != winner).collect();
    remove(node, &losers);
    ensure(node, winner, otherwise.clone());
}

/// The smaller one is not larger: what was set stays.
fn ordered(node: &mut Value, kept: &str) {
    let number = |name: &str| node[name].as_str().and_then(|text| text.parse::<f64>().ok());
    if let (Some(min), Some(max)) = (number("min"), number("max"))
        && min > max
    {
        remove(node, &[if kept == "min" { "max" } else { "min" }]);
    }
}

fn trigger(node: &mut Value, kept: &str) {
    match kept {
        "schedule" => node["type"] = json!("Schedule"),
        "metric" => node["type"] = json!("Metric"),
        _ => {}
    }
    match node["type"].as_str() {
        Some("Schedule") => {
            remove(node, &["metric"]);
            ensure(node, "schedule", json!({ "cron": "0 3 29 2 *" }));
        }
        Some("Metric") => {
            remove(node, &["schedule"]);
            let metric =
                json!({ "providerRef": { "name": "fake" }, "query": "drift", "operator": "LessThan", "value": "1" });
            ensure(node, "metric", metric);
        }
        _ => remove(node, &["schedule", "metric"]),
    }
}

fn gate(node: &mut Value, kept: &str) {
    match kept {
        "maxRegression" | "minImprovement" | "direction" => node["compareTo"] = json!("LiveVersion"),
        "min" | "max" => node["compareTo"] = json!("Constant"),
        _ => {}
    }
    if node["compareTo"] == "LiveVersion" {
        remove(node, &["min", "max"]);
        ensure(node, "direction", json!("Minimize"));
        if has(node, "maxRegression") && has(node, "minImprovement") {
            remove(
                node,
                &[if kept == "maxRegression" {
                    "minImprovement"
                } else {
                    "maxRegression"
                }],
            );
        }
    } else {
        remove(node, &["maxRegression", "minImprovement", "direction"]);
        either(node, "max", "min", &json!("5"));
        ordered(node, kept);
    }
}

fn check(node: &mut Value, kept: &str) {
    let compares = match kept {
        "baselineQuery" | "direction" | "maxRelativeChange" => true,
        "min" | "max" => false,
        _ => has(node, "baselineQuery"),
    };
    if compares {
        remove(node, &["min", "max"]);
        ensure(node, "baselineQuery", json!("errors"));
        ensure(node, "direction", json!("Minimize"));
        ensure(node, "maxRelativeChange", json!("0.05"));
    } else {
        remove(node, &["baselineQuery", "direction", "maxRelativeChange"]);
        either(node, "max", "min", &json!("5"));
        ordered(node, kept);
    }
    if kept == "samplesQuery" || kept == "minSamples" {
        ensure(node, "samplesQuery", json!("requests"));
        ensure(node, "minSamples", json!(10));
    } else if !has(node, "samplesQuery") || !has(node, "minSamples") {
        remove(node, &["samplesQuery", "minSamples"]);
    }
}

fn binding(node: &mut Value, kept: &str) {
    if kept == "name" {
        node["type"] = json!("DeploymentEnv");
    }
    if node["type"] == "DeploymentImage" {
        remove(node, &["name"]);
    } else {
        ensure(node, "name", json!("MODEL_URI"));
    }
}

fn toleration(node: &mut Value, kept: &str) {
    if kept == "value" {
        node["operator"] = json!("Equal");
        ensure(node, "key", json!("gpu"));
    }
    if !has(node, "key") {
        if kept == "operator" && node["operator"] != "Exists" {
            node["key"] = json!("gpu");
        } else {
            node["operator"] = json!("Exists");
        }
    }
    if node["operator"] == "Exists" {
        remove(node, &["value"]);
    }
}

fn affinity(node: &mut Value, kept: &str) {
    if kept == "values" {
        let some = node["values"].as_array().is_some_and(|all| !all.is_empty());
        node["operator"] = json!(if some { "In" } else { "Exists" });
    }
    match node["operator"].as_str() {
        Some("Exists" | "DoesNotExist") => remove(node, &["values"]),
        Some("Gt" | "Lt") => node["values"] = json!(["5"]),
        _ if node["values"].as_array().is_none_or(Vec::is_empty) => node["values"] = json!(["a"]),
        _ => {}
    }
}

/// One stage that trains, and behind it one that evaluates.
fn stages(node: &mut Value) {
    let list = node.as_array_mut().expect("a list");
    let is = |stage: &Value, type_: &str| stage["type"] == type_;
    let trains = list.iter().position(|s| is(s, "Train"));
    for (index, stage) in list.iter_mut().enumerate() {
        if is(stage, "Train") && Some(index) != trains {
            stage["type"] = json!("Custom");
        }
    }
    let made = |name: &str, type_: &str| json!({ "name": name, "type": type_, "image": "example/eta" });
    let free = |list: &[Value], name: &str| {
        let taken = |n: &str| list.iter().any(|s| s["name"] == n);
        let mut names = std::iter::once(name.to_owned()).chain((2..).map(|n| format!("{name}-{n}")));
        names.find(|n| !taken(n)).expect("names do not end")
    };
    if trains.is_none() {
        list.insert(0, made(&free(list, "train"), "Train"));
    }
    let trains = list.iter().position(|s| is(s, "Train")).expect("just added");
    if !list[trains..].iter().any(|s| is(s, "Evaluate")) {
        list.push(made(&free(list, "evaluate"), "Evaluate"));
    }
}

/// What is mounted is a volume.
fn stage(node: &mut Value, kept: &str) {
    let names = |node: &Value, list: &str| -> Vec<Value> {
        let all = node[list].as_array().into_iter().flatten();
        all.map(|item| item["name"].clone()).collect()
    };
    let volumes = names(node, "volumes");
    if kept == "volumes" {
        if let Some(mounts) = node.get_mut("volumeMounts").and_then(Value::as_array_mut) {
            mounts.retain(|mount| volumes.contains(&mount["name"]));
        }
        return;
    }
    for name in names(node, "volumeMounts") {
        if !names(node, "volumes").contains(&name) {
            ensure(node, "volumes", json!([]));
            let volume = json!({ "name": name, "emptyDir": {} });
            node["volumes"].as_array_mut().expect("a list").push(volume);
        }
    }
}

/// By growing weight, each one once.
fn steps(node: &mut Value) {
    let list = node.as_array_mut().expect("a list");
    list.sort_by_key(|step| step["weight"].as_i64());
    list.dedup_by_key(|step| step["weight"].as_i64());
}

fn plan(node: &mut Value, kept: &str) {
    let mut steps = node
        .pointer("/strategy/steps")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let heavy = steps.iter().any(|step| step["weight"].as_i64() > Some(50));
    if heavy && kept == "capacity" {
        for step in node["strategy"]["steps"].as_array_mut().expect("a list") {
            step["weight"] = json!(step["weight"].as_i64().unwrap_or(2) / 2);
        }
        self::steps(&mut node["strategy"]["steps"]);
    }
    for check in list(node, "checks") {
        let known = steps.iter().any(|step| step["name"] == check["fromStep"]);
        if has(check, "fromStep") && !known && kept == "checks" {
            let light = steps
                .iter()
                .filter_map(|step| step["weight"].as_i64())
                .max()
                .unwrap_or(0);
            let step = json!({ "name": check["fromStep"], "weight": (light + 1).min(99) });
            steps.push(step);
        } else if has(check, "fromStep") && !known {
            remove(check, &["fromStep"]);
        }
    }
    if kept == "checks" && !steps.is_empty() {
        ensure(node, "strategy", json!({}));
        node["strategy"]["steps"] = json!(steps);
    }
    if steps.iter().any(|step| step["weight"].as_i64() > Some(50)) && kept != "capacity" {
        node["capacity"] = json!({ "baseline": "ShrinkWithWeight" });
    }
}

fn objective(node: &mut Value, kept: &str) {
    if kept == "limit" && node["compare"] != "WorstGroup" {
        node["compare"] = json!(if has(&node["limit"], "max") {
            "Difference"
        } else {
            "Ratio"
        });
    }
    let compare = node["compare"].clone();
    let limit = &mut node["limit"];
    match compare.as_str() {
        Some("Difference") if !has(limit, "max") || has(limit, "min") => *limit = json!({ "max": "0.2" }),
        Some("Ratio") if !has(limit, "min") || has(limit, "max") => *limit = json!({ "min": "0.8" }),
        Some("WorstGroup") => one_of(limit, "", &["max", "min"], &json!("5")),
        _ => {}
    }
}

/// What one part of a spec asks of another one.
fn spec(node: &mut Value, kept: &str) {
    if has(node, "stages") {
        pipeline(node, kept);
    }
    if has(node, "protectedAttributes") {
        policy(node, kept);
    }
    if has(node, "evidenceDigest") {
        approval(node, kept);
    }
    if node["desiredState"] == "Hold" && node["holdReason"].as_str().is_none_or(str::is_empty) {
        node["holdReason"] = json!("a walk holds it");
    }
    if has(node, "modelVersionRef") && has(node, "maxAutomationLevel") && !has(node, "pipelineRef") {
        if kept == "maxAutomationLevel" {
            node["pipelineRef"] = json!({ "name": "nobodys", "uid": "00000000-0000-4000-8000-000000000000" });
        } else {
            remove(node, &["maxAutomationLevel"]);
        }
    }
    if has(node, "pipelineRef") && node["trigger"]["type"] == "Request" {
        ensure(node, "requestedBy", json!("admin"));
    }
}

fn approval(node: &mut Value, kept: &str) {
    if kept == "revokes" {
        node["decision"] = json!("Revoke");
    }
    if node["decision"] == "Revoke" {
        ensure(node, "revokes", json!({ "name": "nobodys" }));
    } else {
        remove(node, &["revokes"]);
    }
}

fn pipeline(node: &mut Value, kept: &str) {
    let mut stages = node["stages"].as_array().cloned().unwrap_or_default();
    for gate in list(node, "gates") {
        let known = stages.iter().any(|stage| stage["name"] == gate["stage"]);
        if has(gate, "stage") && !known && kept == "gates" {
            stages.push(json!({ "name": gate["stage"], "type": "Custom", "image": "example/eta" }));
        } else if has(gate, "stage") && !known {
            remove(gate, &["stage"]);
        }
    }
    node["stages"] = json!(stages);
    let opens = |gate: &Value| gate["dryRun"] != true;
    let gated = node["gates"].as_array().is_some_and(|gates| gates.iter().any(opens));
    if node["automationLevel"] == "FullyAutomated" && !gated {
        if kept == "gates" {
            node["automationLevel"] = json!("HumanOversight");
        } else {
            node["gates"] = json!([{ "name": "error", "metric": "mae", "max": "5" }]);
        }
    }
    if has(&node["cadence"], "maxInterval") && !has(node, "rollout") {
        if kept == "cadence" {
            let binding = json!({ "type": "DeploymentEnv", "container": "app", "name": "MODEL_URI" });
            node["rollout"] = json!({ "targetRef": { "name": "web" }, "binding": binding });
        } else {
            remove(&mut node["cadence"], &["maxInterval"]);
        }
    }
    let images = node
        .pointer("/rollout/binding/type")
        .is_some_and(|t| t == "DeploymentImage");
    let elsewhere = node
        .pointer("/artifacts/uri")
        .and_then(Value::as_str)
        .is_some_and(|u| !u.starts_with("oci://"));
    if images && elsewhere {
        if kept == "artifacts" {
            node["rollout"]["binding"] = json!({ "type": "DeploymentEnv", "container": "app", "name": "MODEL_URI" });
        } else {
            node["artifacts"]["uri"] = json!("oci://registry.example/eta");
        }
    }
}

fn policy(node: &mut Value, kept: &str) {
    let mut attributes = node["protectedAttributes"].as_array().cloned().unwrap_or_default();
    for objective in list(node, "objectives") {
        let known = attributes.iter().any(|a| a["name"] == objective["attribute"]);
        if has(objective, "attribute") && !known && kept == "objectives" {
            attributes.push(json!({ "name": objective["attribute"] }));
        } else if has(objective, "attribute") && !known {
            remove(objective, &["attribute"]);
        }
    }
    node["protectedAttributes"] = json!(attributes);
    let limited = node["objectives"].as_array().is_some_and(|all| !all.is_empty());
    if !limited && !has(node, "improvement") {
        let gap = json!({ "name": "gap", "metric": "mae", "compare": "Difference", "limit": { "max": "0.2" } });
        node["objectives"] = json!([gap]);
    }
}
