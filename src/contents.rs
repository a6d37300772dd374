//! What is in the snapshots of the runs that go on.
//!
//! The API server lets nobody change the data of a ControllerRevision, so what was read once need not be read again. They
//! are not kept by their watch: most belong to runs that have ended.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use flywheel_engine::run::SnapshotView;

/// So many are kept; then all are read anew.
const MOST: usize = 256;

/// Snapshots by their UIDs.
#[derive(Default)]
pub struct Contents(Mutex<HashMap<String, SnapshotView>>);

impl Contents {
    /// The snapshot of that UID, if it was read.
    pub fn get(&self, uid: &str) -> Option<SnapshotView> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(uid).cloned()
    }

    /// Remembers what was read.
    pub fn keep(&self, uid: String, snapshot: SnapshotView) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(uid, snapshot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_remembered_within_bounds() {
        let contents = Contents::default();
        for number in 0..1000 {
            let snapshot = SnapshotView {
                name: format!("eta-{number}"),
                data: number.into(),
            };
            contents.keep(number.to_string(), snapshot);
            assert_eq!(contents.get(&number.to_string()).unwrap().data, number);
        }
        assert!(contents.0.lock().unwrap().len() <= MOST);
        assert_eq!(contents.get("0"), None);
    }
}
