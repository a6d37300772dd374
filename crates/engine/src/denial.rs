//! Effects that the API server will refuse until somebody changes something, such as a quota or an admission policy.

use serde::{Deserialize, Serialize};

use crate::decision::Effect;
use crate::standing::{Kind, Standing, shorten};

/// An effect of an object that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// What was to be done, as [`Effect::why`] says it.
    pub what: String,
    /// What the API server answered.
    pub said: String,
}

impl Denial {
    /// One sentence for people.
    #[must_use]
    pub fn message(&self) -> String {
        let Self { what, said } = self;
        format!("The API server refuses a write, which is tried again ({what}): {said}")
    }

    /// Where an object stands that is to do this once more; nothing if it is to do something else.
    #[must_use]
    pub fn standing(&self, effect: &Effect) -> Option<Standing> {
        let stands = || Standing::new(Kind::Stalled, "WriteRefused", shorten(&self.message(), 1024));
        (self.what == effect.why).then(stands)
    }
}
