//! I18: the level that a decision records was in force, and is never raised again within a run.
//!
//! Judged is every decision that the operator adds to the status of a run or a Rollout, and the level that a pipeline's
//! status calls effective: none is freer than what the pipeline's spec and the caps of the policies that apply allowed
//! in the moments before. The level that a run's status holds never becomes freer.
//!
//! The administrator's ceiling is a setting of the operator and no object of the history: that a level keeps below it is
//! not judged. Nor is that who raised a level was allowed to, which the API server decides.

use flywheel_api::names;

use super::json::{label, list, text, uid};
use super::levels::Levels;
use super::tables::freedom;
use super::{Finding, Kind, Rule, Step, World};

const I18: &str = "I18";

/// Levels in force.
#[derive(Debug, Default)]
pub struct InForce {
    levels: Levels,
}

impl Rule for InForce {
    fn step(&mut self, world: &World, step: &Step) -> Vec<Finding> {
        self.levels.step(world, step);
        if !step.operator || step.subresource != "status" || step.after.is_none() {
            return Vec::new();
        }
        let object = step.later();
        let found = match step.key.kind {
            Kind::Pipeline => {
                let level = text(object, "/status/effectiveLevel/level");
                self.freer(step, &[uid(object)], "as effective", level)
            }
            Kind::Run => self.decided(step, &pipelines(world, step)).or_else(|| raised(step)),
            Kind::Rollout => self.decided(step, &[text(object, "/spec/pipelineRef/uid")]),
            _ => None,
        };
        found.map(|message| Finding::new(I18, message)).into_iter().collect()
    }
}

impl InForce {
    /// A decision that is new in this write, at a level that was not in force.
    fn decided(&self, step: &Step, pipelines: &[&str]) -> Option<String> {
        let old = list(step.earlier(), "/status/decisions");
        let mut new = list(step.later(), "/status/decisions")
            .iter()
            .filter(|d| !old.contains(d));
        new.find_map(|d| {
            let what = format!("for decision {}", text(d, "/decision"));
            self.freer(step, pipelines, &what, text(d, "/level"))
        })
    }

    fn freer(&self, step: &Step, pipelines: &[&str], what: &str, used: &str) -> Option<String> {
        let known = pipelines.iter().filter_map(|uid| self.levels.freest(uid, &step.at));
        let freest = known.max_by_key(|level| freedom(level))?;
        let message = || {
            format!(
                "{} records level {used} {what}, but at most {freest} was in force",
                step.key
            )
        };
        (!used.is_empty() && freedom(used) > freedom(freest)).then(message)
    }
}

/// UIDs of the pipeline that a run began with, of the one that it belongs to, and of the one that has that name now.
fn pipelines<'a>(world: &'a World, step: &'a Step) -> [&'a str; 3] {
    let run = step.later();
    let named = world.named(Kind::Pipeline, &step.key.namespace, text(run, "/spec/pipelineRef/name"));
    [
        text(run, "/status/pipelineUid"),
        label(run, names::LABEL_PIPELINE_UID),
        named.map_or("", |p| uid(p)),
    ]
}

fn raised(step: &Step) -> Option<String> {
    let [was, is] = [step.earlier(), step.later()].map(|o| text(o, "/status/level"));
    let message = || format!("the level of {} rises from {was} to {is}", step.key);
    (!was.is_empty() && !is.is_empty() && freedom(is) > freedom(was)).then(message)
}
