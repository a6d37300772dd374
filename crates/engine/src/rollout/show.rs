//! The conditions of a Rollout: what stands, in sentences.

use flywheel_api::RolloutStatus;
use flywheel_api::condition::{self, Setting};
use flywheel_api::reference::Verdict;
use flywheel_api::rollout::{OnFail, RolloutPhase};

use super::draft::Draft;
use super::facts::Carried;
use super::pending;
use crate::standing::{Kind, Standing};

/// All conditions: the summary of the standing, and one per question that a user asks.
pub(super) fn conditions(draft: &Draft<'_>, standing: &Standing) -> Vec<Setting> {
    let mut settings = standing.settings();
    settings.push(match pending::plan_error(draft) {
        Some(why) => Setting::no(condition::ACCEPTED, why.reason, why.message),
        None => Setting::yes(condition::ACCEPTED, "Accepted", "The plan is supported."),
    });
    settings.push(complete(&draft.status));
    if draft.status.phase.is_terminal() {
        // What the target carries later is the business of later Rollouts.
        return settings;
    }
    if standing.kind != Kind::AwaitingPerson {
        let message = "No decision of a person is waited for.";
        settings.push(Setting::no(condition::AWAITING_APPROVAL, "NothingToDecide", message));
    }
    settings.extend(bound(draft, standing));
    settings.extend(checks(draft));
    settings
}

fn complete(status: &RolloutStatus) -> Setting {
    match status.outcome {
        Some(outcome) => Setting::yes(condition::COMPLETE, outcome.name(), &*status.outcome_reason),
        None => {
            let message = format!("The Rollout is in phase {}.", status.phase.name());
            Setting::no(condition::COMPLETE, "Unfinished", message)
        }
    }
}

fn bound(draft: &Draft<'_>, standing: &Standing) -> Option<Setting> {
    if standing.reason == "Drifted" {
        return Some(Setting::no(condition::TARGET_BOUND, "Drifted", &*standing.message));
    }
    let target = draft.target()?;
    let side = match draft.carried(target) {
        Carried::Baseline => "baseline",
        Carried::Candidate => "candidate",
        Carried::Foreign(_) if draft.status.baseline.is_some() => {
            let message = draft.drift(target).message;
            return Some(Setting::no(condition::TARGET_BOUND, "Drifted", message));
        }
        Carried::Foreign(_) => return None,
        Carried::Unreadable(error) => {
            return Some(Setting::no(
                condition::TARGET_BOUND,
                error.reason(),
                format!("{error}."),
            ));
        }
    };
    let message = format!("The target carries the value of the {side}, as recorded.");
    Some(Setting::yes(condition::TARGET_BOUND, "AsRecorded", message))
}

fn checks(draft: &Draft<'_>) -> Option<Setting> {
    let plan = draft.plan();
    let blocking = || plan.checks.iter().filter(|c| c.on_fail != OnFail::Warn);
    blocking().next()?;
    let said = |name: &str| draft.status.checks.iter().find(|s| s.name == name);
    let worst = blocking()
        .filter_map(|c| said(&c.name))
        .filter(|s| s.verdict != Verdict::Pass)
        .max_by_key(|s| s.verdict);
    let setting = if let Some(worst) = worst {
        let message = format!("Check {}: {}", worst.name, worst.message);
        Setting::no(condition::CHECKS_PASSING, worst.verdict.name(), message)
    } else if draft.status.checks.is_empty() {
        let mut setting = Setting::no(condition::CHECKS_PASSING, "NotAsked", "No check was asked yet.");
        setting.status = None;
        setting
    } else {
        Setting::yes(condition::CHECKS_PASSING, "Pass", "All checks that were asked pass.")
    };
    Some(setting)
}

/// Whether this outcome is one that someone should look at.
pub(super) const fn is_failure(outcome: RolloutPhase) -> bool {
    !matches!(outcome, RolloutPhase::Promoted | RolloutPhase::Superseded)
}

/// The standing of a Rollout that ended.
pub(super) fn ended(status: &RolloutStatus) -> Standing {
    let kind = if is_failure(status.phase) {
        Kind::Stalled
    } else {
        Kind::Ready
    };
    Standing::new(kind, status.phase.name(), &*status.outcome_reason)
}
