//! Which watch wakes which controller.
//!
//! A controller hears of its own kind and of related ones from watches that all controllers share.

mod news;

use std::fmt::Debug;
use std::sync::Arc;

use flywheel_api::{Approval, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout};
use futures::future::ready;
use futures::{Stream, StreamExt, stream};
use kube::Resource;
use kube::runtime::reflector::{ObjectRef, Store};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use self::news::{all, news, outline, pipeline_outline, present, run_outline, spec};
use crate::context::Context;
use crate::controller::{Controller, Related, RelatedKind};
use crate::driver::{Driver, on_error, reconcile};
use crate::guard::Guard;

/// Objects of this controller that a change concerns, and that will not see it anyway.
fn concerned<C: Controller>(driver: &Driver, namespace: &str, related: &Related) -> Vec<ObjectRef<Guard<C::Object>>> {
    let concerned = |guard: &&Arc<Guard<C::Object>>| {
        let object = guard.0.as_ref();
        object.is_ok_and(|object| C::concerns(object, related)) && !driver.awaits_turn(guard.as_ref())
    };
    let here = C::watched(&driver.context.watches).within(namespace, |here| {
        let concerned = here.filter(concerned);
        concerned.map(|guard| ObjectRef::from_obj(guard.as_ref())).collect()
    });
    here.unwrap_or_default()
}

type Built<C> = kube::runtime::Controller<Guard<<C as Controller>::Object>>;

/// Adds these objects as related ones of that kind.
fn told<C: Controller, O>(
    controller: Built<C>,
    driver: &Arc<Driver>,
    kind: RelatedKind,
    objects: impl Stream<Item = Arc<O>> + Send + 'static,
) -> Built<C>
where
    O: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    told_about::<C, O>(controller, driver, kind, objects, |_| None)
}

/// The same with what each is about.
fn told_about<C: Controller, O>(
    controller: Built<C>,
    driver: &Arc<Driver>,
    kind: RelatedKind,
    objects: impl Stream<Item = Arc<O>> + Send + 'static,
    about: impl Fn(&O) -> Option<String> + Send + Sync + 'static,
) -> Built<C>
where
    O: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let driver = driver.clone();
    controller.watches_shared_stream(objects, move |object: Arc<O>| {
        let related = Related {
            kind,
            name: object.meta().name.clone().unwrap_or_default(),
            about: about(&object),
            labels: object.meta().labels.clone().unwrap_or_default(),
            created: object.meta().creation_timestamp.clone(),
        };
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        concerned::<C>(&driver, namespace, &related)
    })
}

fn add<C: Controller>(controller: Built<C>, driver: &Arc<Driver>, kind: RelatedKind) -> Built<C> {
    let watches = &driver.context.watches;
    match kind {
        RelatedKind::Job => told::<C, _>(controller, driver, kind, all(watches.jobs.listen())),
        RelatedKind::Pod => told::<C, _>(controller, driver, kind, all(watches.pods.listen())),
        RelatedKind::Deployment => told::<C, _>(controller, driver, kind, all(watches.deployments.listen())),
        RelatedKind::DeploymentSpec => told::<C, _>(controller, driver, kind, news(watches.deployments.listen(), spec)),
        RelatedKind::Pipeline => told::<C, _>(controller, driver, kind, all(watches.pipelines.listen())),
        RelatedKind::PipelineSpec => told::<C, _>(controller, driver, kind, news(watches.pipelines.listen(), spec)),
        RelatedKind::PipelineOutline => {
            let pipelines = news(watches.pipelines.listen(), pipeline_outline);
            told_about::<C, Guard<FlywheelPipeline>>(controller, driver, kind, pipelines, |pipeline| {
                Some(pipeline.0.as_ref().ok()?.spec.model.name.clone())
            })
        }
        RelatedKind::Run => told::<C, _>(controller, driver, kind, all(watches.runs.listen())),
        RelatedKind::RunOutline => {
            let runs = news(watches.runs.listen(), run_outline);
            told_about::<C, Guard<FlywheelRun>>(controller, driver, kind, runs, |run| {
                Some(run.0.as_ref().ok()?.spec.pipeline_ref.name.clone())
            })
        }
        RelatedKind::ModelVersion => {
            let versions = all(watches.versions.listen());
            told_about::<C, Guard<ModelVersion>>(controller, driver, kind, versions, |version| {
                Some(version.0.as_ref().ok()?.spec.model_name.clone())
            })
        }
        RelatedKind::ModelVersionSpec => told::<C, _>(controller, driver, kind, news(watches.versions.listen(), spec)),
        RelatedKind::Rollout => told::<C, _>(controller, driver, kind, all(watches.rollouts.listen())),
        RelatedKind::RolloutOutline => {
            let rollouts = news(watches.rollouts.listen(), outline);
            told_about::<C, Guard<Rollout>>(controller, driver, kind, rollouts, |rollout| {
                Some(rollout.0.as_ref().ok()?.spec.plan.target_ref.name.clone())
            })
        }
        RelatedKind::BiasPolicy => told::<C, _>(controller, driver, kind, news(watches.policies.listen(), spec)),
        RelatedKind::Approval => {
            let approvals = all(watches.approvals.listen());
            told_about::<C, Guard<Approval>>(controller, driver, kind, approvals, |approval| {
                Some(approval.0.as_ref().ok()?.spec.subject_ref.name.clone())
            })
        }
    }
}

/// The objects that each change of the settings may concern.
fn changes<C: Controller>(
    receiver: watch::Receiver<Arc<flywheel_engine::settings::Settings>>,
    store: Store<Guard<C::Object>>,
) -> impl Stream<Item = ObjectRef<Guard<C::Object>>> + Send + 'static {
    let changed = stream::unfold(receiver, |mut receiver| async move {
        receiver.changed().await.ok()?;
        Some(((), receiver))
    });
    changed.flat_map(move |()| {
        let uses = |guard: &&Arc<Guard<C::Object>>| guard.0.as_ref().is_ok_and(C::uses_settings);
        let all = store.state();
        let concerned = all.iter().filter(uses).map(|guard| ObjectRef::from_obj(guard.as_ref()));
        stream::iter(concerned.collect::<Vec<_>>())
    })
}

/// Runs one controller until `stop` says so, then lets running reconciles end. It listens to the watches before this
/// returns, so that they may begin.
pub fn run<C: Controller>(
    context: &Context,
    mut stop: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send + use<C> {
    let driver = Arc::new(Driver::new(context.clone()));
    let closing = driver.clone();
    let watched = C::watched(&context.watches);
    let informed = driver.clone();
    let own = present(watched.listen()).filter(move |guard| ready(!informed.awaits_turn(guard.as_ref())));
    let mut controller =
        kube::runtime::Controller::for_shared_stream(own, watched.store()).graceful_shutdown_on(async move {
            let _ = stop.wait_for(|stop| *stop).await;
            closing.close();
        });
    let store = controller.store();
    controller = controller.reconcile_on(changes::<C>(context.settings_changes(), store));
    for kind in C::RELATED {
        controller = add::<C>(controller, &driver, *kind);
    }
    context.metrics.watch_store::<C>(controller.store());
    // What fails is told by the driver; the watches have a life of their own.
    controller
        .run(reconcile::<C>, on_error::<C>, driver)
        .for_each(|_| async {})
}
