//! `lineage verify`: checks the hash chains of versions, from the cluster or from files.

use std::borrow::Cow;
use std::io::Read;
use std::path::Path;

use flywheel_api::ModelVersion;
use flywheel_engine::lineage::register::{self, Register, Verdict};
use kube::ResourceExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{DONE, document, print};
use crate::args::{Connection, Form, Verify};
use crate::cluster::{Cluster, Kind, resource};
use crate::error::{Error, refused};
use crate::paper::Paper;
use crate::show;

/// Exit code of a check that found something.
const FOUND: u8 = 1;

/// Prints a verdict on each version; without files, those of the cluster.
pub async fn run(connection: &Connection, paper: Paper, args: &Verify) -> Result<u8, Error> {
    let mut register = Register::default();
    if args.files.is_empty() {
        let cluster = Cluster::connect(connection).await?;
        let cluster = if args.all_namespaces {
            cluster.within("")
        } else {
            cluster
        };
        register = gather(&cluster).await?;
    }
    for file in &args.files {
        read(file, &mut register)?;
    }
    for file in &args.earlier {
        let mut earlier = Register::default();
        read(file, &mut earlier)?;
        register.earlier.extend(earlier.versions);
    }
    let verdicts = chosen(&register, &args.names)?;
    print(&match args.output.form {
        Form::Table => show::verify::page(paper, &register, &verdicts),
        Form::Name => names(&verdicts),
        Form::Json | Form::Yaml => document(&verdicts, args.output.form)?,
    })?;
    let noted = |v: &Verdict| args.strict && !v.notices.is_empty();
    let bad = verdicts.iter().any(|v| !v.findings.is_empty() || noted(v));
    Ok(if bad { FOUND } else { DONE })
}

/// All versions and Rollouts of a cluster. Who keeps a head first, the chains afterwards: they only grow, so that no head is
/// newer than its chain. Versions that keep heads of others are of the same moment as these.
async fn gather(cluster: &Cluster) -> Result<Register, Error> {
    let rollouts = cluster.every().await?;
    let versions = cluster.every().await?;
    Ok(Register {
        versions,
        rollouts,
        ..Register::default()
    })
}

/// The verdicts on the versions that were named, or on all.
fn chosen(register: &Register, wanted: &[String]) -> Result<Vec<Verdict>, Error> {
    let missing = wanted
        .iter()
        .find(|name| !register.versions.iter().any(|v| v.name_any() == **name));
    if let Some(name) = missing {
        return refused(format!(
            "ModelVersion {name} is not among the {} that were read: correct the name, or choose the namespace with -n",
            register.versions.len()
        ));
    }
    let mut verdicts = register::check(register);
    verdicts.retain(|v| wanted.is_empty() || wanted.contains(&v.name));
    Ok(verdicts)
}

/// Versions in which something was found.
fn names(verdicts: &[Verdict]) -> String {
    let bad = verdicts.iter().filter(|v| !v.findings.is_empty());
    bad.map(|v| format!("{}/{}\n", resource::<ModelVersion>(), v.name))
        .collect()
}

/// Adds the versions and Rollouts of a file; `-` is the standard input.
fn read(path: &Path, register: &mut Register) -> Result<(), Error> {
    let shown = path.display();
    let text = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|e| Error::Refused(format!("cannot read {shown}: {e}")))?;
    let before = register.versions.len();
    for document in parse(&text).map_err(|why| Error::Refused(format!("{shown} is neither JSON nor YAML: {why}")))? {
        sort_out(&document, "", &shown.to_string(), register)?;
    }
    if register.versions.len() == before {
        return refused(format!(
            "{shown} holds no ModelVersion: write it with `kubectl get rollouts.flywheel.dev,modelversions -o json`"
        ));
    }
    Ok(())
}

/// The documents of a text, as JSON. Versions may be many: of JSON no trees are made, what is in it is read into what it is.
fn parse(text: &str) -> Result<Vec<Cow<'_, str>>, String> {
    if serde_json::from_str::<&RawValue>(text).is_ok() {
        return Ok(vec![Cow::Borrowed(text)]);
    }
    let all: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|e| e.to_string())?;
    Ok(all.iter().map(|value| Cow::Owned(value.to_string())).collect())
}

/// What says what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline<'a> {
    #[serde(borrow)]
    api_version: Option<&'a RawValue>,
    #[serde(borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    items: Option<&'a RawValue>,
}

/// A part of a document, if it is what it is taken for.
fn part<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

impl Outline<'_> {
    /// Other groups have Rollouts too.
    fn is_ours(&self) -> bool {
        let version: Option<String> = part(self.api_version);
        version.is_none_or(|v| v.starts_with("flywheel.dev/"))
    }

    fn typed<K: Kind + DeserializeOwned>(&self, document: &str, file: &str) -> Result<K, Error> {
        serde_json::from_str(document).map_err(|why| {
            let metadata: Option<Value> = part(self.metadata);
            let name = metadata.as_ref().and_then(|m| m["name"].as_str());
            let (kind, name) = (K::kind(&()), name.unwrap_or("without name"));
            Error::Refused(format!("{file}: {kind} {name} cannot be read: {why}"))
        })
    }
}

/// Takes what is needed out of a document; a list holds documents. What does not say its kind is of the kind `of_list`.
fn sort_out(document: &str, of_list: &str, file: &str, register: &mut Register) -> Result<(), Error> {
    let outline: Outline<'_> = match serde_json::from_str(document) {
        Ok(outline) => outline,
        // A text or a number is no object.
        Err(_) if !document.trim_start().starts_with('{') => return Ok(()),
        Err(why) => return refused(format!("{file}: an object cannot be read: {why}")),
    };
    let said: Option<String> = part(outline.kind);
    let kind = said.as_deref().unwrap_or(of_list);
    if let Some(items) = part::<Vec<&RawValue>>(outline.items) {
        let of_list = kind.strip_suffix("List").unwrap_or_default();
        return items
            .iter()
            .try_for_each(|item| sort_out(item.get(), of_list, file, register));
    }
    match kind {
        "ModelVersion" => register.versions.push(outline.typed(document, file)?),
        "Rollout" if outline.is_ours() => register.rollouts.push(outline.typed(document, file)?),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// What the API server lists when the chain of the one version has so many entries.
    fn listed(path: &str, entries: usize) -> Value {
        let head = json!({ "length": entries, "digest": format!("sha256:{}", "0".repeat(64)) });
        let item = if path.ends_with("/rollouts") {
            json!({ "kind": "Rollout", "spec": { "modelVersionRef": { "name": "eta-1", "head": head },
                "plan": { "targetRef": { "kind": "Deployment", "name": "eta" },
                    "binding": { "type": "DeploymentEnv", "container": "app", "name": "MODEL_URI" } } } })
        } else {
            json!({ "kind": "ModelVersion", "status": { "lineage": { "head": head, "entries": [] } },
                "spec": { "modelName": "eta", "version": 1, "artifact": { "uri": "s3://a", "digest": "sha256:0" } } })
        };
        let mut list =
            json!({ "apiVersion": "flywheel.dev/v1alpha1", "kind": "List", "metadata": {}, "items": [item] });
        list["items"][0]["apiVersion"] = list["apiVersion"].clone();
        list["items"][0]["metadata"] = json!({ "name": "eta-1", "namespace": "shop" });
        list
    }

    #[tokio::test]
    async fn a_chain_that_grows_between_the_two_lists_is_not_called_cut_off() {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let mut asked = told.lock().unwrap();
            asked.push(request.uri().path().to_owned());
            let list = listed(request.uri().path(), asked.len()).to_string();
            async move { Ok::<_, Infallible>(Response::new(Body::from(list.into_bytes()))) }
        });
        let cluster = Cluster::of(Client::new(service, "shop"), "shop");
        let register = gather(&cluster).await.unwrap();
        let kept = register.rollouts[0].spec.model_version_ref.head.as_ref().unwrap();
        let status = register.versions[0].status.as_ref().unwrap();
        let chain = &status.lineage.as_ref().unwrap().head;
        let asked = asked.lock().unwrap();
        assert!(kept.length <= chain.length, "{kept:?} is kept of {chain:?}: {asked:?}");
    }

    #[test]
    fn lists_typed_lists_and_several_documents_are_read_and_the_rest_is_left() {
        let version = |name: &str| {
            format!(
                r#"{{"apiVersion":"flywheel.dev/v1alpha1","kind":"ModelVersion","metadata":{{"name":"{name}"}},"spec":{{"modelName":"eta","version":1,"artifact":{{"uri":"s3://a","digest":"sha256:0"}}}}}}"#
            )
        };
        let untyped = version("c").replace(r#""kind":"ModelVersion","#, "");
        let foreign = r#"{"apiVersion":"argoproj.io/v1alpha1","kind":"Rollout","metadata":{"name":"x"},"spec":{}}"#;
        let list = format!(
            r#"{{"kind":"List","items":[{},{foreign},{{"kind":"Secret"}}]}}"#,
            version("b")
        );
        let text = format!(
            "{}\n---\n{list}\n---\n{{\"kind\":\"ModelVersionList\",\"items\":[{untyped}]}}\n",
            version("a")
        );
        let mut register = Register::default();
        for document in parse(&text).unwrap() {
            sort_out(&document, "", "file", &mut register).unwrap();
        }
        let names: Vec<String> = register.versions.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert!(register.rollouts.is_empty());
    }

    #[test]
    fn what_is_in_an_object_that_says_something_twice_is_not_passed_over() {
        let document = r#"{"kind":"Secret","kind":"ModelVersion","metadata":{"name":"eta-1"}}"#;
        let error = sort_out(document, "", "odd.json", &mut Register::default()).unwrap_err();
        assert!(error.to_string().contains("duplicate field `kind`"), "{error}");
        assert!(sort_out("\"a text\"", "", "odd.json", &mut Register::default()).is_ok());
    }

    #[test]
    fn a_document_that_is_no_version_is_named() {
        let document = json!({ "kind": "ModelVersion", "metadata": { "name": "eta-1" }, "spec": {} }).to_string();
        let error = sort_out(&document, "", "old.yaml", &mut Register::default()).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("old.yaml: ModelVersion eta-1 cannot be read: missing field"),
            "{error}"
        );
    }
}
