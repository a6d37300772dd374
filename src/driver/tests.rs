use std::future::pending;

use flywheel_api::rollout::{RolloutPhase, RolloutStatus};
use flywheel_api::{Rollout, names};
use flywheel_engine::decision::{Action as Act, ChildKind, Effect, ObjectKey, Record, Wait};
use futures::future::BoxFuture;
use http::header::DATE;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value, json};

use super::asking::GLANCE;
use super::*;
use crate::controller::{Related, RelatedKind};
use crate::testing::{Sent, Server, context, name, refusal, rollout};
use crate::watch::{Watched, Watches};

/// A controller that does what the object's name says.
struct Obedient;

impl Controller for Obedient {
    type Object = Rollout;
    type Status = RolloutStatus;
    type Answers = ();
    type Observation = Rollout;

    const NAME: &'static str = "obedient";
    const RELATED: &'static [RelatedKind] = &[];

    fn watched(watches: &Watches) -> &Watched<Guard<Rollout>> {
        &watches.rollouts
    }

    fn concerns(_: &Rollout, _: &Related) -> bool {
        false
    }

    fn ask<'a>(_: &'a Context, object: &'a Rollout, _: Timestamp) -> Option<BoxFuture<'a, ()>> {
        (object.name_any() == "asks-the-silent").then(|| pending().boxed())
    }

    async fn observe(
        _: &Context,
        inputs: &Inputs<'_>,
        object: Rollout,
        (): (),
        now: Timestamp,
    ) -> Result<Rollout, kube::Error> {
        match (&*object.name_any(), &inputs.denied) {
            ("hangs", _) => pending().await,
            ("waits-at-noon", _) => {
                assert!(now >= NOON && now < HALF_A_MINUTE_LATER, "it is not {now}");
                Ok(object)
            }
            (_, None) => Ok(object),
            (_, Some(denial)) => {
                let mut object = object;
                object.annotations_mut().insert("denied".to_owned(), denial.message());
                Ok(object)
            }
        }
    }

    fn in_progress(o: &Rollout) -> bool {
        o.labels().contains_key("in")
    }

    fn decide(o: &Rollout) -> Decision<RolloutStatus> {
        if let Some(denied) = o.annotations().get("denied") {
            return Decision::Wait(Wait {
                until: None,
                reason: denied.clone(),
            });
        }
        match &*o.name_any() {
            "records" => Decision::Record(Record {
                status: RolloutStatus {
                    phase: RolloutPhase::Queued,
                    ..RolloutStatus::default()
                },
                events: Vec::new(),
            }),
            "deletes" => Decision::Do(Effect {
                action: Act::Delete(ObjectKey {
                    kind: ChildKind::Deployment,
                    name: "eta-candidate".to_owned(),
                    uid: "c".to_owned(),
                    resource_version: Some("9".to_owned()),
                }),
                why: "the test says so".to_owned(),
            }),
            "waits-at-noon" => Decision::Wait(Wait {
                until: Some(HALF_A_MINUTE_LATER),
                reason: "it is too early".to_owned(),
            }),
            "waits" => Decision::Wait(Wait {
                until: None,
                reason: "nothing to do".to_owned(),
            }),
            name => panic!("a bug with {name}"),
        }
    }
}

const NOON: Timestamp = Timestamp::constant(1_767_268_800, 0);
const HALF_A_MINUTE_LATER: Timestamp = Timestamp::constant(1_767_268_830, 0);

#[tokio::test]
async fn it_is_as_late_as_the_api_server_says_whatever_the_clock_of_this_machine_does() {
    let (driver, _) = driver(|_| (200, Value::Null));
    let noon = HeaderValue::from_static("Thu, 01 Jan 2026 12:00:00 GMT");
    driver.context.clock.answered(&HeaderMap::from_iter([(DATE, noon)]));
    let pause = look(&driver, "waits-at-noon").await.unwrap().expect("a time");
    assert!(
        pause > Duration::from_secs(9) && pause <= Duration::from_secs(30),
        "{pause:?}"
    );
}

/// One look at an object of this name.
async fn look(driver: &Driver, name: &str) -> Result<Pause, ReconcileError> {
    look_at(driver, &serde_json::from_value(rollout(name)).unwrap()).await
}

/// One look at this object.
async fn look_at(driver: &Driver, object: &Guard<Rollout>) -> Result<Pause, ReconcileError> {
    let turn = driver.turn().await.expect("it goes on");
    reconcile::<Obedient>(object, driver, turn, Instant::now()).await
}

/// What the server has under that name.
fn found(name: &str) -> Value {
    let mut object = rollout(name);
    if name == "broken" {
        object["spec"]["desiredState"] = json!("Rewind");
    }
    object
}

/// A driver at a server with these answers to writes, and what the server was sent.
fn driver(write: fn(&Sent) -> (u16, Value)) -> (Arc<Driver>, Server) {
    let server = Server::default();
    let client = server.client(move |sent| {
        if sent.0 == Method::GET {
            (200, found(name(sent)))
        } else {
            write(sent)
        }
    });
    (Arc::new(Driver::new(context(client))), server)
}

/// The last look at an object of this name was so long ago that the stores are not believed.
fn long_ago(driver: &Driver, name: &str) {
    let key = format!("shop/{name}");
    driver.looks().looked(&key, |_| true);
    driver.looks().age(&key, RESYNC);
}

/// When an object of this name that rests is looked at again, just after a live look.
fn rests(name: &str) -> Pause {
    Some(longest::<Obedient>(&serde_json::from_value(rollout(name)).unwrap()))
}

fn accepted(sent: &Sent) -> (u16, Value) {
    (200, sent.2.clone())
}

#[tokio::test]
async fn a_write_that_is_refused_again_and_again_is_tried_less_and_less_often() {
    let (driver, _) = driver(|_| refusal(409, "Conflict"));
    for millis in [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 25600] {
        let pause = look(&driver, "deletes").await.unwrap();
        assert_eq!(pause, Some(Duration::from_millis(millis)));
    }
}

#[tokio::test]
async fn a_decision_that_panics_is_an_error_of_its_object_alone() {
    let (driver, server) = driver(accepted);
    let error = look(&driver, "panics").await.unwrap_err();
    assert_eq!(error.to_string(), "the reconcile panicked: a bug with panics");
    assert_eq!(look(&driver, "waits").await.unwrap(), rests("waits"));
    assert!(server.writes().is_empty());
}

#[tokio::test]
async fn five_hundred_decisions_that_panic_hold_up_nobody() {
    let (driver, server) = driver(accepted);
    let bugs: Vec<String> = (0..500).map(|n| format!("panics-{n}")).collect();
    let all = bugs.iter().map(|name| look(&driver, name));
    let (panicked, waited) = tokio::join!(futures::future::join_all(all), look(&driver, "waits"));
    assert!(panicked.iter().all(|end| matches!(end, Err(ReconcileError::Panic(_)))));
    assert_eq!(waited.unwrap(), rests("waits"));
    assert!(server.writes().is_empty());
}

#[tokio::test]
async fn who_asks_a_silent_provider_holds_up_nobody() {
    let (mut one_by_one, server) = driver(accepted);
    Arc::get_mut(&mut one_by_one).unwrap().turns = Arc::new(Semaphore::new(1));
    let driver = one_by_one.clone();
    long_ago(&driver, "asks-the-silent");
    let asking = tokio::spawn(async move { look(&driver, "asks-the-silent").await });
    while server.names().is_empty() {
        tokio::task::yield_now().await;
    }
    let other = tokio::time::timeout(Duration::from_secs(10), look(&one_by_one, "waits")).await;
    assert_eq!(other.unwrap().unwrap(), rests("waits"));
    assert!(!asking.is_finished(), "it asks still");
    asking.abort();
}

#[tokio::test]
async fn whose_wish_changes_while_it_asks_a_silent_provider_is_looked_at_anew_at_once() {
    let (driver, _) = driver(accepted);
    let watched = driver.context.watches.rollouts.clone();
    let version = |version: &str, generation: i64| -> Guard<Rollout> {
        let mut object = rollout("asks-the-silent");
        object["metadata"]["resourceVersion"] = json!(version);
        object["metadata"]["generation"] = json!(generation);
        serde_json::from_value(object).unwrap()
    };
    watched.has_told_of([version("7", 1)]);
    let first = version("7", 1);
    let asking = tokio::spawn(async move { look_at(&driver, &first).await });
    tokio::time::sleep(GLANCE * 2).await;
    watched.has_told_of([version("8", 1)]);
    tokio::time::sleep(GLANCE * 2).await;
    assert!(!asking.is_finished(), "a status is no wish");
    watched.has_told_of([version("9", 2)]);
    let again = tokio::time::timeout(Duration::from_secs(10), asking).await;
    assert_eq!(again.unwrap().unwrap().unwrap(), Some(Duration::ZERO));
}

#[tokio::test]
async fn a_reconcile_that_hangs_is_given_up() {
    let (patient, _) = driver(accepted);
    assert_eq!(patient.timeout, Duration::from_secs(60));
    let mut hasty = Driver::new(patient.context.clone());
    hasty.timeout = Duration::from_millis(20);
    let error = look(&Arc::new(hasty), "hangs").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the reconcile took longer than 60 s and was given up"
    );
}

#[tokio::test]
async fn pauses_double_with_failures_in_a_row_and_end_at_five_minutes() {
    let (driver, _) = driver(accepted);
    let object: Guard<Rollout> = serde_json::from_value(rollout("waits")).unwrap();
    let pause = || after_failure::<Obedient>(&object, &ReconcileError::Timeout, &driver);
    for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        assert_eq!(pause(), Duration::from_secs(seconds));
    }
    look(&driver, "waits").await.unwrap();
    assert_eq!(pause(), Duration::from_secs(1), "it succeeded in between");
}

#[tokio::test]
async fn an_object_whose_request_the_api_server_throttled_is_not_looked_at_before_it_said() {
    let (driver, _) = driver(|_| refusal(429, "TooManyRequests"));
    let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, HeaderValue::from_static("30"))]);
    driver
        .context
        .throttle
        .answered(http::StatusCode::TOO_MANY_REQUESTS, &headers);
    let object: Guard<Rollout> = serde_json::from_value(rollout("records")).unwrap();
    let error = look(&driver, "records").await.unwrap_err();
    let after = |error: &ReconcileError| after_failure::<Obedient>(&object, error, &driver);
    assert!(after(&error) > Duration::from_secs(20));
    assert_eq!(
        after(&ReconcileError::Timeout),
        Duration::from_secs(2),
        "it was another failure"
    );
}

#[tokio::test]
async fn a_status_is_one_write_at_the_version_that_was_read() {
    let (driver, server) = driver(accepted);
    look(&driver, "records").await.unwrap();
    let (method, path, body) = server.only_write();
    assert_eq!(method, Method::PUT);
    assert!(
        path.contains("/rollouts/records/status?") && path.contains(names::FIELD_MANAGER),
        "{path}"
    );
    assert_eq!(
        (&body["metadata"]["resourceVersion"], &body["status"]["phase"]),
        (&json!("7"), &json!("Queued"))
    );
}

#[tokio::test]
async fn an_effect_bears_its_preconditions() {
    let (driver, server) = driver(accepted);
    look(&driver, "deletes").await.unwrap();
    let (method, path, body) = server.only_write();
    assert_eq!(method, Method::DELETE);
    assert!(path.contains("/deployments/eta-candidate"), "{path}");
    assert_eq!(body["preconditions"], json!({ "uid": "c", "resourceVersion": "9" }));
}

#[tokio::test]
async fn a_precondition_that_does_not_hold_is_looked_at_anew_and_other_refusals_are_errors() {
    for name in ["records", "deletes"] {
        for write in [|_: &Sent| refusal(409, "Conflict"), |_: &Sent| refusal(404, "NotFound")] {
            let (driver, _) = driver(write);
            let again = look(&driver, name).await.unwrap();
            assert_eq!(again, Some(Duration::from_millis(200)), "{name}");
        }
        for write in [
            |_: &Sent| refusal(403, "Forbidden"),
            |_: &Sent| refusal(422, "Invalid"),
            |_: &Sent| refusal(500, "InternalError"),
        ] {
            let (driver, _) = driver(write);
            let error = look(&driver, name).await.unwrap_err();
            assert!(matches!(error, ReconcileError::Api(_)), "{name}: {error}");
        }
    }
}

#[tokio::test]
async fn a_write_that_the_api_server_refuses_for_good_is_told_by_an_event_of_its_object() {
    for (code, told) in [(400, true), (403, true), (422, true), (409, false), (500, false)] {
        for (object, why) in [("deletes", "the test says so"), ("records", "record the status")] {
            let server = Server::default();
            let client = server.client(move |sent| match sent.0 {
                Method::GET => (200, rollout(name(sent))),
                Method::DELETE | Method::PUT => refusal(code, "Refused"),
                _ => accepted(sent),
            });
            let driver = Arc::new(Driver::new(context(client)));
            let _ = look(&driver, object).await;
            let writes = server.writes();
            let event = writes.iter().find(|(_, path, _)| path.contains("/events"));
            assert_eq!(event.is_some(), told, "{object}, {code}: {writes:?}");
            let Some((_, _, event)) = event else { continue };
            assert_eq!(
                (&event["type"], &event["reason"]),
                (&json!("Warning"), &json!("WriteRefused"))
            );
            let note = event["note"].as_str().unwrap();
            assert!(note.contains(why) && note.contains("refused: Refused"), "{note}");
            assert_eq!(event["regarding"]["name"], object);
        }
    }
}

#[tokio::test]
async fn an_effect_that_is_refused_twice_is_known_until_one_is_done_or_nothing_is_to_be_done() {
    for (code, remembered) in [(403, true), (409, true), (200, false)] {
        let server = Server::default();
        let answers = Arc::new(Mutex::new(vec![code, 403, 403]));
        let client = server.client(move |sent| match sent.0 {
            Method::GET => (200, rollout(name(sent))),
            Method::DELETE => match answers.lock().unwrap().pop().unwrap() {
                200 => accepted(sent),
                code => refusal(code, "Refused"),
            },
            _ => accepted(sent),
        });
        let driver = Arc::new(Driver::new(context(client)));
        let known = || driver.looks().denials.of("shop/deletes", Some("u"));
        for expected in [None, Some("the test says so")] {
            assert!(look(&driver, "deletes").await.is_err());
            assert_eq!(known().map(|d| d.what).as_deref(), expected);
        }
        let api = Api::namespaced(driver.context.client.clone(), "shop");
        let object: Rollout = serde_json::from_value(rollout("deletes")).unwrap();
        let _ = carried_out::<Obedient>(&driver, &api, &object, Obedient::decide(&object)).await;
        assert_eq!(known().is_some(), remembered, "{code}");
        // The decision knows of it, and waits.
        let _ = look(&driver, "deletes").await;
        assert!(known().is_none(), "{code}");
    }
}

#[tokio::test]
async fn an_object_that_cannot_be_read_says_so_itself() {
    let (driver, server) = driver(accepted);
    let object: Guard<Rollout> = serde_json::from_value(found("broken")).unwrap();
    look_at(&driver, &object).await.unwrap();
    let (method, path, body) = server.only_write();
    assert_eq!(method, Method::PATCH);
    assert!(path.contains("/rollouts/broken/status?"), "{path}");
    let conditions = body["status"]["conditions"].to_string();
    assert!(
        conditions.contains("Rewind") && conditions.contains("kubectl explain rollouts"),
        "{conditions}"
    );
    assert_eq!(
        body["metadata"]["resourceVersion"], "7",
        "whoever changed it meanwhile comes first"
    );
}

#[tokio::test]
async fn an_effect_of_an_object_that_changed_since_is_not_done() {
    let stored = |uid: &str, version: &str| {
        let mut object = rollout("deletes");
        object["metadata"]["uid"] = json!(uid);
        object["metadata"]["resourceVersion"] = json!(version);
        (200, object)
    };
    for (held, current) in [
        (stored("u", "7"), true),
        (stored("u", "8"), false),
        (stored("another", "7"), false),
        (refusal(404, "NotFound"), false),
    ] {
        let object: Rollout = serde_json::from_value(rollout("deletes")).unwrap();
        let answer = held.clone();
        let api = Api::namespaced(Server::default().client(move |_| answer.clone()), "shop");
        assert_eq!(is_current(&api, &object).await.unwrap(), current, "{held:?}");
    }
}

mod line;
mod trust;
mod unreadable;
