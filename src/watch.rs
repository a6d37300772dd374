//! Each kind is watched once, and whoever wants to know of its changes is told after the store has them.
//!
//! So a look that a change wakes finds that change in the store: what waits by what the store says is woken when that
//! changes, and only who is about to write has to ask the API server.

mod held;

use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use flywheel_api::{Approval, BiasPolicy, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout, names};
use flywheel_engine::rollout;
use futures::{Stream, StreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::batch::Batch;
use crate::contents::Contents;
use crate::guard::Guard;
use crate::health::Health;

pub use self::held::{Ask, Known};
use self::held::{Held, Place};

/// So many seconds a watch lasts; then it goes on in a new one. One whose connection is dead without a word is begun anew a
/// few seconds later: until then nobody hears of what people ask for.
pub const LASTS: u32 = 55;

/// So many objects are listed at once when a watch begins: a page is in memory as text and as objects.
const PAGE: u32 = 100;

/// What all watches have in common.
pub fn lasting() -> watcher::Config {
    watcher::Config::default().timeout(LASTS).page_size(PAGE)
}

/// What a listener is told.
#[derive(Clone, Debug)]
pub enum Change<O> {
    /// The watch begins anew: all objects that exist follow. Of those that went meanwhile it is told, too, but for a kind of
    /// which only some are held.
    Begun,
    /// An object is there, or changed.
    Applied(Arc<O>),
    /// An object is gone.
    Deleted(Arc<O>),
}

/// Says of a namespace and a name whether an object of that name is held.
type Which = Box<dyn Fn(&str, &str) -> bool + Send + Sync>;

/// Who wrote which field takes as much room as the fields, and no decision asks for it of what is watched.
fn lean<O: Resource>(object: &mut O) {
    object.meta_mut().managed_fields = None;
}

/// Namespace and name of an object.
pub fn place<O: Resource>(object: &O) -> Place {
    let metadata = object.meta();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&metadata.namespace), text(&metadata.name))
}

/// The watch of one kind.
pub struct Watched<O: Resource<DynamicType = ()> + Clone + 'static> {
    name: &'static str,
    labels: Option<&'static str>,
    /// The objects, or those that are held; nothing before the watch has begun.
    held: RwLock<Option<Held<O>>>,
    /// Which are held, if not all.
    some: Option<Which>,
    listeners: Mutex<Vec<UnboundedSender<Change<O>>>>,
    /// Live lists of a namespace, for who must not believe the store.
    pub lists: Batch<Vec<O>>,
}

impl<O> Watched<O>
where
    O: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// A kind whose objects are kept, or of them those with this label.
    fn kept(name: &'static str, labels: Option<&'static str>) -> Self {
        Self {
            name,
            labels,
            held: RwLock::default(),
            some: None,
            listeners: Mutex::default(),
            lists: Batch::default(),
        }
    }

    /// A kind of which users have many, and of which those are held that are chosen when they are made, change or are asked
    /// for; of all others only the news are told.
    fn some(name: &'static str, which: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Self {
        Self {
            some: Some(Box::new(which)),
            ..Self::kept(name, None)
        }
    }

    /// All objects that are held, in the order of their places; none before the watch has begun.
    pub fn all(&self) -> Vec<Arc<O>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.as_ref()
            .map(|held| held.all().cloned().collect())
            .unwrap_or_default()
    }

    /// What the caller makes of the objects of a namespace, which come in the order of their names, once all that exist are
    /// known; never if only some are held. There may be many and few of use, so none is copied: the watch waits meanwhile.
    pub fn within<T>(&self, namespace: &str, look: impl FnOnce(&mut dyn Iterator<Item = &Arc<O>>) -> T) -> Option<T> {
        if self.some.is_some() {
            return None;
        }
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        Some(look(&mut held.as_ref()?.within(namespace)))
    }

    /// The object of that name, if the watch knows one.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<O>> {
        match self.known(namespace, name) {
            Known::Here(object) => Some(object),
            Known::Missing | Known::Nothing => None,
        }
    }

    /// What the watch knows of that name. That there is no object, it knows only of names that are asked for.
    pub fn known(&self, namespace: &str, name: &str) -> Known<O> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().map_or(Known::Nothing, |held| held.known(namespace, name))
    }

    /// To be called before the API server is asked for an object, so that the answer can be held; nothing if it would not be.
    pub fn ask(&self, namespace: &str, name: &str) -> Option<Ask> {
        let which = self.some.as_ref()?;
        which(namespace, name).then_some(())?;
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.as_mut()?.ask((namespace.to_owned(), name.to_owned()))
    }

    /// What the API server answered.
    pub fn answered(&self, ask: Ask, mut object: Option<O>) {
        let Some(which) = &self.some else { return };
        object.iter_mut().for_each(lean);
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.as_mut() {
            held.learned(ask, object.map(Arc::new));
            held.tidy(which);
        }
    }

    /// All changes from now on. Whoever listens before the watch begins hears of every object.
    pub fn listen(&self) -> impl Stream<Item = Change<O>> + Send + 'static {
        let (sender, receiver) = unbounded_channel();
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(sender);
        stream::unfold(receiver, |mut receiver: UnboundedReceiver<Change<O>>| async move {
            receiver.recv().await.map(|change| (change, receiver))
        })
    }

    fn tell(&self, change: &Change<O>) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.send(change.clone()).is_ok());
    }

    /// Follows the objects for ever; a watch that fails is begun anew after a pause.
    async fn follow(self: Arc<Self>, api: Api<O>, health: Arc<Health>) {
        let mut listed = Vec::new();
        let any = lasting();
        let config = self.labels.map_or(any.clone(), |labels| any.labels(labels));
        let mut events = pin!(watcher(api, config).default_backoff().modify(lean));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.pass(&mut listed, event),
                Err(error) => {
                    tracing::warn!(kind = self.name, %error, "a watch failed");
                    health.watch_failed(self.name, Instant::now());
                }
            }
        }
    }

    /// What is held first, then the listeners. Of a kind that is kept the objects that are listed replace those of before when
    /// all of them are there.
    fn pass(&self, listed: &mut Vec<Arc<O>>, event: Event<O>) {
        let keeps = self.some.is_none();
        match event {
            Event::Init if !keeps => {
                self.begun(&[]);
                self.tell(&Change::Begun);
            }
            Event::InitDone if !keeps => {
                let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
                held.iter_mut().for_each(Held::listed);
            }
            Event::Init => listed.clear(),
            Event::InitApply(object) if keeps => listed.push(Arc::new(object)),
            Event::InitDone => {
                let all = std::mem::take(listed);
                let gone = self.begun(&all);
                self.tell(&Change::Begun);
                gone.into_iter().for_each(|o| self.tell(&Change::Deleted(o)));
                all.into_iter().for_each(|o| self.tell(&Change::Applied(o)));
            }
            Event::InitApply(object) | Event::Apply(object) => {
                let object = Arc::new(object);
                self.told(place(object.as_ref()), Some(object.clone()));
                self.tell(&Change::Applied(object));
            }
            Event::Delete(object) => {
                self.told(place(&object), None);
                self.tell(&Change::Deleted(Arc::new(object)));
            }
        }
    }

    /// Holds these, and no others; those that were held and are there no more.
    fn begun(&self, all: &[Arc<O>]) -> Vec<Arc<O>> {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let held = held.get_or_insert_default();
        let before: Vec<Arc<O>> = held.all().cloned().collect();
        held.clear();
        for object in all {
            held.told(place(object.as_ref()), Some(object.clone()));
        }
        let is_gone = |object: &Arc<O>| {
            let (namespace, name) = place(object.as_ref());
            matches!(held.known(&namespace, &name), Known::Nothing)
        };
        before.into_iter().filter(is_gone).collect()
    }

    /// Holds these objects alone, as if the watch had told of them.
    #[cfg(test)]
    pub fn has_told_of(&self, objects: impl IntoIterator<Item = O>) {
        let all: Vec<Arc<O>> = objects.into_iter().map(Arc::new).collect();
        self.begun(&all);
    }

    /// Holds it, unless it is none of those that are held, or no longer, if it is gone; of a name that is asked for it is then
    /// known that there is none.
    fn told(&self, place: Place, object: Option<Arc<O>>) {
        let holds = match &self.some {
            Some(which) => which(&place.0, &place.1),
            None => object.is_some(),
        };
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let Some(held) = held.as_mut() else { return };
        if holds {
            held.told(place, object);
        } else {
            held.forget(&place);
        }
    }
}

/// The watches of one namespace, or of all.
pub struct Watches {
    /// FlywheelPipelines.
    pub pipelines: Arc<Watched<Guard<FlywheelPipeline>>>,
    /// FlywheelRuns.
    pub runs: Arc<Watched<Guard<FlywheelRun>>>,
    /// ModelVersions.
    pub versions: Arc<Watched<Guard<ModelVersion>>>,
    /// Rollouts.
    pub rollouts: Arc<Watched<Guard<Rollout>>>,
    /// BiasPolicies.
    pub policies: Arc<Watched<Guard<BiasPolicy>>>,
    /// Approvals.
    pub approvals: Arc<Watched<Guard<Approval>>>,
    /// Deployments: of all the news, and those between which a Rollout is moving.
    pub deployments: Arc<Watched<Guard<Deployment>>>,
    /// Jobs of runs.
    pub jobs: Arc<Watched<Guard<Job>>>,
    /// Pods of runs.
    pub pods: Arc<Watched<Guard<Pod>>>,
    /// Snapshots of pipelines, their metadata alone.
    pub snapshots: Arc<Watched<PartialObjectMeta<ControllerRevision>>>,
    /// What is in those that were read.
    pub contents: Contents,
}

/// Whether a Rollout moves between the Deployment of that name and another one.
fn is_moved(rollouts: &Watched<Guard<Rollout>>, namespace: &str, name: &str) -> bool {
    let moves = |guard: &Arc<Guard<Rollout>>| {
        let rollout = guard.0.as_ref();
        rollout.is_ok_and(|rollout| rollout::is_open(rollout) && rollout::is_side(rollout, name))
    };
    rollouts
        .within(namespace, |mut here| (&mut here).any(moves))
        .unwrap_or_default()
}

impl Default for Watches {
    fn default() -> Self {
        let rollouts = Arc::new(Watched::kept("rollouts", None));
        let moving = rollouts.clone();
        Self {
            pipelines: Arc::new(Watched::kept("flywheelpipelines", None)),
            runs: Arc::new(Watched::kept("flywheelruns", None)),
            versions: Arc::new(Watched::kept("modelversions", None)),
            rollouts,
            policies: Arc::new(Watched::kept("biaspolicies", None)),
            approvals: Arc::new(Watched::kept("approvals", None)),
            deployments: Arc::new(Watched::some("deployments", move |namespace, name| {
                is_moved(&moving, namespace, name)
            })),
            jobs: Arc::new(Watched::kept("jobs", Some(names::LABEL_RUN_UID))),
            pods: Arc::new(Watched::kept("pods", Some(names::LABEL_RUN_UID))),
            snapshots: Arc::new(Watched::kept("controllerrevisions", Some(names::LABEL_PIPELINE_UID))),
            contents: Contents::default(),
        }
    }
}

/// What every watch needs.
struct Begin<'a> {
    client: &'a Client,
    namespace: Option<&'a str>,
    health: &'a Arc<Health>,
    tasks: &'a mut JoinSet<()>,
}

impl Begin<'_> {
    /// An API of one namespace, or of all.
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    fn one<O>(&mut self, watched: &Arc<Watched<O>>)
    where
        O: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let follow = watched.clone().follow(self.api(), self.health.clone());
        self.tasks.spawn(follow);
    }
}

impl Watches {
    /// Begins to watch; whoever wants to hear of every object listens before.
    pub fn begin(&self, client: &Client, namespace: Option<&str>, health: &Arc<Health>, tasks: &mut JoinSet<()>) {
        let mut all = Begin {
            client,
            namespace,
            health,
            tasks,
        };
        all.one(&self.pipelines);
        all.one(&self.runs);
        all.one(&self.versions);
        all.one(&self.rollouts);
        all.one(&self.policies);
        all.one(&self.approvals);
        all.one(&self.deployments);
        all.one(&self.jobs);
        all.one(&self.pods);
        all.one(&self.snapshots);
    }
}

#[cfg(test)]
mod tests;
