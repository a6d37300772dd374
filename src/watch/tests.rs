use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::*;
use crate::lookup::Reader;
use crate::testing::{Server, context, rollout};

fn deployment(name: &str) -> Value {
    json!({ "metadata": { "name": name, "namespace": "shop", "managedFields": [{ "manager": "someone" }] } })
}

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// Watches of a namespace in which one Rollout moves between `eta` and `eta-candidate`.
fn moving() -> Watches {
    let watches = Watches::default();
    let mut listed = Vec::new();
    for event in [Event::Init, Event::InitApply(object(rollout("one"))), Event::InitDone] {
        watches.rollouts.pass(&mut listed, event);
    }
    watches.deployments.pass(&mut Vec::new(), Event::Init);
    watches.deployments.pass(&mut Vec::new(), Event::InitDone);
    watches
}

#[tokio::test]
async fn between_which_a_rollout_moves_is_asked_for_once_and_then_known_by_the_watch() {
    let server = Server::default();
    let client = server.client(|sent| match sent.1.split('?').next() {
        Some(path) if path.ends_with("/eta-candidate") => crate::testing::refusal(404, "NotFound"),
        _ => (200, deployment("eta")),
    });
    let context = context(client).watching(Arc::new(moving()));
    let reader = Reader::stored(&context, "shop");
    let exists = async |name: &str| reader.get::<Deployment>(name).await.unwrap().is_some();
    for _ in 0..3 {
        assert!(exists("eta").await && !exists("eta-candidate").await);
    }
    assert_eq!(server.names(), ["eta", "eta-candidate"]);
    for _ in 0..2 {
        exists("other").await;
    }
    assert_eq!(server.names().len(), 4, "nobody's target is not held");

    let watched = &context.watches.deployments;
    watched.pass(&mut Vec::new(), Event::Apply(object(deployment("eta-candidate"))));
    assert!(exists("eta-candidate").await, "it was made");
    watched.pass(&mut Vec::new(), Event::Delete(object(deployment("eta-candidate"))));
    assert!(!exists("eta-candidate").await, "it was deleted");
    assert_eq!(server.names().len(), 4, "the watch told of both");
    watched.pass(&mut Vec::new(), Event::Init);
    for _ in 0..2 {
        exists("eta").await;
    }
    assert_eq!(
        server.names().len(),
        6,
        "what goes before the watch has begun nobody tells"
    );
    watched.pass(&mut Vec::new(), Event::InitApply(object(deployment("eta"))));
    watched.pass(&mut Vec::new(), Event::InitDone);
    exists("eta").await;
    assert_eq!(server.names().len(), 6, "it was listed");
}

#[tokio::test]
async fn what_is_read_live_is_held_too_should_a_watch_not_have_told_of_it() {
    let server = Server::default();
    let context = context(server.client(|_| crate::testing::refusal(404, "NotFound")));
    let context = context.watching(Arc::new(moving()));
    let watched = &context.watches.deployments;
    watched.pass(&mut Vec::new(), Event::Apply(object(deployment("eta"))));
    let read = async |reader: Reader<'_>| reader.get::<Deployment>("eta").await.unwrap();
    assert!(read(Reader::stored(&context, "shop")).await.is_some());
    assert!(read(Reader::live(&context, "shop")).await.is_none());
    assert!(read(Reader::stored(&context, "shop")).await.is_none());
    assert_eq!(server.names().len(), 1);
}

#[tokio::test]
async fn an_answer_that_was_under_way_when_the_watch_told_of_the_object_does_not_count() {
    let watched = moving().deployments;
    let ask = watched.ask("shop", "eta").unwrap();
    watched.pass(&mut Vec::new(), Event::Apply(object(deployment("eta"))));
    watched.answered(ask, None);
    let Known::Here(held) = watched.known("shop", "eta") else {
        panic!("it is held");
    };
    assert!(held.meta().managed_fields.is_none());
    assert!(watched.ask("shop", "other").is_none(), "no Rollout moves there");
}

#[tokio::test]
async fn a_kind_of_which_all_are_held_is_not_asked_for() {
    let watched = Watched::<ConfigMap>::kept("configmaps", None);
    let mut listed = Vec::new();
    let count = |namespace| watched.within(namespace, |here| here.count());
    assert_eq!(count("shop"), None, "it has not begun");
    for event in [
        Event::Init,
        Event::InitApply(object(deployment("one"))),
        Event::InitDone,
    ] {
        watched.pass(&mut listed, event);
    }
    assert!(watched.ask("shop", "two").is_none());
    let (one, two) = (watched.find("shop", "one"), watched.find("shop", "two"));
    assert!(one.is_some() && two.is_none());
    assert_eq!((count("shop"), count("other")), (Some(1), Some(0)));
    watched.pass(&mut listed, Event::Delete(object(deployment("one"))));
    assert_eq!(count("shop"), Some(0));
}

#[tokio::test]
async fn of_what_went_while_a_watch_was_away_it_tells_when_it_begins_anew() {
    let watched = Watched::<ConfigMap>::kept("configmaps", None);
    let mut told = std::pin::pin!(watched.listen());
    let mut listed = Vec::new();
    let mut list = |names: &[&str]| {
        watched.pass(&mut listed, Event::Init);
        for name in names {
            watched.pass(&mut listed, Event::InitApply(object(deployment(name))));
        }
        watched.pass(&mut listed, Event::InitDone);
    };
    list(&["one", "two"]);
    list(&["two", "three"]);
    let mut seen = Vec::new();
    while let Some(Some(change)) = futures::FutureExt::now_or_never(told.next()) {
        seen.push(match change {
            Change::Begun => "begun".to_owned(),
            Change::Applied(o) => o.metadata.name.clone().unwrap(),
            Change::Deleted(o) => format!("{} is gone", o.metadata.name.as_ref().unwrap()),
        });
    }
    assert_eq!(seen, ["begun", "one", "two", "begun", "one is gone", "two", "three"]);
}
