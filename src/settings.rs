//! The administrator's settings, followed in their ConfigMap.
//!
//! Fail closed: settings that cannot be read at the start pull the brake; later the last good ones stay in force.

use std::sync::Arc;

use flywheel_engine::settings::{Brake, Settings};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;

use crate::watch::lasting;

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
pub fn read(map: Option<&ConfigMap>) -> Result<Settings, String> {
    let Some(map) = map else {
        return Ok(Settings::default());
    };
    let Some(text) = map.data.as_ref().and_then(|d| d.get(KEY)) else {
        return Err(format!("the ConfigMap has no key {KEY}"));
    };
    if text.trim().is_empty() {
        return Ok(Settings::default());
    }
    serde_saphyr::from_str(text).map_err(|e| format!("{KEY} cannot be read: {e}"))
}

/// Reads the settings once and then follows them until the receiver is gone.
pub async fn follow(client: Client, namespace: &str, name: &str) -> watch::Receiver<Arc<Settings>> {
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let first = match api.get_opt(name).await {
        Ok(map) => read(map.as_ref()),
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
            let map = match event {
                Ok(watcher::Event::Apply(map) | watcher::Event::InitApply(map)) => map,
                Ok(watcher::Event::Delete(_)) => {
                    tracing::error!("the settings were deleted: the last ones stay in force");
                    continue;
                }
                Ok(watcher::Event::Init | watcher::Event::InitDone) => continue,
                Err(error) => {
                    tracing::warn!(%error, "the settings cannot be watched");
                    continue;
                }
            };
            match read(Some(&map)) {
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
            if sender.is_closed() {
                break;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> ConfigMap {
        ConfigMap {
            data: Some([(KEY.to_owned(), text.to_owned())].into()),
            ..ConfigMap::default()
        }
    }

    #[test]
    fn settings_are_read_and_what_is_unknown_is_refused() {
        let settings = read(Some(&map("brake:\n  engaged: true\n  reason: audit\n"))).unwrap();
        assert!(settings.brake.engaged);
        assert!(
            read(Some(&map("brakes: {}"))).is_err(),
            "a mistyped key must not be ignored"
        );
        assert!(!read(None).unwrap().brake.engaged);
        assert!(read(Some(&ConfigMap::default())).is_err());
    }
}
