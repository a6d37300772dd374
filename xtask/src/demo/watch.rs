//! What the cluster shows of the loop: runs, versions, weights and verdicts as a table.

use anyhow::Result;
use serde_json::Value;

use super::kube::{Kube, name, text};

/// The objects of the loop at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// FlywheelRuns.
    pub runs: Vec<Value>,
    /// Rollouts.
    pub rollouts: Vec<Value>,
    /// ModelVersions.
    pub versions: Vec<Value>,
}

impl Snapshot {
    /// Reads them.
    pub fn take(kube: &Kube) -> Result<Self> {
        let mut snapshot = Self::default();
        for object in kube.list("flywheelruns.flywheel.dev,rollouts.flywheel.dev,modelversions.flywheel.dev")? {
            match text(&object, "/kind") {
                "FlywheelRun" => snapshot.runs.push(object),
                "Rollout" => snapshot.rollouts.push(object),
                _ => snapshot.versions.push(object),
            }
        }
        Ok(snapshot)
    }

    /// The run of that name.
    pub fn run(&self, wanted: &str) -> Option<&Value> {
        self.runs.iter().find(|run| name(run) == wanted)
    }

    /// The Rollout that a run started.
    pub fn rollout_of(&self, run: &Value) -> Option<&Value> {
        let wanted = text(run, "/status/rollout/name");
        self.rollouts.iter().find(|rollout| name(rollout) == wanted)
    }

    /// The version that a run made.
    pub fn version_of(&self, run: &Value) -> Option<&Value> {
        let wanted = text(run, "/status/modelVersion/name");
        self.versions.iter().find(|version| name(version) == wanted)
    }

    /// The table: a head and one line for each run that has begun.
    pub fn table(&self) -> Vec<String> {
        let mut rows = vec![["RUN", "VERSION", "STAGE", "WEIGHT", "ERROR", "VERDICT"].map(str::to_owned)];
        let mut runs: Vec<&Value> = self.runs.iter().collect();
        runs.sort_by_key(|run| name(run));
        rows.extend(runs.into_iter().map(|run| self.row(run)));
        aligned(&rows)
    }

    fn row(&self, run: &Value) -> [String; 6] {
        let rollout = self.rollout_of(run);
        let phase = rollout.map_or("", |r| text(r, "/status/phase"));
        let step = rollout.map_or("", |r| text(r, "/status/step/name"));
        let stage = match (text(run, "/status/stage"), phase) {
            (stage, "") => stage.to_owned(),
            (_, phase) if step.is_empty() || phase == "Observing" || phase == "Promoted" => phase.to_owned(),
            (_, phase) => format!("{phase} {step}"),
        };
        let weight = rollout
            .and_then(|r| r.pointer("/status/weights/actual"))
            .and_then(Value::as_i64);
        let weight = match phase {
            "Observing" | "Promoted" => Some(100),
            "RolledBack" | "Aborted" | "Superseded" => None,
            _ => weight,
        };
        [
            name(run).to_owned(),
            text(run, "/status/modelVersion/name").to_owned(),
            stage,
            weight.map(|w| format!("{w} %")).unwrap_or_default(),
            error(run),
            verdict(run, rollout),
        ]
    }
}

/// The error on later flights, and against the live version where there was one.
fn error(run: &Value) -> String {
    let Some(metric) = metric(run) else {
        return String::new();
    };
    let value = short(text(metric, "/value"));
    match text(metric, "/baseline/difference") {
        "" => format!("{value} min"),
        difference => format!("{value} min ({})", signed(difference)),
    }
}

/// The error metric of a run's evaluation.
pub fn metric(run: &Value) -> Option<&Value> {
    let mut stages = run.pointer("/status/stages")?.as_array()?.iter();
    let evaluate = stages.find(|stage| text(stage, "/type") == "Evaluate")?;
    evaluate.pointer("/result/metrics/0")
}

/// The groups of a run's evaluation.
pub fn groups(run: &Value) -> Vec<&Value> {
    let stages = run.pointer("/status/stages").and_then(Value::as_array);
    let evaluate = stages
        .into_iter()
        .flatten()
        .find(|stage| text(stage, "/type") == "Evaluate");
    let groups = evaluate.and_then(|stage| stage.pointer("/result/groups/0/groups")?.as_array());
    groups.into_iter().flatten().collect()
}

/// The outcome, or what is waited for, or the worst of what was said so far.
fn verdict(run: &Value, rollout: Option<&Value>) -> String {
    let went_back = rollout.map_or("", |r| text(r, "/status/outcome"));
    if went_back == "RolledBack" {
        return went_back.to_owned();
    }
    match (text(run, "/status/outcome"), text(run, "/status/waitingFor/gate")) {
        ("", "") => bias_or_gate(run).unwrap_or_default(),
        ("", gate) => format!("waits for approval ({gate})"),
        ("Rejected", _) => format!(
            "Rejected{}",
            bias_or_gate(run).map(|why| format!(": {why}")).unwrap_or_default()
        ),
        (outcome, _) => outcome.to_owned(),
    }
}

/// The first gate or policy that did not pass.
fn bias_or_gate(run: &Value) -> Option<String> {
    let all = |pointer: &str, key: &'static str| {
        let verdicts = run
            .pointer(pointer)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        verdicts
            .into_iter()
            .map(move |v| (text(&v, key).to_owned(), text(&v, "/verdict").to_owned()))
    };
    let mut verdicts = all("/status/gates", "/gate").chain(all("/status/bias", "/policy"));
    let (what, verdict) = verdicts.find(|(_, v)| !matches!(v.as_str(), "Pass" | "NotApplicable"))?;
    Some(format!("{what} {verdict}"))
}

/// A decimal text with two digits after the point.
pub fn short(number: &str) -> String {
    number
        .parse::<f64>()
        .map_or_else(|_| number.to_owned(), |value| format!("{value:.2}"))
}

/// The same with its sign.
pub fn signed(number: &str) -> String {
    number
        .parse::<f64>()
        .map_or_else(|_| number.to_owned(), |value| format!("{value:+.2}"))
}

fn aligned(rows: &[[String; 6]]) -> Vec<String> {
    let mut widths = [0; 6];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_shows_weights_errors_and_the_verdict_that_stopped_a_version() {
        let evaluate = json!({ "type": "Evaluate", "result": { "metrics": [
            { "name": "mae", "value": "17.66", "baseline": { "difference": "0.62" } }] } });
        let snapshot = Snapshot {
            runs: vec![
                json!({ "metadata": { "name": "week-21" }, "status": { "stage": "Done", "outcome": "Rejected",
                    "modelVersion": { "name": "eta-3" }, "stages": [evaluate],
                    "gates": [{ "gate": "error", "verdict": "Fail" }] } }),
                json!({ "metadata": { "name": "week-13" }, "status": { "stage": "Rollout",
                    "modelVersion": { "name": "eta-2" }, "rollout": { "name": "r" } } }),
            ],
            rollouts: vec![json!({ "metadata": { "name": "r" }, "status": { "phase": "Holding",
                "step": { "name": "half" }, "weights": { "actual": 50 } } })],
            versions: Vec::new(),
        };
        let table = snapshot.table();
        assert_eq!(table.len(), 3);
        assert!(
            table.iter().any(|l| l.contains("Holding half") && l.contains("50 %")),
            "{table:?}"
        );
        assert!(
            table
                .iter()
                .any(|l| l.contains("17.66 min (+0.62)") && l.contains("error Fail")),
            "{table:?}"
        );
    }

    #[test]
    fn a_run_that_has_not_begun_is_an_empty_line_and_no_error() {
        let snapshot = Snapshot {
            runs: vec![json!({ "metadata": { "name": "week-03" } })],
            ..Snapshot::default()
        };
        assert_eq!(snapshot.table().last().map(String::as_str), Some("week-03"));
    }
}
