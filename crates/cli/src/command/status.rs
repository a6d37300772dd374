//! `status`: for scripts, how something stands as an exit code.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use serde::Serialize;

use super::{DONE, document, length, print, watch};
use crate::args::{Form, Status};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::paper::Tone;
use crate::subject::{Kind, Subject};
use crate::words::{self, Standing, standing};
use crate::world::{World, rollout_status, status};

/// What `status` may be about.
const ACCEPTED: [Kind; 4] = [Kind::Pipeline, Kind::Run, Kind::Version, Kind::Rollout];
/// It ended badly, or cannot go on without a change from outside.
const BAD: u8 = 3;
/// It has not ended.
const OPEN: u8 = 4;

#[derive(Serialize)]
struct Answer<'a> {
    kind: &'a str,
    name: &'a str,
    state: &'a str,
    message: &'a str,
    code: u8,
}

/// Prints one line and answers with its code; with `--wait` when it has ended.
pub async fn run(cluster: &Cluster, args: &Status) -> Result<u8, Error> {
    let subject = Subject::parse(&args.subject, &ACCEPTED, None)?;
    let line = |world: &World| {
        let stands = stands(world, &subject)?;
        let code = code(&stands);
        let answer = Answer {
            kind: subject.kind.word(),
            name: &subject.name,
            state: &stands.reason,
            message: &stands.message,
            code,
        };
        match args.output.form {
            Form::Table => Ok(format!("{} {}\n", stands.reason, stands.message)),
            Form::Name => Ok(format!("{}\n", stands.reason)),
            Form::Json | Form::Yaml => document(&answer, args.output.form),
        }
    };
    if let Some(wait) = &args.wait {
        let seconds = length("wait", wait)?;
        let ended = |world: &World| stands(world, &subject).is_ok_and(|s| code(&s) != OPEN);
        let mut last = String::new();
        let keep = |world: &World| {
            last = line(world)?;
            Ok(String::new())
        };
        watch::draw(cluster, Some(seconds), keep, ended).await?;
        print(&last)?;
        return Ok(code(&stands(&World::fetch(cluster).await?, &subject)?));
    }
    let world = World::fetch(cluster).await?;
    print(&line(&world)?)?;
    Ok(code(&stands(&world, &subject)?))
}

fn stands(world: &World, subject: &Subject) -> Result<Standing, Error> {
    let name = &subject.name;
    Ok(match subject.kind {
        Kind::Pipeline => {
            let found = world.pipeline(name)?;
            let own = found.status.clone().unwrap_or_default();
            current(&found.metadata, own.observed_generation, &own.conditions)
        }
        Kind::Run => {
            let found = world.run(name)?;
            let own = status(found);
            current(&found.metadata, own.observed_generation, &own.conditions)
        }
        Kind::Rollout => {
            let found = world.rollout(name)?;
            let own = rollout_status(found);
            current(&found.metadata, own.observed_generation, &own.conditions)
        }
        _ => {
            let found = world.version(name)?;
            let own = found.status.clone().unwrap_or_default();
            let (tone, state) = words::of_state(own.state);
            let stands = standing(&found.metadata, own.observed_generation, &own.conditions);
            Standing {
                tone,
                reason: state.to_owned(),
                ..stands
            }
        }
    })
}

/// Where an object stands; nothing is said before the operator has looked at the last change.
fn current(metadata: &ObjectMeta, observed: i64, conditions: &[Condition]) -> Standing {
    let stands = standing(metadata, observed, conditions);
    if observed < 0 || metadata.generation.is_none_or(|generation| generation <= observed) {
        return stands;
    }
    Standing {
        tone: Tone::Busy,
        reason: "Reconciling".to_owned(),
        message: "The operator has not looked at the last change yet.".to_owned(),
        ..stands
    }
}

/// What the exit code says.
fn code(stands: &Standing) -> u8 {
    match stands.tone {
        Tone::Good | Tone::Quiet => DONE,
        Tone::Bad => BAD,
        Tone::Waits | Tone::Busy | Tone::Plain | Tone::Strong => OPEN,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::scenes;

    #[rstest]
    #[case::serves(scenes::quiet(), Kind::Version, "eta-6", DONE)]
    #[case::idle(scenes::quiet(), Kind::Pipeline, "eta", DONE)]
    #[case::waits(scenes::waiting(), Kind::Run, "eta-7", OPEN)]
    #[case::on_its_way(scenes::rolling_out(), Kind::Rollout, "eta-7", OPEN)]
    #[case::refused(scenes::refused(true, false), Kind::Run, "eta-7", BAD)]
    #[case::rejected(scenes::refused(true, false), Kind::Version, "eta-7", BAD)]
    #[case::went_back(scenes::rolled_back(), Kind::Rollout, "eta-7", BAD)]
    #[case::braked(scenes::braked(), Kind::Pipeline, "eta", OPEN)]
    fn scripts_learn_from_the_exit_code(
        #[case] world: World,
        #[case] kind: Kind,
        #[case] name: &str,
        #[case] expected: u8,
    ) {
        let subject = Subject {
            kind,
            name: name.to_owned(),
        };
        assert_eq!(code(&stands(&world, &subject).unwrap()), expected);
    }

    #[test]
    fn a_rollback_that_was_just_asked_for_is_not_answered_with_the_old_end() {
        let mut world = scenes::quiet();
        world.rollouts[0].metadata.generation = Some(2);
        let subject = Subject {
            kind: Kind::Rollout,
            name: "eta-6".to_owned(),
        };
        assert_eq!(code(&stands(&world, &subject).unwrap()), OPEN);
    }
}
