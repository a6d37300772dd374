//! Asking metric providers, which are strangers: it holds up nobody, and is given up when people want something else.

use std::ops::ControlFlow;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use tokio::sync::OwnedSemaphorePermit;

use super::{Driver, Pause, ReconcileError};
use crate::controller::Controller;

/// How often who asks metric providers looks in the store whether people want something else meanwhile.
pub(super) const GLANCE: Duration = Duration::from_millis(200);

/// Answers of metric providers and another turn, or when to look again without them.
pub(super) type Answered<A> = ControlFlow<Pause, (A, OwnedSemaphorePermit)>;

/// What metric providers answer, if they are to be asked. The turn is given up meanwhile, and the questions are when people
/// want something else: a way back does not wait for a provider that is silent.
pub(super) async fn answered<C: Controller>(
    driver: &Driver,
    turn: OwnedSemaphorePermit,
    object: &C::Object,
    now: Timestamp,
) -> Result<Answered<C::Answers>, ReconcileError> {
    let Some(asked) = C::ask(&driver.context, object, now) else {
        return Ok(ControlFlow::Continue((C::Answers::default(), turn)));
    };
    drop(turn);
    let answers = tokio::select! {
        biased;
        answers = driver.within(asked.map(Ok)) => answers?,
        () = given_up::<C>(driver, object) => {
            return Ok(ControlFlow::Break(Some(Duration::ZERO)));
        }
    };
    Ok(match driver.turn().await {
        Some(turn) => ControlFlow::Continue((answers, turn)),
        // The operator stops.
        None => ControlFlow::Break(None),
    })
}

/// Waits until the operator stops, or until the store has this object with another wish: a spec that was changed, or its
/// deletion. Both are another generation; what is written in its status is none.
async fn given_up<C: Controller>(driver: &Driver, object: &C::Object) {
    let (seen, watched) = (object.meta(), C::watched(&driver.context.watches));
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let changed = || {
        let latest = watched.find(&namespace, &name);
        // The store may be behind what was read live.
        latest.is_some_and(|latest| {
            let latest = latest.meta();
            latest.uid == seen.uid && latest.generation > seen.generation
        })
    };
    while !changed() && !driver.turns.is_closed() {
        tokio::time::sleep(GLANCE).await;
    }
}
