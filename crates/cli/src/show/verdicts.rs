//! Verdicts of gates, bias policies and checks with the numbers that they were taken on.

use flywheel_api::reference::{BiasVerdict, Enforcement, GateVerdict};
use flywheel_api::rollout::{CheckSpec, CheckStatus, OnFail};
use flywheel_api::schema::Decimal;

use super::explanation::Item;
use crate::paper::Tone;
use crate::words::of_verdict;

/// A gate on a metric.
#[must_use]
pub fn gate(found: &GateVerdict) -> Item {
    let name = if found.dry_run {
        format!("{} (dry run)", found.gate)
    } else {
        found.gate.clone()
    };
    Item::new(name, of_verdict(found.verdict), found.verdict.name())
        .number(&found.metric, found.value.as_ref())
        .number("live", found.baseline.as_ref())
        .number("interval", interval(found.low.as_ref(), found.high.as_ref()))
        .number("limit", found.limit.as_ref())
        .number("rows", found.samples)
        .saying(&*found.message)
}

fn interval(low: Option<&Decimal>, high: Option<&Decimal>) -> Option<String> {
    low.zip(high).map(|(low, high)| format!("[{low}, {high}]"))
}

/// One objective of a bias policy on one attribute.
#[must_use]
pub fn bias(found: &BiasVerdict) -> Item {
    let group = if found.group.is_empty() {
        found.attribute.clone()
    } else {
        format!("{}={}", found.attribute, found.group)
    };
    let name = format!("{}/{} {group}", found.policy, found.objective);
    let warns = found.enforcement == Enforcement::Warn;
    let state = if warns {
        format!("{} (warns only)", found.verdict.name())
    } else {
        found.verdict.name().to_owned()
    };
    Item::new(name.trim_end(), of_verdict(found.verdict), state)
        .number("value", found.value.as_ref())
        .number("bound", found.bound.as_ref())
        .number("limit", found.limit.as_ref())
        .number("rows", found.samples)
        .saying(&*found.message)
}

/// A check of a rollout: what it asks and what it said last.
#[must_use]
pub fn check(spec: &CheckSpec, said: Option<&CheckStatus>) -> Item {
    let on_fail = match spec.on_fail {
        OnFail::RollBack => "rolls back",
        OnFail::Hold => "holds",
        OnFail::Warn => "warns",
    };
    let (tone, state) = said.map_or((Tone::Quiet, "NotAsked"), |s| (of_verdict(s.verdict), s.verdict.name()));
    let mut item = Item::new(spec.name.clone(), tone, state);
    if let Some(said) = said {
        item = item
            .number("candidate", said.value.as_ref())
            .number("baseline", said.baseline.as_ref())
            .number("limit", said.limit.as_ref())
            .number("samples", said.samples)
            .number(
                "failures",
                Some(format!("{} of {} tolerated", said.failures, spec.failure_limit)),
            )
            .saying(&*said.message)
            .saying(format!(
                "Asked last at {}, every {}; a failure {on_fail}.",
                said.at.0, spec.interval
            ));
    } else {
        let from = spec
            .from_step
            .as_ref()
            .map_or_else(String::new, |s| format!(", from step {s} on"));
        item = item.saying(format!("Asked every {}{from}; a failure {on_fail}.", spec.interval));
    }
    item.saying(format!("Query: {}", spec.query))
}
