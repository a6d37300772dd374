//! The loop around every decision: observe, decide, at most one write, which rests on nothing but live reads and what the
//! write itself confirms.

use std::any::Any;
use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flywheel_engine::capture::nameless;
use flywheel_engine::decision::{Decision, Wait};
use flywheel_engine::denial::Denial;
use futures::FutureExt;
use jiff::Timestamp;
use kube::core::error_boundary::InvalidObject;
use kube::{Api, Resource, ResourceExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::apply::{Applied, Kind, apply};
use crate::context::Context;
use crate::controller::Controller;
use crate::guard::Guard;
use crate::inputs::Inputs;
use crate::invalid;
use crate::queue::{Queue, Taken, key};
use crate::record::{publish, record};

use self::asking::answered;
use self::denial::{denial, told};
use self::memory::{Failures, Looks, TRUSTED};
use self::pauses::{doubled, until_looked_again};

/// A reconcile that takes longer is given up: a half-dead connection would hold its object for ever.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Every object is looked at this often, whatever the watches say; what is in progress more often.
const RESYNC: Duration = Duration::from_secs(600);
/// So many seconds earlier at most.
const SPREAD: u64 = 120;
/// Longest pause after failures in a row.
const MAX_BACKOFF: Duration = Duration::from_secs(300);

/// Shortest pause after a write that was refused, because what it rested on had changed.
const AFTER_CONFLICT: Duration = Duration::from_millis(200);
/// Longest one after refusals in a row.
const MAX_AFTER_CONFLICT: Duration = Duration::from_millis(25_600);

/// Reconciles of one kind at the same time.
const AT_ONCE: usize = 32;

/// Why a reconcile failed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server, or the way to it.
    #[error("{0}")]
    Api(#[from] kube::Error),
    /// It took too long.
    #[error("the reconcile took longer than {} s and was given up", TIMEOUT.as_secs())]
    Timeout,
    /// A bug in the operator.
    #[error("the reconcile panicked: {0}")]
    Panic(String),
}

impl ReconcileError {
    /// Label of the metric of errors.
    const fn reason(&self) -> &'static str {
        match self {
            Self::Api(_) => "Api",
            Self::Timeout => "Timeout",
            Self::Panic(_) => "Panic",
        }
    }
}

/// What one controller's reconciles share.
pub struct Driver {
    /// Client, settings, metrics.
    pub context: Context,
    failures: Mutex<Failures>,
    looks: Mutex<Looks>,
    timeout: Duration,
    /// First come, first served: who asked a metric provider meanwhile comes soon after its answer, and the line of those
    /// that wait for a look is in the queue.
    turns: Arc<Semaphore>,
}

impl Driver {
    /// A driver without failures.
    #[must_use]
    pub fn new(context: Context) -> Self {
        Self {
            context,
            failures: Mutex::default(),
            looks: Mutex::default(),
            timeout: TIMEOUT,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// From now on no reconcile begins; those that have begun go on.
    pub fn close(&self) {
        self.turns.close();
    }

    /// Waits for a turn; there is none when the operator stops.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.turns.clone().acquire_owned().await.ok()
    }

    /// Gives up what takes too long. Waiting for a turn is no work that could take too long.
    async fn within<T>(&self, work: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ReconcileError> {
        let outcome = tokio::time::timeout(self.timeout, work).await;
        Ok(outcome.map_err(|_| ReconcileError::Timeout)??)
    }

    /// Whether the stores may be asked first: it had been looked at live not long ago when it was `queued`, or this is its
    /// first look, so that a watch told of it since it is there; and it was not found out since that its store is behind.
    fn trusts_stores<C: Controller>(&self, key: &str, object: &C::Object, queued: Instant) -> bool {
        let mut looks = self.looks();
        if looks.refused.has(key, object.meta().resource_version.as_deref()) {
            return false;
        }
        if looks.is_first(key) {
            looks.looked(key, |key| self.knows::<C>(key));
        }
        looks.trusted_for(key, longest::<C>(object), queued).is_some()
    }

    /// The object of that namespace and name, as the watch knows it.
    fn latest<C: Controller>(&self, key: &str) -> Option<Arc<Guard<C::Object>>> {
        let (namespace, name) = key.split_once('/')?;
        C::watched(&self.context.watches).find(namespace, name)
    }

    /// Whether the watch knows an object of that namespace and name.
    fn knows<C: Controller>(&self, key: &str) -> bool {
        self.latest::<C>(key).is_some()
    }

    /// When to look again after a write that was decided on version `seen` of an object, of which the store has version
    /// `stored`.
    ///
    /// It is looked at again when the watch tells of it, which is at once; not earlier, because the stores would not know of
    /// it. After a conflict the stores are not believed, and the world needs a moment: a longer one each time.
    fn noted<C: Controller>(&self, key: &str, seen: Option<String>, stored: Option<String>, wrote: Wrote) -> Duration {
        let mut looks = self.looks();
        let (seen, stored) = (seen.unwrap_or_default(), stored.unwrap_or_default());
        if matches!(wrote, Wrote::Nothing) {
            let refusals = looks.refusals.failed(key, &stored, |key| self.knows::<C>(key));
            looks.refused.note(key.to_owned(), stored);
            return doubled(AFTER_CONFLICT, refusals, MAX_AFTER_CONFLICT);
        }
        looks.refusals.succeeded(key);
        if matches!(wrote, Wrote::Itself) {
            looks.left.note(key.to_owned(), seen);
        }
        Duration::from_secs(1)
    }

    /// What was to be done for that object is refused.
    fn denied<C: Controller>(&self, object: &C::Object, denial: Denial) {
        let uid = object.uid().unwrap_or_default();
        let exists = |key: &str| self.knows::<C>(key);
        self.looks().denials.refused(&key(object), uid, denial, exists);
    }

    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When an object is looked at again, if nothing happens before.
pub type Pause = Option<Duration>;

/// Looks at objects as they come, and ends after the last look when `stop` says so.
pub async fn work<C: Controller>(driver: Arc<Driver>, queue: Arc<Queue>, mut stop: watch::Receiver<bool>) {
    let mut looks = JoinSet::new();
    loop {
        let next = async { Some((driver.turn().await?, queue.next().await)) };
        let next = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => None,
            next = next => next,
        };
        let Some((turn, taken)) = next else { break };
        looks.spawn(attend::<C>(driver.clone(), turn, taken));
        while looks.try_join_next().is_some() {}
    }
    driver.close();
    while looks.join_next().await.is_some() {}
}

/// Looks at an object as it is now, if it is there yet.
async fn attend<C: Controller>(driver: Arc<Driver>, turn: OwnedSemaphorePermit, mut taken: Taken) {
    taken.pause = driver.looks().held_off(&taken.key);
    if taken.pause.is_some() {
        return;
    }
    driver.context.metrics.queued(C::NAME, taken.since.elapsed());
    let Some(object) = driver.latest::<C>(&taken.key) else {
        return;
    };
    // Should a bug end this task.
    taken.pause = Some(RESYNC);
    taken.pause = match reconcile::<C>(&object, &driver, turn, taken.since).await {
        Ok(pause) => pause,
        Err(error) => Some(after_failure::<C>(&object, &error, &driver)),
    };
}

/// One reconcile of one object, which has waited since `queued`.
///
/// # Errors
/// See [`ReconcileError`].
async fn reconcile<C: Controller>(
    object: &Guard<C::Object>,
    driver: &Driver,
    turn: OwnedSemaphorePermit,
    queued: Instant,
) -> Result<Pause, ReconcileError> {
    let known = match &object.0 {
        Ok(known) => known,
        Err(unreadable) => {
            driver.within(mark::<C>(&driver.context, unreadable)).await?;
            // Should no watch tell that it was mended, or that what kept it from going is gone.
            let leaving = unreadable.metadata.deletion_timestamp.is_some();
            return Ok(Some(if leaving { TRUSTED } else { RESYNC }));
        }
    };
    let (namespace, name) = (known.namespace().unwrap_or_default(), known.name_any());
    // Not `name`: in the JSON log that is the span's own.
    let span = tracing::info_span!("reconcile", controller = C::NAME, namespace, object = name);
    let started = Instant::now();
    let outcome = AssertUnwindSafe(step::<C>(driver, turn, known, queued))
        .catch_unwind()
        .instrument(span)
        .await
        .unwrap_or_else(|panic| Err(ReconcileError::Panic(text(panic.as_ref()))));
    let result = match &outcome {
        Ok(_) => {
            driver.failures().succeeded(&key(known));
            "Success"
        }
        Err(error) => {
            driver.context.metrics.error(C::NAME, error.reason());
            error.reason()
        }
    };
    driver.context.metrics.reconciled(C::NAME, result, started.elapsed());
    outcome
}

/// An object that cannot be read says so itself, and goes if it is deleted; no other object is held up by it.
async fn mark<C: Controller>(context: &Context, object: &InvalidObject) -> Result<(), kube::Error> {
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let name = object.metadata.name.clone().unwrap_or_default();
    tracing::error!(
        controller = C::NAME,
        namespace,
        name,
        error = object.error,
        "the object cannot be read"
    );
    context.metrics.error(C::NAME, "Invalid");
    invalid::attend::<C>(context, &namespace, &name, &object.error).await
}

fn text(panic: &(dyn Any + Send)) -> String {
    let known = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    known
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

/// Looks again after a pause that doubles with every failure in a row of this object as it is, and not before the API
/// server wants.
fn after_failure<C: Controller>(object: &Guard<C::Object>, error: &ReconcileError, driver: &Driver) -> Duration {
    let key = key(object);
    let (namespace, name) = key.split_once('/').unwrap_or_default();
    let version = object.meta().resource_version.as_deref().unwrap_or_default();
    let count = driver.failures().failed(&key, version, |key| driver.knows::<C>(key));
    let asked = match error {
        ReconcileError::Api(kube::Error::Api(answer)) => driver.context.throttle.pause(answer),
        _ => Duration::ZERO,
    };
    if !asked.is_zero() {
        // Also if something happens before.
        driver.looks().hold_off(&key, asked);
    }
    let pause = doubled(Duration::from_secs(1), count, MAX_BACKOFF).max(asked);
    tracing::warn!(controller = C::NAME, namespace, name, %error, count, pause_seconds = pause.as_secs(), "reconcile failed");
    pause
}

/// Looks at the object, and writes at most once.
async fn step<C: Controller>(
    driver: &Driver,
    turn: OwnedSemaphorePermit,
    known: &C::Object,
    queued: Instant,
) -> Result<Pause, ReconcileError> {
    let context = &driver.context;
    let (namespace, key) = (known.namespace().unwrap_or_default(), key(known));
    let version = known.resource_version();
    if driver.looks().left.has(&key, version.as_deref()) {
        return Ok(Some(Duration::from_secs(1)));
    }
    let now = context.clock.now();
    let api = Api::<C::Object>::namespaced(context.client.clone(), &namespace);
    let trusted = driver.trusts_stores::<C>(&key, known, queued);
    let object = if trusted {
        // No write is done over another version of it than this: it is not asked for once more.
        Cow::Borrowed(known)
    } else {
        match driver.within(api.get_opt(&known.name_any())).await? {
            Some(object) => Cow::Owned(object),
            None => return Ok(None),
        }
    };
    let (seen, longest) = (object.resource_version(), longest::<C>(&object));
    if !trusted && seen == version {
        driver.looks().refused.forget(&key);
    }
    let (answers, turn) = match answered::<C>(driver, turn, &object, now).await? {
        ControlFlow::Continue(answered) => answered,
        ControlFlow::Break(pause) => return Ok(pause),
    };
    let reads = if trusted { Inputs::stored } else { Inputs::live };
    let inputs = reads(context, &namespace).denied(driver.looks().denials.of(&key, object.meta().uid.as_deref()));
    let look = Look::<C> {
        object,
        answers,
        now,
        inputs,
    };
    let outcome = driver.within(decided::<C>(driver, &api, look)).await?;
    drop(turn);
    // Not after a write that was decided in the stores: only what it rested on was read live.
    if !trusted {
        driver.looks().looked(&key, |key| driver.knows::<C>(key));
    }
    Ok(Some(match outcome {
        ControlFlow::Continue(wait) => {
            tracing::debug!(reason = wait.reason, "wait");
            let mut looks = driver.looks();
            looks.denials.forget(&key);
            let trusted_for = looks.trusted_for(&key, longest, Instant::now());
            until_looked_again(&wait, trusted_for.unwrap_or_default(), context.clock.now())
        }
        ControlFlow::Break(wrote) => driver.noted::<C>(&key, seen, version, wrote),
    }))
}

/// What became of a write.
#[derive(Clone, Copy)]
enum Wrote {
    /// The object itself was written.
    Itself,
    /// Another object was.
    Other,
    /// It was refused, because something had changed.
    Nothing,
}

impl Wrote {
    const fn of(applied: Applied, itself: bool) -> Self {
        match applied {
            Applied::Done if itself => Self::Itself,
            Applied::Done => Self::Other,
            Applied::Outdated => Self::Nothing,
        }
    }
}

/// What follows from a decision: that nothing is to be done now, or what became of its write.
type Outcome = ControlFlow<Wrote, Wait>;

/// What a decision is made on.
struct Look<'a, C: Controller> {
    object: Cow<'a, C::Object>,
    answers: C::Answers,
    now: Timestamp,
    inputs: Inputs<'a>,
}

/// Observes and decides, until all that the decision looked at was read live, or is confirmed by the write; then writes at
/// most once. Most looks are woken by changes that do not concern what is waited for: they cost the API server next to
/// nothing.
async fn decided<C: Controller>(
    driver: &Driver,
    api: &Api<C::Object>,
    mut look: Look<'_, C>,
) -> Result<Outcome, kube::Error> {
    let decision = loop {
        let (object, answers) = (look.object.as_ref().clone(), look.answers.clone());
        // In a box, which is gone before the write: all that may be read takes as much room as many objects.
        let observed = Box::pin(C::observe(&driver.context, &look.inputs, object, answers, look.now));
        let observation = observed.await?;
        let decision = C::decide(&observation);
        let again = match &decision {
            Decision::Wait(_) => false,
            Decision::Record(_) => look.inputs.confirm(None),
            Decision::Do(effect) => look.inputs.confirm(C::confirms(&look.object, &effect.action)),
        };
        if again {
            continue;
        }
        if tracing::enabled!(tracing::Level::TRACE) {
            tracing::trace!(observation = %nameless(&observation), "observed");
        }
        break decision;
    };
    Box::pin(carried_out::<C>(driver, api, &look.object, decision)).await
}

/// Does what was decided.
async fn carried_out<C: Controller>(
    driver: &Driver,
    api: &Api<C::Object>,
    object: &C::Object,
    decision: Decision<C::Status>,
) -> Result<Outcome, kube::Error> {
    let context = &driver.context;
    let written = match decision {
        Decision::Wait(wait) => return Ok(ControlFlow::Continue(wait)),
        Decision::Record(change) => {
            let why = "record the status";
            tracing::info!(events = change.events.len(), "{why}");
            let written = record(context, object.clone(), change).await;
            if let Some(denial) = denial(why, &written) {
                publish(context, object, told(&denial)).await;
            }
            Wrote::of(written?, true)
        }
        Decision::Do(effect) => {
            tracing::info!(why = effect.why, "act");
            let uid = effect.action.uid();
            let itself = uid.is_some() && uid == object.meta().uid.as_deref();
            if !itself && !is_current(api, object).await? {
                return Ok(ControlFlow::Break(Wrote::Nothing));
            }
            let namespace = object.namespace().unwrap_or_default();
            let written = apply(&context.client, &namespace, effect.action).await;
            if let Some(denial) = denial(&effect.why, &written) {
                publish(context, object, told(&denial)).await;
                driver.denied::<C>(object, denial);
            }
            let applied = written?;
            // What was refused because something had changed was not tried.
            if matches!(applied, Applied::Done) {
                driver.looks().denials.forget(&key(object));
            }
            Wrote::of(applied, itself)
        }
    };
    Ok(ControlFlow::Break(written))
}

/// So long the stores are believed after an object was looked at live, and then it is looked at live again, whatever the
/// watches say. Of those that rest each has a time of its own: after a start all of them were looked at in the same seconds.
fn longest<C: Controller>(object: &C::Object) -> Duration {
    if C::in_progress(object) {
        return TRUSTED;
    }
    let mut hasher = DefaultHasher::new();
    key(object).hash(&mut hasher);
    RESYNC - Duration::from_secs(hasher.finish() % SPREAD)
}

/// Whether the acting object is still the one that was decided on.
///
/// It was read before the objects that the effect changes: what it says may be outdated although their resource
/// versions are not. Whoever changes its mind after this look writes on those objects first.
async fn is_current<K: Kind>(api: &Api<K>, object: &K) -> Result<bool, kube::Error> {
    let now = api.get_metadata_opt(&object.name_any()).await?;
    Ok(now.is_some_and(|now| now.uid() == object.uid() && now.resource_version() == object.resource_version()))
}

mod asking;
mod denial;
mod memory;
mod pauses;
#[cfg(test)]
mod tests;
