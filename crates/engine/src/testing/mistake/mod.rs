//! Deliberate mistakes, one at a time in a world: they show that the tests would find such a bug.
//!
//! Each is made where the operator meets the API server: what it sees is wrong ([`seen`]), or what it sends ([`sent`]),
//! or when it looks and whether a precondition counts (`held.rs`). The decisions themselves know nothing of it, so no
//! build that users get has a switch.

pub(super) mod seen;
pub(super) mod sent;

/// The mistakes, each with the invariant that it breaks, and with a report of such a bug where there is one.
macro_rules! mistakes {
    ($($(#[doc = $tells:literal])+ $name:ident = $invariant:literal,)*) => {
        /// A deliberate mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mistake {
            $($(#[doc = $tells])+ $name,)*
        }

        impl Mistake {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The invariant that it breaks.
            #[must_use]
            pub const fn invariant(self) -> &'static str {
                match self {
                    $(Self::$name => $invariant,)*
                }
            }

            /// What the operator does wrong.
            #[must_use]
            pub const fn tells(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($tells),+).trim_ascii(),)*
                }
            }
        }
    };
}

mistakes! {
    /// The next attempt of a stage starts while the last one runs (cert-manager#4956).
    NextAttemptTooEarly = "I1",
    /// Jobs get a name by chance, so that one that was not seen yet is made again (argo-rollouts#243).
    NamesByChance = "I1",
    /// A version is registered with another digest than its attempt reported.
    DigestOfAnotherModel = "I1b",
    /// A version that says to be of a run counts as the run's own, whatever model it carries.
    AdoptsForgedVersion = "I1b",
    /// A gate that fails opens as if it were a dry run.
    FailedGateOpens = "I2",
    /// An Approval counts for whatever evidence is shown now.
    AnyEvidenceCounts = "I3",
    /// An Approval counts for every object of that name, whatever its UID.
    AnySubjectCounts = "I3",
    /// Who asked for the run may approve it.
    OwnApprovalCounts = "I3",
    /// A rejection is not heard.
    RejectionUnheard = "I3",
    /// An Approval counts although it was taken back.
    RevocationUnheard = "I3",
    /// The way back leads to no value instead of what served before (flagger#1898).
    BackToNothing = "I4",
    /// An effect is done whatever became of its object since the decision.
    EffectWithoutPrecondition = "I4",
    /// The lineage of a version loses its first entry.
    LineageCut = "I5",
    /// Pods count as ready as soon as they are asked for (argo-rollouts#1292).
    AskedIsReady = "I7",
    /// A candidate is created with a pod, because a zero is left out (flagger#930).
    ZeroesAreLost = "I4",
    /// A Deployment is taken for the Rollout's own by its name.
    AdoptsByName = "I9",
    /// What is to be deleted is found by its name, whatever its UID (kuberay#715).
    DeletesByName = "I9",
    /// A result is taken from the Job of that name before its UID was recorded.
    ResultOfAnyJob = "I10",
    /// A status is written again although nothing changed (argo-rollouts#2982).
    WritesForNothing = "I11",
    /// The operator waits for the object alone and misses what changes elsewhere (argo-rollouts#4694).
    DeafToOthers = "I11",
    /// The operator never looks again by itself (trino-operator#936).
    DeafToTime = "I11",
    /// A decision that panics ends the process, and again as soon as it begins anew (CVE-2026-40886).
    PanicEndsAll = "I12",
    /// An object that cannot be read stops all others of its kind (GHSA-f4p5-x4vc-mh4v of Flux).
    UnreadableStopsAll = "I12",
    /// An object that cannot be read counts as absent.
    UnreadableIsAbsent = "I12",
    /// An effect is done before the status says that it will be (casskop#370).
    EffectBeforeIntent = "I1",
    /// The way back is recorded as done when it begins.
    BackAtOnce = "I13",
    /// Attempts are counted anew after a failure.
    AttemptsCountAnew = "I13",
    /// A status overwrites a newer one (argo-rollouts#3316).
    StatusWithoutPrecondition = "I13",
    /// A deleted Rollout is let go before its candidate is gone.
    LetsGoAtOnce = "I14",
    /// A deleted Rollout is never let go.
    NeverLetsGo = "I14",
    /// The whole list of containers is written to change one variable.
    WholeListWritten = "I15",
    /// A value that somebody else wrote is overwritten.
    OverwritesOthers = "I15",
    /// The delivery follows the pipeline as it is now, not the snapshot of the run.
    PlanOfToday = "I16",
    /// What was learned about the old pod template counts for the new one (flagger#30).
    TemplateChangeUnseen = "I16",
    /// A Rollout begins although another one holds the target.
    NoQueue = "I17",
    /// A level that is lowered counts from the next run.
    LevelOfTheStart = "I18",
    /// The administrator's ceiling is not asked.
    CeilingUnheard = "I18",
    /// The brake stops nothing.
    BrakeUnheard = "I18",
    /// A step is left before its shortest time.
    ShortestTimeForgotten = "I19",
    /// A status says one thing, at the next look another, and then the first again.
    SpeaksToAndFro = "I20",
    /// A status says for how long it has been waited, so that every look writes it anew.
    CountsTheTime = "I20",
    /// A check without data passes (argo-rollouts#3850).
    NoDataPasses = "I21",
    /// A bias policy that was deleted counts as passed.
    MissingPolicyPasses = "I22",
    /// What a bias policy said before it was changed counts on.
    OldVerdictCounts = "I22",
}
