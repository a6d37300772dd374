//! Who is looked at when, of those that wait.

use tokio::task::JoinHandle;

use super::*;

/// An operator that looks at one object at a time.
struct AtWork {
    driver: Arc<Driver>,
    queue: Arc<Queue>,
    stop: watch::Sender<bool>,
    work: JoinHandle<()>,
}

fn object(name: &str) -> Guard<Rollout> {
    serde_json::from_value(rollout(name)).unwrap()
}

impl AtWork {
    /// These objects exist and wait, in this order.
    fn begin(mut driver: Driver, names: &[&str]) -> Self {
        driver.turns = Arc::new(Semaphore::new(1));
        let driver = Arc::new(driver);
        let watched = &driver.context.watches.rollouts;
        watched.has_told_of(names.iter().map(|name| object(name)));
        let queue = Arc::<Queue>::default();
        names.iter().for_each(|name| queue.add(key(&object(name))));
        let (stop, stopped) = watch::channel(false);
        let work = tokio::spawn(work::<Obedient>(driver.clone(), queue.clone(), stopped));
        Self {
            driver,
            queue,
            stop,
            work,
        }
    }

    /// Until that is so.
    async fn until(&self, so: impl Fn(&Self) -> bool) {
        while !so(self) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Stops when nobody waits any more.
    async fn end(self) {
        self.until(|all| !all.queue.waits()).await;
        self.stop.send(true).unwrap();
        self.work.await.unwrap();
    }
}

/// A driver whose looks are all live, at a server that takes every write.
fn all_live(names: &[&str]) -> (Driver, Server) {
    let (driver, server) = driver(accepted);
    names.iter().for_each(|name| long_ago(&driver, name));
    (Arc::into_inner(driver).unwrap(), server)
}

#[tokio::test]
async fn who_came_first_is_looked_at_first_and_whoever_hangs_is_given_up() {
    let names = ["hangs", "panics-z", "waits", "panics-a"];
    let (mut driver, server) = all_live(&names);
    driver.timeout = Duration::from_millis(20);
    AtWork::begin(driver, &names).end().await;
    assert_eq!(server.names(), names);
}

#[tokio::test]
async fn an_object_is_looked_at_as_it_is_when_its_turn_comes() {
    let (mut driver, server) = all_live(&["hangs", "gone", "broken"]);
    driver.timeout = Duration::from_millis(200);
    let all = AtWork::begin(driver, &["hangs", "gone", "broken"]);
    all.until(|_| server.names() == ["hangs"]).await;
    let broken = serde_json::from_value(found("broken")).unwrap();
    all.driver.context.watches.rollouts.has_told_of([broken]);
    all.end().await;
    let (_, path, _) = server.only_write();
    assert!(
        path.contains("/rollouts/broken/status?"),
        "it says that it cannot be read: {path}"
    );
    assert!(
        !server.names().contains(&"gone".to_owned()),
        "there is nothing to look at"
    );
}

#[tokio::test]
async fn whose_request_was_throttled_is_not_looked_at_before_the_time_although_something_happens() {
    let (driver, server) = all_live(&["waits"]);
    let (begun, pause) = (Instant::now(), Duration::from_millis(300));
    driver.looks().hold_off("shop/waits", pause);
    let all = AtWork::begin(driver, &["waits"]);
    all.until(|all| {
        all.queue.add(key(&object("waits")));
        !server.names().is_empty()
    })
    .await;
    assert!(begun.elapsed() >= pause);
    all.end().await;
}

#[tokio::test]
async fn when_the_operator_stops_what_has_begun_ends_and_nothing_else_begins() {
    let (mut driver, server) = all_live(&["hangs", "waits"]);
    driver.timeout = Duration::from_millis(200);
    let all = AtWork::begin(driver, &["hangs", "waits"]);
    all.until(|_| !server.names().is_empty()).await;
    all.stop.send(true).unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!all.work.is_finished(), "a look has begun");
    all.work.await.unwrap();
    assert_eq!(server.names(), ["hangs"]);
    assert!(all.driver.turn().await.is_none());
}
