//! Writes and reads that go wrong: whatever happens to the k-th write of the operator, or to what it is told, the end is
//! the one without faults.
//!
//! Two histories without faults teach what their ends share. Then each write of each story is hit once by each fault;
//! the end, and what was created and deleted on the way, must be the same. By default a sample of these plans is run;
//! with the variable `FLYWHEEL_TEST_LONG` all kills are, and of the other plans those that each test begins within so many
//! seconds: which come first follows from a seed, that of the day unless `FLYWHEEL_TEST_SEED` is another one.

mod clocks;
mod etcd;
mod journal;
mod late;
mod leaders;
mod picture;
mod process;
mod proxy;
mod reads;
mod stale;
mod story;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use futures::future::join_all;
use futures::{FutureExt, StreamExt, stream};
use tokio::sync::OnceCell;

use self::journal::Journal;
use self::picture::Picture;
use self::proxy::{Fault, Plan, Proxy};
use self::story::{STORIES, Story};
use crate::fast::fast;

/// Histories at once.
const AT_ONCE: usize = 6;
/// Without the long variant one plan in so many is run, and at least one of each test and story.
const SAMPLE: usize = 67;
/// An operator that has nothing to do writes nothing for so long.
const REST: Duration = Duration::from_secs(3);
/// At the latest so long after a story the end is what it should be: of what nobody tells, a look hears within a minute, or
/// the next watch does.
const HEARD: Duration = Duration::from_secs(90);

const KILLS: [Fault; 3] = [Fault::KilledBefore, Fault::KilledDuring, Fault::KilledAfter];
const ANSWERS: [Fault; 11] = [
    Fault::Lost,
    Fault::Cut,
    Fault::AppliedButLate,
    Fault::Delayed,
    Fault::Refused(409),
    Fault::Refused(410),
    // An error, not a conflict: it is not tried again at once.
    Fault::Refused(422),
    Fault::Refused(429),
    Fault::Refused(500),
    Fault::Refused(503),
    Fault::Refused(504),
];
const HANGS: [Fault; 1] = [Fault::Hangs];

/// How a history ended.
struct End {
    picture: Picture,
    made: Vec<String>,
    writes: usize,
    committed: usize,
    /// Statuses that were written before the API server wanted it.
    hasty: Vec<String>,
    journal: Journal,
}

async fn history(story: Story, name: String, plan: Plan, is_due: impl Fn(&End) -> bool) -> End {
    told(story, name, vec![plan], is_due).await
}

/// A history with an operator for each plan, which all act. Its end is the one that is due, or what it is when that has not
/// come in time.
async fn told(story: Story, name: String, plans: Vec<Plan>, is_due: impl Fn(&End) -> bool) -> End {
    let fast = fast(&name).await;
    let proxies = plans.into_iter().map(|plan| Proxy::start(&fast.namespace, plan));
    let proxies = join_all(proxies).await;
    // So that every history begins alike, and an object is told as often in each of them.
    for proxy in &proxies {
        proxy.begun().await;
    }
    let ended = story.tell(fast).await;
    for proxy in proxies.iter().filter(|p| p.reads().is_ignorant()) {
        proxy.reads().forget();
    }
    let over = Instant::now();
    let end = loop {
        let end = End {
            writes: at_rest(&proxies).await,
            picture: Picture::take(&ended).await,
            made: proxies
                .iter()
                .flat_map(Proxy::made)
                .map(|line| line.replace(&ended.namespace, "NS"))
                .map(|line| masked(&line))
                .collect(),
            committed: proxies.iter().map(Proxy::committed).sum(),
            hasty: proxies.iter().flat_map(Proxy::hasty).collect(),
            journal: proxies.first().map(|p| p.reads().journal()).unwrap_or_default(),
        };
        if is_due(&end) || over.elapsed() > HEARD {
            break end;
        }
    };
    ended.finish().await;
    end
}

/// Waits until nobody writes, nor may write when a request that is never answered is given up; says how many writes were.
async fn at_rest(proxies: &[Proxy]) -> usize {
    let busy = || {
        let writes: usize = proxies.iter().map(Proxy::writes).sum();
        (writes, proxies.iter().any(|p| p.reads().hangs()))
    };
    let mut before = busy();
    loop {
        tokio::time::sleep(REST).await;
        let now = busy();
        if now == before && !now.1 {
            return now.0;
        }
        before = now;
    }
}

/// A line of what was made, without the hashes of UIDs in which the names of Jobs and snapshots end.
fn masked(line: &str) -> String {
    let hashed = line.contains("/jobs") || line.contains("/controllerrevisions");
    match line.trim_end().rsplit_once('-').filter(|_| hashed) {
        Some((before, _)) => before.to_owned(),
        None => line.trim_end().to_owned(),
    }
}

/// For how long a test of the long variant begins histories; nothing for the short one.
fn long() -> Option<Duration> {
    let seconds = std::env::var("FLYWHEEL_TEST_LONG").ok()?;
    Some(Duration::from_secs(seconds.parse().expect("a number of seconds")))
}

/// Which plans come first: with the long variant other ones each day. The short one, which everybody runs before a change,
/// always runs the same, unless it is told otherwise.
static SEED: LazyLock<u64> = LazyLock::new(|| match std::env::var("FLYWHEEL_TEST_SEED") {
    Ok(text) => text.parse::<u64>().expect("a seed is a number"),
    Err(_) if long().is_some() => {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.expect("a clock that is right").as_secs() / (24 * 60 * 60)
    }
    Err(_) => 0,
});

/// The seed as a number below this one.
fn turned(below: usize) -> usize {
    let below = u64::try_from(below.max(1)).expect("a count");
    usize::try_from(*SEED % below).expect("below a count")
}

/// Plans in an order in which each beginning is a fair share of all. They stand in a circle; each seed begins further on by
/// the golden section of it, so that beginnings of days that follow each other have little in common, and soon are all.
fn mixed<T>(plans: Vec<T>, seed: u64) -> Vec<T> {
    let mut all: Vec<(usize, T)> = plans.into_iter().enumerate().collect();
    all.sort_by_key(|(n, _)| (n + 1).wrapping_mul(0x9E37_79B9) % 0x1_0000);
    let count = u64::try_from(all.len()).expect("a count");
    let turn = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let begin = turn.saturating_mul(count) >> 32;
    all.rotate_left(usize::try_from(begin).expect("below a count"));
    all.into_iter().map(|(_, plan)| plan).collect()
}

#[test]
fn fault_plans_that_one_day_has_no_time_for_come_on_the_next_ones() {
    // Half of them on each of three days, or a fifth on each of eight.
    for (share, days) in [(2_usize, 3_u64), (5, 8)] {
        for count in [129_usize, 1520] {
            let mut tried: BTreeSet<usize> = BTreeSet::new();
            for day in 20_000..20_000 + days {
                let all: Vec<usize> = (0..count).collect();
                tried.extend(mixed(all, day).into_iter().take(count / share));
            }
            assert_eq!(tried.len(), count, "1 of {share} on each of {days} days");
        }
    }
}

/// Two crashes, the second one soon after the first. A history may take a write less than another one: the second crash is
/// not at the last write, which might never come.
fn twice(story: Story, writes: usize) -> Vec<Vec<(usize, Fault)>> {
    let kill = |n: usize| KILLS[n % KILLS.len()];
    let pair = |n: usize| {
        let soon = 1 + (n + turned(5)) % 5;
        let first = 1 + (7 * n + 3 * story as usize) % writes.saturating_sub(1 + soon).max(1);
        vec![
            (first, kill(n + turned(9))),
            (first + soon, kill(n / 3 + turned(9) / 3)),
        ]
    };
    (0..if long().is_some() { writes } else { 1 }).map(pair).collect()
}

/// Every fault at every write, or a sample of them that differs from story to story.
fn plans(story: Story, writes: usize, faults: &[Fault]) -> Vec<(usize, Fault)> {
    let all = (1..=writes).flat_map(|at| faults.iter().map(move |fault| (at, *fault)));
    let every = SAMPLE.min(writes * faults.len()).max(1);
    let offset = story as usize * 5 + turned(every);
    let chosen = |n: &usize| long().is_some() || (n + offset).is_multiple_of(every);
    all.enumerate()
        .filter(|(n, _)| chosen(n))
        .map(|(_, plan)| plan)
        .collect()
}

/// What two histories without faults have in common.
struct Normal {
    picture: Picture,
    made: Vec<String>,
    writes: usize,
    journal: Journal,
}

impl Normal {
    /// How another history ended that should have ended alike.
    fn differs(&self, end: &End) -> Option<String> {
        let made = || format!("made {:#?} instead of {:#?}", end.made, self.made);
        let differs = self.picture.differs(&end.picture);
        let hasty =
            || Some(format!("written while it was throttled: {:?}", end.hasty)).filter(|_| !end.hasty.is_empty());
        differs.or_else(|| (end.made != self.made).then(made)).or_else(hasty)
    }
}

/// Told once for all tests of a story.
static NORMAL: [OnceCell<Normal>; STORIES.len()] = [const { OnceCell::const_new() }; STORIES.len()];

async fn normal(story: Story) -> &'static Normal {
    let tell = || async {
        let name = |which: &str| format!("fault-{story:?}-{which}").to_lowercase();
        let one = history(story, name("a"), Plan::default(), |_| true);
        let two = history(story, name("b"), Plan::default(), |_| true);
        let (one, two) = tokio::join!(one, two);
        assert_eq!(one.made, two.made, "two histories without faults make the same");
        let writes = one.writes.min(two.writes);
        assert!(writes > 5, "{story:?} takes {writes} writes");
        Normal {
            picture: one.picture.shared(&two.picture),
            made: one.made,
            writes,
            journal: one.journal,
        }
    };
    NORMAL[story as usize].get_or_init(tell).await
}

async fn survives(story: Story, faults: &[Fault]) {
    let word = format!("{:?}", faults.first()).replace(|c: char| !c.is_alphanumeric(), "");
    let writes = normal(story).await.writes;
    let once = plans(story, writes, faults).into_iter().map(|one| vec![one]);
    let twice = if faults == KILLS {
        twice(story, writes)
    } else {
        Vec::new()
    };
    let plans: Vec<(String, Plan)> = once
        .chain(twice)
        .map(|writes| {
            let plan = Plan {
                writes: writes.clone(),
                ..Plan::default()
            };
            (format!("{writes:?}"), plan)
        })
        .collect();
    let (all, seed) = (plans.len(), *SEED);
    // That nothing is lost by a crash at any write every run of the long variant shows; of the other faults others each day.
    let time = long().filter(|_| faults != KILLS);
    let Tried {
        plans,
        planned,
        committed,
        pairs,
        whole,
    } = tried(story, &word, plans, time).await;
    println!(
        "covered: {story:?} {word}: {plans} of {all} plans on {writes} writes, {committed} of {planned} faults \
         committed, seed {seed}"
    );
    // A history may take a write less than the shorter of those that counted them: its last one goes wrong never.
    assert!(
        committed > 0 && committed + planned / 10 + 1 >= planned,
        "only {committed} of {planned} faults were committed"
    );
    assert!(
        whole * 10 >= pairs * 8,
        "only {whole} of {pairs} operators that were to be killed twice were"
    );
}

/// What was tried, and how often something went wrong as planned.
#[derive(Default)]
struct Tried {
    plans: usize,
    /// Faults in these plans.
    planned: usize,
    committed: usize,
    /// Plans with two faults.
    pairs: usize,
    /// Those of which both were committed.
    whole: usize,
}

/// Tries these plans, of a test of the long variant those that it begins in its time, if that is limited.
async fn tried(story: Story, word: &str, plans: Vec<(String, Plan)>, limit: Option<Duration>) -> Tried {
    let (normal, begun) = (normal(story).await, Instant::now());
    let time = || limit.is_none_or(|limit| begun.elapsed() < limit);
    let plans = mixed(plans, *SEED).into_iter().enumerate().take_while(|_| time());
    let run = plans.map(|(n, (what, plan))| {
        let name = format!("fault-{story:?}-{word}-{n}").to_lowercase();
        async move {
            let planned = plan.faults();
            let told = history(story, name, plan, |end| normal.differs(end).is_none());
            (what, planned, AssertUnwindSafe(told).catch_unwind().await)
        }
    });
    let mut ends = stream::iter(run).buffer_unordered(AT_ONCE);
    let (mut problems, mut tried) = (Vec::new(), Tried::default());
    while let Some((what, planned, end)) = ends.next().await {
        tried.plans += 1;
        tried.planned += planned;
        let Ok(end) = end else {
            problems.push(format!("{what}: another end, see above"));
            continue;
        };
        tried.committed += end.committed;
        tried.pairs += usize::from(planned == 2);
        tried.whole += usize::from(planned == 2 && end.committed == 2);
        if let Some(difference) = normal.differs(&end) {
            problems.push(format!("{what}: {difference}"));
        }
    }
    assert!(problems.is_empty(), "{story:?}:\n{}", problems.join("\n"));
    tried
}

macro_rules! stories {
    ($($name:ident: $story:ident, $faults:ident;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                survives(Story::$story, &$faults).await;
            }
        )*
    };
}

stories! {
    fault_killed_at_each_write_a_version_is_promoted_all_the_same: Promoted, KILLS;
    fault_killed_at_each_write_a_version_that_misses_its_gate_is_rejected_all_the_same: Rejected, KILLS;
    fault_killed_at_each_write_a_failing_version_is_rolled_back_all_the_same: RolledBack, KILLS;
    fault_killed_at_each_write_a_deleted_pipeline_leaves_what_serves_all_the_same: Deleted, KILLS;
    fault_killed_at_each_write_a_version_that_a_policy_judges_and_a_person_approves_serves_all_the_same: Approved, KILLS;
    fault_bad_answers_at_each_write_leave_a_promotion_as_it_is: Promoted, ANSWERS;
    fault_bad_answers_at_each_write_leave_what_a_policy_judges_and_a_person_approves_as_it_is: Approved, ANSWERS;
    fault_bad_answers_at_each_write_leave_a_rejection_as_it_is: Rejected, ANSWERS;
    fault_bad_answers_at_each_write_leave_a_rollback_as_it_is: RolledBack, ANSWERS;
    fault_bad_answers_at_each_write_leave_a_deletion_as_it_is: Deleted, ANSWERS;
}

/// All stories at once: who waits for a minute until a write is given up takes nothing from others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_writes_that_are_never_answered_leave_every_story_as_it_is() {
    let stories = [Story::Promoted, Story::Rejected, Story::RolledBack, Story::Deleted];
    join_all(stories.map(|story| survives(story, &HANGS))).await;
}
