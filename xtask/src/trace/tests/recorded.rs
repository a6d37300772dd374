//! A real turn of the loop, recorded on a cluster and trimmed: a Train Job that is evicted and tried again, an
//! evaluation, two people's approvals, a step, the promotion. Left as it is it keeps all invariants; with one write taken
//! out or changed it does not, which shows that the rules see real objects and not only those of the hand-made histories.

use crate::trace::{History, check};

const LOOP: &str = include_str!("recorded/loop.jsonl");

fn broken(keep: impl Fn(&str) -> Option<String>) -> Vec<&'static str> {
    let lines: Vec<String> = LOOP.lines().filter_map(keep).collect();
    let same = lines.iter().map(String::as_str).eq(LOOP.lines());
    assert!(!same, "the change must find its line");
    check_lines(&lines)
}

fn check_lines(lines: &[String]) -> Vec<&'static str> {
    let log = format!("{}\n", lines.join("\n"));
    let history = History::parse(log.as_bytes(), None).expect("audit events");
    let all = check(&history).into_iter().map(|v| v.invariant);
    // The conditions of runs were trimmed off: a write that changed nothing else looks empty.
    let mut all: Vec<&str> = all.filter(|invariant| *invariant != "I11").collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn without(words: &'static [&'static str]) -> impl Fn(&str) -> Option<String> {
    move |line| (!words.iter().all(|w| line.contains(w))).then(|| line.to_owned())
}

fn replaced(from: &'static str, to: &'static str) -> impl Fn(&str) -> Option<String> {
    move |line| Some(line.replace(from, to))
}

#[test]
fn a_real_turn_keeps_all_invariants() {
    let lines: Vec<String> = LOOP.lines().map(str::to_owned).collect();
    assert_eq!(check_lines(&lines), [""; 0]);
    let history = History::parse(LOOP.as_bytes(), None).expect("audit events");
    let writes = history.steps.iter().filter(|s| s.operator).count();
    assert!(writes > 50, "{writes} writes of the operator");
}

#[test]
fn without_the_record_of_the_first_attempts_end_i1_is_broken() {
    assert_eq!(broken(replaced("\"failure\":{", "\"no-failure\":{")), ["I1"]);
}

#[test]
fn with_a_gate_that_failed_i2_is_broken() {
    let found = broken(replaced("\"verdict\":\"Pass\"", "\"verdict\":\"Fail\""));
    assert_eq!(found, ["I2", "I3"], "people approved another verdict");
}

#[test]
fn with_a_metric_beyond_the_limit_i2_is_broken() {
    let found = broken(replaced("\"high\":\"1.1\",\"level\"", "\"high\":\"5.1\",\"level\""));
    assert_eq!(found, ["I2"]);
}

#[test]
fn without_one_of_the_approvals_i3_is_broken() {
    assert_eq!(broken(without(&["\"resource\":\"approvals\"", "by-jane"])), ["I3"]);
}

#[test]
fn with_an_approval_by_the_requester_i3_is_broken() {
    assert_eq!(
        broken(replaced("\"requestedBy\":\"bob\"", "\"requestedBy\":\"jane\"")),
        ["I3"]
    );
}

#[test]
fn with_other_evidence_than_was_approved_i3_is_broken() {
    assert_eq!(broken(replaced("\\\"samples\\\":1000", "\\\"samples\\\":2000")), ["I3"]);
}

#[test]
fn without_the_candidates_label_i9_is_broken() {
    let label = flywheel_api::names::LABEL_ROLLOUT_UID;
    let found = broken(|line| Some(line.replace(label, "example.com/no-label")));
    assert!(found.contains(&"I9"), "{found:?}");
}

#[test]
fn with_a_field_of_the_target_that_is_not_declared_i15_is_broken() {
    let binds = |line: &str| {
        line.contains("\"name\":\"eta\"") && line.contains("\"verb\":\"patch\"") && line.contains("flywheel-operator")
    };
    let found = broken(|line| match binds(line) {
        true => Some(line.replace("example/server", "example/other")),
        false => Some(line.to_owned()),
    });
    assert_eq!(found, ["I15"]);
}

#[test]
fn with_a_phase_that_is_skipped_i13_is_broken() {
    assert_eq!(
        broken(without(&["rollouts/eta-1/status", "\"phase\":\"Progressing\""])),
        ["I13"]
    );
}

/// Replaces in lines about these objects only.
fn replaced_of(resource: &'static str, from: &'static str, to: &'static str) -> impl Fn(&str) -> Option<String> {
    move |line| {
        let about = line.contains(&format!("\"resource\":\"{resource}\""));
        Some(if about { line.replace(from, to) } else { line.to_owned() })
    }
}

#[test]
fn with_a_job_that_did_not_complete_i10_is_broken() {
    let found = broken(replaced_of("jobs", "\"type\":\"Complete\"", "\"type\":\"Almost\""));
    assert!(found.contains(&"I10"), "{found:?}");
}

#[test]
fn with_another_digest_in_the_version_i1b_is_broken() {
    let found = broken(replaced_of("modelversions", "sha256:0123", "sha256:4567"));
    assert!(found.contains(&"I1b"), "{found:?}");
}

#[test]
fn with_another_recorded_baseline_i4_is_broken() {
    let found = broken(replaced_of("rollouts", "s3://first", "s3://zeroth"));
    assert_eq!(found, ["I4"]);
}

#[test]
fn with_another_weight_than_in_the_snapshot_i16_is_broken() {
    let found = broken(replaced_of("rollouts", "\"weight\":50", "\"weight\":60"));
    assert_eq!(found, ["I16"]);
}

#[test]
fn with_a_level_above_the_one_in_force_i18_is_broken() {
    let found = broken(replaced_of(
        "rollouts",
        "\"level\":\"HumanOversight\"",
        "\"level\":\"FullyAutomated\"",
    ));
    assert_eq!(found, ["I18"]);
}
