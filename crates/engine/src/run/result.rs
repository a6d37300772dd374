//! Reading a stage's result: everything that is wrong with it is found here, before it reaches a status or a gate.

use flywheel_api::flywheel_run::StageOutcome;
use flywheel_api::schema::{Decimal, Digest, Uri};
use flywheel_api::stage::StageType;
use flywheel_api::stage_contract::{
    Artifact, ArtifactType, Attestations, Dropped, GroupTable, MAX_RESULT_BYTES, Metric, MetricBaseline,
    STAGE_API_VERSION, StageResult, WireBaseline, WireGroups, WireMetric,
};
use serde_json::Value;

/// What a stage has to report.
pub struct Expected<'a> {
    /// `<run uid>/<stage>/<attempt>`.
    pub id: &'a str,
    /// Type of the stage.
    pub type_: StageType,
    /// Where its artifacts must lie.
    pub output: &'a Uri,
}

/// What a stage reported, in the form that is kept; else a sentence that says what is wrong with it.
pub fn read(message: &str, expected: &Expected<'_>) -> Result<StageOutcome, String> {
    let result = parse(message)?;
    if result.id != expected.id {
        return Err(format!(
            "id is {:?}, this attempt is {:?}: repeat the id of the stage file",
            shown(&result.id),
            expected.id
        ));
    }
    let too_many = result.artifacts.len() > 16 || result.metrics.len() > 64 || result.groups.len() > 16;
    if too_many {
        return Err("at most 16 artifacts, 64 metrics and 16 tables of groups are allowed".to_owned());
    }
    result.artifacts.iter().try_for_each(|a| artifact(a, expected.output))?;
    unique("artifacts", result.artifacts.iter().map(|a| a.name.as_str()))?;
    unique("metrics", result.metrics.iter().map(|m| m.name.as_str()))?;
    unique_tables(&result.groups)?;
    if expected.type_ == StageType::Train {
        one_model(&result.artifacts)?;
    }
    result.attestations.iter().try_for_each(attestations)?;
    Ok(StageOutcome {
        metrics: result.metrics.iter().map(metric).collect::<Result<_, _>>()?,
        groups: result.groups.iter().map(groups).collect::<Result<_, _>>()?,
        artifacts: result.artifacts,
        attestations: result.attestations,
    })
}

/// The message as a result of the version that is understood.
fn parse(message: &str) -> Result<StageResult, String> {
    if message.len() > MAX_RESULT_BYTES {
        return Err(format!(
            "the result has {} bytes, {MAX_RESULT_BYTES} are allowed: report larger things as artifacts",
            message.len()
        ));
    }
    let result: StageResult =
        serde_json::from_str(message).map_err(|e| format!("the result is no valid JSON of the stage contract: {e}"))?;
    if result.api_version != STAGE_API_VERSION {
        return Err(format!(
            "apiVersion is {:?}, {STAGE_API_VERSION:?} is understood",
            shown(&result.api_version)
        ));
    }
    Ok(result)
}

fn unique_tables(tables: &[WireGroups]) -> Result<(), String> {
    let mut seen = std::collections::BTreeSet::new();
    match tables.iter().find(|g| !seen.insert((&g.metric, &g.attribute))) {
        None => Ok(()),
        Some(twice) => Err(format!(
            "groups of {} by {} are reported twice: report each table once",
            shown(&twice.metric),
            shown(&twice.attribute)
        )),
    }
}

fn one_model(artifacts: &[Artifact]) -> Result<(), String> {
    match artifacts.iter().filter(|a| a.type_ == ArtifactType::Model).count() {
        1 => Ok(()),
        models => Err(format!(
            "a stage of type Train reports exactly one artifact of type Model, this one reported {models}"
        )),
    }
}

fn attestations(a: &Attestations) -> Result<(), String> {
    let fine = |d: &Dropped| named(&d.reason) && (0..=1_000_000_000_000).contains(&d.count);
    if a.dropped.len() > 32 || !a.dropped.iter().all(fine) {
        return Err(
            "attestations.dropped needs at most 32 reasons of 1 to 63 characters with counts from 0".to_owned(),
        );
    }
    Ok(())
}

fn shown(text: &str) -> String {
    crate::standing::shorten(text, 80)
}

fn named(text: &str) -> bool {
    (1..=63).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !named(name) {
            return Err(format!(
                "{what} need names of 1 to 63 characters, {:?} is none",
                shown(name)
            ));
        }
        if !seen.insert(name) {
            return Err(format!("{what} has {name:?} twice"));
        }
    }
    Ok(())
}

fn artifact(a: &Artifact, output: &Uri) -> Result<(), String> {
    let name = &a.name;
    let fits = name.len() <= 40
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && !name.ends_with('-')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !fits {
        return Err(format!(
            "artifact name {:?} must be lower case letters, digits and hyphens, at most 40",
            shown(name)
        ));
    }
    let below = a
        .uri
        .as_str()
        .strip_prefix(output.as_str())
        .is_some_and(|rest| rest.starts_with('/') && rest.len() > 1);
    let clean = !a.uri.as_str().split('/').any(|s| s == "..") && a.uri.as_str().len() <= 1024;
    if !below || !clean || !a.uri.as_str().chars().all(uri_character) {
        return Err(format!(
            "artifact {name}: uri {:?} must lie below the attempt's output {output}",
            shown(a.uri.as_str())
        ));
    }
    if !is_digest(&a.digest) {
        return Err(format!(
            "artifact {name}: digest {:?} must be sha256: and 64 hexadecimal digits",
            shown(a.digest.as_str())
        ));
    }
    let sizes = a.size_bytes.is_none_or(|n| (0..=1_000_000_000_000_000).contains(&n))
        && a.records.is_none_or(|n| (0..=1_000_000_000_000).contains(&n));
    if !sizes {
        return Err(format!("artifact {name}: sizeBytes and records must not be negative"));
    }
    Ok(())
}

fn uri_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._:@/+=-".contains(c)
}

fn is_digest(digest: &Digest) -> bool {
    digest
        .as_str()
        .strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c)))
}

/// The number as it is kept and judged; `scale` is the largest of the metric's numbers.
fn decimal(what: &str, value: f64, scale: f64) -> Result<Decimal, String> {
    let kept =
        Decimal::from_f64(value).ok_or_else(|| format!("{what}: {value} is no number of less than 16 digits"))?;
    // Beside the other numbers it may be the noise of their computation, and then 0 is right.
    if kept.as_str() == "0" && value.abs() > 1e-9 * scale {
        return Err(format!(
            "{what}: {value:e} would be 0 with the 12 digits after the point that are kept: report it in a larger unit"
        ));
    }
    Ok(kept)
}

/// The largest of the numbers of a metric, whatever their signs.
fn largest(numbers: &[Option<f64>]) -> f64 {
    numbers.iter().flatten().fold(0.0, |most, n| n.abs().max(most))
}

fn metric(m: &WireMetric) -> Result<Metric, String> {
    let what = format!("metric {}", m.name);
    let scale = largest(&[Some(m.value), m.low, m.high, m.baseline.as_ref().map(|b| b.value)]);
    let (low, high) = interval(&what, m.value, m.low, m.high, scale)?;
    if m.samples.is_some_and(|s| s < 0) {
        return Err(format!("{what}: samples must not be negative"));
    }
    Ok(Metric {
        name: m.name.clone(),
        value: decimal(&what, m.value, scale)?,
        samples: m.samples,
        low,
        high,
        level: m.level.map(|l| level(&what, l)).transpose()?,
        baseline: m
            .baseline
            .as_ref()
            .map(|b| baseline(&what, m.value, b, scale))
            .transpose()?,
    })
}

fn level(what: &str, value: f64) -> Result<Decimal, String> {
    if value > 0.0 && value < 1.0 {
        return decimal(what, value, value);
    }
    Err(format!("{what}: level {value} must lie between 0 and 1, such as 0.95"))
}

type Bounds = (Option<Decimal>, Option<Decimal>);

fn interval(what: &str, value: f64, low: Option<f64>, high: Option<f64>, scale: f64) -> Result<Bounds, String> {
    match (low, high) {
        (None, None) => Ok((None, None)),
        (Some(low), Some(high)) if low <= value && value <= high => {
            Ok((Some(decimal(what, low, scale)?), Some(decimal(what, high, scale)?)))
        }
        (Some(low), Some(high)) => Err(format!(
            "{what}: the interval [{low}, {high}] does not hold the value {value}"
        )),
        _ => Err(format!("{what}: an interval needs both low and high")),
    }
}

fn baseline(what: &str, value: f64, b: &WireBaseline, scale: f64) -> Result<MetricBaseline, String> {
    if b.version.is_empty() || b.version.len() > 253 {
        return Err(format!("{what}: baseline.version must be the name of the live version"));
    }
    let expected = value - b.value;
    // Rounding in the stage's own output is fine, and a little noise; another sign or scale is not.
    let tolerance = 1e-3 * value.abs().max(b.value.abs()) + rounding([value, b.value, b.difference]);
    let far = (expected - b.difference).abs() > tolerance;
    // Rounding never turns a sign: an interval on the other side of zero is that of the opposite difference.
    let opposite = (b.low > 0.0 && expected < 0.0) || (b.high < 0.0 && expected > 0.0);
    if far || opposite {
        return Err(format!(
            "{what}: baseline.difference is {}, value minus baseline is {expected}",
            b.difference
        ));
    }
    let (low, high) = interval(
        &format!("{what}, paired difference"),
        b.difference,
        Some(b.low),
        Some(b.high),
        scale,
    )?;
    Ok(MetricBaseline {
        version: b.version.clone(),
        value: decimal(what, b.value, scale)?,
        difference: decimal(what, b.difference, scale)?,
        low: low.unwrap_or_default(),
        high: high.unwrap_or_default(),
    })
}

/// How far the three numbers of a difference can be apart by being rounded to the digits that they were reported with,
/// by half a unit of the last digit each.
fn rounding(numbers: [f64; 3]) -> f64 {
    let after_the_point = |n: &f64| n.to_string().split_once('.').map_or(0, |(_, digits)| digits.len());
    let digits = numbers.iter().map(after_the_point).max().unwrap_or(0);
    let unit = 10_f64.powi(-i32::try_from(digits).unwrap_or(i32::MAX));
    // Whole numbers may be counts: these are not rounded.
    (1.5 * unit).min(1e-3)
}

/// Columns that a table of groups may have.
const COLUMNS: [&str; 9] = [
    "group",
    "value",
    "samples",
    "low",
    "high",
    "baseline",
    "difference",
    "differenceLow",
    "differenceHigh",
];

fn groups(g: &WireGroups) -> Result<GroupTable, String> {
    let what = format!("groups of {} by {}", shown(&g.metric), shown(&g.attribute));
    if !named(&g.metric) || !named(&g.attribute) {
        return Err(format!("{what}: metric and attribute need 1 to 63 characters"));
    }
    if let Some(unknown) = g.columns.iter().find(|c| !COLUMNS.contains(&c.as_str())) {
        return Err(format!(
            "{what}: unknown column {:?}, known are {}",
            shown(unknown),
            COLUMNS.join(", ")
        ));
    }
    unique(&format!("{what}: columns"), g.columns.iter().map(String::as_str))?;
    if let Some(missing) = COLUMNS
        .iter()
        .take(3)
        .find(|c| !g.columns.iter().any(|have| have == *c))
    {
        return Err(format!("{what}: the column {missing} is required"));
    }
    if g.rows.len() > 32 {
        return Err(format!("{what}: {} rows, at most 32 are allowed", g.rows.len()));
    }
    let level = g.level.map(|l| level(&what, l)).transpose()?;
    let rows = g
        .rows
        .iter()
        .map(|r| row(&what, &g.columns, r, level.as_ref()))
        .collect::<Result<Vec<_>, _>>()?;
    unique(&what, rows.iter().map(|r| r.name.as_str()))?;
    Ok(GroupTable {
        attribute: g.attribute.clone(),
        metric: g.metric.clone(),
        groups: rows,
    })
}

fn row(what: &str, columns: &[String], cells: &[Value], level: Option<&Decimal>) -> Result<Metric, String> {
    if cells.len() != columns.len() {
        return Err(format!(
            "{what}: a row has {} cells, there are {} columns",
            cells.len(),
            columns.len()
        ));
    }
    let row = Row {
        table: what,
        columns,
        cells,
    };
    let group = row
        .cell("group")
        .and_then(Value::as_str)
        .ok_or_else(|| format!("{what}: group must be a text"))?;
    let what = format!("{what}, group {}", shown(group));
    let value = row
        .number("value")?
        .ok_or_else(|| format!("{what}: value is missing"))?;
    let samples = row.cell("samples").and_then(Value::as_i64).filter(|s| *s >= 0);
    let samples = samples.ok_or_else(|| format!("{what}: samples must be a whole number from 0"))?;
    let (low, high) = (row.number("low")?, row.number("high")?);
    let scale = largest(&[Some(value), low, high, row.number("baseline")?]);
    let (low, high) = interval(&what, value, low, high, scale)?;
    let baseline = row.baseline(&what, value, scale)?;
    Ok(Metric {
        name: group.to_owned(),
        value: decimal(&what, value, scale)?,
        samples: Some(samples),
        low,
        high,
        level: level.cloned(),
        baseline,
    })
}

/// One row of a table of groups, as many cells as columns.
struct Row<'a> {
    /// The table's name in sentences.
    table: &'a str,
    columns: &'a [String],
    cells: &'a [Value],
}

impl<'a> Row<'a> {
    /// The cell of a column, unless it is empty.
    fn cell(&self, column: &str) -> Option<&'a Value> {
        self.columns
            .iter()
            .zip(self.cells)
            .find(|(c, _)| *c == column)
            .map(|(_, v)| v)
            .filter(|v| !v.is_null())
    }

    fn number(&self, column: &str) -> Result<Option<f64>, String> {
        match self.cell(column) {
            None => Ok(None),
            Some(v) => v
                .as_f64()
                .map(Some)
                .ok_or_else(|| format!("{}: {column} must be a number, found {v}", self.table)),
        }
    }

    /// The paired comparison with the live version, whose name a table does not repeat.
    fn baseline(&self, what: &str, value: f64, scale: f64) -> Result<Option<MetricBaseline>, String> {
        let paired = [
            self.number("baseline")?,
            self.number("difference")?,
            self.number("differenceLow")?,
            self.number("differenceHigh")?,
        ];
        match paired {
            [None, None, None, None] => Ok(None),
            [Some(base), Some(difference), Some(low), Some(high)] => {
                let wire = WireBaseline {
                    version: "live".to_owned(),
                    value: base,
                    difference,
                    low,
                    high,
                };
                Ok(Some(MetricBaseline {
                    version: String::new(),
                    ..baseline(what, value, &wire, scale)?
                }))
            }
            _ => Err(format!(
                "{what}: baseline, difference, differenceLow and differenceHigh belong together"
            )),
        }
    }
}
