//! Rollouts on a real API server with the real controllers of Deployments; only the pods are acted.
//!
//! `web` serves `eta-1` with some pods, `eta-2`, and sometimes `eta-3`, want to. Every test watches each version of each pod: at no
//! moment are fewer pods ready than the target had.
//!
//! [`scenarios`] carries out the scenarios of other progressive-delivery projects that apply to replica-ratio
//! canaries on a Deployment.

mod approvals;
mod brake;
mod capacity;
mod checks;
mod deletion;
mod drift;
mod gitops;
mod hand;
mod lost;
mod observing;
mod queue;
mod references;
mod scenarios;
pub mod scene;
mod target;
pub mod unreadable;
