//! Objects that cannot be read and are deleted.

use crate::controller::model_version::ModelVersions;
use crate::controller::rollout::Rollouts;

use super::*;

/// An object that only a newer operator can read and that is being deleted: Flywheel and somebody else hold it. It has said
/// that it cannot be read, or not yet.
fn leaving(mut object: Value, finalizer: &str, says_so: bool) -> Value {
    object["spec"] = json!("of a newer operator");
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    object["metadata"]["finalizers"] = json!([finalizer, "example.com/slow"]);
    if says_so {
        object["status"]["conditions"] = json!([{ "type": "Ready", "status": "False", "reason": "Invalid",
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }]);
    }
    object
}

/// What comes of a look at an object, where the API server answers so when it is asked for anything else.
async fn outcome<C: Controller>(object: Value, other: (u16, Value)) -> (Result<Pause, ReconcileError>, Vec<Sent>) {
    let (server, held) = (Server::default(), object.clone());
    let client = server.client(move |sent| match sent.0 {
        Method::GET if name(sent) == "broken" => (200, held.clone()),
        Method::GET => other.clone(),
        _ => accepted(sent),
    });
    let driver = Driver::new(context(client));
    let turn = driver.turn().await.expect("it goes on");
    let object: Guard<C::Object> = serde_json::from_value(object).unwrap();
    assert!(object.0.is_err());
    let pause = reconcile::<C>(&object, &driver, turn, Instant::now()).await;
    (pause, server.writes())
}

/// The same for a Rollout beside these Deployments that bear its UID.
async fn beside(says_so: bool, candidates: &[Value]) -> (Pause, Sent) {
    let list = json!({ "apiVersion": "apps/v1", "kind": "DeploymentList", "metadata": {}, "items": candidates });
    let object = leaving(rollout("broken"), names::FINALIZER_ROLLOUT, says_so);
    let (pause, mut writes) = outcome::<Rollouts>(object, (200, list)).await;
    assert_eq!(writes.len(), 1, "{writes:?}");
    (pause.unwrap(), writes.remove(0))
}

fn candidate() -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "eta-candidate", "namespace": "shop",
        "labels": { names::LABEL_ROLLOUT_UID: "u", names::LABEL_TARGET: "eta" } },
        "spec": { "selector": {}, "template": {} } })
}

/// Whether it takes the operator's finalizer away from the version of the object that was seen, and nothing else.
fn lets_go((method, path, body): &Sent) -> bool {
    let kept = json!({ "resourceVersion": "7", "uid": "u", "finalizers": ["example.com/slow"] });
    *method == Method::PATCH && path.contains("/broken?") && *body == json!({ "metadata": kept })
}

/// What the object says.
fn says((_, path, body): &Sent) -> String {
    assert!(path.contains("/broken/status?"), "{path}");
    body["status"]["conditions"][0]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_rollout_that_cannot_be_read_and_has_no_candidate_says_so_and_is_then_let_go() {
    let (_, first) = beside(false, &[]).await;
    assert!(says(&first).contains("upgrade the operator or delete the object"));
    let (pause, second) = beside(true, &[]).await;
    assert!(lets_go(&second), "{second:?}");
    assert_eq!(pause, Some(TRUSTED));
    let mut going = candidate();
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let (_, beside_what_goes) = beside(true, &[going]).await;
    assert!(lets_go(&beside_what_goes), "{beside_what_goes:?}");
}

#[tokio::test]
async fn a_rollout_that_cannot_be_read_stays_while_its_candidate_may_serve_and_says_what_to_do() {
    for says_so in [false, true] {
        let (pause, write) = beside(says_so, &[candidate()]).await;
        let said = says(&write);
        assert!(
            said.contains("`kubectl delete deployment eta-candidate -n shop`"),
            "{said}"
        );
        assert!(
            said.contains("kubectl get deployment eta eta-candidate -n shop"),
            "{said}"
        );
        assert_eq!(pause, Some(TRUSTED), "it is looked at again soon");
    }
}

#[tokio::test]
async fn a_rollout_whose_candidate_nobody_can_look_for_is_not_let_go() {
    let object = leaving(rollout("broken"), names::FINALIZER_ROLLOUT, true);
    let (end, writes) = outcome::<Rollouts>(object, refusal(500, "InternalError")).await;
    assert!(matches!(end, Err(ReconcileError::Api(_))), "{end:?}");
    assert!(writes.is_empty(), "{writes:?}");
}

#[tokio::test]
async fn a_version_that_cannot_be_read_is_let_go_where_the_namespace_ends_and_nowhere_else() {
    for ends in [true, false] {
        let mut namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } });
        if ends {
            namespace["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        let mut version = rollout("broken");
        version["kind"] = json!("ModelVersion");
        let version = leaving(version, names::FINALIZER_LIVE, true);
        let (end, writes) = outcome::<ModelVersions>(version, (200, namespace)).await;
        assert!(end.is_ok() && writes.len() == 1, "{end:?} {writes:?}");
        assert_eq!(lets_go(&writes[0]), ends, "{writes:?}");
        if !ends {
            let said = says(&writes[0]);
            assert!(
                said.contains("`kubectl patch modelversions.flywheel.dev broken -n shop"),
                "{said}"
            );
        }
    }
}

#[tokio::test]
async fn what_somebody_else_holds_is_left_to_him() {
    let mut object = leaving(rollout("broken"), names::FINALIZER_ROLLOUT, false);
    object["metadata"]["finalizers"] = json!(["example.com/slow"]);
    let (_, writes) = outcome::<Rollouts>(object, refusal(500, "InternalError")).await;
    assert!(says(&writes[0]).contains("cannot read the object"));
}

#[test]
fn a_rollout_that_cannot_be_read_hears_of_its_own_candidate_once_it_is_deleted() {
    let change = |uid: &str| Related {
        kind: RelatedKind::Deployment,
        name: "eta-candidate".to_owned(),
        about: None,
        labels: [(names::LABEL_ROLLOUT_UID.to_owned(), uid.to_owned())].into(),
        created: None,
    };
    let hears = |object: &Value, uid: &str| {
        let object: Guard<Rollout> = serde_json::from_value(object.clone()).unwrap();
        Rollouts::frees(object.meta(), &change(uid))
    };
    let mut object = leaving(rollout("broken"), names::FINALIZER_ROLLOUT, true);
    assert!(hears(&object, "u") && !hears(&object, "another"));
    object["metadata"]["deletionTimestamp"] = Value::Null;
    assert!(!hears(&object, "u"));
}
