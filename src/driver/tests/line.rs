//! Who is looked at when, of those that wait.

use super::*;

/// Looks at these objects, one at a time and not before `first` ends, until nobody waits any more; then the operator stops.
async fn work_through(mut driver: Driver, names: &[&str], first: impl FnOnce(&Driver)) {
    driver.turns = Arc::new(Semaphore::new(1));
    let driver = Arc::new(driver);
    let object = |name: &&str| -> Guard<Rollout> { serde_json::from_value(rollout(name)).unwrap() };
    driver.context.watches.rollouts.has_told_of(names.iter().map(object));
    let queue = Arc::<Queue>::default();
    names.iter().for_each(|name| queue.add(key(&object(name))));
    let turn = driver.turn().await;
    let (stop, stopped) = watch::channel(false);
    let work = tokio::spawn(work::<Obedient>(driver.clone(), queue.clone(), stopped));
    tokio::task::yield_now().await;
    first(&driver);
    drop(turn);
    while queue.waits() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.send(true).unwrap();
    work.await.unwrap();
}

/// A driver whose looks are all live, at a server with these answers to writes.
fn all_live(names: &[&str], write: fn(&Sent) -> (u16, Value)) -> (Driver, Server) {
    let (driver, server) = driver(write);
    names.iter().for_each(|name| long_ago(&driver, name));
    (Arc::into_inner(driver).unwrap(), server)
}

#[tokio::test]
async fn who_came_first_is_looked_at_first_and_whoever_hangs_is_given_up() {
    let names = ["hangs", "panics-z", "waits", "panics-a"];
    let (mut driver, server) = all_live(&names, accepted);
    driver.timeout = Duration::from_millis(20);
    work_through(driver, &names, |_| {}).await;
    assert_eq!(server.names(), names);
}

#[tokio::test]
async fn an_object_is_looked_at_as_it_is_when_its_turn_comes() {
    let (driver, server) = all_live(&["waits", "gone"], accepted);
    work_through(driver, &["gone", "waits"], |driver| {
        let mut strange = rollout("waits");
        strange["spec"]["desiredState"] = json!("Rewind");
        let strange = serde_json::from_value(strange).unwrap();
        driver.context.watches.rollouts.has_told_of([strange]);
    })
    .await;
    let (_, path, _) = server.only_write();
    assert!(
        path.contains("/rollouts/waits/status?"),
        "it says that it cannot be read: {path}"
    );
    assert!(
        !server.names().contains(&"gone".to_owned()),
        "there is nothing to look at"
    );
}

#[tokio::test]
async fn when_the_operator_stops_what_has_begun_ends_and_nothing_else_begins() {
    let (mut driver, server) = all_live(&["hangs", "waits"], accepted);
    driver.turns = Arc::new(Semaphore::new(1));
    driver.timeout = Duration::from_millis(200);
    let driver = Arc::new(driver);
    let object = |name| -> Guard<Rollout> { serde_json::from_value(rollout(name)).unwrap() };
    driver
        .context
        .watches
        .rollouts
        .has_told_of(["hangs", "waits"].map(object));
    let queue = Arc::<Queue>::default();
    for name in ["hangs", "waits"] {
        queue.add(key(&object(name)));
    }
    let (stop, stopped) = watch::channel(false);
    let work = tokio::spawn(work::<Obedient>(driver.clone(), queue.clone(), stopped));
    while server.names().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.send(true).unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!work.is_finished(), "a look has begun");
    work.await.unwrap();
    assert_eq!(server.names(), ["hangs"]);
    assert!(driver.turn().await.is_none());
}

#[tokio::test]
async fn whose_request_was_throttled_is_not_looked_at_before_the_time_although_something_happens() {
    let (mut driver, server) = all_live(&["waits", "other"], accepted);
    driver.looks().hold_off("shop/waits", Duration::from_millis(300));
    let begun = Instant::now();
    driver.timeout = Duration::from_secs(10);
    work_through(driver, &["waits", "other"], |_| {}).await;
    assert_eq!(server.names(), ["other", "waits"]);
    assert!(begun.elapsed() >= Duration::from_millis(300));
}
