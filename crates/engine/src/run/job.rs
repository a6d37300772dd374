//! The Job of an attempt: one restricted container that knows nothing but the stage contract.

use std::collections::BTreeMap;

use flywheel_api::names;
use flywheel_api::schema::Uri;
use flywheel_api::stage::{EnvFrom, EnvVar, Projected, ProjectedSource, StageSpec, Volume};
use flywheel_api::stage_contract::StageFile;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::Digest as _;

use super::begin::owner_reference;
use super::turn::Turn;
use super::{stage_file, view};

/// Name of a stage's container.
pub const CONTAINER: &str = "stage";
const STAGE_VOLUME: &str = "flywheel-stage";
const TMP_VOLUME: &str = "flywheel-tmp";

/// Name of an attempt's Job: readable, and unique by the hash of (run UID, stage, attempt).
pub fn name(run: &str, run_uid: &str, stage: &str, attempt: i32) -> String {
    let id = stage_file::stage_id(run_uid, stage, attempt);
    let hash = sha2::Sha256::digest(id.as_bytes())
        .iter()
        .take(5)
        .fold(String::new(), |t, b| format!("{t}{b:02x}"));
    let room = 63_usize.saturating_sub(hash.len() + stage.len() + 2);
    let run: String = run.chars().take(room).collect();
    format!("{run}-{stage}-{hash}")
}

/// Whether a Job that was observed is the one that this run intended.
pub fn is_ours(job: &view::JobView, run_uid: &str) -> bool {
    job.run_uid == run_uid
}

/// The stage file of an attempt as its pod reads it.
pub fn file(turn: &Turn<'_>, stage: &StageSpec, attempt: i32) -> Option<String> {
    serde_json::to_string(&stage_file::build(turn, stage, attempt)?).ok()
}

/// The Job of an attempt.
pub fn build(turn: &Turn<'_>, stage: &StageSpec, attempt: i32) -> Option<Job> {
    let file = stage_file::build(turn, stage, attempt)?;
    let mut labels = turn.labels();
    labels.insert(names::LABEL_STAGE.to_owned(), stage.name.clone());
    labels.insert(names::LABEL_ATTEMPT.to_owned(), attempt.to_string());
    let annotations = BTreeMap::from([(names::ANNOTATION_STAGE.to_owned(), self::file(turn, stage, attempt)?)]);
    let template = core::PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels.clone()),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(pod(turn, stage, &file)),
    };
    Some(Job {
        metadata: ObjectMeta {
            name: Some(name(turn.name(), turn.uid(), &stage.name, attempt)),
            owner_references: Some(vec![owner_reference("FlywheelRun", turn.name(), turn.uid())]),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            active_deadline_seconds: Some(stage.timeout_seconds),
            backoff_limit: Some(0),
            completions: Some(1),
            parallelism: Some(1),
            pod_replacement_policy: Some("Failed".to_owned()),
            template,
            ..JobSpec::default()
        }),
        status: None,
    })
}

fn pod(turn: &Turn<'_>, stage: &StageSpec, file: &StageFile) -> core::PodSpec {
    let mut mounts = Mounts::new();
    for input in &file.inputs {
        if let Some(path) = &input.path {
            mounts.add(&input.uri, path, true);
        }
    }
    mounts.add(&file.output.uri, names::OUTPUT_ROOT, false);
    let mut volumes = vec![
        stage_volume(),
        core::Volume {
            name: TMP_VOLUME.to_owned(),
            empty_dir: Some(core::EmptyDirVolumeSource::default()),
            ..core::Volume::default()
        },
    ];
    volumes.extend(mounts.volumes());
    volumes.extend(stage.volumes.iter().map(volume));
    core::PodSpec {
        affinity: affinity(stage),
        automount_service_account_token: Some(false),
        containers: vec![container(turn, stage, mounts.mounts)],
        enable_service_links: Some(false),
        image_pull_secrets: references(stage),
        node_selector: Some(stage.node_selector.clone()).filter(|s| !s.is_empty()),
        priority_class_name: stage.priority_class_name.clone(),
        restart_policy: Some("Never".to_owned()),
        runtime_class_name: stage.runtime_class_name.clone(),
        security_context: Some(core::PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: stage.run_as_user,
            run_as_group: stage.run_as_group,
            fs_group: stage.fs_group,
            seccomp_profile: Some(core::SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..core::PodSecurityContext::default()
        }),
        service_account_name: stage.service_account_name.clone(),
        tolerations: Some(tolerations(stage)).filter(|t| !t.is_empty()),
        volumes: Some(volumes),
        ..core::PodSpec::default()
    }
}

fn container(turn: &Turn<'_>, stage: &StageSpec, mounts: Vec<core::VolumeMount>) -> core::Container {
    let mount = |name: &str, path: &str, read_only: bool| core::VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(read_only),
        ..core::VolumeMount::default()
    };
    let folder = names::STAGE_FILE
        .rsplit_once('/')
        .map_or(names::STAGE_FILE, |(folder, _)| folder);
    let mut all = vec![mount(STAGE_VOLUME, folder, true), mount(TMP_VOLUME, "/tmp", false)];
    all.extend(mounts);
    all.extend(stage.volume_mounts.iter().map(|m| core::VolumeMount {
        sub_path: m.sub_path.clone(),
        ..mount(&m.name, &m.mount_path, m.read_only)
    }));
    let mut env = vec![plain(names::ENV_STAGE, names::STAGE_FILE)];
    env.extend(stage.env.iter().map(variable));
    core::Container {
        name: CONTAINER.to_owned(),
        image: Some(stage.image.clone()),
        command: Some(stage.command.clone()).filter(|c| !c.is_empty()),
        args: Some(stage.args.clone()).filter(|a| !a.is_empty()),
        env: Some(env),
        env_from: Some(env_from(turn, stage)).filter(|e| !e.is_empty()),
        resources: Some(resources(turn, stage)),
        security_context: Some(core::SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(core::Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            read_only_root_filesystem: Some(true),
            ..core::SecurityContext::default()
        }),
        // The log may hold data of people: it is never copied into a status (see `kubectl flywheel logs`).
        termination_message_policy: Some("File".to_owned()),
        volume_mounts: Some(all),
        ..core::Container::default()
    }
}

/// Claims that inputs and output lie on: one volume per claim, one mount per path.
struct Mounts {
    claims: Vec<String>,
    mounts: Vec<core::VolumeMount>,
}

impl Mounts {
    const fn new() -> Self {
        Self {
            claims: Vec::new(),
            mounts: Vec::new(),
        }
    }

    fn add(&mut self, uri: &Uri, path: &str, read_only: bool) {
        let Some((claim, sub_path)) = uri.claim() else {
            return;
        };
        let index = self.claims.iter().position(|c| c == claim).unwrap_or_else(|| {
            self.claims.push(claim.to_owned());
            self.claims.len() - 1
        });
        let sub_path = sub_path.trim_matches('/');
        self.mounts.push(core::VolumeMount {
            name: format!("flywheel-claim-{index}"),
            mount_path: path.to_owned(),
            read_only: Some(read_only),
            sub_path: Some(sub_path.to_owned()).filter(|p| !p.is_empty()),
            ..core::VolumeMount::default()
        });
    }

    fn volumes(&self) -> Vec<core::Volume> {
        let volume = |(index, claim): (usize, &String)| core::Volume {
            name: format!("flywheel-claim-{index}"),
            persistent_volume_claim: Some(core::PersistentVolumeClaimVolumeSource {
                claim_name: claim.clone(),
                read_only: None,
            }),
            ..core::Volume::default()
        };
        self.claims.iter().enumerate().map(volume).collect()
    }
}

fn stage_volume() -> core::Volume {
    let file = names::STAGE_FILE
        .rsplit_once('/')
        .map_or(names::STAGE_FILE, |(_, file)| file);
    core::Volume {
        name: STAGE_VOLUME.to_owned(),
        downward_api: Some(core::DownwardAPIVolumeSource {
            items: Some(vec![core::DownwardAPIVolumeFile {
                path: file.to_owned(),
                field_ref: Some(core::ObjectFieldSelector {
                    field_path: format!("metadata.annotations['{}']", names::ANNOTATION_STAGE),
                    api_version: None,
                }),
                ..core::DownwardAPIVolumeFile::default()
            }]),
            default_mode: None,
        }),
        ..core::Volume::default()
    }
}

fn volume(v: &Volume) -> core::Volume {
    core::Volume {
        name: v.name.clone(),
        empty_dir: v.empty_dir.as_ref().map(|e| core::EmptyDirVolumeSource {
            size_limit: e.size_limit.clone().map(Quantity),
            ..core::EmptyDirVolumeSource::default()
        }),
        persistent_volume_claim: v
            .persistent_volume_claim
            .as_ref()
            .map(|c| core::PersistentVolumeClaimVolumeSource {
                claim_name: c.claim_name.clone(),
                read_only: Some(c.read_only),
            }),
        config_map: v.config_map.as_ref().map(|c| core::ConfigMapVolumeSource {
            name: c.name.clone(),
            ..core::ConfigMapVolumeSource::default()
        }),
        secret: v.secret.as_ref().map(|s| core::SecretVolumeSource {
            secret_name: Some(s.name.clone()),
            ..core::SecretVolumeSource::default()
        }),
        projected: v.projected.as_ref().map(projected),
        ..core::Volume::default()
    }
}

fn projected(all: &Projected) -> core::ProjectedVolumeSource {
    let source = |s: &ProjectedSource| core::VolumeProjection {
        config_map: s.config_map.as_ref().map(|c| core::ConfigMapProjection {
            name: c.name.clone(),
            ..core::ConfigMapProjection::default()
        }),
        secret: s.secret.as_ref().map(|s| core::SecretProjection {
            name: s.name.clone(),
            ..core::SecretProjection::default()
        }),
        ..core::VolumeProjection::default()
    };
    core::ProjectedVolumeSource {
        sources: Some(all.sources.iter().map(source).collect()),
        ..core::ProjectedVolumeSource::default()
    }
}

fn plain(name: &str, value: &str) -> core::EnvVar {
    core::EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    }
}

fn variable(v: &EnvVar) -> core::EnvVar {
    let secret = v.secret_key_ref.as_ref().map(|r| core::EnvVarSource {
        secret_key_ref: Some(core::SecretKeySelector {
            key: r.key.clone(),
            name: r.name.clone(),
            optional: None,
        }),
        ..core::EnvVarSource::default()
    });
    let config = v.config_map_key_ref.as_ref().map(|r| core::EnvVarSource {
        config_map_key_ref: Some(core::ConfigMapKeySelector {
            key: r.key.clone(),
            name: r.name.clone(),
            optional: None,
        }),
        ..core::EnvVarSource::default()
    });
    core::EnvVar {
        name: v.name.clone(),
        value: v.value.clone(),
        value_from: secret.or(config),
    }
}

fn env_from(turn: &Turn<'_>, stage: &StageSpec) -> Vec<core::EnvFromSource> {
    let secret = |name: &str| core::EnvFromSource {
        secret_ref: Some(core::SecretEnvSource {
            name: name.to_owned(),
            optional: None,
        }),
        ..core::EnvFromSource::default()
    };
    let credentials = turn
        .plan
        .as_ref()
        .and_then(|p| p.artifacts.as_ref())
        .and_then(|a| a.credentials_ref.as_ref());
    let own = stage
        .env_from
        .iter()
        .filter_map(|e: &EnvFrom| match (&e.secret_ref, &e.config_map_ref) {
            (Some(s), _) => Some(secret(&s.name)),
            (None, Some(c)) => Some(core::EnvFromSource {
                config_map_ref: Some(core::ConfigMapEnvSource {
                    name: c.name.clone(),
                    optional: None,
                }),
                ..core::EnvFromSource::default()
            }),
            (None, None) => None,
        });
    credentials.map(|c| secret(&c.name)).into_iter().chain(own).collect()
}

/// The stage's requests and limits; for each resource that it does not name, the administrator's.
fn resources(turn: &Turn<'_>, stage: &StageSpec) -> core::ResourceRequirements {
    let own = stage.resources.clone().unwrap_or_default();
    let settings = &turn.o.settings;
    let quantities =
        |own: &BTreeMap<String, String>| own.iter().map(|(k, v)| (k.clone(), Quantity(v.clone()))).collect();
    let mut requests: BTreeMap<String, Quantity> = quantities(&own.requests);
    let mut limits: BTreeMap<String, Quantity> = quantities(&own.limits);
    for (name, value) in &settings.default_limits {
        // A default below the stage's own request would be refused by the API server.
        if !own.requests.contains_key(name) {
            limits.entry(name.clone()).or_insert_with(|| Quantity(value.clone()));
        }
    }
    for (name, value) in &settings.default_requests {
        // Kubernetes itself takes a limit without request as the request.
        if !own.limits.contains_key(name) {
            requests.entry(name.clone()).or_insert_with(|| Quantity(value.clone()));
        }
    }
    core::ResourceRequirements {
        requests: Some(requests),
        limits: Some(limits),
        claims: None,
    }
}

fn references(stage: &StageSpec) -> Option<Vec<core::LocalObjectReference>> {
    let all: Vec<_> = stage
        .image_pull_secrets
        .iter()
        .map(|s| core::LocalObjectReference { name: s.name.clone() })
        .collect();
    Some(all).filter(|a| !a.is_empty())
}

fn tolerations(stage: &StageSpec) -> Vec<core::Toleration> {
    let toleration = |t: &flywheel_api::stage::Toleration| core::Toleration {
        key: t.key.clone(),
        operator: t.operator.clone(),
        value: t.value.clone(),
        effect: t.effect.clone(),
        toleration_seconds: None,
    };
    stage.tolerations.iter().map(toleration).collect()
}

fn affinity(stage: &StageSpec) -> Option<core::Affinity> {
    let term = |r: &flywheel_api::stage::NodeRequirement| core::NodeSelectorRequirement {
        key: r.key.clone(),
        operator: r.operator.clone(),
        values: Some(r.values.clone()).filter(|v| !v.is_empty()),
    };
    let expressions: Vec<_> = stage.node_affinity.iter().map(term).collect();
    (!expressions.is_empty()).then(|| core::Affinity {
        node_affinity: Some(core::NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(core::NodeSelector {
                node_selector_terms: vec![core::NodeSelectorTerm {
                    match_expressions: Some(expressions),
                    match_fields: None,
                }],
            }),
            preferred_during_scheduling_ignored_during_execution: None,
        }),
        ..core::Affinity::default()
    })
}
