use serde_json::{Value, json};

use super::story::By;
use super::turn::{MODEL, Turn};
use super::{broken, first};
use crate::trace::Kind;

const LEVEL: &str = "FullyAutomated";

fn chain(digests: &[&str]) -> Value {
    let entries: Vec<Value> = digests
        .iter()
        .enumerate()
        .map(|(place, digest)| {
            let previous = place.checked_sub(1).map_or("identity", |before| digests[before]);
            json!({ "index": place, "previous": previous, "digest": digest })
        })
        .collect();
    json!({ "head": { "length": digests.len(), "digest": digests.last() }, "entries": entries })
}

/// A version whose lineage takes these forms, one after the other.
fn lives(chains: &[Value]) -> Turn {
    let mut turn = Turn::begin(LEVEL);
    turn.stages(LEVEL);
    turn.register();
    for chain in chains {
        turn.story.status(By::Operator, &Kind::Version, "eta-1", |s| {
            *s = json!({ "observedGeneration": 1, "lineage": chain });
        });
    }
    turn
}

#[test]
fn a_lineage_that_grows_is_fine() {
    let turn = lives(&[chain(&["a"]), chain(&["a", "b", "c"]), chain(&["a", "b", "c"])]);
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_lineage_that_shrinks_or_changes_breaks_i5() {
    for next in [chain(&["a"]), chain(&["a", "x", "c"]), Value::Null] {
        let turn = lives(&[chain(&["a", "b"]), next.clone()]);
        assert_eq!(broken(&turn.story), ["I5"], "{next}");
    }
    let turn = lives(&[chain(&["a", "b"]), chain(&["a", "x"])]);
    assert!(
        first(&turn.story).contains("had 2 entries, and only 1"),
        "{}",
        first(&turn.story)
    );
}

#[test]
fn a_whole_status_that_is_lost_is_begun_anew() {
    let mut turn = lives(&[chain(&["a", "b"])]);
    turn.story.status(By::User, &Kind::Version, "eta-1", |s| *s = json!({}));
    turn.story.status(By::Operator, &Kind::Version, "eta-1", |s| {
        *s = json!({ "observedGeneration": 1, "lineage": chain(&["r"]) });
    });
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn entries_that_are_not_bound_to_each_other_and_a_wrong_head_break_i5() {
    let mut torn = chain(&["a", "b", "c"]);
    torn["entries"][2]["previous"] = json!("a");
    assert_eq!(broken(&lives(&[torn]).story), ["I5"]);
    let mut short = chain(&["a", "b", "c"]);
    short["head"] = json!({ "length": 2, "digest": "b" });
    assert_eq!(broken(&lives(&[short]).story), ["I5"]);
}

#[test]
fn a_head_that_the_version_did_not_have_breaks_i5() {
    for (digest, expected) in [("b", vec![]), ("x", vec!["I5"])] {
        let mut turn = lives(&[chain(&["a", "b"]), chain(&["a", "b", "c"])]);
        let parent = turn.story.uid(&Kind::Version, "eta-1");
        let run = turn.run_uid();
        turn.story.create(
            By::Operator,
            &Kind::Version,
            "eta-2",
            json!({ "metadata": { "labels": { flywheel_api::names::LABEL_RUN_UID: run } },
                "spec": { "artifact": { "uri": "s3://new", "digest": MODEL },
                    "parent": { "name": "eta-1", "uid": parent, "head": { "length": 2, "digest": digest } } } }),
        );
        assert_eq!(broken(&turn.story), expected, "{digest}");
    }
}
