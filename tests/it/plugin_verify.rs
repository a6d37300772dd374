//! Lineage on an API server: it only grows, and `kubectl flywheel lineage verify` finds what was done to it, with and
//! without a cluster.

use std::path::{Path, PathBuf};
use std::process::Command;

use flywheel_api::{ModelVersion, Rollout};
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use crate::plugin::plugin;
use crate::world::{World, api, from};

const SECONDS: u64 = 20;

async fn import(world: &World, number: i64, parent: Option<Value>) -> Value {
    let mut spec = json!({ "modelName": "eta", "version": number, "artifact": {
        "uri": format!("s3://models/eta/{number}"), "digest": format!("sha256:{}", number.to_string().repeat(64)) } });
    if let Some(parent) = parent {
        spec["parent"] = parent;
    }
    let name = format!("eta-{number}");
    world
        .apply::<ModelVersion>(&name, json!({ "spec": spec }))
        .await
        .expect("accepted");
    begun(world, &name, "Registered").await
}

/// The version, when its lineage has begun with an entry of that type and the mark is there.
async fn begun(world: &World, name: &str, type_: &str) -> Value {
    let begun = |o: &Value| {
        o["status"]["lineage"]["entries"][0]["type"] == type_
            && o["metadata"]["annotations"]["flywheel.dev/lineage"].is_string()
    };
    world.until::<ModelVersion>(name, SECONDS, "begun", begun).await
}

/// What the API server says to a status that was changed like this; nothing if it takes it.
async fn refusal(world: &World, name: &str, change: impl Fn(&mut Value)) -> Option<String> {
    loop {
        let found = world.api::<ModelVersion>().get(name).await.expect("there");
        let mut object = serde_json::to_value(found).expect("JSON");
        change(&mut object["status"]);
        let written = world
            .api::<ModelVersion>()
            .replace_status(name, &PostParams::default(), &from(object))
            .await;
        match written {
            Ok(_) => return None,
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(error) => return Some(error.to_string()),
        }
    }
}

/// Everything that `kubectl get rollouts.flywheel.dev,modelversions -o json` would write.
async fn export(world: &World) -> Value {
    let rollouts = world.api::<Rollout>().list(&ListParams::default()).await;
    let versions = world.api::<ModelVersion>().list(&ListParams::default()).await;
    let typed = |kind: &str, object: Value| {
        let mut object = object;
        object["apiVersion"] = json!("flywheel.dev/v1alpha1");
        object["kind"] = json!(kind);
        object
    };
    let versions = versions.expect("listed").items.into_iter();
    let rollouts = rollouts.expect("listed").items.into_iter();
    let items: Vec<Value> = rollouts
        .map(|r| typed("Rollout", serde_json::to_value(r).expect("JSON")))
        .chain(versions.map(|v| typed("ModelVersion", serde_json::to_value(v).expect("JSON"))))
        .collect();
    json!({ "apiVersion": "v1", "kind": "List", "items": items })
}

fn file(world: &World, name: &str, content: &Value) -> PathBuf {
    let path = std::env::temp_dir().join(format!("{}-{name}.json", world.namespace));
    std::fs::write(&path, content.to_string()).expect("written");
    path
}

/// Exit code and output of the plugin where there is no cluster.
fn offline(words: &[&str], files: &[&Path]) -> (i32, String) {
    let program = std::env::var("FLYWHEEL_TEST_PLUGIN").expect("FLYWHEEL_TEST_PLUGIN is set");
    let output = Command::new(program)
        .args(["lineage", "verify"])
        .args(words)
        .args(files.iter().flat_map(|f| [Path::new("-f"), *f]))
        .env("KUBECONFIG", "/nowhere")
        .output()
        .expect("the plugin starts");
    let text = String::from_utf8(output.stdout).expect("text") + &String::from_utf8(output.stderr).expect("text");
    (output.status.code().expect("an exit code"), text)
}

#[tokio::test]
async fn cluster_lineage_only_grows_whoever_writes_the_status() {
    let world = api("lineage-grows").await;
    import(&world, 1, None).await;
    let edited = refusal(&world, "eta-1", |s| {
        s["lineage"]["entries"][0]["at"] = json!("2020-01-01T00:00:00Z");
    })
    .await;
    let edited = edited.expect("refused");
    assert!(edited.contains("lineage only grows"), "{edited}");
    let gone = refusal(&world, "eta-1", |s| {
        if let Some(fields) = s.as_object_mut() {
            fields.remove("lineage");
        }
    })
    .await;
    let gone = gone.expect("refused");
    assert!(gone.contains("lineage cannot be removed from a status"), "{gone}");
    let head = refusal(&world, "eta-1", |s| s["lineage"]["head"]["length"] = json!(2)).await;
    let head = head.expect("refused");
    assert!(head.contains("lineage.head must tell the number of entries"), "{head}");
    // A status that is lost as a whole is made anew, and says so.
    assert_eq!(refusal(&world, "eta-1", |s| *s = json!({})).await, None);
    begun(&world, "eta-1", "Rebuilt").await;
    let noted = plugin(&world, "admin", "lineage verify").done();
    assert!(noted.contains("Rebuilt"), "{noted}");
    assert_eq!(plugin(&world, "admin", "lineage verify --strict").code, 1);
}

#[tokio::test]
async fn cluster_plugin_lineage_is_verified_on_the_cluster_and_from_files() {
    let world = api("plugin-verify").await;
    let first = import(&world, 1, None).await;
    let head = first["status"]["lineage"]["head"].clone();
    let parent = json!({ "name": "eta-1", "uid": first["metadata"]["uid"], "head": head });
    import(&world, 2, Some(parent)).await;
    let said = plugin(&world, "admin", "lineage verify").done();
    assert!(
        said.contains("Nothing was found in 2 versions with 2 entries."),
        "{said}"
    );
    let told = plugin(&world, "admin", "lineage verify eta-1 -o json").done();
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told[0]["anchors"], 1, "{told}");
    assert!(said.contains("entry 0") && said.contains("Registered"), "{said}");
    let missing = plugin(&world, "admin", "lineage verify eta-7").refused();
    assert!(missing.contains("ModelVersion eta-7 is not among the 2"), "{missing}");

    let honest = export(&world).await;
    let path = file(&world, "honest", &honest);
    let (code, text) = offline(&[], &[&path]);
    assert_eq!(code, 0, "{text}");
    let mut forged = honest.clone();
    forged["items"][0]["spec"]["artifact"]["uri"] = json!("s3://models/eta/other");
    let (code, text) = offline(&[], &[&file(&world, "forged", &forged)]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("OtherFacts"), "{text}");
    let mut swapped = honest.clone();
    let status = swapped["items"][0]["status"].clone();
    swapped["items"][1]["status"] = status;
    let swapped = file(&world, "swapped", &swapped);
    let (code, text) = offline(&["eta-2", "-o", "json"], &[&swapped]);
    assert_eq!(code, 1, "{text}");
    let verdicts: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(verdicts[0]["findings"][0]["defect"], "ForeignChain");
    // What the cluster has now is held against what was written down earlier.
    let mut later = honest;
    later["items"][0]["status"]["lineage"]["head"]["length"] = json!(2);
    let later = file(&world, "later", &later);
    let cut = plugin(
        &world,
        "admin",
        &format!("lineage verify --earlier {}", later.display()),
    );
    assert_eq!(cut.code, 1, "{}", cut.out);
    assert!(cut.out.contains("CutOff"), "{}", cut.out);
}
