//! What the operator reads goes wrong: watches that freeze, break off, or forget events, lists of the past, reads that are
//! refused, late, or never answered. What it is told only wakes it; it decides each write on what is so.
//!
//! A history without faults teaches which events and reads there are, and after which of them somebody writes who may have
//! depended on them ([`super::journal`]): the others are not tried.

use super::journal::{Look, Moment};
use super::proxy::Plan;
use super::reads::{Answered, Told, Twist, WATCHED};
use super::story::Story;
use super::{SEED, Tried, long, normal, tried, turned};

const TOLD: [Told; 8] = [
    Told::Late,
    Told::Not,
    Told::NotAndGone,
    Told::Twice,
    Told::Half,
    Told::GoneAway,
    Told::LaterThanBefore,
    Told::LaterThanBegun,
];
const ANSWERED: [Answered; 8] = [
    Answered::With(410),
    Answered::With(429),
    Answered::With(500),
    Answered::With(503),
    Answered::With(504),
    Answered::Late,
    Answered::Half,
    Answered::Never,
];

/// Every fault at every one of these; without the long variant each kind once, and each fault about once, when a third
/// of what happens to that kind has happened, or with another seed than 0 at another moment.
fn chosen<T: Clone, F: Copy>(story: Story, all: &[T], kind: impl Fn(&T) -> &str, faults: &[F]) -> Vec<(T, F)> {
    let pairs = |of: &T| faults.iter().map(|fault| (of.clone(), *fault)).collect::<Vec<_>>();
    if long().is_some() {
        return all.iter().flat_map(pairs).collect();
    }
    let of_kind = |(n, wanted): (usize, &&str)| {
        let of: Vec<&T> = all.iter().filter(|one| kind(one) == *wanted).collect();
        let fault = faults.get((n + story as usize + turned(faults.len())) % faults.len())?;
        let at = (of.len() / 3 + turned(of.len())) % of.len().max(1);
        Some(((*of.get(at)?).clone(), *fault))
    };
    WATCHED.iter().enumerate().filter_map(of_kind).collect()
}

async fn survives(story: Story, word: &str, possible: usize, left: usize, twists: Vec<Twist>) {
    let plans = twists.into_iter().map(|twist| {
        let plan = Plan {
            read: Some(twist.clone()),
            ..Plan::default()
        };
        (format!("{twist:?}"), plan)
    });
    let Tried {
        plans: count,
        planned,
        committed,
        ..
    } = tried(story, word, plans.collect(), long()).await;
    let seed = *SEED;
    println!(
        "covered: {story:?} {word}: {count} of {left} plans that can matter, of {possible}, {committed} faults committed, \
         seed {seed}"
    );
    // Not every history goes through every moment: pods and Deployments say what they have come to in more words or less.
    assert!(
        committed * 10 >= planned * 8,
        "only {committed} of {planned} faults were committed"
    );
}

async fn told(story: Story) {
    let journal = &normal(story).await.journal;
    let causes = journal.causes();
    let (possible, left) = (journal.moments().len() * TOLD.len(), causes.len() * TOLD.len());
    let twists = chosen(story, &causes, |m: &Moment| &m.kind, &TOLD).into_iter();
    let twists = twists.filter(|(at, fault)| *fault != Told::Not || !is_only_news(at));
    let twists = twists.map(|(at, fault)| Twist::Event(at, fault));
    survives(story, "told", possible, left, twists.collect()).await;
}

/// Whether nobody else tells that the object exists on which something is to be decided: if a watch keeps that to itself, it
/// is found when the watch begins anew with a list, as after [`Told::NotAndGone`].
fn is_only_news(at: &Moment) -> bool {
    let decided = [
        "flywheelpipelines",
        "flywheelruns",
        "modelversions",
        "rollouts",
        "biaspolicies",
    ];
    at.nth == 1 && decided.contains(&at.kind.as_str())
}

async fn answered(story: Story) {
    let journal = &normal(story).await.journal;
    let looks = journal.looks();
    let (possible, left) = (journal.reads() * ANSWERED.len(), looks.len() * ANSWERED.len());
    let twists = chosen(story, &looks, |l: &Look| &l.kind, &ANSWERED);
    let twists = twists.into_iter().map(|(at, fault)| Twist::Read(at, fault));
    survives(story, "answered", possible, left, twists.collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_whatever_a_watch_tells_an_approved_version_comes_to_serve() {
    told(Story::Approved).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_whatever_a_watch_tells_a_failing_version_is_rolled_back() {
    told(Story::RolledBack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_whatever_a_read_is_answered_an_approved_version_comes_to_serve() {
    answered(Story::Approved).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_whatever_a_read_is_answered_a_failing_version_is_rolled_back() {
    answered(Story::RolledBack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_a_watch_that_is_dead_without_a_word_is_begun_anew() {
    let first = Moment {
        kind: "flywheelruns".to_owned(),
        name: "eta-1".to_owned(),
        nth: 1,
    };
    // Of a run that is just made nobody else tells.
    let twists = [Told::Never, Told::Unanswered].map(|fault| Twist::Event(first.clone(), fault));
    survives(Story::Promoted, "dead", 2, 2, twists.into()).await;
}
