//! Which watch wakes which controller.
//!
//! Related kinds are watched by metadata only, but for Rollouts: what a decision needs is read live.

mod news;

use std::fmt::Debug;
use std::sync::Arc;

use flywheel_api::{Approval, BiasPolicy, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout, names};
use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::controller::Error;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use self::news::{news, outline, spec};
use crate::apply::Kind;
use crate::context::Context;
use crate::controller::{Controller, Related, RelatedKind};
use crate::driver::{Driver, on_error, reconcile};

/// An API of one namespace, or of all.
fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Objects of this controller that a change concerns.
fn concerned<C: Controller>(
    store: &Store<DeserializeGuard<C::Object>>,
    namespace: &str,
    related: &Related,
) -> Vec<ObjectRef<DeserializeGuard<C::Object>>> {
    let same = |guard: &&Arc<DeserializeGuard<C::Object>>| {
        guard
            .0
            .as_ref()
            .is_ok_and(|object| object.namespace().as_deref() == Some(namespace) && C::concerns(object, related))
    };
    store
        .state()
        .iter()
        .filter(same)
        .map(|guard| ObjectRef::from_obj(guard.as_ref()))
        .collect()
}

type Built<C> = kube::runtime::Controller<DeserializeGuard<<C as Controller>::Object>>;

/// Adds a watch on the metadata of a kind.
fn related<C: Controller, K: Kind + Send + Sync + 'static>(
    controller: Built<C>,
    client: &Client,
    namespace: Option<&str>,
    kind: RelatedKind,
    config: watcher::Config,
) -> Built<C> {
    let all: Api<PartialObjectMeta<K>> = api(client, namespace);
    told::<C, _>(controller, kind, watcher(all, config).touched_objects())
}

fn approvals<C: Controller>(controller: Built<C>, client: &Client, namespace: Option<&str>) -> Built<C> {
    let store = controller.store();
    let all: Api<Approval> = api(client, namespace);
    controller.watches(all, watcher::Config::default(), move |approval: Approval| {
        let related = Related {
            kind: RelatedKind::Approval,
            name: approval.spec.subject_ref.name.clone(),
            labels: approval.labels().clone(),
        };
        concerned::<C>(&store, &approval.namespace().unwrap_or_default(), &related)
    })
}

/// Adds a watch on what others than its run look at in a Rollout.
fn outlines<C: Controller>(controller: Built<C>, client: &Client, namespace: Option<&str>) -> Built<C> {
    let all: Api<DeserializeGuard<Rollout>> = api(client, namespace);
    let events = watcher(all, watcher::Config::default());
    told::<C, _>(controller, RelatedKind::RolloutOutline, news(events, outline))
}

/// Adds a watch on what users write in objects of a kind.
fn specs<C: Controller, K: Kind + Send + Sync + 'static>(
    controller: Built<C>,
    client: &Client,
    namespace: Option<&str>,
    kind: RelatedKind,
) -> Built<C> {
    let all: Api<PartialObjectMeta<K>> = api(client, namespace);
    let events = watcher(all, watcher::Config::default());
    told::<C, _>(controller, kind, news(events, spec))
}

/// Adds these objects as related ones of that kind.
fn told<C: Controller, K>(
    controller: Built<C>,
    kind: RelatedKind,
    objects: impl Stream<Item = Result<K, watcher::Error>> + Send + 'static,
) -> Built<C>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let store = controller.store();
    controller.watches_stream(objects, move |object: K| {
        let related = Related {
            kind,
            name: object.meta().name.clone().unwrap_or_default(),
            labels: object.meta().labels.clone().unwrap_or_default(),
        };
        concerned::<C>(&store, object.meta().namespace.as_deref().unwrap_or_default(), &related)
    })
}

fn add<C: Controller>(controller: Built<C>, client: &Client, namespace: Option<&str>, kind: RelatedKind) -> Built<C> {
    let any = watcher::Config::default();
    match kind {
        RelatedKind::Job => related::<C, Job>(controller, client, namespace, kind, any.labels(names::LABEL_RUN)),
        RelatedKind::Pod => related::<C, Pod>(controller, client, namespace, kind, any.labels(names::LABEL_RUN)),
        RelatedKind::Deployment => related::<C, Deployment>(controller, client, namespace, kind, any),
        RelatedKind::DeploymentSpec => specs::<C, Deployment>(controller, client, namespace, kind),
        RelatedKind::Pipeline => related::<C, FlywheelPipeline>(controller, client, namespace, kind, any),
        RelatedKind::PipelineSpec => specs::<C, FlywheelPipeline>(controller, client, namespace, kind),
        RelatedKind::Run => related::<C, FlywheelRun>(controller, client, namespace, kind, any),
        RelatedKind::ModelVersion => related::<C, ModelVersion>(controller, client, namespace, kind, any),
        RelatedKind::Rollout => related::<C, Rollout>(controller, client, namespace, kind, any),
        RelatedKind::ModelVersionSpec => specs::<C, ModelVersion>(controller, client, namespace, kind),
        RelatedKind::RolloutOutline => outlines::<C>(controller, client, namespace),
        RelatedKind::BiasPolicy => specs::<C, BiasPolicy>(controller, client, namespace, kind),
        RelatedKind::Approval => approvals::<C>(controller, client, namespace),
    }
}

/// The objects that each change of the settings may concern.
fn changes<C: Controller>(
    receiver: watch::Receiver<Arc<flywheel_engine::settings::Settings>>,
    store: Store<DeserializeGuard<C::Object>>,
) -> impl Stream<Item = ObjectRef<DeserializeGuard<C::Object>>> + Send + 'static {
    let changed = stream::unfold(receiver, |mut receiver| async move {
        receiver.changed().await.ok()?;
        Some(((), receiver))
    });
    changed.flat_map(move |()| {
        let uses = |guard: &&Arc<DeserializeGuard<C::Object>>| guard.0.as_ref().is_ok_and(C::uses_settings);
        let all = store.state();
        let concerned = all.iter().filter(uses).map(|guard| ObjectRef::from_obj(guard.as_ref()));
        stream::iter(concerned.collect::<Vec<_>>())
    })
}

/// Runs one controller until `stop` says so, then lets running reconciles end.
pub async fn run<C: Controller>(context: Context, namespace: Option<String>, mut stop: watch::Receiver<bool>) {
    let client = context.client.clone();
    let objects: Api<DeserializeGuard<C::Object>> = api(&client, namespace.as_deref());
    let health = context.health.clone();
    let driver = Arc::new(Driver::new(context.clone()));
    let closing = driver.clone();
    let mut controller =
        kube::runtime::Controller::new(objects, watcher::Config::default()).graceful_shutdown_on(async move {
            let _ = stop.wait_for(|stop| *stop).await;
            closing.close();
        });
    let store = controller.store();
    controller = controller.reconcile_on(changes::<C>(context.settings_changes(), store));
    for kind in C::RELATED {
        controller = add::<C>(controller, &client, namespace.as_deref(), *kind);
    }
    context.metrics.watch_store::<C>(controller.store());
    let mut results = Box::pin(controller.run(reconcile::<C>, on_error::<C>, driver));
    while let Some(result) = results.next().await {
        match result {
            Ok(_) | Err(Error::ObjectNotFound(_) | Error::ReconcilerFailed(..)) => {}
            Err(error) => {
                tracing::warn!(controller = C::NAME, %error, "a watch failed");
                health.watch_failed(C::NAME, std::time::Instant::now());
            }
        }
    }
}
