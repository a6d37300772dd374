//! Gates on the metrics that stages report.
//!
//! Every verdict is taken on the bound of an interval, never on the point, wherever the stage reports an interval.
//! For a comparison with the live version the interval is that of the paired difference on the same rows: positive
//! is worse, after the metric's direction is taken into account.

use flywheel_api::flywheel_run::StageStatus;
use flywheel_api::gate::{CompareTo, GateSpec};
use flywheel_api::reference::{Direction, GateVerdict, Verdict};
use flywheel_api::schema::Decimal;
use flywheel_api::stage::StageType;
use flywheel_api::stage_contract::Metric;

/// What every gate says of the run's stages; `live` is the name of the version that the evaluation had to compare with.
#[must_use]
pub fn judge_all(gates: &[GateSpec], stages: &[StageStatus], live: Option<&str>) -> Vec<GateVerdict> {
    gates.iter().map(|gate| judge(gate, stages, live)).collect()
}

/// What one gate says.
#[must_use]
pub fn judge(gate: &GateSpec, stages: &[StageStatus], live: Option<&str>) -> GateVerdict {
    let draft = Draft { gate };
    let stage = match &gate.stage {
        Some(name) => stages.iter().find(|s| s.name == *name),
        None => stages.iter().rev().find(|s| s.type_ == StageType::Evaluate),
    };
    let Some(result) = stage.and_then(|s| s.result.as_ref()) else {
        return draft.verdict(
            Verdict::Error,
            "NoResult",
            "the stage that reports the metric has no result".to_owned(),
        );
    };
    let Some(metric) = result.metrics.iter().find(|m| m.name == gate.metric) else {
        let message = format!(
            "the stage reported no metric {}: add it to the stage's result",
            gate.metric
        );
        return draft.verdict(Verdict::Error, "MetricMissing", message);
    };
    let mut verdict = match gate.compare_to {
        CompareTo::Constant => constant(&draft, metric),
        CompareTo::LiveVersion => live_version(&draft, metric, live),
    };
    verdict.value = Some(metric.value.clone());
    verdict.samples = metric.samples;
    verdict.baseline = metric.baseline.as_ref().map(|b| b.value.clone());
    verdict
}

struct Draft<'a> {
    gate: &'a GateSpec,
}

impl Draft<'_> {
    fn verdict(&self, verdict: Verdict, reason: &str, mut what: String) -> GateVerdict {
        what.insert_str(0, &format!("Gate {}: ", self.gate.name));
        what.push('.');
        GateVerdict {
            gate: self.gate.name.clone(),
            metric: self.gate.metric.clone(),
            verdict,
            reason: reason.to_owned(),
            message: what,
            value: None,
            baseline: None,
            low: None,
            high: None,
            limit: None,
            samples: None,
            dry_run: self.gate.dry_run,
        }
    }

    /// Nothing if the metric has enough rows.
    fn thin(&self, metric: &Metric) -> Option<GateVerdict> {
        let fewest = self.gate.confidence.min_samples;
        match metric.samples {
            Some(samples) if samples >= fewest => None,
            Some(samples) => Some(self.verdict(
                Verdict::Inconclusive,
                "TooFewSamples",
                format!("{} rows behind {}, {fewest} are needed", samples, metric.name),
            )),
            None => Some(self.verdict(
                Verdict::Inconclusive,
                "SamplesMissing",
                format!("{} was reported without samples: {fewest} are needed", metric.name),
            )),
        }
    }

    /// Nothing if the intervals of the metric have the confidence level that the gate asks for.
    fn unsure(&self, metric: &Metric) -> Option<GateVerdict> {
        let wanted = &self.gate.confidence.level;
        let level = metric.level.as_ref().and_then(Decimal::value);
        let enough = level
            .zip(wanted.value())
            .is_some_and(|(have, want)| have >= want - 1e-9);
        (!enough).then(|| {
            let have = metric.level.as_ref().map_or("none", Decimal::as_str);
            let what = format!("the interval of {} has level {have}, {wanted} is needed", metric.name);
            self.verdict(Verdict::Inconclusive, "ConfidenceTooLow", what)
        })
    }
}

fn constant(draft: &Draft<'_>, metric: &Metric) -> GateVerdict {
    if let Some(thin) = draft.thin(metric) {
        return thin;
    }
    let has_interval = metric.low.is_some() && metric.high.is_some();
    if has_interval && let Some(unsure) = draft.unsure(metric) {
        return unsure;
    }
    let (low, high) = match (&metric.low, &metric.high) {
        (Some(low), Some(high)) => (low.clone(), high.clone()),
        _ => (metric.value.clone(), metric.value.clone()),
    };
    let (Some(low_number), Some(high_number)) = (low.value(), high.value()) else {
        return draft.verdict(Verdict::Error, "BrokenMetric", format!("{} is no number", metric.name));
    };
    let mut verdict = within(draft, metric, low_number, high_number);
    verdict.low = Some(low);
    verdict.high = Some(high);
    verdict
}

/// Both limits; the first that is not met decides.
fn within(draft: &Draft<'_>, metric: &Metric, low: f64, high: f64) -> GateVerdict {
    let (name, value) = (&metric.name, &metric.value);
    let interval = format!("[{}, {}]", text(low), text(high));
    let mut last = None;
    for (limit, side) in [(&draft.gate.min, Side::AtLeast), (&draft.gate.max, Side::AtMost)] {
        let Some(bound) = limit.as_ref() else { continue };
        let Some(number) = bound.value() else {
            return draft.verdict(Verdict::Error, "BrokenLimit", format!("the limit {bound} is no number"));
        };
        let (met, refuted, words) = match side {
            Side::AtLeast => (low >= number, high < number, "at least"),
            Side::AtMost => (high <= number, low > number, "at most"),
        };
        let what = format!("{name} is {value} {interval}, {words} {bound} is demanded");
        let mut verdict = if met {
            draft.verdict(Verdict::Pass, "WithinLimits", what)
        } else if refuted {
            draft.verdict(Verdict::Fail, "LimitBreached", what)
        } else {
            draft.verdict(
                Verdict::Inconclusive,
                "IntervalTooWide",
                format!("{what}: the interval covers the limit"),
            )
        };
        verdict.limit = Some(bound.clone());
        if !met {
            return verdict;
        }
        last = Some(verdict);
    }
    last.unwrap_or_else(|| draft.verdict(Verdict::Error, "NoLimit", "the gate has neither min nor max".to_owned()))
}

enum Side {
    AtLeast,
    AtMost,
}

fn live_version(draft: &Draft<'_>, metric: &Metric, live: Option<&str>) -> GateVerdict {
    let Some(live) = live else {
        let what = "there is no live version to compare with yet".to_owned();
        return draft.verdict(Verdict::NotApplicable, "NoLiveVersion", what);
    };
    let Some(baseline) = metric.baseline.as_ref() else {
        let what = format!(
            "{} was not compared with the live version {live} on the same rows",
            metric.name
        );
        return draft.verdict(Verdict::Error, "NotCompared", what);
    };
    if baseline.version != live {
        let what = format!(
            "{} was compared with {}, but {live} is live",
            metric.name, baseline.version
        );
        return draft.verdict(Verdict::Error, "ForeignBaseline", what);
    }
    if let Some(verdict) = draft.thin(metric).or_else(|| draft.unsure(metric)) {
        return verdict;
    }
    let (Some(low), Some(high)) = (baseline.low.value(), baseline.high.value()) else {
        return draft.verdict(
            Verdict::Error,
            "BrokenMetric",
            format!("the interval of {} is no number", metric.name),
        );
    };
    let mut verdict = against(draft, metric, low, high);
    verdict.low = Some(baseline.low.clone());
    verdict.high = Some(baseline.high.clone());
    verdict
}

/// Holds the worse bound of the paired difference against what is allowed.
fn against(draft: &Draft<'_>, metric: &Metric, low: f64, high: f64) -> GateVerdict {
    let gate = draft.gate;
    let (better, worse) = match gate.direction.unwrap_or(Direction::Minimize) {
        Direction::Minimize => (low, high),
        Direction::Maximize => (-high, -low),
    };
    let regression = gate.max_regression.as_ref().and_then(Decimal::value);
    let improvement = gate.min_improvement.as_ref().and_then(Decimal::value);
    let allowed = regression.or_else(|| improvement.map(|i| -i)).unwrap_or(0.0);
    let interval = format!("[{}, {}]", text(low), text(high));
    let difference = metric.baseline.as_ref().map_or("?", |b| b.difference.as_str());
    let live = metric.baseline.as_ref().map_or("?", |b| b.version.as_str());
    let demand = match (regression, improvement) {
        (Some(r), _) => format!("it may be worse by at most {}", text(r)),
        (None, Some(i)) => format!("it must be better by at least {}", text(i)),
        (None, None) => "it must not be worse".to_owned(),
    };
    let what = format!(
        "{} changes by {difference} {interval} against {live}, {demand}",
        metric.name
    );
    let mut verdict = if worse <= allowed {
        draft.verdict(Verdict::Pass, "NotWorseThanLive", what)
    } else if better > allowed {
        draft.verdict(Verdict::Fail, "WorseThanLive", what)
    } else {
        draft.verdict(
            Verdict::Inconclusive,
            "IntervalTooWide",
            format!("{what}: the interval covers the limit"),
        )
    };
    verdict.limit = Decimal::from_f64(allowed);
    verdict
}

/// A number for people.
pub(crate) fn text(value: f64) -> String {
    Decimal::from_f64(value).map_or_else(|| "?".to_owned(), |d| d.0)
}
