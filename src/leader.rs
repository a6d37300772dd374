//! One replica acts, the others wait. Two that act are safe, merely wasteful.

use kube::Client;
use kube_lease_manager::LeaseManagerBuilder;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::args::Args;

/// Seconds for which a lease is valid after its last renewal.
const LEASE_SECONDS: u64 = 15;
/// Seconds before its end at which it is renewed.
const GRACE_SECONDS: u64 = 5;

/// A place in the election.
pub struct Election {
    /// True while this process holds the lease.
    pub leads: watch::Receiver<bool>,
    task: Option<JoinHandle<()>>,
    quit: watch::Sender<bool>,
}

impl Election {
    /// Gives the lease back, so that another replica does not have to wait for its end.
    pub async fn resign(self) {
        let Self { leads, task, quit } = self;
        drop(leads);
        let _ = quit.send(true);
        if let Some(task) = task {
            let _ = tokio::time::timeout(std::time::Duration::from_secs(5), task).await;
        }
    }
}

/// Takes part in the election, or leads at once if there is none.
///
/// # Errors
/// If the lease can be neither read nor made.
pub async fn elect(client: Client, args: &Args) -> anyhow::Result<Election> {
    let (quit, mut quits) = watch::channel(false);
    if !args.leader_elect {
        let (sender, leads) = watch::channel(true);
        let task = tokio::spawn(async move {
            let _ = quits.wait_for(|q| *q).await;
            drop(sender);
        });
        return Ok(Election {
            leads,
            task: Some(task),
            quit,
        });
    }
    let manager = LeaseManagerBuilder::new(client, &args.lease_name)
        .with_namespace(&args.namespace)
        .with_identity(&args.identity)
        .with_duration(LEASE_SECONDS)
        .with_grace(GRACE_SECONDS)
        .build()
        .await?;
    let (mut states, watching) = manager.watch().await;
    let (sender, leads) = watch::channel(*states.borrow());
    let task = tokio::spawn(async move {
        loop {
            tokio::select! {
                changed = states.changed() => match changed {
                    Ok(()) => { let _ = sender.send(*states.borrow_and_update()); }
                    Err(_) => { let _ = sender.send(false); return; }
                },
                _ = quits.wait_for(|q| *q) => break,
            }
        }
        // The manager's task ends, and gives the lease back, when nobody listens any more.
        drop(states);
        if let Ok(Ok(manager)) = watching.await
            && let Err(error) = manager.release().await
        {
            tracing::debug!(%error, "the lease was not given back");
        }
    });
    Ok(Election {
        leads,
        task: Some(task),
        quit,
    })
}
