//! One stored object.

use std::any::Any;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use serde::de::DeserializeOwned;
use serde_json::Value;

/// What an object can be read as.
pub trait Readable: DeserializeOwned + Clone + Send + Sync + 'static {}
impl<K: DeserializeOwned + Clone + Send + Sync + 'static> Readable for K {}

/// An object as it is stored; it is read at most once, because reading JSON is what costs time.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) value: Value,
    typed: OnceLock<Arc<dyn Any + Send + Sync>>,
    content: OnceLock<u64>,
}

impl Stored {
    pub(super) fn new(value: Value) -> Self {
        Self {
            value,
            typed: OnceLock::new(),
            content: OnceLock::new(),
        }
    }

    pub(super) fn read<K: Readable>(&self) -> K {
        let fresh = || -> K { serde_json::from_value(self.value.clone()).expect("the world keeps readable objects") };
        let typed = self.typed.get_or_init(|| Arc::new(fresh()));
        typed.downcast_ref::<K>().cloned().unwrap_or_else(fresh)
    }

    /// A number for what matters of the content: sentences, and when they were said, decide nothing.
    pub(super) fn content(&self) -> u64 {
        *self.content.get_or_init(|| {
            let mut hasher = DefaultHasher::new();
            hash(&self.value, &mut hasher);
            hasher.finish()
        })
    }
}

/// Fields that are for people only.
const SAID: [&str; 5] = [
    "message",
    "lastTransitionTime",
    "at",
    "outcomeReason",
    "resourceVersion",
];

/// Hashes what matters of a value.
pub(super) fn hash(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter().filter(|(name, _)| !SAID.contains(&name.as_str())) {
                name.hash(hasher);
                hash(field, hasher);
            }
        }
        Value::Array(items) => {
            items.len().hash(hasher);
            items.iter().for_each(|item| hash(item, hasher));
        }
        Value::String(text) => text.hash(hasher),
        other => other.to_string().hash(hasher),
    }
}
