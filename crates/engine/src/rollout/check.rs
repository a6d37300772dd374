//! Checks: answers become verdicts, and verdicts decide. No data never passes; an error neither fails nor passes.

use flywheel_api::reference::{Direction, Verdict};
use flywheel_api::rollout::{CheckSpec, CheckStatus, OnFail, RollbackMode, RolloutPhase};
use flywheel_api::schema::Decimal;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::draft::{Draft, Why, later};
use super::observation::{Answer, Reading};
use super::query::{applicable, due_at, since};
use crate::level::{self, Who, who};
use crate::standing::shorten;

/// What a check that failed too often demands.
pub(super) enum Failing {
    /// The way back begins.
    RollBack(Why),
    /// The step is held.
    Hold(Why),
}

/// Judges the answers that came to checks that were due.
pub(super) fn take(draft: &mut Draft<'_>) {
    let o = draft.o;
    let stored = draft.status.clone();
    for check in applicable(&o.rollout, &stored) {
        let Some(answer) = o.answers.iter().find(|a| a.check == check.name) else {
            continue;
        };
        if due_at(check, &stored).is_none_or(|due| due > o.now) {
            continue;
        }
        let failures = stored
            .checks
            .iter()
            .find(|s| s.name == check.name)
            .map_or(0, |s| s.failures);
        let watched = stored.phase == RolloutPhase::Observing;
        let said = judge(check, answer, watched, failures, Time(o.now));
        if check.on_fail == OnFail::Warn && said.failures == check.failure_limit + 1 && said.failures != failures {
            let message = format!("Check {} fails: {}", check.name, said.message);
            draft.tell(&Why::new("CheckFailed", message), true);
        }
        draft.status.checks.retain(|s| s.name != check.name);
        draft.status.checks.push(said);
    }
    let order = |name: &str| o.rollout.spec.plan.checks.iter().position(|c| c.name == name);
    draft.status.checks.sort_by_key(|s| order(&s.name));
}

/// Looks again when the next check is due.
pub(super) fn wake(draft: &mut Draft<'_>) {
    let (o, status) = (draft.o, draft.status.clone());
    for check in applicable(&o.rollout, &status) {
        // A check that is due and was not answered is asked again after its interval, not at once.
        let interval = check.interval.seconds().unwrap_or(30).max(1);
        let due = due_at(check, &status).filter(|due| *due > o.now);
        draft.wake(due.or_else(|| later(o.now, interval)));
    }
}

/// Whether any check counts now.
pub(super) fn any(draft: &Draft<'_>) -> bool {
    applicable(&draft.o.rollout, &draft.status).next().is_some()
}

/// Checks that count now and can stop the version.
pub(super) fn blocking<'a>(draft: &Draft<'a>) -> Vec<&'a CheckSpec> {
    let checks = applicable(&draft.o.rollout, &draft.status);
    checks.filter(|c| c.on_fail != OnFail::Warn).collect()
}

fn said<'d>(draft: &'d Draft<'_>, check: &CheckSpec) -> Option<&'d CheckStatus> {
    let begun = since(&draft.status)?;
    let named = draft.status.checks.iter().find(|s| s.name == check.name);
    named.filter(|s| s.at.0 >= begun)
}

/// The gravest demand of the checks that failed too often.
pub(super) fn failing(draft: &Draft<'_>) -> Option<Failing> {
    let checks = blocking(draft);
    let failed = |check: &&&CheckSpec| said(draft, check).is_some_and(|s| s.failures > check.failure_limit);
    let failed: Vec<&CheckSpec> = checks.iter().filter(failed).copied().collect();
    let rolls_back = failed.iter().find(|c| c.on_fail == OnFail::RollBack);
    let check = rolls_back.or(failed.first())?;
    let last = said(draft, check)?;
    let message = format!(
        "Check {} of spec.plan.checks failed {} times in a row: {}",
        check.name, last.failures, last.message
    );
    let person = draft
        .level()
        .is_some_and(|l| who(l, level::Step::RollBack) != Who::Machine);
    let recommends = person || draft.plan().rollback.mode == RollbackMode::Recommend;
    Some(if check.on_fail == OnFail::RollBack && !recommends {
        Failing::RollBack(Why::new("CheckFailed", message))
    } else {
        let advice = format!("{message} Run `{}` to go back.", draft.command("rollback"));
        Failing::Hold(Why::new("CheckFailed", advice))
    })
}

/// Why not all checks have passed since the traffic is as it is; nothing if they have.
pub(super) fn open(draft: &Draft<'_>) -> Option<String> {
    blocking(draft).iter().find_map(|check| match said(draft, check) {
        None => Some(format!("Waits for the first answer to check {}.", check.name)),
        Some(s) if matches!(s.verdict, Verdict::Pass | Verdict::NotApplicable) => None,
        Some(s) => Some(format!("Check {} says {}: {}", check.name, s.verdict.name(), s.message)),
    })
}

fn judge(check: &CheckSpec, answer: &Answer, watched: bool, failures: i32, at: Time) -> CheckStatus {
    let number = |reading: &Reading| match reading {
        Reading::Value(v) => Decimal::from_f64(*v),
        Reading::Empty | Reading::Error(_) => None,
    };
    let (verdict, message, limit) = verdict(check, answer, watched);
    CheckStatus {
        name: check.name.clone(),
        verdict,
        message: shorten(&message, 512),
        value: number(&answer.candidate),
        baseline: answer.baseline.as_ref().and_then(number),
        limit,
        samples: answer.samples.as_ref().and_then(count),
        failures: match verdict {
            Verdict::Fail => failures.saturating_add(1),
            // An answer without data between two failures does not make the second one the first.
            Verdict::Inconclusive | Verdict::Error => failures,
            Verdict::Pass | Verdict::NotApplicable => 0,
        },
        at,
    }
}

fn count(reading: &Reading) -> Option<i64> {
    match reading {
        // A count beyond 2^53 is not exact any more, and beyond every minimum.
        #[expect(clippy::cast_possible_truncation, reason = "clamped to what both types hold")]
        Reading::Value(v) if v.is_finite() => Some(v.clamp(0.0, 9e15) as i64),
        _ => None,
    }
}

type Judgement = (Verdict, String, Option<Decimal>);

fn verdict(check: &CheckSpec, answer: &Answer, watched: bool) -> Judgement {
    let value = match value(&answer.candidate, "the candidate") {
        Ok(value) => value,
        Err((verdict, message)) => return (verdict, message, None),
    };
    if let Some(few) = too_few(check, answer) {
        return few;
    }
    match &answer.baseline {
        // After the promotion the baseline has no traffic. Its past is enough, but that it has no present is no doubt
        // about the version that serves.
        Some(Reading::Empty) if check.baseline_query.is_some() && watched => (
            Verdict::NotApplicable,
            "The baseline has no traffic any more, and baselineQuery does not reach back to when it had.".to_owned(),
            check.max_relative_change.clone(),
        ),
        Some(baseline) if check.baseline_query.is_some() => relative(check, value, baseline),
        None if check.baseline_query.is_some() => (Verdict::Error, "The baseline was not asked.".to_owned(), None),
        _ => constant(check, value),
    }
}

fn value(reading: &Reading, side: &str) -> Result<f64, (Verdict, String)> {
    match reading {
        Reading::Value(v) if v.is_finite() => Ok(*v),
        Reading::Value(_) | Reading::Empty => Err((Verdict::Inconclusive, format!("No data for {side}."))),
        Reading::Error(why) => Err((
            Verdict::Error,
            format!("The provider gave no answer for {side}: {why}."),
        )),
    }
}

fn too_few(check: &CheckSpec, answer: &Answer) -> Option<Judgement> {
    let needed = check.min_samples?;
    check.samples_query.as_ref()?;
    let open = |message: String| Some((Verdict::Inconclusive, message, None));
    match &answer.samples {
        Some(Reading::Error(why)) => Some((
            Verdict::Error,
            format!("The samples could not be counted: {why}."),
            None,
        )),
        Some(reading) => match count(reading) {
            Some(found) if found >= needed => None,
            Some(found) => open(format!("{found} of {needed} samples.")),
            None => open(format!("No data for the samples, {needed} are needed.")),
        },
        None => open(format!("The samples were not counted, {needed} are needed.")),
    }
}

fn constant(check: &CheckSpec, value: f64) -> Judgement {
    let shown = text(value);
    if let Some(min) = &check.min
        && min.value().is_none_or(|min| value < min)
    {
        return (Verdict::Fail, format!("{shown} is below {min}."), Some(min.clone()));
    }
    if let Some(max) = &check.max
        && max.value().is_none_or(|max| value > max)
    {
        return (Verdict::Fail, format!("{shown} is above {max}."), Some(max.clone()));
    }
    let limit = check.max.clone().or_else(|| check.min.clone());
    if limit.is_none() {
        return (
            Verdict::Error,
            "The check has no limit: set min, max or baselineQuery.".to_owned(),
            None,
        );
    }
    (Verdict::Pass, format!("{shown} is within the limits."), limit)
}

fn relative(check: &CheckSpec, candidate: f64, baseline: &Reading) -> Judgement {
    let limit = check.max_relative_change.clone();
    let Some(most) = limit.as_ref().and_then(Decimal::value) else {
        return (Verdict::Error, "The check has no maxRelativeChange.".to_owned(), None);
    };
    let baseline = match value(baseline, "the baseline") {
        Ok(value) => value,
        Err((verdict, message)) => return (verdict, message, limit),
    };
    let worse = match check.direction {
        Some(Direction::Maximize) => baseline - candidate,
        Some(Direction::Minimize) | None => candidate - baseline,
    };
    let numbers = format!("candidate {}, baseline {}", text(candidate), text(baseline));
    if worse <= 0.0 {
        return (Verdict::Pass, format!("Not worse: {numbers}."), limit);
    }
    // Against a baseline of zero every change for the worse is beyond all limits.
    let change = worse / baseline.abs();
    let shown = if change.is_finite() {
        text(change)
    } else {
        "infinitely".to_owned()
    };
    // Decimal numbers have no exact binary form: 1.05 against 1 is worse by 0.05, not by more.
    let (verdict, word) = if change <= most + 1e-9 {
        (Verdict::Pass, "within")
    } else {
        (Verdict::Fail, "beyond")
    };
    (
        verdict,
        format!("Relatively worse by {shown}, {word} {}: {numbers}.", text(most)),
        limit,
    )
}

fn text(value: f64) -> String {
    Decimal::from_f64(value).map_or_else(|| value.to_string(), |d| d.0)
}
