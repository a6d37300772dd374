//! One replica acts, the others wait. Two that act are safe, merely wasteful.
//!
//! The times in a lease are for people: a replica trusts its own clock alone. A holder is gone when its lease did not
//! change for as long as it lasts, and a replica that could not renew its own for less than that acts no more. Clocks that
//! disagree, a request that hangs, a process that was frozen: none keeps a dead holder in office, and none makes two.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, Patch};
use kube::{Api, Client, Error, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::apply::{patching, post};
use crate::args::Args;

/// The times of an election.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How long a lease lasts after its last renewal.
    lasts: Duration,
    /// How often it is renewed, and looked at by those who wait for it.
    period: Duration,
    /// Who could not renew it for so long acts no more.
    deadline: Duration,
    /// A request that takes longer is given up.
    request: Duration,
    /// Pause after a failure.
    retry: Duration,
}

const PACE: Pace = Pace {
    lasts: Duration::from_secs(15),
    period: Duration::from_secs(5),
    deadline: Duration::from_secs(10),
    request: Duration::from_secs(4),
    retry: Duration::from_millis(500),
};

// Whoever hangs in a request when the deadline passes steps back before another one may begin.
const _: () =
    assert!(PACE.deadline.as_millis() + PACE.request.as_millis() + PACE.retry.as_millis() < PACE.lasts.as_millis());

/// A place in the election.
pub struct Election {
    /// True while this process holds the lease.
    pub leads: watch::Receiver<bool>,
    task: JoinHandle<()>,
    quit: watch::Sender<bool>,
}

impl Election {
    /// Lets what runs finish while the lease is held, for so long at most, and gives the lease back. Who has lost it has no
    /// time left: another replica is about to act.
    pub async fn resign_after(mut self, finished: impl Future<Output = ()>, most: Duration) {
        tokio::select! {
            _ = self.leads.wait_for(|leads| !*leads) => {}
            _ = timeout(most, finished) => {}
        }
        self.resign().await;
    }

    /// Gives the lease back, so that another replica does not have to wait for its end.
    pub async fn resign(self) {
        let _ = self.quit.send(true);
        let _ = timeout(PACE.request, self.task).await;
    }
}

/// Takes part in the election, or leads at once if there is none.
///
/// # Errors
/// If the lease cannot be read.
pub async fn elect(client: Client, args: &Args) -> anyhow::Result<Election> {
    stand(client, args, PACE).await
}

async fn stand(client: Client, args: &Args, pace: Pace) -> anyhow::Result<Election> {
    let (quit, mut quits) = watch::channel(false);
    let (sender, leads) = watch::channel(!args.leader_elect);
    if !args.leader_elect {
        let task = tokio::spawn(async move {
            let _ = quits.wait_for(|q| *q).await;
            drop(sender);
        });
        return Ok(Election { leads, task, quit });
    }
    let candidate = Candidate {
        leases: Api::namespaced(client, &args.namespace),
        name: args.lease_name.clone(),
        identity: args.identity.clone(),
        pace,
        seen: None,
    };
    let readable = candidate.leases.get_opt(&candidate.name).await;
    readable.with_context(|| format!("Lease {}/{} cannot be read", args.namespace, args.lease_name))?;
    let task = tokio::spawn(candidate.campaign(sender, quits));
    Ok(Election { leads, task, quit })
}

/// What a look at the lease came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It is ours for another while.
    Held,
    /// It is another one's.
    Others,
    /// Somebody wrote at the same time.
    Unclear,
}

/// Who holds a lease, and what changes when it is renewed.
#[derive(Clone, Debug, PartialEq)]
struct Tenure {
    holder: String,
    renewed: Option<MicroTime>,
    transitions: Option<i32>,
}

struct Candidate {
    leases: Api<Lease>,
    name: String,
    identity: String,
    pace: Pace,
    /// What another one's lease looked like, and since when it has not changed.
    seen: Option<(Tenure, Instant)>,
}

impl Candidate {
    /// Waits for the lease, and keeps it until it is lost or somebody asks to quit.
    async fn campaign(mut self, leads: watch::Sender<bool>, mut quits: watch::Receiver<bool>) {
        let Pace {
            period, request, retry, ..
        } = self.pace;
        let mut renewed: Option<Instant> = None;
        loop {
            // From before the request: the lease may have been renewed at any time since.
            let asked = Instant::now();
            let turn = timeout(request, self.turn()).await;
            let pause = match turn {
                Ok(Ok(Turn::Held)) => {
                    renewed = Some(asked);
                    period
                }
                Ok(Ok(Turn::Others)) => {
                    renewed = None;
                    period
                }
                Ok(Ok(Turn::Unclear)) => retry,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the lease could not be renewed or read");
                    retry
                }
                Err(_) => {
                    tracing::warn!("the lease could not be renewed or read in time");
                    retry
                }
            };
            let holds = renewed.is_some_and(|at| at.elapsed() < self.pace.deadline);
            let led = leads.send_replace(holds);
            if led && !holds {
                return;
            }
            tokio::select! {
                () = sleep(pause) => {}
                _ = quits.wait_for(|quit| *quit) => break,
            }
        }
        if renewed.is_some()
            && let Err(error) = self.give_back().await
        {
            tracing::debug!(%error, "the lease was not given back");
        }
    }

    /// One look, and one write if the lease is free or ours.
    async fn turn(&mut self) -> Result<Turn, Error> {
        let Some(lease) = self.leases.get_opt(&self.name).await? else {
            return self.make().await;
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let tenure = Tenure {
            holder: spec.holder_identity.unwrap_or_default(),
            renewed: spec.renew_time,
            transitions: spec.lease_transitions,
        };
        let ours = tenure.holder == self.identity;
        if !ours && !tenure.holder.is_empty() && !self.is_over(&tenure, spec.lease_duration_seconds) {
            return Ok(Turn::Others);
        }
        let (holder, renewed) = (&self.identity, now());
        let wanted = if ours {
            json!({ "renewTime": renewed })
        } else {
            let transitions = tenure.transitions.unwrap_or(0).saturating_add(1);
            json!({ "holderIdentity": holder, "leaseDurationSeconds": self.pace.lasts.as_secs(),
                "acquireTime": renewed, "renewTime": renewed, "leaseTransitions": transitions })
        };
        self.write(&lease, wanted).await
    }

    /// Whether another one's lease has not changed for as long as it lasts, by our own clock.
    fn is_over(&mut self, tenure: &Tenure, seconds: Option<i32>) -> bool {
        let lasts = seconds
            .and_then(|s| u64::try_from(s).ok())
            .map_or(self.pace.lasts, Duration::from_secs);
        match &self.seen {
            Some((seen, since)) if seen == tenure => since.elapsed() >= lasts,
            _ => {
                self.seen = Some((tenure.clone(), Instant::now()));
                false
            }
        }
    }

    async fn make(&self) -> Result<Turn, Error> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                acquire_time: Some(now()),
                renew_time: Some(now()),
                lease_duration_seconds: i32::try_from(self.pace.lasts.as_secs()).ok(),
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            }),
        };
        settle(self.leases.create(&post(), &lease).await.map(drop))
    }

    /// Changes the lease if it is still the one that was seen.
    async fn write(&self, lease: &Lease, spec: Value) -> Result<Turn, Error> {
        let body = json!({ "metadata": { "resourceVersion": lease.resource_version() }, "spec": spec });
        let written = self.leases.patch(&self.name, &patching(), &Patch::Merge(body)).await;
        settle(written.map(drop))
    }

    async fn give_back(&self) -> Result<(), Error> {
        let Some(lease) = self.leases.get_opt(&self.name).await? else {
            return Ok(());
        };
        let holder = lease.spec.as_ref().and_then(|s| s.holder_identity.as_deref());
        if holder == Some(&self.identity) {
            self.write(&lease, json!({ "holderIdentity": "" })).await?;
        }
        Ok(())
    }
}

fn settle(written: Result<(), Error>) -> Result<Turn, Error> {
    match written {
        Ok(()) => Ok(Turn::Held),
        Err(Error::Api(status)) if status.is_conflict() || status.is_already_exists() || status.is_not_found() => {
            Ok(Turn::Unclear)
        }
        Err(error) => Err(error),
    }
}

fn now() -> MicroTime {
    MicroTime(Timestamp::now())
}

#[cfg(test)]
mod tests;
