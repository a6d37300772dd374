//! A counterexample, told: one line for each thing that happened, what it changed, and the invariant that broke.

use std::fmt::Write as _;

use flywheel_engine::decision::Action;
use flywheel_engine::testing::{Content, Held, Key, World};
use serde_json::Value;
use stateright::Path;

use crate::model::{Act, Loop, State};
use crate::rules::INVARIANTS;

/// Changes that are told of one step at most.
const CHANGES: usize = 6;
/// Fields that say when and how often, not what.
const SILENT: [&str; 6] = [
    "resourceVersion",
    "message",
    "lastTransitionTime",
    "managedFields",
    "decisions",
    "lineage",
];

/// The whole path.
pub fn path(of: &Loop, path: Path<State, Act>) -> String {
    let steps = path.into_vec();
    let mut text = String::new();
    for (number, pair) in steps.windows(2).enumerate() {
        let [(before, Some(action)), (after, _)] = pair else {
            continue;
        };
        let _ = writeln!(text, "{:>3}. {}", number + 1, act(of, before, action));
        let [was, is] = [before, after].map(|s| of.space.world(s.world));
        for change in changes(&was.world, &is.world) {
            let _ = writeln!(text, "       {change}");
        }
    }
    if let Some(broken) = steps.last().and_then(|(state, _)| state.broken.as_ref()) {
        let sentence = INVARIANTS
            .iter()
            .find(|(name, _)| *name == broken.invariant)
            .map_or("", |(_, s)| s);
        let _ = writeln!(
            text,
            "{} broken: {sentence}.\n       {}",
            broken.invariant, broken.found
        );
    }
    text
}

fn act(of: &Loop, before: &State, action: &Act) -> String {
    let planned = |view: u64, actor: &Key| {
        let write = of.space.decide(view, actor);
        write.map_or_else(|| "nothing".to_owned(), |w| written(&of.space.write(w).held))
    };
    let sent = |who: usize| match before.operators[who] {
        crate::model::Operator::Writes(write) => written(&of.space.write(write).held),
        _ => "nothing".to_owned(),
    };
    match action {
        Act::Look(_, key) => format!(
            "An operator looks at {}, and sends: {}",
            name(key),
            planned(before.world, key)
        ),
        Act::Begin(_, key) => format!("An operator reads {}, and is slow with the rest", name(key)),
        Act::Decide(who, key, stale) => {
            let crate::model::Operator::Reads { since, age, .. } = before.operators[*who] else {
                return "nothing".to_owned();
            };
            let view = of.space.view(before.world, since, stale);
            format!(
                "The slow operator decides on {} with {} as it was {age} changes ago, and sends: {}",
                name(key),
                name(stale),
                planned(view, key)
            )
        }
        Act::Arrive(who) => format!("The write arrives: {}", sent(*who)),
        Act::ArriveLate => {
            let late = before
                .late
                .map(|w| written(&of.space.write(w).held))
                .unwrap_or_default();
            format!("A write of an operator that is no more arrives: {late}")
        }
        Act::Crash(who) => format!("An operator is killed before it sends: {}", sent(*who)),
        Act::CrashSent(who) => format!("An operator is killed, its write is on its way: {}", sent(*who)),
        Act::Happens(index) => format!("It happens: {:?}", of.scene.moves[*index].1),
    }
}

fn name((kind, name): &Key) -> String {
    format!("{kind:?} {name}")
}

fn written(held: &Held) -> String {
    match &held.content {
        Content::Status(after, _) => {
            let changes = differences("status", &held.before["status"], after);
            format!("status of {} ({})", name(&held.actor), changes.join("; "))
        }
        Content::Effect(action) => match &**action {
            Action::Create(child) => format!(
                "create {}",
                format!("{child:?}")
                    .chars()
                    .take_while(|c| *c != '(')
                    .collect::<String>()
            ),
            Action::Patch(patch) => format!("patch {:?} {}: {}", patch.object.kind, patch.object.name, patch.body),
            Action::Delete(key) => format!("delete {:?} {}", key.kind, key.name),
        },
    }
}

fn changes(before: &World, after: &World) -> Vec<String> {
    let mut told = Vec::new();
    let gone = before.keys().filter(|key| after.raw(key).is_none());
    told.extend(gone.map(|key| format!("{} is gone", name(key))));
    for key in after.keys().filter(|key| before.content(key) != after.content(key)) {
        match before.raw(key) {
            None => told.push(format!("{} is there", name(key))),
            Some(was) => told.extend(differences(&name(key), was, after.raw(key).expect("it is there"))),
        }
    }
    told.truncate(CHANGES);
    told
}

fn differences(at: &str, before: &Value, after: &Value) -> Vec<String> {
    let mut told = Vec::new();
    compare(at, before, after, &mut told);
    told.truncate(CHANGES);
    told
}

fn compare(at: &str, before: &Value, after: &Value, told: &mut Vec<String>) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(old), Value::Object(new)) => {
            let fields = old.keys().chain(new.keys().filter(|k| !old.contains_key(*k)));
            for field in fields.filter(|f| !SILENT.contains(&f.as_str())) {
                compare(&format!("{at}.{field}"), &before[field], &after[field], told);
            }
        }
        _ => told.push(format!("{at}: {} → {}", short(before), short(after))),
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 80 {
        text.chars().take(77).chain("...".chars()).collect()
    } else {
        text
    }
}
