//! Wrong stages of pipelines.

use flywheel_api::FlywheelPipeline;
use serde_json::{Value, json};

use super::{Wrong, pipelines, refuse, wrong};
use crate::world::api;

pub(super) fn mistakes() -> Vec<Wrong> {
    let mounted = |path: &str| json!([{ "name": "x", "mountPath": path }]);
    let affinity = |operator: &str, values: Value| json!([{ "key": "gpu", "operator": operator, "values": values }]);
    vec![
        wrong(
            "/spec/stages/0/type",
            json!("Evaluate"),
            "stages needs one stage of type Train",
            "add the stage that makes the model",
        ),
        wrong(
            "/spec/stages/1/type",
            json!("Train"),
            "only one stage of type Train",
            "make the others Custom",
        ),
        wrong(
            "/spec/stages/1/type",
            json!("Custom"),
            "stages needs a stage of type Evaluate",
            "add the stage that judges",
        ),
        wrong(
            "/spec/stages/1/type",
            json!("Test"),
            "spec.stages[1].type",
            "\"Evaluate\"",
        ),
        wrong(
            "/spec/stages/1/name",
            json!("train"),
            "name=\"train\"",
            "duplicate entries for key",
        ),
        wrong(
            "/spec/stages/0/name",
            json!("live"),
            "name must not be live",
            "the live version's artifacts",
        ),
        wrong(
            "/spec/stages/0/name",
            json!("a-stage-name-too-long"),
            "spec.stages[0].name",
            "20",
        ),
        wrong(
            "/spec/stages/0/image",
            json!(""),
            "spec.stages[0].image",
            "at least 1 chars",
        ),
        wrong(
            "/spec/stages/0/image",
            json!("example/eta latest"),
            "spec.stages[0].image",
            "without spaces",
        ),
        wrong(
            "/spec/stages/0/runAsUser",
            json!(0),
            "spec.stages[0].runAsUser",
            "greater than or equal to 1",
        ),
        wrong(
            "/spec/stages/0/fsGroup",
            json!(0),
            "spec.stages[0].fsGroup",
            "greater than or equal to 1",
        ),
        wrong(
            "/spec/stages/0/timeoutSeconds",
            json!(1),
            "spec.stages[0].timeoutSeconds",
            "greater than or equal to 5",
        ),
        wrong(
            "/spec/stages/0/serviceAccountName",
            json!("My Account"),
            "spec.stages[0].serviceAccountName",
            "name of an object",
        ),
        wrong(
            "/spec/stages/0/securityContext",
            json!({ "privileged": true }),
            ".spec.stages[name=\"train\"].securityContext",
            "field not declared",
        ),
        wrong(
            "/spec/stages/0/env",
            json!([{ "name": "FLYWHEEL_STAGE", "value": "x" }]),
            "FLYWHEEL_STAGE is set by Flywheel",
            "use another name",
        ),
        wrong(
            "/spec/stages/0/env",
            json!([{ "name": "A" }]),
            "env",
            "exactly one of value, secretKeyRef and configMapKeyRef",
        ),
        wrong(
            "/spec/stages/0/env",
            json!([{ "name": "1A", "value": "x" }]),
            "spec.stages[0].env[0].name",
            "not beginning with a digit",
        ),
        wrong(
            "/spec/stages/0/env",
            json!([{ "name": "A", "secretKeyRef": { "name": "s", "key": "a key" } }]),
            "secretKeyRef.key",
            "key of a ConfigMap or Secret",
        ),
        wrong(
            "/spec/stages/0/env",
            json!([{ "name": "A", "secretKeyRef": { "name": "a..b", "key": "k" } }]),
            "secretKeyRef.name",
            "each part between dots",
        ),
        wrong(
            "/spec/stages/0/envFrom",
            json!([{}]),
            "envFrom",
            "exactly one of secretRef and configMapRef",
        ),
        wrong(
            "/spec/stages/0/retry",
            json!({ "limit": 11 }),
            "spec.stages[0].retry.limit",
            "less than or equal to 10",
        ),
        wrong(
            "/spec/stages/0/retry",
            json!({ "when": ["Always"] }),
            "spec.stages[0].retry.when[0]",
            "\"Infrastructure\"",
        ),
        wrong(
            "/spec/stages/0/retry",
            json!({ "backoff": "soon" }),
            "spec.stages[0].retry.backoff",
            "such as 90s",
        ),
        wrong(
            "/spec/stages/0/volumeMounts",
            mounted("/x"),
            "volumeMounts[].name",
            "add the volume or correct the name",
        ),
        wrong(
            "/spec/stages/0/volumes",
            json!([{ "name": "x" }]),
            "volumes[]",
            "exactly one of emptyDir",
        ),
        wrong(
            "/spec/stages/0/volumes",
            json!([{ "name": "x", "projected": { "sources": [{ "configMap": { "name": "a" }, "secret": { "name": "b" } }] } }]),
            "volumes[].projected.sources[]",
            "exactly one of configMap and secret",
        ),
        wrong(
            "/spec/stages/0/volumes",
            json!([{ "name": "x", "projected": { "sources": [{ "serviceAccountToken": { "path": "token" } }] } }]),
            "serviceAccountToken",
            "field not declared",
        ),
        wrong(
            "/spec/stages/0/volumes",
            json!([{ "name": "flywheel-x", "emptyDir": {} }]),
            "volumes[].name",
            "Flywheel's own",
        ),
        wrong(
            "/spec/stages/0/volumes",
            json!([{ "name": "x", "emptyDir": { "sizeLimit": "big" } }]),
            "emptyDir.sizeLimit",
            "such as 500m, 2 or 1Gi",
        ),
        wrong(
            "/spec/stages/0/volumes",
            json!([{ "name": "x", "hostPath": { "path": "/" } }]),
            "hostPath",
            "field not declared",
        ),
        wrong(
            "/spec/stages/0/resources",
            json!({ "limits": { "memory": "much" } }),
            "spec.stages[0].resources.limits",
            "such as 500m, 2 or 1Gi",
        ),
        wrong(
            "/spec/stages/0/resources",
            json!({ "requests": { "memory": "2Gi" }, "limits": { "memory": "1Gi" } }),
            "resources: a request",
            "raise the limit or lower the request",
        ),
        wrong(
            "/spec/stages/0/nodeSelector",
            json!({ "pool": "a b" }),
            "spec.stages[0].nodeSelector[pool]",
            "value of a label",
        ),
        wrong(
            "/spec/stages/0/nodeAffinity",
            affinity("Like", json!([])),
            "nodeAffinity[0].operator",
            "\"NotIn\"",
        ),
        wrong(
            "/spec/stages/0/nodeAffinity",
            affinity("In", json!([])),
            "operators In and NotIn",
            "list at least one",
        ),
        wrong(
            "/spec/stages/0/nodeAffinity",
            affinity("Exists", json!(["a"])),
            "Exists and DoesNotExist",
            "remove them",
        ),
        wrong(
            "/spec/stages/0/nodeAffinity",
            affinity("Gt", json!(["a"])),
            "operators Gt and Lt",
            "a whole number",
        ),
        wrong(
            "/spec/stages/0/tolerations",
            json!([{ "operator": "Equal", "value": "a" }]),
            "tolerations[]",
            "set operator: Exists",
        ),
        wrong(
            "/spec/stages/0/tolerations",
            json!([{ "key": "a", "operator": "Exists", "value": "a" }]),
            "operator Exists takes no value",
            "remove value",
        ),
        wrong(
            "/spec/stages/0/tolerations",
            json!([{ "key": "a", "effect": "Never" }]),
            "tolerations[0].effect",
            "\"NoSchedule\"",
        ),
    ]
}

/// Mistakes in mounts of a volume that is there.
fn mounts() -> Vec<Wrong> {
    let at = |path: &str| json!([{ "name": "x", "mountPath": path }]);
    let field = "/spec/stages/0/volumeMounts";
    vec![
        wrong(
            field,
            at("/flywheel/x"),
            "volumeMounts[].mountPath",
            "must not lie below /flywheel",
        ),
        wrong(field, at("/tmp"), "volumeMounts[].mountPath", "take another path"),
        wrong(
            field,
            at("data"),
            "volumeMounts[0].mountPath",
            "absolute path without a colon",
        ),
        wrong(
            field,
            json!([{ "name": "x", "mountPath": "/x", "subPath": "../up" }]),
            "volumeMounts[0].subPath",
            "relative path without ..",
        ),
    ]
}

#[tokio::test]
async fn cluster_wrong_stages_are_refused_with_their_remedy() {
    let world = api("wrong-stage").await;
    refuse::<FlywheelPipeline>(&world, &pipelines::good(), &mistakes()).await;
    let mut mounted = pipelines::good();
    mounted["spec"]["stages"][0]["volumes"] = json!([{ "name": "x", "emptyDir": {} }]);
    refuse::<FlywheelPipeline>(&world, &mounted, &mounts()).await;
    let mut turned = pipelines::good();
    let stages = turned["spec"]["stages"].as_array_mut().expect("stages");
    stages.reverse();
    let error = world
        .apply::<FlywheelPipeline>("turned", turned)
        .await
        .expect_err("nothing is evaluated before it is trained");
    assert!(
        error
            .to_string()
            .contains("move the stage of type Evaluate behind the one of type Train"),
        "{error}"
    );
}
