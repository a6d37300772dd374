//! The verdict of one objective on one attribute.

use flywheel_api::bias_policy::{Compare, Improvement, Limit, Mode, Objective, ProtectedAttribute};
use flywheel_api::flywheel_run::StageStatus;
use flywheel_api::reference::{BiasVerdict, Direction, Verdict};
use flywheel_api::schema::Decimal;

use super::interval::Estimate;
use super::{Case, Group, Live, PolicyView};
use crate::gate::text;

impl Group<'_> {
    fn estimate(&self) -> Option<Estimate> {
        let bound = |d: &Option<Decimal>| d.as_ref().and_then(Decimal::value);
        Estimate::new(
            self.metric.value.value()?,
            bound(&self.metric.low)?,
            bound(&self.metric.high)?,
        )
    }

    /// How much worse than the live version on the same rows; positive is worse.
    fn worsening(&self, direction: Direction) -> Option<Estimate> {
        let baseline = self.metric.baseline.as_ref()?;
        let change = Estimate::new(
            baseline.difference.value()?,
            baseline.low.value()?,
            baseline.high.value()?,
        )?;
        Some(match direction {
            Direction::Minimize => change,
            Direction::Maximize => change.negated(),
        })
    }
}

/// An estimate that has to stay at or below a limit, and the group that it is about.
struct Found {
    group: String,
    samples: Option<i64>,
    estimate: Estimate,
}

pub fn judge(case: &Case<'_>, objective: &Objective, groups: &[Group<'_>]) -> BiasVerdict {
    let mut estimates = Vec::new();
    for group in groups {
        match group.estimate() {
            Some(estimate) => estimates.push((group, estimate)),
            None => return broken(case, group),
        }
    }
    let (Limit { min, max }, metric) = (&objective.limit, &objective.metric);
    let limits = (
        min.as_ref().and_then(Decimal::value),
        max.as_ref().and_then(Decimal::value),
    );
    let (found, bound, what) = match (objective.compare, limits) {
        (Compare::WorstGroup, (Some(min), None)) => {
            let found = each(&estimates, Estimate::negated);
            (found, Bound::AtLeast(min), metric.clone())
        }
        (Compare::WorstGroup, (None, Some(max))) => {
            let found = each(&estimates, |e| e);
            (found, Bound::AtMost(max), metric.clone())
        }
        (Compare::Difference, (None, Some(max))) => {
            let found = differences(&estimates);
            (found, Bound::AtMost(max), format!("the gap of {metric}"))
        }
        (Compare::Ratio, (Some(min), None)) => {
            let Some(found) = pairs(&estimates, |a, b| Some(a.over(b)?.negated())) else {
                let what = format!("a ratio of {metric} needs values and bounds above 0");
                return case.verdict(Verdict::Error, "RatioUndefined", "", &what);
            };
            (found, Bound::AtLeast(min), format!("the ratio of {metric}"))
        }
        (Compare::WorstGroup | Compare::Difference | Compare::Ratio, _) => {
            let what = "the limit does not fit the comparison";
            return case.verdict(Verdict::Error, "BrokenLimit", "", what);
        }
    };
    at_most(case, objective.mode, found, bound, &what)
}

/// Limits on how the candidate may shift between groups against the live version.
pub fn improvement(
    policy: &PolicyView,
    attribute: &ProtectedAttribute,
    stages: &[StageStatus],
    live: Live,
) -> Vec<BiasVerdict> {
    let Some(rule) = &policy.spec.improvement else {
        return Vec::new();
    };
    let case = |name: &str| Case::new(policy, name, attribute, rule.enforcement);
    let per_group = rule.per_group.as_ref().map(|p| Shift {
        case: case("improvement"),
        rule,
        limit: p.max_regression.value(),
        mode: p.mode,
        of: ShiftOf::EachGroup,
    });
    let gap = rule.gap.as_ref().map(|g| Shift {
        case: case("improvement-gap"),
        rule,
        limit: g.max_widening.value(),
        mode: g.mode,
        of: ShiftOf::Gap,
    });
    let limits = per_group.into_iter().chain(gap);
    limits.map(|limit| limit.judge(stages, live)).collect()
}

/// What a limit on a shift is about.
#[derive(Clone, Copy)]
enum ShiftOf {
    /// How much worse every group may become by itself.
    EachGroup,
    /// How much further two groups may move apart.
    Gap,
}

/// One limit on how the candidate may differ from the live version.
struct Shift<'a> {
    case: Case<'a>,
    rule: &'a Improvement,
    limit: Option<f64>,
    mode: Mode,
    of: ShiftOf,
}

impl Shift<'_> {
    fn judge(&self, stages: &[StageStatus], live: Live) -> BiasVerdict {
        if let Some(verdict) = self.incomparable(live) {
            return verdict;
        }
        let (case, metric) = (&self.case, &self.rule.metric);
        let groups = match case.table(stages, metric) {
            Ok(groups) => groups,
            Err(verdict) => return *verdict,
        };
        let mut changes = Vec::new();
        for group in &groups {
            match group.worsening(self.rule.direction) {
                Some(estimate) => changes.push((group, estimate)),
                None => return not_compared(case, group),
            }
        }
        let Some(limit) = self.limit else {
            return case.verdict(Verdict::Error, "BrokenLimit", "", "the limit is no number");
        };
        let (found, what) = match self.of {
            ShiftOf::EachGroup => (each(&changes, |e| e), format!("the worsening of {metric}")),
            ShiftOf::Gap => (
                differences(&changes),
                format!("the widening of {metric} between groups"),
            ),
        };
        at_most(case, self.mode, found, Bound::AtMost(limit), &what)
    }

    /// The verdict where the evaluation compared with something else than what serves.
    fn incomparable(&self, live: Live) -> Option<BiasVerdict> {
        let (verdict, reason, what) = match live {
            Live::Same => return None,
            Live::Nothing => (
                Verdict::NotApplicable,
                "NoLiveVersion",
                "there is no live version to compare with yet",
            ),
            Live::Changed => (
                Verdict::Error,
                "LiveVersionChanged",
                "another version serves than the one that the groups were compared with",
            ),
        };
        Some(self.case.verdict(verdict, reason, "", what))
    }
}

fn found(group: &Group<'_>, estimate: Estimate) -> Found {
    Found {
        group: group.metric.name.clone(),
        samples: group.metric.samples,
        estimate,
    }
}

/// Every group by itself.
fn each(groups: &[(&Group<'_>, Estimate)], view: impl Fn(Estimate) -> Estimate) -> Vec<Found> {
    groups.iter().map(|(group, e)| found(group, view(*e))).collect()
}

/// How far every group is above every other one.
fn differences(groups: &[(&Group<'_>, Estimate)]) -> Vec<Found> {
    pairs(groups, |a, b| Some(a.minus(b))).unwrap_or_default()
}

/// Every ordered pair of different groups; nothing if one of them has no such comparison.
fn pairs(
    groups: &[(&Group<'_>, Estimate)],
    compare: impl Fn(Estimate, Estimate) -> Option<Estimate>,
) -> Option<Vec<Found>> {
    let mut all = Vec::new();
    for (i, (a, left)) in groups.iter().enumerate() {
        for (j, (_, right)) in groups.iter().enumerate() {
            if i != j {
                all.push(found(a, compare(*left, *right)?));
            }
        }
    }
    Some(all)
}

/// A limit as the policy states it. Estimates that must stay at or above one come with the opposite sign.
#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    /// The limit that the estimates, as they come, must not exceed.
    fn limit(self) -> f64 {
        match self {
            Self::AtLeast(min) => -min,
            Self::AtMost(max) => max,
        }
    }

    /// A number of an estimate as people know it.
    fn shown(self, value: f64) -> f64 {
        match self {
            Self::AtLeast(_) => -value,
            Self::AtMost(_) => value,
        }
    }
}

/// All estimates must keep to the limit; the one with the worst bound that matters is named.
fn at_most(case: &Case<'_>, mode: Mode, mut found: Vec<Found>, bound: Bound, what: &str) -> BiasVerdict {
    let limit = bound.limit();
    found.sort_by(|a, b| b.estimate.high.total_cmp(&a.estimate.high));
    let refuted = found
        .iter()
        .max_by(|a, b| a.estimate.low.total_cmp(&b.estimate.low))
        .filter(|f| f.estimate.low > limit);
    let Some(worst) = refuted.or(found.first()) else {
        let groups = "at least two groups are needed to compare them";
        return case.verdict(Verdict::Inconclusive, "GroupMissing", "", groups);
    };
    let e = worst.estimate;
    let sentence = sentence(&worst.group, e, bound, what);
    let mut verdict = if e.low > limit {
        case.verdict(Verdict::Fail, "LimitBreached", &worst.group, &sentence)
    } else if e.high <= limit {
        case.verdict(Verdict::Pass, "WithinLimits", &worst.group, &sentence)
    } else if mode == Mode::Detect {
        case.verdict(Verdict::Pass, "NoBreachShown", &worst.group, &sentence)
    } else {
        let open = format!("{sentence}: the interval covers the limit");
        case.verdict(Verdict::Inconclusive, "IntervalTooWide", &worst.group, &open)
    };
    let decimal = |v: f64| Decimal::from_f64(bound.shown(v));
    let decided = if verdict.verdict == Verdict::Fail {
        e.low
    } else {
        e.high
    };
    verdict.value = decimal(e.value);
    verdict.bound = decimal(decided);
    verdict.limit = decimal(limit);
    verdict.samples = worst.samples;
    verdict
}

fn sentence(group: &str, e: Estimate, bound: Bound, what: &str) -> String {
    let shown = |v: f64| text(bound.shown(v));
    let (low, high, words) = match bound {
        Bound::AtLeast(_) => (e.high, e.low, "at least"),
        Bound::AtMost(_) => (e.low, e.high, "at most"),
    };
    format!(
        "{what} is {} [{}, {}] at {group}, {words} {} is allowed",
        shown(e.value),
        shown(low),
        shown(high),
        shown(bound.limit())
    )
}

fn broken(case: &Case<'_>, group: &Group<'_>) -> BiasVerdict {
    let what = format!("the group {} was reported without a usable interval", group.metric.name);
    case.verdict(Verdict::Inconclusive, "IntervalMissing", &group.metric.name, &what)
}

fn not_compared(case: &Case<'_>, group: &Group<'_>) -> BiasVerdict {
    let what = format!(
        "the group {} was not compared with the live version on the same rows",
        group.metric.name
    );
    case.verdict(Verdict::Error, "NotCompared", &group.metric.name, &what)
}
