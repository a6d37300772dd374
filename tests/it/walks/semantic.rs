//! What a schema cannot say: which names exist in the worlds of the walks, which moments never come while they last, and
//! numbers that mean something.

use proptest::prelude::{BoxedStrategy, Strategy};
use proptest::sample::select;
use serde_json::{Value, json};

use super::scenery::{RUN, SEEN};
use super::schema::Path;

/// Values by the end of a path. The first that fits counts; a value that stands more often is drawn more often.
///
/// `nobodys` is what does not exist, `dead` a metric provider that answers nothing. Cron expressions that can be
/// understood mean the night of a 29 February: no run starts while a walk looks on.
#[expect(clippy::too_many_lines, reason = "it reads as a table")]
fn table() -> Vec<(&'static str, Value)> {
    vec![
        // Names of objects.
        ("targetRef.name", json!(["web", "web", "web", "nobodys"])),
        ("binding.container", json!(["app", "app", "app", "nobodys"])),
        ("binding.name", json!(["MODEL_URI", "MODEL_URI", "MODEL"])),
        ("providerRef.name", json!(["fake", "fake", "fake", "dead", "nobodys"])),
        ("biasPolicies[].name", json!(["gap", "gap", "gap", "nobodys"])),
        (
            "modelVersionRef.name",
            json!(["eta-2", "eta-2", "eta-2", "eta-1", "nobodys"]),
        ),
        ("modelVersionRef.uid", json!(["00000000-0000-4000-8000-000000000000"])),
        ("pipelineRef.name", json!(["eta", "eta", "eta", "nobodys"])),
        ("pipelineRef.uid", json!(["00000000-0000-4000-8000-000000000000"])),
        ("runRef.name", json!(["eta-1", "nobodys"])),
        ("parent.name", json!(["eta-1", "nobodys"])),
        ("model.name", json!(["theta", "iota"])),
        ("modelName", json!(["eta", "theta"])),
        ("requestedBy", json!(["admin", "jane"])),
        ("approver", json!(["admin"])),
        (
            "evidenceDigest",
            json!([SEEN, SEEN, format!("sha256:{}", "0".repeat(64))]),
        ),
        ("subjectRef.kind", json!(["FlywheelRun"])),
        ("subjectRef.name", json!(["eta-9", "eta-9", "nobodys"])),
        (
            "subjectRef.uid",
            json!([RUN, RUN, "00000000-0000-4000-8000-000000000000"]),
        ),
        ("approvals[].gate", json!(["Train", "Promote"])),
        ("gate", json!(["Train"])),
        ("revokes.name", json!(["nobodys"])),
        // Names within a spec.
        ("stages[].name", json!(["prepare", "clean", "fit", "judge", "report"])),
        ("gates[].stage", json!(["train", "evaluate"])),
        ("gates[].name", json!(["error", "recall", "speed"])),
        ("checks[].fromStep", json!(["half", "most"])),
        ("checks[].name", json!(["errors", "latency"])),
        ("steps[].name", json!(["few", "half", "most"])),
        ("volumes[].name", json!(["data", "cache"])),
        ("volumeMounts[].name", json!(["data", "cache"])),
        ("volumeMounts[].mountPath", json!(["/data", "/cache", "/models/base"])),
        ("volumeMounts[].subPath", json!(["a", "a/b"])),
        ("protectedAttributes[].name", json!(["region", "age"])),
        ("objectives[].attribute", json!(["region", "age"])),
        ("objectives[].name", json!(["gap", "ratio", "worst"])),
        (
            "matchLabels",
            json!([{ "team": "a" }, { "team": "a" }, { "team": "b" }]),
        ),
        ("matchLabels{}", json!(["a", "b"])),
        (
            "image",
            json!(["example/eta", "registry.example:5000/teams/eta@sha256:0000"]),
        ),
        (
            "uri",
            json!([
                "s3://models/eta",
                "pvc://artifacts/store",
                "oci://registry.example/eta",
                "https://a.example/b"
            ]),
        ),
        // Moments and times.
        (
            "schedule.cron",
            json!(["0 3 29 2 *", "*/5 4 29 2 *", "30 5 29 2 *", "0 25 * * *"]),
        ),
        (
            "schedule.timeZone",
            json!(["UTC", "Europe/Zurich", "America/New_York", "Mars/Olympus"]),
        ),
        ("interval", json!(["1s", "30s", "1m", "1h30m"])),
        ("minInterval", json!(["90s", "30m"])),
        ("maxInterval", json!(["6h", "168h", "36h30m"])),
        ("minDuration", json!(["1h", "2h30m"])),
        ("maxDuration", json!(["24h", "48h"])),
        ("observe.duration", json!(["1h", "90m"])),
        ("backoff", json!(["1s", "30s", "5m"])),
        ("progressDeadlineSeconds", json!([600, 3600])),
        ("drainSeconds", json!([0, 1, 5])),
        // Numbers.
        ("confidence.level", json!(["0.5", "0.9", "0.95", "0.999"])),
        ("inference.alpha", json!(["0.01", "0.05", "0.5"])),
        ("maxRegression", json!(["0", "0.05", "1.5"])),
        ("minImprovement", json!(["0", "0.05", "1.5"])),
        ("maxRelativeChange", json!(["0", "0.05", "1.5"])),
        ("maxWidening", json!(["0", "0.05", "1.5"])),
        (
            "objectives[].limit",
            json!([{ "max": "0.2" }, { "max": "5" }, { "min": "0.8" }]),
        ),
        ("limit.min", json!(["0.1", "0.8", "1"])),
        ("limit.max", json!(["0", "0.2", "10.25"])),
        ("min", json!(["-3", "0", "0.5"])),
        ("max", json!(["1", "5", "10.25"])),
        ("requests{}", json!(["10m", "1", "1.5"])),
        ("limits{}", json!(["2", "4Gi"])),
    ]
}

/// The values of a property that the table knows.
pub fn semantic(at: &Path) -> Option<BoxedStrategy<Value>> {
    let text = at.to_string();
    let ends = |end: &str| text == end || text.strip_suffix(end).is_some_and(|before| before.ends_with('.'));
    let (_, values) = table().into_iter().find(|(end, _)| ends(end))?;
    Some(select(values.as_array().cloned().unwrap_or_default()).boxed())
}

/// Ends of paths that no property has: what was renamed in a schema must be renamed here.
pub fn unused(paths: &[Path]) -> Vec<&'static str> {
    let texts: Vec<String> = paths.iter().map(Path::to_string).collect();
    let used = |end: &str| {
        let fits = |t: &String| t == end || t.strip_suffix(end).is_some_and(|before| before.ends_with('.'));
        texts.iter().any(fits)
    };
    let all = table().into_iter().map(|(end, _)| end);
    // Items and values of maps are no properties of their own.
    all.filter(|end| !end.ends_with("{}") && !used(end)).collect()
}
