//! When the stores are believed, and when the API server is asked.

use super::*;

#[tokio::test]
async fn who_waits_asks_the_api_server_once_in_a_while_and_who_writes_asks_it_always() {
    let (driver, server) = driver(accepted);
    for name in ["waits", "records"] {
        long_ago(&driver, name);
    }
    for _ in 0..3 {
        look(&driver, "waits").await.unwrap();
    }
    assert_eq!(server.names(), ["waits"], "then the stores were asked");
    driver.looks().age("shop/waits", RESYNC);
    look(&driver, "waits").await.unwrap();
    assert_eq!(
        server.names(),
        ["waits", "waits"],
        "what the stores say is believed for a while"
    );
    look(&driver, "records").await.unwrap();
    look(&driver, "records").await.unwrap();
    assert_eq!(
        server.writes().len(),
        1,
        "the watch has not told of the first write yet"
    );
    driver.looks().left.forget("shop/records");
    look(&driver, "records").await.unwrap();
    let asked = server.names().iter().filter(|name| *name == "records").count();
    assert_eq!(
        (asked, server.writes().len()),
        (1, 2),
        "the version in the store is the precondition, it is not asked for"
    );
}

#[tokio::test]
async fn a_store_that_is_behind_is_found_out_by_the_write_and_not_believed_until_it_has_caught_up() {
    let server = Server::default();
    let client = server.client(|sent| {
        let mut current = rollout(name(sent));
        current["metadata"]["resourceVersion"] = json!("8");
        match sent.0 {
            Method::GET => (200, current),
            Method::PUT if sent.2["metadata"]["resourceVersion"] != "8" => refusal(409, "Conflict"),
            _ => accepted(sent),
        }
    });
    let driver = Arc::new(Driver::new(context(client)));
    look(&driver, "waits").await.unwrap();
    for object in ["records", "deletes"] {
        driver.looks().looked(&format!("shop/{object}"), |_| true);
        let before = server.writes().len();
        let refused = look(&driver, object).await.unwrap();
        assert_eq!(refused, Some(Duration::from_millis(200)), "{object}");
        for _ in 0..2 {
            look(&driver, object).await.unwrap();
            driver.looks().left.forget(&format!("shop/{object}"));
        }
        let tried = if object == "records" { 3 } else { 2 };
        assert_eq!(
            server.writes().len() - before,
            tried,
            "{object}: the last two were done"
        );
    }
}

#[tokio::test]
async fn after_a_refusal_the_stores_are_not_believed_although_the_object_itself_is_as_it_was() {
    let (driver, server) = driver(|_| refusal(409, "Conflict"));
    look(&driver, "deletes").await.unwrap();
    assert_eq!(
        server.names(),
        ["deletes", "eta-candidate"],
        "its version, and the effect"
    );
    look(&driver, "deletes").await.unwrap();
    assert_eq!(
        server.names()[2..],
        ["deletes", "deletes", "eta-candidate"],
        "looked at live"
    );
}

#[tokio::test]
async fn a_first_look_is_in_the_stores_however_long_it_had_to_wait_for_its_turn() {
    let (driver, server) = driver(accepted);
    look(&driver, "waits").await.unwrap();
    assert!(server.names().is_empty(), "a watch told of it");
    long_ago(&driver, "waits");
    look(&driver, "waits").await.unwrap();
    assert_eq!(server.names(), ["waits"]);
}

#[tokio::test]
async fn what_rests_is_looked_at_live_every_ten_minutes_however_often_it_was_woken_meanwhile() {
    let (driver, server) = driver(accepted);
    look(&driver, "waits").await.unwrap();
    let whole = rests("waits").unwrap();
    assert!(whole > RESYNC / 2 && whole <= RESYNC, "{whole:?}");
    driver.looks().age("shop/waits", whole - Duration::from_secs(30));
    let woken = look(&driver, "waits").await.unwrap();
    assert_eq!(woken, Some(Duration::from_secs(30)), "not ten more minutes");
    assert!(server.names().is_empty());
    driver.looks().age("shop/waits", Duration::from_secs(30));
    assert_eq!(look(&driver, "waits").await.unwrap(), rests("waits"));
    assert_eq!(server.names(), ["waits"]);
}

#[tokio::test]
async fn what_rests_on_no_other_object_is_written_without_a_read() {
    let (driver, server) = driver(accepted);
    look(&driver, "records").await.unwrap();
    assert_eq!(server.names(), ["status"]);
    assert_eq!(
        server.writes()[0].2["metadata"]["resourceVersion"],
        "7",
        "at the version that was seen"
    );
    look(&driver, "deletes").await.unwrap();
    assert_eq!(
        server.names()[1],
        "deletes",
        "before an effect it is asked for its version"
    );
}

#[tokio::test]
async fn what_is_in_progress_is_looked_at_live_again_soon_although_no_watch_tells_of_a_change() {
    let (driver, _) = driver(accepted);
    assert_eq!(look(&driver, "waits").await.unwrap(), rests("waits"));
    let mut object = rollout("waits");
    object["metadata"]["labels"] = json!({ "in": "progress" });
    let server = Server::default();
    let answer = object.clone();
    let client = server.client(move |_| (200, answer.clone()));
    let driver = Arc::new(Driver::new(context(client)));
    let object: Guard<Rollout> = serde_json::from_value(object).unwrap();
    let look = async || look_at(&driver, &object).await.unwrap();
    // Both in the stores.
    assert_eq!((look().await, look().await), (Some(TRUSTED), Some(TRUSTED)));
    driver.looks().age("shop/waits", TRUSTED);
    look().await;
    assert_eq!(server.names().len(), 1, "what the stores say is not believed any more");
}
