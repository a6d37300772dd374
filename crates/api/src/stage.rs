//! A stage: one bounded container that runs as a Job, and what is known of its attempts.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reference::NameRef;
use crate::schema::{Duration, pattern};

/// One stage of the pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(self.volumeMounts) || self.volumeMounts.all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name))", "message": "volumeMounts[].name must be the name of one of the stage's volumes: add the volume or correct the name" },
    { "rule": "!has(self.volumeMounts) || self.volumeMounts.all(m, m.mountPath != '/flywheel' && !m.mountPath.startsWith('/flywheel/'))", "message": "volumeMounts[].mountPath must not lie below /flywheel: Flywheel mounts the stage file, inputs and output there" },
    { "rule": "!has(self.volumeMounts) || self.volumeMounts.all(m, m.mountPath != '/tmp' && m.mountPath != '/tmp/')", "message": "volumeMounts[].mountPath must not be /tmp: Flywheel mounts an empty folder there; take another path" },
    { "rule": "!has(self.nodeSelector) || self.nodeSelector.all(k, k.matches(r'^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$'))", "message": "nodeSelector has a key that is no label's key: use letters, digits, hyphens, dots and underscores, such as disktype or example.com/disktype" },
    { "rule": "self.name != 'live'", "message": "name must not be live: inputs of that name are the live version's artifacts" },
]))]
pub struct StageSpec {
    /// Name of the stage, unique in the pipeline: at most 20 lower case letters, digits and hyphens.
    #[schemars(length(min = 1, max = 20), regex(pattern = pattern::NAME))]
    pub name: String,
    /// What the stage does; the automation level decides per type whether it starts by itself.
    /// Collect: brings production data into a dataset.
    /// Filter: takes records out of a dataset.
    /// Label: adds labels to a dataset.
    /// Train: makes the model; each pipeline has exactly one.
    /// Evaluate: judges the model, on the same rows as the live version; at least one stands after Train.
    /// Custom: anything else; it starts as Collect does.
    #[serde(rename = "type")]
    pub type_: StageType,
    /// Container image; pin it by digest, so that a run can be repeated.
    #[schemars(length(min = 1, max = 512), regex(pattern = pattern::IMAGE))]
    pub image: String,
    /// Entry point; the image's own if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)), extend("x-kubernetes-list-type" = "atomic"))]
    pub command: Vec<String>,
    /// Arguments of the entry point; the image's own if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)), extend("x-kubernetes-list-type" = "atomic"))]
    pub args: Vec<String>,
    /// Environment variables. FLYWHEEL_STAGE is set by Flywheel and names the stage file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// ConfigMaps and Secrets of the same namespace whose keys become environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub env_from: Vec<EnvFrom>,
    /// Requests and limits of the container; for what is not named the operator's defaults apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Where the stage's volumes appear in the container. The root file system is read-only, /tmp is an empty folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["mountPath"]))]
    pub volume_mounts: Vec<VolumeMount>,
    /// Volumes of the stage's pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub volumes: Vec<Volume>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = { "type": "string", "maxLength": 63, "pattern": pattern::LABEL_VALUE }))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pod tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub tolerations: Vec<Toleration>,
    /// Required node affinity: a node must meet every entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub node_affinity: Vec<NodeRequirement>,
    /// ServiceAccount of the pod; its token is not mounted. Without it the namespace's default account is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = pattern::SUBDOMAIN))]
    pub service_account_name: Option<String>,
    /// Secrets of the same namespace for pulling the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub image_pull_secrets: Vec<NameRef>,
    /// RuntimeClass of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = pattern::SUBDOMAIN))]
    pub runtime_class_name: Option<String>,
    /// PriorityClass of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = pattern::SUBDOMAIN))]
    pub priority_class_name: Option<String>,
    /// User ID of the process, never 0. Without it the image's user runs, which must not be root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647_i64))]
    pub run_as_user: Option<i64>,
    /// Group ID of the process, never 0. Without it the image's group runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647_i64))]
    pub run_as_group: Option<i64>,
    /// Group that owns the stage's volumes, never 0. Without it the volumes keep their group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647_i64))]
    pub fs_group: Option<i64>,
    /// Longest time that one attempt may run, in seconds, from its start.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 5, max = 2_592_000))]
    pub timeout_seconds: i64,
    /// When a failed attempt is repeated, and how often.
    #[serde(default)]
    pub retry: Retry,
}

fn default_timeout() -> i64 {
    3600
}

/// What a stage does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum StageType {
    /// Collects production data into a dataset.
    Collect,
    /// Filters a dataset.
    Filter,
    /// Labels a dataset.
    Label,
    /// Trains a candidate.
    Train,
    /// Evaluates the candidate, on the same rows as the live version.
    Evaluate,
    /// Anything else; starts as Collect does.
    #[default]
    Custom,
}

impl StageType {
    /// The name as it stands in YAML.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Collect => "Collect",
            Self::Filter => "Filter",
            Self::Label => "Label",
            Self::Train => "Train",
            Self::Evaluate => "Evaluate",
            Self::Custom => "Custom",
        }
    }
}

/// When a failed attempt is repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Further attempts after the first one.
    #[serde(default = "default_retry_limit")]
    #[schemars(range(min = 0, max = 10))]
    pub limit: i32,
    /// Pause before the second attempt, such as 30s; it doubles with each further one, up to an hour.
    #[serde(default = "default_backoff")]
    #[schemars(length(min = 2))]
    pub backoff: Duration,
    /// Failures that are repeated.
    /// Infrastructure: the node or pod was lost, the image could not be pulled, the result could not be read.
    /// Application: the container exited with an error, ran out of memory or time, or left no valid result.
    #[serde(default = "default_retry_on")]
    #[schemars(length(min = 1, max = 2), extend("x-kubernetes-list-type" = "set"))]
    pub when: Vec<FailureClass>,
}

fn default_retry_limit() -> i32 {
    2
}

fn default_backoff() -> Duration {
    Duration::from("30s")
}

fn default_retry_on() -> Vec<FailureClass> {
    vec![FailureClass::Infrastructure]
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            limit: default_retry_limit(),
            backoff: default_backoff(),
            when: default_retry_on(),
        }
    }
}

/// Whose fault a failed attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum FailureClass {
    /// The cluster failed: another attempt may well succeed.
    Infrastructure,
    /// The stage's own program failed: another attempt will most likely fail, too.
    Application,
}

/// An environment variable with a value, or with one key of a Secret or ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "(has(self.value) ? 1 : 0) + (has(self.secretKeyRef) ? 1 : 0) + (has(self.configMapKeyRef) ? 1 : 0) == 1", "message": "env: set exactly one of value, secretKeyRef and configMapKeyRef" },
    { "rule": "self.name != 'FLYWHEEL_STAGE'", "message": "env: FLYWHEEL_STAGE is set by Flywheel: use another name" },
]))]
pub struct EnvVar {
    /// Name of the variable.
    #[schemars(length(min = 1, max = 128), regex(pattern = pattern::VARIABLE))]
    pub name: String,
    /// Value of the variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
    /// Key of a Secret of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,
    /// Key of a ConfigMap of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
}

/// One key of a Secret or ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRef {
    /// Name of the Secret or ConfigMap, in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = pattern::SUBDOMAIN))]
    pub name: String,
    /// Key in it.
    #[schemars(length(min = 1, max = 253), regex(pattern = pattern::CONFIG_KEY))]
    pub key: String,
}

/// All keys of one Secret or ConfigMap as environment variables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.secretRef) != has(self.configMapRef)", "message": "envFrom: set exactly one of secretRef and configMapRef" },
]))]
pub struct EnvFrom {
    /// Secret of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<NameRef>,
    /// ConfigMap of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<NameRef>,
}

/// Requests and limits of the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(self.requests) || !has(self.limits) || self.requests.all(k, !(k in self.limits) || !isQuantity(self.requests[k]) || !isQuantity(self.limits[k]) || quantity(self.requests[k]).compareTo(quantity(self.limits[k])) <= 0)", "message": "resources: a request must not be greater than the limit of the same name: raise the limit or lower the request" },
]))]
pub struct Resources {
    /// What the scheduler reserves, such as `cpu: 500m`, `memory: 1Gi`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = { "type": "string", "maxLength": 32, "pattern": pattern::QUANTITY }))]
    pub requests: BTreeMap<String, String>,
    /// What the container may use at most, such as `memory: 2Gi`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = { "type": "string", "maxLength": 32, "pattern": pattern::QUANTITY }))]
    pub limits: BTreeMap<String, String>,
}

/// Where a volume appears in the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMount {
    /// Name of one of the stage's volumes.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Absolute path in the container; neither /tmp nor below /flywheel.
    #[schemars(length(min = 2, max = 512), regex(pattern = pattern::MOUNT_PATH))]
    pub mount_path: String,
    /// Path inside the volume; its root if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = pattern::SUB_PATH))]
    pub sub_path: Option<String>,
    /// If true, the container cannot write to it. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// A volume: exactly one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "(has(self.emptyDir) ? 1 : 0) + (has(self.persistentVolumeClaim) ? 1 : 0) + (has(self.configMap) ? 1 : 0) + (has(self.secret) ? 1 : 0) + (has(self.projected) ? 1 : 0) == 1", "message": "volumes[]: set exactly one of emptyDir, persistentVolumeClaim, configMap, secret and projected" },
    { "rule": "!self.name.startsWith('flywheel-')", "message": "volumes[].name must not start with flywheel-: these names are Flywheel's own" },
]))]
pub struct Volume {
    /// Name of the volume, unique in the stage.
    #[schemars(length(min = 1, max = 63), regex(pattern = pattern::LABEL))]
    pub name: String,
    /// An empty folder that lives as long as the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDir>,
    /// A claim of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimSource>,
    /// A ConfigMap of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<NameRef>,
    /// A Secret of the same namespace; the kubelet reads it, the operator never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<NameRef>,
    /// ConfigMaps and Secrets of the same namespace, together in one folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projected: Option<Projected>,
}

/// Several sources in one folder. There is no token of a ServiceAccount among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Projected {
    /// The sources; where two have a key of the same name, the later one counts.
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub sources: Vec<ProjectedSource>,
}

/// A source of a projected volume: exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.configMap) != has(self.secret)", "message": "volumes[].projected.sources[]: set exactly one of configMap and secret" },
]))]
pub struct ProjectedSource {
    /// A ConfigMap of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<NameRef>,
    /// A Secret of the same namespace; the kubelet reads it, the operator never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<NameRef>,
}

/// An empty folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDir {
    /// Largest size, such as `1Gi`; the node's own limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = pattern::QUANTITY))]
    pub size_limit: Option<String>,
}

/// A claim as volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimSource {
    /// Name of the PersistentVolumeClaim, in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = pattern::SUBDOMAIN))]
    pub claim_name: String,
    /// If true, the pod cannot write to it. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// A taint that the pod tolerates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.key) || (has(self.operator) && self.operator == 'Exists')", "message": "tolerations[]: without key set operator: Exists, which tolerates every taint" },
    { "rule": "!has(self.value) || !has(self.operator) || self.operator != 'Exists'", "message": "tolerations[]: operator Exists takes no value: remove value, or set operator: Equal" },
]))]
pub struct Toleration {
    /// Key of the taint; every key if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 316), regex(pattern = pattern::LABEL_KEY))]
    pub key: Option<String>,
    /// Exists: any value of the taint. Equal: the value below. Equal if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Exists", "Equal"]))]
    pub operator: Option<String>,
    /// Value of the taint, for Equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = pattern::LABEL_VALUE))]
    pub value: Option<String>,
    /// Effect of the taint: NoSchedule, PreferNoSchedule or NoExecute; every effect if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["NoSchedule", "PreferNoSchedule", "NoExecute"]))]
    pub effect: Option<String>,
}

/// A demand on the labels of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)", "message": "nodeAffinity[]: operators In and NotIn need values: list at least one" },
    { "rule": "!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || size(self.values) == 0", "message": "nodeAffinity[]: operators Exists and DoesNotExist take no values: remove them" },
    { "rule": "!(self.operator in ['Gt', 'Lt']) || (has(self.values) && size(self.values) == 1 && self.values[0].matches('^-?[0-9]{1,18}$'))", "message": "nodeAffinity[]: operators Gt and Lt need exactly one value, a whole number" },
]))]
pub struct NodeRequirement {
    /// Key of the node's label.
    #[schemars(length(min = 1, max = 316), regex(pattern = pattern::LABEL_KEY))]
    pub key: String,
    /// In: the label has one of the values. NotIn: it has none of them.
    /// Exists: the node has the label. DoesNotExist: it does not.
    /// Gt: the label's value is a number greater than the value. Lt: less than it.
    #[schemars(extend("enum" = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]))]
    pub operator: String,
    /// Values for In, NotIn, Gt and Lt; none for Exists and DoesNotExist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63), regex(pattern = pattern::LABEL_VALUE)), extend("x-kubernetes-list-type" = "atomic"))]
    pub values: Vec<String>,
}
