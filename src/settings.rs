//! The administrator's settings, followed in their ConfigMap.
//!
//! Fail closed: settings that cannot be read at the start, or are not there, pull the brake; later the last good ones
//! stay in force.

use std::sync::Arc;
use std::time::Instant;

use flywheel_engine::settings::{Brake, Settings};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;

use crate::health::Health;
use crate::watch::lasting;

/// The ConfigMap of an operator that was told of none.
const DEFAULT_MAP: &str = "flywheel-config";
/// Key of the settings in the ConfigMap.
const KEY: &str = "config.yaml";

/// Settings that let nothing go forward, because the real ones cannot be read.
fn closed(why: &str) -> Settings {
    Settings {
        brake: Brake {
            engaged: true,
            reason: why.to_owned(),
        },
        ..Settings::default()
    }
}

/// The settings in a ConfigMap.
///
/// # Errors
/// A sentence that names what cannot be read.
pub fn read(map: &ConfigMap) -> Result<Settings, String> {
    let Some(text) = map.data.as_ref().and_then(|d| d.get(KEY)) else {
        return Err(format!("the ConfigMap has no key {KEY}"));
    };
    if text.trim().is_empty() {
        return Ok(Settings::default());
    }
    serde_saphyr::from_str(text).map_err(|e| format!("{KEY} cannot be read: {e}"))
}

/// The settings at the start. A map that the command line names must be there: without it nobody knows whether the
/// brake is pulled. A process that was told of none goes without.
fn at_start(map: Option<&ConfigMap>, named: Option<&str>) -> Result<Settings, String> {
    match (map, named) {
        (Some(map), _) => read(map),
        (None, Some(name)) => Err(format!("the ConfigMap {name} does not exist")),
        (None, None) => Ok(Settings::default()),
    }
}

/// Reads the settings once and then follows them until the receiver is gone.
pub async fn follow(
    client: Client,
    namespace: &str,
    named: Option<&str>,
    health: Arc<Health>,
) -> watch::Receiver<Arc<Settings>> {
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let name = named.unwrap_or(DEFAULT_MAP);
    let first = match api.get_opt(name).await {
        Ok(map) => at_start(map.as_ref(), named),
        Err(error) => Err(error.to_string()),
    };
    let first = first.unwrap_or_else(|why| {
        tracing::error!(why, "the settings cannot be read: the brake is pulled until they can");
        closed(&format!("the operator's settings cannot be read: {why}"))
    });
    let (sender, receiver) = watch::channel(Arc::new(first));
    let config = lasting().fields(&format!("metadata.name={name}"));
    tokio::spawn(async move {
        let mut events = Box::pin(watcher(api, config).default_backoff());
        while let Some(event) = events.next().await {
            pass(event, &sender, &health, Instant::now());
            if sender.is_closed() {
                break;
            }
        }
    });
    receiver
}

/// What the watch of the settings tells.
fn pass(
    event: watcher::Result<watcher::Event<ConfigMap>>,
    sender: &watch::Sender<Arc<Settings>>,
    health: &Health,
    now: Instant,
) {
    let map = match event {
        Ok(watcher::Event::Apply(map) | watcher::Event::InitApply(map)) => map,
        Ok(watcher::Event::Delete(_)) => {
            tracing::error!("the settings were deleted: the last ones stay in force");
            return;
        }
        Ok(watcher::Event::Init | watcher::Event::InitDone) => return,
        Err(error) => {
            tracing::warn!(%error, "the settings cannot be watched");
            health.watch_failed("settings", now);
            return;
        }
    };
    match read(&map) {
        Ok(settings) => {
            sender.send_if_modified(|old| {
                let changed = **old != settings;
                if changed {
                    *old = Arc::new(settings.clone());
                    tracing::info!(brake = settings.brake.engaged, "the settings have changed");
                }
                changed
            });
        }
        Err(why) => tracing::error!(why, "the new settings cannot be read: the last ones stay in force"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn map(text: &str) -> ConfigMap {
        ConfigMap {
            data: Some([(KEY.to_owned(), text.to_owned())].into()),
            ..ConfigMap::default()
        }
    }

    #[test]
    fn settings_are_read_and_what_is_unknown_is_refused() {
        let settings = read(&map("brake:\n  engaged: true\n  reason: audit\n")).unwrap();
        assert!(settings.brake.engaged);
        assert!(read(&map("brakes: {}")).is_err(), "a mistyped key must not be ignored");
        assert!(read(&ConfigMap::default()).is_err());
    }

    #[test]
    fn a_map_that_the_command_line_names_and_that_is_missing_at_the_start_pulls_the_brake() {
        let missing = at_start(None, Some("own-config")).unwrap_err();
        assert!(missing.contains("own-config"), "{missing}");
        assert!(!at_start(None, None).unwrap().brake.engaged);
        assert!(!at_start(Some(&map("")), Some("own-config")).unwrap().brake.engaged);
    }

    #[test]
    fn settings_that_cannot_be_watched_make_the_process_unhealthy() {
        let (health, start) = (Health::default(), Instant::now());
        let (sender, _receiver) = watch::channel(Arc::new(Settings::default()));
        for seconds in (0..300).step_by(30) {
            assert!(health.problem(start + Duration::from_secs(seconds)).is_none());
            let failed = Err(watcher::Error::NoResourceVersion);
            pass(failed, &sender, &health, start + Duration::from_secs(seconds));
        }
        let problem = health.problem(start + Duration::from_secs(300)).unwrap();
        assert!(problem.contains("settings"), "{problem}");
    }
}
