//! The automation level: who decides what. One table, rendered into the docs.

use flywheel_api::flywheel_pipeline::EffectiveLevel;
use flywheel_api::names::ANNOTATION_LEVEL;
use flywheel_api::reference::AutomationLevel;
use flywheel_api::stage::StageType;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Something that is decided by the machine or by a person, depending on the level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A run starts because a trigger fired.
    StartRun,
    /// A stage of this type starts.
    StartStage(StageType),
    /// A version that passed its gates is delivered.
    Promote,
    /// A rollout leaves a step.
    NextStep,
    /// A rollout goes back because a check failed.
    RollBack,
}

/// Who takes a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// The machine, by itself.
    Machine,
    /// A person: an Approval is waited for (for `RollBack`: the machine holds and recommends).
    Person,
    /// Nobody: it happens only when a person asks for it by other means (a FlywheelRun of her own).
    OnRequest,
}

/// The rows of the table that the docs show, in the order of the loop.
pub const STEPS: [(Step, &str); 9] = [
    (Step::StartRun, "start a run on a trigger"),
    (Step::StartStage(StageType::Collect), "collect, filter"),
    (Step::StartStage(StageType::Label), "label"),
    (Step::StartStage(StageType::Custom), "custom stage"),
    (Step::StartStage(StageType::Train), "train"),
    (Step::StartStage(StageType::Evaluate), "evaluate, check bias"),
    (Step::Promote, "start the rollout"),
    (Step::NextStep, "next step, full promotion"),
    (Step::RollBack, "roll back when a check fails"),
];

/// All levels, from the strictest to the freest.
pub const LEVELS: [AutomationLevel; 4] = [
    AutomationLevel::Manual,
    AutomationLevel::SemiAutomated,
    AutomationLevel::HumanOversight,
    AutomationLevel::FullyAutomated,
];

/// Who decides this step at this level.
#[must_use]
pub const fn who(level: AutomationLevel, step: Step) -> Who {
    use AutomationLevel::{FullyAutomated, HumanOversight, Manual, SemiAutomated};
    match (step, level) {
        (Step::StartRun | Step::StartStage(_), Manual) => Who::OnRequest,
        (Step::StartStage(StageType::Train), SemiAutomated) => Who::Person,
        (Step::StartRun | Step::StartStage(_), SemiAutomated | HumanOversight | FullyAutomated) => Who::Machine,
        (Step::Promote, Manual | SemiAutomated | HumanOversight) => Who::Person,
        (Step::NextStep | Step::RollBack, Manual) => Who::Person,
        (Step::Promote, FullyAutomated) => Who::Machine,
        (Step::NextStep | Step::RollBack, SemiAutomated | HumanOversight | FullyAutomated) => Who::Machine,
    }
}

/// The level in force: the minimum of what the pipeline asks for, the administrator's ceiling and the caps of its bias
/// policies, with the reason `Spec`, `AdministratorCeiling` or `BiasPolicyCap`.
#[must_use]
pub fn effective(spec: AutomationLevel, ceiling: AutomationLevel, caps: &[AutomationLevel]) -> EffectiveLevel {
    let cap = caps.iter().copied().min().unwrap_or(AutomationLevel::FullyAutomated);
    let (level, reason) = if spec <= ceiling && spec <= cap {
        (spec, "Spec")
    } else if ceiling <= cap {
        (ceiling, "AdministratorCeiling")
    } else {
        (cap, "BiasPolicyCap")
    };
    EffectiveLevel {
        level,
        reason: reason.to_owned(),
    }
}

/// The lowest level at which an object decided, as it stands beside its status, which may be lost.
pub(crate) fn noted(object: &ObjectMeta) -> Option<AutomationLevel> {
    let noted = object.annotations.as_ref()?.get(ANNOTATION_LEVEL)?;
    LEVELS.into_iter().find(|level| level.name() == noted.as_str())
}

/// The table as Markdown, for the documentation.
#[must_use]
pub fn markdown() -> String {
    let header = LEVELS.iter().map(|l| l.name()).collect::<Vec<_>>().join(" | ");
    let mut text = format!("| Decision | {header} |\n| --- | --- | --- | --- | --- |\n");
    for (step, name) in STEPS {
        let cells = LEVELS.map(|level| match (who(level, step), step) {
            (Who::Machine, _) => "machine",
            (Who::Person, Step::RollBack) => "person (recommended)",
            (Who::Person, _) => "person",
            (Who::OnRequest, _) => "on request",
        });
        text.push_str(&format!("| {name} | {} |\n", cells.join(" | ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stricter_level_never_gives_the_machine_more() {
        for (step, name) in STEPS {
            let machine: Vec<bool> = LEVELS.iter().map(|l| who(*l, step) == Who::Machine).collect();
            assert!(machine.is_sorted(), "{name}: {machine:?}");
        }
    }

    #[test]
    fn the_effective_level_is_the_minimum_and_names_its_reason() {
        use AutomationLevel::{FullyAutomated, HumanOversight, Manual};
        let full = effective(FullyAutomated, FullyAutomated, &[]);
        assert_eq!((full.level, full.reason.as_str()), (FullyAutomated, "Spec"));
        let ceiling = effective(FullyAutomated, HumanOversight, &[]);
        assert_eq!(
            (ceiling.level, ceiling.reason.as_str()),
            (HumanOversight, "AdministratorCeiling")
        );
        let cap = effective(FullyAutomated, HumanOversight, &[HumanOversight, Manual]);
        assert_eq!((cap.level, cap.reason.as_str()), (Manual, "BiasPolicyCap"));
    }

    #[test]
    fn every_level_is_read_as_it_is_noted_and_nothing_else_is_a_level() {
        let noted = |text: &str| {
            let annotations = [(ANNOTATION_LEVEL.to_owned(), text.to_owned())];
            noted(&ObjectMeta {
                annotations: Some(annotations.into_iter().collect()),
                ..ObjectMeta::default()
            })
        };
        for level in LEVELS {
            assert_eq!(noted(level.name()), Some(level));
        }
        assert_eq!(noted("manual"), None);
        assert_eq!(super::noted(&ObjectMeta::default()), None);
    }

    #[test]
    fn the_levels_are_the_matrix_of_the_documentation() {
        insta::assert_snapshot!(markdown(), @r"
        | Decision | Manual | SemiAutomated | HumanOversight | FullyAutomated |
        | --- | --- | --- | --- | --- |
        | start a run on a trigger | on request | machine | machine | machine |
        | collect, filter | on request | machine | machine | machine |
        | label | on request | machine | machine | machine |
        | custom stage | on request | machine | machine | machine |
        | train | on request | person | machine | machine |
        | evaluate, check bias | on request | machine | machine | machine |
        | start the rollout | person | person | person | machine |
        | next step, full promotion | person | machine | machine | machine |
        | roll back when a check fails | person (recommended) | machine | machine | machine |
        ");
    }
}
