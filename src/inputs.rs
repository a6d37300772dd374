//! What is read for a decision: as little as possible live, and nothing that a write rests on from a store, unless the write
//! itself confirms it.

use flywheel_engine::denial::Denial;
use flywheel_engine::part::{Ledger, Part};
use kube::Error;

use crate::context::Context;
use crate::lookup::Reader;

/// Something that a decision may look at and that the watches know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The pipeline.
    Pipeline,
    /// Its bias policies.
    Policies,
    /// The versions of the model, or the one that is delivered.
    Versions,
    /// The version that serves.
    Live,
    /// The Rollout of a run.
    Rollout,
    /// The Rollouts of a model, or of a version with what serves on their targets.
    Deliveries,
    /// The run of a version.
    Run,
    /// The runs of a pipeline.
    Runs,
    /// The Deployment that a Rollout delivers to.
    Target,
    /// The one beside it.
    Candidate,
    /// Other objects of the same kind.
    Peers,
    /// Names, to tell whose a value is.
    Names,
    /// Jobs and their pods.
    Jobs,
    /// Approvals.
    Approvals,
    /// The snapshot of a run, or those of a pipeline.
    Snapshot,
}

impl Input {
    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Reads for one look at an object. What was looked at in the stores is read live the next time.
pub struct Inputs<'a> {
    context: &'a Context,
    namespace: &'a str,
    /// These are read live.
    live: u32,
    doubts: Ledger,
    /// The object's effect that the API server has refused more than once.
    pub denied: Option<Denial>,
}

impl<'a> Inputs<'a> {
    /// Takes what the watches know.
    pub fn stored(context: &'a Context, namespace: &'a str) -> Self {
        Self {
            context,
            namespace,
            live: 0,
            doubts: Ledger::default(),
            denied: None,
        }
    }

    /// Asks the API server for everything.
    pub fn live(context: &'a Context, namespace: &'a str) -> Self {
        Self {
            live: u32::MAX,
            ..Self::stored(context, namespace)
        }
    }

    /// The same for an object whose effect has been refused.
    pub fn denied(self, denied: Option<Denial>) -> Self {
        Self { denied, ..self }
    }

    /// One part of an observation, which is in doubt once it was looked at, unless it is read live.
    ///
    /// # Errors
    /// As reading has.
    pub async fn part<T, F>(&self, input: Input, read: impl FnOnce(Reader<'a>) -> F) -> Result<Part<T>, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let value = read(self.late(input)).await?;
        Ok(if self.is_live(input) {
            Part::from(value)
        } else {
            self.doubts.part(input.bit(), value)
        })
    }

    /// Live or of the stores, without that anybody notes what is looked at: for what may be known late, because nothing
    /// follows from it, or never changes.
    pub fn late(&self, input: Input) -> Reader<'a> {
        let read = if self.is_live(input) {
            Reader::live
        } else {
            Reader::stored
        };
        read(self.context, self.namespace)
    }

    /// Whether this is read live: because it was looked at, or because it says where to find what is.
    const fn is_live(&self, input: Input) -> bool {
        let found_by = match input {
            Input::Pipeline => Input::Policies.bit() | Input::Versions.bit() | Input::Live.bit(),
            Input::Versions => Input::Live.bit() | Input::Deliveries.bit(),
            // Which snapshots are used.
            Input::Runs => Input::Snapshot.bit(),
            _ => 0,
        };
        self.live & (input.bit() | found_by) != 0
    }

    /// Reads live from now on what was looked at in the stores, but for this; whether there is any.
    pub fn confirm(&mut self, but: Option<Input>) -> bool {
        let doubts = self.doubts.noted() & !but.map_or(0, Input::bit);
        self.live |= doubts;
        self.doubts = Ledger::default();
        doubts != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Server, context};

    #[tokio::test]
    async fn what_was_looked_at_is_read_live_but_for_what_the_write_confirms() {
        let context = context(Server::default().client(|_| (200, serde_json::Value::Null)));
        let mut inputs = Inputs::stored(&context, "shop");
        let look = async |inputs: &Inputs<'_>, input| {
            let part = inputs.part(input, |_| async { Ok(()) }).await.unwrap();
            part.look();
        };
        look(&inputs, Input::Candidate).await;
        assert!(!inputs.confirm(Some(Input::Candidate)));
        for input in [Input::Target, Input::Candidate] {
            look(&inputs, input).await;
        }
        assert!(inputs.confirm(Some(Input::Candidate)));
        assert_eq!(inputs.live, Input::Target.bit());
        for input in [Input::Target, Input::Candidate] {
            look(&inputs, input).await;
        }
        assert!(inputs.confirm(None), "a status confirms nothing");
        assert_eq!(inputs.live, Input::Target.bit() | Input::Candidate.bit());
    }
}
