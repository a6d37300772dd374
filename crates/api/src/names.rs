//! Names that are part of the API: labels, annotations, finalizers, field managers.
//!
//! Every key that Flywheel writes on an object stands here, so that users and tests can rely on it.

/// API group of all kinds.
pub const GROUP: &str = "flywheel.dev";
/// Served and stored version of all kinds.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of all kinds.
pub const API_VERSION: &str = "flywheel.dev/v1alpha1";
/// Field manager of every write that the operator makes.
pub const FIELD_MANAGER: &str = "flywheel";
/// Value of `app.kubernetes.io/managed-by` on every child object.
pub const MANAGED_BY: &str = "flywheel";

/// Label: model name, on runs' versions, Rollouts and candidates.
pub const LABEL_MODEL: &str = "flywheel.dev/model";
/// Label: name of the FlywheelPipeline that caused the object.
pub const LABEL_PIPELINE: &str = "flywheel.dev/pipeline";
/// Label: UID of the FlywheelPipeline that caused the object.
pub const LABEL_PIPELINE_UID: &str = "flywheel.dev/pipeline-uid";
/// Label: name of the FlywheelRun that caused the object.
pub const LABEL_RUN: &str = "flywheel.dev/run";
/// Label: UID of the FlywheelRun that caused the object.
pub const LABEL_RUN_UID: &str = "flywheel.dev/run-uid";
/// Label: stage name, on Jobs and their pods.
pub const LABEL_STAGE: &str = "flywheel.dev/stage";
/// Label: attempt number, on Jobs and their pods.
pub const LABEL_ATTEMPT: &str = "flywheel.dev/attempt";
/// Label: first 16 hex digits of the digest of a training dataset, on ModelVersions.
pub const LABEL_DATASET: &str = "flywheel.dev/dataset";
/// Label: name of the parent ModelVersion, on ModelVersions: walks lineage downwards.
pub const LABEL_PARENT: &str = "flywheel.dev/parent";
/// Label: name of the delivered ModelVersion, on Rollouts and candidate objects.
pub const LABEL_MODEL_VERSION: &str = "flywheel.dev/model-version";
/// Label: name of the ModelVersion that a Rollout goes back to, on Rollouts that have begun.
pub const LABEL_BASELINE_VERSION: &str = "flywheel.dev/baseline-version";
/// Label: name of the target Deployment, on Rollouts and candidate objects.
pub const LABEL_TARGET: &str = "flywheel.dev/target";
/// Label: UID of the Rollout that made a candidate object.
pub const LABEL_ROLLOUT_UID: &str = "flywheel.dev/rollout-uid";
/// Label that tells candidate pods from baseline pods: `candidate`.
pub const LABEL_ROLE: &str = "flywheel.dev/role";
/// Value of [`LABEL_ROLE`] on a candidate and its pods.
pub const ROLE_CANDIDATE: &str = "candidate";

/// Annotation on pod templates: the ModelVersion they serve. A hint for metrics; the binding decides.
pub const ANNOTATION_MODEL_VERSION: &str = "flywheel.dev/model-version";
/// Annotation on a stage's pod: the stage file of the stage contract.
pub const ANNOTATION_STAGE: &str = "flywheel.dev/stage-file";
/// Annotation on a candidate Deployment: hash of the target's pod template that it was copied from.
pub const ANNOTATION_TEMPLATE_HASH: &str = "flywheel.dev/template-hash";
/// Annotation on a Rollout: asks to take the drifted binding as the new baseline; value: the drifted value's digest.
pub const ANNOTATION_ADOPT: &str = "flywheel.dev/adopt";

/// Annotation on a FlywheelRun that has begun: when, or never if it was skipped; on a Rollout that has begun: what served
/// before, or that its version was live already. Should its status be lost, it does not begin again.
pub const ANNOTATION_BEGUN: &str = "flywheel.dev/begun";

/// Annotation on a FlywheelRun or a Rollout that has begun: the lowest automation level at which it decided; on a Rollout
/// only if that is lower than its spec.maxAutomationLevel. Should its status be lost, a level that was raised since does not
/// count for it.
pub const ANNOTATION_LEVEL: &str = "flywheel.dev/lowest-level";

/// Annotation on a ModelVersion: digest of the first entry of its lineage. Should its status be lost, its lineage says so.
pub const ANNOTATION_LINEAGE: &str = "flywheel.dev/lineage";

/// Annotation on a target Deployment: UID of the Rollout that went back on it last, or of its candidate that went without
/// being removed. It makes every write that was decided on before outdated, so that none can take effect late.
pub const ANNOTATION_TURNED_BACK: &str = "flywheel.dev/turned-back";

/// Annotation on a target Deployment: UID of the Rollout that took it after one that may still go back. Of the two writes
/// on the target, taking it and going back, one is refused.
pub const ANNOTATION_TAKEN_BY: &str = "flywheel.dev/taken-by";

/// Finalizer of a Rollout: traffic goes back and the candidate goes away before the object does.
pub const FINALIZER_ROLLOUT: &str = "flywheel.dev/traffic";
/// Finalizer of a ModelVersion: it cannot vanish while it is live or a rollback target.
pub const FINALIZER_LIVE: &str = "flywheel.dev/live-protection";

/// Folder inside a stage's container below which Flywheel mounts everything.
pub const MOUNT_ROOT: &str = "/flywheel";
/// Environment variable that names the stage file.
pub const ENV_STAGE: &str = "FLYWHEEL_STAGE";
/// Path of the stage file.
pub const STAGE_FILE: &str = "/flywheel/stage/stage.json";
/// Folder below which inputs are mounted.
pub const INPUT_ROOT: &str = "/flywheel/inputs";
/// Folder in which a stage writes its artifacts, if they lie on a claim.
pub const OUTPUT_ROOT: &str = "/flywheel/output";

/// Longest name of a FlywheelPipeline, a BiasPolicy and a model: leaves room for numbers and suffixes.
pub const MAX_NAME: usize = 40;
/// Longest name of the kinds whose names derive from others (`<pipeline>-<n>`, `<model>-<n>`): that of a label's value.
pub const MAX_DERIVED_NAME: usize = 63;
