//! The turns of the loop: the demo asks for runs, plays the reviewer and the travellers, and watches.
//!
//! Every decision is the operator's. If one ends otherwise than the story says, the demo says so and fails.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use serde_json::Value;

use super::bars::{Bar, Bars};
use super::kube::{Kube, name, text};
use super::story::{Ending, REVIEWER, Turn};
use super::traffic::{self, Second, Travellers};
use super::watch::{self, Snapshot};

/// Longest time for one turn.
const PATIENCE: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(800);

/// A turn that has ended.
#[derive(Debug)]
pub struct Ended {
    /// What was told.
    pub turn: Turn,
    /// The run at its end.
    pub run: Value,
    /// The Rollout at its end, if there was one.
    pub rollout: Option<Value>,
    /// The version that was made.
    pub version: Option<Value>,
    /// What the travellers saw in the meantime.
    pub seconds: Vec<Second>,
    /// Seconds from the first traffic on the candidate to its last, if it was rolled back.
    pub exposed: Option<f64>,
}

impl Ended {
    /// Name of the version.
    pub fn version_name(&self) -> &str {
        text(&self.run, "/status/modelVersion/name")
    }

    /// The operator's own sentence about the end.
    pub fn reason(&self) -> &str {
        let rollout = self.rollout.as_ref().map_or("", |r| text(r, "/status/outcomeReason"));
        match self.turn.ending {
            Ending::RolledBack if !rollout.is_empty() => rollout,
            _ => text(&self.run, "/status/outcomeReason"),
        }
    }
}

/// Plays one turn to its end.
pub fn turn(kube: &Kube, bars: &Bars, turn: &Turn, folder: &Path) -> Result<Ended> {
    bars.say(&format!("WEEK {}. {}", turn.week, turn.before));
    // The trips of the week that follows: no model has seen them.
    let travellers = Travellers::depart(kube, turn.week + 1, folder)?;
    kube.apply(&format!("{}.yaml", turn.run()))?;
    let mut stage = Stage {
        kube,
        bars,
        turn,
        approved: false,
        first_traffic: None,
        bar: bars.begin(&format!("kubectl apply -f week-{:02}.yaml", turn.week)),
    };
    let snapshot = stage.watch()?;
    let exposed = stage.exposed(&snapshot);
    drop(stage);
    let run = snapshot.run(&turn.run()).cloned().context("the run is gone")?;
    let seconds = travellers.arrive(kube)?;
    let ended = Ended {
        turn: *turn,
        rollout: snapshot.rollout_of(&run).cloned(),
        version: snapshot.version_of(&run).cloned(),
        run,
        seconds,
        exposed,
    };
    verify(&ended)?;
    bars.say(&format!("     {}", headline(&ended)));
    Ok(ended)
}

/// One sentence and one number about the end of a turn.
pub fn headline(ended: &Ended) -> String {
    let version = ended.version_name();
    let (requests, failed) = traffic::count(&ended.seconds);
    let served = format!("{requests} requests, {failed} failed");
    match ended.turn.ending {
        Ending::Promoted => {
            let metric = watch::metric(&ended.run);
            let number = watch::short(metric.map_or("", |m| text(m, "/value")));
            match metric.map_or("", |m| text(m, "/baseline/difference")) {
                "" => format!("{version} is live: {number} min off on flights it had not seen; {served}"),
                gain => format!(
                    "{version} is live: {} min on the same flights; {served}",
                    watch::signed(gain)
                ),
            }
        }
        Ending::RefusedByGate => format!("{version} was refused. {}", ended.reason()),
        Ending::RefusedByPolicy => format!("{version} was stopped. {}", ended.reason()),
        Ending::RolledBack => format!(
            "{version} was rolled back after {:.0} s of traffic{}; {served}. {}",
            ended.exposed.unwrap_or_default(),
            beside(ended, version),
            ended.reason()
        ),
    }
}

/// What the travellers felt of a version, and of the one beside it.
fn beside(ended: &Ended, version: &str) -> String {
    let live = ended
        .rollout
        .as_ref()
        .map_or("", |r| text(r, "/status/baseline/version"));
    let errors = (
        traffic::error_of(&ended.seconds, version),
        traffic::error_of(&ended.seconds, live),
    );
    let (Some((error, answers)), Some((before, _))) = errors else {
        return String::new();
    };
    format!(", {error:.1} min off on {answers} trips where {live} was {before:.1} min off")
}

struct Stage<'a> {
    kube: &'a Kube,
    bars: &'a Bars,
    turn: &'a Turn,
    approved: bool,
    first_traffic: Option<f64>,
    bar: Bar,
}

impl Stage<'_> {
    fn watch(&mut self) -> Result<Snapshot> {
        let end = Instant::now() + PATIENCE;
        loop {
            let snapshot = Snapshot::take(self.kube)?;
            self.bar.table(&snapshot.table());
            if let Some(run) = snapshot.run(&self.turn.run()) {
                self.approve(run)?;
                if self.is_over(run, snapshot.rollout_of(run)) {
                    return Ok(snapshot);
                }
                if let Some(rollout) = snapshot.rollout_of(run) {
                    let weight = rollout.pointer("/status/weights/actual").and_then(Value::as_i64);
                    if weight.is_some_and(|w| w > 0) && self.first_traffic.is_none() {
                        self.first_traffic = moment(text(rollout, "/status/step/enteredAt"));
                    }
                }
            }
            if Instant::now() > end {
                bail!(
                    "week {} did not end in {} s: look with `kubectl flywheel explain run {} -n {}`",
                    self.turn.week,
                    PATIENCE.as_secs(),
                    self.turn.run(),
                    self.kube.namespace
                );
            }
            thread::sleep(LOOK);
        }
    }

    /// The reviewer approves what waits, once, with the plugin and her own rights.
    fn approve(&mut self, run: &Value) -> Result<()> {
        if self.approved || text(run, "/status/waitingFor/gate").is_empty() || self.turn.reason.is_empty() {
            return Ok(());
        }
        self.approved = true;
        let version = text(run, "/status/modelVersion/name");
        self.bars.say(&format!(
            "     {REVIEWER} (played by the demo): kubectl flywheel approve modelversion {version} --reason \"{}\"",
            self.turn.reason
        ));
        let args = ["approve", "modelversion", version, "--reason", self.turn.reason];
        self.kube.as_reviewer(&args).map(drop)
    }

    /// A promoted version is watched to the end of its observation, so that the next turn begins in peace.
    fn is_over(&self, run: &Value, rollout: Option<&Value>) -> bool {
        match rollout {
            None => !text(run, "/status/outcome").is_empty(),
            Some(rollout) => !text(run, "/status/outcome").is_empty() && !text(rollout, "/status/outcome").is_empty(),
        }
    }

    fn exposed(&self, snapshot: &Snapshot) -> Option<f64> {
        let run = snapshot.run(&self.turn.run())?;
        let rollout = snapshot.rollout_of(run)?;
        if text(rollout, "/status/outcome") != "RolledBack" {
            return None;
        }
        let decisions = rollout.pointer("/status/decisions")?.as_array()?;
        let back = decisions.iter().find(|d| text(d, "/decision") == "RollBack");
        let back = back.and_then(|d| moment(text(d, "/at")));
        let end = back.or_else(|| moment(text(rollout, "/status/finishedAt")))?;
        Some(end - self.first_traffic?)
    }
}

/// Seconds since 1970 of a moment in an object.
#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit into 52 bits")]
pub fn moment(text: &str) -> Option<f64> {
    let parsed: Timestamp = text.parse().ok()?;
    Some(parsed.as_millisecond() as f64 / 1000.0)
}

/// The story must be true.
fn verify(ended: &Ended) -> Result<()> {
    let outcome = text(&ended.run, "/status/outcome");
    let delivered = ended.rollout.as_ref().map_or("", |r| text(r, "/status/outcome"));
    let failed = |pointer: &str| {
        let all = ended.run.pointer(pointer).and_then(Value::as_array);
        all.into_iter().flatten().any(|v| text(v, "/verdict") == "Fail")
    };
    let gate_failed = failed("/status/gates");
    let true_story = match ended.turn.ending {
        Ending::Promoted => outcome == "Promoted" && delivered == "Promoted",
        Ending::RefusedByGate => outcome == "Rejected" && gate_failed,
        Ending::RefusedByPolicy => outcome == "Rejected" && !gate_failed && failed("/status/bias"),
        Ending::RolledBack => delivered == "RolledBack",
    };
    if !true_story {
        bail!(
            "the story of {} does not hold: {:?} was expected, the run ended {outcome} and its rollout {delivered}: {}",
            name(&ended.run),
            ended.turn.ending,
            ended.reason()
        );
    }
    let (requests, failed) = traffic::count(&ended.seconds);
    if failed > 0 {
        let reasons: Vec<_> = ended.seconds.iter().flat_map(|s| &s.reasons).take(3).collect();
        bail!(
            "{failed} of {requests} requests of week {} failed: {reasons:?}",
            ended.turn.week
        );
    }
    Ok(())
}
