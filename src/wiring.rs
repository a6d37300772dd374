//! Which watch wakes which controller.
//!
//! A controller hears of its own kind and of related ones from watches that all controllers share.

mod news;

use std::sync::Arc;

use flywheel_api::{Approval, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout};
use flywheel_engine::settings::Settings;
use futures::future::pending;
use futures::stream::{BoxStream, select_all};
use futures::{Stream, StreamExt, stream};
use kube::Resource;
use tokio::sync::watch;

use self::news::{all, news, outline, pipeline_outline, present, run_outline, spec};
use crate::context::Context;
use crate::controller::{Controller, Related, RelatedKind};
use crate::driver::{Driver, work};
use crate::guard::Guard;
use crate::queue::{Key, Queue, key};
use crate::watch::Watches;

/// Objects of this controller that a change concerns, and those that cannot be read and may go because of it.
fn concerned<C: Controller>(watches: &Watches, namespace: &str, related: &Related) -> Vec<Key> {
    let concerned = |guard: &&Arc<Guard<C::Object>>| match &guard.0 {
        Ok(object) => C::concerns(object, related),
        Err(unreadable) => C::frees(&unreadable.metadata, related),
    };
    let here = C::watched(watches).within(namespace, |here| {
        let concerned = here.filter(concerned);
        concerned.map(|guard| key(guard.as_ref())).collect()
    });
    here.unwrap_or_default()
}

/// Objects that are to be looked at, as they become so.
type Wakes = BoxStream<'static, Vec<Key>>;

/// Those that these objects concern, as related ones of that kind.
fn told<C: Controller, O>(
    watches: &Arc<Watches>,
    kind: RelatedKind,
    objects: impl Stream<Item = Arc<O>> + Send + 'static,
) -> Wakes
where
    O: Resource<DynamicType = ()> + Send + Sync + 'static,
{
    told_about::<C, O>(watches, kind, objects, |_| None)
}

/// The same with what each is about.
fn told_about<C: Controller, O>(
    watches: &Arc<Watches>,
    kind: RelatedKind,
    objects: impl Stream<Item = Arc<O>> + Send + 'static,
    about: impl Fn(&O) -> Option<String> + Send + Sync + 'static,
) -> Wakes
where
    O: Resource<DynamicType = ()> + Send + Sync + 'static,
{
    let watches = watches.clone();
    let concerned = move |object: Arc<O>| {
        let related = Related {
            kind,
            name: object.meta().name.clone().unwrap_or_default(),
            about: about(&object),
            labels: object.meta().labels.clone().unwrap_or_default(),
            created: object.meta().creation_timestamp.clone(),
        };
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        concerned::<C>(&watches, namespace, &related)
    };
    objects.map(concerned).boxed()
}

/// Those that changes of a related kind concern.
fn related<C: Controller>(watches: &Arc<Watches>, kind: RelatedKind) -> Wakes {
    match kind {
        RelatedKind::Job => told::<C, _>(watches, kind, all(watches.jobs.listen())),
        RelatedKind::Pod => told::<C, _>(watches, kind, all(watches.pods.listen())),
        RelatedKind::Deployment => told::<C, _>(watches, kind, all(watches.deployments.listen())),
        RelatedKind::DeploymentSpec => told::<C, _>(watches, kind, news(watches.deployments.listen(), spec)),
        RelatedKind::Pipeline => told::<C, _>(watches, kind, all(watches.pipelines.listen())),
        RelatedKind::PipelineSpec => told::<C, _>(watches, kind, news(watches.pipelines.listen(), spec)),
        RelatedKind::PipelineOutline => {
            let pipelines = news(watches.pipelines.listen(), pipeline_outline);
            told_about::<C, Guard<FlywheelPipeline>>(watches, kind, pipelines, |pipeline| {
                Some(pipeline.0.as_ref().ok()?.spec.model.name.clone())
            })
        }
        RelatedKind::Run => told::<C, _>(watches, kind, all(watches.runs.listen())),
        RelatedKind::RunOutline => {
            let runs = news(watches.runs.listen(), run_outline);
            told_about::<C, Guard<FlywheelRun>>(watches, kind, runs, |run| {
                Some(run.0.as_ref().ok()?.spec.pipeline_ref.name.clone())
            })
        }
        RelatedKind::ModelVersion => {
            let versions = all(watches.versions.listen());
            told_about::<C, Guard<ModelVersion>>(watches, kind, versions, |version| {
                Some(version.0.as_ref().ok()?.spec.model_name.clone())
            })
        }
        RelatedKind::ModelVersionSpec => told::<C, _>(watches, kind, news(watches.versions.listen(), spec)),
        RelatedKind::Rollout => told::<C, _>(watches, kind, all(watches.rollouts.listen())),
        RelatedKind::RolloutOutline => {
            let rollouts = news(watches.rollouts.listen(), outline);
            told_about::<C, Guard<Rollout>>(watches, kind, rollouts, |rollout| {
                Some(rollout.0.as_ref().ok()?.spec.plan.target_ref.name.clone())
            })
        }
        RelatedKind::BiasPolicy => told::<C, _>(watches, kind, news(watches.policies.listen(), spec)),
        RelatedKind::Approval => {
            let approvals = all(watches.approvals.listen());
            told_about::<C, Guard<Approval>>(watches, kind, approvals, |approval| {
                Some(approval.0.as_ref().ok()?.spec.subject_ref.name.clone())
            })
        }
    }
}

/// Those that each change of the settings may concern.
fn changes<C: Controller>(watches: &Arc<Watches>, receiver: watch::Receiver<Arc<Settings>>) -> Wakes {
    let changed = stream::unfold(receiver, |mut receiver| async move {
        receiver.changed().await.ok()?;
        Some(((), receiver))
    });
    let watches = watches.clone();
    let concerned = move |()| {
        let all = C::watched(&watches).all();
        let uses = all.iter().filter(|guard| guard.0.as_ref().is_ok_and(C::uses_settings));
        uses.map(|guard| key(guard.as_ref())).collect()
    };
    changed.map(concerned).boxed()
}

/// Runs one controller until `stop` says so, then lets running reconciles end. It listens to the watches before this
/// returns, so that they may begin.
pub fn run<C: Controller>(context: &Context, stop: watch::Receiver<bool>) -> impl Future<Output = ()> + Send + use<C> {
    let watches = &context.watches;
    let own = present(C::watched(watches).listen()).map(|guard| vec![key(guard.as_ref())]);
    let mut wakes = vec![own.boxed(), changes::<C>(watches, context.settings_changes())];
    wakes.extend(C::RELATED.iter().map(|kind| related::<C>(watches, *kind)));
    context.metrics.watch_objects::<C>(watches.clone());
    let queue = Arc::<Queue>::default();
    let work = work::<C>(Arc::new(Driver::new(context.clone())), queue.clone(), stop);
    let fill = async move {
        let mut all = select_all(wakes);
        while let Some(keys) = all.next().await {
            keys.into_iter().for_each(|key| queue.add(key));
        }
        // The watches have ended, and with them the operator.
        pending::<()>().await;
    };
    async move {
        tokio::select! {
            () = work => {}
            () = fill => {}
        }
    }
}
