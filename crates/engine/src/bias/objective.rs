//! The verdict of one objective on one attribute.

use flywheel_api::bias_policy::{Compare, Limit, Mode, Objective, ProtectedAttribute};
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
    let Limit { min, max } = &objective.limit;
    let limits = (
        min.as_ref().and_then(Decimal::value),
        max.as_ref().and_then(Decimal::value),
    );
    match (objective.compare, limits) {
        (Compare::WorstGroup, (Some(min), None)) => {
            let found = estimates.iter().map(|(g, e)| found(g, e.negated())).collect();
            at_most(case, objective.mode, found, Bound::AtLeast(min), &objective.metric)
        }
        (Compare::WorstGroup, (None, Some(max))) => {
            let found = estimates.iter().map(|(g, e)| found(g, *e)).collect();
            at_most(case, objective.mode, found, Bound::AtMost(max), &objective.metric)
        }
        (Compare::Difference, (None, Some(max))) => {
            let what = format!("the gap of {}", objective.metric);
            at_most(
                case,
                objective.mode,
                pairs(&estimates, |a, b| Some(a.minus(b))).unwrap_or_default(),
                Bound::AtMost(max),
                &what,
            )
        }
        (Compare::Ratio, (Some(min), None)) => {
            let Some(found) = pairs(&estimates, |a, b| Some(a.over(b)?.negated())) else {
                let what = format!("a ratio of {} needs values and bounds above 0", objective.metric);
                return case.verdict(Verdict::Error, "RatioUndefined", "", &what);
            };
            at_most(
                case,
                objective.mode,
                found,
                Bound::AtLeast(min),
                &format!("the ratio of {}", objective.metric),
            )
        }
        (Compare::WorstGroup | Compare::Difference | Compare::Ratio, _) => case.verdict(
            Verdict::Error,
            "BrokenLimit",
            "",
            "the limit does not fit the comparison",
        ),
    }
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
    let per_group = rule
        .per_group
        .as_ref()
        .map(|p| (case("improvement"), p.max_regression.value(), p.mode, false));
    let gap = rule
        .gap
        .as_ref()
        .map(|g| (case("improvement-gap"), g.max_widening.value(), g.mode, true));
    let judge = |(case, limit, mode, widening): (Case<'_>, Option<f64>, Mode, bool)| {
        match live {
            Live::Nothing => {
                let what = "there is no live version to compare with yet";
                return case.verdict(Verdict::NotApplicable, "NoLiveVersion", "", what);
            }
            Live::Changed => {
                let what = "another version serves than the one that the groups were compared with";
                return case.verdict(Verdict::Error, "LiveVersionChanged", "", what);
            }
            Live::Same => {}
        }
        let groups = match case.table(stages, &rule.metric) {
            Ok(groups) => groups,
            Err(verdict) => return *verdict,
        };
        let mut changes = Vec::new();
        for group in &groups {
            match group.worsening(rule.direction) {
                Some(estimate) => changes.push((group, estimate)),
                None => return not_compared(&case, group),
            }
        }
        let Some(limit) = limit else {
            return case.verdict(Verdict::Error, "BrokenLimit", "", "the limit is no number");
        };
        if widening {
            let found = pairs(&changes, |a, b| Some(a.minus(b))).unwrap_or_default();
            at_most(
                &case,
                mode,
                found,
                Bound::AtMost(limit),
                &format!("the widening of {} between groups", rule.metric),
            )
        } else {
            let found = changes.iter().map(|(g, e)| found(g, *e)).collect();
            at_most(
                &case,
                mode,
                found,
                Bound::AtMost(limit),
                &format!("the worsening of {}", rule.metric),
            )
        }
    };
    per_group.into_iter().chain(gap).map(judge).collect()
}

fn found(group: &Group<'_>, estimate: Estimate) -> Found {
    Found {
        group: group.metric.name.clone(),
        samples: group.metric.samples,
        estimate,
    }
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
