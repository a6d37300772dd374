#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    missing_docs
)]

//! The chart without a cluster: what it renders, what it refuses, and what its alerts say.

use std::path::Path;
use std::process::Command;

use flywheel_engine::settings::Settings;
use serde_json::{Value, json};
use xtask::{cache, chart, packages, shell};

fn values() -> Value {
    let text = std::fs::read_to_string(chart::file("values.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// The objects that the chart renders for these arguments.
fn objects(args: &[&str]) -> Vec<Value> {
    let text = chart::render(args).unwrap();
    let documents = format!("\n{text}");
    let documents = documents.split("\n---\n").filter(|d| d.contains("kind:"));
    documents
        .map(|d| serde_saphyr::from_str(d).unwrap_or_else(|e| panic!("{e}:\n{d}")))
        .collect()
}

fn of<'a>(all: &'a [Value], kind: &str) -> Vec<&'a Value> {
    all.iter().filter(|o| o["kind"] == kind).collect()
}

#[test]
fn the_chart_has_the_version_of_the_program_and_passes_strict_lint() {
    let text = std::fs::read_to_string(chart::file("Chart.yaml")).unwrap();
    let chart: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    shell::run(chart::helm().unwrap().args(["lint", "--strict", "charts/flywheel"])).unwrap();
}

#[test]
fn the_default_settings_are_those_of_the_operator() {
    let settings: Settings = serde_json::from_value(values()["config"].clone()).unwrap();
    assert_eq!(settings, Settings::default());
}

#[test]
fn by_default_two_restricted_replicas_are_probed_and_protected() {
    let all = objects(&[]);
    let deployment = of(&all, "Deployment")[0];
    assert_eq!(deployment["spec"]["replicas"], 2);
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    assert!(container["resources"]["limits"]["memory"].is_string());
    assert_eq!(of(&all, "PodDisruptionBudget").len(), 1);
    assert_eq!(of(&all, "ValidatingAdmissionPolicy").len(), 5);
    for binding in of(&all, "ValidatingAdmissionPolicyBinding") {
        assert_eq!(binding["spec"]["validationActions"], json!(["Deny"]));
    }
    let crds = of(&all, "CustomResourceDefinition");
    assert_eq!(crds.len(), 6);
    for crd in crds {
        assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
        assert_eq!(crd["metadata"]["labels"]["app.kubernetes.io/managed-by"], "Helm");
    }
    assert!(of(&all, "PodMonitor").is_empty());
    assert!(of(&all, "ServiceMonitor").is_empty() && of(&all, "PrometheusRule").is_empty());
}

#[test]
fn a_level_of_the_log_leaves_the_rest_of_the_filter_to_the_operator() {
    let all = objects(&["--set=logging.level=debug"]);
    let env = &of(&all, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["env"];
    let asked = env.as_array().unwrap().iter().find(|e| e["name"] == "RUST_LOG");
    assert_eq!(asked.unwrap()["value"], "debug");
}

#[test]
fn with_watched_namespaces_there_is_no_cluster_role_of_the_operator() {
    let all = objects(&["--set=watchNamespaces={one,two}"]);
    assert!(of(&all, "ClusterRoleBinding").is_empty());
    let roles = of(&all, "Role");
    let places: Vec<&str> = roles
        .iter()
        .map(|r| r["metadata"]["namespace"].as_str().unwrap())
        .collect();
    assert_eq!(places, ["flywheel-system", "one", "two"]);
    let args = &of(&all, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["args"];
    assert!(args.to_string().contains("--watch-namespaces=one,two"), "{args}");
}

#[test]
fn what_is_switched_off_is_not_rendered() {
    let all = objects(&[
        "--set=crds.enabled=false,policies.enabled=false,rbac.create=false,rbac.userRoles=false",
        "--set=serviceAccount.create=false,serviceAccount.name=mine,podDisruptionBudget.enabled=false",
    ]);
    let kinds: Vec<&str> = all.iter().map(|o| o["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ConfigMap", "Service", "Deployment"]);
    assert_eq!(all[2]["spec"]["template"]["spec"]["serviceAccountName"], "mine");
    let deleted = objects(&["--set=crds.keep=false"]);
    assert!(
        of(&deleted, "CustomResourceDefinition")
            .iter()
            .all(|c| c["metadata"]["annotations"].is_null())
    );
}

#[test]
fn what_is_switched_on_is_rendered() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let image = format!("--set=image.digest={digest},image.repository=example/operator,imagePullSecrets={{pull}}");
    let all = objects(&[
        "--set=metrics.serviceMonitor.enabled=true,metrics.serviceMonitor.labels.release=monitoring",
        "--set=metrics.podMonitor.enabled=true,metrics.podMonitor.interval=60s",
        "--set=networkPolicy.enabled=true,replicaCount=1,priorityClassName=high,nodeSelector.disk=fast",
        "--set=config.brake.engaged=true,config.brake.reason=audit,config.artifacts.uri=s3://models/",
        "--set=extraEnv[0].name=SSL_CERT_FILE,extraEnv[0].value=ca,extraArgs={--lease-name=other}",
        "--set=commonLabels.team=ml,podLabels.a=b,podAnnotations.c=d",
        &image,
    ]);
    let monitor = of(&all, "ServiceMonitor")[0];
    assert_eq!(monitor["metadata"]["labels"]["release"], "monitoring");
    assert_eq!(monitor["spec"]["endpoints"][0]["honorLabels"], true);
    let endpoint = &of(&all, "PodMonitor")[0]["spec"]["podMetricsEndpoints"][0];
    assert_eq!(
        (&endpoint["port"], &endpoint["interval"]),
        (&json!("metrics"), &json!("60s"))
    );
    assert_eq!(of(&all, "NetworkPolicy").len(), 1);
    assert!(of(&all, "PodDisruptionBudget").is_empty(), "one replica may be evicted");
    let pod = &of(&all, "Deployment")[0]["spec"]["template"];
    assert_eq!(
        pod["spec"]["containers"][0]["image"],
        format!("example/operator@{digest}")
    );
    assert_eq!(pod["spec"]["imagePullSecrets"], json!([{ "name": "pull" }]));
    assert_eq!(pod["spec"]["priorityClassName"], "high");
    assert_eq!(
        (&pod["metadata"]["labels"]["a"], &pod["metadata"]["annotations"]["c"]),
        (&json!("b"), &json!("d"))
    );
    let config = of(&all, "ConfigMap")[0]["data"]["config.yaml"].as_str().unwrap();
    let settings: Settings = serde_saphyr::from_str(config).unwrap();
    assert!(settings.brake.engaged && settings.brake.reason == "audit");
    assert_eq!(settings.artifacts.unwrap().uri.as_str(), "s3://models/");
}

/// Objects of the values whose keys are the user's own.
const OPEN: [&str; 14] = [
    "/commonLabels",
    "/serviceAccount/annotations",
    "/metrics/serviceMonitor/labels",
    "/metrics/podMonitor/labels",
    "/prometheusRule/labels",
    "/prometheusRule/alertLabels",
    "/podAnnotations",
    "/podLabels",
    "/podSecurityContext",
    "/securityContext",
    "/nodeSelector",
    "/affinity",
    "/config/defaultRequests",
    "/config/defaultLimits",
];

/// Every key of the values below this one, as a path.
fn keys(value: &Value, path: &str) -> Vec<String> {
    let quantities = ["/resources/requests", "/resources/limits"];
    if OPEN.contains(&path) || quantities.contains(&path) {
        return Vec::new();
    }
    let fields = value.as_object().into_iter().flatten();
    fields
        .flat_map(|(key, below)| {
            let path = format!("{path}/{key}");
            let mut all = keys(below, &path);
            all.push(path);
            all
        })
        .collect()
}

/// Whether the chart takes these values.
fn accepts(values: &Value, folder: &Path) -> Result<(), String> {
    let file = folder.join("values.yaml");
    std::fs::write(&file, values.to_string()).unwrap();
    let argument = format!("--values={}", file.display());
    chart::render(&[&argument, "--show-only=templates/config.yaml"])
        .map(drop)
        .map_err(|e| e.to_string())
}

#[test]
fn every_mistyped_key_and_every_value_of_the_wrong_type_is_refused() {
    let folder = folder("typos");
    let all = keys(&values(), "");
    assert!(all.len() > 70, "{all:?}");
    for path in all {
        let (parent, key) = path.rsplit_once('/').unwrap();
        let set = |name: &str, value: Value| {
            let steps = parent.split('/').skip(1).collect::<Vec<_>>();
            let leaf = json!({ name: value });
            steps.iter().rev().fold(leaf, |inner, step| json!({ *step: inner }))
        };
        let typo = accepts(&set(&format!("{key}s"), json!(null)), &folder).unwrap_err();
        assert!(typo.contains(&format!("'{key}s'")), "{path}: {typo}");
        accepts(&set(key, json!([1.5])), &folder).unwrap_err();
    }
    accepts(&json!({ "global": { "anything": 1 } }), &folder).unwrap();
}

#[test]
fn values_that_cannot_work_are_refused() {
    let folder = folder("values");
    for (path, value) in [
        ("/replicaCount", json!(-1)),
        ("/image/digest", json!("latest")),
        ("/image/pullPolicy", json!("Sometimes")),
        ("/config/automationCeiling", json!("Full")),
        ("/config/metricProviders", json!([{ "name": "p" }])),
        (
            "/config/metricProviders",
            json!([{ "name": "p", "url": "prometheus:9090" }]),
        ),
        ("/config/artifacts", json!({ "url": "s3://x/" })),
        ("/config/maxRunsPerNamespace", json!(0)),
        ("/config/defaultLimits", json!({ "memory": "much" })),
        ("/logging/level", json!("loud")),
        ("/watchNamespaces", json!(["Team"])),
        ("/prometheusRule/runbookUrl", json!("https://example.com/")),
    ] {
        let steps: Vec<&str> = path.split('/').skip(1).collect();
        let values = steps
            .iter()
            .rev()
            .fold(value.clone(), |inner, step| json!({ *step: inner }));
        assert!(accepts(&values, &folder).is_err(), "{path}: {value}");
    }
}

fn folder(name: &str) -> std::path::PathBuf {
    let folder = cache::target().join(format!("chart-{name}"));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn promtool() -> Command {
    Command::new(packages::path(packages::PROMTOOL).unwrap())
}

#[test]
fn the_alerts_fire_when_they_should_and_only_then() {
    let all = objects(&["--set=prometheusRule.enabled=true"]);
    let folder = folder("alerts");
    let rules = folder.join("rules.yaml");
    std::fs::write(&rules, of(&all, "PrometheusRule")[0]["spec"].to_string()).unwrap();
    shell::run(promtool().arg("check").arg("rules").arg(&rules)).unwrap();
    let mut tests = 0;
    for entry in std::fs::read_dir(cache::workspace().join("tests/alerts")).unwrap() {
        let source = entry.unwrap().path();
        let copy = folder.join(source.file_name().unwrap());
        std::fs::copy(&source, &copy).unwrap();
        shell::run(promtool().args(["test", "rules"]).arg(&copy)).unwrap_or_else(|e| panic!("{e:#}"));
        tests += 1;
    }
    assert_eq!(tests, 3, "one file of tests for each alert");
}

#[test]
fn every_alert_says_what_is_wrong_and_where_to_read_what_to_do() {
    let all = objects(&["--set=prometheusRule.enabled=true,prometheusRule.alertLabels.team=ml"]);
    let rules = of(&all, "PrometheusRule")[0]["spec"]["groups"][0]["rules"].clone();
    let rules = rules.as_array().unwrap();
    assert_eq!(rules.len(), 3);
    for rule in rules {
        let name = rule["alert"].as_str().unwrap();
        assert!(
            rule["for"].is_string() && rule["labels"]["severity"].is_string(),
            "{name}"
        );
        assert_eq!(rule["labels"]["team"], "ml");
        for field in ["summary", "description"] {
            assert!(
                rule["annotations"][field]
                    .as_str()
                    .is_some_and(|t| t.ends_with('.') || t.contains("kubectl flywheel")),
                "{name}: {field}"
            );
        }
        let runbook = format!("docs/runbooks/{name}.md");
        assert!(
            rule["annotations"]["runbook_url"]
                .as_str()
                .is_some_and(|url| url.ends_with(&runbook))
        );
        assert!(cache::workspace().join(&runbook).is_file(), "{runbook}");
    }
}
